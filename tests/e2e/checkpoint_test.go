package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/core/window"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio/memlog"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/checkpoint"
	"github.com/llm-auto-optimizer/tidemark/statestore/memstore"
	"github.com/llm-auto-optimizer/tidemark/statestore/storetest"
	"github.com/llm-auto-optimizer/tidemark/tests/oracle"
	"github.com/llm-auto-optimizer/tidemark/tests/rig"
	"github.com/llm-auto-optimizer/tidemark/tests/seed"
)

// slots names the slots of the stage's pipeline.
func (s *stage) slots(ctx context.Context) ([]statestore.Slot, error) {
	parts, err := s.Log.Partitions(ctx, []string{"events"})
	if err != nil {
		return nil, err
	}
	var out []statestore.Slot
	for _, p := range parts {
		out = append(out, apply.SlotID(s.Pipelines[0], p))
	}
	return out, nil
}

// export makes a checkpoint in memory.
func (s *stage) export(ctx context.Context, from checkpoint.Source) ([]byte, error) {
	slots, err := s.slots(ctx)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	_, err = checkpoint.Export(ctx, from, &b, checkpoint.Header{App: s.App.Name}, slots, nil)
	return b.Bytes(), err
}

// lose drops all slots, and puts those back that wanted takes from a checkpoint; nil: none.
func (s *stage) lose(ctx context.Context, store statestore.Store, file []byte, wanted func(statestore.Slot) bool) (imported int, err error) {
	slots, err := s.slots(ctx)
	if err != nil {
		return 0, err
	}
	for _, slot := range slots {
		err = errors.Join(err, store.Drop(ctx, slot))
	}
	if err != nil || wanted == nil {
		return 0, err
	}
	_, err = checkpoint.Import(ctx, store, bytes.NewReader(file), func(slot statestore.Slot, _ statestore.Meta) bool { return wanted(slot) },
		func(r checkpoint.Result) {
			if r.Outcome == checkpoint.Imported {
				imported++
			}
		})
	return imported, err
}

func all(statestore.Slot) bool { return true }

// restorable are the window definitions of the tests below.
func restorable() map[string][]window.Definition {
	return map[string][]window.Definition{
		"tumbling":                {{Name: "w", Kind: window.KindTumbling, Size: 20}},
		"tumbling with lateness":  {{Name: "w", Kind: window.KindTumbling, Size: 20, Lateness: 50}},
		"sliding":                 {{Name: "w", Kind: window.KindSliding, Size: 60, Slide: 20}},
		"sliding with lateness":   {{Name: "w", Kind: window.KindSliding, Size: 60, Slide: 20, Lateness: 45}},
		"session":                 {{Name: "w", Kind: window.KindSession, Gap: 6}},
		"session with lateness":   {{Name: "w", Kind: window.KindSession, Gap: 6, Lateness: 30}},
		"all three with lateness": {{Name: "a", Kind: window.KindTumbling, Size: 40}, {Name: "b", Kind: window.KindSliding, Size: 60, Slide: 20, Lateness: 45}, {Name: "c", Kind: window.KindSession, Gap: 6, Lateness: 5}},
	}
}

// folds counts the offsets that are folded.
type folds struct {
	statestore.Store
	n atomic.Int64 // partitions are folded side by side
}

func (f *folds) Commit(ctx context.Context, id statestore.Slot, c statestore.Commit) (statestore.Meta, error) {
	m, err := f.Store.Commit(ctx, id, c)
	if err == nil {
		f.n.Add(c.To - c.Applied)
	}
	return m, err
}

// accident is when a checkpoint is taken, when the state is lost, and what of it comes back.
type accident struct {
	taken, lost int // rounds; lost 0: never
	wanted      func(statestore.Slot) bool
}

