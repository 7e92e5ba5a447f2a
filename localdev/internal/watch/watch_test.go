package watch_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio/memlog"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/console"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/watch"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/memstore"
	"github.com/llm-auto-optimizer/tidemark/tests/rig"
)

const text = `
app: shop
processor:
  watermark: {max_out_of_orderness_ms: 0, emit_interval_ms: 0, idle_timeout: 1h}
  kafka: {consumer: {topics: [events]}, producer: {result_topic: results}}
pipelines:
  - name: p
    timestamp: {field: t, unit: ms}
    key: [k]
    values: {v: v}
    windows: [{name: w, type: tumbling, size: 1s, allowed_lateness: 0s}]
    aggregates: {v: [count, sum]}
`

// counted counts the statuses that are read, which only explaining does here, and can refuse them.
type counted struct {
	statestore.Store
	reads atomic.Int64
	down  atomic.Bool
}

func (c *counted) Status(ctx context.Context, s statestore.Slot) (statestore.Status, error) {
	c.reads.Add(1)
	if c.down.Load() {
		return statestore.Status{}, errors.New("the store is away")
	}
	return c.Store.Status(ctx, s)
}

// stage is a pipeline in memory, and a board that watches it.
type stage struct {
	*rig.World
	t     *testing.T
	store *counted
	board *console.Board
	next  int64
}

func newStage(t *testing.T) *stage {
	t.Helper()
	app, err := spec.Load([]byte(text), "spec.yaml")
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{t: t, store: &counted{Store: memstore.New()}, board: console.NewBoard(app, console.ModeWatch, time.Now)}
	if s.World, err = rig.New(app, s.store.Store, memlog.New(memlog.Options{}), 1); err != nil {
		t.Fatal(err)
	}
	s.Clock = event.FromGo(time.Now())
	s.fire()
	return s
}

func (s *stage) fire() {
	s.t.Helper()
	if err := s.RunFire(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stage) deliver(values ...string) {
	s.t.Helper()
	tp := event.TopicPartition{Topic: "events"}
	for _, v := range values {
		r := event.Record{Offset: s.next, Timestamp: s.Clock, Value: []byte(v)}
		s.next++
		if err := s.Log.Append(tp.Topic, 0, r); err != nil {
			s.t.Fatal(err)
		}
		if _, err := s.Deliver(s.t.Context(), map[event.TopicPartition][]event.Record{tp: {r}}); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *stage) record(after event.Span, v int) string {
	return fmt.Sprintf(`{"t":%d,"k":"a","v":%d}`, s.Clock.Add(after), v)
}

// watch watches until the test's function ends.
func (s *stage) watch(log kafkaio.Log) (stop func()) {
	ctx, cancel := context.WithCancel(s.t.Context())
	var work sync.WaitGroup
	work.Go(func() {
		watch.Run(ctx, watch.Options{App: s.App, Pipelines: s.Pipelines, Log: log, Store: s.store, Board: s.board, Logger: slog.New(slog.DiscardHandler), Results: true})
	})
	return func() {
		cancel()
		work.Wait()
	}
}

// Everything that the topics and the state tell is on the board, and nothing is changed by looking.
func TestABoardHasWhatTopicsAndStateTell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.deliver(s.record(0, 5), s.record(10, 6), "no JSON", s.record(2000, 7))
		s.fire()
		s.deliver(s.record(100, 1)) // late
		s.deliver(s.record(4000, 1))
		s.fire()
		foreign := kafkaio.Message{Topic: "processor-dead-letter", Headers: []event.Header{
			{Key: "tidemark-reason", Value: []byte("decode")}, {Key: "tidemark-topic", Value: []byte("another-apps-source")},
		}}
		if err := s.Log.Produce(t.Context(), []kafkaio.Message{foreign}); err != nil {
			t.Fatal(err)
		}
		groups, err := s.Log.Groups(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		defer s.watch(s.Log)()
		<-time.After(2 * time.Second)
		synctest.Wait()
		b := s.board
		snap := b.Snapshot()
		if snap.Results != 2 || snap.Late != 1 || snap.DeadLetters != 1 || snap.Plans < 2 || len(snap.Partitions) != 1 || snap.Partitions[0].Applied != 6 || snap.Lag != 0 {
			t.Errorf("%+v", snap)
		}
		if w := b.FiredWindows(); len(w) != 2 {
			t.Errorf("windows %+v", w)
		}
		if series := b.Series("p", "w", "k=a"); len(series.Points) != 2 || *series.Points[0].Numbers[1] != 11 {
			t.Errorf("series %+v", series)
		}
		if r := b.Rejects(); len(r.Counts) != 2 || r.Last[0].Topic != "events" {
			t.Errorf("rejects %+v", r)
		}
		if l := b.Ledger(); len(l) < 2 || l[0].In != 6 || l[0].Unaccounted != 0 {
			t.Errorf("ledger %+v", l)
		}
		if x := b.Explanation(); len(x.Pipelines) != 1 || len(x.Pipelines[0].Windows) != 1 || len(x.Troubles) != 0 {
			t.Errorf("explanation %+v", x)
		}
		if after, err := s.Log.Groups(t.Context(), ""); err != nil || len(after) != len(groups) {
			t.Errorf("groups %v, then %v: %v", groups, after, err)
		}
	})
}

