package storetest

import (
	"bytes"
	"fmt"
	"math"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/statestore"
)

func importCases() []testCase {
	return []testCase{
		{"ExportedAndImportedIsEqual", importRoundTrip},
		{"AtTheEndsOfTheRanges", importEnds},
		{"NothingButAHead", importBare},
		{"RefusedWhereASlotIs", importExists},
		{"InvalidImagesAreRefused", importInvalid},
		{"TenThousandDeltas", importLarge},
		{"TheSlotGoesOn", importGoesOn},
		{"ABehindImageIsAdopted", importAdopted},
		{"OneOfManyWins", importConcurrent},
	}
}

// image is all of the fixture's slot, as a checkpoint takes it.
func (f *fixture) image() statestore.Image {
	f.Helper()
	return imageOf(f.contents())
}

func imageOf(c contents) statestore.Image {
	m := statestore.Image{Meta: c.Status.Meta}
	for _, d := range c.Deltas {
		if m.Covers(d.Ref) {
			m.Deltas = append(m.Deltas, d)
		}
	}
	return m
}

// lived returns an image of a slot that has seen a restore, commits, raises and a sweep.
func (f *fixture) lived() statestore.Image {
	f.Helper()
	f.restore(plan(), statestore.Created)
	outbox := statestore.SliceID{Window: statestore.ListOutbox}
	counts := statestore.SliceID{Window: statestore.ListCounts}
	f.append(470, delta(slice(0), 420, 450, 0), delta(slice(0), 420, 450, 7), delta(slice(-60_000), 440, 470, 0), delta(counts, 420, 470, 0))
	f.append(520, delta(slice(0), 470, 520, 0), delta(outbox, 500, 501, 0), delta(counts, 470, 520, 0), refused(510, 511))
	f.raise(70_000)
	f.append(560, delta(slice(0), 520, 560, 0), delta(slice(60_000), 530, 540, 255))
	f.sweep(statestore.Sweep{Drop: []statestore.SliceID{slice(-60_000)}, Trim: []statestore.Trim{{Slice: counts, To: 470}}})
	f.raise(80_000)
	return f.image()
}

// imported checks that the slot is what the image says.
func (f *fixture) imported(m statestore.Image) {
	f.Helper()
	f.equal("head", m.Meta, f.load())
	f.equal("image", m, f.image())
	f.holds("deltas of the image", m.Deltas...)
}

func importRoundTrip(f *fixture) {
	m := f.lived()
	before := f.contents()
	if len(before.Deltas) != len(m.Deltas) || len(m.Deltas) != 10 {
		f.Fatalf("%d deltas in the slot, %d in the image, want 10", len(before.Deltas), len(m.Deltas))
	}
	f.must("drop", f.store.Drop(f.ctx, f.slot))
	f.must("import", f.store.Import(f.ctx, f.slot, m))
	f.equal("contents", before, f.contents())
	f.imported(m)
}

func importEnds(f *fixture) {
	cut := statestore.Cut{Token: newToken(), Offset: math.MaxInt64, Watermark: event.MaxTime}
	base := statestore.Cut{Watermark: event.MinTime}
	all := bytes.Repeat([]byte{0, 1, 0xff}, 1000)
	m := statestore.Image{Meta: statestore.Meta{Applied: math.MaxInt64, MaxTime: event.MinTime, LastRecordAt: event.MaxTime, Base: base, Top: cut}}
	for _, start := range []event.Time{event.MinTime, -1, 0, event.MaxTime} {
		for i, payload := range [][]byte{nil, {0}, all} {
			d := delta(slice(start), math.MaxInt64-int64(3-i), math.MaxInt64, 255)
			d.Payload = payload
			m.Deltas = append(m.Deltas, d)
		}
	}
	m.Deltas[0].Owned = math.MaxUint32
	f.must("import", f.store.Import(f.ctx, f.slot, m))
	f.imported(m)
}

func importBare(f *fixture) {
	cut := statestore.Cut{Token: newToken(), Watermark: event.MinTime}
	m := statestore.Image{Meta: statestore.Meta{MaxTime: event.MinTime, LastRecordAt: event.MinTime, Base: cut, Top: cut}}
	f.must("import", f.store.Import(f.ctx, f.slot, m))
	f.imported(m)
	found, err := f.store.Slots(f.ctx, f.slot.Pipeline)
	f.must("slots", err)
	if len(found) != 1 {
		f.Errorf("slots: %v, want the imported one", found)
	}
}

func importExists(f *fixture) {
	m := f.lived()
	f.must("drop", f.store.Drop(f.ctx, f.slot))
	f.create(100)
	f.append(110, delta(slice(0), 100, 110, 0))
	f.unchanged("an import where a slot is", func() {
		f.fails("import", f.store.Import(f.ctx, f.slot, m), statestore.ErrExists)
	})
	other := f.slot
	other.Partition++
	f.must("import of another slot", f.store.Import(f.ctx, other, m))
	f.fails("the same again", f.store.Import(f.ctx, other, m), statestore.ErrExists)
}

