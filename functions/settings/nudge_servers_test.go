//go:build servers

package settings

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/tests/servers"
)

// Whoever does not want nudges gets no signals, of which they are made: neither function leaves any or looks for some.
func TestSignalsAreThereUnlessNobodyIsToBeNudged(t *testing.T) {
	file := filepath.Join(t.TempDir(), "spec.yaml")
	text := `
app: nudge
pipelines:
  - name: p
    topics: [in]
    sink: {topic: out}
    windows: [{name: w, type: tumbling, size: 1s}]
    aggregates: {value: [count]}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for nudge, want := range map[string]bool{"": true, "on": true, "off": false} {
		r, err := Open(t.Context(), env(map[string]string{
			EnvConfig: file, EnvBrokers: strings.Join(servers.Brokers(t), ","), EnvRedis: servers.Redis(t), EnvNudge: nudge,
		}), io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Signals != nil; got != want {
			t.Errorf("%s=%s: there are signals is %v, want %v", EnvNudge, nudge, got, want)
		}
		r.Kafka.Close()
		if err := r.Store.Close(); err != nil {
			t.Error(err)
		}
	}
}
