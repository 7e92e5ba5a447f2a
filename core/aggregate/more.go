package aggregate

import (
	"encoding/binary"
	"fmt"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/jsonscan"
)

// The end of a block of version 2, for first, last, distinct and user-defined functions; zv is a zigzag varint.
//
//	more     = parts(1 byte) [first] [last] [distinct] [n (length state)*]      parts: the bits of what follows
//	first    = time(zv) topic partition offset(zv) kind(1 byte) length text     last the same
//	distinct = 0x00 n hash*                            n <= 1,024 hashes of 8 bytes, ascending
//	         | 0x01 n (gap rank(1 byte))*              n <= 4,096 registers that are not 0, by their distance from the one before
//	         | 0x02 12,288 bytes                       all 16,384 registers, 6 bits each, low bits first
//
// and of the buckets of a folded block
//
//	buckets  = n (key count)*                          keys ascending: the first zv, then the distance from the one before
const (
	partFirst    byte = 0x01
	partLast     byte = 0x02
	partDistinct byte = 0x04
	partOwn      byte = 0x08

	distinctHashes byte = 0x00
	distinctSparse byte = 0x01
	distinctDense  byte = 0x02
)

// partsOf returns the bits of more.
func partsOf(needs components) byte {
	var parts byte
	if needs&needFirst != 0 {
		parts |= partFirst
	}
	if needs&needLast != 0 {
		parts |= partLast
	}
	if needs&needDistinct != 0 {
		parts |= partDistinct
	}
	if needs&needOwn != 0 {
		parts |= partOwn
	}
	return parts
}

func (m *more) appendBinary(dst []byte, needs components) []byte {
	dst = append(dst, partsOf(needs))
	if needs&needFirst != 0 {
		dst = m.first.appendBinary(dst)
	}
	if needs&needLast != 0 {
		dst = m.last.appendBinary(dst)
	}
	if needs&needDistinct != 0 {
		dst = m.distinct.appendBinary(dst)
	}
	if needs&needOwn != 0 {
		dst = binary.AppendUvarint(dst, uint64(len(m.own)))
		for _, s := range m.own {
			dst = appendState(dst, s)
		}
	}
	return dst
}

// appendState appends a user-defined state after its length, which is known only then: the state is moved behind it.
func appendState(dst []byte, s State) []byte {
	start := len(dst)
	dst, err := s.AppendBinary(dst)
	if err != nil {
		panic(fmt.Sprintf("aggregate: AppendBinary of %T failed, which it must not: %v", s, err))
	}
	length := len(dst) - start
	var head [binary.MaxVarintLen64]byte
	n := binary.PutUvarint(head[:], uint64(length))
	dst = append(dst, head[:n]...)
	copy(dst[start+n:], dst[start:start+length])
	copy(dst[start:], head[:n])
	return dst
}

func (e *edge) appendBinary(dst []byte) []byte {
	dst = binary.AppendVarint(dst, int64(e.at.Time))
	dst = binary.AppendUvarint(dst, uint64(uint32(e.at.Topic)))
	dst = binary.AppendUvarint(dst, uint64(uint32(e.at.Partition)))
	dst = binary.AppendVarint(dst, e.at.Offset)
	dst = binary.AppendUvarint(append(dst, byte(e.kind)), uint64(len(e.text)))
	return append(dst, e.text...)
}

func (d *distinct) appendBinary(dst []byte) []byte {
	d.settle()
	if len(d.registers) == 0 {
		dst = binary.AppendUvarint(append(dst, distinctHashes), uint64(len(d.hashes)))
		for _, h := range d.hashes {
			dst = binary.LittleEndian.AppendUint64(dst, h)
		}
		return dst
	}
	n := 0
	for _, rank := range d.registers {
		if rank > 0 {
			n++
		}
	}
	if n > sparseMost {
		dst = append(dst, distinctDense)
		for r := d.registers; len(r) > 0; r = r[4:] {
			word := uint32(r[0]) | uint32(r[1])<<6 | uint32(r[2])<<12 | uint32(r[3])<<18
			dst = append(dst, byte(word), byte(word>>8), byte(word>>16))
		}
		return dst
	}
	dst = binary.AppendUvarint(append(dst, distinctSparse), uint64(n))
	before := 0
	for i, rank := range d.registers {
		if rank > 0 {
			dst = append(binary.AppendUvarint(dst, uint64(i-before)), rank)
			before = i
		}
	}
	return dst
}

func (b *buckets) appendBinary(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(b.list)))
	for i, x := range b.list {
		if i == 0 {
			dst = binary.AppendVarint(dst, int64(x.key))
		} else {
			dst = binary.AppendUvarint(dst, uint64(x.key-b.list[i-1].key))
		}
		dst = binary.AppendUvarint(dst, uint64(x.n))
	}
	return dst
}

