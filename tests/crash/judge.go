package crash

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/core/window"
	"github.com/llm-auto-optimizer/tidemark/tests/oracle"
	"github.com/llm-auto-optimizer/tidemark/tests/rig"
)

// verdict is what a stage came to. A record that several windows lack counts in each of them.
type verdict struct {
	lost, doubled int64
	problems      []string // what is wrong, lost and doubled included

	records, panes, late, dead, plans int
	early, replacing                  int // panes before the end of their windows; panes that name others which they replace
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
	v.early, v.replacing = v.early+o.early, v.replacing+o.replacing
	v.records, v.panes, v.late, v.dead, v.plans = v.records+o.records, v.panes+o.panes, v.late+o.late, v.dead+o.dead, v.plans+o.plans
}

// judge compares everything that was published with a plain computation over everything that was produced.
func judge(a *app, events, dead []oracle.Event, out published) verdict {
	v := verdict{records: len(events) + len(dead)}
	for i := range a.Pipelines {
		p := &a.Pipelines[i]
		mine := func(e oracle.Event) bool { return slices.Contains(p.Topics, e.Topic) }
		j := judgement{
			verdict: &v, name: p.Name, defs: p.Windows, strict: a.queries[i].strict, accumulation: p.Accumulation,
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
	accumulation spec.Accumulation
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

// results follows the panes from the first to those that no other has replaced, and compares these with a batch computation: one for
// each window, or several that add up to it.
func (j *judgement) results(events []oracle.Event) {
	events = filter(events, func(e oracle.Event) bool { return e.Key != endKey })
	want, _ := oracle.Compute(j.defs, events, func(oracle.Event) event.Time { return event.MinTime })
	panes := filter(j.panes, func(p pane) bool { return p.Key != endKey })
	slices.SortStableFunc(panes, func(a, b pane) int { return cmp.Compare(a.Pane.Revision, b.Pane.Revision) })
	j.verdict.panes += len(panes)
	j.revisions(panes)
	got := j.standing(panes)
	for _, w := range want {
		at := group{w.Window, w.Key}
		var its []pane
		its, got[at] = j.take(w, got[at])
		switch {
		case len(its) == 0:
			j.account(int64(len(w.Values)), 0, "%s: missing: %s with %d records", j.name, w.ID(), len(w.Values))
		case len(its) > 1 && j.accumulation != spec.Discarding:
			for _, p := range its[1:] {
				j.account(0, int64(p.Results.Count), "%s: %s has %d panes that no other has replaced", j.name, w.ID(), len(its))
			}
		default:
			j.compare(w, its)
		}
	}
	for _, rest := range got {
		for _, p := range rest {
			j.account(0, int64(p.Results.Count), "%s: superfluous: %s with %v records", j.name, idOf(p), p.Results.Count)
		}
	}
}

// group is what panes are looked up by.
type group struct{ window, key string }

func idOf(p pane) string {
	return oracle.Pane{Window: p.Window.Name, Start: p.Window.StartMS, End: p.Window.EndMS, Key: p.Key}.ID()
}

// standing returns the panes that no other has replaced, by window definition and key.
func (j *judgement) standing(panes []pane) map[group][]pane {
	all := make([]rig.Result, len(panes))
	byID := map[string]pane{}
	id := func(r *rig.Result) string {
		return fmt.Sprintf("%s %d %d %d %d %s", r.Window.Name, r.Window.StartMS, r.Window.EndMS, r.Pane.Revision, r.Pane.Index, r.Key)
	}
	for i, p := range panes {
		all[i] = p.Result
		byID[id(&p.Result)] = p
	}
	last, problems := oracle.Standing(all, j.accumulation)
	for _, text := range problems {
		j.account(0, 0, "%s: %s", j.name, text)
	}
	out := map[group][]pane{}
	for i := range last {
		p := byID[id(&last[i])]
		at := group{p.Window.Name, p.Key}
		out[at] = append(out[at], p)
	}
	return out
}

// take divides panes into those of a window and the others. Where panes discard, those of the sessions that became part of one are
// its own, too.
func (j *judgement) take(w oracle.Pane, panes []pane) (its, others []pane) {
	for _, p := range panes {
		at := p.Window
		same := at.StartMS == w.Start && at.EndMS == w.End
		part := j.accumulation == spec.Discarding && at.Type == window.KindSession.String() && at.StartMS >= w.Start && at.EndMS <= w.End
		if same || part {
			its = append(its, p)
		} else {
			others = append(others, p)
		}
	}
	return its, others
}

// together adds up panes that discard. Every value is there once, so that distinct values add up, too; first and last are those of one
// of the panes, the wanted ones if any has them.
func together(panes []pane, first, last float64) numbers {
	all := panes[0].Results
	for _, p := range panes[1:] {
		r := p.Results
		all.Count, all.Sum, all.Distinct = all.Count+r.Count, all.Sum+r.Sum, all.Distinct+r.Distinct
		all.Min, all.Max = min(all.Min, r.Min), max(all.Max, r.Max)
		if r.First == first {
			all.First = r.First
		}
		if r.Last == last {
			all.Last = r.Last
		}
	}
	return all
}

func (j *judgement) compare(w oracle.Pane, panes []pane) {
	n, sum, _ := oracle.Moments(w.Values)
	first, last := oracle.Edges(w.Events)
	r := together(panes, first, last)
	if missing := int64(n) - int64(r.Count); missing != 0 {
		j.account(max(missing, 0), max(-missing, 0), "%s: %s has %v records, want %d", j.name, w.ID(), r.Count, n)
		return
	}
	// Values are whole and small enough that their sums are exact.
	if r.Sum != sum || r.Min != slices.Min(w.Values) || r.Max != slices.Max(w.Values) {
		j.account(1, 1, "%s: %s has the right number of records, but not the right ones: sum %v, want %v", j.name, w.ID(), r.Sum, sum)
		return
	}
	if d := float64(oracle.Distinct(w.Values)); r.First != first || r.Last != last || d <= 1024 && r.Distinct != d {
		j.account(1, 1, "%s: %s has the right records, but first %v, last %v, distinct %v, want %v, %v, %v", j.name, w.ID(), r.First, r.Last, r.Distinct, first, last, d)
	}
}

// revisions checks that every pane is of a plan, in an order that can be, and has something to say. They are ascending.
func (j *judgement) revisions(panes []pane) {
	plans := map[int64]bool{}
	for _, p := range j.plans {
		plans[p.Plan] = true
	}
	newest := map[string]pane{}
	for _, p := range panes {
		id := idOf(p)
		if p.Pane.Timing == "early" {
			j.early++
		}
		if len(p.Pane.Supersedes) > 0 {
			j.replacing++
		}
		if !plans[p.Pane.Revision] {
			j.account(0, 0, "%s: %s has revision %d, of which the ledger knows nothing: a dead attempt is visible", j.name, id, p.Pane.Revision)
		}
		if p.Results.Count == 0 {
			j.account(0, 0, "%s: %s went out with revision %d, and is empty", j.name, id, p.Pane.Revision)
		}
		j.follows(id, newest[id], p)
		newest[id] = p
	}
}

// follows checks a pane against the one before of its window; that is empty where there is none.
func (j *judgement) follows(id string, old, p pane) {
	again := old.Pane.Timing != ""
	timings := []string{"early", "on_time", "late"} // in this order panes of a window go out
	before, now := slices.Index(timings, old.Pane.Timing), slices.Index(timings, p.Pane.Timing)
	switch {
	case again && old.Pane.Revision == p.Pane.Revision:
		j.account(0, int64(p.Results.Count), "%s: %s was published twice with revision %d", j.name, id, p.Pane.Revision)
	case again && (now < before || p.Pane.Timing == "on_time" && now == before):
		j.account(0, int64(p.Results.Count), "%s: %s went out %s with revision %d, and again %s with %d", j.name, id, old.Pane.Timing, old.Pane.Revision, p.Pane.Timing, p.Pane.Revision)
	case p.Pane.Timing == "late" && j.lateness(p.Window.Name) == 0:
		j.account(0, int64(p.Results.Count), "%s: %s went out again with revision %d, late, where nothing may be", j.name, id, p.Pane.Revision)
	case again && p.Pane.Timing != "on_time" && j.accumulation != spec.Discarding && p.Results.Count <= old.Results.Count:
		j.account(0, 0, "%s: %s went out again with revision %d and no record more", j.name, id, p.Pane.Revision)
	}
}

func (j *judgement) lateness(windowName string) event.Span {
	for i := range j.defs {
		if j.defs[i].Name == windowName {
			return j.defs[i].Lateness
		}
	}
	return 0
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
