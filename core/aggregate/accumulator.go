package aggregate

import "slices"

// Limits of the values that an accumulator keeps as they are.
const (
	exactMost = 1000 // up to so many, percentiles are exact: all values are kept, in memory and in stored bytes
	batchSize = 4096 // beyond, values and centroids are collected up to so many before they go to the digest together
)

// components are the parts of the state that the functions of one value need.
type components uint8

const (
	needSum components = 1 << iota
	needMoments
	needExtrema
	needSamples // the values themselves, and a digest where they are many: for percentiles
)

// accumulator is the state of one value in one group.
//
// Without needSamples each value goes to the components at once. With it values wait in pending, and the components and the
// digest take them in batches: sorted, so that a batch gives the same whatever order its values came in. While nothing has
// been folded, all values are in pending, and every result is exact.
type accumulator struct {
	folded    int64 // values in the components
	sum       sum
	moments   moments
	extrema   extrema
	pending   []float64  // values that the components and the digest have not seen; less than batchSize
	centroids []centroid // of other digests, which this one has not seen, though the components have; less than batchSize
	digest    digest
}

// reset makes a the identity of merge, and keeps its memory.
func (a *accumulator) reset() {
	a.folded, a.sum, a.moments, a.extrema = 0, sum{}, moments{}, newExtrema()
	a.pending, a.centroids = a.pending[:0], a.centroids[:0]
	a.digest.reset()
}

// count returns the number of values.
func (a *accumulator) count() int64 { return a.folded + int64(len(a.pending)) }

// add adds a finite value.
func (a *accumulator) add(needs components, v float64) {
	if needs&needSamples != 0 {
		a.pending = append(a.pending, v)
		if len(a.pending) >= batchSize {
			a.flush(needs)
		}
		return
	}
	a.folded++
	if needs&needSum != 0 {
		a.sum.add(v)
	}
	if needs&needMoments != 0 {
		a.moments.add(v, a.folded)
	}
	if needs&needExtrema != 0 {
		a.extrema.add(v)
	}
}

// merge adds o to a. o is not changed and is not a.
func (a *accumulator) merge(needs components, o *accumulator) {
	if o.folded > 0 {
		direct := a.count() == 0
		a.mergeComponents(o.folded, &o.sum, o.moments, o.extrema)
		o.digest.each(func(mean, weight float64) { a.addCentroid(needs, direct, mean, weight) })
		for _, c := range o.centroids {
			a.addCentroid(needs, false, c.mean, c.weight)
		}
	}
	for rest := o.pending; len(rest) > 0; {
		n := min(len(rest), batchSize-len(a.pending))
		a.pending = append(a.pending, rest[:n]...)
		if rest = rest[n:]; len(a.pending) >= batchSize {
			a.flush(needs)
		}
	}
}

// mergeComponents merges the components of n values, not their digest.
func (a *accumulator) mergeComponents(n int64, s *sum, m moments, x extrema) {
	a.sum.merge(*s)
	a.moments.merge(a.folded, m, n)
	a.extrema.merge(x)
	a.folded += n
}

// addCentroid adds a centroid of another digest, whose components have been merged. direct is set if a was empty before: then
// it goes to the digest as it is, so that storing and loading a digest does not blur it.
func (a *accumulator) addCentroid(needs components, direct bool, mean, weight float64) {
	if direct {
		a.digest.add(mean, weight)
		return
	}
	a.centroids = append(a.centroids, centroid{mean, weight})
	if len(a.centroids) >= batchSize {
		a.flush(needs)
	}
}

// flush moves what waits into the components and the digest.
func (a *accumulator) flush(needs components) {
	if len(a.pending)+len(a.centroids) == 0 {
		return
	}
	slices.SortFunc(a.centroids, func(x, y centroid) int {
		switch {
		case x.mean < y.mean || x.mean == y.mean && x.weight < y.weight:
			return -1
		case x == y:
			return 0
		}
		return 1
	})
	if len(a.pending) > 0 {
		t := totals{}
		t.fold(needs, a.sortPending())
		a.mergeComponents(t.n, &t.sum, t.moments, t.extrema)
	}
	a.digest.addBatch(a.pending, a.centroids)
	a.pending, a.centroids = a.pending[:0], a.centroids[:0]
}

func (a *accumulator) sortPending() []float64 {
	sortFloats(a.pending)
	return a.pending
}

// totals sets t to what the functions are evaluated on. It is valid until a changes.
func (a *accumulator) totals(t *totals, needs components) {
	if needs&needSamples != 0 && a.folded == 0 {
		t.fold(needs, a.sortPending())
		return
	}
	if needs&needSamples != 0 {
		a.flush(needs)
	}
	*t = totals{n: a.folded, sum: a.sum, moments: a.moments, extrema: a.extrema, digest: &a.digest}
}

// totals is all that functions are evaluated on.
type totals struct {
	n       int64
	sum     sum
	moments moments
	extrema extrema
	sorted  []float64 // all values, ascending; nil: they are in the digest
	digest  *digest
}

// fold sets t to the totals of ascending values, which it keeps.
func (t *totals) fold(needs components, sorted []float64) {
	*t = totals{n: int64(len(sorted)), extrema: newExtrema(), sorted: sorted}
	if len(sorted) == 0 {
		return
	}
	if needs&(needSum|needMoments) != 0 {
		for _, v := range sorted {
			t.sum.add(v)
		}
	}
	if needs&needMoments != 0 {
		t.moments = momentsOf(sorted, &t.sum)
	}
	t.extrema = extrema{sorted[0], sorted[len(sorted)-1]}
}

// percentile returns the p-percentile of at least one value; 0 of none.
func (t *totals) percentile(p float64) float64 {
	switch {
	case t.n == 0:
		return 0
	case t.digest == nil:
		return exactPercentile(t.sorted, p)
	}
	return t.digest.percentile(p, t.n, t.extrema)
}
