package pipeline

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"

	"github.com/llm-auto-optimizer/tidemark/core/aggregate"
	"github.com/llm-auto-optimizer/tidemark/core/delta"
	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/window"
)

// View merges stored deltas to look at them outside of a plan: what the open windows of a key have so far, or whether two slots
// hold the same. It is not safe for concurrent use, and has everything that it was given in memory.
type View struct {
	p      *Pipeline
	key    *string // nil: all keys
	values []aggregate.Value
	tables map[delta.SliceID]*table
	frags  map[uint16][]fragment // by window definition
}

// NewView returns an empty view of one key, or of all if it is nil.
func (p *Pipeline) NewView(key *string) (*View, error) {
	values, err := compileValues(p.Pipeline)
	if err != nil {
		return nil, fmt.Errorf("pipeline %s: %w", p.Name, err)
	}
	return &View{p: p, key: key, values: values, tables: map[delta.SliceID]*table{}, frags: map[uint16][]fragment{}}, nil
}

// Add takes the payload of a delta of a slice; of a reserved list it takes nothing. It keeps no reference to it. Errors wrap
// ErrPayload.
func (v *View) Add(id delta.SliceID, payload []byte) error {
	if int(id.Window) >= len(v.p.Windows) {
		return nil
	}
	it := v.p.groups(id, payload)
	for it.next() {
		if v.key != nil && string(it.key) != *v.key {
			continue
		}
		if it.session {
			v.frags[id.Window] = append(v.frags[id.Window], fragment{key: string(it.key), first: it.first, last: it.last, row: slices.Clone(it.row)})
			continue
		}
		t := v.tables[id]
		if t == nil {
			t = newTable()
			v.tables[id] = t
		}
		if _, err := v.p.composite.MergeBinary(&t.rows[t.row(v.p.composite, it.key)], it.row); err != nil {
			return fmt.Errorf("group %q: %w: %w", it.key, err, ErrPayload)
		}
	}
	return it.err
}

// Groups counts the groups in aligned slices and the fragments in session buckets.
func (v *View) Groups() int {
	n := 0
	for _, t := range v.tables {
		n += len(t.keys)
	}
	for _, f := range v.frags {
		n += len(f)
	}
	return n
}

// Group is what is stored of one key in a window. It is no result: no plan has made it.
type Group struct {
	Name    string // of the window definition
	Window  window.Window
	Key     string
	Records int64
	Results []byte // JSON
}

// Open merges what is stored into the windows that still take records at the watermark w, ascending by end, and returns those of
// the first limit windows that have records. more reports whether there are others.
func (v *View) Open(w event.Time, limit int) (groups []Group, more bool, err error) {
	type place struct {
		def int
		w   window.Window
	}
	set := map[place]struct{}{}
	var buf []window.Window
	for id := range v.tables {
		d := &v.p.Windows[id.Window]
		buf = d.WindowsOf(buf[:0], d.SliceAt(id.Start))
		for _, x := range buf {
			if x.End.Add(d.Lateness) > w {
				set[place{int(id.Window), x}] = struct{}{}
			}
		}
	}
	places := slices.SortedFunc(maps.Keys(set), func(a, b place) int {
		return cmp.Or(cmp.Compare(a.w.End, b.w.End), cmp.Compare(a.w.Start, b.w.Start), cmp.Compare(a.def, b.def))
	})
	if more = len(places) > limit; more {
		places = places[:limit]
	}
	for _, at := range places {
		d, t := &v.p.Windows[at.def], newTable()
		for _, start := range d.Slices(nil, at.w) {
			if s := v.tables[delta.SliceID{Window: uint16(at.def), Start: start}]; s != nil {
				for i, key := range s.keys {
					v.p.composite.Merge(&t.rows[t.row(v.p.composite, []byte(key))], &s.rows[i])
				}
			}
		}
		for i, key := range t.keys {
			groups = append(groups, v.group(d, at.w, key, &t.rows[i]))
		}
	}
	for def := range v.frags {
		d := &v.p.Windows[def]
		sessions, err := v.sessions(def)
		if err != nil {
			return nil, false, err
		}
		for i := range sessions {
			if s := &sessions[i]; s.window.End.Add(d.Lateness) > w {
				groups = append(groups, v.group(d, s.window, s.key, s.row))
			}
		}
	}
	slices.SortFunc(groups, func(a, b Group) int {
		return cmp.Or(cmp.Compare(a.Window.End, b.Window.End), cmp.Compare(a.Window.Start, b.Window.Start), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Key, b.Key))
	})
	if len(groups) > limit {
		groups, more = groups[:limit], true
	}
	return groups, more, nil
}

func (v *View) group(d *window.Definition, w window.Window, key string, row *aggregate.Row) Group {
	return Group{Name: d.Name, Window: w, Key: key, Records: v.p.composite.Records(row), Results: v.p.composite.AppendResults(nil, row)}
}

type viewSession struct {
	key    string
	span   window.Fragment
	window window.Window
	row    *aggregate.Row
}

// sessions merges the fragments of a session definition, as far as they are in the view.
func (v *View) sessions(def uint16) ([]viewSession, error) {
	frags, d := v.frags[def], &v.p.Windows[def]
	slices.SortStableFunc(frags, func(a, b fragment) int {
		return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.first, b.first), cmp.Compare(a.last, b.last))
	})
	var out []viewSession
	for i := range frags {
		x := &frags[i]
		if n := len(out) - 1; n >= 0 && out[n].key == x.key && d.OneSession(out[n].span, x.span()) {
			out[n].span = out[n].span.Merge(x.span())
		} else {
			row := &aggregate.Row{}
			v.p.composite.Reset(row)
			out = append(out, viewSession{key: x.key, span: x.span(), row: row})
		}
		if _, err := v.p.composite.MergeBinary(out[len(out)-1].row, x.row); err != nil {
			return nil, fmt.Errorf("session of %q at %s: %w: %w", x.key, x.first, err, ErrPayload)
		}
	}
	for i := range out {
		out[i].window = d.SessionWindow(out[i].span)
	}
	return out, nil
}

