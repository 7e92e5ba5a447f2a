package window

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/tests/seed"
)

func TestWindowsOfATime(t *testing.T) {
	tumbling := Definition{Kind: KindTumbling, Size: 10}
	for _, c := range []struct {
		name string
		d    Definition
		t    event.Time
		want []Window
	}{
		{"the start belongs to the window", tumbling, 0, []Window{{0, 10}}},
		{"the end belongs to the next window", tumbling, 10, []Window{{10, 20}}},
		{"before 1970 the start is rounded down", tumbling, -1, []Window{{-10, 0}}},
		{"a negative offset", Definition{Kind: KindTumbling, Size: 7, Offset: -2}, -2, []Window{{-2, 5}}},
		{"an end past int64 saturates", tumbling, event.MaxTime - 1, []Window{{event.MaxTime - 7, event.MaxTime}}},
		{"a start before int64 saturates", tumbling, event.MinTime + 1, []Window{{event.MinTime, event.MinTime + 8}}},
		{"slides that do not divide the size", Definition{Kind: KindSliding, Size: 7, Slide: 5}, 1, []Window{{-5, 2}, {0, 7}}},
		{"fewer windows later in the slide", Definition{Kind: KindSliding, Size: 7, Slide: 5}, 2, []Window{{0, 7}}},
		{"a slide above the size leaves a hole", Definition{Kind: KindSliding, Size: 3, Slide: 5, AllowGaps: true}, 3, nil},
		{"and windows around it", Definition{Kind: KindSliding, Size: 3, Slide: 5, AllowGaps: true}, 5, []Window{{5, 8}}},
		{"cumulate windows share their start", Definition{Kind: KindCumulate, Size: 30, Step: 10}, 12, []Window{{0, 20}, {0, 30}}},
		{"cumulate windows before 1970", Definition{Kind: KindCumulate, Size: 30, Step: 10, Offset: 5}, -1, []Window{{-25, 5}}},
		{"the global window", Definition{Kind: KindGlobal}, 7, []Window{{event.MinTime, event.MaxTime}}},
		{"a session is cut at multiples of its maximum", Definition{Kind: KindSession, Gap: 10, Max: 25}, 20, []Window{{20, 25}}},
		{"and begins anew there", Definition{Kind: KindSession, Gap: 10, Max: 25}, 25, []Window{{25, 35}}},
		{"a session record's own window", Definition{Kind: KindSession, Gap: 5}, -2, []Window{{-2, 3}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := c.d.Validate(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, c.d.Windows(nil, c.t)); diff != "" {
				t.Errorf("windows of %d (-want +got):\n%s", c.t, diff)
			}
		})
	}
}

func TestWindowsEqualBruteForce(t *testing.T) {
	r := seed.Rand(t)
	for range 20_000 {
		d, at := randomDefinition(r), randomTime(r)
		if diff := cmp.Diff(bruteWindows(&d, at), d.Windows(nil, at)); diff != "" {
			t.Fatalf("%+v: windows of %d (-want +got):\n%s", d, int64(at), diff)
		}
	}
}

func TestLatenessIsJudgedByTheWindowsEnds(t *testing.T) {
	r := seed.Rand(t)
	for range 20_000 {
		d, at := randomDefinition(r), randomTime(r)
		fence := at.Add(event.Span(r.Int64N(4*int64(d.Size+d.Lateness)) - int64(d.Size)))
		if r.IntN(10) == 0 {
			fence = []event.Time{event.MinTime, event.MaxTime}[r.IntN(2)]
		}
		ws, refused := bruteWindows(&d, at), 0
		for _, w := range ws {
			if w.End.Add(d.Lateness) <= fence {
				refused++
			}
		}
		if got := d.Refused(at, fence); got != refused {
			t.Fatalf("%+v: Refused(%d, %d) = %d, want %d of %d", d, int64(at), int64(fence), got, refused, len(ws))
		}
		if len(ws) > 0 && d.Accepts(at, fence) != (refused < len(ws)) {
			t.Fatalf("%+v: Accepts(%d, %d) = %v, but %d of %d windows refuse", d, int64(at), int64(fence), refused == len(ws), refused, len(ws))
		}
	}
}

func TestASessionRecordIsJudgedByItsOwnTime(t *testing.T) {
	d := Definition{Kind: KindSession, Gap: 100, Lateness: 10}
	for _, c := range []struct {
		t, fence event.Time
		want     bool
	}{
		{50, 60, true},  // 50 + 10 is not below the fence
		{49, 60, false}, // 1 ms too late, although its own window [49, 149) is open
		{-5, event.MinTime, true},
		{event.MaxTime - 1, event.MaxTime, true},
	} {
		if got := d.Accepts(c.t, c.fence); got != c.want {
			t.Errorf("Accepts(%d, %d) = %v, want %v", c.t, c.fence, got, c.want)
		}
		want := 1
		if c.want {
			want = 0
		}
		if got := d.Refused(c.t, c.fence); got != want {
			t.Errorf("Refused(%d, %d) = %d, want %d", c.t, c.fence, got, want)
		}
	}
}

