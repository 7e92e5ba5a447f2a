package e2e

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/core/window"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/tests/oracle"
	"github.com/llm-auto-optimizer/tidemark/tests/rig"
)

// query is one spec of the pipeline that changes.
type query struct {
	app  *spec.App
	pipe *pipeline.Pipeline
}

func (q query) defs() []window.Definition { return q.pipe.Windows }

// keyless reports whether all records are one group.
func (q query) keyless() bool { return !q.pipe.Key.RecordKey && len(q.pipe.Key.Fields) == 0 }

// changes is what happens to a flow whose spec changes: functions of earlier specs stay at work beside the new ones.
type changes struct {
	*trouble
	orderly bool         // records come in order, and no watermark passes them
	queries []query      // in the order of their deployment; one that was deployed again is there again
	zombies []*rig.World // functions of earlier specs
}

// newChanges is a flow whose spec is going to change, with an injector that is on.
func newChanges(r *rand.Rand, i *injector) (*changes, error) {
	scale := pick[event.Span](r, 1, 37, 1000)
	c := &changes{orderly: r.IntN(2) == 0}
	var err error
	if c.trouble, err = newTrouble(r, i, randomDefinitions(r, scale), c.watermark(r, scale), randomTrigger(r, scale), scale); err != nil {
		return nil, err
	}
	c.disorder, c.spoil, c.step = !c.orderly, true, c.haunt
	c.queries = []query{{c.App, c.Pipelines[0]}}
	return c, nil
}

// watermark is a random one. Event times are never as far ahead of Kafka's timestamps as its bound, if it has one.
func (c *changes) watermark(r *rand.Rand, scale event.Span) spec.Watermark {
	w := randomWatermark(r, scale)
	w.MaxFutureSkew = pick[event.Span](r, -1, 100*scale, 100*scale)
	if c.orderly {
		w.IdleTimeout, w.MaxOutOfOrder = 0, pick[event.Span](r, 0, 1_000_000*scale)
	}
	return w
}

// randomChange is the spec with other windows, other lateness, another trigger, another key, other aggregates, or several of these.
func (c *changes) randomChange() (*spec.App, error) {
	r, scale, old := c.r, c.scale, c.queries[len(c.queries)-1]
	defs := slices.Clone(old.defs())
	if r.IntN(3) > 0 {
		defs = randomDefinitions(r, scale)
	} else {
		for i := range defs {
			defs[i].Lateness = pick[event.Span](r, 0, 5, 20, 100) * scale
		}
	}
	app, err := propertyApp(defs, c.watermark(r, scale))
	if err != nil {
		return nil, err
	}
	t := triggered{old.pipe.Trigger, old.pipe.Accumulation}
	if r.IntN(2) == 0 {
		t = randomTrigger(r, scale)
	}
	t.set(app)
	p := &app.Pipelines[0]
	if r.IntN(4) == 0 {
		p.Key = spec.Key{}
	}
	if r.IntN(3) == 0 {
		least := 1
		if t.Accumulation == spec.Discarding {
			least = 2 // count and sum add up
		}
		p.Aggregates[0].Functions = p.Aggregates[0].Functions[:max(least, 1+r.IntN(len(p.Aggregates[0].Functions)))]
	}
	app.BufferSize = pick(r, 1, 3, 10, 10_000)
	return app, nil
}

