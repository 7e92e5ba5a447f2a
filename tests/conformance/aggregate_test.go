package conformance

import (
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strconv"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/core/aggregate"
	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// aggregateNames returns the vectors' names of results, with our functions. definitions are documentation.
func aggregateNames() map[string]string {
	return map[string]string{
		"count": "count", "sum": "sum", "min": "min", "max": "max", "avg": "average", "var_pop": "variance", "stddev_pop": "stddev",
		"var_samp": "variance_sample", "stddev_samp": "stddev_sample", "first": "first", "last": "last",
	}
}

// aggregation is one way of computing the functions that a vector expects.
type aggregation struct {
	*aggregate.Composite
	functions map[string]aggregate.Function // by the vector's name
	quantiles map[string]aggregate.Function // by the vector's quantile, "0.999"
}

// aggregationOf makes it; all functions that are in every pipeline, whatever is expected, and the percentiles that are.
func aggregationOf(t *testing.T, v *Vector) aggregation {
	t.Helper()
	a := aggregation{functions: map[string]aggregate.Function{}, quantiles: map[string]aggregate.Function{}}
	var all []aggregate.Function
	parse := func(name string) aggregate.Function {
		f, err := aggregate.Parse(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, f)
		return f
	}
	for name, ours := range aggregateNames() {
		a.functions[name] = parse(ours)
	}
	for q := range quantilesOf(v) {
		a.quantiles[q] = parse("p" + percentage(t, q))
	}
	if name := unknownExpectation(v); name != "" {
		t.Skip("unsupported: " + name)
	}
	var err error
	if a.Composite, err = aggregate.NewComposite([]aggregate.Value{{Name: "value", Functions: all}}); err != nil {
		t.Fatal(err)
	}
	return a
}

// quantilesOf returns what a vector expects of quantiles: its quantiles, and the R-7 entries of its definitions.
func quantilesOf(v *Vector) map[string]any {
	out := map[string]any{}
	if qs, ok := v.Expect["quantiles"].(map[string]any); ok {
		maps.Copy(out, qs)
	}
	if ds, ok := v.Expect["definitions"].(map[string]any); ok {
		for q, d := range ds {
			if byName, ok := d.(map[string]any); ok {
				out[q] = byName["R7"]
			}
		}
	}
	return out
}

// unknownExpectation returns what a vector expects that the project does not compute, empty if nothing.
func unknownExpectation(v *Vector) string {
	known := aggregateNames()
	for _, name := range slices.Sorted(maps.Keys(v.Expect)) {
		_, ours := known[name]
		if !ours && !slices.Contains([]string{"quantiles", "definitions", "rejected"}, name) {
			return name
		}
	}
	return ""
}

// percentage writes a quantile as a percentage, exactly: "0.999" is "99.9".
func percentage(t *testing.T, q string) string {
	t.Helper()
	f, err := strconv.ParseFloat(q, 64)
	if err != nil {
		t.Fatal(err)
	}
	return strconv.FormatFloat(math.Round(f*1e8)/1e6, 'f', -1, 64)
}

// row returns the row of the values, and how many were refused because they are not finite, as the fold refuses them. Values
// without times are at one time; then their places in the list decide which is the first.
func (a aggregation) row(t *testing.T, values []any, times ...int64) (r *aggregate.Row, rejected int) {
	t.Helper()
	r = &aggregate.Row{}
	a.Reset(r)
	for i, v := range values {
		n, ok := v.(json.Number)
		if !ok { // NaN and infinities are strings
			rejected++
			continue
		}
		f, err := n.Float64()
		if err != nil {
			t.Fatal(err)
		}
		at := aggregate.Position{Offset: int64(i)}
		if len(times) > 0 {
			at.Time = event.Time(times[i])
		}
		a.AddRecord(r)
		a.AddInput(r, 0, &aggregate.Input{Kind: aggregate.InputNumber, Number: f, Text: []byte(n), At: at})
	}
	return r, rejected
}

// reload stores a row and loads it.
func (a aggregation) reload(t *testing.T, r *aggregate.Row) *aggregate.Row {
	t.Helper()
	loaded := &aggregate.Row{}
	a.Reset(loaded)
	if _, err := a.MergeBinary(loaded, a.AppendBinary(nil, r)); err != nil {
		t.Fatal(err)
	}
	return loaded
}

// results returns what the row says, with the vectors' names.
func (a aggregation) results(r *aggregate.Row) map[string]any {
	of := func(f aggregate.Function) (v any) {
		if json.Unmarshal(a.AppendResult(nil, r, 0, f), &v) != nil {
			return "no JSON"
		}
		return v
	}
	out := map[string]any{}
	for name, f := range a.functions {
		out[name] = of(f)
	}
	quantiles := map[string]any{}
	for q, f := range a.quantiles {
		quantiles[q] = of(f)
	}
	out["quantiles"] = quantiles
	return out
}

// checkResults compares what the project computes with the vector's expectation, definitions by their R-7 number.
func (a aggregation) checkResults(t *testing.T, v *Vector, r *aggregate.Row, rejected int) {
	t.Helper()
	expect := map[string]any{}
	for name, want := range v.Expect {
		if name != "definitions" {
			expect[name] = want
		}
	}
	expect["quantiles"] = quantilesOf(v)
	actual := a.results(r)
	actual["rejected"] = rejected
	of := *v
	of.Expect = expect
	check(t, &of, actual)
}

func runAggregate(t *testing.T, v Vector) {
	t.Helper()
	a := aggregationOf(t, &v)
	r, rejected := a.row(t, v.Values, v.Timestamps...)
	if !v.Roundtrip {
		a.checkResults(t, &v, r, rejected)
	}
	a.checkResults(t, &v, a.reload(t, r), rejected)
}

func runMerge(t *testing.T, v Vector) {
	t.Helper()
	a := aggregationOf(t, &v)
	inMemory, stored := &aggregate.Row{}, &aggregate.Row{}
	a.Reset(inMemory)
	a.Reset(stored)
	rejected := 0
	for _, values := range v.Partials {
		r, n := a.row(t, values)
		rejected += n
		a.Merge(inMemory, r)
		if _, err := a.MergeBinary(stored, a.AppendBinary(nil, r)); err != nil {
			t.Fatal(err)
		}
	}
	a.checkResults(t, &v, inMemory, rejected)
	a.checkResults(t, &v, stored, rejected)
}

// runSketch asks for percentiles of many values: their ranks must be as near as the vector allows, all else is exact. The values
// come at once, and from 16 partitions.
func runSketch(t *testing.T, v Vector) {
	t.Helper()
	if v.Generator == nil || v.Generator.Name != "modular_permutation" {
		t.Skip("unsupported: generator")
	}
	values := make([]any, v.Generator.N)
	for i := range v.Generator.N {
		values[i] = json.Number(strconv.FormatInt(i*v.Generator.Mul%v.Generator.N, 10))
	}
	a := aggregationOf(t, &v)
	whole, _ := a.row(t, values)
	merged := &aggregate.Row{}
	a.Reset(merged)
	for p := range 16 {
		var part []any
		for i := p; i < len(values); i += 16 {
			part = append(part, values[i])
		}
		r, _ := a.row(t, part)
		if _, err := a.MergeBinary(merged, a.AppendBinary(nil, r)); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range []*aggregate.Row{whole, a.reload(t, whole), merged} {
		checkSketch(t, &v, a.results(r))
	}
}

// checkSketch compares the quantiles that have an allowance by rank: the values are 0 to n-1, so a value is its rank.
func checkSketch(t *testing.T, v *Vector, actual map[string]any) {
	t.Helper()
	quantiles, ok := actual["quantiles"].(map[string]any)
	if !ok {
		t.Fatalf("quantiles are %v", actual["quantiles"])
	}
	exact := map[string]any{}
	for q, want := range quantilesOf(v) {
		most, ok := v.MaxRankError[q]
		if !ok {
			exact[q] = want
			continue
		}
		w, _ := toNumber(want)
		got, _ := toNumber(quantiles[q])
		if e := math.Abs(got.f-w.f) / float64(v.Generator.N-1); !(e <= most) {
			t.Errorf("quantile %s is %v, want %v: rank error %g, at most %g", q, got.f, w.f, e, most)
		}
	}
	of := *v
	of.Expect = map[string]any{"quantiles": exact}
	for name, want := range v.Expect {
		if name != "quantiles" {
			of.Expect[name] = want
		}
	}
	check(t, &of, actual)
}
