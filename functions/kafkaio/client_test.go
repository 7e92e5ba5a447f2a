package kafkaio_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/tests/seed"
)

func TestOptionsNameEveryProblem(t *testing.T) {
	_, err := kafkaio.Open(t.Context(), kafkaio.Options{
		Compression: "rar", TransactionTimeout: time.Millisecond, FetchBytes: -1, MessageBytes: 1, RetryFor: -1,
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"brokers", `"rar"`, "1ms", "fetch bytes", "message bytes", "retry for"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error does not mention %s:\n%v", want, err)
		}
	}
}

func TestOpenFailsWhereNoBrokerIs(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err := kafkaio.Open(ctx, kafkaio.Options{Brokers: []string{"127.0.0.1:1"}, RetryFor: 200 * time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("got %v, want an error that names the broker", err)
	}
}

func TestEveryCompressionIsReadBack(t *testing.T) {
	addrs := fake(t).ListenAddrs()
	for _, name := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		c, err := kafkaio.Open(t.Context(), kafkaio.Options{Brokers: addrs, Compression: name})
		must(t, err)
		t.Cleanup(c.Close)
		must(t, c.CreateTopic(t.Context(), name, 1, 1, nil))
		value := strings.Repeat("compressible ", 1_000)
		must(t, c.Produce(t.Context(), []kafkaio.Message{{Topic: name, Value: []byte(value)}}))
		all, err := c.ReadAll(t.Context(), name)
		must(t, err)
		if len(all) != 1 || string(all[0].Value) != value {
			t.Errorf("%s: read back %d records that are not what was published", name, len(all))
		}
	}
}

func TestCreateTopicSaysThatItExists(t *testing.T) {
	c := client(t, fake(t).ListenAddrs()...)
	must(t, c.CreateTopic(t.Context(), "twice", 2, 1, map[string]string{"retention.ms": "1000"}))
	if err := c.CreateTopic(t.Context(), "twice", 2, 1, nil); !errors.Is(err, kafkaio.ErrTopicExists) {
		t.Errorf("got %v, want ErrTopicExists", err)
	}
	if err := c.DeleteTopics(t.Context(), "twice", "never"); !errors.Is(err, kafkaio.ErrUnknownTopic) || !strings.Contains(err.Error(), "never") {
		t.Errorf("got %v, want ErrUnknownTopic that names it", err)
	}
	if _, err := c.Partitions(t.Context(), []string{"twice"}); !errors.Is(err, kafkaio.ErrUnknownTopic) {
		t.Errorf("the topic that exists was not deleted: %v", err)
	}
}

