package simulation

import (
	"slices"
	"strings"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/faults"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/core/window"
)

// Trace is a schedule that was found by a model checker or by this simulation, and what happens in it without one of the rules.
// Schedules of random seeds begin as one of them now and then.
type Trace struct {
	Name  string
	Rules []faults.Rule // each is needed
	sc    func() Scenario
	play  func(*Sim)
}

// at makes a log of records in the middle of the given units.
func at(units ...int) []Record {
	log := make([]Record, len(units))
	for i, u := range units {
		log[i].At = u*10 + 5
	}
	return log
}

func worldOf(d window.Definition, logs ...[]Record) Scenario {
	d.Name = "w"
	return Scenario{
		Logs: logs, Pipelines: []Query{{Windows: []window.Definition{d}, Idle: never}}, Buffer: 1000, CompactAfter: 256, Firers: 2, Ingesters: 2, Batch: 4, Pass: unit,
	}
}

func tumbling(logs ...[]Record) func() Scenario {
	return func() Scenario {
		return worldOf(window.Definition{Kind: window.KindTumbling, Size: unit}, logs...)
	}
}

func withLateness(logs ...[]Record) func() Scenario {
	return func() Scenario {
		return worldOf(window.Definition{Kind: window.KindTumbling, Size: unit, Lateness: unit}, logs...)
	}
}

func sessions(gap event.Span, logs ...[]Record) func() Scenario {
	return func() Scenario { return worldOf(window.Definition{Kind: window.KindSession, Gap: gap}, logs...) }
}

func with(sc func() Scenario, change func(*Scenario)) func() Scenario {
	return func() Scenario {
		x := sc()
		change(&x)
		return x
	}
}

// twice is a world with its pipeline and another one of the same query, but for what is changed.
func twice(sc func() Scenario, change func(*Query)) func() Scenario {
	return with(sc, func(sc *Scenario) {
		q := sc.Pipelines[0]
		q.Kin = Same
		if change != nil {
			q.Windows = slices.Clone(q.Windows)
			q.Kin = SameFold
			change(&q)
		}
		sc.Pipelines = append(sc.Pipelines, q)
	})
}

func inOrder(sc *Scenario) { sc.InOrder = true }

