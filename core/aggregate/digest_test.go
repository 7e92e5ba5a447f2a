package aggregate

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

type shape struct {
	name string
	next func(i int) float64
}

// shapes are distributions that digests find easy or hard.
func shapes(r *rand.Rand) []shape {
	return []shape{
		{"uniform", func(int) float64 { return r.Float64() }},
		{"normal", func(int) float64 { return r.NormFloat64() }},
		{"exponential", func(int) float64 { return r.ExpFloat64() * 50 }},
		{"lognormal", func(int) float64 { return math.Round(math.Exp(5+0.6*r.NormFloat64())*100) / 100 }},
		{"pareto", func(int) float64 { return math.Pow(1-r.Float64(), -3) }},
		{"epoch ms", func(int) float64 { return 1.7e12 + math.Floor(r.ExpFloat64()*60_000) }},
		{"ascending", func(i int) float64 { return float64(i) }},
		{"descending", func(i int) float64 { return -float64(i) }},
		{"sawtooth", func(i int) float64 { return float64(i % 1000) }},
		{"constant", func(int) float64 { return 0.1 }},
		{"five stars", func(int) float64 { return float64(1 + r.IntN(5)) }},
		{"mostly 0", func(int) float64 { return max(0, r.NormFloat64()-2) }},
		{"two humps", func(i int) float64 { return float64(i%2)*1e6 + r.NormFloat64() }},
		{"drifting", func(i int) float64 { return float64(i)/1000 + r.ExpFloat64() }},
		{"all sizes", func(int) float64 { return (r.Float64() - 0.5) * math.Exp2(float64(r.IntN(200)-100)) }},
		{"huge", func(i int) float64 { return math.Copysign(1.5e308+r.Float64()*1e307, float64(i%2)-0.5) }},
	}
}

// ranks are what tests ask for, with the rank error that is allowed: 1% by contract, far less toward the ends.
func ranks() map[string]float64 {
	return map[string]float64{"p0.1": 0.001, "p1": 0.002, "p5": 0.005, "p25": 0.01, "p50": 0.01, "p75": 0.01, "p90": 0.005, "p95": 0.004, "p99": 0.002, "p99.9": 0.001}
}

func checkRanks(t *testing.T, c *Composite, r *Row, values []float64) {
	t.Helper()
	sorted := slices.Sorted(slices.Values(values))
	for name, most := range ranks() {
		v := result(t, c, r, name)
		if e := rankError(sorted, v, functions(t, name)[0].P/100); e > most {
			t.Errorf("%s is %v: rank error %.5f, want at most %v", name, v, e, most)
		}
	}
	if lo, hi := result(t, c, r, "p0"), result(t, c, r, "p100"); lo != sorted[0] || hi != sorted[len(sorted)-1] {
		t.Errorf("p0 and p100 are %v and %v, want exactly %v and %v", lo, hi, sorted[0], sorted[len(sorted)-1])
	}
	if n := result(t, c, r, "count"); n != float64(len(values)) {
		t.Errorf("count is %v, want %d", n, len(values))
	}
	if a := &r.values[0]; a.digest.td != nil && float64(a.digest.td.Count()) != float64(a.folded) {
		t.Errorf("the digest holds %d of %d values", a.digest.td.Count(), a.folded)
	}
}

func TestRankErrorIsBounded(t *testing.T) {
	r := seeded(t)
	c := composite(t, every()...)
	for _, s := range shapes(r) {
		name, next := s.name, s.next
		for _, n := range []int{exactMost + 1, batchSize + 1, 60_000} {
			values := make([]float64, n)
			for i := range values {
				values[i] = next(i)
			}
			t.Run(name, func(t *testing.T) { checkRanks(t, c, reload(t, c, rowOf(c, values...)), values) })

			t.Run(name+" in 240 deltas", func(t *testing.T) {
				row := rowOf(c)
				for part := range slices.Chunk(values, n/240+1) {
					mergeBinary(t, c, row, c.AppendBinary(nil, rowOf(c, part...)))
				}
				checkRanks(t, c, row, values)
			})

			t.Run(name+" of 16 partitions with digests", func(t *testing.T) {
				parts := make([][]float64, 16)
				for i, v := range values {
					parts[i%16] = append(parts[i%16], v)
				}
				row := rowOf(c)
				for _, part := range parts {
					mergeBinary(t, c, row, c.AppendBinary(nil, rowOf(c, part...)))
				}
				checkRanks(t, c, row, values)
			})
		}
	}
}

// A row that is stored and loaded for every batch keeps its accuracy, also for times since 1970.
func TestAThousandRoundTrips(t *testing.T) {
	r := seeded(t)
	c := composite(t, every()...)
	for _, offset := range []float64{0, 1.7e12} {
		row := rowOf(c)
		var values []float64
		for range 1000 {
			row = reload(t, c, row)
			for range 100 {
				v := offset + r.ExpFloat64()*50
				values = append(values, v)
				c.Add(row, 0, v)
			}
		}
		checkRanks(t, c, row, values)
	}
}

