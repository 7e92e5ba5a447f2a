package apply

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/memstore"
)

// alike returns appliers of pipelines that differ in nothing but their names.
func alike(t *testing.T, store statestore.Store, names ...string) []*Applier {
	t.Helper()
	yaml := "processor: {kafka: {consumer: {topics: [in]}, producer: {result_topic: out}}}\npipelines:\n"
	for _, name := range names {
		yaml += fmt.Sprintf("  - {name: %s, timestamp: {field: t}, key: [k], values: {v: v}, windows: [{type: tumbling, size: 10ms}]}\n", name)
	}
	app, err := spec.Load([]byte(yaml), "t.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var out []*Applier
	for _, p := range app.Pipelines {
		compiled, err := pipeline.Compile(p)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, New(Deps{Pipeline: compiled, Store: store, Buffer: 10, Clock: func() event.Time { return 1 }, Logger: slog.New(slog.DiscardHandler)}))
	}
	return out
}

// begin makes the slots of a partition, as the genesis would.
func begin(t *testing.T, appliers []*Applier, part kafkaio.Partition) {
	t.Helper()
	for _, a := range appliers {
		r := statestore.Restore{Token: statestore.Token{9}, Watermark: event.MinTime, MaxTime: event.MinTime}
		if _, _, err := a.Store.Restore(t.Context(), SlotID(a.Pipeline, part), r); err != nil {
			t.Fatal(err)
		}
	}
}

func some(from int64, n int) []event.Record {
	var out []event.Record
	for i := range int64(n) {
		out = append(out, event.Record{Offset: from + i, Timestamp: 5, Value: []byte(`{"t":5,"k":"a","v":1}`)})
	}
	return out
}

// While a topic is made anew, batches of both may be at work: they have the name of the partition in common, and nothing else.
func TestTopicsOfOneNameDoNotShareAPass(t *testing.T) {
	store := memstore.New()
	appliers := alike(t, store, "a", "b")
	together := NewTogether(appliers)
	var wg sync.WaitGroup
	for i := range 2 {
		part := kafkaio.Partition{TopicPartition: event.TopicPartition{Topic: "in"}, TopicID: [16]byte{byte(i + 1)}}
		begin(t, appliers, part)
		wg.Go(func() {
			for b := range int64(50) {
				var w Work
				for _, got := range together.Apply(t.Context(), part, some(b*50, 50), &w) {
					if got.Err != nil || got.To != (b+1)*50 {
						t.Errorf("topic %d, batch %d: to %d, %v", i, b, got.To, got.Err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
}

// What is told of the work does not depend on how many pipelines share it.
func TestWorkTogetherIsCountedForEachPipeline(t *testing.T) {
	appliers := alike(t, memstore.New(), "a", "b", "c")
	together := NewTogether(appliers)
	part := kafkaio.Partition{TopicPartition: event.TopicPartition{Topic: "in"}}
	begin(t, appliers, part)
	for _, c := range []struct {
		name               string
		from               int64
		n                  int
		folded, duplicates int64
		commits            int
	}{
		{"at first each loads its slot", 0, 5, 15, 0, 3},
		{"together", 5, 5, 15, 0, 3},
		{"delivered again", 5, 5, 0, 15, 0},
		{"half of it delivered again", 7, 6, 9, 9, 3},
		{"more than are folded at once", 13, 25, 75, 0, 9},
	} {
		var w Work
		for i, got := range together.Apply(t.Context(), part, some(c.from, c.n), &w) {
			if got.Err != nil || got.To != c.from+int64(c.n) {
				t.Errorf("%s: pipeline %d: to %d, %v", c.name, i, got.To, got.Err)
			}
		}
		if w.Folded != c.folded || w.Duplicates != c.duplicates || w.Repaired != 0 || len(w.Commit) != c.commits || len(w.Fold) != c.commits {
			t.Errorf("%s: %d folded, %d duplicates, %d repaired, %d commits, want %d, %d, 0, %d", c.name, w.Folded, w.Duplicates, w.Repaired, len(w.Commit), c.folded, c.duplicates, c.commits)
		}
	}
}

// unreachable is a store that does not answer a commit before the caller's time is up.
type unreachable struct{ *memstore.Store }

func (u unreachable) Commit(ctx context.Context, _ statestore.Slot, _ statestore.Commit) (statestore.Meta, error) {
	<-ctx.Done()
	return statestore.Meta{}, fmt.Errorf("no answer: %w: %w", statestore.ErrUnreachable, ctx.Err())
}

// The time that a store takes which does not answer is gone; why it is gone must not be.
func TestWhatTheStoreFailedWithIsTold(t *testing.T) {
	store := memstore.New()
	appliers := alike(t, store, "a", "b")
	part := kafkaio.Partition{TopicPartition: event.TopicPartition{Topic: "in", Partition: 3}}
	begin(t, appliers, part)
	together := NewTogether(appliers)
	var w Work
	for _, got := range together.Apply(t.Context(), part, some(0, 5), &w) { // so that the slots are known
		if got.Err != nil {
			t.Fatal(got.Err)
		}
	}
	for _, a := range appliers {
		a.Store = unreachable{store}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	for i, got := range together.Apply(ctx, part, some(5, 5), &w) {
		if i == 0 && (!errors.Is(got.Err, statestore.ErrUnreachable) || !strings.Contains(got.Err.Error(), "in/3")) {
			t.Errorf("pipeline %d: %v", i, got.Err)
		}
		if got.Err == nil || got.To > 5 {
			t.Errorf("pipeline %d: to %d, %v", i, got.To, got.Err)
		}
	}
}
