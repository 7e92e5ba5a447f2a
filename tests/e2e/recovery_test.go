package e2e

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/core/window"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio/memlog"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/memstore"
	"github.com/llm-auto-optimizer/tidemark/statestore/storetest"
	"github.com/llm-auto-optimizer/tidemark/tests/oracle"
)

// scene is a stage on which nothing happens by chance, with one partition and a watermark that a test moves.
type scene struct {
	*stage
	t *testing.T
	w event.Time
}

func newScene(t *testing.T, store statestore.Store, defs ...window.Definition) *scene {
	t.Helper()
	s, err := newStage(rand.New(rand.NewPCG(1, 1)), defs, spec.Watermark{AllIdle: spec.AllIdleHold, MaxFutureSkew: -1}, 1, store, memlog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s.App.BufferSize = 3
	sc := &scene{stage: s, t: t, w: event.MinTime}
	sc.Low = manual(&sc.w)
	sc.Restart()
	sc.fire(event.MinTime)
	return sc
}

// come delivers records of one key, in one batch.
func (s *scene) come(times ...event.Time) {
	s.t.Helper()
	tp := s.tps[0]
	for _, at := range times {
		if err := s.add(tp, oracle.Event{Time: at, Key: "k", Value: 1}); err != nil {
			s.t.Fatal(err)
		}
	}
	log := s.logs[tp]
	failed, err := s.Deliver(s.t.Context(), map[event.TopicPartition][]event.Record{tp: log[len(log)-len(times):]})
	if err != nil || failed > 0 {
		s.t.Fatalf("%d offsets failed, %v", failed, err)
	}
	s.at[tp] = len(log)
	s.commitTrigger()
}

func (s *scene) fire(w event.Time) {
	s.t.Helper()
	s.w = w
	if err := s.RunFire(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

// check compares everything with the batch computation.
func (s *scene) check() {
	s.t.Helper()
	plans, err := s.ledger()
	if err != nil {
		s.t.Fatal(err)
	}
	problems, err := s.verify(oracle.Compute(s.defs, s.events, func(e oracle.Event) event.Time { return oracle.Fence(plans, e.TopicPartition, e.Offset) }))
	if err != nil || len(problems) > 0 {
		s.t.Errorf("%v\n%q", err, problems)
	}
}

// A session that was final and came back with a replay, because its batch held another that is open, is final still.
func TestReplayOfAFinalSessionIsNotCountedAsOpen(t *testing.T) {
	s := newScene(t, memstore.New(), window.Definition{Name: "s", Kind: window.KindSession, Gap: 5})
	s.come(0, 2000)
	s.fire(1500)
	s.Store = memstore.New()
	s.Restart()
	s.fire(1600) // nothing in the bucket of the first session is due
	s.fire(3000)
	s.check()
}

// The offsets that sessions refused outlive a replay that is interrupted after its first chunk.
func TestInterruptedReplayStillKnowsWhatSessionsRefused(t *testing.T) {
	s := newScene(t, memstore.New(), window.Definition{Name: "s", Kind: window.KindSession, Gap: 100})
	s.come(0)
	s.fire(50)
	s.come(60, 1, 120, 2) // 1 and 2 are too late, and the session of the others stays open
	s.fire(70)
	lost := memstore.New()
	s.Store = storetest.Hook(lost, nil, failOnce("Commit")) // the first chunk, with the first refused offset, is stored
	s.Restart()
	if err := s.RunFire(t.Context()); !errors.Is(err, errInjected) {
		t.Fatalf("the replay was not interrupted: %v", err)
	}
	s.Store = lost
	s.Restart()
	s.fire(75)
	s.fire(1000)
	s.check()
}

// failOnce hides the first success of an operation.
func failOnce(op string) func(string, statestore.Slot) error {
	failed := false
	return func(at string, _ statestore.Slot) error {
		if failed || at != op {
			return nil
		}
		failed = true
		return errInjected
	}
}

// Where an attempt that died has raised a partition, and another partition holds the watermark back, there is nothing to do but
// to wait: no plan is possible below the fence, whatever is due.
func TestNoPlanIsTriedBelowTheFenceOfADeadAttempt(t *testing.T) {
	store := memstore.New()
	s := newScene(t, store, window.Definition{Name: "w", Kind: window.KindTumbling, Size: 10})
	s.Low = nil // the product's own
	s.Restart()
	s.come(5, 100)
	s.Store = storetest.Hook(store, failOnce("Read"), nil)
	s.Restart()
	if err := s.RunFire(t.Context()); !errors.Is(err, errInjected) {
		t.Fatalf("the attempt did not die: %v", err)
	}
	s.come(200, 3) // late, by the fence of the attempt
	s.Store = store
	if err := s.Log.AddPartitions("events", 2); err != nil {
		t.Fatal(err)
	}
	second := event.TopicPartition{Topic: "events", Partition: 1}
	s.tps = append(s.tps, second)
	if err := s.add(second, oracle.Event{Time: 150, Key: "k", Value: 1}); err != nil {
		t.Fatal(err)
	}
	s.Restart()
	r := s.Fire.Run(t.Context(), apply.Nudge{})[0]
	if r.Err != nil || r.Made || r.Quiet {
		t.Fatalf("while a partition lags: %+v", r)
	}
	if failed, err := s.Deliver(t.Context(), map[event.TopicPartition][]event.Record{second: s.logs[second]}); failed > 0 || err != nil {
		t.Fatalf("%d offsets failed, %v", failed, err)
	}
	if r = s.Fire.Run(t.Context(), apply.Nudge{})[0]; r.Err != nil || !r.Made || r.Watermark != 150 || r.Late != 1 {
		t.Fatalf("once it has caught up: %+v", r)
	}
}
