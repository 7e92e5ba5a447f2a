package arch_test

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func documents(t *testing.T) []string {
	t.Helper()
	return files(t, func(name string) bool { return path.Ext(name) == ".md" && !strings.Contains(name, "testdata/") })
}

func TestDocumentsPointAtWhatExists(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#\s]+)(#[^)\s]*)?\)`)
	for _, doc := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(read(t, doc), -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			target := filepath.Join(root, filepath.FromSlash(path.Join(path.Dir(doc), m[1])))
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s, which is not there", doc, m[1])
			}
		}
	}
}

// targets returns the Makefile's targets and what help says of each ("" where it says nothing).
func targets(t *testing.T) map[string]string {
	t.Helper()
	rule := regexp.MustCompile(`(?m)^([a-z][A-Za-z0-9-]*):(?:[^=#\n][^#\n]*)?(?:##(.*))?$`)
	found := map[string]string{}
	for _, m := range rule.FindAllStringSubmatch(read(t, "Makefile"), -1) {
		found[m[1]] = strings.TrimSpace(m[2])
	}
	if len(found) == 0 {
		t.Fatal("no target found in the Makefile")
	}
	return found
}

func TestDocumentsNameMakeTargetsThatExist(t *testing.T) {
	have := targets(t)
	// Code alone: in a sentence "make sure" is no command.
	command := regexp.MustCompile("(?m)(?:`|^\\s*\\$?\\s*)make ([a-z][A-Za-z0-9-]*)")
	fence := regexp.MustCompile("(?s)```.*?```")
	inline := regexp.MustCompile("`[^`\n]+`")
	for _, doc := range documents(t) {
		text := read(t, doc)
		code := append(fence.FindAllString(text, -1), inline.FindAllString(fence.ReplaceAllString(text, ""), -1)...)
		for _, c := range code {
			for _, m := range command.FindAllStringSubmatch(c, -1) {
				if _, ok := have[m[1]]; !ok {
					t.Errorf("%s: make %s: the Makefile has no such target", doc, m[1])
				}
			}
		}
	}
}

func TestHelpListsEveryTarget(t *testing.T) {
	for name, says := range targets(t) {
		if says == "" {
			t.Errorf("make %s has no line in help: add \"## what it does\" to its rule", name)
		}
	}
}
