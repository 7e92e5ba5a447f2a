// Package esm speaks with Lambda's event source mapping for Kafka: it reads the events that the mapping sends, writes the
// partial-batch answer that it reads back, and writes such events for those who stand in for it.
//
// events.KafkaEvent of aws-lambda-go is not used, since it cannot tell a null key or value from an empty one, refuses a
// whole event for one header byte above 127, and allocates 15 times a record.
package esm

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/llm-auto-optimizer/tidemark/core/event"
)

var (
	// ErrPayload is returned for a payload that is not a well-formed Kafka event. No record can be named, so that the
	// invocation has to fail as a whole.
	ErrPayload = errors.New("esm: payload is not a Kafka event")
	// ErrSource is returned for an event of another service than Kafka: the function is wired to the wrong trigger.
	ErrSource = errors.New("esm: event source is not Kafka")
	// ErrRecord is wrapped by the errors of Malformed.
	ErrRecord = errors.New("esm: malformed record")
)

// The event sources. Lambda has written both spellings of the self-managed one.
const (
	SourceMSK            = "aws:kafka"
	SourceSelfManaged    = "SelfManagedKafka"
	SourceSelfManagedAWS = "aws:SelfManagedKafka"
)

// Event is a Kafka event. What a Decoder returned is valid until its next Decode.
type Event struct {
	Source           string
	SourceARN        string // empty for a self-managed cluster
	BootstrapServers string // host:port, joined by commas
	Batches          []Batch
	Records          int // in all batches
	Malformed        []Malformed
}

// Batch is what an event has of one partition. A Decoder returns no batch without records, and at most one a partition, in
// the order of topic and partition; the records are in the order of their offsets, each offset once. Offsets may have gaps:
// filters, compaction, transaction markers, and malformed records.
type Batch struct {
	event.TopicPartition
	ID      string // the partition's name in the event, and so in the answer: "<topic>-<n>"
	Records []event.Record
	Info    []Info // of Records, one each
}

// Info is what an event says about a record beyond event.Record.
type Info struct {
	Key, Value    Presence
	TimestampType TimestampType
	KeySchema     *Schema // nil: none
	ValueSchema   *Schema
}

// Presence tells apart what event.Record has as nil.
type Presence uint8

// The states of a key or value.
const (
	Absent  Presence = iota // the event does not have the field
	Null                    // the event says null
	Present                 // also if empty
)

// String returns a word for messages.
func (p Presence) String() string {
	switch p {
	case Absent:
		return "absent"
	case Null:
		return "null"
	case Present:
		return "present"
	}
	return fmt.Sprintf("Presence(%d)", uint8(p))
}

// TimestampType says who set a record's timestamp.
type TimestampType uint8

// The timestamp types.
const (
	TimestampUnknown TimestampType = iota // the event does not say
	TimestampCreate
	TimestampLogAppend
)

// String returns the word that events have.
func (t TimestampType) String() string {
	switch t {
	case TimestampUnknown:
		return "unknown"
	case TimestampCreate:
		return "CREATE_TIME"
	case TimestampLogAppend:
		return "LOG_APPEND_TIME"
	}
	return fmt.Sprintf("TimestampType(%d)", uint8(t))
}

// Schema is what a schema registry says about a key or value. With a registry the mapping changes the bytes: it removes the
// registry's prefix, or converts to JSON.
type Schema struct {
	ID         string // as written, also if it is a number
	DataFormat string // AVRO, PROTOBUF, JSON
}

// Malformed is a record whose place in the log is readable but whose content is not. It is in no batch: its partition has a
// hole at Offset, to be filled from the log itself.
type Malformed struct {
	event.TopicPartition
	ID     string // as in Batch
	Offset int64
	Err    error // wraps ErrRecord, with the position in the payload
}

// Failure names a record that was not applied.
type Failure struct {
	Partition string // the ID of its batch
	Offset    int64
}

// AppendResponse appends the partial-batch answer to dst. No failures: all records were applied. It has effect only where
// the mapping's FunctionResponseTypes has ReportBatchItemFailures.
func AppendResponse(dst []byte, failures []Failure) []byte {
	dst = append(dst, `{"batchItemFailures":[`...)
	for i, f := range failures {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"itemIdentifier":{"partition":`...)
		dst = appendString(dst, f.Partition)
		dst = append(dst, `,"offset":`...)
		dst = strconv.AppendInt(dst, f.Offset, 10)
		dst = append(dst, "}}"...)
	}
	return append(dst, "]}"...)
}
