package simulation

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/core/window"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/tests/oracle"
	"github.com/llm-auto-optimizer/tidemark/tests/rig"
)

// book follows the plans of one pipeline: which of them were committed, and under which fence each record was folded in the
// history of the slot that the plan took it from.
type book struct {
	pipe   *pipeline.Pipeline
	query  *Query
	plan   *apply.Plan
	raised map[key]map[int64]event.Time // fences of the slot at the moment of a raise
	fences []map[int64]event.Time       // by partition: of the offsets that plans have
	plans  []oracle.Plan                // that were committed
	rested *apply.Plan                  // the last one when it was looked whether the run is over
}

type key struct {
	token statestore.Token
	event.TopicPartition
	offset int64
}

func newBook(p *pipeline.Pipeline, q *Query, partitions int) *book {
	b := &book{pipe: p, query: q, plan: &apply.Plan{Watermark: event.MinTime}, raised: map[key]map[int64]event.Time{}}
	for range partitions {
		b.fences = append(b.fences, map[int64]event.Time{})
	}
	return b
}

func (s *Sim) book(id string) *book {
	for _, b := range s.books {
		if b.pipe.ID() == id {
			return b
		}
	}
	return nil
}

// committed looks whether plans have been committed since it was called last, and checks what must hold at each.
func (s *Sim) committed() {
	for _, b := range s.books {
		ctx, cancel := context.WithCancel(s.ctx)
		cancel() // nobody waits for another transaction here
		plan, err := apply.ReadPlan(ctx, s.log, b.pipe)
		if err != nil || plan.At == b.plan.At && plan.Number == b.plan.Number && len(plan.Partitions) == len(b.plan.Partitions) {
			continue
		}
		s.enter(b, plan)
	}
}

func (s *Sim) enter(b *book, plan *apply.Plan) {
	s.say("    PLAN %d of %s: W=%d", plan.Number, b.pipe.Name, s.rel(plan.Watermark))
	if plan.Number > b.plan.Number {
		s.result.Plans++
	}
	if plan.Number < b.plan.Number || plan.Number > b.plan.Number+1 || plan.Watermark < b.plan.Watermark {
		s.problem(Regress, "%s: plan %d W=%d after plan %d W=%d", b.pipe.Name, plan.Number, s.rel(plan.Watermark), b.plan.Number, s.rel(b.plan.Watermark))
	}
	for p := range b.fences {
		tp := s.sc.partition(p)
		now, ok := plan.Partitions[tp]
		if !ok {
			continue
		}
		s.counted(b, p, &now)
		before, known := b.plan.Partitions[tp]
		s.say("      %d: to %d, replay from %d", p, now.Offset, now.ReplayFrom)
		switch {
		case !known:
			continue
		case now.Offset < before.Offset:
			s.problem(Regress, "%s/%d: offset %d of plan %d is below %d of the plan before", b.pipe.Name, p, now.Offset, plan.Number, before.Offset)
		case now.Plan != plan.Number || now.Token == before.Token:
			continue // not of this plan: a partition of its own genesis
		}
		folded := b.raised[key{now.Token, tp, now.Offset}]
		for o := before.Offset; o < now.Offset; o++ {
			f, ok := folded[o]
			if !ok {
				continue // the judge finds out that it was never folded
			}
			if f > plan.Watermark {
				s.problem(LateOpen, "%s/%d offset %d was folded under the fence %d, but plan %d has W=%d", b.pipe.Name, p, o, s.rel(f), plan.Number, s.rel(plan.Watermark))
			}
			b.fences[p][o] = f
		}
	}
	b.plan = plan
	b.plans = append(b.plans, asLedger(b, plan))
}

// seen is what a query makes of the records of one partition.
type seen struct {
	in, filtered, rejected int64
	last                   event.Time // the largest event time read
	taken                  []oracle.Event
	dead                   []rig.Side
}

