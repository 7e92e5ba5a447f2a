package kafkaio_test

import (
	"context"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio/logtest"
)

func TestClientOverFakeCluster(t *testing.T) {
	for name, opts := range map[string][]kfake.Opt{
		"an epoch per transaction": nil,
		"before that":              {kfake.MaxVersions(kversion.V3_9_0())},
	} {
		t.Run(name, func(t *testing.T) {
			cluster := fake(t, opts...)
			c := client(t, cluster.ListenAddrs()...)
			logtest.Run(t, func(*testing.T) logtest.Env { return env(c, false) })
		})
	}
}

func fake(t *testing.T, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	cluster, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(3)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return cluster
}

func client(t *testing.T, brokers ...string) *kafkaio.Client {
	t.Helper()
	c, err := kafkaio.Open(t.Context(), kafkaio.Options{Brokers: brokers})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func env(c *kafkaio.Client, firstCommitWaits bool) logtest.Env {
	return logtest.Env{
		Log:       c,
		Publisher: c,
		CreateTopic: func(ctx context.Context, name string, n int32) error {
			return c.CreateTopic(ctx, name, n, 1, nil)
		},
		DeleteTopic:      func(ctx context.Context, name string) error { return c.DeleteTopics(ctx, name) },
		Produce:          c.Produce,
		DeleteRecords:    c.DeleteRecords,
		Markers:          true,
		FirstCommitWaits: firstCommitWaits,
	}
}
