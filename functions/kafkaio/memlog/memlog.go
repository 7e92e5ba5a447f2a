// Package memlog is a Kafka in memory, as far as kafkaio's contract goes: topics with offsets and control markers, group
// offsets, and a transaction coordinator that fences. It is what replay, the simulation and tests of the functions run on.
//
// It is deterministic: the same calls in the same order give the same offsets, topic ids and answers. It reads no clock but
// the one it is given, has no timeouts (a transaction whose owner is gone stays open until Open is called with its id) and
// starts no goroutine.
package memlog

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
)

// Next as a record's offset means the next offset of its partition.
const Next int64 = -1

// Options of a Log. The zero value behaves as a broker does.
type Options struct {
	// NoMarkers leaves out the control record that the end of a transaction puts into each of its partitions, so that
	// published records have consecutive offsets.
	NoMarkers bool
	// SingleUse makes Session.Reusable answer false, as where transaction.version is below 2.
	SingleUse bool
	// NoTransactions makes a log without them: what sessions produce is visible at once, and offsets are committed by End alone.
	// See kafkaio.IsAtOnce.
	NoTransactions bool
	// Scribble overwrites the records that Read has handed out once its function has returned, so that a caller which
	// keeps them is found out.
	Scribble bool
	// Now stamps messages that have no timestamp of their own. Default: the machine's clock.
	Now func() event.Time
	// Hook is called before and after every operation, without a lock held, with the operation's name and ":before" or
	// ":after" (see the Op constants). An error of the first means that the operation does not happen, of the second that it
	// has happened, and in both cases the caller gets the error; that of an End wraps kafkaio.ErrUnknownOutcome.
	// It is called from the goroutine of the operation and may use the Log itself.
	Hook func(op string) error
}

// The operations that Options.Hook is told of.
const (
	OpPartitions = "partitions"
	OpOffsets    = "offsets"
	OpRead       = "read" // after: all runs have been handed out
	OpGroup      = "group"
	OpGroups     = "groups"
	OpOffsetsAt  = "offsets_at"
	OpOpen       = "open" // after: older sessions are fenced, but the caller has no session
	OpBegin      = "begin"
	OpProduce    = "produce"
	OpCommit     = "commit_offsets"
	OpEnd        = "end" // after: committed, but the caller gets an error
	OpClose      = "close"
)

// Log is all topics, groups and transactional ids. It is safe for concurrent use.
type Log struct {
	opts Options

	mu      sync.Mutex
	changed chan struct{} // closed and replaced whenever something becomes stable or is appended
	topics  map[string]*topic
	born    int // topics made so far
	groups  map[string]map[event.TopicPartition]kafkaio.Committed
	owners  map[string]*session // transactional id -> its newest session
	open    map[*txn]struct{}
	firers  map[string]*atOnce // the same as owners, without transactions
}

var (
	_ kafkaio.Log       = (*Log)(nil)
	_ kafkaio.Publisher = (*Log)(nil)
)

type topic struct {
	id         [16]byte
	partitions []*partition
}

// partition is the log of one partition. entries ascend in offset, all are in [start, end); what is missing there is a hole.
type partition struct {
	entries []entry
	start   int64
	end     int64
}

// entry is a record or a control marker.
type entry struct {
	rec    event.Record
	txn    *txn // nil: published outside of a transaction
	marker bool
}

// New returns an empty log.
func New(o Options) *Log {
	if o.Now == nil {
		o.Now = func() event.Time { return event.FromGo(time.Now()) }
	}
	return &Log{
		opts:    o,
		changed: make(chan struct{}),
		topics:  map[string]*topic{},
		groups:  map[string]map[event.TopicPartition]kafkaio.Committed{},
		owners:  map[string]*session{},
		open:    map[*txn]struct{}{},
		firers:  map[string]*atOnce{},
	}
}

