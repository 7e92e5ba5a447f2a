package ops_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/functions/ops"
)

// Whoever asks why a window has not fired is told who holds the watermark back, what it waits for, and what the next window needs.
func TestExplainSaysWhatTheHolderWaitsFor(t *testing.T) {
	minute := strings.Replace(config(""), "idle_timeout_secs: 3600", "idle_timeout_secs: 60", 1)
	deliver := func(s *stage, n int, at event.Time, p ...int32) {
		if _, err := s.Deliver(s.t.Context(), s.records(n, at, p...)); err != nil {
			s.t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		yaml string
		do   func(s *stage)
		want []string // in Holding
		why  string   // in Why
	}{
		"a partition brings nothing": {minute, func(s *stage) {
			s.Clock += 40_000
			deliver(s, 10, 40_000, 0)
		}, []string{"events/1 holds it back: no record for 40s, idle in 20s, and then left out; its largest time is 2025-01-01T"}, "the next window to fire is "},
		"all are idle":                    {minute, func(s *stage) { s.Clock += 70_000 }, []string{"all partitions are idle: the watermark follows the clock, 1m0s behind it"}, ""},
		"all are idle, and it is to stay": {strings.Replace(minute, "idle_timeout_secs: 60", "idle_timeout_secs: 60, all_idle: hold", 1), func(s *stage) { s.Clock += 70_000 }, []string{"all_idle is hold"}, ""},
		"records wait": {minute, func(s *stage) {
			s.records(3, 40, 1)
			deliver(s, 10, 100, 0)
		}, []string{"events/1 holds it back: 3 offsets are not folded yet"}, ""},
		"records wait and nobody folds them": {minute, func(s *stage) {
			s.records(1, 40, 1)
			s.Clock += 30_000
			deliver(s, 10, 100, 0)
		}, []string{"events/1 holds it back: 1 offset is not folded yet, none was folded for 30", "see whether the trigger is enabled"}, ""},
		"records wait in one that does not hold it back": {minute, func(s *stage) {
			s.records(2, 40, 0, 1)
			s.Clock += 30_000
		}, []string{"events/"}, " is stuck: 2 offsets are not folded yet, none was folded for 30"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, c.yaml)
			s.feed(8, 0)
			c.do(s)
			e := invoke[ops.Explanation](t, s.ops, `{"command":"explain"}`).Pipelines[0]
			for _, want := range c.want {
				if !strings.Contains(e.Holding, want) {
					t.Errorf("%q, want %q", e.Holding, want)
				}
			}
			if !slices.Contains(e.Why, e.Holding) || !strings.Contains(strings.Join(e.Why, "\n"), c.why) {
				t.Errorf("%q, want %q and what is in holding", e.Why, c.why)
			}
		})
	}
}

func TestExplainNamesAPartitionThatHadNoRecord(t *testing.T) {
	s := newStage(t, config(""))
	if _, err := s.Deliver(t.Context(), s.records(10, 0, 0)); err != nil {
		t.Fatal(err)
	}
	e := invoke[ops.Explanation](t, s.ops, `{"command":"explain"}`).Pipelines[0]
	if want := "events/1 holds it back: it has had no record yet"; !strings.HasPrefix(e.Holding, want) || e.Parts[1].Watermark != nil || e.Parts[0].Watermark == nil {
		t.Errorf("%q, want %q; %+v", e.Holding, want, e.Parts)
	}
}

// An explanation has as many windows as its reader asked for.
func TestExplanationsHaveAsManyWindowsAsAskedFor(t *testing.T) {
	s := newStage(t, config(""))
	s.feed(10, 0)
	deps := s.ops.Deps
	deps.Windows = 2
	s.ops = ops.New(deps)
	if e := invoke[ops.Explanation](t, s.ops, `{"command":"explain"}`).Pipelines[0]; len(e.Windows) != 2 || e.Open <= 2 {
		t.Errorf("%d windows of %d, want 2", len(e.Windows), e.Open)
	}
}