// change deploys another spec, or an earlier one again, whose functions are then told to take over. So are they where an earlier
// one has not begun yet: it may do so still.
func (c *changes) change() error {
	app, again := c.App, false
	if len(c.queries) > 1 && c.r.IntN(3) == 0 {
		app, again = c.queries[c.r.IntN(len(c.queries)-1)].app, true
	}
	for try := 0; app.Pipelines[0].Fingerprint() == c.Pipelines[0].Fingerprint(); try++ {
		var err error
		if app, err = c.randomChange(); err != nil {
			return err
		}
		again = slices.ContainsFunc(c.queries, func(q query) bool { return q.pipe.Fingerprint() == app.Pipelines[0].Fingerprint() })
		if try > 100 {
			return fmt.Errorf("no other spec in %d tries", try)
		}
	}
	n, err := c.World.Deploy(app)
	if err != nil {
		return err
	}
	all, err := c.haveBegun()
	if err != nil {
		return err
	}
	n.Nudge.TakeOver = again || !all || c.r.IntN(4) == 0 // the last changes nothing
	c.store.of(n.Pipelines[0])
	c.World.Nudge = apply.Nudge{}
	c.zombies = append(c.zombies, c.World)
	if len(c.zombies) > 3 {
		c.zombies = c.zombies[1:]
	}
	c.queries = append(c.queries, query{n.App, n.Pipelines[0]})
	c.World, c.defs = n, n.Pipelines[0].Windows
	return nil
}

// haveBegun reports whether every spec has had its genesis.
func (c *changes) haveBegun() (bool, error) {
	plans, err := c.ledger()
	if err != nil {
		return false, err
	}
	for _, q := range c.queries {
		if !slices.ContainsFunc(plans, func(p oracle.Plan) bool { return p.Fingerprint == q.pipe.Fingerprint() }) {
			return false, nil
		}
	}
	return true, nil
}

// haunt lets functions of an earlier spec do something. Whatever they answer, it must change nothing.
func (c *changes) haunt(ctx context.Context) error {
	if len(c.zombies) == 0 {
		return nil
	}
	z := c.zombies[c.r.IntN(len(c.zombies))]
	z.Clock = c.Clock
	switch c.r.IntN(5) {
	case 0:
		z.Restart()
	case 1, 2:
		_ = z.RunFire(ctx) // halts, mostly
	default:
		payload := map[event.TopicPartition][]event.Record{}
		for _, tp := range c.tps {
			if log := c.logs[tp]; len(log) > 0 && c.r.IntN(2) == 0 {
				from := c.r.IntN(len(log))
				payload[tp] = log[from : from+1+c.r.IntN(len(log)-from)]
			}
		}
		if len(payload) > 0 {
			_, _ = z.Deliver(ctx, payload) // with failures, mostly
		}
	}
	return nil
}

// settle makes the last spec's plan, if it has none yet.
func (c *changes) settle(ctx context.Context) error {
	for range 3 {
		if c.begun() {
			return nil
		}
		if err := c.RunFire(ctx); err != nil {
			return err
		}
	}
	return fmt.Errorf("the last spec of %d has not begun", len(c.queries))
}

// reign is the time in which one spec made the plans.
type reign struct {
	query
	plans        []oracle.Plan // of its own, beginning with the genesis
	first, last  int64         // number of the plan before its own, and of its last; last < 0: it goes on
	since, until event.Time    // watermarks at its beginning and end
	from         map[event.TopicPartition]oracle.PlanPartition
	to           map[event.TopicPartition]int64 // offsets at its end, nil: it goes on
}

// begins is the offset from which a reign judges a partition's records.
func (g *reign) begins(tp event.TopicPartition) int64 { return g.from[tp].Offset }

// has reports whether a record came before the end of the reign.
func (g *reign) has(tp event.TopicPartition, offset int64) bool {
	return g.to == nil || offset < g.to[tp]
}

