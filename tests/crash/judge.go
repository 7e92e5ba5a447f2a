package crash

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/window"
	"github.com/llm-auto-optimizer/tidemark/tests/oracle"
)

// verdict is what a stage came to. A record that several windows lack counts in each of them.
type verdict struct {
	lost, doubled int64
	problems      []string // what is wrong, lost and doubled included

	records, panes, late, dead, plans int
}

// account says that something is wrong; the counts may be 0.
func (v *verdict) account(lost, doubled int64, format string, args ...any) {
	v.lost += lost
	v.doubled += doubled
	v.problems = append(v.problems, fmt.Sprintf(format, args...))
}

func (v *verdict) add(o verdict) {
	v.lost, v.doubled = v.lost+o.lost, v.doubled+o.doubled
	v.problems = append(v.problems, o.problems...)
	v.records, v.panes, v.late, v.dead, v.plans = v.records+o.records, v.panes+o.panes, v.late+o.late, v.dead+o.dead, v.plans+o.plans
}

// judge compares everything that was published with a plain computation over everything that was produced.
func judge(a *app, events, dead []oracle.Event, out published) verdict {
	v := verdict{records: len(events) + len(dead)}
	for i := range a.Pipelines {
		p := &a.Pipelines[i]
		mine := func(e oracle.Event) bool { return slices.Contains(p.Topics, e.Topic) }
		j := judgement{
			verdict: &v, name: p.Name, defs: p.Windows, strict: a.queries[i].strict,
			events: filter(events, mine), dead: filter(dead, mine),
			panes: filter(out.panes, func(x pane) bool { return x.Pipeline == p.Name }),
			plans: filter(out.plans, func(x plan) bool { return x.Pipeline == p.Name }),
		}
		late := filter(out.sides, func(s side) bool { return s.topic == p.LateTopic })
		failed := filter(out.sides, func(s side) bool { return s.topic == p.DeadLetterTopic })
		j.deadLetters(failed)
		j.results(j.lateRecords(late))
		j.ledger(len(late), len(failed))
	}
	return v
}

func filter[T any](all []T, keep func(T) bool) []T {
	var out []T
	for _, x := range all {
		if keep(x) {
			out = append(out, x)
		}
	}
	return out
}

// judgement is about one pipeline.
type judgement struct {
	*verdict
	name         string
	defs         []window.Definition
	strict       bool
	events, dead []oracle.Event
	panes        []pane
	plans        []plan
}

// place names a source record.
type place struct {
	event.TopicPartition
	offset int64
}

func at(e oracle.Event) place { return place{e.TopicPartition, e.Offset} }

// once checks that side records are records of the input, each there once, and returns the places.
func (j *judgement) once(what string, sides []side, input []oracle.Event, reason func(string) bool) map[place]bool {
	known := make(map[place]oracle.Event, len(input))
	for _, e := range input {
		known[at(e)] = e
	}
	found := map[place]bool{}
	for _, s := range sides {
		p := place{s.source, s.offset}
		e, ok := known[p]
		switch {
		case s.malformed != "", !ok, !reason(s.reason):
			j.account(0, 1, "%s: in %s: %+v, which does not belong there", j.name, what, s)
		case found[p]:
			j.account(0, 1, "%s: twice in %s: %s/%d, offset %d", j.name, what, p.Topic, p.Partition, p.offset)
		case s.key != e.Key:
			j.account(0, 0, "%s: in %s: %s/%d, offset %d has the key %q, want %q", j.name, what, p.Topic, p.Partition, p.offset, s.key, e.Key)
		}
		found[p] = true
	}
	return found
}

// deadLetters are the records that cannot be read, each once.
func (j *judgement) deadLetters(sides []side) {
	found := j.once("the dead letter topic", sides, j.dead, func(r string) bool { return r == string(event.ReasonDecode) })
	for _, e := range j.dead {
		if !found[at(e)] {
			j.account(1, 0, "%s: not in the dead letter topic: %s/%d, offset %d", j.name, e.Topic, e.Partition, e.Offset)
		}
	}
	j.verdict.dead += len(found)
}

// lateRecords are there for strict pipelines alone, and in no pane. It returns the events that have to be in panes.
func (j *judgement) lateRecords(sides []side) []oracle.Event {
	found := j.once("the late topic", sides, j.events, func(r string) bool { return r == string(event.ReasonLate) })
	if !j.strict {
		if len(found) > 0 {
			j.account(0, 0, "%s: %d records are in the late topic, though none is late", j.name, len(found))
		}
		return j.events
	}
	j.late += len(found)
	return filter(j.events, func(e oracle.Event) bool { return !found[at(e)] })
}

// results compares the newest revision of every pane with a batch computation.
func (j *judgement) results(events []oracle.Event) {
	events = filter(events, func(e oracle.Event) bool { return e.Key != endKey })
	want, _ := oracle.Compute(j.defs, events, func(oracle.Event) event.Time { return event.MinTime })
	got := j.newest()
	j.verdict.panes += len(got)
	expected := map[string]oracle.Pane{}
	for _, w := range want {
		expected[w.ID()] = w
		g, ok := got[w.ID()]
		if !ok {
			j.account(int64(len(w.Values)), 0, "%s: missing: %s with %d records", j.name, w.ID(), len(w.Values))
			continue
		}
		j.compare(w, g)
	}
	for id, g := range got {
		if _, ok := expected[id]; ok || j.replaced(g, want) {
			continue
		}
		j.account(0, int64(g.Results.Count), "%s: superfluous: %s with %v records", j.name, id, g.Results.Count)
	}
}

