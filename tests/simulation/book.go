package simulation

import (
	"cmp"
	"context"
	"fmt"
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
	plan   *apply.Plan
	raised map[key]map[int64]event.Time // fences of the slot at the moment of a raise
	fences []map[int64]event.Time       // by partition: of the offsets that plans have
	plans  []oracle.Plan                // that were committed
}

type key struct {
	token     statestore.Token
	partition int32
	offset    int64
}

func newBook(p *pipeline.Pipeline, partitions int) *book {
	b := &book{pipe: p, plan: &apply.Plan{Watermark: event.MinTime}, raised: map[key]map[int64]event.Time{}}
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
		tp := partition(p)
		now, ok := plan.Partitions[tp]
		if !ok {
			continue
		}
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
		folded := b.raised[key{now.Token, int32(p), now.Offset}]
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
	events, dead := s.events()
	for _, e := range events {
		if _, ok := b.fences[e.Partition][e.Offset]; !ok {
			s.problem(Lost, "%s: %d/%d was never folded", b.pipe.Name, e.Partition, e.Offset)
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
	panes, late := b.expect(events)
	if s.sc.InOrder && len(late) > 0 {
		s.problem(OrderLate, "%s: %d records are late, the first is %d/%d", b.pipe.Name, len(late), late[0].Partition, late[0].Offset)
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
func (b *book) expect(events []oracle.Event) (panes []oracle.Pane, late []oracle.Event) {
	folded := func(e oracle.Event) event.Time {
		if f, ok := b.fences[e.Partition][e.Offset]; ok {
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
		more, _ := oracle.Compute(d, taken, fence)
		panes = append(panes, more...)
	}
	return panes, late
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

// events lists what was appended: the records that can be read, and the dead letters that the others must become.
func (s *Sim) events() (events []oracle.Event, dead []rig.Side) {
	for p, log := range s.logs {
		for i, rec := range log {
			r := s.sc.Logs[p][i]
			tp := partition(p)
			switch r.Kind {
			case Normal:
				events = append(events, oracle.Event{TopicPartition: tp, Offset: rec.Offset, Time: r.time(), Key: r.key(), Value: r.value(p, i)})
			case Undecodable:
				dead = append(dead, rig.Side{Topic: tp.Topic, Partition: tp.Partition, Offset: rec.Offset, Reason: string(event.ReasonDecode)})
			case Future:
				dead = append(dead, rig.Side{Topic: tp.Topic, Partition: tp.Partition, Offset: rec.Offset, Reason: string(event.ReasonTimestampFuture)})
			}
		}
	}
	return events, dead
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
			s.problem(Lost, "%s: %s lacks %d/%d %s", b.pipe.Name, topic, x.Partition, x.Offset, x.Reason)
		case n < 0:
			s.problem(Doubled, "%s: %s has %d/%d %s %d times too often", b.pipe.Name, topic, x.Partition, x.Offset, x.Reason, -n)
		}
	}
	return nil
}

// done reports whether the plans have all records, and nothing is open any more.
func (s *Sim) done() bool {
	for _, b := range s.books {
		for p, log := range s.logs {
			base, ok := b.plan.Partitions[partition(p)]
			if !ok || len(log) > 0 && base.Offset <= log[len(log)-1].Offset {
				return false
			}
		}
		if b.plan.Watermark < s.sc.lastEnd(b.pipe) {
			return false
		}
	}
	return true
}

var _ kafkaio.Publisher = (*simPublisher)(nil)
