package statestore

import (
	"encoding/hex"
	"fmt"

	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// The bytes below are stored. All of them are ASCII of fixed width, so that comparing bytes compares what they stand for, a
// script can cut out a part by its position, and a person can read them. DESIGN.md draws them; testdata has goldens.
const (
	// FieldSize is the length of a delta's field name: FROM(16) BUCKET(2) TO(16) OWNED(8).
	FieldSize = 16 + 2 + 16 + 8
	// FieldKeySize is the length of the part of a field name that is the delta's identity in its slice: FROM(16) BUCKET(2).
	FieldKeySize = 16 + 2
	// SliceSize is the length of a slice's name: WINDOW(4) START(16).
	SliceSize = 4 + 16
	// SlotSize is the length of a slot's name: PIPELINE(16) SHARD(8) TOPIC ID(32) PARTITION(8).
	SlotSize = 16 + 8 + 32 + 8
	// MetaSize is the length of a slot's head: VERSION(2) APPLIED(16) MAX TIME(16) LAST RECORD AT(16), then for the base and
	// for the top cut TOKEN(32) OFFSET(16) WATERMARK(16).
	MetaSize = 2 + 3*16 + 2*cutSize

	// MetaVersion is what every encoded head begins with.
	MetaVersion = "01"

	cutSize  = 32 + 16 + 16
	hexLower = "0123456789abcdef"
	signBit  = 1 << 63
)

// AppendOffset appends an offset (>= 0) as 16 lower-case hex digits.
func AppendOffset(dst []byte, offset int64) []byte { return appendHex(dst, uint64(offset), 16) }

// ParseOffset reads what AppendOffset wrote. ErrFormat if b is anything else.
func ParseOffset(b []byte) (int64, error) {
	v, ok := parseHex(b, 16)
	if !ok || v >= signBit {
		return 0, fmt.Errorf("offset %s: %w", excerpt(b), ErrFormat)
	}
	return int64(v), nil
}

// AppendTime appends t as 16 lower-case hex digits with the sign bit flipped: the order of the digits is the order of the
// times, from event.MinTime = 0000000000000000 to event.MaxTime = ffffffffffffffff.
func AppendTime(dst []byte, t event.Time) []byte { return appendHex(dst, uint64(t)^signBit, 16) }

// ParseTime reads what AppendTime wrote. ErrFormat if b is anything else.
func ParseTime(b []byte) (event.Time, error) {
	v, ok := parseHex(b, 16)
	if !ok {
		return 0, fmt.Errorf("time %s: %w", excerpt(b), ErrFormat)
	}
	return event.Time(v ^ signBit), nil
}

// AppendToken appends t as 32 lower-case hex digits.
func AppendToken(dst []byte, t Token) []byte { return hex.AppendEncode(dst, t[:]) }

// ParseToken reads what AppendToken wrote. ErrFormat if b is anything else.
func ParseToken(b []byte) (Token, error) {
	var t Token
	if !parseHexBytes(t[:], b) {
		return Token{}, fmt.Errorf("token %s: %w", excerpt(b), ErrFormat)
	}
	return t, nil
}

// AppendSlice appends the name of a slice. Names are ordered as (Window, Start).
func AppendSlice(dst []byte, id SliceID) []byte {
	return AppendTime(appendHex(dst, uint64(id.Window), 4), id.Start)
}

// ParseSlice reads what AppendSlice wrote. ErrFormat if name is anything else.
func ParseSlice(name []byte) (SliceID, error) {
	if len(name) == SliceSize {
		w, okW := parseHex(name[:4], 4)
		s, okS := parseHex(name[4:], 16)
		if okW && okS {
			return SliceID{Window: uint16(w), Start: event.Time(s ^ signBit)}, nil
		}
	}
	return SliceID{}, fmt.Errorf("slice name %s: %w", excerpt(name), ErrFormat)
}

// AppendField appends the field name of a delta, which has all of r but its slice: a list of names is an index. Names are
// ordered as (From, Bucket). r must be one that CheckDelta accepts; the name of any other is one that ParseField refuses.
func AppendField(dst []byte, r DeltaRef) []byte {
	dst = AppendFieldKey(dst, r)
	dst = appendHex(dst, uint64(r.To), 16)
	if r.Owned < 0 || r.Owned > maxOwned {
		return append(dst, "????????"...)
	}
	return appendHex(dst, uint64(r.Owned), 8)
}

// AppendFieldKey appends the first FieldKeySize bytes of the field name: the delta's identity in its slice. At most one name
// with these bytes is stored in a slice.
func AppendFieldKey(dst []byte, r DeltaRef) []byte {
	return appendHex(AppendOffset(dst, r.From), uint64(r.Bucket), 2)
}

// ParseField reads what AppendField wrote for a delta of slice. ErrFormat if name is anything else.
func ParseField(slice SliceID, name []byte) (DeltaRef, error) {
	if len(name) == FieldSize {
		from, ok1 := parseHex(name[:16], 16)
		bucket, ok2 := parseHex(name[16:18], 2)
		to, ok3 := parseHex(name[18:34], 16)
		owned, ok4 := parseHex(name[34:], 8)
		if ok1 && ok2 && ok3 && ok4 && from <= to && to < signBit {
			return DeltaRef{Slice: slice, From: int64(from), To: int64(to), Bucket: uint8(bucket), Owned: int64(owned)}, nil
		}
	}
	return DeltaRef{}, fmt.Errorf("field name %s of slice %d/%s: %w", excerpt(name), slice.Window, slice.Start, ErrFormat)
}

// AppendSlot appends the name of a slot, which must be one that CheckSlot accepts. The topic's name is no part of it. Names of
// one pipeline begin with its id.
func AppendSlot(dst []byte, s Slot) []byte {
	dst = append(dst, s.Pipeline...)
	dst = appendHex(dst, uint64(uint32(s.Shard)), 8)
	dst = hex.AppendEncode(dst, s.TopicID[:])
	return appendHex(dst, uint64(uint32(s.Partition)), 8)
}

// ParseSlot reads what AppendSlot wrote; Topic is empty. ErrFormat if name is anything else.
func ParseSlot(name []byte) (Slot, error) {
	var s Slot
	if len(name) == SlotSize {
		_, ok1 := parseHex(name[:16], 16)
		shard, ok2 := parseHex(name[16:24], 8)
		ok3 := parseHexBytes(s.TopicID[:], name[24:56])
		partition, ok4 := parseHex(name[56:], 8)
		if ok1 && ok2 && ok3 && ok4 && shard < 1<<31 && partition < 1<<31 {
			s.Pipeline, s.Shard, s.Partition = string(name[:16]), int(shard), int32(partition)
			return s, nil
		}
	}
	return Slot{}, fmt.Errorf("slot name %s: %w", excerpt(name), ErrFormat)
}

// EncodeMeta returns the stored form of a head, MetaSize bytes.
func EncodeMeta(m Meta) []byte {
	b := append(make([]byte, 0, MetaSize), MetaVersion...)
	b = AppendOffset(b, m.Applied)
	b = AppendTime(b, m.MaxTime)
	b = AppendTime(b, m.LastRecordAt)
	b = appendCut(b, m.Base)
	return appendCut(b, m.Top)
}

// DecodeMeta reads what EncodeMeta wrote. ErrVersion if b is of a newer version, ErrFormat if it is damaged.
func DecodeMeta(b []byte) (Meta, error) {
	if len(b) < len(MetaVersion) {
		return Meta{}, fmt.Errorf("head of %d bytes: %w", len(b), ErrFormat)
	}
	if err := checkVersion(b[:len(MetaVersion)]); err != nil {
		return Meta{}, err
	}
	if len(b) != MetaSize {
		return Meta{}, fmt.Errorf("head of %d bytes, want %d: %w", len(b), MetaSize, ErrFormat)
	}
	d := metaDecoder{rest: b[len(MetaVersion):]}
	m := Meta{Applied: d.offset(), MaxTime: d.time(), LastRecordAt: d.time(), Base: d.cut(), Top: d.cut()}
	if d.err != nil {
		return Meta{}, fmt.Errorf("head: %w", d.err)
	}
	return m, nil
}

// checkVersion reports with ErrVersion that a head begins with a later version than MetaVersion, and with ErrFormat that what it
// begins with was never a version.
func checkVersion(v []byte) error {
	if string(v) == MetaVersion {
		return nil
	}
	err := ErrFormat
	if _, ok := parseHex(v, len(MetaVersion)); ok && string(v) > MetaVersion {
		err = ErrVersion
	}
	return fmt.Errorf("head of version %s, this program reads %s: %w", excerpt(v), MetaVersion, err)
}

func appendCut(dst []byte, c Cut) []byte {
	return AppendTime(AppendOffset(AppendToken(dst, c.Token), c.Offset), c.Watermark)
}

// metaDecoder cuts a head of the right length into its parts and keeps the first error.
type metaDecoder struct {
	rest []byte
	err  error
}

func (d *metaDecoder) next(n int) []byte {
	part := d.rest[:n]
	d.rest = d.rest[n:]
	return part
}

func (d *metaDecoder) keep(err error) {
	if d.err == nil {
		d.err = err
	}
}

func (d *metaDecoder) offset() int64 {
	v, err := ParseOffset(d.next(16))
	d.keep(err)
	return v
}

func (d *metaDecoder) time() event.Time {
	v, err := ParseTime(d.next(16))
	d.keep(err)
	return v
}

func (d *metaDecoder) cut() Cut {
	t, err := ParseToken(d.next(32))
	d.keep(err)
	return Cut{Token: t, Offset: d.offset(), Watermark: d.time()}
}

// appendHex appends the low digits*4 bits of v.
func appendHex(dst []byte, v uint64, digits int) []byte {
	for shift := (digits - 1) * 4; shift >= 0; shift -= 4 {
		dst = append(dst, hexLower[v>>uint(shift)&15])
	}
	return dst
}

// parseHex reads exactly digits lower-case hex digits: one value has one spelling.
func parseHex(b []byte, digits int) (uint64, bool) {
	if len(b) != digits {
		return 0, false
	}
	var v uint64
	for _, c := range b {
		n, ok := nibble(c)
		if !ok {
			return 0, false
		}
		v = v<<4 | uint64(n)
	}
	return v, true
}

func parseHexBytes(dst, b []byte) bool {
	if len(b) != 2*len(dst) {
		return false
	}
	for i := range dst {
		hi, ok1 := nibble(b[2*i])
		lo, ok2 := nibble(b[2*i+1])
		if !ok1 || !ok2 {
			return false
		}
		dst[i] = hi<<4 | lo
	}
	return true
}

func nibble(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}

// excerpt quotes the beginning of stored bytes for a message.
func excerpt(b []byte) string {
	const most = 64
	if len(b) > most {
		return fmt.Sprintf("%q... (%d bytes)", b[:most], len(b))
	}
	return fmt.Sprintf("%q", b)
}
