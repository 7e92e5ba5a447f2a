package handlers

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio/memlog"
	"github.com/llm-auto-optimizer/tidemark/statestore/memstore"
	"github.com/llm-auto-optimizer/tidemark/tests/rig"
)

// reading is a pipeline over the topic "in" that reads its records as the lines say.
func reading(t *testing.T, lines string) *rig.World {
	t.Helper()
	app, err := spec.Load(fmt.Appendf(nil, `
app: t
processor:
  watermark: {max_out_of_orderness_secs: 0, emit_interval_secs: 0}
  kafka: {consumer: {topics: [in]}, producer: {result_topic: out}}
pipelines:
  - name: p
    windows: [{name: w, type: tumbling, size: 10ms, allowed_lateness: 0s}]
%s`, lines), "t.yaml")
	if err != nil {
		t.Fatal(err)
	}
	w, err := rig.New(app, memstore.New(), memlog.New(memlog.Options{}), 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.RunFire(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w
}

// outcome is what came out: results by window and key, and the dead letters.
type outcome struct {
	Results map[string]map[string]any
	Dead    []string // offset, reason and the error's text
	Values  []string // of the dead letters
}

// closed delivers records, closes all windows and returns what came out.
func closed(t *testing.T, w *rig.World, records []event.Record) outcome {
	t.Helper()
	if len(records) > 0 {
		if failed, err := w.Deliver(t.Context(), map[event.TopicPartition][]event.Record{tp(0): records}); failed != 0 || err != nil {
			t.Fatal(failed, err)
		}
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	results, err := rig.ParseResults(w.Log.Records("out"))
	if err != nil {
		t.Fatal(err)
	}
	o := outcome{Results: map[string]map[string]any{}}
	for _, r := range results {
		o.Results[fmt.Sprintf("%d %s", r.Window.StartMS, r.Key)] = r.Results
	}
	dead := w.Log.Records(w.Pipelines[0].DeadLetterTopic)
	sides, err := rig.ParseSide(dead)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range sides {
		text := ""
		for _, h := range dead[i].Headers {
			if h.Key == "tidemark-error" {
				text = string(h.Value)
			}
		}
		o.Dead, o.Values = append(o.Dead, fmt.Sprintf("%d %s: %s", s.Offset, s.Reason, text)), append(o.Values, string(dead[i].Value))
	}
	return o
}

func TestRowsAreFoldedAndBadOnesDeadLettered(t *testing.T) {
	w := reading(t, `
    input: {format: csv, columns: [time, service, ms]}
    timestamp: {field: time, unit: us}
    key: [service]
    values: {ms: ms}
    aggregates: [count, sum]
`)
	records := produce(t, w, 0, "1000,chat,10", "\"2000\",\"chat\",\"32\"\r\n", "1970-01-01T00:00:00.003Z,search,5\n", "4000,chat", "4000,chat,fast\n", "4000,chat,NaN", "4000,,1", "4000,chat,1\n5000,chat,1", "19000,chat,1")
	got := closed(t, w, records)
	want := outcome{
		Results: map[string]map[string]any{
			"0 service=chat": {"count": 2.0, "sum": 42.0}, "0 service=search": {"count": 1.0, "sum": 5.0}, "10 service=chat": {"count": 1.0, "sum": 1.0},
		},
		Dead: []string{
			"3 decode: undecodable value: byte 9: the row ends after 2 of 3 columns",
			"4 value_type: field ms is string, not a number",
			"5 value_not_finite: field ms: not a finite float64",
			"6 key_missing: field service is missing, null, an object or an array",
			"7 decode: undecodable value: byte 12: a second row",
		},
		Values: []string{"4000,chat", "4000,chat,fast\n", "4000,chat,NaN", "4000,,1", "4000,chat,1\n5000,chat,1"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestPlainNumbersNeedNothingButTheirFormat(t *testing.T) {
	w := reading(t, "    input: text\n    aggregates: [count, sum, max]\n")
	records := produce(t, w, 0, "12.5", " 30\n", "", "fast", "-Infinity", "\xff")
	got := closed(t, w, records)
	want := outcome{
		Results: map[string]map[string]any{"0 k": {"count": 2.0, "sum": 42.5, "max": 30.0}},
		Dead: []string{
			"2 value_missing: no value of the pipeline is in the record",
			"3 value_type: field value is string, not a number",
			"4 value_not_finite: field value: not a finite float64",
			"5 decode: undecodable value: byte 0: invalid UTF-8, found 0xff",
		},
		Values: []string{"", "fast", "-Infinity", "\xff"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// A trigger with a schema registry removes the prefix that the log has. What is folded from the one, from the other, or from both
// after a gap or a loss of all state, is the same.
func TestWithoutThePrefixOfARegistryResultsAreThoseWithIt(t *testing.T) {
	const lines = `
    input: json_registry
    timestamp: {field: t}
    key: [k]
    values: {v: v}
    aggregates: [count, sum, last]
`
	var packed bytes.Buffer
	z := zlib.NewWriter(&packed)
	_, err := io.WriteString(z, `{"t":4,"k":"a","v":8}`)
	if err := errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	const confluent, glue = "\x00\x00\x00\x00\x07", "0123456789abcdef"
	documents := []string{`{"t":1,"k":"a","v":1.50}`, `{"t":2,"k":"b","v":2}`, `{"t":3,"k":"a","v":4}`, `{"t":4,"k":"a","v":8}`, `{"t":5,"k":"a"}`, "\x02\x04a", `{"t":19,"k":"a","v":1}`}
	logged := []string{confluent + documents[0], documents[1], "\x03\x00" + glue + documents[2], "\x03\x05" + glue + packed.String(), confluent + documents[4], confluent + documents[5], confluent + documents[6]}

	// deliver says which records come from the trigger, and whether it has removed their prefixes.
	run := func(strip bool, lose bool, deliver func([]event.Record) []event.Record) outcome {
		w := reading(t, lines)
		records := produce(t, w, 0, logged...)
		if strip {
			for i := range records {
				records[i].Value = []byte(documents[i])
			}
		}
		if lose {
			if _, err := w.Deliver(t.Context(), map[event.TopicPartition][]event.Record{tp(0): records}); err != nil {
				t.Fatal(err)
			}
			w.Store = memstore.New()
			w.Restart()
		}
		return closed(t, w, deliver(records))
	}
	all := func(r []event.Record) []event.Record { return r }
	want := run(false, false, all)
	if diff := cmp.Diff(map[string]map[string]any{
		"0 k=a": {"count": 3.0, "sum": 13.5, "last": 8.0}, "0 k=b": {"count": 1.0, "sum": 2.0, "last": 2.0}, "10 k=a": {"count": 1.0, "sum": 1.0, "last": 1.0},
	}, want.Results); diff != "" {
		t.Errorf("with prefixes: -want +got:\n%s", diff)
	}
	dead := []string{
		"4 value_missing: no value of the pipeline is in the record",
		`5 decode: undecodable value: behind the prefix of schema 7: byte 0: want a value, found '\x02': only JSON is read, not Avro or Protobuf`,
	}
	if !slices.Equal(want.Dead, dead) || !slices.Equal(want.Values, logged[4:6]) {
		t.Errorf("with prefixes: dead letters %q, %q", want.Dead, want.Values)
	}
	for name, got := range map[string]outcome{
		"without prefixes":                      run(true, false, all),
		"without, and a gap read with":          run(true, false, func(r []event.Record) []event.Record { return r[3:] }),
		"without, and nothing is kept":          run(true, true, func([]event.Record) []event.Record { return nil }),
		"without, kept nothing, delivered anew": run(true, true, all),
	} {
		// What is said of a record that is no JSON differs by where it was read; what was wrong with it, and the record, do not.
		if len(got.Dead) == 2 {
			got.Dead[1] = want.Dead[1]
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -with +got:\n%s", name, diff)
		}
	}
}

// The event of a mapping with a schema registry has more members, and values without prefix, still in base64.
func TestAnEventOfAMappingWithASchemaRegistryIsFolded(t *testing.T) {
	w := reading(t, "    input: json_registry\n    key: [k]\n    values: {v: v}\n    aggregates: [sum]\n")
	produce(t, w, 0, "\x00\x00\x00\x00\x07"+`{"k":"a","v":1.50}`)
	answer, err := w.Ingest.Invoke(t.Context(), fmt.Appendf(nil, `{"eventSource":"aws:kafka","eventSourceArn":"arn:aws:kafka:us-east-1:123456789012:cluster/c/0","bootstrapServers":"b-1:9092",
"records":{"in-0":[{"topic":"in","partition":0,"offset":0,"timestamp":1,"timestampType":"CREATE_TIME","key":"aw==","keySchemaMetadata":null,"value":%q,
"valueSchemaMetadata":{"dataFormat":"JSON","schemaId":"7"},"headers":[]}]}}`, base64.StdEncoding.EncodeToString([]byte(`{"k":"a","v":1.50}`))))
	if err != nil || string(answer) != `{"batchItemFailures":[]}` {
		t.Fatalf("%s, %v", answer, err)
	}
	want := map[string]map[string]any{"0 k=a": {"sum": 1.5}}
	if diff := cmp.Diff(want, closed(t, w, nil).Results); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
