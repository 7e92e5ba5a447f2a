// Package aggregatetest tests that an aggregate function keeps the laws that the exactness of results rests on. Whoever defines
// a function of their own calls Laws in a test of it; the functions of the project are held to the same.
package aggregatetest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/core/aggregate"
	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// Option changes what Laws does.
type Option func(*laws)

// Within lets numbers of a result differ by a share of the larger one: 1e-12 for a sum of floats. Without it, results must be
// equal byte for byte.
func Within(share float64) Option { return func(l *laws) { l.share = share } }

// Inputs replaces the values that the laws are tested with: numbers of several shapes, and where the function takes them strings
// and booleans. The position of an input is set by Laws.
func Inputs(next func(r *rand.Rand) aggregate.Input) Option {
	return func(l *laws) { l.input = next }
}

// Sizes sets the most inputs of one state, which is 300 without it, and how many lists are tried, 100.
func Sizes(inputs, rounds int) Option {
	return func(l *laws) { l.most, l.rounds = inputs, rounds }
}

// Sketch sets the estimator of percentiles.
func Sketch(s aggregate.Sketch) Option { return func(l *laws) { l.sketch = s } }

// Laws tests a function, as a Registry parses it, over random inputs: merging equals folding, in any order and grouping
// (commutative and associative), an empty state changes nothing, the source of a merge stays as it is, storing and loading loses
// nothing, the same calls give the same bytes, a state that is used again has forgotten everything, results are JSON, and damaged
// bytes are refused or loaded, without a panic. TIDEMARK_SEED sets the seed, which a failure prints.
func Laws(t testing.TB, f aggregate.Function, options ...Option) {
	t.Helper()
	seed := uint64(1)
	if s := os.Getenv("TIDEMARK_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("TIDEMARK_SEED: %v", err)
		}
	}
	//nolint:gosec // a test that can be repeated needs a seed
	l := &laws{r: rand.New(rand.NewPCG(seed, 0)), f: f, most: 300, rounds: 100}
	for _, o := range options {
		o(l)
	}
	var err error
	if l.c, err = aggregate.NewComposite([]aggregate.Value{{Name: "x", Functions: []aggregate.Function{f}, Sketch: l.sketch}}); err != nil {
		t.Fatal(err)
	}
	if l.input == nil {
		l.input = l.anything()
	}
	for range l.rounds {
		inputs := l.inputs()
		for _, law := range []func([]aggregate.Input) error{l.writing, l.merging, l.identity, l.storing, l.repeating, l.damage} {
			if err := law(inputs); err != nil {
				t.Errorf("%s, %d inputs, TIDEMARK_SEED=%d: %v", f.Name(), len(inputs), seed, err)
				return
			}
		}
	}
}

type laws struct {
	r            *rand.Rand
	f            aggregate.Function
	c            *aggregate.Composite
	sketch       aggregate.Sketch
	input        func(*rand.Rand) aggregate.Input
	most, rounds int
	share        float64
}

// anything returns a source of inputs of one shape at a time.
func (l *laws) anything() func(*rand.Rand) aggregate.Input {
	number := func(v float64) aggregate.Input { return aggregate.Input{Kind: aggregate.InputNumber, Number: v} }
	shapes := []func(*rand.Rand) aggregate.Input{
		func(r *rand.Rand) aggregate.Input { return number(float64(r.IntN(7))) },
		func(r *rand.Rand) aggregate.Input { return number(math.Exp(5 + 0.6*r.NormFloat64())) },
		func(r *rand.Rand) aggregate.Input { return number(1.7e12 + float64(r.IntN(60_000))) },
		func(r *rand.Rand) aggregate.Input { return number(1 + r.Float64()) },
	}
	if l.c.TakesScalars(0) {
		shapes = append(
			shapes,
			func(r *rand.Rand) aggregate.Input {
				return aggregate.Input{Kind: aggregate.InputString, Text: fmt.Appendf(nil, "user-%d \"é", r.IntN(100))}
			},
			func(r *rand.Rand) aggregate.Input {
				return aggregate.Input{Kind: aggregate.InputBool, Text: strconv.AppendBool(nil, r.IntN(2) == 0)}
			},
		)
	}
	return func(r *rand.Rand) aggregate.Input { return shapes[r.IntN(len(shapes))](r) }
}