// script plays rounds of records of which every fifth is behind and some too late, fires after each, and closes everything. It returns the
// results, the late records, and how many offsets were folded again after the accident.
func script(t *testing.T, store statestore.Store, defs []window.Definition, a accident) ([]rig.Result, []rig.Side, int64) {
	t.Helper()
	ctx := t.Context()
	counted := &folds{Store: store}
	s, err := newStage(rand.New(rand.NewPCG(5, 5)), defs, spec.Watermark{AllIdle: spec.AllIdleHold, MaxFutureSkew: -1}, 3, counted, memlog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s.App.BufferSize = 10
	w := event.MinTime
	s.Low = manual(&w)
	s.Restart()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(s.RunFire(ctx))
	var file []byte
	again := int64(0)
	for round := range 14 {
		for i := range 30 {
			at := event.Time(round*30 + i)
			switch {
			case i%15 == 0:
				at -= 160
			case i%5 == 0:
				at -= 40
			}
			must(s.add(s.tps[i%3], oracle.Event{Time: at, Key: string(rune('a' + i%4)), Value: float64(i)}))
		}
		for _, tp := range s.tps { // one batch a partition, each record once
			log := s.logs[tp]
			failed, err := s.Deliver(ctx, map[event.TopicPartition][]event.Record{tp: log[s.at[tp]:]})
			if err != nil || failed > 0 {
				t.Fatalf("%d offsets failed, %v", failed, err)
			}
			s.at[tp] = len(log)
		}
		s.commitTrigger()
		if round == a.taken {
			file, err = s.export(ctx, store)
			must(err)
		}
		if round == a.lost && a.lost > 0 {
			imported, err := s.lose(ctx, store, file, a.wanted)
			must(err)
			if (imported > 0) != (a.wanted != nil) {
				t.Fatalf("%d slots imported", imported)
			}
			s.Restart()
			counted.n.Store(0)
		}
		w = event.Time(round*30 + 10)
		must(s.RunFire(ctx))
		if round == a.lost {
			again = counted.n.Load()
		}
	}
	must(s.Flush(ctx))
	results, err := s.published()
	must(err)
	late, err := rig.ParseSide(s.Log.Records(s.Pipelines[0].LateTopic))
	must(err)
	plans, err := s.ledger()
	must(err)
	problems, err := s.verify(oracle.Compute(defs, s.events, func(e oracle.Event) event.Time { return oracle.Fence(plans, e.TopicPartition, e.Offset) }))
	if err != nil || len(problems) > 0 {
		t.Errorf("%v\n%s", err, strings.Join(problems, "\n"))
	}
	return results, late, again
}

// accidents are those that every kind of window and store has to survive.
func accidents() map[string]accident {
	return map[string]accident{
		"the newest checkpoint":    {taken: 9, lost: 9, wanted: all},
		"one of the plan before":   {taken: 8, lost: 9, wanted: all},
		"one of five plans before": {taken: 4, lost: 9, wanted: all},
		"one slot alone":           {taken: 9, lost: 9, wanted: func(s statestore.Slot) bool { return s.Partition == 1 }},
		"no checkpoint":            {taken: 9, lost: 9},
	}
}

// TestARunGoesOnFromACheckpoint loses the state in the middle of a run: what is published is what a run without the accident
// publishes, record for record. A checkpoint spares reading the log.
func TestARunGoesOnFromACheckpoint(t *testing.T) {
	for name, defs := range restorable() {
		t.Run(name, func(t *testing.T) {
			survives(t, defs, func() statestore.Store { return memstore.New() })
		})
	}
}

func survives(t *testing.T, defs []window.Definition, open func() statestore.Store) {
	t.Helper()
	want, wantLate, _ := script(t, memstore.New(), defs, accident{})
	if len(want) == 0 || len(wantLate) == 0 {
		t.Fatalf("%d results and %d late records without an accident", len(want), len(wantLate))
	}
	again := map[string]int64{}
	for what, a := range accidents() {
		got, late, n := script(t, open(), defs, a)
		again[what] = n
		if diff := cmp.Diff(want, got, cmpopts.EquateApprox(1e-9, 1e-9)); diff != "" {
			t.Errorf("%s: results (-undisturbed +this):\n%s", what, diff)
		}
		if diff := cmp.Diff(wantLate, late, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: late records (-undisturbed +this):\n%s", what, diff)
		}
	}
	t.Logf("offsets folded again: %v", again)
	newest, before, none := again["the newest checkpoint"], again["one of the plan before"], again["no checkpoint"]
	if newest != 0 || before == 0 || none <= newest || none < before || again["one slot alone"] >= none {
		t.Errorf("offsets folded again: %v; want 0 with the newest checkpoint, and fewer with each that is newer", again)
	}
}

// TestCheckpointsOfRandomRunsChangeNoResult takes checkpoints at any moment, also in the middle of a plan, loses the state at any
// moment, and goes on from any checkpoint, of all slots or some, with functions that remember the lost state or do not.
func TestCheckpointsOfRandomRunsChangeNoResult(t *testing.T) {
	imported, taken, midPlan := 0, 0, 0
	rounds := properties(t, func(t *testing.T, r *rand.Rand, _ int) {
		t.Helper()
		scale := pick[event.Span](r, 1, 37, 1000)
		store := memstore.New()
		var files [][]byte
		var f *flow
		var mu sync.Mutex // partitions are worked at side by side
		moments := rand.New(rand.NewPCG(r.Uint64(), 1))
		hooked := storetest.Hook(store, func(op string, _ statestore.Slot) error {
			mu.Lock()
			defer mu.Unlock()
			if (op == "Read" || op == "Sweep" || op == "Commit") && moments.IntN(60) == 0 {
				file, err := f.export(t.Context(), store)
				if err != nil {
					return err
				}
				files = append(files, file)
				midPlan++
			}
			return nil
		}, nil)
		s, err := newStage(r, randomDefinitions(r, scale), randomWatermark(r, scale), int32(1+r.IntN(4)), hooked, memlog.Options{Scribble: true})
		if err != nil {
			t.Error(err)
			return
		}
		f = &flow{stage: s, scale: scale, t: event.Time(r.IntN(400)-200) * event.Time(scale), disorder: true, tolerate: func() bool { return false }}
		f.Clock = f.t
		step := func(ctx context.Context) error {
			if len(files) == 0 || r.IntN(5) < 3 {
				file, err := f.export(ctx, store)
				files = append(files, file)
				taken++
				return err
			}
			file := files[len(files)-1]
			if r.IntN(3) == 0 {
				file = files[r.IntN(len(files))]
			}
			wanted := all
			if r.IntN(3) == 0 {
				wanted = func(statestore.Slot) bool { return r.IntN(2) == 0 }
			}
			n, err := f.lose(ctx, store, file, wanted)
			imported += n
			if r.IntN(2) == 0 {
				f.Restart()
			}
			return err
		}
		if err := f.RunFire(t.Context()); err != nil {
			t.Error(err)
		}
		for range 20 + r.IntN(60) {
			err := f.move(t.Context())
			if r.IntN(6) == 0 {
				err = errors.Join(err, step(t.Context()))
			}
			if err != nil {
				t.Errorf("%v\n%s", err, s.describe())
				return
			}
		}
		if err := f.Flush(t.Context()); err != nil {
			t.Errorf("%v\n%s", err, s.describe())
		}
		plans, err := s.ledger()
		if err != nil {
			t.Error(err)
		}
		problems, err := s.verify(oracle.Compute(s.defs, s.events, func(e oracle.Event) event.Time { return oracle.Fence(plans, e.TopicPartition, e.Offset) }))
		if err != nil || len(problems) > 0 {
			t.Errorf("%v\n%q\n%s", err, problems, s.describe())
		}
	})
	t.Logf("%d checkpoints, %d of them in the middle of something, %d slots imported", taken+midPlan, midPlan, imported)
	if rounds >= 20 && (imported == 0 || midPlan == 0) {
		t.Error("nothing was imported, or no checkpoint was taken in the middle of a plan")
	}
}

// TestCheckpointsWhileBothFunctionsWork exports without a pause while ingest and fire go on, each in a goroutine of its own. Then
// the state is lost, and each of some checkpoints has to serve.
func TestCheckpointsWhileBothFunctionsWork(t *testing.T) {
	for round := range uint64(3) {
		works(t, rand.New(rand.NewPCG(seed.Of(t), round)))
	}
}

func works(t *testing.T, r *rand.Rand) {
	t.Helper()
	ctx := t.Context()
	store := memstore.New()
	defs := []window.Definition{{Name: "a", Kind: window.KindTumbling, Size: 50, Lateness: 30}, {Name: "b", Kind: window.KindSession, Gap: 3}}
	// Every partition is in order and one that is behind holds the watermark, so no record is ever late.
	s, err := newStage(r, defs, spec.Watermark{AllIdle: spec.AllIdleHold, MaxFutureSkew: -1}, 3, store, memlog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s.App.BufferSize = 10
	s.Restart()
	if err := s.RunFire(ctx); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	delivered := make(chan struct{})
	wg.Go(func() {
		defer close(delivered)
		for i := range 400 {
			for _, tp := range s.tps {
				if err := s.add(tp, oracle.Event{Time: event.Time(i * 4), Key: fmt.Sprint(i % 3), Value: 1}); err != nil {
					t.Error(err)
				}
			}
			if i%4 != 3 {
				continue
			}
			for len(s.pending()) > 0 {
				if _, err := s.deliver(ctx, 100); err != nil {
					t.Error(err)
					return
				}
			}
			s.commitTrigger()
		}
	})
	wg.Go(func() {
		for done := false; !done; {
			select {
			case <-delivered:
				done = true
			default:
			}
			if err := s.RunFire(ctx); err != nil {
				t.Error(err)
			}
		}
	})
	var files [][]byte
	busy := 0
	wg.Go(func() {
		for done := false; !done; {
			select {
			case <-delivered:
				done = true
			default:
			}
			file, err := s.export(ctx, store)
			switch {
			case errors.Is(err, checkpoint.ErrChanging):
				busy++
			case err != nil:
				t.Error(err)
			default:
				files = append(files, file)
			}
		}
	})
	wg.Wait()
	t.Logf("%d checkpoints, %d times a slot was never still", len(files), busy)
	if len(files) == 0 {
		t.Fatal("no checkpoint came about")
	}
	for _, i := range []int{0, len(files) / 2, len(files) - 1} {
		if _, err := s.lose(ctx, store, files[i], all); err != nil {
			t.Fatal(err)
		}
		s.Restart()
		if err := s.RunFire(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	problems, err := s.verify(oracle.Compute(defs, s.events, func(oracle.Event) event.Time { return event.MinTime }))
	if err != nil || len(problems) > 0 {
		t.Errorf("%v\n%s", err, strings.Join(problems, "\n"))
	}
}
