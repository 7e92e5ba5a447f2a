package esm

import (
	"bytes"
	"fmt"
	"math"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/jsonscan"
)

// members of a record that are read, in the order in which Lambda writes them.
const (
	memberTopic = 1 << iota
	memberPartition
	memberOffset
	memberTimestamp
	memberTimestampType
	memberKey
	memberValue
	memberHeaders
	memberKeySchema
	memberValueSchema
)

// rawRecord is a record of which not all members have been read yet.
type rawRecord struct {
	topic     string
	partition int64
	record    event.Record
	info      Info
	malformed error // the first thing that is wrong with its content
}

func memberOf(key []byte) int {
	switch string(key) {
	case "topic":
		return memberTopic
	case "partition":
		return memberPartition
	case "offset":
		return memberOffset
	case "timestamp":
		return memberTimestamp
	case "timestampType":
		return memberTimestampType
	case "key":
		return memberKey
	case "value":
		return memberValue
	case "headers":
		return memberHeaders
	case "keySchemaMetadata":
		return memberKeySchema
	case "valueSchemaMetadata":
		return memberValueSchema
	}
	return 0
}

// expected returns how a member begins where it is written without spaces; nothing for what is not in every record.
func expected(member int) string {
	switch member {
	case memberTopic:
		return `"topic":`
	case memberPartition:
		return `"partition":`
	case memberOffset:
		return `"offset":`
	case memberTimestamp:
		return `"timestamp":`
	case memberTimestampType:
		return `"timestampType":`
	case memberKey:
		return `"key":`
	case memberValue:
		return `"value":`
	case memberHeaders:
		return `"headers":`
	}
	return ""
}

// readMemberKey reads the key of a record's member. It tries the member that should come next (guess) before it looks
// closer, which saves about a seventh of a decode.
func (d *Decoder) readMemberKey(i, guess int) (member, next int) {
	want := expected(guess)
	if n := len(want); n > 0 && len(d.payload)-i > n && string(d.payload[i:i+n]) == want && d.payload[i+n] > ' ' {
		return guess, i + n
	}
	key, next := d.key(i)
	if next == failed {
		return 0, failed
	}
	return memberOf(key), next
}

func (d *Decoder) readRecord(i int) int {
	if !d.is(i, '{') {
		return d.reject(i, "want a record")
	}
	d.record = rawRecord{}
	begin := i
	i, empty := jsonscan.Open(d.payload, i, '}')
	seen, guess := 0, memberTopic
	for more := !empty; more; {
		at := i
		var member int
		if member, i = d.readMemberKey(i, guess); i == failed {
			return failed
		}
		guess = member << 1
		if seen&member != 0 {
			return d.fault(at, jsonscan.FaultDuplicate)
		}
		seen |= member
		if i = d.readMember(i, member); i == failed {
			return failed
		}
		if i, more = d.next(i, '}'); i == failed {
			return failed
		}
	}
	const place = memberTopic | memberPartition | memberOffset
	if seen&place != place {
		return d.reject(begin, "record without topic, partition or offset")
	}
	if seen&memberTimestamp == 0 {
		d.spoil(begin, "no timestamp")
	}
	d.finishRecord()
	return i
}

// finishRecord puts the record where it belongs.
func (d *Decoder) finishRecord() {
	r := &d.record
	if r.malformed != nil {
		d.malformed = append(d.malformed, Malformed{
			TopicPartition: event.TopicPartition{Topic: r.topic, Partition: int32(r.partition)},
			ID:             d.entry, Offset: r.record.Offset, Err: r.malformed,
		})
		return
	}
	d.add(r.record, r.info, d.find(r.topic, int32(r.partition)))
}