// see reads the first records of a partition as the query does, up to an offset.
func (s *Sim) see(q *Query, p int, to int64) seen {
	out := seen{last: event.MinTime}
	tp := s.sc.partition(p)
	for i, rec := range s.logs[p] {
		if rec.Offset >= to {
			break
		}
		r := s.sc.Logs[p][i]
		at, filtered, reason := q.Reading.read(r)
		switch out.in++; {
		case reason != "":
			out.rejected++
			out.dead = append(out.dead, rig.Side{Topic: tp.Topic, Partition: tp.Partition, Offset: rec.Offset, Reason: string(reason)})
			continue
		case filtered:
			out.filtered++
		default:
			out.taken = append(out.taken, oracle.Event{TopicPartition: tp, Offset: rec.Offset, Time: at, Key: q.Reading.key(r), Value: q.Reading.value(r, p, i)})
		}
		out.last = max(out.last, at)
	}
	return out
}

// blocks returns the offset of the first record that stops a partition, and whether there is one, now or among the records to come.
func (s *Sim) blocks(q *Query, p int) (int64, bool) {
	if q.policy() != spec.PolicyFail {
		return 0, false
	}
	for i, r := range s.sc.Logs[p] {
		if _, _, reason := q.Reading.read(r); reason != "" {
			if i < len(s.logs[p]) {
				return s.logs[p][i].Offset, true
			}
			return math.MaxInt64, true
		}
	}
	return 0, false
}

// counted compares the running totals and the largest event time that a plan commits with what the records below its offset are.
func (s *Sim) counted(b *book, p int, now *apply.Base) {
	x := s.see(b.query, p, now.Offset)
	want := pipeline.Counts{In: x.in, Filtered: x.filtered}
	switch b.query.policy() {
	case spec.PolicyRetry, spec.PolicyDeadLetter:
		want.Dead = x.rejected
	case spec.PolicySkip:
		want.Skipped = x.rejected
	case spec.PolicyFail:
		if at, ok := s.blocks(b.query, p); ok && now.Offset > at {
			s.problem(Lost, "%s/%d: plan %d has the offset %d, beyond the record that blocks it", b.pipe.Name, p, now.Plan, at)
		}
	}
	got := now.Totals.Counts
	got.Late, got.LateWindows, got.Unassigned = 0, 0, 0 // by fences, and by all plans: the judge looks at what is late
	if got != want {
		s.problem(Unbalanced, "%s/%d: plan %d up to offset %d counts %+v, want %+v", b.pipe.Name, p, now.Plan, now.Offset, got, want)
	}
	if now.MaxTime != x.last {
		s.problem(Wrong, "%s/%d: the largest time of plan %d up to offset %d is %d, want %d", b.pipe.Name, p, now.Plan, now.Offset, s.rel(now.MaxTime), s.rel(x.last))
	}
}

// asLedger is what the ledger would say of a plan, as far as the judge asks.
func asLedger(b *book, plan *apply.Plan) oracle.Plan {
	out := oracle.Plan{Pipeline: b.pipe.Name, Plan: plan.Number}
	if plan.Watermark != event.MinTime {
		w := int64(plan.Watermark)
		out.Watermark = &w
	}
	for tp, base := range plan.Partitions {
		if base.Plan == plan.Number {
			out.Partitions = append(out.Partitions, oracle.PlanPartition{Topic: tp.Topic, Partition: tp.Partition, Offset: base.Offset})
		}
	}
	return out
}

// judge compares everything that was published with a batch computation.
func (s *Sim) judge() {
	for _, b := range s.books {
		if err := s.judgeOne(b); err != nil {
			s.problem(Wrong, "%s: %v", b.pipe.Name, err)
		}
	}
}