// reigns reads from the ledger which spec made plans when.
func (c *changes) reigns() ([]*reign, error) {
	plans, err := c.ledger()
	if err != nil {
		return nil, err
	}
	var out []*reign
	known := map[string]*reign{}
	for _, p := range plans {
		g := known[p.Fingerprint]
		switch {
		case p.EndedBy != "":
			g.last, g.until, g.to = p.Plan, p.W(), map[event.TopicPartition]int64{}
			for _, q := range p.Partitions {
				g.to[event.TopicPartition{Topic: q.Topic, Partition: q.Partition}] = q.Offset
			}
			delete(known, p.Fingerprint)
			continue
		case g == nil:
			at := slices.IndexFunc(c.queries, func(q query) bool { return q.pipe.Fingerprint() == p.Fingerprint })
			if at < 0 || (p.TakesOver == "") != (len(out) == 0) {
				return nil, fmt.Errorf("a genesis that cannot be: %+v", p)
			}
			g = &reign{query: c.queries[at], first: p.Plan, last: -1, since: p.W(), until: event.MaxTime, from: map[event.TopicPartition]oracle.PlanPartition{}}
			known[p.Fingerprint], out = g, append(out, g)
		}
		for _, q := range p.Partitions {
			tp := event.TopicPartition{Topic: q.Topic, Partition: q.Partition}
			if _, ok := g.from[tp]; !ok {
				g.from[tp] = q
			}
		}
		g.plans = append(g.plans, p)
	}
	for i, g := range out[:len(out)-1] {
		if g.to == nil || out[i+1].first != g.last {
			return nil, fmt.Errorf("reign %d of %d has not ended when the next one began", i, len(out))
		}
	}
	if len(known) != 1 || known[c.Pipelines[0].Fingerprint()] == nil {
		return nil, fmt.Errorf("%d pipelines are live, not the last one alone", len(known))
	}
	return out, nil
}

// verifyReigns holds what was published against a batch computation for each spec: windows that ended before its reign are not
// its own, those that end in it are whole, and each record is late, or failed, once.
func (c *changes) verifyReigns() (problems []string, lateEvents []oracle.Event, err error) {
	reigns, err := c.reigns()
	if err != nil {
		return nil, nil, err
	}
	published, err := c.published()
	if err != nil {
		return nil, nil, err
	}
	for i, g := range reigns {
		want, open, late, err := c.judgeReign(g)
		if err != nil {
			return nil, nil, err
		}
		lateEvents = append(lateEvents, late...)
		var got []rig.Result
		for _, r := range published {
			if r.Pane.Revision > g.first && (g.last < 0 || r.Pane.Revision <= g.last) {
				got = append(got, r)
			}
		}
		found := g.paneProblems(want, open, got)
		if i+1 < len(reigns) && g.until != event.MinTime {
			held := event.Span(0)
			for d := range g.defs() {
				held = max(held, g.hold(&g.defs()[d]))
			}
			if next := reigns[i+1]; next.since != g.until.Add(-held) {
				found = append(found, fmt.Sprintf("windows are held for %d, but the next reign begins at the watermark %d", held, int64(next.since)))
			}
		}
		if u := oracle.Unbalanced(g.plans); u != "" {
			found = append(found, "the ledger does not balance: "+u)
		}
		found = append(found, c.bookProblems(g)...)
		for _, p := range found {
			problems = append(problems, fmt.Sprintf("reign %d of %d, plans (%d, %d], watermarks (%d, %d], from %+v to %v: %s", i, len(reigns), g.first, g.last, int64(g.since), int64(g.until), g.from, g.to, p))
		}
	}
	wantLate := make([]rig.Side, len(lateEvents))
	for i, e := range lateEvents {
		wantLate[i] = rig.Side{Topic: e.Topic, Partition: e.Partition, Offset: e.Offset, Reason: string(event.ReasonLate)}
	}
	for topic, want := range map[string][]rig.Side{c.Pipelines[0].LateTopic: wantLate, c.Pipelines[0].DeadLetterTopic: c.bad} {
		sides, err := c.compareSides(topic, topic, want)
		if err != nil {
			return nil, nil, err
		}
		problems = append(problems, sides...)
	}
	return problems, lateEvents, nil
}

