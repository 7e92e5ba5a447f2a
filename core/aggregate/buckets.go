package aggregate

import (
	"fmt"
	"math"
	"slices"
	"sort"
)

// SketchKind says what estimates percentiles of groups that are too large to keep their values.
type SketchKind uint8

// The kinds of sketches.
const (
	TDigest  SketchKind = iota // rank errors within 1%, far less toward the ends
	DDSketch                   // relative errors within the accuracy, whatever the rank
)

// Sketch chooses the estimator of percentiles of more than 1,000 values. The zero Sketch is the t-digest.
type Sketch struct {
	Kind     SketchKind
	Accuracy float64 // DDSketch: the relative accuracy, MinAccuracy to MaxAccuracy
}

// Bounds of the relative accuracy.
const (
	MinAccuracy = 0.001
	MaxAccuracy = 0.2
)

// bucketOctaves is how far, as a power of two, magnitudes are told apart below the largest one.
const bucketOctaves = 40

// scale divides each octave [2^e, 2^(e+1)) of magnitudes into buckets whose ends are at most (1+accuracy)/(1-accuracy) apart, so
// that the harmonic middle of a bucket is within the accuracy of all that is in it. It is made with products alone, which round
// alike on all architectures; logarithms need not.
type scale struct {
	edges   []float64 // lower ends of the buckets of [1, 2), from 1 on
	middles []float64 // their harmonic middles
}

// same reports whether both have the same edges; nil is the same as nil alone.
func (s *scale) same(o *scale) bool {
	return s == o || s != nil && o != nil && slices.Equal(s.edges, o.edges)
}

// lowestExponent is the exponent of the smallest float64, 2^-1074.
const lowestExponent = -1074

func newScale(accuracy float64) (*scale, error) {
	if !(accuracy >= MinAccuracy && accuracy <= MaxAccuracy) {
		return nil, fmt.Errorf("relative accuracy %v is not from %v to %v", accuracy, MinAccuracy, MaxAccuracy)
	}
	s := &scale{}
	ratio := (1 + accuracy) / (1 - accuracy)
	for edge := 1.0; edge < 2; edge *= ratio {
		s.edges = append(s.edges, edge)
	}
	for i, lo := range s.edges {
		hi := 2.0
		if i+1 < len(s.edges) {
			hi = s.edges[i+1]
		}
		s.middles = append(s.middles, 2*lo*hi/(lo+hi))
	}
	return s, nil
}

// key numbers the bucket of a finite value in the order of values: 0 of zero, positive and negative like the value.
func (s *scale) key(v float64) int32 {
	if v == 0 {
		return 0
	}
	fraction, exponent := math.Frexp(math.Abs(v))
	m := 2 * fraction
	k := sort.Search(len(s.edges), func(i int) bool { return s.edges[i] > m }) - 1
	key := int32((exponent-1-lowestExponent)*len(s.edges) + k + 1)
	if v < 0 {
		return -key
	}
	return key
}

// value returns the middle of a bucket.
func (s *scale) value(key int32) float64 {
	at := int(max(key, -key)) - 1
	if at < 0 {
		return 0
	}
	v := math.Ldexp(s.middles[at%len(s.edges)], at/len(s.edges)+lowestExponent)
	if key < 0 {
		return -v
	}
	return v
}

// most returns the largest key.
func (s *scale) most() int32 { return int32((1024 - lowestExponent) * len(s.edges)) }

// span returns how many keys below the largest in amount are told apart.
func (s *scale) span() int32 { return int32(bucketOctaves * len(s.edges)) }

// bucket is a number of values in one bucket of a scale.
type bucket struct {
	key int32
	n   int64
}

// buckets estimates percentiles within a relative accuracy: a DDSketch (Masson, Rim and Lee, VLDB 2019) whose buckets are those
// of a scale. Magnitudes below 2^-40 of the largest collapse into the lowest bucket that is told apart, each sign into its own:
// that bounds the buckets, and moves a value by less than 1e-12 of the largest magnitude. What the buckets hold is a function of
// the values alone, so that merging is exactly commutative and associative.
type buckets struct {
	list  []bucket // keys ascending
	spare []bucket // memory for the next list
}

func (b *buckets) reset() { b.list = b.list[:0] }

// addSorted adds ascending values.
func (b *buckets) addSorted(s *scale, values []float64) {
	old := b.list
	out := b.spare[:0]
	for i := 0; i < len(values); {
		x := bucket{key: s.key(values[i]), n: 1}
		for i++; i < len(values) && (values[i] == values[i-1] || s.key(values[i]) == x.key); i++ {
			x.n++
		}
		for len(old) > 0 && old[0].key < x.key {
			out, old = append(out, old[0]), old[1:]
		}
		if len(old) > 0 && old[0].key == x.key {
			x.n += old[0].n
			old = old[1:]
		}
		out = append(out, x)
	}
	out = append(out, old...)
	b.list, b.spare = out, b.list
	b.collapse(s)
}

// merge adds o to b.
func (b *buckets) merge(s *scale, o *buckets) {
	old := b.list
	out := b.spare[:0]
	for _, x := range o.list {
		for len(old) > 0 && old[0].key < x.key {
			out, old = append(out, old[0]), old[1:]
		}
		if len(old) > 0 && old[0].key == x.key {
			x.n += old[0].n
			old = old[1:]
		}
		out = append(out, x)
	}
	out = append(out, old...)
	b.list, b.spare = out, b.list
	b.collapse(s)
}

// collapse joins the buckets that are too far below the largest magnitude.
func (b *buckets) collapse(s *scale) {
	if len(b.list) == 0 {
		return
	}
	lowest := max(-b.list[0].key, b.list[len(b.list)-1].key) - s.span() + 1
	if lowest <= 1 {
		return
	}
	out := b.list[:0]
	for _, x := range b.list {
		switch {
		case x.key > 0:
			x.key = max(x.key, lowest)
		case x.key < 0:
			x.key = min(x.key, -lowest)
		}
		if n := len(out); n > 0 && out[n-1].key == x.key {
			out[n-1].n += x.n
			continue
		}
		out = append(out, x)
	}
	b.list = out
}

// percentile returns the estimated p-percentile of n values between the exact extremes x: by linear interpolation at the position
// of definition 7 between the estimates of its two neighbours in rank, each of which is within the relative accuracy.
func (b *buckets) percentile(s *scale, p float64, n int64, x extrema) float64 {
	whole, fraction := rankOf(p, n)
	lo := b.at(s, whole, n, x)
	if fraction == 0 {
		return lo
	}
	return interpolate(lo, max(b.at(s, whole+1, n, x), lo), fraction)
}

// at returns the estimate of the value at a rank from 0.
func (b *buckets) at(s *scale, rank, n int64, x extrema) float64 {
	switch {
	case rank <= 0:
		return x.min
	case rank >= n-1:
		return x.max
	}
	for _, c := range b.list {
		if rank -= c.n; rank < 0 {
			return min(max(s.value(c.key), x.min), x.max)
		}
	}
	return x.max
}