// varint reads a signed integer of any size.
func (r *reader) varint() int64 {
	v, n := binary.Varint(r.rest)
	if !r.check(n > 0, "cut off integer") {
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

// isNumber reports whether text is a JSON number.
func isNumber(text []byte) bool {
	end, f := jsonscan.Number(text, 0)
	return f == jsonscan.OK && end == len(text)
}

// bytes reads n bytes, which are part of what is read.
func (r *reader) bytes(n int64) []byte {
	if !r.check(n <= int64(len(r.rest)), "cut off bytes") {
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

// more reads the end of a block of n values and merges it into m, unless that is nil.
func (r *reader) more(m *more, p *valuePlan, n int64) {
	if !r.check(r.byte() == partsOf(p.needs), "block of other functions") {
		return
	}
	if p.needs&needFirst != 0 {
		r.edge(m, -1)
	}
	if p.needs&needLast != 0 {
		r.edge(m, 1)
	}
	if p.needs&needDistinct != 0 {
		r.distinct(m, n)
	}
	if p.needs&needOwn == 0 || !r.check(r.count() == int64(len(p.own)), "block of other functions") {
		return
	}
	for i, d := range p.own {
		b := r.bytes(r.count())
		if m == nil || r.err != nil {
			continue
		}
		if err := m.own[i].MergeBinary(b); err != nil {
			r.check(false, fmt.Sprintf("function %s: %v", d.Name, err))
		}
	}
}

// edge reads the first (sign -1) or the last (sign 1) input.
func (r *reader) edge(m *more, sign int) {
	at := Position{Time: event.Time(r.varint()), Topic: r.int32(), Partition: r.int32(), Offset: r.varint()}
	kind := InputKind(r.byte())
	text := r.bytes(r.count())
	var ok bool
	switch kind {
	case InputNumber:
		ok = isNumber(text)
	case InputString:
		ok = true
	case InputBool:
		ok = string(text) == "true" || string(text) == "false"
	}
	if !r.check(ok, "no such input") || m == nil {
		return
	}
	e := &m.first
	if sign > 0 {
		e = &m.last
	}
	e.offer(kind, at, text, sign)
}

func (r *reader) int32() int32 {
	v := r.count()
	r.check(v < 1<<31, "integer out of range")
	return int32(v)
}

// distinct reads the distinct values among n.
func (r *reader) distinct(m *more, n int64) {
	var d *distinct
	if m != nil {
		d = &m.distinct
	}
	switch form := r.byte(); form {
	case distinctHashes:
		parts := r.count()
		if r.check(parts > 0 && parts <= min(n, distinctExact), "number of hashes out of range") {
			r.hashes(d, r.bytes(8*parts))
		}
	case distinctSparse:
		r.sparse(d)
	case distinctDense:
		r.dense(d)
	default:
		r.check(false, "no such form of distinct values")
	}
}

func (r *reader) hashes(d *distinct, b []byte) {
	for before := uint64(0); len(b) > 0; b = b[8:] {
		h := binary.LittleEndian.Uint64(b)
		if !r.check(h >= before, "hashes out of order") {
			return
		}
		before = h
		if d != nil {
			d.add(h)
		}
	}
}

func (r *reader) sparse(d *distinct) {
	parts := r.count()
	r.check(parts > 0 && parts <= sparseMost, "number of registers out of range")
	if d != nil && r.err == nil {
		d.sketch()
	}
	at := int64(0)
	for i := range parts {
		gap, rank := r.count(), r.byte()
		at += gap
		if !r.check((i == 0 || gap > 0) && at < distinctRegisters && rank > 0 && rank <= distinctMostRank, "register out of range") {
			return
		}
		if d != nil {
			d.registers[at] = max(d.registers[at], rank)
		}
	}
}

func (r *reader) dense(d *distinct) {
	b := r.bytes(denseLength)
	if d != nil && r.err == nil {
		d.sketch()
	}
	for at := 0; len(b) > 0; b = b[3:] {
		word := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16
		for range 4 {
			rank := uint8(word & 63)
			if !r.check(rank <= distinctMostRank, "register out of range") {
				return
			}
			if d != nil {
				d.registers[at] = max(d.registers[at], rank)
			}
			word >>= 6
			at++
		}
	}
}

// buckets reads the buckets of n values and merges them into those of a, unless that is nil.
func (r *reader) buckets(a *accumulator, p *valuePlan, n int64) {
	parts, most := r.count(), int64(p.scale.most())
	r.check(parts <= 2*int64(p.scale.span())+1, "too many buckets")
	var stored *buckets
	if a != nil {
		stored = &a.more.stored
		stored.reset()
	}
	key := int64(0)
	for i := range parts {
		if i == 0 {
			key = r.varint()
		} else {
			gap := r.count()
			r.check(gap > 0 && gap <= 2*most, "buckets out of order")
			key += gap
		}
		weight := r.count()
		if !r.check(key >= -most && key <= most && weight > 0 && weight <= n, "bucket out of range") {
			return
		}
		n -= weight
		if stored != nil {
			stored.list = append(stored.list, bucket{int32(key), weight})
		}
	}
	if r.check(n == 0, "bucket counts do not add up") && stored != nil {
		a.more.buckets.merge(p.scale, stored)
	}
}
