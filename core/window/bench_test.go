package window

import (
	"testing"

	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// base is a time of our years, so that the divisions are those of real records.
const base event.Time = 1_735_734_840_000

func benchDefinitions() []Definition {
	return []Definition{
		{Name: "tumbling-1m", Kind: KindTumbling, Size: 60_000},
		{Name: "sliding-10m-1m", Kind: KindSliding, Size: 600_000, Slide: 60_000},
		{Name: "sliding-90s-40s", Kind: KindSliding, Size: 90_000, Slide: 40_000},
		{Name: "cumulate-1h-5m", Kind: KindCumulate, Size: 3_600_000, Step: 300_000},
		{Name: "session-5m", Kind: KindSession, Gap: 300_000},
	}
}

func noAllocs(b *testing.B, f func()) {
	b.Helper()
	if n := testing.AllocsPerRun(100, f); n != 0 {
		b.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkSlice(b *testing.B) {
	for _, d := range benchDefinitions() {
		b.Run(d.Name, func(b *testing.B) {
			b.ReportAllocs()
			var sum event.Time
			at := base
			for b.Loop() {
				s, _ := d.Slice(at)
				sum += s.Start
				at += 7919
			}
			noAllocs(b, func() { s, _ := d.Slice(at); sum += s.Start })
		})
	}
}

func BenchmarkAccepts(b *testing.B) {
	for _, d := range benchDefinitions() {
		b.Run(d.Name, func(b *testing.B) {
			b.ReportAllocs()
			n, at := 0, base
			for b.Loop() {
				if d.Accepts(at, base) {
					n++
				}
				at += 7919
			}
			noAllocs(b, func() { d.Accepts(at, base) })
		})
	}
}

func BenchmarkWindows(b *testing.B) {
	for _, d := range benchDefinitions() {
		b.Run(d.Name, func(b *testing.B) {
			b.ReportAllocs()
			dst := make([]Window, 0, 16)
			at := base
			for b.Loop() {
				dst = d.Windows(dst[:0], at)
				at += 7919
			}
			noAllocs(b, func() { dst = d.Windows(dst[:0], at) })
		})
	}
}

func BenchmarkMergeFragments(b *testing.B) {
	b.ReportAllocs()
	sorted := make([]Fragment, 64)
	for i := range sorted {
		sorted[i] = Fragment{event.Time(i * 1000), event.Time(i*1000 + i%3*500)}
	}
	sessions := 0
	count := func(_, _ int, _ Fragment) { sessions++ }
	for b.Loop() {
		MergeFragments(sorted, identity, 600, count)
	}
	noAllocs(b, func() { MergeFragments(sorted, identity, 600, count) })
}
