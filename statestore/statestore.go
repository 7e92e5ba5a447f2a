// Package statestore is the contract of the state store: a cache of folded log prefixes, one slot for each (pipeline, shard,
// source partition). The store may lose the last writes of a slot, or all of them, and results stay exact: every script
// compares tokens and offsets before it changes anything, so a store that went back is found out and rebuilt from the log.
//
// A store only compares and keeps bytes. What the bytes of a delta mean is the business of core/pipeline.
package statestore

import (
	"context"
	"errors"
	"fmt"

	"github.com/llm-auto-optimizer/tidemark/core/delta"
	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// Slot identifies the state of one source partition in one pipeline. All of it changes atomically.
type Slot struct {
	Pipeline  string   // pipeline.ID: 16 lower-case hex digits
	Shard     int      // key shard, from 0
	TopicID   [16]byte // Kafka's id of the topic: a recreated topic has other slots
	Topic     string   // for messages only, not part of the identity
	Partition int32
}

// String names the slot in messages.
func (s Slot) String() string {
	return fmt.Sprintf("%s/%d of pipeline %s", s.Topic, s.Partition, s.Pipeline)
}

// Token names one cut. It is unique to the call that made the cut: 128 random bits.
type Token [16]byte

// Cut (Token, Offset, Watermark): at Offset the fence went up to Watermark. No delta straddles Offset.
type Cut struct {
	Token     Token
	Offset    int64
	Watermark event.Time // event.MinTime before the first plan
}

// Meta is the head of a slot.
type Meta struct {
	Applied      int64      // the next offset to fold
	MaxTime      event.Time // largest event time folded; event.MinTime if none
	LastRecordAt event.Time // wall clock of the last commit that folded a record, or of the restore
	Base         Cut        // the cut of the committed plan that the slot builds on
	Top          Cut        // the newest cut; its Watermark is the fence
}

// HasCut reports whether one of the slot's two cuts has the token.
func (m Meta) HasCut(t Token) bool { return m.Base.Token == t || m.Top.Token == t }

// The identity of slices and deltas is that of the fold.
type (
	// SliceID names one list of deltas in a slot.
	SliceID = delta.SliceID
	// DeltaRef names a delta.
	DeltaRef = delta.Ref
	// Delta is what one batch adds to one slice.
	Delta = delta.Delta
	// SliceInfo is what Status tells about one list of deltas.
	SliceInfo = delta.SliceInfo
	// Trim removes the deltas of a list that end at or before To.
	Trim = delta.Trim
	// Replace puts deltas in the place of exactly those that were read. If one of them is not stored any more, the whole
	// sweep is refused.
	Replace = delta.Replace
)

// Reserved lists. Stores treat them like any other list of deltas; a Restore's Refused goes to ListRefused.
const (
	ListRefused = delta.ListRefused
	ListOutbox  = delta.ListOutbox
	ListCounts  = delta.ListCounts
)

// Status is the head of a slot and its slices in ascending order (Window, Start).
type Status struct {
	Meta
	Slices []SliceInfo
}

// Restore carries what the committed plan says of a partition.
type Restore struct {
	Token      Token
	Offset     int64      // o_p(n)
	Watermark  event.Time // W_n
	ReplayFrom int64
	MaxTime    event.Time
	Now        event.Time // the caller's clock, becomes LastRecordAt of a slot that is made
	NoAdopt    bool       // pipelines with sessions: a slot without the token is dropped, never adopted
	Refused    []Delta    // written to a slot that is made; all with Slice.Window == ListRefused
}

// Image is all of a slot as it was at one moment, at its Applied: what a checkpoint keeps of it.
type Image struct {
	Meta
	Deltas []Delta // of all lists, also the reserved ones; each of them one that Meta.Covers
}

// Covers reports whether a slot with this head may hold the delta: it lies before Applied, or it is refused offsets that came
// with a restore and reach up to its cut. Anything else would be folded once more.
func (m Meta) Covers(r DeltaRef) bool {
	return r.To <= m.Applied || r.Slice.Window == ListRefused && r.From < m.Base.Offset
}

// Outcome says what a Restore did.
type Outcome uint8

// The outcomes.
const (
	Present Outcome = iota + 1 // the token was in one of the cuts: nothing was changed
	Created                    // there was no slot
	Adopted                    // the raise was lost: both cuts were set
	Wiped                      // the slot was dropped and made anew
)

// String names the outcome in logs.
func (o Outcome) String() string {
	switch o {
	case Present:
		return "present"
	case Created:
		return "created"
	case Adopted:
		return "adopted"
	case Wiped:
		return "wiped"
	}
	return fmt.Sprintf("Outcome(%d)", uint8(o))
}

// Commit is one atomic step of ingest: the deltas of the offsets [Applied, To).
type Commit struct {
	Applied int64 // must equal the stored one
	Top     Token // must equal the token of the stored Top
	To      int64 // becomes Applied; >= Applied
	MaxTime event.Time
	Now     event.Time // becomes LastRecordAt unless it is event.MinTime (an empty range)
	Deltas  []Delta    // each with Applied <= From and To <= Commit.To; From >= every stored one of its slice
}

// Raise asks for a new top cut at the slot's Applied.
type Raise struct {
	Token      Token      // fresh, never used before
	Watermark  event.Time // W_n
	Base       Token      // token of the committed plan n-1: one of the cuts must have it
	BaseOffset int64      // o_p(n-1): Applied must not be below it
	Seen       int64      // what the status said of Applied: it must not be below that either
}

// Sweep tidies up after a committed plan: purge, compaction and the removal of final sessions. All of it or nothing.
type Sweep struct {
	Token   Token // must be the token of Top
	Drop    []SliceID
	Trim    []Trim
	Replace []Replace
}

// Sentinels. Every error of a Store wraps one of them or is an I/O error, whose outcome is unknown.
var (
	// ErrNoSlot is returned when the slot does not exist: read the committed plan and Restore.
	ErrNoSlot = errors.New("statestore: no such slot")
	// ErrConflict is returned by Commit when Applied or the token of Top is not what was expected. Nothing changed; fold again
	// from the Meta that came with it.
	ErrConflict = errors.New("statestore: commit conflict")
	// ErrRefused is returned by Raise, Index, Read and Sweep when the slot is not, or no longer, the one that the plan is
	// about: another firer was here, or the store went back. Nothing changed; begin the plan again.
	ErrRefused = errors.New("statestore: refused")
	// ErrExists is returned by Import when the slot exists. Nothing changed: what is there is newer, or the log repairs it.
	ErrExists = errors.New("statestore: slot exists")
	// ErrFormat is returned when stored bytes are damaged: the slot may be dropped, the log rebuilds it. Bytes of a newer version
	// are ErrVersion.
	ErrFormat = errors.New("statestore: unreadable state")
)

// Store keeps slots. All methods are safe for concurrent use, and each is atomic in its slot. Byte slices in arguments are
// not kept after the call; byte slices in answers belong to the caller.
type Store interface {
	// Load returns the head of a slot, or ErrNoSlot.
	Load(ctx context.Context, slot Slot) (Meta, error)
	// Status returns the head and the slices, or ErrNoSlot. Bytes is exact for lists of up to 16 deltas; for longer ones it may be
	// the average of at least one of them, taken at random, times their number.
	Status(ctx context.Context, slot Slot) (Status, error)
	// Restore makes the slot build on a committed plan. No slot: it is created with Applied = ReplayFrom, both cuts
	// (Token, Offset, Watermark), MaxTime, LastRecordAt = Now and the Refused deltas. A cut has Token: nothing. Else, if NoAdopt
	// is false and Applied <= Offset and the fence <= Watermark: both cuts are set. Else everything is dropped and created.
	// The answer is the head afterwards.
	Restore(ctx context.Context, slot Slot, r Restore) (Meta, Outcome, error)
	// Commit appends deltas. With ErrConflict and with success the answer is the head as stored afterwards. MaxTime only grows.
	// If the last commit was torn (it left its mark), what it left at or beyond Applied is removed first.
	Commit(ctx context.Context, slot Slot, c Commit) (Meta, error)
	// Raise sets Base to the cut that has r.Base and Top to (r.Token, Applied, r.Watermark), and returns the head, whose
	// Top.Offset is o_p(n). ErrRefused unless a cut has r.Base, Applied >= BaseOffset, Applied >= Seen, fence <= Watermark and
	// no cut has r.Token already.
	Raise(ctx context.Context, slot Slot, r Raise) (Meta, error)
	// Index lists the deltas of some slices, ordered by (slice as asked, From, Bucket). ErrRefused unless a cut has the token.
	Index(ctx context.Context, slot Slot, token Token, slices []SliceID) ([]DeltaRef, error)
	// Read returns the payloads of some deltas, in their order. ErrRefused unless a cut has the token, or if one of them is gone.
	Read(ctx context.Context, slot Slot, token Token, refs []DeltaRef) ([][]byte, error)
	// Sweep removes and replaces deltas. ErrRefused unless the token of Top is s.Token. Slices left empty disappear.
	Sweep(ctx context.Context, slot Slot, s Sweep) error
	// Import puts a slot back as it was, all of it at once: cuts, tokens and deltas. ErrExists if there is a slot. To the protocol
	// it is a slot that went back to an earlier state of its own; the log has what came after it.
	Import(ctx context.Context, slot Slot, image Image) error
	// Drop removes the slot and everything in it; no slot is no error.
	Drop(ctx context.Context, slot Slot) error
	// Slots lists the slots of a pipeline (all pipelines if the id is empty), in no particular order. Slot.Topic is
	// empty where the store cannot know it.
	Slots(ctx context.Context, pipeline string) ([]Slot, error)
	// Close releases connections and files.
	Close() error
}
