package job

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/spec"
)

// localdev/compose.yaml makes the topics that a run of its spec would make, in the same way.
func TestComposeMakesTheTopicsOfItsSpec(t *testing.T) {
	file := filepath.Join("..", "cli", "default.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	app, err := spec.Load(text, file)
	if err != nil {
		t.Fatal(err)
	}
	compose, err := os.ReadFile(filepath.Join("..", "..", "compose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{} // options by topic
	for _, m := range regexp.MustCompile(`(?m)^ *create ([a-z-]+) (--.*)$`).FindAllStringSubmatch(string(compose), -1) {
		got[m[1]] = m[2]
	}
	want := map[string]string{}
	for _, topic := range TopicsOf(app, 4) {
		options := []string{"--partitions", strconv.Itoa(int(topic.Partitions))}
		for _, key := range slices.Sorted(maps.Keys(topic.Configs)) {
			options = append(options, "--config", key+"="+topic.Configs[key])
		}
		want[topic.Name] = strings.Join(options, " ")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-spec +compose):\n%s", diff)
	}
}
