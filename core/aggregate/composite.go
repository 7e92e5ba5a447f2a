package aggregate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// ErrComposite is returned by NewComposite for values and functions that make no composite: no function, one twice, a nameless
// value with anything but count. All problems are in the one error.
var ErrComposite = errors.New("aggregate: invalid composite")

// Value names a number taken from each record and the functions that are computed over it.
type Value struct {
	Name      string     // empty: the pipeline has no values; only count is legal, and counts records
	Functions []Function // in the order of the results
	Sketch    Sketch     // of percentiles
}

// Composite computes several functions over several values in one pass. It is immutable and safe for concurrent use; the rows
// it works on are not.
type Composite struct {
	values  []valuePlan
	records bool // there are no values: one plan, which has no accumulator
	version byte // of the rows
}

// valuePlan is what is computed over one value.
type valuePlan struct {
	key       []byte // `"name":`, the JSON key of the value
	needs     components
	scalars   bool // strings and booleans are taken too
	functions []functionPlan
	scale     *scale // with needBuckets
	own       []*Definition
}

type functionPlan struct {
	Function
	key     []byte // `"name":`
	integer bool
	eval    func(t *totals, p float64) (float64, bool)
	json    func(dst []byte, t *totals) []byte // of results that are no numbers; then eval is nil
}

// Row is the state of one group: a count of records and an accumulator for each value. Rows are meant to be reused: Reset keeps
// their memory. A Row is not safe for concurrent use and must not be copied. The zero Row may be used after Reset.
type Row struct {
	records int64
	values  []accumulator
	totals  totals // scratch of the results
}

// NewComposite returns the composite of the values. None at all is the same as one nameless value with count. The error is
// ErrComposite.
func NewComposite(values []Value) (*Composite, error) {
	if len(values) == 0 {
		values = []Value{{Functions: []Function{{Kind: Count}}}}
	}
	c := &Composite{records: values[0].Name == "", version: 1}
	var errs []error
	seen := map[string]bool{}
	for i, v := range values {
		if seen[v.Name] {
			errs = append(errs, fmt.Errorf("values[%d]: %q is there twice", i, v.Name))
		}
		if v.Name == "" && len(values) > 1 {
			errs = append(errs, fmt.Errorf("values[%d]: a value without a name must be the only one", i))
		}
		seen[v.Name] = true
		plan, err := planValue(v)
		if err != nil {
			errs = append(errs, fmt.Errorf("values[%d] %q: %w", i, v.Name, err))
		}
		if plan.needs&needMore != 0 {
			c.version = rowVersion
		}
		c.values = append(c.values, plan)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrComposite, err)
	}
	return c, nil
}

func planValue(v Value) (valuePlan, error) {
	p := valuePlan{key: jsonKey(v.Name), scalars: true}
	if len(v.Functions) == 0 {
		return p, errors.New("no function")
	}
	var errs []error
	seen := map[string]bool{}
	for _, f := range v.Functions {
		r, ok := f.rule(&p)
		name := f.Name()
		switch {
		case !ok, f.Kind == Percentile && !(f.P >= 0 && f.P <= 100):
			errs = append(errs, fmt.Errorf("%s is no function", name))
		case seen[name]:
			errs = append(errs, fmt.Errorf("%s is there twice", name))
		case v.Name == "" && f.Kind != Count:
			errs = append(errs, fmt.Errorf("%s needs a value", name))
		}
		seen[name] = true
		p.needs |= r.needs
		p.scalars = p.scalars && r.Scalars
		p.functions = append(p.functions, functionPlan{Function: f, key: jsonKey(name), integer: r.integer, eval: r.eval, json: r.json})
	}
	if v.Sketch.Kind == DDSketch && p.needs&needSamples != 0 {
		var err error
		if p.scale, err = newScale(v.Sketch.Accuracy); err != nil {
			errs = append(errs, err)
		}
		p.needs |= needBuckets
	}
	return p, errors.Join(errs...)
}

// rule returns the line of the function for a plan, which gets a user-defined function.
func (f Function) rule(p *valuePlan) (rule, bool) {
	if f.Kind != UserDefined || f.own == nil {
		return ruleOf(f.Kind)
	}
	at := slices.Index(p.own, f.own)
	if at < 0 {
		at = len(p.own)
		p.own = append(p.own, f.own)
	}
	return rule{needs: needOwn, Entry: Entry{Scalars: f.own.Scalars}, json: func(dst []byte, t *totals) []byte { return appendOwn(dst, t.more.own[at]) }}, true
}

