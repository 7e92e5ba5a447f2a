package trigger_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The document's table names every case, and no other.
func TestTheDesignListsEveryCase(t *testing.T) {
	text, err := os.ReadFile("../../DESIGN.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "### Behaviour, and the case that holds it")
	table, _, _ = strings.Cut(table, "\n### ")
	listed := map[string]bool{}
	for line := range strings.SplitSeq(table, "\n") {
		cells := strings.Split(line, "|")
		if len(cells) < 5 {
			continue
		}
		for _, m := range regexp.MustCompile("`([A-Z][A-Za-z]+)`").FindAllStringSubmatch(cells[3], -1) {
			listed[m[1]] = true
		}
	}
	for _, b := range behaviours() {
		if !listed[b.name] {
			t.Errorf("%s is not listed", b.name)
		}
		delete(listed, b.name)
	}
	for name := range listed {
		t.Errorf("%s is listed, and there is no such case", name)
	}
}