// Explaining costs something: it is done each second while somebody watches, and every five while nobody does.
func TestExplainingIsForWhoeverWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		defer s.watch(s.Log)()
		during := func(d time.Duration) int64 {
			before := s.store.reads.Load()
			<-time.After(d)
			synctest.Wait()
			return s.store.reads.Load() - before
		}
		if n := during(20 * time.Second); n < 3 || n > 5 {
			t.Errorf("%d explanations in 20 s while nobody watches, want one in five", n)
		}
		leave := s.board.Watch()
		if n := during(10 * time.Second); n < 9 || n > 11 {
			t.Errorf("%d explanations in 10 s while somebody watches, want one a second", n)
		}
		leave()
		during(5 * time.Second)
		if n := during(20 * time.Second); n > 5 {
			t.Errorf("%d explanations in 20 s after everybody has gone", n)
		}
	})
}

// What cannot be reached is told, and that it has come back.
func TestATroubleIsToldAsLongAsItLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.store.down.Store(true)
		defer s.board.Watch()()
		defer s.watch(s.Log)()
		troubles := func() string {
			<-time.After(12 * time.Second)
			synctest.Wait()
			var out []string
			for _, t := range s.board.Explanation().Troubles {
				out = append(out, t.Kind+" "+t.What)
			}
			return strings.Join(out, "\n")
		}
		if got := troubles(); !strings.Contains(got, "unreachable") || !strings.Contains(got, "the store is away") {
			t.Errorf("%q", got)
		}
		s.store.down.Store(false)
		if got := troubles(); got != "" {
			t.Errorf("%q stays after it has gone", got)
		}
	})
}

// A topic that does not exist is named; the others are followed meanwhile.
func TestATopicThatIsMissingIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		if err := s.Log.DeleteTopic("results-late"); err != nil {
			t.Fatal(err)
		}
		defer s.watch(s.Log)()
		<-time.After(time.Second)
		synctest.Wait()
		if got := s.board.Explanation().Troubles; len(got) != 1 || !strings.Contains(got[0].What, "results-late") || !strings.Contains(got[0].Do, "create the topic") {
			t.Errorf("%+v", got)
		}
		if err := s.Log.CreateTopic("results-late", 1); err != nil {
			t.Fatal(err)
		}
		<-time.After(12 * time.Second)
		synctest.Wait()
		if got := s.board.Explanation().Troubles; len(got) != 0 {
			t.Errorf("%+v stays", got)
		}
	})
}
