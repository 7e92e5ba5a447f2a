package trigger

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// partition is what a poller has of one that it was assigned. The poller's lock protects it.
type partition struct {
	event.TopicPartition
	queue  []record // polled and in no batch, in the order of their offsets
	bytes  int      // of them in an event, about
	read   int64    // the offset behind the last record that was polled; -1: none was
	paused bool     // it is not fetched, since the queue is long

	// current is the batch that has records of this partition: in an invocation, or waiting to be tried again. There is one at most,
	// so that the order is kept. behind are halves of it, which come next.
	current *batch
	undone  int64 // the offset of the first record of current that is not done
	behind  []*batch

	leaving   bool  // it is about to be given away: nothing of it begins
	gone      bool  // another member has it now: what becomes of its records here is nobody's concern
	committed int64 // what the group has, as far as is known; -1: unknown
}

// record is one that waits.
type record struct {
	*kgo.Record
	arrived time.Time
}

// position is what may be committed: the offset of the first record that is not done; -1 if nothing is known yet.
func (p *partition) position() int64 {
	switch {
	case p.current != nil:
		return p.undone
	case len(p.queue) > 0:
		return p.queue[0].Offset
	}
	return p.read
}

// leave begins to give the partition away. It reports the end of an invocation to be waited for, or nil.
func (p *partition) leave() chan struct{} {
	p.leaving = true
	if p.current != nil && !p.current.pending {
		return p.current.ended
	}
	p.rest()
	return nil
}

// rest drops what waits; the position stays.
func (p *partition) rest() {
	p.read = p.position()
	p.queue, p.bytes, p.behind, p.current = nil, 0, nil, nil
}

// hold makes a batch the one that has records of the partition.
func (p *partition) hold(b *batch) {
	p.current = b
	p.undone = b.first(p)
}

// take removes up to most records from the front of the queue.
func (p *partition) take(most int) []record {
	n := min(most, len(p.queue))
	taken := p.queue[:n:n]
	if p.queue = p.queue[n:]; len(p.queue) == 0 {
		p.queue = nil // the array goes with those that were taken
	}
	for _, r := range taken {
		p.bytes -= sizeOf(r.Record)
	}
	return taken
}

// giveBack puts records at the front of the queue again.
func (p *partition) giveBack(records []record) {
	p.queue = append(slices.Clip(records), p.queue...)
	for _, r := range records {
		p.bytes += sizeOf(r.Record)
	}
}

// sizeOf is about how many bytes a record has in an event.
func sizeOf(r *kgo.Record) int {
	const around = 150 // names, numbers and punctuation
	n := around + len(r.Topic) + (len(r.Key)+2)/3*4 + (len(r.Value)+2)/3*4
	for _, h := range r.Headers {
		n += len(h.Key) + 8 + 4*len(h.Value)
	}
	return n
}

// batch is what one invocation gets, and what is left of it when it is tried again.
type batch struct {
	parts   []part // not touched by others while it is in an invocation
	closed  Closing
	pending bool      // it waits for due; else it is in an invocation
	due     time.Time // of the next try
	pause   time.Duration
	tries   int           // that count
	invoked int           // all
	ended   chan struct{} // closed when the invocation, if there is one, has ended and been accounted for
}

// part is what a batch has of one partition, at least one record, in the order of offsets.
type part struct {
	*partition
	records []record
}

func (b *batch) records() (n int) {
	for _, p := range b.parts {
		n += len(p.records)
	}
	return n
}

// first is the offset of the first record of a partition that it has records of.
func (b *batch) first(p *partition) int64 {
	for _, part := range b.parts {
		if part.partition == p {
			return part.records[0].Offset
		}
	}
	return -1
}

// spans says what is in it.
func (b *batch) spans() []Span {
	out := make([]Span, len(b.parts))
	for i, p := range b.parts {
		out[i] = spanOf(p.TopicPartition, p.records)
	}
	return out
}

func spanOf(tp event.TopicPartition, records []record) Span {
	return Span{TopicPartition: tp, First: records[0].Offset, Last: records[len(records)-1].Offset, Records: len(records)}
}

// halve splits a batch of at least two records. Partitions stay together as long as there are several; the second half of one
// partition comes after the first.
func (b *batch) halve() (first, second *batch) {
	half := func(parts []part) *batch {
		return &batch{parts: parts, closed: ClosedByRetry, pending: true, due: b.due, pause: b.pause, tries: b.tries, invoked: b.invoked, ended: make(chan struct{})}
	}
	if len(b.parts) == 1 {
		p := b.parts[0]
		n := (len(p.records) + 1) / 2
		return half([]part{{p.partition, p.records[:n:n]}}), half([]part{{p.partition, p.records[n:]}})
	}
	all, n, cut := b.records(), 0, 0
	for cut < len(b.parts)-1 && (cut == 0 || 2*n < all) {
		n += len(b.parts[cut].records)
		cut++
	}
	return half(b.parts[:cut:cut]), half(b.parts[cut:])
}
