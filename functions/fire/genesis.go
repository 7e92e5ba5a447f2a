package fire

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// partitions lists the source partitions of the plan. Those that the group does not know get their genesis first, in a
// transaction of its own, after which the plan begins again. A group that knows none at all takes over from the pipeline that it
// is the successor of, if there is one.
func (r *runner) partitions(ctx context.Context, all []kafkaio.Partition, plan *apply.Plan, req request) ([]*partition, error) {
	if len(plan.Partitions) == 0 {
		if goOn, err := r.succession(ctx, all, req); !goOn || err != nil {
			return nil, err
		}
	}
	var parts []*partition
	var missing []kafkaio.Partition
	for _, p := range all {
		base, ok := plan.Partitions[p.TopicPartition]
		if !ok {
			missing = append(missing, p)
			continue
		}
		if base.TopicID != p.TopicID {
			return nil, halted("%s", apply.MadeAnew(p.TopicPartition, plan.Number))
		}
		parts = append(parts, &partition{Partition: p, slot: apply.SlotID(r.pipe, p), base: base})
	}
	begin, err := r.starts(ctx, missing, req)
	if err != nil || len(begin) == 0 {
		return parts, err
	}
	if r.session == nil {
		return nil, r.open(ctx)
	}
	return nil, r.genesis(ctx, begin, plan)
}

// start is a partition together with what its genesis says.
type start struct {
	kafkaio.Partition
	offset int64
	// Of a partition that is taken over: from where its slot is folded, and what was known of it.
	takenOver  bool
	replayFrom int64
	maxTime    event.Time
	truncated  bool // the log begins there: whether the new query would have needed more cannot be told
}

// starts decides where partitions without a genesis begin. With `latest` that is the first offset which ingest was handed, so
// that no record it saw is left out; a partition that no nudge named begins only while it is empty.
func (r *runner) starts(ctx context.Context, missing []kafkaio.Partition, req request) ([]start, error) {
	if len(missing) == 0 {
		return nil, nil
	}
	tps := make([]event.TopicPartition, len(missing))
	for i, p := range missing {
		tps[i] = p.TopicPartition
	}
	offsets, err := r.Log.Offsets(ctx, tps)
	if err != nil {
		return nil, fmt.Errorf("start offsets: %w", err)
	}
	named := map[event.TopicPartition]int64{}
	for _, f := range req.nudge.Genesis {
		named[event.TopicPartition{Topic: f.Topic, Partition: f.Partition}] = f.Offset
	}
	var out []start
	for _, p := range missing {
		o := offsets[p.TopicPartition]
		s := start{Partition: p, offset: o.Start}
		// Whether a partition was there at the first start, or was born later, cannot be told: both wait for the nudge.
		if r.App.Consumer.AutoOffsetReset == "latest" {
			first, ok := named[p.TopicPartition]
			switch {
			case ok:
				s.offset = max(first, o.Start)
			case o.Start != o.End:
				continue
			}
		}
		out = append(out, s)
	}
	return out, nil
}

// genesis commits the offsets from which partitions are folded. Nothing is folded before.
func (r *runner) genesis(ctx context.Context, begin []start, plan *apply.Plan) error {
	if err := r.strangers(ctx, begin, plan); err != nil {
		return err
	}
	for _, s := range begin {
		slot := apply.SlotID(r.pipe, s.Partition)
		if _, err := r.Store.Load(ctx, slot); !errors.Is(err, statestore.ErrNoSlot) {
			if err != nil && !errors.Is(err, statestore.ErrFormat) { // a damaged slot is one, too
				return fmt.Errorf("genesis of %s: %w", slot, err)
			}
			return halted("%s has state, but the group %s has no offset for it: its offsets were deleted or have expired; "+
				"restore them, or drop the state to begin again", slot, r.pipe.Group())
		}
	}
	next, offsets, record, err := r.begin(begin, plan, "genesis", "")
	if err != nil {
		return err
	}
	maps.Copy(next.Partitions, plan.Partitions)
	next.Panes = plan.Panes
	if err := transact(ctx, r.session, []kafkaio.Message{record}, groupOffsets{r.pipe.Group(), offsets}); err != nil {
		return fmt.Errorf("genesis: %w", err)
	}
	r.Logger.InfoContext(ctx, "genesis", "pipeline", r.pipe.Name, "group", r.pipe.Group(), "partitions", len(begin), "plan", next.Number)
	if r.plan = next; !r.session.Reusable() {
		r.closeSession()
	}
	return errAgain
}

