package spec_test

import (
	"fmt"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/core/window"
)

func ExampleLoad() {
	app, err := spec.Load([]byte(`
app: shop
kafka:
  consumer: {topics: [orders]}
  producer: {result_topic: order-totals}
pipelines:
  - name: revenue
    key: [country]
    values: {cents: amount.cents}
    windows: [{name: 1h, size: 1h, allowed_lateness: 5m}]
    aggregates: {cents: [count, sum, p99]}
`), "shop.yaml")
	if err != nil {
		fmt.Println(err)
		return
	}
	p := app.Pipelines[0]
	fmt.Println(p.Name, p.Topics, p.Windows[0].Kind, p.Windows[0].Size.Duration(), p.Aggregates[0].Functions)
	fmt.Println(p.LateTopic, p.DeadLetterTopic)
	// Output:
	// revenue [orders] tumbling 1h0m0s [count sum p99]
	// order-totals-late processor-dead-letter
}

func ExampleLoad_problems() {
	_, err := spec.Load([]byte(`
processor:
  paralelism: 8
  windows: {tumbling: {size: 300}}
  kafka:
    consumer: {topics: [orders], enable_auto_commit: true}
    producer: {result_topic: orders}
`), "shop.yaml")
	fmt.Println(err)
	// Output:
	// shop.yaml:3: processor.paralelism: unknown key (did you mean parallelism?)
	// shop.yaml:4: processor.windows.tumbling.size: needs a unit, got 300 (size: 300s, or size_secs: 300)
	// shop.yaml:6: processor.kafka.consumer.enable_auto_commit: must be false: offsets are committed with the results, in one transaction, got true
	// shop.yaml:7: processor.kafka.producer.result_topic: the topic of results is a source topic of pipeline default, got orders (choose another; a chain of pipelines is two apps)
}

func ExampleBuilder() {
	app, err := spec.NewBuilder("llm-metrics").
		From(spec.FromKafka("performance-metrics")).
		State(spec.Redis()).
		Sink("aggregated-metrics").
		Watermark(spec.BoundedOutOfOrderness(30*time.Second)).
		Pipeline("model-latency", func(p *spec.PipelineBuilder) {
			p.Key("service", "model").
				Timestamp("timestamp", spec.UnitMillis).
				Value("latency", "value").
				Tumbling("1m", time.Minute, spec.Lateness(time.Minute)).
				Aggregate("latency", "count", "p99")
		}).
		Build()
	if err != nil {
		fmt.Println(err)
		return
	}
	p := app.Pipelines[0]
	fmt.Println(p.Group())
	fmt.Println(p.SinkTopic, p.LateTopic)
	// Output:
	// tidemark.llm-metrics.model-latency.4b022619c571439d
	// aggregated-metrics aggregated-metrics-late
}

// Three topics, each written otherwise, and computed by one app: rows, single numbers, and what a schema registry's serializer writes.
func ExamplePipelineBuilder_Input() {
	minute := func(p *spec.PipelineBuilder) *spec.PipelineBuilder {
		return p.Tumbling("1m", time.Minute, spec.Lateness(time.Minute))
	}
	app, err := spec.NewBuilder("plant").
		From(spec.FromKafka("rows")).State(spec.Redis()).Sink("per-minute").Watermark(spec.BoundedOutOfOrderness(30*time.Second)).
		Input(spec.CSV("time", "machine", "power")).
		Pipeline("power", func(p *spec.PipelineBuilder) {
			minute(p).Timestamp("time", spec.UnitSeconds).Key("machine").Where("power > 0").Value("watt", "power")
		}).
		Pipeline("temperature", func(p *spec.PipelineBuilder) { minute(p).Topics("numbers").Input(spec.Text()) }).
		Pipeline("orders", func(p *spec.PipelineBuilder) {
			minute(p).Topics("documents").Input(spec.JSONRegistry()).Value("amount", "order.amount")
		}).Build()
	if err != nil {
		fmt.Println(err)
		return
	}
	for i := range app.Pipelines {
		p := &app.Pipelines[i]
		fmt.Printf("%s reads %v %q, time is in %q\n", p.Name, p.Input.Kind, p.Input.Columns, p.Timestamp.Field)
	}
	// Output:
	// power reads csv ["time" "machine" "power"], time is in "time"
	// temperature reads text [], time is in ""
	// orders reads json_registry [], time is in "timestamp"
}