func importInvalid(f *fixture) {
	good := func() statestore.Image {
		cut := statestore.Cut{Token: newToken(), Offset: 50, Watermark: 1000}
		return statestore.Image{
			Meta:   statestore.Meta{Applied: 40, MaxTime: 5, LastRecordAt: 6, Base: cut, Top: cut},
			Deltas: []statestore.Delta{delta(slice(0), 10, 40, 0), refused(20, 50)},
		}
	}
	f.must("import", f.store.Import(f.ctx, f.slot, good()))
	f.must("drop", f.store.Drop(f.ctx, f.slot))
	for what, spoil := range map[string]func(s *statestore.Slot, m *statestore.Image){
		"a slot that is none":                  func(s *statestore.Slot, _ *statestore.Image) { s.Pipeline = "P" },
		"a negative partition":                 func(s *statestore.Slot, _ *statestore.Image) { s.Partition = -1 },
		"a negative offset":                    func(_ *statestore.Slot, m *statestore.Image) { m.Applied = -1; m.Deltas = nil },
		"a cut at a negative offset":           func(_ *statestore.Slot, m *statestore.Image) { m.Top.Offset = -1 },
		"a base cut at a negative offset":      func(_ *statestore.Slot, m *statestore.Image) { m.Base.Offset = -1; m.Deltas = nil },
		"a delta beyond applied":               func(_ *statestore.Slot, m *statestore.Image) { m.Deltas[0].To++ },
		"refused offsets from the cut on":      func(_ *statestore.Slot, m *statestore.Image) { m.Deltas[1].From = 50; m.Deltas[1].To = 51 },
		"a delta that cannot be stored":        func(_ *statestore.Slot, m *statestore.Image) { m.Deltas[0].Owned = -1 },
		"two deltas of one identity":           func(_ *statestore.Slot, m *statestore.Image) { m.Deltas = append(m.Deltas, delta(slice(0), 10, 20, 0)) },
		"a delta that ends before it begins":   func(_ *statestore.Slot, m *statestore.Image) { m.Deltas[0].To = 9 },
		"a delta that begins below the offset": func(_ *statestore.Slot, m *statestore.Image) { m.Deltas[0].From = -1 },
	} {
		s, m := f.slot, good()
		spoil(&s, &m)
		f.fails(what, f.store.Import(f.ctx, s, m), statestore.ErrInvalid)
	}
	_, err := f.store.Load(f.ctx, f.slot)
	f.fails("load after imports that were refused", err, statestore.ErrNoSlot)
}

func importLarge(f *fixture) {
	cut := statestore.Cut{Token: newToken(), Offset: 10_000, Watermark: 5}
	m := statestore.Image{Meta: statestore.Meta{Applied: 10_000, MaxTime: 7, LastRecordAt: 8, Base: cut, Top: cut}}
	for s := range 50 {
		for i := range int64(200) {
			d := delta(slice(event.Time(s)*1000), i*50, i*50+50, 0)
			d.Payload = bytes.Repeat(fmt.Appendf(nil, "%d.%d ", s, i), 100)
			m.Deltas = append(m.Deltas, d)
		}
	}
	f.must("import", f.store.Import(f.ctx, f.slot, m))
	f.imported(m)
	f.unchanged("the same import again", func() {
		f.fails("import", f.store.Import(f.ctx, f.slot, m), statestore.ErrExists)
	})
}

// importGoesOn takes an imported slot through what comes after: the plan it was in the middle of, and more records.
func importGoesOn(f *fixture) {
	m := f.lived()
	f.must("drop", f.store.Drop(f.ctx, f.slot))
	f.must("import", f.store.Import(f.ctx, f.slot, m))
	r := plan()
	for _, token := range []statestore.Token{m.Base.Token, m.Top.Token} {
		f.unchanged("a restore of a plan that the image has", func() {
			r.Token = token
			f.restore(r, statestore.Present)
		})
	}
	added := delta(slice(0), 560, 600, 0)
	f.append(600, added)
	f.sweep(statestore.Sweep{Replace: []statestore.Replace{{
		Remove: f.index(m.Top.Token, slice(0))[:4], With: []statestore.Delta{delta(slice(0), 420, 560, 0)},
	}}})
	f.raise(90_000)
	f.equal("applied", int64(600), f.load().Applied)
	f.equal("deltas of the slice", refsOf(delta(slice(0), 420, 560, 0), added), f.index(m.Top.Token, slice(0)))
}

// importAdopted restores a plan that came after the image was taken: all that the image has stays.
func importAdopted(f *fixture) {
	m := f.lived()
	f.must("drop", f.store.Drop(f.ctx, f.slot))
	f.must("import", f.store.Import(f.ctx, f.slot, m))
	adopted(f, 900, 120_000)
}

// importConcurrent imports different images at once: one of them is the slot, whole.
func importConcurrent(f *fixture) {
	const writers = 8
	images := make([]statestore.Image, writers)
	for w := range images {
		cut := statestore.Cut{Token: newToken(), Offset: int64(w), Watermark: event.Time(w)}
		images[w].Meta = statestore.Meta{Applied: 1_000, MaxTime: event.Time(w), LastRecordAt: 1, Base: cut, Top: cut}
		for i := range 300 * int64(w+1) {
			d := delta(slice(event.Time(i%7)), i%1_000, 1_000, uint8(i/1_000))
			d.Payload = fmt.Appendf(nil, "%d of writer %d", i, w)
			images[w].Deltas = append(images[w].Deltas, d)
		}
	}
	won := winner(f, together(writers, func(w int) error { return f.store.Import(f.ctx, f.slot, images[w]) }), statestore.ErrExists)
	f.equal("head", images[won].Meta, f.load())
	f.equal("number of deltas", len(images[won].Deltas), len(f.image().Deltas))
	for _, d := range f.image().Deltas {
		if want := fmt.Sprintf(" of writer %d", won); !bytes.HasSuffix(d.Payload, []byte(want)) {
			f.Fatalf("a delta says %q in the slot of writer %d", d.Payload, won)
		}
	}
}
