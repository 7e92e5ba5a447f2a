package job

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/console"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/tally"
	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// positions says how far each source partition is folded, in the pipeline that is furthest behind.
func (w *world) positions(ctx context.Context) ([]console.Partition, error) {
	parts, err := w.kafka.Partitions(ctx, w.app.SourceTopics())
	if err != nil {
		return nil, err
	}
	tps := make([]event.TopicPartition, len(parts))
	for i, p := range parts {
		tps[i] = p.TopicPartition
	}
	offsets, err := w.kafka.Offsets(ctx, tps)
	if err != nil {
		return nil, err
	}
	var trigger map[event.TopicPartition]kafkaio.Committed
	if w.fromEnd() {
		if trigger, err = w.kafka.Group(ctx, w.app.Consumer.GroupID); err != nil {
			return nil, err
		}
	}
	out := make([]console.Partition, len(parts))
	for i, p := range parts {
		// Where records before the start of all are nobody's, the trigger's group says where that is.
		nothing := max(offsets[p.TopicPartition].Start, trigger[p.TopicPartition].Offset)
		applied, err := w.applied(ctx, p, nothing)
		if err != nil {
			return nil, err
		}
		end := offsets[p.TopicPartition].End
		out[i] = console.Partition{Topic: p.Topic, Partition: p.TopicPartition.Partition, Applied: applied, End: end, Lag: max(0, end-applied)}
	}
	return out, nil
}

// applied returns the least applied offset of a partition; nothing, where no pipeline has state of it.
func (w *world) applied(ctx context.Context, p kafkaio.Partition, nothing int64) (int64, error) {
	least := int64(-1)
	for _, pipe := range w.pipes {
		if !slices.Contains(pipe.Topics, p.Topic) {
			continue
		}
		at := nothing
		meta, err := w.store.Load(ctx, apply.SlotID(pipe, p))
		switch {
		case err == nil:
			at = meta.Applied
		case !errors.Is(err, statestore.ErrNoSlot):
			return 0, err
		}
		if least < 0 || at < least {
			least = at
		}
	}
	return least, nil
}

// fromEnd reports whether records from before the first start are nobody's.
func (w *world) fromEnd() bool { return w.app.Consumer.AutoOffsetReset == "latest" }

// ends returns the end offsets of all source partitions.
func (w *world) ends(ctx context.Context) (map[event.TopicPartition]int64, error) {
	parts, err := w.kafka.Partitions(ctx, w.app.SourceTopics())
	if err != nil {
		return nil, err
	}
	tps := make([]event.TopicPartition, len(parts))
	for i, p := range parts {
		tps[i] = p.TopicPartition
	}
	offsets, err := w.kafka.Offsets(ctx, tps)
	if err != nil {
		return nil, err
	}
	out := make(map[event.TopicPartition]int64, len(offsets))
	for tp, o := range offsets {
		out[tp] = o.End
	}
	return out, nil
}

// counted returns what became of the records of pipelines that have a where, since the beginning of the pipeline.
func (w *world) counted(ctx context.Context) (map[string]pipeline.Counts, error) {
	out := map[string]pipeline.Counts{}
	for _, p := range w.pipes {
		if p.Where == "" {
			continue
		}
		c, err := tally.Of(ctx, w.kafka, w.store, p)
		if err != nil {
			return nil, err
		}
		out[p.Name] = c
	}
	return out, nil
}

// defaultStalled is how long the trigger may bring nothing before fire folds what is left by itself. What the trigger cannot
// bring at all is the end of a partition without records: markers of transactions, what compaction removed.
const defaultStalled = 10 * time.Second

// waitFolded waits until the trigger has brought everything up to ends, or has brought nothing for as long as stalled.
func (w *world) waitFolded(ctx context.Context, ends map[event.TopicPartition]int64, stalled time.Duration) error {
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	most, since := int64(-1), time.Now()
	for {
		parts, err := w.positions(ctx)
		if err != nil {
			return fmt.Errorf("wait until everything is folded: %w", err)
		}
		sum, open := int64(0), false
		for _, p := range parts {
			sum += p.Applied
			open = open || p.Applied < ends[event.TopicPartition{Topic: p.Topic, Partition: p.Partition}]
		}
		if sum > most {
			most, since = sum, time.Now()
		}
		if !open || time.Since(since) > stalled {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-poll.C:
		}
	}
}

// ErrNotFolded is returned where records were left that could not be folded.
var ErrNotFolded = errors.New("job: records are not folded")

// checkFolded returns an error that names the partitions which are not folded up to ends.
func (w *world) checkFolded(ctx context.Context, ends map[event.TopicPartition]int64) error {
	parts, err := w.positions(ctx)
	if err != nil {
		return err
	}
	var left []string
	for _, p := range parts {
		if end := ends[event.TopicPartition{Topic: p.Topic, Partition: p.Partition}]; p.Applied < end {
			left = append(left, fmt.Sprintf("%s/%d from offset %d to %d", p.Topic, p.Partition, p.Applied, end))
		}
	}
	if len(left) > 0 {
		return fmt.Errorf("%w: %s", ErrNotFolded, strings.Join(left, ", "))
	}
	return nil
}
