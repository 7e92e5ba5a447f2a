package checkpoint_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/boltstore"
	"github.com/llm-auto-optimizer/tidemark/statestore/checkpoint"
	"github.com/llm-auto-optimizer/tidemark/statestore/memstore"
	"github.com/llm-auto-optimizer/tidemark/statestore/storetest"
)

// carry exports slots from one store and imports them into others, each of which must then be equal.
func carry(t *testing.T, from statestore.Store, slots []statestore.Slot, to ...statestore.Store) {
	t.Helper()
	file := export(t, from, slots)
	for _, store := range to {
		for p, outcome := range importAll(t, store, file) {
			if outcome != checkpoint.Imported {
				t.Errorf("partition %d: %s", p, outcome)
			}
		}
		for _, slot := range slots {
			same(t, slot.String(), read(t, from, slot), read(t, store, slot))
		}
		for p, outcome := range importAll(t, store, file) {
			if outcome != checkpoint.Exists {
				t.Errorf("partition %d, imported again: %s", p, outcome)
			}
		}
	}
}

func openBolt(t *testing.T) statestore.Store {
	t.Helper()
	s, err := boltstore.Open(t.TempDir(), boltstore.Options{Compression: statestore.CodecLZ4})
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

func TestASlotIsTheSameInEveryStore(t *testing.T) {
	first := memstore.New()
	for _, slot := range allSlots(3) {
		live(t, first, slot)
	}
	bolt := openBolt(t)
	carry(t, first, allSlots(3), bolt, memstore.New())
	carry(t, bolt, allSlots(3), memstore.New(), openBolt(t))
}

// A slot that is being replayed has refused offsets beyond its applied: they came with the restore and have to come along.
func TestRefusedOffsetsOfARestoreComeAlong(t *testing.T) {
	s := memstore.New()
	_, _, err := s.Restore(t.Context(), slotOf(0), statestore.Restore{
		Token: token(1), Offset: 60, ReplayFrom: 40, NoAdopt: true, Refused: []statestore.Delta{delta(list(statestore.ListRefused, 0), 40, 60, 0, 20)},
	})
	if err != nil {
		t.Fatal(err)
	}
	carry(t, s, allSlots(1), memstore.New(), openBolt(t))
}

func TestSlotsThatDoNotExistAreLeftOut(t *testing.T) {
	s := memstore.New()
	live(t, s, slotOf(1))
	file := export(t, s, allSlots(3))
	if got := images(t, file); len(got) != 1 {
		t.Errorf("%d slots, want 1", len(got))
	}
	if got := images(t, export(t, memstore.New(), allSlots(2))); len(got) != 0 {
		t.Errorf("%d slots of an empty store", len(got))
	}
}

func TestManyDeltasAreReadInPages(t *testing.T) {
	s := memstore.New()
	image := statestore.Image{Meta: statestore.Meta{Applied: 30_000, Top: statestore.Cut{Token: token(1)}}}
	for i := range int64(12_000) {
		image.Deltas = append(image.Deltas, delta(list(0, event.Time(i%40)), i, i+1, 0, 20))
	}
	if err := s.Import(t.Context(), slotOf(0), image); err != nil {
		t.Fatal(err)
	}
	most := 0
	counted := &countingSource{Store: s, most: &most}
	to := memstore.New()
	if got := importAll(t, to, export(t, counted, allSlots(1))); got[0] != checkpoint.Imported {
		t.Fatalf("%v", got)
	}
	same(t, "slot", read(t, s, slotOf(0)), read(t, to, slotOf(0)))
	if most > 500 || counted.indexed > 5_000 {
		t.Errorf("%d payloads and %d names at once, want at most 500 and 5000", most, counted.indexed)
	}
}

// countingSource notes how much it is asked for at once.
type countingSource struct {
	statestore.Store
	most    *int
	indexed int
}

func (c *countingSource) Read(ctx context.Context, slot statestore.Slot, token statestore.Token, refs []statestore.DeltaRef) ([][]byte, error) {
	*c.most = max(*c.most, len(refs))
	return c.Store.Read(ctx, slot, token, refs)
}

func (c *countingSource) Index(ctx context.Context, slot statestore.Slot, token statestore.Token, ids []statestore.SliceID) ([]statestore.DeltaRef, error) {
	refs, err := c.Store.Index(ctx, slot, token, ids)
	c.indexed = max(c.indexed, len(refs))
	return refs, err
}

// meddle is a store in which something happens at a step of an export: before the n-th call of an operation.
func meddle(s statestore.Store, op string, n int, happens func()) statestore.Store {
	calls := 0
	return storetest.Hook(s, func(at string, _ statestore.Slot) error {
		if at == op {
			if calls++; calls == n {
				happens()
			}
		}
		return nil
	}, nil)
}

// TestWhatHappensMeanwhile has something happen at every step of an export. The image is always one that the slot was: the one
// before it happened, or the one after.
func TestWhatHappensMeanwhile(t *testing.T) {
	ctx := t.Context()
	slot := slotOf(0)
	commit := func(s statestore.Store) error {
		m, err := s.Load(ctx, slot)
		if err != nil {
			return err
		}
		_, err = s.Commit(ctx, slot, statestore.Commit{Applied: m.Applied, To: m.Applied + 5, Top: m.Top.Token, MaxTime: 9_999_999, Now: 77, Deltas: []statestore.Delta{
			delta(list(0, 0), m.Applied, m.Applied+5, 0, 30), delta(list(7, 0), m.Applied, m.Applied+5, 0, 30),
		}})
		return err
	}
	events := map[string]func(s statestore.Store) error{
		"a commit": commit,
		"a raise": func(s statestore.Store) error {
			_, err := s.Raise(ctx, slot, statestore.Raise{Token: token(3), Watermark: 9_000, Base: token(2)})
			return err
		},
		"a purge": func(s statestore.Store) error {
			return s.Sweep(ctx, slot, statestore.Sweep{Token: token(2), Drop: []statestore.SliceID{list(0, 0)}, Trim: []statestore.Trim{{Slice: list(statestore.ListCounts, 0), To: 60}}})
		},
		"a compaction": func(s statestore.Store) error {
			refs, err := s.Index(ctx, slot, token(2), []statestore.SliceID{list(1, -60_000)})
			if err != nil {
				return err
			}
			return s.Sweep(ctx, slot, statestore.Sweep{Token: token(2), Replace: []statestore.Replace{{
				Remove: refs, With: []statestore.Delta{delta(list(1, -60_000), 40, 90, 0, 50)},
			}}})
		},
		"a restore": func(s statestore.Store) error {
			_, _, err := s.Restore(ctx, slot, statestore.Restore{Token: token(8), Offset: 70, ReplayFrom: 50, Now: 3})
			return err
		},
		"a loss": func(s statestore.Store) error { return s.Drop(ctx, slot) },
		"a loss and a restore of the same plan": func(s statestore.Store) error {
			_, _, err := s.Restore(ctx, slot, statestore.Restore{Token: token(2), Offset: 60, ReplayFrom: 40, Now: 3})
			return errors.Join(s.Drop(ctx, slot), err)
		},
	}
	for name, happens := range events {
		for _, op := range []string{"Load", "Status", "Index", "Read"} {
			for n := 1; n <= 4; n++ {
				synctest.Test(t, func(t *testing.T) {
					s := memstore.New()
					live(t, s, slot)
					before := export(t, s, allSlots(1))
					happened := false
					file := export(t, meddle(s, op, n, func() {
						happened = true
						if err := happens(s); err != nil {
							t.Fatal(err)
						}
					}), allSlots(1))
					after := export(t, s, allSlots(1))
					if !happened {
						return // not as many calls
					}
					got, was, is := images(t, file), images(t, before), images(t, after)
					if name == "a commit" && op != "Status" {
						is = was // commits that come later are not in it
					}
					if !equal(got, was) && !equal(got, is) {
						same(t, name+" before "+op, is, got)
					}
				})
			}
		}
	}
}

func equal(a, b map[statestore.Slot]statestore.Image) bool {
	if len(a) != len(b) {
		return false
	}
	for slot, m := range a {
		o, ok := b[slot]
		if !ok || m.Meta != o.Meta || len(m.Deltas) != len(o.Deltas) {
			return false
		}
		for i := range m.Deltas {
			if m.Deltas[i].Ref != o.Deltas[i].Ref || !bytes.Equal(m.Deltas[i].Payload, o.Deltas[i].Payload) {
				return false
			}
		}
	}
	return true
}

// wentBack returns a whole slot, and the same slot without its last commit: applied to 80 in the place of 90.
func wentBack(t *testing.T) (whole, back *memstore.Store) {
	t.Helper()
	whole, back = memstore.New(), memstore.New()
	live(t, whole, slotOf(0))
	image := images(t, export(t, whole, allSlots(1)))[slotOf(0)]
	image.Applied = 80
	image.Deltas = slices.DeleteFunc(image.Deltas, func(d statestore.Delta) bool { return d.To > 80 })
	if err := back.Import(t.Context(), slotOf(0), image); err != nil {
		t.Fatal(err)
	}
	return whole, back
}

// TestAStoreThatWentBackAndWasFilledAgain loses the last commit right before the index is read and has it again, perhaps cut into
// other batches, right after: the heads before and after are as they should be, and what was read is not.
func TestAStoreThatWentBackAndWasFilledAgain(t *testing.T) {
	for _, batches := range [][]int64{{80, 90}, {80, 85, 90}, {80, 95}, {80, 90, 95}} {
		synctest.Test(t, func(t *testing.T) {
			whole, back := wentBack(t)
			filled := back.Clone()
			for i, from := range batches[:len(batches)-1] {
				to := batches[i+1]
				if _, err := filled.Commit(t.Context(), slotOf(0), statestore.Commit{Applied: from, To: to, Top: token(2), Deltas: []statestore.Delta{
					delta(list(0, 0), from, to, 0, 30), delta(list(0, 0), from, to, 1, 0), delta(list(1, -60_000), from, to, 0, 3_000),
				}}); err != nil {
					t.Fatal(err)
				}
			}
			exportsAs(t, &switching{Store: whole, steps: []switchStep{{"Index", back}, {"Load", filled}}}, filled)
		})
	}
}

func TestAStoreThatWentBackAndStayed(t *testing.T) {
	for _, op := range []string{"Index", "Load"} {
		synctest.Test(t, func(t *testing.T) {
			whole, back := wentBack(t)
			exportsAs(t, &switching{Store: whole, steps: []switchStep{{op, back}}}, back)
		})
	}
}

// exportsAs exports from a store that changes, and wants what the other one has.
func exportsAs(t *testing.T, s *switching, other statestore.Store) {
	t.Helper()
	got := images(t, export(t, s, allSlots(1)))[slotOf(0)]
	if len(s.steps) > 0 {
		t.Fatal("the store did not change")
	}
	same(t, "image", images(t, export(t, other, allSlots(1)))[slotOf(0)], got)
}

// switching answers from one store until an operation is called, and from another from then on.
type switching struct {
	statestore.Store
	steps []switchStep
}

type switchStep struct {
	op string
	to statestore.Store
}

func (s *switching) at(op string) {
	if len(s.steps) > 0 && s.steps[0].op == op {
		s.Store, s.steps = s.steps[0].to, s.steps[1:]
	}
}

func (s *switching) Load(ctx context.Context, slot statestore.Slot) (statestore.Meta, error) {
	s.at("Load")
	return s.Store.Load(ctx, slot)
}

func (s *switching) Index(ctx context.Context, slot statestore.Slot, token statestore.Token, ids []statestore.SliceID) ([]statestore.DeltaRef, error) {
	s.at("Index")
	return s.Store.Index(ctx, slot, token, ids)
}

// TestASlotThatIsNeverStillIsNamed raises before every read.
func TestASlotThatIsNeverStillIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		live(t, s, slotOf(0))
		n := byte(10)
		busy := storetest.Hook(s, func(op string, slot statestore.Slot) error {
			if op != "Read" {
				return nil
			}
			m, err := s.Load(t.Context(), slot)
			if err == nil {
				n++
				_, err = s.Raise(t.Context(), slot, statestore.Raise{Token: token(n), Watermark: m.Top.Watermark, Base: m.Top.Token})
			}
			return err
		}, nil)
		var b bytes.Buffer
		_, err := checkpoint.Export(t.Context(), busy, &b, header(), allSlots(1), nil)
		if !errors.Is(err, checkpoint.ErrChanging) || !strings.Contains(err.Error(), slotOf(0).String()) {
			t.Errorf("%v, want ErrChanging and the slot", err)
		}
		if _, _, err := checkpoint.Read(bytes.NewReader(b.Bytes()), checkpoint.Content{}); !errors.Is(err, checkpoint.ErrDamaged) {
			t.Errorf("what was written meanwhile: %v, want ErrDamaged", err)
		}
	})
}

func TestAnExportEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := memstore.New()
	live(t, s, slotOf(0))
	stopped := meddle(s, "Read", 1, cancel)
	if _, err := checkpoint.Export(ctx, stopped, &bytes.Buffer{}, header(), allSlots(1), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want the context's", err)
	}
}

func TestProgressIsTold(t *testing.T) {
	s := memstore.New()
	for _, slot := range allSlots(2) {
		live(t, s, slot)
	}
	var last checkpoint.Progress
	reports := 0
	totals, err := checkpoint.Export(t.Context(), s, &bytes.Buffer{}, header(), allSlots(2), func(p checkpoint.Progress) {
		if reports++; p.Deltas < last.Deltas || p.Slots < last.Slots {
			t.Errorf("%+v after %+v", p, last)
		}
		last = p
	})
	if err != nil || reports < 4 || last.Slots != 2 || last.Of != 2 || last.Deltas != totals.Deltas {
		t.Errorf("%d reports, the last %+v; %+v, %v", reports, last, totals, err)
	}
}
