// Package kafkaio is all that the functions want of Kafka: reading a log exactly, reading what a group has committed, and
// publishing in transactions together with the offsets of a group.
//
// Two implementations: the franz-go one of this package against a real broker, and memlog, an in-memory log and transaction
// coordinator for replay and tests.
package kafkaio

import (
	"context"
	"errors"

	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// Partition is one partition of a source topic together with the identity of the topic.
type Partition struct {
	event.TopicPartition
	TopicID [16]byte
}

// Offsets are a partition's bounds at the moment of asking.
type Offsets struct {
	Start  int64 // the first offset still in the log
	End    int64 // the high watermark: one past the last record or control record
	Stable int64 // the last stable offset: a read_committed reader gets no further
}

// Committed is what a group has committed for a partition.
type Committed struct {
	Offset   int64
	Metadata string
}

// OffsetCommit is one partition of a transactional offset commit.
type OffsetCommit struct {
	Partition
	Committed
}

// Message is a record to publish. A negative Partition is chosen from the key by Kafka's default partitioner (murmur2).
type Message struct {
	Topic     string
	Partition int32
	Key       []byte
	Value     []byte
	Headers   []event.Header
	Timestamp event.Time // 0: the client's clock
}

// Position is where a message went.
type Position struct {
	event.TopicPartition
	Offset int64
}

// Sentinels.
var (
	// ErrOutOfRange is returned when a log no longer has an offset that was asked for (retention), or does not have it yet.
	ErrOutOfRange = errors.New("kafkaio: offset out of range")
	// ErrUnknownTopic is returned for a topic that does not exist.
	ErrUnknownTopic = errors.New("kafkaio: unknown topic")
	// ErrFenced is returned when a newer session has the transactional id.
	ErrFenced = errors.New("kafkaio: fenced by a newer producer")
	// ErrTooLarge is wrapped by the error of a Produce for a message that is larger than the client or the topic takes.
	ErrTooLarge = errors.New("kafkaio: message too large")
	// ErrUnknownOutcome is returned when it is not known whether a transaction committed. Close the session and open a new
	// one: opening settles it, and the group's offsets tell the answer.
	ErrUnknownOutcome = errors.New("kafkaio: outcome of the transaction is unknown")
)

// Log reads topics and groups. It is safe for concurrent use.
type Log interface {
	// Partitions lists all partitions of the topics, ordered by topic (as given) and partition. ErrUnknownTopic names a
	// topic that does not exist.
	Partitions(ctx context.Context, topics []string) ([]Partition, error)
	// Offsets returns the bounds of the partitions. A partition that cannot be asked is an error.
	Offsets(ctx context.Context, partitions []event.TopicPartition) (map[event.TopicPartition]Offsets, error)
	// Read reads [from, to) read_committed and in order, and calls fn with runs of records and the offset after which the
	// next run begins: next covers control records, aborted records and holes, so the last call has next == to, also if
	// there was no record at all. The records are valid only during the call. A non-nil error of fn ends the read and is
	// returned. ErrOutOfRange if from is no longer in the log. It waits for to to become stable until ctx ends.
	Read(ctx context.Context, p event.TopicPartition, from, to int64, fn func(records []event.Record, next int64) error) error
	// Group returns what a group has committed, with "require stable": it waits for transactions in flight to be decided.
	// A group that does not exist is an empty map.
	Group(ctx context.Context, group string) (map[event.TopicPartition]Committed, error)
	// Groups returns the names of the groups that begin with prefix, sorted. A group whose first commit is still in a
	// transaction may be left out. An answer that not all brokers gave is an error, never a shorter list.
	Groups(ctx context.Context, prefix string) ([]string, error)
	// OffsetsAt returns for each partition an offset below which no record has a Kafka timestamp of t or later: that of the
	// first record that has one, committed or not, or of a control record before it; the end of the log if there is none.
	// A t before 1970 is the start of the log.
	OffsetsAt(ctx context.Context, partitions []event.TopicPartition, t event.Time) (map[event.TopicPartition]int64, error)
}

// Publisher opens transactional sessions.
type Publisher interface {
	// Open gets a fresh epoch of the transactional id: every older session of the same id is fenced, and its open
	// transaction is aborted (or, if it was decided already, completed) before Open returns.
	Open(ctx context.Context, transactionalID string) (Session, error)
}

// Session is one owner of a transactional id. It is not safe for concurrent use. After any error of Produce, CommitOffsets
// or End it can only be closed.
type Session interface {
	// Begin starts a transaction.
	Begin(ctx context.Context) error
	// Produce publishes messages in the transaction and waits until all are acknowledged; positions are in the order of the
	// messages. May be called several times.
	Produce(ctx context.Context, messages []Message) ([]Position, error)
	// CommitOffsets adds offsets of a group, which has no members, to the transaction.
	CommitOffsets(ctx context.Context, group string, offsets []OffsetCommit) error
	// End commits. At least one message must have been produced. An error wraps ErrUnknownOutcome unless the commit is
	// known not to have happened (ErrFenced).
	End(ctx context.Context) error
	// Reusable reports whether the session may begin another transaction: true where each transaction has an epoch of its own
	// (the broker's transaction.version is 2 or more).
	Reusable() bool
	// Close ends the session. A transaction that has not ended is aborted if the broker can be reached.
	Close()
}
