//go:build browser

package console_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio/memlog"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/console"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/watch"
	"github.com/llm-auto-optimizer/tidemark/statestore/memstore"
	"github.com/llm-auto-optimizer/tidemark/tests/rig"
)

// stage is the real functions over a log and a store in memory, and a console that watches them as it watches somebody else's.
type stage struct {
	*rig.World
	t    *testing.T
	ends map[event.TopicPartition]int64
	url  string
}

const stageSpec = `
app: shop
processor:
  watermark: {max_out_of_orderness: 2s, emit_interval: 0s, idle_timeout: 1m}
  error_handling: {policy: %s}
  kafka: {consumer: {topics: [performance-metrics]}, producer: {result_topic: results}}
pipelines:
  - name: checkout
    timestamp: {field: t, unit: ms}
    key: [service]
    values: {ms: ms}
    windows:
      - {name: 10s, type: tumbling, size: 10s, allowed_lateness: 10s}
      - {name: 30s, type: sliding, size: 30s, slide: 10s}
      - {name: visits, type: session, gap: 5s}
    aggregates: {ms: [count, average, p95, max]}
`

// newStage makes four partitions that fire has begun at a time by the clock. The console begins with Watch.
func newStage(t *testing.T, policy string, begun time.Time) *stage {
	t.Helper()
	app, err := spec.Load(fmt.Appendf(nil, stageSpec, policy), "spec.yaml")
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{t: t, ends: map[event.TopicPartition]int64{}}
	if s.World, err = rig.New(app, memstore.New(), memlog.New(memlog.Options{}), 4); err != nil {
		t.Fatal(err)
	}
	s.Clock = event.FromGo(begun)
	s.fire()
	return s
}

func (s *stage) fire() {
	s.t.Helper()
	if err := s.RunFire(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

// watch starts the console.
func (s *stage) watch() {
	s.t.Helper()
	board := console.NewBoard(s.App, console.ModeWatch, time.Now)
	page, err := console.Listen(s.t.Context(), "127.0.0.1:0", board)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(s.t.Context())
	var work sync.WaitGroup
	work.Go(func() {
		watch.Run(ctx, watch.Options{App: s.App, Pipelines: s.Pipelines, Log: s.Log, Store: s.Store, Board: board, Logger: slog.New(slog.DiscardHandler), Results: true})
	})
	s.t.Cleanup(func() {
		cancel()
		work.Wait()
		if err := page.Close(); err != nil {
			s.t.Error(err)
		}
	})
	s.url = page.URL()
}

// append adds a record to a partition, and returns it.
func (s *stage) append(p int32, value string) map[event.TopicPartition][]event.Record {
	s.t.Helper()
	tp := event.TopicPartition{Topic: "performance-metrics", Partition: p}
	r := event.Record{Offset: s.ends[tp], Timestamp: s.Clock, Key: []byte("k"), Value: []byte(value)}
	s.ends[tp]++
	if err := s.Log.Append(tp.Topic, p, r); err != nil {
		s.t.Fatal(err)
	}
	return map[event.TopicPartition][]event.Record{tp: {r}}
}

// record is the value of a record.
func record(at event.Time, service string, ms float64) string {
	return fmt.Sprintf(`{"t":%d,"service":%s,"ms":%v}`, at, quote(service), ms)
}

// deliver appends a record and folds it.
func (s *stage) deliver(p int32, value string) {
	s.t.Helper()
	if _, err := s.Deliver(s.t.Context(), s.append(p, value)); err != nil {
		s.t.Fatal(err)
	}
}

// minutes delivers records of some time up to the clock, in order, and fires as it goes.
func (s *stage) minutes(n int, services ...string) {
	s.t.Helper()
	now := s.Clock
	for at := now.Add(event.Span(-n * 60_000)); at <= now; at = at.Add(1000) {
		s.Clock = at
		for i, service := range services {
			wave := 100 + 60*float64((int64(at)/1000+int64(i)*7)%20)/20
			s.deliver(int32(i%4), record(at.Add(event.Span(-i*100)), service, wave))
		}
		if at%5000 == 0 || at.Add(1000) > now {
			s.fire()
		}
	}
	s.Clock = now
}
