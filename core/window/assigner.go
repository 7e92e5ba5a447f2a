package window

import (
	"fmt"

	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// Verdict says what a definition does with a record.
type Verdict uint8

// The verdicts.
const (
	Accepted   Verdict = iota + 1 // the record belongs into its slice
	TooLate                       // it has windows and all of them refuse it
	Unassigned                    // it is in no window
)

// String names the verdict.
func (v Verdict) String() string {
	switch v {
	case Accepted:
		return "accepted"
	case TooLate:
		return "too late"
	case Unassigned:
		return "unassigned"
	}
	return fmt.Sprintf("Verdict(%d)", uint8(v))
}

// Assigner assigns one record after another. It remembers the last slice, since most records fall into the slice of the one
// before: such a record costs comparisons, no division. It is not safe for concurrent use; a copy is independent.
type Assigner struct {
	def        Definition
	step, rest event.Span

	last     Slice // the slice, or hole, of the last record; empty before the first one
	hole     bool
	lastsTil event.Time // LastEnd + Lateness of last; not for sessions
}

// NewAssigner returns an Assigner for a legal definition.
func NewAssigner(d *Definition) Assigner {
	return Assigner{def: *d, step: d.step(), rest: d.rest()}
}

// Assign returns the start of the slice that holds t, and whether the definition takes a record of that time under the fence
// (MinTime: it takes everything). The start means nothing if the verdict is Unassigned.
func (a *Assigner) Assign(t, fence event.Time) (event.Time, Verdict) {
	if !a.last.Contains(t) {
		a.move(t)
	}
	switch {
	case a.hole:
		return a.last.Start, Unassigned
	case fence == event.MinTime:
		return a.last.Start, Accepted
	case a.def.Kind == KindSession:
		if t.Add(a.def.Lateness) < fence {
			return a.last.Start, TooLate
		}
	case a.lastsTil <= fence:
		return a.last.Start, TooLate
	}
	return a.last.Start, Accepted
}

func (a *Assigner) move(t event.Time) {
	if a.def.Kind == KindSession {
		a.last, _ = a.def.Slice(t)
		return
	}
	m := phase(t, a.step, a.def.Offset)
	s, ok := cut(t, m, a.step, a.rest, a.def.Size)
	a.last, a.hole = s, !ok
	a.lastsTil = t.Add(a.def.Size - m).Add(a.def.Lateness)
}
