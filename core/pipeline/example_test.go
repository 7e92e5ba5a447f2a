package pipeline_test

import (
	"bytes"
	"fmt"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/delta"
	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
)

// Two batches of one partition are folded into deltas, which are partial results that may be kept anywhere and merged in any plan.
// Then a plan closes what has ended at its watermark. No Kafka, no store, no clock: records and times come in, values go out.
func Example() {
	app, err := spec.NewBuilder("shop").
		From(spec.FromKafka("orders")).State(spec.Memory()).Sink("order-totals").Watermark(spec.BoundedOutOfOrderness(5*time.Second)).
		Pipeline("revenue", func(p *spec.PipelineBuilder) {
			p.Key("country").Timestamp("at", spec.UnitSeconds).Value("cents", "cents").
				Tumbling("1m", time.Minute, spec.Lateness(0)).
				Aggregate("cents", "count", "sum", "p50")
		}).Build()
	if err != nil {
		fmt.Println(err)
		return
	}
	p, err := pipeline.Compile(app.Pipelines[0])
	if err != nil {
		fmt.Println(err)
		return
	}

	var kept []delta.Delta
	folder := p.NewFolder(event.TopicPartition{Topic: "orders"})
	for i, batch := range [][]string{
		{`{"at":10,"country":"fr","cents":500}`, `{"at":65,"country":"fr","cents":100}`},
		{`{"at":59,"country":"fr","cents":700}`, `{"at":20,"country":"de","cents":250}`, `no order`},
	} {
		offset := int64(2 * i)
		folder.Begin(pipeline.Chunk{From: offset, Fence: event.MinTime})
		for j, value := range batch {
			if err := folder.Add(&event.Record{Offset: offset + int64(j), Timestamp: 70_000, Value: []byte(value)}); err != nil {
				fmt.Println(err)
				return
			}
		}
		folded := folder.Finish(0)
		fmt.Printf("offsets [%d, %d): %d in, %d dead letters\n", folded.From, folded.To, folded.Counts.In, folded.Counts.Dead)
		for _, d := range folded.Deltas {
			d.Payload = bytes.Clone(d.Payload) // the folder's own until its next chunk
			kept = append(kept, d)
		}
	}

	refs := make([]delta.Ref, len(kept))
	for i := range kept {
		refs[i] = kept[i].Ref
	}
	orders := event.TopicPartition{Topic: "orders"}
	plan := p.NewFiring(pipeline.Turn{Plan: 1, At: 70_000, Prev: event.MinTime, W: 60_000}, []pipeline.Prefix{{TopicPartition: orders, Since: 0, Upto: 5, Refs: refs}})
	var needed []delta.Ref
	var payloads [][]byte
	for _, r := range plan.Needs(0) {
		for i := range kept {
			if kept[i].Ref == r {
				needed, payloads = append(needed, r), append(payloads, kept[i].Payload)
			}
		}
	}
	if err := plan.Feed(0, needed, payloads); err != nil {
		fmt.Println(err)
		return
	}
	out, err := plan.Finish()
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, pane := range out.Panes {
		_, results, _ := bytes.Cut(pane.Value, []byte(`"results":`))
		fmt.Println(pane.Name, pane.Window, pane.Key, pane.Timing, string(results[:bytes.IndexByte(results, '}')+1]))
	}
	fmt.Println("for the dead letter topic:", out.Partitions[0].Outbox[0].Offset, out.Partitions[0].Outbox[0].Reason)
	fmt.Println("still open:", out.Partitions[0].Open)
	// Output:
	// offsets [0, 2): 2 in, 0 dead letters
	// offsets [2, 5): 3 in, 1 dead letters
	// 1m [1970-01-01T00:00:00Z, 1970-01-01T00:01:00Z) country=de on_time {"count":1,"sum":250,"p50":250}
	// 1m [1970-01-01T00:00:00Z, 1970-01-01T00:01:00Z) country=fr on_time {"count":2,"sum":1200,"p50":600}
	// for the dead letter topic: 4 decode
	// still open: 1
}
