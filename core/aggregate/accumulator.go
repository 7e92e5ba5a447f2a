package aggregate

import "slices"

// Limits of the values that an accumulator keeps as they are.
const (
	exactMost = 1000 // up to so many, percentiles are exact: all values are kept, in memory and in stored bytes
	batchSize = 4096 // beyond, values and centroids are collected up to so many before they go to the digest together
)

// components are the parts of the state that the functions of one value need.
type components uint16

const (
	needSum components = 1 << iota
	needMoments
	needExtrema
	needSamples // the values themselves, and a sketch where they are many: for percentiles
	needBuckets // with needSamples: the sketch is buckets, not a digest
	needFirst
	needLast
	needDistinct
	needOwn // a user-defined function

	needMore = needBuckets | needFirst | needLast | needDistinct | needOwn // which is in more
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
	more      *more // nil where nothing ever needed it
}

// more is what few pipelines need of a value: apart, since rows are many.
type more struct {
	first, last edge
	distinct    distinct
	buckets     buckets
	stored      buckets // scratch of decoding
	own         []State
	of          []*Definition // of own
}

// reset makes m empty for a plan.
func (m *more) reset(p *valuePlan) {
	m.first.reset()
	m.last.reset()
	m.distinct.reset()
	m.buckets.reset()
	if !slices.Equal(m.of, p.own) {
		m.own, m.of = m.own[:0], append(m.of[:0], p.own...)
		for _, d := range p.own {
			m.own = append(m.own, d.New())
		}
		return // new states are empty
	}
	for _, s := range m.own {
		s.Reset()
	}
}

// add adds an input to all but the buckets, which come by flush.
func (m *more) add(needs components, in *Input) {
	if needs&needFirst != 0 {
		m.first.add(in, -1)
	}
	if needs&needLast != 0 {
		m.last.add(in, 1)
	}
	if needs&needDistinct != 0 {
		m.distinct.add(in.identity())
	}
	for _, s := range m.own {
		s.Add(in)
	}
}

// merge adds o to m.
func (m *more) merge(p *valuePlan, o *more) {
	m.first.merge(&o.first, -1)
	m.last.merge(&o.last, 1)
	m.distinct.merge(&o.distinct)
	if len(o.buckets.list) > 0 {
		m.buckets.merge(p.scale, &o.buckets)
	}
	for i, s := range m.own {
		s.Merge(o.own[i])
	}
}

// reset makes a the identity of merge for a plan, and keeps its memory.
func (a *accumulator) reset(p *valuePlan) {
	a.folded, a.sum, a.moments, a.extrema = 0, sum{}, moments{}, newExtrema()
	a.pending, a.centroids = a.pending[:0], a.centroids[:0]
	a.digest.reset()
	if p.needs&needMore == 0 {
		return // what more has of another composite nobody asks for
	}
	if a.more == nil {
		a.more = &more{}
	}
	a.more.reset(p)
}

// count returns the number of values.
func (a *accumulator) count() int64 { return a.folded + int64(len(a.pending)) }

// add adds a finite value.
func (a *accumulator) add(p *valuePlan, v float64) {
	needs := p.needs
	if needs&needSamples != 0 {
		a.pending = append(a.pending, v)
		if len(a.pending) >= batchSize {
			a.flush(p)
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
func (a *accumulator) merge(p *valuePlan, o *accumulator) {
	if p.needs&needMore != 0 {
		a.more.merge(p, o.more)
	}
	if o.folded > 0 {
		direct := a.count() == 0
		a.mergeComponents(o.folded, &o.sum, o.moments, o.extrema)
		o.digest.each(func(mean, weight float64) { a.addCentroid(p, direct, mean, weight) })
		for _, c := range o.centroids {
			a.addCentroid(p, false, c.mean, c.weight)
		}
	}
	for rest := o.pending; len(rest) > 0; {
		n := min(len(rest), batchSize-len(a.pending))
		a.pending = append(a.pending, rest[:n]...)
		if rest = rest[n:]; len(a.pending) >= batchSize {
			a.flush(p)
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
func (a *accumulator) addCentroid(p *valuePlan, direct bool, mean, weight float64) {
	if direct {
		a.digest.add(mean, weight)
		return
	}
	a.centroids = append(a.centroids, centroid{mean, weight})
	if len(a.centroids) >= batchSize {
		a.flush(p)
	}
}

// flush moves what waits into the components and the sketch.
func (a *accumulator) flush(p *valuePlan) {
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
		t.fold(p.needs, a.sortPending())
		a.mergeComponents(t.n, &t.sum, t.moments, t.extrema)
	}
	if p.needs&needBuckets != 0 {
		a.more.buckets.addSorted(p.scale, a.pending)
	} else {
		a.digest.addBatch(a.pending, a.centroids)
	}
	a.pending, a.centroids = a.pending[:0], a.centroids[:0]
}

// arrange changes a as evaluating it would. So do user-defined functions, which may reorder what they hold.
func (a *accumulator) arrange(p *valuePlan) {
	if p.needs&needOwn != 0 {
		var scratch []byte
		for _, s := range a.more.own {
			scratch = s.AppendJSON(scratch[:0])
		}
	}
	a.fold(p)
}

// fold does it for what is no user-defined function.
func (a *accumulator) fold(p *valuePlan) {
	switch {
	case p.needs&needSamples == 0:
	case a.folded == 0:
		a.sortPending()
	default:
		a.flush(p)
	}
}

func (a *accumulator) sortPending() []float64 {
	sortFloats(a.pending)
	return a.pending
}

// totals sets t to what the functions are evaluated on. It is valid until a changes.
func (a *accumulator) totals(t *totals, p *valuePlan) {
	a.fold(p)
	switch needs := p.needs; {
	case needs&needSamples != 0 && a.folded == 0:
		t.fold(needs, a.pending)
	default:
		*t = totals{n: a.folded, sum: a.sum, moments: a.moments, extrema: a.extrema, digest: &a.digest, scale: p.scale}
	}
	t.more = a.more
}

// totals is all that functions are evaluated on.
type totals struct {
	n       int64
	sum     sum
	moments moments
	extrema extrema
	sorted  []float64 // all values, ascending; nil: they are in the sketch
	digest  *digest   // nil: they are in sorted
	scale   *scale    // nil: the sketch is the digest, else the buckets of more
	more    *more     // only what the functions need is valid
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
	case t.scale != nil:
		return t.more.buckets.percentile(t.scale, p, t.n, t.extrema)
	}
	return t.digest.percentile(p, t.n, t.extrema)
}

// distinct returns the number of distinct values, of which there are at most n.
func (t *totals) distinct() float64 {
	if t.n == 0 {
		return 0
	}
	return min(t.more.distinct.estimate(), float64(t.n))
}
