package storetest_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/memstore"
	"github.com/llm-auto-optimizer/tidemark/statestore/storetest"
)

func TestHookedStoreIsAStore(t *testing.T) {
	storetest.Run(t, func(*testing.T) statestore.Store { return storetest.Hook(memstore.New(), nil, nil) })
}

func TestHooksSeeEveryCall(t *testing.T) {
	ctx := t.Context()
	slot := statestore.Slot{Pipeline: "0123456789abcdef", Partition: 2}
	token, top := statestore.Token{1}, statestore.Token{2}
	d := statestore.Delta{Ref: statestore.DeltaRef{To: 1}}
	died := errors.New("died")
	ops := []struct {
		name string
		slot statestore.Slot
		call func(s statestore.Store) error
	}{
		{"Restore", slot, func(s statestore.Store) error {
			_, _, err := s.Restore(ctx, slot, statestore.Restore{Token: token, Watermark: event.MinTime})
			return err
		}},
		{"Load", slot, func(s statestore.Store) error { _, err := s.Load(ctx, slot); return err }},
		{"Commit", slot, func(s statestore.Store) error {
			_, err := s.Commit(ctx, slot, statestore.Commit{Top: token, To: 1, Deltas: []statestore.Delta{d}})
			return err
		}},
		{"Status", slot, func(s statestore.Store) error { _, err := s.Status(ctx, slot); return err }},
		{"Raise", slot, func(s statestore.Store) error {
			_, err := s.Raise(ctx, slot, statestore.Raise{Token: top, Base: token})
			return err
		}},
		{"Index", slot, func(s statestore.Store) error {
			_, err := s.Index(ctx, slot, token, []statestore.SliceID{{}})
			return err
		}},
		{"Read", slot, func(s statestore.Store) error {
			_, err := s.Read(ctx, slot, token, []statestore.DeltaRef{d.Ref})
			return err
		}},
		{"Sweep", slot, func(s statestore.Store) error {
			return s.Sweep(ctx, slot, statestore.Sweep{Token: top, Drop: []statestore.SliceID{{}}})
		}},
		{"Slots", statestore.Slot{}, func(s statestore.Store) error { _, err := s.Slots(ctx, ""); return err }},
		{"Drop", slot, func(s statestore.Store) error { return s.Drop(ctx, slot) }},
		{"Import", slot, func(s statestore.Store) error { return s.Import(ctx, slot, statestore.Image{}) }},
		{"Close", statestore.Slot{}, func(s statestore.Store) error { return s.Close() }},
	}
	for victim := range ops {
		for _, when := range []string{"before", "after"} {
			var trace, want []string
			hook := func(mine string) func(string, statestore.Slot) error {
				return func(op string, got statestore.Slot) error {
					trace = append(trace, mine+" "+op)
					if i := slices.Index(trace, mine+" "+op); got != ops[i/2].slot {
						t.Errorf("%s %s of slot %s", mine, op, got)
					}
					if mine == when && op == ops[victim].name {
						return died
					}
					return nil
				}
			}
			inner := memstore.New()
			s := storetest.Hook(inner, hook("before"), hook("after"))
			for i, op := range ops[:victim+1] {
				err := op.call(s)
				if wantErr := i == victim; errors.Is(err, died) != wantErr || !wantErr && err != nil {
					t.Fatalf("%s, died %s %s: %v", op.name, when, ops[victim].name, err)
				}
				want = append(want, "before "+op.name)
				if i < victim || when == "after" {
					want = append(want, "after "+op.name)
				}
			}
			if diff := cmp.Diff(want, trace); diff != "" {
				t.Errorf("died %s %s (-want +got):\n%s", when, ops[victim].name, diff)
			}
			// A call that died before was not made, one that died after was: of those that change something, it shows.
			m, err := inner.Load(ctx, slot)
			made := when == "after"
			switch ops[victim].name {
			case "Restore":
				if (err == nil) != made {
					t.Errorf("Restore, died %s it: %v", when, err)
				}
			case "Commit":
				if (m.Applied == 1) != made {
					t.Errorf("Commit, died %s it: applied %d", when, m.Applied)
				}
			case "Raise":
				if (m.Top.Token == top) != made {
					t.Errorf("Raise, died %s it: top %x", when, m.Top.Token)
				}
			case "Import":
				if (err == nil) != made {
					t.Errorf("Import, died %s it: %v", when, err)
				}
			case "Drop":
				if errors.Is(err, statestore.ErrNoSlot) != made {
					t.Errorf("Drop, died %s it: %v", when, err)
				}
			}
		}
	}
}
