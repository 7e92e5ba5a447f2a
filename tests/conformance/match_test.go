package conformance

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
)

// match compares actual with the pattern expect and returns the differences, none if it matches. Both are made of nil, bool,
// string, numbers (json.Number, int, int64, float64), []any and map[string]any. Of an object only the members that expect
// names are compared; floats, on either side, are equal within 1e-9 of their size.
func match(expect, actual any) []string { return appendDiffs(nil, "expect", expect, actual) }

func appendDiffs(diffs []string, path string, expect, actual any) []string {
	differs := func() []string {
		return append(diffs, fmt.Sprintf("%s: want %v, got %v", path, expect, actual))
	}
	switch e := expect.(type) {
	case map[string]any:
		a, ok := actual.(map[string]any)
		if !ok {
			return differs()
		}
		for _, k := range slices.Sorted(maps.Keys(e)) {
			got, ok := a[k]
			if !ok {
				diffs = append(diffs, path+"."+k+": missing")
				continue
			}
			diffs = appendDiffs(diffs, path+"."+k, e[k], got)
		}
		return diffs
	case []any:
		a, ok := actual.([]any)
		if !ok || len(a) != len(e) {
			return differs()
		}
		for i := range e {
			diffs = appendDiffs(diffs, fmt.Sprintf("%s[%d]", path, i), e[i], a[i])
		}
		return diffs
	}
	if en, ok := toNumber(expect); ok {
		if an, ok := toNumber(actual); !ok || !en.equal(an) {
			return differs()
		}
		return diffs
	}
	switch actual.(type) {
	case map[string]any, []any: // not comparable with ==
		return differs()
	}
	if expect != actual {
		return differs()
	}
	return diffs
}

// number is an exact int64, or a float.
type number struct {
	i     int64
	f     float64
	exact bool
}

func toNumber(v any) (number, bool) {
	switch n := v.(type) {
	case int:
		return number{i: int64(n), f: float64(n), exact: true}, true
	case int64:
		return number{i: n, f: float64(n), exact: true}, true
	case float64:
		return number{f: n}, true
	case json.Number:
		if i, err := n.Int64(); err == nil {
			return number{i: i, f: float64(i), exact: true}, true
		}
		f, err := n.Float64()
		return number{f: f}, err == nil
	}
	return number{}, false
}

func (n number) equal(o number) bool {
	if n.exact && o.exact {
		return n.i == o.i
	}
	if n.f == o.f {
		return true
	}
	return math.Abs(n.f-o.f) <= max(1e-9*max(math.Abs(n.f), math.Abs(o.f)), 1e-12)
}

func TestMatchIsAPattern(t *testing.T) {
	type obj = map[string]any
	for _, c := range []struct {
		name           string
		expect, actual any
		want           string // the differences; empty: it matches
	}{
		{"members that are not named are not compared", obj{"a": json.Number("1")}, obj{"a": 1, "b": 2}, ""},
		{"members that are named must be there", obj{"a": json.Number("1")}, obj{"b": 1}, "expect.a: missing"},
		{"null is not absent", obj{"a": nil}, obj{}, "expect.a: missing"},
		{"null is null", obj{"a": nil}, obj{"a": nil}, ""},
		{"null is not 0", nil, 0, "expect: want <nil>, got 0"},
		{"a list's order counts", []any{json.Number("1"), json.Number("2")}, []any{2, 1}, "expect[0]: want 1, got 2; expect[1]: want 2, got 1"},
		{"a list's length counts", []any{}, []any{1}, "expect: want [], got [1]"},
		{"a list is no object", []any{}, obj{}, "expect: want [], got map[]"},
		{"integers are exact", json.Number("9223372036854775807"), int64(math.MaxInt64 - 1), "expect: want 9223372036854775807, got 9223372036854775806"},
		{"a float that is close", json.Number("2.0"), 2.000000001, ""},
		{"a float that is not", json.Number("2.0"), 2.00000001, "expect: want 2.0, got 2.00000001"},
		{"an integer expected, a float near it", json.Number("20"), 19.9999999999, ""},
		{"NaN is like nothing", json.Number("1"), math.NaN(), "expect: want 1, got NaN"},
		{"strings", "late", "late", ""},
		{"other strings", "late", "early", "expect: want late, got early"},
		{"a string is no number", "1", 1, "expect: want 1, got 1"},
		{"a list where a string is expected", "1", []any{1}, "expect: want 1, got [1]"},
		{"deep inside", obj{"f": []any{obj{"x": true}}}, obj{"f": []any{obj{"x": false}}}, "expect.f[0].x: want true, got false"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := strings.Join(match(c.expect, c.actual), "; "); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
