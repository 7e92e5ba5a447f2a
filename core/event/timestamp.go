package event

import (
	"errors"
	"fmt"
	"math"

	"github.com/llm-auto-optimizer/tidemark/core/jsonscan"
)

// ErrTimestamp is returned for a field that is not a point in time, or one that Time cannot hold.
var ErrTimestamp = errors.New("invalid timestamp")

// ParseTimestamp reads an event time out of a field. A number, also with decimals or an exponent, counts units since the
// Unix epoch: "s", "ms", "us" or "ns". A string is RFC 3339, whatever the unit; digits alone are not. What is below a
// millisecond is cut off downwards, also before 1970. It is exact for any number of digits, and allocates nothing.
//
// Nothing saturates: a time that does not lie strictly between MinTime and MaxTime is an error. Errors wrap ErrTimestamp.
func ParseTimestamp(f Field, unit string) (Time, error) {
	var t Time
	var ok bool
	switch f.Kind {
	case FieldNumber:
		shift, known := decimalShift(unit)
		if !known {
			return 0, fmt.Errorf("unknown unit %q: %w", unit, ErrTimestamp)
		}
		t, ok = timeOfNumber(f.Raw, shift)
	case FieldString:
		t, ok = timeOfRFC3339(f.Raw)
	case FieldAbsent, FieldNull, FieldBool, FieldObject, FieldArray:
		return 0, fmt.Errorf("%v: %w", f.Kind, ErrTimestamp)
	}
	if !ok {
		return 0, fmt.Errorf("%v %s: %w", f.Kind, quoted(f.Raw), ErrTimestamp)
	}
	return t, nil
}

// decimalShift returns by how many decimal places a number of the unit moves to become milliseconds.
func decimalShift(unit string) (places int, known bool) {
	switch unit {
	case "s":
		return 3, true
	case "ms":
		return 0, true
	case "us":
		return -3, true
	case "ns":
		return -6, true
	}
	return 0, false
}

// timeOfNumber returns floor(raw * 10^shift).
func timeOfNumber(raw []byte, shift int) (Time, bool) {
	if shift == 0 {
		if v, ok := ParseInt(raw); ok {
			return inRange(v < 0, magnitude(v))
		}
	}
	if end, f := jsonscan.Number(raw, 0); f != jsonscan.OK || end != len(raw) {
		return 0, false
	}
	negative := raw[0] == '-'
	if negative {
		raw = raw[1:]
	}
	whole := digitsOf(raw)
	var fraction []byte
	rest := raw[len(whole):]
	if len(rest) > 0 && rest[0] == '.' {
		fraction = digitsOf(rest[1:])
		rest = rest[1+len(fraction):]
	}
	point := len(whole) + shift + exponentOf(rest) // the result is the first point digits of whole and fraction

	var m uint64
	inexact := false
	for k, digits := 0, whole; k < 2; k, digits = k+1, fraction {
		for _, c := range digits {
			if point <= 0 {
				inexact = inexact || c != '0'
				continue
			}
			point--
			if m > math.MaxInt64/10 { // so that m*10+9 fits in a uint64
				return 0, false
			}
			m = m*10 + uint64(c-'0')
		}
	}
	for ; point > 0 && m > 0; point-- {
		if m > math.MaxInt64/10 {
			return 0, false
		}
		m *= 10
	}
	if negative && inexact {
		m++ // downwards
	}
	return inRange(negative, m)
}

// inRange returns the time with that sign and magnitude if it is strictly between MinTime and MaxTime.
func inRange(negative bool, m uint64) (Time, bool) {
	switch {
	case negative && m <= math.MaxInt64:
		return -Time(m), true
	case !negative && m < math.MaxInt64:
		return Time(m), true
	}
	return 0, false
}

func magnitude(v int64) uint64 {
	if v < 0 {
		return -uint64(v)
	}
	return uint64(v)
}

func digitsOf(b []byte) []byte {
	n := 0
	for n < len(b) && b[n]-'0' <= 9 {
		n++
	}
	return b[:n]
}

