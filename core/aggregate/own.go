package aggregate

import (
	"encoding"
	"errors"
	"fmt"
	"strings"

	"github.com/llm-auto-optimizer/tidemark/core/jsonscan"
)

// ErrDefinition is returned by NewRegistry for definitions that make no functions. All problems are in the one error.
var ErrDefinition = errors.New("aggregate: invalid definition")

// Definition is a user-defined aggregate function. aggregatetest.Laws tests that it keeps the laws.
type Definition struct {
	// Name is what a spec calls the function: lower-case letters, digits and _, up to 64, beginning with a letter; no name that
	// is known already, and none that looks like a percentile.
	Name string
	Doc  string // one sentence
	// Version is part of the fingerprint of pipelines that use the function. Results or stored bytes that change need another
	// one: the pipeline is then a new one, which takes over from the old one.
	Version int
	// Scalars lets the function take strings and booleans too. A value takes them only if all of its functions do.
	Scalars bool
	// Approximate says that results may depend on the order of merging by more than rounding, as those of most sketches do. They
	// are then not compared when stored state is verified.
	Approximate bool
	// New returns an empty state. States are reused: it is called rarely.
	New func() State
}

// State is the state of a user-defined function for one value of one group. It is used by one goroutine at a time.
//
// The laws, of which exactness and results rest: let s be the state of a list of inputs, t that of another one.
//
//   - s.Merge(t) is the state of both lists: its result is what adding all inputs gives, in whatever order. So it is commutative
//     and associative, up to rounding or a stated error; an empty state changes nothing, and adding to one is all that Merge
//     needs. t is not changed by it.
//   - the same calls in the same order give the same bytes and the same result, on every run and machine: no random numbers, no
//     ranging over maps.
//   - AppendBinary and MergeBinary into an empty state give a state of the same result, however often.
type State interface {
	// Reset makes the state an empty one.
	Reset()
	// Add adds one input. The input and its bytes must not be kept.
	Add(in *Input)
	// Merge adds a state of the same function, which is another one.
	Merge(other State)
	// AppendBinary appends the stored form, from which nothing is lost. It must not fail.
	encoding.BinaryAppender
	// MergeBinary adds a stored state, as Merge does. The bytes must not be kept. It must return an error for bytes that AppendBinary cannot have written,
	// as far as they cannot be used, and never panic.
	MergeBinary(stored []byte) error
	// AppendJSON appends the result as one JSON value, null if there is none. AppendNumber writes numbers. It may reorder what
	// the state holds, but not change its result.
	AppendJSON(dst []byte) []byte
}

// AppendNumber appends a number in the notation of all results, null if it is not finite.
func AppendNumber(dst []byte, v float64) []byte {
	if !finite(v) {
		return append(dst, "null"...)
	}
	return appendFloat(dst, v)
}

// Registry is a set of functions: those of this package, and user-defined ones. It is immutable. A nil Registry has those of
// this package alone.
type Registry struct{ own []*Definition }

// NewRegistry returns the functions of this package together with user-defined ones. The error is ErrDefinition.
func NewRegistry(own ...Definition) (*Registry, error) {
	g := &Registry{}
	var errs []error
	for i := range own {
		d := own[i]
		if err := g.check(&d); err != nil {
			errs = append(errs, fmt.Errorf("function %q: %w", d.Name, err))
			continue
		}
		g.own = append(g.own, &d)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDefinition, err)
	}
	return g, nil
}

func (g *Registry) check(d *Definition) error {
	const letters = "abcdefghijklmnopqrstuvwxyz"
	rest := strings.TrimLeft(d.Name, letters)
	switch _, err := g.Parse(d.Name); {
	case d.Name == "" || len(d.Name) > 64 || rest == d.Name || strings.Trim(rest, letters+"0123456789_") != "":
		return errors.New("a name is 1 to 64 lower-case letters, digits and _, beginning with a letter")
	case err == nil, d.Name == Percentile.String():
		return errors.New("there is a function of this name")
	case d.New == nil:
		return errors.New("it has no New")
	case d.Doc == "":
		return errors.New("it has no Doc")
	}
	return nil
}

// find returns the user-defined function of a name, nil if there is none.
func (g *Registry) find(name string) *Definition {
	if g == nil {
		return nil
	}
	for _, d := range g.own {
		if d.Name == name {
			return d
		}
	}
	return nil
}

// appendOwn appends the result of a user-defined state. What is no JSON value would spoil the record: it is null.
func appendOwn(dst []byte, s State) []byte {
	start := len(dst)
	dst = s.AppendJSON(dst)
	end, f := jsonscan.Skip(dst[start:], jsonscan.Space(dst[start:], 0), 0)
	if f == jsonscan.OK {
		_, f = jsonscan.End(dst[start:], end)
	}
	if f != jsonscan.OK {
		return append(dst[:start], "null"...)
	}
	return dst
}
