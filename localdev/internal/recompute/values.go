package recompute

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/llm-auto-optimizer/tidemark/core/aggregate"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
)

// What results may be off by: sums and moments relatively, percentiles of large groups in rank.
const (
	relative  = 1e-9
	rankError = 0.01
	// exactUpTo is how many values of a group percentiles are exact for.
	exactUpTo = 1000
)

// batch is the values of one group, sorted, and what is computed over them.
type batch struct {
	sorted []float64
	n      int64 // of values; of records where the pipeline has none
	sketch aggregate.Sketch

	scalars []scalar // the values in the order of time, partition and offset, and where they were
	at      []aggregate.Position

	total     *big.Float // nil until it is asked for
	magnitude float64    // sum of the absolute values
}

// sum adds up exactly: with 2,200 bits nothing is rounded that matters, whatever the exponents.
func (b *batch) sum() *big.Float {
	if b.total != nil {
		return b.total
	}
	b.total = new(big.Float).SetPrec(2200)
	largest := 0.0
	for _, v := range b.sorted {
		largest = max(largest, math.Abs(v))
	}
	// Whole numbers below 2^53 in all need no such precision.
	if whole := largest*float64(len(b.sorted)) < 1<<53 && !slices.ContainsFunc(b.sorted, func(v float64) bool { return v != math.Trunc(v) }); whole {
		s := 0.0
		for _, v := range b.sorted {
			s, b.magnitude = s+v, b.magnitude+math.Abs(v)
		}
		b.total.SetFloat64(s)
		return b.total
	}
	x := new(big.Float)
	for _, v := range b.sorted {
		b.total.Add(b.total, x.SetFloat64(v))
		b.magnitude += math.Abs(v)
	}
	return b.total
}

func (b *batch) mean() float64 {
	m, _ := new(big.Float).Quo(b.sum(), new(big.Float).SetInt64(b.n)).Float64()
	return m
}

// deviations is the sum of squared deviations from the mean, in two passes.
func (b *batch) deviations() float64 {
	mean, s, rest := b.mean(), 0.0, 0.0
	for _, v := range b.sorted {
		d := v - mean
		s, rest = s+d*d, rest+d
	}
	return max(0, s-rest*rest/float64(b.n))
}

// percentile is linear interpolation at p/100*(n-1): definition 7 of Hyndman and Fan.
func (b *batch) percentile(p float64) float64 {
	at := p * float64(b.n-1)
	whole := math.Floor(at / 100)
	fraction := (at - 100*whole) / 100
	if fraction < 0 || fraction >= 1 {
		whole, fraction = math.Round(at/100), 0
	}
	i := int(whole)
	if i+1 >= len(b.sorted) {
		return b.sorted[len(b.sorted)-1]
	}
	lo, hi := b.sorted[i], b.sorted[i+1]
	if d := hi - lo; !math.IsInf(d, 0) {
		return min(lo+float64(d*fraction), hi)
	}
	return 2 * (lo/2 + (hi/2-lo/2)*fraction)
}

// rank reports whether a value is within the rank error of a percentile.
func (b *batch) rank(got, p float64) bool {
	below, _ := slices.BinarySearch(b.sorted, got)
	upTo, _ := slices.BinarySearch(b.sorted, math.Nextafter(got, math.Inf(1)))
	n := float64(b.n)
	return float64(below-1)/n-rankError <= p/100 && p/100 <= float64(upTo+1)/n+rankError
}

// near reports whether a value is within the relative accuracy of a percentile: of the two values that it lies between. The
// smallest magnitudes may be off by a trillionth of the largest.
func (b *batch) near(got, p float64) bool {
	at := p / 100 * float64(b.n-1)
	lo, hi := b.sorted[int(at)], b.sorted[min(int(math.Ceil(at)), len(b.sorted)-1)]
	largest := max(math.Abs(b.sorted[0]), math.Abs(b.sorted[len(b.sorted)-1]))
	return math.Abs(got-b.percentile(p)) <= b.sketch.Accuracy*max(math.Abs(lo), math.Abs(hi))*(1+relative)+1e-12*largest
}

// check compares one published result with the function computed over the batch. It returns what the result should be, and whether
// it is. got is nil where null was published.
func (b *batch) check(f aggregate.Function, got *float64) (want string, ok bool) {
	if f.Kind == aggregate.Count {
		return strconv.FormatInt(b.n, 10), got != nil && *got == float64(b.n)
	}
	sample := f.Kind == aggregate.VarianceSample || f.Kind == aggregate.StddevSample
	if b.n == 0 || sample && b.n == 1 {
		return "null", got == nil
	}
	v, slack := b.compute(f)
	if math.IsInf(v, 0) {
		return "null, which overflowed", got == nil
	}
	want = strconv.FormatFloat(v, 'g', -1, 64)
	switch {
	case got == nil:
		return want, math.Abs(v) > math.MaxFloat64/2 && slack > 0 // an overflow on the way
	case f.Kind == aggregate.Percentile && b.n > exactUpTo && b.sketch.Kind == aggregate.DDSketch:
		return fmt.Sprintf("%s within %v", want, b.sketch.Accuracy), b.near(*got, f.P)
	case f.Kind == aggregate.Percentile && b.n > exactUpTo:
		return want + " within 1% of rank", b.rank(*got, f.P)
	}
	return want, *got == v || math.Abs(*got-v) <= slack
}

