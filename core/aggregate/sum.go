package aggregate

import "math"

// Values of at least wideFrom are summed apart, times wideScale, so that no sum overflows on the way: neither 2^53 values below
// wideFrom nor 2^53 scaled ones reach 2^1024. So whether a sum overflows depends on the values, not on their order. Scaling by
// a power of two is exact here.
const (
	wideFrom    = 0x1p960
	wideScale   = 0x1p-128
	wideUnscale = 0x1p128
)

// sum is a compensated sum (Neumaier, ZAMM 54, 1974): the error of each addition is kept in lo and hi + lo is the sum.
// Integers sum exactly while all partial sums stay within 2^53.
type sum struct {
	hi, lo         float64
	wideHi, wideLo float64 // values of at least wideFrom, times wideScale
}

// add adds a finite value.
func (s *sum) add(v float64) {
	if math.Abs(v) >= wideFrom {
		hi, e := twoSum(s.wideHi, v*wideScale)
		s.wideHi, s.wideLo = hi, s.wideLo+e
		return
	}
	hi, e := twoSum(s.hi, v)
	s.hi, s.lo = hi, s.lo+e
}

// merge adds o to s, with the compensation of both.
func (s *sum) merge(o sum) {
	hi, e := twoSum(s.hi, o.hi)
	s.hi, s.lo = hi, (s.lo+o.lo)+e
	if o.isWide() {
		hi, e = twoSum(s.wideHi, o.wideHi)
		s.wideHi, s.wideLo = hi, (s.wideLo+o.wideLo)+e
	}
}

// isWide reports whether the wide part holds anything.
func (s *sum) isWide() bool { return s.wideHi != 0 || s.wideLo != 0 }

// value returns the sum; infinite if it is beyond the range of a float64.
func (s *sum) value() float64 {
	wide := s.wideHi + s.wideLo
	if wide == 0 {
		return s.hi + s.lo
	}
	return (wide + (s.hi+s.lo)*wideScale) * wideUnscale
}

// mean returns the sum divided by n > 0. It is finite also where the sum is not.
func (s *sum) mean(n int64) float64 {
	wide := s.wideHi + s.wideLo
	if wide == 0 {
		return (s.hi + s.lo) / float64(n)
	}
	m := (wide + (s.hi+s.lo)*wideScale) / float64(n) * wideUnscale
	return max(-math.MaxFloat64, min(m, math.MaxFloat64)) // rounding may exceed the largest value by half a unit
}

// twoSum returns the rounded sum of a and b and its exact error (Knuth, TAOCP 2, 4.2.2, theorem B): what Neumaier's method
// keeps, without his branch.
func twoSum(a, b float64) (s, e float64) {
	s = a + b
	t := s - a
	return s, (a - (s - t)) + (b - t)
}