// judgeReign computes the panes of a reign, what was open at its end, and the records that were late in it.
func (c *changes) judgeReign(g *reign) (panes, open []oracle.Pane, late []oracle.Event, err error) {
	var all, own []oracle.Event // up to its end; from its beginning on
	fences := c.store.of(g.pipe).fences
	for _, e := range c.events {
		if !g.has(e.TopicPartition, e.Offset) {
			continue
		}
		if g.keyless() {
			e.Key = ""
		}
		all = append(all, e)
		if e.Offset >= g.begins(e.TopicPartition) {
			own = append(own, e)
			if _, ok := fences[place{e.TopicPartition, e.Offset}]; !ok {
				return nil, nil, nil, fmt.Errorf("%s/%d offset %d was never folded by %s", e.Topic, e.Partition, e.Offset, g.pipe.Group())
			}
		}
	}
	folded := func(e oracle.Event) event.Time {
		if e.Offset < g.begins(e.TopicPartition) {
			return g.since
		}
		return fences[place{e.TopicPartition, e.Offset}]
	}
	_, late = oracle.Compute(g.defs(), own, folded)
	for i := range g.defs() {
		d := g.defs()[i : i+1]
		fence := func(e oracle.Event) event.Time {
			if e.Offset < g.begins(e.TopicPartition) {
				return g.since
			}
			return oracle.Fence(g.plans, e.TopicPartition, e.Offset)
		}
		taken := func(e oracle.Event) bool {
			_, refused := oracle.Compute(d, []oracle.Event{e}, folded)
			return len(refused) == 0
		}
		if d[0].Kind == window.KindSession {
			fence = func(e oracle.Event) event.Time { // the replay takes all there is
				if e.Offset < g.begins(e.TopicPartition) {
					return event.MinTime
				}
				return folded(e)
			}
			taken = func(e oracle.Event) bool {
				return e.Offset >= g.from[e.TopicPartition].ReplayFrom && e.Time.Add(d[0].Lateness) >= fence(e)
			}
		}
		kept := slices.DeleteFunc(slices.Clone(all), func(e oracle.Event) bool { return !taken(e) })
		found, _ := oracle.Compute(d, kept, fence)
		gained := gains(d, kept, fence, func(e oracle.Event) bool { return e.Offset >= g.begins(e.TopicPartition) })
		hold := g.hold(&d[0])
		for _, p := range found {
			switch {
			case p.End.Add(hold) > g.until:
				open = append(open, p)
			case p.End.Add(hold) > g.since || gained(p) && !g.pipe.Trigger.FinalOnly:
				panes = append(panes, g.unsent(&d[0], p))
			}
		}
	}
	return panes, open, late, nil
}

// hold is how long after its end a window goes out.
func (g *reign) hold(d *window.Definition) event.Span {
	if g.pipe.Trigger.FinalOnly {
		return d.Lateness
	}
	return 0
}

// unsent is what panes that discard have of a window: without the records of the reigns before, if it, or the session that they made
// up, had ended by then.
func (g *reign) unsent(d *window.Definition, p oracle.Pane) oracle.Pane {
	if g.pipe.Accumulation != spec.Discarding || g.pipe.Trigger.FinalOnly {
		return p
	}
	inherited := func(e oracle.Event) bool { return e.Offset < g.begins(e.TopicPartition) }
	sent := func(event.Time) bool { return p.End <= g.since }
	if d.Kind == window.KindSession {
		before, _ := oracle.Compute([]window.Definition{*d}, slices.DeleteFunc(slices.Clone(p.Events), func(e oracle.Event) bool { return !inherited(e) }),
			func(oracle.Event) event.Time { return event.MinTime })
		sent = func(at event.Time) bool {
			return slices.ContainsFunc(before, func(s oracle.Pane) bool { return s.Start <= at && at < s.End && s.End <= g.since })
		}
	}
	p.Events = slices.DeleteFunc(slices.Clone(p.Events), func(e oracle.Event) bool { return inherited(e) && sent(e.Time) })
	p.Values = nil
	for _, e := range p.Events {
		p.Values = append(p.Values, e.Value)
	}
	return p
}

