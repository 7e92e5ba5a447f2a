package event

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/llm-auto-optimizer/tidemark/core/jsonscan"
)

// MaxPaths is the most paths that one Decoder reads.
const MaxPaths = 256

var (
	// ErrDecode is returned for a record value that is not what its format says: not one well-formed JSON document, one in
	// which a path that is asked for occurs twice, not one row. The record can never be read: it is no use to try again.
	ErrDecode = errors.New("undecodable value")
	// ErrAmbiguous is what an error of Extract also is, besides ErrDecode, where nothing but one of the paths asked for is wrong: it
	// occurs twice. Whoever does not ask for that path can read the value.
	ErrAmbiguous = errors.New("a field is there twice")
	// ErrPath is returned for a path that no Decoder can read, or not one of this format.
	ErrPath = errors.New("event: illegal field path")
)

// FieldKind is what a Decoder found at a path.
type FieldKind uint8

// The kinds.
const (
	FieldAbsent FieldKind = iota
	FieldNull
	FieldString
	FieldNumber
	FieldBool
	FieldObject
	FieldArray
)

// String returns the JSON word for the kind.
func (k FieldKind) String() string {
	switch k {
	case FieldAbsent:
		return "absent"
	case FieldNull:
		return "null"
	case FieldString:
		return "string"
	case FieldNumber:
		return "number"
	case FieldBool:
		return "boolean"
	case FieldObject:
		return "object"
	case FieldArray:
		return "array"
	}
	return fmt.Sprintf("FieldKind(%d)", uint8(k))
}

// Field is what a Decoder found at a path.
type Field struct {
	Kind FieldKind
	// Raw is the content of a string, without quotes and escapes, and the text as written of everything else; nil if
	// absent. It is part of the value, or of the Decoder where it is written otherwise there (escapes, quotes, compression).
	Raw []byte
}

// Extractor reads the fields at fixed paths out of JSON values, in one pass and without building a tree. It is reusable,
// and then allocates nothing; it is not safe for concurrent use.
type Extractor struct {
	paths int
	nodes []pathNode
	round uint64 // number of the current call of Extract: what pathMember.seen compares with

	// For the current call.
	value   []byte
	fields  []Field
	strings []byte // strings that had escapes
	key     []byte // a key that has escapes
}

// pathNode is one object that paths lead into. Node 0 is the value itself.
type pathNode struct {
	members []pathMember
	lengths uint64 // the set of the lengths of the members' names; longer than 63 counts as 63
}

type pathMember struct {
	name   string
	fields []int  // the paths that end here
	child  int    // the node of the paths that lead on from here; 0: none
	seen   uint64 // the round in which it was last met. An object is entered once a round, so that one mark suffices
}

// NewExtractor returns an Extractor for the paths. A path is the keys that lead to the field, joined by dots:
// "attributes.tokens". So a key that has a dot itself cannot be reached, nor can elements of an array. Paths may be equal,
// or begin with one another. ErrPath for a path with an empty part or more than jsonscan.MaxDepth parts, or that is not
// UTF-8, and for more than MaxPaths paths.
func NewExtractor(paths []string) (*Extractor, error) {
	if len(paths) > MaxPaths {
		return nil, fmt.Errorf("%d paths, at most %d: %w", len(paths), MaxPaths, ErrPath)
	}
	x := &Extractor{paths: len(paths), nodes: make([]pathNode, 1)}
	for i, path := range paths {
		if err := x.add(i, path); err != nil {
			return nil, err
		}
	}
	return x, nil
}

func (x *Extractor) add(field int, path string) error {
	parts := strings.Split(path, ".")
	switch {
	case len(parts) > jsonscan.MaxDepth:
		return fmt.Errorf("%d parts, at most %d: %w", len(parts), jsonscan.MaxDepth, ErrPath)
	case !utf8.ValidString(path):
		return fmt.Errorf("%q is not UTF-8: %w", path, ErrPath)
	}
	node := 0
	for k, part := range parts {
		if part == "" {
			return fmt.Errorf("%q has an empty part: %w", path, ErrPath)
		}
		m := x.member(node, part)
		if k == len(parts)-1 {
			m.fields = append(m.fields, field)
			break
		}
		if m.child == 0 {
			m.child = len(x.nodes)
			child := m.child
			x.nodes = append(x.nodes, pathNode{}) // m is in a slice of its own: it stays where it is
			node = child
			continue
		}
		node = m.child
	}
	return nil
}

// member returns the member of that name, making it if there is none. The pointer is valid until the next call.
func (x *Extractor) member(node int, name string) *pathMember {
	n := &x.nodes[node]
	for i := range n.members {
		if n.members[i].name == name {
			return &n.members[i]
		}
	}
	n.members = append(n.members, pathMember{name: name})
	n.lengths |= 1 << min(len(name), 63)
	return &n.members[len(n.members)-1]
}

