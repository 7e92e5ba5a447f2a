package aggregate

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// latencies are lognormal values of two decimals.
func latencies(n int) []float64 {
	r := rand.New(rand.NewPCG(1, 2))
	out := make([]float64, n)
	for i := range out {
		out[i] = math.Round(math.Exp(5+0.6*r.NormFloat64())*100) / 100
	}
	return out
}

func BenchmarkAdd(b *testing.B) {
	values := latencies(1 << 16)
	for _, c := range []struct {
		name  string
		names []string
		group int // values until the row is reset
	}{
		{"count", []string{"count"}, 1000},
		{"sum", []string{"sum"}, 1000},
		{"count-sum-min-max", []string{"count", "sum", "min", "max"}, 1000},
		{"all-but-percentiles", plain(), 1000},
		{"all/group=8", every(), 8},
		{"all/group=1000", every(), 1000},
		{"all/group=100000", every(), 100_000},
	} {
		b.Run(c.name, func(b *testing.B) {
			cc := composite(b, c.names...)
			r := rowOf(cc)
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				cc.Add(r, 0, values[n&(1<<16-1)])
				if n++; n == c.group {
					cc.Reset(r)
					n = 0
				}
			}
		})
	}
}

// One delta of a group: its values into a row, and the row into bytes.
func BenchmarkStoreDelta(b *testing.B) {
	values := latencies(5)
	c := composite(b, every()...)
	r := rowOf(c)
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		c.Reset(r)
		for _, v := range values {
			c.AddRecord(r)
			c.Add(r, 0, v)
		}
		buf = c.AppendBinary(buf[:0], r)
	}
}

// Firing a group: deltas into one row, and the results; per value.
func BenchmarkFire(b *testing.B) {
	for _, s := range []struct{ deltas, size int }{{10, 5}, {200, 5}, {1000, 100}, {50, 2000}, {240, 2000}} {
		b.Run(fmt.Sprintf("deltas=%d/size=%d", s.deltas, s.size), func(b *testing.B) {
			c := composite(b, every()...)
			values := latencies(s.deltas * s.size)
			var deltas [][]byte
			for i := range s.deltas {
				deltas = append(deltas, c.AppendBinary(nil, rowOf(c, values[i*s.size:(i+1)*s.size]...)))
			}
			r := rowOf(c)
			var out []byte
			b.ReportAllocs()
			for b.Loop() {
				c.Reset(r)
				for _, d := range deltas {
					if _, err := c.MergeBinary(r, d); err != nil {
						b.Fatal(err)
					}
				}
				out = c.AppendResults(out[:0], r)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(values)), "ns/value")
		})
	}
}

func BenchmarkMerge(b *testing.B) {
	for _, names := range [][]string{plain(), every()} {
		b.Run(fmt.Sprintf("functions=%d", len(names)), func(b *testing.B) {
			c := composite(b, names...)
			src, dst := rowOf(c, latencies(8)...), rowOf(c)
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				if n%100 == 0 {
					c.Reset(dst)
				}
				c.Merge(dst, src)
			}
		})
	}
}

func BenchmarkSkip(b *testing.B) {
	c := composite(b, every()...)
	for _, n := range []int{5, 100_000} {
		stored := c.AppendBinary(nil, rowOf(c, latencies(n)...))
		b.Run(fmt.Sprintf("values=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Skip(stored); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppendResults(b *testing.B) {
	c := composite(b, every()...)
	for _, n := range []int{8, 1000, 100_000} {
		r := rowOf(c, latencies(n)...)
		var out []byte
		b.Run(fmt.Sprintf("values=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				out = c.AppendResults(out[:0], r)
			}
		})
	}
}

// Adding to, storing, merging and asking a row that has been used before does not allocate.
func TestTheHotPathDoesNotAllocate(t *testing.T) {
	values := latencies(exactMost)
	for _, names := range [][]string{plain(), every()} {
		c := composite(t, names...)
		r, dst := &Row{}, &Row{}
		var stored, out []byte
		run := func() {
			c.Reset(r)
			c.Reset(dst)
			for _, v := range values {
				c.AddRecord(r)
				c.Add(r, 0, v)
			}
			stored = c.AppendBinary(stored[:0], r)
			if _, err := c.MergeBinary(dst, stored); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Skip(stored); err != nil {
				t.Fatal(err)
			}
			out = c.AppendResults(out[:0], dst)
			c.Reset(dst)
			c.Merge(dst, r)
		}
		run()
		if n := testing.AllocsPerRun(20, run); n != 0 {
			t.Errorf("%d functions: %v allocations, want 0", len(names), n)
		}
	}
}
