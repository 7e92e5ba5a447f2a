//go:build servers

package crash

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/llm-auto-optimizer/tidemark/tests/seed"
)

// testLog writes lines to the test's log.
type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

// The short version of make crash: both sides of every call that plans and batches make, each kind of fault, and a rebuild.
func TestKilledFunctionsAndServersLoseAndDoubleNothing(t *testing.T) {
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	report, err := Run(ctx, Options{
		Root: root, Out: testLog{t}, Seed: seed.Of(t), Stages: 2, Kills: 44, Failovers: 3, Flushes: 1, Bounces: 2, Vanished: 1, Rebuild: 100_000, Deadline: 2300 * time.Millisecond,
		EssentialOnly: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range report.Problems {
		t.Error(p)
	}
	t.Log(report.Results())
}
