package memlog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
)

// txn is one transaction.
type txn struct {
	state    txnState
	first    map[event.TopicPartition]int64 // partition -> its first offset in the transaction
	offsets  map[string]map[event.TopicPartition]kafkaio.Committed
	produced int
}

type txnState uint8

const (
	txnOpen txnState = iota
	txnCommitted
	txnAborted
)

// touch notes that a message of the transaction is at a position.
func (t *txn) touch(p kafkaio.Position) {
	if _, ok := t.first[p.TopicPartition]; !ok {
		t.first[p.TopicPartition] = p.Offset
	}
	t.produced++
}

// session implements kafkaio.Session. Its fields are guarded by the log's lock.
type session struct {
	log  *Log
	id   string
	txn  *txn // the open transaction, else nil
	used bool // a transaction has ended
	dead bool // an operation has failed, or Close was called
}

// Open implements kafkaio.Publisher.
func (l *Log) Open(ctx context.Context, transactionalID string) (kafkaio.Session, error) {
	if err := l.hook(OpOpen, "before"); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open session %q: %w", transactionalID, err)
	}
	var s kafkaio.Session
	if l.opts.NoTransactions {
		s = l.openAtOnce(transactionalID)
	} else {
		s = l.takeOver(transactionalID)
	}
	if err := l.hook(OpOpen, "after"); err != nil {
		return nil, err
	}
	return s, nil
}

// takeOver makes a session the newest of its id and aborts what the one before has open.
func (l *Log) takeOver(id string) *session {
	l.mu.Lock()
	defer l.mu.Unlock()
	if old := l.owners[id]; old != nil && old.txn != nil {
		l.settle(old.txn, txnAborted)
		old.txn = nil
	}
	s := &session{log: l, id: id}
	l.owners[id] = s
	return s
}

// settle ends a transaction: its records and offsets become visible together, or never. The lock is held.
func (l *Log) settle(t *txn, state txnState) {
	t.state = state
	delete(l.open, t)
	if !l.opts.NoMarkers {
		for tp := range t.first {
			if part, err := l.partition(tp); err == nil { // the topic may have been deleted meanwhile
				marker := entry{rec: event.Record{Offset: part.end}, txn: t, marker: true}
				part.entries = append(part.entries, marker)
				part.end++
			}
		}
	}
	if state == txnCommitted {
		for group, offsets := range t.offsets {
			l.commitGroup(group, offsets)
		}
	}
	l.notify()
}

// Reusable implements kafkaio.Session.
func (s *session) Reusable() bool {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return !s.dead && !s.log.opts.SingleUse && s.log.owners[s.id] == s
}

// do runs one operation between its hooks. Whatever fails kills the session; an open transaction stays open until Close or
// the next Open.
func (s *session) do(op string, fn func() error) error {
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

func (s *session) locked(fn func() error) error {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	if s.log.owners[s.id] != s {
		return kafkaio.ErrFenced
	}
	if s.dead {
		return fmt.Errorf("failed or closed: %w", kafkaio.ErrSessionState)
	}
	return fn()
}

// Begin implements kafkaio.Session.
func (s *session) Begin(ctx context.Context) error {
	return s.do(OpBegin, func() error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if s.txn != nil || (s.used && s.log.opts.SingleUse) {
			return fmt.Errorf("begin: a transaction is open, or the session is used up: %w", kafkaio.ErrSessionState)
		}
		s.txn = &txn{
			first:   map[event.TopicPartition]int64{},
			offsets: map[string]map[event.TopicPartition]kafkaio.Committed{},
		}
		s.log.open[s.txn] = struct{}{}
		return nil
	})
}

// Produce implements kafkaio.Session.
func (s *session) Produce(ctx context.Context, messages []kafkaio.Message) (positions []kafkaio.Position, err error) {
	err = s.do(OpProduce, func() error {
		if err := s.inTxn(ctx); err != nil {
			return err
		}
		positions, err = s.log.append(s.txn, messages)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("produce: %w", err)
	}
	return positions, nil
}

// inTxn has the lock held.
func (s *session) inTxn(ctx context.Context) error {
	if s.txn == nil {
		return fmt.Errorf("no transaction: %w", kafkaio.ErrSessionState)
	}
	return ctx.Err()
}

// CommitOffsets implements kafkaio.Session.
func (s *session) CommitOffsets(ctx context.Context, group string, offsets []kafkaio.OffsetCommit) error {
	err := s.do(OpCommit, func() error {
		if err := s.inTxn(ctx); err != nil {
			return err
		}
		staged, err := s.log.staged(offsets)
		if err != nil {
			return err
		}
		if s.txn.offsets[group] == nil {
			s.txn.offsets[group] = staged
		} else {
			maps.Copy(s.txn.offsets[group], staged)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("commit offsets of group %q: %w", group, err)
	}
	return nil
}

// staged checks offsets to be committed. The lock is held.
func (l *Log) staged(offsets []kafkaio.OffsetCommit) (map[event.TopicPartition]kafkaio.Committed, error) {
	staged := make(map[event.TopicPartition]kafkaio.Committed, len(offsets))
	for _, o := range offsets {
		if err := kafkaio.CheckCommit(o); err != nil {
			return nil, err
		}
		if _, err := l.partition(o.TopicPartition); err != nil {
			return nil, err
		}
		if id := l.topics[o.Topic].id; o.TopicID != ([16]byte{}) && o.TopicID != id {
			return nil, fmt.Errorf("topic %q has the id %x, not %x: %w", o.Topic, id, o.TopicID, kafkaio.ErrUnknownTopic)
		}
		staged[o.TopicPartition] = o.Committed
	}
	return staged, nil
}

// End implements kafkaio.Session. An error that Options.Hook injects is one of unknown outcome.
func (s *session) End(ctx context.Context) error {
	known := false
	err := s.do(OpEnd, func() (err error) {
		defer func() { known = err != nil }()
		if err := s.inTxn(ctx); err != nil {
			return err
		}
		if s.txn.produced == 0 {
			return fmt.Errorf("no message was produced: %w", kafkaio.ErrSessionState)
		}
		s.log.settle(s.txn, txnCommitted)
		s.txn, s.used = nil, true
		return nil
	})
	switch {
	case err == nil:
		return nil
	case known, errors.Is(err, kafkaio.ErrFenced), errors.Is(err, kafkaio.ErrSessionState):
		return fmt.Errorf("end: %w", err)
	}
	return fmt.Errorf("end: %w: %w", kafkaio.ErrUnknownOutcome, err)
}

// Close implements kafkaio.Session. A hook's error before it leaves the transaction open, as a process that dies does.
func (s *session) Close() {
	if err := s.log.hook(OpClose, "before"); err != nil {
		return
	}
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	s.dead = true
	if s.txn != nil && s.log.owners[s.id] == s {
		s.log.settle(s.txn, txnAborted)
		s.txn = nil
	}
}

// OpenTransactions returns the transactional ids that have a transaction open, in order: for assertions.
func (l *Log) OpenTransactions() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var ids []string
	for id, s := range l.owners {
		if s.txn != nil {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}
