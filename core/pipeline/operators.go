package pipeline

import (
	"fmt"
	"slices"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/expression"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
)

// operators are the expressions of a pipeline, and the order in which they are evaluated. Only what is used is: first what where
// is made of, then where, and for records that count the rest.
type operators struct {
	where   *derivation // nil: all records count
	derived []derivation
	paths   []string // fields of the record that are read, each once
	slots   []origin // of the pipeline's paths
	first   []int    // derived fields that where needs, in their order
	timed   []int    // those that event time needs besides
	rest    []int    // all others that are used
}

// derivation is a compiled expression, and where the fields it names come from.
type derivation struct {
	what    string // for messages
	program *expression.Expression
	from    []origin
}

// origin is a field of the record or a derived one.
type origin struct {
	derived bool
	index   int // in operators.derived, or in operators.paths
}

// compileOperators returns nil where the pipeline has none.
func compileOperators(p *Pipeline) (*operators, error) {
	if p.Where == "" && len(p.Map) == 0 && !slices.ContainsFunc(p.Key.Fields, spec.IsExpression) {
		return nil, nil //nolint:nilnil // no operators are not an error, and none are needed to read a record
	}
	c := &operatorCompiler{p: p, o: &operators{}, names: map[string]int{}}
	for _, d := range p.Map {
		if err := c.derive("map."+d.Name, d.Expression); err != nil {
			return nil, err
		}
		c.names[d.Name] = len(c.o.derived) - 1
	}
	for i, path := range p.paths {
		if i >= p.keyAt && i < p.valueAt && spec.IsExpression(path) {
			if err := c.derive("key "+p.labels[i-p.keyAt], path); err != nil {
				return nil, err
			}
			c.o.slots = append(c.o.slots, origin{true, len(c.o.derived) - 1})
			continue
		}
		c.o.slots = append(c.o.slots, c.origin(path))
	}
	o := c.o
	if p.Where != "" {
		where, err := c.compile("where", p.Where, expression.Bool)
		if err != nil {
			return nil, err
		}
		o.where = &where
		o.first = o.needed(where.from, nil)
	}
	if p.keyAt > 0 {
		o.timed = o.needed(o.slots[:p.keyAt], o.first)
	}
	o.rest = o.needed(o.slots, slices.Concat(o.first, o.timed))
	return o, nil
}

type operatorCompiler struct {
	p     *Pipeline
	o     *operators
	names map[string]int // of the fields derived so far
}

func (c *operatorCompiler) derive(what, text string) error {
	d, err := c.compile(what, text, expression.Scalar)
	c.o.derived = append(c.o.derived, d)
	return err
}

func (c *operatorCompiler) compile(what, text string, kind expression.Kind) (derivation, error) {
	e, err := expression.Compile(text, kind)
	if err != nil {
		return derivation{}, fmt.Errorf("%s: %q: %w", what, text, err)
	}
	d := derivation{what: what, program: e}
	for _, path := range e.Paths() {
		d.from = append(d.from, c.origin(path))
	}
	return d, nil
}

// origin finds a field among those derived so far, else in the record.
func (c *operatorCompiler) origin(path string) origin {
	if i, ok := c.names[path]; ok {
		return origin{true, i}
	}
	i := slices.Index(c.o.paths, path)
	if i < 0 {
		i = len(c.o.paths)
		c.o.paths = append(c.o.paths, path)
	}
	return origin{false, i}
}

// needed returns the derived fields that fields are made of, in an order in which each has what it needs, without those of done.
func (o *operators) needed(fields []origin, done []int) []int {
	need := map[int]bool{}
	var mark func(from []origin)
	mark = func(from []origin) {
		for _, f := range from {
			if f.derived && !need[f.index] && !slices.Contains(done, f.index) {
				need[f.index] = true
				mark(o.derived[f.index].from)
			}
		}
	}
	mark(fields)
	var order []int
	for i := range o.derived {
		if need[i] {
			order = append(order, i)
		}
	}
	return order
}

