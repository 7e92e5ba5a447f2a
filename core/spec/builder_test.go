package spec_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/core/window"
)

// The builder and the file are two ways to write one thing.
func TestTheBuilderMakesWhatTheFileMakes(t *testing.T) {
	built, err := spec.NewBuilder("llm-metrics").
		From(spec.FromKafka("performance-metrics")).
		State(spec.Bolt("/state")).
		Sink("aggregated-metrics").
		Watermark(spec.BoundedOutOfOrderness(20*time.Second)).
		Parallelism(2).BufferSize(100).CheckpointInterval(2*time.Minute).Metrics(spec.Metrics{ExportInterval: time.Second}).
		Pipeline("model-latency", func(p *spec.PipelineBuilder) {
			p.Input(spec.JSON()).Key("service", "model").Timestamp("timestamp", spec.UnitMillis).
				Value("tokens", "attributes.tokens").Value("latency", "value").
				Tumbling("1m", time.Minute, spec.Lateness(time.Minute)).
				Sliding("10m", 10*time.Minute, time.Minute, spec.NoLateness()).
				Session("visits", 5*time.Minute, spec.Lateness(2*time.Second)).
				Window(window.Definition{Name: "shifted", Kind: window.KindTumbling, Size: 3_600_000, Offset: -900_000}, spec.NoLateness()).
				Aggregate("latency", "count", "percentile").Aggregate("latency", "p99.9").
				Late("late-events")
		}).
		Pipeline("totals", func(p *spec.PipelineBuilder) {
			p.Topics("feedback").Ungrouped().RecordTimestamp().Value("a", "a").Value("b", "b").
				AggregateAll("sum").Aggregate("b", "max").
				Tumbling("d", 24*time.Hour, spec.NoLateness()).Cumulate("c", 24*time.Hour, time.Hour, spec.NoLateness()).
				Trigger(spec.Trigger{EarlyEvery: 10_000, Count: 5}).Accumulate(spec.Discarding).
				Sink("totals").DeadLetter("bad").Policy(spec.PolicySkip).Watermark(spec.PeriodicWatermark(0, time.Second))
		}).
		Pipeline("plain", func(p *spec.PipelineBuilder) { p.Tumbling("h", time.Hour, spec.NoLateness()) }).
		Input(spec.CSV("timestamp", "service", "model", "value", "a", "b")).
		Pipeline("numbers", func(p *spec.PipelineBuilder) { p.Input(spec.Text()).Tumbling("h", time.Hour, spec.NoLateness()) }).
		Pipeline("registry", func(p *spec.PipelineBuilder) {
			p.Input(spec.JSONRegistry()).Tumbling("h", time.Hour, spec.NoLateness())
		}).
		Pipeline("documents", func(p *spec.PipelineBuilder) { p.Input(spec.JSON()).Tumbling("h", time.Hour, spec.NoLateness()) }).
		Build()
	if err != nil {
		t.Fatal(err)
	}
	read := load(t, `
app: llm-metrics
metrics: {enabled: false, export_interval: 1s}
processor: {input: {format: csv, columns: [timestamp, service, model, value, a, b]}, parallelism: 2, buffer_size: 100, checkpoint_interval: 2m, state: {backend: bolt, path: /state}, watermark: {max_out_of_orderness: 20s}}
kafka: {consumer: {topics: [performance-metrics]}, producer: {result_topic: aggregated-metrics}}
pipelines:
  - name: model-latency
    timestamp: {field: timestamp, unit: ms}
    key: [service, model]
    input: json
    values: {latency: value, tokens: attributes.tokens}
    windows:
      - {name: 1m, type: tumbling, size: 1m, allowed_lateness: 1m}
      - {name: 10m, type: sliding, size: 10m, slide: 1m, allowed_lateness: 0}
      - {name: visits, type: session, gap: 5m, allowed_lateness: 2s}
      - {name: shifted, size: 1h, offset: -15m, allowed_lateness: 0}
    aggregates: {latency: [count, percentile, p99.9]}
    late: {topic: late-events}
  - name: totals
    topics: [feedback]
    timestamp: {record: true}
    key: []
    values: {a: a, b: b}
    aggregates: {a: [sum], b: [max]}
    windows: [{name: d, size: 24h, allowed_lateness: 0}, {name: c, type: cumulate, size: 24h, step: 1h, allowed_lateness: 0}]
    trigger: {early: {every: 10s}, count: 5}
    accumulation: discarding
    sink: {topic: totals}
    error_handling: {policy: skip, dead_letter_topic: bad}
    watermark: {strategy: periodic, emit_interval: 1s, max_out_of_orderness: 0}
  - name: plain
    windows: [{name: h, size: 1h, allowed_lateness: 0}]
  - {name: numbers, input: text, windows: [{name: h, size: 1h, allowed_lateness: 0}]}
  - {name: registry, input: {format: json_registry}, windows: [{name: h, size: 1h, allowed_lateness: 0}]}
  - {name: documents, input: json, windows: [{name: h, size: 1h, allowed_lateness: 0}]}
`)
	for i := range built.Pipelines {
		if i != 1 {
			read.Pipelines[i].DeadLetterTopic = built.Pipelines[i].DeadLetterTopic
		}
	}
	if diff := cmp.Diff(read, built); diff != "" {
		t.Errorf("-file +built:\n%s", diff)
	}
	if got := built.Pipelines[0].DeadLetterTopic; got != "processor-dead-letter" {
		t.Errorf("got dead letter topic %q", got)
	}
}