// Traces returns all of them.
func Traces() []Trace {
	return []Trace{
		{"1 nobody replays", []faults.Rule{faults.CatchUp}, tumbling(at(0, 1), at(0, 1)), func(s *Sim) {
			s.begin()
			s.lose(1)
		}},
		{"2 first start", []faults.Rule{faults.Genesis}, tumbling(at(0, 1), at(0, 1)), func(s *Sim) {
			s.fold(0, 1)
			s.lose(0)
			s.fold(0, 1)
		}},
		{"3 a slot goes back while it is read", []faults.Rule{faults.ReadCut}, tumbling(at(0, 1), at(0, 1)), func(s *Sim) {
			s.fire("A", "")
			empty := s.snap(1)
			s.fold(0, 2)
			s.fold(1, 2)
			s.fire("A", "Index")
			s.put(1, empty)
		}},
		{"4 a replay crosses a cut", []faults.Rule{faults.CutInSlot}, withLateness(at(0, 1, 0), at(0, 1)), func(s *Sim) {
			s.begin(2, 2)
			s.fire("A", "")
			s.lose(0)
			s.refold(0, 0, 3)
		}},
		{"5 a lost raise leaves no gap", []faults.Rule{faults.AdoptCheck}, tumbling(at(0, 1, 0), at(0, 1)), func(s *Sim) {
			before := s.begin(2, 2)
			s.fire("A", "")
			s.put(0, before)
			s.fold(0, 1)
		}},
		{"5a ... and stays as it is", []faults.Rule{faults.Validate}, tumbling(at(0, 1), at(0, 1)), func(s *Sim) {
			before := s.begin()
			s.fire("A", "")
			s.put(0, before)
		}},
		{"5b ... under the next firer", []faults.Rule{faults.RaiseCut}, tumbling(at(0, 1, 0), at(0, 1)), func(s *Sim) {
			before := s.begin(2, 2)
			s.fire("A", "")
			s.fold(0, 1)
			s.fire("B", "Raise")
			s.put(0, before)
			s.refold(0, 2, 3)
		}},
		{"6 offsets go back", []faults.Rule{faults.RaiseBase}, tumbling(at(0, 1), at(0, 1, 0)), func(s *Sim) {
			s.begin(2, 2)
			s.fire("A", "")
			s.fold(1, 1)
			s.lose(0)
			s.fire("A", "")
		}},
		{"6a ... below what was seen", []faults.Rule{faults.RaiseSeen}, with(tumbling(at(0, 1, 2, 3), at(0, 1, 2, 3)), inOrder), func(s *Sim) {
			s.fire("A", "")
			s.fold(0, 1)
			before := s.snap(0)
			s.fold(0, 3)
			s.fold(1, 4)
			s.fire("A", "Raise")
			s.put(0, before)
		}},
		{"7 a late pane lacks another partition", []faults.Rule{faults.ReplayLate}, withLateness(at(0, 1, 0), at(0, 1)), func(s *Sim) {
			s.begin(2, 1)
			s.fold(1, 1)
			s.fire("A", "")
			s.fold(0, 1)
			s.lose(1)
		}},
		{"8 a fence half raised", []faults.Rule{faults.RaiseFence}, with(tumbling(at(1, 0), at(0)), func(sc *Scenario) { sc.Pipelines[0].Idle = unit }), func(s *Sim) {
			s.fire("A", "")
			s.pass(2 * unit)
			s.fold(0, 1) // the other one is idle
			s.fire("A", "Raise/1")
			s.stop("A")
			s.fold(0, 1)
			s.fold(1, 1)
		}},
		{"8a ... and a lagging partition", []faults.Rule{faults.Admissible}, with(tumbling(at(0, 1, 2, 3), at(0, 1, 2, 3)), inOrder), func(s *Sim) {
			s.fire("A", "")
			empty := s.snap(1)
			s.fold(0, 3)
			s.fold(1, 3)
			s.fire("A", "Raise/1")
			s.stop("A")
			s.put(1, empty)
			s.fire("B", "")
		}},
		{"9 a compaction takes in what is news", []faults.Rule{faults.CompactCut}, with(withLateness(at(0, 0, 1, 0), at(1)), compacting), func(s *Sim) {
			s.fire("A", "")
			s.fold(0, 1)
			s.fold(0, 1)
			s.fold(0, 1)
			s.fold(1, 1)
			s.fire("A", "Index")
			s.fold(0, 1)
		}},
		{"9a ... or comes after a replay", []faults.Rule{faults.CompactionCheck}, with(withLateness(at(1, 0, 0, 0), at(1)), compacting), func(s *Sim) {
			s.fire("A", "")
			s.fold(0, 1)
			s.fold(0, 1)
			s.fold(0, 1)
			s.fold(1, 1)
			s.fire("A", "Sweep")
			s.lose(0)
			s.fold(0, 1)
		}},
		{"10 a plan is computed again", nil, tumbling(at(0, 1), at(0, 1)), func(s *Sim) {
			s.begin()
			s.fire("A", "End")
			s.stop("A")
			s.lose(0)
			s.fire("B", "Produce")
			s.stop("B")
		}},
		{"11 a clock in the fold", []faults.Rule{faults.SkewLog}, with(tumbling([]Record{{At: 15, Kind: Future}, {At: 15}}, at(0, 1)), func(sc *Scenario) { sc.Pipelines[0].Bound = 10 * never }), func(s *Sim) {
			s.begin()
			s.fire("A", "")
			s.lose(0)
			s.pass(futureBy + unit)
		}},
		{"12 gaps are let be", []faults.Rule{faults.GapFetch}, tumbling(at(0, 1, 2), at(0, 1)), func(s *Sim) {
			s.begin(1, 2)
			s.add(0, 1)
			s.at[0] = 2
			s.fold(0, 1)
		}},
		{"zombie: it commits", []faults.Rule{faults.Fencing}, tumbling(at(0, 1), at(0, 1)), func(s *Sim) {
			s.begin()
			s.fire("A", "Begin")
			s.fire("B", "")
			s.fire("A", "")
		}},
		{"zombie: it raises what another plan had", []faults.Rule{faults.Tokens}, tumbling(at(0, 1, 0), at(0, 1)), func(s *Sim) {
			before := s.begin(2, 2)
			s.fire("Z", "Raise")
			s.fire("A", "")
			s.fold(0, 1)
			s.fire("A", "Index")
			s.put(0, before)
			s.refold(0, 2, 3)
			s.fire("Z", "Raise/1")
		}},
		{"zombie: it raises a slot that went back", []faults.Rule{faults.AdoptFence}, with(tumbling(at(2, 1), at(1)), func(sc *Scenario) { sc.Pipelines[0].Idle = unit }), func(s *Sim) {
			s.fire("A", "")
			s.pass(2 * unit)
			s.fold(0, 1)
			before := s.snap(0)
			s.fire("Z", "Raise")
			s.fold(0, 1)
			s.fold(1, 1)
			s.fire("A", "")
			s.put(0, before)
			s.fire("Z", "Raise/1")
			s.refold(0, 1, 2)
		}},
		{"zombie: a session slot that went back", []faults.Rule{faults.SessionWipe}, sessions(2*unit, at(0, 2, 1), at(1, 3)), func(s *Sim) {
			s.fire("Z", "")
			s.fold(0, 2)
			before := s.snap(0)
			s.fire("Z", "Status/1")
			s.fold(0, 1)
			s.fold(1, 2)
			s.fire("A", "")
			s.put(0, before)
			s.fire("Z", "Raise/1")
			s.refold(0, 2, 3)
		}},
		{"a raise comes twice", []faults.Rule{faults.RaiseOnce}, tumbling(at(0, 1, 0, 0), at(0, 1)), func(s *Sim) {
			before := s.begin(2, 2)
			s.fold(0, 1)
			s.fire("A", "Index")
			s.put(0, before)
			s.add(0, 1)
			s.refold(0, 2, 4)
			if faults.Off(faults.RaiseOnce) {
				s.lateRaiseOf(0)
			}
		}},
		{"a fold under another cut", []faults.Rule{faults.CASCut}, tumbling(at(0, 1, 0), at(0, 1)), func(s *Sim) {
			s.begin(2, 2)
			s.add(0, 1)
			s.ingestTo("I", "Commit", batch{0, 2, 3})
			s.fire("A", "")
		}},
		{"a replay brings back the outbox", []faults.Rule{faults.OutboxBase}, tumbling(at(0, 1, 0, 1), at(0, 1)), func(s *Sim) {
			s.begin(2, 2)
			s.fire("A", "")
			s.fold(0, 1)
			s.fire("A", "")
			s.lose(0)
			s.fold(0, 1)
		}},
		{"a replay of what sessions refused", []faults.Rule{faults.SessionList}, sessions(2*unit, at(2, 1, 3), at(2, 3)), func(s *Sim) {
			s.fire("A", "")
			s.fold(0, 1)
			s.fold(1, 1)
			s.fire("A", "")
			s.fold(0, 1)
			s.fire("A", "")
			s.lose(0)
			s.fold(0, 1)
		}},
		{"a record joins a session that is out", []faults.Rule{faults.SessionTime}, sessions(2*unit, []Record{{At: 5}, {At: 30}, {At: 15}}, []Record{{At: 30}}), func(s *Sim) {
			s.begin(2, 1)
			s.fire("A", "")
			s.fold(0, 1)
		}},
		{"slices begin after the status", []faults.Rule{faults.IndexAfterRaise}, tumbling(at(1, 0), at(1)), func(s *Sim) {
			s.begin(1, 1)
			s.fire("A", "Raise")
			s.fold(0, 1)
		}},
		{"a plan on top of a stale one", []faults.Rule{faults.PlanAfterOpen}, tumbling(at(0, 1), at(0, 1)), func(s *Sim) {
			s.begin()
			s.fire("Z", "Open")
			s.fire("A", "")
		}},
		{"equal pipelines: one has fired, the other has not", nil, twice(tumbling(at(0, 1, 0), at(0, 1)), nil), func(s *Sim) {
			s.begin(2, 2)
			s.fireOne("A", 0)
			s.fold(0, 1) // late for the first one alone
		}},
		{"equal pipelines: the slot of one is lost", nil, twice(withLateness(at(0, 1, 0), at(0, 1)), nil), func(s *Sim) {
			s.begin(2, 2)
			s.loseOf(1, 0)
			s.fold(0, 1)
		}},
		{"equal pipelines: the slot of one goes back", nil, twice(withLateness(at(0, 1, 0), at(0, 1)), nil), func(s *Sim) {
			s.begin(1, 2)
			before := s.snapOf(0, 0)
			s.fold(0, 1)
			s.putOf(0, 0, before)
			s.fold(0, 1)
		}},
		{"equal pipelines: one replays what is new to the other", nil, twice(with(sessions(2*unit, at(0, 4), at(5)), func(sc *Scenario) { sc.Pipelines[0].Idle = unit }), nil), func(s *Sim) {
			s.fire("A", "")
			s.fold(0, 1)
			s.pass(2 * unit)
			s.fold(1, 1)
			s.fireOne("A", 1)
			before := s.snapOf(1, 0)
			s.fold(0, 1) // late for the second one, which then forgets it
			s.pass(2 * unit)
			s.fireOne("A", 0)
			s.putOf(1, 0, before)
			s.loseOf(0, 0)
			s.refold(0, 1, 2)
		}},
		{"equal pipelines: both replay what one has refused", nil, twice(sessions(2*unit, at(0, 7, 4), at(5)), nil), func(s *Sim) {
			s.fire("A", "")
			s.fold(0, 2)
			s.fold(1, 1)
			s.fireOne("A", 1)
			s.fold(0, 1) // late for the second one
			s.fireOne("A", 0)
			s.fireOne("A", 1)
			s.loseOf(0, 0)
			s.loseOf(1, 0)
			s.refold(0, 1, 3)
		}},
		{"equal pipelines but for lateness", nil, twice(tumbling(at(0, 1, 0), at(0, 1)), func(q *Query) { q.Windows[0].Lateness = unit }), func(s *Sim) {
			s.begin(2, 2)
			s.fire("A", "")
			s.fold(0, 1)
		}},
		{"equal pipelines but for the bound", nil, twice(tumbling(at(0, 1, 0), at(0, 1)), func(q *Query) { q.Bound = unit }), func(s *Sim) {
			s.begin(2, 2)
			s.fire("A", "")
			s.fold(0, 1)
		}},
		{"equal pipelines but for the policy", nil, twice(tumbling([]Record{{At: 5}, {Kind: Undecodable}, {At: 15}}, at(0, 1)), func(q *Query) { q.Policy = spec.PolicySkip }), func(s *Sim) {
			s.begin()
		}},
		{"equal pipelines, and one is blocked", nil, twice(tumbling([]Record{{At: 5}, {Kind: Undecodable}, {At: 15}}, at(0, 1)), func(q *Query) { q.Policy = spec.PolicyFail }), func(s *Sim) {
			s.begin()
		}},
		{"equal pipelines but for a topic", nil, twice(with(tumbling(at(0, 1), []Record{{At: 4}, {At: 5}, {At: 15}}), func(sc *Scenario) { sc.Clicks = 1 }), func(q *Query) { q.Both = true }), func(s *Sim) {
			s.begin()
		}},
	}
}

