package handlers

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio/memlog"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/memstore"
	"github.com/llm-auto-optimizer/tidemark/tests/rig"
	"github.com/llm-auto-optimizer/tidemark/tests/seed"
)

// neighbours are pipelines over one topic that have much in common, and differ in what must keep them apart.
var neighbours = []string{
	`key: [k], values: {v: v}, aggregates: {v: [count, sum, p50]}, windows: [{type: tumbling, size: 10ms, allowed_lateness: 5ms}]`,
	`key: [k], values: {v: v}, aggregates: {v: [p99, max]}, windows: [{type: tumbling, size: 10ms, allowed_lateness: 5ms}]`,
	`key: [k], values: {v: v}, aggregates: {v: [sum]}, windows: [{type: sliding, size: 30ms, slide: 10ms, allowed_lateness: 0s}], watermark: {max_out_of_orderness_ms: 7}`,
	`key: [k], values: {v: v}, aggregates: {v: [sum, average]}, windows: [{type: session, gap: 4ms, allowed_lateness: 3ms}]`,
	`key: [k], values: {v: v}, aggregates: {v: [count]}, windows: [{type: session, gap: 6ms, allowed_lateness: 30ms}], trigger: {count: 4}`,
	`key: [k], where: v > 20, values: {v: v}, aggregates: {v: [count]}, windows: [{type: tumbling, size: 10ms, allowed_lateness: 5ms}]`,
	`key: [], values: {v: v, w: a.w}, aggregates: {v: [first], w: [last]}, windows: [{type: cumulate, size: 40ms, step: 10ms, allowed_lateness: 0s}]`,
	`key: [k], values: {v: v}, error_handling: {policy: skip}, aggregates: {v: [sum]}, windows: [{type: tumbling, size: 10ms, allowed_lateness: 5ms}], accumulation: retracting`,
}

