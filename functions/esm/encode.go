package esm

import (
	"encoding/base64"
	"slices"
	"strconv"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/jsonscan"
)

// MaxPayload is the most bytes that Lambda hands to a function: a mapping closes a batch before its event is larger.
const MaxPayload = 6 << 20

// Encoder writes events as Lambda's event source mapping does, record by record, so that the caller can stop when the event
// is large enough. It is reusable, and not safe for concurrent use.
type Encoder struct {
	Source           string // SourceMSK or SourceSelfManaged
	SourceARN        string // empty: none, as for a self-managed cluster
	BootstrapServers string

	entries []entry // of partitions, in the order of their first record
	index   map[event.TopicPartition]int
	records int
	size    int    // of what is in entries, with names and punctuation
	frame   []byte // for Len
	framed  int    // for TryAdd: the length of what comes before the records
}

// entry is one member of "records".
type entry struct {
	event.TopicPartition
	name []byte // as a JSON string
	body []byte // the records, joined by commas
}

// Add appends a record. info says how to write a nil key or value and what else is known; see DefaultInfo.
func (e *Encoder) Add(tp event.TopicPartition, r *event.Record, info Info) {
	k, ok := e.index[tp]
	if !ok {
		if e.index == nil {
			e.index = map[event.TopicPartition]int{}
		}
		k = len(e.entries)
		e.index[tp] = k
		e.entries = slices.Grow(e.entries, 1)[:k+1] // with the buffers of an earlier event
		n := &e.entries[k]
		n.TopicPartition, n.name, n.body = tp, appendString(n.name[:0], EntryName(tp)), n.body[:0]
		e.size += len(n.name) + len(`:[],`)
	}
	n := &e.entries[k]
	before := len(n.body)
	if before > 0 {
		n.body = append(n.body, ',')
	}
	n.body = appendRecord(n.body, tp, r, info)
	e.size += len(n.body) - before
	e.records++
}

// TryAdd appends a record as Add does, unless the event would then have more than most bytes: it is as before then, and the result
// is false.
func (e *Encoder) TryAdd(tp event.TopicPartition, r *event.Record, info Info, most int) bool {
	if e.records == 0 {
		e.framed = len(e.appendFrame(e.frame[:0]))
	}
	entries, size := len(e.entries), e.size
	e.Add(tp, r, info)
	if e.framed+e.size+len("}}")-1 <= most { // the last entry has no comma
		return true
	}
	e.records--
	if len(e.entries) > entries {
		delete(e.index, tp)
		e.entries, e.size = e.entries[:entries], size
		return false
	}
	n := &e.entries[e.index[tp]]
	n.body, e.size = n.body[:len(n.body)-(e.size-size)], size
	return false
}

// Records returns how many records were added.
func (e *Encoder) Records() int { return e.records }

// Len returns the length of the event in bytes.
func (e *Encoder) Len() int {
	e.frame = e.appendFrame(e.frame[:0])
	return len(e.frame) + e.size + len("}}") - min(len(e.entries), 1) // the last entry has no comma
}

// AppendTo appends the event to dst; partitions are in the order of topic and number.
func (e *Encoder) AppendTo(dst []byte) []byte {
	dst = e.appendFrame(dst)
	order := make([]int, len(e.entries))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		return comparePartitions(e.entries[a].TopicPartition, e.entries[b].TopicPartition)
	})
	for i, k := range order {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(append(dst, e.entries[k].name...), ":["...)
		dst = append(append(dst, e.entries[k].body...), ']')
	}
	return append(dst, "}}"...)
}

// Reset removes the records and keeps the buffers.
func (e *Encoder) Reset() {
	clear(e.index)
	e.entries, e.records, e.size = e.entries[:0], 0, 0
}

// appendFrame appends what comes before the records.
func (e *Encoder) appendFrame(dst []byte) []byte {
	dst = append(dst, `{"eventSource":`...)
	dst = appendString(dst, e.Source)
	if e.SourceARN != "" {
		dst = append(dst, `,"eventSourceArn":`...)
		dst = appendString(dst, e.SourceARN)
	}
	dst = append(dst, `,"bootstrapServers":`...)
	dst = appendString(dst, e.BootstrapServers)
	return append(dst, `,"records":{`...)
}

