package e2e

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/core/window"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio/memlog"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/tests/oracle"
	"github.com/llm-auto-optimizer/tidemark/tests/rig"
	"github.com/llm-auto-optimizer/tidemark/tests/seed"
)

// properties runs a property on random scenarios: TIDEMARK_ROUNDS of them (default 300), from TIDEMARK_SEED or a random seed,
// which is printed.
func properties(t *testing.T, property func(t *testing.T, r *rand.Rand, round int)) (rounds int) {
	t.Helper()
	seed, rounds := seed.Of(t), seed.Rounds(t, 300)
	for round := range rounds {
		if property(t, rand.New(rand.NewPCG(seed, uint64(round))), round); t.Failed() {
			t.Fatalf("round %d of TIDEMARK_SEED=%d", round, seed)
		}
	}
	return rounds
}

// pick returns one of some values.
func pick[T any](r *rand.Rand, values ...T) T { return values[r.IntN(len(values))] }

// spanBelow returns a span in [0, n).
func spanBelow(r *rand.Rand, n event.Span) event.Span { return event.Span(r.Int64N(int64(n))) }

// randomDefinitions returns one to three window definitions of any kind, each with a lateness of its own. Lengths are a few
// dozen times scale.
func randomDefinitions(r *rand.Rand, scale event.Span) []window.Definition {
	defs := make([]window.Definition, 1+r.IntN(3))
	for i := range defs {
		d := window.Definition{Name: fmt.Sprintf("w%d", i), Lateness: pick[event.Span](r, 0, 0, 5, 20, 100) * scale}
		size := pick[event.Span](r, 7, 10, 50)*scale + spanBelow(r, scale)
		switch r.IntN(5) {
		case 3:
			d.Kind, d.Step = window.KindCumulate, pick[event.Span](r, 5, 10)*scale+spanBelow(r, scale)
			d.Size = d.Step * event.Span(1+r.IntN(4))
			d.Offset = spanBelow(r, 2*d.Size-1) - d.Size + 1
		case 4:
			d.Kind, d.Gap, d.Max = window.KindSession, pick[event.Span](r, 1, 5, 12)*scale, pick[event.Span](r, 15, 40)*scale
		case 0:
			d.Kind, d.Size = window.KindTumbling, size
			d.Offset = spanBelow(r, 2*size-1) - size + 1
		case 1:
			d.Kind, d.Size = window.KindSliding, size
			d.Slide = scale + spanBelow(r, size)
			if d.AllowGaps = d.Slide > size && r.IntN(2) == 0; !d.AllowGaps {
				d.Slide = min(d.Slide, size)
			}
			d.Offset = spanBelow(r, 2*d.Slide-1) - d.Slide + 1
		case 2:
			d.Kind, d.Gap = window.KindSession, pick[event.Span](r, 1, 5, 12, 30)*scale
		}
		defs[i] = d
	}
	return defs
}

// triggerGroup is the consumer group of the trigger.
const triggerGroup = "trigger"

// propertyApp is the spec of all properties, but for windows and watermark.
func propertyApp(defs []window.Definition, w spec.Watermark) (*spec.App, error) {
	app, err := spec.Load([]byte(`
app: properties
processor:
  error_handling: {policy: dead_letter, dead_letter_topic: dead-letters}
  kafka:
    consumer: {group_id: `+triggerGroup+`}
    producer: {result_topic: results}
pipelines:
  - name: p
    topics: [events]
    timestamp: {field: ts, unit: ms}
    where: not (noise ?? false)
    map: {half: twice / 2}
    values: {value: half}
    windows: [{name: w, type: tumbling, size: 1s}]
    aggregates: {value: [count, sum, average, min, max, variance, stddev, p50, p95, p99, first, last, distinct]}
`), "properties.yaml")
	if err != nil {
		return nil, err
	}
	app.Pipelines[0].Windows, app.Pipelines[0].Watermark = defs, w
	return app, nil
}

// stage is the whole of Tidemark with a trigger before it, which delivers, delivers again and sometimes drops a batch.
type stage struct {
	*rig.World
	r    *rand.Rand
	defs []window.Definition
	tps  []event.TopicPartition
	logs map[event.TopicPartition][]event.Record // all that was appended
	at   map[event.TopicPartition]int            // the trigger's place in logs

	events []oracle.Event
	atOnce *committed // what of the ledger is committed, in a log without transactions; nil: all that is there
	spoil  bool       // some records cannot be decoded, or have no result for an expression; others do not count
	bad    []rig.Side // those that cannot be processed
	noise  []place    // those that do not count
}

// triggered says when windows go out, and what they hold then.
type triggered struct {
	spec.Trigger
	spec.Accumulation
}