// paneProblems follows the panes of a reign from its beginning: the pane history of a reign begins anew. Windows that are open then
// begin with index 0, whatever went out of them before, and replace nothing; those that had ended have one pane, of the reign before.
// Panes of windows that are open at the end are the next reign's to replace.
func (g *reign) paneProblems(want, open []oracle.Pane, got []rig.Result) []string {
	mode := g.pipe.Accumulation
	last, problems := oracle.Standing(append(g.before(got), got...), mode)
	last = slices.DeleteFunc(last, func(r rig.Result) bool {
		return r.Results == nil || slices.ContainsFunc(open, func(p oracle.Pane) bool {
			within := p.Start == r.Window.StartMS && p.End == r.Window.EndMS || r.Window.Type == "session" && p.Start <= r.Window.StartMS && r.Window.EndMS <= p.End
			return within && p.Window == r.Window.Name && p.Key == r.Key
		})
	})
	if mode == spec.Discarding {
		return append(problems, oracle.Sums(want, last)...)
	}
	return append(problems, oracle.Problems(want, last, false)...)
}

// before are the panes of the reign before, all of index 0, that those of this one take for granted: of windows that had ended.
func (g *reign) before(got []rig.Result) []rig.Result {
	type id struct {
		window, key string
		start, end  event.Time
	}
	first := map[id]bool{} // panes of index 0, here and before
	for i := range got {
		if r := &got[i]; r.Pane.Index == 0 {
			first[id{r.Window.Name, r.Key, r.Window.StartMS, r.Window.EndMS}] = true
		}
	}
	var out []rig.Result
	taken := func(r *rig.Result, start, end event.Time) {
		at := id{r.Window.Name, r.Key, start, end}
		if first[at] || end > g.since {
			return
		}
		first[at] = true
		x := rig.Result{Key: r.Key}
		x.Window, x.Pane.Revision = r.Window, g.first
		x.Window.StartMS, x.Window.EndMS = start, end
		out = append(out, x)
	}
	for i := range got {
		r := &got[i]
		for _, o := range r.Pane.Supersedes {
			if o.Index == 0 {
				taken(r, o.StartMS, o.EndMS)
			}
		}
		if g.pipe.Accumulation != spec.Discarding || r.Pane.Index != 1 || slices.ContainsFunc(got, func(x rig.Result) bool {
			return x.Pane.Index == 0 && x.Window.Name == r.Window.Name && x.Key == r.Key && x.Window.StartMS >= r.Window.StartMS && x.Window.EndMS <= r.Window.EndMS &&
				(r.Window.Type == "session" || x.Window == r.Window)
		}) {
			continue
		}
		end := r.Window.EndMS
		if r.Window.Type == "session" { // some session of before became part of this one
			end = min(end, g.since)
		}
		taken(r, r.Window.StartMS, end)
	}
	return out
}

// gains returns whether a pane has records that came in the reign.
func gains(d []window.Definition, kept []oracle.Event, fence func(oracle.Event) event.Time, own func(oracle.Event) bool) func(oracle.Pane) bool {
	news := slices.DeleteFunc(slices.Clone(kept), func(e oracle.Event) bool { return !own(e) })
	if d[0].Kind == window.KindSession {
		return func(p oracle.Pane) bool {
			return slices.ContainsFunc(news, func(e oracle.Event) bool { return e.Key == p.Key && p.Start <= e.Time && e.Time < p.End })
		}
	}
	ids := map[string]bool{}
	found, _ := oracle.Compute(d, news, fence)
	for _, p := range found {
		ids[p.ID()] = true
	}
	return func(p oracle.Pane) bool { return ids[p.ID()] }
}

// bookProblems says where the newest totals of a reign are not the number of records that it has to answer for: all that came in
// it, and what it inherited in slices.
func (c *changes) bookProblems(g *reign) (problems []string) {
	last := map[event.TopicPartition]oracle.PlanPartition{}
	planned := false
	for _, p := range g.plans {
		planned = planned || p.Plan > g.first
		for _, q := range p.Partitions {
			last[event.TopicPartition{Topic: q.Topic, Partition: q.Partition}] = q
		}
	}
	if !planned {
		return nil // it counts with its first plan
	}
	for _, tp := range slices.SortedFunc(maps.Keys(last), func(a, b event.TopicPartition) int { return int(a.Partition - b.Partition) }) {
		want := int64(0)
		for _, e := range c.events {
			if e.TopicPartition != tp || !g.has(tp, e.Offset) || e.Offset < g.from[tp].ReplayFrom {
				continue
			}
			if e.Offset >= g.begins(tp) || c.inherits(g, e) {
				want++
			}
		}
		for _, b := range c.bad {
			if b.Partition == tp.Partition && b.Offset >= g.begins(tp) && g.has(tp, b.Offset) {
				want++
			}
		}
		for _, n := range c.noise {
			if n.TopicPartition == tp && n.offset >= g.begins(tp) && g.has(tp, n.offset) {
				want++
			}
		}
		if last[tp].In != want {
			problems = append(problems, fmt.Sprintf("the ledger of %s/%d has %d records, want %d", tp.Topic, tp.Partition, last[tp].In, want))
		}
	}
	return problems
}

