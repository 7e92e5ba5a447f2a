//go:build servers

package trigger_test

import (
	"testing"

	"github.com/llm-auto-optimizer/tidemark/tests/servers"
)

func TestConformanceOnKafka(t *testing.T) {
	t.Parallel()
	addrs := servers.Brokers(t)
	for _, b := range behaviours() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			b.run(t, newStage(t, addrs, func(base string) string { return servers.Name(t, base) }, b.partitions))
		})
	}
}