func (l *laws) inputs() []aggregate.Input {
	out := make([]aggregate.Input, l.r.IntN(l.most+1))
	for i := range out {
		out[i] = l.input(l.r)
		out[i].At = aggregate.Position{Time: event.Time(l.r.IntN(50) - 25), Topic: int32(l.r.IntN(2)), Partition: int32(l.r.IntN(3)), Offset: int64(i)}
	}
	return out
}

func (l *laws) empty() *aggregate.Row {
	r := &aggregate.Row{}
	l.c.Reset(r)
	return r
}

func (l *laws) add(r *aggregate.Row, inputs []aggregate.Input) {
	for i := range inputs {
		in := inputs[i]
		in.Text = bytes.Clone(in.Text)
		l.c.AddRecord(r)
		l.c.AddInput(r, 0, &in)
		for k := range in.Text {
			in.Text[k] = '!' // a function that keeps the input's bytes shows it
		}
	}
}

func (l *laws) of(inputs []aggregate.Input) *aggregate.Row {
	r := l.empty()
	l.add(r, inputs)
	return r
}

func (l *laws) result(r *aggregate.Row) []byte { return l.c.AppendResult(nil, r, 0, l.f) }
func (l *laws) stored(r *aggregate.Row) []byte { return l.c.AppendBinary(nil, r) }

func (l *laws) load(dst *aggregate.Row, stored []byte) error {
	room := bytes.Clone(stored)
	rest, err := l.c.MergeBinary(dst, room)
	if err != nil {
		return fmt.Errorf("loading what was stored: %w", err)
	}
	if len(rest) > 0 {
		return fmt.Errorf("loading what was stored leaves %d bytes", len(rest))
	}
	for i := range room {
		room[i] = '!' // a function that keeps the bytes shows it
	}
	return nil
}

// writing looks at what a user-defined function itself writes: in results it is null if it is no JSON.
func (l *laws) writing(inputs []aggregate.Input) error {
	d := l.f.Definition()
	if d == nil {
		return nil
	}
	s := d.New()
	for i := range inputs {
		if in := inputs[i]; in.Kind == aggregate.InputNumber || d.Scalars {
			s.Add(&in)
		}
	}
	if got := s.AppendJSON(nil); !json.Valid(got) {
		return fmt.Errorf("the result is no JSON: %q", got)
	}
	return nil
}

// merging merges the states of a random grouping in a random tree, by Merge and through bytes.
func (l *laws) merging(inputs []aggregate.Input) error {
	whole := l.result(l.of(inputs))
	if !json.Valid(whole) {
		return fmt.Errorf("the result is no JSON: %q", whole)
	}
	shuffled := make([]aggregate.Input, len(inputs))
	for i, k := range l.r.Perm(len(inputs)) {
		shuffled[i] = inputs[k]
	}
	if got := l.result(l.of(shuffled)); !l.same(whole, got) {
		return fmt.Errorf("in another order: %s, was %s", got, whole)
	}
	var rows []*aggregate.Row
	for rest := shuffled; len(rest) > 0 || len(rows) == 0; {
		n := min(l.r.IntN(1+l.r.IntN(1+len(inputs))), len(rest))
		rows = append(rows, l.of(rest[:n]))
		rest = rest[n:]
	}
	for len(rows) > 1 {
		i := l.r.IntN(len(rows))
		src := rows[i]
		rows[i] = rows[len(rows)-1]
		rows = rows[:len(rows)-1]
		dst := rows[l.r.IntN(len(rows))]
		if l.r.IntN(2) == 0 {
			before := l.result(src)
			l.c.Merge(dst, src)
			if after := l.result(src); !bytes.Equal(before, after) {
				return fmt.Errorf("merging changed the source: %s, was %s", after, before)
			}
		} else if err := l.load(dst, l.stored(src)); err != nil {
			return err
		}
	}
	if got := l.result(rows[0]); !l.same(whole, got) {
		return fmt.Errorf("merged: %s, folded: %s", got, whole)
	}
	return nil
}

