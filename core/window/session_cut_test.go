package window

import (
	"slices"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/tests/seed"
)

// ownWindows are the windows of records, each by itself, merged where they overlap inside of one cell of the grid: the definition
// of sessions with a maximum and with gaps of the records' own.
func ownWindows(d *Definition, records []Window) []Window {
	slices.SortFunc(records, func(a, b Window) int { return int(a.Start - b.Start) })
	var out []Window
	for _, w := range records {
		if n := len(out) - 1; n >= 0 && w.Start < out[n].End && (d.Max == 0 || w.Start.Floor(d.Max, d.Offset) == out[n].Start.Floor(d.Max, d.Offset)) {
			out[n].End = max(out[n].End, w.End)
			continue
		}
		out = append(out, w)
	}
	return out
}

func TestSessionsAreTheOverlapsOfTheirRecordsOwnWindows(t *testing.T) {
	r := seed.Rand(t)
	for range 3000 {
		d := Definition{Kind: KindSession, Gap: event.Span(1 + r.IntN(20))}
		if r.IntN(2) == 0 {
			d.Max = event.Span(1 + r.IntN(60))
			d.Offset = event.Span(r.Int64N(2*int64(d.Max)-1)) - d.Max + 1
		}
		if r.IntN(2) == 0 {
			d.GapField, d.MaxGap = "gap", d.Gap+event.Span(r.IntN(20))
		}
		if err := d.Validate(); err != nil {
			t.Fatal(err)
		}
		var own []Window
		var pieces []Fragment
		for _, at := range randomTimes(r) {
			gap := d.Gap
			if d.GapField != "" {
				gap = min(event.Span(1+r.IntN(50)), d.MaxGap)
			}
			w := Window{Start: at, End: at.Add(gap)}
			if d.Max > 0 {
				w.End = min(w.End, at.Floor(d.Max, d.Offset).Add(d.Max))
			}
			own, pieces = append(own, w), append(pieces, d.Piece(at, gap))
			if s, _ := d.Slice(at); w.End < d.FirstEnd(s) || w.End > d.LatestEnd(s, event.MaxTime) {
				t.Fatalf("%+v: the window %v of a record is not between %d and %d, which its bucket allows", d, w, d.FirstEnd(s), d.LatestEnd(s, event.MaxTime))
			}
		}
		slices.SortFunc(pieces, func(a, b Fragment) int { return int(a.First - b.First) })
		var got []Window
		for i := 0; i < len(pieces); {
			whole, j := pieces[i], i+1
			for ; j < len(pieces) && d.OneSession(whole, pieces[j]); j++ {
				whole = whole.Merge(pieces[j])
			}
			got, i = append(got, d.SessionWindow(whole)), j
		}
		if want := ownWindows(&d, own); !slices.Equal(got, want) {
			t.Fatalf("%+v: sessions %v, want %v", d, got, want)
		}
		for _, w := range got {
			if d.Max > 0 && w.Length() > d.Max {
				t.Fatalf("%+v: session %v is longer than its maximum", d, w)
			}
		}
	}
}
