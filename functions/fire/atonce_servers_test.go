//go:build servers

package fire_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/fire"
)

// Two firers that take turns on a real group, each with a session that it keeps: the membership tells the one that was replaced, no
// revision comes twice, and every window has its records once.
func TestFirersTakeTurnsWithoutTransactionsOnRealBrokers(t *testing.T) {
	p := newPlant(t)
	firers := [2]*fire.Handler{}
	for i := range firers {
		h := p.handler()
		h.Publisher = p.kafka.AtOnce()
		t.Cleanup(h.Close)
		firers[i] = h
	}
	fireOnce := func(h *fire.Handler) {
		t.Helper()
		if rep := h.Run(t.Context(), apply.Nudge{})[0]; rep.Err != nil {
			t.Fatal(rep.Err)
		}
	}
	fireOnce(firers[0])
	const plans = 10
	start := func(i int) event.Time { return event.Time(1000 + 10*i) }
	for i := range plans {
		p.ingest(t, start(i), start(i)+1, start(i)+10) // the last one closes the window of the first two
		fireOnce(firers[(i/2)%2])                      // twice each: one session follows the other's, then its own
	}
	records, err := p.kafka.ReadAll(t.Context(), p.app.Pipelines[0].SinkTopic)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	counts := map[event.Time]int{}
	for _, rec := range records {
		var r struct {
			Window struct {
				Start event.Time `json:"start_ms"`
			}
			Pane    struct{ Revision int64 }
			Results struct{ Count int }
		}
		if err := json.Unmarshal(rec.Value, &r); err != nil {
			t.Fatal(err)
		}
		id := fmt.Sprintf("%d revision %d", r.Window.Start, r.Pane.Revision)
		if seen[id] {
			t.Errorf("%s came twice", id)
		}
		seen[id], counts[r.Window.Start] = true, r.Results.Count
	}
	for i := range plans {
		want := 3
		if i == 0 {
			want = 2
		}
		if counts[start(i)] != want {
			t.Errorf("window %d has %v records, want %v", start(i), counts[start(i)], want)
		}
	}
	if len(records) != plans {
		t.Errorf("%d results, want %d", len(records), plans)
	}
}
