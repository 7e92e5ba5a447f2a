package console

import (
	"fmt"
	"slices"

	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
)

// keepFired is how many windows that have fired are remembered.
const keepFired = 500

// Fired is a window that has closed, and of which results were seen.
type Fired struct {
	Pipeline string `json:"pipeline"`
	Window   string `json:"window"`
	Type     string `json:"type"`
	StartMS  int64  `json:"start_ms"`
	EndMS    int64  `json:"end_ms"`
	SeenMS   int64  `json:"seen_ms"`  // wall clock, when its first result was seen
	Results  int64  `json:"results"`  // on time: one for each key
	Late     int64  `json:"late"`     // panes that went out again
	Revision int64  `json:"revision"` // the newest: the plan that made it
}

// firedWindows are the windows that were seen last.
type firedWindows struct {
	byName map[string]*Fired
	order  []string // oldest first
}

func newFiredWindows() firedWindows { return firedWindows{byName: map[string]*Fired{}} }

// add counts a result. An early one is of a window that is still open, or of the global window, which never fires.
func (f *firedWindows) add(r *result, seen int64) {
	if r.Pane.Timing == pipeline.TimingEarly.String() {
		return
	}
	name := fmt.Sprintf("%s\x00%s\x00%d\x00%d", r.Pipeline, r.Window.Name, r.Window.Start, r.Window.End)
	w := f.byName[name]
	if w == nil {
		if len(f.order) == keepFired {
			delete(f.byName, f.order[0])
			f.order = slices.Delete(f.order, 0, 1)
		}
		w = &Fired{Pipeline: r.Pipeline, Window: r.Window.Name, Type: r.Window.Type, StartMS: r.Window.Start, EndMS: r.Window.End, SeenMS: seen}
		f.byName[name] = w
		f.order = append(f.order, name)
	}
	if r.Pane.Timing == pipeline.TimingLate.String() {
		w.Late++
	} else {
		w.Results++
	}
	w.Revision = max(w.Revision, r.Pane.Revision)
}

// FiredWindows returns the windows whose results were seen last, the newest first. The caller owns them.
func (b *Board) FiredWindows() []Fired {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]Fired, 0, len(b.fired.order))
	for _, name := range slices.Backward(b.fired.order) {
		out = append(out, *b.fired.byName[name])
	}
	return out
}
