package fire

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
)

// What is produced before waiting for its acknowledgement: it bounds the memory of a plan with very many late records.
const (
	pageMessages = 5000
	pageBytes    = 8 << 20
)

// pages produces messages in the open transaction of a session, page by page.
type pages struct {
	session  kafkaio.Session
	messages []kafkaio.Message
	bytes    int
}

func (p *pages) add(ctx context.Context, m kafkaio.Message) error {
	p.messages = append(p.messages, m)
	if p.bytes += size(&m); len(p.messages) < pageMessages && p.bytes < pageBytes {
		return nil
	}
	return p.flush(ctx)
}

func (p *pages) flush(ctx context.Context) error {
	if len(p.messages) == 0 {
		return nil
	}
	if _, err := p.session.Produce(ctx, p.messages); err != nil {
		return fmt.Errorf("produce: %w", unknown(err))
	}
	clear(p.messages)
	p.messages, p.bytes = p.messages[:0], 0
	return nil
}

// size is about what a message takes in a batch.
func size(m *kafkaio.Message) int {
	n := len(m.Key) + len(m.Value) + 64
	for _, h := range m.Headers {
		n += len(h.Key) + len(h.Value) + 8
	}
	return n
}

// unknown marks an error after which it cannot be known what became of the transaction.
func unknown(err error) error {
	if errors.Is(err, kafkaio.ErrUnknownOutcome) {
		return err
	}
	return fmt.Errorf("%w: %w", kafkaio.ErrUnknownOutcome, err)
}

// publish commits the plan: one transaction with the results, the late and the failed records, the ledger, and the offsets of
// every partition with their metadata.
func (r *runner) publish(ctx context.Context, w *work, out *pipeline.Outcome) (*apply.Plan, error) {
	plan, parts, now := w.plan, w.parts, w.now
	number := plan.Number + 1
	if err := r.session.Begin(ctx); err != nil {
		return nil, fmt.Errorf("plan %d: begin: %w", number, unknown(err))
	}
	messages := pages{session: r.session}
	for i := range out.Panes {
		if err := messages.add(ctx, r.paneMessage(&out.Panes[i], number, now)); err != nil {
			return nil, fmt.Errorf("plan %d: %w", number, err)
		}
	}
	if err := r.sideOutputs(ctx, parts, number, now, &w.rep, &messages); err != nil {
		return nil, fmt.Errorf("plan %d: %w", number, err)
	}
	if err := messages.flush(ctx); err != nil {
		return nil, fmt.Errorf("plan %d: %w", number, err)
	}
	span, err := r.publishHistory(ctx, number, now, plan.Panes, out.History)
	if err != nil {
		return nil, err
	}
	next := &apply.Plan{Number: number, Watermark: w.watermark, At: now, Panes: span, Partitions: make(map[event.TopicPartition]apply.Base, len(parts))}
	offsets := make([]kafkaio.OffsetCommit, 0, len(parts))
	entries := make([]ledgerPartition, 0, len(parts))
	m := &made{plan: next}
	for _, p := range parts {
		b, err := r.commitment(ctx, p, next, w.early)
		if err != nil {
			return nil, err
		}
		next.Partitions[p.TopicPartition] = b
		offsets = append(offsets, kafkaio.OffsetCommit{Partition: p.Partition, Committed: kafkaio.Committed{
			Offset: b.Offset, Metadata: string(pipeline.AppendCommitment(nil, &b.Commitment)),
		}})
		entry := newLedgerPartition(p.TopicPartition, b, p.outcome.Open)
		n := entry.unaccounted()
		m.add(p, n)
		if n != 0 {
			r.Logger.ErrorContext(ctx, "the ledger does not balance", "pipeline", r.pipe.Name, "plan", number, "topic", p.Topic,
				"partition", p.TopicPartition.Partition, "unaccounted", n)
		}
		entries = append(entries, entry)
	}
	r.unsure = m
	record, err := r.ledgerRecord(number, w.watermark, now, w.rep.HeldBy, entries)
	if err != nil {
		return nil, err
	}
	if _, err := r.session.Produce(ctx, []kafkaio.Message{record}); err != nil {
		return nil, fmt.Errorf("plan %d: produce ledger: %w", number, unknown(err))
	}
	if err := r.session.CommitOffsets(ctx, r.pipe.Group(), offsets); err != nil {
		return nil, fmt.Errorf("plan %d: commit offsets: %w", number, unknown(err))
	}
	if err := r.session.End(ctx); err != nil {
		return nil, fmt.Errorf("plan %d: end: %w", number, unknown(err))
	}
	return next, nil
}

