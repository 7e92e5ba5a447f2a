package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/core/window"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio/memlog"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/memstore"
	"github.com/llm-auto-optimizer/tidemark/statestore/storetest"
	"github.com/llm-auto-optimizer/tidemark/tests/oracle"
)

// faultPoints are all places at which something can go wrong: before an operation, which then does not happen, and after it,
// when it has happened and nobody hears of it. Those of the store begin with a capital letter.
func faultPoints() []string {
	points := []string{memlog.OpClose + ":before"} // what comes after closing, closing cannot tell
	for _, op := range []string{
		memlog.OpPartitions, memlog.OpOffsets, memlog.OpRead, memlog.OpGroup, memlog.OpOpen, memlog.OpBegin, memlog.OpProduce, memlog.OpCommit,
		memlog.OpEnd, memlog.OpGroups, memlog.OpOffsetsAt, "Load", "Status", "Restore", "Commit", "Raise", "Index", "Read", "Sweep", "Drop", "Slots",
	} {
		points = append(points, op+":before", op+":after")
	}
	return points
}

// effect is what happens at a fault point.
type effect uint8

const (
	effectError  effect = iota // one operation fails
	effectDeath                // and all operations after it, until the functions are started again
	effectForget               // nothing fails, but the store goes back to what it was earlier
	effects
)

var errInjected = errors.New("injected fault")

// injector makes one operation go wrong.
type injector struct {
	mu     sync.Mutex
	off    bool
	armed  string // a fault point; empty: none
	skip   int    // times that it is passed unharmed
	effect effect
	forget func()
	dead   bool
	struck bool // something went wrong since this was set to false

	passed, hit map[string]int
}

// at is called at every fault point.
func (i *injector) at(point string) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.off {
		return nil
	}
	i.passed[point]++
	switch {
	case i.dead:
		return errInjected
	case point != i.armed:
		return nil
	case i.skip > 0:
		i.skip--
		return nil
	}
	i.armed, i.struck = "", true
	i.hit[point]++
	if i.effect == effectForget {
		i.forget()
		return nil
	}
	i.dead = i.effect == effectDeath
	return errInjected
}

// witness is a store that may go back, and that notes under which fence each record was folded, the last time before a plan had
// it: attempts at plans that die leave fences which no ledger tells of.
type witness struct {
	statestore.Store // not used: every method that the functions call is below, or goes to the current store
	current          atomic.Pointer[memstore.Store]

	mu     sync.Mutex
	ledger func() []kafkaio.PublishedRecord
	read   int // ledger records
	lives  []*life
}

// life is what the witness knows of a pipeline.
type life struct {
	id, fingerprint string
	planned         map[int32]int64 // offsets of the newest plan
	fences          map[place]event.Time
}

// of returns what is known of a pipeline.
func (w *witness) of(p *pipeline.Pipeline) *life {
	for _, l := range w.lives {
		if l.id == p.ID() {
			return l
		}
	}
	l := &life{p.ID(), p.Fingerprint(), map[int32]int64{}, map[place]event.Time{}}
	w.lives = append(w.lives, l)
	return l
}

// Commit also notes the fence.
func (w *witness) Commit(ctx context.Context, id statestore.Slot, c statestore.Commit) (statestore.Meta, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	meta, err := w.current.Load().Commit(ctx, id, c)
	if err != nil {
		return meta, err
	}
	records := w.ledger()
	plans, bad := oracle.ParseLedger(records[w.read:])
	if bad != nil {
		return meta, bad
	}
	w.read = len(records)
	for _, l := range w.lives {
		for _, p := range plans {
			if p.Fingerprint != l.fingerprint {
				continue
			}
			for _, q := range p.Partitions {
				l.planned[q.Partition] = q.Offset
			}
		}
		if l.id != id.Pipeline {
			continue
		}
		for o := max(c.Applied, l.planned[id.Partition]); o < c.To; o++ {
			l.fences[place{event.TopicPartition{Topic: id.Topic, Partition: id.Partition}, o}] = meta.Top.Watermark
		}
	}
	return meta, nil
}

// The other methods go to the current store.

func (w *witness) Slots(ctx context.Context, pipeline string) ([]statestore.Slot, error) {
	return w.current.Load().Slots(ctx, pipeline)
}

