package handlers

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio/memlog"
	"github.com/llm-auto-optimizer/tidemark/statestore/memstore"
	"github.com/llm-auto-optimizer/tidemark/tests/rig"
)

// countsOf is an app of pipelines with these names over one topic, which begin at its first record.
func countsOf(t *testing.T, names ...string) *spec.App {
	t.Helper()
	yaml := `
app: t
processor:
  watermark: {max_out_of_orderness_secs: 0, emit_interval_secs: 0, idle_timeout_secs: 3600}
  kafka: {consumer: {topics: [in], auto_offset_reset: earliest}, producer: {result_topic: out}}
pipelines:
`
	for _, name := range names {
		yaml += fmt.Sprintf("  - {name: %s, sink: {topic: out-%s}, timestamp: {field: t, unit: ms}, values: {v: v}, aggregates: {v: [count]}, "+
			"windows: [{type: tumbling, size: 10ms, allowed_lateness: 0s}]}\n", name, name)
	}
	app, err := spec.Load([]byte(yaml), "t.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return app
}

// A pipeline that is added begins where the spec says, whatever the others have reached; the others do not notice. One that is removed
// stops as it is: nothing of its open windows goes out. Put back, it goes on from its last plan, with what came meanwhile.
func TestPipelinesAreAddedRemovedAndPutBack(t *testing.T) {
	log := memlog.New(memlog.Options{})
	for _, name := range []string{"a", "b", "c"} {
		if err := log.CreateTopic("out-"+name, 1); err != nil {
			t.Fatal(err)
		}
	}
	first, err := rig.New(countsOf(t, "kept"), memstore.New(), log, 1)
	if err != nil {
		t.Fatal(err)
	}
	deploy := func(names ...string) *rig.World {
		t.Helper()
		w, err := first.Deploy(countsOf(t, names...))
		if err != nil {
			t.Fatal(err)
		}
		if err := w.RunFire(t.Context()); err != nil {
			t.Fatal(err)
		}
		return w
	}
	offset := int64(0)
	batch := func(w *rig.World, times ...int) {
		t.Helper()
		var records []event.Record
		for _, at := range times {
			records = append(records, event.Record{Offset: offset, Timestamp: event.Time(at), Key: []byte("k"), Value: fmt.Appendf(nil, `{"t":%d,"v":1}`, at)})
			offset++
		}
		if err := log.Append("in", 0, records...); err != nil {
			t.Fatal(err)
		}
		if failed, err := w.Deliver(t.Context(), map[event.TopicPartition][]event.Record{tp(0): records}); failed > 0 || err != nil {
			t.Fatal(failed, err)
		}
		if err := w.RunFire(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	wants := func(when, name string, want ...string) {
		t.Helper()
		results, err := rig.ParseResults(log.Records("out-" + name))
		if err != nil {
			t.Fatal(err)
		}
		got := []string{}
		for _, r := range results {
			got = append(got, fmt.Sprintf("[%d,%d) %v", r.Window.StartMS, r.Window.EndMS, r.Results["count"]))
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: pipeline %s (-want +got):\n%s", when, name, diff)
		}
	}

	w := deploy("a", "b")
	batch(w, 1, 2, 11)
	wants("at first", "a", "[0,10) 2")
	wants("at first", "b", "[0,10) 2")

	w = deploy("a", "b", "c")
	batch(w, 12, 21)
	wants("with c", "a", "[0,10) 2", "[10,20) 2")
	wants("with c", "c", "[0,10) 2", "[10,20) 2")

	w = deploy("a", "c")
	batch(w, 22, 31)
	batch(w, 32, 33, 41)
	wants("without b", "a", "[0,10) 2", "[10,20) 2", "[20,30) 2", "[30,40) 3")
	wants("without b", "b", "[0,10) 2", "[10,20) 2")
	wants("without b", "c", "[0,10) 2", "[10,20) 2", "[20,30) 2", "[30,40) 3")

	w = deploy("a", "b", "c")
	batch(w, 42, 51)
	for _, name := range []string{"a", "b", "c"} {
		wants("with b again", name, "[0,10) 2", "[10,20) 2", "[20,30) 2", "[30,40) 3", "[40,50) 2")
	}
}
