package spec_test

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/core/window"
)

// least is the smallest spec: all else is defaults.
const least = `
processor:
  kafka:
    consumer: {topics: [in]}
    producer: {result_topic: out}
`

func load(t *testing.T, text string) *spec.App {
	t.Helper()
	app, err := spec.Load([]byte(text), "spec.yaml")
	if err != nil {
		t.Fatalf("%v\nin:\n%s", err, text)
	}
	return app
}

func defaultWatermark() spec.Watermark {
	return spec.Watermark{MaxOutOfOrder: 30_000, EmitInterval: 10_000, IdleTimeout: 60_000, AllIdle: spec.AllIdleAdvance, MaxFutureSkew: 86_400_000}
}

// The user's own file, byte for byte.
func TestLoadOfTheUsersFile(t *testing.T) {
	data, err := os.ReadFile("../../tests/testdata/processor-config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	app := load(t, string(data))
	want := &spec.App{
		Name: "default", Parallelism: 4, BufferSize: 10_000, CheckpointInterval: time.Minute,
		State:  spec.State{Backend: spec.BackendBolt, Path: "/var/lib/optimizer/state", CheckpointPath: "/var/lib/optimizer/checkpoints", Compression: "lz4"},
		Errors: spec.ErrorHandling{Policy: spec.PolicyRetry, MaxRetries: 3, InitialRetryDelay: 100 * time.Millisecond, MaxRetryDelay: 5 * time.Second, DeadLetterTopic: "processor-dead-letter"},
		Consumer: spec.Consumer{
			BootstrapServers: "localhost:9092", GroupID: "llm-optimizer-processor", Topics: []string{"feedback-events", "performance-metrics"},
			AutoOffsetReset: "earliest", SessionTimeout: 30 * time.Second, MaxPollRecords: 500,
		},
		Producer: spec.Producer{BootstrapServers: "localhost:9092", ResultTopic: "aggregated-metrics", Compression: "lz4", Acks: "all", Retries: 3},
		Metrics:  spec.Metrics{Enabled: true, ExportInterval: time.Minute},
		Pipelines: []spec.Pipeline{{
			Accumulation: spec.Accumulating,
			App:          "default", Name: "default", Topics: []string{"feedback-events", "performance-metrics"},
			Timestamp:  spec.Timestamp{Field: "timestamp", Unit: spec.UnitMillis, Record: true},
			Key:        spec.Key{RecordKey: true},
			Values:     []spec.Value{{Name: "value", Path: "value"}},
			Windows:    []window.Definition{{Name: "tumbling", Kind: window.KindTumbling, Size: 300_000, Lateness: 60_000}},
			Aggregates: []spec.Aggregates{{Value: "value", Functions: []string{"count", "sum", "average", "min", "max", "p50", "p95", "p99", "stddev"}}},
			Watermark:  defaultWatermark(), Policy: spec.PolicyRetry,
			SinkTopic: "aggregated-metrics", LateTopic: "aggregated-metrics-late", DeadLetterTopic: "processor-dead-letter", Shards: 1,
		}},
	}
	if diff := cmp.Diff(want, app); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if err := app.Validate(); err != nil {
		t.Errorf("Validate: %v", err)
	}
}

func TestLoadAppliesDefaults(t *testing.T) {
	app := load(t, least)
	p := app.Pipelines[0]
	want := spec.Pipeline{
		Accumulation: spec.Accumulating,
		App:          "default", Name: "default", Topics: []string{"in"},
		Timestamp:  spec.Timestamp{Field: "timestamp", Unit: spec.UnitMillis, Record: true},
		Key:        spec.Key{RecordKey: true},
		Values:     []spec.Value{{Name: "value", Path: "value"}},
		Windows:    []window.Definition{{Name: "tumbling", Kind: window.KindTumbling, Size: 300_000, Lateness: 60_000}},
		Aggregates: []spec.Aggregates{{Value: "value", Functions: []string{"count", "sum", "average", "min", "max", "p50", "p95", "p99", "stddev"}}},
		Watermark:  defaultWatermark(), Policy: spec.PolicyRetry,
		SinkTopic: "out", LateTopic: "out-late", DeadLetterTopic: "processor-dead-letter", Shards: 1,
	}
	if diff := cmp.Diff(want, p); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if app.Consumer.GroupID != "tidemark.default" || app.State.Backend != spec.BackendRedis || app.Consumer.AutoOffsetReset != "earliest" {
		t.Errorf("got group %q, backend %q, reset %q", app.Consumer.GroupID, app.State.Backend, app.Consumer.AutoOffsetReset)
	}
	if app.Errors.DeadLetterTopic != "processor-dead-letter" || app.Producer.Acks != "all" || app.Consumer.SessionTimeout != 30*time.Second {
		t.Errorf("got dead letter topic %q, acks %q, session timeout %v", app.Errors.DeadLetterTopic, app.Producer.Acks, app.Consumer.SessionTimeout)
	}
}

// ofPipeline loads a spec of one pipeline, whose lines are indented under its name.
func ofPipeline(t *testing.T, lines ...string) spec.Pipeline {
	t.Helper()
	return load(t, least+"pipelines:\n  - name: p\n    "+strings.Join(lines, "\n    ")+"\n").Pipelines[0]
}

func TestKeyOfAPipeline(t *testing.T) {
	f := func(line string, want spec.Key) {
		t.Helper()
		if diff := cmp.Diff(want, ofPipeline(t, line).Key); diff != "" {
			t.Errorf("%s: -want +got:\n%s", line, diff)
		}
	}
	f("topics: [in]", spec.Key{RecordKey: true})
	f("key: []", spec.Key{})
	f("key: [service, model.name, user-id, größe]", spec.Key{Fields: []string{"service", "model.name", "user-id", "größe"}})
}

func TestTimestampOfAPipeline(t *testing.T) {
	f := func(line string, want spec.Timestamp) {
		t.Helper()
		if diff := cmp.Diff(want, ofPipeline(t, line).Timestamp); diff != "" {
			t.Errorf("%s: -want +got:\n%s", line, diff)
		}
	}
	f("timestamp: {field: ts}", spec.Timestamp{Field: "ts", Unit: spec.UnitMillis})
	f("timestamp: {field: meta.ts, unit: ns}", spec.Timestamp{Field: "meta.ts", Unit: spec.UnitNanos})
	f("timestamp: {field: ts, unit: us}", spec.Timestamp{Field: "ts", Unit: spec.UnitMicros})
	f("timestamp: {field: ts, unit: s, record: true}", spec.Timestamp{Field: "ts", Unit: spec.UnitSeconds, Record: true})
	f("timestamp: {record: true}", spec.Timestamp{Unit: spec.UnitMillis, Record: true})
}

func TestWindowsOfAPipeline(t *testing.T) {
	got := ofPipeline(t, "windows:",
		"  - {name: 1m, type: tumbling, size: 1m, offset: -15s, allowed_lateness: 0s}",
		"  - {type: sliding, size_secs: 90, slide_ms: 40000}",
		"  - {name: holes, type: sliding, size: 1m, slide: 2m, allow_gaps: true}",
		"  - {type: session, gap: 1m30s, allowed_lateness_secs: 0.5}",
		"  - {size: 1h}").Windows
	want := []window.Definition{
		{Name: "1m", Kind: window.KindTumbling, Size: 60_000, Offset: -15_000},
		{Name: "sliding", Kind: window.KindSliding, Size: 90_000, Slide: 40_000, Lateness: 60_000},
		{Name: "holes", Kind: window.KindSliding, Size: 60_000, Slide: 120_000, Lateness: 60_000, AllowGaps: true},
		{Name: "session", Kind: window.KindSession, Gap: 90_000, Lateness: 500},
		{Name: "tumbling", Kind: window.KindTumbling, Size: 3_600_000, Lateness: 60_000},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestAWindowInheritsTheLatenessOfItsType(t *testing.T) {
	app := load(t, `
processor:
  windows: {default_type: session, session: {gap: 10s, allowed_lateness: 7s}, sliding: {allowed_lateness: 3s}}
  kafka: {consumer: {topics: [in]}, producer: {result_topic: out}}
pipelines:
  - name: a
  - name: b
    windows: [{type: sliding, size: 1m, slide: 1s}, {name: s, gap: 1s}]
`)
	want := [][]window.Definition{
		{{Name: "session", Kind: window.KindSession, Gap: 10_000, Lateness: 7_000}},
		{
			{Name: "sliding", Kind: window.KindSliding, Size: 60_000, Slide: 1_000, Lateness: 3_000},
			{Name: "s", Kind: window.KindSession, Gap: 1_000, Lateness: 7_000},
		},
	}
	for i := range want {
		if diff := cmp.Diff(want[i], app.Pipelines[i].Windows); diff != "" {
			t.Errorf("pipeline %d: -want +got:\n%s", i, diff)
		}
	}
}

func TestAggregatesOfAPipeline(t *testing.T) {
	f := func(lines []string, want []spec.Aggregates) {
		t.Helper()
		if diff := cmp.Diff(want, ofPipeline(t, lines...).Aggregates); diff != "" {
			t.Errorf("%s: -want +got:\n%s", lines, diff)
		}
	}
	all := []string{"count", "sum", "average", "min", "max", "p50", "p95", "p99", "stddev"}
	f([]string{"values: {b: x, a: y}"}, []spec.Aggregates{{Value: "a", Functions: all}, {Value: "b", Functions: all}})
	f([]string{"values: {a: x, b: y}", "aggregates: {b: [max, p99.9]}"}, []spec.Aggregates{{Value: "a", Functions: all}, {Value: "b", Functions: []string{"max", "p99.9"}}})
	f([]string{"values: {a: x, b: y}", "aggregates: [sum]"}, []spec.Aggregates{{Value: "a", Functions: []string{"sum"}}, {Value: "b", Functions: []string{"sum"}}})
	f([]string{"aggregates: {value: [p50, percentile, count]}"}, []spec.Aggregates{{Value: "value", Functions: []string{"p50", "p95", "p99", "count"}}})
	f([]string{"values: {}"}, []spec.Aggregates{{Functions: []string{"count"}}})
	f([]string{"values: {}", "aggregates: [count]"}, []spec.Aggregates{{Functions: []string{"count"}}})
}

func TestAPipelineOverridesWhatItNames(t *testing.T) {
	app := load(t, `
app: shop
kafka:
  consumer: {topics: [in], auto_offset_reset: latest, max_poll_records: 7, bootstrap_servers: "a:1,b:2"}
  producer: {result_topic: out, acks: -1}
metrics: {enabled: false}
processor:
  state: {backend: rocksdb, compression: none}
  watermark: {idle_timeout: off, max_future_skew: off, all_idle: hold}
  error_handling: {policy: skip}
pipelines:
  - name: a
  - name: b
    topics: [other]
    sink: {topic: results}
    late: {topic: too-late}
    accumulation: accumulating
    fire: {shards: 1}
    watermark: {strategy: periodic, emit_interval: 5s, max_out_of_orderness: 0}
    error_handling: {policy: fail, dead_letter_topic: dead}
`)
	a, b := app.Pipelines[0], app.Pipelines[1]
	wantA := spec.Watermark{MaxOutOfOrder: 30_000, EmitInterval: 10_000, AllIdle: spec.AllIdleHold, MaxFutureSkew: -1}
	wantB := spec.Watermark{Periodic: true, EmitInterval: 5_000, AllIdle: spec.AllIdleHold, MaxFutureSkew: -1}
	if diff := cmp.Diff([]spec.Watermark{wantA, wantB}, []spec.Watermark{a.Watermark, b.Watermark}); diff != "" {
		t.Errorf("watermarks: -want +got:\n%s", diff)
	}
	if diff := cmp.Diff([]string{"out", "out-late", "processor-dead-letter", "skip"}, []string{a.SinkTopic, a.LateTopic, a.DeadLetterTopic, string(a.Policy)}); diff != "" {
		t.Errorf("a: -want +got:\n%s", diff)
	}
	if diff := cmp.Diff([]string{"results", "too-late", "dead", "fail"}, []string{b.SinkTopic, b.LateTopic, b.DeadLetterTopic, string(b.Policy)}); diff != "" {
		t.Errorf("b: -want +got:\n%s", diff)
	}
	if diff := cmp.Diff([]string{"in", "other"}, app.Consumer.Topics); diff != "" {
		t.Errorf("consumer's topics: -want +got:\n%s", diff)
	}
	if app.State != (spec.State{Backend: spec.BackendBolt, Path: ".tidemark/state", Compression: "none"}) {
		t.Errorf("got state %+v", app.State)
	}
	if app.Consumer.GroupID != "tidemark.shop" || app.Producer.BootstrapServers != "a:1,b:2" || app.Producer.Acks != "all" || app.Metrics.Enabled {
		t.Errorf("got %+v, %+v, %+v", app.Consumer, app.Producer, app.Metrics)
	}
}

func TestSourceTopicsAreThoseThatPipelinesRead(t *testing.T) {
	app := load(t, `
kafka: {consumer: {topics: [unread, b]}, producer: {result_topic: out}}
pipelines: [{name: x, topics: [b, a]}, {name: y, topics: [a]}]
`)
	if diff := cmp.Diff([]string{"a", "b"}, app.SourceTopics()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestDurationsInAllSpellings(t *testing.T) {
	f := func(spelling string, want time.Duration) {
		t.Helper()
		app := load(t, "processor: {checkpoint_interval"+spelling+"}\nkafka: {consumer: {topics: [in]}, producer: {result_topic: out}}")
		if app.CheckpointInterval != want {
			t.Errorf("checkpoint_interval%s: got %v, want %v", spelling, app.CheckpointInterval, want)
		}
	}
	f(": 1m30s", 90*time.Second)
	f(": 1h", time.Hour)
	f(`: "2500ms"`, 2500*time.Millisecond)
	f("_secs: 90", 90*time.Second)
	f("_secs: 1.5", 1500*time.Millisecond)
	f("_ms: 1500", 1500*time.Millisecond)
}

func TestLoadReadsWindowsLineEndsAndAByteOrderMark(t *testing.T) {
	text := "\xef\xbb\xbf" + strings.ReplaceAll(least, "\n", "\r\n")
	if got := load(t, text).Pipelines[0].Topics; !slices.Equal(got, []string{"in"}) {
		t.Errorf("got topics %v", got)
	}
}

func TestTheExampleLoads(t *testing.T) {
	app := load(t, spec.Example())
	if len(app.Pipelines) != 1 || len(app.Pipelines[0].Windows) != 3 {
		t.Errorf("got %+v", app.Pipelines)
	}
}

// The example says that the values under processor are the defaults.
func TestTheExampleShowsTheDefaults(t *testing.T) {
	text, _, _ := strings.Cut(spec.Example(), "\npipelines:")
	got, want := load(t, text), load(t, `
app: llm-metrics
processor:
  error_handling: {dead_letter_topic: processor-dead-letter}
  kafka: {consumer: {topics: [performance-metrics]}, producer: {result_topic: aggregated-metrics}}
`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-defaults +example:\n%s", diff)
	}
}

func TestProblemsAreErrInvalidOrErrNotSupported(t *testing.T) {
	_, err := spec.Load([]byte(least+"nonsense: 1\n"), "")
	if !errors.Is(err, spec.ErrInvalid) || errors.Is(err, spec.ErrNotSupported) {
		t.Errorf("unknown key: got %v", err)
	}
	_, err = spec.Load([]byte(least+"pipelines: [{fire: {shards: 2}}]\n"), "")
	if !errors.Is(err, spec.ErrNotSupported) || errors.Is(err, spec.ErrInvalid) {
		t.Errorf("shards: got %v", err)
	}
	var p *spec.Problem
	if !errors.As(err, &p) || p.Line != 6 {
		t.Errorf("got problem %+v, want one on line 6", p)
	}
}

func TestSpansOfTheTableFitEventTime(t *testing.T) {
	app := load(t, least+"pipelines: [{windows: [{size: 876600h, allowed_lateness: 876600h}]}]")
	if got := app.Pipelines[0].Windows[0]; got.Size != window.MaxSpan || got.Lateness != window.MaxSpan || event.Time(0).Add(got.Size) <= 0 {
		t.Errorf("got %+v", got)
	}
}

// Load is part of every cold start.
func BenchmarkLoad(b *testing.B) {
	data, err := os.ReadFile("../../tests/testdata/processor-config.yaml")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := spec.Load(data, "processor-config.yaml"); err != nil {
			b.Fatal(err)
		}
	}
}
