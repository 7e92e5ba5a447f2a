package pipeline

import (
	"fmt"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/window"
)

// TestAPartitionPassesExactlyTheEndsOfWindows compares with the ends of all windows near by, one by one.
func TestAPartitionPassesExactlyTheEndsOfWindows(t *testing.T) {
	for _, spec := range []string{
		"{name: w, type: tumbling, size: 10ms}",
		"{name: w, type: tumbling, size: 10ms, offset: 3ms}",
		"{name: w, type: tumbling, size: 10ms, offset: -4ms}",
		"{name: w, type: sliding, size: 10ms, slide: 4ms}",
		"{name: w, type: sliding, size: 9ms, slide: 4ms, offset: 1ms}",
		"{name: w, type: sliding, size: 3ms, slide: 7ms, offset: -2ms, allow_gaps: true}",
	} {
		t.Run(spec, func(t *testing.T) {
			p := compile(t, "["+spec+"]", "    watermark: {max_out_of_orderness: 2ms}")
			ends := map[event.Time]bool{}
			for at := event.Time(-60); at < 60; at++ {
				for _, w := range p.Windows[0].Windows(nil, at) {
					ends[w.End] = true
				}
			}
			for from := event.Time(-20); from < 20; from++ {
				want := false
				for to := from; to < 30; to++ {
					want = want || to > from && ends[to-2]
					if got := p.Passes(from, to); got != want {
						t.Fatalf("from %d to %d: %t, want %t", from, to, got, want)
					}
				}
			}
		})
	}
}

func TestWhatElsePasses(t *testing.T) {
	session := fmt.Sprintf("[{name: s, type: %s, gap: 10ms}]", window.KindSession)
	periodic := "    watermark: {strategy: periodic, emit_interval: 8ms}"
	for name, c := range map[string]struct {
		windows, more string
		from, to      event.Time
		want          bool
	}{
		"the first record of a partition": {tumbling, "", event.MinTime, 1, true},
		"an older record":                 {tumbling, "", 100, 5, false},
		"sessions, within a gap":          {session, "", 12, 19, false},
		"sessions, a gap later":           {session, "", 12, 22, true},
		"before the interval":             {tumbling, periodic, 8, 15, false},
		"after the interval":              {tumbling, periodic, 8, 16, true},
	} {
		if got := compile(t, c.windows, c.more).Passes(c.from, c.to); got != c.want {
			t.Errorf("%s: %t, want %t", name, got, c.want)
		}
	}
}
