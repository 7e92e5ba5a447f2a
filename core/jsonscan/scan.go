// Package jsonscan walks over JSON text (RFC 8259) without building anything: each function looks at b from index i on and
// returns the index after what it read. It is the one place where the project decides what well-formed JSON is; reading
// record values and reading function payloads both rest on it.
//
// It is stricter than RFC 8259 in two points: strings must be valid UTF-8, and nesting is limited to MaxDepth, so that
// hostile input costs neither stack nor surprise. Nothing here allocates, except Describe.
//
// A Fault other than OK comes with the index of the byte at which the input is wrong; len(b) means that it ends too early.
package jsonscan

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"strconv"
	"unicode/utf8"
)

// MaxDepth is the most containers that may be open at once. It is at most 64: Skip keeps the kinds of the open ones in a word.
const MaxDepth = 64

// Fault says what is wrong with the input.
type Fault uint8

// The faults.
const (
	OK             Fault = iota
	FaultEnd             // the input ends inside of an element
	FaultValue           // no value begins here
	FaultKey             // an object's key must begin here
	FaultColon           // a colon must follow an object's key
	FaultNext            // a comma or the container's end must follow an element
	FaultControl         // a control character in a string must be escaped
	FaultEscape          // no such escape
	FaultUTF8            // not valid UTF-8
	FaultNumber          // a number needs a digit here
	FaultDepth           // nested deeper than MaxDepth
	FaultTrailing        // something follows the document
	FaultDuplicate       // a key that the caller reads occurs twice in an object
)

// String describes the fault in words that fit behind "byte 12: ".
func (f Fault) String() string {
	switch f {
	case OK:
		return "no fault"
	case FaultEnd:
		return "unexpected end"
	case FaultValue:
		return "want a value"
	case FaultKey:
		return "want an object key"
	case FaultColon:
		return "want a colon after the key"
	case FaultNext:
		return "want a comma or the end of the object or array"
	case FaultControl:
		return "control character in a string"
	case FaultEscape:
		return "unknown escape in a string"
	case FaultUTF8:
		return "invalid UTF-8"
	case FaultNumber:
		return "malformed number"
	case FaultDepth:
		return "nested deeper than " + strconv.Itoa(MaxDepth)
	case FaultTrailing:
		return "data after the end of the document"
	case FaultDuplicate:
		return "key occurs twice in one object"
	}
	return fmt.Sprintf("Fault(%d)", uint8(f))
}

// Describe returns the text of a fault at index i of b: position, fault and the byte found there, nothing else of the input.
func Describe(b []byte, i int, f Fault) string {
	if i >= len(b) || f == FaultDuplicate {
		return fmt.Sprintf("byte %d: %v", i, f)
	}
	if b[i] < utf8.RuneSelf {
		return fmt.Sprintf("byte %d: %v, found %q", i, f, b[i])
	}
	return fmt.Sprintf("byte %d: %v, found 0x%02x", i, f, b[i])
}

// Space returns the index of the first byte from i on that is not white space, at most len(b).
func Space(b []byte, i int) int {
	if i < len(b) && b[i] > ' ' { // nearly always, and small enough to be inlined
		return i
	}
	return space(b, i)
}

func space(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// Open returns the index of the first element of the container that begins at i and ends with the byte end, which is '}'
// or ']'. If the container is empty, next is behind it instead.
func Open(b []byte, i int, end byte) (next int, empty bool) {
	i = Space(b, i+1)
	if i < len(b) && b[i] == end {
		return i + 1, true
	}
	return i, false
}

// Next returns, after an element that ended at i, the index of the next element (more) or the one behind the container.
func Next(b []byte, i int, end byte) (next int, more bool, f Fault) {
	i = Space(b, i)
	if i >= len(b) {
		return i, false, FaultEnd
	}
	switch b[i] {
	case ',':
		return Space(b, i+1), true, OK
	case end:
		return i + 1, false, OK
	}
	return i, false, FaultNext
}

// Key reads an object's key at i and the colon behind it. key is the text between the quotes, as written; plain says that
// it has no escapes. value is the index of the member's value.
func Key(b []byte, i int) (key []byte, plain bool, value int, f Fault) {
	if i >= len(b) {
		return nil, false, i, FaultEnd
	}
	if b[i] != '"' {
		return nil, false, i, FaultKey
	}
	end, plain, f := String(b, i)
	if f != OK {
		return nil, false, end, f
	}
	key = b[i+1 : end-1]
	if end < len(b) && b[end] == ':' {
		return key, plain, Space(b, end+1), OK
	}
	end = Space(b, end)
	switch {
	case end >= len(b):
		return nil, false, end, FaultEnd
	case b[end] != ':':
		return nil, false, end, FaultColon
	}
	return key, plain, Space(b, end+1), OK
}

// String reads the string whose opening quote is at i; end is behind the closing one. plain says that it has no escapes,
// so that what is between the quotes is its value; else see AppendUnescaped.
func String(b []byte, i int) (end int, plain bool, f Fault) {
	plain = true
	i++
	for i < len(b) {
		if len(b)-i >= 8 {
			m := special(binary.LittleEndian.Uint64(b[i:]))
			if m == 0 {
				i += 8
				continue
			}
			i += bits.TrailingZeros64(m) >> 3
		}
		switch c := b[i]; {
		case c == '"':
			return i + 1, plain, OK
		case c == '\\':
			plain = false
			if i, f = escape(b, i); f != OK {
				return i, false, f
			}
		case c < ' ':
			return i, false, FaultControl
		case c < utf8.RuneSelf:
			i++
		default:
			if i, f = runes(b, i); f != OK {
				return i, false, f
			}
		}
	}
	return len(b), false, FaultEnd
}

// special returns a word whose lowest set bit is in the first of w's eight bytes (little endian) that is a quote, a
// backslash, a control character or not ASCII; 0 if there is none. The subtractions borrow into higher bytes only, so
// bits above the lowest one mean nothing. After "Bit Twiddling Hacks", S. E. Anderson, "Determine if a word has a byte
// less than n".
func special(w uint64) uint64 {
	const (
		ones  = 0x0101010101010101
		highs = 0x8080808080808080
	)
	quote := w ^ ones*'"'
	slash := w ^ ones*'\\'
	return ((quote-ones)&^quote | (slash-ones)&^slash | (w-ones*' ')&^w | w) & highs
}

// escape reads the escape at i. A surrogate need not have a partner, as in encoding/json.
func escape(b []byte, i int) (int, Fault) {
	i++
	if i >= len(b) {
		return i, FaultEnd
	}
	switch b[i] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 1, OK
	case 'u':
		for k := i + 1; k <= i+4; k++ {
			if k >= len(b) {
				return k, FaultEnd
			}
			if _, ok := hexDigit(b[k]); !ok {
				return k, FaultEscape
			}
		}
		return i + 5, OK
	}
	return i, FaultEscape
}

