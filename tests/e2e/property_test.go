package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/core/watermark"
	"github.com/llm-auto-optimizer/tidemark/core/window"
	"github.com/llm-auto-optimizer/tidemark/functions/fire"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio/memlog"
	"github.com/llm-auto-optimizer/tidemark/statestore/memstore"
	"github.com/llm-auto-optimizer/tidemark/tests/oracle"
	"github.com/llm-auto-optimizer/tidemark/tests/rig"
)

// block is what happens between two advances of the watermark.
type block struct {
	events []oracle.Event
	w      event.Time // to which the watermark goes after them, unless it is there already
	pass   event.Span // of wall clock
}

func randomBlocks(r *rand.Rand, scale event.Span) []block {
	blocks := make([]block, 1+r.IntN(8))
	t := event.Time(r.IntN(400)-200) * event.Time(scale)
	w := t.Add(-50 * scale)
	for i := range blocks {
		for range r.IntN(12) {
			t = t.Add(pick[event.Span](r, 0, 1, 2, 5, 9) * scale)
			blocks[i].events = append(blocks[i].events, randomEvent(r, t, scale))
		}
		w = w.Add(pick[event.Span](r, 0, 3, 10, 25, 60, -5)*scale + spanBelow(r, scale))
		blocks[i].w, blocks[i].pass = w, pick[event.Span](r, 0, 5, 30)*scale
	}
	blocks[len(blocks)-1].w = t.Add(1000 * scale)
	return blocks
}

func randomEvent(r *rand.Rand, t event.Time, scale event.Span) oracle.Event {
	if r.IntN(2) == 0 {
		t = t.Add(-pick[event.Span](r, 0, 1, 4, 10, 25, 90)*scale - spanBelow(r, scale))
	}
	return oracle.Event{Time: t, Key: pick(r, "a", "b", "c"), Value: float64(r.IntN(1050) - 50)}
}

// arrange plays blocks with partitions, batches, order, redelivery and dropped batches as r has it, and returns the stage at the
// end together with the watermark under which each record was judged.
func arrange(ctx context.Context, r *rand.Rand, defs []window.Definition, trigger triggered, blocks []block) (*stage, func(oracle.Event) event.Time, error) {
	s, err := newTriggeredStage(r, defs, spec.Watermark{AllIdle: spec.AllIdleHold, MaxFutureSkew: -1}, trigger, int32(1+r.IntN(4)), memstore.New(), memlog.Options{Scribble: true})
	if err != nil {
		return nil, nil, err
	}
	w := event.MinTime
	s.Low = manual(&w)
	s.Restart()
	if err := s.RunFire(ctx); err != nil {
		return nil, nil, err
	}
	fences := map[place]event.Time{}
	for _, b := range blocks {
		before := len(s.events)
		for _, i := range r.Perm(len(b.events)) {
			if err := s.add(pick(r, s.tps...), b.events[i]); err != nil {
				return nil, nil, err
			}
		}
		for _, e := range s.events[before:] {
			fences[place{e.TopicPartition, e.Offset}] = w
		}
		for len(s.pending()) > 0 {
			if _, err := s.deliver(ctx, pick(r, 1, 5, 100)); err != nil {
				return nil, nil, err
			}
			if r.IntN(8) == 0 {
				s.Restart()
			}
		}
		s.commitTrigger()
		w = max(w, b.w)
		s.Clock = s.Clock.Add(b.pass)
		if err := s.RunFire(ctx); err != nil {
			return nil, nil, err
		}
	}
	return s, func(e oracle.Event) event.Time { return fences[place{e.TopicPartition, e.Offset}] }, nil
}

// place is where a record is.
type place struct {
	event.TopicPartition
	offset int64
}

// manual is a watermark that goes where w says.
func manual(w *event.Time) fire.LowFunc {
	return func(_ watermark.Policy, _ []watermark.Partition, last, _ event.Time) watermark.Decision {
		return watermark.Decision{Watermark: max(last, *w), Moved: *w > last}
	}
}

