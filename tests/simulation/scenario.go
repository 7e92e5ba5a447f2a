package simulation

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/core/window"
)

// unit is the length of time in which scenarios count, and epoch where they begin.
const (
	unit  event.Span = 1000
	epoch event.Time = 1_700_000_000_000
)

// never is longer than any scenario: a partition is idle only once the run has ended.
const never event.Span = 24 * 3600 * 1000

// Scenario is what a seed stands for, but for the order of things.
type Scenario struct {
	Seed         uint64
	Logs         [][]Record // by partition
	Clicks       int        // how many of the last partitions are of a second topic, which not every pipeline reads
	Pipelines    []Query
	Buffer       int
	CompactAfter int
	Faults       int // operations and slots that go wrong, at most
	Kills        int // processes that are killed, at most
	Firers       int // firers at a time
	Ingesters    int // ingest processes at a time
	Strikes      []Strike
	Pass         event.Span // by which time passes at a time
	Steps        int        // after which it ends undisturbed
	StoreFaults  bool       // slots go back, or disappear
	CallFaults   bool       // operations fail
	Batch        int        // records of a partition that are delivered at a time, at most
	Drops        bool       // the trigger leaves out batches
	Trace        int        // the trace that it begins with, from 1; 0: none
	Jitter       int        // during the trace something else happens once in so many operations; 0: never
	Holes        bool       // some offsets are in no partition
	InOrder      bool       // no record is ever late
	NoMarkers    bool
	SingleUse    bool
	AtOnce       bool // no transactions: what is published is visible at once
}

// StrikeKind says what goes wrong.
type StrikeKind uint8

// The kinds.
const (
	StrikeBack   StrikeKind = iota // a slot goes back by Length changes
	StrikeLose                     // a slot disappears
	StrikeKill                     // the process that did the operation dies
	StrikeFreeze                   // it sleeps for Length steps
)

// Strike goes wrong right after the Nth time that an operation was let go.
type Strike struct {
	Op     string
	Nth    int
	Kind   StrikeKind
	Length int
	Other  bool // not the operation's slot, but any
}

// RecordKind says what is special about a record.
type RecordKind uint8

// The kinds.
const (
	Normal      RecordKind = iota
	Undecodable            // it goes to the dead letters
	Future                 // its time is too far beyond its Kafka timestamp, when it is appended
)

// Record is a record of a scenario.
type Record struct {
	Kind  RecordKind
	At    int // event time, in tenths of a unit since the epoch
	Key   int
	Grade int // what conditions and derived fields look at
}

func (r Record) time() event.Time { return epoch.Add(event.Span(r.At) * unit / 10) }
func (r Record) key() string      { return string(rune('a' + r.Key)) }

// value is one that no other record has, so that a sum tells which records are in it.
func (r Record) value(p, i int) float64 { return float64(int(1) << (p*10 + i)) }

// skew is how far a record's time may be beyond its Kafka timestamp.
const skew = 30 * unit

// futureBy is where a record of kind Future lies. The clock of a run passes it in time, so that a function which looked at its
// own clock would take it.
const futureBy = 40 * unit

// events and clicks are the source topics. The second one comes first by name: positions of records are compared by the names of topics.
const (
	events = "events"
	clicks = "clicks"
)

// partition is where the records of one of the scenario's partitions are.
func (sc *Scenario) partition(p int) event.TopicPartition {
	if first := len(sc.Logs) - sc.Clicks; p >= first {
		return event.TopicPartition{Topic: clicks, Partition: int32(p - first)}
	}
	return event.TopicPartition{Topic: events, Partition: int32(p)}
}

// template is the spec of which each scenario makes its own: reading it costs more than most schedules.
var template = sync.OnceValues(func() (*spec.App, error) {
	return spec.Load([]byte(`
app: simulation
processor:
  parallelism: 1
  error_handling: {policy: retry, max_retries: 1, initial_retry_delay_ms: 10, dead_letter_topic: dead}
  kafka:
    consumer: {group_id: trigger}
    producer: {result_topic: results}
pipelines:
  - name: p
    topics: [events]
    timestamp: {field: t, unit: ms}
    values: {v: v}
    windows: [{name: w, type: tumbling, size: 1s}]
    aggregates: {v: [count, sum, min, max, first, last, distinct]}
`), "simulation.yaml")
})

