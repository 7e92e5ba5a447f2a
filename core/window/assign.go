package window

import (
	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/faults"
)

// period returns the distance between neighbouring window starts of an aligned definition, 0 for the others.
func (d *Definition) period() event.Span {
	switch d.Kind {
	case KindTumbling, KindCumulate:
		return d.Size
	case KindSliding:
		return d.Slide
	case KindSession, KindGlobal:
		return 0
	}
	return 0
}

// step returns the distance between neighbouring window ends around a time: that of the starts, but for a cumulate definition,
// whose windows share their start.
func (d *Definition) step() event.Span {
	if d.Kind == KindCumulate {
		return d.Step
	}
	return d.period()
}

// rest returns how far behind a window start the next window end is, 0 if ends fall on starts. It is the whole size where
// the slide is above the size: then the rest of the step is a hole.
func (d *Definition) rest() event.Span {
	switch {
	case d.Kind != KindSliding:
		return 0
	case d.Slide > d.Size:
		return d.Size
	}
	return d.Size % d.Slide
}

// phase returns the distance from the last window start at or before t to t, in [0, step). It needs |offset| < step, so
// that one division is enough.
func phase(t event.Time, step, offset event.Span) event.Span {
	m := event.Span(t)%step - offset // in (-2*step, 2*step)
	switch {
	case m >= step:
		m -= step
	case m < 0:
		m += step
		if m < 0 {
			m += step
		}
	}
	return m
}

// grid says where t lies among the edges of a tumbling or sliding definition. All distances are from t, so that nothing
// overflows at the ends of event time: windows are [t+e-size, t+e) for e = first, first+step, ... last; those of a cumulate
// definition are [t-phase, t+e).
type grid struct {
	step, phase event.Span
	first, last event.Span // distances to the ends of the first and the last window that contain t; first > last: none
}

func (d *Definition) grid(t event.Time) grid {
	g := grid{step: d.step(), phase: phase(t, d.period(), d.Offset)}
	if d.Kind == KindCumulate {
		g.first = g.step - g.phase%g.step
	} else if g.first = d.rest() - g.phase; g.first <= 0 {
		g.first += g.step
	}
	g.last = d.Size - g.phase
	return g
}

// Windows appends the windows that contain t, ascending by end, and returns the extended slice. A session definition has
// one: the record's own, before any merge, with the gap of records that have none of their own. None: t is in a hole (AllowGaps).
func (d *Definition) Windows(dst []Window, t event.Time) []Window {
	switch d.Kind {
	case KindSession:
		return append(dst, d.SessionWindow(d.Piece(t, d.Gap)))
	case KindGlobal:
		return append(dst, wholeTime())
	case KindTumbling, KindSliding, KindCumulate:
	}
	g := d.grid(t)
	return d.appendWindows(dst, t, g, g.last)
}

// wholeTime is the window of a global definition.
func wholeTime() Window { return Window{Start: event.MinTime, End: event.MaxTime} }

// appendWindows appends the windows around t whose ends are first, first+step, ... last after it.
func (d *Definition) appendWindows(dst []Window, t event.Time, g grid, last event.Span) []Window {
	for e := g.first; e <= last; e += g.step {
		length := d.Size
		if d.Kind == KindCumulate {
			length = g.phase + e
		}
		dst = append(dst, Window{Start: t.Add(e - length), End: t.Add(e)})
	}
	return dst
}

// Accepts reports whether t is not too late for d under the fence (MinTime: everything is accepted). Session: t + Lateness >=
// fence, whatever session t would join. All others: the last window that contains t has End + Lateness > fence. A t in a hole
// is not late but unassigned: Slice says so; here it is judged as if its hole belonged to the window before.
func (d *Definition) Accepts(t, fence event.Time) bool {
	switch d.Kind {
	case KindSession:
		if faults.Off(faults.SessionTime) {
			return t.Add(d.Gap).Add(d.Lateness) > fence
		}
		return t.Add(d.Lateness) >= fence
	case KindGlobal:
		return fence < event.MaxTime
	case KindTumbling, KindSliding, KindCumulate:
	}
	end := t.Add(d.Size - phase(t, d.period(), d.Offset))
	return end.Add(d.Lateness) > fence
}

// Refused returns how many of the windows that contain t no longer take it under the fence: End + Lateness <= fence. For a
// session, and for the global window, it is 0 or 1.
func (d *Definition) Refused(t, fence event.Time) int {
	if d.Kind == KindSession || d.Kind == KindGlobal {
		if d.Accepts(t, fence) {
			return 0
		}
		return 1
	}
	g := d.grid(t)
	past := min(distance(t, fence), MaxSpan*4) - d.Lateness // largest distance of an end that is refused
	return steps(g.first, min(g.last, past), g.step)
}

// distance returns u - t, with MaxTime infinitely far: an end that saturated there is not beyond it.
func distance(t, u event.Time) event.Span {
	if u == event.MaxTime {
		return event.Span(event.MaxTime)
	}
	return max(u.Sub(t), -MaxSpan*4)
}

// steps counts first, first+step, ... up to last.
func steps(first, last, step event.Span) int {
	if last < first {
		return 0
	}
	return int((last-first)/step) + 1
}
