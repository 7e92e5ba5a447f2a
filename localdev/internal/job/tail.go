package job

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
)

// tail follows the result topics, read_committed. It asks for the end and reads up to it instead of running a consumer, so that
// at the end of a run it is known to have shown everything.
type tail struct {
	log   kafkaio.Log
	at    map[event.TopicPartition]int64
	order []event.TopicPartition
	mine  map[string]bool // pipelines of the app; a topic may be shared with others. nil: everything
	show  func(tp event.TopicPartition, offset int64, value []byte)
}

// newTail returns a tail of an app's results that begins at the present end of the topics.
func newTail(ctx context.Context, log kafkaio.Log, app *spec.App, show func(event.TopicPartition, int64, []byte)) (*tail, error) {
	mine := map[string]bool{}
	var topics []string
	for i := range app.Pipelines {
		mine[app.Pipelines[i].Name] = true
		topics = append(topics, app.Pipelines[i].SinkTopic)
	}
	t, err := newTailOf(ctx, log, topics, show)
	if err != nil {
		return nil, err
	}
	t.mine = mine
	return t, nil
}

// newTailOf returns a tail of all that is in topics, from their present end on.
func newTailOf(ctx context.Context, log kafkaio.Log, topics []string, show func(event.TopicPartition, int64, []byte)) (*tail, error) {
	t := &tail{log: log, at: map[event.TopicPartition]int64{}, show: show}
	for _, topic := range topics {
		parts, err := log.Partitions(ctx, []string{topic})
		if err != nil {
			return nil, fmt.Errorf("follow results: %w", err)
		}
		for _, p := range parts {
			if _, ok := t.at[p.TopicPartition]; !ok {
				t.at[p.TopicPartition] = 0
				t.order = append(t.order, p.TopicPartition)
			}
		}
	}
	offsets, err := log.Offsets(ctx, t.order)
	if err != nil {
		return nil, fmt.Errorf("follow results: %w", err)
	}
	for tp, o := range offsets {
		t.at[tp] = o.End
	}
	return t, nil
}

// more shows what has been committed since the last call. It is not safe for concurrent use.
func (t *tail) more(ctx context.Context) error {
	offsets, err := t.log.Offsets(ctx, t.order)
	if err != nil {
		return fmt.Errorf("follow results: %w", err)
	}
	for _, tp := range t.order {
		from, to := t.at[tp], offsets[tp].Stable
		if from >= to {
			continue
		}
		err := t.log.Read(ctx, tp, from, to, func(records []event.Record, next int64) error {
			for i := range records {
				t.one(tp, &records[i])
			}
			t.at[tp] = next
			return nil
		})
		if err != nil {
			return fmt.Errorf("follow results: %w", err)
		}
	}
	return nil
}

func (t *tail) one(tp event.TopicPartition, r *event.Record) {
	if t.mine == nil {
		t.show(tp, r.Offset, r.Value)
		return
	}
	var head struct {
		Pipeline string `json:"pipeline"`
	}
	if err := json.Unmarshal(r.Value, &head); err != nil || !t.mine[head.Pipeline] {
		return
	}
	t.show(tp, r.Offset, r.Value)
}