func TestValidateNamesEveryProblem(t *testing.T) {
	for _, c := range []struct {
		name string
		d    Definition
		want []string
	}{
		{"legal tumbling", Definition{Kind: KindTumbling, Size: 10, Offset: -9}, nil},
		{"legal session", Definition{Kind: KindSession, Gap: 1}, nil},
		{"fields of other kinds are not looked at", Definition{Kind: KindSession, Gap: 1, Size: -1, Slide: -1, Offset: 5}, nil},
		{"legal cumulate", Definition{Kind: KindCumulate, Size: 30, Step: 10, Offset: 29}, nil},
		{"a step that does not divide the size", Definition{Kind: KindCumulate, Size: 30, Step: 7}, []string{FieldStep}},
		{"10,001 steps", Definition{Kind: KindCumulate, Size: 10_001, Step: 1}, []string{FieldStep}},
		{"a cumulate offset of a whole size", Definition{Kind: KindCumulate, Size: 30, Step: 10, Offset: 30}, []string{FieldOffset}},
		{"legal session with a maximum and gaps of records", Definition{Kind: KindSession, Gap: 5, Max: 60, Offset: -59, GapField: "g", MaxGap: 5}, nil},
		{"a maximum below 0, its offset is not looked at", Definition{Kind: KindSession, Gap: 5, Max: -1}, []string{FieldMax}},
		{"an offset of a whole maximum", Definition{Kind: KindSession, Gap: 5, Max: 60, Offset: 60}, []string{FieldOffset}},
		{"a largest gap below the gap", Definition{Kind: KindSession, Gap: 5, GapField: "g", MaxGap: 4}, []string{FieldMaxGap}},
		{"global", Definition{Kind: KindGlobal}, nil},
		{"no kind", Definition{Size: 10}, []string{FieldKind}},
		{"size 0", Definition{Kind: KindTumbling}, []string{FieldSize}},
		{"size beyond 100 years", Definition{Kind: KindTumbling, Size: MaxSpan + 1}, []string{FieldSize}},
		{"an offset of a whole size", Definition{Kind: KindTumbling, Size: 10, Offset: 10}, []string{FieldOffset}},
		{"an offset of minus a whole size", Definition{Kind: KindTumbling, Size: 10, Offset: -10}, []string{FieldOffset}},
		{"an offset between slide and size", Definition{Kind: KindSliding, Size: 20, Slide: 10, Offset: 11}, []string{FieldOffset}},
		{"slide 0", Definition{Kind: KindSliding, Size: 10}, []string{FieldSlide}},
		{"slide above size", Definition{Kind: KindSliding, Size: 10, Slide: 11}, []string{FieldSlideAboveSize}},
		{"slide above size, asked for", Definition{Kind: KindSliding, Size: 10, Slide: 11, AllowGaps: true}, nil},
		{"10,000 slices", Definition{Kind: KindSliding, Size: 10_000, Slide: 1}, nil},
		{"10,001 slices", Definition{Kind: KindSliding, Size: 10_001, Slide: 1}, []string{FieldSlide}},
		{"10,001 slices, two a slide", Definition{Kind: KindSliding, Size: 10_001, Slide: 2}, []string{FieldSlide}},
		{"gap 0", Definition{Kind: KindSession}, []string{FieldGap}},
		{"negative lateness", Definition{Kind: KindSession, Gap: 1, Lateness: -1}, []string{FieldLateness}},
		{"all at once", Definition{Kind: KindSliding, Size: -1, Slide: 5, Offset: 5, Lateness: MaxSpan + 1}, []string{FieldSize, FieldOffset, FieldLateness}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, p := range c.d.Problems() {
				got = append(got, p.Field)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("fields (-want +got):\n%s", diff)
			}
			if err := c.d.Validate(); (err != nil) != (len(c.want) > 0) {
				t.Errorf("Validate() = %v", err)
			}
		})
	}
}

func TestWindowIdentity(t *testing.T) {
	w := Window{Start: -60000, End: 0}
	if got := string(w.AppendID(nil)); got != "-60000ms_0ms" {
		t.Errorf("AppendID = %q", got)
	}
	if w.Length() != 60000 || !w.Contains(-60000) || w.Contains(0) {
		t.Errorf("%v: length %d, contains start %v, contains end %v", w, w.Length(), w.Contains(w.Start), w.Contains(w.End))
	}
	if got := w.String(); got != "[1969-12-31T23:59:00Z, 1970-01-01T00:00:00Z)" {
		t.Errorf("String = %q", got)
	}
}

func TestHotPathDoesNotAllocate(t *testing.T) {
	for _, d := range benchDefinitions() {
		at, fence := base, base-1000
		ws := make([]Window, 0, 16)
		if n := testing.AllocsPerRun(200, func() {
			at += 7919
			s, _ := d.Slice(at)
			if d.LastEnd(s) < d.FirstEnd(s) || !d.Accepts(at, fence) || d.Refused(at, fence) == 99 {
				t.Errorf("%s: wrong about %d", d.Name, at)
			}
			ws = d.Closing(d.Windows(ws[:0], at)[:0], s, at, at+60_000)
		}); n != 0 {
			t.Errorf("%s: %v allocations, want 0", d.Name, n)
		}
	}
}
