package aggregate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
)

// ErrMalformed is returned for bytes that are not a stored row of the composite: damaged, of another version, or written for
// other functions.
var ErrMalformed = errors.New("aggregate: malformed row")

// Stored row, version 1 or 2. Integers are unsigned varints, floats 8 bytes, little-endian, every bit kept.
//
//	row    = version(1 byte) records block*            one block for each value of the composite, in its order
//	block  = 0x00                                      no values
//	       | head count float* [more]                  head = blockRaw: the count <= 1,000 values themselves
//	       | head count [hi lo [wideHi wideLo]] [mean low m2] [min max] [n (mean weight)*] [n (key count)*] [more]
//	                                                   head = blockFolded and the bits of what follows
//
// n centroids of the digest have ascending means, and weights whose sum is count; so have n buckets, see more.go.
//
// A composite whose values need nothing but the functions of version 1 writes version 1 and reads no other; one with first, last,
// distinct, user-defined functions or buckets writes version 2: there, each block of a value that has such functions ends in more.
const (
	rowVersion = 2 // the newest

	blockEmpty   byte = 0x00
	blockRaw     byte = 0x01
	blockFolded  byte = 0x02
	blockSum     byte = 0x04
	blockWide    byte = 0x08 // with blockSum: the wide part is not 0
	blockMoments byte = 0x10
	blockExtrema byte = 0x20
	blockDigest  byte = 0x40
	blockBuckets byte = 0x80 // version 2

	countMost     = 1 << 53 // values or records in a row: a float64 holds every count
	centroidsMost = 20 * digestCompression
)

// AppendBinary appends the stored form of r, which MergeBinary reads. Groups of up to 1,000 values that need percentiles are
// stored as their values, 8 bytes each; larger ones take at most 20 KB a value, 8 to 10 as a rule; values without percentiles up
// to 85 bytes. The order of what waits in r may change, its results do not.
func (c *Composite) AppendBinary(dst []byte, r *Row) []byte {
	dst = append(dst, c.version)
	dst = binary.AppendUvarint(dst, uint64(r.records))
	for i := range r.values {
		p := &c.values[i]
		if r.values[i].count() == 0 {
			dst = append(dst, blockEmpty)
			continue
		}
		dst = r.values[i].appendBinary(dst, p)
		if p.needs&needMore&^needBuckets != 0 {
			dst = r.values[i].more.appendBinary(dst, p.needs)
		}
	}
	return dst
}

func (a *accumulator) appendBinary(dst []byte, p *valuePlan) []byte {
	needs := p.needs
	if needs&needSamples != 0 && (a.folded > 0 || len(a.pending) > exactMost) {
		a.flush(p)
	}
	n := a.count()
	if len(a.pending) > 0 {
		dst = binary.AppendUvarint(append(dst, blockRaw), uint64(n))
		for _, v := range a.pending {
			dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(v))
		}
		return dst
	}
	wide := needs&needSum != 0 && a.sum.isWide()
	dst = binary.AppendUvarint(append(dst, headOf(needs, wide)), uint64(n))
	if needs&needSum != 0 {
		dst = appendFloats(dst, a.sum.hi, a.sum.lo)
	}
	if wide {
		dst = appendFloats(dst, a.sum.wideHi, a.sum.wideLo)
	}
	if needs&needMoments != 0 {
		dst = appendFloats(dst, a.moments.mean, a.moments.low, a.moments.m2)
	}
	if needs&needExtrema != 0 {
		dst = appendFloats(dst, a.extrema.min, a.extrema.max)
	}
	switch {
	case needs&needBuckets != 0:
		dst = a.more.buckets.appendBinary(dst)
	case needs&needSamples != 0:
		dst = binary.AppendUvarint(dst, uint64(a.digest.len()))
		a.digest.each(func(mean, weight float64) {
			dst = binary.AppendUvarint(appendFloats(dst, mean), uint64(weight))
		})
	}
	return dst
}

