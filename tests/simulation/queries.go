package simulation

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/core/window"
)

// Query is one pipeline of a scenario.
type Query struct {
	Kin          Sharing // what it shares with a pipeline before it; of the first one Alone
	Reading      Reading
	Windows      []window.Definition
	Functions    []string // nil: all that the judge knows
	Trigger      spec.Trigger
	Accumulation spec.Accumulation // empty: accumulating
	Bound        event.Span
	Idle         event.Span
	EmitInterval event.Span
	Policy       spec.Policy // empty: retry
	Both         bool        // it also reads the second topic, if there is one
}

// Sharing is what a pipeline has in common with one before it, and so what an ingest that decodes and folds once for several of
// them could mix up.
type Sharing uint8

// The kinds.
const (
	Alone       Sharing = iota // nothing but a topic
	SameWindows                // all but the name and one or more parts of how records are read
	SameReading                // how records are read; not the windows
	SameFold                   // how records are read, and the windows; one or more of all else differ
	Same                       // all but the name
)

func (k Sharing) String() string {
	switch k {
	case Alone:
		return "alone"
	case SameWindows:
		return "same windows"
	case SameReading:
		return "same reading"
	case SameFold:
		return "same fold"
	case Same:
		return "same"
	}
	return fmt.Sprintf("Sharing(%d)", uint8(k))
}

// Reading is how a pipeline reads records: what decides whether a record counts, its time, key and value.
type Reading struct {
	Where   Where
	Key     Keying
	Shifted bool // event time is a derived field, shift after t
	Doubled bool // the value is a derived field, which cannot be computed for records of the last grade
}

// Where is a condition.
type Where uint8

// The conditions.
const (
	All     Where = iota
	Low           // grades 0 and 1
	Derived       // all but grade 1, asked of a derived field that fails for the last grade
)

// Keying is what records are grouped by.
type Keying uint8

// The kinds.
const (
	ByRecordKey Keying = iota
	ByField
	ByExpression
	ByGrade
	ByNothing
)

// grades is how many grades records have. Those of the last one lack a field.
const grades = 4

// shift is how much later derived times are: some windows later begin with it, others do not.
const shift = 3 * unit / 10

func (q *Query) policy() spec.Policy {
	if q.Policy == "" {
		return spec.PolicyRetry
	}
	return q.Policy
}

// fill writes the query into a pipeline of a spec.
func (q *Query) fill(p *spec.Pipeline) {
	p.Windows, p.Trigger, p.Accumulation, p.Policy = q.Windows, q.Trigger, q.Accumulation, q.policy()
	p.Watermark = spec.Watermark{MaxOutOfOrder: q.Bound, EmitInterval: q.EmitInterval, IdleTimeout: q.Idle, AllIdle: spec.AllIdleAdvance, MaxFutureSkew: skew}
	if q.Functions != nil {
		p.Aggregates = []spec.Aggregates{{Value: p.Values[0].Name, Functions: q.Functions}}
	}
	if q.Both {
		p.Topics = []string{events, clicks}
	}
	r := q.Reading
	if r.Doubled || r.Where == Derived {
		p.Map = append(p.Map, spec.Derived{Name: "w", Expression: "v * h"})
	}
	if r.Doubled {
		p.Values = []spec.Value{{Name: p.Values[0].Name, Path: "w"}}
	}
	if r.Shifted {
		p.Map = append(p.Map, spec.Derived{Name: "at", Expression: fmt.Sprintf("t + %d", int64(shift))})
		p.Timestamp.Field = "at"
	}
	switch r.Where {
	case All:
	case Low:
		p.Where = "g < 2"
	case Derived:
		p.Where = "g != 1 and (g == 3 or w > 0)"
	}
	switch r.Key {
	case ByRecordKey:
		p.Key = spec.Key{RecordKey: true}
	case ByField:
		p.Key = spec.Key{Fields: []string{"k"}}
	case ByExpression:
		p.Key = spec.Key{Fields: []string{"upper(k)"}, Names: []string{"kind"}}
	case ByGrade:
		p.Key = spec.Key{Fields: []string{"g"}}
	case ByNothing:
		p.Key = spec.Key{}
	}
}

