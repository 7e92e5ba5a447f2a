// Package aggregate has the functions that a pipeline computes over the values of a group: count, sum, average, min, max,
// variance, standard deviation, percentiles, the first and the last value and the number of distinct ones, and those that users
// define; several of them over several values in one pass.
//
// The state of one group is a Row; a Composite knows what the rows of a pipeline hold and how they are fed, merged, stored and
// turned into results. The laws that all of it keeps:
//
//   - merge equals fold: merging the rows of two lists of values gives the row of both lists. Merge is commutative and
//     associative; exactly so for count, min, max, first, last, distinct and exact percentiles, up to rounding for sums and
//     moments, up to the error of the sketch for percentiles of large groups. An empty row changes nothing.
//   - the same operations in the same order give the same bytes and the same results, on every run.
//   - stored bytes keep every float64 exactly; storing and loading changes no result.
//
// To add a function: add a Kind, its line in rules, and if it needs state that is not there, a component beside sum, moments
// and extrema with its merge and its bytes. A function of one's own needs no change here: see Definition.
package aggregate

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrUnknownFunction is returned by Parse for a name that is no aggregate function; the message lists those that are.
var ErrUnknownFunction = errors.New("aggregate: unknown function")

// Kind is a kind of aggregate function.
type Kind uint8

// The kinds. Each has its line in rules.
const (
	Count Kind = iota + 1
	Sum
	Average
	Min
	Max
	Variance
	Stddev
	VarianceSample
	StddevSample
	Percentile
	First
	Last
	Distinct
	UserDefined // of a Definition
)

// distinctAlias is another name of distinct.
const distinctAlias = "distinct_count"

