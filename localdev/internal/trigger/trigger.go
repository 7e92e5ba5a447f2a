// Package trigger invokes ingest with batches of records as a Kafka event source mapping of Lambda does: a consumer group reads
// the topics, a payload holds several partitions, and offsets are committed once a batch has been answered.
package trigger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/functions/esm"
)

// Options of a trigger.
type Options struct {
	Brokers   []string
	Group     string
	Topics    []string
	BatchSize int
	FromEnd   bool // where the group has no offset: only what comes from now on
	Invoke    func(ctx context.Context, payload []byte) ([]byte, error)
	Logger    *slog.Logger
	// Delivered, if not nil, is told of every batch that was answered, with the number of records in it.
	Delivered func(records int)
}

// Pauses between tries of a batch that failed.
const (
	firstPause = 100 * time.Millisecond
	mostPause  = 5 * time.Second
)

// deadline is what an invocation gets, as a function's time-out does.
const deadline = time.Minute

// Run delivers until ctx ends. It returns nil then; any error means that it could not start.
func Run(ctx context.Context, o Options) error {
	reset := kgo.NewOffset().AtStart()
	if o.FromEnd {
		reset = kgo.NewOffset().AtEnd()
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(o.Brokers...), kgo.ConsumerGroup(o.Group), kgo.ConsumeTopics(o.Topics...), kgo.ConsumeResetOffset(reset),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(), kgo.FetchMaxWait(500*time.Millisecond),
		kgo.ClientID("tidemark-trigger"))
	if err != nil {
		return fmt.Errorf("trigger: %w", err)
	}
	defer cl.Close()
	t := trigger{Options: o, client: cl}
	for ctx.Err() == nil {
		fetches := cl.PollRecords(ctx, o.BatchSize)
		fetches.EachError(func(topic string, p int32, err error) {
			if !errors.Is(err, context.Canceled) {
				o.Logger.Warn("trigger: fetch", "topic", topic, "partition", p, "error", err)
			}
		})
		if records := fetches.Records(); len(records) > 0 {
			t.deliver(ctx, records)
		}
		cl.AllowRebalance()
	}
	return nil
}

type trigger struct {
	Options
	client *kgo.Client
	buf    []byte
}

// deliver invokes until every record of the batch is applied, delivering again what was answered as failed. Partitions that
// make no progress hold up the others of the batch, as they do in Lambda.
func (t *trigger) deliver(ctx context.Context, records []*kgo.Record) {
	pause := firstPause
	for len(records) > 0 && ctx.Err() == nil {
		failed, err := t.invoke(ctx, records)
		if err != nil {
			t.Logger.Warn("trigger: invocation failed, delivering again", "records", len(records), "error", err)
			failed = records
		}
		done := subtract(records, failed)
		if len(done) > 0 {
			if err := t.client.CommitRecords(ctx, done...); err != nil && ctx.Err() == nil {
				t.Logger.Warn("trigger: commit", "error", err)
			}
			if t.Delivered != nil {
				t.Delivered(len(done))
			}
			pause = firstPause
		}
		if records = failed; len(records) == 0 {
			return
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
		case <-timer.C:
		}
		pause = min(2*pause, mostPause)
	}
}

// invoke delivers once and returns the records that were answered as failed.
func (t *trigger) invoke(ctx context.Context, records []*kgo.Record) ([]*kgo.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	t.buf = esm.AppendEvent(t.buf[:0], esm.Event{Source: esm.SourceSelfManaged, BootstrapServers: t.Brokers[0], Batches: batches(records)})
	answer, err := t.Invoke(ctx, t.buf)
	if err != nil {
		return nil, err
	}
	var got struct {
		BatchItemFailures []struct {
			ItemIdentifier struct {
				Partition string `json:"partition"`
				Offset    int64  `json:"offset"`
			} `json:"itemIdentifier"`
		} `json:"batchItemFailures"`
	}
	if err := json.Unmarshal(answer, &got); err != nil {
		return nil, fmt.Errorf("answer %q: %w", answer, err)
	}
	// From the first failed offset on: a partition is never taken up behind a record that failed.
	first := map[string]int64{}
	for _, f := range got.BatchItemFailures {
		id := f.ItemIdentifier
		if o, ok := first[id.Partition]; !ok || id.Offset < o {
			first[id.Partition] = id.Offset
		}
	}
	var failed []*kgo.Record
	for _, r := range records {
		if o, ok := first[r.Topic+"-"+strconv.Itoa(int(r.Partition))]; ok && r.Offset >= o {
			failed = append(failed, r)
		}
	}
	return failed, nil
}

// batches groups records by partition; they are in order already.
func batches(records []*kgo.Record) []esm.Batch {
	var out []esm.Batch
	at := map[event.TopicPartition]int{}
	for _, r := range records {
		tp := event.TopicPartition{Topic: r.Topic, Partition: r.Partition}
		i, ok := at[tp]
		if !ok {
			i = len(out)
			at[tp] = i
			out = append(out, esm.Batch{TopicPartition: tp})
		}
		rec := event.Record{Offset: r.Offset, Timestamp: event.FromGo(r.Timestamp), Key: r.Key, Value: r.Value}
		for _, h := range r.Headers {
			rec.Headers = append(rec.Headers, event.Header{Key: h.Key, Value: h.Value})
		}
		out[i].Records = append(out[i].Records, rec)
	}
	return out
}

func subtract(all, failed []*kgo.Record) []*kgo.Record {
	if len(failed) == 0 {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), func(r *kgo.Record) bool { return slices.Contains(failed, r) })
}
