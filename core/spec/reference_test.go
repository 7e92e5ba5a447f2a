package spec_test

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/llm-auto-optimizer/tidemark/core/aggregate"
	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
)

// Each example of the page is put into a spec that has its source and results, and nothing else.
func TestEveryExampleOfTheReferenceLoads(t *testing.T) {
	examples := spec.ReferenceExamples()
	if len(examples) < 100 {
		t.Fatalf("only %d examples", len(examples))
	}
	for _, path := range slices.Sorted(maps.Keys(examples)) {
		t.Run(path, func(t *testing.T) {
			base := least
			if strings.HasPrefix(path, "kafka") {
				base = "kafka: {consumer: {topics: [in]}, producer: {result_topic: out}}"
			}
			var whole, part map[string]any
			for text, into := range map[string]*map[string]any{base: &whole, examples[path]: &part} {
				if err := yaml.Unmarshal([]byte(text), into); err != nil {
					t.Fatalf("%v in %s", err, text)
				}
			}
			text, err := json.Marshal(merged(whole, part))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := spec.Load(text, "example"); err != nil {
				t.Errorf("Load: %v\n%s", err, text)
			}
			if err := bySchema(t, string(text)); err != nil {
				t.Errorf("schema: %v\n%s", err, text)
			}
		})
	}
}

// merged puts the keys of b into a, at any depth.
func merged(a, b map[string]any) map[string]any {
	for k, v := range b {
		under, ok := a[k].(map[string]any)
		if over, both := v.(map[string]any); ok && both {
			v = merged(under, over)
		}
		a[k] = v
	}
	return a
}

func TestTheReferenceHasEveryKeyFunctionAndReason(t *testing.T) {
	page := spec.Reference()
	for path := range spec.ReferenceExamples() {
		if shared := strings.HasPrefix(path, "processor.kafka.") || strings.HasPrefix(path, "processor.metrics."); shared {
			continue // described once, at the top level
		}
		name := path[strings.LastIndex(path, ".")+1:]
		if !strings.Contains(page, "\n| `"+name+"`") {
			t.Errorf("%s has no row", path)
		}
	}
	for _, f := range append(aggregate.Names(), "percentile", "p100") {
		if !strings.Contains(page, "`"+f+"`") {
			t.Errorf("function %s is missing", f)
		}
	}
	for _, r := range event.Reasons() {
		if !strings.Contains(page, "- `"+string(r.Reason)+"`: ") {
			t.Errorf("reason %s is missing", r.Reason)
		}
	}
	for _, refused := range []string{"`sasl_password`", "`fetch_min_bytes`", "`rocksdb` is read as `bolt`", "`processing_time`", "`calendar`"} {
		if !strings.Contains(page, refused) {
			t.Errorf("%s is missing", refused)
		}
	}
}

func TestLinksOfTheReferenceLead(t *testing.T) {
	page := spec.Reference()
	anchors := map[string]int{}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(page, -1) {
		anchors[spec.Anchor(m[1])]++
	}
	for a, n := range anchors {
		if n > 1 {
			t.Errorf("%d headings have the anchor %s", n, a)
		}
	}
	links := regexp.MustCompile(`\]\(#([^)]*)\)`).FindAllStringSubmatch(page, -1)
	if len(links) < 40 {
		t.Errorf("only %d links", len(links))
	}
	for _, m := range links {
		if anchors[m[1]] == 0 {
			t.Errorf("no heading has the anchor %s", m[1])
		}
	}
}

// A terminal shows what is written: paragraphs fit, and the columns of tables stand below each other.
func TestTheReferenceIsReadableAsItIs(t *testing.T) {
	lines := strings.Split(spec.Reference(), "\n")
	for i, line := range lines {
		n := len([]rune(line))
		table := strings.HasPrefix(line, "|")
		if n > 160 && !strings.HasPrefix(line, "Example: ") {
			t.Errorf("line %d has %d characters: %s", i+1, n, line)
		}
		if table && strings.HasPrefix(lines[i-1], "|") && n != len([]rune(lines[i-1])) {
			t.Errorf("line %d is not aligned: %s", i+1, line)
		}
	}
}

func TestTheReferenceHasFunctionsOfOnesOwn(t *testing.T) {
	g, err := aggregate.NewRegistry(aggregate.Definition{Name: "median_of_three", Doc: "Of three, the middle one.", Version: 1, New: func() aggregate.State { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	if page := spec.Reference(spec.WithFunctions(g)); !strings.Contains(page, "- `median_of_three`: Of three, the middle one.") {
		t.Error("it is missing")
	}
}
