package aggregate

import "math"

// exactPercentile returns the p-percentile, 0 <= p <= 100, of ascending values, at least one, by linear interpolation at
// p/100*(n-1): definition 7 of Hyndman and Fan (The American Statistician 50, 1996), the default of R and NumPy.
func exactPercentile(sorted []float64, p float64) float64 {
	i, fraction := rankOf(p, int64(len(sorted)))
	if int(i)+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return interpolate(sorted[i], sorted[i+1], fraction)
}

// rankOf returns the position p/100*(n-1) among n values as a whole number and a fraction below 1. The division comes last:
// the position of a whole percentage is rounded once only.
func rankOf(p float64, n int64) (whole int64, fraction float64) {
	at := p * float64(n-1)
	w := math.Floor(at / 100)
	fraction = (at - float64(100*w)) / 100
	if fraction < 0 || fraction >= 1 { // at/100 was rounded up to, or short of, a whole number
		w, fraction = math.Round(at/100), 0
	}
	return int64(w), fraction
}

// interpolate returns the point at fraction (in [0, 1]) of the way from lo to hi, lo <= hi; never outside of both, and exactly
// lo at 0 and hi at 1.
func interpolate(lo, hi, fraction float64) float64 {
	if fraction == 1 { // lo + (hi-lo) may miss hi by a rounding error
		return hi
	}
	d := hi - lo
	if d > math.MaxFloat64 { // the distance overflows: half of it does not
		return min(max(2*(lo/2+float64((hi/2-lo/2)*fraction)), lo), hi)
	}
	return min(lo+float64(d*fraction), hi)
}
