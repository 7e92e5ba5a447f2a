package spec

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/core/aggregate"
)

// walk calls f for every field of the table.
func walk(path string, block *field, f func(path string, x *field)) {
	for i := range block.fields {
		x := &block.fields[i]
		at := joinPath(path, x.name)
		f(at, x)
		walk(at, x, f)
		if x.elem != nil {
			f(at+"[]", x.elem)
			walk(at+"[]", x.elem, f)
		}
	}
}

func TestEveryKeyIsDescribedWithItsDefault(t *testing.T) {
	walk("", language(), func(path string, f *field) {
		if strings.HasSuffix(path, "[]") {
			return
		}
		if f.status == statusRefused {
			if f.reason == "" {
				t.Errorf("%s: refused without a reason", path)
			}
			return
		}
		if f.doc == "" {
			t.Errorf("%s: no doc", path)
		}
		if f.status == statusBuilt && f.kind != kindBlock && f.def == nil && f.absent == "" {
			t.Errorf("%s: neither a default nor what holds without it", path)
		}
		if f.status == statusBuilt && f.kind == kindInt && f.bounds == nil {
			t.Errorf("%s: a number without bounds", path)
		}
		if f.status == statusBuilt && f.def == nil && f.example == "" {
			t.Errorf("%s: no example", path)
		}
		if f.status == statusBuilt && (f.kind == kindInt || f.kind == kindNumber) && f.unit == "" {
			t.Errorf("%s: a number without a unit", path)
		}
		if f.status == statusBuilt && f.kind == kindDuration && f.bounds == nil && f.within == "" {
			t.Errorf("%s: a duration without bounds", path)
		}
		if f.example != "" && !json.Valid([]byte(f.example)) {
			t.Errorf("%s: example %s is not JSON", path, f.example)
		}
		if (f.kind == kindList || f.kind == kindMap) && f.status == statusBuilt && f.bounds == nil {
			t.Errorf("%s: no bound of its length", path)
		}
	})
}

func TestNoTwoKeysOfABlockHaveASpellingInCommon(t *testing.T) {
	check := func(path string, block *field) {
		seen := map[string]string{}
		for i := range block.fields {
			for _, s := range block.fields[i].spellings() {
				if other, ok := seen[s.name]; ok {
					t.Errorf("%s: %s is a spelling of %s and of %s", path, s.name, other, block.fields[i].name)
				}
				seen[s.name] = block.fields[i].name
			}
		}
	}
	check("", language())
	walk("", language(), check)
}

// Defaults must be legal themselves: within their bounds and formats, and members of their sets.
func TestDefaultsAreLegal(t *testing.T) {
	walk("", language(), func(path string, f *field) {
		v := (&checker{}).read(f, nil, path, place{1, 1})
		switch f.def.(type) {
		case string:
			if len(f.enum) > 0 && !slices.Contains(f.enum, v.str) {
				t.Errorf("%s: default %q", path, v.str)
			}
			if message, _ := f.format.check(v.str); message != "" {
				t.Errorf("%s: default %q %s", path, v.str, message)
			}
		case []string, []float64, bool, nil:
		default:
			if b := f.bounds; b != nil && (v.num < b.min || v.num > b.max) {
				t.Errorf("%s: default %d, bounds %v", path, v.num, *b)
			}
		}
	})
}

func TestDefaultFunctionsExist(t *testing.T) {
	names, _ := language().at("processor", "aggregation", "enabled").def.([]string)
	functions, _ := expand(names, []float64{0, 99.9, 100})
	for _, name := range functions {
		if _, err := aggregate.Parse(name); err != nil {
			t.Error(err)
		}
	}
	if want := []string{"count", "sum", "average", "min", "max", "p0", "p99.9", "p100", "stddev"}; !slices.Equal(functions, want) {
		t.Errorf("got %v, want %v", functions, want)
	}
}

func TestNearest(t *testing.T) {
	f := func(name, want string, candidates ...string) {
		t.Helper()
		if got := nearest(name, candidates); got != want {
			t.Errorf("%s among %v: got %q, want %q", name, candidates, got, want)
		}
	}
	f("redi", "redis", "redis", "bolt")
	f("tumblnig", "tumbling", "sliding", "tumbling")
	f("zebra", "", "topic", "name")
	f("", "", "topic")
}