// AppendEvent appends a whole event to dst, in the order of ev.Batches. A batch without ID gets its own, one without Info
// that of DefaultInfo. Malformed records are not written.
func AppendEvent(dst []byte, ev Event) []byte {
	e := Encoder{Source: ev.Source, SourceARN: ev.SourceARN, BootstrapServers: ev.BootstrapServers}
	dst = e.appendFrame(dst)
	for i, b := range ev.Batches {
		if i > 0 {
			dst = append(dst, ',')
		}
		id := b.ID
		if id == "" {
			id = EntryName(b.TopicPartition)
		}
		dst = append(appendString(dst, id), ":["...)
		for k := range b.Records {
			if k > 0 {
				dst = append(dst, ',')
			}
			info := DefaultInfo(&b.Records[k])
			if b.Info != nil {
				info = b.Info[k]
			}
			dst = appendRecord(dst, b.TopicPartition, &b.Records[k], info)
		}
		dst = append(dst, ']')
	}
	return append(dst, "}}"...)
}

// DefaultInfo is what Lambda says about a record of a producer: a null key is left out, a null value (a tombstone) is null,
// and the producer has set the timestamp.
func DefaultInfo(r *event.Record) Info {
	info := Info{Key: Present, Value: Present, TimestampType: TimestampCreate}
	if r.Key == nil {
		info.Key = Absent
	}
	if r.Value == nil {
		info.Value = Null
	}
	return info
}

func appendRecord(dst []byte, tp event.TopicPartition, r *event.Record, info Info) []byte {
	dst = append(dst, `{"topic":`...)
	dst = appendString(dst, tp.Topic)
	dst = append(dst, `,"partition":`...)
	dst = strconv.AppendInt(dst, int64(tp.Partition), 10)
	dst = append(dst, `,"offset":`...)
	dst = strconv.AppendInt(dst, r.Offset, 10)
	dst = append(dst, `,"timestamp":`...)
	dst = strconv.AppendInt(dst, int64(r.Timestamp), 10)
	switch info.TimestampType {
	case TimestampUnknown:
	case TimestampCreate, TimestampLogAppend:
		dst = append(dst, `,"timestampType":"`...)
		dst = append(append(dst, info.TimestampType.String()...), '"')
	}
	dst = appendBytes(dst, `,"key":`, r.Key, info.Key)
	dst = appendBytes(dst, `,"value":`, r.Value, info.Value)
	dst = append(dst, `,"headers":[`...)
	for i, h := range r.Headers {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendHeader(dst, h)
	}
	dst = append(dst, ']')
	dst = appendSchema(dst, `,"keySchemaMetadata":`, info.KeySchema)
	dst = appendSchema(dst, `,"valueSchemaMetadata":`, info.ValueSchema)
	return append(dst, '}')
}

func appendBytes(dst []byte, name string, data []byte, p Presence) []byte {
	switch p {
	case Absent:
		return dst
	case Null:
		return append(append(dst, name...), "null"...)
	case Present:
	}
	dst = append(append(dst, name...), '"')
	return append(base64.StdEncoding.AppendEncode(dst, data), '"')
}

func appendHeader(dst []byte, h event.Header) []byte {
	dst = append(dst, '{')
	dst = append(appendString(dst, h.Key), ':')
	if h.Value == nil {
		return append(dst, "null}"...)
	}
	dst = append(dst, '[')
	for i, c := range h.Value {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendInt(dst, int64(int8(c)), 10)
	}
	return append(dst, "]}"...)
}

func appendSchema(dst []byte, name string, s *Schema) []byte {
	if s == nil {
		return dst
	}
	dst = append(append(dst, name...), `{"schemaId":`...)
	dst = append(appendString(dst, s.ID), `,"dataFormat":`...)
	return append(appendString(dst, s.DataFormat), '}')
}

// EntryName is the name of a partition in an event, and so in the answer: TOPIC-NUMBER.
func EntryName(tp event.TopicPartition) string {
	return tp.Topic + "-" + strconv.Itoa(int(tp.Partition))
}

func appendString(dst []byte, s string) []byte { return jsonscan.AppendString(dst, s) }
