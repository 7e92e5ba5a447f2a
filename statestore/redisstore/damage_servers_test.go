//go:build servers

package redisstore

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/storetest"
)

func TestCommitRemovesWhatATornCommitLeft(t *testing.T) {
	eachServer(t, func(t *testing.T, s *Store) {
		slot := newSlot(t, s)
		keys := keysOf(slot)
		token := newToken()
		slice := func(w uint16, start event.Time) statestore.SliceID {
			return statestore.SliceID{Window: w, Start: start}
		}
		at := func(id statestore.SliceID, from, to int64) statestore.Delta {
			return statestore.Delta{Ref: statestore.DeltaRef{Slice: id, From: from, To: to}, Payload: []byte("kept")}
		}
		refused := at(slice(statestore.ListRefused, 0), 30, 40)
		_, _, err := s.Restore(t.Context(), slot, statestore.Restore{
			Token: token, Offset: 50, ReplayFrom: 10, MaxTime: 5, Now: 7, NoAdopt: true, Refused: []statestore.Delta{refused},
		})
		if err != nil {
			t.Fatal(err)
		}
		a, b := slice(0, 0), slice(1, -60_000)
		if _, err = s.Commit(t.Context(), slot, statestore.Commit{Applied: 10, Top: token, To: 20, Deltas: []statestore.Delta{at(a, 10, 20)}}); err != nil {
			t.Fatal(err)
		}
		// What a script leaves that dies on its way: its mark, the lists entered and some of the deltas, but not the head.
		for _, d := range []statestore.Delta{at(a, 20, 33), at(a, 21, 33), at(b, 20, 33)} {
			name := string(statestore.AppendSlice(nil, d.Slice))
			field := string(statestore.AppendField(nil, d.Ref))
			for _, err := range []error{
				s.client.HSet(t.Context(), keys.head(), "mark", "c").Err(),
				s.client.HSet(t.Context(), keys.prefix+"s", name, string(offsetHex(d.From))).Err(),
				s.client.HSet(t.Context(), keys.list(d.Slice), field, "torn").Err(),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		if m, err := s.Load(t.Context(), slot); err != nil || m.Applied != 20 {
			t.Fatalf("load: %+v, %v", m, err)
		}
		next := at(a, 20, 25)
		if _, err = s.Commit(t.Context(), slot, statestore.Commit{Applied: 20, Top: token, To: 25, Deltas: []statestore.Delta{next}}); err != nil {
			t.Fatal(err)
		}
		st, err := s.Status(t.Context(), slot)
		if err != nil {
			t.Fatal(err)
		}
		want := []statestore.SliceInfo{{ID: a, Deltas: 2, MaxFrom: 20}, {ID: refused.Slice, Deltas: 1, MaxFrom: 30}}
		if diff := cmp.Diff(want, st.Slices, cmpopts.IgnoreFields(statestore.SliceInfo{}, "Bytes")); diff != "" {
			t.Errorf("slices (-want +got):\n%s", diff)
		}
		refs, err := s.Index(t.Context(), slot, token, []statestore.SliceID{a, b, refused.Slice})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]statestore.DeltaRef{at(a, 10, 20).Ref, next.Ref, refused.Ref}, refs); diff != "" {
			t.Errorf("index (-want +got):\n%s", diff)
		}
		if mark := s.client.HGet(t.Context(), keys.head(), "mark").Val(); mark != "" {
			t.Errorf("mark %q is left", mark)
		}
	})
}

