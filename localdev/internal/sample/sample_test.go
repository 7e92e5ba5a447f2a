package sample_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/sample"
)

func app(t *testing.T, text string) *spec.App {
	t.Helper()
	a, err := spec.Load([]byte(text), "test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func draw(t *testing.T, a *spec.App, o sample.Options, n int) []kafkaio.Message {
	t.Helper()
	g := sample.New(a, o)
	out := make([]kafkaio.Message, n)
	for i := range out {
		m, err := g.Next()
		if err != nil {
			t.Fatal(err)
		}
		out[i] = m
	}
	return out
}

const nested = `
pipelines:
  - name: a
    topics: [one, two]
    timestamp: {field: meta.at, unit: us}
    key: [service, meta.region, model]
    values: {ms: timing.ms, tokens: tokens}
    windows: [{name: 1m, type: tumbling, size: 1m, allowed_lateness: 10s}]
    sink: {topic: out}
`

func TestTheSameOptionsGiveTheSameEvents(t *testing.T) {
	a := app(t, nested)
	o := sample.Options{Seed: 3, Keys: 20, Disorder: time.Second, Late: .1, Start: 1000, Step: 10}
	if d := cmp.Diff(draw(t, a, o, 500), draw(t, a, o, 500)); d != "" {
		t.Errorf("(-first +second)\n%s", d)
	}
	o2 := o
	o2.Seed = 4
	if cmp.Equal(draw(t, a, o, 10), draw(t, a, o2, 10)) {
		t.Error("another seed gives the same events")
	}
}

func TestASpecCanReadEveryEvent(t *testing.T) {
	for name, text := range map[string]string{
		"nested fields":   nested,
		"record's own":    "pipelines:\n  - {name: a, topics: [t], timestamp: {record: true}, windows: [{name: w, type: sliding, size: 1m, slide: 10s}], sink: {topic: out}}\n",
		"seconds, global": "pipelines:\n  - {name: a, topics: [t], key: [], timestamp: {field: ts, unit: s}, windows: [{name: w, type: session, gap: 5m}], sink: {topic: out}}\n",
		"rows":            "pipelines:\n  - {name: a, topics: [t], input: {format: csv, columns: [ts, service, model, note, ms], delimiter: ';'}, key: [service, model], where: note == nil, timestamp: {field: ts, unit: us}, values: {ms: ms}, windows: [{name: w, type: tumbling, size: 1m}], sink: {topic: out}}\n",
		"texts":           "pipelines:\n  - {name: a, topics: [t], input: text, windows: [{name: w, type: tumbling, size: 1m}], sink: {topic: out}}\n",
		"schema registry": "pipelines:\n  - {name: a, topics: [t], input: json_registry, key: [service], windows: [{name: w, type: tumbling, size: 1m}], sink: {topic: out}}\n",
		"nanoseconds":     "pipelines:\n  - {name: a, topics: [t], timestamp: {field: ts, unit: ns}, windows: [{name: w, type: tumbling, size: 1m}], sink: {topic: out}}\n",
	} {
		t.Run(name, func(t *testing.T) {
			a := app(t, text)
			p, err := pipeline.Compile(a.Pipelines[0])
			if err != nil {
				t.Fatal(err)
			}
			f := p.NewFolder(event.TopicPartition{})
			f.Begin(pipeline.Chunk{Fence: event.MinTime})
			start := event.Time(1_735_689_600_000)
			for i, m := range draw(t, a, sample.Options{Seed: 1, Keys: 30, Disorder: time.Second, Late: .05, Start: start, Step: 100}, 1000) {
				r := event.Record{Offset: int64(i), Timestamp: m.Timestamp, Key: m.Key, Value: m.Value}
				if err := f.Add(&r); err != nil {
					t.Fatal(err)
				}
			}
			out := f.Finish(1000)
			if out.Counts.In != 1000 || out.Counts.Dead != 0 || out.Counts.Filtered != 0 || out.Counts.Unassigned != 0 {
				t.Errorf("got %+v, want 1000 in and none dead", out.Counts)
			}
			// The largest time is that of an event in order, within the disorder.
			if end := start.Add(99_900); out.MaxTime > end || out.MaxTime < end.Add(-2000) {
				t.Errorf("largest time %s, want about %s", out.MaxTime, end)
			}
		})
	}
}

func TestKeysAreAsManyAsAskedFor(t *testing.T) {
	for _, text := range []string{
		nested,
		"pipelines:\n  - {name: a, topics: [t], windows: [{name: w, type: tumbling, size: 1m}], sink: {topic: out}}\n",
		"pipelines:\n  - {name: a, topics: [t], key: [k], windows: [{name: w, type: session, gap: 1m}], sink: {topic: out}}\n",
	} {
		keys := map[string]bool{}
		for _, m := range draw(t, app(t, text), sample.Options{Seed: 1, Keys: 100, Step: 100}, 20_000) {
			keys[string(m.Key)] = true
		}
		if len(keys) != 100 {
			t.Errorf("%s\n%d keys, want 100", text, len(keys))
		}
	}
}

// With a bound of 2 s and 10 s of lateness nothing within the disorder is late, and what is made late is so by far.
func TestLateEventsAreTooLateForEveryWindow(t *testing.T) {
	a := app(t, "processor:\n  watermark: {max_out_of_orderness: 2s}\n"+strings.TrimPrefix(nested, "\n"))
	largest, late := event.MinTime, 0
	const n = 5000
	for _, m := range draw(t, a, sample.Options{Seed: 1, Keys: 5, Disorder: 2 * time.Second, Late: .1, Start: 1_000_000_000, Step: 50}, n) {
		var v struct{ Meta struct{ At int64 } }
		if err := json.Unmarshal(m.Value, &v); err != nil {
			t.Fatal(err)
		}
		at := event.Time(v.Meta.At / 1000)
		w := largest.Add(-2000)
		if behind := m.Timestamp.Sub(at); behind > 2000 {
			late++
			if largest > event.MinTime && at.Floor(60_000, 0).Add(70_000) > m.Timestamp.Add(-2000) {
				t.Fatalf("event at %s is made late at %s, but its window is open until %s", at, m.Timestamp, at.Floor(60_000, 0).Add(70_000))
			}
		} else if at < w {
			t.Fatalf("event at %s is late although it is in order: the watermark is %s", at, w)
		}
		largest = max(largest, at)
	}
	if late < n/12 || late > n/8 {
		t.Errorf("%d of %d events are late, want about a tenth", late, n)
	}
}

// Sessions end: every key is silent for longer than the gap again and again.
func TestSessionsEnd(t *testing.T) {
	a := app(t, "pipelines:\n  - {name: a, topics: [t], key: [user], windows: [{name: w, type: session, gap: 1m}], sink: {topic: out}}\n")
	last, ended := map[string]event.Time{}, map[string]int{}
	for _, m := range draw(t, a, sample.Options{Seed: 1, Keys: 4, Step: 100}, 20_000) {
		k := string(m.Key)
		if before, ok := last[k]; ok && m.Timestamp.Sub(before) >= 60_000 {
			ended[k]++
		}
		last[k] = m.Timestamp
	}
	for k := range last {
		if ended[k] < 2 {
			t.Errorf("key %s: %d sessions ended, want at least 2", k, ended[k])
		}
	}
}
