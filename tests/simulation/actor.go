package simulation

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/fire"
	"github.com/llm-auto-optimizer/tidemark/functions/ingest"
	"github.com/llm-auto-optimizer/tidemark/tests/rig"
)

// actor is one process of a function: it remembers what a warm process remembers, and runs one invocation at a time.
type actor struct {
	id     int
	name   string
	speed  int // how often it is let go, against the others
	frozen int // it sleeps until this step
	ctx    context.Context
	cancel context.CancelFunc
	dead   atomic.Bool

	ingest *ingest.Handler
	fire   *fire.Handler
	busy   bool
	done   chan func() // of the invocation under way: what the scheduler does with its end
}

// outcome is what becomes of an operation that is let go.
type outcome uint8

const (
	proceed    outcome = iota
	failBefore         // it does not happen, and the caller gets an error
	failAfter          // it happens, and the caller gets an error
	dieBefore
	dieAfter
	later // the caller gets an error, and it happens later (the end of a transaction alone)
)

var outcomeNames = [...]string{"", " FAILS before", " FAILS after", " DIES before", " DIES after", " comes LATER"}

// parked is an operation that waits to be let go.
type parked struct {
	a         *actor
	op, where string
	let       chan outcome
}

// step lets an operation of an actor wait for the scheduler, and carries it out.
func (s *Sim) step(ctx context.Context, a *actor, op, where string, do func() error) error {
	_, err := s.steps(ctx, a, op, where, do)
	return err
}

func (s *Sim) steps(ctx context.Context, a *actor, op, where string, do func() error) (outcome, error) {
	if a.dead.Load() {
		return dieBefore, errDead
	}
	p := &parked{a: a, op: op, where: where, let: make(chan outcome, 1)}
	s.mu.Lock()
	s.parked = append(s.parked, p)
	s.mu.Unlock()
	var o outcome
	select {
	case o = <-p.let:
	case <-ctx.Done():
		s.remove(p)
		return failBefore, ctx.Err()
	}
	switch o {
	case proceed:
		return o, do()
	case failBefore, later:
		return o, fmt.Errorf("%s: %w", op, errInjected)
	case failAfter:
		if err := do(); err != nil {
			return o, err
		}
		return o, fmt.Errorf("%s: %w", op, errInjected)
	case dieBefore:
		return o, errDead
	case dieAfter:
		if err := do(); err != nil {
			return o, err
		}
		return o, errDead
	}
	return o, errDead
}

func (s *Sim) remove(p *parked) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parked = slices.DeleteFunc(s.parked, func(q *parked) bool { return q == p })
}

// waiting lists the operations that can be let go, in an order that owes nothing to the Go scheduler.
func (s *Sim) waiting() []*parked {
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.SortFunc(s.parked, func(p, q *parked) int {
		return cmp.Or(cmp.Compare(p.a.id, q.a.id), cmp.Compare(p.op, q.op), cmp.Compare(p.where, q.where))
	})
	return slices.Clone(s.parked)
}

// let lets an operation go.
func (s *Sim) let(p *parked, o outcome) {
	s.remove(p)
	s.say("  %s %s %s%s", p.a.name, p.op, p.where, outcomeNames[o])
	if o != proceed {
		s.result.Faults++
	}
	if o == dieBefore || o == dieAfter {
		s.result.Kills++
		p.a.dead.Store(true)
	}
	p.let <- o
	if o == dieBefore || o == dieAfter {
		s.settle() // what it still does itself, it does before its context ends
		s.bury(p.a)
	}
	s.strike(p)
}

// strike carries out what the scenario has in store for the moment after an operation.
func (s *Sim) strike(p *parked) {
	for i := range s.sc.Strikes {
		k := &s.sc.Strikes[i]
		if k.Op != p.op || k.Nth == 0 {
			continue
		}
		if k.Nth--; k.Nth > 0 {
			continue
		}
		s.settle()
		s.result.Faults++
		switch k.Kind {
		case StrikeKill:
			if !p.a.dead.Load() {
				s.kill(p.a)
			}
		case StrikeFreeze:
			s.say("FREEZE %s", p.a.name)
			p.a.frozen = s.result.Steps + k.Length
		case StrikeBack, StrikeLose:
			s.strikeStore(p.where, k)
		}
	}
}

// kill ends a process wherever it is.
func (s *Sim) kill(a *actor) {
	s.say("KILL %s", a.name)
	s.result.Kills++
	a.dead.Store(true)
	s.bury(a)
}

func (s *Sim) bury(a *actor) {
	a.cancel()
	s.actors = slices.DeleteFunc(s.actors, func(b *actor) bool { return a == b })
	s.settle()
}

