package recompute

import (
	"cmp"
	"fmt"
	"slices"
	"sort"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/core/window"
)

// The panes of a global window are known one by one, since no fence refuses a record: a pane has all records below the offsets of the
// plan that is its revision, and where panes discard those of them that no pane before had. Which plans there were, and up to which
// offsets, depends on how batches came; the ledger says it. With that, each plan after which a pane has to go out is known, too: the
// first with which as many records wait as the trigger counts, the first that passed a multiple of the interval while any wait, and
// the one that closed everything.

// allTime returns the global window.
func allTime() window.Window { return window.Window{Start: event.MinTime, End: event.MaxTime} }

// global reports whether the panes of a global window can be compared, and says why if they cannot.
func (j *job) global(d *window.Definition) bool {
	switch {
	case j.From != event.MinTime || j.To != event.MaxTime:
		return false // it is in no range
	case j.before != event.MinTime:
		j.out.leaveOut("windows %s: a global window has all records from the first on", d.Name)
	case j.past.atOnce:
		j.out.leaveOut("windows %s: panes of a global window without transactions: those of attempts that died are among them, and nothing tells what these had", d.Name)
	case j.pipe.Accumulation == spec.Discarding && j.past.takesOver != "":
		j.out.leaveOut("windows %s: panes that discard, of a pipeline that took over: what the one before had sent is not computed again", d.Name)
	default:
		return true
	}
	return false
}

// unending is the work on a global window definition beside the members of the present key.
type unending struct {
	large  bool  // the present key has more members than fit
	keys   int64 // that had
	first  []byte
	panes  int64 // that were not computed again
	effort int64 // how many members panes of the present key may still be computed from
}

// leastEffort is how many members the panes of one key are computed from before the rest is left out; more for a key with many.
const (
	leastEffort  = 200_000
	timesMembers = 20
)

// holdForever keeps a member of a global window, unless its key has too many.
func (c *comparison) holdForever(m member) {
	if c.unending.large {
		return
	}
	if c.bytes += m.size() + perPlan; c.bytes > c.Memory/4 {
		if c.unending.keys++; c.unending.keys == 1 {
			c.unending.first = c.key
		}
		c.members, c.unending.large = nil, true
		return
	}
	c.members = append(c.members, m)
}

// perPlan is what the plan that first had a member takes in memory, and the member's place in the order of plans.
const perPlan = 16

// emission is a pane that has to go out: with a plan, of the members up to one in the order of plans.
type emission struct {
	plan   int64
	to     int
	closes bool // it is the last one, and goes out whatever it has to say
}

// everAfter compares the global window of the present key.
func (c *comparison) everAfter() error {
	members, large := c.members, c.unending.large
	c.members, c.bytes, c.unending.large = nil, 0, false
	c.unending.effort = max(leastEffort, timesMembers*int64(len(members)))
	if err := c.upTo(allTime()); err != nil {
		return err
	}
	all, err := c.all(allTime())
	if err != nil || large {
		return err
	}
	c.follow(allTime(), all)
	if c.out.Groups++; c.out.Groups%10_000 == 0 {
		c.Tell(c.pipe.Name, "windows "+c.def.Name, c.out.Groups, 0)
	}
	c.emitted(members, all)
	return nil
}

// emitted compares the panes of a key with those that have to be there.
func (c *comparison) emitted(members []member, all []*pane) {
	byPlan := map[int64]*pane{}
	for _, p := range all {
		byPlan[p.revision] = p
	}
	plans := make([]int64, len(members))
	order := make([]int, len(members))
	for i := range members {
		plans[i], order[i] = c.plan(&members[i]), i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(plans[a], plans[b]) })
	sent := 0
	var last *pane
	emissions := c.emissions(plans, order)
	for i, e := range emissions {
		from := 0
		if c.pipe.Accumulation == spec.Discarding {
			from = sent
		}
		part := func() []member { return gather(members, order[from:e.to]) }
		its, must := byPlan[e.plan], i == len(emissions)-1
		delete(byPlan, e.plan)
		switch {
		case its != nil:
			if c.affords(int64(e.to-from), must) {
				c.sameAs(part(), its)
			}
			last = its
		case c.pipe.Trigger.OnChange && !e.closes && (last == nil && c.oldest > 0 || last != nil && c.unchanged(part, int64(e.to-from), last)):
		case e.plan < c.oldest:
			last = nil
		default:
			d := c.difference(Missing, c.key, allTime())
			taken := part()
			d.Values, d.Records = c.query.differences(taken, []byte(`{}`)), c.ranges(taken)
			d.Note = fmt.Sprintf("revision %d, with which %d records had to go out", e.plan, e.to-sent)
			c.out.differ(c.Most, d)
		}
		sent = e.to
	}
	for _, p := range all {
		if byPlan[p.revision] == p {
			d := c.difference(Superfluous, c.key, allTime())
			d.At, d.Note = &p.at, fmt.Sprintf("revision %d, with which nothing had to go out", p.revision)
			c.out.differ(c.Most, d)
		}
	}
}

