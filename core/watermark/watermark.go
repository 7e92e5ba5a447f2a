// Package watermark decides the low watermark of a pipeline: the event time below which no record is expected on any of its
// partitions. It also says who holds it back.
//
// Watermarks are exclusive: W means that no record with a time below W is expected, and a window [start, end) closes iff
// end <= W. (Flink's watermarks are inclusive, one less.) MinTime stands for "no watermark yet".
package watermark

import (
	"cmp"
	"slices"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/faults"
)

// AllIdle says what the watermark does when all partitions are idle.
type AllIdle string

// What the watermark does when all partitions are idle.
const (
	Advance AllIdle = "advance" // it follows the clock, so that the last windows close without new records
	Hold    AllIdle = "hold"    // it stays
	Max     AllIdle = "max"     // it goes to the furthest partition's watermark
)

// Policy is how a pipeline wants its watermark. The zero value has no bound, never idles and holds.
type Policy struct {
	Bound       event.Span // how far behind its partition's largest time a record may be without being late, >= 0
	IdleTimeout event.Span // wall clock since a partition's last record; 0: never idle
	AllIdle     AllIdle    // empty: Hold
	CatchUp     bool       // a partition that was left out while it was idle stays so until its own watermark is not below the last one
	Periodic    bool       // the watermark moves to multiples of Interval only
	Interval    event.Span // > 0 if Periodic
}

// Partition is what is known of one partition when the watermark is decided.
type Partition struct {
	event.TopicPartition
	MaxTime      event.Time // largest event time folded; MinTime: no record yet
	Applied, End int64      // next offset to fold, and the broker's end offset, asked for after Applied was read
	LastRecordAt event.Time // wall clock of the last record folded; before the first one, when the slot was created
	Fence        event.Time // largest watermark that any attempt at a plan has raised on it; MinTime: none
	Blocked      bool       // an open transaction keeps records below the end from being read
}

// mark returns the partition's own watermark.
func (p *Partition) mark(bound event.Span) event.Time {
	if p.MaxTime == event.MinTime {
		return event.MinTime
	}
	return p.MaxTime.Add(-bound)
}

// behind reports whether the partition has records, all of which are before a watermark.
func (p *Partition) behind(bound event.Span, w event.Time) bool {
	return p.MaxTime != event.MinTime && p.mark(bound) < w
}

// caughtUp reports whether nothing is left to fold.
func (p *Partition) caughtUp() bool { return p.Applied >= p.End && !p.Blocked }

// idle reports whether the partition is left out: it is caught up and has brought no record for the timeout. One that lags
// may have records of any time in what it has not folded yet, so it is never idle.
func (p *Partition) idle(timeout event.Span, now event.Time) bool {
	return timeout > 0 && p.caughtUp() && now.Sub(p.LastRecordAt) >= timeout
}

// Reason says why the watermark is not further on. The set is closed; the strings are published.
type Reason string

// The reasons.
const (
	ReasonNone            Reason = "none"             // there are no partitions
	ReasonSlowest         Reason = "slowest"          // the partition's records have the lowest times
	ReasonLagging         Reason = "lagging"          // and it has records that are not folded yet
	ReasonNoRecordYet     Reason = "no_record_yet"    // it has no record, and is not idle yet
	ReasonOpenTransaction Reason = "open_transaction" // it has records in a transaction that is still open
	ReasonFence           Reason = "fence"            // an attempt at a plan that did not finish raised the watermark so far
	ReasonAllIdle         Reason = "all_idle"         // all partitions are idle: the policy decided
	ReasonInterval        Reason = "interval"         // the next multiple of the interval is not reached
)

// Holder says who holds the watermark back, and why.
type Holder struct {
	event.TopicPartition // zero where Reason is ReasonNone or ReasonAllIdle
	Reason               Reason
	Behind               event.Span // how far the partition is behind the furthest one, where both have records; else 0
	Lag                  int64      // offsets that it has not folded yet
}

// Decision is the low watermark, and why it is where it is.
type Decision struct {
	Watermark event.Time // never below the last one
	Moved     bool       // Watermark is above the last one
	Waiting   bool       // it would move, but the Holder has neither passed the new watermark nor caught up
	Holder    Holder
	Idle      []event.TopicPartition // ascending; nil: none
}

