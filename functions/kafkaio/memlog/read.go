package memlog

import (
	"context"
	"fmt"
	"maps"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
)

// Partitions implements kafkaio.Log.
func (l *Log) Partitions(ctx context.Context, topics []string) ([]kafkaio.Partition, error) {
	if err := l.hook(OpPartitions, "before"); err != nil {
		return nil, err
	}
	all, err := l.partitions(ctx, topics)
	if err != nil {
		return nil, err
	}
	return all, l.hook(OpPartitions, "after")
}

func (l *Log) partitions(ctx context.Context, topics []string) ([]kafkaio.Partition, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []kafkaio.Partition
	for _, name := range topics {
		t, ok := l.topics[name]
		if !ok {
			return nil, fmt.Errorf("partitions of %q: %w", name, kafkaio.ErrUnknownTopic)
		}
		for p := range t.partitions {
			tp := event.TopicPartition{Topic: name, Partition: int32(p)}
			all = append(all, kafkaio.Partition{TopicPartition: tp, TopicID: t.id})
		}
	}
	return all, nil
}

// Offsets implements kafkaio.Log.
func (l *Log) Offsets(ctx context.Context, partitions []event.TopicPartition) (map[event.TopicPartition]kafkaio.Offsets, error) {
	if err := l.hook(OpOffsets, "before"); err != nil {
		return nil, err
	}
	all, err := l.offsets(ctx, partitions)
	if err != nil {
		return nil, err
	}
	return all, l.hook(OpOffsets, "after")
}

func (l *Log) offsets(ctx context.Context, partitions []event.TopicPartition) (map[event.TopicPartition]kafkaio.Offsets, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make(map[event.TopicPartition]kafkaio.Offsets, len(partitions))
	for _, tp := range partitions {
		part, err := l.partition(tp)
		if err != nil {
			return nil, fmt.Errorf("offsets: %w", err)
		}
		all[tp] = kafkaio.Offsets{Start: part.start, End: part.end, Stable: l.stable(tp, part)}
	}
	return all, nil
}

// stable is the last stable offset: the first one of an open transaction, else the end. The lock is held.
func (l *Log) stable(tp event.TopicPartition, part *partition) int64 {
	stable := part.end
	for t := range l.open {
		if first, ok := t.first[tp]; ok {
			stable = min(stable, first)
		}
	}
	return stable
}

// Group implements kafkaio.Log.
func (l *Log) Group(ctx context.Context, group string) (map[event.TopicPartition]kafkaio.Committed, error) {
	if err := l.hook(OpGroup, "before"); err != nil {
		return nil, err
	}
	for {
		all, changed := l.group(group)
		if changed == nil {
			return all, l.hook(OpGroup, "after")
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("offsets of group %q: %w", group, ctx.Err())
		case <-changed:
		}
	}
}

// group returns a copy of what is committed; or, while a transaction that commits for the group is open, what to wait for.
func (l *Log) group(group string) (map[event.TopicPartition]kafkaio.Committed, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for t := range l.open {
		if len(t.offsets[group]) > 0 {
			return nil, l.changed
		}
	}
	all := make(map[event.TopicPartition]kafkaio.Committed, len(l.groups[group]))
	maps.Copy(all, l.groups[group])
	return all, nil
}

// Read implements kafkaio.Log, with runs as kafkaio.Client makes them.
func (l *Log) Read(ctx context.Context, p event.TopicPartition, from, to int64, fn func(records []event.Record, next int64) error) error {
	if err := l.hook(OpRead, "before"); err != nil {
		return err
	}
	if from < 0 || from > to {
		return fmt.Errorf("read %s/%d: [%d, %d) is not a range", p.Topic, p.Partition, from, to)
	}
	r := reader{log: l, p: p, at: from, to: to}
	if err := r.run(ctx, fn); err != nil {
		return fmt.Errorf("read %s/%d [%d, %d) at %d: %w", p.Topic, p.Partition, from, to, r.at, err)
	}
	return l.hook(OpRead, "after")
}

type reader struct {
	log  *Log
	p    event.TopicPartition
	at   int64
	to   int64
	buf  []event.Record
	done bool // fn has been told of to
}

func (r *reader) run(ctx context.Context, fn func([]event.Record, int64) error) error {
	for !r.done {
		if err := ctx.Err(); err != nil {
			return err
		}
		next, changed, err := r.gather()
		if err != nil {
			return err
		}
		if len(r.buf) > 0 || next == r.to {
			err := fn(r.buf, next)
			if r.log.opts.Scribble {
				scribble(r.buf)
			}
			if err != nil {
				return err
			}
		}
		r.at, r.done = next, next == r.to
		if changed == nil || r.done {
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
	return nil
}

// gather puts the next run into buf and returns its next; and, where only something that is not stable yet is left, what to
// wait for.
func (r *reader) gather() (int64, <-chan struct{}, error) {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	r.buf = r.buf[:0]
	if r.at == r.to {
		return r.to, nil, nil
	}
	part, err := r.log.partition(r.p)
	if err != nil {
		return 0, nil, err
	}
	if r.at < part.start || r.at > part.end {
		return 0, nil, fmt.Errorf("log has [%d, %d): %w", part.start, part.end, kafkaio.ErrOutOfRange)
	}
	stable := min(r.log.stable(r.p, part), r.to)
	if stable <= r.at {
		return r.at, r.log.changed, nil
	}
	bytes := 0
	for _, e := range part.entries[part.find(r.at):] {
		if e.rec.Offset >= stable {
			break
		}
		if !e.visible() {
			continue
		}
		size := len(e.rec.Key) + len(e.rec.Value)
		if len(r.buf) == kafkaio.RunRecords || (len(r.buf) > 0 && bytes+size > kafkaio.RunBytes) {
			return r.buf[len(r.buf)-1].Offset + 1, nil, nil
		}
		rec := e.rec
		if r.log.opts.Scribble {
			rec = kafkaio.CloneRecord(rec)
		}
		r.buf = append(r.buf, rec)
		bytes += size
	}
	return stable, nil, nil
}

// scribble makes handed out records unusable.
func scribble(records []event.Record) {
	for i := range records {
		r := &records[i]
		for _, b := range [][]byte{r.Key, r.Value} {
			for j := range b {
				b[j] = 0xDB
			}
		}
		for _, h := range r.Headers {
			for j := range h.Value {
				h.Value[j] = 0xDB
			}
		}
		*r = event.Record{Offset: -1, Timestamp: event.MinTime}
	}
}