// lateContents are the late records by what is in them: where they were differs from arrangement to arrangement.
func (s *stage) lateContents() []string {
	var out []string
	for _, rec := range s.Log.Records(s.Pipelines[0].LateTopic) {
		out = append(out, string(rec.Key)+" "+string(rec.Value))
	}
	slices.Sort(out)
	return out
}

// What was published is a function of which records came between two advances of the watermark: not of their order, their
// partitions, their batches, of what was delivered twice, or not at all and had to be fetched.
func TestArrangementOfRecordsChangesNothing(t *testing.T) {
	properties(t, func(t *testing.T, r *rand.Rand, _ int) {
		t.Helper()
		scale := pick[event.Span](r, 1, 37, 1000)
		defs, trigger, blocks := randomDefinitions(r, scale), randomTrigger(r, scale), randomBlocks(r, scale)
		var first []rig.Result
		var firstLate []string
		for i := range 3 {
			s, fence, err := arrange(t.Context(), r, defs, trigger, blocks)
			if err != nil {
				t.Error(err)
				return
			}
			problems, err := s.verify(oracle.Compute(defs, s.events, fence))
			if err != nil || len(problems) > 0 {
				t.Errorf("arrangement %d: %v\n%q\n%s", i, err, problems, s.describe())
			}
			results, err := s.published()
			if err != nil {
				t.Error(err)
			}
			ranked(results)
			for _, r := range results { // of equal times partition and offset decide, which each arrangement has otherwise
				dropEdges(r.Results)
				for _, o := range r.Pane.Retracts {
					dropEdges(o.Results)
				}
			}
			late := s.lateContents()
			if i == 0 {
				first, firstLate = results, late
				continue
			}
			// The moments of a group depend in the last bits on how its values were added.
			if diff := cmp.Diff(first, results, cmpopts.EquateApprox(1e-9, 1e-9)); diff != "" {
				t.Errorf("results of arrangement %d (-first +this):\n%s\n%s", i, diff, s.describe())
			}
			if diff := cmp.Diff(firstLate, late); diff != "" {
				t.Errorf("late records of arrangement %d (-first +this):\n%s\n%s", i, diff, s.describe())
			}
		}
	})
}

// ranked numbers plans by their panes: a firer that does not know how many records wait for a trigger makes a plan to find out.
func ranked(results []rig.Result) {
	rank, last := int64(0), int64(0)
	for i := range results {
		if n := results[i].Pane.Revision; n != last {
			rank, last = rank+1, n
		}
		results[i].Pane.Revision = rank
	}
}

func dropEdges(results map[string]any) {
	delete(results, "first")
	delete(results, "last")
}

// randomWatermark is a bounded or periodic watermark with idle partitions or without.
func randomWatermark(r *rand.Rand, scale event.Span) spec.Watermark {
	w := spec.Watermark{
		MaxOutOfOrder: pick[event.Span](r, 0, 3, 15) * scale,
		EmitInterval:  pick[event.Span](r, 0, 0, 20, 200) * scale,
		IdleTimeout:   pick[event.Span](r, 0, 40, 200) * scale,
		AllIdle:       pick(r, spec.AllIdleAdvance, spec.AllIdleHold, spec.AllIdleMax),
		MaxFutureSkew: -1,
	}
	w.Periodic = w.EmitInterval > 0 && r.IntN(3) == 0
	return w
}

// flow is a random run: records come, are delivered, the firer looks, time goes by, functions are thrown away.
type flow struct {
	*stage
	scale    event.Span
	t        event.Time // of the records
	disorder bool
	step     func(ctx context.Context) error // one more thing that may happen; nil: nothing
	tolerate func() bool                     // whether an error of what was called last was to be expected
}

