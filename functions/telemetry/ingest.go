package telemetry

import (
	"context"

	"github.com/llm-auto-optimizer/tidemark/functions/ingest"
)

// Ingest measures the function ingest.
type Ingest struct{ output }

// NewIngest returns an Ingest.
func NewIngest(d Deps) *Ingest { return &Ingest{output{Deps: d}} }

// OnBatch returns what ingest is to tell its batches, or nil if nobody wants to hear of them.
func (i *Ingest) OnBatch() func(context.Context, *ingest.Batch) {
	if !i.App.Metrics.Enabled && i.Tracer == nil {
		return nil
	}
	return func(ctx context.Context, b *ingest.Batch) {
		if i.App.Metrics.Enabled {
			i.batch(ctx, b)
		}
		if i.Tracer != nil {
			i.Tracer.Batch(ctx, b)
		}
	}
}

// Around returns the handler that the runtime is to call.
func (i *Ingest) Around(h Handler) Handler {
	if i.Tracer == nil {
		return h
	}
	return &traced{Handler: h, tracer: i.Tracer, function: "ingest"}
}

// batch writes the metrics of an invocation. It does not wait for others: nobody knows whether there will be one in this process.
func (i *Ingest) batch(ctx context.Context, b *ingest.Batch) {
	latency := metric{name: "BatchLatency", unit: millis, values: []float64{ms(b.Took)}}
	fold := metric{name: "FoldLatency", unit: millis, values: make([]float64, 0, len(b.Work.Fold))}
	commit := metric{name: "CommitLatency", unit: millis, values: make([]float64, 0, len(b.Work.Commit))}
	for _, d := range b.Work.Fold {
		fold.values = append(fold.values, ms(d))
	}
	for _, d := range b.Work.Commit {
		commit.values = append(commit.values, ms(d))
	}
	i.write(request(ctx), []member{{"App", i.App.Name}, {"Function", "ingest"}}, []metric{
		{"Records", count, number(b.Records)},
		{"Unapplied", count, number(b.Failed)},
		{"Duplicates", count, number(b.Work.Duplicates)},
		{"GapsRepaired", count, number(b.Work.Repaired)},
		latency, fold, commit,
	}, member{"partitions", ingest.Names(b.Parts)})
}
