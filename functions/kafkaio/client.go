package kafkaio

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// MaxMetadata is how many bytes of metadata an offset commit may carry: the broker's default offset.metadata.max.bytes.
const MaxMetadata = 4096

// Sentinels beside those of the contract.
var (
	// ErrTopicExists is returned by CreateTopic.
	ErrTopicExists = errors.New("kafkaio: topic exists")
	// ErrSessionState is returned when a session is used out of order: no transaction was begun, one was begun twice,
	// nothing was produced, or the session failed before. Nothing was sent to the broker.
	ErrSessionState = errors.New("kafkaio: session used out of order")
	// ErrMetadataTooLarge is returned by CommitOffsets for more than MaxMetadata bytes. Nothing was sent to the broker.
	ErrMetadataTooLarge = errors.New("kafkaio: metadata of an offset is too large")
)

// Client talks to a Kafka cluster: it is a Log and a Publisher, and it has the few administrative operations that the local
// environment and tests need. One connection pool serves all but transactions, which have a client of their own each.
// It is safe for concurrent use.
type Client struct {
	opts Options
	kgo  wire
	adm  *kadm.Client

	decompressor kgo.Decompressor

	mu     sync.Mutex
	topics map[string]topicInfo // as of the last metadata that named the topic
}

var (
	_ Log       = (*Client)(nil)
	_ Publisher = (*Client)(nil)
)

// topicInfo is what metadata says of a topic. Values are not changed after they are stored.
type topicInfo struct {
	id      [16]byte
	leaders map[int32]int32 // partition -> broker, -1 while there is none
}

// Open returns a client, after one request that shows that a broker answers.
func Open(ctx context.Context, o Options) (*Client, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("kafkaio: options: %w", err)
	}
	cl, err := o.connect()
	if err != nil {
		return nil, fmt.Errorf("kafkaio: options: %w", err)
	}
	if err := cl.Ping(ctx); err != nil {
		cl.Close()
		return nil, fmt.Errorf("connect to %v: %w", o.Brokers, err)
	}
	return &Client{
		opts:         o,
		kgo:          cl,
		adm:          kadm.NewClient(cl.Client),
		decompressor: kgo.DefaultDecompressor(),
		topics:       map[string]topicInfo{},
	}, nil
}

// Close ends all connections. Sessions that are open have to be closed by their owners.
func (c *Client) Close() { c.kgo.Close() }

// refresh asks for the metadata of topics and returns what it says of those that exist; those that do not are absent, also
// from the cache afterwards.
func (c *Client) refresh(ctx context.Context, topics []string) (map[string]topicInfo, error) {
	req := kmsg.NewPtrMetadataRequest()
	req.AllowAutoTopicCreation = false
	for _, name := range topics {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = new(name)
		req.Topics = append(req.Topics, t)
	}
	found := make(map[string]topicInfo, len(topics))
	if len(topics) == 0 {
		return found, nil // an empty list would ask for all topics of the cluster
	}
	resp, err := req.RequestWith(ctx, c.kgo)
	if err != nil {
		return nil, fmt.Errorf("metadata of %q: %w", topics, err)
	}
	for _, t := range resp.Topics {
		if t.Topic == nil {
			continue
		}
		switch err := kerr.ErrorForCode(t.ErrorCode); {
		case err == nil, errors.Is(err, kerr.LeaderNotAvailable):
			info := topicInfo{id: t.TopicID, leaders: make(map[int32]int32, len(t.Partitions))}
			for _, p := range t.Partitions {
				info.leaders[p.Partition] = p.Leader
			}
			found[*t.Topic] = info
		case isUnknownTopic(err):
		default:
			return nil, fmt.Errorf("metadata of %q: %w", *t.Topic, err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range topics {
		delete(c.topics, name)
	}
	maps.Copy(c.topics, found)
	return found, nil
}

// topic returns what is known of a topic, asking only if nothing is.
func (c *Client) topic(ctx context.Context, name string) (topicInfo, error) {
	c.mu.Lock()
	info, ok := c.topics[name]
	c.mu.Unlock()
	if ok {
		return info, nil
	}
	found, err := c.refresh(ctx, []string{name})
	if err != nil {
		return topicInfo{}, err
	}
	info, ok = found[name]
	if !ok {
		return topicInfo{}, fmt.Errorf("%q: %w", name, ErrUnknownTopic)
	}
	return info, nil
}

// forget drops what is known of a topic.
func (c *Client) forget(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.topics, name)
}

// known returns all partitions of the topics that this client has seen.
func (c *Client) known() map[string]topicInfo {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.topics)
}

// isUnknownTopic reports whether a broker has said that it does not know a topic, by name or by id.
func isUnknownTopic(err error) bool {
	return errors.Is(err, kerr.UnknownTopicOrPartition) || errors.Is(err, kerr.UnknownTopicID) || errors.Is(err, kerr.InvalidTopicException)
}

// isFenced reports whether a broker has said that a newer producer has the transactional id.
func isFenced(err error) bool {
	return errors.Is(err, kerr.ProducerFenced) || errors.Is(err, kerr.InvalidProducerEpoch)
}

// classify adds the sentinel of this package that a broker's error stands for.
func classify(err error) error {
	switch {
	case err == nil:
		return nil
	case isAuthentication(err):
		return authentication(err)
	case isUnknownTopic(err):
		return fmt.Errorf("%w: %w", ErrUnknownTopic, err)
	case errors.Is(err, kerr.OffsetOutOfRange):
		return fmt.Errorf("%w: %w", ErrOutOfRange, err)
	case isFenced(err):
		return fmt.Errorf("%w: %w", ErrFenced, err)
	case errors.Is(err, kerr.MessageTooLarge), errors.Is(err, kerr.RecordListTooLarge):
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	case errors.Is(err, kerr.OffsetMetadataTooLarge):
		return fmt.Errorf("%w: %w", ErrMetadataTooLarge, err)
	}
	if limited := limits(err); limited != nil {
		return limited
	}
	return err
}

// backoff paces the repetition of an operation: 1 ms, doubling up to 100 ms. The zero value is ready.
type backoff struct{ next time.Duration }

// wait returns after the pause, or with the context's error.
func (b *backoff) wait(ctx context.Context) error {
	b.next = min(max(2*b.next, time.Millisecond), 100*time.Millisecond)
	t := time.NewTimer(b.next)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// repeat calls fn, which may be done twice, until it succeeds, its error cannot go away, or ctx ends. It waits as long as ctx
// allows for a transaction to end, and at most limit for brokers to find their leaders again.
func repeat(ctx context.Context, limit time.Duration, fn func() error) error {
	var pause backoff
	giveUp := time.Now().Add(limit)
	for {
		err := fn()
		switch {
		case err == nil:
			return nil
		case errors.Is(err, kerr.ConcurrentTransactions), errors.Is(err, kerr.UnstableOffsetCommit):
		case kerr.IsRetriable(err) && !isUnknownTopic(err) && time.Now().Before(giveUp):
		default:
			return err
		}
		if werr := pause.wait(ctx); werr != nil {
			return fmt.Errorf("%w (%w)", werr, err)
		}
	}
}

// toRecord converts without copying.
func toRecord(r *kgo.Record) event.Record {
	rec := event.Record{Offset: r.Offset, Timestamp: event.FromGo(r.Timestamp), Key: r.Key, Value: r.Value}
	if len(r.Headers) > 0 {
		rec.Headers = make([]event.Header, len(r.Headers))
		for i, h := range r.Headers {
			rec.Headers[i] = event.Header{Key: h.Key, Value: h.Value}
		}
	}
	return rec
}
