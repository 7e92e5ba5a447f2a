package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/core/window"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio/memlog"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/memstore"
	"github.com/llm-auto-optimizer/tidemark/statestore/storetest"
	"github.com/llm-auto-optimizer/tidemark/tests/oracle"
	"github.com/llm-auto-optimizer/tidemark/tests/rig"
)

// committed tells the ledger records of plans that were committed from those of attempts that were not. A log without transactions
// shows both.
type committed struct {
	mu  sync.Mutex
	log *memlog.Log
	at  []int
}

// ended notes that a commit has just been made: the record before it is its plan's.
func (c *committed) ended() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = append(c.at, len(c.log.Records(spec.LedgerTopic))-1)
}

func (c *committed) records() []kafkaio.PublishedRecord {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.log.Records(spec.LedgerTopic)
	out := make([]kafkaio.PublishedRecord, len(c.at))
	for i, at := range c.at {
		out[i] = all[at]
	}
	return out
}

// rivalry is a flow over a log without transactions. At one operation of either function something goes wrong: it fails, or the
// function dies, or another firer comes in between and fires, and what was interrupted goes on.
type rivalry struct {
	*trouble // its injector is not used
	rival    *rig.World

	mu      sync.Mutex
	off     bool
	busy    bool   // what goes wrong is under way
	armed   string // a fault point; empty: none
	skip    int
	mishaps []string
	happens string // one of them
	struck  bool
	dead    bool
	hit     map[string]int // by mishap and point
	raced   int            // plans of the rival
}

// What goes wrong.
const (
	mishapError  = "error"
	mishapDeath  = "death"
	mishapRival  = "rival"
	mishapForget = "forget" // the store goes back to what it was earlier
)

// publishing are the points between which a plan is published.
func publishing() []string {
	var points []string
	for _, op := range []string{memlog.OpOpen, memlog.OpBegin, memlog.OpProduce, memlog.OpCommit, memlog.OpEnd} {
		points = append(points, op+":before", op+":after")
	}
	return points
}

func newRivalry(r *rand.Rand, hit map[string]int, defs []window.Definition, w spec.Watermark, scale event.Span, mishaps ...string) (*rivalry, error) {
	v := &rivalry{hit: hit, mishaps: mishaps}
	tr := &trouble{injector: &injector{off: true}, store: &witness{}}
	tr.store.current.Store(memstore.New())
	hooked := storetest.Hook(tr.store,
		func(op string, _ statestore.Slot) error { return v.at(op + ":before") },
		func(op string, _ statestore.Slot) error { return v.at(op + ":after") })
	book := &committed{}
	s, err := newStage(r, defs, w, int32(1+r.IntN(4)), hooked, memlog.Options{NoTransactions: true, Scribble: true, SingleUse: r.IntN(2) == 0, Hook: func(op string) error {
		if op == memlog.OpEnd+":after" {
			book.ended()
		}
		return v.at(op)
	}})
	if err != nil {
		return nil, err
	}
	book.log, s.atOnce = s.Log, book
	tr.store.ledger = s.ledgerRecords
	tr.store.of(s.Pipelines[0])
	tr.flow = &flow{stage: s, scale: scale, t: event.Time(r.IntN(400)-200) * event.Time(scale), disorder: true}
	tr.tolerate = func() bool { return v.struck || !tr.begun() }
	tr.Clock, s.spoil = tr.t, true
	v.trouble = tr
	v.rival, err = s.Deploy(s.App)
	return v, err
}

// at is called at every point, from several goroutines.
func (v *rivalry) at(point string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.off || v.busy:
		return nil
	case v.dead:
		return errInjected
	case point != v.armed:
		return nil
	case v.skip > 0:
		v.skip--
		return nil
	}
	v.armed, v.struck = "", true
	v.hit[v.happens+" "+point]++
	switch v.happens {
	case mishapDeath:
		v.dead = true
	case mishapForget:
		v.goBack()
		return nil
	case mishapRival:
		v.busy = true
		v.mu.Unlock()
		err := v.race()
		v.mu.Lock()
		v.busy = false
		return err
	}
	return errInjected
}

// race appends records and lets the rival fire; it then forgets its session as one who died, or ends it.
func (v *rivalry) race() error {
	for range v.r.IntN(4) {
		if err := v.add(pick(v.r, v.tps...), randomEvent(v.r, v.t, v.scale)); err != nil {
			return err
		}
	}
	if v.r.IntN(2) == 0 {
		v.rival.Restart()
	}
	v.rival.Clock = v.Clock
	before := len(v.atOnce.records())
	// What it meets may be half done by the other one: an error is one it may come across.
	err := v.rival.RunFire(context.Background())
	v.raced += len(v.atOnce.records()) - before
	if err != nil && v.begun() {
		return fmt.Errorf("rival: %w", err)
	}
	return nil
}

