package job

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/fire"
)

// begin starts a schedule of an app without pipelines, whose looks find nothing; each look is told to looks.
func begin(t *testing.T, tick time.Duration) (s *schedule, looks chan struct{}, stop func() error) {
	t.Helper()
	logger := slog.New(slog.DiscardHandler)
	s = newSchedule(tick, logger)
	looks = make(chan struct{}, 1000)
	s.handler = fire.New(fire.Deps{App: &spec.App{}, Logger: logger, Tick: tick, OnTick: func([]fire.Report) { s.looked(); looks <- struct{}{} }})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.run(ctx) }()
	return s, looks, func() error { cancel(); return <-done }
}

func await(t *testing.T, looks chan struct{}, n int) {
	t.Helper()
	for i := range n {
		select {
		case <-looks:
		case <-time.After(20 * time.Second):
			t.Fatalf("look %d of %d does not come", i+1, n)
		}
	}
}

// An invocation ends after three looks that find nothing; the schedule starts the next.
func TestInvocationsFollowEachOther(t *testing.T) {
	_, looks, stop := begin(t, 10*time.Millisecond)
	await(t, looks, 10)
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// The next look of an invocation may be far away: neither a nudge nor the end waits for it.
func TestNeitherNudgeNorEndWaitsForTheTick(t *testing.T) {
	s, looks, stop := begin(t, time.Hour)
	await(t, looks, 1)
	for range 5 {
		if err := s.nudge(t.Context(), apply.Nudge{}); err != nil {
			t.Fatal(err)
		}
		await(t, looks, 1)
	}
	begun := time.Now()
	if err := stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > finishWithin/2 {
		t.Errorf("ending between two looks took %s", took)
	}
}

// The first nudge of a partition names the lowest offset: later ones do not replace it.
func TestNudgesAreGathered(t *testing.T) {
	s := newSchedule(time.Second, slog.New(slog.DiscardHandler))
	for _, f := range []apply.First{{Topic: "a", Offset: 5}, {Topic: "a", Partition: 1, Offset: 7}, {Topic: "a", Offset: 9}} {
		if err := s.nudge(t.Context(), apply.Nudge{Genesis: []apply.First{f}}); err != nil {
			t.Fatal(err)
		}
	}
	want := []apply.First{{Topic: "a", Offset: 5}, {Topic: "a", Partition: 1, Offset: 7}}
	if d := cmp.Diff(want, slices.Clone(s.pending.Genesis)); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}
