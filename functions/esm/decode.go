package esm

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/jsonscan"
)

// Open containers around the members of each level of an event.
const (
	depthEvent   = 1 // {"records":
	depthEntries = 2 // {"topic-0":
	depthEntry   = 3 // [
	depthRecord  = 4 // {"offset":
)

// failed is the index that the methods of Decoder return after they have set Decoder.failure.
const failed = -1

// Decoder reads Kafka events. The zero value is ready for use. It keeps its buffers, about as large as the largest payload
// and its records, so that at steady state nothing is allocated; it is not safe for concurrent use.
type Decoder struct {
	base64 base64Decoder
	names  interner

	// What the event refers to. Nothing refers to the payload.
	arena     []byte // never grows during a Decode: what is decoded is no longer than its text
	records   []event.Record
	infos     []Info
	batchOf   []int32 // of records: the index in batches
	headers   []event.Header
	schemas   []Schema
	batches   []Batch
	malformed []Malformed

	// For the current call.
	payload []byte
	event   Event
	entry   string // the key of the current entry of records
	record  rawRecord
	last    int32 // batch of the last record; -1: none
	topic   string
	// topicText is topic as the payload has it, with its quotes: an equal text is the same topic.
	topicText []byte
	index     map[event.TopicPartition]int32
	sizes     []int // of batches: their records so far
	ordered   bool  // each batch's records are one run, with ascending offsets
	scratch   []byte
	failure   error
}

// Decode reads a Kafka event. The event, with all that it refers to, is valid until the next Decode; it does not refer to
// payload. An event without records is legal and has no batches.
//
// ErrPayload, with the position, for what is not one JSON document of a Kafka event's shape, and for a record without a
// readable topic, partition and offset. ErrSource for another event source. Unknown members are skipped everywhere. A
// member that is read must not occur twice.
func (d *Decoder) Decode(payload []byte) (Event, error) {
	d.reset(payload)
	defer func() { d.payload, d.topicText = nil, nil }() // Lambda's runtime uses it again
	i := jsonscan.Space(payload, 0)
	if i >= len(payload) || payload[i] != '{' {
		d.reject(i, "want an object")
		return Event{}, d.failure
	}
	if i = d.readEvent(i); i == failed {
		return Event{}, d.failure
	}
	if i, f := jsonscan.End(payload, i); f != jsonscan.OK {
		d.fault(i, f)
		return Event{}, d.failure
	}
	if d.event.Source == "" {
		return Event{}, fmt.Errorf("%w: no eventSource", ErrPayload)
	}
	d.assemble()
	return d.event, nil
}

func (d *Decoder) reset(payload []byte) {
	if !d.base64.ready {
		d.base64.init()
		d.index = map[event.TopicPartition]int32{}
	}
	const slack = 8 // the base64 decoder writes words
	if cap(d.arena) < len(payload)+slack {
		d.arena = make([]byte, 0, len(payload)+slack)
	}
	clear(d.index)
	d.arena, d.records, d.infos, d.batchOf = d.arena[:0], d.records[:0], d.infos[:0], d.batchOf[:0]
	d.headers, d.schemas, d.batches, d.sizes = d.headers[:0], d.schemas[:0], d.batches[:0], d.sizes[:0]
	d.malformed = nil // rare, and its errors should not be kept alive
	d.payload, d.event, d.entry, d.last, d.ordered, d.failure = payload, Event{}, "", -1, true, nil
}

func (d *Decoder) fault(i int, f jsonscan.Fault) int {
	d.failure = fmt.Errorf("%w: %s", ErrPayload, jsonscan.Describe(d.payload, i, f))
	return failed
}

func (d *Decoder) reject(i int, what string) int {
	if i >= len(d.payload) {
		return d.fault(i, jsonscan.FaultEnd)
	}
	d.failure = fmt.Errorf("%w: byte %d: %s", ErrPayload, i, what)
	return failed
}

