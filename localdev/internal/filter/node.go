package filter

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// fields want something of each of some fields of an object, and, if there are alternatives, one of those.
type fields struct {
	each         []field
	alternatives []*fields
}

// field is one of them, with rules for its value, or fields of the object that it is.
type field struct {
	name   string
	rules  leaf
	inside *fields
}

// match reports whether a value is as wanted. What is no object has no fields: only what is to be absent is right in it.
func (f *fields) match(doc any) bool {
	if list, ok := doc.([]any); ok { // one element has to be right in all
		return slices.ContainsFunc(list, f.match)
	}
	object, _ := doc.(map[string]any)
	for i := range f.each {
		want := &f.each[i]
		have, there := object[want.name]
		if want.inside != nil && !want.inside.match(have) || want.inside == nil && !want.rules.match(have, there) {
			return false
		}
	}
	for _, a := range f.alternatives {
		if a.match(doc) {
			return true
		}
	}
	return len(f.alternatives) == 0
}

// rawField is a member of an object that has not been read yet.
type rawField struct {
	name string
	raw  json.RawMessage
}

// readObject reads the members of an object in their order. A name must not come twice, which encoding/json lets pass.
func readObject(data []byte) ([]rawField, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	t, err := d.Token()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPattern, err)
	}
	if t != json.Delim('{') {
		return nil, fmt.Errorf("%w: want an object, got %.40s", ErrPattern, data)
	}
	var out []rawField
	seen := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrPattern, err)
		}
		f := rawField{}
		f.name, _ = t.(string) // the decoder lets nothing else be a name
		if seen[f.name] {
			return nil, fmt.Errorf("%w: field %q is there twice", ErrPattern, f.name)
		}
		seen[f.name] = true
		if err := d.Decode(&f.raw); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrPattern, err)
		}
		out = append(out, f)
	}
	if _, err := d.Token(); err != nil { // the brace
		return nil, fmt.Errorf("%w: %w", ErrPattern, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: there is something behind it", ErrPattern)
	}
	return out, nil
}

func readArray(data []byte) ([]json.RawMessage, error) {
	var out []json.RawMessage
	if err := json.Unmarshal(data, &out); err != nil {
		return nil, fmt.Errorf("%w: want a list: %w", ErrPattern, err)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: an empty list, which nothing matches", ErrPattern)
	}
	return out, nil
}

func isArray(data []byte) bool {
	data = bytes.TrimLeft(data, " \t\r\n")
	return len(data) > 0 && data[0] == '['
}

// readFields reads an object of a pattern.
func readFields(data []byte, depth int) (*fields, error) {
	if depth > deepest {
		return nil, fmt.Errorf("%w: nested more than %d deep", ErrPattern, deepest)
	}
	members, err := readObject(data)
	if err != nil {
		return nil, err
	}
	if len(members) == 0 {
		return nil, fmt.Errorf("%w: an empty object", ErrPattern)
	}
	out := &fields{}
	for _, m := range members {
		switch {
		case m.name == "$or":
			if out.alternatives, err = readAlternatives(m.raw, depth); err != nil {
				return nil, fmt.Errorf("$or: %w", err)
			}
			continue
		case isArray(m.raw):
			l, err := readLeaf(m.raw)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", m.name, err)
			}
			out.each = append(out.each, field{name: m.name, rules: l})
		default:
			n, err := readFields(m.raw, depth+1)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", m.name, err)
			}
			out.each = append(out.each, field{name: m.name, inside: n})
		}
	}
	return out, nil
}

// readAlternatives reads the list of objects of $or.
func readAlternatives(data []byte, depth int) ([]*fields, error) {
	list, err := readArray(data)
	if err != nil {
		return nil, err
	}
	if len(list) < 2 {
		return nil, fmt.Errorf("%w: want at least two objects", ErrPattern)
	}
	var out []*fields
	for _, e := range list {
		n, err := readFields(e, depth+1)
		if err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return out, nil
}
