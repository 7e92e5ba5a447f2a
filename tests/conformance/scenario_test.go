package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/core/watermark"
	"github.com/llm-auto-optimizer/tidemark/core/window"
	"github.com/llm-auto-optimizer/tidemark/functions/fire"
	"github.com/llm-auto-optimizer/tidemark/functions/settings"
	"github.com/llm-auto-optimizer/tidemark/tests/rig"
)

// sourceTopic is where the records of a scenario are.
const sourceTopic = "events"

// engine is a way of running a scenario: the core alone, or the real handlers.
type engine interface {
	// deliver folds records, ascending by offset in each partition, at a wall-clock time. It returns what the counts say of
	// them; no counts: the state has not changed, all were duplicates.
	deliver(ctx context.Context, records []delivery, now event.Time) (pipeline.Counts, error)
	// fire runs the firer once. It returns the panes that it published and the watermark (exclusive) of the newest plan.
	fire(ctx context.Context, now event.Time, low fire.LowFunc) ([]rig.Result, event.Time, error)
	// sides returns the late and the failed records that have been published.
	sides() (late, dead []rig.Side, err error)
	// finish checks the books once everything is over, and lets go of the engine's resources.
	finish() error
}

// delivery is a record on its way.
type delivery struct {
	partition int32 // of the source topic
	record    event.Record
}

// play runs one vector on one engine.
type play struct {
	v       *Vector
	engine  engine
	batched bool // consecutive records go in one delivery, with records before them delivered once more

	topicPartition map[int32]int32 // the vector's partition -> the topic's
	entryOf        map[position]int
	next           map[int32]int64      // partition of the topic -> its next offset
	seen           map[int32]event.Time // and the wall clock of its last record that was not rejected
	clock          event.Time           // of the firer: that of the last tick

	manual   event.Time                // mode manual
	explicit map[int32]*explicitSource // mode explicit

	waiting  []delivery // batched
	sent     []delivery // batched: what may be delivered once more
	counts   pipeline.Counts
	outcome  map[string][]any
	fired    []any
	afterAll []any
}

// position is a record's place in the source topic.
type position struct {
	partition int32
	offset    int64
}

// explicitSource is what a vector says of a partition in mode explicit.
type explicitSource struct {
	mark event.Time // exclusive; event.MinTime: none
	idle bool
}

// unsupported returns the field with which the vector asks for something the project does not offer; empty: it offers all.
func (v *Vector) unsupported() string {
	if field := v.Spec.unsupported(); field != "" {
		return field
	}
	w := v.Spec.Watermark
	for i := range v.Events {
		e := &v.Events[i]
		if e.Time != nil && w != nil && w.Mode == modeBounded && !slices.Contains(w.Partitions, e.Partition) {
			return "partition that is not in watermark.partitions" // ours exist before their first record, and count
		}
	}
	if w != nil && w.Mode == modeExplicit && w.IdleTimeout != nil {
		return "idle_timeout_ms in mode explicit"
	}
	return ""
}

// The modes of a watermark other than manual, and the emit that fires on ticks only.
const (
	modeExplicit = "explicit"
	modeBounded  = "bounded"
	emitOnTick   = "on_tick"
)

// app is the spec of a scenario: what users write, but for the lengths in milliseconds of the windows and the watermark.
func (s *Spec) app() (*spec.App, error) {
	app, err := spec.Load([]byte(`
app: conformance
processor:
  error_handling: {policy: dead_letter, dead_letter_topic: dead-letters}
  kafka:
    producer: {result_topic: results}
pipelines:
  - name: scenario
    topics: [`+sourceTopic+`]
    timestamp: {field: ts, unit: ms}
    values: {value: value}
    windows: [{name: w, type: tumbling, size: 1s}]
    aggregates: {value: [count, sum, average, min, max, variance, stddev, variance_sample, stddev_sample, first, last]}
`), "scenario.yaml")
	if err != nil {
		return nil, err
	}
	p := &app.Pipelines[0]
	d := s.definition()
	if d.Name = "w"; d.Kind == window.KindSession && s.ownGaps {
		d.GapField, d.MaxGap = "gap", window.MaxSpan
	}
	p.Windows[0] = d
	if s.Accumulation != "" {
		p.Accumulation = spec.Accumulation(s.Accumulation)
	}
	if s.EarlyCount != nil {
		p.Trigger.Count = *s.EarlyCount
	}
	for _, q := range s.Quantiles {
		p.Aggregates[0].Functions = append(p.Aggregates[0].Functions, percentile(q))
	}
	p.Watermark = spec.Watermark{AllIdle: spec.AllIdleMax, MaxFutureSkew: -1}
	if w := s.Watermark; w != nil && w.Mode == modeBounded {
		policy := w.policy()
		p.Watermark.MaxOutOfOrder, p.Watermark.IdleTimeout, p.Watermark.AllIdle = policy.Bound, policy.IdleTimeout, spec.AllIdle(policy.AllIdle)
		p.Watermark.CatchUp = policy.CatchUp
		if w.MaxFuture != nil {
			p.Watermark.MaxFutureSkew = span(w.MaxFuture)
		}
	}
	return app, nil
}

