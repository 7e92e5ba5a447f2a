package fire_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/fire"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio/memlog"
	"github.com/llm-auto-optimizer/tidemark/functions/settings"
	"github.com/llm-auto-optimizer/tidemark/statestore/memstore"
)

// Specs of one pipeline: windows of 10 ms, of 20 ms, of 30 ms.
var (
	ten    = strings.Replace(tumbling, "allowed_lateness: 5ms", "allowed_lateness: 0s", 1)
	twenty = strings.Replace(ten, "size: 10ms", "size: 20ms", 1)
	thirty = strings.Replace(ten, "size: 10ms", "size: 30ms", 1)
)

// deploy brings functions of another spec to the log and the store of b.
func (b *bench) deploy(t *testing.T, yaml string) *bench {
	t.Helper()
	app, err := spec.Load([]byte(yaml), "test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	pipes, err := settings.Compile(app)
	if err != nil {
		t.Fatal(err)
	}
	n := &bench{app: app, pipe: pipes[0], log: b.log, store: b.store, now: b.now, tokens: b.tokens + 1_000_000}
	n.restart()
	return n
}

// says returns the handler's logs; it is made anew for that.
func (b *bench) says() *bytes.Buffer {
	var out bytes.Buffer
	b.fire.Logger = slog.New(slog.NewTextHandler(&out, nil))
	return &out
}

func (b *bench) append(t *testing.T, p int32, times ...event.Time) {
	t.Helper()
	for _, at := range times {
		rec := event.Record{Offset: memlog.Next, Timestamp: at, Key: []byte("k"), Value: []byte(`{"value":1}`)}
		if err := b.log.Append("events", p, rec); err != nil {
			t.Fatal(err)
		}
	}
}

// delivered makes fire fold what is in the log: the trigger's position is moved to the end.
func (b *bench) delivered(t *testing.T, partitions int32) {
	t.Helper()
	at := map[event.TopicPartition]kafkaio.Committed{}
	for p := range partitions {
		tp := event.TopicPartition{Topic: "events", Partition: p}
		o, err := b.log.Offsets(t.Context(), []event.TopicPartition{tp})
		if err != nil {
			t.Fatal(err)
		}
		at[tp] = kafkaio.Committed{Offset: o[tp].End}
	}
	b.log.SetGroup(b.app.Consumer.GroupID, at)
}

func (b *bench) plan(t *testing.T) *apply.Plan {
	t.Helper()
	p, err := apply.ReadPlan(t.Context(), b.log, b.pipe)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

type bookEntry struct {
	Fingerprint string `json:"fingerprint"`
	Plan        int64  `json:"plan"`
	Watermark   int64  `json:"watermark_ms"`
	HeldBy      string `json:"held_by"`
	TakesOver   string `json:"takes_over"`
	EndedBy     string `json:"ended_by"`
	Partitions  []struct {
		Offset     int64 `json:"offset"`
		ReplayFrom int64 `json:"replay_from"`
		In         int64 `json:"in"`
		Open       int64 `json:"open"`
		Final      int64 `json:"final"`
		Late       int64 `json:"late"`
	} `json:"partitions"`
}

// books are the ledger's records; those of all plans balance.
func (b *bench) books(t *testing.T) []bookEntry {
	t.Helper()
	var out []bookEntry
	for _, r := range b.log.Records(spec.LedgerTopic) {
		var e bookEntry
		if err := json.Unmarshal(r.Value, &e); err != nil {
			t.Fatal(err)
		}
		for _, p := range e.Partitions {
			if p.In != p.Open+p.Final+p.Late {
				t.Errorf("%s: the books do not balance", r.Value)
			}
		}
		out = append(out, e)
	}
	return out
}

// started is a pipeline of 10 ms windows that has fired one and has another open: records at 1, 2, 12, the watermark at 12.
func started(t *testing.T, o memlog.Options) *bench {
	t.Helper()
	a := newBench(t, ten, 1, o)
	a.run(t)
	a.ingest(t, 0, 1, 2, 12)
	a.run(t)
	if got, want := a.results(t), "0 on_time 2"; got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
	return a
}

func TestASuccessorGoesOnWhereTheLastPlanEnded(t *testing.T) {
	a := started(t, memlog.Options{})
	b := a.deploy(t, twenty)
	b.run(t)
	was, is := a.plan(t), b.plan(t)
	if !was.Ended || is.Ended || is.Number != 1 || is.Watermark != 12 {
		t.Fatalf("old plan %+v, new plan %+v", was, is)
	}
	got := is.Partitions[source]
	if got.Offset != was.Partitions[source].Offset || got.Offset != 3 || got.ReplayFrom != 0 || !got.TakenOver || got.MaxTime != 12 || got.Totals != (pipeline.Totals{}) {
		t.Errorf("the new plan has %+v", got)
	}
	b.append(t, 0, 25)
	b.delivered(t, 1)
	b.run(t)
	// The window [0, 20) was open at 12, so it is the new query's, whole; [0, 10) was the old one's.
	if got, want := b.results(t), "0 on_time 2, 0 on_time 3"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	var history []string
	for _, e := range b.books(t) {
		p := e.Partitions[0]
		history = append(history, fmt.Sprintf("%d %s in %d open %d %s%s", e.Plan, strings.Fields(e.HeldBy)[0], p.In, p.Open, e.TakesOver, e.EndedBy))
	}
	want := []string{
		"0 genesis in 0 open 0 ", "1 events/0 in 3 open 1 ", "1 hand-over in 0 open 0 " + a.pipe.Group(), "1 ended in 3 open 1 " + b.pipe.Group(), "2 events/0 in 4 open 1 ",
	}
	if diff := cmp.Diff(want, history); diff != "" {
		t.Errorf("ledger (-want +got):\n%s", diff)
	}
}

// Without transactions the offsets of the two groups are committed one after the other; else it is the same.
func TestASuccessorGoesOnWithoutTransactions(t *testing.T) {
	a := started(t, memlog.Options{NoTransactions: true})
	b := a.deploy(t, twenty)
	b.run(t)
	b.goOn(t, 25)
	a.goOn(t, 26)
	if got, want := b.results(t), "0 on_time 2, 0 on_time 3"; got != want || !a.plan(t).Ended {
		t.Errorf("got %q, want %q; old plan %+v", got, want, a.plan(t))
	}
	b.books(t)
}

// Metadata that is as long as it may be takes no longer time of the end: what only a restore needs goes then.
func TestThereIsRoomForTheEnd(t *testing.T) {
	a := started(t, memlog.Options{})
	base := a.plan(t).Partitions[source]
	for o := int64(0); len(pipeline.AppendCommitment(nil, &base.Commitment)) <= pipeline.MaxMetadata-2; o++ {
		base.Refused = append(base.Refused, pipeline.Refusal{Offset: o})
	}
	meta := string(pipeline.AppendCommitment(nil, &base.Commitment))
	a.log.SetGroup(a.pipe.Group(), map[event.TopicPartition]kafkaio.Committed{source: {Offset: base.Offset, Metadata: meta}})
	b := a.deploy(t, twenty)
	b.now = 1_700_000_000_000
	b.restart()
	b.run(t)
	if got := a.plan(t); !got.Ended || got.At != b.now || got.Partitions[source].Refused != nil || got.Partitions[source].Offset != base.Offset {
		t.Errorf("the end, with %d bytes of metadata before, is %+v", len(meta), got)
	}
}

// What the new query needs of the log is replayed, and no more: the old one's open windows, and its own longest one.
func TestReplayBeginsWhereOpenWindowsOfBothQueriesDo(t *testing.T) {
	for name, c := range map[string]struct {
		spec string
		want int64
	}{
		"of the old one":                {strings.Replace(ten, "size: 10ms", "size: 1ms", 1), 100},
		"of the new one":                {thirty, 75},
		"of the new one, with lateness": {strings.Replace(thirty, "allowed_lateness: 0s", "allowed_lateness: 15ms", 1), 60},
		"nothing below the log's start": {strings.Replace(ten, "size: 10ms", "size: 1s", 1), 20},
	} {
		t.Run(name, func(t *testing.T) {
			a := newBench(t, ten, 1, memlog.Options{})
			a.run(t)
			for i := range event.Time(106) {
				a.ingest(t, 0, i)
			}
			a.run(t) // the watermark is at 105; [100, 110) is open
			if err := a.log.Truncate(source, 20); err != nil {
				t.Fatal(err)
			}
			b := a.deploy(t, c.spec)
			b.run(t)
			if got := b.plan(t).Partitions[source].ReplayFrom; got != c.want {
				t.Errorf("replay from %d, want %d", got, c.want)
			}
		})
	}
}

func TestWhatCannotBeFoldedWholeIsTakenOverOnlyIfOneIsToldTo(t *testing.T) {
	a := started(t, memlog.Options{})
	if err := a.log.Truncate(source, 2); err != nil { // the batch of the open window began at offset 0
		t.Fatal(err)
	}
	b := a.deploy(t, twenty)
	if err := b.fails(t); !errors.Is(err, fire.ErrHalted) || !strings.Contains(err.Error(), "begin at offset 0, but the log begins at 2") {
		t.Errorf("%v, want a halt that names the offsets", err)
	}
	if a.plan(t).Ended {
		t.Error("the pipeline before has ended, without a successor")
	}
	if r := b.fire.Run(t.Context(), apply.Nudge{TakeOver: true})[0]; r.Err != nil || !a.plan(t).Ended {
		t.Errorf("told to take over: %v", r.Err)
	}
}

func TestAPipelineThatHasEndedRestsOrHalts(t *testing.T) {
	a := started(t, memlog.Options{})
	b := a.deploy(t, twenty)
	b.run(t)
	// At work when its successor came: it says so once an invocation.
	a.fire.Close()
	a.fire.Tick = time.Millisecond
	for range 2 {
		said := a.says()
		if _, err := a.fire.Invoke(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(said.String(), "pipeline has ended"); n != 1 || !strings.Contains(said.String(), "successor="+b.pipe.Group()) {
			t.Errorf("it is said %d times that %s took over:\n%s", n, b.pipe.Group(), said)
		}
	}
	// Deployed again.
	a.restart()
	for _, way := range []string{`{"takeover": true}`, "--take-over", b.pipe.Group()} {
		if err := a.fails(t); !errors.Is(err, fire.ErrHalted) || !strings.Contains(err.Error(), way) {
			t.Errorf("%v, want a halt that names %s", err, way)
		}
	}
	if b.plan(t).Ended || !a.plan(t).Ended {
		t.Error("without being asked the earlier spec took over")
	}
}

func TestAnEarlierSpecTakesOverAgainIfItIsTold(t *testing.T) {
	a := started(t, memlog.Options{})
	b := a.deploy(t, twenty)
	b.run(t)
	b.append(t, 0, 13, 25, 34)
	b.delivered(t, 1)
	b.run(t)
	again := a.deploy(t, ten)
	ctx, cancel := context.WithCancel(t.Context())
	again.fire.OnTick = func([]fire.Report) { cancel() }
	if _, err := again.fire.Invoke(ctx, []byte(`{"takeover": true}`)); err != nil {
		t.Fatal(err)
	}
	if p := again.plan(t); p.Ended || p.Number != 2 || p.Watermark != 34 || !b.plan(t).Ended {
		t.Fatalf("took over with %+v", p)
	}
	again.append(t, 0, 36, 41, 55)
	again.delivered(t, 1)
	again.run(t)
	b.run(t)
	// [20, 30) was over at 34, with the other query; [30, 40) is whole in this one.
	if got, want := again.results(t), "0 on_time 2, 0 on_time 4, 30 on_time 2, 40 on_time 1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	again.books(t)
}

func TestOnlyTheNewestOfSeveralPipelinesIsGoneOnFrom(t *testing.T) {
	a := started(t, memlog.Options{})
	live, err := a.log.Group(t.Context(), a.pipe.Group())
	if err != nil {
		t.Fatal(err)
	}
	a.now = 100
	b := a.deploy(t, twenty)
	b.run(t)
	b.append(t, 0, 45)
	b.delivered(t, 1)
	b.run(t)
	a.log.SetGroup(a.pipe.Group(), live) // as programs left it that knew nothing of hand-overs
	c := b.deploy(t, thirty)
	c.run(t)
	if !a.plan(t).Ended || !b.plan(t).Ended || c.plan(t).Watermark != 45 {
		t.Errorf("%+v, %+v, %+v", a.plan(t), b.plan(t), c.plan(t))
	}
	for _, e := range c.books(t) {
		if e.TakesOver != "" && e.Fingerprint == c.pipe.Fingerprint() && e.TakesOver != b.pipe.Group() {
			t.Errorf("took over from %s", e.TakesOver)
		}
	}
}

func TestPipelinesOfOtherNamesAreLeftAlone(t *testing.T) {
	a := started(t, memlog.Options{})
	stranger, err := a.log.Group(t.Context(), a.pipe.Group())
	if err != nil {
		t.Fatal(err)
	}
	a.log.DeleteGroup(a.pipe.Group())
	prefix, fp := "tidemark.test.p.", a.pipe.Fingerprint()
	names := []string{
		"tidemark.test.p2." + fp, "tidemark.test." + fp, prefix + fp + "." + fp, prefix + fp + ".1", prefix + fp[1:], prefix + strings.ToUpper("abcdefabcdefabcd"), "x" + prefix + fp,
	}
	for _, name := range names {
		a.log.SetGroup(name, stranger)
	}
	b := a.deploy(t, twenty)
	b.run(t)
	if p := b.plan(t); p.Number != 0 || p.Watermark != event.MinTime || p.Partitions[source].TakenOver {
		t.Errorf("took over from a stranger: %+v", p)
	}
	for _, name := range names {
		if got, err := a.log.Group(t.Context(), name); err != nil || cmp.Diff(stranger, got) != "" {
			t.Errorf("%s: %v %v", name, got, err)
		}
	}
}

// What cannot be taken over goes on undisturbed: it is not even fenced.
func TestWhatCannotBeTakenOverGoesOn(t *testing.T) {
	for name, c := range map[string]struct {
		harm func(t *testing.T, a *bench) (restore func())
		spec string
		says string
	}{
		"a topic that was made anew": {func(t *testing.T, a *bench) func() {
			t.Helper()
			group, err := a.log.Group(t.Context(), a.pipe.Group())
			if err != nil {
				t.Fatal(err)
			}
			c, err := pipeline.DecodeCommitment(group[source].Metadata)
			if err != nil {
				t.Fatal(err)
			}
			c.TopicID[0]++
			other := map[event.TopicPartition]kafkaio.Committed{source: {Offset: group[source].Offset, Metadata: string(pipeline.AppendCommitment(nil, c))}}
			a.log.SetGroup(a.pipe.Group(), other)
			return func() { a.log.SetGroup(a.pipe.Group(), group) }
		}, twenty, "made anew"},
		"metadata of a newer program": {func(t *testing.T, a *bench) func() {
			t.Helper()
			group, err := a.log.Group(t.Context(), a.pipe.Group())
			if err != nil {
				t.Fatal(err)
			}
			a.log.SetGroup(a.pipe.Group(), map[event.TopicPartition]kafkaio.Committed{source: {Offset: 3, Metadata: "t2:"}})
			return func() { a.log.SetGroup(a.pipe.Group(), group) }
		}, twenty, "by a newer one"},
	} {
		t.Run(name, func(t *testing.T) {
			opened := 0
			a := started(t, memlog.Options{Hook: func(op string) error {
				if op == memlog.OpOpen+":before" {
					opened++
				}
				return nil
			}})
			restore := c.harm(t, a)
			before := opened
			b := a.deploy(t, c.spec)
			if err := b.fails(t); !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want one that says %q", err, c.says)
			}
			if opened != before || len(b.plan(t).Partitions) > 0 {
				t.Errorf("%d sessions were opened, plan %+v", opened-before, b.plan(t))
			}
			restore()
			a.ingest(t, 0, 21)
			a.run(t)
			if got, want := a.results(t), "0 on_time 2, 10 on_time 1"; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// A query of other topics, which begin where a nudge says, waits for that nudge: nothing ends before something begins.
func TestNothingEndsBeforeSomethingBegins(t *testing.T) {
	a := started(t, memlog.Options{})
	if err := a.log.CreateTopic("other", 1); err != nil {
		t.Fatal(err)
	}
	if err := a.log.Append("other", 0, event.Record{Timestamp: 30, Value: []byte(`{"value":1}`)}); err != nil {
		t.Fatal(err)
	}
	latest := strings.NewReplacer("topics: [events]}", "topics: [other], auto_offset_reset: latest}", "topics: [events]\n", "topics: [other]\n").Replace(twenty)
	b := a.deploy(t, latest)
	b.run(t)
	if a.plan(t).Ended || len(b.plan(t).Partitions) > 0 {
		t.Fatalf("old plan %+v, new plan %+v", a.plan(t), b.plan(t))
	}
	if r := b.fire.Run(t.Context(), apply.Nudge{Genesis: []apply.First{{Topic: "other", Offset: 0}}})[0]; r.Err != nil {
		t.Fatal(r.Err)
	}
	p := b.plan(t)
	born := p.Partitions[event.TopicPartition{Topic: "other"}]
	if !a.plan(t).Ended || p.Watermark != 12 || born.TakenOver || born.Offset != 0 {
		t.Errorf("old plan %+v, new plan %+v", a.plan(t), p)
	}
}

func TestAPartitionThatTheOldPlanLacksBeginsAtItsStart(t *testing.T) {
	a := started(t, memlog.Options{})
	if err := a.log.AddPartitions("events", 2); err != nil {
		t.Fatal(err)
	}
	b := a.deploy(t, twenty)
	b.append(t, 1, 15, 16)
	b.run(t)
	p := b.plan(t)
	if born := p.Partitions[event.TopicPartition{Topic: "events", Partition: 1}]; born.TakenOver || born.Offset != 0 || born.Watermark != 12 {
		t.Errorf("the new partition begins with %+v", born)
	}
	b.append(t, 1, 40)
	b.append(t, 0, 40)
	b.delivered(t, 2)
	b.run(t)
	if got, want := b.results(t), "0 on_time 2, 0 on_time 5"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What a store has of an earlier life of the spec, because it went back, is no fold of the new one, though it is not ahead of the
// plan: what it holds was counted, and its counts are gone.
func TestStateOfAnEarlierLifeIsNotAdopted(t *testing.T) {
	a := started(t, memlog.Options{})
	store, ok := a.store.(*memstore.Store)
	if !ok {
		t.Fatalf("the store is a %T", a.store)
	}
	earlier := store.Clone()
	a.deploy(t, twenty).run(t)
	again := a.deploy(t, ten)
	if r := again.fire.Run(t.Context(), apply.Nudge{TakeOver: true})[0]; r.Err != nil {
		t.Fatal(r.Err)
	}
	again.store = earlier
	again.restart()
	again.append(t, 0, 25)
	again.delivered(t, 1)
	again.run(t)
	if got, want := again.results(t), "0 on_time 2, 10 on_time 1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	books := again.books(t)
	if last := books[len(books)-1].Partitions[0]; last.In != 2 { // 12 and 25
		t.Errorf("the ledger ends with %+v", last)
	}
}

func TestStateOfAnEndedPipelineIsDroppedAfterADay(t *testing.T) {
	for name, who := range map[string]func(a, b *bench) *bench{
		"by its successor": func(_, b *bench) *bench { return b },
		"by itself":        func(a, _ *bench) *bench { return a },
	} {
		t.Run(name, func(t *testing.T) {
			a := started(t, memlog.Options{})
			b := a.deploy(t, twenty)
			b.run(t)
			slots := func() int {
				t.Helper()
				all, err := a.store.Slots(t.Context(), a.pipe.ID())
				if err != nil {
					t.Fatal(err)
				}
				return len(all)
			}
			w := who(a, b)
			for _, now := range []event.Time{a.now + 3_600_000, a.now + 86_399_999} {
				w.now = now
				w.run(t)
			}
			if slots() != 1 {
				t.Fatal("the state has gone before a day had passed")
			}
			w.now += 86_400_000
			w.run(t)
			if slots() != 0 {
				t.Error("the state is still there")
			}
			if p := a.plan(t); !p.Ended || w == a && p.At != a.now {
				t.Errorf("the old plan is %+v", p)
			}
			a.restart()
			if err := a.fails(t); !errors.Is(err, fire.ErrHalted) {
				t.Error(err)
			}
		})
	}
}

// race runs a hand-over from a to b once for every operation of b's firer on the log, before which something else happens, and
// returns at which operations that was.
func race(t *testing.T, meanwhile func(a, b *bench), after func(a, b *bench, at string)) []string {
	t.Helper()
	var points []string
	for n := 0; ; n++ {
		var hook func(op string)
		a := started(t, memlog.Options{Hook: func(op string) error {
			if hook != nil {
				hook(op)
			}
			return nil
		}})
		b := a.deploy(t, twenty)
		left, at := n, ""
		hook = func(op string) {
			if left--; left < 0 {
				hook, at = nil, op
				meanwhile(a, b)
			}
		}
		r := b.fire.Run(t.Context(), apply.Nudge{})[0]
		if hook = nil; at == "" {
			return points
		}
		if r.Err != nil && !errors.Is(r.Err, fire.ErrHalted) {
			t.Errorf("%s, the %dth operation: %v", at, n, r.Err)
		}
		points = append(points, at)
		after(a, b, fmt.Sprintf("%s, the %dth operation", at, n))
	}
}

// goOn lets a firer make a plan at a time, or see that it is not its turn: another one may be in the middle of a transaction that
// it would have to wait for.
func (b *bench) goOn(t *testing.T, at event.Time) {
	t.Helper()
	b.append(t, 0, at)
	b.delivered(t, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if r := b.fire.Run(ctx, apply.Nudge{})[0]; r.Err != nil && !errors.Is(r.Err, fire.ErrHalted) && ctx.Err() == nil {
		t.Error(r.Err)
	}
}

// However two firers of the new spec get into each other's way, the old plan ends once and the new one begins once, from there.
func TestRacingSuccessorsTakeOverOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // they wait for each other's transactions
		var other *bench
		points := race(t, func(_, b *bench) {
			other = b.deploy(t, twenty)
			other.goOn(t, 45)
		}, func(a, b *bench, at string) {
			for _, f := range []*bench{b, other, b} {
				f.goOn(t, 65)
			}
			if got, want := b.results(t), "0 on_time 2, 0 on_time 3, 40 on_time 1"; got != want {
				t.Errorf("at %s: got %q, want %q", at, got, want)
			}
			ends := 0
			for _, e := range b.books(t) {
				if e.EndedBy != "" {
					ends++
				}
			}
			if ends != 1 || !a.plan(t).Ended {
				t.Errorf("at %s: the old plan ended %d times", at, ends)
			}
		})
		if !slices.Contains(points, "commit_offsets:before") || !slices.Contains(points, "groups:after") {
			t.Errorf("the race was only tried at %v", points)
		}
	})
}

// A firer that comes late to the hand-over, after another one of its spec did it and was itself succeeded, does not undo that.
func TestASuccessorThatComesLateIsNotASuccessor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var third *bench
		race(t, func(_, b *bench) {
			b.deploy(t, twenty).goOn(t, 45)
			third = b.deploy(t, thirty)
			third.tokens += 1_000_000
			third.goOn(t, 46)
		}, func(a, b *bench, at string) {
			if p := third.plan(t); p.Ended || !a.plan(t).Ended || !b.plan(t).Ended || p.Watermark != 45 && p.Watermark != 46 {
				t.Errorf("at %s: the third plan is %+v, the second %+v, the first %+v", at, p, b.plan(t), a.plan(t))
			}
			third.books(t)
		})
	})
}

// Where the old firer makes another plan while its successor is on its way, the hand-over is from that one.
func TestAHandOverIsFromTheLastPlanThereIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen := map[event.Time]int{}
		race(t, func(a, _ *bench) { a.goOn(t, 21) }, func(a, b *bench, at string) {
			b.run(t) // it may have been fenced so often that it left the rest to this look
			b.goOn(t, 45)
			a.goOn(t, 46)
			var w event.Time
			for _, e := range b.books(t) {
				if e.TakesOver != "" {
					w = event.Time(e.Watermark)
					seen[w]++
				}
			}
			want := map[event.Time]string{12: "0 on_time 2, 0 on_time 3, 20 on_time 1", 21: "0 on_time 2, 10 on_time 1, 20 on_time 1"}[w]
			if got := b.results(t); got != want || want == "" {
				t.Errorf("at %s: handed over at %s: got %q, want %q", at, w, got, want)
			}
		})
		if seen[12] == 0 || seen[21] == 0 {
			t.Errorf("the hand-over was always at the same plan: %v", seen)
		}
	})
}

func TestAFirerThatDiedInItsHandOverDoesNotHoldUpTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		armed, dead := false, false
		a := started(t, memlog.Options{Hook: func(op string) error {
			if dead = dead || armed && op == memlog.OpEnd+":before"; dead {
				return errors.New("killed")
			}
			return nil
		}})
		b := a.deploy(t, twenty)
		armed = true
		if r := b.fire.Run(t.Context(), apply.Nudge{})[0]; r.Err == nil {
			t.Fatal("it did not die")
		}
		armed, dead = false, false
		if open := b.log.OpenTransactions(); !slices.Equal(open, []string{a.pipe.Group()}) {
			t.Fatalf("open transactions: %v, want that of the hand-over", open)
		}
		// Nobody times it out on memlog, and the session of the own group, which is opened first, does not settle it.
		b.restart()
		b.run(t)
		if !a.plan(t).Ended || b.plan(t).Watermark != 12 {
			t.Errorf("old plan %+v, new plan %+v", a.plan(t), b.plan(t))
		}
	})
}
