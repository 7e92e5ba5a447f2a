package aggregate

import (
	"math"
	"slices"
	"testing"
)

func TestSortFloatsSorts(t *testing.T) {
	r := seeded(t)
	for _, s := range shapes(r) {
		for _, n := range []int{0, 1, radixFrom - 1, radixFrom, 1000, batchSize - 1, batchSize, batchSize + 1} {
			values := make([]float64, n)
			for i := range values {
				values[i] = s.next(i)
			}
			want := slices.Sorted(slices.Values(values))
			if sortFloats(values); !slices.Equal(values, want) {
				t.Fatalf("%d values, %s: not sorted", n, s.name)
			}
		}
	}
	edges := []float64{0, -5e-324, 5e-324, math.MaxFloat64, -math.MaxFloat64, 1, -1, math.Nextafter(1, 2), -1e-300}
	values := slices.Repeat(edges, 100)
	want := slices.Sorted(slices.Values(values))
	if sortFloats(values); !slices.Equal(values, want) {
		t.Error("the edges of the range are not sorted")
	}
}

func BenchmarkSort(b *testing.B) {
	values := latencies(batchSize)
	for _, n := range []int{64, radixFrom, 1000, batchSize} {
		for _, f := range []struct {
			name string
			sort func([]float64)
		}{{"radix", sortFloats}, {"compare", slices.Sort[[]float64]}} {
			b.Run(f.name, func(b *testing.B) {
				buf := make([]float64, n)
				for b.Loop() {
					copy(buf, values)
					f.sort(buf)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/value")
			})
		}
	}
}
