package aggregate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// ErrComposite is returned by NewComposite for values and functions that make no composite: no function, one twice, a nameless
// value with anything but count. All problems are in the one error.
var ErrComposite = errors.New("aggregate: invalid composite")

// Value names a number taken from each record and the functions that are computed over it.
type Value struct {
	Name      string     // empty: the pipeline has no values; only count is legal, and counts records
	Functions []Function // in the order of the results
}

// Composite computes several functions over several values in one pass. It is immutable and safe for concurrent use; the rows
// it works on are not.
type Composite struct {
	values  []valuePlan
	records bool // there are no values: one plan, which has no accumulator
}

// valuePlan is what is computed over one value.
type valuePlan struct {
	key       []byte // `"name":`, the JSON key of the value
	needs     components
	functions []functionPlan
}

type functionPlan struct {
	Function
	key     []byte // `"name":`
	integer bool
	eval    func(t *totals, p float64) (float64, bool)
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
	c := &Composite{records: values[0].Name == ""}
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
		c.values = append(c.values, plan)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrComposite, err)
	}
	return c, nil
}

func planValue(v Value) (valuePlan, error) {
	p := valuePlan{key: jsonKey(v.Name)}
	if len(v.Functions) == 0 {
		return p, errors.New("no function")
	}
	var errs []error
	seen := map[string]bool{}
	for _, f := range v.Functions {
		r, ok := ruleOf(f.Kind)
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
		p.functions = append(p.functions, functionPlan{Function: f, key: jsonKey(name), integer: r.integer, eval: r.eval})
	}
	return p, errors.Join(errs...)
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
		r.values[i].reset()
	}
}

// AddRecord counts one record of the group, whether or not it has values.
func (c *Composite) AddRecord(r *Row) { r.records++ }

// Add adds one value, by its index. A missing value is simply not added. A value that is not finite is not added either: a
// row never holds one; to tell them is up to the caller. -0 counts as 0. Amortised, Add does not allocate in a reused row.
func (c *Composite) Add(r *Row, value int, v float64) {
	if !finite(v) {
		return
	}
	r.values[value].add(c.values[value].needs, v+0) // -0 + 0 is 0
}

// Records returns the number of records.
func (c *Composite) Records(r *Row) int64 { return r.records }

// Merge adds src to dst. It keeps the laws of the package. src is not changed; it must be another row, of this composite.
func (c *Composite) Merge(dst, src *Row) {
	dst.records += src.records
	for i := range dst.values {
		dst.values[i].merge(c.values[i].needs, &src.values[i])
	}
}
