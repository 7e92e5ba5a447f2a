//go:build servers && linux

package deploy_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/esm"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/localdev/host"
	"github.com/llm-auto-optimizer/tidemark/tests/oracle"
	"github.com/llm-auto-optimizer/tidemark/tests/rig"
	"github.com/llm-auto-optimizer/tidemark/tests/seed"
	"github.com/llm-auto-optimizer/tidemark/tests/servers"
)

const (
	partitions = 3
	start      = event.Time(1_700_000_000_000)
)

// source is a topic, filled with records of every kind that a trigger may deliver, and what must come of them.
type source struct {
	t       *testing.T
	client  *kafkaio.Client
	topic   string
	records [partitions][]event.Record
	good    []oracle.Event
	bad     []rig.Side
}

func newSource(t *testing.T, name string) *source {
	t.Helper()
	client, err := kafkaio.Open(t.Context(), kafkaio.Options{Brokers: servers.Brokers(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	s := &source{t: t, client: client, topic: "in-with-dashes-7-" + name}
	// The broker sets Kafka's timestamps; event time is in the records.
	if err := client.CreateTopic(t.Context(), s.topic, partitions, 1, map[string]string{"message.timestamp.type": "LogAppendTime"}); err != nil {
		t.Fatal(err)
	}
	return s
}

// fill publishes the records and reads them back as the broker has them.
func (s *source) fill(seed uint64) {
	s.t.Helper()
	random := rand.New(rand.NewPCG(seed, 1))
	var messages []kafkaio.Message
	var ends [partitions]int64
	add := func(p int32, m kafkaio.Message) {
		m.Topic, m.Partition = s.topic, p
		messages = append(messages, m)
		ends[p]++
	}
	for i := range 600 {
		p, at := int32(random.IntN(partitions)), start.Add(event.Span(i*20-random.IntN(400)))
		tp := event.TopicPartition{Topic: s.topic, Partition: p}
		if i%50 == 49 { // a tombstone: nothing to compute with
			s.bad = append(s.bad, rig.Side{Topic: s.topic, Partition: p, Offset: ends[p], Reason: string(event.ReasonDecode)})
			add(p, kafkaio.Message{Key: []byte("a")})
			continue
		}
		e := oracle.Event{TopicPartition: tp, Offset: ends[p], Time: at, Key: string(rune('a' + random.IntN(4))), Value: float64(random.IntN(1000)) / 10}
		m := kafkaio.Message{Key: []byte(e.Key), Value: fmt.Appendf(nil, `{"t":%d,"v":%v,"name":"Zürich"}`, at, e.Value)}
		switch i % 7 {
		case 0:
			m.Key, e.Key = nil, event.NullKey
		case 1:
			m.Headers = []event.Header{{Key: "bytes", Value: []byte{0, 104, 127, 128, 220, 255}}, {Key: "bytes", Value: []byte{}}, {Key: "null"}}
		}
		s.good = append(s.good, e)
		add(p, m)
	}
	// Nearly as much as an event may have, in few records.
	for p := range int32(partitions) {
		for k := range 2 {
			e := oracle.Event{TopicPartition: event.TopicPartition{Topic: s.topic, Partition: p}, Offset: ends[p], Time: start.Add(12_000), Key: "large", Value: float64(k)}
			pad := strings.Repeat("x", 740_000)
			s.good = append(s.good, e)
			add(p, kafkaio.Message{Key: []byte(e.Key), Value: fmt.Appendf(nil, `{"t":%d,"v":%v,"pad":%q}`, e.Time, e.Value, pad)})
		}
	}
	// What closes all windows before it, and stays open itself.
	for p := range int32(partitions) {
		add(p, kafkaio.Message{Key: []byte("end"), Value: fmt.Appendf(nil, `{"t":%d,"v":1}`, start.Add(100_000))})
	}
	for m := range slices.Chunk(messages, 200) {
		if err := s.client.Produce(s.t.Context(), m); err != nil {
			s.t.Fatal(err)
		}
	}
	for p := range int32(partitions) {
		err := s.client.Read(s.t.Context(), event.TopicPartition{Topic: s.topic, Partition: p}, 0, ends[p], func(rs []event.Record, _ int64) error {
			for _, r := range rs {
				s.records[p] = append(s.records[p], kafkaio.CloneRecord(r))
			}
			return nil
		})
		if err != nil {
			s.t.Fatal(err)
		}
	}
}

// event writes what Lambda would hand over for records [from, to) of each partition, by means of encoding/json alone. odd events
// are those of a self-managed cluster, without what they may lack, and with header bytes as some emulators write them.
func (s *source) event(from, to int, odd bool) []byte {
	lists := map[string][]map[string]any{}
	for p := range int32(partitions) {
		log := s.records[p]
		for _, r := range log[min(from, len(log)):min(to, len(log))] {
			m := map[string]any{"topic": s.topic, "partition": p, "offset": r.Offset, "timestamp": int64(r.Timestamp), "timestampType": "LOG_APPEND_TIME"}
			if r.Key != nil {
				m["key"] = r.Key // base64, as encoding/json writes bytes
			}
			if r.Value != nil || !odd {
				m["value"] = r.Value // a tombstone is null
			}
			headers := []map[string][]int{}
			for _, h := range r.Headers {
				var value []int
				for _, b := range h.Value {
					value = append(value, map[bool]int{true: int(b), false: int(int8(b))}[odd])
				}
				headers = append(headers, map[string][]int{h.Key: value})
			}
			m["headers"] = headers
			id := s.topic + "-" + strconv.Itoa(int(p))
			lists[id] = append(lists[id], m)
		}
	}
	ev := map[string]any{"eventSource": esm.SourceSelfManaged, "bootstrapServers": "localhost:9092", "records": lists}
	if !odd {
		ev["eventSource"], ev["eventSourceArn"] = esm.SourceMSK, "arn:aws:kafka:us-east-1:123456789012:cluster/c/0f1e2d3c-0000-4000-8000-000000000000-1"
	}
	out, err := json.Marshal(ev)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// system is both functions of one pipeline behind one kind of client.
type system struct {
	*source
	app          *spec.App
	env          []string
	ingest, fire client
}

func (s *source) system(kind, name string) *system {
	t := s.t
	t.Helper()
	yaml := fmt.Sprintf(`
app: deploy
processor:
  watermark: {max_out_of_orderness_ms: 500, emit_interval_ms: 20, idle_timeout_secs: 3600}
  error_handling: {policy: dead_letter, dead_letter_topic: dead-%[1]s, max_retries: 1, initial_retry_delay_ms: 1}
  kafka:
    consumer: {topics: [%[2]s], group_id: trigger-%[1]s}
    producer: {result_topic: out-%[1]s}
pipelines:
  - name: p-%[1]s
    timestamp: {field: t, unit: ms}
    values: {v: v}
    windows:
      - {name: tumbling, type: tumbling, size: 1s, allowed_lateness: 0s}
      - {name: session, type: session, gap: 90ms, allowed_lateness: 0s}
    aggregates: {v: [count, sum, average, min, max, variance, stddev, p50, p95, p99]}
    late: {topic: late-%[1]s}
`, name+"-"+kind, s.topic)
	file := filepath.Join(t.TempDir(), "spec.yaml")
	app, err := spec.Load([]byte(yaml), file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, topic := range []string{app.Pipelines[0].SinkTopic, app.Pipelines[0].LateTopic, app.Pipelines[0].DeadLetterTopic, spec.LedgerTopic, spec.PanesTopic} {
		if err := s.client.CreateTopic(t.Context(), topic, 1, 1, servers.TopicConfigs(topic)); err != nil && !errors.Is(err, kafkaio.ErrTopicExists) {
			t.Fatal(err)
		}
	}
	env := []string{"TIDEMARK_CONFIG=" + file, "TIDEMARK_BROKERS=" + strings.Join(servers.Brokers(t), ","), "TIDEMARK_REDIS=" + servers.Redis(t), "TIDEMARK_FIRE_TICK=20ms", "AWS_REGION=us-east-1"}
	// Of fire's seconds two are its margin, and its start is among the others.
	return &system{source: s, app: app, env: env, ingest: clients[kind](t, "ingest", 20*time.Second, env), fire: clients[kind](t, "fire", 5*time.Second, env)}
}

// deliver invokes ingest and returns what it answered as not applied, by partition.
func (s *system) deliver(ctx context.Context, payload []byte) map[string][]int64 {
	s.t.Helper()
	answer, err := s.ingest.Invoke(ctx, payload)
	if err != nil {
		s.t.Fatalf("%v\n%s", err, s.ingest.Log())
	}
	// The form that the trigger reads, and nothing beside it.
	var got struct {
		Failures []struct {
			Item struct {
				Partition string `json:"partition"`
				Offset    int64  `json:"offset"`
			} `json:"itemIdentifier"`
		} `json:"batchItemFailures"`
	}
	d := json.NewDecoder(bytes.NewReader(answer))
	d.DisallowUnknownFields()
	if err := d.Decode(&got); err != nil || got.Failures == nil {
		s.t.Fatalf("answer %s: %v", answer, err)
	}
	failed := map[string][]int64{}
	for _, f := range got.Failures {
		failed[f.Item.Partition] = append(failed[f.Item.Partition], f.Item.Offset)
	}
	return failed
}

func (s *system) run(ctx context.Context, payload string) {
	s.t.Helper()
	answer, err := s.fire.Invoke(ctx, []byte(payload))
	var made struct{ Plans *int }
	if err != nil || json.Unmarshal(answer, &made) != nil || made.Plans == nil {
		s.t.Fatalf("fire on %s: %s, %v\n%s", payload, answer, err, s.fire.Log())
	}
}

func (s *system) read(ctx context.Context, topic string) []kafkaio.PublishedRecord {
	s.t.Helper()
	records, err := s.client.ReadAll(ctx, topic)
	if err != nil {
		s.t.Fatal(err)
	}
	return records
}

// offsets are those that an event has of each partition.
func (s *source) offsets(from, to int) map[string][]int64 {
	out := map[string][]int64{}
	for p := range partitions {
		id := s.topic + "-" + strconv.Itoa(p)
		for _, r := range s.records[p][min(from, len(s.records[p])):min(to, len(s.records[p]))] {
			out[id] = append(out[id], r.Offset)
		}
	}
	return out
}

// The life of a deployment: a batch before there is a genesis, schedules and nudges, events of every form, a delivery twice over,
// and the results as a batch computation has them.
func (s *system) live(ctx context.Context) []rig.Result {
	t := s.t
	t.Helper()
	if diff := gocmp.Diff(s.offsets(0, 20), s.deliver(ctx, s.event(0, 20, false))); diff != "" {
		t.Fatalf("before the genesis all has to come again (-want +answered):\n%s", diff)
	}
	s.run(ctx, `{}`)
	all := 0
	for p := range partitions {
		all = max(all, len(s.records[p]))
	}
	small := all - 3 // what comes after is large
	for from := 0; from < all; {
		to := min(from+40, small)
		if from >= small {
			to = all
		}
		payload := s.event(from, to, from/40%2 == 1)
		if len(payload) > esm.MaxPayload {
			t.Fatalf("an event of %d bytes", len(payload))
		}
		for range 1 + from/40%2 { // every other one twice
			if failed := s.deliver(ctx, payload); len(failed) > 0 {
				t.Fatalf("records %d to %d: %v came back\n%s", from, to, failed, s.ingest.Log())
			}
		}
		s.run(ctx, []string{`"a text that somebody wrote into a schedule"`, `{"version":"0","source":"aws.scheduler","detail":{}}`, fmt.Sprintf(`{"genesis":[{"topic":%q,"partition":0,"offset":0}]}`, s.topic)}[from/40%3])
		from = to
	}
	want, late := oracle.Compute(s.app.Pipelines[0].Windows, s.good, func(oracle.Event) event.Time { return event.MinTime })
	for len(s.read(ctx, s.app.Pipelines[0].SinkTopic)) < len(want) && ctx.Err() == nil {
		s.run(ctx, `{}`)
	}
	got, err := rig.ParseResults(s.read(ctx, s.app.Pipelines[0].SinkTopic))
	if err != nil {
		t.Fatal(err)
	}
	if problems := oracle.Problems(want, got, false); len(problems) > 0 || len(late) > 0 {
		t.Errorf("%d differences, the first ones:\n%s", len(problems), strings.Join(problems[:min(5, len(problems))], "\n"))
	}
	dead, err := rig.ParseSide(s.read(ctx, s.app.Pipelines[0].DeadLetterTopic))
	if err != nil {
		t.Fatal(err)
	}
	order := func(a, b rig.Side) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
	}
	slices.SortFunc(dead, order)
	if diff := gocmp.Diff(slices.SortedFunc(slices.Values(s.bad), order), dead); diff != "" {
		t.Errorf("dead letters (-want +got):\n%s", diff)
	}
	return got
}

func TestDeployedFunctionsDoTheSameBehindEitherClient(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	name := strings.ToLower(servers.Name(t, ""))
	name = name[len(name)-8:]
	s := newSource(t, name)
	s.fill(seed.Of(t))
	results := map[string][]rig.Result{}
	for _, kind := range slices.Sorted(maps.Keys(clients)) {
		sys := s.system(kind, name)
		got := sys.live(ctx)
		for i := range got { // what has to differ: revisions are numbers of plans
			got[i].Pipeline, got[i].Timestamp, got[i].Pane.Revision = "", "", 0
		}
		id := func(r rig.Result) string { return fmt.Sprint(r.Window, r.Key) }
		slices.SortFunc(got, func(a, b rig.Result) int { return cmp.Compare(id(a), id(b)) })
		results[kind] = got
		checkErrors(ctx, t, sys)
	}
	if diff := gocmp.Diff(results["host"], results["rie"]); diff != "" || len(results["host"]) == 0 {
		t.Errorf("%d results (-host +rie):\n%s", len(results["host"]), diff)
	}
	t.Logf("%d records, %d results, %d dead letters each", len(s.good)+len(s.bad), len(results["host"]), len(s.bad))
	// A partition that is new has no genesis: it is answered for, and the others are not.
	for _, kind := range slices.Sorted(maps.Keys(clients)) {
		t.Run("new partition/"+kind, func(t *testing.T) { newPartition(t, kind, name+kind) })
	}
}

// checkErrors sends what is no event of Kafka: the invocation fails, with a type that the operator sees, and the function lives on.
func checkErrors(ctx context.Context, t *testing.T, s *system) {
	t.Helper()
	for _, payload := range []string{`{}`, `{"Records":[{"eventSource":"aws:sqs"}]}`} {
		_, err := s.ingest.Invoke(ctx, []byte(payload))
		var said *host.FunctionError
		if !errors.As(err, &said) || said.Type != "wrapError" || !bytes.Contains(said.Body, []byte("esm: ")) {
			t.Errorf("%s: %v", payload, err)
		}
	}
	if failed := s.deliver(ctx, s.event(0, 10, false)); len(failed) > 0 {
		t.Errorf("after errors: %v", failed)
	}
}

func newPartition(t *testing.T, kind, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	s := newSource(t, name+"-grows")
	sys := s.system(kind, name+"-grows")
	sys.run(ctx, `{}`)
	raw, err := kgo.NewClient(kgo.SeedBrokers(servers.Brokers(t)...))
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if r, err := kadm.NewClient(raw).CreatePartitions(ctx, 1, s.topic); err != nil || r.Error() != nil {
		t.Fatal(err, r.Error())
	}
	value := fmt.Appendf(nil, `{"t":%d,"v":1}`, start)
	ev := esm.Event{Source: esm.SourceMSK, SourceARN: "arn:aws:kafka:us-east-1:123456789012:cluster/c/0"}
	for _, p := range []int32{0, partitions} {
		b := esm.Batch{TopicPartition: event.TopicPartition{Topic: s.topic, Partition: p}}
		for o := range int64(2) {
			b.Records = append(b.Records, event.Record{Offset: o, Timestamp: start, Value: value})
			if err := s.client.Produce(ctx, []kafkaio.Message{{Topic: s.topic, Partition: p, Value: value}}); err != nil {
				t.Fatal(err)
			}
		}
		ev.Batches = append(ev.Batches, b)
	}
	want := map[string][]int64{fmt.Sprintf("%s-%d", s.topic, partitions): {0, 1}}
	if diff := gocmp.Diff(want, sys.deliver(ctx, esm.AppendEvent(nil, ev))); diff != "" {
		t.Fatalf("(-want +answered):\n%s\n%s", diff, sys.ingest.Log())
	}
	sys.run(ctx, `{}`)
	if failed := sys.deliver(ctx, esm.AppendEvent(nil, ev)); len(failed) > 0 {
		t.Errorf("after the genesis: %v", failed)
	}
}