// compute returns the result, infinite where it is beyond a float64, and by how much a right one may be off.
func (b *batch) compute(f aggregate.Function) (v, slack float64) {
	n := float64(b.n)
	// What the rounding of the values' own last digits comes to.
	ulp := 8 * 0x1p-52 * max(math.Abs(b.sorted[0]), math.Abs(b.sorted[len(b.sorted)-1]))
	moment := func(divisor float64, root bool) (float64, float64) {
		m2 := b.deviations()
		v := m2 / divisor
		off := relative*v + ulp*ulp + ulp*math.Sqrt(v)
		if !root {
			return v, off
		}
		return math.Sqrt(v), relative*math.Sqrt(v) + ulp
	}
	switch f.Kind {
	case aggregate.Count:
		return n, 0
	case aggregate.Sum:
		v, _ = b.sum().Float64()
		return v, relative*math.Abs(v) + 1e-15*b.magnitude
	case aggregate.Average:
		v = b.mean()
		return v, relative*math.Abs(v) + 1e-15*b.magnitude/n
	case aggregate.Min:
		return b.sorted[0], 0
	case aggregate.Max:
		return b.sorted[len(b.sorted)-1], 0
	case aggregate.Variance:
		return moment(n, false)
	case aggregate.Stddev:
		return moment(n, true)
	case aggregate.VarianceSample:
		return moment(n-1, false)
	case aggregate.StddevSample:
		return moment(n-1, true)
	case aggregate.Percentile:
		return b.percentile(f.P), 0
	case aggregate.First, aggregate.Last, aggregate.Distinct, aggregate.UserDefined: // see checkScalars
	}
	return math.NaN(), 0
}

// query is what the pipeline computes over each of its values.
type query struct {
	names     []string // of values; one empty name where the pipeline has none
	functions [][]aggregate.Function
	sketch    aggregate.Sketch
}

func newQuery(p *spec.Pipeline) (query, error) {
	q := query{sketch: p.Sketch}
	for _, v := range p.Values {
		q.names = append(q.names, v.Name)
	}
	if len(p.Values) == 0 {
		q.names = []string{""}
	}
	q.functions = make([][]aggregate.Function, len(q.names))
	for _, a := range p.Aggregates {
		i := slices.Index(q.names, a.Value)
		if len(p.Values) == 0 {
			i = 0
		}
		for _, name := range a.Functions {
			f, err := p.Functions.Parse(name)
			if err != nil || i < 0 {
				return q, fmt.Errorf("aggregates of value %q: %w", a.Value, err)
			}
			q.functions[i] = append(q.functions[i], f)
		}
	}
	return q, nil
}

// differences compares the results of a pane with those of its members.
func (q *query) differences(members []member, results []byte) []Value {
	maps := []map[string]json.RawMessage{{}}
	if len(q.names) > 1 {
		whole := map[string]map[string]json.RawMessage{}
		if err := json.Unmarshal(results, &whole); err != nil {
			return []Value{{"results", string(results), "an object for each value"}}
		}
		maps = maps[:0]
		for _, name := range q.names {
			maps = append(maps, whole[name])
		}
	} else if err := json.Unmarshal(results, &maps[0]); err != nil {
		return []Value{{"results", string(results), "an object"}}
	}
	var out []Value
	for i, name := range q.names {
		b := batchOf(members, i)
		b.sketch = q.sketch
		for _, f := range q.functions[i] {
			raw, there := maps[i][f.Name()]
			text := string(raw)
			if !there {
				text = "nothing"
			}
			var got *float64
			if there && text != "null" {
				v, err := strconv.ParseFloat(text, 64)
				if err != nil {
					v = math.NaN()
				}
				got = &v
			}
			want, ok := "", false
			switch f.Kind {
			case aggregate.First, aggregate.Last, aggregate.Distinct, aggregate.UserDefined:
				want, ok = b.checkScalars(f, text)
			case aggregate.Count, aggregate.Sum, aggregate.Average, aggregate.Min, aggregate.Max, aggregate.Variance, aggregate.Stddev,
				aggregate.VarianceSample, aggregate.StddevSample, aggregate.Percentile:
				want, ok = b.check(f, got)
			}
			if !ok || !there {
				out = append(out, Value{strings.TrimPrefix(name+"."+f.Name(), "."), text, want})
			}
		}
	}
	return out
}

// batchOf gathers one value of all members.
func batchOf(members []member, value int) *batch {
	b := &batch{}
	for i := range members {
		if len(members[i].values) == 0 {
			b.n++
			continue
		}
		if v := members[i].values[value]; v.kind != 0 {
			b.sorted = append(b.sorted, v.number+0) // -0 is 0
			b.scalars = append(b.scalars, v)
			b.at = append(b.at, aggregate.Position{Time: members[i].time, Partition: int32(members[i].part), Offset: members[i].offset})
		}
	}
	if len(b.sorted) > 0 {
		b.n = int64(len(b.sorted))
		slices.Sort(b.sorted)
	}
	return b
}
