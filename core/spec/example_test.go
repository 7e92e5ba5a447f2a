package spec_test

import (
	"fmt"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/spec"
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

func ExampleBuilder_missing() {
	_, err := spec.NewBuilder("llm-metrics").From(spec.FromKafka("performance-metrics")).Build()
	fmt.Println(err)
	// Output:
	// watermark: is missing (Watermark(spec.BoundedOutOfOrderness(30*time.Second)))
	// window: is missing (Pipeline("NAME", func(p *spec.PipelineBuilder) { p.Tumbling("1m", time.Minute, spec.NoLateness()) }))
	// state: is missing (State(spec.Redis()), State(spec.Bolt("DIRECTORY")) or State(spec.Memory()))
	// sink: is missing (Sink("TOPIC"))
}
