package spec

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/core/aggregate"
)

const inAndOut = "kafka: {consumer: {topics: [in]}, producer: {result_topic: out}}\n"

func TestSketchIsThatOfThePipelineElseOfAll(t *testing.T) {
	dd := func(accuracy float64) aggregate.Sketch {
		return aggregate.Sketch{Kind: aggregate.DDSketch, Accuracy: accuracy}
	}
	for text, want := range map[string]aggregate.Sketch{
		"": {},
		"processor: {aggregation: {percentile_sketch: tdigest}}":                                                                                   {},
		"processor: {aggregation: {percentile_sketch: ddsketch}}":                                                                                  dd(0.01),
		"processor: {aggregation: {percentile_sketch: ddsketch, relative_accuracy: 0.05}}":                                                         dd(0.05),
		"pipelines: [{aggregation: {percentile_sketch: ddsketch}}]":                                                                                dd(0.01),
		"pipelines: [{aggregation: {percentile_sketch: ddsketch, relative_accuracy: 0.002}}]":                                                      dd(0.002),
		"processor: {aggregation: {relative_accuracy: 0.05}}\npipelines: [{aggregation: {percentile_sketch: ddsketch}}]":                           dd(0.05),
		"processor: {aggregation: {percentile_sketch: ddsketch}}\npipelines: [{aggregation: {relative_accuracy: 0.1}}]":                            dd(0.1),
		"processor: {aggregation: {percentile_sketch: ddsketch}}\npipelines: [{aggregation: {percentile_sketch: tdigest}}]":                        {},
		"processor: {aggregation: {percentile_sketch: ddsketch, relative_accuracy: 0.03}}\npipelines: [{aggregation: {relative_accuracy: 0.001}}]": dd(0.001),
	} {
		if got := pipelineOf(t, inAndOut+text).Sketch; got != want {
			t.Errorf("%s: %+v, want %+v", text, got, want)
		}
	}
}

// A fingerprint has what is new only where a pipeline uses it.
func TestFingerprintCoversSketchesThatAreUsed(t *testing.T) {
	of := func(functions, aggregation string) string {
		p := pipelineOf(t, inAndOut+"pipelines: [{aggregates: ["+functions+"], aggregation: {"+aggregation+"}}]")
		return p.Fingerprint()
	}
	if of("count, p50", "") != of("count, p50", "percentile_sketch: tdigest") {
		t.Error("the default, written, is another pipeline")
	}
	if of("count, p50", "") == of("count, p50", "percentile_sketch: ddsketch") {
		t.Error("another sketch is the same pipeline")
	}
	if of("p50", "percentile_sketch: ddsketch") == of("p50", "percentile_sketch: ddsketch, relative_accuracy: 0.02") {
		t.Error("another accuracy is the same pipeline")
	}
	if of("count, first", "") != of("count, first", "percentile_sketch: ddsketch") {
		t.Error("a sketch that nothing uses makes another pipeline")
	}
}

// some is the state of a function that is only named.
type some struct{ aggregate.State }

func named(t *testing.T, version int) *aggregate.Registry {
	t.Helper()
	g, err := aggregate.NewRegistry(aggregate.Definition{Name: "top_k", Doc: "d", Version: version, New: func() aggregate.State { return some{} }})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestFunctionsOfOnesOwn(t *testing.T) {
	text := []byte(inAndOut + "pipelines: [{aggregates: [count, top_k]}]")
	if _, err := Load(text, "spec.yaml"); err == nil || !strings.Contains(err.Error(), "is not an aggregate function, got top_k") {
		t.Errorf("without a registry: %v", err)
	}
	var prints []string
	for version := range 2 {
		app, err := Load(text, "spec.yaml", WithFunctions(named(t, version)))
		if err != nil {
			t.Fatal(err)
		}
		if err := app.Validate(); err != nil {
			t.Error(err)
		}
		prints = append(prints, app.Pipelines[0].Fingerprint())
	}
	if prints[0] == prints[1] {
		t.Error("another version of a function is the same pipeline")
	}
	plain := []byte(inAndOut)
	with, err := Load(plain, "spec.yaml", WithFunctions(named(t, 1)))
	if err != nil {
		t.Fatal(err)
	}
	if without := pipelineOf(t, inAndOut); without.Fingerprint() != with.Pipelines[0].Fingerprint() {
		t.Error("a registry that nothing uses makes another pipeline")
	}
	if _, err := Load([]byte(inAndOut+"pipelines: [{aggregates: [topk]}]"), "spec.yaml", WithFunctions(named(t, 1))); err == nil || !strings.Contains(err.Error(), "did you mean top_k?") {
		t.Errorf("misspelt: %v", err)
	}
	if s := string(Schema(WithFunctions(named(t, 1)))); !json.Valid([]byte(s)) || !strings.Contains(s, `"top_k"`) {
		t.Error("the schema does not know the function")
	}
}

func TestBuilderTakesSketchesAndFunctions(t *testing.T) {
	app, err := NewBuilder("a").From(FromKafka("in")).State(Memory()).Sink("out").Watermark(BoundedOutOfOrderness(0)).Functions(named(t, 1)).
		Pipeline("p", func(p *PipelineBuilder) {
			p.Value("v", "v").Tumbling("w", 1e9, NoLateness()).Aggregate("v", "p99", "top_k").DDSketch(0.05)
		}).Build()
	if err != nil {
		t.Fatal(err)
	}
	if got := app.Pipelines[0].Sketch; got != (aggregate.Sketch{Kind: aggregate.DDSketch, Accuracy: 0.05}) {
		t.Errorf("%+v", got)
	}
	app.Pipelines[0].Sketch.Accuracy = 0.5
	if err := app.Validate(); err == nil || !strings.Contains(err.Error(), "must be from 0.001 to 0.2") {
		t.Errorf("an accuracy out of range: %v", err)
	}
}