// strangers halts on state of a topic that the pipeline has no more: a broker forgets the offsets of a topic that is deleted, so
// that one which was made anew under its name looks as if nobody had ever read it.
func (r *runner) strangers(ctx context.Context, begin []start, plan *apply.Plan) error {
	ids := map[[16]byte]bool{}
	for _, b := range plan.Partitions {
		ids[b.TopicID] = true
	}
	for _, s := range begin {
		ids[s.TopicID] = true
	}
	slots, err := r.Store.Slots(ctx, r.pipe.ID())
	if err != nil {
		return fmt.Errorf("state before the genesis: %w", err)
	}
	if why := apply.Stranger(slots, ids, begin[0].Topic); why != "" {
		return halted("%s", why)
	}
	return nil
}

// begin makes the genesis of partitions that carries the number and the watermark of a plan: what is committed, and the record
// for the ledger. from is the group that is taken over, if one is.
func (r *runner) begin(begin []start, plan *apply.Plan, why, from string) (*apply.Plan, []kafkaio.OffsetCommit, kafkaio.Message, error) {
	next := &apply.Plan{Number: plan.Number, Watermark: plan.Watermark, At: r.Clock(), Partitions: map[event.TopicPartition]apply.Base{}}
	entries := make([]ledgerPartition, 0, len(begin))
	offsets := make([]kafkaio.OffsetCommit, 0, len(begin))
	for _, s := range begin {
		b := apply.Base{Offset: s.offset, Commitment: pipeline.Commitment{
			Plan: plan.Number, Watermark: plan.Watermark, At: next.At, Token: r.NewToken(), TopicID: s.TopicID, ReplayFrom: s.offset, MaxTime: event.MinTime, Held: r.pipe.Held(),
		}}
		if s.takenOver {
			b.TakenOver, b.ReplayFrom, b.MaxTime = true, s.replayFrom, s.maxTime
		}
		next.Partitions[s.TopicPartition] = b
		entries = append(entries, newLedgerPartition(s.TopicPartition, b, 0))
		offsets = append(offsets, kafkaio.OffsetCommit{Partition: s.Partition, Committed: kafkaio.Committed{
			Offset: s.offset, Metadata: string(pipeline.AppendCommitment(nil, &b.Commitment)),
		}})
	}
	record, err := r.ledgerMessage(next.At, ledgerEntry{
		Plan: next.Number, WatermarkMS: millis(next.Watermark), HeldBy: why, TakesOver: from, Partitions: entries,
	})
	return next, offsets, record, err
}

// groupOffsets are what a transaction commits for one group.
type groupOffsets struct {
	group   string
	offsets []kafkaio.OffsetCommit
}

// transact is a whole transaction of a session: messages, then offsets.
func transact(ctx context.Context, s kafkaio.Session, messages []kafkaio.Message, groups ...groupOffsets) error {
	if err := s.Begin(ctx); err != nil {
		return fmt.Errorf("begin: %w", unknown(err))
	}
	if _, err := s.Produce(ctx, messages); err != nil {
		return fmt.Errorf("produce: %w", unknown(err))
	}
	for _, g := range groups {
		if err := s.CommitOffsets(ctx, g.group, g.offsets); err != nil {
			return fmt.Errorf("commit offsets: %w", unknown(err))
		}
	}
	if err := s.End(ctx); err != nil {
		return fmt.Errorf("end: %w", unknown(err))
	}
	return nil
}
