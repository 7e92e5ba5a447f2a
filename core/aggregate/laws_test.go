package aggregate

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// sample returns n values of one of several shapes.
func sample(r *rand.Rand, n int) []float64 {
	shapes := []func() float64{
		r.NormFloat64,
		func() float64 { return 1.7e12 + math.Floor(r.ExpFloat64()*60_000) },
		func() float64 { return float64(r.IntN(5)) },
		func() float64 { return math.Exp(5 + 0.6*r.NormFloat64()) },
		func() float64 { return (r.Float64() - 0.5) * math.Exp2(float64(r.IntN(100))) },
		func() float64 { return 0.1 },
	}
	shape := shapes[r.IntN(len(shapes))]
	out := make([]float64, n)
	for i := range out {
		out[i] = shape()
	}
	return out
}

// split cuts values into parts of random sizes, some empty.
func split(r *rand.Rand, values []float64) [][]float64 {
	var parts [][]float64
	for len(values) > 0 {
		n := min(r.IntN(1+r.IntN(1+len(values)*2/3)), len(values))
		parts = append(parts, values[:n])
		values = values[n:]
		if n == 0 && r.IntN(2) == 0 {
			parts = append(parts, values[:1])
			values = values[1:]
		}
	}
	return append(parts, nil)
}

// combine merges the rows of parts in a random tree, by Merge or through bytes.
func combine(t *testing.T, r *rand.Rand, c *Composite, parts [][]float64) *Row {
	t.Helper()
	var rows []*Row
	for _, p := range parts {
		rows = append(rows, rowOf(c, p...))
	}
	for len(rows) > 1 {
		i := r.IntN(len(rows))
		src := rows[i]
		rows = slices.Delete(rows, i, i+1)
		dst := rows[r.IntN(len(rows))]
		if r.IntN(2) == 0 {
			c.Merge(dst, src)
		} else {
			mergeBinary(t, c, dst, c.AppendBinary(nil, src))
		}
	}
	return rows[0]
}

func TestMergeEqualsFold(t *testing.T) {
	r := seeded(t)
	all := functions(t, every()...)
	for range 300 {
		names := every()
		if r.IntN(3) == 0 {
			names = plain()
		}
		c := composite(t, names...)
		values := sample(r, r.IntN(3*exactMost/2))
		whole, merged := rowOf(c, values...), combine(t, r, c, split(r, values))
		if c.Records(whole) != c.Records(merged) {
			t.Fatalf("%d records, want %d", c.Records(merged), c.Records(whole))
		}
		exact := len(values) <= exactMost
		var scale float64
		for _, v := range values {
			scale += math.Abs(v)
		}
		for _, f := range all {
			want, wantOK := c.Result(whole, 0, f)
			got, ok := c.Result(merged, 0, f)
			if ok != wantOK {
				t.Fatalf("%d values: %s is there: %v, want %v", len(values), f.Name(), ok, wantOK)
			}
			if !ok {
				continue
			}
			switch {
			case f.Kind == Count || f.Kind == Min || f.Kind == Max || exact && names[len(names)-1] == "p100":
				if got != want {
					t.Fatalf("%d values: %s is %v, want exactly %v", len(values), f.Name(), got, want)
				}
			case f.Kind == Percentile:
				sorted := slices.Sorted(slices.Values(values))
				if e := rankError(sorted, got, f.P/100); e > 0.01 {
					t.Fatalf("%d values: %s is %v, rank error %v", len(values), f.Name(), got, e)
				}
			case f.Kind == Sum || f.Kind == Average: // which may cancel
				if !within(1e-15, got, want, scale) {
					t.Fatalf("%d values: %s is %v, want %v", len(values), f.Name(), got, want)
				}
			case !within(1e-11, got, want, 0):
				t.Fatalf("%d values: %s is %v, want %v (%g)", len(values), f.Name(), got, want, got/want-1)
			}
		}
	}
}

// Groups that keep their values have the same results to the last bit, whatever the order of the values and of the merges.
func TestSmallGroupsDoNotDependOnOrder(t *testing.T) {
	r := seeded(t)
	c := composite(t, every()...)
	for range 100 {
		values := sample(r, 1+r.IntN(exactMost))
		want := c.AppendResults(nil, rowOf(c, values...))
		r.Shuffle(len(values), func(i, j int) { values[i], values[j] = values[j], values[i] })
		if got := c.AppendResults(nil, combine(t, r, c, split(r, values))); !bytes.Equal(got, want) {
			t.Fatalf("%d values in another order:\ngot  %s\nwant %s", len(values), got, want)
		}
	}
}

