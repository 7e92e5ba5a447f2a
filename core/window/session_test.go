package window

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/tests/seed"
)

func TestFragmentsJoinBelowTheGap(t *testing.T) {
	const gap = 10
	for _, c := range []struct {
		name string
		a, b Fragment
		want bool
	}{
		{"less than the gap apart", Fragment{0, 5}, Fragment{14, 20}, true},
		{"exactly the gap apart", Fragment{0, 5}, Fragment{15, 20}, false},
		{"overlapping", Fragment{0, 30}, Fragment{20, 40}, true},
		{"one inside the other", Fragment{0, 30}, Fragment{5, 6}, true},
		{"the same record", Fragment{7, 7}, Fragment{7, 7}, true},
		{"at both ends of event time", Fragment{event.MinTime + 1, event.MinTime + 1}, Fragment{event.MaxTime - 1, event.MaxTime - 1}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Joins(c.a, c.b, gap); got != c.want {
				t.Errorf("Joins(a, b) = %v, want %v", got, c.want)
			}
			if got := Joins(c.b, c.a, gap); got != c.want {
				t.Errorf("Joins(b, a) = %v, want %v", got, c.want)
			}
		})
	}
}

func TestASessionEndsAGapAfterItsLastRecord(t *testing.T) {
	if got, want := (Fragment{3, 9}).Window(5), (Window{3, 14}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := (Fragment{3, event.MaxTime - 1}).Window(5); got.End != event.MaxTime {
		t.Errorf("end is %d, want it to saturate", got.End)
	}
}

func identity(f *Fragment) Fragment { return *f }

// sessions merges fragments in any order.
func sessions(fs []Fragment, gap event.Span) []Fragment {
	fs = slices.Clone(fs)
	slices.SortFunc(fs, func(a, b Fragment) int {
		if a.First < b.First {
			return -1
		}
		if a.First > b.First {
			return 1
		}
		return 0
	})
	var out []Fragment
	MergeFragments(fs, identity, gap, func(_, _ int, whole Fragment) { out = append(out, whole) })
	return out
}

// bruteSessions is the definition of a session: runs of sorted times with differences below the gap.
func bruteSessions(times []event.Time, gap event.Span) []Fragment {
	times = slices.Sorted(slices.Values(times))
	var out []Fragment
	for i, t := range times {
		if i == 0 || t.Sub(times[i-1]) >= gap {
			out = append(out, Fragment{t, t})
		}
		out[len(out)-1].Last = t
	}
	return out
}

func randomTimes(r *rand.Rand) []event.Time {
	times := make([]event.Time, 1+r.IntN(40))
	for i := range times {
		times[i] = event.Time(r.IntN(400) - 200)
	}
	return times
}

// However records are divided into batches, and in whatever order the batches' fragments come, the sessions are the same.
func TestMergingFragmentsIsOrderIndependent(t *testing.T) {
	r := seed.Rand(t)
	for range 3000 {
		times, gap := randomTimes(r), event.Span(1+r.IntN(20))
		want := bruteSessions(times, gap)
		var pieces []Fragment
		for rest := times; len(rest) > 0; {
			n := 1 + r.IntN(len(rest))
			pieces = append(pieces, bruteSessions(rest[:n], gap)...)
			rest = rest[n:]
		}
		r.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
		if diff := cmp.Diff(want, sessions(pieces, gap)); diff != "" {
			t.Fatalf("gap %d, times %v, pieces %v (-want +got):\n%s", gap, times, pieces, diff)
		}
		n := r.IntN(len(pieces) + 1)
		inTwoSteps := append(sessions(pieces[:n], gap), sessions(pieces[n:], gap)...)
		if diff := cmp.Diff(want, sessions(inTwoSteps, gap)); diff != "" {
			t.Fatalf("gap %d, pieces %v merged in two steps (-want +got):\n%s", gap, pieces, diff)
		}
	}
}

func TestMergeFragmentsCoversEveryPieceOnce(t *testing.T) {
	pieces := []Fragment{{0, 100}, {10, 20}, {105, 105}, {115, 120}, {115, 115}, {131, 131}}
	type run struct {
		I, J  int
		Whole Fragment
	}
	var got []run
	MergeFragments(pieces, identity, 10, func(i, j int, whole Fragment) { got = append(got, run{i, j, whole}) })
	want := []run{{0, 3, Fragment{0, 105}}, {3, 5, Fragment{115, 120}}, {5, 6, Fragment{131, 131}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("runs (-want +got):\n%s", diff)
	}
	MergeFragments(nil, identity, 10, func(i, j int, _ Fragment) { t.Errorf("called with [%d:%d] for no pieces", i, j) })
}