// Extract reads value, which must be one JSON document, and sets dst[i] to what is at the i-th path. It returns dst,
// grown if it was too small. The fields' Raw is valid until the next Extract, and while value is unchanged.
//
// The whole of value is checked, as strictly as jsonscan is. Keys are compared exactly, after unescaping. A document that
// is not an object has no fields. An object in which a key that lies on a path occurs twice is ambiguous, and an error.
// All errors wrap ErrDecode and name the position; that of such a key is ErrAmbiguous, too. The fields are then all absent.
func (x *Extractor) Extract(value []byte, dst []Field) ([]Field, error) {
	dst, i, f := x.extract(value, dst)
	switch {
	case f == jsonscan.FaultDuplicate:
		return dst, ambiguous(fmt.Errorf("%w: %s", ErrDecode, jsonscan.Describe(value, i, f)))
	case f != jsonscan.OK:
		return dst, fmt.Errorf("%w: %s", ErrDecode, jsonscan.Describe(value, i, f))
	}
	return dst, nil
}

// ambiguous makes an error ErrAmbiguous as well, which is not part of its text.
func ambiguous(err error) error { return ambiguousError{err} }

type ambiguousError struct{ error }

// Unwrap and Is implement what package errors asks for.
func (e ambiguousError) Unwrap() error { return e.error }

func (e ambiguousError) Is(target error) bool { return target == ErrAmbiguous }

// extract is Extract with the fault and where it is.
func (x *Extractor) extract(value []byte, dst []Field) ([]Field, int, jsonscan.Fault) {
	dst = absent(dst, x.paths)
	x.round++
	x.value, x.fields, x.strings = value, dst, x.strings[:0]

	i := jsonscan.Space(value, 0)
	var f jsonscan.Fault
	if i < len(value) && value[i] == '{' && x.paths > 0 {
		i, f = x.object(i, 0, 1)
	} else {
		i, f = jsonscan.Skip(value, i, 0)
	}
	if f == jsonscan.OK {
		i, f = jsonscan.End(value, i)
	}
	x.value, x.fields = nil, nil // not ours to keep
	if f != jsonscan.OK {
		clear(dst)
	}
	return dst, i, f
}

// absent returns n absent fields, in dst if it is large enough.
func absent(dst []Field, n int) []Field {
	if cap(dst) < n {
		dst = make([]Field, n)
	}
	dst = dst[:n]
	clear(dst)
	return dst
}

// object reads the object at i, into which paths lead through node; depth counts the open containers with this one. It
// recurses along paths only, never along what the value alone has.
func (x *Extractor) object(i, node, depth int) (int, jsonscan.Fault) {
	b := x.value
	n := &x.nodes[node]
	i, empty := jsonscan.Open(b, i, '}')
	if empty {
		return i, jsonscan.OK
	}
	for more := true; more; {
		at := i
		key, plain, next, f := jsonscan.Key(b, i)
		if f != jsonscan.OK {
			return next, f
		}
		if !plain {
			x.key = jsonscan.AppendUnescaped(x.key[:0], key)
			key = x.key
		}
		var m *pathMember
		if n.lengths>>min(len(key), 63)&1 != 0 {
			m = n.find(key)
		}
		switch {
		case m == nil:
			i, f = jsonscan.Skip(b, next, depth)
		case m.seen == x.round:
			return at, jsonscan.FaultDuplicate
		default:
			m.seen = x.round
			i, f = x.found(m, next, depth)
		}
		if f != jsonscan.OK {
			return i, f
		}
		if i, more, f = jsonscan.Next(b, i, '}'); f != jsonscan.OK {
			return i, f
		}
	}
	return i, jsonscan.OK
}

func (n *pathNode) find(key []byte) *pathMember {
	for i := range n.members {
		if m := &n.members[i]; m.name == string(key) {
			return m
		}
	}
	return nil
}

// found reads the value at i of a member that is on a path.
func (x *Extractor) found(m *pathMember, i, depth int) (end int, f jsonscan.Fault) {
	b := x.value
	if i >= len(b) {
		return i, jsonscan.FaultEnd
	}
	var field Field
	switch b[i] {
	case '"':
		var plain bool
		if end, plain, f = jsonscan.String(b, i); f != jsonscan.OK {
			return end, f
		}
		field = Field{Kind: FieldString, Raw: b[i+1 : end-1]}
		if !plain {
			from := len(x.strings)
			x.strings = jsonscan.AppendUnescaped(x.strings, field.Raw)
			field.Raw = x.strings[from:len(x.strings):len(x.strings)]
		}
	case '{':
		switch {
		case depth == jsonscan.MaxDepth:
			return i, jsonscan.FaultDepth
		case m.child != 0:
			end, f = x.object(i, m.child, depth+1)
		default:
			end, f = jsonscan.Skip(b, i, depth)
		}
		if f != jsonscan.OK {
			return end, f
		}
		field = Field{Kind: FieldObject, Raw: b[i:end]}
	default:
		if end, f = jsonscan.Skip(b, i, depth); f != jsonscan.OK {
			return end, f
		}
		field = Field{Kind: kindOf(b[i]), Raw: b[i:end]}
	}
	for _, k := range m.fields {
		x.fields[k] = field
	}
	return end, jsonscan.OK
}

// kindOf returns the kind of a well-formed value, neither string nor object, by its first byte.
func kindOf(first byte) FieldKind {
	switch first {
	case '[':
		return FieldArray
	case 'n':
		return FieldNull
	case 't', 'f':
		return FieldBool
	}
	return FieldNumber
}