// other returns a reading that differs in one part or more.
func (r Reading) other(rnd *rand.Rand) Reading {
	old := r
	for r == old {
		switch rnd.IntN(4) {
		case 0:
			r.Where = pick(rnd, All, Low, Derived)
		case 1:
			r.Key = pick(rnd, ByRecordKey, ByField, ByExpression, ByGrade, ByNothing)
		case 2:
			r.Shifted = !r.Shifted
		case 3:
			r.Doubled = !r.Doubled
		}
	}
	return r
}

// read is what a record is to the query: its time (event.MinTime: none), and whether it is filtered or cannot be processed.
func (r Reading) read(rec Record) (at event.Time, filtered bool, reason event.Reason) {
	if rec.Kind == Undecodable {
		return event.MinTime, false, event.ReasonDecode
	}
	if at = rec.time(); r.Shifted {
		at = at.Add(shift)
	}
	if rec.Kind == Future {
		at = event.MinTime
	}
	switch {
	case r.Where == Low && rec.Grade > 1, r.Where == Derived && rec.Grade == 1:
		return at, true, ""
	case (r.Where == Derived || r.Doubled) && rec.Grade == grades-1:
		return event.MinTime, false, event.ReasonExpression
	case rec.Kind == Future:
		return event.MinTime, false, event.ReasonTimestampFuture
	}
	return at, false, ""
}

func (r Reading) key(rec Record) string {
	switch r.Key {
	case ByRecordKey:
		return rec.key()
	case ByField:
		return "k=" + rec.key()
	case ByExpression:
		return "kind=" + strings.ToUpper(rec.key())
	case ByGrade:
		return fmt.Sprintf("g=%d", rec.Grade)
	case ByNothing:
		return ""
	}
	return ""
}

func (r Reading) value(rec Record, p, i int) float64 {
	if r.Doubled {
		return 2 * rec.value(p, i)
	}
	return rec.value(p, i)
}

// join adds a pipeline that shares more or less with one that is there: what an ingest that works for all of them at once may keep, and
// what it must not.
func (sc *Scenario) join(r *rand.Rand) {
	q := sc.query(r)
	old := pick(r, sc.Pipelines...)
	old.Windows = slices.Clone(old.Windows)
	switch kin := pick(r, Alone, SameWindows, SameWindows, SameReading, SameFold, SameFold, SameFold, Same); kin {
	case Alone:
	case SameWindows:
		q = old
		q.Kin, q.Reading = kin, old.Reading.other(r)
	case SameReading:
		q.Kin, q.Reading = kin, old.Reading
	case SameFold:
		q = unlike(r, old, q)
		q.Kin = kin
	case Same:
		q = old
		q.Kin = kin
	}
	q.settle(sc)
	sc.Pipelines = append(sc.Pipelines, q)
}

// unlike returns old with one or more parts of another query that change neither how records are read nor into which windows they
// belong: so plans come at other times, fences drift apart, or other bytes are stored.
func unlike(r *rand.Rand, old, other Query) Query {
	parts := []func(){
		func() { old.Functions = other.Functions },
		func() { old.Trigger, old.Accumulation = other.Trigger, other.Accumulation },
		func() {
			for i := range old.Windows {
				old.Windows[i].Lateness = lateness(r)
			}
		},
		func() { old.Bound = other.Bound },
		func() { old.Bound = other.Bound + unit },
		func() { old.EmitInterval, old.Idle = other.EmitInterval, other.Idle },
		func() { old.Policy = pick(r, spec.PolicySkip, spec.PolicyFail, other.Policy) },
		func() { old.Both = other.Both },
	}
	r.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
	for _, change := range parts[:pick(r, 1, 1, 2, 4)] {
		change()
	}
	return old
}