func TestBuildNamesEveryMissingPart(t *testing.T) {
	f := func(b *spec.Builder, want ...string) {
		t.Helper()
		app, err := b.Build()
		var got []string
		for _, p := range spec.Problems(err) {
			if p.Message != "is missing" || p.Hint == "" {
				t.Errorf("got problem %v", p)
			}
			got = append(got, p.Path)
		}
		if diff := cmp.Diff(want, got); diff != "" || app != nil || !errors.Is(err, spec.ErrInvalid) {
			t.Errorf("-want +got:\n%s%v", diff, err)
		}
	}
	f(spec.NewBuilder("a"), "source", "watermark", "window", "state", "sink")
	f(spec.NewBuilder("a").From(spec.FromKafka("in")).State(spec.Redis()), "watermark", "window", "sink")
	f(spec.NewBuilder("a").From(spec.FromKafka()).State(spec.Memory()).Watermark(spec.BoundedOutOfOrderness(0)).Sink("out").
		Pipeline("p", func(p *spec.PipelineBuilder) { p.Topics("in") }).Pipeline("q", nil), "source", "window of pipeline p", "window of pipeline q")
	f(spec.NewBuilder("a").From(spec.FromKafka("in")).Watermark(spec.BoundedOutOfOrderness(0)).
		Pipeline("p", func(p *spec.PipelineBuilder) { p.Sink("out").Tumbling("w", time.Second, spec.NoLateness()) }), "state")
}

func complete() *spec.Builder {
	return spec.NewBuilder("a").From(spec.FromKafka("in")).State(spec.Memory()).Sink("out").Watermark(spec.BoundedOutOfOrderness(time.Second))
}

func minute(p *spec.PipelineBuilder) { p.Tumbling("m", time.Minute, spec.NoLateness()) }

