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

// BenchmarkAssign has records in order, 1 ms apart, and in a disorder that changes the slice often.
func BenchmarkAssign(b *testing.B) {
	for _, d := range benchDefinitions() {
		for _, jitter := range []struct {
			name string
			step event.Span
		}{{"ordered", 0}, {"disordered", 7919}} {
			b.Run(d.Name+"/"+jitter.name, func(b *testing.B) {
				b.ReportAllocs()
				a := NewAssigner(&d)
				var sum, at event.Time
				var back event.Span
				for b.Loop() {
					start, _ := a.Assign(base+at-event.Time(back), base)
					sum += start
					at++
					if back += jitter.step; back > 100_000 {
						back -= 100_000
					}
				}
				noAllocs(b, func() { start, _ := a.Assign(base+at, base); sum += start })
			})
		}
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

func BenchmarkReach(b *testing.B) {
	b.ReportAllocs()
	apart := make([]Fragment, 64)
	for i := range apart {
		apart[i] = Fragment{event.Time(i * 1000), event.Time(i*1000 + 100)}
	}
	at, sum := event.Time(0), 0
	for b.Loop() {
		i, j := Reach(apart, Fragment{at, at}, 300)
		sum += i + j
		if at += 777; at > 64_000 {
			at = 0
		}
	}
	noAllocs(b, func() { i, _ := Reach(apart, Fragment{at, at}, 300); sum += i })
}
