package aggregate

import (
	"math"

	tdigest "github.com/caio/go-tdigest/v4"
)

const (
	// digestCompression bounds a centroid to 4*n*q*(1-q)/100 of n values: at most 1% of them, at the median, fewer toward the ends.
	digestCompression = 100

	// digestMost is the number of centroids above which a digest is compressed after a batch. Some 730 is where it cannot be
	// compressed further; lower bounds made each batch pay for a compression (measured: 120 instead of 90 ns a value).
	digestMost = 1000

	// digestScale keeps the means inside of the digest so small that no mean of them weighted by up to 2^53 overflows. Powers
	// of two are exact; only values within 1e-304 of each other become one.
	digestScale   = 0x1p-64
	digestUnscale = 0x1p64
)

// centroid stands for weight values around mean. Weights are whole numbers up to 2^53.
type centroid struct{ mean, weight float64 }

// digest estimates percentiles of any number of values: a t-digest (Dunning and Ertl, arXiv:1902.04023) of caio/go-tdigest.
//
// Values come in sorted batches, and a batch is reduced to a few hundred centroids before the digest sees them. Measured over
// 200,000 values (ns a value, with the sort): one by one 230-250, lognormal and exponential, but 830 ascending and 2,700
// equal ones, since the digest walks all centroids of equal mean; batches of 4,096 that are only sorted 290, 870 and 2,900;
// batches that are reduced first 65-95, equal ones 4, with the same rank errors (at most 0.0003).
//
// The mean of a centroid is no guide to its ranks where values differ by a hundred orders of magnitude: over 600 of them, from
// 1e-300 to 1e300 and both signs, rank errors reach 2%; over 60, 1% holds.
//
// Runs of equal values become a plateau, two centroids or more of the same mean (see reducer), which percentile takes at
// its word: data with few distinct values is exact.
type digest struct {
	td  *tdigest.TDigest // nil until it is needed
	rng *splitmix        // the digest's; a pointer, for a digest may move in memory
}

// reset empties the digest and keeps its memory. It starts from the same seed again: the same operations give the same bytes.
func (d *digest) reset() {
	if d.td != nil {
		d.td.Reset()
		d.rng.state = 0
	}
}

// add adds one centroid.
func (d *digest) add(mean, weight float64) { d.put(mean*digestScale, weight) }

// put adds one centroid whose mean is scaled.
func (d *digest) put(scaled, weight float64) {
	if d.td == nil {
		d.rng = &splitmix{}
		// New fails only for options that are out of range: these are constants.
		d.td, _ = tdigest.New(tdigest.Compression(digestCompression), tdigest.RandomNumberGenerator(d.rng))
	}
	// It fails only for NaN and for weight 0. Neither occurs: values are finite, and scaled so that their means are.
	_ = d.td.AddWeighted(scaled, uint64(weight))
}

// addBatch adds ascending values and ascending centroids.
func (d *digest) addBatch(values []float64, centroids []centroid) {
	r := reducer{to: d, total: float64(len(values))}
	for _, c := range centroids {
		r.total += c.weight
	}
	for len(values) > 0 || len(centroids) > 0 {
		var mean, weight float64
		parts := 0
		if len(centroids) == 0 || len(values) > 0 && values[0] <= centroids[0].mean {
			mean = values[0]
		} else {
			mean = centroids[0].mean
		}
		for len(values) > 0 && values[0] == mean {
			weight++
			parts++
			values = values[1:]
		}
		for len(centroids) > 0 && centroids[0].mean == mean {
			weight += centroids[0].weight
			parts++
			centroids = centroids[1:]
		}
		r.run(mean*digestScale, weight, parts)
	}
	r.emit()
	if d.len() > digestMost {
		_ = d.td.Compress() // fails as AddWeighted does
	}
}

// len returns the number of centroids.
func (d *digest) len() int {
	n := 0
	d.each(func(float64, float64) { n++ })
	return n
}

// each calls f with every centroid, means ascending.
func (d *digest) each(f func(mean, weight float64)) {
	if d.td == nil {
		return
	}
	d.td.ForEachCentroid(func(mean float64, count uint64) bool {
		f(mean*digestUnscale, float64(count))
		return true
	})
}

