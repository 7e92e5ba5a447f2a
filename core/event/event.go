// Package event has the vocabulary of everything else: event time, Kafka records and their identity, grouping keys, and the
// reading of fields out of a record's bytes, whatever format they have (Format): JSON, rows of CSV, text, or JSON as a schema
// registry frames it. It does no I/O and reads no clock.
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

// ReasonEntry describes a reason for documentation.
type ReasonEntry struct {
	Reason Reason
	Doc    string // which records have it, as a sentence about one
}

// Reasons describes every reason, in their order.
func Reasons() []ReasonEntry {
	return []ReasonEntry{
		{ReasonLate, "It is too late for all of its windows."},
		{ReasonDecode, "It is null, not UTF-8, or not what input.format says: not one JSON document, nested deeper than 64, with a needed field twice, not one row with a field for each column, Avro or Protobuf."},
		{ReasonTimestampMissing, "It has no timestamp field, or null there, and the spec names no other time."},
		{ReasonTimestampInvalid, "Its timestamp is no point in time."},
		{ReasonTimestampFuture, "Its time is further after its Kafka timestamp than max_future_skew."},
		{ReasonKeyMissing, "It lacks a field of the key, or has null, an object or an array there."},
		{ReasonValueMissing, "It has none of the values. One of several may be missing: it adds nothing to that value."},
		{ReasonValueType, "A value is something else than a number; where strings and booleans are taken, an object or an array."},
		{ReasonValueNotFinite, "A value is NaN, an infinity, or beyond a float64 (1e400)."},
		{ReasonExpression, "An expression of where, map or key has failed for it."},
		{ReasonTooLarge, "Its grouping key, or a value for first or last, is above 64 KiB; or it is too large for the topic, and goes there without content."},
		{ReasonLost, "It was to go to one of these topics, but the log no longer had it: it goes there without content."},
	}
}
