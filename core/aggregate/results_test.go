package aggregate

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
)

func TestResultsAreWhatTextbooksSay(t *testing.T) {
	for _, c := range []struct {
		name      string
		functions []string
		values    []float64
		want      string
	}{
		{
			"the example of the contract",
			[]string{"count", "sum", "average", "min", "max", "stddev", "p50", "p95", "p99"},
			[]float64{10, 20, 30},
			`{"count":3,"sum":60,"average":20,"min":10,"max":30,"stddev":8.16496580927726,"p50":20,"p95":29,"p99":29.8}`,
		},
		{
			"eight values",
			[]string{"variance", "stddev", "variance_sample", "stddev_sample"},
			[]float64{2, 4, 4, 4, 5, 5, 7, 9},
			`{"variance":4,"stddev":2,"variance_sample":4.571428571428571,"stddev_sample":2.138089935299395}`,
		},
		{
			"one value has no sample deviation",
			[]string{"count", "average", "variance", "stddev", "variance_sample", "stddev_sample", "p99"},
			[]float64{5},
			`{"count":1,"average":5,"variance":0,"stddev":0,"variance_sample":null,"stddev_sample":null,"p99":5}`,
		},
		{
			"no value",
			[]string{"count", "sum", "average", "min", "max", "variance", "stddev_sample", "p50"},
			nil,
			`{"count":0,"sum":null,"average":null,"min":null,"max":null,"variance":null,"stddev_sample":null,"p50":null}`,
		},
		{
			"a large offset does not cancel",
			[]string{"average", "variance", "variance_sample"},
			[]float64{1e9 + 4, 1e9 + 7, 1e9 + 13, 1e9 + 16},
			`{"average":1000000010,"variance":22.5,"variance_sample":30}`,
		},
		{"sums are compensated", []string{"sum", "average"}, []float64{1e16, 1, -1e16}, `{"sum":1,"average":0.3333333333333333}`},
		{"integers sum exactly", []string{"sum"}, []float64{1 << 53, 1, -(1 << 53), 1 << 52}, `{"sum":4503599627370497}`},
		{
			"equal values do not vary",
			[]string{"average", "variance", "stddev", "p50", "p99.9"},
			[]float64{0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1},
			`{"average":0.1,"variance":0,"stddev":0,"p50":0.1,"p99.9":0.1}`,
		},
		{"negative values", []string{"sum", "min", "max", "p0", "p100"}, []float64{-3, -7}, `{"sum":-10,"min":-7,"max":-3,"p0":-7,"p100":-3}`},
		{"-0 is 0", []string{"sum", "min", "max", "p50"}, []float64{math.Copysign(0, -1)}, `{"sum":0,"min":0,"max":0,"p50":0}`},
		{"a sum that overflows", []string{"count", "sum", "average", "max"}, []float64{1e308, 1e308}, `{"count":2,"sum":null,"average":1e+308,"max":1e+308,"overflow":true}`},
		{"a sum that overflows on the way only", []string{"sum"}, []float64{1e308, 1e308, -1e308, 5, -1e308}, `{"sum":5}`},
		{"a variance that overflows", []string{"average", "stddev", "p50"}, []float64{1e300, -1e300}, `{"average":0,"stddev":null,"p50":0,"overflow":true}`},
		{"the distance of two values overflows", []string{"p50", "p100"}, []float64{-math.MaxFloat64, math.MaxFloat64}, `{"p50":0,"p100":1.7976931348623157e+308}`},
		{"equal huge values", []string{"average", "variance"}, []float64{math.MaxFloat64, math.MaxFloat64, math.MaxFloat64}, `{"average":1.7976931348623157e+308,"variance":0}`},
		{"tiny values", []string{"sum", "min", "max"}, []float64{5e-324, 1e-9}, `{"sum":1e-9,"min":5e-324,"max":1e-9}`},
		{"exponents as in encoding/json", []string{"max"}, []float64{1e21}, `{"max":1e+21}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, extra := range [][]string{nil, {"p12.5"}} { // with a percentile all values are kept
				cc := composite(t, append(c.functions, extra...)...)
				got := string(cc.AppendResults(nil, rowOf(cc, c.values...)))
				if i := strings.Index(got, `,"p12.5":`); i >= 0 {
					j := strings.IndexAny(got[i+1:], ",}")
					got = got[:i] + got[i+1+j:]
				}
				if got != c.want {
					t.Errorf("with %v more:\ngot  %s\nwant %s", extra, got, c.want)
				}
			}
		})
	}
}

func TestResultsAreOneFlatMapOrOneMapAValue(t *testing.T) {
	for _, c := range []struct {
		name   string
		values []Value
		want   string
	}{
		{"no values", nil, `{"count":3}`},
		{"count without values", []Value{{Functions: functions(t, "count")}}, `{"count":3}`},
		{"one value", []Value{{Name: "x", Functions: functions(t, "max", "count")}}, `{"max":7,"count":2}`},
		{
			"two values",
			[]Value{{Name: "b", Functions: functions(t, "max", "p50")}, {Name: `a"<é>`, Functions: functions(t, "count", "sum")}},
			`{"b":{"max":7,"p50":6},"a\"<é>":{"count":1,"sum":2.5}}`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			cc, err := NewComposite(c.values)
			if err != nil {
				t.Fatal(err)
			}
			r := &Row{}
			cc.Reset(r)
			for range 3 {
				cc.AddRecord(r)
			}
			if cc.Values() > 0 {
				cc.Add(r, 0, 5)
				cc.Add(r, 0, 7)
				cc.Add(r, 0, math.NaN())
				cc.Add(r, 0, math.Inf(-1))
			}
			if cc.Values() > 1 {
				cc.Add(r, 1, 2.5)
			}
			got := string(cc.AppendResults([]byte("x"), r))
			if got != "x"+c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if !json.Valid([]byte(got[1:])) {
				t.Errorf("%s is not JSON", got)
			}
			if n := cc.Records(r); n != 3 {
				t.Errorf("Records is %d, want 3", n)
			}
			if again := reload(t, cc, r); string(cc.AppendResults(nil, again)) != c.want || cc.Records(again) != 3 {
				t.Errorf("after storing: %s, %d records", cc.AppendResults(nil, again), cc.Records(again))
			}
		})
	}
}

