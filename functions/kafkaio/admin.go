package kafkaio

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// PublishedRecord is a record together with where it was read.
type PublishedRecord struct {
	event.TopicPartition
	event.Record
}

// CreateTopic makes a topic and waits until all of its partitions have a leader. configs are Kafka's topic settings and may
// be nil; a replication factor of -1 is the broker's default. ErrTopicExists if there is one of that name.
func (c *Client) CreateTopic(ctx context.Context, name string, partitions int32, replication int16, configs map[string]string) error {
	settings := make(map[string]*string, len(configs))
	for k, v := range configs {
		settings[k] = &v
	}
	err := c.kgo.again(func() error {
		_, err := c.adm.CreateTopic(ctx, partitions, replication, settings, name)
		return err
	})
	if errors.Is(err, kerr.TopicAlreadyExists) {
		return fmt.Errorf("create topic %q: %w", name, ErrTopicExists)
	}
	if err != nil {
		return fmt.Errorf("create topic %q: %w", name, err)
	}
	var pause backoff
	for {
		found, err := c.refresh(ctx, []string{name})
		if err != nil {
			return fmt.Errorf("create topic %q: %w", name, err)
		}
		led := int32(0)
		for _, leader := range found[name].leaders {
			if leader >= 0 {
				led++
			}
		}
		if led == partitions {
			return nil
		}
		if err := pause.wait(ctx); err != nil {
			return fmt.Errorf("create topic %q: %d of %d partitions have a leader: %w", name, led, partitions, err)
		}
	}
}

// DeleteTopics deletes topics with all they hold. ErrUnknownTopic names one that does not exist; the others are deleted.
// Brokers finish it in the background: a topic of the same name cannot be made at once.
func (c *Client) DeleteTopics(ctx context.Context, names ...string) error {
	resp, err := c.adm.DeleteTopics(ctx, names...)
	if err != nil {
		return fmt.Errorf("delete topics %q: %w", names, err)
	}
	var errs []error
	for _, r := range resp.Sorted() {
		if r.Err != nil {
			errs = append(errs, fmt.Errorf("delete topic %q: %w", r.Topic, classify(r.Err)))
		}
		c.forget(r.Topic)
	}
	return errors.Join(errs...)
}

// DeleteRecords removes what lies before an offset, which must not be above the high watermark: Offsets.Start becomes before.
func (c *Client) DeleteRecords(ctx context.Context, p event.TopicPartition, before int64) error {
	offsets := kadm.Offsets{}
	offsets.AddOffset(p.Topic, p.Partition, before, -1)
	resp, err := c.adm.DeleteRecords(ctx, offsets)
	if err == nil {
		err = resp.Error()
	}
	if err != nil {
		return fmt.Errorf("delete records of %s/%d before %d: %w", p.Topic, p.Partition, before, classify(err))
	}
	return nil
}

// Produce publishes outside of any transaction, idempotently, and waits until all messages are acknowledged. After an error
// some may have been published.
func (c *Client) Produce(ctx context.Context, messages []Message) error {
	if _, err := produce(ctx, c.kgo.Client, messages); err != nil {
		return fmt.Errorf("produce: %w", classify(err))
	}
	return nil
}

// ReadAll returns what a topic holds, read_committed, up to the end offsets at the moment of the call, by partition and
// offset. It waits for transactions that are open there. The caller owns the result; it must fit into memory.
func (c *Client) ReadAll(ctx context.Context, topic string) ([]PublishedRecord, error) {
	return ReadAll(ctx, c, topic)
}

// ReadAll does over any Log what Client.ReadAll says.
func ReadAll(ctx context.Context, log Log, topic string) ([]PublishedRecord, error) {
	partitions, err := log.Partitions(ctx, []string{topic})
	if err != nil {
		return nil, fmt.Errorf("read all of %q: %w", topic, err)
	}
	tps := make([]event.TopicPartition, len(partitions))
	for i, p := range partitions {
		tps[i] = p.TopicPartition
	}
	offsets, err := log.Offsets(ctx, tps)
	if err != nil {
		return nil, fmt.Errorf("read all of %q: %w", topic, err)
	}
	var all []PublishedRecord
	for _, tp := range tps {
		o := offsets[tp]
		err := log.Read(ctx, tp, o.Start, o.End, func(records []event.Record, _ int64) error {
			for _, r := range records {
				all = append(all, PublishedRecord{tp, CloneRecord(r)})
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read all of %q: %w", topic, err)
		}
	}
	return all, nil
}

// CloneRecord copies a record with all its bytes; what is nil stays nil, what is empty stays empty.
func CloneRecord(r event.Record) event.Record {
	r.Key, r.Value = clone(r.Key), clone(r.Value)
	if r.Headers != nil {
		headers := make([]event.Header, len(r.Headers))
		for i, h := range r.Headers {
			headers[i] = event.Header{Key: h.Key, Value: clone(h.Value)}
		}
		r.Headers = headers
	}
	return r
}

func clone(b []byte) []byte {
	if b == nil {
		return nil
	}
	return append(make([]byte, 0, len(b)), b...)
}

// ConsumeOptions say what Consume delivers. The zero value: all that is committed, from the start of the topics.
type ConsumeOptions struct {
	FromEnd     bool // only what is published from now on
	Uncommitted bool // also records of transactions that are open or aborted
}

// Consume follows topics until ctx ends, whose error it returns, or fn fails. It commits nothing. The records of a call
// belong to fn; within a partition they are in order. A topic that does not exist yet is followed once it does.
func (c *Client) Consume(ctx context.Context, topics []string, o ConsumeOptions, fn func([]PublishedRecord) error) error {
	at, isolation := kgo.NewOffset().AtStart(), kgo.ReadCommitted()
	if o.FromEnd {
		at = kgo.NewOffset().AtEnd()
	}
	if o.Uncommitted {
		isolation = kgo.ReadUncommitted()
	}
	cl, err := c.opts.connect(
		kgo.ConsumeTopics(topics...),
		kgo.ConsumeStartOffset(at),
		kgo.FetchIsolationLevel(isolation),
		kgo.FetchMaxWait(500*time.Millisecond),
		kgo.FetchMaxPartitionBytes(c.opts.FetchBytes),
	)
	if err != nil {
		return fmt.Errorf("consume %q: %w", topics, err)
	}
	defer cl.Close()
	for {
		fetches := cl.PollRecords(ctx, RunRecords)
		if err := ctx.Err(); err != nil {
			return err
		}
		for _, e := range fetches.Errors() {
			if !kerr.IsRetriable(e.Err) && !isUnknownTopic(e.Err) {
				return fmt.Errorf("consume %s/%d: %w", e.Topic, e.Partition, classify(e.Err))
			}
		}
		records := make([]PublishedRecord, 0, fetches.NumRecords())
		for r := range fetches.RecordsAll() {
			tp := event.TopicPartition{Topic: r.Topic, Partition: r.Partition}
			records = append(records, PublishedRecord{tp, toRecord(r)})
		}
		if len(records) == 0 {
			continue
		}
		if err := fn(records); err != nil {
			return err
		}
	}
}