func compacting(sc *Scenario) { sc.CompactAfter = 1 }

// RunTrace plays a trace. It must be called in a bubble of testing/synctest.
func RunTrace(t Trace, traced bool) Result {
	sc := t.sc()
	return run(sc, traced, func(s *Sim) {
		t.play(s)
		s.finish()
	})
}

// process returns the process of a name, made if there is none.
func (s *Sim) process(kind, name string) *actor {
	if a := s.named[kind+name]; a != nil && !a.dead.Load() {
		return a
	}
	a := s.newActor(kind)
	s.named[kind+name] = a
	return a
}

// advance lets a process go on until all that it wants to do is a stop: an operation, with a slash behind it of one partition.
// Without a stop it goes on to the end of the invocation.
func (s *Sim) advance(a *actor, stop string) {
	for range drainLimit {
		s.settle()
		s.reap()
		s.jitter()
		if !a.busy || a.dead.Load() {
			return
		}
		held, mine := 0, 0
		var next *parked
		for _, p := range s.waiting() {
			if p.a != a {
				continue
			}
			mine++
			if stops(p, stop) {
				held++
			} else if next == nil {
				next = p
			}
		}
		switch {
		case next != nil && s.others != nil && s.others(next):
			s.let(next, failBefore)
		case next != nil:
			s.let(next, proceed)
		case held > 0:
			return
		case mine == 0:
			s.pass(unit / 10)
		}
	}
}