// is tells whether the byte at i is c.
func (d *Decoder) is(i int, c byte) bool { return i < len(d.payload) && d.payload[i] == c }

func (d *Decoder) skip(i, depth int) int {
	end, f := jsonscan.Skip(d.payload, i, depth)
	if f != jsonscan.OK {
		return d.fault(end, f)
	}
	return end
}

// key reads a member's key; next is the index of its value.
func (d *Decoder) key(i int) (key []byte, next int) {
	key, plain, next, f := jsonscan.Key(d.payload, i)
	if f != jsonscan.OK {
		return nil, d.fault(next, f)
	}
	if !plain {
		d.scratch = jsonscan.AppendUnescaped(d.scratch[:0], key)
		key = d.scratch
	}
	return key, next
}

func (d *Decoder) next(i int, end byte) (next int, more bool) {
	next, more, f := jsonscan.Next(d.payload, i, end)
	if f != jsonscan.OK {
		return d.fault(next, f), false
	}
	return next, more
}

// text reads a string, valid until the next text or key with escapes.
func (d *Decoder) text(i int) (text []byte, next int) {
	if !d.is(i, '"') {
		return nil, d.reject(i, "want a string")
	}
	end, plain, f := jsonscan.String(d.payload, i)
	if f != jsonscan.OK {
		return nil, d.fault(end, f)
	}
	text = d.payload[i+1 : end-1]
	if !plain {
		d.scratch = jsonscan.AppendUnescaped(d.scratch[:0], text)
		text = d.scratch
	}
	return text, end
}

// name reads a string that repeats from event to event.
func (d *Decoder) name(i int) (name string, next int) {
	text, next := d.text(i)
	if next == failed {
		return "", failed
	}
	return d.names.intern(text), next
}

// members of an event that are read.
const (
	memberSource = 1 << iota
	memberARN
	memberServers
	memberRecords
)

func (d *Decoder) readEvent(i int) int {
	i, empty := jsonscan.Open(d.payload, i, '}')
	seen := 0
	for more := !empty; more; {
		at := i
		var key []byte
		if key, i = d.key(i); i == failed {
			return failed
		}
		member := 0
		switch string(key) {
		case "eventSource":
			member = memberSource
		case "eventSourceArn":
			member = memberARN
		case "bootstrapServers":
			member = memberServers
		case "records":
			member = memberRecords
		}
		if seen&member != 0 {
			return d.fault(at, jsonscan.FaultDuplicate)
		}
		seen |= member
		switch {
		case member == memberSource:
			if d.event.Source, i = d.name(i); i != failed && !known(d.event.Source) {
				d.failure = fmt.Errorf("%w: %.64q", ErrSource, d.event.Source)
				return failed
			}
		case member == 0 || d.is(i, 'n'): // unknown, or null
			i = d.skip(i, depthEvent)
		case member == memberARN:
			d.event.SourceARN, i = d.name(i)
		case member == memberServers:
			d.event.BootstrapServers, i = d.name(i)
		case member == memberRecords:
			i = d.readEntries(i)
		}
		if i == failed {
			return failed
		}
		if i, more = d.next(i, '}'); i == failed {
			return failed
		}
	}
	return i
}

func known(source string) bool {
	switch source {
	case SourceMSK, SourceSelfManaged, SourceSelfManagedAWS:
		return true
	}
	return false
}

// readEntries reads the object of arrays of records.
func (d *Decoder) readEntries(i int) int {
	if !d.is(i, '{') {
		return d.reject(i, "want an object of records")
	}
	i, empty := jsonscan.Open(d.payload, i, '}')
	for more := !empty; more; {
		var key []byte
		if key, i = d.key(i); i == failed {
			return failed
		}
		d.entry = d.names.intern(key)
		if d.is(i, 'n') {
			i = d.skip(i, depthEntries)
		} else {
			i = d.readEntry(i)
		}
		if i == failed {
			return failed
		}
		if i, more = d.next(i, '}'); i == failed {
			return failed
		}
	}
	return i
}

