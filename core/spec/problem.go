package spec

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ErrInvalid means that a spec says something illegal, or leaves out what it needs. Nothing was opened or changed; correct
// the spec. Every Problem wraps it or ErrNotSupported.
var ErrInvalid = errors.New("spec: invalid")

// ErrNotSupported means that a spec asks for something that is part of the language but not built yet. It is refused,
// since ignoring it would give other results than those asked for.
var ErrNotSupported = errors.New("spec: not supported yet")

// mostProblems bounds how many problems one error lists: a file of another kind has one on every line.
const mostProblems = 100

// Problem is one thing wrong with a spec.
type Problem struct {
	File    string // as given to Load; empty for a spec built in Go
	Line    int    // from 1; 0 where there is no file
	Column  int    // from 1, in characters
	Path    string // as written in the file: "pipelines[0].windows[1].slide"
	Value   string // as written, shortened; empty where nothing is
	Message string // what is wrong: "must be at least 1"
	Hint    string // what would be right; may be empty

	unsupported bool
}

// Error returns FILE:LINE: PATH: MESSAGE, got VALUE (HINT), leaving out what is empty.
func (p *Problem) Error() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File)
		b.WriteByte(':')
	}
	if p.Line > 0 {
		fmt.Fprintf(&b, "%d:", p.Line)
	}
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	if p.Path != "" {
		b.WriteString(p.Path)
		b.WriteString(": ")
	}
	b.WriteString(p.Message)
	if p.Value != "" {
		b.WriteString(", got ")
		b.WriteString(p.Value)
	}
	if p.Hint != "" {
		b.WriteString(" (")
		b.WriteString(p.Hint)
		b.WriteByte(')')
	}
	return b.String()
}

// Unwrap returns ErrNotSupported for what is not built yet, else ErrInvalid.
func (p *Problem) Unwrap() error {
	if p.unsupported {
		return ErrNotSupported
	}
	return ErrInvalid
}

// Problems returns the problems that err, as returned by Load, Build or Validate, is made of, in the order of their lines.
func Problems(err error) []*Problem {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []*Problem
		for _, e := range joined.Unwrap() {
			all = append(all, Problems(e)...)
		}
		return all
	}
	if one, ok := errors.AsType[*Problem](err); ok {
		return []*Problem{one}
	}
	return nil
}

// join makes one error of the problems, ordered by where they are; nil if there are none.
func join(problems []*Problem) error {
	slices.SortStableFunc(problems, func(a, b *Problem) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	errs := make([]error, 0, min(len(problems), mostProblems+1))
	for i, p := range problems {
		if i == mostProblems {
			errs = append(errs, fmt.Errorf("and %d more: %w", len(problems)-mostProblems, ErrInvalid))
			break
		}
		errs = append(errs, p)
	}
	return errors.Join(errs...)
}

// shown shortens a value for a message and quotes it where it could be mistaken for the sentence around it.
func shown(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "..."
	}
	for i := range len(s) {
		if !isWordByte(s[i]) {
			return strconv.Quote(s)
		}
	}
	if s == "" {
		return `""`
	}
	return s
}

func isWordByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("_-+./%", c) >= 0
}

// nearest returns the candidate that name is most likely a slip of the finger for, or "".
func nearest(name string, candidates []string) string {
	best, least := "", max(2, len(name)/3)+1
	switch {
	case len(name) <= 1:
		return "" // every other letter is as near
	case len(name) <= 3:
		least = 2 // of so short a word little is left
	}
	for _, c := range candidates {
		if d := distance(name, c, least); d < least {
			best, least = c, d
		}
	}
	return best
}

// distance returns the edit distance of a and b (Levenshtein), or most if it is not below that.
func distance(a, b string, most int) int {
	if len(a)-len(b) >= most || len(b)-len(a) >= most {
		return most
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := diagonal
			if a[i-1] != b[j-1] {
				change++
			}
			diagonal = row[j]
			row[j] = min(change, row[j]+1, row[j-1]+1)
		}
	}
	return min(row[len(b)], most)
}
