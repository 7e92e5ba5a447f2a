package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
)

const (
	ledgerWithin = 50_000 // offsets of the newest ledger records that are looked at, for each partition
	maxProblems  = 20
)

// PipelineLedger is what the newest ledger records of a pipeline say.
type PipelineLedger struct {
	Pipeline    string   `json:"pipeline"`
	Group       string   `json:"group"`
	Records     int      `json:"records"` // plans looked at
	Plan        int64    `json:"plan"`    // of the newest
	Watermark   *string  `json:"watermark"`
	In          int64    `json:"in"` // totals of all partitions
	Accounted   int64    `json:"accounted"`
	Unaccounted int64    `json:"unaccounted"`
	Problems    []string `json:"problems"`
	Note        string   `json:"note,omitempty"`
}

func (l *PipelineLedger) problem(format string, args ...any) {
	if len(l.Problems) < maxProblems {
		l.Problems = append(l.Problems, fmt.Sprintf(format, args...))
	}
}

// entry is what is wanted of a ledger record.
type entry struct {
	Plan        int64            `json:"plan"`
	WatermarkMS *int64           `json:"watermark_ms"`
	Refused     string           `json:"refused"` // no record of a plan, but a part of one
	Partitions  []entryPartition `json:"partitions"`
}

type entryPartition struct {
	Topic      string `json:"topic"`
	Partition  int32  `json:"partition"`
	Offset     int64  `json:"offset"`
	In         int64  `json:"in"`
	Open       int64  `json:"open"`
	Final      int64  `json:"final"`
	Late       int64  `json:"late"`
	Dead       int64  `json:"dead"`
	Skipped    int64  `json:"skipped"`
	Filtered   int64  `json:"filtered"`
	Unassigned int64  `json:"unassigned"`
}

func (e *entryPartition) parts() int64 {
	return e.Open + e.Final + e.Late + e.Dead + e.Skipped + e.Filtered + e.Unassigned
}

// follower follows the records of one pipeline.
type follower struct {
	out    PipelineLedger
	last   entry
	totals map[event.TopicPartition]entryPartition // newest of each
}

// unread is why what a pipeline has published may be missing in what was read of the ledger.
type unread struct {
	failed error // reading ended here
	open   int64 // records that are behind the first one of an open transaction
}

// Books checks the books of the pipelines, or of the one that is named, as Verify does.
func (h *Handler) Books(ctx context.Context, name string) ([]PipelineLedger, error) {
	pipes, err := h.pipelines(name)
	if err != nil {
		return nil, err
	}
	return h.ledger(ctx, pipes)
}

// ledger reads the newest records of the ledger and checks them: plans ascend without a hole, watermarks do not go back, and in
// the newest record of each partition everything that came in is accounted for.
func (h *Handler) ledger(ctx context.Context, pipes []*pipeline.Pipeline) ([]PipelineLedger, error) {
	parts, err := h.Log.Partitions(ctx, []string{spec.LedgerTopic})
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	tps := make([]event.TopicPartition, len(parts))
	for i, p := range parts {
		tps[i] = p.TopicPartition
	}
	offsets, err := h.Log.Offsets(ctx, tps)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	byGroup := map[string]*follower{}
	for _, p := range pipes {
		byGroup[p.Group()] = &follower{out: PipelineLedger{Pipeline: p.Name, Group: p.Group(), Problems: []string{}}, totals: map[event.TopicPartition]entryPartition{}}
	}
	var stopped unread
	for _, tp := range tps {
		o := offsets[tp]
		from := max(o.Start, o.Stable-ledgerWithin)
		stopped.open += o.End - o.Stable
		if from >= o.Stable || stopped.failed != nil {
			continue
		}
		err := h.Log.Read(ctx, tp, from, o.Stable, func(records []event.Record, _ int64) error {
			for i := range records {
				if f := byGroup[string(records[i].Key)]; f != nil {
					f.take(&records[i])
				}
			}
			return nil
		})
		switch {
		case errors.Is(err, kafkaio.ErrOutOfRange): // removed by retention since it was asked for
			stopped.failed = err
		case err != nil && ctx.Err() == nil:
			return nil, fmt.Errorf("ledger: %w", err)
		case err != nil:
			stopped.failed = err
		}
	}
	out := make([]PipelineLedger, 0, len(pipes))
	for _, p := range pipes {
		out = append(out, byGroup[p.Group()].finish(stopped))
	}
	return out, nil
}

func (f *follower) take(r *event.Record) {
	var e entry
	if err := json.Unmarshal(r.Value, &e); err != nil {
		f.out.problem("ledger offset %d: %s", r.Offset, err)
		return
	}
	if e.Refused != "" {
		return
	}
	if f.out.Records++; f.out.Records > 1 {
		if e.Plan != f.last.Plan && e.Plan != f.last.Plan+1 { // the genesis of a partition has the number of the plan before
			f.out.problem("ledger offset %d: plan %d comes after plan %d", r.Offset, e.Plan, f.last.Plan)
		}
		if f.last.WatermarkMS != nil && (e.WatermarkMS == nil || *e.WatermarkMS < *f.last.WatermarkMS) {
			f.out.problem("ledger offset %d: the watermark of plan %d is below that of plan %d", r.Offset, e.Plan, f.last.Plan)
		}
	}
	f.last = e
	for _, p := range e.Partitions {
		tp := event.TopicPartition{Topic: p.Topic, Partition: p.Partition}
		if before := f.totals[tp]; p.Offset < before.Offset || p.In < before.In {
			f.out.problem("ledger offset %d: %s/%d goes back: offset %d after %d, in %d after %d", r.Offset, p.Topic, p.Partition, p.Offset, before.Offset, p.In, before.In)
		}
		f.totals[tp] = p
	}
}

func (f *follower) finish(stopped unread) PipelineLedger {
	o := &f.out
	o.Plan = f.last.Plan
	if f.last.WatermarkMS != nil {
		o.Watermark = stamp(event.Time(*f.last.WatermarkMS))
	}
	for tp, p := range f.totals {
		o.In, o.Accounted = o.In+p.In, o.Accounted+p.parts()
		if n := p.In - p.parts(); n != 0 {
			o.problem("%s/%d: of %d records, %d are not accounted for", tp.Topic, tp.Partition, p.In, n)
		}
	}
	o.Unaccounted = o.In - o.Accounted
	switch {
	case stopped.failed != nil:
		o.Note = "the ledger was not read to its end: " + stopped.failed.Error()
	case o.Records == 0 && stopped.open > 0:
		o.Note = fmt.Sprintf("no record of the pipeline could be read: a transaction, perhaps of a neighbour, is open in the ledger before its last %d offsets; ask again when it has ended", stopped.open)
	case o.Records == 0:
		o.Note = fmt.Sprintf("no record of the pipeline is among the newest %d of the ledger", ledgerWithin)
	}
	return *o
}
