package fire_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
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
	"github.com/llm-auto-optimizer/tidemark/tests/seed"
)

const alikeQuery = `timestamp: {record: true}, topics: [events], values: {value: value}, windows: [{name: w, type: sliding, size: 20ms, slide: 10ms, allowed_lateness: 5ms}], aggregates: {value: [%s]}`

// siblings is a world of some pipelines over one topic, and what its firer logs.
type siblings struct {
	pipes    []*pipeline.Pipeline
	log      *memlog.Log
	appliers []*apply.Applier
	fire     *fire.Handler
	store    *memstore.Store
	logged   bytes.Buffer
	now      event.Time
}

// newSiblings makes a pipeline for each list of functions. publish may stand between firer and log; nil: nothing does.
func newSiblings(t *testing.T, publish func(kafkaio.Publisher) kafkaio.Publisher, functions ...string) *siblings {
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
	w.store = memstore.New()
	clock := func() event.Time { return w.now }
	logger := slog.New(slog.NewTextHandler(&w.logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	for _, p := range w.pipes {
		w.appliers = append(w.appliers, apply.New(apply.Deps{Pipeline: p, Store: w.store, Log: w.log, Errors: app.Errors, Buffer: app.BufferSize, Clock: clock, Logger: logger}))
	}
	var publisher kafkaio.Publisher = w.log
	if publish != nil {
		publisher = publish(w.log)
	}
	w.fire = fire.New(fire.Deps{
		App: app, Pipelines: w.pipes, Store: w.store, Log: w.log, Publisher: publisher, Clock: clock, Logger: logger,
		NewToken: counted(new(uint64)),
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
		w := newSiblings(t, nil, mine...)
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

// appendBoth appends a record of the time 4n to both partitions.
func appendBoth(t *testing.T, log *memlog.Log, n int64, value string) {
	t.Helper()
	for partition := range int32(2) {
		if err := log.Append("events", partition, event.Record{Offset: memlog.Next, Timestamp: event.Time(n * 4), Key: []byte("k"), Value: []byte(value)}); err != nil {
			t.Fatal(err)
		}
	}
}

// The state of a pipeline may hold other things under the same offsets: then it merges for itself.
func TestAPipelineThatIsNotAlikeAfterAllMergesForItself(t *testing.T) {
	w := newSiblings(t, nil, "sum", "sum", "sum")
	other := memlog.New(memlog.Options{}) // what the second pipeline has folded
	if err := other.CreateTopic("events", 2); err != nil {
		t.Fatal(err)
	}
	w.appliers[1] = apply.New(apply.Deps{
		Pipeline: w.pipes[1], Store: w.store, Log: sameGroups{other, w.log}, Buffer: 1000, Clock: func() event.Time { return w.now }, Logger: slog.New(slog.DiscardHandler),
	})
	for n := range int64(20) {
		appendBoth(t, w.log, n, `{"value":1}`)
		appendBoth(t, other, n, `{"value":2}`)
		for i := range w.pipes {
			w.catchUp(t, i, 0, n+1)
			w.catchUp(t, i, 1, n+1)
		}
		w.run(t)
	}
	for i := range w.pipes {
		got := strings.Join(w.published(i), "\n")
		if one, two := strings.Contains(got, `{"sum":10}`), strings.Contains(got, `{"sum":20}`); one != (i != 1) || two != (i == 1) {
			t.Errorf("pipeline %d, which has folded %ds:\n%s", i, 1+i%2, got)
		}
	}
}

// sameGroups is a log with the groups and the identity of another one.
type sameGroups struct {
	*memlog.Log
	of *memlog.Log
}

func (s sameGroups) Group(ctx context.Context, group string) (map[event.TopicPartition]kafkaio.Committed, error) {
	return s.of.Group(ctx, group)
}

// hanging is a publisher whose sessions of one pipeline cannot be opened any more once it hangs.
type hanging struct {
	kafkaio.Publisher
	group string
	hangs bool
}

func (h *hanging) Open(ctx context.Context, id string) (kafkaio.Session, error) {
	if h.hangs && id == h.group {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return h.Publisher.Open(ctx, id)
}

// Pipelines that are alike begin together, but one that hangs does not keep the others from their plans.
func TestAPipelineThatHangsHoldsUpNoOther(t *testing.T) {
	var publisher *hanging
	w := newSiblings(t, func(p kafkaio.Publisher) kafkaio.Publisher {
		publisher = &hanging{Publisher: p}
		return publisher
	}, "sum", "sum", "sum")
	publisher.group, publisher.hangs = w.pipes[1].Group(), true
	w.fire.Close() // sessions are opened anew
	for n := range int64(20) {
		appendBoth(t, w.log, n, `{"value":1}`)
	}
	for i := range w.pipes {
		w.catchUp(t, i, 0, 20)
		w.catchUp(t, i, 1, 20)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 900*time.Millisecond)
	defer cancel()
	for i, r := range w.fire.Run(ctx, apply.Nudge{}) {
		if want := i == 0; r.Made != want && i < 2 {
			t.Errorf("pipeline %d made a plan: %v, %v", i, r.Made, r.Err)
		}
	}
	publisher.hangs = false
	w.run(t)
	for i := range w.pipes {
		if len(w.published(i)) == 0 || len(w.published(i)) != len(w.published(0)) {
			t.Errorf("pipeline %d has published %d records", i, len(w.published(i)))
		}
	}
}
