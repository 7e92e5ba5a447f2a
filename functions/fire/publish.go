package fire

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
)

// producePage is the number of messages that are produced before waiting for their acknowledgement.
const producePage = 5000

// unknown marks an error after which it cannot be known what became of the transaction.
func unknown(err error) error {
	if errors.Is(err, kafkaio.ErrUnknownOutcome) {
		return err
	}
	return fmt.Errorf("%w: %w", kafkaio.ErrUnknownOutcome, err)
}

// publish commits the plan: one transaction with the results, the late and the failed records, the ledger, and the offsets of
// every partition with their metadata.
func (r *runner) publish(ctx context.Context, parts []*partition, plan *apply.Plan, w, now event.Time, out *pipeline.Outcome, rep *Report) (*apply.Plan, error) {
	number := plan.Number + 1
	messages := make([]kafkaio.Message, 0, len(out.Panes)+1)
	for i := range out.Panes {
		messages = append(messages, r.paneMessage(&out.Panes[i], number, now))
	}
	side, err := r.sideOutputs(ctx, parts, number, now, rep)
	if err != nil {
		return nil, err
	}
	messages = append(messages, side...)

	if err := r.session.Begin(ctx); err != nil {
		return nil, fmt.Errorf("plan %d: begin: %w", number, unknown(err))
	}
	for page := range slices.Chunk(messages, producePage) {
		if _, err := r.session.Produce(ctx, page); err != nil {
			return nil, fmt.Errorf("plan %d: produce: %w", number, unknown(err))
		}
	}
	next := &apply.Plan{Number: number, Watermark: w, At: now, Partitions: make(map[event.TopicPartition]apply.Base, len(parts))}
	offsets := make([]kafkaio.OffsetCommit, 0, len(parts))
	entries := make([]ledgerPartition, 0, len(parts))
	for _, p := range parts {
		b, err := r.commitment(ctx, p, next)
		if err != nil {
			return nil, err
		}
		next.Partitions[p.TopicPartition] = b
		offsets = append(offsets, kafkaio.OffsetCommit{Partition: p.Partition, Committed: kafkaio.Committed{
			Offset: b.Offset, Metadata: string(pipeline.AppendCommitment(nil, &b.Commitment)),
		}})
		entry := newLedgerPartition(p.TopicPartition, b, p.outcome.Open)
		if n := entry.unaccounted(); n != 0 {
			r.Logger.ErrorContext(ctx, "the ledger does not balance", "pipeline", r.pipe.Name, "plan", number, "topic", p.Topic,
				"partition", p.TopicPartition.Partition, "unaccounted", n)
		}
		entries = append(entries, entry)
	}
	record, err := r.ledgerRecord(number, w, now, rep.Decision.Holder.String(), entries)
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
func (r *runner) commitment(ctx context.Context, p *partition, next *apply.Plan) (apply.Base, error) {
	totals := p.base.Totals
	totals.Counts = totals.Add(p.outcome.Counts)
	totals.Final += p.outcome.Final
	b := apply.Base{Offset: p.raised.Top.Offset, Commitment: pipeline.Commitment{
		Plan: next.Number, Watermark: next.Watermark, At: next.At, Token: p.raised.Top.Token, TopicID: p.TopicID,
		ReplayFrom: p.outcome.ReplayFrom, MaxTime: p.raised.MaxTime, Totals: totals, Refused: p.outcome.Refused,
	}}
	if len(pipeline.AppendCommitment(nil, &b.Commitment)) <= pipeline.MaxMetadata {
		return b, nil
	}
	records, err := r.overflow(next.Number, next.Watermark, next.At, b.Refused)
	if err != nil {
		return b, err
	}
	positions, err := r.session.Produce(ctx, records)
	if err != nil {
		return b, fmt.Errorf("plan %d: produce refused offsets of %s/%d: %w", next.Number, p.Topic, p.TopicPartition.Partition, unknown(err))
	}
	b.Refused, b.RefusedAt = nil, &pipeline.LedgerSpan{}
	for _, at := range positions {
		b.RefusedAt.Partition = at.Partition
		b.RefusedAt.Offsets = append(b.RefusedAt.Offsets, at.Offset)
	}
	if n := len(pipeline.AppendCommitment(nil, &b.Commitment)); n > pipeline.MaxMetadata {
		return b, fmt.Errorf("plan %d: metadata of %s/%d has %d bytes, a broker takes %d: %w", next.Number, p.Topic, p.TopicPartition.Partition,
			n, pipeline.MaxMetadata, ErrHalted)
	}
	return b, nil
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

// sideOutputs turns the outbox into messages: late records first, then dead letters, each by topic, partition and offset.
func (r *runner) sideOutputs(ctx context.Context, parts []*partition, plan int64, now event.Time, rep *Report) ([]kafkaio.Message, error) {
	var late, dead []kafkaio.Message
	sorted := slices.Clone(parts)
	slices.SortFunc(sorted, func(a, b *partition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.TopicPartition.Partition, b.TopicPartition.Partition))
	})
	for _, p := range sorted {
		err := r.eachRecord(ctx, p, p.outcome.Outbox, func(e pipeline.OutboxEntry, rec *event.Record) {
			m := r.sideMessage(p, e, rec, plan, now)
			if e.Reason == event.ReasonLate {
				late = append(late, m)
			} else {
				dead = append(dead, m)
			}
		})
		if err != nil {
			return nil, fmt.Errorf("plan %d: records for the side outputs: %w", plan, err)
		}
	}
	rep.Late, rep.Dead = len(late), len(dead)
	return append(late, dead...), nil
}