// runes reads the run of characters beyond ASCII at i.
func runes(b []byte, i int) (int, Fault) {
	for i < len(b) && b[i] >= utf8.RuneSelf {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			return i, FaultUTF8
		}
		i += n
	}
	return i, OK
}

// Number reads the number at i.
func Number(b []byte, i int) (end int, f Fault) {
	if i < len(b) && b[i] == '-' {
		i++
	}
	first := i
	if i, f = digits(b, i); f != OK {
		return i, f
	}
	if b[first] == '0' && i > first+1 {
		return first + 1, FaultNumber // a leading zero
	}
	if i < len(b) && b[i] == '.' {
		if i, f = digits(b, i+1); f != OK {
			return i, f
		}
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		return digits(b, i)
	}
	return i, OK
}

// digits reads one or more digits at i.
func digits(b []byte, i int) (int, Fault) {
	first := i
	for i < len(b) && b[i]-'0' <= 9 {
		i++
	}
	switch {
	case i > first:
		return i, OK
	case i >= len(b):
		return i, FaultEnd
	}
	return i, FaultNumber
}

// Scalar reads the string, number, true, false or null at i.
func Scalar(b []byte, i int) (end int, f Fault) {
	if i >= len(b) {
		return i, FaultEnd
	}
	switch c := b[i]; {
	case c == '"':
		end, _, f = String(b, i)
		return end, f
	case c == '-' || c-'0' <= 9:
		return Number(b, i)
	case c == 't':
		return literal(b, i, "true")
	case c == 'f':
		return literal(b, i, "false")
	case c == 'n':
		return literal(b, i, "null")
	}
	return i, FaultValue
}

func literal(b []byte, i int, want string) (int, Fault) {
	if len(b)-i >= len(want) && string(b[i:i+len(want)]) == want {
		return i + len(want), OK
	}
	for k := range len(want) {
		if i+k >= len(b) {
			return len(b), FaultEnd
		}
		if b[i+k] != want[k] {
			return i + k, FaultValue
		}
	}
	return i, FaultValue
}

// Skip reads the value at i, whatever it is, inside of depth open containers.
func Skip(b []byte, i, depth int) (end int, f Fault) {
	var objects uint64 // a stack of bits, the innermost container lowest: set for an object
	outer := depth
	for {
		// Here begins a value.
		if i < len(b) && (b[i] == '{' || b[i] == '[') {
			if depth == MaxDepth {
				return i, FaultDepth
			}
			depth++
			objects <<= 1
			if b[i] == '{' {
				objects |= 1
			}
			var empty bool
			i, empty = Open(b, i, closing(objects))
			if !empty {
				if objects&1 != 0 {
					if _, _, i, f = Key(b, i); f != OK {
						return i, f
					}
				}
				continue
			}
			depth--
			objects >>= 1
		} else if i, f = Scalar(b, i); f != OK {
			return i, f
		}
		// Here a value has ended. Close what it closes, up to the next value.
		for more := false; !more; {
			if depth == outer {
				return i, OK
			}
			if i, more, f = Next(b, i, closing(objects)); f != OK {
				return i, f
			}
			if !more {
				depth--
				objects >>= 1
			}
		}
		if objects&1 != 0 {
			if _, _, i, f = Key(b, i); f != OK {
				return i, f
			}
		}
	}
}

// closing returns the byte that ends the innermost container.
func closing(objects uint64) byte {
	if objects&1 != 0 {
		return '}'
	}
	return ']'
}

// End checks that nothing but white space is left from i on.
func End(b []byte, i int) (end int, f Fault) {
	if i = Space(b, i); i < len(b) {
		return i, FaultTrailing
	}
	return i, OK
}