// neighbourhood runs the pipelines with these numbers, each with topics of its own.
func neighbourhood(t *testing.T, store statestore.Store, numbers ...int) *rig.World {
	t.Helper()
	yaml := `
app: t
processor:
  buffer_size: 7
  watermark: {max_out_of_orderness_ms: 2, emit_interval_ms: 0, idle_timeout_secs: 3600}
  error_handling: {max_retries: 50, initial_retry_delay_ms: 1, max_retry_delay_ms: 1}
  kafka: {consumer: {topics: [in]}, producer: {result_topic: out}}
pipelines:
`
	for _, i := range numbers {
		yaml += fmt.Sprintf("  - {name: p%d, timestamp: {field: t, unit: ms}, sink: {topic: out%d}, late: {topic: late%d}, %s}\n", i, i, i, neighbours[i])
	}
	app, err := spec.Load([]byte(yaml), "t.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range numbers {
		app.Pipelines[i].DeadLetterTopic = "dead" + strconv.Itoa(n)
	}
	w, err := rig.New(app, store, memlog.New(memlog.Options{}), 2)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// step is something that happens to a world, whatever pipelines it has.
type step func(t *testing.T, w *rig.World, number func(name string) int)

// script is what happens: records come, again and again, functions die, slots are lost and fire runs.
func script(r *rand.Rand) []step {
	var steps []step
	var appended, delivered [2]int64
	var log [2][]event.Record
	now := event.Time(1000)
	fire := func(t *testing.T, w *rig.World, _ func(string) int) {
		if err := w.RunFire(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	steps = append(steps, fire)
	for range 30 {
		now += event.Time(r.IntN(15))
		at := now
		batch := map[event.TopicPartition][]event.Record{}
		var fresh [2][]event.Record
		for p := range int32(2) {
			for range r.IntN(25) {
				v := fmt.Sprintf(`{"t":%d,"k":"k%d","v":%d,"a":{"w":%d}}`, now-event.Time(r.IntN(12)), r.IntN(3), r.IntN(100), r.IntN(9))
				switch r.IntN(40) {
				case 0:
					v = "no JSON"
				case 1:
					v = fmt.Sprintf(`{"t":%d,"k":"k","v":true,"a":{"w":2}}`, now)
				case 2:
					v = fmt.Sprintf(`{"t":%d,"k":"k","v":5,"a":{"w":2,"w":3}}`, now)
				case 3:
					v = fmt.Sprintf(`{"t":%d,"k":"k","v":5,"a":{"w":2}}`, now-event.Time(r.IntN(200)))
				}
				fresh[p] = append(fresh[p], event.Record{Offset: appended[p], Timestamp: now, Value: []byte(v)})
				appended[p]++
			}
			log[p] = append(log[p], fresh[p]...)
			from := delivered[p]
			if r.IntN(4) == 0 { // some are delivered again
				from = max(0, from-int64(r.IntN(10)))
			}
			if r.IntN(5) == 0 { // some are left out: the next batch has a gap before it
				from = min(appended[p], from+int64(r.IntN(4)))
			}
			if delivered[p] = appended[p]; from < appended[p] {
				batch[tp(p)] = log[p][from:]
			}
		}
		steps = append(steps, func(t *testing.T, w *rig.World, _ func(string) int) {
			w.Clock = at
			for p := range fresh {
				if err := w.Log.Append("in", int32(p), fresh[p]...); err != nil {
					t.Fatal(err)
				}
			}
			if len(batch) == 0 {
				return
			}
			if failed, err := w.Deliver(t.Context(), batch); err != nil || failed > 0 {
				t.Fatalf("%d failed, %v", failed, err)
			}
		})
		switch r.IntN(6) {
		case 0, 1:
			steps = append(steps, fire)
		case 2:
			steps = append(steps, func(_ *testing.T, w *rig.World, _ func(string) int) { w.Restart() })
		case 3:
			of, part := r.IntN(len(neighbours)), int32(r.IntN(2))
			steps = append(steps, func(t *testing.T, w *rig.World, number func(string) int) {
				for _, p := range w.Pipelines {
					if number(p.Name) != of {
						continue
					}
					slots, err := w.Store.Slots(t.Context(), p.ID())
					if err != nil {
						t.Fatal(err)
					}
					for _, s := range slots {
						if s.Partition == part {
							if err := w.Store.Drop(t.Context(), s); err != nil {
								t.Fatal(err)
							}
						}
					}
				}
			})
		}
	}
	return append(steps, func(t *testing.T, w *rig.World, _ func(string) int) {
		if err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// shaky is a store whose commits fail at random, before or after they were done; it counts those that came together.
type shaky struct {
	*memstore.Store
	chance    *rand.Rand
	together  int
	committed int
}

var errShaken = errors.New("shaken")

func (s *shaky) Commit(ctx context.Context, slot statestore.Slot, c statestore.Commit) (statestore.Meta, error) {
	s.committed++
	switch s.chance.IntN(12) {
	case 0:
		return statestore.Meta{}, errShaken
	case 1:
		_, _ = s.Store.Commit(ctx, slot, c)
		return statestore.Meta{}, errShaken
	}
	return s.Store.Commit(ctx, slot, c)
}

func (s *shaky) CommitAll(ctx context.Context, commits []statestore.SlotCommit) []statestore.Answer[statestore.Meta] {
	out := make([]statestore.Answer[statestore.Meta], len(commits))
	for i, c := range commits {
		out[i].Value, out[i].Err = s.Commit(ctx, c.Slot, c.Commit)
		s.together++
	}
	return out
}

// Whatever pipelines there are besides, and whatever happens to them: what each publishes is what it publishes alone, byte for byte.
func TestPipelinesDoNotFeelTheirNeighbours(t *testing.T) {
	chosen := seed.Of(t)
	number := func(name string) int {
		n, err := strconv.Atoi(name[1:])
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	published := func(w *rig.World, i int) map[string][]kafkaio.PublishedRecord {
		out := map[string][]kafkaio.PublishedRecord{}
		for _, topic := range []string{"out", "late", "dead"} {
			out[topic] = w.Log.Records(topic + strconv.Itoa(i))
			for k := range out[topic] {
				out[topic][k].Offset = int64(k) // control records of aborted attempts have offsets too
			}
		}
		return out
	}
	var late, dead int
	for round := range 5 {
		r := rand.New(rand.NewPCG(chosen, uint64(round)))
		what := script(r)
		run := func(w *rig.World) {
			w.App.Parallelism = 1 // the store's chance is not for several at once
			w.Restart()
			for _, s := range what {
				s(t, w, number)
			}
		}
		var all []int
		for i := range neighbours {
			all = append(all, i)
		}
		store := &shaky{Store: memstore.New(), chance: rand.New(rand.NewPCG(chosen, uint64(round)+1000))}
		w := neighbourhood(t, store, all...)
		run(w)
		if store.together*4 < store.committed {
			t.Errorf("round %d: of %d commits %d came together", round, store.committed, store.together)
		}
		for i := range neighbours {
			alone := neighbourhood(t, memstore.New(), i)
			run(alone)
			want := published(alone, i)
			if diff := cmp.Diff(want, published(w, i)); diff != "" {
				t.Fatalf("round %d: pipeline %d, %s, is not what it is alone (-alone +together):\n%s", round, i, neighbours[i], diff)
			}
			if len(want["out"]) == 0 {
				t.Errorf("round %d: pipeline %d publishes nothing", round, i)
			}
			late, dead = late+len(want["late"]), dead+len(want["dead"])
		}
	}
	if late == 0 || dead == 0 {
		t.Errorf("%d late records and %d dead letters show too little", late, dead)
	}
}
