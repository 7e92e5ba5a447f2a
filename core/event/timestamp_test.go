package event

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/llm-auto-optimizer/tidemark/tests/seed"
)

func numberField(s string) Field { return Field{Kind: FieldNumber, Raw: []byte(s)} }
func stringField(s string) Field { return Field{Kind: FieldString, Raw: []byte(s)} }

func TestParseTimestampReadsNumbersInEachUnit(t *testing.T) {
	for _, c := range []struct {
		raw, unit string
		want      Time
	}{
		{"1700000400000", "ms", 1700000400000},
		{"1.7e12", "ms", 1700000000000},
		{"1700000400000.999", "ms", 1700000400000},
		{"1700000400", "s", 1700000400000},
		{"1700000400.123", "s", 1700000400123},
		{"1700000400.1239", "s", 1700000400123},
		{"17000004001239e-4", "s", 1700000400123},
		{"1700000400123999", "us", 1700000400123},
		{"1700000400123999999", "ns", 1700000400123},
		{"0", "s", 0},
		{"-0", "ms", 0},
		{"-0.0", "ms", 0},
		{"0e999999999999999999999", "ms", 0},
		{"1e-999999999999999999999", "ms", 0},
		{"-1e-999999999999999999999", "ms", -1},
		{"-0.5", "ms", -1},
		{"-1.0", "ms", -1},
		{"-1.001", "ms", -2},
		{"-1", "us", -1},
		{"-1000", "us", -1},
		{"-1001", "us", -2},
		{"-1", "ns", -1},
		{"-1000000", "ns", -1},
		{"999999", "ns", 0},
		{"9223372036854775806", "ms", math.MaxInt64 - 1},
		{"9223372036854775806.9", "ms", math.MaxInt64 - 1},
		{"-9223372036854775807", "ms", math.MinInt64 + 1},
		{"9223372036854775.806", "s", math.MaxInt64 - 1},
		{"0.000" + strings.Repeat("0", 400) + "1e404", "s", 1000},
		{"1" + strings.Repeat("0", 400) + "e-400", "s", 1000},
	} {
		if got, err := ParseTimestamp(numberField(c.raw), c.unit); err != nil || got != c.want {
			t.Errorf("%.40s %s = %d, %v; want %d", c.raw, c.unit, got, err, c.want)
		}
	}
}

func TestParseTimestampIsExactForAnyDecimal(t *testing.T) {
	shift := map[string]int64{"s": 3, "ms": 0, "us": -3, "ns": -6}
	r := seed.Rand(t)
	for range 100_000 {
		unit := []string{"s", "ms", "us", "ns"}[r.IntN(4)]
		raw := fmt.Sprint(anyInt64(r))
		if r.IntN(2) == 0 {
			raw += fmt.Sprintf(".%0*d", r.IntN(12), r.IntN(1000))
		}
		if r.IntN(2) == 0 {
			raw += fmt.Sprintf("e%+d", r.IntN(40)-20)
		}
		exact, ok := new(big.Rat).SetString(raw)
		if !ok {
			t.Fatal(raw)
		}
		scale := new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(max(shift[unit], -shift[unit])), nil))
		if shift[unit] < 0 {
			scale.Inv(scale)
		}
		exact.Mul(exact, scale)
		want := new(big.Int).Div(exact.Num(), exact.Denom()) // down, for a positive divisor
		fits := want.IsInt64() && want.Int64() != math.MinInt64 && want.Int64() != math.MaxInt64
		got, err := ParseTimestamp(numberField(raw), unit)
		if fits != (err == nil) || fits && int64(got) != want.Int64() {
			t.Fatalf("%s %s = %d, %v; want %v", raw, unit, int64(got), err, want)
		}
	}
}

