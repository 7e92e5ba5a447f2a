// Package tally says what became of the records of a pipeline.
package tally

import (
	"context"
	"errors"
	"fmt"

	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// readPage is the number of deltas read in one call.
const readPage = 500

// Of returns what became of all records that are folded: those of the committed plan, and those after it, for which there may never
// be a plan. While the functions work it may be behind, where a plan is made between two of its looks.
func Of(ctx context.Context, log kafkaio.Log, store statestore.Store, p *pipeline.Pipeline) (pipeline.Counts, error) {
	plan, err := apply.ReadPlan(ctx, log, p)
	if err != nil {
		return pipeline.Counts{}, err
	}
	var sum pipeline.Counts
	for _, b := range plan.Partitions {
		sum = sum.Add(b.Totals.Counts)
	}
	parts, err := log.Partitions(ctx, p.Topics)
	if err != nil {
		return sum, fmt.Errorf("source partitions: %w", err)
	}
	for _, part := range parts {
		c, err := since(ctx, store, apply.SlotID(p, part), plan.Partitions[part.TopicPartition].Offset)
		if err != nil {
			return sum, fmt.Errorf("counts of %s, %s/%d: %w", p.Name, part.Topic, part.TopicPartition.Partition, err)
		}
		sum = sum.Add(c)
	}
	return sum, nil
}

// since returns what a slot has counted from an offset on.
func since(ctx context.Context, store statestore.Store, slot statestore.Slot, from int64) (pipeline.Counts, error) {
	var sum pipeline.Counts
	head, err := store.Load(ctx, slot)
	if errors.Is(err, statestore.ErrNoSlot) {
		return sum, nil
	}
	if err != nil {
		return sum, err
	}
	all, err := store.Index(ctx, slot, head.Top.Token, []statestore.SliceID{{Window: statestore.ListCounts}})
	if err != nil {
		return sum, err
	}
	var refs []statestore.DeltaRef
	for _, r := range all {
		if r.From >= from {
			refs = append(refs, r)
		}
	}
	for len(refs) > 0 {
		n := min(len(refs), readPage)
		payloads, err := store.Read(ctx, slot, head.Top.Token, refs[:n])
		if err != nil {
			return sum, err
		}
		for _, b := range payloads {
			c, err := pipeline.DecodeCounts(b)
			if err != nil {
				return sum, err
			}
			sum = sum.Add(c)
		}
		refs = refs[n:]
	}
	return sum, nil
}
