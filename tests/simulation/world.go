package simulation

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/memstore"
)

// cell is one slot of the store, which goes back or disappears for itself: each slot may be on a node of its own.
type cell struct {
	snapshot
	id      statestore.Slot
	name    string
	history []snapshot // after each change, oldest first
}

// snapshot is the content of a slot, and with it under which fence each offset was folded: the content's own story.
type snapshot struct {
	mem    *memstore.Store
	fences map[int64]event.Time // never written to once it is here
}

// historyLimit bounds how far a slot can go back, in changes.
const historyLimit = 16

// raise is the request of a raise that the store has carried out.
type raise struct {
	id statestore.Slot
	r  statestore.Raise
}

func (s *Sim) cell(id statestore.Slot) *cell {
	of := id
	of.Topic = "" // no part of what a slot is
	c := s.cells[of]
	if c == nil {
		c = &cell{id: id, name: where(id), snapshot: snapshot{mem: memstore.New()}}
		s.cells[of] = c
	}
	return c
}

func (c *cell) keep() {
	c.history = append(c.history, snapshot{mem: c.mem.Clone(), fences: c.fences})
	if len(c.history) > historyLimit {
		c.history = c.history[1:]
	}
}

// goBack makes the slot what it was after an earlier change; forget decides whether what came after can come back.
func (c *cell) goBack(to int, forget bool) {
	c.snapshot = snapshot{mem: c.history[to].mem.Clone(), fences: c.history[to].fences}
	if forget {
		c.history = c.history[:to+1]
	}
}

// lose empties the slot.
func (c *cell) lose() {
	c.snapshot = snapshot{mem: memstore.New()}
}

// simStore is the store as one process sees it.
type simStore struct {
	statestore.Store // nil: all that the functions call is below
	s                *Sim
	a                *actor
}

func where(id statestore.Slot) string {
	return id.Pipeline[:4] + "/" + place(event.TopicPartition{Topic: id.Topic, Partition: id.Partition})
}

// place names a partition: by its number, one of the second topic with the topic.
func place(tp event.TopicPartition) string {
	if tp.Topic == clicks {
		return clicks + strconv.Itoa(int(tp.Partition))
	}
	return strconv.Itoa(int(tp.Partition))
}

// Load implements statestore.Store.
func (st *simStore) Load(ctx context.Context, id statestore.Slot) (m statestore.Meta, err error) {
	err = st.s.step(ctx, st.a, "Load", where(id), func() (err error) { m, err = st.s.cell(id).mem.Load(ctx, id); return err })
	return m, err
}

// Status implements statestore.Store.
func (st *simStore) Status(ctx context.Context, id statestore.Slot) (status statestore.Status, err error) {
	err = st.s.step(ctx, st.a, "Status", where(id), func() (err error) { status, err = st.s.cell(id).mem.Status(ctx, id); return err })
	return status, err
}

// Restore implements statestore.Store.
func (st *simStore) Restore(ctx context.Context, id statestore.Slot, r statestore.Restore) (m statestore.Meta, o statestore.Outcome, err error) {
	err = st.s.step(ctx, st.a, "Restore", where(id), func() (err error) {
		c := st.s.cell(id)
		if m, o, err = c.mem.Restore(ctx, id, r); err != nil || o == statestore.Present {
			return err
		}
		if o != statestore.Adopted {
			c.fences = nil
		}
		st.s.say("    %s %s: applied %d, to offset %d W=%d", where(id), o, m.Applied, r.Offset, st.s.rel(r.Watermark))
		c.keep()
		return nil
	})
	return m, o, err
}

// Commit implements statestore.Store, and notes under which fence the offsets were folded.
func (st *simStore) Commit(ctx context.Context, id statestore.Slot, x statestore.Commit) (m statestore.Meta, err error) {
	err = st.s.step(ctx, st.a, "Commit", where(id)+fmt.Sprintf(" [%d,%d)", x.Applied, x.To), func() (err error) {
		c := st.s.cell(id)
		if m, err = c.mem.Commit(ctx, id, x); err != nil {
			return err
		}
		f := make(map[int64]event.Time, len(c.fences)+int(x.To-x.Applied))
		maps.Copy(f, c.fences)
		for o := x.Applied; o < x.To; o++ {
			f[o] = m.Top.Watermark
		}
		c.fences = f
		c.keep()
		return nil
	})
	return m, err
}