func (s *Sim) newActor(kind string) *actor {
	s.born++
	a := &actor{id: s.born, name: fmt.Sprintf("%s%d", kind, s.born), speed: []int{1, 4, 4, 4, 20}[s.r.IntN(5)]}
	a.ctx, a.cancel = context.WithCancel(s.ctx)
	store, log := &simStore{s: s, a: a}, &simLog{Log: s.log, s: s, a: a}
	if kind == "ingest" {
		a.ingest = ingest.New(ingest.Deps{App: s.app, Pipelines: s.pipes, Store: store, Log: log, Clock: s.clock, Logger: s.logger(a)})
	} else {
		a.fire = fire.New(fire.Deps{
			App: s.app, Pipelines: s.pipes, Store: store, Log: log, Publisher: &simPublisher{s: s, a: a}, Clock: s.clock, Logger: s.logger(a), NewToken: s.token,
		})
	}
	s.actors = append(s.actors, a)
	return a
}

// idle returns a process of a kind that has nothing to do: one that is there, or a new one while there are fewer than most.
func (s *Sim) idle(kind string, most int) *actor {
	var free []*actor
	n := 0
	for _, a := range s.actors {
		if (a.ingest != nil) == (kind == "ingest") {
			if n++; !a.busy {
				free = append(free, a)
			}
		}
	}
	switch {
	case len(free) > 0 && (n >= most || s.r.IntN(4) > 0):
		return free[s.r.IntN(len(free))]
	case n < most:
		return s.newActor(kind)
	}
	return nil
}

// runFire starts an invocation of fire.
func (s *Sim) runFire(a *actor) {
	s.say("RUN %s", a.name)
	a.busy, a.done = true, make(chan func(), 1)
	go func() {
		reports := a.fire.Run(a.ctx, apply.Nudge{})
		a.done <- func() {
			for _, r := range reports {
				s.say("  %s ends: %s plan %d W=%d made=%v lag=%d open=%d held by %q err=%v", a.name, r.Pipeline, r.Plan, int64(r.Watermark-epoch), r.Made, r.Lag, r.Open, r.HeldBy, r.Err)
			}
		}
	}()
}

// batch is what the trigger delivers of one partition: [from, to) of what was appended.
type batch struct {
	partition, from, to int
}

// runIngest starts an invocation of ingest. The trigger goes on behind the batches, of each partition up to the first offset that failed:
// a partition that one pipeline has to leave where it is does not stop the others.
func (s *Sim) runIngest(a *actor, batches []batch) {
	records := map[event.TopicPartition][]event.Record{}
	for _, b := range batches {
		records[s.sc.partition(b.partition)] = s.logs[b.partition][b.from:b.to]
	}
	s.say("RUN %s %v", a.name, batches)
	a.busy, a.done = true, make(chan func(), 1)
	payload := rig.Payload(records)
	go func() {
		answer, err := a.ingest.Invoke(a.ctx, payload)
		a.done <- func() {
			var failed map[string]int64
			n := 0
			if err == nil {
				failed, n, err = failures(answer)
			}
			s.say("  %s ends: %d failed, err=%v", a.name, n, err)
			if err != nil || a.dead.Load() {
				return
			}
			for _, b := range batches {
				tp := s.sc.partition(b.partition)
				if at, some := failed[fmt.Sprintf("%s-%d", tp.Topic, tp.Partition)]; some {
					for b.to > b.from && s.logs[b.partition][b.to-1].Offset >= at {
						b.to--
					}
				}
				if b.from <= s.at[b.partition] {
					s.at[b.partition] = max(s.at[b.partition], b.to)
				}
			}
		}
	}()
}

// failures returns the first offset that failed of each partition, and how many did in all.
func failures(answer []byte) (map[string]int64, int, error) {
	var got struct {
		BatchItemFailures []struct {
			ItemIdentifier struct {
				Partition string `json:"partition"`
				Offset    int64  `json:"offset"`
			} `json:"itemIdentifier"`
		} `json:"batchItemFailures"`
	}
	if err := json.Unmarshal(answer, &got); err != nil {
		return nil, 0, err
	}
	first := map[string]int64{}
	for _, f := range got.BatchItemFailures {
		if at, ok := first[f.ItemIdentifier.Partition]; !ok || f.ItemIdentifier.Offset < at {
			first[f.ItemIdentifier.Partition] = f.ItemIdentifier.Offset
		}
	}
	return first, len(got.BatchItemFailures), nil
}

// reap takes the answers of invocations that have ended.
func (s *Sim) reap() {
	for _, a := range s.actors {
		if !a.busy {
			continue
		}
		select {
		case f := <-a.done:
			a.busy = false
			f()
		default:
		}
	}
}
