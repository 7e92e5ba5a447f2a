package apply

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/faults"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// Deps is what an Applier works with. All fields are required.
type Deps struct {
	Pipeline *pipeline.Pipeline
	Store    statestore.Store
	Log      kafkaio.Log
	Errors   spec.ErrorHandling
	Buffer   int // most records folded in one commit
	Clock    func() event.Time
	Logger   *slog.Logger
}

// Applier folds one pipeline's partitions. It is safe for concurrent use; one partition is folded by one call at a time.
type Applier struct {
	Deps
	retry retry

	mu    sync.Mutex
	slots map[event.TopicPartition]*slot
}

// slot is what is remembered of a partition between calls. A stale memory costs a conflict, never a wrong result.
type slot struct {
	mu      sync.Mutex
	id      statestore.Slot
	known   bool
	meta    statestore.Meta
	folder  *pipeline.Folder // nil: it was not needed yet
	refused map[pipeline.Refusal]struct{}
	of      statestore.Token // base token that refused belongs to
	first   int64            // first offset of the newest batch
	pass    *pass            // of the Together whose first slot this is
}

// New returns an Applier.
func New(d Deps) *Applier {
	return &Applier{Deps: d, retry: newRetry(d.Errors), slots: map[event.TopicPartition]*slot{}}
}

// SlotID names the slot of a partition.
func SlotID(p *pipeline.Pipeline, part kafkaio.Partition) statestore.Slot {
	return statestore.Slot{Pipeline: p.ID(), TopicID: part.TopicID, Topic: part.Topic, Partition: part.Partition}
}

func (a *Applier) slot(part kafkaio.Partition) *slot {
	a.mu.Lock()
	defer a.mu.Unlock()
	id := SlotID(a.Pipeline, part)
	s := a.slots[part.TopicPartition]
	if s == nil || s.id != id {
		s = &slot{id: id}
		a.slots[part.TopicPartition] = s
	}
	return s
}

// Apply folds records of one partition, ascending by offset, and whatever is missing before them. It returns the offset up to
// which the partition is applied and committed, also with an error: records from there on are not. What it did is added to w.
func (a *Applier) Apply(ctx context.Context, part kafkaio.Partition, records []event.Record, w *Work) (int64, error) {
	if len(records) == 0 {
		return 0, nil
	}
	s := a.slot(part)
	s.mu.Lock()
	defer s.mu.Unlock()
	end := records[len(records)-1].Offset + 1
	s.first = records[0].Offset
	all, before := records, w.Folded
	err := a.until(ctx, part, s, end, func() error {
		for len(records) > 0 && records[0].Offset < s.meta.Applied {
			records = records[1:]
		}
		if len(records) == 0 {
			return nil
		}
		if first := records[0].Offset; first > s.meta.Applied {
			if faults.Off(faults.GapFetch) {
				return a.fold(ctx, s, nil, first, w)
			}
			return a.readLog(ctx, part, s, first, w)
		}
		return a.fold(ctx, s, records, end, w)
	})
	w.skipped(all, s.applied(), w.Folded-before)
	return s.applied(), err
}

// CatchUp folds the log of one partition up to an offset, from wherever the state is. What it did is added to w.
func (a *Applier) CatchUp(ctx context.Context, part kafkaio.Partition, to int64, w *Work) (int64, error) {
	s := a.slot(part)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known = false // whoever catches up has reason to doubt what is remembered
	err := a.until(ctx, part, s, to, func() error { return a.readLog(ctx, part, s, to, w) })
	return s.applied(), err
}

// Restore makes the slot of a partition build on the committed plan, and returns its head.
func (a *Applier) Restore(ctx context.Context, part kafkaio.Partition, plan *Plan) (statestore.Meta, error) {
	s := a.slot(part)
	s.mu.Lock()
	defer s.mu.Unlock()
	err := a.restore(ctx, part, s, plan)
	return s.meta, err
}

// Head returns what is remembered of a partition's slot since the last call for it; false if that is nothing.
func (a *Applier) Head(part kafkaio.Partition) (statestore.Meta, bool) {
	s := a.slot(part)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.meta, s.known
}

func (s *slot) applied() int64 {
	if !s.known {
		return -1
	}
	return s.meta.Applied
}

// errAgain asks for another round: the slot changed under the step.
var errAgain = errors.New("apply: slot changed, fold again")