func (s *Sim) judgeOne(b *book) error {
	ledger, err := oracle.ParseLedger(s.log.Records(spec.LedgerTopic))
	if err != nil {
		return err
	}
	ledger = slices.DeleteFunc(ledger, func(p oracle.Plan) bool { return p.Pipeline != b.pipe.Name })
	if u := oracle.Unbalanced(ledger); u != "" { // also of attempts that died, where they can be seen
		s.problem(Unbalanced, "%s: %s", b.pipe.Name, u)
	}
	events, dead := s.events(b)
	for _, e := range events {
		if _, ok := b.fence(s, e); !ok {
			s.problem(Lost, "%s: %s/%d/%d was never folded", b.pipe.Name, e.Topic, e.Partition, e.Offset)
		}
	}
	results, err := rig.ParseResults(s.log.Records(b.pipe.SinkTopic))
	if err != nil {
		return err
	}
	s.result.Panes += len(results)
	if b.pipe.Accumulation != spec.Discarding {
		s.shrunk(b, results)
	}
	panes, late := b.expect(s, events)
	if s.sc.InOrder && len(late) > 0 {
		s.problem(OrderLate, "%s: %d records are late, the first is %s/%d/%d", b.pipe.Name, len(late), late[0].Topic, late[0].Partition, late[0].Offset)
	}
	counted := int64(0)
	for _, base := range b.plan.Partitions {
		counted += base.Totals.Late
	}
	if counted != int64(len(late)) {
		s.problem(Unbalanced, "%s: the last plan counts %d late records, want %d", b.pipe.Name, counted, len(late))
	}
	for _, text := range s.compare(b, panes, results) {
		s.problem(kindOf(text), "%s: %s", b.pipe.Name, text)
	}
	want := make([]rig.Side, len(late))
	for i, e := range late {
		want[i] = rig.Side{Topic: e.Topic, Partition: e.Partition, Offset: e.Offset, Reason: string(event.ReasonLate)}
	}
	if err := s.compareSides(b, b.pipe.LateTopic, want); err != nil {
		return err
	}
	return s.compareSides(b, b.pipe.DeadLetterTopic, dead)
}

// compare compares what was published with what it must come to. Without transactions, panes of plans that never were are among it,
// and the highest revision counts; else every pane does.
func (s *Sim) compare(b *book, panes []oracle.Pane, results []rig.Result) []string {
	if s.sc.AtOnce {
		lateSessions := slices.ContainsFunc(b.pipe.Windows, func(d window.Definition) bool { return d.Kind == window.KindSession && d.Lateness > 0 })
		return oracle.Problems(panes, results, lateSessions || b.pipe.Trigger.Early())
	}
	return oracle.PaneProblems(panes, results, b.pipe.Accumulation)
}

// kindOf tells what the text of the oracle means for a record.
func kindOf(text string) Kind {
	var n, want float64
	switch {
	case len(text) > 7 && text[:7] == "missing":
		return Lost
	case len(text) > 11 && (text[:11] == "superfluous" || text[:11] == "pane publis"):
		return Doubled
	}
	for i := range text {
		if c, _ := fmt.Sscanf(text[i:], "count is %g, want %g", &n, &want); c == 2 {
			if n < want {
				return Lost
			}
			return Doubled
		}
	}
	return Wrong
}

// expect is the batch computation. A definition takes a record or not by the fence of its fold; of the definition's windows,
// those that a plan had finished with do not get it. Where an attempt at a plan died in between, its fence is the higher one.
//
// Windows that have not closed have no panes: in the end there are some where a partition is blocked.
func (b *book) expect(s *Sim, events []oracle.Event) (panes []oracle.Pane, late []oracle.Event) {
	folded := func(e oracle.Event) event.Time {
		if f, ok := b.fence(s, e); ok {
			return f
		}
		return event.MinTime
	}
	_, late = oracle.Compute(b.pipe.Windows, events, folded)
	for i := range b.pipe.Windows {
		d := b.pipe.Windows[i : i+1]
		var taken []oracle.Event
		for _, e := range events {
			if _, refused := oracle.Compute(d, []oracle.Event{e}, folded); len(refused) == 0 {
				taken = append(taken, e)
			}
		}
		fence := func(e oracle.Event) event.Time { return oracle.Fence(b.plans, e.TopicPartition, e.Offset) }
		if d[0].Kind == window.KindSession {
			fence = folded
		}
		hold := event.Span(0)
		if b.query.Trigger.FinalOnly {
			hold = d[0].Lateness
		}
		more, _ := oracle.Compute(d, taken, fence)
		for _, p := range more {
			if p.End.Add(hold) <= b.plan.Watermark {
				panes = append(panes, p)
			}
		}
	}
	return panes, late
}

// fence is under which fence a record was folded that a plan has.
func (b *book) fence(s *Sim, e oracle.Event) (event.Time, bool) {
	p := int(e.Partition)
	if e.Topic == clicks {
		p += len(s.logs) - s.sc.Clicks
	}
	f, ok := b.fences[p][e.Offset]
	return f, ok
}

