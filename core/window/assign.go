package window

import (
	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/faults"
)

// step returns the distance between neighbouring window starts of a tumbling or sliding definition, 0 for a session.
func (d *Definition) step() event.Span {
	switch d.Kind {
	case KindTumbling:
		return d.Size
	case KindSliding:
		return d.Slide
	case KindSession:
		return 0
	}
	return 0
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
// overflows at the ends of event time: windows are [t+e-size, t+e) for e = first, first+step, ... last.
type grid struct {
	step, phase, rest event.Span
	first, last       event.Span // distances to the ends of the first and the last window that contain t; first > last: none
}

func (d *Definition) grid(t event.Time) grid {
	g := grid{step: d.step(), rest: d.rest()}
	g.phase = phase(t, g.step, d.Offset)
	g.first = g.rest - g.phase
	if g.first <= 0 {
		g.first += g.step
	}
	g.last = d.Size - g.phase
	return g
}

// Windows appends the windows that contain t, ascending by start, and returns the extended slice. A session definition has
// one: the record's own [t, t+Gap), before any merge. None: t is in a hole (AllowGaps).
func (d *Definition) Windows(dst []Window, t event.Time) []Window {
	if d.Kind == KindSession {
		return append(dst, Window{Start: t, End: t.Add(d.Gap)})
	}
	g := d.grid(t)
	return d.appendWindows(dst, t, g.first, g.last)
}

// appendWindows appends the windows whose ends are first, first+step, ... last after t.
func (d *Definition) appendWindows(dst []Window, t event.Time, first, last event.Span) []Window {
	step := d.step()
	for e := first; e <= last; e += step {
		dst = append(dst, Window{Start: t.Add(e - d.Size), End: t.Add(e)})
	}
	return dst
}

// Accepts reports whether t is not too late for d under the fence (MinTime: everything is accepted). Tumbling and sliding:
// the last window that contains t has End + Lateness > fence. Session: t + Lateness >= fence, whatever session t would join.
// A t in a hole is not late but unassigned: Slice says so; here it is judged as if its hole belonged to
// the window before.
func (d *Definition) Accepts(t, fence event.Time) bool {
	if d.Kind == KindSession {
		if faults.Off(faults.SessionTime) {
			return t.Add(d.Gap).Add(d.Lateness) > fence
		}
		return t.Add(d.Lateness) >= fence
	}
	end := t.Add(d.Size - phase(t, d.step(), d.Offset))
	return end.Add(d.Lateness) > fence
}

// Refused returns how many of the windows that contain t no longer take it under the fence: End + Lateness <= fence. For a
// session it is 0 or 1.
func (d *Definition) Refused(t, fence event.Time) int {
	if d.Kind == KindSession {
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
