package kafkaio

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// Partitions implements Log. It always asks the broker.
func (c *Client) Partitions(ctx context.Context, topics []string) ([]Partition, error) {
	found, err := c.refresh(ctx, topics)
	if err != nil {
		return nil, err
	}
	var all []Partition
	for _, name := range topics {
		info, ok := found[name]
		if !ok {
			return nil, fmt.Errorf("partitions of %q: %w", name, ErrUnknownTopic)
		}
		for _, p := range sortedPartitions(info) {
			all = append(all, Partition{TopicPartition: event.TopicPartition{Topic: name, Partition: p}, TopicID: info.id})
		}
	}
	return all, nil
}

func sortedPartitions(info topicInfo) []int32 {
	ps := make([]int32, 0, len(info.leaders))
	for p := range info.leaders {
		ps = append(ps, p)
	}
	slices.Sort(ps)
	return ps
}

// Special timestamps and isolation levels of ListOffsets.
const (
	earliest      = -2
	latest        = -1
	earliestLocal = -4 // the first offset that is not only in tiered storage (KIP-405)

	uncommitted = 0
	committed   = 1
)

// Offsets implements Log. Stable is asked for after End, and cut off there: asked at the same time, records published in
// between would look like an open transaction.
func (c *Client) Offsets(ctx context.Context, partitions []event.TopicPartition) (map[event.TopicPartition]Offsets, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		offsets map[event.TopicPartition]int64
		err     error
	}
	ask := func(at int64, isolation int8) <-chan answer {
		ch := make(chan answer, 1)
		go func() {
			o, err := c.listOffsets(ctx, partitions, at, isolation)
			ch <- answer{o, err}
		}()
		return ch
	}
	start, e := ask(earliest, uncommitted), <-ask(latest, uncommitted)
	s, l := <-start, <-ask(latest, committed)
	if err := errors.Join(s.err, e.err, l.err); err != nil {
		return nil, err
	}
	all := make(map[event.TopicPartition]Offsets, len(partitions))
	for _, p := range partitions {
		all[p] = Offsets{Start: s.offsets[p], End: e.offsets[p], Stable: min(l.offsets[p], e.offsets[p])}
	}
	return all, nil
}

// listOffsets asks the leaders for one special offset of each partition, or for the first one at or after a time, again while
// they move. Of a time that no record has reached the answer is -1.
func (c *Client) listOffsets(ctx context.Context, partitions []event.TopicPartition, at int64, isolation int8) (map[event.TopicPartition]int64, error) {
	all := map[event.TopicPartition]int64{}
	if len(partitions) == 0 {
		return all, nil
	}
	err := repeat(ctx, c.opts.RetryFor, func() (err error) {
		all, err = c.listOffsetsOnce(ctx, partitions, at, isolation)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list offsets: %w", classify(err))
	}
	return all, nil
}

// listOffsetsOnce leaves it to kgo to ask each leader for what it leads.
func (c *Client) listOffsetsOnce(ctx context.Context, partitions []event.TopicPartition, at int64, isolation int8) (map[event.TopicPartition]int64, error) {
	all := make(map[event.TopicPartition]int64, len(partitions))
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	req.IsolationLevel = isolation
	index := map[string]int{}
	for _, tp := range partitions {
		if _, twice := all[tp]; twice {
			continue // a broker refuses a partition that is named twice
		}
		all[tp] = -1
		i, ok := index[tp.Topic]
		if !ok {
			i = len(req.Topics)
			index[tp.Topic] = i
			t := kmsg.NewListOffsetsRequestTopic()
			t.Topic = tp.Topic
			req.Topics = append(req.Topics, t)
		}
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Partition, p.Timestamp, p.CurrentLeaderEpoch = tp.Partition, at, -1
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, p)
	}
	resp, err := req.RequestWith(ctx, c.kgo)
	if err != nil {
		return nil, err
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			tp := event.TopicPartition{Topic: t.Topic, Partition: p.Partition}
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return nil, fmt.Errorf("%s/%d: %w", tp.Topic, tp.Partition, err)
			}
			all[tp] = p.Offset
		}
	}
	for tp, o := range all {
		if o < 0 && at < 0 {
			return nil, fmt.Errorf("%s/%d: %w", tp.Topic, tp.Partition, errNoAnswer)
		}
	}
	return all, nil
}

// Group implements Log.
//
// A broker that is asked for "all offsets of a group" says that an offset is unstable only where an older one is committed;
// of a group whose first commit is in flight it says that there is nothing. So every partition of the topics that this
// client knows (from Partitions, Read and the like) is asked for by name as well.
func (c *Client) Group(ctx context.Context, group string) (map[event.TopicPartition]Committed, error) {
	var offsets map[event.TopicPartition]Committed
	err := repeat(ctx, c.opts.RetryFor, func() (err error) {
		offsets, err = c.fetchGroup(ctx, group)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("offsets of group %q: %w", group, classify(err))
	}
	return offsets, nil
}

// fetchGroup asks once, first by name and then for all: a first commit that becomes known between the two is in the second.
func (c *Client) fetchGroup(ctx context.Context, group string) (map[event.TopicPartition]Committed, error) {
	var named []kmsg.OffsetFetchRequestGroupTopic
	for name, info := range c.known() {
		t := kmsg.NewOffsetFetchRequestGroupTopic()
		t.Topic, t.TopicID, t.Partitions = name, info.id, sortedPartitions(info)
		named = append(named, t)
	}
	if len(named) > 0 {
		if _, err := c.offsetFetch(ctx, group, named); err != nil {
			return nil, err
		}
	}
	return c.offsetFetch(ctx, group, nil)
}

// offsetFetch is one OffsetFetch with "require stable"; nil topics are all of the group.
func (c *Client) offsetFetch(ctx context.Context, group string, topics []kmsg.OffsetFetchRequestGroupTopic) (map[event.TopicPartition]Committed, error) {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.RequireStable = true
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group, g.Topics = group, topics
	req.Groups = append(req.Groups, g)
	resp, err := req.RequestWith(ctx, c.kgo)
	if err != nil {
		return nil, err
	}
	all := map[event.TopicPartition]Committed{}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, err
	}
	for _, g := range resp.Groups {
		if err := kerr.ErrorForCode(g.ErrorCode); err != nil {
			if errors.Is(err, kerr.GroupIDNotFound) {
				continue
			}
			return nil, err
		}
		for _, t := range g.Topics {
			for _, p := range t.Partitions {
				err := kerr.ErrorForCode(p.ErrorCode)
				if topics != nil && isUnknownTopic(err) {
					c.forget(t.Topic) // deleted since this client saw it
					continue
				}
				if err != nil {
					return nil, fmt.Errorf("%s/%d: %w", t.Topic, p.Partition, err)
				}
				if p.Offset < 0 {
					continue // nothing is committed for it
				}
				com := Committed{Offset: p.Offset}
				if p.Metadata != nil {
					com.Metadata = *p.Metadata
				}
				all[event.TopicPartition{Topic: t.Topic, Partition: p.Partition}] = com
			}
		}
	}
	return all, nil
}