func TestBuildReportsAllProblemsOfAPartThatIsThere(t *testing.T) {
	f := func(name string, b *spec.Builder, want ...string) {
		t.Helper()
		app, err := b.Build()
		if app != nil || err == nil {
			t.Errorf("%s: no error", name)
			return
		}
		problems := spec.Problems(err)
		if len(problems) != len(want) {
			t.Errorf("%s: got %d problems, want %d:\n%v", name, len(problems), len(want), err)
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: got %q, want %q in it", name, err, w)
			}
		}
	}
	pipeline := func(describe func(p *spec.PipelineBuilder)) *spec.Builder { return complete().Pipeline("p", describe) }
	f("names", spec.NewBuilder("A b").From(spec.FromKafka("in")).State(spec.Memory()).Sink("out").Watermark(spec.BoundedOutOfOrderness(0)).Pipeline("x.y", minute),
		`app: is not a name, got "A b"`, "consumer.group_id: is not a consumer group", "pipelines[0].name: is not a name, got x.y")
	f("names twice", complete().Pipeline("p", minute).Pipeline("p", minute), "pipelines[1].name: is the name of two pipelines, got p")
	f("lateness not chosen", pipeline(func(p *spec.PipelineBuilder) { p.Tumbling("w", time.Minute, spec.AllowedLateness{}) }),
		"pipelines[0].windows[0].allowed_lateness: was not chosen (spec.Lateness(d) or spec.NoLateness())")
	f("below a millisecond", pipeline(func(p *spec.PipelineBuilder) {
		p.Sliding("w", time.Minute, time.Microsecond, spec.Lateness(time.Nanosecond)).Watermark(spec.BoundedOutOfOrderness(time.Nanosecond))
	}), "windows[0].slide: must be a whole number of milliseconds", "windows[0].allowed_lateness: must be a whole", "watermark.max_out_of_orderness: must be a whole")
	f("windows", pipeline(func(p *spec.PipelineBuilder) {
		p.Tumbling("w", 0, spec.NoLateness()).Sliding("w", time.Second, time.Minute, spec.NoLateness()).Session("s", -1*time.Second, spec.Lateness(-time.Second))
	}), "windows[0].size: must be above 0 ms", "windows[1].name: is the name of two windows", "windows[1].slide: slide (60000 ms) must not be above size", "windows[2].gap", "windows[2].allowed_lateness")
	f("aggregates", pipeline(func(p *spec.PipelineBuilder) {
		minute(p)
		p.Value("a", "a").Aggregate("a", "avg", "sum", "sum").Aggregate("b", "count")
	}),
		"is not an aggregate function, got avg (did you mean average?)", "is given twice, got sum", "is not a value of this pipeline, got b")
	f("values", pipeline(func(p *spec.PipelineBuilder) { minute(p); p.Value("a", "a").Value("a", "b").Value("-", "x y") }),
		"values.a: is given twice", "values.-: is not a name of a value", `values.-: is an expression, and the name of a field is wanted, got "x y"`)
	f("operators", pipeline(func(p *spec.PipelineBuilder) {
		minute(p)
		p.Where("tokens * 2").Derive("1st", "a").Derive("cost", "a +").Derive("cost", "b").KeyAs("a b", "model").KeyAs("m", "lowr(model)").Timestamp("cost.at", spec.UnitMillis)
	}), "pipelines[0].where: is a number, not true or false", "map.1st: is not a name of a field", `map.cost: does not compile: ends too early (character 3), got "a +"`,
		"map.cost: is given twice", `key[0]: is not a name of a value, got "a b"`, "key[1]: does not compile: lowr is not a function here (character 1)", "timestamp.field: looks for at in cost, which is derived")
	f("input", pipeline(func(p *spec.PipelineBuilder) {
		minute(p)
		p.Input(event.Format{Kind: event.FormatCSV, Columns: []string{"value", "a.b", "value"}, Delimiter: 'x'}).Where("service == \"a\"")
	}), "input.columns[1]: is not a name of a column: dots reach nested fields", "input.columns: is given twice, got value", "input.delimiter: is not a delimiter, got x",
		"where: is not a column of the input, got service (the columns are value, a.b, value)")
	f("input of nothing", complete().Input(spec.CSV()).Pipeline("p", minute), "pipelines[0].input.columns: is required for csv")
	f("columns of text", pipeline(func(p *spec.PipelineBuilder) {
		minute(p)
		p.Input(event.Format{Kind: event.FormatText, Columns: []string{"a"}, Delimiter: ';'})
	}), "input.columns: is of rows, and the format is text", "input.delimiter: is of rows, and the format is text")
	f("unknown format", pipeline(func(p *spec.PipelineBuilder) { minute(p); p.Input(event.Format{Kind: 99}) }),
		"input.format: must be json, csv, text or json_registry, got \"FormatKind(99)\"")
	f("watermark", pipeline(func(p *spec.PipelineBuilder) {
		minute(p)
		w := spec.PeriodicWatermark(-time.Second, 0)
		w.AllIdle = "sleep"
		p.Watermark(w)
	}), "max_out_of_orderness: must be at least 0s, got -1s", "emit_interval: must be above 0", "all_idle: must be advance, hold or max, got sleep")
	f("topics", complete().Sink("in").Pipeline("p", minute), "is a source topic of pipeline p, got in")
	source := spec.FromKafka("in")
	source.Kafka.MaxPollRecords, source.Kafka.AutoOffsetReset, source.Kafka.BootstrapServers = 0, "first", "host"
	f("source", complete().From(source).Producer(spec.Producer{Acks: "1", Compression: "zip", Retries: -1, BootstrapServers: "b:1"}).Pipeline("p", minute),
		"max_poll_records", "auto_offset_reset", "bootstrap_servers: is not a list of brokers, got host", "acks: must be all", "compression_type", "retries", "must be those of the consumer")
	f("errors", complete().Errors(spec.ErrorHandling{Policy: "forget", MaxRetries: -1, InitialRetryDelay: time.Second}).Pipeline("p", minute),
		"errors.policy: must be retry, skip", "errors.max_retries", "errors.initial_retry_delay: must be at most max_retry_delay", "pipelines[0].policy")
	f("state", complete().State(spec.State{Backend: "disk"}).Pipeline("p", minute), "state.backend", "state.path", "state.compression")
	f("shards", pipeline(func(p *spec.PipelineBuilder) { minute(p); p.Pipeline.Shards = 2 }), "not supported yet: fire.shards")
}