// String returns the registry's name of the kind.
func (k Kind) String() string {
	if r, ok := ruleOf(k); ok {
		return r.Name
	}
	if k == UserDefined {
		return "user-defined"
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// Function is one aggregate function, as Parse makes it. The zero Function is none.
type Function struct {
	Kind Kind
	P    float64 // Percentile only: the percentage, 0 <= P <= 100
	name string
	own  *Definition // UserDefined only
}

// Definition returns the definition of a user-defined function, nil of others.
func (f Function) Definition() *Definition { return f.own }

// Name returns the function's name as it was parsed: the key of its result.
func (f Function) Name() string {
	if f.name == "" && f.Kind == Percentile {
		return "p" + strconv.FormatFloat(f.P, 'f', -1, 64)
	}
	if f.name == "" {
		return f.Kind.String()
	}
	return f.name
}

// Entry describes one kind of function for documentation.
type Entry struct {
	Kind Kind
	Name string // the name in a spec; of Percentile "percentile", which stands for the names that match PercentilePattern
	Doc  string // one sentence
	// Error is how far a result may be from that of exact arithmetic over all values; "exact": to the last bit.
	Error string
	// Scalars says that strings and booleans are taken, too.
	Scalars bool
}

// upToRounding is the error of functions that add floating-point numbers up.
const upToRounding = "rounding: 1e-9, relative"

// PercentilePattern is the regular expression of the names of percentiles: p50, p99.9. Up to six decimals.
const PercentilePattern = `^p(100|[1-9]?[0-9](\.[0-9]{1,6})?)$`

// rule is what the package knows of one kind.
type rule struct {
	Entry
	needs   components
	integer bool // the result is written as an integer

	// eval returns the result, false if there is none. A result that is not finite has overflowed.
	eval func(t *totals, p float64) (float64, bool)
	// json appends a result that is no number; then there is no eval. It is not called for no value.
	json func(dst []byte, t *totals) []byte
}

// rules is the table of all functions, in the order of their kinds.
func rules() [13]rule {
	return [...]rule{
		{
			Entry:   Entry{Count, "count", "Number of values; of records in a pipeline without values.", "exact", true},
			integer: true,
			eval:    func(t *totals, _ float64) (float64, bool) { return float64(t.n), true },
		},
		{
			Entry: Entry{Sum, "sum", "Sum of the values, compensated (Neumaier).", upToRounding, false},
			needs: needSum,
			eval:  func(t *totals, _ float64) (float64, bool) { return t.sum.value(), t.n > 0 },
		},
		{
			Entry: Entry{Average, "average", "Arithmetic mean of the values.", upToRounding, false},
			needs: needSum,
			eval:  func(t *totals, _ float64) (float64, bool) { return t.sum.mean(t.n), t.n > 0 },
		},
		{
			Entry: Entry{Min, "min", "Smallest value.", "exact", false},
			needs: needExtrema,
			eval:  func(t *totals, _ float64) (float64, bool) { return t.extrema.min, t.n > 0 },
		},
		{
			Entry: Entry{Max, "max", "Largest value.", "exact", false},
			needs: needExtrema,
			eval:  func(t *totals, _ float64) (float64, bool) { return t.extrema.max, t.n > 0 },
		},
		{
			Entry: Entry{Variance, "variance", "Population variance; 0 for one value.", upToRounding, false},
			needs: needMoments,
			eval:  func(t *totals, _ float64) (float64, bool) { return t.moments.variance(t.n), t.n > 0 },
		},
		{
			Entry: Entry{Stddev, "stddev", "Population standard deviation; 0 for one value.", upToRounding, false},
			needs: needMoments,
			eval:  func(t *totals, _ float64) (float64, bool) { return t.moments.stddev(t.n), t.n > 0 },
		},
		{
			Entry: Entry{VarianceSample, "variance_sample", "Sample variance; null for one value.", upToRounding, false},
			needs: needMoments,
			eval:  func(t *totals, _ float64) (float64, bool) { return t.moments.varianceSample(t.n), t.n > 1 },
		},
		{
			Entry: Entry{StddevSample, "stddev_sample", "Sample standard deviation; null for one value.", upToRounding, false},
			needs: needMoments,
			eval:  func(t *totals, _ float64) (float64, bool) { return t.moments.stddevSample(t.n), t.n > 1 },
		},
		{
			Entry: Entry{Percentile, "percentile", "Percentile by linear interpolation (R-7): exact up to 1,000 values, then within 1% rank error (t-digest) or a relative accuracy (DDSketch).", "exact up to 1,000 values of a group; then 1% in rank (t-digest), or relative_accuracy (DDSketch)", false},
			needs: needSamples | needExtrema,
			eval:  func(t *totals, p float64) (float64, bool) { return t.percentile(p), t.n > 0 },
		},
		{
			Entry: Entry{First, "first", "First value, by event time, topic, partition and offset, as it was written: a number, a string or a boolean.", "exact", true},
			needs: needFirst,
			json:  func(dst []byte, t *totals) []byte { return t.more.first.appendJSON(dst) },
		},
		{
			Entry: Entry{Last, "last", "Last value, by event time, topic, partition and offset, as it was written: a number, a string or a boolean.", "exact", true},
			needs: needLast,
			json:  func(dst []byte, t *totals) []byte { return t.more.last.appendJSON(dst) },
		},
		{
			Entry:   Entry{Distinct, "distinct", "Number of distinct values: exact up to 1,024, then a HyperLogLog with a standard error of 0.81%.", "exact up to 1,024 values; then 0.81% standard error", true},
			needs:   needDistinct,
			integer: true,
			eval:    func(t *totals, _ float64) (float64, bool) { return t.distinct(), true },
		},
	}
}

// ruleOf returns the line of one kind.
func ruleOf(k Kind) (rule, bool) {
	all := rules()
	if k < Count || int(k) > len(all) {
		return rule{}, false
	}
	return all[k-1], true
}

// Functions describes every kind of function of this package, in a fixed order.
func Functions() []Entry {
	all := rules()
	entries := make([]Entry, 0, len(all))
	for _, r := range &all {
		entries = append(entries, r.Entry)
	}
	return entries
}

// Names returns the names of all functions of this package but the percentiles, in a fixed order; distinct_count is another name
// of distinct. The names of percentiles are those that match PercentilePattern.
func Names() []string { return (*Registry)(nil).Names() }

// Names returns the names of all functions but the percentiles, in a fixed order, user-defined ones last.
func (g *Registry) Names() []string {
	var names []string
	for _, r := range rules() {
		if r.Kind != Percentile {
			names = append(names, r.Name)
		}
	}
	names = append(names, distinctAlias)
	if g != nil {
		for _, d := range g.own {
			names = append(names, d.Name)
		}
	}
	return names
}

// Parse returns the function of a name of this package: one of Names, or a percentile such as "p50" or "p99.9". Names are
// case-sensitive. The error of any other name is ErrUnknownFunction.
func Parse(name string) (Function, error) { return (*Registry)(nil).Parse(name) }

// Parse returns the function of a name: one of Names, or a percentile such as "p50" or "p99.9". Names are case-sensitive. The
// error of any other name is ErrUnknownFunction.
func (g *Registry) Parse(name string) (Function, error) {
	for _, r := range rules() {
		if r.Kind != Percentile && r.Name == name {
			return Function{Kind: r.Kind, name: name}, nil
		}
	}
	if name == distinctAlias {
		return Function{Kind: Distinct, name: name}, nil
	}
	if p, ok := parsePercentile(name); ok {
		return Function{Kind: Percentile, P: p, name: name}, nil
	}
	if d := g.find(name); d != nil {
		return Function{Kind: UserDefined, name: name, own: d}, nil
	}
	return Function{}, fmt.Errorf("%w %q: known are %s, and percentiles p0 to p100 such as p99.9", ErrUnknownFunction, name,
		strings.Join(g.Names(), ", "))
}

// parsePercentile reads a name of PercentilePattern; regexp is not used because a spec may name thousands.
func parsePercentile(name string) (float64, bool) {
	digits, ok := strings.CutPrefix(name, "p")
	if !ok {
		return 0, false
	}
	whole, decimals, dot := strings.Cut(digits, ".")
	switch {
	case !isDigits(whole) || len(whole) > 3 || len(whole) > 1 && whole[0] == '0':
		return 0, false
	case dot && (!isDigits(decimals) || len(decimals) > 6 || whole == "100"):
		return 0, false
	}
	p, err := strconv.ParseFloat(digits, 64)
	return p, err == nil && p <= 100
}

func isDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}
