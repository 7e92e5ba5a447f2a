// Package window assigns event times to windows: half-open intervals of event time, tumbling, sliding or session. It also
// cuts event time into slices, the intervals between neighbouring window edges that overlapping windows share, so that a
// record is stored once however many windows it is in.
package window

import (
	"fmt"

	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// Window is the half-open interval [Start, End) of event time.
type Window struct{ Start, End event.Time }

// Kind is the kind of a window definition.
type Kind uint8

// The kinds.
const (
	KindTumbling Kind = iota + 1
	KindSliding
	KindSession
)

// String returns the name used in specs and results.
func (k Kind) String() string {
	switch k {
	case KindTumbling:
		return "tumbling"
	case KindSliding:
		return "sliding"
	case KindSession:
		return "session"
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// Definition is one window definition of a pipeline. Validate says whether it is legal; the other methods expect a legal one.
type Definition struct {
	Name      string
	Kind      Kind
	Size      event.Span // tumbling, sliding
	Slide     event.Span // sliding
	Offset    event.Span // tumbling, sliding: shifts all edges; |Offset| < Size (tumbling) or < Slide (sliding)
	Gap       event.Span // session: two records are in one session iff they are less than Gap apart
	Lateness  event.Span // how long after its end a window still takes records (allowed lateness), >= 0
	AllowGaps bool       // sliding: Slide > Size is legal, and event time between windows belongs to none
}