func TestParseTimestampReadsRFC3339(t *testing.T) {
	for raw, want := range map[string]Time{
		"2025-01-01T12:35:00Z":                 1735734900000,
		"2025-01-01t12:35:00z":                 1735734900000,
		"2025-01-01T12:35:00.5Z":               1735734900500,
		"2025-01-01T12:35:00.123999999999999Z": 1735734900123,
		"2025-01-01T14:35:00+02:00":            1735734900000,
		"2025-01-01T07:05:00.001-05:30":        1735734900001,
		"2025-01-01T12:35:00-00:00":            1735734900000,
		"1969-12-31T23:59:59.9999Z":            -1,
		"1970-01-01T00:00:00Z":                 0,
		"2000-02-29T00:00:00Z":                 951782400000,
		"0000-01-01T00:00:00Z":                 -62167219200000,
		"9999-12-31T23:59:59.999Z":             253402300799999,
		"2016-12-31T23:59:60Z":                 1483228800000,
		"2017-01-01T05:29:60.5+05:30":          1483228800500,
	} {
		for _, unit := range []string{"s", "ns"} {
			if got, err := ParseTimestamp(stringField(raw), unit); err != nil || got != want {
				t.Errorf("%s = %d, %v; want %d", raw, int64(got), err, int64(want))
			}
		}
	}
	r := seed.Rand(t)
	for range 100_000 {
		at := time.Unix(r.Int64N(320_000_000_000)-65_000_000_000, r.Int64N(1e9)).In(time.FixedZone("", (r.IntN(2*24*60-1)-24*60+1)*60))
		if at.Year() < 0 || at.Year() > 9999 {
			continue
		}
		raw := at.Format(time.RFC3339Nano)
		if got, err := ParseTimestamp(stringField(raw), "ms"); err != nil || got != FromGo(at) {
			t.Fatalf("%s = %d, %v; want %d", raw, int64(got), err, int64(FromGo(at)))
		}
	}
}

func TestParseTimestampRefusesTheRest(t *testing.T) {
	bad := []Field{
		{},
		{Kind: FieldNull, Raw: []byte("null")},
		{Kind: FieldBool, Raw: []byte("true")},
		{Kind: FieldObject, Raw: []byte("{}")},
		{Kind: FieldArray, Raw: []byte("[1]")},
	}
	for _, s := range []string{
		"9223372036854775807", "-9223372036854775808", "9223372036854775808", "-9223372036854775807.5", "1e19", "-1e400", "1e99999999999999999999",
		"18446744073709551617", "1" + strings.Repeat("0", 60), "", "-", "01", "1.", "x",
	} {
		bad = append(bad, numberField(s))
	}
	for _, s := range []string{
		"", "1700000400000", "17000004000000000000000000", "1.7e12", "now", "2025-01-01", "2025-01-01T12:35Z", "2025-01-01T12:35:00",
		"2025-01-01 12:35:00Z", "2025-01-01T12:35:00.Z", "2025-01-01T12:35:00,5Z", "2025-01-01T12:35:00Zx", "2025-01-01T12:35:00+0200",
		"2025-01-01T12:35:00+24:00", "2025-01-01T12:35:00+01:60", "2025-01-01T12:35:00+0a:00", "2025-00-01T12:35:00Z", "2025-13-01T12:35:00Z",
		"2025-01-00T12:35:00Z", "2025-02-29T12:35:00Z", "1900-02-29T00:00:00Z", "2025-04-31T12:35:00Z", "2025-01-01T24:00:00Z",
		"2025-01-01T12:60:00Z", "2025-01-01T12:35:61Z", "2025-01-01T12:35:60Z", "2025-01-01T23:59:60+01:00", "+2025-01-01T12:35:00Z",
		"10000-01-01T00:00:00Z", "2025-1-1T12:35:00Z", "2025-01-01T12:35:00.5", "2025-01-01T12:35:0\xff",
	} {
		bad = append(bad, stringField(s))
	}
	for _, f := range bad {
		if got, err := ParseTimestamp(f, "ms"); !errors.Is(err, ErrTimestamp) || got != 0 {
			t.Errorf("%v %.40q = %d, %v; want ErrTimestamp", f.Kind, f.Raw, int64(got), err)
		}
	}
	for _, c := range [][2]string{{"9223372036854776", "s"}, {"1", "m"}, {"1", ""}} {
		if got, err := ParseTimestamp(numberField(c[0]), c[1]); !errors.Is(err, ErrTimestamp) {
			t.Errorf("%s %q = %d, %v; want ErrTimestamp", c[0], c[1], int64(got), err)
		}
	}
}

func TestParseTimestampDoesNotAllocate(t *testing.T) {
	fields := []Field{numberField("1700000400000"), numberField("1700000400.123"), stringField("2025-01-01T14:35:00.25+02:00")}
	if n := testing.AllocsPerRun(100, func() {
		for _, f := range fields {
			if _, err := ParseTimestamp(f, "s"); err != nil {
				t.Fatal(err)
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkParseTimestamp(b *testing.B) {
	for name, f := range map[string]Field{
		"integer": numberField("1700000400000"), "decimal": numberField("1700000400.123"), "rfc3339": stringField("2025-01-01T14:35:00.25+02:00"),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ParseTimestamp(f, "ms"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