// commitment is what the plan commits for a partition. Refused offsets that do not fit into its metadata are produced to the
// ledger first: their positions have to be known.
func (r *runner) commitment(ctx context.Context, p *partition, next *apply.Plan, early bool) (apply.Base, error) {
	totals := p.base.Totals
	totals.Counts = totals.Add(p.outcome.Counts)
	totals.Final += p.outcome.Final
	b := apply.Base{Offset: p.raised.Top.Offset, Commitment: pipeline.Commitment{
		Plan: next.Number, Watermark: next.Watermark, At: next.At, Token: p.raised.Top.Token, TopicID: p.TopicID,
		ReplayFrom: p.outcome.ReplayFrom, MaxTime: p.raised.MaxTime, Totals: totals, Refused: p.outcome.Refused,
		EarlySince: p.base.EarlySince, Panes: next.Panes, Held: r.pipe.Held(),
	}}
	if early && r.pipe.Trigger.EarlyEvery > 0 {
		b.EarlySince = b.Offset
	}
	err := r.fit(ctx, p, &b, next)
	return b, err
}

// fit moves refused offsets to the ledger where a commitment does not fit into metadata with them.
func (r *runner) fit(ctx context.Context, p *partition, b *apply.Base, next *apply.Plan) error {
	if len(pipeline.AppendCommitment(nil, &b.Commitment)) <= pipeline.MaxMetadata {
		return nil
	}
	records, err := r.overflow(next.Number, next.Watermark, next.At, b.Refused)
	if err != nil {
		return err
	}
	positions, err := r.session.Produce(ctx, records)
	if err != nil {
		return fmt.Errorf("plan %d: produce refused offsets of %s/%d: %w", next.Number, p.Topic, p.TopicPartition.Partition, unknown(err))
	}
	b.Refused, b.RefusedAt = nil, &pipeline.LedgerSpan{}
	for _, at := range positions {
		b.RefusedAt.Partition = at.Partition
		b.RefusedAt.Offsets = append(b.RefusedAt.Offsets, at.Offset)
	}
	if n := len(pipeline.AppendCommitment(nil, &b.Commitment)); n > pipeline.MaxMetadata {
		return halted("plan %d: metadata of %s/%d has %d bytes, a broker takes %d; start a new pipeline under another name", next.Number, p.Topic,
			p.TopicPartition.Partition, n, pipeline.MaxMetadata)
	}
	return nil
}

func (r *runner) paneMessage(p *pipeline.Pane, plan int64, now event.Time) kafkaio.Message {
	return kafkaio.Message{
		Topic: r.pipe.SinkTopic, Partition: -1, Key: []byte(p.Key), Value: p.Value, Timestamp: now,
		Headers: []event.Header{
			{Key: "tidemark-id", Value: []byte(p.ID)},
			{Key: "tidemark-plan", Value: strconv.AppendInt(nil, plan, 10)},
		},
	}
}

func (r *runner) logPlan(ctx context.Context, rep Report) {
	r.Logger.InfoContext(ctx, "plan", "pipeline", r.pipe.Name, "plan", rep.Plan, "watermark", rep.Watermark.String(), "held_by", rep.HeldBy,
		"panes", rep.Panes, "late", rep.Late, "dead_letters", rep.Dead, "lag", rep.Lag, "open", rep.Open)
}
