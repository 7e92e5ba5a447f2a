package fire

import (
	"context"
	"fmt"

	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// passed returns up to where the trigger has delivered the partitions of this pipeline, by the groups that it may be in.
func (r *runner) passed(ctx context.Context) (map[event.TopicPartition]int64, error) {
	out := map[event.TopicPartition]int64{}
	for _, group := range r.App.TriggerGroups(r.pipe.Topics) {
		offsets, err := r.Log.Group(ctx, group)
		if err != nil {
			return nil, fmt.Errorf("position of the trigger's group %s: %w", group, err)
		}
		for tp, at := range offsets {
			out[tp] = max(out[tp], at.Offset)
		}
	}
	return out, nil
}
