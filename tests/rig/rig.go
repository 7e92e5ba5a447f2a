// Package rig is the whole of Tidemark in memory, for tests: the real handlers over an in-memory log and any state store, a
// clock that tests set, and results read back as a plain consumer would.
package rig

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log/slog"
	"sort"
	"strconv"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/fire"
	"github.com/llm-auto-optimizer/tidemark/functions/ingest"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio/memlog"
	"github.com/llm-auto-optimizer/tidemark/functions/settings"
	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// World is one running system. Its handlers can be thrown away and made anew at any time, as Lambda does.
type World struct {
	App       *spec.App
	Pipelines []*pipeline.Pipeline
	Log       *memlog.Log
	Store     statestore.Store
	Clock     event.Time
	Low       fire.LowFunc
	Logger    *slog.Logger
	Nudge     apply.Nudge // what RunFire is told

	Ingest *ingest.Handler
	Fire   *fire.Handler
	tokens uint64
}

// New makes the source topics with the given number of partitions, and the handlers.
func New(app *spec.App, store statestore.Store, log *memlog.Log, partitions int32) (*World, error) {
	pipes, err := settings.Compile(app)
	if err != nil {
		return nil, err
	}
	w := &World{App: app, Pipelines: pipes, Log: log, Store: store, Logger: slog.New(slog.DiscardHandler)}
	topics := map[string]int32{spec.LedgerTopic: 1, spec.PanesTopic: 3}
	for _, p := range pipes {
		for _, t := range p.Topics {
			topics[t] = partitions
		}
		topics[p.SinkTopic], topics[p.LateTopic], topics[p.DeadLetterTopic] = 1, 1, 1
	}
	names := make([]string, 0, len(topics))
	for t := range topics {
		names = append(names, t)
	}
	sort.Strings(names)
	for _, t := range names {
		if err := log.CreateTopic(t, topics[t]); err != nil {
			return nil, err
		}
	}
	w.Restart()
	return w, nil
}

// Deploy returns functions of another spec beside those of w, on the same log and store. Their clock is set by itself. The spec
// names the same topics.
func (w *World) Deploy(app *spec.App) (*World, error) {
	pipes, err := settings.Compile(app)
	if err != nil {
		return nil, err
	}
	n := &World{App: app, Pipelines: pipes, Log: w.Log, Store: w.Store, Clock: w.Clock, Low: w.Low, Logger: w.Logger, tokens: w.tokens + 1<<32}
	n.Restart()
	return n, nil
}

// Restart replaces both functions by new ones that remember nothing.
func (w *World) Restart() {
	clock := func() event.Time { return w.Clock }
	w.Ingest = ingest.New(ingest.Deps{App: w.App, Pipelines: w.Pipelines, Store: w.Store, Log: w.Log, Clock: clock, Logger: w.Logger})
	w.Fire = fire.New(fire.Deps{
		App: w.App, Pipelines: w.Pipelines, Store: w.Store, Log: w.Log, Publisher: w.Log, Clock: clock, Logger: w.Logger,
		Low: w.Low, NewToken: w.token,
	})
}

func (w *World) token() (t statestore.Token) {
	w.tokens++
	binary.BigEndian.PutUint64(t[:], w.tokens)
	return t
}

// RunFire runs fire once and returns its first error.
func (w *World) RunFire(ctx context.Context) error {
	for _, r := range w.Fire.Run(ctx, w.Nudge) {
		if r.Err != nil {
			return r.Err
		}
	}
	return nil
}

// Flush folds everything and closes all windows.
func (w *World) Flush(ctx context.Context) error {
	for _, r := range w.Fire.Flush(ctx, nil) {
		if r.Err != nil {
			return r.Err
		}
	}
	return nil
}

// Deliver invokes ingest with records as Lambda would, and returns how many offsets it answered as failed.
func (w *World) Deliver(ctx context.Context, records map[event.TopicPartition][]event.Record) (failed int, err error) {
	answer, err := w.Ingest.Invoke(ctx, Payload(records))
	if err != nil {
		return 0, err
	}
	var got struct {
		BatchItemFailures []json.RawMessage `json:"batchItemFailures"`
	}
	if err := json.Unmarshal(answer, &got); err != nil {
		return 0, fmt.Errorf("answer %s: %w", answer, err)
	}
	return len(got.BatchItemFailures), nil
}