// readMember reads the value at i of a member of the record. What says where the record is in the log must be right; what
// else is wrong spoils this record only.
func (d *Decoder) readMember(i, member int) int {
	r := &d.record
	var ok bool
	switch member {
	case memberTopic:
		return d.readTopic(i)
	case memberPartition:
		at := i
		if r.partition, i, ok = d.integer(i); !ok || r.partition < 0 || r.partition > math.MaxInt32 {
			return d.reject(at, "want a partition")
		}
		return i
	case memberOffset:
		at := i
		if r.record.Offset, i, ok = d.integer(i); !ok || r.record.Offset < 0 || r.record.Offset == math.MaxInt64 {
			return d.reject(at, "want an offset") // one past it is an offset too
		}
		return i
	case memberTimestamp:
		at := i
		var v int64
		if v, i, ok = d.integer(i); !ok || event.Time(v) == event.MinTime || event.Time(v) == event.MaxTime {
			d.spoil(at, "want a timestamp in ms")
			return d.skip(at, depthRecord)
		}
		r.record.Timestamp = event.Time(v)
		return i
	case memberTimestampType:
		return d.readTimestampType(i)
	case memberKey:
		r.record.Key, r.info.Key, i = d.readBytes(i)
		return i
	case memberValue:
		r.record.Value, r.info.Value, i = d.readBytes(i)
		return i
	case memberHeaders:
		return d.readHeaders(i)
	case memberKeySchema:
		r.info.KeySchema, i = d.readSchema(i)
		return i
	case memberValueSchema:
		r.info.ValueSchema, i = d.readSchema(i)
		return i
	}
	return d.skip(i, depthRecord)
}

// readTopic reads the topic, which is nearly always that of the record before.
func (d *Decoder) readTopic(i int) int {
	if n := len(d.topicText); n > 0 && bytes.HasPrefix(d.payload[i:], d.topicText) {
		d.record.topic = d.topic
		return i + n
	}
	text, next := d.text(i)
	switch {
	case next == failed:
		return failed
	case len(text) == 0:
		return d.reject(i, "empty topic")
	}
	d.topic, d.topicText = d.names.intern(text), d.payload[i:next]
	d.record.topic = d.topic
	return next
}

// spoil marks the record as malformed.
func (d *Decoder) spoil(i int, what string) {
	if d.record.malformed == nil {
		d.record.malformed = fmt.Errorf("%w: byte %d: %s", ErrRecord, i, what)
	}
}

// integer reads an integer. It is not ok if there is something else.
func (d *Decoder) integer(i int) (v int64, next int, ok bool) {
	b := d.payload
	const most = 18 // digits that cannot overflow
	end := i
	for end < len(b) && b[end]-'0' <= 9 && end < i+most {
		v = v*10 + int64(b[end]-'0')
		end++
	}
	if end > i && end < len(b) && (b[end] == ',' || b[end] == ']' || b[end] == '}') && (b[i] != '0' || end == i+1) {
		return v, end, true
	}
	end, f := jsonscan.Number(b, i)
	if f != jsonscan.OK {
		return 0, i, false
	}
	v, ok = event.ParseInt(b[i:end])
	return v, end, ok
}

// readTimestampType reads the timestamp type. It is informational: another word or value is not worth a record.
func (d *Decoder) readTimestampType(i int) int {
	next := d.skip(i, depthRecord)
	if next == failed {
		return failed
	}
	switch string(d.payload[i:next]) {
	case `"CREATE_TIME"`:
		d.record.info.TimestampType = TimestampCreate
	case `"LOG_APPEND_TIME"`:
		d.record.info.TimestampType = TimestampLogAppend
	}
	return next
}

// readBytes reads a key or value: null, or a string of base64.
func (d *Decoder) readBytes(i int) (data []byte, p Presence, next int) {
	switch {
	case d.is(i, 'n'):
		return nil, Null, d.skip(i, depthRecord)
	case !d.is(i, '"'):
		d.spoil(i, "want base64 or null")
		return nil, Absent, d.skip(i, depthRecord)
	}
	src := d.payload[i+1:]
	if n := bytes.IndexByte(src, '"'); n >= 0 {
		if data, ok := d.decode(src[:n]); ok { // so that it had no escapes, and really ended there
			return data, Present, i + 1 + n + 1
		}
	}
	return d.readBytesSlowly(i)
}

// decode decodes base64 into the arena.
func (d *Decoder) decode(src []byte) (data []byte, ok bool) {
	used := len(d.arena)
	n, ok := d.base64.decode(d.arena[used:cap(d.arena)], src)
	if !ok {
		return nil, false
	}
	d.arena = d.arena[:used+n]
	return d.arena[used : used+n : used+n], true
}