// exponentOf reads the exponent of a JSON number: nothing, or e, a sign and digits. It saturates far above the length of
// any text, where all exponents have the same effect.
func exponentOf(b []byte) int {
	const most = 1 << 40
	if len(b) == 0 {
		return 0
	}
	b = b[1:]
	negative := b[0] == '-'
	if negative || b[0] == '+' {
		b = b[1:]
	}
	e := 0
	for _, c := range b {
		e = min(e*10+int(c-'0'), most)
	}
	if negative {
		return -e
	}
	return e
}

// timeOfRFC3339 reads "2006-01-02T15:04:05", with any fraction, and Z or an offset. T and Z may be lower case, as RFC 3339
// section 5.6 allows. Second 60 is legal where the standard has leap seconds, at 23:59 UTC, and is the second after it, as
// in Unix time.
func timeOfRFC3339(b []byte) (Time, bool) {
	const shape = "0000-00-00T00:00:00"
	if len(b) <= len(shape) {
		return 0, false
	}
	for i := range len(shape) {
		switch c := b[i]; {
		case shape[i] == '0' && c-'0' > 9:
			return 0, false
		case shape[i] == 'T' && c != 'T' && c != 't':
			return 0, false
		case (shape[i] == '-' || shape[i] == ':') && c != shape[i]:
			return 0, false
		}
	}
	year := twoDigits(b[0:])*100 + twoDigits(b[2:])
	month, day := twoDigits(b[5:]), twoDigits(b[8:])
	hour, minute, second := twoDigits(b[11:]), twoDigits(b[14:]), twoDigits(b[17:])
	if month < 1 || month > 12 || day < 1 || day > daysIn(year, month) || hour > 23 || minute > 59 || second > 60 {
		return 0, false
	}
	b = b[len(shape):]

	millis := int64(0)
	if b[0] == '.' {
		fraction := digitsOf(b[1:])
		if len(fraction) == 0 {
			return 0, false
		}
		for k, weight := 0, int64(100); k < min(len(fraction), 3); k, weight = k+1, weight/10 {
			millis += int64(fraction[k]-'0') * weight
		}
		b = b[1+len(fraction):]
	}
	offset, ok := offsetMinutes(b)
	if !ok {
		return 0, false
	}
	minutes := (daysSinceEpoch(year, month, day)*24+hour)*60 + minute - offset
	if second == 60 && mod(minutes, 24*60) != 24*60-1 {
		return 0, false
	}
	return Time((minutes*60+second)*1000 + millis), true
}

// offsetMinutes reads the rest of an RFC 3339 time: Z, or an offset to UTC in hours and minutes.
func offsetMinutes(b []byte) (minutes int64, ok bool) {
	if len(b) == 1 {
		return 0, b[0]|0x20 == 'z'
	}
	if len(b) != len("+00:00") || b[0] != '+' && b[0] != '-' || b[3] != ':' {
		return 0, false
	}
	for _, i := range [...]int{1, 2, 4, 5} {
		if b[i]-'0' > 9 {
			return 0, false
		}
	}
	h, m := twoDigits(b[1:]), twoDigits(b[4:])
	if h > 23 || m > 59 {
		return 0, false
	}
	if b[0] == '-' {
		return -(h*60 + m), true
	}
	return h*60 + m, true
}

func twoDigits(b []byte) int64 { return int64(b[0]-'0')*10 + int64(b[1]-'0') }

func daysIn(year, month int64) int64 {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// daysSinceEpoch returns the number of days from 1970-01-01 to a day of the proleptic Gregorian calendar (H. Hinnant,
// "chrono-compatible low-level date algorithms", days_from_civil).
func daysSinceEpoch(year, month, day int64) int64 {
	if month <= 2 {
		year-- // years begin in March, so that the leap day is the last
	}
	era := (year - mod(year, 400)) / 400
	yearOfEra := mod(year, 400)
	dayOfYear := (153*mod(month-3, 12)+2)/5 + day - 1
	return era*146097 + yearOfEra*365 + yearOfEra/4 - yearOfEra/100 + dayOfYear - 719468
}

// mod returns a mod n in [0, n).
func mod(a, n int64) int64 {
	if a %= n; a < 0 {
		a += n
	}
	return a
}
