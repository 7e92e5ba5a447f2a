//go:build servers

package e2e

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/boltstore"
	"github.com/llm-auto-optimizer/tidemark/statestore/memstore"
	"github.com/llm-auto-optimizer/tidemark/statestore/redisstore"
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

// slotContents is all that a store tells of a slot.
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
	for _, i := range st.Slices {
		ids = append(ids, i.ID)
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
