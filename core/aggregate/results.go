package aggregate

import (
	"math"
	"strconv"
)

// Result returns the result of one function of one value. f must be one of the value's functions. ok is false if there is no
// result: no value was added (only one, for the sample functions), f is not computed, or the result overflowed: then v is
// infinite. Nor has one of first, last and user-defined functions, whose results need not be numbers: AppendResult writes them.
// In a composite that counts records, value is 0.
//
// It passes over all values that are kept, at most 4,095; AppendResults does so once for all functions.
func (c *Composite) Result(r *Row, value int, f Function) (v float64, ok bool) {
	if value < 0 || value >= len(c.values) {
		return 0, false
	}
	p := c.values[value].plan(f)
	if p == nil || p.eval == nil {
		return 0, false
	}
	t := c.totals(r, value)
	if v, ok = p.eval(t, p.P); !ok {
		return 0, false
	}
	return v, finite(v)
}

// plan returns the plan of a function, nil if it is not computed.
func (p *valuePlan) plan(f Function) *functionPlan {
	for i := range p.functions {
		if x := &p.functions[i]; x.Kind == f.Kind && x.P == f.P && x.own == f.own {
			return x
		}
	}
	return nil
}

// AppendResult appends the result of one function of one value as JSON: null if there is none, or if it overflowed.
func (c *Composite) AppendResult(dst []byte, r *Row, value int, f Function) []byte {
	if value >= 0 && value < len(c.values) {
		if p := c.values[value].plan(f); p != nil {
			dst, _ = p.append(dst, c.totals(r, value))
			return dst
		}
	}
	return append(dst, "null"...)
}

// append appends the result as JSON; overflow reports that it is null because it is beyond the range of a float64.
func (p *functionPlan) append(dst []byte, t *totals) (_ []byte, overflow bool) {
	if p.json != nil {
		if t.n == 0 {
			return append(dst, "null"...), false
		}
		return p.json(dst, t), false
	}
	v, ok := p.eval(t, p.P)
	switch {
	case ok && p.integer:
		return strconv.AppendInt(dst, int64(v), 10), false
	case ok && finite(v):
		return appendFloat(dst, v), false
	}
	return append(dst, "null"...), ok
}

// totals returns what the functions of a value are evaluated on, valid until the next call.
func (c *Composite) totals(r *Row, value int) *totals {
	if c.records {
		r.totals = totals{n: r.records}
	} else {
		r.values[value].totals(&r.totals, &c.values[value])
	}
	return &r.totals
}

// AppendResults appends the results of the row as a JSON object: one flat map if there is one value or none, else a map for
// each value by its name. Keys are in the order of the functions. Counts are integers, first and last as they were written, other
// numbers the shortest that give the same float64 back, as encoding/json writes them. Where there is no result: null. If one is beyond the range of a
// float64, it is null and its map has "overflow":true as well.
func (c *Composite) AppendResults(dst []byte, r *Row) []byte {
	if len(c.values) == 1 {
		return c.appendValue(dst, r, 0)
	}
	dst = append(dst, '{')
	for i := range c.values {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, c.values[i].key...)
		dst = c.appendValue(dst, r, i)
	}
	return append(dst, '}')
}

func (c *Composite) appendValue(dst []byte, r *Row, value int) []byte {
	t := c.totals(r, value)
	overflow := false
	dst = append(dst, '{')
	for i := range c.values[value].functions {
		f := &c.values[value].functions[i]
		if i > 0 {
			dst = append(dst, ',')
		}
		var beyond bool
		dst, beyond = f.append(append(dst, f.key...), t)
		overflow = overflow || beyond
	}
	if overflow {
		dst = append(dst, `,"overflow":true`...)
	}
	return append(dst, '}')
}

// appendFloat appends a finite number in the notation of encoding/json, which is that of ES6: an exponent only below 1e-6 and
// from 1e21 on.
func appendFloat(dst []byte, v float64) []byte {
	if a := math.Abs(v); a == 0 || a >= 1e-6 && a < 1e21 {
		return strconv.AppendFloat(dst, v, 'f', -1, 64)
	}
	dst = strconv.AppendFloat(dst, v, 'e', -1, 64)
	if n := len(dst); dst[n-4] == 'e' && dst[n-3] == '-' && dst[n-2] == '0' { // e-09 is e-9
		dst[n-2] = dst[n-1]
		dst = dst[:n-1]
	}
	return dst
}