// hook runs the fault injection of one side of an operation.
func (l *Log) hook(op, side string) error {
	if l.opts.Hook == nil {
		return nil
	}
	if err := l.opts.Hook(op + ":" + side); err != nil {
		return fmt.Errorf("memlog: %s:%s: %w", op, side, err)
	}
	return nil
}

// notify wakes all that wait. The lock is held.
func (l *Log) notify() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// CreateTopic makes a topic. kafkaio.ErrTopicExists if there is one of that name.
func (l *Log) CreateTopic(name string, partitions int32) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.topics[name]; ok {
		return fmt.Errorf("create topic %q: %w", name, kafkaio.ErrTopicExists)
	}
	if name == "" || partitions <= 0 {
		return fmt.Errorf("create topic %q with %d partitions: a name and at least one partition are needed", name, partitions)
	}
	l.born++
	t := &topic{}
	sum := sha256.Sum256([]byte(name + "/" + strconv.Itoa(l.born)))
	copy(t.id[:], sum[:])
	for range partitions {
		t.partitions = append(t.partitions, &partition{})
	}
	l.topics[name] = t
	return nil
}

// AddPartitions gives a topic more partitions: to is their new number.
func (l *Log) AddPartitions(name string, to int32) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	t, ok := l.topics[name]
	if !ok {
		return fmt.Errorf("add partitions to %q: %w", name, kafkaio.ErrUnknownTopic)
	}
	if int(to) <= len(t.partitions) {
		return fmt.Errorf("add partitions to %q: has %d, asked for %d", name, len(t.partitions), to)
	}
	for len(t.partitions) < int(to) {
		t.partitions = append(t.partitions, &partition{})
	}
	return nil
}

// DeleteTopic removes a topic and what groups have committed for it, as brokers do. One that is made again under the same
// name has another id.
func (l *Log) DeleteTopic(name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.topics[name]; !ok {
		return fmt.Errorf("delete topic %q: %w", name, kafkaio.ErrUnknownTopic)
	}
	delete(l.topics, name)
	for _, offsets := range l.groups {
		maps.DeleteFunc(offsets, func(tp event.TopicPartition, _ kafkaio.Committed) bool { return tp.Topic == name })
	}
	l.notify()
	return nil
}

// Append publishes records outside of any transaction and copies them. A record's offset is its own, at or beyond the end of
// the partition, so that holes can be made; or Next. A timestamp of 0 is kept. On an error nothing is appended.
func (l *Log) Append(topic string, p int32, records ...event.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	tp := event.TopicPartition{Topic: topic, Partition: p}
	part, err := l.partition(tp)
	if err != nil {
		return fmt.Errorf("append: %w", err)
	}
	end := part.end
	added := make([]entry, 0, len(records))
	for _, r := range records {
		if r.Offset == Next {
			r.Offset = end
		}
		if r.Offset < end {
			return fmt.Errorf("append to %s/%d: offset %d is below the end %d: %w", topic, p, r.Offset, end, kafkaio.ErrOutOfRange)
		}
		end = r.Offset + 1
		added = append(added, entry{rec: kafkaio.CloneRecord(r)})
	}
	part.entries, part.end = append(part.entries, added...), end
	l.notify()
	return nil
}

// Produce publishes messages outside of any transaction, with partitions, offsets and timestamps as a session gives them.
func (l *Log) Produce(_ context.Context, messages []kafkaio.Message) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.append(nil, messages); err != nil {
		return fmt.Errorf("produce: %w", err)
	}
	return nil
}

