package aggregate

import (
	"math"
	"math/bits"
	"slices"
)

const (
	// distinctExact is the number of distinct values up to which they are counted exactly: their hashes are kept. That two of
	// 1,024 values have one 64-bit hash has a probability of 3e-14.
	distinctExact = 1024

	// Beyond, a HyperLogLog of 2^14 registers: a standard error of 1.04/sqrt(2^14) = 0.81%.
	distinctBits      = 14
	distinctRegisters = 1 << distinctBits
	distinctMostRank  = 64 - distinctBits + 1

	// sparseMost is the number of registers that are not 0 up to which a sketch is stored as their list, of two or three bytes
	// each; beyond, as all registers, six bits each.
	sparseMost  = 4096
	denseLength = distinctRegisters * 6 / 8
)

// distinct counts distinct hashes: exactly while there are few, then by a HyperLogLog (Flajolet, Fusy, Gandouet and Meunier,
// AofA 2007) with Ertl's improved estimator (arXiv:1702.01284, algorithm 6), which needs no table of corrections. What it holds
// is a function of the set of hashes alone, so that merging is exactly commutative, associative and idempotent.
type distinct struct {
	hashes    []uint64 // the first sorted of them are ascending and distinct
	sorted    int
	registers []uint8 // of distinctRegisters if the sketch is used, else empty
}

func (d *distinct) reset() {
	d.hashes, d.sorted, d.registers = d.hashes[:0], 0, d.registers[:0]
}

// add adds a hash.
func (d *distinct) add(h uint64) {
	if len(d.registers) > 0 {
		d.register(h)
		return
	}
	d.hashes = append(d.hashes, h)
	if len(d.hashes) >= max(32, 2*d.sorted) {
		d.settle()
	}
}

func (d *distinct) register(h uint64) {
	rank := uint8(min(bits.LeadingZeros64(h<<distinctBits)+1, distinctMostRank))
	if at := h >> (64 - distinctBits); d.registers[at] < rank {
		d.registers[at] = rank
	}
}

// settle makes the hashes ascending and distinct, and goes over to registers if they are too many.
func (d *distinct) settle() {
	if d.sorted == len(d.hashes) {
		return
	}
	slices.Sort(d.hashes)
	d.hashes = slices.Compact(d.hashes)
	d.sorted = len(d.hashes)
	if d.sorted > distinctExact {
		d.sketch()
	}
}

// sketch goes over to registers.
func (d *distinct) sketch() {
	if len(d.registers) > 0 {
		return
	}
	if cap(d.registers) < distinctRegisters {
		d.registers = make([]uint8, distinctRegisters)
	}
	d.registers = d.registers[:distinctRegisters]
	clear(d.registers)
	for _, h := range d.hashes {
		d.register(h)
	}
	d.hashes, d.sorted = d.hashes[:0], 0
}

// merge adds o to d. o is not changed but in the order of its hashes.
func (d *distinct) merge(o *distinct) {
	if len(o.registers) > 0 {
		d.sketch()
		for i, rank := range o.registers {
			d.registers[i] = max(d.registers[i], rank)
		}
		return
	}
	for _, h := range o.hashes {
		d.add(h)
	}
}

// estimate returns the number of distinct values.
func (d *distinct) estimate() float64 {
	d.settle()
	if len(d.registers) == 0 {
		return float64(len(d.hashes))
	}
	var histogram [distinctMostRank + 1]int
	for _, rank := range d.registers {
		histogram[rank]++
	}
	const m = distinctRegisters
	z := float64(m * tau(1-float64(histogram[distinctMostRank])/m))
	for k := distinctMostRank - 1; k >= 1; k-- {
		z = 0.5 * (z + float64(histogram[k]))
	}
	z += float64(m * sigma(float64(histogram[0])/m))
	return math.Round(m / (2 * math.Ln2) * m / z)
}

// sigma is Ertl's correction for registers that are 0; x is their share.
func sigma(x float64) float64 {
	if x == 1 {
		return math.Inf(1)
	}
	y, z := 1.0, x
	for before := -1.0; z != before; {
		before = z
		x *= x
		z += float64(x * y)
		y += y
	}
	return z
}

// tau is Ertl's correction for registers that are full; x is the share of the others.
func tau(x float64) float64 {
	if x == 0 || x == 1 {
		return 0
	}
	y, z := 1.0, 1-x
	for before := -1.0; z != before; {
		before = z
		x = math.Sqrt(x)
		y *= 0.5
		z -= float64(float64((1-x)*(1-x)) * y)
	}
	return z / 3
}
