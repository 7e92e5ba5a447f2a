package simulation

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/faults"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
)

// settle waits until all goroutines wait for the scheduler, for a transaction or for time to pass.
func (s *Sim) settle() { synctest.Wait() }

// play goes through the steps of the scenario, and ends undisturbed.
func (s *Sim) play() {
	if traces := Traces(); s.sc.Trace > 0 {
		traces[s.sc.Trace-1].play(s)
	}
	s.append(1)
	for s.result.Steps = 0; s.result.Steps < s.sc.Steps; s.result.Steps++ {
		s.settle()
		s.reap()
		s.choose()
		if len(s.result.Problems) > 0 {
			return
		}
	}
	s.finish()
}

// move is something that may happen next.
type move struct {
	weight int
	do     func()
}

// choose makes one thing happen.
func (s *Sim) choose() {
	waiting := slices.DeleteFunc(s.waiting(), func(p *parked) bool { return p.a.frozen > s.result.Steps })
	moves := []move{
		{2, func() { s.append(1) }},
		{3, s.deliver},
		{3, s.startFire},
		{1, func() { s.pass(s.sc.Pass) }},
		{1, s.commitTrigger},
	}
	if len(waiting) > 0 {
		moves = append(moves, move{24, func() { s.letOne(waiting) }})
	}
	if s.faults > 0 && s.sc.StoreFaults {
		moves = append(moves, move{1, s.storeFault})
	}
	if s.sc.Kills > 0 {
		moves = append(moves, move{1, s.killOne})
	}
	if len(s.ends) > 0 {
		moves = append(moves, move{2, s.lateEnd})
	}
	if open := s.log.OpenTransactions(); len(open) > 0 {
		moves = append(moves, move{1, func() { s.expire(open[s.r.IntN(len(open))]) }})
	}
	if len(s.raises) > 0 && s.faults > 0 && faults.Off(faults.RaiseOnce) {
		moves = append(moves, move{3, s.lateRaise})
	}
	sum := 0
	for _, m := range moves {
		sum += m.weight
	}
	n := s.r.IntN(sum)
	for _, m := range moves {
		if n -= m.weight; n < 0 {
			m.do()
			return
		}
	}
}

// letOne lets an operation go: those of fast processes more often.
func (s *Sim) letOne(waiting []*parked) {
	sum := 0
	for _, p := range waiting {
		sum += p.a.speed
	}
	n := s.r.IntN(sum)
	for _, p := range waiting {
		if n -= p.a.speed; n < 0 {
			s.let(p, s.outcome(p))
			return
		}
	}
}

func (s *Sim) outcome(p *parked) outcome {
	switch {
	case s.sc.Kills > 0 && s.r.IntN(25) == 0:
		s.sc.Kills--
		return pick(s.r, dieBefore, dieAfter)
	case s.faults > 0 && s.sc.CallFaults && s.r.IntN(15) == 0:
		s.faults--
		if p.op == "End" {
			return pick(s.r, failBefore, failAfter, later, later)
		}
		return pick(s.r, failBefore, failAfter)
	}
	return proceed
}

// append writes the next record of some partition.
func (s *Sim) append(n int) {
	for range n {
		var open []int
		for p, left := range s.left {
			if len(left) > 0 {
				open = append(open, p)
			}
		}
		if len(open) == 0 {
			return
		}
		s.appendTo(pick(s.r, open...))
	}
}

// appendTo writes the next record of a partition, if there is one left.
func (s *Sim) appendTo(p int) {
	if len(s.left[p]) == 0 {
		return
	}
	r := s.left[p][0]
	s.left[p] = s.left[p][1:]
	i := len(s.logs[p])
	rec := event.Record{Timestamp: max(s.clock(), r.time().Add(-skew/2)), Key: []byte(r.key())}
	if i > 0 {
		rec.Offset = s.logs[p][i-1].Offset + 1
	}
	if s.sc.Holes && s.r.IntN(5) == 0 {
		rec.Offset++
	}
	at := r.time()
	if r.Kind == Future {
		at = rec.Timestamp.Add(futureBy)
	}
	rec.Value = fmt.Appendf(nil, `{"t":%d,"v":%d,"k":%q,"g":%d`, int64(at), int64(r.value(p, i)), r.key(), r.Grade)
	if r.Grade < grades-1 {
		rec.Value = append(rec.Value, `,"h":2`...)
	}
	rec.Value = append(rec.Value, '}')
	if r.Kind == Undecodable {
		rec.Value = rec.Value[:4]
	}
	s.logs[p] = append(s.logs[p], rec)
	tp := s.sc.partition(p)
	if err := s.log.Append(tp.Topic, tp.Partition, rec); err != nil {
		s.problem(Wrong, "append: %v", err)
	}
	s.result.Records++
	s.say("APPEND %d/%d at %d", p, rec.Offset, s.rel(at))
}

// deliver starts an ingest with the next records of some partitions, or with some that came before, or leaves some out.
func (s *Sim) deliver() {
	var batches []batch
	for p := range s.logs {
		if len(s.logs) > 1 && s.r.IntN(3) == 0 {
			continue
		}
		from, n := s.at[p], len(s.logs[p])
		if from > 0 && s.r.IntN(4) == 0 {
			from -= 1 + s.r.IntN(from)
		}
		if from == n {
			continue
		}
		to := min(n, from+1+s.r.IntN(s.sc.Batch))
		if s.sc.Drops && to > s.at[p] && s.r.IntN(8) == 0 {
			s.say("DROP %d up to %d", p, to)
			s.at[p] = to
			continue
		}
		batches = append(batches, batch{p, from, to})
	}
	if len(batches) == 0 {
		return
	}
	if a := s.idle("ingest", s.sc.Ingesters); a != nil {
		s.runIngest(a, batches)
	}
}

