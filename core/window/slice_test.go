package window

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/tests/seed"
)

func TestSlicesAreCutAtWindowEdges(t *testing.T) {
	for _, c := range []struct {
		name string
		d    Definition
		t    event.Time
		want Slice
		ok   bool
	}{
		{"tumbling: the window", Definition{Kind: KindTumbling, Size: 10, Offset: 3}, -8, Slice{-17, -7}, true},
		{"one slice a slide", Definition{Kind: KindSliding, Size: 60, Slide: 10}, 25, Slice{20, 30}, true},
		{"two slices a slide: from a start to an end", Definition{Kind: KindSliding, Size: 90, Slide: 40}, 9, Slice{0, 10}, true},
		{"two slices a slide: from an end to a start", Definition{Kind: KindSliding, Size: 90, Slide: 40}, 10, Slice{10, 40}, true},
		{"before 1970", Definition{Kind: KindSliding, Size: 90, Slide: 40, Offset: -39}, -40, Slice{-69, -39}, true},
		{"a window between holes", Definition{Kind: KindSliding, Size: 3, Slide: 5, AllowGaps: true}, -3, Slice{-5, -2}, true},
		{"a hole", Definition{Kind: KindSliding, Size: 3, Slide: 5, AllowGaps: true}, -1, Slice{-2, 0}, false},
		{"cumulate: a step", Definition{Kind: KindCumulate, Size: 30, Step: 10, Offset: 5}, -1, Slice{-5, 5}, true},
		{"global: all of event time", Definition{Kind: KindGlobal}, 3, Slice{event.MinTime, event.MaxTime}, true},
		{"session: a bucket of the gap", Definition{Kind: KindSession, Gap: 5000}, -1, Slice{-5000, 0}, true},
		{"session: a bucket of at least a second", Definition{Kind: KindSession, Gap: 1}, 1999, Slice{1000, 2000}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, ok := c.d.Slice(c.t)
			if got != c.want || ok != c.ok {
				t.Errorf("Slice(%d) = %v, %v; want %v, %v", c.t, got, ok, c.want, c.ok)
			}
		})
	}
}

// checkSlice checks every law that ties the slice of t to the windows of t.
func checkSlice(d *Definition, at event.Time) error {
	ws := d.Windows(nil, at)
	s, ok := d.Slice(at)
	if ok != (len(ws) > 0) {
		return fmt.Errorf("Slice says %v, but %d windows contain t", ok, len(ws))
	}
	if !s.Contains(at) {
		return fmt.Errorf("slice %v does not contain t", s)
	}
	if !ok {
		return nil
	}
	if d.SliceAt(s.Start) != s {
		return fmt.Errorf("SliceAt(%d) = %v, want %v", s.Start, d.SliceAt(s.Start), s)
	}
	if diff := cmp.Diff(ws, d.WindowsOf(nil, s)); diff != "" {
		return fmt.Errorf("windows of t and of its slice (-t +slice):\n%s", diff)
	}
	if got, want := d.FirstEnd(s), ws[0].End; got != want {
		return fmt.Errorf("FirstEnd = %d, want %d", got, want)
	}
	if got, want := d.LastEnd(s), ws[len(ws)-1].End; got != want {
		return fmt.Errorf("LastEnd = %d, want %d", got, want)
	}
	for _, w := range []Window{ws[0], ws[len(ws)-1]} {
		if err := checkPartition(d, w, s); err != nil {
			return err
		}
	}
	return nil
}

// checkPartition checks that the slices of w lie side by side, fill it exactly, and have s among them.
func checkPartition(d *Definition, w Window, s Slice) error {
	starts := d.Slices(nil, w)
	next, found := w.Start, false
	for _, start := range starts {
		if start != next {
			return fmt.Errorf("window %v: slices %v have a hole or overlap at %d", w, starts, next)
		}
		piece := d.SliceAt(start)
		next, found = piece.End, found || piece == s
	}
	if next != w.End || !found {
		return fmt.Errorf("window %v: slices %v end at %d, %v among them: %v", w, starts, next, s, found)
	}
	return nil
}

func TestSlicesPartitionWindows(t *testing.T) {
	r := seed.Rand(t)
	for range 10_000 {
		d, at := randomDefinition(r), randomTime(r)
		if err := checkSlice(&d, at); err != nil {
			t.Fatalf("%+v: t = %d: %v", d, int64(at), err)
		}
	}
}

func TestClosingEqualsFilteredWindows(t *testing.T) {
	r := seed.Rand(t)
	for range 20_000 {
		d, at := randomDefinition(r), randomTime(r)
		s, ok := d.Slice(at)
		if !ok {
			continue
		}
		after := at.Add(event.Span(r.Int64N(3*int64(d.Size)) - int64(d.Size)))
		upTo := at.Add(event.Span(r.Int64N(3*int64(d.Size)) - int64(d.Size)))
		switch r.IntN(8) {
		case 0:
			after = event.MinTime
		case 1:
			upTo = event.MaxTime
		case 2:
			after = event.MaxTime
		}
		var want []Window
		for _, w := range bruteWindows(&d, at) {
			if after < w.End && w.End <= upTo {
				want = append(want, w)
			}
		}
		if diff := cmp.Diff(want, d.Closing(nil, s, after, upTo)); diff != "" {
			t.Fatalf("%+v: Closing(%v, %d, %d) (-want +got):\n%s", d, s, int64(after), int64(upTo), diff)
		}
	}
}

func TestASessionHasNoWindowsOfSlices(t *testing.T) {
	d := Definition{Kind: KindSession, Gap: 5000}
	s, _ := d.Slice(12_345)
	if got := d.FirstEnd(s); got != 15_000 {
		t.Errorf("FirstEnd = %d, want the end of a session of one record at the bucket's start", got)
	}
	if got := d.LastEnd(s); got != event.MaxTime {
		t.Errorf("LastEnd = %d, want MaxTime", got)
	}
	ws := append(d.WindowsOf(nil, s), d.Closing(nil, s, event.MinTime, event.MaxTime)...)
	if starts := d.Slices(nil, Window{0, 20_000}); len(ws) > 0 || len(starts) > 0 {
		t.Errorf("got windows %v and slices %v, want none", ws, starts)
	}
}

func FuzzSlice(f *testing.F) {
	f.Add(int64(0), int64(10), int64(0), int64(0), false)
	f.Add(int64(-1), int64(90_000), int64(40_000), int64(-7), false)
	f.Add(int64(event.MaxTime-1), int64(7), int64(5), int64(3), false)
	f.Add(int64(event.MinTime+1), int64(3), int64(5), int64(-4), true)
	f.Add(int64(1_735_734_840_000), int64(MaxSpan), int64(MaxSpan-1), int64(0), false)
	f.Fuzz(func(t *testing.T, at, size, slide, offset int64, gaps bool) {
		d := Definition{Kind: KindSliding, Size: event.Span(size), Slide: event.Span(slide), Offset: event.Span(offset), AllowGaps: gaps}
		if slide == 0 {
			d.Kind = KindTumbling
		}
		when := event.Time(at)
		if d.Validate() != nil || when == event.MinTime || when == event.MaxTime {
			return
		}
		if err := checkSlice(&d, when); err != nil {
			t.Errorf("%+v: t = %d: %v", d, at, err)
		}
	})
}
