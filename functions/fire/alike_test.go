package fire_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/fire"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio/memlog"
	"github.com/llm-auto-optimizer/tidemark/functions/settings"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/memstore"
	"github.com/llm-auto-optimizer/tidemark/tests/seed"
)

const alikeQuery = `timestamp: {record: true}, topics: [events], values: {value: value}, windows: [{name: w, type: sliding, size: 20ms, slide: 10ms, allowed_lateness: 5ms}], aggregates: {value: [%s]}`

// siblings is a world of some pipelines over one topic, and what its firer logs.
type siblings struct {
	pipes    []*pipeline.Pipeline
	log      *memlog.Log
	appliers []*apply.Applier
	fire     *fire.Handler
	logged   bytes.Buffer
	now      event.Time
}

func newSiblings(t *testing.T, functions ...string) *siblings {
	t.Helper()
	text := "app: test\nprocessor:\n  watermark: {max_out_of_orderness_secs: 0, emit_interval_secs: 0, idle_timeout_secs: 60}\npipelines:\n"
	for i, f := range functions {
		text += fmt.Sprintf("  - {name: p%d, sink: {topic: out%d}, %s}\n", i, i, fmt.Sprintf(alikeQuery, f))
	}
	app, err := spec.Load([]byte(text), "test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	w := &siblings{log: memlog.New(memlog.Options{})}
	if w.pipes, err = settings.Compile(app); err != nil {
		t.Fatal(err)
	}
	topics := map[string]int32{"events": 2, spec.LedgerTopic: 1, spec.PanesTopic: 1}
	for _, p := range w.pipes {
		p.CompactAfter = 2
		topics[p.SinkTopic], topics[p.LateTopic], topics[p.DeadLetterTopic] = 1, 1, 1
	}
	for topic, n := range topics {
		if err := w.log.CreateTopic(topic, n); err != nil {
			t.Fatal(err)
		}
	}
	tokens, store := uint64(0), memstore.New()
	clock := func() event.Time { return w.now }
	logger := slog.New(slog.NewTextHandler(&w.logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	for _, p := range w.pipes {
		w.appliers = append(w.appliers, apply.New(apply.Deps{Pipeline: p, Store: store, Log: w.log, Errors: app.Errors, Buffer: app.BufferSize, Clock: clock, Logger: logger}))
	}
	w.fire = fire.New(fire.Deps{
		App: app, Pipelines: w.pipes, Store: store, Log: w.log, Publisher: w.log, Clock: clock, Logger: logger,
		NewToken: func() (t statestore.Token) {
			tokens++
			binary.BigEndian.PutUint64(t[:], tokens)
			return t
		},
	})
	w.run(t)
	return w
}

func (w *siblings) run(t *testing.T) {
	t.Helper()
	for _, r := range w.fire.Run(t.Context(), apply.Nudge{}) {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
}

// catchUp folds a partition up to an offset, for one pipeline.
func (w *siblings) catchUp(t *testing.T, pipe int, partition int32, to int64) {
	t.Helper()
	parts, err := w.log.Partitions(t.Context(), []string{"events"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.appliers[pipe].CatchUp(t.Context(), parts[partition], to, new(apply.Work)); err != nil {
		t.Fatal(err)
	}
}

// published is all that a pipeline published, without what tells plans and moments.
func (w *siblings) published(pipe int) []string {
	var out []string
	p := w.pipes[pipe]
	for _, topic := range []string{p.SinkTopic, p.LateTopic, p.DeadLetterTopic} {
		for _, r := range w.log.Records(topic) {
			out = append(out, fmt.Sprintf("%s %s %s", topic, r.Key, r.Value))
		}
	}
	return out
}

// Pipelines whose state is the same are merged once; what each of them publishes is what it publishes where it is the only one. Now
// and then a batch reaches some of them later, whose plans then end elsewhere.
func TestPipelinesThatAreAlikeAreMergedOnce(t *testing.T) {
	functions := []string{"sum, p50", "p99, sum", "sum, p50, p99"}
	chosen := seed.Of(t)
	play := func(only int) *siblings {
		chance := rand.New(rand.NewPCG(chosen, 7))
		mine := functions
		if only >= 0 {
			mine = functions[only : only+1]
		}
		w := newSiblings(t, mine...)
		ends := [2]int64{}
		for n := range event.Time(40) {
			partition := int32(chance.IntN(2))
			for range 1 + chance.IntN(8) {
				r := event.Record{
					Offset: memlog.Next, Timestamp: n*4 + event.Time(chance.IntN(25)) - 12, Key: []byte("k"), Value: fmt.Appendf(nil, `{"value":%d.5}`, chance.IntN(100)),
				}
				if err := w.log.Append("events", partition, r); err != nil {
					t.Fatal(err)
				}
				ends[partition]++
			}
			slow := -1
			if chance.IntN(4) == 0 {
				slow = chance.IntN(len(functions))
			}
			for i := range mine {
				if at := max(only, i); at != slow {
					w.catchUp(t, i, partition, ends[partition])
				}
			}
			w.now = n
			w.run(t)
			if slow >= 0 && (only < 0 || only == slow) {
				w.catchUp(t, max(0, slow-max(0, only)), partition, ends[partition])
			}
		}
		return w
	}
	together := play(-1)
	taken := strings.Count(together.logged.String(), "what another pipeline's has merged")
	made := strings.Count(together.logged.String(), "msg=plan ")
	t.Logf("of %d plans, %d were made of what another pipeline's had merged", made, taken)
	if taken < made/8 || taken > made*2/3 {
		t.Errorf("of %d plans, %d were made of what another pipeline's had merged; want some of those of the second and third pipeline", made, taken)
	}
	for i := range functions {
		alone := play(i)
		want, got := alone.published(0), together.published(i)
		for k := range want { // where it is the only one it is the first
			want[k] = strings.ReplaceAll(strings.ReplaceAll(want[k], "out0", fmt.Sprintf("out%d", i)), `"p0"`, fmt.Sprintf(`"p%d"`, i))
		}
		if d := cmp.Diff(want, got); d != "" || len(want) == 0 {
			t.Errorf("pipeline %d publishes %d records (-alone +together)\n%s", i, len(got), d)
		}
		if strings.Contains(alone.logged.String(), "what another pipeline's has merged") {
			t.Error("a pipeline that is the only one has taken over somebody's work")
		}
	}
}
