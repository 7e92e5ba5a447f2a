package recompute

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"

	"github.com/llm-auto-optimizer/tidemark/core/aggregate"
)

// distinctError is what the number of distinct values may be off by beyond distinctExact: five standard errors.
const (
	distinctExact = 1024
	distinctError = 5 * 0.0081
)

// scalar is one value of a member. The zero scalar is that of a record that has none.
type scalar struct {
	kind   aggregate.InputKind
	number float64
	text   []byte // where a function needs it
}

// perScalar is about what a scalar takes in memory beside its text.
const perScalar = 40

// appendScalar writes a value for cutScalar.
func appendScalar(dst []byte, in *aggregate.Input, has bool) []byte {
	if !has {
		return append(dst, 0)
	}
	dst = binary.LittleEndian.AppendUint64(append(dst, byte(in.Kind)), math.Float64bits(in.Number))
	dst = binary.AppendUvarint(dst, uint64(len(in.Text)))
	return append(dst, in.Text...)
}

// cutScalar reads what appendScalar wrote; the text is part of it.
func cutScalar(b []byte) (v scalar, rest []byte) {
	if b[0] == 0 {
		return scalar{}, b[1:]
	}
	v.kind, v.number = aggregate.InputKind(b[0]), math.Float64frombits(binary.LittleEndian.Uint64(b[1:]))
	length, n := binary.Uvarint(b[9:])
	b = b[9+n:]
	if length > 0 {
		v.text = bytes.Clone(b[:length])
	}
	return v, b[length:]
}

// json is the value as a result.
func (v *scalar) json() string {
	if v.kind == aggregate.InputString {
		b, err := json.Marshal(string(v.text))
		if err != nil {
			return string(v.text)
		}
		return string(b)
	}
	return string(v.text)
}

// identity is the same text for equal values alone.
func (v *scalar) identity() string {
	if v.kind == aggregate.InputNumber {
		// Numbers of records are finite; what is closer to 0 than any float64 is compared as it is written.
		if r, ok := new(big.Rat).SetString(string(v.text)); ok && math.Abs(v.number) > 0 || r != nil && r.Sign() == 0 {
			return r.RatString()
		}
	}
	return fmt.Sprint(v.kind, " ", string(v.text))
}

// checkScalars compares the result of a function that is not one of numbers alone. members are in the order of time, partition and
// offset.
func (b *batch) checkScalars(f aggregate.Function, raw string) (want string, ok bool) {
	if len(b.scalars) == 0 && f.Kind != aggregate.Distinct {
		return "null", raw == "null"
	}
	switch {
	case f.Kind == aggregate.First:
		want = b.scalars[0].json()
	case f.Kind == aggregate.Last:
		want = b.scalars[len(b.scalars)-1].json()
	case f.Kind == aggregate.Distinct:
		return b.distinct(raw)
	case f.Definition() != nil:
		return b.own(f.Definition(), raw)
	}
	return want, sameJSON(raw, want, 0)
}

func (b *batch) distinct(raw string) (want string, ok bool) {
	all := make([]string, len(b.scalars))
	for i := range b.scalars {
		all[i] = b.scalars[i].identity()
	}
	slices.Sort(all)
	n := len(slices.Compact(all))
	want = strconv.Itoa(n)
	if n <= distinctExact {
		return want, raw == want
	}
	got, err := strconv.ParseFloat(raw, 64)
	return want + " within 4%", err == nil && math.Abs(got/float64(n)-1) <= distinctError
}

// own computes a user-defined function over all inputs at once.
func (b *batch) own(d *aggregate.Definition, raw string) (want string, ok bool) {
	s := d.New()
	for i := range b.scalars {
		v := &b.scalars[i]
		s.Add(&aggregate.Input{Kind: v.kind, Number: v.number, Text: v.text, At: b.at[i]})
	}
	want = string(s.AppendJSON(nil))
	return want, d.Approximate || sameJSON(raw, want, relative)
}

// sameJSON reports whether two JSON values are equal, numbers within a share.
func sameJSON(a, b string, share float64) bool {
	if a == b {
		return true
	}
	x, errX := strconv.ParseFloat(a, 64)
	y, errY := strconv.ParseFloat(b, 64)
	if errX == nil && errY == nil {
		return math.Abs(x-y) <= share*max(math.Abs(x), math.Abs(y))
	}
	var s, t string
	return json.Unmarshal([]byte(a), &s) == nil && json.Unmarshal([]byte(b), &t) == nil && s == t
}