// Raise implements statestore.Store.
func (st *simStore) Raise(ctx context.Context, id statestore.Slot, r statestore.Raise) (m statestore.Meta, err error) {
	err = st.s.step(ctx, st.a, "Raise", where(id), func() (err error) {
		if m, err = st.s.raise(ctx, id, r); err == nil {
			st.s.raises = append(st.s.raises, raise{id, r})
		}
		return err
	})
	return m, err
}

func (s *Sim) raise(ctx context.Context, id statestore.Slot, r statestore.Raise) (statestore.Meta, error) {
	c := s.cell(id)
	m, err := c.mem.Raise(ctx, id, r)
	if err != nil {
		return m, err
	}
	s.book(id.Pipeline).raised[key{m.Top.Token, event.TopicPartition{Topic: id.Topic, Partition: id.Partition}, m.Applied}] = c.fences
	s.say("    %s raised: W=%d at %d", where(id), s.rel(r.Watermark), m.Applied)
	c.keep()
	return m, nil
}

// rel is a time as traces show it.
func (s *Sim) rel(t event.Time) int64 {
	if t == event.MinTime {
		return -1
	}
	return int64(t - epoch)
}

// Index implements statestore.Store.
func (st *simStore) Index(ctx context.Context, id statestore.Slot, t statestore.Token, ids []statestore.SliceID) (refs []statestore.DeltaRef, err error) {
	err = st.s.step(ctx, st.a, "Index", where(id), func() (err error) { refs, err = st.s.cell(id).mem.Index(ctx, id, t, ids); return err })
	return refs, err
}

// Read implements statestore.Store.
func (st *simStore) Read(ctx context.Context, id statestore.Slot, t statestore.Token, refs []statestore.DeltaRef) (out [][]byte, err error) {
	err = st.s.step(ctx, st.a, "Read", where(id), func() (err error) { out, err = st.s.cell(id).mem.Read(ctx, id, t, refs); return err })
	return out, err
}

// Sweep implements statestore.Store.
func (st *simStore) Sweep(ctx context.Context, id statestore.Slot, w statestore.Sweep) error {
	return st.s.step(ctx, st.a, "Sweep", where(id), func() error {
		c := st.s.cell(id)
		if err := c.mem.Sweep(ctx, id, w); err != nil {
			return err
		}
		c.keep()
		return nil
	})
}

// Slots implements statestore.Store.
func (st *simStore) Slots(ctx context.Context, pipeline string) (out []statestore.Slot, err error) {
	err = st.s.step(ctx, st.a, "Slots", "", func() error {
		for _, c := range st.s.stored() {
			if _, err := c.mem.Load(ctx, c.id); err == nil && c.id.Pipeline == pipeline {
				out = append(out, c.id)
			}
		}
		return nil
	})
	return out, err
}

// Drop implements statestore.Store.
func (st *simStore) Drop(ctx context.Context, id statestore.Slot) error {
	return st.s.step(ctx, st.a, "Drop", where(id), func() error {
		st.s.cell(id).lose()
		return nil
	})
}

// simLog is the log as one process sees it. What is not below is not an operation that anything depends on.
type simLog struct {
	kafkaio.Log
	s *Sim
	a *actor
}

// Partitions implements kafkaio.Log.
func (l *simLog) Partitions(ctx context.Context, topics []string) (out []kafkaio.Partition, err error) {
	err = l.s.step(ctx, l.a, "Partitions", "", func() (err error) { out, err = l.Log.Partitions(ctx, topics); return err })
	return out, err
}

// Offsets implements kafkaio.Log.
func (l *simLog) Offsets(ctx context.Context, tps []event.TopicPartition) (out map[event.TopicPartition]kafkaio.Offsets, err error) {
	err = l.s.step(ctx, l.a, "Offsets", "", func() (err error) { out, err = l.Log.Offsets(ctx, tps); return err })
	return out, err
}

