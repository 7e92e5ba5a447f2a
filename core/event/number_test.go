package event

import (
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/tests/seed"
)

func TestParseFloatIsCorrectlyRounded(t *testing.T) {
	for in, want := range map[string]float64{
		"0": 0, "-0": math.Copysign(0, -1), "-0.00": math.Copysign(0, -1), "148.41": 148.41, "1e3": 1000, "1.5E-3": 0.0015,
		"9007199254740992": 1 << 53, "9007199254740993": 1 << 53, "9007199254740995": 9007199254740996,
		"0.1": 0.1, "0.1000000000000000055511151231257827021181583404541015625": 0.1,
		"123456789012345.6": 123456789012345.6, "0.0000000000000000000001": 1e-22, "5e-324": 5e-324, "2e-324": 0, "1e-9999": 0,
		"1.7976931348623157e308": math.MaxFloat64, "179769313486231570000" + strings.Repeat("0", 288): math.MaxFloat64,
		"18446744073709551616": 1 << 64, "36893488147419103232.0": 1 << 65,
	} {
		got, err := ParseFloat([]byte(in))
		if err != nil || math.Float64bits(got) != math.Float64bits(want) {
			t.Errorf("%s = %v, %v; want %v", in, got, err, want)
		}
	}
	r := seed.Rand(t)
	for range 200_000 {
		var in string
		switch v := math.Float64frombits(r.Uint64()); {
		case math.IsNaN(v) || math.IsInf(v, 0):
			continue
		case r.IntN(2) == 0:
			in = strconv.FormatFloat(v, 'e', -1, 64)
		default:
			in = strconv.FormatFloat(float64(int64(r.Uint64()>>r.IntN(64)))/math.Pow10(r.IntN(20)), 'f', r.IntN(18), 64)
		}
		want, err := strconv.ParseFloat(in, 64)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParseFloat([]byte(in)); err != nil || math.Float64bits(got) != math.Float64bits(want) {
			t.Fatalf("%s = %v, %v; want %v", in, got, err, want)
		}
	}
}

func TestParseFloatRefusesInfinityAndOtherText(t *testing.T) {
	for _, in := range []string{"1e400", "-1e400", "1e99999999999999999999", "1.7976931348623159e308", "1" + strings.Repeat("0", 309)} {
		if v, err := ParseFloat([]byte(in)); !errors.Is(err, ErrNotFinite) || v != 0 {
			t.Errorf("%.30s = %v, %v; want ErrNotFinite", in, v, err)
		}
	}
	for _, in := range []string{"", "-", "+1", "01", "-01.5", "1.", ".5", "1e", "1e+", "NaN", "Infinity", "0x10", "1_000", " 1", "1 ", "1,5", "\"1\""} {
		if v, err := ParseFloat([]byte(in)); !errors.Is(err, ErrNumber) || v != 0 {
			t.Errorf("%q = %v, %v; want ErrNumber", in, v, err)
		}
	}
}

func TestParseIntIsExact(t *testing.T) {
	for in, want := range map[string]int64{
		"0": 0, "-0": 0, "7": 7, "-12": -12, "1700000400000": 1700000400000,
		"9223372036854775807": math.MaxInt64, "-9223372036854775808": math.MinInt64,
	} {
		if got, ok := ParseInt([]byte(in)); !ok || got != want {
			t.Errorf("%s = %d, %v", in, got, ok)
		}
	}
	for _, in := range []string{
		"", "-", "+1", "00", "01", "-01", "1.0", "1e3", "a", " 1", "9223372036854775808", "-9223372036854775809",
		"9999999999999999999", "18446744073709551616", "100000000000000000000",
	} {
		if got, ok := ParseInt([]byte(in)); ok {
			t.Errorf("%q = %d", in, got)
		}
	}
}

func TestNumbersDoNotAllocate(t *testing.T) {
	in := [][]byte{[]byte("148.41"), []byte("-17"), []byte("0.12345678901234567"), []byte("1.7976931348623157e308"), []byte("12345678901234567890123456789012")}
	if n := testing.AllocsPerRun(100, func() {
		for _, raw := range in {
			if _, err := ParseFloat(raw); err != nil {
				t.Fatal(err)
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkParseFloat(b *testing.B) {
	for _, in := range []string{"17", "148.41", "0.12345678901234567"} {
		b.Run(in, func(b *testing.B) {
			raw := []byte(in)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ParseFloat(raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// FuzzParseFloat compares with encoding/json's idea of a number and strconv's of its value.
func FuzzParseFloat(f *testing.F) {
	for _, s := range []string{"0", "-0.0", "148.41", "1e400", "9007199254740993", "01", "1.", "123456789012345678901234567890", "1e-400", "0.30000000000000004"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := ParseFloat(raw)
		isNumber := len(raw) > 0 && (raw[0] == '-' || raw[0]-'0' <= 9) && raw[len(raw)-1]-'0' <= 9 && json.Valid(raw)
		if !isNumber {
			if !errors.Is(err, ErrNumber) {
				t.Fatalf("%q = %v, %v; want ErrNumber", raw, got, err)
			}
			return
		}
		want, wantErr := strconv.ParseFloat(string(raw), 64)
		switch {
		case wantErr != nil:
			if !errors.Is(err, ErrNotFinite) {
				t.Fatalf("%q = %v, %v; want ErrNotFinite", raw, got, err)
			}
		case err != nil || math.Float64bits(got) != math.Float64bits(want):
			t.Fatalf("%q = %v, %v; want %v", raw, got, err, want)
		}
		if v, ok := ParseInt(raw); ok {
			if w, err := strconv.ParseInt(string(raw), 10, 64); err != nil || w != v {
				t.Fatalf("%q = %d, want %d, %v", raw, v, w, err)
			}
		}
	})
}
