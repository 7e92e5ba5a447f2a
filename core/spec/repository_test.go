package spec_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/core/spec"
)

// repositorySpecs returns every spec that the repository shows or ships, by where it is.
func repositorySpecs(t *testing.T) map[string]string {
	t.Helper()
	specs := map[string]string{}
	for _, pattern := range []string{
		"core/spec/example.yaml", "infra/tidemark.yaml", "localdev/examples/*/spec.yaml", "localdev/internal/cli/default.yaml",
		"localdev/internal/replay/testdata/*.yaml", "tests/testdata/*.yaml",
	} {
		names, err := filepath.Glob(filepath.Join("..", "..", filepath.FromSlash(pattern)))
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(names), err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			specs[name] = string(text)
		}
	}
	const readme = "../../README.md"
	text, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	snippets := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(snippets) < 3 {
		t.Errorf("%s: %d snippets of YAML", readme, len(snippets))
	}
	for _, m := range snippets {
		whole := m[1]
		if !regexp.MustCompile(`(?m)^pipelines:`).MatchString(whole) {
			whole += "pipelines: [{name: p, topics: [in], sink: {topic: out}}]\n" // a part: what it is about
		}
		specs[readme+": "+strings.SplitN(m[1], "\n", 2)[0]] = whole
	}
	return specs
}

func TestEverySpecOfTheRepositoryLoadsAndTheSchemaTakesIt(t *testing.T) {
	for name, text := range repositorySpecs(t) {
		if _, err := spec.Load([]byte(text), name); err != nil {
			t.Errorf("Load: %v", err)
		}
		if err := bySchema(t, text); err != nil {
			t.Errorf("%s: the schema refuses: %v", name, err)
		}
	}
}