func TestBuildOfOperators(t *testing.T) {
	app, err := complete().Pipeline("p", func(p *spec.PipelineBuilder) {
		minute(p)
		p.Where(`metric == "tokens"`).Derive("model", "lower(model)").Derive("cost", "tokens * 0.002").Key("service", "model").KeyAs("big", "tokens > 1000").Value("cost", "cost")
	}).Build()
	if err != nil {
		t.Fatal(err)
	}
	p := app.Pipelines[0]
	want := spec.Key{Fields: []string{"service", "model", "tokens > 1000"}, Names: []string{"", "", "big"}}
	if diff := cmp.Diff(want, p.Key); diff != "" || !slices.Equal(p.Key.Labels(), []string{"service", "model", "big"}) {
		t.Errorf("labels %q, -want +got:\n%s", p.Key.Labels(), diff)
	}
	if diff := cmp.Diff([]spec.Derived{{Name: "model", Expression: "lower(model)"}, {Name: "cost", Expression: "tokens * 0.002"}}, p.Map); diff != "" || p.Where != `metric == "tokens"` {
		t.Errorf("where %q, -want +got:\n%s", p.Where, diff)
	}
	if got := append(p.Origins("cost"), p.Origins("tokens > 1000")...); !slices.Equal(got, []string{"tokens", "tokens"}) {
		t.Errorf("origins %q", got)
	}
}

func TestBuildLeavesTheBuilderAsItIs(t *testing.T) {
	b := complete().Pipeline("p", minute)
	first, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	first.Pipelines[0].Topics[0], first.Pipelines[0].Windows[0].Name, first.Pipelines[0].Values[0].Name = "x", "y", "z"
	second, err := b.Pipeline("q", minute).Build()
	if err != nil {
		t.Fatal(err)
	}
	if p := second.Pipelines[0]; len(second.Pipelines) != 2 || p.Topics[0] != "in" || p.Windows[0].Name != "m" || p.Values[0].Name != "value" {
		t.Errorf("got %+v", p)
	}
}

func TestValidateOfAnAppThatWasChanged(t *testing.T) {
	app := load(t, least)
	app.Pipelines[0].Name = "Other"
	app.Parallelism = 0
	app.Pipelines[0].App = "someone"
	if err := app.Validate(); len(spec.Problems(err)) != 3 {
		t.Errorf("got %v", err)
	}
}
