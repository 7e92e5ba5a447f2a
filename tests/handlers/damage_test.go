package handlers

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/memstore"
	"github.com/llm-auto-optimizer/tidemark/statestore/storetest"
	"github.com/llm-auto-optimizer/tidemark/tests/rig"
)

// damage makes one partition's slots unreadable for some calls, until they are dropped.
type damage struct {
	mu      sync.Mutex
	err     error
	ops     string
	damaged map[statestore.Slot]bool
	drops   int
}

// strike damages the slots of a partition.
func (d *damage) strike(t *testing.T, w *rig.World, partition int32, ops string, err error) {
	t.Helper()
	slots, serr := w.Store.Slots(t.Context(), "")
	if serr != nil {
		t.Fatal(serr)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ops, d.err, d.damaged, d.drops = ops, err, map[statestore.Slot]bool{}, 0
	for _, s := range slots {
		if s.Partition == partition {
			s.Topic = ""
			d.damaged[s] = true
		}
	}
	if len(d.damaged) != 2 {
		t.Fatalf("%d slots of partition %d, want one for each pipeline", len(d.damaged), partition)
	}
}

func (d *damage) before(op string, slot statestore.Slot) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	slot.Topic = ""
	if d.damaged[slot] && strings.Contains(d.ops, op) {
		return fmt.Errorf("%s %s: %w", op, slot, d.err)
	}
	return nil
}

func (d *damage) after(op string, slot statestore.Slot) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if slot.Topic = ""; op == "Drop" && d.damaged[slot] {
		delete(d.damaged, slot)
		d.drops++
	}
	return nil
}

// part appends four records to each of two partitions and returns them as a batch.
func part(t *testing.T, w *rig.World, n int) map[event.TopicPartition][]event.Record {
	t.Helper()
	batch := map[event.TopicPartition][]event.Record{}
	for p := range int32(2) {
		for i := range 4 {
			r := event.Record{Offset: int64(4*n + i), Timestamp: 1, Key: []byte("k"), Value: []byte(ok(11*n + 3*i))}
			if err := w.Log.Append("in", p, r); err != nil {
				t.Fatal(err)
			}
			batch[tp(p)] = append(batch[tp(p)], r)
		}
	}
	return batch
}

// play runs five parts through both functions, with whatever happens before each, and returns the results.
func play(t *testing.T, w *rig.World, before func(part int)) []rig.Result {
	t.Helper()
	for n := range 5 {
		before(n)
		batch := part(t, w, n)
		if failed, err := w.Deliver(t.Context(), batch); failed != 0 || err != nil {
			t.Fatalf("part %d: %d failed, %v", n, failed, err)
		}
		if err := w.RunFire(t.Context()); err != nil {
			t.Fatalf("part %d: %v", n, err)
		}
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	results, err := rig.ParseResults(w.Log.Records("out"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range results {
		results[i].Pane.Revision = 0 // a slot that is behind puts plans off, and what a window says stays as it is
	}
	return results
}

func TestADamagedSlotIsDroppedAndChangesNoResult(t *testing.T) {
	w, _ := two(t, memstore.New(), 2)
	want := play(t, w, func(int) {})
	if len(want) < 6 {
		t.Fatalf("%d results only", len(want))
	}
	for _, ops := range []string{"Load", "Status", "Commit", "Raise", "Index", "Read", "Load Status Restore Commit Raise Index Read Sweep"} {
		t.Run(ops, func(t *testing.T) {
			d := &damage{}
			w, log := two(t, storetest.Hook(memstore.New(), d.before, d.after), 2)
			drops := 0
			got := play(t, w, func(n int) {
				if drops += d.drops; n == 0 {
					return // there is nothing yet
				}
				w.Restart() // a new environment has to load the slots
				d.strike(t, w, int32(n%2), ops, statestore.ErrFormat)
			})
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("results (-want +got):\n%s", diff)
			}
			drops += d.drops
			told := 0
			for _, l := range log.take(t) {
				if l.Level == "ERROR" {
					told++
				}
			}
			if drops < 4 || told != drops {
				t.Errorf("%d slots dropped, %d errors in the log; want at least 4, and each told once", drops, told)
			}
		})
	}
}

func TestStateOfANewerVersionIsRefusedAndNeverDropped(t *testing.T) {
	for _, ops := range []string{"Load", "Status", "Commit", "Raise", "Index", "Read", "Load Status Restore Commit Raise Index Read Sweep"} {
		t.Run(ops, func(t *testing.T) {
			d := &damage{}
			w, log := two(t, storetest.Hook(memstore.New(), d.before, d.after), 2)
			if n, err := w.Deliver(t.Context(), part(t, w, 0)); n != 0 || err != nil {
				t.Fatal(n, err)
			}
			w.Restart()
			d.strike(t, w, 1, ops, statestore.ErrVersion)
			log.take(t)
			failed, err := w.Deliver(t.Context(), part(t, w, 1))
			if err != nil || failed != 0 && failed != 4 {
				t.Errorf("%d failed, %v: want none, or the four of partition 1", failed, err)
			}
			err = w.RunFire(t.Context())
			if failed == 0 && err == nil {
				t.Error("neither function has seen it")
			}
			for _, l := range log.take(t) {
				if l.Level == "ERROR" && (l.Cause != statestore.ErrVersion.Error() || len(l.Partitions) != 1 || l.Partitions[0] != "in/1") {
					t.Errorf("%+v", l)
				}
			}
			if d.drops != 0 {
				t.Errorf("%d slots were dropped", d.drops)
			}
		})
	}
}