// percentile names the function of a quantile: 0.95 is p95.
func percentile(q float64) string {
	return "p" + strconv.FormatFloat(math.Round(q*1e10)/1e8, 'f', -1, 64)
}

// partitions numbers the partitions of a vector from 0, in their order: among records of one time it decides which is the first.
func (v *Vector) partitions() map[int32]int32 {
	var all []int32
	if v.Spec.Watermark != nil && v.Spec.Watermark.Mode == modeBounded {
		all = append(all, v.Spec.Watermark.Partitions...)
	}
	for i := range v.Events {
		if v.Events[i].Time != nil {
			all = append(all, v.Events[i].Partition)
		}
	}
	if len(all) == 0 {
		all = []int32{0}
	}
	slices.Sort(all)
	at := map[int32]int32{}
	for i, p := range slices.Compact(all) {
		at[p] = int32(i)
	}
	return at
}

// newEngine opens an engine for a pipeline that reads so many partitions, at a wall-clock time.
type newEngine func(app *spec.App, pipe *pipeline.Pipeline, partitions int32, now event.Time) (engine, error)

// run plays a vector and returns what came of it in the form of the vector's expectations.
func run(ctx context.Context, v *Vector, open newEngine, batched bool) (actual map[string]any, err error) {
	v.Spec.ownGaps = slices.ContainsFunc(v.Events, func(e Event) bool { return e.Gap != nil })
	app, err := v.Spec.app()
	if err != nil {
		return nil, err
	}
	pipes, err := settings.Compile(app)
	if err != nil {
		return nil, err
	}
	p := &play{
		v: v, batched: batched, topicPartition: v.partitions(), entryOf: map[position]int{}, next: map[int32]int64{}, seen: map[int32]event.Time{},
		manual: event.MinTime, explicit: map[int32]*explicitSource{}, outcome: map[string][]any{}, fired: []any{}, afterAll: []any{},
	}
	if w := v.Spec.Watermark; w != nil {
		p.clock = event.Time(span(w.StartNow))
		for _, id := range w.Partitions {
			p.explicit[id] = &explicitSource{mark: event.MinTime}
		}
	}
	for _, at := range p.topicPartition {
		p.seen[at] = p.clock
	}
	if p.engine, err = open(app, pipes[0], int32(len(p.topicPartition)), p.clock); err != nil {
		return nil, err
	}
	defer func() {
		if end := p.engine.finish(); err == nil {
			err = end
		}
	}()
	for at := range v.Events {
		w, err := p.entry(ctx, at)
		if err != nil {
			return nil, fmt.Errorf("events[%d]: %w", at, err)
		}
		p.afterAll = append(p.afterAll, w)
	}
	return p.actual(ctx)
}

// entry plays one entry and returns the watermark after it, as vectors write it.
func (p *play) entry(ctx context.Context, at int) (any, error) {
	e := &p.v.Events[at]
	fires := true
	switch w := p.v.Spec.Watermark; {
	case e.Time != nil:
		if err := p.arrive(ctx, at, e); err != nil {
			return nil, err
		}
		fires = w != nil && w.Mode == modeBounded && w.Emit != emitOnTick
	case e.AdvanceWatermark != nil:
		p.manual = max(p.manual, exclusive(*e.AdvanceWatermark))
	case e.PartitionWatermark != nil:
		s := p.source(e.PartitionWatermark.Partition)
		s.mark, s.idle = max(s.mark, exclusive(e.PartitionWatermark.At)), false
	case e.MarkIdle != nil:
		p.source(*e.MarkIdle).idle = true
	case e.MarkActive != nil:
		p.source(*e.MarkActive).idle = false
	case e.Tick:
		if e.Now != nil {
			p.clock = max(p.clock, event.Time(*e.Now))
		}
	default:
		return nil, fmt.Errorf("unknown entry %+v", *e)
	}
	if !fires {
		return p.lastWatermark(), nil
	}
	return p.fire(ctx, at)
}

