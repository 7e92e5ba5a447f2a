package aggregate

import (
	"cmp"
	"strconv"

	"github.com/cespare/xxhash/v2"

	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// MaxTextBytes bounds the text of an input of a value with first or last, which keep it. Whoever reads records refuses longer
// ones: they could not be kept exactly.
const MaxTextBytes = 64 << 10

// InputKind is the JSON type of an input.
type InputKind uint8

// The kinds. They are stored: their numbers must not change.
const (
	InputNumber InputKind = iota + 1
	InputString
	InputBool
)

// Position is where a record is: its event time, and among equal times its topic, partition and offset. Topic is the index of
// the topic in a list that every record of the pipeline is numbered by.
type Position struct {
	Time      event.Time
	Topic     int32
	Partition int32
	Offset    int64
}

// Compare orders positions by time, topic, partition and offset: -1, 0 or 1.
func (p Position) Compare(o Position) int {
	return cmp.Or(cmp.Compare(p.Time, o.Time), cmp.Compare(p.Topic, o.Topic), cmp.Compare(p.Partition, o.Partition), cmp.Compare(p.Offset, o.Offset))
}

// Input is one value of one record: a number, a string or a boolean. Its bytes belong to the caller, who may reuse them after
// the call that takes the input; the struct is to be made anew for each value, since it remembers what was computed of it.
type Input struct {
	Kind   InputKind
	Number float64 // of a number: the nearest float64
	// Text is what a string contains, without quotes and escapes; of a number and a boolean the JSON text. A number may come
	// without: then it is Number's.
	Text []byte
	At   Position

	hashed bool
	hash   uint64
}

// appendText appends the text that the input is kept as.
func (in *Input) appendText(dst []byte) []byte {
	if in.Kind == InputNumber && len(in.Text) == 0 {
		return appendFloat(dst, in.Number+0)
	}
	return append(dst, in.Text...)
}

// identity returns a hash of the value: equal for equal values of one kind, however a number is written.
func (in *Input) identity() uint64 {
	if in.hashed {
		return in.hash
	}
	var h uint64
	if in.Kind == InputNumber {
		var text, decimal [64]byte
		h = xxhash.Sum64(appendDecimal(decimal[:0], in.appendText(text[:0])))
	} else {
		h = xxhash.Sum64(in.Text)
	}
	s := splitmix{h + uint64(in.Kind)}
	in.hash, in.hashed = s.next(), true
	return in.hash
}

// appendDecimal appends the canonical form of a JSON number: the sign, the digits without zeros at either end, e, and the power
// of ten of the last digit. Two numbers have one form if and only if they are equal as decimals (but for exponents beyond a
// thousand million, which no finite number has and which are all one).
func appendDecimal(dst, text []byte) []byte {
	start := len(dst)
	i, exponent, point := 0, 0, false
	if len(text) > 0 && text[0] == '-' {
		dst = append(dst, '-')
		i = 1
	}
	digits := len(dst)
	for ; i < len(text) && text[i]|0x20 != 'e'; i++ {
		c := text[i]
		if c == '.' {
			point = true
			continue
		}
		if point {
			exponent--
		}
		if c != '0' || len(dst) > digits {
			dst = append(dst, c)
		}
	}
	if i < len(text) {
		exponent += exponentOf(text[i+1:])
	}
	for len(dst) > digits && dst[len(dst)-1] == '0' {
		dst = dst[:len(dst)-1]
		exponent++
	}
	if len(dst) == digits {
		return append(dst[:start], '0')
	}
	return strconv.AppendInt(append(dst, 'e'), int64(exponent), 10)
}

// exponentOf reads an exponent, which is at most a thousand million in amount.
func exponentOf(text []byte) int {
	const most = 1_000_000_000
	sign, n := 1, 0
	for _, c := range text {
		switch {
		case c == '-':
			sign = -1
		case c != '+' && n < most:
			n = min(n*10+int(c-'0'), most)
		}
	}
	return sign * n
}