func (sc *Scenario) query(r *rand.Rand) Query {
	q := Query{
		Windows: definitions(r), Bound: pick[event.Span](r, 0, 0, 0, unit), Idle: never, EmitInterval: pick[event.Span](r, 0, 0, 1, 20*unit),
		Policy: pick(r, spec.PolicyRetry, spec.PolicyRetry, spec.PolicyDeadLetter, spec.PolicySkip, spec.PolicyFail), Both: r.IntN(2) == 0,
	}
	if !sc.InOrder && r.IntN(3) == 0 {
		q.Idle = pick[event.Span](r, 1, 2, 5) * unit
	}
	if r.IntN(3) == 0 {
		q.Reading = Reading{
			Where: pick(r, All, Low, Low, Derived), Key: pick(r, ByRecordKey, ByRecordKey, ByField, ByExpression, ByGrade, ByNothing), Shifted: r.IntN(4) == 0, Doubled: r.IntN(4) == 0,
		}
	}
	if r.IntN(3) == 0 {
		q.Functions = pick(r, []string{"count", "sum"}, []string{"last", "sum", "count"}, []string{"sum", "average", "stddev", "count", "p95"}, []string{"count", "sum", "min", "first"})
	}
	if r.IntN(3) == 0 {
		q.triggers(r)
	}
	return q
}

// triggers chooses when windows go out, and what they hold then: mostly nothing but their end.
func (q *Query) triggers(r *rand.Rand) {
	q.Accumulation = spec.Accumulating
	switch r.IntN(8) {
	case 0:
		q.Trigger.EarlyEvery = pick[event.Span](r, 1, 2) * unit
	case 1:
		q.Trigger.Count = int64(1 + r.IntN(3))
	case 2:
		q.Trigger.EarlyEvery, q.Trigger.Count = unit, int64(1+r.IntN(3))
	case 3:
		q.Trigger.OnChange = true
	case 4:
		q.Trigger.FinalOnly = true
	}
	switch r.IntN(5) {
	case 0:
		q.Accumulation = spec.Retracting
	case 1, 2:
		q.Accumulation = spec.Discarding
	}
}

// settle takes out what does not go together. Panes that discard need transactions: those of a plan that never was cannot be told by
// their revision. Under the policy fail some windows never close; which panes there must be of them cannot be told where they go out
// early, or are sessions that grow after they have gone out.
func (q *Query) settle(sc *Scenario) {
	q.Both = q.Both && sc.Clicks > 0
	if q.Accumulation == spec.Discarding && (sc.AtOnce || q.Trigger.OnChange) {
		q.Accumulation = spec.Accumulating
	}
	grows := func(d window.Definition) bool { return d.Kind == window.KindSession && d.Lateness > 0 }
	if q.Policy == spec.PolicyFail && (sc.AtOnce || q.Trigger.Early() || slices.ContainsFunc(q.Windows, grows)) {
		q.Policy = spec.PolicyDeadLetter
	}
}

func lateness(r *rand.Rand) event.Span { return pick[event.Span](r, 0, 0, 1, 2) * unit }

// definitions returns the window definitions of a pipeline: mostly one.
func definitions(r *rand.Rand) []window.Definition {
	defs := make([]window.Definition, pick(r, 1, 1, 1, 2))
	for i := range defs {
		d := window.Definition{Name: fmt.Sprintf("w%d", i), Lateness: lateness(r)}
		switch r.IntN(6) {
		case 0, 1:
			d.Kind, d.Size = window.KindTumbling, unit
		case 2:
			d.Kind, d.Size, d.Slide = window.KindSliding, 2*unit, unit
		case 3:
			d.Kind, d.Gap = window.KindSession, pick[event.Span](r, 1, 2)*unit
		case 4:
			d.Kind, d.Gap, d.Max = window.KindSession, pick[event.Span](r, 1, 2)*unit, pick[event.Span](r, 2, 3)*unit
		case 5:
			d.Kind, d.Size, d.Step = window.KindCumulate, 2*unit, unit
		}
		defs[i] = d
	}
	return defs
}