// Mismatch is a group that two views do not have alike.
type Mismatch struct {
	Name   string // of the window definition
	Window window.Window
	Key    string
	What   string // what this view has, and what the other one
}

// Compare compares the groups of slices, and the sessions, that still take records at the watermark w: the others may be there or
// not, since purging is tidying up. Both views are of the same slices of one partition. Counts, minima, maxima, first, last, distinct
// and the percentiles of at most 1,000 records must be equal, sums and user-defined numbers within 1e-9 and moments within 1e-6 of each
// other; percentiles of more records, and user-defined functions that say so, are not compared: they depend on the order of merging. It returns how many groups were compared.
func (v *View) Compare(other *View, w event.Time, found func(Mismatch)) (int, error) {
	n := 0
	ids := maps.Clone(v.tables)
	maps.Copy(ids, other.tables)
	for id := range ids {
		d := &v.p.Windows[id.Window]
		s := d.SliceAt(id.Start)
		if d.LastEnd(s).Add(d.Lateness) <= w {
			continue
		}
		n += v.compareTables(v.tables[id], other.tables[id], func(key, what string) {
			found(Mismatch{d.Name, window.Window(s), key, what})
		})
	}
	for def := range v.p.Windows {
		if len(v.frags[uint16(def)])+len(other.frags[uint16(def)]) == 0 {
			continue
		}
		some, err := v.compareSessions(other, uint16(def), w, found)
		if err != nil {
			return n, err
		}
		n += some
	}
	return n, nil
}

func (v *View) compareTables(mine, its *table, found func(key, what string)) int {
	empty := newTable()
	mine, its = cmp.Or(mine, empty), cmp.Or(its, empty)
	n := len(mine.keys)
	for i, key := range mine.keys {
		var row *aggregate.Row
		if j, ok := its.at[key]; ok {
			row = &its.rows[j]
		}
		if what := v.differ(&mine.rows[i], row); what != "" {
			found(key, what)
		}
	}
	for j, key := range its.keys {
		if _, ok := mine.at[key]; !ok {
			n++
			found(key, v.differ(nil, &its.rows[j]))
		}
	}
	return n
}

func (v *View) compareSessions(other *View, def uint16, w event.Time, found func(Mismatch)) (int, error) {
	d := &v.p.Windows[def]
	type pair struct{ mine, its *aggregate.Row }
	type place struct {
		key string
		w   window.Window
	}
	pairs := map[place]pair{}
	for i, x := range []*View{v, other} {
		list, err := x.sessions(def)
		if err != nil {
			return 0, err
		}
		for _, s := range list {
			// Less than what may be final: another partition may have the rest of the session, and decide.
			if s.window.End.Add(d.Lateness) <= w {
				continue
			}
			at := place{s.key, s.window}
			p := pairs[at]
			if i == 0 {
				p.mine = s.row
			} else {
				p.its = s.row
			}
			pairs[at] = p
		}
	}
	for at, p := range pairs {
		if what := v.differ(p.mine, p.its); what != "" {
			found(Mismatch{d.Name, at.w, at.key, what})
		}
	}
	return len(pairs), nil
}

// differ says in what two rows are not alike; nil is a row that is not there. It is empty if they are.
func (v *View) differ(mine, its *aggregate.Row) string {
	c := v.p.composite
	switch {
	case mine == nil:
		return fmt.Sprintf("missing: %d records, %s", c.Records(its), c.AppendResults(nil, its))
	case its == nil:
		return fmt.Sprintf("too much: %d records, %s", c.Records(mine), c.AppendResults(nil, mine))
	}
	same := c.Records(mine) == c.Records(its)
	for i := range v.values {
		for _, f := range v.values[i].Functions {
			a, okA := c.Result(mine, i, f)
			b, okB := c.Result(its, i, f)
			same = same && okA == okB && (!okA || near(f.Kind, c.Records(mine), a, b)) && (okA || alike(f, c.AppendResult(nil, mine, i, f), c.AppendResult(nil, its, i, f)))
		}
	}
	if same {
		return ""
	}
	return fmt.Sprintf("%d records, %s; should be %d records, %s", c.Records(mine), c.AppendResults(nil, mine), c.Records(its), c.AppendResults(nil, its))
}

// exactPercentiles is the number of records of a group up to which its percentiles do not depend on the order of merging.
const exactPercentiles = 1000

func near(k aggregate.Kind, records int64, a, b float64) bool {
	size := max(math.Abs(a), math.Abs(b))
	switch k {
	case aggregate.Count, aggregate.Min, aggregate.Max, aggregate.Distinct, aggregate.First, aggregate.Last:
		return a == b
	case aggregate.Percentile:
		return a == b || records > exactPercentiles
	case aggregate.Sum, aggregate.Average, aggregate.UserDefined:
		return math.Abs(a-b) <= 1e-9*size
	case aggregate.Variance, aggregate.Stddev, aggregate.VarianceSample, aggregate.StddevSample:
		return math.Abs(a-b) <= 1e-6*max(1, size)
	}
	return a == b
}

// alike compares results that are no numbers to the composite: JSON of first, last and user-defined functions.
func alike(f aggregate.Function, a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	d := f.Definition()
	if d == nil || d.Approximate {
		return d != nil
	}
	x, errX := strconv.ParseFloat(string(a), 64)
	y, errY := strconv.ParseFloat(string(b), 64)
	return errX == nil && errY == nil && near(f.Kind, 0, x, y)
}