// headOf returns the head of a folded block.
func headOf(needs components, wide bool) byte {
	head := blockFolded
	if needs&needSum != 0 {
		head |= blockSum
	}
	if wide {
		head |= blockWide
	}
	if needs&needMoments != 0 {
		head |= blockMoments
	}
	if needs&needExtrema != 0 {
		head |= blockExtrema
	}
	switch {
	case needs&needBuckets != 0:
		head |= blockBuckets
	case needs&needSamples != 0:
		head |= blockDigest
	}
	return head
}

func appendFloats(dst []byte, values ...float64) []byte {
	for _, v := range values {
		dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(v))
	}
	return dst
}

// MergeBinary merges the stored row at the start of b into dst, as Merge does, without building a second row, and returns what
// follows it. b is not kept. The error is ErrMalformed; then dst holds an unknown part of the row and must be Reset.
//
// What a user-defined function refuses is ErrMalformed, too. Loading a digest into an empty dst keeps its centroids as they are: storing and loading any number of times loses nothing.
func (c *Composite) MergeBinary(dst *Row, b []byte) (rest []byte, err error) {
	rest, err = c.decode(b, dst)
	if err != nil {
		return nil, fmt.Errorf("merge row: %w", err)
	}
	return rest, nil
}

// Skip returns what follows the stored row at the start of b. It checks all that MergeBinary checks of the row alone, but for the
// states of user-defined functions. The error is ErrMalformed.
func (c *Composite) Skip(b []byte) (rest []byte, err error) {
	rest, err = c.decode(b, nil)
	if err != nil {
		return nil, fmt.Errorf("skip row: %w", err)
	}
	return rest, nil
}

// decode reads a row and merges it into dst, unless that is nil.
func (c *Composite) decode(b []byte, dst *Row) ([]byte, error) {
	r := reader{rest: b}
	switch v := r.byte(); {
	case r.err != nil || v == c.version:
	case v > rowVersion:
		return nil, fmt.Errorf("version %d is newer than this program, which reads up to %d: %w", v, rowVersion, ErrMalformed)
	default:
		return nil, fmt.Errorf("version %d, want %d for these functions: %w", v, c.version, ErrMalformed)
	}
	records := r.count()
	if dst != nil {
		r.check(dst.records+records <= countMost, "too many records")
		dst.records += records
	}
	for i := range c.Values() {
		var a *accumulator
		if dst != nil {
			a = &dst.values[i]
		}
		r.block(a, &c.values[i])
		if r.err != nil {
			return nil, fmt.Errorf("value %d: %w", i, r.err)
		}
	}
	return r.rest, r.err
}

// reader reads from the front of rest. After the first error it returns zeros.
type reader struct {
	rest []byte
	err  error
}

// check notes the problem unless ok, and reports whether there is none so far.
func (r *reader) check(ok bool, problem string) bool {
	if !ok && r.err == nil {
		r.err = fmt.Errorf("%s: %w", problem, ErrMalformed)
		r.rest = nil
	}
	return r.err == nil
}

func (r *reader) byte() byte {
	if !r.check(len(r.rest) >= 1, "cut off") {
		return 0
	}
	b := r.rest[0]
	r.rest = r.rest[1:]
	return b
}

// count reads an integer of at most countMost.
func (r *reader) count() int64 {
	v, n := binary.Uvarint(r.rest)
	if !r.check(n > 0, "cut off integer") || !r.check(v <= countMost, "integer out of range") {
		return 0
	}
	r.rest = r.rest[n:]
	return int64(v)
}

// float reads a finite number.
func (r *reader) float() float64 {
	v := r.anyFloat()
	r.check(finite(v), "number is not finite")
	return v
}

func (r *reader) anyFloat() float64 {
	if !r.check(len(r.rest) >= 8, "cut off number") {
		return 0
	}
	v := math.Float64frombits(binary.LittleEndian.Uint64(r.rest))
	r.rest = r.rest[8:]
	return v
}

