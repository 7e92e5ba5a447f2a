package recompute_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/core/window"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio/memlog"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/recompute"
	"github.com/llm-auto-optimizer/tidemark/statestore/memstore"
	"github.com/llm-auto-optimizer/tidemark/tests/rig"
)

// world is the functions over a log and a store in memory, fed with records out of order.
type world struct {
	*rig.World
	t     *testing.T
	r     *rand.Rand
	store *memstore.Store
	logs  map[event.TopicPartition][]event.Record
	at    map[event.TopicPartition]int // the trigger's place
	parts []event.TopicPartition
	fail  int // per mille of operations on the log that fail
	now   event.Time
}

var errPlanted = errors.New("planted")

const twoValues = `
app: shop
processor:
  watermark: {max_out_of_orderness_ms: 15, emit_interval_ms: 0, idle_timeout_secs: 3600}
  error_handling: {policy: dead_letter}
  kafka: {consumer: {topics: [events]}, producer: {result_topic: results}}
pipelines:
  - name: p
    timestamp: {field: t, unit: ms}
    key: [k]
    values: {v: v, w: w}
    windows: [{name: w, type: tumbling, size: 1s}]
    aggregates: {v: [count, sum, average, min, max, variance, stddev, variance_sample, stddev_sample, p0, p50, p99.9, first], w: [count, first, last, distinct]}
`