func (w *witness) Load(ctx context.Context, id statestore.Slot) (statestore.Meta, error) {
	return w.current.Load().Load(ctx, id)
}

func (w *witness) Status(ctx context.Context, id statestore.Slot) (statestore.Status, error) {
	return w.current.Load().Status(ctx, id)
}

func (w *witness) Restore(ctx context.Context, id statestore.Slot, r statestore.Restore) (statestore.Meta, statestore.Outcome, error) {
	return w.current.Load().Restore(ctx, id, r)
}

func (w *witness) Raise(ctx context.Context, id statestore.Slot, r statestore.Raise) (statestore.Meta, error) {
	return w.current.Load().Raise(ctx, id, r)
}

func (w *witness) Index(ctx context.Context, id statestore.Slot, t statestore.Token, ids []statestore.SliceID) ([]statestore.DeltaRef, error) {
	return w.current.Load().Index(ctx, id, t, ids)
}

func (w *witness) Read(ctx context.Context, id statestore.Slot, t statestore.Token, refs []statestore.DeltaRef) ([][]byte, error) {
	return w.current.Load().Read(ctx, id, t, refs)
}

func (w *witness) Sweep(ctx context.Context, id statestore.Slot, s statestore.Sweep) error {
	return w.current.Load().Sweep(ctx, id, s)
}

func (w *witness) Drop(ctx context.Context, id statestore.Slot) error {
	return w.current.Load().Drop(ctx, id)
}

// trouble is a flow in which things go wrong.
type trouble struct {
	*flow
	*injector
	store     *witness
	snapshots []*memstore.Store
	calm      bool // nothing goes wrong
}

func newTrouble(r *rand.Rand, i *injector, defs []window.Definition, w spec.Watermark, t triggered, scale event.Span) (*trouble, error) {
	tr := &trouble{injector: i, store: &witness{}}
	tr.store.current.Store(memstore.New())
	hooked := storetest.Hook(tr.store,
		func(op string, _ statestore.Slot) error { return i.at(op + ":before") },
		func(op string, _ statestore.Slot) error { return i.at(op + ":after") })
	s, err := newTriggeredStage(r, defs, w, t, int32(1+r.IntN(4)), hooked, memlog.Options{Scribble: true, SingleUse: r.IntN(2) == 0, Hook: i.at})
	if err != nil {
		return nil, err
	}
	tr.store.ledger = s.ledgerRecords
	tr.store.of(s.Pipelines[0])
	tr.flow = &flow{stage: s, scale: scale, t: event.Time(r.IntN(400)-200) * event.Time(scale)}
	tr.tolerate = func() bool { return i.struck || !tr.begun() }
	tr.Clock = tr.t
	i.off, i.armed, i.dead, i.struck = false, "", false, false
	i.forget = tr.goBack
	return tr, nil
}

// begun reports whether all partitions have their genesis: until then ingest answers that nothing is folded.
func (tr *trouble) begun() bool {
	plans, err := tr.ledger()
	if err != nil {
		return false
	}
	known := map[int32]bool{}
	for _, p := range plans {
		if p.Fingerprint != tr.Pipelines[0].Fingerprint() {
			continue
		}
		if p.EndedBy != "" {
			clear(known)
			continue
		}
		for _, q := range p.Partitions {
			known[q.Partition] = true
		}
	}
	return len(known) == len(tr.tps)
}

// goBack makes the store what it was at some time before, or empty. What it was after that time never comes back.
func (tr *trouble) goBack() {
	earlier := memstore.New()
	if n := len(tr.snapshots); n > 0 && tr.r.IntN(5) > 0 {
		if tr.r.IntN(2) == 0 { // more often the last writes than more
			tr.snapshots = tr.snapshots[:1+tr.r.IntN(n)]
		}
		earlier = tr.snapshots[len(tr.snapshots)-1].Clone()
	} else {
		tr.snapshots = nil
	}
	tr.store.current.Store(earlier)
}