func (d *Decoder) readEntry(i int) int {
	if !d.is(i, '[') {
		return d.reject(i, "want an array of records")
	}
	i, empty := jsonscan.Open(d.payload, i, ']')
	for more := !empty; more; {
		if i = d.readRecord(i); i == failed {
			return failed
		}
		if i, more = d.next(i, ']'); i == failed {
			return failed
		}
	}
	return i
}

// find returns the batch of a partition, a new one if there is none yet.
func (d *Decoder) find(topic string, partition int32) int32 {
	if d.last >= 0 {
		if b := &d.batches[d.last]; b.Partition == partition && b.Topic == topic {
			return d.last
		}
	}
	tp := event.TopicPartition{Topic: topic, Partition: partition}
	k, ok := d.index[tp]
	if !ok {
		k = int32(len(d.batches))
		d.index[tp] = k
		d.batches = append(d.batches, Batch{TopicPartition: tp, ID: d.entry})
		d.sizes = append(d.sizes, 0)
	}
	return k
}

// add takes a complete record.
func (d *Decoder) add(r event.Record, info Info, batch int32) {
	switch {
	case d.sizes[batch] == 0:
	case d.last != batch, d.records[len(d.records)-1].Offset >= r.Offset:
		d.ordered = false
	}
	d.last = batch
	d.sizes[batch]++
	d.records = append(d.records, r)
	d.infos = append(d.infos, info)
	d.batchOf = append(d.batchOf, batch)
}

// assemble hands the records out to their batches.
func (d *Decoder) assemble() {
	if !d.ordered {
		d.order()
	}
	for from := 0; from < len(d.records); {
		k := d.batchOf[from]
		to := from + d.sizes[k]
		d.batches[k].Records, d.batches[k].Info = d.records[from:to:to], d.infos[from:to:to]
		from = to
	}
	slices.SortFunc(d.batches, func(a, b Batch) int { return comparePartitions(a.TopicPartition, b.TopicPartition) })
	slices.SortStableFunc(d.malformed, func(a, b Malformed) int {
		return cmp.Or(comparePartitions(a.TopicPartition, b.TopicPartition), cmp.Compare(a.Offset, b.Offset))
	})
	d.event.Batches, d.event.Records, d.event.Malformed = d.batches, len(d.records), d.malformed
}

func comparePartitions(a, b event.TopicPartition) int {
	return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
}

// order brings the records into the order of batches and offsets; of equal offsets the first one stays. An event source
// mapping delivers them in order, so that this may allocate.
func (d *Decoder) order() {
	at := make([]int, len(d.records))
	for i := range at {
		at[i] = i
	}
	slices.SortFunc(at, func(a, b int) int {
		return cmp.Or(cmp.Compare(d.batchOf[a], d.batchOf[b]), cmp.Compare(d.records[a].Offset, d.records[b].Offset), cmp.Compare(a, b))
	})
	records, infos, batchOf := make([]event.Record, 0, len(at)), make([]Info, 0, len(at)), make([]int32, 0, len(at))
	for _, i := range at {
		n := len(records)
		if n > 0 && batchOf[n-1] == d.batchOf[i] && records[n-1].Offset == d.records[i].Offset {
			d.sizes[d.batchOf[i]]--
			continue
		}
		records, infos, batchOf = append(records, d.records[i]), append(infos, d.infos[i]), append(batchOf, d.batchOf[i])
	}
	d.records, d.infos, d.batchOf = records, infos, batchOf
}

// interner keeps strings that repeat, so that they are allocated once.
type interner map[string]string

func (n *interner) intern(b []byte) string {
	const (
		mostStrings = 4096 // bounds what hostile events can make us keep
		mostBytes   = 1024
	)
	if s, ok := (*n)[string(b)]; ok {
		return s
	}
	s := string(b)
	if len(s) > mostBytes {
		return s
	}
	if *n == nil || len(*n) >= mostStrings {
		*n = interner{}
	}
	(*n)[s] = s
	return s
}