func (p *play) source(partition int32) *explicitSource {
	if p.explicit[partition] == nil {
		p.explicit[partition] = &explicitSource{mark: event.MinTime}
	}
	return p.explicit[partition]
}

// exclusive turns a watermark of the vectors, after which times are expected, into one of ours, from which they are.
func exclusive(w int64) event.Time { return event.Time(w).Add(1) }

func inclusive(w event.Time) any {
	if w == event.MinTime {
		return nil
	}
	return int64(w) - 1
}

func (p *play) lastWatermark() any {
	if len(p.afterAll) == 0 {
		return nil
	}
	return p.afterAll[len(p.afterAll)-1]
}

// arrive makes a record of an entry and delivers it, at once or with those after it.
func (p *play) arrive(ctx context.Context, at int, e *Event) error {
	value := e.Value
	if value == nil {
		value = json.Number("1")
	}
	fields := map[string]any{"ts": *e.Time, "value": value}
	if e.Gap != nil {
		fields["gap"] = *e.Gap
	}
	body, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	to := p.topicPartition[e.Partition]
	d := delivery{partition: to, record: event.Record{Offset: p.next[to], Timestamp: event.Time(*e.Time), Key: []byte(e.Key), Value: body}}
	if e.Offset != nil {
		d.record.Offset = *e.Offset
	}
	if e.Now != nil {
		d.record.Timestamp = event.Time(*e.Now)
	}
	if d.record.Offset < p.next[to] {
		return p.again(ctx, at, e, d)
	}
	p.next[to] = d.record.Offset + 1
	p.entryOf[position{to, d.record.Offset}] = at
	if p.batched {
		p.waiting = append(p.waiting, d)
		return nil
	}
	now := p.seen[to]
	if e.Now != nil {
		now = max(now, event.Time(*e.Now))
	}
	counts, err := p.engine.deliver(ctx, []delivery{d}, now)
	if err != nil {
		return err
	}
	if counts.In != 1 {
		return fmt.Errorf("1 record was delivered, but %d were counted", counts.In)
	}
	if counts.Dead == 0 {
		p.seen[to] = now
	}
	p.counts = p.counts.Add(counts)
	if counts.Unassigned > 0 {
		p.outcome["unassigned"] = append(p.outcome["unassigned"], p.entryAsOutcome(at))
	}
	return nil
}

// again delivers what has been delivered before.
func (p *play) again(ctx context.Context, at int, e *Event, d delivery) error {
	if err := p.flush(ctx); err != nil {
		return err
	}
	counts, err := p.engine.deliver(ctx, []delivery{d}, p.seen[d.partition])
	if err != nil {
		return err
	}
	if counts != (pipeline.Counts{}) {
		return fmt.Errorf("offset %d of partition %d was delivered before, but changed the state: %+v", d.record.Offset, e.Partition, counts)
	}
	p.outcome["duplicates"] = append(p.outcome["duplicates"], map[string]any{"at": at, "partition": int64(e.Partition), "offset": d.record.Offset})
	return nil
}

// flush delivers what waits, behind the second half of the batch before.
func (p *play) flush(ctx context.Context) error {
	if len(p.waiting) == 0 {
		return nil
	}
	batch := slices.Concat(p.sent[len(p.sent)/2:], p.waiting)
	counts, err := p.engine.deliver(ctx, batch, p.clock)
	if err != nil {
		return err
	}
	if counts.In != int64(len(p.waiting)) {
		return fmt.Errorf("%d records and %d known ones were delivered, but %d were counted", len(p.waiting), len(batch)-len(p.waiting), counts.In)
	}
	p.counts = p.counts.Add(counts)
	p.sent, p.waiting = p.waiting, nil
	return nil
}