// play goes through so many steps and ends undisturbed.
func (v *rivalry) play(ctx context.Context, steps int) error {
	for range steps {
		if v.armed == "" && v.r.IntN(2) == 0 {
			v.armed, v.skip, v.happens = pick(v.r, faultPoints()...), v.r.IntN(4), pick(v.r, v.mishaps...)
			if v.r.IntN(3) > 0 { // of those where something is published, the one that was hit least
				v.armed = slices.MinFunc(publishing(), func(a, b string) int { return v.hit[v.happens+" "+a] - v.hit[v.happens+" "+b] })
			}
		}
		if v.r.IntN(6) == 0 {
			v.snapshots = append(v.snapshots[max(0, len(v.snapshots)-3):], v.store.current.Load().Clone())
		}
		v.struck = false
		if err := v.limited(ctx, v.move); err != nil {
			return err
		}
		if v.dead || v.struck && v.r.IntN(2) == 0 {
			v.dead = false
			v.Restart()
		}
	}
	v.off = true
	v.Restart()
	if err := v.limited(ctx, v.Flush); err != nil {
		return err
	}
	v.Clock = v.Clock.Add(event.SpanOf(25 * time.Hour)) // the plan of the day also counts records that are in no window
	return v.limited(ctx, v.RunFire)
}

// Without transactions, functions that fail or die anywhere, and firers that race, neither lose nor add anything for a reader who
// takes the highest revision of each window and key, and each late or failed record once: it is what a batch computation comes to.
// No revision of a result is published twice.
func TestWithoutTransactionsTheHighestRevisionIsExact(t *testing.T) {
	hit, mishaps := map[string]int{}, []string{mishapError, mishapDeath, mishapRival}
	late, panes, again, raced := 0, 0, 0, 0
	rounds := properties(t, func(t *testing.T, r *rand.Rand, round int) {
		t.Helper()
		scale := pick[event.Span](r, 1, 37, 1000)
		defs, w := randomDefinitions(r, scale), randomWatermark(r, scale)
		if round%3 == 0 {
			defs = []window.Definition{{Name: "w0", Kind: window.KindTumbling, Size: 10 * scale}}
		}
		v, err := newRivalry(r, hit, defs, w, scale, mishaps...)
		if err != nil {
			t.Error(err)
			return
		}
		if err := v.play(t.Context(), 40+r.IntN(80)); err != nil {
			t.Errorf("%v\n%s", err, v.describe())
			return
		}
		want, lateEvents, err := v.judge()
		if err != nil {
			t.Error(err)
			return
		}
		problems, err := v.verify(want, lateEvents)
		if err != nil || len(problems) > 0 {
			t.Errorf("%v\n%s\n%s", err, strings.Join(problems, "\n"), v.describe())
		}
		late += len(lateEvents)
		panes += len(want)
		again += len(v.Log.Records(v.Pipelines[0].SinkTopic)) - len(want)
		raced += v.raced
	})
	t.Logf("%d panes, %d results more than that, %d late records, %d plans of a rival", panes, again, late, raced)
	for _, m := range mishaps {
		var missed []string
		for _, point := range publishing() {
			if hit[m+" "+point] == 0 {
				missed = append(missed, point)
			}
		}
		if len(missed) > 0 && rounds >= 100 {
			t.Errorf("%s never happened at %v", m, missed)
		}
	}
	if rounds >= 100 && (late == 0 || again == 0 || raced == 0) {
		t.Error("nothing was late, nothing was published again, or no rival made a plan")
	}
	points := make([]string, 0, len(hit))
	for p, n := range hit {
		points = append(points, fmt.Sprintf("%s: %d", p, n))
	}
	slices.Sort(points)
	t.Log(strings.Join(points, "\n"))
}

// Where the store forgets besides, nothing is lost either: each record is where the batch computation has it. But what two dead
// attempts have published, under fences that are forgotten then, may be there beside it.
func TestWithoutTransactionsAStoreThatForgetsLosesNothing(t *testing.T) {
	hit := map[string]int{}
	extra := 0
	properties(t, func(t *testing.T, r *rand.Rand, _ int) {
		t.Helper()
		scale := pick[event.Span](r, 1, 37, 1000)
		v, err := newRivalry(r, hit, randomDefinitions(r, scale), randomWatermark(r, scale), scale, mishapError, mishapDeath, mishapRival, mishapForget, mishapForget)
		if err != nil {
			t.Error(err)
			return
		}
		if err := v.play(t.Context(), 40+r.IntN(80)); err != nil {
			t.Errorf("%v\n%s", err, v.describe())
			return
		}
		want, lateEvents, err := v.judge()
		if err != nil {
			t.Error(err)
			return
		}
		got, err := v.published()
		if err != nil {
			t.Error(err)
		}
		for _, problem := range oracle.Problems(want, got, true) {
			if extra++; !strings.HasPrefix(problem, "superfluous ") {
				t.Errorf("%s\n%s", problem, v.describe())
			}
		}
		late, err := rig.ParseSide(v.Log.Records(v.Pipelines[0].LateTopic))
		if err != nil {
			t.Error(err)
		}
		for _, e := range lateEvents {
			if !slices.Contains(late, rig.Side{Topic: e.Topic, Partition: e.Partition, Offset: e.Offset, Reason: string(event.ReasonLate)}) {
				t.Errorf("%s/%d offset %d is not in the late topic\n%s", e.Topic, e.Partition, e.Offset, v.describe())
			}
		}
	})
	t.Logf("%d results that no plan confirms", extra)
}
