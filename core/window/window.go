// Package window assigns event times to windows: half-open intervals of event time, tumbling, sliding, cumulate, session or
// global. It also cuts event time into slices, the intervals between neighbouring window edges that overlapping windows share, so that a
// record is stored once however many windows it is in.
//
// Event times are MinTime < t < MaxTime. Windows and slices that would reach beyond what a Time can hold end there: all
// arithmetic saturates.
package window

import (
	"fmt"
	"strconv"

	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// Window is the half-open interval [Start, End) of event time.
type Window struct{ Start, End event.Time }

// Contains reports whether t is in the window.
func (w Window) Contains(t event.Time) bool { return w.Start <= t && t < w.End }

// Length returns End - Start, saturating.
func (w Window) Length() event.Span { return w.End.Sub(w.Start) }

// AppendID appends the window's identity within its definition, "STARTms_ENDms".
func (w Window) AppendID(dst []byte) []byte {
	dst = strconv.AppendInt(dst, int64(w.Start), 10)
	dst = append(dst, "ms_"...)
	dst = strconv.AppendInt(dst, int64(w.End), 10)
	return append(dst, "ms"...)
}

// String formats the window as [start, end).
func (w Window) String() string { return "[" + w.Start.String() + ", " + w.End.String() + ")" }

// Kind is the kind of a window definition.
type Kind uint8

// The kinds.
const (
	KindTumbling Kind = iota + 1
	KindSliding
	KindSession
	KindCumulate
	KindGlobal
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
	case KindCumulate:
		return "cumulate"
	case KindGlobal:
		return "global"
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// Definition is one window definition of a pipeline. Validate says whether it is legal; the other methods expect a legal one.
type Definition struct {
	Name      string
	Kind      Kind
	Size      event.Span // tumbling, sliding; cumulate: of the longest window
	Slide     event.Span // sliding
	Step      event.Span // cumulate: windows of one start end every Step, up to Size, which Step divides
	Offset    event.Span // shifts all edges; |Offset| < Size (tumbling, cumulate), < Slide (sliding), < Max (session)
	Gap       event.Span // session: two records are in one session iff they are less than Gap apart
	Max       event.Span // session: 0, or sessions are cut at multiples of Max, so that none is longer
	GapField  string     // session: dotted path of a record's own gap in ms; Gap is that of records without one
	MaxGap    event.Span // session with a GapField: a longer gap is taken as this
	Lateness  event.Span // how long after its end a window still takes records (allowed lateness), >= 0
	AllowGaps bool       // sliding: Slide > Size is legal, and event time between windows belongs to none
}
