//go:build servers

package kafkaio_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio/logtest"
)

func brokers(t *testing.T) []string {
	t.Helper()
	b := os.Getenv("TIDEMARK_TEST_BROKERS")
	if b == "" {
		t.Fatal(`TIDEMARK_TEST_BROKERS is not set: eval "$(tests/servers/up)"`)
	}
	return strings.Split(b, ",")
}

func TestClientOverRealBrokers(t *testing.T) {
	c := client(t, brokers(t)...)
	logtest.Run(t, func(*testing.T) logtest.Env { return env(c, true) })
}

func TestSessionsWithoutTransactionsOverRealBrokers(t *testing.T) {
	c := client(t, brokers(t)...)
	logtest.RunAtOnce(t, func(*testing.T) logtest.Env {
		e := atOnceEnv(c)
		e.FirstCommitWaits = true
		return e
	})
}

// The broker's cleaner runs every 15 s; what is waited for is that it has removed something.
func TestReadPassesWhatARealBrokerCompacted(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c := client(t, brokers(t)...)
	tp := event.TopicPartition{Topic: fmt.Sprintf("compacted-%x", time.Now().UnixNano())}
	must(t, c.CreateTopic(ctx, tp.Topic, 1, 1, map[string]string{
		"cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.001", "max.compaction.lag.ms": "100",
	}))
	must(t, c.Produce(ctx, []kafkaio.Message{{Topic: tp.Topic, Key: []byte("kept"), Value: []byte("kept")}}))
	const n = 30
	publish := func(key string) {
		s, err := c.Open(ctx, tp.Topic)
		must(t, err)
		defer s.Close()
		must(t, s.Begin(ctx))
		_, err = s.Produce(ctx, []kafkaio.Message{{Topic: tp.Topic, Key: []byte(key), Value: []byte("v")}})
		must(t, err)
		if key != "aborted" {
			must(t, s.End(ctx))
		}
	}
	for range n {
		publish("k")
	}
	publish("aborted")
	for {
		publish("roll") // a segment is rolled by an append, and only older ones are cleaned
		o, err := c.Offsets(ctx, []event.TopicPartition{tp})
		must(t, err)
		ks, next := 0, int64(0)
		err = c.Read(ctx, tp, 0, o[tp].End, func(rs []event.Record, to int64) error {
			for _, r := range rs {
				switch string(r.Key) {
				case "k":
					ks++
				case "aborted":
					t.Errorf("an aborted record is read at %d", r.Offset)
				}
			}
			next = to
			return nil
		})
		if err != nil || next != o[tp].End {
			t.Fatalf("read up to %d of %d: %v", next, o[tp].End, err)
		}
		if ks == 1 {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("nothing was compacted: %d of %d records are left", ks, n)
		case <-time.After(500 * time.Millisecond):
		}
	}
}