// Payload writes a Lambda Kafka event by means of encoding/json alone, so that it owes nothing to the encoder under test.
func Payload(records map[event.TopicPartition][]event.Record) []byte {
	lists := map[string][]map[string]any{}
	for tp, rs := range records {
		key := tp.Topic + "-" + strconv.Itoa(int(tp.Partition))
		for i := range rs {
			m := map[string]any{
				"topic": tp.Topic, "partition": tp.Partition, "offset": rs[i].Offset, "timestamp": int64(rs[i].Timestamp), "timestampType": "CREATE_TIME",
			}
			if rs[i].Key != nil {
				m["key"] = base64.StdEncoding.EncodeToString(rs[i].Key)
			}
			if rs[i].Value != nil {
				m["value"] = base64.StdEncoding.EncodeToString(rs[i].Value)
			}
			headers := []map[string][]int{}
			for _, h := range rs[i].Headers {
				v := make([]int, len(h.Value))
				for j, b := range h.Value {
					v[j] = int(int8(b))
				}
				headers = append(headers, map[string][]int{h.Key: v})
			}
			m["headers"] = headers
			lists[key] = append(lists[key], m)
		}
	}
	out, err := json.Marshal(map[string]any{
		"eventSource": "aws:kafka", "eventSourceArn": "arn:aws:kafka:us-east-1:123456789012:cluster/test/0", "bootstrapServers": "localhost:9092", "records": lists,
	})
	if err != nil {
		panic(err) // maps of strings and numbers
	}
	return out
}

// Result is a result record, decoded.
type Result struct {
	Pipeline string `json:"pipeline"`
	Window   struct {
		Name    string     `json:"name"`
		Type    string     `json:"type"`
		StartMS event.Time `json:"start_ms"`
		EndMS   event.Time `json:"end_ms"`
	} `json:"window"`
	Key         string `json:"key"`
	KeyEncoding string `json:"key_encoding"`
	Pane        struct {
		Timing     string `json:"timing"`
		Revision   int64  `json:"revision"`
		Index      int64  `json:"index"`
		Supersedes []Out  `json:"supersedes"`
		Retracts   []Out  `json:"retracts"`
	} `json:"pane"`
	Results   map[string]any `json:"results"`
	Timestamp string         `json:"timestamp"`
}

// Out is a pane that a result replaces or takes back.
type Out struct {
	StartMS event.Time     `json:"start_ms"`
	EndMS   event.Time     `json:"end_ms"`
	Index   int64          `json:"index"`
	Results map[string]any `json:"results"`
}

// ParseResults decodes the values of result records, in order.
func ParseResults(records []kafkaio.PublishedRecord) ([]Result, error) {
	out := make([]Result, len(records))
	for i := range records {
		if err := json.Unmarshal(records[i].Value, &out[i]); err != nil {
			return nil, fmt.Errorf("result %d: %q: %w", i, records[i].Value, err)
		}
	}
	return out, nil
}

// Side is a record of the late or the dead letter topic, by its origin.
type Side struct {
	Topic     string
	Partition int32
	Offset    int64
	Reason    string
}

// ParseSide reads where a side record came from, and why it is there, out of its headers.
func ParseSide(records []kafkaio.PublishedRecord) ([]Side, error) {
	out := make([]Side, len(records))
	for i := range records {
		s := &out[i]
		for _, h := range records[i].Headers {
			var err error
			switch h.Key {
			case "tidemark-topic":
				s.Topic = string(h.Value)
			case "tidemark-partition":
				var n int64
				n, err = strconv.ParseInt(string(h.Value), 10, 32)
				s.Partition = int32(n)
			case "tidemark-offset":
				s.Offset, err = strconv.ParseInt(string(h.Value), 10, 64)
			case "tidemark-reason":
				s.Reason = string(h.Value)
			}
			if err != nil {
				return nil, fmt.Errorf("side record %d: header %s: %w", i, h.Key, err)
			}
		}
	}
	return out, nil
}
