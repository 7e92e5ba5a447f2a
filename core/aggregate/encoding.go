package aggregate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// ErrMalformed is returned for bytes that are not a stored row of the composite: damaged, of another version, or written for
// other functions.
var ErrMalformed = errors.New("aggregate: malformed row")

// Stored row, version 1. Integers are unsigned varints, floats 8 bytes, little-endian, every bit kept.
//
//	row    = version(1 byte) records block*            one block for each value of the composite, in its order
//	block  = 0x00                                      no values
//	       | head count float*                         head = blockRaw: the count <= 1,000 values themselves
//	       | head count [hi lo [wideHi wideLo]] [mean low m2] [min max] [n (mean weight)*]
//	                                                   head = blockFolded and the bits of what follows
//
// n centroids of the digest have ascending means, and weights whose sum is count.
const (
	rowVersion = 1

	blockEmpty   byte = 0x00
	blockRaw     byte = 0x01
	blockFolded  byte = 0x02
	blockSum     byte = 0x04
	blockWide    byte = 0x08 // with blockSum: the wide part is not 0
	blockMoments byte = 0x10
	blockExtrema byte = 0x20
	blockDigest  byte = 0x40

	countMost     = 1 << 53 // values or records in a row: a float64 holds every count
	centroidsMost = 20 * digestCompression
)

// AppendBinary appends the stored form of r, which MergeBinary reads. Groups of up to 1,000 values that need percentiles are
// stored as their values, 8 bytes each; larger ones take at most 20 KB a value, 8 to 10 as a rule; values without percentiles up
// to 85 bytes. The order of what waits in r may change, its results do not.
func (c *Composite) AppendBinary(dst []byte, r *Row) []byte {
	dst = append(dst, rowVersion)
	dst = binary.AppendUvarint(dst, uint64(r.records))
	for i := range r.values {
		dst = r.values[i].appendBinary(dst, c.values[i].needs)
	}
	return dst
}

func (a *accumulator) appendBinary(dst []byte, needs components) []byte {
	if needs&needSamples != 0 && (a.folded > 0 || len(a.pending) > exactMost) {
		a.flush(needs)
	}
	n := a.count()
	switch {
	case n == 0:
		return append(dst, blockEmpty)
	case len(a.pending) > 0:
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
	if needs&needSamples != 0 {
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
	if needs&needSamples != 0 {
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
// Loading a digest into an empty dst keeps its centroids as they are: storing and loading any number of times loses nothing.
func (c *Composite) MergeBinary(dst *Row, b []byte) (rest []byte, err error) {
	rest, err = c.decode(b, dst)
	if err != nil {
		return nil, fmt.Errorf("merge row: %w", err)
	}
	return rest, nil
}

// Skip returns what follows the stored row at the start of b. It checks all that MergeBinary checks of the row alone. The error
// is ErrMalformed.
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
	if v := r.byte(); r.err == nil && v != rowVersion {
		return nil, fmt.Errorf("version %d, want %d: %w", v, rowVersion, ErrMalformed)
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
		r.block(a, c.values[i].needs)
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
func (r *reader) block(a *accumulator, needs components) {
	head := r.byte()
	if r.err != nil || head == blockEmpty {
		return
	}
	n := r.count()
	r.check(n > 0, "block without values")
	if a != nil {
		r.check(a.count()+n <= countMost, "too many values")
	}
	if head == blockRaw {
		if r.check(needs&needSamples != 0 && n <= exactMost, "raw values out of place") {
			r.raw(a, needs, int(n))
		}
		return
	}
	wide := head&blockWide != 0 && needs&needSum != 0
	if r.check(head == headOf(needs, wide), "block of other functions") {
		r.folded(a, needs, n, wide)
	}
}

// raw reads n values.
func (r *reader) raw(a *accumulator, needs components, n int) {
	if !r.check(len(r.rest) >= 8*n, "cut off values") {
		return
	}
	for b := r.rest[:8*n]; len(b) > 0; b = b[8:] {
		v := math.Float64frombits(binary.LittleEndian.Uint64(b))
		if !finite(v) {
			r.check(false, "number is not finite")
			return
		}
		if a != nil {
			a.add(needs, v+0)
		}
	}
	r.rest = r.rest[8*n:]
}

// folded reads the components of n values and their digest.
func (r *reader) folded(a *accumulator, needs components, n int64, wide bool) {
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
	if needs&needSamples != 0 {
		r.digest(a, needs, n, x, direct)
	}
}

// digest reads the centroids of n values that lie in x.
func (r *reader) digest(a *accumulator, needs components, n int64, x extrema, direct bool) {
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
			a.addCentroid(needs, direct, mean, float64(weight))
		}
	}
	r.check(n == 0, "centroid weights do not add up")
}
