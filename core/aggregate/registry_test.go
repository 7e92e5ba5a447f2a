package aggregate

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestEveryKindHasItsRule(t *testing.T) {
	for i, r := range rules() {
		if int(r.Kind) != i+1 {
			t.Errorf("rule %d is of %v", i, r.Kind)
		}
		if r.Name == "" || r.Doc == "" || r.Error == "" || (r.eval == nil) == (r.json == nil) || r.Kind.String() != r.Name {
			t.Errorf("the rule of kind %d is incomplete: %+v", i+1, r.Entry)
		}
	}
	if n := len(Functions()); n != int(Distinct) {
		t.Errorf("Functions has %d entries, want %d", n, Distinct)
	}
	if got := Kind(99).String(); got != "Kind(99)" {
		t.Errorf("Kind(99) is %q", got)
	}
}

func TestParseReadsEveryName(t *testing.T) {
	for _, e := range Functions() {
		if e.Kind == Percentile {
			continue
		}
		f, err := Parse(e.Name)
		if err != nil || f.Kind != e.Kind || f.Name() != e.Name {
			t.Errorf("Parse(%q) = %+v, %v", e.Name, f, err)
		}
		if !slices.Contains(Names(), e.Name) {
			t.Errorf("Names has no %q", e.Name)
		}
	}
	for name, p := range map[string]float64{"p0": 0, "p5": 5, "p50": 50, "p99": 99, "p99.9": 99.9, "p0.001": 0.001, "p100": 100, "p99.999999": 99.999999} {
		f, err := Parse(name)
		if err != nil || f.Kind != Percentile || f.P != p || f.Name() != name {
			t.Errorf("Parse(%q) = %+v, %v", name, f, err)
		}
	}
}

func TestParseRefusesOtherNamesAndListsTheKnown(t *testing.T) {
	pattern := regexp.MustCompile(PercentilePattern)
	for _, name := range []string{
		"", "avg", "Count", "mean", "percentile", "p", "pp50", "p-1", "p+5", "p101", "p100.1", "p050", "p5.", "p.5", "p1e1", "p50 ", "p5_0",
		"p0x10", "pNaN", "pInf", "p99.9999999", "p1.2.3", "p१",
	} {
		_, err := Parse(name)
		if !errors.Is(err, ErrUnknownFunction) {
			t.Errorf("Parse(%q): %v, want ErrUnknownFunction", name, err)
			continue
		}
		for _, known := range append(Names(), "p99.9") {
			if !strings.Contains(err.Error(), known) {
				t.Errorf("the error for %q does not name %s: %v", name, known, err)
			}
		}
		if pattern.MatchString(name) {
			t.Errorf("the pattern matches %q, Parse does not", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range append(append(every(), Names()...), "p050", "p100.0", "p.5", "avg") {
		f.Add(name)
	}
	pattern := regexp.MustCompile(PercentilePattern)
	f.Fuzz(func(t *testing.T, name string) {
		fn, err := Parse(name)
		if known := slices.Contains(Names(), name) || pattern.MatchString(name); known != (err == nil) {
			t.Fatalf("Parse(%q): %v; the listing and the pattern say %v", name, err, known)
		}
		if err == nil && fn.Name() != name {
			t.Fatalf("Parse(%q).Name() = %q", name, fn.Name())
		}
	})
}