func load(t *testing.T, yaml string) *spec.App {
	t.Helper()
	app, err := spec.Load([]byte(yaml), "spec.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return app
}

func newWorld(t *testing.T, r *rand.Rand, app *spec.App, partitions int32, o memlog.Options) *world {
	t.Helper()
	w := &world{t: t, r: r, store: memstore.New(), logs: map[event.TopicPartition][]event.Record{}, at: map[event.TopicPartition]int{}, now: 1_735_734_840_000}
	if !o.NoTransactions {
		var mu sync.Mutex // partitions are read side by side
		chance := rand.New(rand.NewPCG(r.Uint64(), 0))
		o.Hook = func(string) error {
			mu.Lock()
			defer mu.Unlock()
			if w.fail > 0 && chance.IntN(1000) < w.fail {
				return errPlanted
			}
			return nil
		}
	}
	var err error
	if w.World, err = rig.New(app, w.store, memlog.New(o), partitions); err != nil {
		t.Fatal(err)
	}
	w.Clock = w.now
	for p := range partitions {
		w.parts = append(w.parts, event.TopicPartition{Topic: "events", Partition: p})
	}
	w.fire()
	return w
}

// fire runs fire, which begins anew where an operation failed.
func (w *world) fire() {
	w.t.Helper()
	w.expire()
	if err := w.RunFire(w.t.Context()); err != nil {
		if !errors.Is(err, errPlanted) {
			w.t.Fatal(err)
		}
		w.Restart()
	}
}

// feed appends n records around the present time, some of them broken.
func (w *world) feed(n int) {
	w.t.Helper()
	for range n {
		tp := w.parts[w.r.IntN(len(w.parts))]
		at := w.now - event.Time(w.r.IntN(10))
		if w.r.IntN(8) == 0 {
			at -= event.Time(w.r.IntN(80))
		}
		rec := event.Record{
			Timestamp: w.now, Value: w.value(at, fmt.Sprintf("k%d", w.r.IntN(3)), fmt.Sprint(w.r.NormFloat64()*100), strconv.Itoa(w.r.IntN(100))),
		}
		switch w.r.IntN(30) {
		case 0:
			rec.Value = []byte("no JSON, \xff")
		case 1:
			rec.Value = w.value(at, "k", `"fast"`, "")
		case 2:
			rec.Value = w.value(at, "k1", "", "7") // one of the values is missing
		}
		log := w.logs[tp]
		if len(log) > 0 {
			rec.Offset = log[len(log)-1].Offset + 1
		}
		w.logs[tp] = append(log, rec)
		if err := w.Log.Append(tp.Topic, tp.Partition, rec); err != nil {
			w.t.Fatal(err)
		}
	}
}

// prefix is what a schema registry's serializer writes before a value.
const prefix = "\x00\x00\x00\x00\x07"

// value writes a record as the pipeline's format says: with a number or a string in quotes as v and a number as w, or nothing.
func (w *world) value(t event.Time, k, v, x string) []byte {
	document := fmt.Appendf(nil, `{"t":%d,"k":%q`, t, k)
	if v != "" {
		document = append(append(document, `,"v":`...), v...)
	}
	if x != "" {
		document = append(append(document, `,"w":`...), x...)
	}
	document = append(document, '}')
	switch w.App.Pipelines[0].Input.Kind {
	case event.FormatJSON:
	case event.FormatJSONRegistry:
		return append([]byte(prefix), document...)
	case event.FormatCSV:
		return fmt.Appendf(nil, "%d,%q,%s,%s\n", t, k, v, x)
	case event.FormatText:
		return []byte(v)
	}
	return document
}

// delivered returns records as the trigger delivers them: one with a schema registry removes its prefix.
func (w *world) delivered(records []event.Record) []event.Record {
	if w.App.Pipelines[0].Input.Kind != event.FormatJSONRegistry {
		return records
	}
	records = slices.Clone(records)
	for i := range records {
		records[i].Value = bytes.TrimPrefix(records[i].Value, []byte(prefix))
	}
	return records
}

// expire aborts the transactions of dead firers, as a coordinator does after a while: nobody else is there to open their ids while
// ingest waits for them.
func (w *world) expire() {
	w.t.Helper()
	fail := w.fail
	w.fail = 0
	for _, id := range w.Log.OpenTransactions() {
		s, err := w.Log.Open(w.t.Context(), id)
		if err != nil {
			w.t.Fatal(err)
		}
		s.Close()
	}
	w.fail = fail
}

// deliver hands ingest what the trigger has not delivered yet, of some partitions.
func (w *world) deliver(all bool) {
	w.t.Helper()
	batch := map[event.TopicPartition][]event.Record{}
	for _, tp := range w.parts {
		if (all || w.r.IntN(3) > 0) && w.at[tp] < len(w.logs[tp]) {
			batch[tp] = w.delivered(w.logs[tp][w.at[tp]:])
		}
	}
	if len(batch) == 0 {
		return
	}
	w.expire()
	failed, err := w.Deliver(w.t.Context(), batch)
	if err != nil && !errors.Is(err, errPlanted) {
		w.t.Fatal(err)
	}
	if err == nil && failed == 0 {
		for tp := range batch {
			w.at[tp] = len(w.logs[tp])
		}
	}
}

// live goes through some steps, with what can go wrong.
func (w *world) live(steps int) {
	w.t.Helper()
	for range steps {
		w.now += event.Time(w.r.IntN(12))
		w.Clock = w.now
		w.feed(1 + w.r.IntN(12))
		w.deliver(false)
		if w.r.IntN(3) > 0 {
			w.fire()
		}
		if w.fail > 0 && w.r.IntN(15) == 0 { // the store forgets a partition
			slots, err := w.store.Slots(w.t.Context(), w.Pipelines[0].ID())
			if err != nil {
				w.t.Fatal(err)
			}
			if len(slots) > 0 {
				if err := w.store.Drop(w.t.Context(), slots[w.r.IntN(len(slots))]); err != nil {
					w.t.Fatal(err)
				}
			}
		}
	}
}

// succeed lets functions of another spec take over, which go through some steps, and returns those that were there before.
func (w *world) succeed(app *spec.App) (old *rig.World) {
	w.t.Helper()
	old = w.World
	deployed, err := old.Deploy(app)
	if err != nil {
		w.t.Fatal(err)
	}
	w.World = deployed
	w.Clock = w.now
	w.fire()
	w.live(25)
	w.settle()
	return old
}

// settle brings everything that was appended into a plan.
func (w *world) settle() {
	w.t.Helper()
	w.fail = 0
	w.deliver(true)
	w.deliver(true)
	w.fire()
}

func (w *world) options() recompute.Options {
	return recompute.Options{
		App: w.App, Pipelines: w.Pipelines, Log: w.Log, From: event.MinTime, To: event.MaxTime, Memory: 64 << 20, Dir: w.t.TempDir(), Most: 50,
		Tell: func(string, string, int64, int64) {},
	}
}

func (w *world) verify(o recompute.Options) recompute.PipelineReport {
	w.t.Helper()
	r, err := recompute.Run(w.t.Context(), o)
	if err != nil {
		w.t.Fatal(err)
	}
	p := r.Pipelines[0]
	if r.OK != (len(p.Differences) == 0) {
		w.t.Errorf("ok is %v with %d differences", r.OK, len(p.Differences))
	}
	return p
}

// clean verifies and wants no difference.
func (w *world) clean(o recompute.Options, when string) recompute.PipelineReport {
	w.t.Helper()
	p := w.verify(o)
	for i := range p.Differences {
		w.t.Errorf("%s: %+v", when, p.Differences[i])
	}
	return p
}

// grown reports whether a second look saw no less than the first. Groups may become fewer where there are sessions alone: a record that
// came in between, late or not, joins what were two runs of records.
func grown(first, second recompute.PipelineReport, defs []window.Definition) bool {
	sessions := slices.ContainsFunc(defs, func(d window.Definition) bool { return d.Kind == window.KindSession })
	return second.Panes >= first.Panes && second.Records >= first.Records && (sessions || second.Groups >= first.Groups)
}

func randomDefinitions(r *rand.Rand) []window.Definition {
	defs := make([]window.Definition, 1+r.IntN(3))
	for i := range defs {
		d := window.Definition{Name: fmt.Sprintf("w%d", i), Lateness: []event.Span{0, 0, 5, 20, 100}[r.IntN(5)]}
		size := event.Span(7 + r.IntN(50))
		switch r.IntN(5) {
		case 3:
			d.Kind, d.Step = window.KindCumulate, event.Span(3+r.IntN(10))
			d.Size = d.Step * event.Span(1+r.IntN(4))
			d.Offset = event.Span(r.Int64N(int64(d.Size)))
		case 4:
			d.Kind, d.Gap, d.Max = window.KindSession, event.Span(2+r.IntN(10)), event.Span(20+r.IntN(40))
		case 0:
			d.Kind, d.Size, d.Offset = window.KindTumbling, size, event.Span(r.Int64N(int64(size)))
		case 1:
			d.Kind, d.Size = window.KindSliding, size
			d.Slide = min(size, 2+event.Span(r.Int64N(int64(size))))
			d.Offset = event.Span(r.Int64N(int64(d.Slide)))
		case 2:
			d.Kind, d.Gap = window.KindSession, event.Span(2+r.IntN(20))
		}
		defs[i] = d
	}
	return defs
}
