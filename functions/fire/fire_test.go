package fire_test

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/fire"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio/memlog"
	"github.com/llm-auto-optimizer/tidemark/functions/settings"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/memstore"
)

const tumbling = `
app: test
processor:
  watermark: {max_out_of_orderness_secs: 0, emit_interval_secs: 0, idle_timeout_secs: 60}
  kafka:
    consumer: {topics: [events]}
    producer: {result_topic: results}
pipelines:
  - name: p
    topics: [events]
    timestamp: {record: true}
    values: {value: value}
    windows: [{name: w, type: tumbling, size: 10ms, allowed_lateness: 5ms}]
    aggregates: {value: [count, sum]}
`

// bench is the pieces of a running pipeline in memory.
type bench struct {
	app   *spec.App
	pipe  *pipeline.Pipeline
	log   *memlog.Log
	store statestore.Store
	apply *apply.Applier
	fire  *fire.Handler
	now   event.Time

	tokens    uint64 // drawn so far: a restart must not draw one again
	committed map[event.TopicPartition]kafkaio.Committed
}

func newBench(t *testing.T, yaml string, partitions int32, o memlog.Options) *bench {
	t.Helper()
	app, err := spec.Load([]byte(yaml), "test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	pipes, err := settings.Compile(app)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{app: app, pipe: pipes[0], log: memlog.New(o), store: memstore.New()}
	for topic, n := range map[string]int32{"events": partitions, "results": 1, "results-late": 1, pipes[0].DeadLetterTopic: 1, spec.LedgerTopic: 1, spec.PanesTopic: 2} {
		if err := b.log.CreateTopic(topic, n); err != nil {
			t.Fatal(err)
		}
	}
	b.restart()
	return b
}

func (b *bench) restart() {
	clock := func() event.Time { return b.now }
	logger := slog.New(slog.DiscardHandler)
	b.apply = apply.New(apply.Deps{Pipeline: b.pipe, Store: b.store, Log: b.log, Errors: b.app.Errors, Buffer: b.app.BufferSize, Clock: clock, Logger: logger})
	b.fire = fire.New(fire.Deps{
		App: b.app, Pipelines: []*pipeline.Pipeline{b.pipe}, Store: b.store, Log: b.log, Publisher: b.log, Clock: clock, Logger: logger,
		NewToken: counted(&b.tokens),
	})
}

// counted returns a source of tokens that are n + 1, n + 2 and so on.
func counted(n *uint64) func() statestore.Token {
	return func() (t statestore.Token) {
		*n++
		binary.BigEndian.PutUint64(t[:], *n)
		return t
	}
}

func (b *bench) run(t *testing.T) fire.Report {
	t.Helper()
	r := b.fire.Run(t.Context(), apply.Nudge{})[0]
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	return r
}

func (b *bench) ingest(t *testing.T, p int32, times ...event.Time) {
	t.Helper()
	for _, at := range times {
		rec := event.Record{Offset: memlog.Next, Timestamp: at, Key: []byte("k"), Value: []byte(`{"value":1}`)}
		if err := b.log.Append("events", p, rec); err != nil {
			t.Fatal(err)
		}
	}
	tp := event.TopicPartition{Topic: "events", Partition: p}
	parts, err := b.log.Partitions(t.Context(), []string{"events"})
	if err != nil {
		t.Fatal(err)
	}
	offsets, err := b.log.Offsets(t.Context(), []event.TopicPartition{tp})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.apply.CatchUp(t.Context(), parts[p], offsets[tp].End, new(apply.Work)); err != nil {
		t.Fatal(err)
	}
}

// results are the published panes as "start timing count".
func (b *bench) results(t *testing.T) string {
	t.Helper()
	var out []string
	for _, r := range b.log.Records("results") {
		v := string(r.Value)
		var start, count int64
		if _, err := fmt.Sscanf(v[strings.Index(v, `"start_ms":`):], `"start_ms":%d`, &start); err != nil {
			t.Fatal(v, err)
		}
		if _, err := fmt.Sscanf(v[strings.Index(v, `"count":`):], `"count":%d`, &count); err != nil {
			t.Fatal(v, err)
		}
		timing := "on_time"
		if strings.Contains(v, `"timing":"late"`) {
			timing = "late"
		}
		out = append(out, fmt.Sprintf("%d %s %d", start, timing, count))
	}
	return strings.Join(out, ", ")
}

func TestWindowFiresOnceTheWatermarkPassesItsEnd(t *testing.T) {
	b := newBench(t, tumbling, 1, memlog.Options{})
	b.run(t)
	b.ingest(t, 0, 1, 2, 9)
	b.run(t)
	if got := b.results(t); got != "" {
		t.Fatalf("fired too early: %s", got)
	}
	b.ingest(t, 0, 10)
	b.run(t)
	if got := b.results(t); got != "0 on_time 3" {
		t.Fatalf("got %q", got)
	}
	b.ingest(t, 0, 5)
	b.run(t)
	if got := b.results(t); got != "0 on_time 3, 0 late 4" {
		t.Fatalf("got %q", got)
	}
	b.ingest(t, 0, 15, 3)
	b.run(t)
	b.ingest(t, 0, 3)
	b.run(t)
	if got := b.results(t); got != "0 on_time 3, 0 late 4, 0 late 5" {
		t.Fatalf("got %q", got)
	}
	late := b.log.Records("results-late")
	if len(late) != 1 || late[0].Headers[0].Key != "tidemark-reason" {
		t.Fatalf("late records: %+v", late)
	}
	for _, r := range b.log.Records(spec.LedgerTopic) {
		t.Logf("%s", r.Value)
	}
}

func TestStoreThatForgetsEverythingChangesNothing(t *testing.T) {
	b := newBench(t, tumbling, 2, memlog.Options{})
	b.run(t)
	b.ingest(t, 0, 1, 2, 12)
	b.ingest(t, 1, 3, 11)
	b.run(t)
	b.store = memstore.New()
	b.restart()
	b.ingest(t, 1, 4, 25)
	b.ingest(t, 0, 25)
	b.run(t)
	b.run(t)
	if got, want := b.results(t), "0 on_time 3, 0 late 4, 10 on_time 2"; got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
}

func TestGenesisComesBeforeAnythingIsFolded(t *testing.T) {
	b := newBench(t, tumbling, 1, memlog.Options{})
	parts, err := b.log.Partitions(t.Context(), []string{"events"})
	if err != nil {
		t.Fatal(err)
	}
	rec := event.Record{Timestamp: 1, Value: []byte(`{"value":1}`)}
	if err := b.log.Append("events", 0, rec); err != nil {
		t.Fatal(err)
	}
	if _, err := b.apply.Apply(t.Context(), parts[0], []event.Record{rec}, new(apply.Work)); err == nil {
		t.Fatal("applied without a genesis")
	}
	b.run(t)
	if at, err := b.apply.Apply(t.Context(), parts[0], []event.Record{rec}, new(apply.Work)); err != nil || at != 1 {
		t.Fatalf("applied %d, %v", at, err)
	}
}