func stops(p *parked, stop string) bool {
	op, part, one := strings.Cut(stop, "/")
	place, _, _ := strings.Cut(p.where, " ")
	return p.op == op && (!one || strings.HasSuffix(place, "/"+part))
}

// jitter lets something else happen now and then, if the trace is the beginning of a random schedule.
func (s *Sim) jitter() {
	if s.sc.Jitter > 0 && s.r.IntN(s.sc.Jitter) == 0 {
		s.choose()
		s.settle()
		s.reap()
	}
}

func (s *Sim) fire(name, stop string) {
	a := s.process("fire", name)
	if !a.busy {
		s.runFire(a)
	}
	s.advance(a, stop)
}

// fireOne lets a process go on to the end of an invocation in which only one pipeline gets anywhere.
func (s *Sim) fireOne(name string, pipeline int) {
	s.others = func(p *parked) bool {
		id, _, store := strings.Cut(p.where, "/")
		return store && p.op == "Status" && !strings.HasPrefix(s.pipes[pipeline].ID(), id)
	}
	s.fire(name, "")
	s.others = nil
}

func (s *Sim) stop(name string) {
	if a := s.named["fire"+name]; a != nil && !a.dead.Load() {
		s.kill(a)
	}
}

func (s *Sim) ingestTo(name, stop string, b batch) {
	b.to = min(b.to, len(s.logs[b.partition]))
	if a := s.process("ingest", name); !a.busy && b.from < b.to {
		s.runIngest(a, []batch{b})
		s.advance(a, stop)
	}
}

