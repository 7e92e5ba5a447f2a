package recompute

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/llm-auto-optimizer/tidemark/core/aggregate"
	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/core/window"
)

// addsUp reports whether a function's results over parts make up that over the whole.
func addsUp(k aggregate.Kind) bool {
	return k == aggregate.Count || k == aggregate.Sum || k == aggregate.Min || k == aggregate.Max
}

// chains says what of the panes of a definition is not compared. It is false where that is everything.
func (j *job) chains(d *window.Definition) bool {
	if d.Kind == window.KindGlobal {
		return j.global(d)
	}
	session := d.Kind == window.KindSession
	if j.pipe.Trigger.Early() {
		j.out.leaveOut("windows %s: results of early panes, of which nothing tells what records there were; their indexes and what they replace are compared, and what stands in the end", d.Name)
	}
	if j.pipe.Trigger.OnChange {
		j.out.leaveOut("windows %s: whether a pane that was held back said nothing new; the last one has to have the results of the whole window", d.Name)
	}
	switch {
	case j.pipe.Accumulation == spec.Discarding && session:
		j.out.leaveOut("windows %s: sessions whose panes discard: which panes make up one is not computed again", d.Name)
		return false
	case j.pipe.Accumulation == spec.Discarding && j.past.takesOver != "":
		j.out.leaveOut("windows %s: panes that discard, of a pipeline that took over: what the one before had sent is not computed again", d.Name)
		return false
	case j.pipe.Accumulation == spec.Discarding:
		j.out.leaveOut("windows %s: of panes that discard, all functions but count, sum, min and max: they do not add up", d.Name)
	case session && j.pipe.KeepsHistory() && j.past.takesOver != "":
		j.out.leaveOut("windows %s: which pane of a session replaces which, of a pipeline that took over; the last one of each session is compared", d.Name)
	}
	if j.past.atOnce && j.pipe.KeepsHistory() {
		j.out.leaveOut("windows %s: indexes of panes and what they replace: without transactions those of attempts that died are among them", d.Name)
	}
	return true
}

// held is how long after its end a window goes out.
func (c *comparison) held() event.Span {
	if c.pipe.Trigger.FinalOnly {
		return c.def.Lateness
	}
	return 0
}

// follow goes through the panes of a tumbling, sliding or cumulate window from the first on, and returns what stands in the end: the
// last one, or where panes discard what they add up to; nil if there is none.
func (c *comparison) follow(w window.Window, all []*pane) *pane {
	if len(all) == 0 {
		return nil
	}
	// The first ones may be gone, or the pipeline's before.
	cut := c.oldest > 0 || c.past.takesOver != "" && w.End <= c.past.beginsW || !c.past.whole
	for i, p := range all {
		if c.past.atOnce || i == 0 && cut {
			continue
		}
		index, discards := int64(0), c.pipe.Accumulation == spec.Discarding
		var before *pane
		if i > 0 {
			before = all[i-1]
			index = before.Index + 1
		}
		want := "none"
		if before != nil && !discards {
			want = fmt.Sprintf("[%d %d)#%d", w.Start, w.End, before.Index)
		}
		switch got := named(p.Supersedes); {
		case p.Index != index:
			c.chain(w, p, Value{"pane.index", strconv.FormatInt(p.Index, 10), strconv.FormatInt(index, 10)})
		case got != want:
			c.chain(w, p, Value{"pane.supersedes", got, want})
		case c.pipe.Accumulation != spec.Retracting:
		case named(p.Retracts) != want:
			c.chain(w, p, Value{"pane.retracts", named(p.Retracts), want})
		case before != nil && !bytes.Equal(p.Retracts[0].Results, before.results):
			c.chain(w, p, Value{"pane.retracts", string(p.Retracts[0].Results), string(before.results)})
		}
	}
	last := *all[len(all)-1]
	if c.pipe.Accumulation == spec.Discarding {
		last.results = c.query.total(all)
	}
	return &last
}

// followSessions goes through the panes of sessions that may have become one, from the first on.
func (c *comparison) followSessions(all []*pane) {
	if c.past.atOnce || c.oldest > 0 || c.past.takesOver != "" || !c.past.whole {
		return
	}
	slices.SortStableFunc(all, func(a, b *pane) int { return cmp.Compare(a.revision, b.revision) })
	type id struct {
		window.Window
		index int64
	}
	standing := map[id]*pane{}
	for _, p := range all {
		index := int64(0)
		for i, o := range p.Supersedes {
			at := id{window.Window{Start: o.StartMS, End: o.EndMS}, o.Index}
			before := standing[at]
			if before == nil || at.Start < p.Start || at.End > p.End {
				c.chain(p.Window, p, Value{"pane.supersedes", named(p.Supersedes[i : i+1]), "a pane of the session that nothing has replaced"})
				continue
			}
			if delete(standing, at); c.pipe.Accumulation == spec.Retracting && (i >= len(p.Retracts) || !bytes.Equal(p.Retracts[i].Results, before.results)) {
				c.chain(p.Window, p, Value{"pane.retracts", named(p.Retracts), string(before.results)})
			}
			index = max(index, o.Index+1)
		}
		if p.Index != index {
			c.chain(p.Window, p, Value{"pane.index", strconv.FormatInt(p.Index, 10), strconv.FormatInt(index, 10)})
		}
		standing[id{p.Window, p.Index}] = p
	}
}

func (c *comparison) chain(w window.Window, p *pane, v Value) {
	d := c.difference(Chain, c.key, w)
	d.At, d.Values, d.Note = &p.at, []Value{v}, fmt.Sprintf("revision %d", p.revision)
	c.out.differ(c.Most, d)
}

// named lists panes.
func named(list []outs) string {
	if len(list) == 0 {
		return "none"
	}
	var out []byte
	for i, o := range list {
		if i > 0 {
			out = append(out, ' ')
		}
		out = fmt.Appendf(out, "[%d %d)#%d", o.StartMS, o.EndMS, o.Index)
	}
	return string(out)
}

// parts leaves only the functions that add up.
func (q *query) parts() {
	for i, all := range q.functions {
		q.functions[i] = slices.DeleteFunc(slices.Clone(all), func(f aggregate.Function) bool { return !addsUp(f.Kind) })
	}
}

// total adds up the results of panes that discard: JSON with the functions that add up. Null is no value.
func (q *query) total(all []*pane) []byte {
	type results map[string]json.RawMessage
	read := func(p *pane, name string) results {
		out := results{}
		if len(q.names) == 1 {
			_ = json.Unmarshal(p.results, &out) // what is no object has no results, which differs
			return out
		}
		whole := map[string]results{}
		_ = json.Unmarshal(p.results, &whole) // as above
		return whole[name]
	}
	sums := map[string]map[string]any{}
	for i, name := range q.names {
		sums[name] = map[string]any{}
		for _, f := range q.functions[i] {
			var total *float64
			for _, p := range all {
				var v *float64
				if err := json.Unmarshal(read(p, name)[f.Name()], &v); err != nil || v == nil {
					continue
				}
				if total == nil {
					total = v
					continue
				}
				switch f.Kind { //nolint:exhaustive // the others were left out
				case aggregate.Min:
					*total = min(*total, *v)
				case aggregate.Max:
					*total = max(*total, *v)
				default:
					*total += *v
				}
			}
			sums[name][f.Name()] = total
		}
	}
	var out any = sums
	if len(q.names) == 1 {
		out = sums[q.names[0]]
	}
	text, err := json.Marshal(out)
	if err != nil {
		return nil // a sum beyond a float64
	}
	return text
}