// plan is the first one that had a member. What was read again at a hand-over belongs to the first of the new pipeline.
func (c *comparison) plan(m *member) int64 {
	s := c.sources[m.part]
	if m.offset < s.base {
		return c.past.first
	}
	by, _ := s.judged(m.offset)
	return by.plan
}

// emissions lists the panes of a key that have to go out, as long as all are told apart.
func (c *comparison) emissions(plans []int64, order []int) []emission {
	var out []emission
	sent := 0
	for to := 0; to < len(order); {
		plan := plans[order[to]]
		for to < len(order) && plans[order[to]] == plan {
			to++
		}
		next := c.past.plan + 1
		if to < len(order) {
			next = plans[order[to]]
		}
		at, ok := plan, c.pipe.Trigger.Count > 0 && int64(to-sent) >= c.pipe.Trigger.Count
		if !ok {
			at, ok = c.past.tick(plan, next)
		}
		if ok {
			out = append(out, emission{at, to, at == c.past.closes})
			sent = to
		}
	}
	closes := c.past.closes
	open := len(out) == 0 || out[len(out)-1].plan < closes
	if closes > 0 && len(order) > 0 && open && (sent < len(order) || c.pipe.Accumulation != spec.Discarding) {
		out = append(out, emission{closes, len(order), true})
	}
	return out
}

// affords reports whether one more pane can be computed from so many members: the last one of a key always, of many others only some.
func (c *comparison) affords(n int64, must bool) bool {
	if c.unending.effort -= n; must || c.unending.effort >= 0 {
		return true
	}
	c.unending.panes++
	return false
}

// unchanged reports whether a pane could be held back, because it would have the results of the last one.
func (c *comparison) unchanged(part func() []member, n int64, last *pane) bool {
	return !c.affords(n, false) || len(c.query.differences(part(), last.results)) == 0
}

func (c *comparison) sameAs(taken []member, got *pane) {
	values := c.query.differences(taken, got.results)
	if len(values) == 0 {
		return
	}
	d := c.difference(Different, c.key, allTime())
	d.Values, d.At, d.Records, d.Note = values, &got.at, c.ranges(taken), fmt.Sprintf("revision %d", got.revision)
	c.out.differ(c.Most, d)
}

// gather returns some members in the order of time.
func gather(members []member, of []int) []member {
	of = slices.Sorted(slices.Values(of))
	out := make([]member, len(of))
	for i, n := range of {
		out[i] = members[n]
	}
	return out
}

// tick returns the first plan from one on, and before another, with which whatever waits goes out: because it was time, or because it
// closed everything.
func (h *history) tick(from, before int64) (int64, bool) {
	at := h.closes
	if at < from || at >= before {
		at = before
	}
	if i := sort.Search(len(h.ticks), func(i int) bool { return h.ticks[i] >= from }); i < len(h.ticks) {
		at = min(at, h.ticks[i])
	}
	return at, at < before
}

// time notes when a plan was made, or what is no plan but moves the time of the last one.
func (h *history) time(e *entry, at event.Time, every event.Span) {
	if e.HeldBy != genesis && e.HeldBy != claim && e.HeldBy != ended && e.TakesOver == "" {
		if h.first == 0 {
			h.first = e.Plan
		}
		if every > 0 && h.at.Floor(every, 0) < at.Floor(every, 0) {
			h.ticks = append(h.ticks, e.Plan)
		}
		if h.closes == 0 && h.watermark == event.MaxTime {
			h.closes = e.Plan
		}
	}
	h.at = max(h.at, at)
}
