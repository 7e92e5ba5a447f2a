package kafkaio

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// Groups implements Log: every broker is asked for the groups that it coordinates.
func (c *Client) Groups(ctx context.Context, prefix string) ([]string, error) {
	var names []string
	list := func() error {
		names = nil
		listed, err := c.adm.ListGroups(ctx)
		if shards, ok := errors.AsType[*kadm.ShardErrors](err); ok && len(shards.Errs) > 0 {
			return fmt.Errorf("broker %d: %w", shards.Errs[0].Broker.NodeID, shards.Errs[0].Err) // repeat has to see the broker's own error
		}
		if err != nil {
			return err
		}
		for name := range listed {
			if strings.HasPrefix(name, prefix) {
				names = append(names, name)
			}
		}
		return nil
	}
	err := repeat(ctx, c.opts.RetryFor, func() error { return c.kgo.again(list) })
	if err != nil {
		return nil, fmt.Errorf("list groups %q: %w", prefix+"*", classify(err))
	}
	slices.Sort(names)
	return names, nil
}

// OffsetsAt implements Log. The end is asked for first: asked for afterwards, it could lie beyond a record that came in between
// and that the first question did not see.
func (c *Client) OffsetsAt(ctx context.Context, partitions []event.TopicPartition, t event.Time) (map[event.TopicPartition]int64, error) {
	if t < 0 { // negative timestamps ask for something else
		return c.listOffsets(ctx, partitions, earliest, uncommitted)
	}
	all, err := c.listOffsets(ctx, partitions, latest, uncommitted)
	if err != nil {
		return nil, err
	}
	found, err := c.listOffsets(ctx, partitions, int64(t), uncommitted)
	if err != nil {
		return nil, err
	}
	for tp, o := range found {
		if o >= 0 {
			all[tp] = o
		}
	}
	return all, nil
}
