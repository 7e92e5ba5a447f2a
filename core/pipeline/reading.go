package pipeline

import (
	"github.com/llm-auto-optimizer/tidemark/core/aggregate"
	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// Reader takes out of single records what the fold takes out of them, for whoever computes results in another way. It is not
// safe for concurrent use.
type Reader struct{ r reader }

// Reading is what one record contributes. Its memory is the reader's, valid until the next Read.
type Reading struct {
	Time   event.Time
	Key    []byte            // grouping key
	Values []aggregate.Input // in the order of the pipeline's values, without positions; with a text only where functions need it
	Has    []bool            // whether the record has each of them
	Gaps   []event.Span      // of each window definition, where one has a field for them; else empty
	// Filtered is true for a record that does not count: it has a Time, event.MinTime if that cannot be read, and nothing else.
	Filtered bool
	Reason   event.Reason
	Detail   string // about Reason, at most 200 bytes
}

// NewReader returns a reader of the pipeline's records.
func (p *Pipeline) NewReader() *Reader { return &Reader{newReader(p)} }

// Read reads a record by the rules of the fold. A Reason that is not empty says why it cannot be processed; what else the reading
// has is then meaningless.
func (r *Reader) Read(rec *event.Record) Reading {
	if rej := r.r.read(rec); rej.reason != "" {
		return Reading{Reason: rej.reason, Detail: rej.detail}
	}
	if r.r.filtered {
		return Reading{Time: r.r.time, Filtered: true}
	}
	return Reading{Time: r.r.time, Key: r.r.key, Values: r.r.inputs, Has: r.r.has, Gaps: r.r.gaps}
}
