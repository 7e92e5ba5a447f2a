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
