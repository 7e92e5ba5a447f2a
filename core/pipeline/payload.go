package pipeline

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// ErrPayload is returned when the payload of a delta, or the metadata of a plan, is damaged or of a newer version.
var ErrPayload = errors.New("pipeline: unreadable payload")

// Versions of the payloads of slices. DESIGN.md of core draws them.
const (
	groupsVersion    = 1
	fragmentsVersion = 1
	outboxVersion    = 1
	refusedVersion   = 1
)

func checkVersion(b []byte, version byte, what string) ([]byte, error) {
	switch {
	case len(b) == 0:
		return nil, fmt.Errorf("%s: empty: %w", what, ErrPayload)
	case b[0] > version:
		return nil, fmt.Errorf("%s: version %d is newer than this program, which reads up to %d: %w", what, b[0], version, ErrPayload)
	case b[0] == 0:
		return nil, fmt.Errorf("%s: version 0: %w", what, ErrPayload)
	}
	return b[1:], nil
}

// cursor reads varints and byte strings; the first failure sticks.
type cursor struct {
	b      []byte
	failed bool
}

func (c *cursor) uvarint() uint64 {
	v, n := binary.Uvarint(c.b)
	if n <= 0 {
		c.b, c.failed = nil, true
		return 0
	}
	c.b = c.b[n:]
	return v
}

func (c *cursor) varint() int64 {
	v, n := binary.Varint(c.b)
	if n <= 0 {
		c.b, c.failed = nil, true
		return 0
	}
	c.b = c.b[n:]
	return v
}

func (c *cursor) bytes() []byte {
	n := c.uvarint()
	if n > uint64(len(c.b)) {
		c.b, c.failed = nil, true
		return nil
	}
	v := c.b[:n:n]
	c.b = c.b[n:]
	return v
}

// count reads a number of items of at least one byte each, so that a damaged count cannot ask for much memory.
func (c *cursor) count() int {
	n := c.uvarint()
	if n > uint64(len(c.b)) {
		c.b, c.failed = nil, true
		return 0
	}
	return int(n)
}

// OutboxEntry refers to a record that goes to the late or the dead letter topic; the record itself is in the log.
type OutboxEntry struct {
	Offset int64
	Reason event.Reason
	Time   event.Time // event time, event.MinTime if it is not known
	Fence  event.Time // the fence that made it late
	Detail string     // at most 200 bytes
}

// AppendOutbox appends the stored form of entries in ascending order of offset.
func AppendOutbox(dst []byte, entries []OutboxEntry) []byte {
	dst = append(dst, outboxVersion)
	dst = binary.AppendUvarint(dst, uint64(len(entries)))
	last := int64(0)
	for i := range entries {
		e := &entries[i]
		dst = binary.AppendUvarint(dst, uint64(e.Offset-last))
		last = e.Offset
		dst = appendBytes(dst, string(e.Reason))
		dst = binary.AppendVarint(dst, int64(e.Time))
		dst = binary.AppendVarint(dst, int64(e.Fence))
		dst = appendBytes(dst, e.Detail)
	}
	return dst
}

// DecodeOutbox appends the entries of a payload to dst. Errors wrap ErrPayload.
func DecodeOutbox(dst []OutboxEntry, b []byte) ([]OutboxEntry, error) {
	b, err := checkVersion(b, outboxVersion, "outbox")
	if err != nil {
		return dst, err
	}
	c := cursor{b: b}
	last := int64(0)
	for range c.count() {
		var e OutboxEntry
		last += int64(c.uvarint())
		e.Offset = last
		e.Reason = event.Reason(c.bytes())
		e.Time = event.Time(c.varint())
		e.Fence = event.Time(c.varint())
		e.Detail = string(c.bytes())
		if c.failed || e.Offset < 0 {
			break
		}
		dst = append(dst, e)
	}
	if c.failed || last < 0 || len(c.b) > 0 {
		return dst, fmt.Errorf("outbox: cut short or too long: %w", ErrPayload)
	}
	return dst, nil
}

// Refusal is an offset that a session definition refused because of the fence.
type Refusal struct {
	Window int // index of the definition
	Offset int64
}

// AppendRefused appends the stored form of refusals in ascending order of offset.
func AppendRefused(dst []byte, refusals []Refusal) []byte {
	dst = append(dst, refusedVersion)
	dst = binary.AppendUvarint(dst, uint64(len(refusals)))
	last := int64(0)
	for _, r := range refusals {
		dst = binary.AppendUvarint(dst, uint64(r.Offset-last))
		dst = binary.AppendUvarint(dst, uint64(r.Window))
		last = r.Offset
	}
	return dst
}

// DecodeRefused appends the refusals of a payload to dst. Errors wrap ErrPayload.
func DecodeRefused(dst []Refusal, b []byte) ([]Refusal, error) {
	b, err := checkVersion(b, refusedVersion, "refused offsets")
	if err != nil {
		return dst, err
	}
	c := cursor{b: b}
	last := int64(0)
	for range c.count() {
		last += int64(c.uvarint())
		w := c.uvarint()
		if c.failed || last < 0 || w > 1<<16 {
			c.failed = true
			break
		}
		dst = append(dst, Refusal{Window: int(w), Offset: last})
	}
	if c.failed || len(c.b) > 0 {
		return dst, fmt.Errorf("refused offsets: cut short or too long: %w", ErrPayload)
	}
	return dst, nil
}

func appendBytes[T string | []byte](dst []byte, s T) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}
