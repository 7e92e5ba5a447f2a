package event

import (
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/llm-auto-optimizer/tidemark/core/jsonscan"
)

// What is wrong with a record is told in its dead letter. The texts of such errors therefore do not begin with the package.
var (
	// ErrNotFinite is returned for a number that is too large for a float64, and where a format knows NaN and infinities, for those.
	ErrNotFinite = errors.New("not a finite float64")
	// ErrNumber is returned for text that is not a JSON number.
	ErrNumber = errors.New("not a number")
)

// ParseFloat returns the float64 nearest to the JSON number raw, ties to even; what is too small is 0. It does not allocate
// for up to 32 bytes. ErrNotFinite for what rounds beyond the largest float64, ErrNumber for what is not a JSON number.
//
// With at most 2^53 as digits and at most 22 places after the point, both are exact as float64, and one correctly rounded
// division gives the result (W. D. Clinger, "How to read floating point numbers accurately", 1990). The rest is strconv's.
func ParseFloat(raw []byte) (float64, error) {
	i := 0
	negative := len(raw) > 0 && raw[0] == '-'
	if negative {
		i = 1
	}
	var m uint64
	first := i
	for i < len(raw) && raw[i]-'0' <= 9 {
		m = m*10 + uint64(raw[i]-'0')
		i++
	}
	count := i - first
	if count == 0 || count > 1 && raw[first] == '0' {
		return parseFloatSlow(raw)
	}
	places := 0
	if i < len(raw) && raw[i] == '.' {
		i++
		point := i
		for i < len(raw) && raw[i]-'0' <= 9 {
			m = m*10 + uint64(raw[i]-'0')
			i++
		}
		if places = i - point; places == 0 {
			return parseFloatSlow(raw)
		}
	}
	if i != len(raw) || count+places > 19 || m > 1<<53 { // 19 digits fit in a uint64, so that m has not wrapped
		return parseFloatSlow(raw)
	}
	v := float64(m)
	if places > 0 {
		v /= math.Pow10(places) // exact up to 1e22
	}
	if negative {
		v = -v
	}
	return v, nil
}

func parseFloatSlow(raw []byte) (float64, error) {
	if end, f := jsonscan.Number(raw, 0); f != jsonscan.OK || end != len(raw) {
		return 0, fmt.Errorf("parse %s: %w", quoted(raw), ErrNumber)
	}
	v, err := strconv.ParseFloat(string(raw), 64) // the string does not escape: up to 32 bytes it is on the stack
	if err != nil {
		return 0, fmt.Errorf("parse %s: %w", quoted(raw), ErrNotFinite) // the syntax is known to be right
	}
	return v, nil
}

// ParseInt returns the value of a JSON number that is written as an integer, without point and exponent, and that fits.
func ParseInt(raw []byte) (v int64, ok bool) {
	i := 0
	negative := len(raw) > 0 && raw[0] == '-'
	if negative {
		i = 1
	}
	digits := len(raw) - i
	if digits == 0 || digits > 19 || digits > 1 && raw[i] == '0' {
		return 0, false
	}
	var m uint64
	for ; i < len(raw); i++ {
		d := raw[i] - '0'
		if d > 9 {
			return 0, false
		}
		m = m*10 + uint64(d)
	}
	switch {
	case negative && m <= -math.MinInt64:
		return -int64(m), true
	case !negative && m <= math.MaxInt64:
		return int64(m), true
	}
	return 0, false
}

// quoted returns the beginning of a payload's text for an error message.
func quoted(raw []byte) string {
	const most = 32
	if len(raw) > most {
		return strconv.Quote(string(raw[:most])) + "..."
	}
	return strconv.Quote(string(raw))
}
