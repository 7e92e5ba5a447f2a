package aggregate

import "math"

// extrema keeps the smallest and the largest value, exactly. Its empty state, which newExtrema returns, is the identity of
// merge.
type extrema struct{ min, max float64 }

func newExtrema() extrema { return extrema{math.Inf(1), math.Inf(-1)} }

func (x *extrema) add(v float64) {
	x.min = min(x.min, v)
	x.max = max(x.max, v)
}

func (x *extrema) merge(o extrema) {
	x.min = min(x.min, o.min)
	x.max = max(x.max, o.max)
}