func TestConsumeFollowsWhatIsCommitted(t *testing.T) {
	c := client(t, fake(t).ListenAddrs()...)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	must(t, c.CreateTopic(ctx, "followed", 1, 1, nil))
	say := func(value string, commit bool) {
		s, err := c.Open(ctx, "id-"+value)
		must(t, err)
		defer s.Close()
		must(t, s.Begin(ctx))
		_, err = s.Produce(ctx, []kafkaio.Message{{Topic: "followed", Value: []byte(value)}})
		must(t, err)
		if commit {
			must(t, s.End(ctx))
		}
	}
	say("a", true)
	say("aborted", false)
	say("b", true)
	enough := errors.New("enough")
	follow := func(o kafkaio.ConsumeOptions, n int) []string {
		var got []string
		err := c.Consume(ctx, []string{"followed"}, o, func(rs []kafkaio.PublishedRecord) error {
			for _, r := range rs {
				got = append(got, string(r.Value))
			}
			if len(got) == 1 { // following: this one is published while it runs
				say("c", true)
			}
			if len(got) >= n {
				return enough
			}
			return nil
		})
		if !errors.Is(err, enough) {
			t.Fatalf("consume: %v", err)
		}
		return got
	}
	if diff := cmp.Diff([]string{"a", "b"}, follow(kafkaio.ConsumeOptions{}, 2)); diff != "" {
		t.Errorf("committed (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"a", "aborted", "b"}, follow(kafkaio.ConsumeOptions{Uncommitted: true}, 3)[:3]); diff != "" {
		t.Errorf("uncommitted (-want +got):\n%s", diff)
	}
	short, stop := context.WithCancel(ctx)
	stop()
	err := c.Consume(short, []string{"followed"}, kafkaio.ConsumeOptions{FromEnd: true}, func([]kafkaio.PublishedRecord) error { return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("consume with an ended context: %v", err)
	}
}

// KeyPartition is the choice of kgo's partitioner, which is Kafka's.
func TestKeyPartitionIsKgos(t *testing.T) {
	rng := seed.Rand(t)
	kgos := kgo.StickyKeyPartitioner(nil).ForTopic("t")
	for range 20_000 {
		key := make([]byte, rng.IntN(40))
		for i := range key {
			key[i] = byte(rng.Uint32())
		}
		n := 1 + rng.Int32N(500)
		if got, want := kafkaio.KeyPartition(key, n), kgos.Partition(&kgo.Record{Key: key}, int(n)); int(got) != want {
			t.Fatalf("key %x of %d partitions: %d, kgo says %d", key, n, got, want)
		}
	}
}

func TestCloneRecordKeepsNullAndEmptyApart(t *testing.T) {
	for _, r := range []event.Record{
		{},
		{Key: []byte{}, Value: []byte{}, Headers: []event.Header{}},
		{Offset: 3, Key: []byte("k"), Value: []byte("v"), Headers: []event.Header{{Key: "a"}, {Key: "b", Value: []byte{}}}},
	} {
		got := kafkaio.CloneRecord(r)
		if diff := cmp.Diff(r, got); diff != "" {
			t.Errorf("clone (-want +got):\n%s", diff)
		}
		if len(r.Key) > 0 && &r.Key[0] == &got.Key[0] {
			t.Errorf("the key is shared")
		}
	}
}

// A cluster whose brokers know newer requests than its transaction.version allows: an upgrade that is not finalized.
func TestRequestsFollowTheTransactionVersion(t *testing.T) {
	for version, want := range map[int16]struct {
		reusable           bool
		produce, end, offs int16 // highest versions
	}{
		1: {reusable: false, produce: 11, end: 4, offs: 4},
		2: {reusable: true, produce: 99, end: 99, offs: 99},
	} {
		cluster := fake(t)
		addrs := cluster.ListenAddrs()
		admin, err := kgo.NewClient(kgo.SeedBrokers(addrs...))
		must(t, err)
		t.Cleanup(admin.Close)
		up := kmsg.NewPtrUpdateFeaturesRequest()
		f := kmsg.NewUpdateFeaturesRequestFeatureUpdate()
		f.Feature, f.MaxVersionLevel, f.UpgradeType = "transaction.version", version, 2
		up.FeatureUpdates = append(up.FeatureUpdates, f)
		resp, err := up.RequestWith(t.Context(), admin)
		must(t, err)
		must(t, kerr.ErrorForCode(resp.ErrorCode))

		var mu sync.Mutex
		seen := map[int16]int16{}
		intercept(cluster, -1, func(req kmsg.Request) kmsg.Response { // -1: every request
			mu.Lock()
			defer mu.Unlock()
			seen[req.Key()] = max(seen[req.Key()], req.GetVersion())
			return nil
		})
		c := client(t, addrs...)
		p := stage(t, c, c)
		must(t, p.s.End(t.Context()))
		mu.Lock()
		got := [3]int16{seen[kmsg.Produce.Int16()], seen[kmsg.EndTxn.Int16()], seen[kmsg.TxnOffsetCommit.Int16()]}
		_, added := seen[kmsg.AddOffsetsToTxn.Int16()]
		mu.Unlock()
		if got[0] > want.produce || got[1] > want.end || got[2] > want.offs || added == want.reusable || p.s.Reusable() != want.reusable {
			t.Errorf("transaction.version %d: produce v%d, end v%d, offsets v%d, offsets added first: %v, reusable: %v",
				version, got[0], got[1], got[2], added, p.s.Reusable())
		}
	}
}