// disturb takes snapshots, goes back to them, and sees to it that something will go wrong.
func (tr *trouble) disturb() {
	switch n := tr.r.IntN(100); {
	case n < 40:
		tr.snapshots = append(tr.snapshots, tr.store.current.Load().Clone())
		if len(tr.snapshots) > 4 {
			tr.snapshots = tr.snapshots[1:]
		}
	case n < 47:
		tr.goBack()
	case n < 80 && tr.armed == "":
		points := faultPoints()
		tr.r.Shuffle(len(points), func(i, j int) { points[i], points[j] = points[j], points[i] })
		if tr.r.IntN(2) == 0 { // one of those that were hit least
			slices.SortStableFunc(points, func(a, b string) int { return tr.hit[a] - tr.hit[b] })
		}
		tr.armed, tr.skip, tr.effect = points[0], tr.r.IntN(6), effect(tr.r.IntN(int(effects)))
	}
}

// play goes through so many steps, every so often disturbed, and ends undisturbed.
func (tr *trouble) play(ctx context.Context, steps int) error {
	if err := tr.steps(ctx, steps); err != nil {
		return err
	}
	tr.off = true
	if err := tr.limited(ctx, tr.expire); err != nil {
		return err
	}
	tr.Restart()
	return tr.limited(ctx, tr.Flush)
}

func (tr *trouble) steps(ctx context.Context, steps int) error {
	for range steps {
		if !tr.calm && tr.r.IntN(3) == 0 {
			tr.disturb()
		}
		tr.struck = false
		if err := tr.limited(ctx, tr.move); err != nil {
			return err
		}
		if tr.dead || tr.struck && tr.r.IntN(2) == 0 {
			tr.dead = false
			if err := tr.limited(ctx, tr.expire); err != nil {
				return err
			}
			tr.Restart()
		}
	}
	return nil
}

// judge is the batch computation over what the witness saw. A definition takes a record or not by the fence of its fold; of the
// definition's windows, those that a plan had finished with do not get it. Where an attempt at a plan died in between, its fence
// is the higher one.
func (tr *trouble) judge() (panes []oracle.Pane, late []oracle.Event, err error) {
	plans, err := tr.ledger()
	if err != nil {
		return nil, nil, err
	}
	fences := tr.store.of(tr.Pipelines[0]).fences
	for _, e := range tr.events {
		if _, ok := fences[place{e.TopicPartition, e.Offset}]; !ok {
			return nil, nil, fmt.Errorf("%s/%d offset %d was never folded", e.Topic, e.Partition, e.Offset)
		}
	}
	folded := func(e oracle.Event) event.Time { return fences[place{e.TopicPartition, e.Offset}] }
	_, late = oracle.Compute(tr.defs, tr.events, folded)
	for i := range tr.defs {
		d := tr.defs[i : i+1]
		var taken []oracle.Event
		for _, e := range tr.events {
			if _, refused := oracle.Compute(d, []oracle.Event{e}, folded); len(refused) == 0 {
				taken = append(taken, e)
			}
		}
		fence := func(e oracle.Event) event.Time { return oracle.Fence(plans, e.TopicPartition, e.Offset) }
		if d[0].Kind == window.KindSession {
			fence = folded
		}
		more, _ := oracle.Compute(d, taken, fence)
		panes = append(panes, more...)
	}
	return panes, late, nil
}

// limited runs a step with a bound: nothing here waits for anything but another transaction.
func (tr *trouble) limited(ctx context.Context, step func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return step(ctx)
}

// expire ends transactions whose owner died, as the broker does after their timeout. Where nobody waits for that, the next
// owner may come first.
func (tr *trouble) expire(ctx context.Context) error {
	off := tr.off
	tr.off = true
	defer func() { tr.off = off }()
	now, cancel := context.WithCancel(ctx)
	cancel()
	_, err := tr.Log.Group(now, tr.Pipelines[0].Group())
	if err == nil && tr.r.IntN(2) == 0 {
		return nil
	}
	for _, id := range tr.Log.OpenTransactions() {
		s, err := tr.Log.Open(ctx, id)
		if err != nil {
			return err
		}
		s.Close()
	}
	return nil
}

// kinds of rounds.
const (
	roundAny      = iota // any definitions, and records that are late
	roundInOrder         // no record is ever late: what went wrong must not show at all
	roundTumbling        // one tumbling definition without lateness: every record is in one pane, or late
	roundChanges         // the spec changes on the way, and functions of the earlier ones stay
	roundKinds
)

