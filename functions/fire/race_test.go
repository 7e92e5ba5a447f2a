package fire_test

import (
	"testing"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio/memlog"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/storetest"
)

// ingestAt makes ingest fold a record of the given time once, right before or after the next operation of a kind on the store.
func (b *bench) ingestAt(t *testing.T, op string, before bool, at event.Time) {
	t.Helper()
	armed := true
	hook := func(got string, _ statestore.Slot) error {
		if armed && got == op {
			armed = false
			b.ingest(t, 0, at)
		}
		return nil
	}
	if before {
		b.store = storetest.Hook(b.store, hook, nil)
	} else {
		b.store = storetest.Hook(b.store, nil, hook)
	}
	b.restart()
	t.Cleanup(func() {
		if armed {
			t.Errorf("no %s came", op)
		}
	})
}

func TestWhatIsFoldedAfterTheRaiseBelongsToTheNextPlan(t *testing.T) {
	b := newBench(t, tumbling, 1, memlog.Options{})
	b.run(t)
	b.ingest(t, 0, 1, 12)
	b.ingestAt(t, "Raise", false, 3) // within the allowed lateness of the window that is being fired
	b.run(t)
	if got, want := b.results(t), "0 on_time 1"; got != want {
		t.Fatalf("the plan: got %q, want %q", got, want)
	}
	b.run(t)
	if got, want := b.results(t), "0 on_time 1, 0 late 2"; got != want {
		t.Errorf("the next plan: got %q, want %q", got, want)
	}
}

func TestWhatIsFoldedBeforeTheRaiseBelongsToThePlan(t *testing.T) {
	b := newBench(t, tumbling, 1, memlog.Options{})
	b.run(t)
	b.ingest(t, 0, 12)
	b.ingestAt(t, "Raise", true, 3) // begins a slice that the status did not have, and that this plan closes
	b.run(t)
	if got, want := b.results(t), "0 on_time 1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