// Low decides the watermark of the next plan. last is that of the plan before (MinTime: none), now the wall clock. The order
// of the partitions does not matter.
//
// The watermark is the largest of last, every fence, and the least MaxTime - Bound over the partitions that are not idle; a
// partition without a record counts as MinTime. With CatchUp those are left out, too, that have records and are behind last: it has
// passed them while they were idle, which their watermark tells. It moves only if every partition has passed it or is caught up.
func Low(p Policy, parts []Partition, last, now event.Time) Decision {
	d := Decision{Watermark: last, Holder: Holder{Reason: ReasonNone}}
	if len(parts) == 0 {
		return d
	}
	reach := p.candidate(parts, last, now, &d)
	candidate := reach
	if p.Periodic && p.Interval > 0 {
		candidate = reach.Floor(p.Interval, 0)
	}
	if reach > last && candidate <= last && d.Holder.Reason != ReasonAllIdle {
		d.Holder.Reason = ReasonInterval
	}
	w := max(last, candidate)
	if fenced := furthestFence(parts); fenced.Fence > w && !faults.Off(faults.RaiseFence) {
		w = fenced.Fence
		d.Holder = p.holder(parts, fenced)
		d.Holder.Reason = ReasonFence
	}
	if w == last {
		return d
	}
	if wait := p.slowest(parts, func(q *Partition) bool { return q.mark(p.Bound) < w && !q.caughtUp() && !faults.Off(faults.Admissible) }); wait != nil {
		d.Waiting, d.Holder = true, p.holder(parts, wait)
		return d
	}
	d.Watermark, d.Moved = w, true
	return d
}

// candidate returns what the partitions' own watermarks allow, and puts the holder and the idle partitions into d.
func (p *Policy) candidate(parts []Partition, last, now event.Time, d *Decision) event.Time {
	for i := range parts {
		if parts[i].idle(p.IdleTimeout, now) {
			d.Idle = append(d.Idle, parts[i].TopicPartition)
		}
	}
	slices.SortFunc(d.Idle, compare)
	if len(d.Idle) == len(parts) {
		d.Holder = Holder{Reason: ReasonAllIdle}
		return p.allIdle(parts, now)
	}
	active := func(q *Partition) bool { return !q.idle(p.IdleTimeout, now) }
	least := p.slowest(parts, func(q *Partition) bool { return active(q) && !(p.CatchUp && q.behind(p.Bound, last)) })
	if least == nil { // all that are active catch up
		least = p.slowest(parts, active)
	}
	d.Holder = p.holder(parts, least)
	return least.mark(p.Bound)
}

func (p *Policy) allIdle(parts []Partition, now event.Time) event.Time {
	switch p.AllIdle {
	case Advance:
		return max(p.furthest(parts), now.Add(-p.IdleTimeout).Add(-p.Bound))
	case Max:
		return p.furthest(parts)
	case Hold:
		return event.MinTime
	}
	return event.MinTime
}

// furthest returns the largest watermark of a partition.
func (p *Policy) furthest(parts []Partition) event.Time {
	most := event.MinTime
	for i := range parts {
		most = max(most, parts[i].mark(p.Bound))
	}
	return most
}

// slowest returns the partition with the least watermark among those that are asked for; of equal ones the one with most
// reason to look at, then the first by name. nil: none was asked for.
func (p *Policy) slowest(parts []Partition, ask func(*Partition) bool) *Partition {
	var least *Partition
	for i := range parts {
		q := &parts[i]
		if !ask(q) {
			continue
		}
		if least == nil || cmp.Or(
			cmp.Compare(q.mark(p.Bound), least.mark(p.Bound)),
			cmp.Compare(severity(q.reason()), severity(least.reason())),
			compare(q.TopicPartition, least.TopicPartition)) < 0 {
			least = q
		}
	}
	return least
}

// furthestFence returns the partition with the largest fence, of equal ones the first by name.
func furthestFence(parts []Partition) *Partition {
	most := &parts[0]
	for i := range parts[1:] {
		q := &parts[i+1]
		if cmp.Or(cmp.Compare(most.Fence, q.Fence), compare(q.TopicPartition, most.TopicPartition)) < 0 {
			most = q
		}
	}
	return most
}

// reason returns why q holds the watermark back, if it does.
func (p *Partition) reason() Reason {
	switch {
	case p.Blocked:
		return ReasonOpenTransaction
	case p.Applied < p.End:
		return ReasonLagging
	case p.MaxTime == event.MinTime:
		return ReasonNoRecordYet
	}
	return ReasonSlowest
}

// severity orders the reasons of a single partition: what somebody should look at comes first.
func severity(r Reason) int {
	return slices.Index([]Reason{ReasonOpenTransaction, ReasonLagging, ReasonNoRecordYet, ReasonSlowest}, r)
}

func (p *Policy) holder(parts []Partition, q *Partition) Holder {
	h := Holder{TopicPartition: q.TopicPartition, Reason: q.reason(), Lag: max(0, q.End-q.Applied)}
	if q.MaxTime != event.MinTime {
		h.Behind = p.furthest(parts).Sub(q.mark(p.Bound))
	}
	return h
}

func compare(a, b event.TopicPartition) int {
	return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
}