func TestTornSweepIsNoSlot(t *testing.T) {
	eachServer(t, func(t *testing.T, s *Store) {
		slot := newSlot(t, s)
		top := created(t, s, slot, 0)
		if _, err := s.Commit(t.Context(), slot, statestore.Commit{Applied: 0, Top: top, To: 5, Deltas: deltasOf(0, 5, 3, 5)}); err != nil {
			t.Fatal(err)
		}
		if err := s.client.HSet(t.Context(), keysOf(slot).head(), "mark", "w").Err(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Load(t.Context(), slot); !errors.Is(err, statestore.ErrNoSlot) {
			t.Errorf("load: %v", err)
		}
		if _, err := s.Commit(t.Context(), slot, statestore.Commit{Applied: 5, Top: top, To: 6}); !errors.Is(err, statestore.ErrNoSlot) {
			t.Errorf("commit: %v", err)
		}
		m, outcome, err := s.Restore(t.Context(), slot, statestore.Restore{Token: top, Offset: 3, ReplayFrom: 2, Now: 9})
		if err != nil || outcome != statestore.Wiped || m.Applied != 2 {
			t.Errorf("restore: %+v, %v, %v", m, outcome, err)
		}
		if diff := cmp.Diff([]string{"m"}, keysIn(t, s, slot)); diff != "" {
			t.Errorf("keys (-want +got):\n%s", diff)
		}
	})
}

// TestImportIntoATornSlot imports where a script died: nothing of what it left is in the slot.
func TestImportIntoATornSlot(t *testing.T) {
	eachServer(t, func(t *testing.T, s *Store) {
		slot := newSlot(t, s)
		keys := keysOf(slot)
		top := created(t, s, slot, 0)
		if _, err := s.Commit(t.Context(), slot, statestore.Commit{Applied: 0, Top: top, To: 5, Deltas: deltasOf(0, 5, 3, 5)}); err != nil {
			t.Fatal(err)
		}
		image := statestore.Image{
			Meta:   statestore.Meta{Applied: 9, Top: statestore.Cut{Token: newToken(), Offset: 9}},
			Deltas: []statestore.Delta{{Ref: statestore.DeltaRef{Slice: statestore.SliceID{Window: 2}, From: 3, To: 9}, Payload: []byte("kept")}},
		}
		if err := s.Import(t.Context(), slot, image); !errors.Is(err, statestore.ErrExists) {
			t.Fatalf("import where a slot is: %v", err)
		}
		if err := s.client.HSet(t.Context(), keys.head(), "mark", "w").Err(); err != nil {
			t.Fatal(err)
		}
		if err := s.Import(t.Context(), slot, image); err != nil {
			t.Fatal(err)
		}
		if m, err := s.Load(t.Context(), slot); err != nil || m != image.Meta {
			t.Errorf("load: %+v, %v", m, err)
		}
		if diff := cmp.Diff([]string{"d:" + string(statestore.AppendSlice(nil, image.Deltas[0].Slice)), "m", "s"}, keysIn(t, s, slot)); diff != "" {
			t.Errorf("keys (-want +got):\n%s", diff)
		}
	})
}

// raw writes what a slot's keys hold behind the store's back.
type raw struct{ s *Store }

func (r raw) Head(slot statestore.Slot, head []byte) error {
	var fields []any
	for _, f := range []struct {
		name string
		size int
	}{{"v", 2}, {"applied", 16}, {"maxts", 16}, {"at", 16}, {"base", 64}, {"top", 64}} {
		fields = append(fields, f.name, head[:f.size])
		head = head[f.size:]
	}
	return r.s.client.HSet(context.Background(), keysOf(slot).head(), fields...).Err()
}

func (r raw) Delta(slot statestore.Slot, ref statestore.DeltaRef, stored []byte) error {
	return r.s.client.HSet(context.Background(), keysOf(slot).list(ref.Slice), statestore.AppendField(nil, ref), stored).Err()
}

func (r raw) List(slot statestore.Slot, name string) error {
	prefix := keysOf(slot).prefix
	return errors.Join(
		r.s.client.HSet(context.Background(), prefix+"s", name, offsetHex(0)).Err(),
		r.s.client.HSet(context.Background(), prefix+"d:"+name, "field", "value").Err(),
	)
}

func TestDamage(t *testing.T) {
	for _, v := range []struct{ name, env string }{{"server", envServer}, {"cluster", envCluster}} {
		t.Run(v.name, func(t *testing.T) {
			storetest.RunDamage(t, func(t *testing.T) (statestore.Store, storetest.Raw) {
				t.Helper()
				s, err := Open(t.Context(), Options{URLs: urls(t, v.env)})
				if err != nil {
					t.Fatal(err)
				}
				return s, raw{s} // the suite closes it
			})
		})
	}
}

func TestImportDoesNotReplaceWhatItCannotRead(t *testing.T) {
	eachServer(t, func(t *testing.T, s *Store) {
		for v, want := range map[string]error{"02": statestore.ErrVersion, "??": statestore.ErrFormat} {
			slot := newSlot(t, s)
			created(t, s, slot, 0)
			if err := s.client.HSet(t.Context(), keysOf(slot).head(), "v", v).Err(); err != nil {
				t.Fatal(err)
			}
			if err := s.Import(t.Context(), slot, statestore.Image{}); !errors.Is(err, want) {
				t.Errorf("version %q: %v, want %v", v, err, want)
			}
		}
	})
}

// TestDropFindsEveryListOfADamagedSlot damages what a slot is found by. A list that a drop left would be taken for one of the
// next slot's.
func TestDropFindsEveryListOfADamagedSlot(t *testing.T) {
	eachServer(t, func(t *testing.T, s *Store) {
		for _, v := range []struct {
			name string
			hurt func(k slotKeys) []error
		}{
			{"the head is a string", func(k slotKeys) []error {
				return []error{s.client.Set(t.Context(), k.head(), "x", 0).Err()}
			}},
			{"the slices are a string", func(k slotKeys) []error {
				return []error{s.client.Set(t.Context(), k.prefix+"s", "x", 0).Err()}
			}},
			{"a slice has another name", func(k slotKeys) []error {
				names := s.client.HKeys(t.Context(), k.prefix+"s").Val()
				return []error{
					s.client.HDel(t.Context(), k.prefix+"s", names[0]).Err(),
					s.client.HSet(t.Context(), k.prefix+"s", names[0][1:], "0").Err(),
				}
			}},
		} {
			t.Run(v.name, func(t *testing.T) {
				slot := newSlot(t, s)
				other := slot
				other.Partition++
				t.Cleanup(func() {
					if err := s.Drop(context.WithoutCancel(t.Context()), other); err != nil {
						t.Error(err)
					}
				})
				for _, one := range []statestore.Slot{slot, other} {
					top := created(t, s, one, 0)
					deltas := deltasOf(0, 5, 600, 5) // three lists
					if _, err := s.Commit(t.Context(), one, statestore.Commit{Applied: 0, Top: top, To: 5, Deltas: deltas}); err != nil {
						t.Fatal(err)
					}
				}
				if err := errors.Join(v.hurt(keysOf(slot))...); err != nil {
					t.Fatal(err)
				}
				if _, err := s.Status(t.Context(), slot); !errors.Is(err, statestore.ErrFormat) {
					t.Errorf("status: %v, want ErrFormat", err)
				}
				if err := s.Drop(t.Context(), slot); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff([]string(nil), keysIn(t, s, slot)); diff != "" {
					t.Errorf("keys (-want +got):\n%s", diff)
				}
				if st, err := s.Status(t.Context(), other); err != nil || len(st.Slices) != 3 {
					t.Errorf("the neighbour has %d lists, %v", len(st.Slices), err)
				}
			})
		}
	})
}