func (p *play) fire(ctx context.Context, at int) (any, error) {
	if err := p.flush(ctx); err != nil {
		return nil, err
	}
	panes, w, err := p.engine.fire(ctx, p.clock, p.low())
	if err != nil {
		return nil, err
	}
	for i := range panes {
		pane, err := p.v.paneAsOutcome(at, &panes[i])
		if err != nil {
			return nil, err
		}
		p.fired = append(p.fired, pane)
	}
	return inclusive(w), nil
}

// low is the source of the watermark: only in the modes manual and explicit it is not the product's own.
func (p *play) low() fire.LowFunc {
	mode := ""
	if p.v.Spec.Watermark != nil {
		mode = p.v.Spec.Watermark.Mode
	}
	switch mode {
	case modeBounded:
		return watermark.Low
	case modeExplicit:
		return p.lowOfExplicit
	}
	return func(_ watermark.Policy, _ []watermark.Partition, last, _ event.Time) watermark.Decision {
		w := max(last, p.manual)
		return watermark.Decision{Watermark: w, Moved: w > last}
	}
}

// lowOfExplicit combines the watermarks of the vector's partitions, which need not be those of the topic, by the product's rule.
func (p *play) lowOfExplicit(_ watermark.Policy, _ []watermark.Partition, last, now event.Time) watermark.Decision {
	policy := p.v.Spec.Watermark.policy()
	policy.Bound, policy.IdleTimeout = 0, 1
	parts := make([]watermark.Partition, 0, len(p.explicit))
	for _, id := range slices.Sorted(maps.Keys(p.explicit)) {
		s := p.explicit[id]
		in := watermark.Partition{MaxTime: s.mark, LastRecordAt: now, Fence: event.MinTime}
		in.Topic, in.TopicPartition.Partition = sourceTopic, id
		if s.idle {
			in.LastRecordAt = now.Add(-policy.IdleTimeout)
		}
		parts = append(parts, in)
	}
	return watermark.Low(policy, parts, last, now)
}

// hold is a watermark that stays.
func hold(_ watermark.Policy, _ []watermark.Partition, last, _ event.Time) watermark.Decision {
	return watermark.Decision{Watermark: last}
}

// differences plays a vector and compares.
func differences(ctx context.Context, v *Vector, open newEngine, batched bool) ([]string, error) {
	want, err := v.pattern(batched)
	if err != nil {
		return nil, err
	}
	actual, err := run(ctx, v, open, batched)
	if err != nil {
		return nil, err
	}
	diffs := match(want, actual)
	for i, d := range diffs {
		if len(d) > mostOfADifference {
			diffs[i] = d[:mostOfADifference/2] + " ... " + d[len(d)-mostOfADifference/2:]
		}
	}
	return diffs, nil
}

// mostOfADifference bounds the text of one difference: lists that differ in length are printed whole.
const mostOfADifference = 4000

// mayBatch reports whether records may be delivered together: not where each is followed by the firer, and not where it
// matters when the wall clock saw which of them.
func (v *Vector) mayBatch() bool {
	w := v.Spec.Watermark
	return w == nil || w.Mode != modeBounded || w.Emit == emitOnTick && w.IdleTimeout == nil
}

// variant is one way of playing a scenario.
type variant struct {
	name    string
	open    newEngine
	batched bool
}

// report plays a vector in variants and reports every difference.
func report(t *testing.T, v *Vector, variants []variant) {
	t.Helper()
	for _, x := range variants {
		if x.batched && !v.mayBatch() {
			continue
		}
		diffs, err := differences(t.Context(), v, x.open, x.batched)
		if err != nil {
			t.Errorf("%s: %s: %v", v.Name, x.name, err)
		}
		for _, d := range diffs {
			t.Errorf("%s: %s: %s", v.Name, x.name, d)
		}
	}
	if t.Failed() {
		t.Logf("source: %s; note: %s", v.Source, v.Note)
	}
}

func runScenarioInCore(t *testing.T, v Vector) {
	t.Helper()
	skipUnsupported(t, &v)
	report(t, &v, []variant{{name: "core", open: newCore}, {name: "core, batches", open: newCore, batched: true}})
}

func runScenarioInFunctions(t *testing.T, v Vector) {
	t.Helper()
	skipUnsupported(t, &v)
	report(t, &v, []variant{
		{name: "memstore", open: inMemory},
		{name: "memstore, batches and redelivery", open: inMemory, batched: true},
		{name: "boltstore, opened again for every firing", open: inBolt(t.TempDir())},
	})
}
