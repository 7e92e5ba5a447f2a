package spec_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/core/spec"
)

// What a file can say, Go can say: every part of an App has a method that sets it. Those that take a whole struct (Watermark, Trigger,
// Errors, ...) set all of its fields; TestTheBuilderMakesWhatTheFileMakes compares values.
func TestTheBuilderCoversEveryPartOfAnApp(t *testing.T) {
	app := map[string]string{
		"Name": "is the argument of NewBuilder", "Parallelism": "Parallelism", "BufferSize": "BufferSize", "CheckpointInterval": "CheckpointInterval",
		"State": "State", "Errors": "Errors", "Consumer": "From", "Producer": "Producer", "Metrics": "Metrics", "Pipelines": "Pipeline",
	}
	pipeline := map[string]string{
		"App": "is the name of the App", "Name": "is the argument of Builder.Pipeline", "Functions": "is set for all pipelines by Builder.Functions",
		"Shards": "has one legal value so far; the field of PipelineBuilder.Pipeline can be set",
		"Topics": "Topics", "Input": "Input", "Timestamp": "Timestamp", "Where": "Where", "Map": "Derive", "Key": "Key", "Values": "Value", "Windows": "Window",
		"Aggregates": "Aggregate", "Sketch": "DDSketch", "Trigger": "Trigger", "Accumulation": "Accumulate", "Watermark": "Watermark", "Policy": "Policy",
		"SinkTopic": "Sink", "LateTopic": "Late", "DeadLetterTopic": "DeadLetter",
	}
	covers(t, reflect.TypeFor[spec.App](), reflect.TypeFor[*spec.Builder](), app)
	covers(t, reflect.TypeFor[spec.Pipeline](), reflect.TypeFor[*spec.PipelineBuilder](), pipeline)
}

// covers wants, for each field of a struct, a method of the builder, or a reason in words.
func covers(t *testing.T, of, builder reflect.Type, by map[string]string) {
	t.Helper()
	for f := range of.Fields() {
		name := f.Name
		says, ok := by[name]
		if !ok {
			t.Errorf("%s.%s: no method of %s is known to set it: add one, here too, or say why not", of, name, builder)
			continue
		}
		if _, ok := builder.MethodByName(says); !ok && !strings.Contains(says, " ") {
			t.Errorf("%s.%s: %s has no method %s", of, name, builder, says)
		}
	}
}
