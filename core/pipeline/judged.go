package pipeline

import (
	"slices"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/faults"
	"github.com/llm-auto-optimizer/tidemark/core/window"
)

// judged remembers of a chunk what the fence took and refused, as far as that is not to be seen in its slices: to tell whether another
// fence, or other windows with the same edges, would have done the same.
type judged struct {
	refused []refusedTime
	taken   []event.Time // by definition, of sessions: the least event time that was taken
}

// refusedTime is the event time of a record that a definition refused.
type refusedTime struct {
	def int
	at  event.Time
}

func (j *judged) begin(definitions int) {
	j.refused, j.taken = j.refused[:0], j.taken[:0]
	for range definitions {
		j.taken = append(j.taken, event.MaxTime)
	}
}

func (j *judged) take(def int, t event.Time) { j.taken[def] = min(j.taken[def], t) }

func (j *judged) refuse(def int, t event.Time) {
	if n := len(j.refused); n == 0 || j.refused[n-1] != (refusedTime{def, t}) {
		j.refused = append(j.refused, refusedTime{def, t})
	}
}

// agrees reports whether a member's windows and fence take and refuse the same of the chunk's records as those that it was folded
// with: the same records, and of each that is taken the same number of windows.
func (f *folding) agrees(m *member) bool {
	switch {
	case m.chunk == nil:
		return false
	case m == f.lead, faults.Off(faults.SharedFence):
		return true
	case m.chunk.Replay || f.chunk.Replay:
		return false
	case m.chunk.Fence == f.chunk.Fence && slices.EqualFunc(m.p.Windows, f.lead.p.Windows, sameButName):
		return true
	}
	for i := range f.slices {
		if id := f.slices[i].id; !f.same(m, int(id.Window), id.Start, true) {
			return false
		}
	}
	for _, r := range f.judged.refused {
		if !f.same(m, r.def, r.at, false) {
			return false
		}
	}
	for i, t := range f.judged.taken {
		if d := &m.p.Windows[i]; d.Kind == window.KindSession && t != event.MaxTime && !d.Accepts(t, m.chunk.Fence) {
			return false
		}
	}
	return true
}

// same reports whether a member does with a time what was done with it. All times of an aligned slice are in the same windows; what
// sessions took is looked at by time, not by slice.
func (f *folding) same(m *member, def int, t event.Time, taken bool) bool {
	a, b := &f.lead.p.Windows[def], &m.p.Windows[def]
	if taken && b.Kind == window.KindSession {
		return true
	}
	return b.Accepts(t, m.chunk.Fence) == taken && a.Refused(t, f.chunk.Fence) == b.Refused(t, m.chunk.Fence)
}

func sameButName(a, b window.Definition) bool {
	a.Name = b.Name
	return a == b
}