// atTheEnd is the default: at the end of windows, and for late records.
var atTheEnd = triggered{Accumulation: spec.Accumulating}

// randomTrigger is one of any kind.
func randomTrigger(r *rand.Rand, scale event.Span) triggered {
	t := atTheEnd
	switch r.IntN(6) {
	case 0:
		t.EarlyEvery = pick[event.Span](r, 10, 50) * scale
	case 1:
		t.Count = int64(1 + r.IntN(5))
	case 2:
		t.EarlyEvery, t.Count = 20*scale, int64(1+r.IntN(5))
	case 3:
		t.FinalOnly = true
	}
	t.OnChange = !t.FinalOnly && r.IntN(4) == 0
	switch r.IntN(4) {
	case 0:
		t.Accumulation = spec.Retracting
	case 1:
		if !t.OnChange { // it has nothing to compare with
			t.Accumulation = spec.Discarding
		}
	}
	return t
}

// set puts it into the spec. Where only changes go out, some new records change nothing: they would all change a count.
func (t triggered) set(app *spec.App) {
	p := &app.Pipelines[0]
	p.Trigger, p.Accumulation = t.Trigger, t.Accumulation
	if t.OnChange {
		p.Aggregates[0].Functions = []string{"min", "max"}
	}
}

func newStage(r *rand.Rand, defs []window.Definition, w spec.Watermark, partitions int32, store statestore.Store, o memlog.Options) (*stage, error) {
	return newTriggeredStage(r, defs, w, atTheEnd, partitions, store, o)
}

func newTriggeredStage(r *rand.Rand, defs []window.Definition, w spec.Watermark, t triggered, partitions int32, store statestore.Store, o memlog.Options) (*stage, error) {
	app, err := propertyApp(defs, w)
	if err != nil {
		return nil, err
	}
	t.set(app)
	app.BufferSize = pick(r, 1, 3, 10, 10_000)
	world, err := rig.New(app, store, memlog.New(o), partitions)
	if err != nil {
		return nil, err
	}
	s := &stage{World: world, r: r, defs: defs, logs: map[event.TopicPartition][]event.Record{}, at: map[event.TopicPartition]int{}}
	for p := range partitions {
		s.tps = append(s.tps, event.TopicPartition{Topic: "events", Partition: p})
	}
	return s, nil
}

// add appends a record to a partition, sometimes behind a hole.
func (s *stage) add(tp event.TopicPartition, e oracle.Event) error {
	log := s.logs[tp]
	rec := event.Record{Timestamp: s.Clock, Key: []byte(e.Key), Value: fmt.Appendf(nil, `{"ts":%d,"twice":%d}`, int64(e.Time), 2*int64(e.Value))}
	if len(log) > 0 {
		rec.Offset = log[len(log)-1].Offset + 1
	}
	if s.r.IntN(10) == 0 {
		rec.Offset += 1 + s.r.Int64N(3)
	}
	e.TopicPartition, e.Offset = tp, rec.Offset
	spoilt := func(reason event.Reason) {
		s.bad = append(s.bad, rig.Side{Topic: tp.Topic, Partition: tp.Partition, Offset: rec.Offset, Reason: string(reason)})
	}
	n := 100
	if s.spoil {
		n = s.r.IntN(100)
	}
	switch {
	case n < 2:
		rec.Value = []byte(`{"ts":`)
		spoilt(event.ReasonDecode)
	case n < 4:
		rec.Value = fmt.Appendf(nil, `{"ts":%d,"twice":"many"}`, int64(e.Time))
		spoilt(event.ReasonExpression)
	case n < 12:
		rec.Value = fmt.Appendf(nil, `{"ts":%d,"noise":true}`, int64(e.Time))
		s.noise = append(s.noise, place{tp, rec.Offset})
	default:
		s.events = append(s.events, e)
	}
	s.logs[tp] = append(log, rec)
	return s.Log.Append(tp.Topic, tp.Partition, rec)
}

// pending lists the partitions that the trigger is not done with.
func (s *stage) pending() []event.TopicPartition {
	var out []event.TopicPartition
	for _, tp := range s.tps {
		if s.at[tp] < len(s.logs[tp]) {
			out = append(out, tp)
		}
	}
	return out
}