func (s *Sim) startFire() {
	if a := s.idle("fire", s.sc.Firers); a != nil {
		s.runFire(a)
	}
}

func (s *Sim) pass(d event.Span) {
	s.say("PASS %d", int64(d))
	time.Sleep(d.Duration()) //nolint:forbidigo // the bubble's own time, which nobody waits for
}

// commitTrigger commits the trigger's positions.
func (s *Sim) commitTrigger() {
	positions := map[event.TopicPartition]kafkaio.Committed{}
	for p, at := range s.at {
		if at > 0 {
			positions[s.sc.partition(p)] = kafkaio.Committed{Offset: s.logs[p][at-1].Offset + 1}
		}
	}
	s.log.SetGroup("trigger", positions)
}

// stored lists the slots that were ever written to, in order.
func (s *Sim) stored() []*cell {
	var cells []*cell
	for _, c := range s.cells {
		if len(c.history) > 0 {
			cells = append(cells, c)
		}
	}
	slices.SortFunc(cells, func(a, b *cell) int { return cmp.Compare(a.name, b.name) })
	return cells
}

// storeFault makes a slot go back or disappear; now and then all of them at once.
func (s *Sim) storeFault() {
	cells := s.stored()
	if len(cells) == 0 {
		return
	}
	s.faults--
	s.result.Faults++
	if s.r.IntN(8) == 0 {
		s.say("LOSE everything")
		for _, c := range cells {
			c.lose()
		}
		return
	}
	c := pick(s.r, cells...)
	if s.r.IntN(4) == 0 {
		s.say("LOSE %s", c.name)
		c.lose()
		return
	}
	to := s.r.IntN(len(c.history))
	s.say("GO BACK %s, %d changes", c.name, len(c.history)-1-to)
	c.goBack(to, s.r.IntN(4) > 0)
}

// strikeStore makes the slot of an operation, or another one, go back a little or disappear.
func (s *Sim) strikeStore(where string, k *Strike) {
	cells := s.stored()
	if len(cells) == 0 {
		return
	}
	c := pick(s.r, cells...)
	if !k.Other {
		for _, x := range cells {
			if x.name == strings.SplitN(where, " ", 2)[0] {
				c = x
			}
		}
	}
	if k.Kind == StrikeLose {
		s.say("LOSE %s", c.name)
		c.lose()
		return
	}
	to := max(0, len(c.history)-1-k.Length)
	s.say("GO BACK %s, %d changes", c.name, len(c.history)-1-to)
	c.goBack(to, s.r.IntN(4) > 0)
}

func (s *Sim) killOne() {
	if len(s.actors) > 0 {
		s.sc.Kills--
		s.kill(pick(s.r, s.actors...))
	}
}

// lateEnd lets the end of a transaction come through whose answer nobody waits for any more.
func (s *Sim) lateEnd() {
	s.say("LATE END")
	end := s.ends[0]
	s.ends = s.ends[1:]
	s.say("  %v", end())
}

// expire lets the broker give up a transaction.
func (s *Sim) expire(id string) {
	s.say("EXPIRE a transaction")
	if ss, err := s.log.Open(s.ctx, id); err == nil {
		ss.Close()
	}
}

// lateRaise lets the copy of a raise arrive that the store has carried out before: what blind repetition could lead to.
func (s *Sim) lateRaise() {
	x := pick(s.r, s.raises...)
	_, err := s.raise(s.ctx, x.id, x.r)
	s.say("LATE RAISE %s: %v", where(x.id), err)
}

// endRounds is how often fire is run at the end before what is still open counts as stuck.
const endRounds = 12

// finish lets everything come to its end, undisturbed: the trigger delivers what it has not given up, and time passes.
func (s *Sim) finish() {
	s.say("FINISH")
	s.faults, s.sc.Kills, s.sc.Strikes = 0, 0, nil
	if s.r.IntN(2) == 0 {
		for len(s.actors) > 0 {
			s.kill(s.actors[0])
		}
	}
	s.drain()
	for _, id := range s.log.OpenTransactions() {
		s.expire(id)
	}
	s.append(1000)
	for range endRounds {
		a := s.newActor("fire")
		a.speed = 4
		s.runFire(a)
		s.drain()
		s.bury(a)
		s.rest()
		s.commitTrigger()
		if s.done() {
			return
		}
		s.pass(2 * never)
	}
	s.problem(Stuck, "after %d undisturbed runs of fire not everything is closed", endRounds)
}

// rest delivers what the trigger has not delivered yet.
func (s *Sim) rest() {
	var batches []batch
	for p := range s.logs {
		if s.at[p] < len(s.logs[p]) {
			batches = append(batches, batch{p, s.at[p], len(s.logs[p])})
		}
	}
	if len(batches) > 0 {
		a := s.newActor("ingest")
		s.runIngest(a, batches)
		s.drain()
		s.bury(a)
	}
}

// transactionTimeout is after what time the broker gives up a transaction.
const transactionTimeout = 30 * unit

// drainLimit bounds the operations of one undisturbed round.
const drainLimit = 5000

// drain lets everything run to its end.
func (s *Sim) drain() {
	waited := event.Span(0)
	for range drainLimit {
		s.settle()
		s.reap()
		waiting := s.waiting()
		busy := false
		for _, a := range s.actors {
			busy = busy || a.busy
		}
		switch {
		case len(waiting) > 0:
			s.let(waiting[0], proceed)
		case busy:
			// Somebody waits for a transaction whose owner died: the broker gives it up after its timeout.
			if waited += unit; waited > transactionTimeout {
				for _, id := range s.log.OpenTransactions() {
					s.expire(id)
				}
			}
			s.pass(unit)
		default:
			return
		}
	}
	s.problem(Stuck, "an invocation does not end")
}
