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
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
)

// sideOutputs publishes what the outbox refers to: late records first, then dead letters, each by topic, partition and offset.
func (r *runner) sideOutputs(ctx context.Context, parts []*partition, plan int64, now event.Time, rep *Report, out *pages) error {
	rep.Late, rep.Dead, rep.Reasons = 0, 0, nil
	sorted := slices.Clone(parts)
	slices.SortFunc(sorted, func(a, b *partition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.TopicPartition.Partition, b.TopicPartition.Partition))
	})
	for _, late := range []bool{true, false} {
		for _, p := range sorted {
			var entries []pipeline.OutboxEntry
			for _, e := range p.outcome.Outbox {
				if (e.Reason == event.ReasonLate) == late {
					entries = append(entries, e)
				}
			}
			if late {
				rep.Late += len(entries)
			} else {
				rep.Dead += len(entries)
				for i := range entries {
					if rep.Reasons == nil {
						rep.Reasons = map[event.Reason]int{}
					}
					rep.Reasons[entries[i].Reason]++
				}
			}
			err := r.eachRecord(ctx, p, entries, func(e pipeline.OutboxEntry, rec *event.Record) error {
				return out.add(ctx, r.sideMessage(p, e, rec, plan, now))
			})
			if err != nil {
				return fmt.Errorf("records of %s/%d for the side outputs: %w", p.Topic, p.TopicPartition.Partition, err)
			}
		}
	}
	return nil
}

// span is the most offsets between two entries of the outbox that are read together: a fetch costs more than a few records.
const span = 1000

// eachRecord calls f for every entry with its record, read from the log again, or nil if the log no longer has it.
func (r *runner) eachRecord(ctx context.Context, p *partition, entries []pipeline.OutboxEntry, f func(pipeline.OutboxEntry, *event.Record) error) error {
	for len(entries) > 0 {
		n := 1
		for n < len(entries) && entries[n].Offset-entries[n-1].Offset <= span {
			n++
		}
		left, err := r.readRun(ctx, p, entries[:n], f)
		switch {
		case errors.Is(err, kafkaio.ErrOutOfRange):
			// Retention took some of them. Those are lost; the others are read from where the log begins now.
			at, err := r.Log.Offsets(ctx, []event.TopicPartition{p.TopicPartition})
			if err != nil {
				return err
			}
			for len(left) > 0 && left[0].Offset < at[p.TopicPartition].Start {
				if err := f(left[0], nil); err != nil {
					return err
				}
				left = left[1:]
			}
			if len(left) == n {
				return fmt.Errorf("offset %d is not readable, though the log begins at %d", left[0].Offset, at[p.TopicPartition].Start)
			}
		case err != nil:
			return err
		}
		entries = entries[n-len(left):]
	}
	return nil
}

// readRun reads the records of entries that are close to each other. It returns the entries that f has not been called for.
func (r *runner) readRun(ctx context.Context, p *partition, run []pipeline.OutboxEntry, f func(pipeline.OutboxEntry, *event.Record) error) ([]pipeline.OutboxEntry, error) {
	next := func(rec *event.Record) error {
		e := run[0]
		run = run[1:]
		return f(e, rec)
	}
	err := r.Log.Read(ctx, p.TopicPartition, run[0].Offset, run[len(run)-1].Offset+1, func(records []event.Record, upto int64) error {
		for i := range records {
			for len(run) > 0 && run[0].Offset < records[i].Offset {
				if err := next(nil); err != nil {
					return err
				}
			}
			if len(run) > 0 && run[0].Offset == records[i].Offset {
				if err := next(&records[i]); err != nil {
					return err
				}
			}
		}
		for len(run) > 0 && run[0].Offset < upto {
			if err := next(nil); err != nil {
				return err
			}
		}
		return nil
	})
	return run, err
}

// sideMessage copies a record with the reason why it is where it is.
func (r *runner) sideMessage(p *partition, e pipeline.OutboxEntry, rec *event.Record, plan int64, now event.Time) kafkaio.Message {
	m := kafkaio.Message{Topic: r.pipe.DeadLetterTopic, Partition: -1, Timestamp: now}
	if e.Reason == event.ReasonLate {
		m.Topic = r.pipe.LateTopic
	}
	reason, detail := e.Reason, e.Detail
	if rec != nil {
		c := kafkaio.CloneRecord(*rec)
		m.Key, m.Value, m.Headers = c.Key, c.Value, c.Headers
	} else {
		reason, detail = event.ReasonLost, string(e.Reason)+": "+e.Detail
		r.Logger.Error("record for a side output is no longer in the log", "pipeline", r.pipe.Name, "topic", p.Topic,
			"partition", p.TopicPartition.Partition, "offset", e.Offset, "reason", e.Reason)
	}
	if n := size(&m); r.maxSide > 0 && n > r.maxSide {
		// It was small enough for its own topic; with our headers, or for this topic, it is not. Where it came from still says it all.
		detail = fmt.Sprintf("%s: content of %d bytes is left out: %s", event.ReasonTooLarge, n, e.Detail)
		if m.Key, m.Value, m.Headers = nil, nil, nil; e.Reason != event.ReasonLate {
			reason, detail = event.ReasonTooLarge, fmt.Sprintf("%s: content of %d bytes is left out: %s", e.Reason, n, e.Detail)
		}
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

// The first bound of a side message's size, and the least.
const (
	firstMaxSide = 900_000
	leastMaxSide = 2_000
)

// shrink makes room after a message was too large for its topic: the first time everything is tried whole. It reports whether
// trying again makes sense.
func (r *runner) shrink() bool {
	if r.maxSide == 0 {
		r.maxSide = 2 * firstMaxSide
	}
	r.maxSide /= 2
	return r.maxSide >= leastMaxSide
}