func (j *judgement) compare(w oracle.Pane, g pane) {
	n, sum, _ := oracle.Moments(w.Values)
	r := g.Results
	if missing := int64(n) - int64(r.Count); missing != 0 {
		j.account(max(missing, 0), max(-missing, 0), "%s: %s has %v records, want %d", j.name, w.ID(), r.Count, n)
		return
	}
	// Values are whole and small enough that their sums are exact.
	if r.Sum != sum || r.Min != slices.Min(w.Values) || r.Max != slices.Max(w.Values) {
		j.account(1, 1, "%s: %s has the right number of records, but not the right ones: sum %v, want %v", j.name, w.ID(), r.Sum, sum)
		return
	}
	first, last := oracle.Edges(w.Events)
	if d := float64(oracle.Distinct(w.Values)); r.First != first || r.Last != last || d <= 1024 && r.Distinct != d {
		j.account(1, 1, "%s: %s has the right records, but first %v, last %v, distinct %v, want %v, %v, %v", j.name, w.ID(), r.First, r.Last, r.Distinct, first, last, d)
	}
}

// newest checks how panes follow each other, and returns the last one of each.
func (j *judgement) newest() map[string]pane {
	plans := map[int64]bool{}
	for _, p := range j.plans {
		plans[p.Plan] = true
	}
	panes := filter(j.panes, func(p pane) bool { return p.Key != endKey })
	slices.SortStableFunc(panes, func(a, b pane) int { return cmp.Compare(a.Pane.Revision, b.Pane.Revision) })
	out := map[string]pane{}
	for _, p := range panes {
		id := oracle.Pane{Window: p.Window.Name, Start: p.Window.StartMS, End: p.Window.EndMS, Key: p.Key}.ID()
		if !plans[p.Pane.Revision] {
			j.account(0, 0, "%s: %s has revision %d, of which the ledger knows nothing: a dead attempt is visible", j.name, id, p.Pane.Revision)
		}
		old, again := out[id]
		switch {
		case !again:
		case old.Pane.Revision == p.Pane.Revision:
			j.account(0, int64(p.Results.Count), "%s: %s was published twice with revision %d", j.name, id, p.Pane.Revision)
		case p.Pane.Timing == "on_time" || j.lateness(p.Window.Name) == 0:
			j.account(0, int64(p.Results.Count), "%s: %s went out on time with revision %d, and again with %d", j.name, id, old.Pane.Revision, p.Pane.Revision)
		case p.Results.Count <= old.Results.Count:
			j.account(0, 0, "%s: %s went out again with revision %d and no record more", j.name, id, p.Pane.Revision)
		}
		out[id] = p
	}
	return out
}

func (j *judgement) lateness(windowName string) event.Span {
	for i := range j.defs {
		if j.defs[i].Name == windowName {
			return j.defs[i].Lateness
		}
	}
	return 0
}

// replaced reports whether a pane is that of a session which a late record made part of a larger one.
func (j *judgement) replaced(g pane, want []oracle.Pane) bool {
	return j.lateness(g.Window.Name) > 0 && slices.ContainsFunc(j.defs, func(d window.Definition) bool { return d.Name == g.Window.Name && d.Kind == window.KindSession }) &&
		slices.ContainsFunc(want, func(p oracle.Pane) bool {
			return p.Window == g.Window.Name && p.Key == g.Key && p.Start <= g.Window.StartMS && g.Window.EndMS <= p.End
		})
}

// ledger checks the books: every plan once and in order, each balanced, and the last one with everything that was produced.
func (j *judgement) ledger(late, dead int) {
	last := int64(-1)
	var newest *plan
	for i := range j.plans {
		p := &j.plans[i]
		if p.Refused != "" {
			continue // a part of the same plan: refused offsets
		}
		// The genesis of partitions is booked under the number of the plan that it belongs to.
		if p.Plan != last+1 && !(p.Plan == 0 && last <= 0) {
			j.account(0, 0, "%s: plan %d follows plan %d in the ledger", j.name, p.Plan, last)
		}
		last = p.Plan
		for _, q := range p.Partitions {
			if sum := q.Final + q.Open + q.Late + q.Dead + q.Skipped + q.Filtered + q.Unassigned; sum != q.In || q.In != q.Offset {
				j.account(0, 0, "%s: plan %d does not balance: %+v adds up to %d", j.name, p.Plan, q, sum)
			}
		}
		newest = p
	}
	j.verdict.plans += len(j.plans)
	if newest == nil {
		j.account(0, 0, "%s: no plan", j.name)
		return
	}
	var in, lateIn, deadIn int64
	for _, q := range newest.Partitions {
		in, lateIn, deadIn = in+q.In, lateIn+q.Late, deadIn+q.Dead
	}
	if want := int64(len(j.events) + len(j.dead)); in != want || lateIn != int64(late) || deadIn != int64(dead) {
		j.account(0, 0, "%s: the last plan has %d in, %d late, %d dead; want %d, %d, %d", j.name, in, lateIn, deadIn, want, late, dead)
	}
}