// shrunk looks for revisions that lack records of the one before.
func (s *Sim) shrunk(b *book, results []rig.Result) {
	count := map[string]float64{}
	results = slices.Clone(results)
	slices.SortStableFunc(results, func(a, b rig.Result) int { return cmp.Compare(a.Pane.Revision, b.Pane.Revision) })
	for _, r := range results {
		id := fmt.Sprintf("%s|%d|%d|%s", r.Window.Name, r.Window.StartMS, r.Window.EndMS, r.Key)
		n, _ := r.Results["count"].(float64)
		if n < count[id] {
			s.problem(Shrunk, "%s: revision %d of %s has %g records, one before had %g", b.pipe.Name, r.Pane.Revision, id, n, count[id])
		}
		count[id] = n
	}
}

// events lists the records that a pipeline has to have in its results, and the dead letters that others must become: of a partition
// that is blocked, what its last plan has.
func (s *Sim) events(b *book) (taken []oracle.Event, dead []rig.Side) {
	for p := range s.logs {
		tp := s.sc.partition(p)
		if !b.query.reads(tp) {
			continue
		}
		to := int64(math.MaxInt64)
		if s.blocked(b) {
			to = b.plan.Partitions[tp].Offset
		}
		x := s.see(b.query, p, to)
		taken, dead = append(taken, x.taken...), append(dead, x.dead...)
	}
	if b.query.policy() == spec.PolicySkip {
		dead = nil
	}
	return taken, dead
}

// blocked reports whether some partition of a pipeline is.
func (s *Sim) blocked(b *book) bool {
	for p := range s.logs {
		if _, ok := s.blocks(b.query, p); ok && b.query.reads(s.sc.partition(p)) {
			return true
		}
	}
	return false
}

func (s *Sim) compareSides(b *book, topic string, want []rig.Side) error {
	got, err := rig.ParseSide(s.log.Records(topic))
	if err != nil {
		return err
	}
	left := map[rig.Side]int{}
	for _, x := range want {
		left[x]++
	}
	for _, x := range got {
		if s.sc.AtOnce && left[x] == 0 && slices.Contains(want, x) {
			continue // without transactions a record may come again; who reads it can tell by where it came from
		}
		left[x]--
	}
	for x, n := range left {
		switch {
		case n > 0:
			s.problem(Lost, "%s: %s lacks %s/%d/%d %s", b.pipe.Name, topic, x.Topic, x.Partition, x.Offset, x.Reason)
		case n < 0:
			s.problem(Doubled, "%s: %s has %s/%d/%d %s %d times too often", b.pipe.Name, topic, x.Topic, x.Partition, x.Offset, x.Reason, -n)
		}
	}
	return nil
}

// done reports whether the plans have all records, and nothing is open any more: but for what a blocked partition holds open.
func (s *Sim) done() bool {
	done := true
	for _, b := range s.books {
		if s.blocked(b) {
			done = s.rests(b) && done
			continue
		}
		for p, log := range s.logs {
			tp := s.sc.partition(p)
			base, ok := b.plan.Partitions[tp]
			if b.query.reads(tp) && (!ok || len(log) > 0 && base.Offset <= log[len(log)-1].Offset) {
				done = false
			}
		}
		done = done && b.plan.Watermark >= s.sc.lastEnd(b.query)
	}
	return done
}

// rests reports whether a pipeline with a blocked partition has come as far as it can: its watermark to where the blocked partitions
// hold it, and a round of fire has changed neither that nor an offset.
func (s *Sim) rests(b *book) bool {
	held := event.MaxTime
	for p := range s.logs {
		if at, ok := s.blocks(b.query, p); ok && b.query.reads(s.sc.partition(p)) {
			mark := s.see(b.query, p, at).last
			if mark != event.MinTime {
				mark = mark.Add(-b.query.Bound)
			}
			held = min(held, mark)
		}
	}
	// An attempt that died may have raised a fence beyond that, while the partition was idle: no plan is possible below it.
	for _, c := range s.cells {
		if m, err := c.mem.Load(s.ctx, c.id); err == nil && c.id.Pipeline == b.pipe.ID() && m.Top.Watermark > held {
			held = event.MinTime
		}
	}
	before := b.rested
	b.rested = b.plan
	if before == nil || before.Watermark != b.plan.Watermark || b.plan.Watermark < held {
		return false
	}
	for tp, base := range b.plan.Partitions {
		if before.Partitions[tp].Offset != base.Offset {
			return false
		}
	}
	return true
}

var _ kafkaio.Publisher = (*simPublisher)(nil)