// extracted returns the fields of the record that are read.
func (p *Pipeline) extracted() []string {
	if p.ops != nil {
		return p.ops.paths
	}
	return p.paths
}

// operating evaluates the operators for one record after the other.
type operating struct {
	*operators
	asked      *expression.Evaluator
	evaluators []*expression.Evaluator
	raw        []event.Field // of the record at hand, in the order of paths
	results    []event.Field // of the derived fields
	fields     []event.Field // in the order of the pipeline's paths
	inputs     []event.Field
	text       []byte // of results
}

func (o *operators) newOperating(paths int) *operating {
	x := &operating{operators: o, results: make([]event.Field, len(o.derived)), fields: make([]event.Field, paths)}
	for i := range o.derived {
		x.evaluators = append(x.evaluators, o.derived[i].program.NewEvaluator())
	}
	if o.where != nil {
		x.asked = o.where.program.NewEvaluator()
	}
	return x
}

// operate asks where of the fields of a record and derives fields.
func (r *reader) operate(rec *event.Record) rejection {
	o := r.operating
	r.filtered, o.text, o.raw = false, o.text[:0], r.raw
	if o.where != nil {
		// What where is made of may fail for records that do not count: it is nil to where, and a failure if the record counts.
		failed := o.deriveAll(o.first)
		counts, err := o.asked.Bool(o.gather(o.where.from))
		switch {
		case err == nil && !counts:
			r.filtered = true
			r.filteredTime(rec)
			return rejection{}
		case failed.reason != "":
			return failed
		case err != nil:
			return reject(event.ReasonExpression, "where: "+err.Error())
		}
	}
	for _, list := range [][]int{o.timed, o.rest} {
		if rej := o.derive(list); rej.reason != "" {
			return rej
		}
	}
	o.fill(len(o.fields))
	r.fields = o.fields
	return rejection{}
}

// filteredTime reads the event time of a record that does not count: it moves the watermark as that of any other does, or no window
// of a partition with none that counts would ever end. One that cannot be read is no failure.
func (r *reader) filteredTime(rec *event.Record) {
	o := r.operating
	if rej := o.derive(o.timed); rej.reason == "" {
		o.fill(r.p.keyAt)
		r.fields = o.fields
		if rej = r.readTime(rec); rej.reason == "" {
			return
		}
	}
	r.time = event.MinTime
}

// fill puts the first n of the pipeline's fields where they are read.
func (o *operating) fill(n int) {
	for i, from := range o.slots[:n] {
		o.fields[i] = o.field(from)
	}
}

func (o *operating) field(from origin) event.Field {
	if from.derived {
		return o.results[from.index]
	}
	return o.raw[from.index]
}

func (o *operating) gather(from []origin) []event.Field {
	o.inputs = o.inputs[:0]
	for _, f := range from {
		o.inputs = append(o.inputs, o.field(f))
	}
	return o.inputs
}

// derive computes derived fields up to the first that has no result.
func (o *operating) derive(list []int) rejection {
	for _, i := range list {
		if rej := o.deriveOne(i); rej.reason != "" {
			return rej
		}
	}
	return rejection{}
}

// deriveAll computes derived fields, where one that has no result is null, and returns the first failure.
func (o *operating) deriveAll(list []int) (first rejection) {
	for _, i := range list {
		if rej := o.deriveOne(i); rej.reason != "" {
			o.results[i] = event.Field{Kind: event.FieldNull}
			if first.reason == "" {
				first = rej
			}
		}
	}
	return first
}

func (o *operating) deriveOne(i int) rejection {
	d := &o.derived[i]
	var err error
	o.results[i], o.text, err = o.evaluators[i].Scalar(o.text, o.gather(d.from))
	if err != nil {
		return reject(event.ReasonExpression, d.what+": "+err.Error())
	}
	return rejection{}
}
