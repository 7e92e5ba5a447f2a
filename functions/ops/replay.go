package ops

import (
	"context"
	"fmt"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/statestore/memstore"
)

// replayAnswer says how far slots are rebuilt.
type replayAnswer struct {
	Done  bool         `json:"done"`
	Note  string       `json:"note,omitempty"`
	Slots []replaySlot `json:"partitions"`
}

type replaySlot struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Dropped   bool   `json:"dropped"` // by this call
	From      int64  `json:"from"`    // where the committed plan has a replay begin
	Applied   int64  `json:"applied"`
	To        int64  `json:"to"`
	Done      bool   `json:"done"`
}

// replaying is the work on a slot.
type replaying struct {
	part kafkaio.Partition
	base apply.Base
	out  replaySlot
}

// replay drops slots and folds the log into them again. The functions may be running: to them, the store has lost a slot. Before
// anything is dropped it is seen that all of it can be rebuilt.
func (h *Handler) replay(ctx context.Context, r *request) (*replayAnswer, error) {
	if r.Pipeline == "" {
		return nil, fmt.Errorf("%w: name a pipeline", ErrPayload)
	}
	if !r.Confirm && !r.Continue {
		return nil, fmt.Errorf("%w: it drops state, to rebuild it from the log: say \"confirm\":true", ErrPayload)
	}
	pipes, err := h.pipelines(r.Pipeline)
	if err != nil {
		return nil, err
	}
	p := pipes[0]
	parts, err := h.partitions(ctx, p, Selection{r.Pipeline, r.Topic, r.Partition})
	if err != nil {
		return nil, err
	}
	plan, err := apply.ReadPlan(ctx, h.Log, p)
	if err != nil {
		return nil, err
	}
	work, err := h.rebuildable(ctx, p, plan, parts, r.Continue)
	if err != nil {
		return nil, err
	}
	a := h.applier(p, h.Store)
	for _, w := range work {
		if !r.Continue {
			slot := apply.SlotID(p, w.part)
			if err := h.Store.Drop(ctx, slot); err != nil {
				return nil, fmt.Errorf("drop %s: %w", slot, err)
			}
			w.out.Dropped = true
			h.Logger.WarnContext(ctx, "state was dropped to be rebuilt", "pipeline", p.Name, "topic", w.part.Topic, "partition", w.part.TopicPartition.Partition)
		}
		// Another one may have restored it meanwhile, which is as well.
		if w.out.Applied, err = h.begin(ctx, a, p, w.part); err != nil {
			return nil, err
		}
	}
	out := &replayAnswer{Done: true}
	for _, w := range work {
		for w.out.Applied < w.out.To && ctx.Err() == nil {
			at, err := a.CatchUp(ctx, w.part, min(w.out.To, w.out.Applied+refoldPart), &apply.Work{})
			w.out.Applied = max(w.out.Applied, at)
			if err != nil && ctx.Err() == nil {
				return nil, fmt.Errorf("%s, at offset %d: %w", name(p, w.part.TopicPartition), w.out.Applied, err)
			}
		}
		w.out.Done = w.out.Applied >= w.out.To
		out.Done = out.Done && w.out.Done
		out.Slots = append(out.Slots, w.out)
	}
	if !out.Done {
		out.Note = "the time was up: call again with \"continue\":true"
	}
	return out, nil
}

// begin restores a slot and returns its applied offset.
func (h *Handler) begin(ctx context.Context, a *apply.Applier, p *pipeline.Pipeline, part kafkaio.Partition) (int64, error) {
	plan, err := apply.ReadPlan(ctx, h.Log, p) // one may have been committed since
	if err != nil {
		return 0, err
	}
	meta, err := a.Restore(ctx, part, plan)
	if err != nil {
		return 0, fmt.Errorf("restore %s: %w", name(p, part.TopicPartition), err)
	}
	return meta.Applied, nil
}

// rebuildable finds how far slots go, and that plan and log have all that it takes to rebuild them.
func (h *Handler) rebuildable(ctx context.Context, p *pipeline.Pipeline, plan *apply.Plan, parts []kafkaio.Partition, goOn bool) ([]*replaying, error) {
	tps := make([]event.TopicPartition, len(parts))
	for i, part := range parts {
		tps[i] = part.TopicPartition
	}
	offsets, err := h.Log.Offsets(ctx, tps)
	if err != nil {
		return nil, fmt.Errorf("offsets: %w", err)
	}
	// The restore is tried out, since it may need ledger records that are gone.
	trial := h.applier(p, memstore.New())
	var out []*replaying
	for _, part := range parts {
		if _, err := trial.Restore(ctx, part, plan); err != nil {
			return nil, fmt.Errorf("nothing was dropped: it could not be rebuilt: %w", err)
		}
		base, o := plan.Partitions[part.TopicPartition], offsets[part.TopicPartition]
		if o.Start > base.ReplayFrom && !goOn {
			return nil, fmt.Errorf("nothing was dropped: %s: the log begins at offset %d, and rebuilding needs it from %d", name(p, part.TopicPartition), o.Start, base.ReplayFrom)
		}
		if o.Stable < base.Offset {
			return nil, fmt.Errorf("nothing was dropped: %s: the log can be read up to offset %d, and plan %d has it up to %d", name(p, part.TopicPartition), o.Stable, plan.Number, base.Offset)
		}
		w := &replaying{part: part, base: base, out: replaySlot{Topic: part.Topic, Partition: part.TopicPartition.Partition, From: base.ReplayFrom, To: o.Stable}}
		out = append(out, w)
	}
	return out, nil
}