// readBytesSlowly reads a string of base64 that has escapes, or is none. Whatever is in the string, its end can be found, so
// that only this record is lost.
func (d *Decoder) readBytesSlowly(i int) (data []byte, p Presence, next int) {
	end, plain, f := jsonscan.String(d.payload, i)
	if f == jsonscan.OK && !plain {
		d.scratch = jsonscan.AppendUnescaped(d.scratch[:0], d.payload[i+1:end-1])
		if data, ok := d.decode(d.scratch); ok {
			return data, Present, end
		}
	}
	if f == jsonscan.OK {
		d.spoil(i, "not base64")
		return nil, Absent, end
	}
	d.spoil(end, f.String())
	for k := i + 1; k < len(d.payload); k++ {
		switch d.payload[k] {
		case '"':
			return nil, Absent, k + 1
		case '\\':
			k++
		}
	}
	return nil, Absent, d.fault(len(d.payload), jsonscan.FaultEnd)
}

// readHeaders reads the array of headers.
func (d *Decoder) readHeaders(i int) int {
	if d.is(i, 'n') {
		return d.skip(i, depthRecord)
	}
	from := len(d.headers)
	end, ok := d.tryHeaders(i)
	if !ok {
		d.headers = d.headers[:from]
		d.spoil(end, "malformed headers")
		return d.skip(i, depthRecord) // which tells whether it is JSON at all
	}
	if to := len(d.headers); to > from {
		d.record.record.Headers = d.headers[from:to:to]
	}
	return end
}

// tryHeaders appends to d.headers: an object for each header, with its key and an array of bytes, or null. Where it is not
// ok, next is near to what is wrong.
func (d *Decoder) tryHeaders(i int) (next int, ok bool) {
	b := d.payload
	if !d.is(i, '[') {
		return i, false
	}
	i, empty := jsonscan.Open(b, i, ']')
	for more := !empty; more; {
		if !d.is(i, '{') {
			return i, false
		}
		var f jsonscan.Fault
		i, empty = jsonscan.Open(b, i, '}')
		for inner := !empty; inner; {
			key, plain, value, f := jsonscan.Key(b, i)
			if f != jsonscan.OK {
				return value, false
			}
			if !plain {
				d.scratch = jsonscan.AppendUnescaped(d.scratch[:0], key)
				key = d.scratch
			}
			h := event.Header{Key: d.names.intern(key)}
			if h.Value, i, ok = d.headerBytes(value); !ok {
				return i, false
			}
			d.headers = append(d.headers, h)
			if i, inner, f = jsonscan.Next(b, i, '}'); f != jsonscan.OK {
				return i, false
			}
		}
		if i, more, f = jsonscan.Next(b, i, ']'); f != jsonscan.OK {
			return i, false
		}
	}
	return i, true
}

// headerBytes reads null, or an array of bytes, which Lambda writes as signed ones; others write unsigned ones.
func (d *Decoder) headerBytes(i int) (value []byte, next int, ok bool) {
	if d.is(i, 'n') {
		end, f := jsonscan.Scalar(d.payload, i)
		return nil, end, f == jsonscan.OK
	}
	if !d.is(i, '[') {
		return nil, i, false
	}
	from := len(d.arena)
	i, empty := jsonscan.Open(d.payload, i, ']')
	for more := !empty; more; {
		v, end, ok := d.integer(i)
		if !ok || v < math.MinInt8 || v > math.MaxUint8 {
			return nil, i, false
		}
		d.arena = append(d.arena, byte(v)) // there is room: the text is longer
		var f jsonscan.Fault
		if i, more, f = jsonscan.Next(d.payload, end, ']'); f != jsonscan.OK {
			return nil, i, false
		}
	}
	return d.arena[from:len(d.arena):len(d.arena)], i, true
}

// readSchema reads what a schema registry says. It is informational: of another shape, it is as if it were not there.
func (d *Decoder) readSchema(i int) (schema *Schema, next int) {
	next = d.skip(i, depthRecord)
	if next == failed || !d.is(i, '{') {
		return nil, next
	}
	var s Schema
	i, empty := jsonscan.Open(d.payload, i, '}')
	for more := !empty; more; {
		var key []byte
		key, i = d.key(i) // it has been skipped without a fault
		isID, isFormat := string(key) == "schemaId", string(key) == "dataFormat"
		end := d.skip(i, depthRecord+1)
		if isID || isFormat {
			text := d.payload[i:end]
			if d.is(i, '"') {
				text, _ = d.text(i)
			}
			switch {
			case isID:
				s.ID = d.names.intern(text)
			case isFormat:
				s.DataFormat = d.names.intern(text)
			}
		}
		i, more = d.next(end, '}')
	}
	d.schemas = append(d.schemas, s)
	return &d.schemas[len(d.schemas)-1], next
}