func (sc *Scenario) app() (*spec.App, error) {
	t, err := template()
	if err != nil {
		return nil, err
	}
	app := *t
	app.BufferSize, app.Pipelines = sc.Buffer, nil
	for i := range sc.Pipelines {
		p := t.Pipelines[0]
		p.Name = fmt.Sprintf("p%d", i)
		p.SinkTopic, p.LateTopic, p.DeadLetterTopic = fmt.Sprintf("results%d", i), fmt.Sprintf("late%d", i), fmt.Sprintf("dead%d", i)
		sc.Pipelines[i].fill(&p)
		app.Pipelines = append(app.Pipelines, p)
	}
	return &app, nil
}

// lastEnd is when everything in the scenario is final for a query.
func (sc *Scenario) lastEnd(q *Query) event.Time {
	last := event.MinTime
	for p, log := range sc.Logs {
		if !q.reads(sc.partition(p)) {
			continue
		}
		for _, r := range log {
			at, filtered, reason := q.Reading.read(r)
			if filtered || reason != "" {
				continue
			}
			for i := range q.Windows {
				d := &q.Windows[i]
				end := at.Add(d.Gap)
				if d.Kind != window.KindSession {
					s, ok := d.Slice(at)
					if !ok {
						continue
					}
					end = d.LastEnd(s)
				}
				last = max(last, end.Add(d.Lateness))
			}
		}
	}
	return last
}

func (q *Query) reads(tp event.TopicPartition) bool { return tp.Topic == events || q.Both }

func pick[T any](r *rand.Rand, values ...T) T { return values[r.IntN(len(values))] }

// New returns the scenario of a seed. Small worlds fail more often than large ones: a few records, two partitions, one or two
// things that go wrong.
func New(seed uint64) Scenario {
	r := rand.New(rand.NewPCG(seed, 0x7363656e6172696f))
	if r.IntN(12) == 0 {
		n := r.IntN(len(Traces()))
		sc := Traces()[n].sc()
		sc.Seed, sc.Trace, sc.Jitter, sc.Steps, sc.Faults, sc.Kills = seed, n+1, pick(r, 0, 0, 10, 40), r.IntN(100), r.IntN(3), r.IntN(2)
		sc.StoreFaults, sc.NoMarkers, sc.SingleUse = true, r.IntN(2) == 0, r.IntN(3) == 0
		if r.IntN(3) == 0 {
			sc.join(r)
		}
		return sc
	}
	sc := Scenario{
		Seed: seed, Buffer: pick(r, 1, 2, 3, 1000), CompactAfter: pick(r, 1, 1, 2, 256),
		Faults: pick(r, 0, 1, 1, 2, 2, 3, 6), Kills: pick(r, 0, 1, 1, 2, 4), Firers: pick(r, 1, 2, 2, 3), Ingesters: pick(r, 1, 2, 2, 3), Steps: 80 + r.IntN(200),
		StoreFaults: r.IntN(2) > 0, CallFaults: r.IntN(3) == 0, Drops: r.IntN(3) == 0, InOrder: r.IntN(4) == 0, NoMarkers: r.IntN(2) == 0, SingleUse: r.IntN(3) == 0, Holes: r.IntN(2) == 0,
	}
	sc.Batch = pick(r, 1, 2, 2, 4)
	sc.strikes(r)
	if r.IntN(16) == 0 {
		// What a dead attempt published stays there: the store must not forget under which fences it was.
		sc.AtOnce, sc.StoreFaults = true, false
		sc.Strikes = slices.DeleteFunc(sc.Strikes, func(k Strike) bool { return k.Kind == StrikeBack || k.Kind == StrikeLose })
	}
	keys, special, partitions := pick(r, 1, 1, 1, 2), r.IntN(4) == 0, pick(r, 1, 2, 2, 2, 2, 3)
	if partitions > 1 && r.IntN(6) == 0 {
		sc.Clicks = 1
	}
	sc.Pipelines = append(sc.Pipelines, sc.query(r))
	sc.Pipelines[0].Both = true
	sc.Pipelines[0].settle(&sc)
	for range pick(r, 0, 0, 0, 0, 0, 1, 1, 1, 2) {
		sc.join(r)
	}
	sc.Pass = unit / 2
	for i := range sc.Pipelines {
		if idle := sc.Pipelines[i].Idle; idle != never {
			sc.Pass = max(sc.Pass, idle/2+unit/2)
		}
	}
	coarse := r.IntN(4) == 0 // times that are equal are told apart by their partitions and offsets
	for range partitions {
		log := make([]Record, 1+r.IntN(5))
		at := 0
		for i := range log {
			log[i] = Record{At: r.IntN(45), Key: r.IntN(keys)}
			switch {
			case sc.InOrder:
				at += r.IntN(15)
				log[i].At = at
			case r.IntN(2) == 0: // mostly in order
				at = min(at+r.IntN(15), 60)
				log[i].At = at
			}
			if coarse {
				log[i].At -= log[i].At % 5
			}
			log[i].Grade = r.IntN(grades)
			if special && r.IntN(4) == 0 {
				log[i].Kind = pick(r, Undecodable, Future)
			}
		}
		sc.Logs = append(sc.Logs, log)
	}
	return sc
}