// until runs steps until the slot is applied up to an offset. A step that met another writer is run again at once; one that
// failed for an outside reason is run again after a pause, as often as the error policy allows. A slot that is damaged is dropped,
// once, and rebuilt.
func (a *Applier) until(ctx context.Context, part kafkaio.Partition, s *slot, to int64, step func() error) error {
	failures, dropped := 0, false
	for {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("apply %s/%d: %w", part.Topic, part.Partition, err)
		}
		err := a.ensureKnown(ctx, part, s)
		if err == nil {
			if s.meta.Applied >= to {
				return nil
			}
			before := s.meta.Applied
			if err = step(); err == nil || errors.Is(err, errAgain) {
				if s.known && s.meta.Applied > before {
					failures = 0
				}
				continue
			}
		}
		if !dropped && errors.Is(err, statestore.ErrFormat) {
			if err = a.drop(ctx, part, s, err); err == nil {
				dropped = true
				continue
			}
		}
		if final(err) {
			if errors.Is(err, kafkaio.ErrOutOfRange) {
				s.known = false // what is remembered may be what is wrong
			}
			return fmt.Errorf("apply %s/%d: %w", part.Topic, part.Partition, err)
		}
		s.known = false // the outcome of whatever failed is unknown
		failures++
		if failures > a.retry.max {
			return fmt.Errorf("apply %s/%d: %w", part.Topic, part.Partition, &triedError{tries: failures, err: err})
		}
		a.Logger.DebugContext(ctx, "apply: trying again", "topic", part.Topic, "partition", part.Partition, "try", failures, "error", err)
		if ended := a.retry.pause(ctx, failures); ended != nil {
			// What is wrong is not that the time was up.
			return fmt.Errorf("apply %s/%d: %w: %w", part.Topic, part.Partition, ended, &triedError{tries: failures, err: err})
		}
	}
}

func (a *Applier) ensureKnown(ctx context.Context, part kafkaio.Partition, s *slot) error {
	if s.known {
		return nil
	}
	meta, err := a.Store.Load(ctx, s.id)
	if errors.Is(err, statestore.ErrNoSlot) {
		return a.restore(ctx, part, s, nil)
	}
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	s.meta, s.known = meta, true
	return nil
}

// restore reads the committed plan, unless it is given, and makes the slot build on it.
func (a *Applier) restore(ctx context.Context, part kafkaio.Partition, s *slot, plan *Plan) error {
	if plan == nil {
		var err error
		if plan, err = ReadPlan(ctx, a.Log, a.Pipeline); err != nil {
			return err
		}
	}
	base, ok := plan.Partitions[part.TopicPartition]
	if !ok && faults.Off(faults.Genesis) {
		base, ok = Base{Offset: s.first, Commitment: pipeline.Commitment{Watermark: event.MinTime, TopicID: part.TopicID, ReplayFrom: s.first, MaxTime: event.MinTime}}, true
	}
	switch {
	case plan.Ended:
		return fmt.Errorf("pipeline %s: %w", a.Pipeline.Name, ErrEnded)
	case !ok:
		return fmt.Errorf("pipeline %s, %s/%d: %w", a.Pipeline.Name, part.Topic, part.Partition, ErrNoGenesis)
	}
	if base.TopicID != part.TopicID {
		return fmt.Errorf("pipeline %s, %s/%d: %w", a.Pipeline.Name, part.Topic, part.Partition, ErrTopicChanged)
	}
	r := statestore.Restore{
		Token: base.Token, Offset: base.Offset, Watermark: base.Watermark, ReplayFrom: base.ReplayFrom, MaxTime: base.MaxTime,
		Now: a.Clock(), NoAdopt: a.Pipeline.HasSessions() || base.TakenOver,
	}
	if a.Pipeline.HasSessions() {
		list, err := refused(ctx, a.Log, base)
		if err != nil {
			return err
		}
		if len(list) > 0 && !faults.Off(faults.SessionList) {
			r.Refused = []statestore.Delta{{
				Ref:     statestore.DeltaRef{Slice: statestore.SliceID{Window: statestore.ListRefused}, From: base.ReplayFrom, To: base.Offset},
				Payload: pipeline.AppendRefused(nil, list),
			}}
		}
	}
	meta, outcome, err := a.Store.Restore(ctx, s.id, r)
	if errors.Is(err, statestore.ErrFormat) {
		if err = a.drop(ctx, part, s, err); err == nil {
			meta, outcome, err = a.Store.Restore(ctx, s.id, r)
		}
	}
	if err != nil {
		s.known = false
		return fmt.Errorf("restore to plan %d: %w", plan.Number, err)
	}
	s.meta, s.known = meta, true
	if outcome != statestore.Present {
		a.Logger.InfoContext(ctx, "state restored", "topic", part.Topic, "partition", part.Partition, "pipeline", a.Pipeline.Name,
			"outcome", outcome.String(), "plan", plan.Number, "applied", meta.Applied, "offset", base.Offset)
	}
	return nil
}