// inherits reports whether the replay of a reign's beginning takes a record.
func (c *changes) inherits(g *reign, e oracle.Event) bool {
	for _, d := range g.defs() {
		if d.Kind == window.KindSession {
			return true
		}
	}
	panes, _ := oracle.Compute(g.defs(), []oracle.Event{e}, func(oracle.Event) event.Time { return g.since })
	return len(panes) > 0
}

// act plays a random run in which the spec changes so many times, and judges it. It returns the records that were late.
func (c *changes) act(ctx context.Context, times int) ([]oracle.Event, error) {
	for i := range times + 1 {
		if i > 0 {
			if err := c.change(); err != nil {
				return nil, err
			}
			if !c.calm && c.r.IntN(2) == 0 { // in the hand-over itself
				c.armed, c.skip, c.effect = pick(c.r, faultPoints()...), c.r.IntN(4), effect(c.r.IntN(int(effects)))
			}
		}
		if err := c.steps(ctx, 10+c.r.IntN(50)); err != nil {
			return nil, err
		}
	}
	c.off = true
	for _, step := range []func(context.Context) error{c.expire, func(context.Context) error { c.Restart(); return nil }, c.settle, c.Flush} {
		if err := c.limited(ctx, step); err != nil {
			return nil, err
		}
	}
	problems, late, err := c.verifyReigns()
	if err == nil && len(problems) > 0 {
		err = fmt.Errorf("%s", strings.Join(problems, "\n"))
	}
	if err == nil && c.orderly && len(late) > 0 {
		err = fmt.Errorf("%d records are late: %v", len(late), late)
	}
	return late, err
}

// A spec that changes while windows are open: each window goes out once on time, by the spec in whose reign it ends, whole; no
// record is late twice; the books of each spec balance. Functions of earlier specs go on beside the new ones, and earlier specs
// come back.
func TestChangedQueriesLoseAndDoubleNothing(t *testing.T) {
	late, reigns, panes := 0, 0, 0
	properties(t, func(t *testing.T, r *rand.Rand, _ int) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) { // they wait for each other's transactions
			c, err := newChanges(r, &injector{passed: map[string]int{}, hit: map[string]int{}})
			if err != nil {
				t.Fatal(err)
			}
			c.off, c.calm = true, true
			events, err := c.act(t.Context(), 1+r.IntN(4))
			if err != nil {
				t.Errorf("%v\n%s", err, c.describeAll())
				return
			}
			all, err := c.reigns()
			if err != nil {
				t.Fatal(err)
			}
			late, reigns, panes = late+len(events), reigns+len(all), panes+len(c.Log.Records(c.Pipelines[0].SinkTopic))
		})
	})
	t.Logf("%d panes, %d late records, %d reigns", panes, late, reigns)
}

// describeAll says what a round was about.
func (c *changes) describeAll() string {
	var out strings.Builder
	for i, q := range c.queries {
		fmt.Fprintf(&out, "spec %d: %s, key %+v, watermark %+v, trigger %+v, %s\n", i, q.pipe.Fingerprint(), q.pipe.Key, q.pipe.Watermark, q.pipe.Trigger, q.pipe.Accumulation)
		for _, d := range q.defs() {
			fmt.Fprintf(&out, "    %+v\n", d)
		}
	}
	return out.String()
}