// strikes chooses what goes wrong at which operation: things by themselves, or together, as protocols fail.
func (sc *Scenario) strikes(r *rand.Rand) {
	nth := 1 + r.IntN(6)
	sleep := func(op string, n int) Strike {
		return Strike{Op: op, Nth: n, Kind: StrikeFreeze, Length: 20 + r.IntN(120)}
	}
	switch r.IntN(8) {
	case 0: // a slot goes back, or disappears, under a firer that then takes its time
		op := pick(r, "Status", "Offsets", "Offsets", "Raise", "Index", "End")
		k := Strike{Op: op, Nth: nth, Kind: pick(r, StrikeBack, StrikeBack, StrikeLose), Length: pick(r, 1, 1, 2, 2, 3), Other: op == "Offsets" || r.IntN(3) == 0}
		sc.Strikes = append(sc.Strikes, k, sleep(op, nth))
	case 1: // a firer dies with some slots raised, and another slot goes back
		sc.Strikes = append(sc.Strikes, Strike{Op: "Raise", Nth: nth, Kind: StrikeKill}, Strike{Op: "Raise", Nth: nth, Kind: StrikeBack, Length: pick(r, 1, 1, 2), Other: true})
	case 2: // a firer that sleeps before its raise wakes up after a plan that the store has forgotten
		sc.Firers = max(sc.Firers, 2)
		op := pick(r, "End", "Sweep", "Raise")
		sc.Strikes = append(sc.Strikes, sleep(pick(r, "Offsets", "Raise", "Status"), nth), Strike{Op: op, Nth: 1 + r.IntN(4), Kind: StrikeBack, Length: pick(r, 1, 2, 2, 3), Other: op != "Sweep"})
	case 3: // the state is lost between a commit and its sweep
		sc.CompactAfter = 1
		sc.Strikes = append(sc.Strikes, Strike{Op: "End", Nth: 1 + r.IntN(4), Kind: StrikeLose, Other: true})
		sc.Strikes = append(sc.Strikes, sleep("End", sc.Strikes[0].Nth))
	}
	ops := []string{"Status", "Raise", "Raise", "Index", "Read", "End", "Commit", "Sweep", "Restore", "Offsets", "Produce"}
	for range pick(r, 0, 0, 1, 2, 3) {
		k := Strike{Op: pick(r, ops...), Nth: 1 + r.IntN(6), Kind: pick(r, StrikeBack, StrikeBack, StrikeBack, StrikeLose, StrikeKill, StrikeFreeze, StrikeFreeze), Other: r.IntN(3) == 0}
		switch k.Kind {
		case StrikeBack:
			k.Length = pick(r, 1, 1, 1, 2, 3)
		case StrikeFreeze:
			k.Length = 20 + r.IntN(100)
		case StrikeLose, StrikeKill:
		}
		sc.Strikes = append(sc.Strikes, k)
	}
}
