package fire_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/fire"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio/memlog"
	"github.com/llm-auto-optimizer/tidemark/statestore/memstore"
)

const discarding = `
app: a
kafka: {consumer: {topics: [events]}, producer: {result_topic: results}}
pipelines:
  - name: p
    timestamp: {record: true}
    values: {value: value}
    windows: [{name: w, type: tumbling, size: 1s, allowed_lateness: 1h}]
    aggregates: {value: [count]}
    accumulation: discarding
    trigger: {count: 2}
    watermark: {max_out_of_orderness: 0s, emit_interval: 0s, idle_timeout: off}
`

// panes are the published ones as "timing#index count".
func (b *bench) panes(t *testing.T) string {
	t.Helper()
	var out []string
	for _, r := range b.log.Records("results") {
		var v struct {
			Pane struct {
				Timing string
				Index  int
			}
			Results struct{ Count int }
		}
		if err := json.Unmarshal(r.Value, &v); err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("%s#%d %d", v.Pane.Timing, v.Pane.Index, v.Results.Count))
	}
	return strings.Join(out, ", ")
}

// Whatever remembers nothing but Kafka goes on as if nothing had happened: what has gone out, and what has not, is in the topic.
func TestAFirerThatRemembersNothingReadsThePaneHistory(t *testing.T) {
	for name, between := range map[string]func(b *bench){
		"one firer":                  func(*bench) {},
		"a new one for each plan":    (*bench).restart,
		"and the store is lost, too": func(b *bench) { b.store = memstore.New(); b.restart() },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, discarding, 1, memlog.Options{})
			b.run(t)
			for _, times := range [][]event.Time{{1, 2}, {3}, {4}, {1000}, {5}, {6, 7}} {
				between(b)
				b.ingest(t, 0, times...)
				b.run(t)
			}
			if got, want := b.panes(t), "early#0 2, early#1 2, late#2 1, late#3 2"; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

func TestTheHistoryIsWrittenAnewBeforeItsSpanIsLong(t *testing.T) {
	b := newBench(t, discarding, 1, memlog.Options{})
	b.run(t)
	longest, rewritten := int64(0), 0
	var last *pipeline.PanesSpan
	for i := range 12_000 {
		b.ingest(t, 0, event.Time(i%3))
		b.run(t)
		if i%100 != 0 {
			continue
		}
		plan, err := apply.ReadPlan(t.Context(), b.log, b.pipe)
		if err != nil {
			t.Fatal(err)
		}
		if plan.Panes == nil {
			t.Fatal("there is no history")
		}
		if last != nil && plan.Panes.From > last.From {
			rewritten++
		}
		last, longest = plan.Panes, max(longest, plan.Panes.To-plan.Panes.From)
	}
	if longest > 10_100 || rewritten == 0 {
		t.Errorf("the span grew to %d offsets, and was written anew %d times", longest, rewritten)
	}
	b.restart()
	before := b.panes(t)
	b.ingest(t, 0, 1, 2)
	b.run(t)
	if got := strings.TrimPrefix(b.panes(t), before); got != ", early#6000 2" {
		t.Errorf("after that: %s", got)
	}
}

func TestAFirerHaltsWhereThePaneHistoryIsGone(t *testing.T) {
	b := newBench(t, discarding, 1, memlog.Options{})
	b.run(t)
	b.ingest(t, 0, 1, 2)
	b.run(t)
	plan, err := apply.ReadPlan(t.Context(), b.log, b.pipe)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.log.Truncate(event.TopicPartition{Topic: spec.PanesTopic, Partition: plan.Panes.Partition}, plan.Panes.To); err != nil {
		t.Fatal(err)
	}
	b.restart()
	b.ingest(t, 0, 3, 4)
	r := b.fire.Run(t.Context(), apply.Nudge{})[0]
	if !errors.Is(r.Err, fire.ErrHalted) || !strings.Contains(r.Err.Error(), "the pane history of plan 1, offsets [0, 1) of tidemark-panes/") {
		t.Errorf("got %v", r.Err)
	}
}