// SameRows reports whether the rows of both hold the same of the same inputs, so that those of one serve the other: they are computed
// from the same components, though the functions may be others. Whether a value takes strings and booleans is not part of it.
func (c *Composite) SameRows(o *Composite) bool {
	return c.records == o.records && c.version == o.version && slices.EqualFunc(c.values, o.values, func(a, b valuePlan) bool {
		return a.needs == b.needs && a.scale.same(b.scale) && slices.Equal(a.own, b.own)
	})
}

// jsonKey returns the key of a JSON object with its colon.
func jsonKey(name string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(name) // a string always has an encoding
	return append(bytes.TrimSpace(b.Bytes()), ':')
}

// Values returns the number of values, which Add takes the index of; 0 for a composite that counts records.
func (c *Composite) Values() int {
	if c.records {
		return 0
	}
	return len(c.values)
}

// Reset makes r the empty row of this composite, the identity of Merge, and keeps its memory. r may have been used with
// another composite.
func (c *Composite) Reset(r *Row) {
	r.records, r.totals = 0, totals{}
	n := c.Values()
	if cap(r.values) < n {
		old := r.values[:cap(r.values)]
		r.values = make([]accumulator, n)
		copy(r.values, old)
	}
	r.values = r.values[:n]
	for i := range r.values {
		r.values[i].reset(&c.values[i])
	}
}

// AddRecord counts one record of the group, whether or not it has values.
func (c *Composite) AddRecord(r *Row) { r.records++ }

// TakesScalars reports whether a value, by its index, takes strings and booleans too: if all of its functions do.
func (c *Composite) TakesScalars(value int) bool { return c.values[value].scalars }

// NeedsInput reports whether a value, by its index, needs inputs with text and position; else Add with numbers does.
func (c *Composite) NeedsInput(value int) bool {
	return c.values[value].needs&(needMore&^needBuckets) != 0 || c.values[value].scalars
}

// KeepsText reports whether a value, by its index, keeps texts: they may then have at most MaxTextBytes.
func (c *Composite) KeepsText(value int) bool {
	return c.values[value].needs&(needFirst|needLast) != 0
}

// Add adds one number, by the index of its value. A missing value is simply not added. A value that is not finite is not added
// either: a row never holds one; to tell them is up to the caller. -0 counts as 0. Amortised, Add does not allocate in a reused
// row. A number that is added without a position is at the zero one.
func (c *Composite) Add(r *Row, value int, v float64) {
	p := &c.values[value]
	if p.needs&(needMore&^needBuckets) != 0 {
		c.AddInput(r, value, &Input{Kind: InputNumber, Number: v})
		return
	}
	if finite(v) {
		r.values[value].add(p, v+0) // -0 + 0 is 0
	}
}

// AddInput adds one input, by the index of its value, as Add does. A string or a boolean is not added where the value does not
// take them (TakesScalars).
func (c *Composite) AddInput(r *Row, value int, in *Input) {
	p := &c.values[value]
	if in.Kind == InputNumber && !finite(in.Number) || in.Kind != InputNumber && !p.scalars {
		return
	}
	a := &r.values[value]
	a.add(p, in.Number+0)
	if p.needs&needMore != 0 {
		a.more.add(p.needs, in)
	}
}

// Records returns the number of records.
func (c *Composite) Records(r *Row) int64 { return r.records }

// Arrange does with r what evaluating it does before anything else: values that wait are sorted, and where there are too many to keep,
// folded. It changes no result of r. But what another row comes to by a merge depends on it, by less than the error of a sketch: where
// a row is evaluated and merged into others, and the order of these is not to matter, it is arranged first.
func (c *Composite) Arrange(r *Row) {
	for i := range r.values {
		r.values[i].arrange(&c.values[i])
	}
}

// Merge adds src to dst. It keeps the laws of the package. src is not changed; it must be another row, of this composite.
func (c *Composite) Merge(dst, src *Row) {
	dst.records += src.records
	for i := range dst.values {
		dst.values[i].merge(&c.values[i], &src.values[i])
	}
}