// append publishes messages in a transaction, or in none; all or nothing. The lock is held.
func (l *Log) append(t *txn, messages []kafkaio.Message) ([]kafkaio.Position, error) {
	positions := make([]kafkaio.Position, len(messages))
	for i, m := range messages {
		top, ok := l.topics[m.Topic]
		if !ok {
			return nil, fmt.Errorf("message %d to %q: %w", i, m.Topic, kafkaio.ErrUnknownTopic)
		}
		n := int32(len(top.partitions))
		p := m.Partition
		switch {
		case p >= n:
			return nil, fmt.Errorf("message %d to %s/%d, which has %d partitions: %w", i, m.Topic, p, n, kafkaio.ErrUnknownTopic)
		case p < 0 && m.Key == nil:
			p = 0
		case p < 0:
			p = kafkaio.KeyPartition(m.Key, n)
		}
		positions[i].TopicPartition = event.TopicPartition{Topic: m.Topic, Partition: p}
	}
	for i, m := range messages {
		part := l.topics[m.Topic].partitions[positions[i].Partition]
		ts := m.Timestamp
		if ts == 0 {
			ts = l.opts.Now()
		}
		r := event.Record{Offset: part.end, Timestamp: ts, Key: m.Key, Value: m.Value, Headers: m.Headers}
		part.entries = append(part.entries, entry{rec: kafkaio.CloneRecord(r), txn: t})
		positions[i].Offset = part.end
		if t != nil {
			t.touch(positions[i])
		}
		part.end++
	}
	l.notify()
	return positions, nil
}

// Truncate removes what lies before start, as retention does. start is at most the end of the partition; what lies before the
// log's start already is no error.
func (l *Log) Truncate(tp event.TopicPartition, start int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	part, err := l.partition(tp)
	if err != nil {
		return fmt.Errorf("truncate: %w", err)
	}
	if start > part.end {
		return fmt.Errorf("truncate %s/%d at %d, beyond its end %d: %w", tp.Topic, tp.Partition, start, part.end, kafkaio.ErrOutOfRange)
	}
	part.start = max(part.start, start)
	part.entries = slices.Clone(part.entries[part.find(part.start):])
	return nil
}

// SetGroup commits offsets of a group outside of any transaction, as a consumer does.
func (l *Log) SetGroup(group string, offsets map[event.TopicPartition]kafkaio.Committed) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.commitGroup(group, offsets)
}

// commitGroup has the lock held.
func (l *Log) commitGroup(group string, offsets map[event.TopicPartition]kafkaio.Committed) {
	if l.groups[group] == nil {
		l.groups[group] = make(map[event.TopicPartition]kafkaio.Committed, len(offsets))
	}
	maps.Copy(l.groups[group], offsets)
}

// DeleteGroup forgets what a group has committed.
func (l *Log) DeleteGroup(group string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.groups, group)
}

// Stored is a record with where it is.
type Stored = kafkaio.PublishedRecord

// Records returns the committed records of a topic by partition and offset, without waiting: transactions that are open are
// left out. Nil for a topic that does not exist. The caller owns the result.
func (l *Log) Records(topic string) []Stored {
	l.mu.Lock()
	defer l.mu.Unlock()
	t, ok := l.topics[topic]
	if !ok {
		return nil
	}
	var all []Stored
	for p, part := range t.partitions {
		for _, e := range part.entries {
			if e.visible() {
				tp := event.TopicPartition{Topic: topic, Partition: int32(p)}
				all = append(all, Stored{TopicPartition: tp, Record: kafkaio.CloneRecord(e.rec)})
			}
		}
	}
	return all
}

// partition finds a partition. The lock is held.
func (l *Log) partition(tp event.TopicPartition) (*partition, error) {
	t, ok := l.topics[tp.Topic]
	if !ok || tp.Partition < 0 || int(tp.Partition) >= len(t.partitions) {
		return nil, fmt.Errorf("%s/%d: %w", tp.Topic, tp.Partition, kafkaio.ErrUnknownTopic)
	}
	return t.partitions[tp.Partition], nil
}

// find returns the index of the first entry at or beyond an offset.
func (p *partition) find(offset int64) int {
	i, _ := slices.BinarySearchFunc(p.entries, offset, func(e entry, o int64) int { return cmp.Compare(e.rec.Offset, o) })
	return i
}

// visible reports whether a read_committed reader gets the entry.
func (e entry) visible() bool {
	return !e.marker && (e.txn == nil || e.txn.state == txnCommitted)
}
