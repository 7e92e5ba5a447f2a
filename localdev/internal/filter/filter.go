// Package filter matches the values of Kafka records against event patterns, as FilterCriteria of an event source mapping does.
//
// A pattern is a JSON object with the field "value" and no other, since a mapping of Kafka looks at nothing else. Under it is an
// object for records whose value is JSON, or a list of rules for records whose value is a plain text.
package filter

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

var (
	// ErrPattern is returned for what is no event pattern.
	ErrPattern = errors.New("filter: not an event pattern")
	// ErrNotSupported is returned for what event patterns have, and filters of Kafka mappings do not.
	ErrNotSupported = errors.New("filter: not supported by filters of Kafka")
)

// mostFilters is how many filters a mapping may have, with the quota raised; mostBytes how long one may be.
const (
	mostFilters = 10
	mostBytes   = 4096
	deepest     = 100
)

// Filters are the patterns of one mapping. They are safe for concurrent use.
type Filters struct {
	patterns []pattern
}

// pattern is one filter: one of the two, or none of them, which every record passes.
type pattern struct {
	fields *fields // of a value that is JSON
	text   leaf    // of a value that is a plain text
}

// Parse reads the patterns of a mapping.
func Parse(patterns []string) (*Filters, error) {
	if len(patterns) > mostFilters {
		return nil, fmt.Errorf("%w: %d filters, and a mapping has at most %d", ErrPattern, len(patterns), mostFilters)
	}
	f := &Filters{}
	for i, text := range patterns {
		p, err := parse(text)
		if err != nil {
			return nil, fmt.Errorf("filter %d: %w", i+1, err)
		}
		f.patterns = append(f.patterns, p)
	}
	return f, nil
}

func parse(text string) (pattern, error) {
	if len(text) > mostBytes {
		return pattern{}, fmt.Errorf("%w: it has %d bytes, and at most %d are allowed", ErrPattern, len(text), mostBytes)
	}
	root, err := readObject([]byte(text))
	if err != nil {
		return pattern{}, err
	}
	var p pattern
	for _, field := range root {
		if field.name != "value" {
			return pattern{}, fmt.Errorf("%w: field %q: only \"value\" is looked at", ErrNotSupported, field.name)
		}
		if isArray(field.raw) {
			if p.text, err = readLeaf(field.raw); err != nil {
				return pattern{}, fmt.Errorf("value: %w", err)
			}
			continue
		}
		if p.fields, err = readFields(field.raw, 0); err != nil {
			return pattern{}, fmt.Errorf("value: %w", err)
		}
	}
	return p, nil
}

// Pass reports whether a record with this value (nil: null) is delivered: if a pattern matches it, if there is none, and if its
// value is not of the form that a pattern is for. A value that is a JSON object or array counts as JSON, other UTF-8 as a text.
func (f *Filters) Pass(value []byte) bool {
	if len(f.patterns) == 0 {
		return true
	}
	doc, isJSON := decode(value)
	for i := range f.patterns {
		if f.patterns[i].pass(value, doc, isJSON) {
			return true
		}
	}
	return false
}

func (p *pattern) pass(value []byte, doc any, isJSON bool) bool {
	switch {
	case p.fields != nil:
		return !isJSON || p.fields.match(doc)
	case p.text != nil:
		return isJSON || value == nil || !utf8.Valid(value) || p.text.match(string(value), true)
	}
	return true
}

// decode reads a value that is a JSON object or array. Numbers stay as they are written.
func decode(value []byte) (doc any, ok bool) {
	trimmed := bytes.TrimLeft(value, " \t\r\n")
	if len(trimmed) == 0 || trimmed[0] != '{' && trimmed[0] != '[' || !utf8.Valid(value) {
		return nil, false
	}
	d := json.NewDecoder(bytes.NewReader(value))
	d.UseNumber()
	if err := d.Decode(&doc); err != nil {
		return nil, false
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, false
	}
	return doc, true
}