// readLog folds [Applied, to) from the log itself. Records found there mean that the store, or the trigger, lost something: the
// slot is restored first, which changes nothing if it was the trigger.
func (a *Applier) readLog(ctx context.Context, part kafkaio.Partition, s *slot, to int64, w *Work) error {
	checked := false
	return a.Log.Read(ctx, part.TopicPartition, s.meta.Applied, to, func(records []event.Record, next int64) error {
		if len(records) > 0 && !checked {
			applied := s.meta.Applied
			if err := a.restore(ctx, part, s, nil); err != nil {
				return err
			}
			if checked = true; s.meta.Applied != applied {
				return errAgain
			}
		}
		before := w.Folded
		err := a.fold(ctx, s, records, next, w)
		w.Repaired, w.Folded = w.Repaired+w.Folded-before, before
		return err
	})
}

// fold folds records and commits them, up to offset end, in chunks that no cut divides.
func (a *Applier) fold(ctx context.Context, s *slot, records []event.Record, end int64, w *Work) error {
	for s.meta.Applied < end {
		from, stop := s.meta.Applied, end
		for _, o := range []int64{s.meta.Base.Offset, s.meta.Top.Offset} {
			if o > from && !faults.Off(faults.CutInSlot) {
				stop = min(stop, o)
			}
		}
		chunk := pipeline.Chunk{From: from, Fence: s.meta.Top.Watermark, Replay: from < s.meta.Base.Offset}
		if chunk.Replay && a.Pipeline.HasSessions() {
			if err := a.loadRefused(ctx, s); err != nil {
				return err
			}
			chunk.Refused = s.refused
		}
		if s.folder == nil {
			s.folder = a.Pipeline.NewFolder(event.TopicPartition{Topic: s.id.Topic, Partition: s.id.Partition})
		}
		began := time.Now() // how long it takes is no part of any result
		s.folder.Begin(chunk)
		var blocked error
		n := 0
		for n < len(records) && records[n].Offset < stop {
			if n == a.Buffer {
				stop = records[n].Offset
				break
			}
			if faults.Off(faults.SkewLog) {
				records[n].Timestamp = a.Clock()
			}
			if blocked = s.folder.Add(&records[n]); blocked != nil {
				stop = records[n].Offset
				break
			}
			n++
		}
		if stop > from {
			folded := s.folder.Finish(stop)
			committing := time.Now()
			if err := a.commit(ctx, s, folded); err != nil {
				return err
			}
			w.add(n, committing.Sub(began), time.Since(committing))
		}
		if blocked != nil {
			return blocked
		}
		records = records[n:]
	}
	return nil
}

func (a *Applier) commit(ctx context.Context, s *slot, f *pipeline.Folded) error {
	meta, err := a.Store.Commit(ctx, s.id, a.commitOf(s, f))
	return s.committed(f, meta, err)
}

// commitOf is the commit of what was folded on top of what is remembered.
func (a *Applier) commitOf(s *slot, f *pipeline.Folded) statestore.Commit {
	c := statestore.Commit{Applied: f.From, Top: s.meta.Top.Token, To: f.To, MaxTime: f.MaxTime, Now: event.MinTime, Deltas: f.Deltas}
	// Records that were rejected have no event time: like the watermark, idleness does not see them.
	if f.MaxTime != event.MinTime {
		c.Now = a.Clock()
	}
	return c
}

// committed remembers what a store answered to a commit.
func (s *slot) committed(f *pipeline.Folded, meta statestore.Meta, err error) error {
	switch {
	case errors.Is(err, statestore.ErrConflict):
		s.meta = meta
		return errAgain
	case errors.Is(err, statestore.ErrNoSlot):
		s.known = false
		return errAgain
	case err != nil:
		return fmt.Errorf("commit [%d,%d): %w", f.From, f.To, err)
	}
	s.meta = meta
	return nil
}

// loadRefused reads which offsets below the base cut the session definitions refused when they were folded first.
func (a *Applier) loadRefused(ctx context.Context, s *slot) error {
	if s.refused != nil && s.of == s.meta.Base.Token {
		return nil
	}
	refs, err := a.Store.Index(ctx, s.id, s.meta.Base.Token, []statestore.SliceID{{Window: statestore.ListRefused}})
	if err == nil && len(refs) > 0 {
		var payloads [][]byte
		if payloads, err = a.Store.Read(ctx, s.id, s.meta.Base.Token, refs); err == nil {
			var list []pipeline.Refusal
			for _, p := range payloads {
				if list, err = pipeline.DecodeRefused(list, p); err != nil {
					return err
				}
			}
			s.refused = make(map[pipeline.Refusal]struct{}, len(list))
			for _, r := range list {
				s.refused[r] = struct{}{}
			}
			s.of = s.meta.Base.Token
			return nil
		}
	}
	switch {
	case errors.Is(err, statestore.ErrRefused), errors.Is(err, statestore.ErrNoSlot):
		s.known = false
		return errAgain
	case err != nil:
		return fmt.Errorf("read refused offsets: %w", err)
	}
	s.refused, s.of = map[pipeline.Refusal]struct{}{}, s.meta.Base.Token
	return nil
}