// add appends the next n records of a partition.
func (s *Sim) add(p, n int) {
	for range n {
		s.appendTo(p)
	}
}

// fold delivers n more records of a partition, appending them where they are not there yet.
func (s *Sim) fold(p, n int) {
	if missing := s.at[p] + n - len(s.logs[p]); missing > 0 {
		s.add(p, missing)
	}
	s.ingestTo("I", "", batch{p, s.at[p], s.at[p] + n})
}

// refold delivers records again.
func (s *Sim) refold(p, from, to int) {
	if missing := to - len(s.logs[p]); missing > 0 {
		s.add(p, missing)
	}
	s.ingestTo("J", "", batch{p, from, to})
}

// begin makes the genesis and folds the first records of each partition, all if no numbers are given; it returns what is then
// stored of the first partition.
func (s *Sim) begin(n ...int) snapshot {
	s.fire("A", "")
	for p := range s.left {
		k := len(s.left[p])
		if p < len(n) {
			k = n[p]
		}
		s.fold(p, k)
	}
	return s.snap(0)
}

// slot returns what is stored of a partition in a pipeline; nil: nothing was yet.
func (s *Sim) slot(pipeline, p int) *cell {
	for _, c := range s.stored() {
		if c.id.Pipeline == s.pipes[pipeline].ID() && s.sc.partition(p) == (event.TopicPartition{Topic: c.id.Topic, Partition: c.id.Partition}) {
			return c
		}
	}
	return nil
}

// snap keeps what is stored of a partition in the first pipeline.
func (s *Sim) snap(p int) snapshot { return s.snapOf(0, p) }

func (s *Sim) snapOf(pipeline, p int) snapshot {
	c := s.slot(pipeline, p)
	if c == nil {
		return snapshot{}
	}
	return snapshot{mem: c.mem.Clone(), fences: c.fences}
}

// put brings back what was kept.
func (s *Sim) put(p int, x snapshot) { s.putOf(0, p, x) }

func (s *Sim) putOf(pipeline, p int, x snapshot) {
	if c := s.slot(pipeline, p); c != nil && x.mem != nil {
		s.say("PUT BACK %s", c.name)
		c.snapshot = snapshot{mem: x.mem.Clone(), fences: x.fences}
	}
}

func (s *Sim) lose(p int) { s.loseOf(0, p) }

func (s *Sim) loseOf(pipeline, p int) {
	if c := s.slot(pipeline, p); c != nil {
		s.say("LOSE %s", c.name)
		c.lose()
	}
}

// lateRaiseOf lets a copy of the newest raise of a partition arrive.
func (s *Sim) lateRaiseOf(p int) {
	for _, x := range slices.Backward(s.raises) {
		if int(x.id.Partition) == p {
			_, err := s.raise(s.ctx, x.id, x.r)
			s.say("LATE RAISE %s: %v", where(x.id), err)
			return
		}
	}
}
