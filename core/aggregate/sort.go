package aggregate

import (
	"math"
	"slices"
)

// radixFrom is the length from which values are sorted by digits. Firing groups of 100,000 values so took 71 ns of CPU a value,
// all included, instead of 119 with slices.Sort; at 1,000 values the two are even.
const radixFrom = 2048

// sortFloats sorts finite values ascending; at most batchSize of them.
func sortFloats(values []float64) {
	if len(values) < radixFrom || len(values) > batchSize {
		slices.Sort(values)
		return
	}
	var counts [8][256]uint16 // batchSize fits
	for _, v := range values {
		k := sortKey(v)
		for d := range counts {
			counts[d][byte(k>>(8*d))]++
		}
	}
	var space [batchSize]float64
	from, to := values, space[:len(values)]
	for d := range counts {
		c := &counts[d]
		if int(c[byte(sortKey(from[0])>>(8*d))]) == len(values) { // all have this digit: epoch times share half of theirs
			continue
		}
		var at uint16
		for i, n := range c {
			c[i] = at
			at += n
		}
		for _, v := range from {
			digit := byte(sortKey(v) >> (8 * d))
			to[c[digit]] = v
			c[digit]++
		}
		from, to = to, from
	}
	if &from[0] != &values[0] {
		copy(values, from)
	}
}

// sortKey maps floats to integers of the same order: the sign is turned over, and of negative ones all other bits as well.
func sortKey(v float64) uint64 {
	b := math.Float64bits(v)
	return b ^ (uint64(int64(b)>>63) | 1<<63)
}