// span is the most offsets between two entries of the outbox that are read together: a fetch costs more than a few records.
const span = 1000

// eachRecord calls f for every entry with its record, read from the log again, or nil if the log no longer has it.
func (r *runner) eachRecord(ctx context.Context, p *partition, entries []pipeline.OutboxEntry, f func(pipeline.OutboxEntry, *event.Record)) error {
	for len(entries) > 0 {
		n := 1
		for n < len(entries) && entries[n].Offset-entries[n-1].Offset <= span {
			n++
		}
		run := entries[:n]
		entries = entries[n:]
		err := r.Log.Read(ctx, p.TopicPartition, run[0].Offset, run[n-1].Offset+1, func(records []event.Record, next int64) error {
			for i := range records {
				for len(run) > 0 && run[0].Offset < records[i].Offset {
					f(run[0], nil)
					run = run[1:]
				}
				if len(run) > 0 && run[0].Offset == records[i].Offset {
					f(run[0], &records[i])
					run = run[1:]
				}
			}
			for len(run) > 0 && run[0].Offset < next {
				f(run[0], nil)
				run = run[1:]
			}
			return nil
		})
		if err != nil && !errors.Is(err, kafkaio.ErrOutOfRange) {
			return err
		}
		for _, e := range run {
			f(e, nil)
		}
	}
	return nil
}

// sideMessage copies a record with the reason why it is where it is.
func (r *runner) sideMessage(p *partition, e pipeline.OutboxEntry, rec *event.Record, plan int64, now event.Time) kafkaio.Message {
	m := kafkaio.Message{Topic: r.pipe.DeadLetterTopic, Partition: -1, Timestamp: now}
	if e.Reason == event.ReasonLate {
		m.Topic = r.pipe.LateTopic
	}
	reason, detail := e.Reason, e.Detail
	if rec != nil {
		m.Key, m.Value = slices.Clone(rec.Key), slices.Clone(rec.Value)
		for _, h := range rec.Headers {
			m.Headers = append(m.Headers, event.Header{Key: h.Key, Value: slices.Clone(h.Value)})
		}
	} else {
		reason, detail = event.ReasonLost, string(e.Reason)+": "+e.Detail
		r.Logger.Error("record for a side output is no longer in the log", "pipeline", r.pipe.Name, "topic", p.Topic,
			"partition", p.TopicPartition.Partition, "offset", e.Offset, "reason", e.Reason)
	}
	add := func(name, value string) {
		m.Headers = append(m.Headers, event.Header{Key: "tidemark-" + name, Value: []byte(value)})
	}
	add("reason", string(reason))
	add("topic", p.Topic)
	add("partition", strconv.Itoa(int(p.TopicPartition.Partition)))
	add("offset", strconv.FormatInt(e.Offset, 10))
	add("error", detail)
	add("retries", "0")
	add("plan", strconv.FormatInt(plan, 10))
	if e.Reason == event.ReasonLate {
		add("watermark", strconv.FormatInt(int64(e.Fence), 10))
		add("lateness-ms", strconv.FormatInt(int64(e.Fence.Sub(e.Time)), 10))
	}
	return m
}

func (r *runner) logPlan(ctx context.Context, rep Report) {
	r.Logger.InfoContext(ctx, "plan", "pipeline", r.pipe.Name, "plan", rep.Plan, "watermark", rep.Watermark.String(), "held_by", rep.Decision.String(),
		"panes", rep.Panes, "late", rep.Late, "dead_letters", rep.Dead, "lag", rep.Lag, "open", rep.Open)
}
