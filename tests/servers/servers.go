// Package servers tells tests where the real Kafka and Redis are, and runs a Redis of a test's own.
//
// Tests that need a server carry the build tag `servers`, so that a plain `go test ./...` needs Go alone; `make test`
// starts the servers and sets the tag. A test that carries the tag and finds no server fails: it never passes by
// doing nothing.
package servers

import (
	"crypto/rand"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/core/spec"
)

// The variables that tests/servers/up prints.
const (
	brokersVariable      = "TIDEMARK_TEST_BROKERS"
	redisVariable        = "TIDEMARK_TEST_REDIS"
	redisClusterVariable = "TIDEMARK_TEST_REDIS_CLUSTER"
)

// Brokers returns the host:port addresses of a Kafka cluster that tests may create topics in; at least one. It ends
// the test when there is none. The cluster is shared: name topics, groups and transactional ids with Name.
func Brokers(t testing.TB) []string {
	t.Helper()
	return list(t, brokersVariable)
}

// Redis returns the URL (redis://host:port) of one Redis server that is not a cluster. It ends the test when there is
// none. The server is shared: put Name into every key, and never flush it; StartRedis gives one that may be flushed.
func Redis(t testing.TB) string {
	t.Helper()
	return list(t, redisVariable)[0]
}

// RedisCluster returns the host:port addresses of the masters of a Redis Cluster, joined by commas: more than one, so
// that client code takes it for a cluster. It ends the test when there is none. The cluster is shared, as Redis is.
func RedisCluster(t testing.TB) string {
	t.Helper()
	nodes := list(t, redisClusterVariable)
	if len(nodes) < 2 {
		t.Fatalf("%s=%s: a cluster is at least two addresses joined by commas", redisClusterVariable, nodes[0])
	}
	return strings.Join(nodes, ",")
}

// Name returns a name that no other test and no other run uses, made of the test's name, base and 64 random bits. Its
// letters are those allowed in a topic name; it has at most 120 bytes (Kafka allows 249).
func Name(t testing.TB, base string) string {
	t.Helper()
	var random [8]byte
	if _, err := rand.Read(random[:]); err != nil {
		t.Fatalf("random name: %v", err)
	}
	name := strings.Map(topicLetter, t.Name()+"-"+base)
	return name[:min(len(name), 103)] + "-" + hex.EncodeToString(random[:])
}

// TopicConfigs are what a topic is to be created with on servers that tests share: those that the functions keep for themselves have
// to be as preflight wants them, whoever creates them first.
func TopicConfigs(topic string) map[string]string {
	switch topic {
	case spec.LedgerTopic:
		return map[string]string{"retention.ms": "-1"}
	case spec.PanesTopic:
		return map[string]string{"cleanup.policy": "compact"}
	}
	return nil
}

// topicLetter replaces what a Kafka topic name must not contain.
func topicLetter(r rune) rune {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_':
		return r
	}
	return '-'
}

func list(t testing.TB, variable string) []string {
	t.Helper()
	var addresses []string
	for address := range strings.SplitSeq(os.Getenv(variable), ",") {
		if address = strings.TrimSpace(address); address != "" {
			addresses = append(addresses, address)
		}
	}
	if len(addresses) == 0 {
		t.Fatalf("%s is not set: this test needs real servers. From the top of the repository:\n\teval \"$(tests/servers/up)\"", variable)
	}
	return addresses
}
