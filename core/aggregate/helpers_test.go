package aggregate

import (
	"flag"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/tests/seed"
)

var update = flag.Bool("update", false, "write the golden files anew")

// seeded returns a source of random numbers; TIDEMARK_SEED sets its seed, which a failing test prints. Without it the seed is fixed:
// bounds of approximate functions hold for nearly all inputs.
func seeded(t testing.TB) *rand.Rand {
	t.Helper()
	return rand.New(rand.NewPCG(seed.Or(t, 1), 0))
}

func functions(t testing.TB, names ...string) []Function {
	t.Helper()
	var out []Function
	for _, name := range names {
		f, err := Parse(name)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, f)
	}
	return out
}

// composite returns the composite of one value x.
func composite(t testing.TB, names ...string) *Composite {
	t.Helper()
	c, err := NewComposite([]Value{{Name: "x", Functions: functions(t, names...)}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// plain are all functions of numbers but the percentiles; every is all that rows of version 1 have.
func plain() []string {
	return []string{"count", "sum", "average", "min", "max", "variance", "stddev", "variance_sample", "stddev_sample"}
}

func every() []string {
	return append(plain(), "p0", "p0.1", "p1", "p5", "p25", "p50", "p75", "p90", "p95", "p99", "p99.9", "p100")
}

// rowOf returns a row of the values, in the order given.
func rowOf(c *Composite, values ...float64) *Row {
	r := &Row{}
	c.Reset(r)
	for _, v := range values {
		c.AddRecord(r)
		c.Add(r, 0, v)
	}
	return r
}

func result(t testing.TB, c *Composite, r *Row, name string) float64 {
	t.Helper()
	v, ok := c.Result(r, 0, functions(t, name)[0])
	if !ok {
		t.Fatalf("%s: no result", name)
	}
	return v
}

// reload stores a row and loads it into an empty one.
func reload(t testing.TB, c *Composite, r *Row) *Row {
	t.Helper()
	out := &Row{}
	c.Reset(out)
	mergeBinary(t, c, out, c.AppendBinary(nil, r))
	return out
}

func mergeBinary(t testing.TB, c *Composite, dst *Row, b []byte) {
	t.Helper()
	rest, err := c.MergeBinary(dst, b)
	if err != nil || len(rest) != 0 {
		t.Fatalf("MergeBinary: %d bytes left, %v", len(rest), err)
	}
}

// within reports whether two numbers are equal within a share of the largest of them and scale.
func within(share, a, b, scale float64) bool {
	return a == b || math.Abs(a-b) <= share*max(math.Abs(a), math.Abs(b), scale)
}

// rankError returns how far q, 0 to 1, is from the ranks that x has among ascending values.
func rankError(sorted []float64, x, q float64) float64 {
	n := float64(len(sorted))
	below, _ := slices.BinarySearch(sorted, x)
	upTo, _ := slices.BinarySearch(sorted, math.Nextafter(x, math.Inf(1)))
	return max(float64(below)/n-q, q-float64(upTo)/n, 0)
}
