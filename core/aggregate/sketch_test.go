package aggregate

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// sketched is the composite of one value x with percentiles by DDSketch.
func sketched(t testing.TB, accuracy float64, names ...string) *Composite {
	t.Helper()
	c, err := NewComposite([]Value{{Name: "x", Functions: functions(t, names...), Sketch: Sketch{DDSketch, accuracy}}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// distributions are what a sketch of relative accuracy must bear: negative values, zeros, many orders of magnitude.
func distributions() map[string]func(r *rand.Rand) float64 {
	return map[string]func(r *rand.Rand) float64{
		"lognormal":  func(r *rand.Rand) float64 { return math.Exp(5 + 0.6*r.NormFloat64()) },
		"normal":     (*rand.Rand).NormFloat64,
		"zeros":      func(r *rand.Rand) float64 { return float64(r.IntN(3)-1) * math.Exp(r.NormFloat64()) },
		"integers":   func(r *rand.Rand) float64 { return float64(r.IntN(2000) - 300) },
		"negative":   func(r *rand.Rand) float64 { return -r.ExpFloat64() * 1e6 },
		"eleven":     func(r *rand.Rand) float64 { return math.Pow(10, r.Float64()*11-5) },
		"equal":      func(*rand.Rand) float64 { return 0.1 },
		"huge":       func(r *rand.Rand) float64 { return r.Float64() * math.MaxFloat64 },
		"epoch":      func(r *rand.Rand) float64 { return 1.7e12 + r.ExpFloat64()*60_000 },
		"two values": func(r *rand.Rand) float64 { return float64(r.IntN(2)*2 - 1) },
	}
}

// The guarantee: a percentile is as near to the exact one as the relative accuracy of the two values that it lies between.
func TestDDSketchMeetsItsRelativeAccuracy(t *testing.T) {
	r := seeded(t)
	names := []string{"p0", "p0.1", "p1", "p5", "p25", "p50", "p75", "p90", "p95", "p99", "p99.9", "p100"}
	for name, shape := range distributions() {
		for _, accuracy := range []float64{MinAccuracy, 0.01, 0.05, MaxAccuracy} {
			c := sketched(t, accuracy, names...)
			values := make([]float64, exactMost+1+r.IntN(5*batchSize))
			for i := range values {
				values[i] = shape(r)
			}
			merged := combine(t, r, c, split(r, values))
			slices.Sort(values)
			for _, row := range []*Row{rowOf(c, values...), merged, reload(t, c, merged)} {
				for _, f := range functions(t, names...) {
					got, _ := c.Result(row, 0, f)
					whole, fraction := rankOf(f.P, int64(len(values)))
					lo, hi := values[whole], values[min(int(whole)+1, len(values)-1)]
					most := accuracy * ((1-fraction)*math.Abs(lo) + fraction*math.Abs(hi))
					if want := exactPercentile(values, f.P); !(math.Abs(got-want) <= most*(1+1e-9)+math.Abs(want)*1e-12) {
						t.Errorf("%s, accuracy %v: %s of %d values is %v, want %v: off by %v", name, accuracy, f.Name(), len(values), got, want, (got-want)/want)
					}
				}
			}
		}
	}
}

// Up to 1,000 values both sketches are exact, and alike to the last bit.
func TestSketchesOfFewValuesAreExact(t *testing.T) {
	r := seeded(t)
	c, d := composite(t, every()...), sketched(t, 0.05, every()...)
	for range 50 {
		values := sample(r, 1+r.IntN(exactMost))
		if a, b := c.AppendResults(nil, rowOf(c, values...)), d.AppendResults(nil, combine(t, r, d, split(r, values))); !bytes.Equal(a, b) {
			t.Fatalf("%d values: %s and %s", len(values), a, b)
		}
	}
}

// What the buckets hold is a function of the values: other orders and groupings give the same bytes, also where buckets collapse.
func TestDDSketchDoesNotDependOnOrder(t *testing.T) {
	r := seeded(t)
	c := sketched(t, 0.01, "p50", "p99")
	for round := range 20 {
		values := make([]float64, 2*exactMost+r.IntN(batchSize))
		for i := range values {
			values[i] = math.Ldexp(r.Float64()-0.5, r.IntN(10+100*(round%2)))
		}
		row := rowOf(c, values...)
		want := c.AppendBinary(nil, row)
		r.Shuffle(len(values), func(i, j int) { values[i], values[j] = values[j], values[i] })
		var parts [][]float64 // each beyond what is kept as it is, so that all goes through buckets
		for rest := values; len(rest) > 0; {
			n := len(rest)
			if n > 2*exactMost+2 {
				n = exactMost + 1
			}
			parts, rest = append(parts, rest[:n]), rest[n:]
		}
		if got := c.AppendBinary(nil, combine(t, r, c, parts)); !bytes.Equal(got, want) {
			t.Fatalf("%d values in another order are other bytes", len(values))
		}
	}
}

// However many magnitudes there are, the buckets are bounded; what collapses moves by less than 1e-12 of the largest magnitude.
func TestDDSketchCollapsesTheSmallestMagnitudes(t *testing.T) {
	r := seeded(t)
	c := sketched(t, 0.01, "p1", "p50", "p99")
	values := make([]float64, 200_000)
	for i := range values {
		values[i] = math.Ldexp(1+r.Float64(), r.IntN(1900)-1000)
		if i%2 == 0 {
			values[i] = -values[i]
		}
	}
	row := rowOf(c, values...)
	stored := c.AppendBinary(nil, row)
	if n, most := len(row.values[0].more.buckets.list), int(2*c.values[0].scale.span()+1); n > most || len(stored) > 10_000 {
		t.Errorf("%d buckets, at most %d; %d bytes", n, most, len(stored))
	}
	slices.Sort(values)
	largest := max(values[len(values)-1], -values[0])
	for _, f := range functions(t, "p1", "p50", "p99") {
		got, _ := c.Result(row, 0, f)
		if want := exactPercentile(values, f.P); math.Abs(got-want) > 0.01*math.Abs(want)+1e-12*largest {
			t.Errorf("%s is %v, want %v", f.Name(), got, want)
		}
	}
}

func TestKeysAreInTheOrderOfValues(t *testing.T) {
	r := seeded(t)
	for _, accuracy := range []float64{MinAccuracy, 0.01, 0.0375, MaxAccuracy} {
		s, err := newScale(accuracy)
		if err != nil {
			t.Fatal(err)
		}
		values := []float64{-math.MaxFloat64, -1, -math.SmallestNonzeroFloat64, 0, math.SmallestNonzeroFloat64, 1, math.MaxFloat64}
		for range 2000 {
			values = append(values, math.Ldexp(r.NormFloat64(), r.IntN(2000)-1000))
		}
		slices.Sort(values)
		for i, v := range values {
			k := s.key(v)
			if k < -s.most() || k > s.most() || i > 0 && k < s.key(values[i-1]) || s.key(-v) != -k {
				t.Fatalf("key %d of %v", k, v)
			}
			if e := math.Abs(s.value(k) - v); math.Abs(v) > 1e-307 && e > accuracy*math.Abs(v)*(1+1e-12) {
				t.Fatalf("accuracy %v: %v is in the bucket of %v", accuracy, v, s.value(k))
			}
		}
	}
	for _, wrong := range []float64{0, -1, math.NaN(), 1, MinAccuracy / 2} {
		if _, err := newScale(wrong); err == nil {
			t.Errorf("an accuracy of %v is taken", wrong)
		}
	}
}

func texts(n int) []Input {
	out := make([]Input, n)
	for i := range out {
		out[i] = Input{Kind: InputString, Text: fmt.Appendf(nil, "user-%d", i)}
	}
	return out
}

func distinctOf(t testing.TB, inputs []Input) (*Composite, *Row) {
	t.Helper()
	c := composite(t, "distinct")
	r := rowOf(c)
	for i := range inputs {
		c.AddInput(r, 0, &inputs[i])
	}
	return c, r
}

func TestDistinctIsExactWhileFew(t *testing.T) {
	for _, n := range []int{0, 1, 2, 31, 32, 33, 500, distinctExact} {
		inputs := texts(n)
		inputs = append(inputs, texts(n)...)
		c, r := distinctOf(t, inputs)
		if got, want := string(c.AppendResults(nil, r)), fmt.Sprintf(`{"distinct":%d}`, n); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// The stated standard error is 0.81%. Of 64 independent estimates of each size, the root of the mean square error must be near
// it, and none may be beyond five times it.
func TestDistinctMeetsItsError(t *testing.T) {
	r := seeded(t)
	for _, n := range []int{1025, 3000, 10_000, 40_000, 100_000, 300_000} {
		var square float64
		const rounds = 64
		d := distinct{}
		for range rounds {
			d.reset()
			for range n {
				d.add(r.Uint64())
			}
			e := d.estimate()/float64(n) - 1
			square += e * e
			if math.Abs(e) > 5*0.0081 {
				t.Errorf("%d values: off by %.4f", n, e)
			}
		}
		if rms := math.Sqrt(square / rounds); rms > 1.25*0.0081 {
			t.Errorf("%d values: standard error %.5f, stated 0.0081", n, rms)
		}
	}
}

// The same with the hashes of real values.
func TestDistinctOfTextsAndNumbers(t *testing.T) {
	for _, n := range []int{5000, 200_000} {
		inputs := texts(n)
		for i := range n {
			inputs = append(inputs, Input{Kind: InputNumber, Number: float64(i) * 1.5, Text: strconv.AppendFloat(nil, float64(i)*1.5, 'f', 1, 64)})
		}
		c, r := distinctOf(t, inputs)
		if got := result(t, c, r, "distinct"); math.Abs(got/float64(2*n)-1) > 4*0.0081 {
			t.Errorf("%d values: %v", 2*n, got)
		}
	}
}

// What is stored is a function of the set of values: any order, any grouping, any repetition gives the same bytes.
func TestDistinctDependsOnTheSetAlone(t *testing.T) {
	r := seeded(t)
	c := composite(t, "distinct")
	plan := &c.values[0]
	for _, n := range []int{100, 1000, 1030, 3000, 30_000} {
		bytesOf := func(hashes []uint64) []byte {
			var whole distinct
			for len(hashes) > 0 {
				k := min(1+r.IntN(len(hashes)), len(hashes))
				var part distinct
				for _, h := range hashes[:k] {
					part.add(h)
				}
				whole.merge(&part)
				hashes = hashes[k:]
			}
			m := more{distinct: whole}
			return m.appendBinary(nil, plan.needs)
		}
		var hashes []uint64
		for range n {
			hashes = append(hashes, r.Uint64())
		}
		want := bytesOf(hashes)
		hashes = append(hashes, hashes[:n/2]...)
		r.Shuffle(len(hashes), func(i, j int) { hashes[i], hashes[j] = hashes[j], hashes[i] })
		if got := bytesOf(hashes); !bytes.Equal(got, want) {
			t.Errorf("%d values: other bytes", n)
		}
		if len(want) > 8*distinctExact+16 && len(want) > denseLength+16 {
			t.Errorf("%d values: %d bytes", n, len(want))
		}
	}
}

func TestNumbersThatAreEqualAreOneValue(t *testing.T) {
	f := func(one bool, numbers ...string) {
		t.Helper()
		var inputs []Input
		for _, n := range numbers {
			v, err := strconv.ParseFloat(n, 64)
			if err != nil {
				t.Fatal(err)
			}
			inputs = append(inputs, Input{Kind: InputNumber, Number: v, Text: []byte(n)})
		}
		want := float64(len(numbers))
		if one {
			want = 1
		}
		c, r := distinctOf(t, inputs)
		if got := result(t, c, r, "distinct"); got != want {
			t.Errorf("%v: %v distinct, want %v", numbers, got, want)
		}
	}
	f(true, "1", "1.0", "1e0", "10e-1", "0.1E+1", "1.000", "100e-2", "0.01e2")
	f(true, "0", "-0", "0.0", "0e99", "-0.00E-7")
	f(true, "-1200", "-1.2e3", "-12E2", "-1200.0")
	f(true, "9007199254740993", "9007199254740993.0", "9.007199254740993e15")
	f(true, "0.001", "1e-3", "0.00100")
	f(false, "1", "-1", "10", "0.1", "11", "1.1", "0")
	f(false, "9007199254740992", "9007199254740993", "9007199254740994") // beyond what a float64 tells apart
	same := []Input{{Kind: InputNumber, Number: 1.5}, {Kind: InputNumber, Number: 1.5, Text: []byte("15e-1")}, {Kind: InputNumber, Number: 1.5, Text: []byte("1.50")}}
	if c, r := distinctOf(t, same); result(t, c, r, "distinct") != 1 {
		t.Error("a number without text is another one")
	}
	mixed := []Input{
		{Kind: InputNumber, Number: 1, Text: []byte("1")},
		{Kind: InputString, Text: []byte("1")},
		{Kind: InputString, Text: []byte("true")},
		{Kind: InputBool, Text: []byte("true")},
		{Kind: InputString},
		{Kind: InputString, Text: []byte("1.0")},
	}
	if c, r := distinctOf(t, mixed); result(t, c, r, "distinct") != 6 {
		t.Errorf("a number, a boolean and strings of the same characters: %v", result(t, c, r, "distinct"))
	}
}

func TestFirstAndLastAreByPosition(t *testing.T) {
	c := composite(t, "count", "first", "last")
	at := func(time int, topic, partition int32, offset int64) Position {
		return Position{Time: event.Time(time - 5), Topic: topic, Partition: partition, Offset: offset}
	}
	inputs := []Input{
		{Kind: InputNumber, Number: 20, Text: []byte("20.0"), At: at(1, 0, 0, 7)},
		{Kind: InputString, Text: []byte(`a "b" é`), At: at(0, 0, 0, 9)},
		{Kind: InputBool, Text: []byte("false"), At: at(0, 0, 1, 2)},
		{Kind: InputString, Text: []byte("last"), At: at(9, 1, 0, 1)},
		{Kind: InputNumber, Number: 1, At: at(9, 0, 5, 100)},
		{Kind: InputNumber, Number: 2, At: at(9, 0, 5, 99)},
	}
	r := seeded(t)
	for range 100 {
		row := rowOf(c)
		for _, i := range r.Perm(len(inputs)) {
			in := inputs[i]
			c.AddInput(row, 0, &in)
		}
		if got, want := string(c.AppendResults(nil, reload(t, c, row))), `{"count":6,"first":"a \"b\" é","last":"last"}`; got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
	if got := string(c.AppendResults(nil, rowOf(c))); got != `{"count":0,"first":null,"last":null}` {
		t.Errorf("of nothing: %s", got)
	}
	row := rowOf(c)
	c.AddInput(row, 0, &inputs[0])
	if got := string(c.AppendResults(nil, row)); got != `{"count":1,"first":20.0,"last":20.0}` {
		t.Errorf("a number is %s, want it as it was written", got)
	}
}

func TestScalarsAreTakenOnlyWhereAllFunctionsTakeThem(t *testing.T) {
	for names, want := range map[string]bool{
		"count": true, "first last": true, "count first last distinct": true, "distinct_count": true,
		"sum": false, "first max": false, "distinct p50": false, "count average": false,
	} {
		c := composite(t, strings.Fields(names)...)
		if c.TakesScalars(0) != want {
			t.Errorf("%s: scalars %t, want %t", names, !want, want)
		}
		r := rowOf(c)
		c.AddInput(r, 0, &Input{Kind: InputString, Text: []byte("x")})
		if got := r.values[0].count() == 1; got != want {
			t.Errorf("%s: a string was added: %t, want %t", names, got, want)
		}
	}
}
