//go:build servers

package servers_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/llm-auto-optimizer/tidemark/tests/servers"
)

// What the other tests rely on: transactions work, an aborted one stays invisible, and no topic appears by itself.
func TestBrokerHasTransactionsAndCreatesNoTopicByItself(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	topic := servers.Name(t, "in")
	client, err := kgo.NewClient(kgo.SeedBrokers(servers.Brokers(t)...), kgo.TransactionalID(servers.Name(t, "writer")), kgo.DefaultProduceTopic(topic))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()

	admin := kadm.NewClient(client)
	metadata, err := admin.Metadata(ctx, topic)
	if err != nil {
		t.Fatalf("metadata: %v", err)
	}
	if err := metadata.Topics[topic].Err; !errors.Is(err, kerr.UnknownTopicOrPartition) {
		t.Fatalf("a topic that nobody created: %v, want %v", err, kerr.UnknownTopicOrPartition)
	}
	if _, err := admin.CreateTopic(ctx, 1, 1, nil, topic); err != nil {
		t.Fatalf("create topic: %v", err)
	}
	write := func(value string, commit kgo.TransactionEndTry) {
		t.Helper()
		if err := client.BeginTransaction(); err != nil {
			t.Fatalf("begin: %v", err)
		}
		if err := client.ProduceSync(ctx, kgo.StringRecord(value)).FirstErr(); err != nil {
			t.Fatalf("produce %s: %v", value, err)
		}
		if err := client.EndTransaction(ctx, commit); err != nil {
			t.Fatalf("end transaction of %s: %v", value, err)
		}
	}
	write("aborted", kgo.TryAbort)
	write("committed", kgo.TryCommit)

	reader, err := kgo.NewClient(kgo.SeedBrokers(servers.Brokers(t)...), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	fetches := reader.PollRecords(ctx, 1)
	if err := fetches.Err(); err != nil {
		t.Fatalf("poll: %v", err)
	}
	if got := string(fetches.Records()[0].Value); got != "committed" {
		t.Errorf("the first visible record is %q, want the committed one", got)
	}
}

func TestRedisRunsScripts(t *testing.T) {
	options, err := redis.ParseURL(servers.Redis(t))
	if err != nil {
		t.Fatal(err)
	}
	one := redis.NewClient(options)
	defer one.Close()
	cluster := redis.NewClusterClient(&redis.ClusterOptions{Addrs: strings.Split(servers.RedisCluster(t), ",")})
	defer cluster.Close()

	for name, client := range map[string]redis.UniversalClient{"one": one, "cluster": cluster} {
		t.Run(name, func(t *testing.T) {
			// Keys over the whole slot range: each master of the cluster gets some.
			for range 50 {
				key := servers.Name(t, "key")
				got, err := client.Eval(t.Context(), `redis.call('SET', KEYS[1], ARGV[1], 'EX', 60); return redis.call('GET', KEYS[1])`, []string{key}, "v").Text()
				if err != nil || got != "v" {
					t.Fatalf("script on %s: %q, %v", key, got, err)
				}
			}
		})
	}
	shards, err := cluster.ClusterShards(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	if len(shards) < 2 {
		t.Errorf("%d shards, want several: %v", len(shards), shards)
	}
}

func TestOwnRedisForgetsEverythingWhenKilled(t *testing.T) {
	own := servers.StartRedis(t)
	client := redis.NewClient(&redis.Options{Addr: own.Addr(), MaxRetries: -1})
	defer client.Close()
	if err := client.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	own.Kill()
	if err := client.Get(t.Context(), "k").Err(); err == nil {
		t.Fatal("a killed server answered")
	}
	own.Start()
	if err := client.Get(t.Context(), "k").Err(); !errors.Is(err, redis.Nil) {
		t.Fatalf("after the restart: %v, want no such key", err)
	}
}
