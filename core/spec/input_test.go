package spec_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
)

func TestTheFormatOfAPipelineIsItsOwnOrThatOfAll(t *testing.T) {
	rows := event.Format{Kind: event.FormatCSV, Columns: []string{"time", "value"}, Delimiter: ','}
	f := func(name, processor, pipeline string, want event.Format) {
		t.Helper()
		app := load(t, "processor: {"+processor+"}\nkafka: {consumer: {topics: [in]}, producer: {result_topic: out}}\npipelines: [{"+pipeline+"}]\n")
		if diff := cmp.Diff(want, app.Pipelines[0].Input); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
	}
	f("nothing said", "", "", event.Format{})
	f("a word", "", "input: text", spec.Text())
	f("a block", "", "input: {format: json_registry}", spec.JSONRegistry())
	f("an empty block", "input: json", "input: {}", spec.JSON())
	f("for all", "input: {format: csv, columns: [time, value]}", "", rows)
	f("for all, and rows here too", "input: {format: csv, columns: [time, value]}", "input: csv", rows)
	f("another format here", "input: {format: csv, columns: [time, value], delimiter: ';'}", "input: text}, {name: rows", spec.Text())
	f("other columns here", "input: {format: csv, columns: [a, b], delimiter: ';'}", "input: {columns: [time, value]}", event.Format{Kind: event.FormatCSV, Columns: []string{"time", "value"}, Delimiter: ';'})
	f("another delimiter here", "input: {format: csv, columns: [time, value]}", `input: {delimiter: "\t"}`, event.Format{Kind: event.FormatCSV, Columns: []string{"time", "value"}, Delimiter: '\t'})
	f("the format for all, the columns here", "input: csv", "input: {columns: [time, value]}", rows)
}

func TestWithoutAPipelineTheFormatIsThatOfTheApp(t *testing.T) {
	app := load(t, "processor: {input: text}\nkafka: {consumer: {topics: [in]}, producer: {result_topic: out}}\n")
	p := app.Pipelines[0]
	if p.Input.Kind != event.FormatText || p.Timestamp != (spec.Timestamp{Unit: spec.UnitMillis, Record: true}) || p.Values[0].Path != "value" {
		t.Errorf("got %+v", p)
	}
}

// Where nothing is said of time, it is in the field timestamp of records that have one.
func TestTimeThatIsNotSaidIsWhereTheFormatHasIt(t *testing.T) {
	field, record := spec.Timestamp{Field: "timestamp", Unit: spec.UnitMillis, Record: true}, spec.Timestamp{Unit: spec.UnitMillis, Record: true}
	f := func(pipeline string, want spec.Timestamp) {
		t.Helper()
		app := load(t, least+"pipelines: [{"+pipeline+"}]\n")
		if got := app.Pipelines[0].Timestamp; got != want {
			t.Errorf("%s: got %+v", pipeline, got)
		}
		if err := app.Validate(); err != nil {
			t.Errorf("%s: %v", pipeline, err)
		}
	}
	f("input: json", field)
	f("input: json_registry", field)
	f("input: {format: csv, columns: [timestamp, value]}", field)
	f("input: {format: csv, columns: [time, value]}", record)
	f("input: {format: csv, columns: [time, value]}, map: {timestamp: time * 1000}", field)
	f("input: text", record)
	f("input: text, map: {timestamp: value}", field)
	f("input: text, timestamp: {record: true}", record)
	f("input: {format: csv, columns: [at, value]}, timestamp: {field: at, unit: ns}", spec.Timestamp{Field: "at", Unit: spec.UnitNanos})
}

// Expressions, derived fields and nested names go over the columns as they go over fields of JSON.
func TestEveryPartOfAPipelineMayNameColumns(t *testing.T) {
	app := load(t, least+`
pipelines:
  - input: {format: csv, columns: [time, service, user-id, latency, gap]}
    timestamp: {field: time, unit: us}
    where: latency != nil and service startsWith "c"
    map: {seconds: latency / 1000, slow: seconds > 1}
    key: [user-id, lower(service), {slow: slow}]
    values: {s: seconds, ms: latency}
    windows: [{type: session, gap: 1m, gap_field: gap}]
`)
	if err := app.Validate(); err != nil {
		t.Error(err)
	}
}
