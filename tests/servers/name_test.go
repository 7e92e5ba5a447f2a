package servers_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/tests/servers"
)

func TestNameIsALegalTopicAndNeverTheSame(t *testing.T) {
	legal := regexp.MustCompile(`^[A-Za-z0-9_-]{1,120}$`)
	t.Run("Größe/mit Leerzeichen", func(t *testing.T) {
		a, b := servers.Name(t, "late events"), servers.Name(t, strings.Repeat("long", 100))
		if again := servers.Name(t, "late events"); again == a {
			t.Errorf("the same name twice: %s", a)
		}
		for _, name := range []string{a, b} {
			if !legal.MatchString(name) {
				t.Errorf("%q is no topic name", name)
			}
		}
	})
}