// percentile returns the estimated p-percentile of n values between the exact extremes x: linear between the centres of the
// centroids, at the positions of definition 7. Two centroids or more of one mean are a plateau: all their values are that mean.
// A centroid holds at most 1% of the values, so that is the bound of the rank error.
//
// The digest's own Quantile is not used: its interpolation between equal means is off by a rounding error, which is a rank
// error of 99% where all values are equal, and it extrapolates beyond the outer centroids instead of using the extremes.
func (d *digest) percentile(p float64, n int64, x extrema) float64 {
	whole, fraction := rankOf(p, n)
	w := walk{at: float64(whole) + fraction, value: x.min}
	if d.td != nil {
		d.td.ForEachCentroid(func(mean float64, count uint64) bool {
			w.centroid(mean*digestUnscale, float64(count))
			return !w.done
		})
	}
	w.endRun()
	w.knot(float64(n-1), x.max)
	return min(max(w.value, x.min), x.max)
}

// walk goes over a piecewise linear function of the position, from (0, value) on, until it has passed the position at: then it
// is done, and value is the function's there.
type walk struct {
	at, position, value float64
	done                bool

	before float64  // weight of the centroids before run
	run    centroid // centroids of one mean together
	parts  int      // how many
}

// centroid goes over the next centroid.
func (w *walk) centroid(mean, weight float64) {
	if w.parts > 0 && mean == w.run.mean {
		w.run.weight += weight
		w.parts++
		return
	}
	w.endRun()
	w.run, w.parts = centroid{mean, weight}, 1
}

func (w *walk) endRun() {
	switch {
	case w.parts == 0:
	case w.parts == 1:
		w.knot(w.before+(w.run.weight-1)/2, w.run.mean)
	default:
		w.knot(w.before, w.run.mean)
		w.knot(w.before+w.run.weight-1, w.run.mean)
	}
	w.before += w.run.weight
}

func (w *walk) knot(position, value float64) {
	switch {
	case w.done:
	case position < w.at:
		w.position, w.value = position, value
	case position <= w.position:
		w.value, w.done = value, true
	default:
		w.value, w.done = interpolate(w.value, max(value, w.value), (w.at-w.position)/(position-w.position)), true
	}
}

// reducer joins neighbours of an ascending batch to centroids within the size bound of the digest, as a merging t-digest does.
type reducer struct {
	to    *digest
	total float64 // weight of the batch
	seen  float64 // weight that has gone out

	// the centroid that is being made, in scaled values from first to last; offset is the sum of weight * (mean - first)
	first, last, offset, weight float64
}

// run takes all that is equal to one mean (scaled): parts values or centroids of the given weight together.
func (r *reducer) run(mean, weight float64, parts int) {
	if r.weight > 0 && !r.fits(r.weight+weight) {
		r.emit()
	}
	if r.weight == 0 && parts > 1 && weight >= 3 && !r.fits(weight) {
		// Many equal values: a plateau, with single values at its ends so that it is seen as one. It stays one, or all its parts
		// together become a centroid within the bound.
		r.to.put(mean, 1)
		r.to.put(mean, weight-2)
		r.to.put(mean, 1)
		r.seen += weight
		return
	}
	if r.weight == 0 {
		r.first = mean
	}
	r.offset += float64(weight * (mean - r.first))
	r.weight += weight
	r.last = mean
}

// fits reports whether a centroid of this weight, next after what has gone out, is within the bound.
func (r *reducer) fits(weight float64) bool {
	q := (r.seen + (weight-1)/2) / (r.total - 1)
	return weight <= 4*r.total*q*(1-q)/digestCompression
}

func (r *reducer) emit() {
	if r.weight == 0 {
		return
	}
	r.to.put(min(max(r.first+r.offset/r.weight, r.first), r.last), r.weight)
	r.seen += r.weight
	r.weight, r.offset = 0, 0
}

// splitmix is a random number generator of 8 bytes (Steele, Lea and Flood, OOPSLA 2014). The default one of the digest takes 5
// KB and 10 us to seed.
type splitmix struct{ state uint64 }

func (s *splitmix) next() uint64 {
	s.state += 0x9e3779b97f4a7c15
	z := s.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Float32 returns a number in [0, 1).
func (s *splitmix) Float32() float32 { return float32(s.next()>>40) / (1 << 24) }

// Intn returns a number in [0, n), n > 0. Its bias, n in 2^64, does not matter to a digest.
func (s *splitmix) Intn(n int) int { return int(s.next() % uint64(n)) }

var _ tdigest.RNG = (*splitmix)(nil)

// finite reports whether v is neither infinite nor NaN.
func finite(v float64) bool { return math.Abs(v) <= math.MaxFloat64 }
