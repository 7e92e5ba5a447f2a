// Package delta is what the fold produces and what the state store keeps: the identity of slices and deltas. The store
// compares and keeps these; only core/pipeline knows what is in a payload.
package delta

import "github.com/llm-auto-optimizer/tidemark/core/event"

// SliceID names one list of deltas of a partition: a slice of event time of one window definition, or a reserved list.
type SliceID struct {
	Window uint16     // index of the window definition in the pipeline, or one of the reserved lists below
	Start  event.Time // 0 for the reserved lists
}

// Reserved lists. Stores treat them like any other list of deltas.
const (
	ListRefused uint16 = 0xFFFD // offsets refused by the session definitions
	ListOutbox  uint16 = 0xFFFE // references to late and failed records
	ListCounts  uint16 = 0xFFFF // counts per offset range
)

// FirstReserved is the least of the reserved lists: window definitions have smaller numbers.
const FirstReserved = ListRefused

// Ref names a delta and carries what can be known of it without reading its payload. (Slice, From, Bucket) is its identity:
// writing the same delta twice is writing it once.
type Ref struct {
	Slice  SliceID
	From   int64 // the delta folds offsets [From, To)
	To     int64
	Bucket uint8 // hash bucket of the grouping keys in it
	Owned  int64 // records whose place in the ledger is this delta; 0 <= Owned < 1<<32
}

// Delta is what one batch adds to one slice.
type Delta struct {
	Ref
	Payload []byte
}

// SliceInfo is what a store tells about one list of deltas without reading it.
type SliceInfo struct {
	ID      SliceID
	Deltas  int   // number of deltas
	MaxFrom int64 // largest From among them (an upper bound after a sweep)
	Bytes   int64 // of their payloads, as they are stored; of many deltas possibly estimated from a few (see Store)
}

// Trim removes the deltas of a list that end at or before To.
type Trim struct {
	Slice SliceID
	To    int64
}

// Replace puts With in the place of exactly the deltas Remove, which must all still be stored with the same To. All Remove and
// With are of one slice. With may be empty.
type Replace struct {
	Remove []Ref
	With   []Delta
}