// partOfSum reads a part of the sum of n values that are not beyond most; twice that allows for rounding.
func (r *reader) partOfSum(n int64, most float64) float64 {
	v := r.float()
	r.check(math.Abs(v) <= 2*most*float64(n), "sum beyond what its values allow")
	return v
}

// block reads the state of one value and merges it into a, unless that is nil.
func (r *reader) block(a *accumulator, p *valuePlan) {
	head := r.byte()
	if r.err != nil || head == blockEmpty {
		return
	}
	n := r.count()
	r.check(n > 0, "block without values")
	if a != nil {
		r.check(a.count()+n <= countMost, "too many values")
	}
	wide := head&blockWide != 0 && p.needs&needSum != 0 && head != blockRaw
	switch {
	case head == blockRaw:
		if r.check(p.needs&needSamples != 0 && n <= exactMost, "raw values out of place") {
			r.raw(a, p, int(n))
		}
	case r.check(head == headOf(p.needs, wide), "block of other functions"):
		r.folded(a, p, n, wide)
	}
	if p.needs&needMore&^needBuckets != 0 && r.err == nil {
		var m *more
		if a != nil {
			m = a.more
		}
		r.more(m, p, n)
	}
}

// raw reads n values, which wait in pending as those that are added one by one do.
func (r *reader) raw(a *accumulator, p *valuePlan, n int) {
	if !r.check(len(r.rest) >= 8*n, "cut off values") {
		return
	}
	b := r.rest[:8*n]
	r.rest = r.rest[8*n:]
	for len(b) > 0 {
		room, pending := len(b)/8, []float64(nil)
		if a != nil {
			room = min(room, batchSize-len(a.pending))
			pending = slices.Grow(a.pending, room)
		}
		for k := range room {
			v := math.Float64frombits(binary.LittleEndian.Uint64(b[8*k:]))
			if !finite(v) {
				r.check(false, "number is not finite")
				return
			}
			if a != nil {
				pending = append(pending, v+0)
			}
		}
		b = b[8*room:]
		if a == nil {
			continue
		}
		if a.pending = pending; len(pending) >= batchSize {
			a.flush(p)
		}
	}
}

// folded reads the components of n values and their sketch.
func (r *reader) folded(a *accumulator, p *valuePlan, n int64, wide bool) {
	needs := p.needs
	var s sum
	var m moments
	x := newExtrema()
	if needs&needSum != 0 {
		s.hi, s.lo = r.partOfSum(n, wideFrom), r.partOfSum(n, wideFrom)
	}
	if wide {
		s.wideHi, s.wideLo = r.partOfSum(n, math.MaxFloat64*wideScale), r.partOfSum(n, math.MaxFloat64*wideScale)
	}
	if needs&needMoments != 0 {
		m.mean, m.low, m.m2 = r.float(), r.float(), r.anyFloat()
		r.check(m.m2 >= 0, "negative variance")
	}
	if needs&needExtrema != 0 {
		x = extrema{r.float(), r.float()}
		r.check(x.min <= x.max, "min above max")
	}
	if r.err != nil {
		return
	}
	direct := false
	if a != nil {
		direct = a.count() == 0
		a.mergeComponents(n, &s, m, x)
	}
	switch {
	case needs&needBuckets != 0:
		r.buckets(a, p, n)
	case needs&needSamples != 0:
		r.digest(a, p, n, x, direct)
	}
}

// digest reads the centroids of n values that lie in x.
func (r *reader) digest(a *accumulator, p *valuePlan, n int64, x extrema, direct bool) {
	parts := r.count()
	r.check(parts <= centroidsMost, "too many centroids")
	before := x.min
	for range parts {
		mean, weight := r.float(), r.count()
		if !r.check(weight > 0 && weight <= n, "centroid weight out of range") ||
			!r.check(mean >= before && mean <= x.max, "centroid mean out of order") {
			return
		}
		n -= weight
		before = mean
		if a != nil {
			a.addCentroid(p, direct, mean, float64(weight))
		}
	}
	r.check(n == 0, "centroid weights do not add up")
}
