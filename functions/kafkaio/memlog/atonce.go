package memlog

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
)

// atOnce implements kafkaio.Session in a log without transactions: what is produced is visible, also what a session produces
// that is fenced, for nobody can refuse that; offsets are committed by End, group by group. Its fields are guarded by the log's
// lock.
type atOnce struct {
	log      *Log
	id       string
	begun    bool
	used     bool // an End has succeeded
	dead     bool
	produced int
	groups   []string
	offsets  map[string]map[event.TopicPartition]kafkaio.Committed
}

// openAtOnce makes a session the newest of its id.
func (l *Log) openAtOnce(id string) *atOnce {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &atOnce{log: l, id: id}
	l.firers[id] = s
	return s
}

// AtOnce reports what kafkaio.IsAtOnce is about.
func (s *atOnce) AtOnce() bool { return true }

// Reusable implements kafkaio.Session.
func (s *atOnce) Reusable() bool {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return !s.dead && !s.log.opts.SingleUse && s.log.firers[s.id] == s
}

// do runs one operation between its hooks, as session.do does.
func (s *atOnce) do(op string, fn func() error) error {
	err := s.log.hook(op, "before")
	if err == nil {
		err = s.locked(fn)
		if err == nil {
			err = s.log.hook(op, "after")
		}
	}
	if err == nil {
		return nil
	}
	s.log.mu.Lock()
	s.dead = true
	s.log.mu.Unlock()
	return fmt.Errorf("session %q: %w", s.id, err)
}

func (s *atOnce) locked(fn func() error) error {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	if s.dead {
		return fmt.Errorf("failed or closed: %w", kafkaio.ErrSessionState)
	}
	return fn()
}

// begunIn has the lock held.
func (s *atOnce) begunIn(ctx context.Context) error {
	if !s.begun {
		return fmt.Errorf("nothing was begun: %w", kafkaio.ErrSessionState)
	}
	return ctx.Err()
}

// owner has the lock held.
func (s *atOnce) owner() error {
	if s.log.firers[s.id] != s {
		return kafkaio.ErrFenced
	}
	return nil
}

// Begin implements kafkaio.Session.
func (s *atOnce) Begin(ctx context.Context) error {
	return s.do(OpBegin, func() error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if s.begun || (s.used && s.log.opts.SingleUse) {
			return fmt.Errorf("begin: begun already, or the session is used up: %w", kafkaio.ErrSessionState)
		}
		s.begun, s.produced, s.groups, s.offsets = true, 0, nil, map[string]map[event.TopicPartition]kafkaio.Committed{}
		return s.owner()
	})
}

// Produce implements kafkaio.Session.
func (s *atOnce) Produce(ctx context.Context, messages []kafkaio.Message) (positions []kafkaio.Position, err error) {
	err = s.do(OpProduce, func() error {
		if err := s.begunIn(ctx); err != nil {
			return err
		}
		positions, err = s.log.append(nil, messages)
		s.produced += len(positions)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("produce: %w", err)
	}
	return positions, nil
}

// CommitOffsets implements kafkaio.Session.
func (s *atOnce) CommitOffsets(ctx context.Context, group string, offsets []kafkaio.OffsetCommit) error {
	err := s.do(OpCommit, func() error {
		if err := s.begunIn(ctx); err != nil {
			return err
		}
		staged, err := s.log.staged(offsets)
		if err != nil {
			return err
		}
		if s.offsets[group] == nil {
			s.groups, s.offsets[group] = append(s.groups, group), staged
		} else {
			maps.Copy(s.offsets[group], staged)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("commit offsets of group %q: %w", group, err)
	}
	return nil
}

// End implements kafkaio.Session.
func (s *atOnce) End(ctx context.Context) error {
	known := false
	err := s.do(OpEnd, func() (err error) {
		defer func() { known = err != nil }()
		if err := s.begunIn(ctx); err != nil {
			return err
		}
		if s.produced == 0 {
			return fmt.Errorf("no message was produced: %w", kafkaio.ErrSessionState)
		}
		if err := s.owner(); err != nil {
			return err
		}
		for _, group := range s.groups {
			s.log.commitGroup(group, s.offsets[group])
		}
		s.begun, s.used = false, true
		return nil
	})
	switch {
	case err == nil:
		return nil
	case known, errors.Is(err, kafkaio.ErrSessionState):
		return fmt.Errorf("end: %w", err)
	}
	return fmt.Errorf("end: %w: %w", kafkaio.ErrUnknownOutcome, err)
}

// Close implements kafkaio.Session.
func (s *atOnce) Close() {
	if err := s.log.hook(OpClose, "before"); err != nil {
		return
	}
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	s.dead = true
}
