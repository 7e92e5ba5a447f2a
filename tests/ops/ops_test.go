package ops_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio/memlog"
	"github.com/llm-auto-optimizer/tidemark/functions/ops"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/memstore"
	"github.com/llm-auto-optimizer/tidemark/tests/rig"
	"github.com/llm-auto-optimizer/tidemark/tests/seed"
)

const windows = `[{name: w, type: tumbling, size: 20ms, allowed_lateness: 30ms}, {name: s, type: sliding, size: 30ms, slide: 10ms}, {name: v, type: session, gap: 5ms, allowed_lateness: 10ms}]`

// stage is a pipeline in memory with records in it, and ops beside it.
type stage struct {
	*rig.World
	t     *testing.T
	rand  *rand.Rand
	ends  map[event.TopicPartition]int64
	store *memstore.Store
	ops   *ops.Handler
	base  event.Time
}

func newStage(t *testing.T, yaml string) *stage {
	t.Helper()
	app, err := spec.Load([]byte(yaml), "spec.yaml")
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{t: t, rand: rand.New(rand.NewPCG(seed.Of(t), 1)), ends: map[event.TopicPartition]int64{}, store: memstore.New(), base: 1_735_734_840_000}
	if s.World, err = rig.New(app, s.store, memlog.New(memlog.Options{}), 2); err != nil {
		t.Fatal(err)
	}
	s.Clock = s.base
	s.open(s.store, s.Log)
	s.fire()
	return s
}

func (s *stage) open(store statestore.Store, log kafkaio.Log) {
	s.ops = ops.New(ops.Deps{
		App: s.App, Pipelines: s.Pipelines, Store: store, Log: log, Clock: func() event.Time { return s.Clock },
		Logger: slog.New(slog.DiscardHandler), Checkpoints: s.t.TempDir(), Margin: time.Millisecond,
	})
}

func config(extra string) string {
	return `
app: shop
processor:
  watermark: {max_out_of_orderness_ms: 10, emit_interval_ms: 0, idle_timeout_secs: 3600}
  kafka: {consumer: {topics: [events]}, producer: {result_topic: results}}
` + extra + `
pipelines:
  - name: p
    timestamp: {field: t, unit: ms}
    values: {v: v}
    windows: ` + windows + `
    aggregates: {v: [count, sum, average, min, max, stddev, p50]}
`
}

