package storetest

import (
	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/statestore"
)

func restoreCases() []testCase {
	return []testCase{
		{"NoSlotIsCreated", restoreCreates},
		{"CreatedAtTheEndsOfTime", restoreCreatesAtTheEnds},
		{"TokenOfTopChangesNothing", restorePresentTop},
		{"TokenOfBaseChangesNothing", restorePresentBase},
		{"RepeatedIsPresent", restoreRepeated},
		{"LostRaiseIsAdopted", restoreAdopts},
		{"AdoptedBelowTheOffset", restoreAdoptsBelow},
		{"AppliedBeyondTheOffsetIsWiped", restoreAppliedBeyond},
		{"FenceAboveTheWatermarkIsWiped", restoreFenceAbove},
		{"WithoutAdoptionIsWiped", restoreNoAdopt},
		{"WipedForgetsTheOldCuts", restoreForgets},
		{"OfAnOlderPlan", restoreOlder},
	}
}

// plan is what a committed plan says, with times that differ from one another.
func plan() statestore.Restore {
	return statestore.Restore{
		Token: newToken(), Offset: 500, Watermark: 60_000, ReplayFrom: 420, MaxTime: 61_234, Now: 1_735_734_840_000,
		Refused: []statestore.Delta{refused(430, 440), refused(460, 500)},
	}
}

// made is the head of a slot that a restore made.
func made(r statestore.Restore) statestore.Meta {
	cut := statestore.Cut{Token: r.Token, Offset: r.Offset, Watermark: r.Watermark}
	return statestore.Meta{Applied: r.ReplayFrom, MaxTime: r.MaxTime, LastRecordAt: r.Now, Base: cut, Top: cut}
}

func restoreCreates(f *fixture) {
	r := plan()
	f.equal("head", made(r), f.restore(r, statestore.Created))
	f.holds("the refused offsets", r.Refused...)
}

func restoreCreatesAtTheEnds(f *fixture) {
	r := statestore.Restore{Token: newToken(), Watermark: event.MinTime, MaxTime: event.MinTime, Now: event.MinTime}
	f.equal("head", made(r), f.restore(r, statestore.Created))
	f.holds("nothing")
	f.must("drop", f.store.Drop(f.ctx, f.slot))
	r = statestore.Restore{
		Token: newToken(), Offset: 1<<63 - 1, ReplayFrom: 1<<63 - 1, Watermark: event.MaxTime, MaxTime: event.MaxTime, Now: event.MaxTime,
	}
	f.equal("head", made(r), f.restore(r, statestore.Created))
}

// presentUnchanged restores with a token that is there and everything else different.
func presentUnchanged(f *fixture, token statestore.Token) {
	f.Helper()
	for _, noAdopt := range []bool{false, true} {
		f.unchanged("a restore of a token that is there", func() {
			r := plan()
			r.Token, r.NoAdopt = token, noAdopt
			f.restore(r, statestore.Present)
		})
	}
}

func restorePresentTop(f *fixture) {
	token := f.create(100)
	f.append(110, delta(slice(0), 100, 110, 0))
	presentUnchanged(f, token)
	presentUnchanged(f, f.raise(5))
}

func restorePresentBase(f *fixture) {
	token := f.create(100)
	f.append(110, delta(slice(0), 100, 110, 0))
	f.raise(5)
	presentUnchanged(f, token)
}

func restoreRepeated(f *fixture) {
	r := plan()
	f.restore(r, statestore.Created)
	f.unchanged("the same restore again", func() { f.restore(r, statestore.Present) })
}

// adopted restores a plan at (offset, w), whose raise the slot does not have, and checks that only the cuts change.
func adopted(f *fixture, offset int64, w event.Time) {
	f.Helper()
	before := f.contents()
	r := plan()
	r.Offset, r.Watermark = offset, w
	f.restore(r, statestore.Adopted)
	cut := statestore.Cut{Token: r.Token, Offset: offset, Watermark: w}
	before.Status.Base, before.Status.Top = cut, cut
	f.equal("contents", before, f.contents())
}

func restoreAdopts(f *fixture) {
	f.create(100)
	f.append(500, delta(slice(0), 100, 500, 0), delta(slice(60), 120, 400, 1))
	f.raise(60_000)
	adopted(f, 500, 60_000) // applied = offset and fence = watermark: just so
}

func restoreAdoptsBelow(f *fixture) {
	f.create(100)
	f.append(499, delta(slice(0), 100, 499, 0))
	f.raise(59_999)
	adopted(f, 500, 60_000)
}

// wiped restores a plan that the slot cannot build on and checks that it begins anew.
func wiped(f *fixture, r statestore.Restore) {
	f.Helper()
	f.equal("head", made(r), f.restore(r, statestore.Wiped))
	f.holds("the refused offsets", r.Refused...)
}

func restoreAppliedBeyond(f *fixture) {
	f.create(100)
	f.append(501, delta(slice(0), 100, 501, 0), delta(slice(60), 120, 400, 1), refused(100, 101))
	f.raise(10)
	wiped(f, plan())
}

func restoreFenceAbove(f *fixture) {
	f.create(100)
	f.append(300, delta(slice(0), 100, 300, 0))
	f.raise(10)
	f.raise(60_001) // the base is below the watermark: the fence is that of the top
	wiped(f, plan())
}

func restoreNoAdopt(f *fixture) {
	f.create(100)
	f.append(300, delta(slice(0), 100, 300, 0), refused(200, 201))
	r := plan()
	r.NoAdopt = true
	wiped(f, r)
}

func restoreForgets(f *fixture) {
	token := f.create(100)
	top := f.raise(70_000)
	d := delta(slice(0), 100, 300, 0)
	f.append(300, d)
	wiped(f, plan())
	f.unchanged("calls with tokens of the dropped slot", func() {
		for _, gone := range []statestore.Token{token, top} {
			_, err := f.store.Index(f.ctx, f.slot, gone, []statestore.SliceID{slice(0)})
			f.fails("index", err, statestore.ErrRefused)
			_, err = f.store.Read(f.ctx, f.slot, gone, nil)
			f.fails("read", err, statestore.ErrRefused)
			f.fails("sweep", f.store.Sweep(f.ctx, f.slot, statestore.Sweep{Token: gone}), statestore.ErrRefused)
			_, err = f.store.Raise(f.ctx, f.slot, statestore.Raise{Token: newToken(), Base: gone, Watermark: 80_000})
			f.fails("raise", err, statestore.ErrRefused)
			_, err = f.store.Commit(f.ctx, f.slot, statestore.Commit{Applied: 420, To: 430, Top: gone})
			f.fails("commit", err, statestore.ErrConflict)
		}
	})
}

// restoreOlder plays a restore that was read before a later plan and arrives after it.
func restoreOlder(f *fixture) {
	r := plan()
	f.restore(r, statestore.Created)
	f.append(510)
	f.raise(70_000)
	f.unchanged("a stale restore", func() { f.restore(r, statestore.Present) })
	f.raise(80_000) // now its token is in no cut
	m, outcome, err := f.store.Restore(f.ctx, f.slot, r)
	if err != nil || outcome != statestore.Wiped {
		f.Fatalf("restore of a plan that is two plans old: %s, %v", outcome, err)
	}
	f.equal("head", made(r), m)
	f.holds("the refused offsets", r.Refused...)
}
