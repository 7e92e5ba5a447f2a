package event

import (
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/llm-auto-optimizer/tidemark/core/jsonscan"
)

// MaxColumns is the most columns of a row.
const MaxColumns = 1024

// ErrFormat is returned for a Format that describes no records: a row without columns, a delimiter that none can be.
var ErrFormat = errors.New("event: illegal format")

// FormatKind is a way in which record values are written. The set is closed.
type FormatKind uint8

// The kinds. JSON is the zero value.
const (
	FormatJSON         FormatKind = iota // one document
	FormatCSV                            // one row of RFC 4180, without a header
	FormatText                           // one scalar
	FormatJSONRegistry                   // one document, behind the prefix of a schema registry or without
)

// FormatKinds returns all of them.
func FormatKinds() []FormatKind {
	return []FormatKind{FormatJSON, FormatCSV, FormatText, FormatJSONRegistry}
}

// String returns the word of a spec for the kind.
func (k FormatKind) String() string {
	switch k {
	case FormatJSON:
		return "json"
	case FormatCSV:
		return "csv"
	case FormatText:
		return "text"
	case FormatJSONRegistry:
		return "json_registry"
	}
	return fmt.Sprintf("FormatKind(%d)", uint8(k))
}

// Format says how record values are written. The zero value is JSON.
type Format struct {
	Kind      FormatKind
	Columns   []string // of a row, in its order: what its fields are called
	Delimiter byte     // between the fields of a row; 0: a comma
}

// TextField is the only field of a record that is one scalar.
const TextField = "value"

// Has reports whether a record of this format can have something at a path. In JSON anything can be anywhere.
func (f Format) Has(path string) bool {
	switch f.Kind {
	case FormatJSON, FormatJSONRegistry:
		return true
	case FormatCSV:
		return slices.Contains(f.Columns, path)
	case FormatText:
		return path == TextField
	}
	return false
}

// Equal reports whether two formats are the same.
func (f Format) Equal(g Format) bool {
	return f.Kind == g.Kind && slices.Equal(f.Columns, g.Columns) && f.Separator() == g.Separator()
}

// Separator returns what is between the fields of a row: the Delimiter, or the comma that stands for none.
func (f Format) Separator() byte {
	if f.Delimiter == 0 {
		return ','
	}
	return f.Delimiter
}

// IsDelimiter reports whether fields can be told apart by c: an ASCII character that ends no row, begins no quoted field and is
// no part of a number or of a word.
func IsDelimiter(c byte) bool {
	switch {
	case c == 0, c >= utf8.RuneSelf, c == '"', c == '\r', c == '\n', c == '+', c == '-', c == '.':
		return false
	case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		return false
	}
	return true
}

// A Decoder reads the fields at fixed paths out of record values of one format. It is reusable, and then allocates nothing but for
// what is compressed; it is not safe for concurrent use.
//
// Extract sets dst[i] to what is at the i-th path, and returns dst, grown if it was too small. The fields' Raw is valid until the
// next Extract, and while value is unchanged. Errors wrap ErrDecode and say where in the value, and nothing of the value but one
// byte; the fields are then all absent.
type Decoder interface {
	Extract(value []byte, dst []Field) ([]Field, error)
}

// NewDecoder returns a Decoder of a format for the paths, as NewExtractor takes them; of a row they are columns, of text TextField.
// Paths may be equal. ErrPath for one that records of the format do not have, ErrFormat for a format that describes none.
func NewDecoder(f Format, paths []string) (Decoder, error) {
	if f.Kind != FormatCSV && len(f.Columns) > 0 {
		return nil, fmt.Errorf("columns of %v: %w", f.Kind, ErrFormat)
	}
	json, err := NewExtractor(paths) // what no format can read
	if err != nil {
		return nil, err
	}
	switch f.Kind {
	case FormatJSON:
		return json, nil
	case FormatJSONRegistry:
		return &registryDecoder{json: json}, nil
	case FormatCSV:
		x, err := newRowDecoder(f, paths)
		if err != nil {
			return nil, err // not x: a Decoder with nothing in it is not nil
		}
		return x, nil
	case FormatText:
		for _, path := range paths {
			if !f.Has(path) {
				return nil, fmt.Errorf("%q, and the only field of text is %s: %w", path, TextField, ErrPath)
			}
		}
		return &textDecoder{paths: len(paths)}, nil
	}
	return nil, fmt.Errorf("%v: %w", f.Kind, ErrFormat)
}

// fieldOfText returns the field of a text that says of itself what it is: what is written as a JSON number is a number, true and
// false are booleans, and all else is a string. So 1e3 is a number, and 007, +1, 1,5, 0x10 and NaN are strings, which are no
// values of a numeric function, but as good a key as any. It is the one rule for all that has no types: a row, a text.
func fieldOfText(raw []byte) Field {
	f := Field{Kind: FieldString, Raw: raw}
	switch {
	case len(raw) == 0:
	case raw[0] == '-' || raw[0]-'0' <= 9:
		if end, fault := jsonscan.Number(raw, 0); fault == jsonscan.OK && end == len(raw) {
			f.Kind = FieldNumber
		}
	case string(raw) == "true", string(raw) == "false":
		f.Kind = FieldBool
	}
	return f
}

// utf8Fault returns where b stops being UTF-8; ok if it is.
func utf8Fault(b []byte) (i int, ok bool) {
	if utf8.Valid(b) {
		return 0, true
	}
	for i < len(b) {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			break
		}
		i += n
	}
	return i, false
}