func TestFloatsAreWrittenAsEncodingJSONWritesThem(t *testing.T) {
	r := seeded(t)
	f := func(v float64) {
		want, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(appendFloat(nil, v)); got != string(want) {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
	for _, v := range []float64{0, math.Copysign(0, -1), 1e-6, 9.99e-7, 1e21, 9.99e20, 1e-9, 1e-10, 5e-324, math.MaxFloat64, -1.5, 1e100, -1e-100} {
		f(v)
	}
	for range 20000 {
		if v := math.Float64frombits(r.Uint64()); finite(v) {
			f(v)
		}
	}
}

func TestResultIsNoneForWhatIsNotComputed(t *testing.T) {
	c := composite(t, "sum", "p50", "stddev_sample")
	r := rowOf(c, 1e308, 1e308)
	if v, ok := c.Result(r, 0, Function{Kind: Sum}); ok || !math.IsInf(v, 1) {
		t.Errorf("overflowed sum: %v, %v", v, ok)
	}
	for _, f := range []Function{{}, {Kind: Max}, {Kind: Percentile, P: 51}} {
		if v, ok := c.Result(r, 0, f); ok || v != 0 {
			t.Errorf("%s: %v, %v", f.Name(), v, ok)
		}
	}
	for _, value := range []int{-1, 1} {
		if _, ok := c.Result(r, value, Function{Kind: Sum}); ok {
			t.Errorf("there is no value %d", value)
		}
	}
	if _, ok := c.Result(rowOf(c, 1), 0, Function{Kind: StddevSample}); ok {
		t.Error("one value has no sample deviation")
	}
	if v, ok := c.Result(r, 0, Function{Kind: Percentile, P: 50}); !ok || v != 1e308 {
		t.Errorf("p50: %v, %v", v, ok)
	}
}

func TestNewCompositeTellsAllProblems(t *testing.T) {
	for _, c := range []struct {
		name   string
		values []Value
		want   []string
	}{
		{"nameless with more than count", []Value{{Name: "", Functions: functions(t, "count", "max", "p50")}}, []string{"max needs a value", "p50 needs a value"}},
		{"nameless beside others", []Value{{Name: "x", Functions: functions(t, "max")}, {Name: "", Functions: functions(t, "count")}}, []string{"values[1]: a value without a name"}},
		{"no function", []Value{{Name: "x"}, {Name: "y"}}, []string{`values[0] "x": no function`, `values[1] "y": no function`}},
		{"twice", []Value{{Name: "x", Functions: functions(t, "max", "max")}, {Name: "x", Functions: functions(t, "p50")}}, []string{"max is there twice", `values[1]: "x" is there twice`}},
		{"no kind", []Value{{Name: "x", Functions: []Function{{}}}}, []string{"Kind(0) is no function"}},
		{"percentages out of range", []Value{{Name: "x", Functions: []Function{{Kind: Percentile, P: -1}, {Kind: Percentile, P: 100.5}, {Kind: Percentile, P: math.NaN()}}}}, []string{"p-1 is no", "p100.5 is no", "pNaN is no"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := NewComposite(c.values)
			if !errors.Is(err, ErrComposite) {
				t.Fatalf("got %v, want ErrComposite", err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in: %v", want, err)
				}
			}
		})
	}
}
