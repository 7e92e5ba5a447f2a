package window

import "github.com/llm-auto-optimizer/tidemark/core/event"

// Fragment is a piece of a session of one key: a run of records from First to Last, both inclusive, each less than the gap
// after the one before. First <= Last.
type Fragment struct{ First, Last event.Time }

// Window returns the session that consists of f alone: [First, Last+gap).
func (f Fragment) Window(gap event.Span) Window {
	return Window{Start: f.First, End: f.Last.Add(gap)}
}

// Joins reports whether a and b are pieces of one session: they overlap, or the later begins less than gap after the other's
// end. Sessions that are exactly gap apart stay apart. It is symmetric.
func Joins(a, b Fragment, gap event.Span) bool {
	if b.First < a.First {
		a, b = b, a
	}
	return b.First.Sub(a.Last) < gap
}

// Piece returns the fragment that a record at t is by itself. Where records have gaps of their own, gap is this record's, and the
// fragment reaches to the last millisecond before it has passed: pieces are of one session iff they overlap. Else it is t alone.
func (d *Definition) Piece(t event.Time, gap event.Span) Fragment {
	if d.GapField == "" {
		return Fragment{First: t, Last: t}
	}
	return Fragment{First: t, Last: min(t.Add(min(max(gap, 1), d.MaxGap)), d.cellEnd(t)).Add(-1)}
}

// between is the gap of fragments as Piece makes them.
func (d *Definition) between() event.Span {
	if d.GapField != "" {
		return 1
	}
	return d.Gap
}

// cellEnd returns the next multiple of Max, at which every session that holds t ends; MaxTime where there is no Max. The grid is
// absolute: cut at a distance from its first record, what a session holds would depend on the order of records.
func (d *Definition) cellEnd(t event.Time) event.Time {
	if d.Max == 0 {
		return event.MaxTime
	}
	return t.Add(d.Max - phase(t, d.Max, d.Offset))
}

// OneSession reports whether a and b are pieces of one session of d.
func (d *Definition) OneSession(a, b Fragment) bool {
	return Joins(a, b, d.between()) && (d.Max == 0 || d.cellEnd(a.First) == d.cellEnd(b.First))
}

// SessionWindow returns the window of the session that consists of f alone: to a gap after its last record, or to where it is cut.
func (d *Definition) SessionWindow(f Fragment) Window {
	w := f.Window(d.between())
	w.End = min(w.End, d.cellEnd(f.First))
	return w
}

// LatestEnd returns a time that no session ends after which has its last record in s, and none after t.
func (d *Definition) LatestEnd(s Slice, t event.Time) event.Time {
	t = min(s.End.Add(-1), t)
	return min(t.Add(max(d.Gap, d.MaxGap)), d.cellEnd(t))
}

// Merge returns the least fragment that covers a and b. It is commutative and associative.
func (f Fragment) Merge(o Fragment) Fragment {
	return Fragment{First: min(f.First, o.First), Last: max(f.Last, o.Last)}
}

// MergeFragments groups sorted, which must ascend by First, into sessions: it calls f once a session, ascending, with the
// range sorted[i:j] of its pieces and what they cover. The sessions are the same for every order of equal First, and for
// every way in which a session's records were divided into pieces.
func MergeFragments[T any](sorted []T, of func(*T) Fragment, gap event.Span, f func(i, j int, whole Fragment)) {
	for i := 0; i < len(sorted); {
		whole := of(&sorted[i])
		j := i + 1
		for ; j < len(sorted); j++ {
			next := of(&sorted[j])
			if !Joins(whole, next, gap) {
				break
			}
			whole = whole.Merge(next)
		}
		f(i, j, whole)
		i = j
	}
}
