package fire

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// paneHistory is the pane history as of the plan number of, in the memory of the firer. The topic is the truth: whoever has another
// plan, or none, reads it. What a plan changes is produced in its transaction, and the offsets that it commits name where it is.
type paneHistory struct {
	pipeline.History
	of     int64                                     // 0: not known
	tokens map[event.TopicPartition]statestore.Token // of that plan: a pipeline that begins anew, or comes back, has plans with numbers that there were

	left    pipeline.Waiting
	countOf int64 // the plan as of which left is known; 0: it is not
}

// rewriteAbove and rewriteTimes say when a plan writes the whole history anew, so that reading it stays a small multiple of what it is:
// once its span has so many offsets more than so many times its entries.
const (
	rewriteAbove = 10_000
	rewriteTimes = 4
)

// loadHistory reads the history as of the plan, if that is not the one in memory.
func (r *runner) loadHistory(ctx context.Context, plan *apply.Plan) error {
	if !r.pipe.KeepsHistory() || r.history.of == plan.Number && plan.Number > 0 && r.history.knows(plan) {
		return nil
	}
	h := paneHistory{of: plan.Number, tokens: tokensOf(plan)}
	if span := plan.Panes; span != nil {
		tp := event.TopicPartition{Topic: spec.PanesTopic, Partition: span.Partition}
		err := r.Log.Read(ctx, tp, span.From, span.To, func(records []event.Record, _ int64) error {
			for i := range records {
				u, made, ours, err := r.pipe.ReadHistory(records[i].Key, records[i].Value)
				switch {
				case err != nil:
					return fmt.Errorf("%s/%d offset %d: %w", tp.Topic, tp.Partition, records[i].Offset, err)
				case ours && (span.Plan == 0 || span.Plan == made):
					h.Apply([]pipeline.HistoryUpdate{u})
				}
			}
			return nil
		})
		switch {
		case errors.Is(err, kafkaio.ErrOutOfRange), errors.Is(err, kafkaio.ErrUnknownTopic):
			return halted("the pane history of plan %d, offsets [%d, %d) of %s/%d, is gone: the topic was made anew, or does not only compact; "+
				"bring it back, or start a new pipeline under another name: %v", plan.Number, span.From, span.To, tp.Topic, tp.Partition, err)
		case err != nil:
			return fmt.Errorf("pane history of plan %d: %w", plan.Number, err)
		}
	}
	r.history = h
	return nil
}

// publishHistory produces what a plan changes in the history, and returns where the history is with it.
func (r *runner) publishHistory(ctx context.Context, number int64, at event.Time, span *pipeline.PanesSpan, updates []pipeline.HistoryUpdate) (*pipeline.PanesSpan, error) {
	if len(updates) == 0 {
		return span, nil
	}
	h := &r.history
	h.of = 0 // of no plan, until this one is known to be committed
	h.Apply(updates)
	atOnce, live := kafkaio.IsAtOnce(r.session), h.Len()
	next := &pipeline.PanesSpan{}
	if atOnce {
		next.Plan = number
	}
	var err error
	switch {
	case span == nil:
		next.Partition, err = r.historyPartition(ctx)
	case atOnce || span.To-span.From > int64(rewriteAbove+rewriteTimes*live):
		next.Partition = span.Partition
		// What is forgotten is told once more, for the topic's compaction; entries that stay come after, and all of them.
		updates = append(updates, h.All()...)
	default:
		*next = *span
	}
	if err != nil {
		return nil, fmt.Errorf("plan %d: %w", number, err)
	}
	keep := next.To > 0 // the span goes on
	for len(updates) > 0 {
		n := min(len(updates), pageMessages)
		messages := make([]kafkaio.Message, n)
		for i, u := range updates[:n] {
			key, value, err := r.pipe.HistoryRecord(number, u)
			if err != nil {
				return nil, err
			}
			messages[i] = kafkaio.Message{Topic: spec.PanesTopic, Partition: next.Partition, Key: key, Value: value, Timestamp: at}
		}
		positions, err := r.session.Produce(ctx, messages)
		if err != nil {
			return nil, fmt.Errorf("plan %d: produce pane history: %w", number, unknown(err))
		}
		for _, p := range positions {
			if !keep {
				next.From, keep = p.Offset, true
			}
			next.From, next.To = min(next.From, p.Offset), max(next.To, p.Offset+1)
		}
		updates = updates[n:]
	}
	if live == 0 {
		return nil, nil //nolint:nilnil // the place of an empty history is none
	}
	return next, nil
}

// historyPartition is where a pipeline's history begins: all of it is in one partition, so that it is read in order.
func (r *runner) historyPartition(ctx context.Context) (int32, error) {
	parts, err := r.Log.Partitions(ctx, []string{spec.PanesTopic})
	if err != nil {
		return 0, fmt.Errorf("topic of the pane history: %w", err)
	}
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(r.pipe.Group())) // it never fails
	return int32(sum.Sum32() % uint32(len(parts))), nil
}

// committed says that a plan is, and with it what it has changed.
func (h *paneHistory) committed(next *apply.Plan, out *pipeline.Outcome) {
	h.of = next.Number
	if h.left == nil || h.countOf != next.Number-1 {
		h.left = pipeline.Waiting{}
	}
	h.left.Update(out.Waiting, next.Watermark)
	h.countOf, h.tokens = next.Number, tokensOf(next)
}

func tokensOf(plan *apply.Plan) map[event.TopicPartition]statestore.Token {
	out := make(map[event.TopicPartition]statestore.Token, len(plan.Partitions))
	for tp, base := range plan.Partitions {
		out[tp] = base.Token
	}
	return out
}

// knows reports whether a plan of the number that is in memory is that one. Partitions may have been added to it since.
func (h *paneHistory) knows(plan *apply.Plan) bool {
	for tp, token := range h.tokens {
		if plan.Partitions[tp].Token != token {
			return false
		}
	}
	return true
}

// claimed says that a plan was committed once more under another number.
func (h *paneHistory) claimed(plan, next *apply.Plan) {
	if h.of == plan.Number {
		h.of = next.Number
	}
	if h.countOf == plan.Number {
		h.countOf = next.Number
	}
}

// counted reports whether it is known how many records wait in open windows as of a plan.
func (h *paneHistory) counted(plan *apply.Plan) bool {
	return h.countOf == plan.Number && h.countOf > 0 && h.knows(plan)
}

// waiting is the largest number of records of a group that no pane had with a plan: less than the trigger counts to, where it is not
// known.
func (h *paneHistory) waiting(plan *apply.Plan, p *pipeline.Pipeline) int64 {
	if !h.counted(plan) {
		return max(p.Trigger.Count-1, 0)
	}
	return h.left.Most()
}
