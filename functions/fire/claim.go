package fire

import (
	"context"
	"fmt"
	"maps"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
)

// claim is what a firer has to have where there are no transactions (kafkaio.IsAtOnce): what an attempt at a plan publishes stays,
// though the attempt dies, or loses to another firer. So that a reader can tell by the revision which result counts, no two
// attempts may have the same one.
//
// A session therefore commits the last plan once more under the next number, before it publishes anything: offsets, watermark and
// tokens stay, only the number moves. Its own plans have the numbers after that. A session that comes later finds the number of
// every claim before it, so that what it publishes has higher ones; and an older one cannot commit any more.
//
// What the dead attempt published has to come again under the higher number. Its fences are still in the store, so that the
// watermark is not below its own; and floor is where it was in the log, at the least: that is folded first, also where the store
// has forgotten that it was.
type claim struct {
	number int64                          // of the last plan that is known to be this firer's; noClaim: none
	floor  map[event.TopicPartition]int64 // fold up to there before the claim; nil: not known yet
}

const noClaim = -1

// claims reports whether the open session must claim a number before it publishes on top of a plan.
func (r *runner) claims(plan *apply.Plan) bool {
	return r.session != nil && kafkaio.IsAtOnce(r.session) && r.claim.number != plan.Number
}

// setFloor notes how far the log goes now, once for each session that has no claim yet.
func (r *runner) setFloor(parts []*partition, plan *apply.Plan) {
	if !r.claims(plan) || r.claim.floor != nil {
		return
	}
	r.claim.floor = make(map[event.TopicPartition]int64, len(parts))
	for _, p := range parts {
		r.claim.floor[p.TopicPartition] = p.offsets.Stable
	}
}

// makeClaim commits the plan under the next number, and begins again.
func (r *runner) makeClaim(ctx context.Context, parts []*partition, plan *apply.Plan) error {
	next := &apply.Plan{Number: plan.Number + 1, Watermark: plan.Watermark, At: plan.At, Panes: plan.Panes, Partitions: maps.Clone(plan.Partitions)}
	if err := r.session.Begin(ctx); err != nil {
		return fmt.Errorf("claim of plan %d: begin: %w", next.Number, unknown(err))
	}
	offsets := make([]kafkaio.OffsetCommit, 0, len(parts))
	entries := make([]ledgerPartition, 0, len(parts))
	for _, p := range parts {
		b := p.base
		b.Plan = next.Number
		if err := r.fit(ctx, p, &b, next); err != nil {
			return fmt.Errorf("claim: %w", err)
		}
		next.Partitions[p.TopicPartition] = b
		entry := newLedgerPartition(p.TopicPartition, b, 0)
		entry.Open = entry.unaccounted()
		entries = append(entries, entry)
		offsets = append(offsets, kafkaio.OffsetCommit{Partition: p.Partition, Committed: kafkaio.Committed{
			Offset: b.Offset, Metadata: string(pipeline.AppendCommitment(nil, &b.Commitment)),
		}})
	}
	record, err := r.ledgerRecord(next.Number, next.Watermark, r.Clock(), "claim", entries)
	if err != nil {
		return err
	}
	if _, err := r.session.Produce(ctx, []kafkaio.Message{record}); err != nil {
		return fmt.Errorf("claim of plan %d: produce: %w", next.Number, unknown(err))
	}
	if err := r.session.CommitOffsets(ctx, r.pipe.Group(), offsets); err != nil {
		return fmt.Errorf("claim of plan %d: commit offsets: %w", next.Number, unknown(err))
	}
	if err := r.session.End(ctx); err != nil {
		return fmt.Errorf("claim of plan %d: end: %w", next.Number, unknown(err))
	}
	r.history.claimed(plan, next)
	r.keep(next)
	return errAgain
}

// keep goes on from a plan that the open session has committed.
func (r *runner) keep(next *apply.Plan) {
	r.plan, r.claim.number = next, next.Number
	if !r.session.Reusable() {
		r.closeSession()
	}
}
