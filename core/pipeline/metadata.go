package pipeline

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// MaxMetadata is what a broker takes as metadata of a committed offset (offset.metadata.max.bytes), in bytes.
const MaxMetadata = 4096

// Commitment is what a plan commits with the offset o_p(n) of a partition: the whole truth that a restore starts from.
type Commitment struct {
	Plan       int64
	Watermark  event.Time // W_n
	At         event.Time // wall clock of the plan
	Token      [16]byte
	TopicID    [16]byte // Kafka's id of the topic: another one means that the topic was made anew
	ReplayFrom int64
	MaxTime    event.Time
	Ended      bool // another pipeline took over: neither ingest nor fire does anything more
	TakenOver  bool // a genesis that goes on where another pipeline's plan ended: its slot is folded from ReplayFrom, below the offset
	Totals     Totals
	// Refused are the offsets from ReplayFrom on that session definitions refused. Where they do not fit into the metadata they
	// are in ledger records instead, at RefusedAt.
	Refused   []Refusal
	RefusedAt *LedgerSpan
	// EarlySince is the offset up to which the last early panes by time had the log; 0: there were none.
	EarlySince int64
	Panes      *PanesSpan // where the pane history is; nil: it is empty
	// Held is how long after its end a window goes out, at most; 0 where that is at its end. Who takes over has to know which have not.
	Held event.Span
}

// PanesSpan names the records of the topic of pane histories that hold a pipeline's. All partitions of a plan commit the same.
type PanesSpan struct {
	Partition int32
	From, To  int64 // offsets [From, To); records of other pipelines are among them
	Plan      int64 // not 0: only records of this plan count. Without transactions others may be of plans that never were
}

// Totals are running totals since the genesis.
type Totals struct {
	Counts
	Final int64
}

// LedgerSpan names records of the ledger topic.
type LedgerSpan struct {
	Partition int32
	Offsets   []int64
}

// metadataVersion 2 knows the flag of a genesis that takes over, 3 the place of the pane history and windows that are held; else they are as version 1. What
// needs no version 3 is written as version 2, which older programs read.
const (
	metadataPrefix  = "t1:"
	metadataVersion = 3
)

// Flags of a commitment.
const (
	flagEnded     = 1
	flagRefusedAt = 2
	flagTakenOver = 4
	flagPanes     = 8
	flagHeld      = 16
)

// flagsOf returns the flags that a version knows.
func flagsOf(version byte) byte {
	switch {
	case version < 2:
		return flagEnded | flagRefusedAt
	case version < 3:
		return flagEnded | flagRefusedAt | flagTakenOver
	}
	return flagEnded | flagRefusedAt | flagTakenOver | flagPanes | flagHeld
}

// AppendCommitment writes the metadata: "t1:" and base64 of the binary form with its CRC32C. The result may be longer than
// MaxMetadata; the refused offsets then have to move out.
func AppendCommitment(dst []byte, c *Commitment) []byte {
	panes := c.EarlySince != 0 || c.Panes != nil
	b := []byte{metadataVersion - 1}
	if panes || c.Held > 0 {
		b[0] = metadataVersion
	}
	b = binary.AppendUvarint(b, uint64(c.Plan))
	b = binary.AppendVarint(b, int64(c.Watermark))
	b = binary.AppendVarint(b, int64(c.At))
	b = append(append(b, c.Token[:]...), c.TopicID[:]...)
	b = binary.AppendUvarint(b, uint64(c.ReplayFrom))
	b = binary.AppendVarint(b, int64(c.MaxTime))
	b = AppendCounts(b, c.Totals.Counts)
	b = binary.AppendUvarint(b, uint64(c.Totals.Final))
	flags := byte(0)
	if c.Ended {
		flags |= flagEnded
	}
	if c.RefusedAt != nil {
		flags |= flagRefusedAt
	}
	if c.TakenOver {
		flags |= flagTakenOver
	}
	if panes {
		flags |= flagPanes
	}
	if c.Held > 0 {
		flags |= flagHeld
	}
	b = append(b, flags)
	if panes {
		b = c.appendPanes(b)
	}
	if c.Held > 0 {
		b = binary.AppendUvarint(b, uint64(c.Held))
	}
	if c.RefusedAt != nil {
		b = binary.AppendUvarint(b, uint64(c.RefusedAt.Partition))
		b = binary.AppendUvarint(b, uint64(len(c.RefusedAt.Offsets)))
		for _, o := range c.RefusedAt.Offsets {
			b = binary.AppendUvarint(b, uint64(o))
		}
	} else {
		b = AppendRefused(b, c.Refused)
	}
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return base64.RawURLEncoding.AppendEncode(append(dst, metadataPrefix...), b)
}