// Read implements kafkaio.Log. Between its runs of records, what they cause is let go for itself.
func (l *simLog) Read(ctx context.Context, tp event.TopicPartition, from, to int64, fn func([]event.Record, int64) error) error {
	if err := l.s.step(ctx, l.a, "ReadLog", fmt.Sprintf("%s [%d,%d)", place(tp), from, to), func() error { return nil }); err != nil {
		return err
	}
	return l.Log.Read(ctx, tp, from, to, fn)
}

// Group implements kafkaio.Log. It waits for transactions in flight, as the broker does.
func (l *simLog) Group(ctx context.Context, group string) (out map[event.TopicPartition]kafkaio.Committed, err error) {
	err = l.s.step(ctx, l.a, "Group", "", func() (err error) { out, err = l.Log.Group(ctx, group); return err })
	return out, err
}

// simPublisher opens sessions for one process.
type simPublisher struct {
	s *Sim
	a *actor
}

// Open implements kafkaio.Publisher.
func (p *simPublisher) Open(ctx context.Context, id string) (kafkaio.Session, error) {
	ss := &simSession{s: p.s, a: p.a}
	err := p.s.step(ctx, p.a, "Open", "", func() (err error) { ss.inner, err = p.s.log.Open(ctx, id); return err })
	return ss, err
}

// simSession is a session of one process. An error leaves it as a real client's: nothing can be sent any more.
type simSession struct {
	s      *Sim
	a      *actor
	inner  kafkaio.Session
	failed bool
}

func (ss *simSession) do(ctx context.Context, op string, f func() error) error {
	if ss.failed {
		return kafkaio.ErrSessionState
	}
	err := ss.s.step(ctx, ss.a, op, "", f)
	ss.failed = err != nil
	return err
}

// Begin implements kafkaio.Session.
func (ss *simSession) Begin(ctx context.Context) error {
	return ss.do(ctx, "Begin", func() error { return ss.inner.Begin(ctx) })
}

// Produce implements kafkaio.Session.
func (ss *simSession) Produce(ctx context.Context, m []kafkaio.Message) (at []kafkaio.Position, err error) {
	err = ss.do(ctx, "Produce", func() (err error) { at, err = ss.inner.Produce(ctx, m); return err })
	return at, err
}

// CommitOffsets implements kafkaio.Session.
func (ss *simSession) CommitOffsets(ctx context.Context, group string, offsets []kafkaio.OffsetCommit) error {
	return ss.do(ctx, "CommitOffsets", func() error { return ss.inner.CommitOffsets(ctx, group, offsets) })
}

// End implements kafkaio.Session. An error of the network leaves its outcome unknown; it may come to pass later.
func (ss *simSession) End(ctx context.Context) error {
	if ss.failed {
		return kafkaio.ErrSessionState
	}
	end := func() error {
		err := ss.inner.End(context.WithoutCancel(ctx))
		ss.s.committed() //nolint:contextcheck // a look at the books, which nothing cuts short
		return err
	}
	o, err := ss.s.steps(ctx, ss.a, "End", "", end)
	if o == later {
		ss.s.ends = append(ss.s.ends, end)
	}
	if err == nil {
		return nil
	}
	ss.failed = true
	if errors.Is(err, kafkaio.ErrFenced) {
		return err
	}
	return fmt.Errorf("%w: %w", kafkaio.ErrUnknownOutcome, err)
}

// Reusable implements kafkaio.Session.
func (ss *simSession) Reusable() bool { return !ss.failed && ss.inner.Reusable() }

// AtOnce reports what kafkaio.IsAtOnce is about.
func (ss *simSession) AtOnce() bool { return kafkaio.IsAtOnce(ss.inner) }

// Close implements kafkaio.Session. A dead process closes nothing, and after an error nothing is sent any more: what is open
// stays so until the next session comes or the broker gives it up.
func (ss *simSession) Close() {
	if ss.failed || ss.a.dead.Load() {
		return
	}
	ss.failed = true
	_ = ss.s.step(ss.a.ctx, ss.a, "Close", "", func() error { ss.inner.Close(); return nil })
}
