package trigger

import (
	"fmt"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// Hooks are told what a trigger does. Each may be nil. They are called from several goroutines at once, between the steps of
// delivery, so that they should only take note; what they are handed is theirs to keep. For one batch Sent comes before Answered,
// and Answered before the Committed that covers it.
type Hooks struct {
	// Begun: it is settled where the group begins, before its first member joins. What is published from then on is delivered,
	// whatever the starting position is.
	Begun func()
	// Assigned: a poller has these partitions from now on, and no others.
	Assigned func(Assigned)
	// Polled: records came in. Those that filters hold back are counted here and seen nowhere else.
	Polled func(Polled)
	// Sent: an invocation begins.
	Sent func(Batch)
	// Answered: an invocation has ended.
	Answered func(Answered)
	// Dropped: records were given up; their partition goes on behind them.
	Dropped func(Dropped)
	// Committed: the group's offsets are moved, or could not be.
	Committed func(Committed)
}

// Assigned says what a poller reads.
type Assigned struct {
	Poller     int // from 0
	Partitions []event.TopicPartition
}

// Polled says what came in of one partition.
type Polled struct {
	event.TopicPartition
	Poller   int
	Records  int   // all
	Filtered int   // of them, held back by filters
	End      int64 // of the partition, when this was read (its high watermark)
	At       time.Time
}

// Span is a run of records of one partition. There may be offsets between First and Last that are not in it.
type Span struct {
	event.TopicPartition
	First, Last int64 // offsets
	Records     int
}

// Closing says why a batch was closed.
type Closing uint8

// The reasons.
const (
	ClosedBySize    Closing = iota // it has BatchSize records
	ClosedByWindow                 // its window is over; with a window of 0, at once
	ClosedByPayload                // one record more would have made the event larger than 6 MB
	ClosedByRetry                  // it is all, a half or what failed of an earlier one
)

// String returns a word for messages.
func (c Closing) String() string {
	switch c {
	case ClosedBySize:
		return "size"
	case ClosedByWindow:
		return "window"
	case ClosedByPayload:
		return "payload"
	case ClosedByRetry:
		return "retry"
	}
	return fmt.Sprintf("Closing(%d)", uint8(c))
}

// Batch is one invocation.
type Batch struct {
	ID       int64 // of the invocation, unique in this Run, ascending
	Poller   int   // from 0
	Attempt  int   // from 1; above 1 its records have been handed over before
	Spans    []Span
	Records  int // in all spans
	Bytes    int // of the payload
	Closed   Closing
	Arrived  time.Time // when the oldest of its records reached the poller
	Appended time.Time // the least Kafka timestamp of its records
	At       time.Time // when Invoke was called
}

// Outcome is what came of an invocation.
type Outcome uint8

// The outcomes.
const (
	Applied   Outcome = iota // all records are done
	Partial                  // some are: see Answered.Failed
	Failed                   // none is: Invoke returned an error, or its context ended
	Malformed                // none is: the answer names what was not in the batch, or is none
)

// String returns a word for messages.
func (o Outcome) String() string {
	switch o {
	case Applied:
		return "applied"
	case Partial:
		return "partial"
	case Failed:
		return "failed"
	case Malformed:
		return "malformed"
	}
	return fmt.Sprintf("Outcome(%d)", uint8(o))
}

// Answered is the end of an invocation.
type Answered struct {
	Batch
	Outcome Outcome
	Done    int   // records that are done
	Failed  int   // records that are not
	Err     error // of Failed and Malformed
	Took    time.Duration
}

// Reason says why a record was given up.
type Reason uint8

// The reasons.
const (
	RetriesExhausted Reason = iota
	TooOld                  // older than MaxAge
	TooLarge                // its event alone would have more than 6 MB
)

// String returns the word that records in the topic for failures have as their condition.
func (r Reason) String() string {
	switch r {
	case RetriesExhausted:
		return "RetriesExhausted"
	case TooOld:
		return "RecordAgeExceeded"
	case TooLarge:
		return "MaximumPayloadSizeExceeded"
	}
	return fmt.Sprintf("Reason(%d)", uint8(r))
}

// Dropped says which records were given up.
type Dropped struct {
	Span
	Reason Reason
	Topic  string // where they went; empty: nowhere
	At     time.Time
}

// Committed is a commit of the group's offsets.
type Committed struct {
	Poller  int
	Offsets map[event.TopicPartition]int64 // the next offset to be delivered
	Err     error                          // not nil: it was not made. What it covered may be delivered again
	At      time.Time
	Took    time.Duration
}