// identity merges with nothing, from both sides.
func (l *laws) identity(inputs []aggregate.Input) error {
	want := l.result(l.of(inputs))
	left, right := l.empty(), l.of(inputs)
	l.c.Merge(left, l.of(inputs))
	l.c.Merge(right, l.empty())
	if err := l.load(right, l.stored(l.empty())); err != nil {
		return err
	}
	for what, r := range map[string]*aggregate.Row{"nothing merged with a state": left, "a state merged with nothing": right} {
		if got := l.result(r); !l.same(want, got) {
			return fmt.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	return nil
}

// storing stores and loads several times.
func (l *laws) storing(inputs []aggregate.Input) error {
	r := l.of(inputs)
	want := l.result(l.of(inputs))
	for range 3 {
		b := l.stored(r)
		if rest, err := l.c.Skip(append(bytes.Clone(b), "rest"...)); err != nil || string(rest) != "rest" {
			return fmt.Errorf("skipping what was stored leaves %q: %w", rest, err)
		}
		r = l.empty()
		if err := l.load(r, b); err != nil {
			return err
		}
		if again := l.stored(r); len(again) == 0 {
			return errors.New("a loaded state is stored as nothing")
		}
	}
	if got := l.result(r); !l.same(want, got) {
		return fmt.Errorf("after storing and loading: %s, was %s", got, want)
	}
	return nil
}

// repeating makes the same calls again, on new states and on used ones.
func (l *laws) repeating(inputs []aggregate.Input) error {
	cut := len(inputs) / 2
	build := func(r, o *aggregate.Row) ([]byte, []byte) {
		l.add(r, inputs[:cut])
		l.add(o, inputs[cut:])
		l.c.Merge(r, o)
		return l.stored(r), l.result(r)
	}
	used, other := l.of(l.inputs()), l.of(l.inputs())
	l.c.Reset(used)
	l.c.Reset(other)
	wantBytes, want := build(l.empty(), l.empty())
	for what, rows := range map[string][2]*aggregate.Row{"made again": {l.empty(), l.empty()}, "made in used states": {used, other}} {
		gotBytes, got := build(rows[0], rows[1])
		if !bytes.Equal(gotBytes, wantBytes) || !bytes.Equal(got, want) {
			return fmt.Errorf("%s: %s in bytes %x, was %s in %x", what, got, gotBytes, want, wantBytes)
		}
	}
	return nil
}

// damage loads bytes that were not stored like this.
func (l *laws) damage(inputs []aggregate.Input) error {
	b := l.stored(l.of(inputs))
	damaged := bytes.Clone(b)
	damaged[l.r.IntN(len(b))] ^= byte(1 + l.r.IntN(255))
	for _, b := range [][]byte{damaged, b[:l.r.IntN(len(b))]} {
		r := l.empty()
		if _, err := l.c.MergeBinary(r, b); err != nil {
			continue // refused, as it should be where it can be told
		}
		if got := l.result(r); !json.Valid(got) {
			return fmt.Errorf("damaged bytes give a result that is no JSON: %q", got)
		}
		l.stored(r)
	}
	return nil
}

// same compares two results: equal, or of the same shape with numbers that are near enough.
func (l *laws) same(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	var x, y any
	if l.share == 0 || json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	return l.near(x, y)
}

func (l *laws) near(a, b any) bool {
	switch a := a.(type) {
	case float64:
		b, ok := b.(float64)
		return ok && math.Abs(a-b) <= l.share*max(math.Abs(a), math.Abs(b))
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !l.near(a[i], b[i]) {
				return false
			}
		}
		return true
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for k := range a {
			if v, ok := b[k]; !ok || !l.near(a[k], v) {
				return false
			}
		}
		return true
	}
	return a == b
}
