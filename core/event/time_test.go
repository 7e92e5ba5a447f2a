package event

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/llm-auto-optimizer/tidemark/tests/seed"
)

// anyInt64 prefers numbers near the ends of the range, near zero and near round numbers.
func anyInt64(r *rand.Rand) int64 {
	near := [...]int64{math.MinInt64, math.MaxInt64, 0, 1_700_000_400_000, -1_700_000_400_000, math.MaxInt64 / 2, math.MinInt64 / 2}
	switch r.IntN(3) {
	case 0:
		return near[r.IntN(len(near))] + r.Int64N(21) - 10 // may wrap: the other end is as good
	case 1:
		return int64(r.Uint64()) >> r.IntN(64)
	}
	return r.Int64N(2_000_001) - 1_000_000
}

// saturated returns v as an int64, or the end of the range on its side.
func saturated(v *big.Int) int64 {
	switch {
	case v.IsInt64():
		return v.Int64()
	case v.Sign() < 0:
		return math.MinInt64
	}
	return math.MaxInt64
}

func TestTimeArithmeticSaturates(t *testing.T) {
	r := seed.Rand(t)
	for range 200_000 {
		a, b := anyInt64(r), anyInt64(r)
		x, y := big.NewInt(a), big.NewInt(b)
		if got, want := Time(a).Add(Span(b)), saturated(new(big.Int).Add(x, y)); int64(got) != want {
			t.Fatalf("Time(%d).Add(%d) = %d, want %d", a, b, int64(got), want)
		}
		if got, want := Time(a).Sub(Time(b)), saturated(new(big.Int).Sub(x, y)); int64(got) != want {
			t.Fatalf("Time(%d).Sub(%d) = %d, want %d", a, b, int64(got), want)
		}
	}
}

func TestFloorIsTheLargestMultipleNotAbove(t *testing.T) {
	check := func(at, step, offset int64) {
		t.Helper()
		// floor((at - offset) / step) * step + offset; big.Int's Div rounds down for a positive divisor.
		w := new(big.Int).Sub(big.NewInt(at), big.NewInt(offset))
		w.Div(w, big.NewInt(step)).Mul(w, big.NewInt(step)).Add(w, big.NewInt(offset))
		if got := Time(at).Floor(Span(step), Span(offset)); int64(got) != saturated(w) {
			t.Fatalf("Time(%d).Floor(%d, %d) = %d, want %v", at, step, offset, int64(got), w)
		}
	}
	for _, at := range []int64{-60_001, -60_000, -59_999, -1, 0, 1, 59_999, 60_000, math.MinInt64, math.MaxInt64} {
		for _, offset := range []int64{0, 1, -1, 59_999, -59_999} {
			check(at, 60_000, offset)
		}
	}
	check(math.MaxInt64, math.MaxInt64, -math.MaxInt64+1)
	check(math.MaxInt64-1, math.MaxInt64, -(math.MaxInt64 - 1))
	check(math.MinInt64, math.MaxInt64, math.MaxInt64)
	r := seed.Rand(t)
	for range 200_000 {
		step := anyInt64(r) & math.MaxInt64
		check(anyInt64(r), max(step, 1), anyInt64(r))
	}
}

func TestTimeConvertsToAndFromGo(t *testing.T) {
	for _, c := range []struct {
		in   time.Time
		want Time
		text string
	}{
		{time.Unix(0, 0), 0, "1970-01-01T00:00:00Z"},
		{time.Unix(0, 1_999_999), 1, "1970-01-01T00:00:00.001Z"},
		{time.Unix(0, -1), -1, "1969-12-31T23:59:59.999Z"},
		{time.Date(2025, 1, 1, 14, 35, 0, 0, time.FixedZone("", 2*3600)), 1735734900000, "2025-01-01T12:35:00Z"},
	} {
		got := FromGo(c.in)
		if got != c.want || got.String() != c.text {
			t.Errorf("FromGo(%v) = %d %v, want %d %s", c.in, int64(got), got, int64(c.want), c.text)
		}
		if back := got.Go(); FromGo(back) != got || back.Location() != time.UTC {
			t.Errorf("Go of %d = %v", int64(got), back)
		}
	}
	if a, b := MinTime.String(), MaxTime.String(); a != "-inf" || b != "+inf" {
		t.Errorf("ends are %q and %q", a, b)
	}
}

func TestSpanConvertsToAndFromDurations(t *testing.T) {
	for _, c := range []struct {
		s Span
		d time.Duration
	}{
		{0, 0},
		{90_000, 90 * time.Second},
		{-1, -time.Millisecond},
		{math.MaxInt64/1_000_000 + 1, math.MaxInt64},
		{math.MinInt64, math.MinInt64},
	} {
		if got := c.s.Duration(); got != c.d {
			t.Errorf("Span(%d).Duration() = %v, want %v", c.s, got, c.d)
		}
	}
	if got := SpanOf(1_999_999 * time.Nanosecond); got != 1 {
		t.Errorf("SpanOf(1.999999ms) = %d, want 1", got)
	}
}
