// Package trigger invokes ingest with batches of records as a Kafka event source mapping of Lambda does: a consumer group reads
// the topics, a payload holds several partitions, and offsets are committed once a batch has been answered.
package trigger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/functions/esm"
)

// Pauses between tries of records that failed.
const (
	firstPause = 100 * time.Millisecond
	mostPause  = 5 * time.Second
)

const (
	// deadline is what an invocation gets, as a function's time-out does.
	deadline = time.Minute
	// grace is how long an invocation under way may go on once the trigger is to end.
	grace = 3 * time.Second
	// commitWithin bounds a commit of offsets. One that fails costs a redelivery.
	commitWithin = 5 * time.Second
)

// Run delivers until ctx ends, and returns nil then; an error means that it could not start. An invocation that is under way
// when ctx ends is waited for, up to three seconds.
func Run(ctx context.Context, o Options) error {
	o, err := o.complete()
	if err != nil {
		return err
	}
	if o.Start == Latest {
		if err := beginAtEnd(ctx, o); err != nil {
			return fmt.Errorf("trigger: %w", err)
		}
	}
	if o.Hooks.Begun != nil {
		o.Hooks.Begun()
	}
	t := &trigger{Options: o, owned: map[event.TopicPartition]bool{}, held: map[event.TopicPartition]*held{}}
	cl, err := kgo.NewClient(kgo.SeedBrokers(o.Brokers...), kgo.ConsumerGroup(o.Group), kgo.ConsumeTopics(o.Topics...),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(), kgo.FetchMaxWait(500*time.Millisecond), kgo.ClientID("tidemark-trigger"), kgo.SessionTimeout(sessionTimeout), kgo.HeartbeatInterval(sessionTimeout/3),
		kgo.OnPartitionsAssigned(t.assigned), kgo.OnPartitionsRevoked(t.released), kgo.OnPartitionsLost(t.released))
	if err != nil {
		return fmt.Errorf("trigger: %w", err)
	}
	defer cl.CloseAllowingRebalance()
	t.client = cl
	for ctx.Err() == nil {
		t.round(ctx)
		cl.AllowRebalance()
	}
	return nil
}

// sessionTimeout is how long the group waits for a member that died: the least that brokers allow by default. A run that is started
// again after a kill gets its partitions only then. (session_timeout_ms of a spec is for clients that live longer than one run.)
const sessionTimeout = 6 * time.Second

type trigger struct {
	Options
	client  *kgo.Client
	encoder esm.Encoder
	buf     []byte

	mu    sync.Mutex // the client calls assigned and released from another goroutine
	owned map[event.TopicPartition]bool
	held  map[event.TopicPartition]*held
}

// held is a partition with records that were answered as failed: it is not fetched until they are applied, so that its order
// is kept, and the other partitions go on.
type held struct {
	records []*kgo.Record
	pause   time.Duration // before the next try but this one
	due     time.Time
}

// round polls once and delivers what came, and what is due again.
func (t *trigger) round(ctx context.Context) {
	pollCtx, cancel := ctx, func() {}
	if at, ok := t.nextDue(); ok {
		pollCtx, cancel = context.WithDeadline(ctx, at)
	}
	fetches := t.client.PollRecords(pollCtx, t.BatchSize)
	cancel()
	fetches.EachError(func(topic string, p int32, err error) {
		if !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
			t.Logger.Warn("trigger: fetch", "topic", topic, "partition", p, "error", err)
		}
	})
	for records := t.takeDue(); records != nil && ctx.Err() == nil; records = t.takeDue() {
		t.deliver(ctx, records)
	}
	t.deliver(ctx, fetches.Records())
}

