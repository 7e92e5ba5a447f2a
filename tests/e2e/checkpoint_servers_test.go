//go:build servers

package e2e

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/boltstore"
	"github.com/llm-auto-optimizer/tidemark/statestore/memstore"
	"github.com/llm-auto-optimizer/tidemark/statestore/redisstore"
	"github.com/llm-auto-optimizer/tidemark/tests/oracle"
	"github.com/llm-auto-optimizer/tidemark/tests/servers"
)

// openRedis opens a store, empty at the beginning, on a server of the test's own.
func openRedis(t *testing.T, url string) statestore.Store {
	t.Helper()
	s, err := redisstore.Open(t.Context(), redisstore.Options{URLs: []string{url}, Codec: statestore.CodecLZ4})
	if err != nil {
		t.Fatal(err)
	}
	slots, err := s.Slots(t.Context(), "")
	for _, slot := range slots {
		err = errors.Join(err, s.Drop(t.Context(), slot))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// TestARunOnRedisGoesOnFromACheckpoint loses all keys of the state in the middle of a run.
func TestARunOnRedisGoesOnFromACheckpoint(t *testing.T) {
	server := servers.StartRedis(t)
	for name, defs := range restorable() {
		t.Run(name, func(t *testing.T) {
			survives(t, defs, func() statestore.Store { return openRedis(t, server.Addr()) })
		})
	}
}

// TestACheckpointIsTheSameInEveryStore takes a checkpoint of each kind of store and puts it into each other one. The slot has more
// deltas than one call of Redis may carry.
func TestACheckpointIsTheSameInEveryStore(t *testing.T) {
	server := servers.StartRedis(t)
	open := map[string]func() statestore.Store{
		"memory": func() statestore.Store { return memstore.New() },
		"bolt": func() statestore.Store {
			s, err := boltstore.Open(t.TempDir(), boltstore.Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
			return s
		},
		"redis": func() statestore.Store { return openRedis(t, server.Addr()) },
	}
	scene := newScene(t, memstore.New(), restorable()["tumbling"]...)
	slots, err := scene.slots(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cut := statestore.Cut{Token: statestore.Token{1}, Offset: 9_000, Watermark: 60_000}
	image := statestore.Image{Meta: statestore.Meta{Applied: 9_500, MaxTime: 1, LastRecordAt: 2, Base: cut, Top: cut}}
	for i := range int64(9_000) {
		image.Deltas = append(image.Deltas, statestore.Delta{
			Ref:     statestore.DeltaRef{Slice: statestore.SliceID{Start: event.Time(i % 70)}, From: i, To: i + 1, Owned: 1},
			Payload: make([]byte, i%600),
		})
	}
	for from, openFrom := range open {
		for to, openTo := range open {
			a := openFrom()
			if err := a.Import(t.Context(), slots[0], image); err != nil {
				t.Fatalf("%s: %v", from, err)
			}
			want := everything(t, a, slots[0])
			file, err := scene.export(t.Context(), a)
			if err != nil {
				t.Fatalf("%s: %v", from, err)
			}
			b := openTo() // the same server, if both are Redis: emptied
			if n, err := scene.lose(t.Context(), b, file, all); n != 1 || err != nil {
				t.Fatalf("%s to %s: %d slots, %v", from, to, n, err)
			}
			if diff := cmp.Diff(want, everything(t, b, slots[0])); diff != "" {
				t.Errorf("%s to %s (-want +got):\n%.2000s", from, to, diff)
			}
		}
	}
}

// slotContents is all that a store tells of a slot, but for the sizes of slices: those of long ones may be estimated, and the
// payloads are here themselves.
type slotContents struct {
	Status   statestore.Status
	Refs     []statestore.DeltaRef
	Payloads []string
}

func everything(t *testing.T, s statestore.Store, slot statestore.Slot) slotContents {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	st, err := s.Status(ctx, slot)
	if err != nil {
		t.Fatal(err)
	}
	c := slotContents{Status: st}
	var ids []statestore.SliceID
	for i := range st.Slices {
		ids = append(ids, st.Slices[i].ID)
		st.Slices[i].Bytes = 0
	}
	if c.Refs, err = s.Index(ctx, slot, st.Top.Token, ids); err != nil {
		t.Fatal(err)
	}
	payloads, err := s.Read(ctx, slot, st.Top.Token, c.Refs)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range payloads {
		c.Payloads = append(c.Payloads, string(p))
	}
	return c
}

// TestTheMainJobGoesOnFromItsCheckpoint ends a run with windows open, and kills Redis with all it has. The next run, and a state
// that the command line puts back, go on from the checkpoint, and the results are those of a plain batch computation.
func TestTheMainJobGoesOnFromItsCheckpoint(t *testing.T) {
	c := newCluster(t, `[{name: w, type: tumbling, size: 2s, allowed_lateness: 1s}, {name: s, type: session, gap: 60ms, allowed_lateness: 0s}]`, 300*time.Millisecond)
	text, err := os.ReadFile(c.config)
	if err != nil {
		t.Fatal(err)
	}
	config, dir := filepath.Join(t.TempDir(), "spec.yaml"), filepath.Join(t.TempDir(), "checkpoints")
	text = []byte(strings.Replace(string(text), "processor:\n", "processor:\n  state: {checkpoint_path: "+dir+"}\n", 1))
	if err := os.WriteFile(config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	redis := servers.StartRedis(t)
	on := []string{"--config", config, "--redis", redis.Addr()}
	run := func(more ...string) string {
		return tidemark(t, slices.Concat([]string{"run", "--brokers", strings.Join(servers.Brokers(t), ","), "--listen", "off", "--tick", "10ms", "--log-level", "info"}, on, more)...)
	}
	says := func(out string, want ...string) {
		t.Helper()
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("no %q in\n%s", w, out)
			}
		}
	}
	from := event.Time(1_700_000_000_000)
	c.produce(1500, from, 10, 250, 40, 5_000)
	says(run("--for", "10s"), "none in "+dir+" yet", "checkpoint made")

	redis.Kill()
	redis.Start()
	c.produce(500, from.Add(15_000), 10, 250, 40, 5_000)
	c.produce(10, from, 10, 0, 0, 0) // windows of that time have gone out
	out := run("--for", "10s")
	says(out, "4 slots imported")
	if strings.Contains(out, "state restored") {
		t.Errorf("the log was read again:\n%s", out)
	}

	says(tidemark(t, append([]string{"checkpoint"}, on...)...), dir, ": 4 partitions, ")
	redis.Kill()
	redis.Start()
	says(tidemark(t, append([]string{"restore"}, on...)...), "imported", ": 4 imported, 0 there already")
	says(tidemark(t, append([]string{"restore"}, on...)...), "exists", ": 0 imported, 4 there already")
	c.produce(500, from.Add(20_000), 10, 250, 40, 5_000)
	says(run("--until-idle"), "0 slots imported, 4 there already")

	plans := c.ledger()
	panes, late := c.check(func(e oracle.Event) event.Time { return oracle.Fence(plans, e.TopicPartition, e.Offset) })
	if panes == 0 || late == 0 {
		t.Errorf("%d panes and %d late records say nothing", panes, late)
	}
}
