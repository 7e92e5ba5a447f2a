//go:build servers

package kafkaio_test

import (
	"os"
	"strings"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio/logtest"
)

func TestClientOverRealBrokers(t *testing.T) {
	brokers := os.Getenv("TIDEMARK_TEST_BROKERS")
	if brokers == "" {
		t.Fatal(`TIDEMARK_TEST_BROKERS is not set: eval "$(tests/servers/up)"`)
	}
	c := client(t, strings.Split(brokers, ",")...)
	logtest.Run(t, func(*testing.T) logtest.Env { return env(c, true) })
}
