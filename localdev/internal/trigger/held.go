package trigger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// hold notes what came of a delivery: failed records wait for their next try, longer each time in which nothing of their
// partition was applied.
func (t *trigger) hold(done, failed []*kgo.Record) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range done {
		if h := t.held[partitionOf(r)]; h != nil {
			h.pause = firstPause
		}
	}
	now := time.Now()
	for _, r := range failed {
		tp := partitionOf(r)
		if !t.owned[tp] {
			continue // given away meanwhile: it is delivered to whoever has it
		}
		h := t.held[tp]
		if h == nil {
			h = &held{pause: firstPause}
			t.held[tp] = h
			t.client.PauseFetchPartitions(map[string][]int32{tp.Topic: {tp.Partition}})
		}
		if len(h.records) == 0 {
			h.due = now.Add(h.pause)
			h.pause = min(2*h.pause, mostPause)
		}
		h.records = append(h.records, r)
	}
	for tp, h := range t.held {
		if len(h.records) == 0 {
			t.release(tp)
		}
	}
}

// withhold puts records of partitions with failed ones behind those, and returns the others.
func (t *trigger) withhold(records []*kgo.Record) []*kgo.Record {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.held) == 0 {
		return records
	}
	free := make([]*kgo.Record, 0, len(records))
	for _, r := range records {
		if h := t.held[partitionOf(r)]; h != nil && len(h.records) > 0 {
			h.records = append(h.records, r)
		} else {
			free = append(free, r)
		}
	}
	return free
}

// nextDue returns when the next try is due.
func (t *trigger) nextDue() (at time.Time, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, h := range t.held {
		if !ok || h.due.Before(at) {
			at, ok = h.due, true
		}
	}
	return at, ok
}

// takeDue takes the records of a partition whose next try is due; nil if there is none. The partition stays held until hold
// is told what came of it.
func (t *trigger) takeDue() []*kgo.Record {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	for _, h := range t.held {
		if len(h.records) > 0 && !h.due.After(now) {
			records := h.records
			h.records = nil
			return records
		}
	}
	return nil
}

// assigned notes partitions that this member of the group has from now on.
func (t *trigger) assigned(_ context.Context, _ *kgo.Client, got map[string][]int32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for topic, partitions := range got {
		for _, p := range partitions {
			t.owned[event.TopicPartition{Topic: topic, Partition: p}] = true
		}
	}
}

// released forgets partitions that another member of the group has now.
func (t *trigger) released(_ context.Context, _ *kgo.Client, gone map[string][]int32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for topic, partitions := range gone {
		for _, p := range partitions {
			tp := event.TopicPartition{Topic: topic, Partition: p}
			delete(t.owned, tp)
			t.release(tp)
		}
	}
}

// release lets a partition be fetched again. The lock is held.
func (t *trigger) release(tp event.TopicPartition) {
	if _, ok := t.held[tp]; ok {
		delete(t.held, tp)
		t.client.ResumeFetchPartitions(map[string][]int32{tp.Topic: {tp.Partition}})
	}
}

// beginAtEnd commits the end offsets of partitions for which the group has none, before the group has a member: what is
// published from now on is delivered, also if it is published before the first member has asked where the log ends.
func beginAtEnd(ctx context.Context, o Options) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(o.Brokers...), kgo.ClientID("tidemark-trigger"))
	if err != nil {
		return err
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	have, err := adm.FetchOffsets(ctx, o.Group)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return fmt.Errorf("offsets of group %s: %w", o.Group, err)
	}
	ends, err := adm.ListCommittedOffsets(ctx, o.Topics...)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return fmt.Errorf("end offsets of %q: %w", o.Topics, err)
	}
	begin := kadm.Offsets{}
	ends.Each(func(l kadm.ListedOffset) {
		if at, ok := have.Lookup(l.Topic, l.Partition); !ok || at.At < 0 {
			begin.AddOffset(l.Topic, l.Partition, l.Offset, -1)
		}
	})
	if len(begin) == 0 {
		return nil
	}
	committed, err := adm.CommitOffsets(ctx, o.Group, begin)
	if err == nil {
		err = committed.Error()
	}
	if err != nil {
		return fmt.Errorf("commit end offsets of group %s: %w", o.Group, err)
	}
	return nil
}