func (s *stage) fire() {
	s.t.Helper()
	if err := s.RunFire(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

// records appends n records to each partition given, around a time.
func (s *stage) records(n int, at event.Time, partitions ...int32) map[event.TopicPartition][]event.Record {
	s.t.Helper()
	out := map[event.TopicPartition][]event.Record{}
	for _, p := range partitions {
		tp := event.TopicPartition{Topic: "events", Partition: p}
		for i := range n {
			time := s.base + at + event.Time(i/2) - event.Time(s.rand.IntN(9))
			r := event.Record{
				Offset: s.ends[tp], Timestamp: time, Key: []byte(string(rune('a' + s.rand.IntN(3)))),
				Value: fmt.Appendf(nil, `{"t":%d,"v":%d.25}`, time, s.rand.IntN(1000)),
			}
			if s.rand.IntN(20) == 0 {
				r.Value = []byte("no JSON")
			}
			s.ends[tp]++
			out[tp] = append(out[tp], r)
		}
		if err := s.Log.Append("events", p, out[tp]...); err != nil {
			s.t.Fatal(err)
		}
	}
	return out
}

// feed appends records, delivers them and fires.
func (s *stage) feed(rounds int, from event.Time) {
	s.t.Helper()
	for i := range rounds {
		got := s.records(10, from+event.Time(i)*6, 0, 1)
		s.Clock += 6
		if failed, err := s.Deliver(s.t.Context(), got); err != nil || failed > 0 {
			s.t.Fatalf("%d records failed: %v", failed, err)
		}
		s.fire()
	}
}

func (s *stage) slot(p int) statestore.Slot {
	s.t.Helper()
	parts, err := s.Log.Partitions(s.t.Context(), []string{"events"})
	if err != nil {
		s.t.Fatal(err)
	}
	return apply.SlotID(s.Pipelines[0], parts[p])
}

func invoke[T any](t *testing.T, h *ops.Handler, payload string) T {
	t.Helper()
	out, err := h.Invoke(t.Context(), []byte(payload))
	if err != nil {
		t.Fatalf("%s: %v", payload, err)
	}
	var v T
	if err := json.Unmarshal(out, &v); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	return v
}

// results are all panes and side outputs so far.
func (s *stage) results() []string {
	var out []string
	p := s.Pipelines[0]
	for _, topic := range []string{p.SinkTopic, p.LateTopic, p.DeadLetterTopic} {
		for _, r := range s.Log.Records(topic) {
			out = append(out, string(r.Key)+" "+string(r.Value))
		}
	}
	return out
}

func (s *stage) damage(p int) {
	s.t.Helper()
	damageSlot(s.t, s.store, s.slot(p))
}

// damageSlot stores a delta of the newest tumbling window twice, as no log has it.
func damageSlot(t *testing.T, store statestore.Store, slot statestore.Slot) {
	t.Helper()
	ctx := t.Context()
	st, err := store.Status(ctx, slot)
	if err != nil {
		t.Fatal(err)
	}
	last := statestore.SliceInfo{}
	for _, x := range st.Slices {
		if x.ID.Window == 0 {
			last = x
		}
	}
	refs, err := store.Index(ctx, slot, st.Top.Token, []statestore.SliceID{last.ID})
	if err != nil || len(refs) == 0 {
		t.Fatal(refs, err)
	}
	payloads, err := store.Read(ctx, slot, st.Top.Token, refs[:1])
	if err != nil {
		t.Fatal(err)
	}
	twice := refs[0]
	twice.Bucket = 255 // the same groups once more
	sweep := statestore.Sweep{Token: st.Top.Token, Replace: []statestore.Replace{{
		Remove: refs[:1], With: []statestore.Delta{{Ref: refs[0], Payload: payloads[0]}, {Ref: twice, Payload: payloads[0]}},
	}}}
	if err := store.Sweep(ctx, slot, sweep); err != nil {
		t.Fatal(err)
	}
}

func TestVerifyFindsTheStateEqualAtEveryStep(t *testing.T) {
	s := newStage(t, config(""))
	for i := range 25 {
		s.feed(1, event.Time(i)*6)
		v := invoke[ops.Verified](t, s.ops, `{"command":"verify"}`)
		if !v.OK || v.Partial {
			t.Fatalf("round %d: %+v", i, v)
		}
		if l := v.Ledger[0]; l.Records == 0 || l.Unaccounted != 0 {
			t.Fatalf("round %d: ledger %+v", i, l)
		}
	}
	v := invoke[ops.Verified](t, s.ops, `{"command":"verify","topic":"events","partition":1}`)
	if len(v.Slots) != 1 || v.Slots[0].Compared == 0 || v.Slots[0].Reached != s.ends[event.TopicPartition{Topic: "events", Partition: 1}] {
		t.Errorf("%+v: want one partition, and groups compared", v.Slots)
	}
}

// A neighbour in the ledger that publishes, or that has died while it did, hides what is behind it for a while.
func TestVerifySaysThatATransactionHidesTheBooks(t *testing.T) {
	s := newStage(t, config(""))
	ctx, books := t.Context(), event.TopicPartition{Topic: spec.LedgerTopic}
	offsets, err := s.Log.Offsets(ctx, []event.TopicPartition{books})
	if err != nil {
		t.Fatal(err)
	}
	neighbour, err := s.Log.Open(ctx, "neighbour")
	if err != nil {
		t.Fatal(err)
	}
	defer neighbour.Close()
	if err := neighbour.Begin(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := neighbour.Produce(ctx, []kafkaio.Message{{Topic: books.Topic, Key: []byte("neighbour"), Value: []byte("{}")}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Log.Truncate(books, offsets[books].End); err != nil {
		t.Fatal(err)
	}
	s.feed(5, 0)
	l := invoke[ops.Verified](t, s.ops, `{"command":"verify"}`).Ledger[0]
	if l.Records != 0 || !strings.Contains(l.Note, "a transaction, perhaps of a neighbour, is open in the ledger") || !strings.Contains(l.Note, "ask again") {
		t.Errorf("while the neighbour publishes: %+v", l)
	}
	neighbour.Close()
	if l := invoke[ops.Verified](t, s.ops, `{"command":"verify"}`).Ledger[0]; l.Records == 0 || l.Note != "" {
		t.Errorf("after the neighbour: %+v", l)
	}
}

// A plan that came to nothing has raised the fence in some slots.
func TestVerifyKnowsTheFenceOfAnUnfinishedPlan(t *testing.T) {
	s := newStage(t, config(""))
	s.feed(10, 0)
	ctx, slot := t.Context(), s.slot(0)
	m, err := s.store.Load(ctx, slot)
	if err != nil {
		t.Fatal(err)
	}
	raise := statestore.Raise{Token: statestore.Token{7}, Watermark: m.Top.Watermark + 12, Base: m.Top.Token, BaseOffset: m.Top.Offset, Seen: m.Applied}
	if _, err := s.store.Raise(ctx, slot, raise); err != nil {
		t.Fatal(err)
	}
	got := s.records(30, 40, 0) // some late by the new fence, and not by the plan's
	if failed, err := s.Deliver(ctx, got); err != nil || failed > 0 {
		t.Fatal(failed, err)
	}
	v := invoke[ops.Verified](t, s.ops, `{"command":"verify","topic":"events","partition":0}`)
	if !v.OK || v.Slots[0].State != "equal" || v.Slots[0].Compared == 0 {
		t.Errorf("%+v", v.Slots)
	}
}

func TestVerifyNamesWhatIsWrong(t *testing.T) {
	s := newStage(t, config(""))
	s.feed(10, 0)
	s.damage(1)
	v := invoke[ops.Verified](t, s.ops, `{"command":"verify"}`)
	if v.OK || v.Slots[0].State != "equal" || v.Slots[1].State != "different" || len(v.Slots[1].Differences) == 0 {
		t.Fatalf("%+v", v)
	}
	for _, d := range v.Slots[1].Differences {
		if d.Window != "w" || d.Key == "" || !strings.Contains(d.What, "should be") {
			t.Errorf("%+v: want window, key, what is and what should be", d)
		}
	}
	r := invoke[map[string]any](t, s.ops, `{"command":"replay","pipeline":"p","confirm":true}`)
	if r["done"] != true {
		t.Fatalf("%v", r)
	}
	if v := invoke[ops.Verified](t, s.ops, `{"command":"verify"}`); !v.OK || v.Partial {
		t.Errorf("after the replay: %+v", v)
	}
}

func TestReplayChangesNoResult(t *testing.T) {
	for _, confirm := range []string{"", `,"topic":"events","partition":1`} {
		a, b := newStage(t, config("")), newStage(t, config(""))
		b.rand, a.rand = rand.New(rand.NewPCG(5, 5)), rand.New(rand.NewPCG(5, 5))
		for i := range 20 {
			a.feed(1, event.Time(i)*6)
			b.feed(1, event.Time(i)*6)
			if i%3 == 2 {
				before := b.ends[event.TopicPartition{Topic: "events", Partition: 1}]
				r := invoke[struct {
					Done       bool `json:"done"`
					Partitions []struct {
						Dropped bool  `json:"dropped"`
						Applied int64 `json:"applied"`
					} `json:"partitions"`
				}](t, b.ops, `{"command":"replay","pipeline":"p","confirm":true`+confirm+`}`)
				last := r.Partitions[len(r.Partitions)-1]
				if !r.Done || !last.Dropped || last.Applied != before {
					t.Fatalf("round %d: %+v", i, r)
				}
			}
		}
		if err := errors.Join(a.Flush(t.Context()), b.Flush(t.Context())); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(a.results(), b.results()); diff != "" || len(a.results()) < 50 {
			t.Errorf("%d results (-without +with replays):\n%s", len(a.results()), diff)
		}
	}
}

// slowLog reads one record at a time, and lets a number of reads pass before it waits for the end of the invocation.
type slowLog struct {
	kafkaio.Log
	left int
}

func (l *slowLog) Read(ctx context.Context, tp event.TopicPartition, from, to int64, fn func([]event.Record, int64) error) error {
	return l.Log.Read(ctx, tp, from, to, func(records []event.Record, next int64) error {
		for i := range records {
			if l.left--; l.left < 0 {
				<-ctx.Done()
				return ctx.Err()
			}
			if err := fn(records[i:i+1], records[i].Offset+1); err != nil {
				return err
			}
		}
		return fn(nil, next)
	})
}

// progress is what replay and verify answer, as far as they say how far they came.
type progress struct {
	Done       bool
	Partial    bool
	Partitions []struct {
		Dropped, Done bool
		State         string
		Applied, To   int64
		Reached       int64
	}
}

func TestReplayAndVerifyAnswerBeforeTheirDeadline(t *testing.T) {
	s := newStage(t, config(""))
	for i := range 4 { // nothing closes, so that all of it has to be folded again
		if _, err := s.Deliver(t.Context(), s.records(10, event.Time(i), 0, 1)); err != nil {
			t.Fatal(err)
		}
	}
	log := &slowLog{Log: s.Log, left: 15}
	s.open(s.store, log)
	ask := func(payload string) (out progress) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
		defer cancel()
		b, err := s.ops.Invoke(ctx, []byte(payload))
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	v := ask(`{"command":"verify","pipeline":"p"}`)
	if !v.Partial || v.Partitions[0].State != "partial" {
		t.Errorf("verify: %+v", v)
	}
	log.left = 15
	r := ask(`{"command":"replay","pipeline":"p","confirm":true}`)
	if p := r.Partitions[0]; r.Done || !p.Dropped || p.Applied != 15 || p.To != 40 {
		t.Fatalf("%+v: want part of it", r)
	}
	calls := 1
	for !r.Done {
		if calls++; calls > 10 {
			t.Fatalf("%+v after %d calls", r, calls)
		}
		log.left = 15
		before := r.Partitions[0].Applied
		r = ask(`{"command":"replay","pipeline":"p","continue":true}`)
		if p := r.Partitions[0]; p.Dropped || p.Applied < before {
			t.Fatalf("%+v: want it to go on", r)
		}
	}
	s.open(s.store, s.Log)
	if v := invoke[ops.Verified](t, s.ops, `{"command":"verify"}`); !v.OK || v.Partial {
		t.Errorf("%+v", v)
	}
}

func TestReplayDropsNothingThatCannotBeRebuilt(t *testing.T) {
	s := newStage(t, config(""))
	s.feed(5, 0)
	before, err := s.store.Load(t.Context(), s.slot(0))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Log.Truncate(event.TopicPartition{Topic: "events"}, before.Applied); err != nil {
		t.Fatal(err)
	}
	for payload, want := range map[string]string{
		`{"command":"replay","pipeline":"p","confirm":true}`:             "nothing was dropped",
		`{"command":"replay","pipeline":"p"}`:                            "confirm",
		`{"command":"replay","confirm":true}`:                            "name a pipeline",
		`{"command":"replay","pipeline":"q","confirm":true}`:             "no pipeline",
		`{"command":"replay","pipeline":"p","topic":"x","confirm":true}`: "no such partition",
	} {
		if _, err := s.ops.Invoke(t.Context(), []byte(payload)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", payload, err, want)
		}
	}
	after, err := s.store.Load(t.Context(), s.slot(0))
	if diff := cmp.Diff(before, after); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if v := invoke[ops.Verified](t, s.ops, `{"command":"verify"}`); v.Slots[0].State != "skipped" || !v.Partial || !strings.Contains(v.Slots[0].Note, "the log has") {
		t.Errorf("%+v", v.Slots[0])
	}
}

func TestExplainNamesWhoHoldsTheWatermark(t *testing.T) {
	s := newStage(t, config(""))
	s.feed(5, 0)
	if _, err := s.Deliver(t.Context(), s.records(10, 500, 0)); err != nil { // partition 1 stays behind
		t.Fatal(err)
	}
	s.records(3, 40, 1)
	e := invoke[ops.Explanation](t, s.ops, `{"command":"explain","pipeline":"p","key":"a"}`).Pipelines[0]
	if !strings.HasPrefix(e.HeldBy, "events/1") || e.Holder != "lagging" || e.Parts[1].Lag != 3 || e.Parts[0].Lag != 0 {
		t.Errorf("%+v: want events/1, which lags", e)
	}
	if e.Plan == 0 || e.Watermark == nil || len(e.Windows) == 0 || e.Open < len(e.Windows) || len(e.Early) == 0 || !strings.Contains(e.EarlyNote, "not final") {
		t.Errorf("%+v: want plan, watermark, windows and an early look", e)
	}
	for _, w := range e.Windows {
		if w.Fired == (w.ToGo != "") || len(w.In) == 0 {
			t.Errorf("window %+v", w)
		}
	}
}

// What explain says of the next plan is what fire does.
func TestExplainDecidesAsFireDoes(t *testing.T) {
	s := newStage(t, config(""))
	for i := range 20 {
		if _, err := s.Deliver(t.Context(), s.records(6, event.Time(i)*6, 0, 1)); err != nil {
			t.Fatal(err)
		}
		s.Clock += 6
		e := invoke[ops.Explanation](t, s.ops, `{"command":"explain"}`).Pipelines[0]
		r := s.Fire.Run(t.Context(), apply.Nudge{})[0]
		if r.Err != nil || r.Made != e.Due || *e.Next != r.Decision.Watermark.String() {
			t.Fatalf("round %d: %+v, fire %+v", i, e, r)
		}
	}
}

func TestExplainSaysWhatIsHaltedOrBlocked(t *testing.T) {
	for name, c := range map[string]struct {
		yaml string
		do   func(s *stage) error
		want string
	}{
		"no plan yet": {config(""), func(s *stage) error {
			s.Log.DeleteGroup(s.Pipelines[0].Group())
			return errors.Join(s.store.Drop(s.t.Context(), s.slot(0)), s.store.Drop(s.t.Context(), s.slot(1)))
		}, "fire has not begun"},
		"offsets gone": {config(""), func(s *stage) error { s.Log.DeleteGroup(s.Pipelines[0].Group()); return nil }, "has no offset for it"},
		"retention": {config(""), func(s *stage) error {
			s.records(10, 50, 0)
			return s.Log.Truncate(event.TopicPartition{Topic: "events"}, s.ends[event.TopicPartition{Topic: "events"}])
		}, "the log begins at"},
		"made anew": {config(""), func(s *stage) error {
			return errors.Join(s.Log.DeleteTopic("events"), s.Log.CreateTopic("events", 2))
		}, "made anew"},
		"blocked": {config("  error_handling: {policy: fail}"), func(s *stage) error {
			r := event.Record{Offset: 0, Timestamp: s.base, Value: []byte("no JSON")}
			s.ends[event.TopicPartition{Topic: "events"}]++
			return s.Log.Append("events", 0, r)
		}, "events/0 is blocked under the policy fail: offset 0"},
		"lost slot": {config(""), func(s *stage) error { return s.store.Drop(s.t.Context(), s.slot(0)) }, "folded again first"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, c.yaml)
			if name != "blocked" {
				s.feed(8, 0)
			}
			if err := c.do(s); err != nil {
				t.Fatal(err)
			}
			e := invoke[ops.Explanation](t, s.ops, `{"command":"explain"}`).Pipelines[0]
			if !strings.Contains(strings.Join(e.Why, "\n"), c.want) {
				t.Errorf("%q, want %q", e.Why, c.want)
			}
		})
	}
}

func TestStateIsListedInPages(t *testing.T) {
	s := newStage(t, config(""))
	s.feed(10, 0)
	first := invoke[ops.StateList](t, s.ops, `{"command":"state","limit":1}`)
	second := invoke[ops.StateList](t, s.ops, `{"command":"state","limit":1,"after":"`+first.Next+`"}`)
	if len(first.Slots) != 1 || first.Slots[0].Slot != "p/events/0" || len(second.Slots) != 1 || second.Slots[0].Slot != "p/events/1" || second.Next != "" {
		t.Errorf("%+v, then %+v", first, second)
	}
	if l := invoke[ops.StateList](t, s.ops, `{"command":"state","prefix":"p/events/1"}`); len(l.Slots) != 1 || l.Slots[0].Deltas == 0 {
		t.Errorf("%+v, want partition 1 alone", l)
	}
	whole := invoke[ops.SlotDetails](t, s.ops, `{"command":"state","slot":"p/events/1"}`)
	var paged []ops.SliceInfo
	for after := ""; ; {
		d := invoke[ops.SlotDetails](t, s.ops, `{"command":"state","pipeline":"p","topic":"events","partition":1,"limit":2,"after":"`+after+`"}`)
		paged = append(paged, d.Detail...)
		if after = d.Next; after == "" {
			break
		}
	}
	if diff := cmp.Diff(whole.Detail, paged, cmp.AllowUnexported(ops.SliceInfo{})); diff != "" || len(paged) < 5 {
		t.Errorf("%d slices (-whole +in pages):\n%s", len(paged), diff)
	}
	deltas := 0
	for _, x := range paged {
		deltas += x.Deltas
		if x.Bytes == 0 || x.To <= x.From {
			t.Errorf("%+v", x)
		}
	}
	if deltas != whole.Deltas {
		t.Errorf("%d deltas, want %d", deltas, whole.Deltas)
	}
	if _, err := s.ops.Invoke(t.Context(), []byte(`{"command":"state","slot":"p/events/7"}`)); !errors.Is(err, statestore.ErrNoSlot) {
		t.Errorf("%v, want ErrNoSlot", err)
	}
}

func TestACheckpointPutsBackWhatTheStoreLost(t *testing.T) {
	s := newStage(t, config(""))
	if _, err := s.ops.Invoke(t.Context(), []byte(`{"command":"checkpoint"}`)); err != nil { // the genesis made slots
		t.Logf("nothing to keep yet: %v", err)
	}
	s.feed(10, 0)
	saved := invoke[map[string]any](t, s.ops, `{"command":"checkpoint"}`)
	if saved["slots"] != 2.0 {
		t.Fatalf("%v", saved)
	}
	if err := s.store.Drop(t.Context(), s.slot(1)); err != nil {
		t.Fatal(err)
	}
	type answer struct {
		Counts map[string]int
		Slots  []struct{ Topic, Outcome string }
	}
	r := invoke[answer](t, s.ops, `{"command":"restore"}`)
	if diff := cmp.Diff(map[string]int{"exists": 1, "imported": 1}, r.Counts); diff != "" {
		t.Error(diff)
	}
	if v := invoke[ops.Verified](t, s.ops, `{"command":"verify"}`); !v.OK || v.Partial {
		t.Errorf("%+v", v)
	}
	if err := errors.Join(s.Log.DeleteTopic("events"), s.Log.CreateTopic("events", 2)); err != nil {
		t.Fatal(err)
	}
	r = invoke[answer](t, s.ops, `{"command":"restore"}`)
	if diff := cmp.Diff(map[string]int{"changed": 2}, r.Counts); diff != "" {
		t.Errorf("a topic that was made anew: %s", diff)
	}
}

func TestOnlyReplayAndRestoreChangeTheStore(t *testing.T) {
	s := newStage(t, config(""))
	s.feed(8, 0)
	before := s.store.Clone()
	for _, payload := range []string{`{}`, `{"command":"explain","key":"a"}`, `{"command":"state"}`, `{"command":"state","slot":"p/events/0"}`, `{"command":"verify"}`, `{"command":"checkpoint"}`} {
		if _, err := s.ops.Invoke(t.Context(), []byte(payload)); err != nil {
			t.Fatal(err)
		}
	}
	for p := range 2 {
		a, errA := before.Status(t.Context(), s.slot(p))
		b, errB := s.store.Status(t.Context(), s.slot(p))
		if diff := cmp.Diff(a, b); diff != "" || errA != nil || errB != nil {
			t.Error(diff, errA, errB)
		}
	}
}
