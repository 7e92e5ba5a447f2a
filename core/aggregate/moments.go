package aggregate

import "math"

// moments keeps the mean and the sum of squared deviations from it: one value by Welford's method (Technometrics 4, 1962),
// many and merges by Chan, Golub and LeVeque (STAN-CS-79-773). The number of values is kept beside it. m2 is never negative;
// +Inf is an overflow, which stays.
//
// The mean is mean + low: its rounding error is kept, as a sum's. Without that the variance of values far from 0, such as
// times since 1970, was off by 1e-9 after some hundred values.
//
// Products that are added are rounded first, by float64(...): so that no architecture fuses them, and the same operations
// give the same bytes on all.
type moments struct{ mean, low, m2 float64 }

// add adds a finite value; n is the number of values with it.
func (m *moments) add(v float64, n int64) {
	d := (v - m.mean) - m.low
	m.move(d / float64(n))
	m.m2 += float64(d * ((v - m.mean) - m.low))
	m.settle()
}

// merge adds the moments o of on values to the n values of m.
func (m *moments) merge(n int64, o moments, on int64) {
	switch {
	case on == 0:
		return
	case n == 0:
		*m = o
		return
	}
	d := (o.mean - m.mean) + (o.low - m.low)
	share := float64(on) / float64(n+on)
	m.move(float64(d * share))
	m.m2 += o.m2 + float64(float64(d*d)*float64(float64(n)*share))
	m.settle()
}

// move adds d to the mean.
func (m *moments) move(d float64) {
	mean, e := twoSum(m.mean, d)
	m.mean, m.low = mean, m.low+e
}

// settle makes an overflow, whatever it has become, +Inf with a finite mean.
func (m *moments) settle() {
	if !(m.m2 <= math.MaxFloat64 && finite(m.mean+m.low)) {
		*m = moments{m2: math.Inf(1)}
	}
}

// momentsOf returns the moments of ascending values, at least one; s is their sum. Two passes, with the rounding error of the
// mean taken out (Chan, Golub and LeVeque, The American Statistician 37, 1983, equation 1.7).
func momentsOf(sorted []float64, s *sum) moments {
	first, last, n := sorted[0], sorted[len(sorted)-1], float64(len(sorted))
	if first == last {
		return moments{mean: first}
	}
	m := moments{mean: min(max(s.mean(int64(len(sorted))), first), last)}
	var rest float64
	for _, v := range sorted {
		d := v - m.mean
		rest += d
		m.m2 += float64(d * d)
	}
	m.low = rest / n
	m.m2 = max(m.m2-float64(rest*rest)/n, 0)
	m.settle()
	return m
}

// variance is the population variance of n > 0 values.
func (m *moments) variance(n int64) float64 { return m.m2 / float64(n) }

func (m *moments) stddev(n int64) float64 { return math.Sqrt(m.variance(n)) }

// varianceSample is the sample variance of n > 1 values.
func (m *moments) varianceSample(n int64) float64 { return m.m2 / float64(n-1) }

func (m *moments) stddevSample(n int64) float64 { return math.Sqrt(m.varianceSample(n)) }
