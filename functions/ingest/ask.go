package ingest

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
)

// mark names the watermark of one partition in one pipeline.
type mark struct {
	pipeline int
	event.TopicPartition
}

// passed reports whether the job took its partition past the end of a window of some pipeline since the last time it was asked.
// What a process that starts does not remember, the fence of the slot says.
func (h *Handler) passed(j job) bool {
	h.mu.Lock()
	part, ok := h.partitions[j.TopicPartition]
	h.mu.Unlock()
	if !ok {
		return false
	}
	passed := false
	for i, p := range h.Pipelines {
		if !slices.Contains(p.Topics, j.Topic) {
			continue
		}
		head, ok := h.appliers[i].Head(part)
		if !ok {
			continue
		}
		m := mark{i, j.TopicPartition}
		h.mu.Lock()
		from, known := h.marks[m]
		if fence := head.Top.Watermark; !known && fence > event.MinTime {
			from = fence.Add(p.Watermark.MaxOutOfOrder)
		} else if !known {
			from = event.MinTime
		}
		h.marks[m] = max(from, head.MaxTime)
		h.mu.Unlock()
		passed = passed || p.Passes(from, head.MaxTime)
	}
	return passed
}

// ask has fire look, once for a batch: for the genesis of partitions that wait for it, or since a window may be closed. Where the
// functions share signals, one message at a time is enough for all of them, and a firer that is at work is not invoked: it looks
// for the message between its ticks, and once more after it has said that it is not at work any more.
func (h *Handler) ask(ctx context.Context, n apply.Nudge) {
	ctx, cancel := context.WithTimeout(ctx, h.Margin/2)
	defer cancel()
	if h.Signals != nil {
		reached, err := h.signal(ctx, n)
		switch {
		case err != nil:
			h.Logger.DebugContext(ctx, "no signal for fire; it is invoked", "error", err)
		case reached:
			return
		}
	}
	if h.Nudge == nil {
		return
	}
	if err := h.Nudge(ctx, n); err != nil {
		h.Logger.WarnContext(ctx, "could not nudge fire; its schedule will do", "error", err)
	}
}

// signal leaves the message, and reports whether that is enough.
func (h *Handler) signal(ctx context.Context, n apply.Nudge) (reached bool, err error) {
	message, err := json.Marshal(n)
	if err != nil {
		return false, err
	}
	posted, err := h.Signals.Post(ctx, h.signals, message, apply.AskFor)
	if err != nil {
		return false, err
	}
	if !posted {
		// One waits. Whoever takes it looks at everything; only the genesis has something of its own to say.
		return len(n.Genesis) == 0, nil
	}
	return h.Signals.Held(ctx, h.signals)
}
