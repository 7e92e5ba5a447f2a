package event

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/llm-auto-optimizer/tidemark/core/jsonscan"
)

// NullKey is the group of records whose own key is null, where the record's key is the grouping key.
const NullKey = "null"

// ErrKey is returned for bytes that are not a grouping key of the given fields.
var ErrKey = errors.New("event: malformed grouping key")

// KeyFields are the paths of the fields that make up a grouping key, in order.
type KeyFields []string

// KeyValue is one part of a grouping key, unescaped.
type KeyValue struct{ Name, Value string }

// AppendKey appends the grouping key of a record to dst: name=value for each field, joined by "::", in the order of names.
// Strings are taken as they are, numbers as written, booleans as true or false; '%', ':' and '=' inside of names and values
// become %25, %3A and %3D, so that different values have different keys. With no names the key is empty: one group.
//
// bad is the index of the first field that has no such value (absent, null, object, array), and dst is then as it was; else
// bad is -1. fields[i] belongs to names[i].
func AppendKey(dst []byte, names []string, fields []Field) (key []byte, bad int) {
	from := len(dst)
	for i, name := range names {
		switch fields[i].Kind {
		case FieldString, FieldNumber, FieldBool:
		case FieldAbsent, FieldNull, FieldObject, FieldArray:
			return dst[:from], i
		}
		if i > 0 {
			dst = append(dst, ':', ':')
		}
		dst = appendEscaped(dst, name)
		dst = append(dst, '=')
		dst = appendEscaped(dst, fields[i].Raw)
	}
	return dst, -1
}

// appendEscaped appends s with '%', ':' and '=' escaped.
func appendEscaped[T string | []byte](dst []byte, s T) []byte {
	done := 0
	for i := range len(s) {
		switch s[i] {
		case '%':
			dst = append(append(dst, s[done:i]...), "%25"...)
		case ':':
			dst = append(append(dst, s[done:i]...), "%3A"...)
		case '=':
			dst = append(append(dst, s[done:i]...), "%3D"...)
		default:
			continue
		}
		done = i + 1
	}
	return append(dst, s[done:]...)
}

// SplitKey is the inverse of AppendKey: it returns the parts of a key of these names. Whether a value was a string, a
// number or a boolean is not in the key. ErrKey if the key is not one that AppendKey makes with these names.
func SplitKey(names []string, key []byte) ([]KeyValue, error) {
	if len(names) == 0 {
		if len(key) > 0 {
			return nil, fmt.Errorf("split %s, want an empty key: %w", quoted(key), ErrKey)
		}
		return nil, nil
	}
	parts := bytes.Split(key, []byte("::"))
	if len(parts) != len(names) {
		return nil, fmt.Errorf("split %s into %d parts, want %d: %w", quoted(key), len(parts), len(names), ErrKey)
	}
	values := make([]KeyValue, len(names))
	for i, part := range parts {
		escaped, value, found := bytes.Cut(part, []byte("="))
		name, nameOK := unescaped(escaped)
		text, valueOK := unescaped(value)
		if !found || !nameOK || !valueOK || name != names[i] {
			return nil, fmt.Errorf("split %s, want field %q as part %d: %w", quoted(key), names[i], i, ErrKey)
		}
		values[i] = KeyValue{Name: name, Value: text}
	}
	return values, nil
}

// unescaped is the inverse of appendEscaped; ok is false for what that does not write.
func unescaped(s []byte) (text string, ok bool) {
	if bytes.ContainsAny(s, ":=") {
		return "", false
	}
	out := make([]byte, 0, len(s))
	for {
		before, after, found := bytes.Cut(s, []byte("%"))
		out = append(out, before...)
		if !found {
			return string(out), true
		}
		if len(after) < 2 {
			return "", false
		}
		switch string(after[:2]) {
		case "25":
			out = append(out, '%')
		case "3A":
			out = append(out, ':')
		case "3D":
			out = append(out, '=')
		default:
			return "", false
		}
		s = after[2:]
	}
}

// AppendJSONString appends s as a JSON string to dst. s should be UTF-8: each byte that is not becomes U+FFFD.
func AppendJSONString(dst, s []byte) []byte { return jsonscan.AppendString(dst, s) }
