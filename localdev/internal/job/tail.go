package job

import (
	"context"
	"encoding/json"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/follow"
)

// newTail returns a tail of an app's results that begins at the present end of the topics. A topic may be shared with others: only
// results of the app's pipelines are shown.
func newTail(ctx context.Context, log kafkaio.Log, app *spec.App, show func(event.TopicPartition, int64, []byte)) (*follow.Tail, error) {
	mine := map[string]bool{}
	var topics []string
	for i := range app.Pipelines {
		mine[app.Pipelines[i].Name] = true
		topics = append(topics, app.Pipelines[i].SinkTopic)
	}
	return newTailOf(ctx, log, topics, func(tp event.TopicPartition, offset int64, value []byte) {
		var head struct {
			Pipeline string `json:"pipeline"`
		}
		if err := json.Unmarshal(value, &head); err == nil && mine[head.Pipeline] {
			show(tp, offset, value)
		}
	})
}

// newTailOf returns a tail of all that is in topics, from their present end on.
func newTailOf(ctx context.Context, log kafkaio.Log, topics []string, show func(event.TopicPartition, int64, []byte)) (*follow.Tail, error) {
	t := follow.New(follow.Options{Log: log, Topics: topics, Take: func(tp event.TopicPartition, r *event.Record) { show(tp, r.Offset, r.Value) }})
	if err := t.Begin(ctx); err != nil {
		return nil, err
	}
	return t, nil
}
