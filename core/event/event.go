// Package event has the vocabulary of everything else: event time, Kafka records and their identity, grouping keys, and the
// reading of fields out of a record's bytes. It does no I/O and reads no clock.
package event

// TopicPartition identifies one partition of one topic.
type TopicPartition struct {
	Topic     string
	Partition int32
}

// Header is one header of a Kafka record. Keys may repeat; order is kept.
type Header struct {
	Key   string
	Value []byte // nil is null
}

// Record is one record of a Kafka partition as the fold sees it. The topic and partition are those of the batch it is in.
//
// The byte slices belong to whoever decoded the record: a Record is valid only until its decoder is used again.
type Record struct {
	Offset    int64
	Timestamp Time   // the record's own Kafka timestamp
	Key       []byte // nil is null; empty and not nil is an empty key
	Value     []byte // nil is null (a tombstone); empty and not nil is an empty value
	Headers   []Header
}

// Reason says why a record is in the late or the dead letter topic. The set is closed; the strings are stored and published.
type Reason string

// The reasons, in the order of contracts: late goes to the late topic, each other one to the dead letter topic.
const (
	ReasonLate             Reason = "late"
	ReasonDecode           Reason = "decode"
	ReasonTimestampMissing Reason = "timestamp_missing"
	ReasonTimestampInvalid Reason = "timestamp_invalid"
	ReasonTimestampFuture  Reason = "timestamp_future"
	ReasonKeyMissing       Reason = "key_missing"
	ReasonValueMissing     Reason = "value_missing"
	ReasonValueType        Reason = "value_type"
	ReasonValueNotFinite   Reason = "value_not_finite"
	ReasonExpression       Reason = "expression"
	ReasonTooLarge         Reason = "too_large"
	ReasonLost             Reason = "lost"
)