// appendPanes writes EarlySince, and 0, or 1 and the span.
func (c *Commitment) appendPanes(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(c.EarlySince))
	if c.Panes == nil {
		return append(b, 0)
	}
	b = binary.AppendUvarint(append(b, 1), uint64(c.Panes.Partition))
	b = binary.AppendUvarint(b, uint64(c.Panes.From))
	b = binary.AppendUvarint(b, uint64(c.Panes.To))
	return binary.AppendUvarint(b, uint64(c.Panes.Plan))
}

func (c *Commitment) decodePanes(in *cursor) {
	c.EarlySince = int64(in.uvarint())
	switch in.uvarint() {
	case 0:
	case 1:
		c.Panes = &PanesSpan{Partition: int32(in.uvarint()), From: int64(in.uvarint()), To: int64(in.uvarint()), Plan: int64(in.uvarint())}
		in.failed = in.failed || c.Panes.Partition < 0 || c.Panes.From < 0 || c.Panes.To < c.Panes.From || c.Panes.Plan < 0
	default:
		in.failed = true
	}
	in.failed = in.failed || c.EarlySince < 0
}

// DecodeCommitment reads metadata. Errors wrap ErrPayload.
func DecodeCommitment(s string) (*Commitment, error) {
	if len(s) < len(metadataPrefix) || s[:len(metadataPrefix)] != metadataPrefix {
		return nil, fmt.Errorf("metadata %.20q: not written by this program, or by a newer one: %w", s, ErrPayload)
	}
	b, err := base64.RawURLEncoding.DecodeString(s[len(metadataPrefix):])
	if err != nil || len(b) < 5 {
		return nil, fmt.Errorf("metadata %.20q: not base64: %w", s, ErrPayload)
	}
	body, sum := b[:len(b)-4], binary.BigEndian.Uint32(b[len(b)-4:])
	if crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)) != sum {
		return nil, fmt.Errorf("metadata %.20q: checksum differs: %w", s, ErrPayload)
	}
	if body, err = checkVersion(body, metadataVersion, "metadata"); err != nil {
		return nil, err
	}
	version := b[0]
	out := &Commitment{}
	c := cursor{b: body}
	out.Plan = int64(c.uvarint())
	out.Watermark = event.Time(c.varint())
	out.At = event.Time(c.varint())
	if len(c.b) < len(out.Token)+len(out.TopicID) {
		return nil, fmt.Errorf("metadata: cut short: %w", ErrPayload)
	}
	c.b = c.b[copy(out.Token[:], c.b):]
	c.b = c.b[copy(out.TopicID[:], c.b):]
	out.ReplayFrom = int64(c.uvarint())
	out.MaxTime = event.Time(c.varint())
	if c.b, err = out.Totals.decode(c.b); err != nil {
		return nil, err
	}
	out.Totals.Final = int64(c.uvarint())
	if c.failed || len(c.b) == 0 || out.Plan < 0 || out.ReplayFrom < 0 {
		return nil, fmt.Errorf("metadata: cut short: %w", ErrPayload)
	}
	flags := c.b[0]
	c.b = c.b[1:]
	if unknown := flags &^ flagsOf(version); unknown != 0 {
		return nil, fmt.Errorf("metadata: version %d has no flag %#x: %w", version, unknown, ErrPayload)
	}
	out.Ended, out.TakenOver = flags&flagEnded != 0, flags&flagTakenOver != 0
	if flags&flagPanes != 0 {
		if out.decodePanes(&c); c.failed {
			return nil, fmt.Errorf("metadata: place of the pane history: %w", ErrPayload)
		}
	}
	if flags&flagHeld != 0 {
		if out.Held = event.Span(c.uvarint()); c.failed || out.Held <= 0 {
			return nil, fmt.Errorf("metadata: how long windows are held: %w", ErrPayload)
		}
	}
	if flags&flagRefusedAt == 0 {
		out.Refused, err = DecodeRefused(nil, c.b)
		return out, err
	}
	out.RefusedAt = &LedgerSpan{Partition: int32(c.uvarint())}
	for range c.count() {
		out.RefusedAt.Offsets = append(out.RefusedAt.Offsets, int64(c.uvarint()))
	}
	if c.failed || len(c.b) > 0 {
		return nil, fmt.Errorf("metadata: cut short or too long: %w", ErrPayload)
	}
	return out, nil
}