func TestEmptyIsTheIdentity(t *testing.T) {
	r := seeded(t)
	for _, names := range [][]string{plain(), every()} {
		c := composite(t, names...)
		for _, n := range []int{0, 1, 7, exactMost, exactMost + 1, 3 * batchSize} {
			values := sample(r, n)
			want := c.AppendBinary(nil, rowOf(c, values...))
			left, right := rowOf(c), rowOf(c, values...)
			c.Merge(left, rowOf(c, values...))
			c.Merge(right, rowOf(c))
			mergeBinary(t, c, right, c.AppendBinary(nil, rowOf(c)))
			if got := c.AppendBinary(nil, right); !bytes.Equal(got, want) {
				t.Errorf("%d values merged with nothing are other bytes", n)
			}
			if n <= exactMost || len(names) == len(plain()) {
				if got := c.AppendBinary(nil, left); !bytes.Equal(got, want) {
					t.Errorf("nothing merged with %d values is other bytes", n)
				}
			}
			if got, want := c.AppendResults(nil, left), c.AppendResults(nil, rowOf(c, values...)); n <= exactMost && !bytes.Equal(got, want) {
				t.Errorf("nothing merged with %d values: %s, want %s", n, got, want)
			}
		}
	}
}

func TestMergeCommutes(t *testing.T) {
	r := seeded(t)
	c := composite(t, plain()...)
	for range 200 {
		a, b := sample(r, 1+r.IntN(20)), sample(r, 1+r.IntN(20))
		ab, ba := rowOf(c, a...), rowOf(c, b...)
		c.Merge(ab, rowOf(c, b...))
		c.Merge(ba, rowOf(c, a...))
		for _, f := range functions(t, plain()...) {
			x, _ := c.Result(ab, 0, f)
			y, _ := c.Result(ba, 0, f)
			if exact := f.Kind == Count || f.Kind == Min || f.Kind == Max || f.Kind == Sum; exact && x != y || !within(1e-12, x, y, 0) {
				t.Fatalf("%s of %v and %v: %v, the other way round %v", f.Name(), a, b, x, y)
			}
		}
	}
}

func TestMergeLeavesTheSourceAlone(t *testing.T) {
	r := seeded(t)
	c := composite(t, every()...)
	for _, n := range []int{5, exactMost, exactMost + 1, batchSize + 100, 3 * batchSize} {
		values := sample(r, n)
		src, twin, dst := rowOf(c, values...), rowOf(c, values...), rowOf(c, sample(r, n)...)
		c.Merge(dst, src)
		c.Merge(dst, src)
		if !bytes.Equal(c.AppendBinary(nil, src), c.AppendBinary(nil, twin)) {
			t.Errorf("a row of %d values changed when it was merged into another", n)
		}
	}
}

func TestTheSameOperationsGiveTheSameBytes(t *testing.T) {
	c := composite(t, every()...)
	run := func() []byte {
		r := rand.New(rand.NewPCG(7, 7))
		return c.AppendBinary(nil, combine(t, r, c, split(r, sample(r, 20*batchSize))))
	}
	if !bytes.Equal(run(), run()) {
		t.Error("two runs give different bytes")
	}
}

// Whatever a row was used for before, after Reset it is as good as new.
func TestResetForgetsEverything(t *testing.T) {
	r := seeded(t)
	used := &Row{}
	for range 60 {
		values := []Value{{Name: "x", Functions: functions(t, every()...)}, {Name: "y", Functions: functions(t, plain()...)}, {Name: "z", Functions: functions(t, "p50")}}[:1+r.IntN(3)]
		c, err := NewComposite(values)
		if err != nil {
			t.Fatal(err)
		}
		fresh := &Row{}
		c.Reset(used)
		c.Reset(fresh)
		for i := range values {
			for _, v := range sample(r, r.IntN(2*batchSize)) {
				c.Add(used, i, v)
				c.Add(fresh, i, v)
			}
		}
		if !bytes.Equal(c.AppendBinary(nil, used), c.AppendBinary(nil, fresh)) {
			t.Fatal("a row that was used before has other bytes than a new one")
		}
	}
}

// Whether a sum overflows depends on its values only, not on their order.
func TestOverflowDoesNotDependOnOrder(t *testing.T) {
	r := seeded(t)
	c := composite(t, "sum", "average")
	for range 300 {
		values := []float64{1e308, 1.5e308, -1e308, -1.5e308, 3, 1e292, -1e292, math.MaxFloat64, -math.MaxFloat64}
		r.Shuffle(len(values), func(i, j int) { values[i], values[j] = values[j], values[i] })
		if got := string(c.AppendResults(nil, combine(t, r, c, split(r, values)))); got != `{"sum":3,"average":0.3333333333333333}` {
			t.Fatalf("%v: %s", values, got)
		}
	}
}
