package window

import "github.com/llm-auto-optimizer/tidemark/core/event"

// Slice is the half-open interval [Start, End) of event time that is stored together: all its times are in the same windows.
// Slices of one definition do not overlap; Start is a slice's identity.
type Slice struct{ Start, End event.Time }

// Contains reports whether t is in the slice.
func (s Slice) Contains(t event.Time) bool { return s.Start <= t && t < s.End }

// minBucket is the least length of a session's bucket, so that short gaps do not make a store of tiny slices.
const minBucket event.Span = 1000

// bucket returns the length of a session definition's slices.
func (d *Definition) bucket() event.Span { return max(d.Gap, minBucket) }

// Slice returns the slice that holds t; false: t is in no window (AllowGaps). Tumbling: the window. Sliding: event time is
// cut at window starts and ends, which makes one slice a slide if the slide divides the size, else two. Cumulate: a step.
// Session: a bucket of event time of max(Gap, 1 s), which holds fragments of sessions. Global: all of event time.
func (d *Definition) Slice(t event.Time) (Slice, bool) {
	switch d.Kind {
	case KindSession:
		b := d.bucket()
		m := phase(t, b, 0)
		return Slice{Start: t.Add(-m), End: t.Add(b - m)}, true
	case KindGlobal:
		return Slice(wholeTime()), true
	case KindCumulate:
		m := phase(t, d.Size, d.Offset) % d.Step
		return Slice{Start: t.Add(-m), End: t.Add(d.Step - m)}, true
	case KindTumbling, KindSliding:
	}
	step := d.step()
	return cut(t, phase(t, step, d.Offset), step, d.rest(), d.Size)
}

// cut returns the slice, or the hole (false), around t, which is m behind a window start.
func cut(t event.Time, m, step, rest, size event.Span) (Slice, bool) {
	if m < rest {
		return Slice{Start: t.Add(-m), End: t.Add(rest - m)}, true
	}
	return Slice{Start: t.Add(rest - m), End: t.Add(step - m)}, m < size
}

// SameSlices reports whether both definitions cut all of event time at the same places and leave out the same holes, and, where they
// have sessions, put the same records into one.
func (d *Definition) SameSlices(o *Definition) bool {
	if d.aligned() && o.aligned() {
		step := d.step()
		return step == o.step() && d.rest() == o.rest() && (d.Slide > d.Size) == (o.Slide > o.Size) && phase(0, step, d.Offset%step) == phase(0, step, o.Offset%step)
	}
	return d.Kind == o.Kind && d.Gap == o.Gap && d.Max == o.Max && d.GapField == o.GapField && d.MaxGap == o.MaxGap && d.Offset == o.Offset
}

// aligned reports whether the definition's windows lie on a grid.
func (d *Definition) aligned() bool { return d.Kind != KindSession && d.Kind != KindGlobal }

// SliceAt returns the slice that begins at start, a Start that Slice has returned.
func (d *Definition) SliceAt(start event.Time) Slice {
	s, _ := d.Slice(start)
	return s
}

// FirstEnd returns the end of the first window that holds s: from a watermark of that on, s is part of an on-time pane. For
// a session definition no session with its last record in s ends earlier.
func (d *Definition) FirstEnd(s Slice) event.Time {
	switch d.Kind {
	case KindSession:
		if d.GapField != "" {
			return s.Start.Add(1)
		}
		return d.SessionWindow(Fragment{First: s.Start, Last: s.Start}).End
	case KindGlobal:
		return event.MaxTime
	case KindTumbling, KindSliding, KindCumulate:
	}
	return s.Start.Add(d.grid(s.Start).first)
}

// LastEnd returns the end of the last window that holds s: s can be purged iff LastEnd + Lateness <= W. A session may go on
// for ever, so for a session definition it is MaxTime: what is final there is decided by the merged session.
func (d *Definition) LastEnd(s Slice) event.Time {
	if d.Kind == KindSession || d.Kind == KindGlobal {
		return event.MaxTime
	}
	return s.Start.Add(d.Size - phase(s.Start, d.period(), d.Offset))
}

// WindowsOf appends the windows that hold s, ascending by start. A session's windows come from its fragments, not from
// slices: for a session definition nothing is appended.
func (d *Definition) WindowsOf(dst []Window, s Slice) []Window {
	if d.Kind == KindSession {
		return dst
	}
	return d.Windows(dst, s.Start)
}

// Closing appends the windows that hold s and have after < End <= upTo, ascending; nothing for a session definition. Its cost
// is that of the windows appended, not of all that hold s.
func (d *Definition) Closing(dst []Window, s Slice, after, upTo event.Time) []Window {
	switch d.Kind {
	case KindSession:
		return dst
	case KindGlobal:
		if after < event.MaxTime && upTo == event.MaxTime {
			dst = append(dst, wholeTime())
		}
		return dst
	case KindTumbling, KindSliding, KindCumulate:
	}
	g := d.grid(s.Start)
	if past := distance(s.Start, after); past >= g.first {
		if past >= g.last {
			return dst
		}
		g.first += ((past-g.first)/g.step + 1) * g.step
	}
	return d.appendWindows(dst, s.Start, g, min(g.last, distance(s.Start, upTo)))
}

// Slices appends the starts of the slices that partition w, a window of d, ascending: at most MaxSlices. A session's
// fragments are found by key, not by window: for a session definition nothing is appended.
func (d *Definition) Slices(dst []event.Time, w Window) []event.Time {
	if d.Kind == KindSession {
		return dst
	}
	for at := w.Start; ; {
		s := d.SliceAt(at)
		dst = append(dst, s.Start)
		if s.End >= w.End {
			return dst
		}
		at = s.End
	}
}

// slicesPerWindow returns the number of slices in each window of a sliding definition, in the longest of a cumulate one.
func (d *Definition) slicesPerWindow() int64 {
	switch r := d.rest(); {
	case d.Kind == KindCumulate:
		return int64(d.Size / d.Step)
	case d.Slide > d.Size:
		return 1
	case r == 0:
		return int64(d.Size / d.Slide)
	}
	return 2*int64(d.Size/d.Slide) + 1
}