// deliver hands the next records of some partitions to ingest, sometimes behind records that were delivered before; and
// sometimes a batch is dropped, as triggers do once its tries are used up. The trigger's position moves when ingest has
// answered that nothing failed.
func (s *stage) deliver(ctx context.Context, most int) (failed int, err error) {
	payload := map[event.TopicPartition][]event.Record{}
	moved := map[event.TopicPartition]int{}
	for _, tp := range s.pending() {
		if len(s.tps) > 1 && s.r.IntN(3) == 0 {
			continue
		}
		at, log := s.at[tp], s.logs[tp]
		to := at + 1 + s.r.IntN(min(most, len(log)-at))
		if s.r.IntN(12) == 0 {
			s.at[tp] = to
			continue
		}
		from := at
		if s.r.IntN(4) == 0 {
			from -= s.r.IntN(min(at, 10) + 1)
		}
		payload[tp], moved[tp] = log[from:to], to
	}
	if len(payload) > 0 {
		failed, err = s.Deliver(ctx, payload)
	}
	if failed == 0 && err == nil {
		maps.Copy(s.at, moved)
	}
	return failed, err
}

// commitTrigger commits the trigger's positions, as it does after each batch.
func (s *stage) commitTrigger() {
	positions := map[event.TopicPartition]kafkaio.Committed{}
	for tp, at := range s.at {
		if at > 0 {
			positions[tp] = kafkaio.Committed{Offset: s.logs[tp][at-1].Offset + 1}
		}
	}
	s.Log.SetGroup(triggerGroup, positions)
}

// published reads the results.
func (s *stage) published() ([]rig.Result, error) {
	return rig.ParseResults(s.Log.Records(s.Pipelines[0].SinkTopic))
}

// verify compares everything that was published with what a batch computation came to.
func (s *stage) verify(panes []oracle.Pane, late []oracle.Event) (problems []string, err error) {
	got, err := s.published()
	if err != nil {
		return nil, err
	}
	if s.atOnce == nil {
		problems = oracle.PaneProblems(panes, got, s.Pipelines[0].Accumulation)
	} else { // panes of plans that never were are among them
		lateSessions := slices.ContainsFunc(s.defs, func(d window.Definition) bool { return d.Kind == window.KindSession && d.Lateness > 0 })
		problems = oracle.Problems(panes, got, lateSessions)
	}
	wantLate := make([]rig.Side, len(late))
	for i, e := range late {
		wantLate[i] = rig.Side{Topic: e.Topic, Partition: e.Partition, Offset: e.Offset, Reason: string(event.ReasonLate)}
	}
	sides, err := s.compareSides("late", s.Pipelines[0].LateTopic, wantLate)
	if err != nil {
		return nil, err
	}
	problems = append(problems, sides...)
	if sides, err = s.compareSides("dead letter", s.Pipelines[0].DeadLetterTopic, s.bad); err != nil {
		return nil, err
	}
	problems = append(problems, sides...)
	plans, err := s.ledger()
	if err != nil {
		return nil, err
	}
	if u := oracle.Unbalanced(plans); u != "" {
		problems = append(problems, "the ledger does not balance: "+u)
	}
	if len(plans) > 0 {
		in, filtered := int64(0), int64(0)
		newest := map[int32]oracle.PlanPartition{}
		for _, p := range plans {
			for _, q := range p.Partitions {
				newest[q.Partition] = q
			}
		}
		for _, q := range newest {
			in += q.In
			filtered += q.Filtered
		}
		if filtered != int64(len(s.noise)) {
			problems = append(problems, fmt.Sprintf("the ledger has %d filtered records, but there were %d", filtered, len(s.noise)))
		}
		if want := len(s.events) + len(s.bad) + len(s.noise); in != int64(want) {
			problems = append(problems, fmt.Sprintf("the ledger has %d records, but there were %d", in, want))
		}
	}
	return problems, nil
}

func (s *stage) ledger() ([]oracle.Plan, error) {
	return oracle.ParseLedger(s.ledgerRecords())
}

func (s *stage) ledgerRecords() []kafkaio.PublishedRecord {
	if s.atOnce != nil {
		return s.atOnce.records()
	}
	return s.Log.Records(spec.LedgerTopic)
}

func (s *stage) compareSides(what, topic string, want []rig.Side) ([]string, error) {
	got, err := rig.ParseSide(s.Log.Records(topic))
	if err != nil {
		return nil, err
	}
	order := func(a, b rig.Side) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Reason, b.Reason))
	}
	want = slices.Clone(want)
	slices.SortFunc(want, order)
	slices.SortFunc(got, order)
	if s.atOnce != nil {
		got = slices.Compact(got) // what a dead attempt has published comes again
	}
	if slices.Equal(want, got) {
		return nil, nil
	}
	return []string{fmt.Sprintf("%s topic: want %v, got %v", what, want, got)}, nil
}

// describe says what a round was about, for whoever reads its failure.
func (s *stage) describe() string {
	p := &s.App.Pipelines[0]
	out := fmt.Sprintf("watermark %+v, trigger %+v, %s", p.Watermark, p.Trigger, p.Accumulation)
	for _, d := range s.defs {
		out += fmt.Sprintf("\n%+v", d)
	}
	return out
}