// Merging digests into digests, again and again, as compaction does.
func TestRepeatedMergesOfDigests(t *testing.T) {
	r := seeded(t)
	c := composite(t, every()...)
	row := rowOf(c)
	var values []float64
	for range 100 {
		part := make([]float64, 1001+r.IntN(500))
		for i := range part {
			part[i] = math.Exp(5 + 0.6*r.NormFloat64())
		}
		values = append(values, part...)
		next := reload(t, c, row)
		c.Merge(next, reload(t, c, rowOf(c, part...)))
		row = next
	}
	checkRanks(t, c, row, values)
}

func TestPercentilesAreExactUpToAThousandValues(t *testing.T) {
	r := seeded(t)
	c := composite(t, every()...)
	for _, parts := range [][]int{{1000}, {999, 1}, {1, 999}, {500, 250, 250}, slices.Repeat([]int{4}, 250)} {
		row := rowOf(c)
		var values []float64
		for _, n := range parts {
			part := sample(r, n)
			values = append(values, part...)
			mergeBinary(t, c, row, c.AppendBinary(nil, rowOf(c, part...)))
		}
		row = reload(t, c, row)
		slices.Sort(values)
		for _, f := range functions(t, "p0", "p0.1", "p25", "p50", "p99", "p99.9", "p100") {
			if got, want := result(t, c, row, f.Name()), exactPercentile(values, f.P); got != want {
				t.Errorf("%v: %s is %v, want exactly %v", parts, f.Name(), got, want)
			}
		}
		if b := c.AppendBinary(nil, row); b[3] != blockRaw {
			t.Errorf("%v: a row of 1,000 values is not stored as its values", parts)
		}
		c.Add(row, 0, values[0])
		row = reload(t, c, row)
		if b := c.AppendBinary(nil, row); b[3]&blockDigest == 0 {
			t.Errorf("%v: a row of 1,001 values is not stored as a digest", parts)
		}
		checkRanks(t, c, row, append(values, values[0]))
	}
}

func TestExactPercentileIsR7(t *testing.T) {
	ten := []float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	for _, c := range []struct {
		values  []float64
		p, want float64
	}{
		{ten, 0, 1},
		{ten, 25, 3.25},
		{ten, 50, 5.5},
		{ten, 75, 7.75},
		{ten, 90, 9.1},
		{ten, 95, 9.55},
		{ten, 99, 9.91},
		{ten, 100, 10},
		{[]float64{10, 20, 30}, 95, 29},
		{[]float64{10, 20, 30}, 99, 29.8},
		{[]float64{15, 20, 35, 40, 50}, 40, 29},
		{[]float64{7}, 99.9, 7},
		{[]float64{-1, 1}, 50, 0},
		{[]float64{0.1, 0.1, 0.1}, 33.3, 0.1},
	} {
		if got := exactPercentile(c.values, c.p); got != c.want {
			t.Errorf("p%v of %v is %v, want %v", c.p, c.values, got, c.want)
		}
	}
}

func TestInterpolationStaysBetween(t *testing.T) {
	r := seeded(t)
	for range 100_000 {
		v := []float64{math.Float64frombits(r.Uint64()), math.Float64frombits(r.Uint64())}
		if r.IntN(2) == 0 {
			v[1] = v[0] * (1 + r.Float64())
		}
		if slices.Sort(v); !finite(v[0]) || !finite(v[1]) {
			continue
		}
		lo, hi, mid := interpolate(v[0], v[1], 0), interpolate(v[0], v[1], 1), interpolate(v[0], v[1], r.Float64())
		if lo != v[0] || hi != v[1] || !(mid >= lo && mid <= hi) {
			t.Fatalf("between %v and %v: %v at 0, %v at 1, %v on the way", v[0], v[1], lo, hi, mid)
		}
	}
}

// For every length and percentage that can be asked, the position is within the values.
func TestRankStaysWithinTheValues(t *testing.T) {
	r := seeded(t)
	for range 200_000 {
		n := 1 + r.Int64N(1+int64(math.Exp2(float64(r.IntN(53)))))
		p := math.Round(r.Float64()*1e8) / 1e6
		whole, fraction := rankOf(p, n)
		if at := p / 100 * float64(n-1); whole < 0 || whole > n-1 || fraction < 0 || fraction >= 1 ||
			math.Abs(float64(whole)+fraction-at) > 1e-12*at+1e-12 {
			t.Fatalf("p%v of %d values: position %d + %v, want %v", p, n, whole, fraction, at)
		}
	}
}

func TestPercentilesDoNotDecrease(t *testing.T) {
	r := seeded(t)
	for _, s := range shapes(r) {
		name, next := s.name, s.next
		var fs []Function
		for p := range 1001 {
			fs = append(fs, Function{Kind: Percentile, P: float64(p) / 10})
		}
		c, err := NewComposite([]Value{{Name: "x", Functions: fs}})
		if err != nil {
			t.Fatal(err)
		}
		row := rowOf(c)
		for i := range 3 * batchSize {
			c.Add(row, 0, next(i))
		}
		row = reload(t, c, row)
		before := math.Inf(-1)
		for _, f := range fs {
			v, ok := c.Result(row, 0, f)
			if !ok || v < before {
				t.Fatalf("%s: %s is %v (%v), after %v", name, f.Name(), v, ok, before)
			}
			before = v
		}
	}
}
