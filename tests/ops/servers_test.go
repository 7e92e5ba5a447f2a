//go:build servers

package ops_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/fire"
	"github.com/llm-auto-optimizer/tidemark/functions/ingest"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/functions/ops"
	"github.com/llm-auto-optimizer/tidemark/functions/settings"
	"github.com/llm-auto-optimizer/tidemark/tests/rig"
	"github.com/llm-auto-optimizer/tidemark/tests/servers"
)

// TestOperatingOnRealServers runs a pipeline over Kafka and Redis, breaks its state and mends it by commands alone.
func TestOperatingOnRealServers(t *testing.T) {
	ctx := t.Context()
	client, err := kafkaio.Open(ctx, kafkaio.Options{Brokers: servers.Brokers(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	in := strings.ToLower(servers.Name(t, "in"))
	in = "ops-" + in[len(in)-16:]
	app, err := spec.Load(fmt.Appendf(nil, `
app: %[1]s
processor:
  watermark: {max_out_of_orderness_ms: 10, emit_interval_ms: 0, idle_timeout_secs: 3600}
  kafka: {consumer: {topics: [%[1]s], group_id: trigger-%[1]s}, producer: {result_topic: %[1]s-out}}
pipelines:
  - name: p
    timestamp: {field: t, unit: ms}
    values: {v: v}
    windows: %[2]s
    aggregates: {v: [count, sum, min, max]}
`, in, windows), "spec.yaml")
	if err != nil {
		t.Fatal(err)
	}
	pipes, err := settings.Compile(app)
	if err != nil {
		t.Fatal(err)
	}
	p := pipes[0]
	for topic, n := range map[string]int32{in: 2, p.SinkTopic: 1, p.LateTopic: 1, p.DeadLetterTopic: 1, spec.LedgerTopic: 1, spec.PanesTopic: 1} {
		if err := client.CreateTopic(ctx, topic, n, 1, servers.TopicConfigs(topic)); err != nil && !strings.Contains(err.Error(), kafkaio.ErrTopicExists.Error()) {
			t.Fatal(err)
		}
	}
	store, err := settings.OpenRedis(ctx, app, []string{servers.Redis(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	logger := slog.New(slog.DiscardHandler)
	batches := ingest.New(ingest.Deps{App: app, Pipelines: pipes, Store: store, Log: client, Clock: settings.Now, Logger: logger})
	firer := fire.New(fire.Deps{App: app, Pipelines: pipes, Store: store, Log: client, Publisher: client, Clock: settings.Now, Logger: logger})
	t.Cleanup(firer.Close)
	tick := func() {
		t.Helper()
		if r := firer.Run(ctx, apply.Nudge{})[0]; r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	tick()
	h := ops.New(ops.Deps{
		App: app, Pipelines: pipes, Store: store, Log: client, Cluster: client, Clock: settings.Now, Logger: logger, Checkpoints: t.TempDir(), Margin: time.Millisecond,
	})

	base, next := event.FromGo(time.Now()), [2]int64{}
	feed := func(partition int32, from event.Time, n int, deliver bool) {
		t.Helper()
		var messages []kafkaio.Message
		var records []event.Record
		for i := range n {
			at := base + from + event.Time(i)
			m := kafkaio.Message{Topic: in, Partition: partition, Key: []byte{byte('a' + i%3)}, Value: fmt.Appendf(nil, `{"t":%d,"v":%d}`, at, i), Timestamp: at}
			messages = append(messages, m)
			records = append(records, event.Record{Offset: next[partition], Timestamp: at, Key: m.Key, Value: m.Value})
			next[partition]++
		}
		if err := client.Produce(ctx, messages); err != nil {
			t.Fatal(err)
		}
		if !deliver {
			return
		}
		payload := rig.Payload(map[event.TopicPartition][]event.Record{{Topic: in, Partition: partition}: records})
		if answer, err := batches.Invoke(ctx, payload); err != nil || strings.Contains(string(answer), "itemIdentifier") {
			t.Fatalf("%s, %v", answer, err)
		}
	}
	for i := range 4 {
		feed(0, event.Time(i)*20, 20, true)
		feed(1, event.Time(i)*20, 20, true)
		tick()
	}
	feed(0, 500, 10, true) // partition 1 holds back
	feed(1, 80, 5, false)
	tick()

	e := invoke[ops.Explanation](t, h, `{"command":"explain"}`).Pipelines[0]
	if !strings.HasPrefix(e.HeldBy, in+"/1 (lagging") || e.Parts[1].Lag != 5 || e.Plan == 0 {
		t.Errorf("%+v: want partition 1, which lags by 5", e)
	}
	books := []event.TopicPartition{{Topic: spec.LedgerTopic}} // a topic of all tests: the transaction of another one may be open in it
	equal := func(when string) {
		t.Helper()
		offsets, err := client.Offsets(t.Context(), books)
		if err == nil {
			end := offsets[books[0]].End
			err = client.Read(t.Context(), books[0], end-1, end, func([]event.Record, int64) error { return nil }) // waits
		}
		if err != nil {
			t.Fatal(err)
		}
		if v := invoke[ops.Verified](t, h, `{"command":"verify"}`); !v.OK || v.Partial || v.Slots[0].Compared == 0 || v.Ledger[0].Records == 0 {
			t.Fatalf("%s: %+v", when, v)
		}
	}
	equal("after the run")

	parts, err := client.Partitions(ctx, []string{in})
	if err != nil {
		t.Fatal(err)
	}
	damageSlot(t, store, apply.SlotID(p, parts[0]))
	v := invoke[ops.Verified](t, h, `{"command":"verify"}`)
	if v.OK || v.Slots[0].State != "different" || v.Slots[1].State != "equal" || v.Slots[0].Differences[0].Key == "" {
		t.Fatalf("%+v: want partition 0 different", v)
	}
	if r := invoke[map[string]any](t, h, `{"command":"replay","pipeline":"p","topic":"`+in+`","partition":0,"confirm":true}`); r["done"] != true {
		t.Fatalf("%v", r)
	}
	equal("after the damaged slot was replayed")

	if err := store.Drop(ctx, apply.SlotID(p, parts[1])); err != nil {
		t.Fatal(err)
	}
	if r := invoke[map[string]any](t, h, `{"command":"replay","pipeline":"p","continue":true}`); r["done"] != true {
		t.Fatalf("%v", r)
	}
	equal("after a lost slot was rebuilt")

	if f := invoke[map[string]any](t, h, `{"command":"preflight"}`); f["ok"] != true {
		t.Errorf("preflight: %v", f)
	}
	invoke[map[string]any](t, h, `{"command":"checkpoint"}`)
	if err := store.Drop(ctx, apply.SlotID(p, parts[1])); err != nil {
		t.Fatal(err)
	}
	if r := invoke[map[string]any](t, h, `{"command":"restore"}`); fmt.Sprint(r["counts"]) != "map[exists:1 imported:1]" {
		t.Errorf("%v", r)
	}
	equal("after a restore")
	tick()
	for _, part := range parts {
		if err := store.Drop(ctx, apply.SlotID(p, part)); err != nil {
			t.Error(err)
		}
	}
}