// run takes so many steps, and then folds and closes everything.
func (f *flow) run(ctx context.Context, steps int) error {
	for range steps {
		if err := f.move(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (f *flow) move(ctx context.Context) error {
	r := f.r
	switch n := r.IntN(100); {
	case n < 40:
		for range 1 + r.IntN(6) {
			f.t = f.t.Add(pick[event.Span](r, 0, 1, 2, 5, 9) * f.scale)
			e := oracle.Event{Time: f.t, Key: pick(r, "a", "b", "c"), Value: float64(r.IntN(1050) - 50)}
			if f.disorder {
				e = randomEvent(r, f.t, f.scale)
			}
			if err := f.add(pick(r, f.tps...), e); err != nil {
				return err
			}
		}
		f.Clock = max(f.Clock, f.t)
	case n < 65:
		failed, err := f.deliver(ctx, pick(r, 1, 5, 100))
		if err == nil && failed > 0 {
			err = fmt.Errorf("ingest answered %d offsets as failed", failed)
		}
		if err != nil && !f.tolerate() {
			return err
		}
		if r.IntN(3) > 0 {
			f.commitTrigger()
		}
	case n < 85:
		if err := f.RunFire(ctx); err != nil && !f.tolerate() {
			return err
		}
	case n < 93:
		f.Clock = f.Clock.Add(pick[event.Span](r, 1, 10, 50, 300) * f.scale)
	case n < 96:
		f.Restart()
	case n < 97 && len(f.tps) < 6:
		f.tps = append(f.tps, event.TopicPartition{Topic: "events", Partition: int32(len(f.tps))})
		if err := f.Log.AddPartitions("events", int32(len(f.tps))); err != nil {
			return err
		}
		// Until the firer has begun it, ingest answers for the new partition that nothing is folded.
		if err := f.RunFire(ctx); err != nil && !f.tolerate() {
			return err
		}
		f.Restart() // metadata is believed for a while
	default:
		if f.step != nil {
			return f.step(ctx)
		}
	}
	return nil
}

// Whatever the watermark makes of disorder, idleness and new partitions: what is published is what a batch computation comes to
// that judges each record by the watermark that the ledger names.
func TestResultsAreThoseOfABatchComputation(t *testing.T) {
	late, panes := 0, 0
	properties(t, func(t *testing.T, r *rand.Rand, round int) {
		t.Helper()
		scale := pick[event.Span](r, 1, 37, 1000)
		s, err := newTriggeredStage(r, randomDefinitions(r, scale), randomWatermark(r, scale), randomTrigger(r, scale), int32(1+r.IntN(4)), memstore.New(),
			memlog.Options{Scribble: true, SingleUse: r.IntN(2) == 0})
		if err != nil {
			t.Error(err)
			return
		}
		s.spoil = true
		f := &flow{stage: s, scale: scale, t: event.Time(r.IntN(400)-200) * event.Time(scale), disorder: true, tolerate: func() bool { return false }}
		f.Clock = f.t
		steps := 20 + r.IntN(80)
		if round%50 == 0 {
			steps *= 10 // enough for slices with so many deltas that they are joined
		}
		if err := f.RunFire(t.Context()); err != nil {
			t.Error(err)
		}
		if err := f.run(t.Context(), steps); err != nil {
			t.Errorf("%v\n%s", err, s.describe())
		}
		if err := f.Flush(t.Context()); err != nil {
			t.Errorf("%v\n%s", err, s.describe())
		}
		plans, err := s.ledger()
		if err != nil {
			t.Error(err)
		}
		want, lateEvents := oracle.Compute(s.defs, s.events, func(e oracle.Event) event.Time { return oracle.Fence(plans, e.TopicPartition, e.Offset) })
		problems, err := s.verify(want, lateEvents)
		if err != nil || len(problems) > 0 {
			t.Errorf("%v\n%q\n%s", err, problems, s.describe())
		}
		late += len(lateEvents)
		panes += len(s.Log.Records(s.Pipelines[0].SinkTopic))
	})
	t.Logf("%d panes, %d late records", panes, late)
	if late == 0 || panes == 0 {
		t.Error("the scenarios had no panes, or no late records")
	}
}
