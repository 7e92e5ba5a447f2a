package event

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/llm-auto-optimizer/tidemark/core/jsonscan"
)

// rowDecoder reads values that are one row of separated fields (RFC 4180, section 2) without a header.
type rowDecoder struct {
	columns   int
	delimiter byte
	at        []int // the column of each path

	// For the current call.
	cells []cell
	text  []byte // quoted fields that have quotes in them
}

// cell is one field of a row as it is written.
type cell struct {
	raw    []byte // without quotes
	quoted bool
}

func newRowDecoder(f Format, paths []string) (*rowDecoder, error) {
	if n := len(f.Columns); n == 0 || n > MaxColumns {
		return nil, fmt.Errorf("%d columns, 1 to %d are possible: %w", n, MaxColumns, ErrFormat)
	}
	for i, name := range f.Columns {
		if slices.Contains(f.Columns[:i], name) {
			return nil, fmt.Errorf("two columns %q: %w", name, ErrFormat)
		}
	}
	x := &rowDecoder{columns: len(f.Columns), delimiter: f.Separator(), cells: make([]cell, 0, len(f.Columns))}
	if !IsDelimiter(x.delimiter) {
		return nil, fmt.Errorf("delimiter %q: %w", x.delimiter, ErrFormat)
	}
	for _, path := range paths {
		i := slices.Index(f.Columns, path)
		if i < 0 {
			return nil, fmt.Errorf("%q is not a column of %s: %w", path, strings.Join(f.Columns, ", "), ErrPath)
		}
		x.at = append(x.at, i)
	}
	return x, nil
}

// Extract implements Decoder. The value is one row of as many fields as there are columns, with or without the end of its line: CRLF,
// LF or CR. White space is part of a field.
//
// What a field is, is said by its text (fieldOfText), in quotes or without: writers that quote everything mean the same numbers.
// Only of a field with nothing in it do the quotes say something: without them it is null, with them an empty string.
func (x *rowDecoder) Extract(value []byte, dst []Field) ([]Field, error) {
	dst = absent(dst, len(x.at))
	if i, fault := x.row(value); fault != "" {
		return dst, fmt.Errorf("%w: byte %d: %s", ErrDecode, i, fault)
	}
	for i, column := range x.at {
		if c := &x.cells[column]; len(c.raw) > 0 || c.quoted {
			dst[i] = fieldOfText(c.raw)
		} else {
			dst[i].Kind = FieldNull
		}
	}
	return dst, nil
}

// row reads the cells. A fault that is not empty says what is wrong, at i.
func (x *rowDecoder) row(b []byte) (i int, fault string) {
	x.cells, x.text = x.cells[:0], x.text[:0]
	if at, ok := utf8Fault(b); !ok {
		return at, jsonscan.FaultUTF8.String()
	}
	for {
		if len(x.cells) == x.columns {
			return i, fmt.Sprintf("a field more than the %d columns", x.columns)
		}
		if i < len(b) && b[i] == '"' {
			i, fault = x.quoted(b, i)
		} else {
			i, fault = x.plain(b, i)
		}
		if fault != "" {
			return i, fault
		}
		if i == len(b) || b[i] != x.delimiter {
			break
		}
		i++
	}
	if n := len(x.cells); n < x.columns {
		return i, fmt.Sprintf("the row ends after %d of %d columns", n, x.columns)
	}
	if i = endOfLine(b, i); i < len(b) {
		return i, "a second row"
	}
	return i, ""
}

// endOfLine returns the index behind the end of a line at i, if there is one.
func endOfLine(b []byte, i int) int {
	if i < len(b) && b[i] == '\r' {
		i++
	}
	if i < len(b) && b[i] == '\n' {
		i++
	}
	return i
}

// plain reads the cell without quotes at i, and returns where it ends.
func (x *rowDecoder) plain(b []byte, i int) (end int, fault string) {
	end = i
	for ; end < len(b); end++ {
		switch b[end] {
		case x.delimiter, '\r', '\n':
			x.cells = append(x.cells, cell{raw: b[i:end]})
			return end, ""
		case '"':
			return end, "a quote in a field that does not begin with one"
		}
	}
	x.cells = append(x.cells, cell{raw: b[i:]})
	return end, ""
}

// quoted reads the cell whose opening quote is at i, and returns where it ends: at a delimiter, at the end of a line or of b.
func (x *rowDecoder) quoted(b []byte, i int) (end int, fault string) {
	open, from, kept := i, i+1, len(x.text)
	i++
	for {
		n := bytes.IndexByte(b[i:], '"')
		if n < 0 {
			return open, "a quote that is not closed"
		}
		if i += n + 1; i == len(b) || b[i] != '"' {
			break
		}
		x.text = append(x.text, b[from:i]...) // with the first of the two quotes, which is one of the text
		i++
		from = i
	}
	raw := b[from : i-1]
	if len(x.text) > kept {
		x.text = append(x.text, raw...)
		raw = x.text[kept:len(x.text):len(x.text)]
	}
	if i < len(b) && b[i] != x.delimiter && b[i] != '\r' && b[i] != '\n' {
		return i, "text after a closing quote"
	}
	x.cells = append(x.cells, cell{raw: raw, quoted: true})
	return i, ""
}

// textDecoder reads values that are one scalar as a whole.
type textDecoder struct{ paths int }

// Extract implements Decoder. The white space of ASCII around the value is left out. What is left is what its text says
// (fieldOfText), and null if nothing is. It is never quoted: quotes are part of it.
func (x *textDecoder) Extract(value []byte, dst []Field) ([]Field, error) {
	dst = absent(dst, x.paths)
	if i, ok := utf8Fault(value); !ok {
		return dst, fmt.Errorf("%w: %s", ErrDecode, jsonscan.Describe(value, i, jsonscan.FaultUTF8))
	}
	f := Field{Kind: FieldNull}
	if raw := bytes.Trim(value, " \t\n\v\f\r"); len(raw) > 0 {
		f = fieldOfText(raw)
	}
	for i := range dst {
		dst[i] = f
	}
	return dst, nil
}