// deliver invokes with the records in as few payloads as Lambda's limit allows, commits what was applied and holds the rest.
func (t *trigger) deliver(ctx context.Context, records []*kgo.Record) {
	records = t.withhold(records)
	for len(records) > 0 && ctx.Err() == nil {
		n := t.encode(records)
		part := records[:n]
		answer, err := t.invoke(ctx)
		var failures map[string]int64
		if err == nil {
			failures, err = Failures(answer)
		}
		if err != nil && ctx.Err() == nil {
			t.Logger.Warn("trigger: invocation failed, delivering again", "records", n, "error", err)
		}
		done, failed := part, []*kgo.Record(nil)
		switch {
		case err != nil:
			done, failed = nil, part
		case len(failures) > 0:
			done, failed = split(part, failures)
		}
		t.commit(ctx, done)
		t.hold(done, failed)
		records = t.withhold(records[n:])
	}
}

// encode writes the records that fit into one payload, at least one, and returns how many they are.
func (t *trigger) encode(records []*kgo.Record) int {
	t.encoder.Source, t.encoder.BootstrapServers = esm.SourceSelfManaged, t.Brokers[0]
	t.encoder.Reset()
	n := 0
	for _, r := range records {
		rec := toRecord(r)
		t.encoder.Add(partitionOf(r), &rec, esm.DefaultInfo(&rec))
		if n++; t.encoder.Len() > esm.MaxPayload*9/10 {
			break // a record has at most 1 MB where brokers have their usual limit
		}
	}
	t.buf = t.encoder.AppendTo(t.buf[:0])
	return n
}

func (t *trigger) invoke(ctx context.Context) ([]byte, error) {
	call, cancel := context.WithTimeout(context.WithoutCancel(ctx), deadline)
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(grace, cancel)
		context.AfterFunc(call, func() { timer.Stop() })
	})
	defer stop()
	return t.Invoke(call, t.buf)
}

func (t *trigger) commit(ctx context.Context, done []*kgo.Record) {
	if len(done) == 0 {
		return
	}
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitWithin)
	defer cancel()
	if err := t.client.CommitRecords(within, done...); err != nil {
		t.Logger.Warn("trigger: commit of offsets, what was applied will be delivered again", "error", err)
	}
	if t.Hooks.Answered != nil {
		t.Hooks.Answered(Answered{Done: len(done)})
	}
}

// Failures reads a partial-batch answer: by partition, as its entry in the payload is named, the first offset that was not
// applied. A partition is never taken up behind a record that failed.
func Failures(answer []byte) (map[string]int64, error) {
	var got struct {
		BatchItemFailures []struct {
			ItemIdentifier struct {
				Partition string `json:"partition"`
				Offset    int64  `json:"offset"`
			} `json:"itemIdentifier"`
		} `json:"batchItemFailures"`
	}
	if err := json.Unmarshal(answer, &got); err != nil {
		return nil, fmt.Errorf("answer %.200q: %w", answer, err)
	}
	first := map[string]int64{}
	for _, f := range got.BatchItemFailures {
		id := f.ItemIdentifier
		if o, ok := first[id.Partition]; !ok || id.Offset < o {
			first[id.Partition] = id.Offset
		}
	}
	return first, nil
}

// split divides records into those below the first failed offset of their partition and the others.
func split(records []*kgo.Record, failures map[string]int64) (done, failed []*kgo.Record) {
	for _, r := range records {
		if first, ok := failures[r.Topic+"-"+strconv.Itoa(int(r.Partition))]; ok && r.Offset >= first {
			failed = append(failed, r)
		} else {
			done = append(done, r)
		}
	}
	return done, failed
}

func partitionOf(r *kgo.Record) event.TopicPartition {
	return event.TopicPartition{Topic: r.Topic, Partition: r.Partition}
}

func toRecord(r *kgo.Record) event.Record {
	rec := event.Record{Offset: r.Offset, Timestamp: event.FromGo(r.Timestamp), Key: r.Key, Value: r.Value}
	for _, h := range r.Headers {
		rec.Headers = append(rec.Headers, event.Header{Key: h.Key, Value: h.Value})
	}
	return rec
}