// Sessions of a user end after five quiet minutes, or where the record says so, and never last longer than a day.
func ExamplePipelineBuilder_Session() {
	app, err := spec.NewBuilder("web").
		From(spec.FromKafka("clicks")).State(spec.Redis()).Sink("visits").Watermark(spec.BoundedOutOfOrderness(time.Minute)).
		Pipeline("visits", func(p *spec.PipelineBuilder) {
			p.Key("user").RecordTimestamp().Value("page", "page").Aggregate("page", "count", "distinct", "first", "last").
				Session("plain", 5*time.Minute, spec.NoLateness()).
				Window(window.Definition{
					Name: "cut", Kind: window.KindSession, Gap: event.SpanOf(5 * time.Minute), Max: event.SpanOf(24 * time.Hour),
					GapField: "gap_ms", MaxGap: event.SpanOf(time.Hour),
				}, spec.Lateness(time.Minute))
		}).Build()
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, w := range app.Pipelines[0].Windows {
		fmt.Println(w.Name, w.Kind, w.Gap.Duration(), w.Max.Duration(), w.GapField, w.Lateness.Duration())
	}
	// Output:
	// plain session 5m0s 0s  0s
	// cut session 5m0s 24h0m0s gap_ms 1m0s
}

// Several windows over one pass of the records; while they are open, what has changed goes out every ten seconds, and takes back
// what went out before.
func ExamplePipelineBuilder_Trigger() {
	app, err := spec.NewBuilder("shop").
		From(spec.FromKafka("orders")).State(spec.Redis()).Sink("revenue").Watermark(spec.BoundedOutOfOrderness(30*time.Second)).
		Pipeline("revenue", func(p *spec.PipelineBuilder) {
			p.Key("country").Timestamp("at", spec.UnitMillis).Value("cents", "amount.cents").AggregateAll("count", "sum", "p99").
				Tumbling("1m", time.Minute, spec.Lateness(5*time.Minute)).
				Sliding("10m", 10*time.Minute, time.Minute, spec.Lateness(5*time.Minute)).
				Cumulate("today", 24*time.Hour, time.Hour, spec.Lateness(time.Hour)).
				Trigger(spec.Trigger{EarlyEvery: event.SpanOf(10 * time.Second), OnChange: true}).
				Accumulate(spec.Retracting)
		}).
		Pipeline("in-thousands", func(p *spec.PipelineBuilder) {
			p.Value("cents", "amount.cents").Aggregate("cents", "sum").
				Window(window.Definition{Name: "all", Kind: window.KindGlobal}, spec.NoLateness()).
				Trigger(spec.Trigger{Count: 1000}).Accumulate(spec.Discarding).Sink("revenue-of-1000")
		}).Build()
	if err != nil {
		fmt.Println(err)
		return
	}
	for i := range app.Pipelines {
		p := &app.Pipelines[i]
		fmt.Println(p.Name, len(p.Windows), "windows, early:", p.Trigger.Early(), p.Accumulation, "to", p.SinkTopic)
	}
	// Output:
	// revenue 3 windows, early: true retracting to revenue
	// in-thousands 1 windows, early: true discarding to revenue-of-1000
}

func ExampleBuilder_missing() {
	_, err := spec.NewBuilder("llm-metrics").From(spec.FromKafka("performance-metrics")).Build()
	fmt.Println(err)
	// Output:
	// watermark: is missing (Watermark(spec.BoundedOutOfOrderness(30*time.Second)))
	// window: is missing (Pipeline("NAME", func(p *spec.PipelineBuilder) { p.Tumbling("1m", time.Minute, spec.NoLateness()) }))
	// state: is missing (State(spec.Redis()), State(spec.Bolt("DIRECTORY")) or State(spec.Memory()))
	// sink: is missing (Sink("TOPIC"))
}
