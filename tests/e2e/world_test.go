//go:build servers

package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/tests/oracle"
	"github.com/llm-auto-optimizer/tidemark/tests/rig"
	"github.com/llm-auto-optimizer/tidemark/tests/seed"
	"github.com/llm-auto-optimizer/tidemark/tests/servers"
)

const partitions = 4

// cluster is a pipeline's topics on a real broker, and the spec file that reads them.
type cluster struct {
	t      *testing.T
	client *kafkaio.Client
	app    *spec.App
	config string
	rand   *rand.Rand
	sent   []oracle.Event
	ends   [partitions]int64
	stamp  func(at event.Time) event.Time // Kafka's timestamp of a record with an event time
	books  []kafkaio.PublishedRecord      // of the ledger, which all pipelines share, since the cluster was made
	booked int64                          // up to where it was read
}

// newCluster creates the topics. windows is the YAML of the pipeline's windows.
func newCluster(t *testing.T, windows string, bound time.Duration) *cluster {
	t.Helper()
	ctx := t.Context()
	client, err := kafkaio.Open(ctx, kafkaio.Options{Brokers: servers.Brokers(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	name := servers.Name(t, "t")
	name = strings.ToLower(name[len(name)-16:])
	yaml := fmt.Sprintf(`
app: e2e
processor:
  watermark: {max_out_of_orderness_ms: %d, emit_interval_ms: 20, idle_timeout_secs: 3600}
  kafka:
    consumer: {topics: [in-%s], group_id: trigger-%s, max_poll_records: 40}
    producer: {result_topic: out-%s}
pipelines:
  - name: p-%s
    timestamp: {field: t, unit: ms}
    values: {v: v}
    windows: %s
    aggregates: {v: [count, sum, average, min, max, variance, stddev, p50, p95, p99]}
    late: {topic: late-%s}
`, bound.Milliseconds(), name, name, name, name, windows, name)
	c := &cluster{t: t, client: client, config: filepath.Join(t.TempDir(), "spec.yaml"), rand: rand.New(rand.NewPCG(seed.Of(t), 1))}
	c.stamp = func(event.Time) event.Time { return event.FromGo(time.Now()) }
	if c.app, err = spec.Load([]byte(yaml), "spec.yaml"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.config, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	p := c.pipeline()
	for topic, n := range map[string]int32{p.Topics[0]: partitions, p.SinkTopic: 2, p.LateTopic: 1, p.DeadLetterTopic: 1, spec.LedgerTopic: 1, spec.PanesTopic: 1} {
		if err := client.CreateTopic(ctx, topic, n, 1, servers.TopicConfigs(topic)); err != nil && !isExists(err) {
			t.Fatal(err)
		}
	}
	c.booked = c.ledgerEnd()
	return c
}

func isExists(err error) bool { return strings.Contains(err.Error(), kafkaio.ErrTopicExists.Error()) }

func (c *cluster) pipeline() *spec.Pipeline { return &c.app.Pipelines[0] }

// produce publishes n events of a few keys over all partitions, from the given event time on, out of order by up to disorder;
// one in lateEvery is late by up to lateBy more. It returns the messages, by partition in the order of their offsets.
func (c *cluster) produce(n int, from event.Time, step, disorder event.Span, lateEvery int, lateBy event.Span) {
	c.t.Helper()
	var messages []kafkaio.Message
	for i := range n {
		at := from + event.Time(i)*event.Time(step) - event.Time(c.rand.Int64N(int64(disorder)+1))
		if lateEvery > 0 && c.rand.IntN(lateEvery) == 0 {
			at -= event.Time(c.rand.Int64N(int64(lateBy) + 1))
		}
		c.add(&messages, int32(c.rand.IntN(partitions)), at, string(rune('a'+c.rand.IntN(5))))
	}
	c.publish(messages)
}

// finish publishes one event a partition that is far enough ahead to close everything before it.
func (c *cluster) finish(at event.Time) {
	c.t.Helper()
	var messages []kafkaio.Message
	for p := range int32(partitions) {
		c.add(&messages, p, at, "end")
	}
	c.publish(messages)
}

func (c *cluster) add(messages *[]kafkaio.Message, p int32, at event.Time, key string) {
	topic := c.pipeline().Topics[0]
	v := float64(c.rand.IntN(100_000)) / 100
	*messages = append(*messages, kafkaio.Message{
		Topic: topic, Partition: p, Key: []byte(key), Value: fmt.Appendf(nil, `{"t":%d,"v":%v}`, at, v), Timestamp: c.stamp(at),
	})
	c.sent = append(c.sent, oracle.Event{TopicPartition: event.TopicPartition{Topic: topic, Partition: p}, Offset: c.ends[p], Time: at, Key: key, Value: v})
	c.ends[p]++
}

func (c *cluster) publish(messages []kafkaio.Message) {
	c.t.Helper()
	if err := c.client.Produce(c.t.Context(), messages); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) read(topic string) []kafkaio.PublishedRecord {
	c.t.Helper()
	records, err := c.client.ReadAll(c.t.Context(), topic)
	if err != nil {
		c.t.Fatal(err)
	}
	return records
}

// books is the ledger, which all pipelines share and the tests write into one partition.
var books = event.TopicPartition{Topic: spec.LedgerTopic}

// ledgerEnd is where the ledger ends.
func (c *cluster) ledgerEnd() int64 {
	c.t.Helper()
	offsets, err := c.client.Offsets(c.t.Context(), []event.TopicPartition{books})
	if err != nil {
		c.t.Fatal(err)
	}
	return offsets[books].End
}

// ledger returns the plans of this pipeline. What was read before is not read again: the ledger is long, and asked for often.
func (c *cluster) ledger() []oracle.Plan {
	c.t.Helper()
	end := c.ledgerEnd()
	err := c.client.Read(c.t.Context(), books, c.booked, end, func(records []event.Record, _ int64) error {
		for _, r := range records {
			c.books = append(c.books, kafkaio.PublishedRecord{TopicPartition: books, Record: kafkaio.CloneRecord(r)})
		}
		return nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.booked = end
	all, err := oracle.ParseLedger(c.books)
	if err != nil {
		c.t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(p oracle.Plan) bool { return p.Pipeline != c.pipeline().Name })
}

// check compares everything published with a plain batch computation. open are keys whose windows are not closed yet.
func (c *cluster) check(fence func(oracle.Event) event.Time, open ...string) (panes, late int) {
	c.t.Helper()
	events := slices.DeleteFunc(slices.Clone(c.sent), func(e oracle.Event) bool { return slices.Contains(open, e.Key) })
	want, wantLate := oracle.Compute(c.pipeline().Windows, events, fence)
	got, err := rig.ParseResults(c.read(c.pipeline().SinkTopic))
	if err != nil {
		c.t.Fatal(err)
	}
	got = slices.DeleteFunc(got, func(r rig.Result) bool { return slices.Contains(open, r.Key) })
	if problems := oracle.Problems(want, got, false); len(problems) > 0 {
		c.t.Errorf("%d differences, the first ones:\n%s", len(problems), strings.Join(problems[:min(5, len(problems))], "\n"))
	}
	side, err := rig.ParseSide(c.read(c.pipeline().LateTopic))
	if err != nil {
		c.t.Fatal(err)
	}
	if diff := oracle.LateProblems(wantLate, side); diff != "" {
		c.t.Error(diff)
	}
	if u := oracle.Unbalanced(c.ledger()); u != "" {
		c.t.Error(u)
	}
	return len(want), len(wantLate)
}