// Functions that die or fail at any operation, and stores that forget, change neither a result nor what is late: each record is
// judged once, by the fence of its last fold before a plan had it.
func TestFaultsLoseAndDoubleNothing(t *testing.T) {
	i := &injector{passed: map[string]int{}, hit: map[string]int{}}
	late, panes := 0, 0
	rounds := properties(t, func(t *testing.T, r *rand.Rand, round int) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) { // they wait for each other's transactions
			var l, p int
			if kind := round % roundKinds; kind == roundChanges {
				l, p = troubledChanges(t, r, i)
			} else {
				l, p = troubled(t, r, i, kind)
			}
			late, panes = late+l, panes+p
		})
	})
	t.Logf("%d panes, %d late records", panes, late)
	tellFaults(t, i, rounds)
}

// troubled is a round of one spec.
func troubled(t *testing.T, r *rand.Rand, i *injector, kind int) (late, panes int) {
	t.Helper()
	scale := pick[event.Span](r, 1, 37, 1000)
	defs, w, trigger := randomDefinitions(r, scale), randomWatermark(r, scale), randomTrigger(r, scale)
	switch kind {
	case roundInOrder:
		w.IdleTimeout, w.MaxOutOfOrder = 0, 1_000_000*scale
		if r.IntN(2) == 0 {
			w.MaxOutOfOrder = 0 // each partition is in order, and one that is behind holds the watermark
		}
	case roundTumbling:
		defs = []window.Definition{{Name: "w0", Kind: window.KindTumbling, Size: 10 * scale}}
		trigger.OnChange = false // every record is counted
	}
	tr, err := newTrouble(r, i, defs, w, trigger, scale)
	if err != nil {
		t.Fatal(err)
	}
	tr.disorder, tr.spoil = kind != roundInOrder, true
	if err := tr.play(t.Context(), 40+r.IntN(80)); err != nil {
		t.Fatalf("%v\n%s", err, tr.describe())
	}
	want, lateEvents, err := tr.judge()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := tr.verify(want, lateEvents)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v\n%s\n%s", err, strings.Join(problems, "\n"), tr.describe())
	}
	switch kind {
	case roundInOrder:
		if len(lateEvents) > 0 {
			t.Errorf("%d records are late: %v", len(lateEvents), lateEvents)
		}
	case roundTumbling:
		tr.conserves(t)
	}
	return len(lateEvents), len(tr.Log.Records(tr.Pipelines[0].SinkTopic))
}

// troubledChanges is a round in which the spec changes.
func troubledChanges(t *testing.T, r *rand.Rand, i *injector) (late, panes int) {
	t.Helper()
	c, err := newChanges(r, i)
	if err != nil {
		t.Fatal(err)
	}
	lateEvents, err := c.act(t.Context(), 1+r.IntN(4))
	if err != nil {
		t.Fatalf("%v\n%s", err, c.describeAll())
	}
	return len(lateEvents), len(c.Log.Records(c.Pipelines[0].SinkTopic))
}

// conserves checks that each record is in one pane or in the late topic.
func (tr *trouble) conserves(t *testing.T) {
	t.Helper()
	results, err := tr.published()
	if err != nil {
		t.Error(err)
	}
	counted := int64(len(tr.Log.Records(tr.Pipelines[0].LateTopic)))
	results, _ = oracle.Standing(results, tr.Pipelines[0].Accumulation) // whose problems are told already
	for _, p := range results {                                         // without lateness a window has one pane that stands, or panes that discard
		n, ok := p.Results["count"].(float64)
		if !ok {
			t.Errorf("a pane without a count: %+v", p)
		}
		counted += int64(n)
	}
	if counted != int64(len(tr.events)) {
		t.Errorf("panes and late topic have %d records, but there were %d", counted, len(tr.events))
	}
}

// tellFaults prints how often each fault point was passed and hit. In a run of some length none is left out.
func tellFaults(t *testing.T, i *injector, rounds int) {
	t.Helper()
	var table strings.Builder
	for _, p := range faultPoints() {
		fmt.Fprintf(&table, "\n%-24s passed %7d times, hit %4d times", p, i.passed[p], i.hit[p])
		if i.hit[p] == 0 && rounds >= 100 {
			t.Errorf("nothing ever went wrong at %s", p)
		}
	}
	t.Log(table.String())
}
