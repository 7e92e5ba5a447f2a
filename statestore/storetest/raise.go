package storetest

import (
	"math"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/statestore"
)

func raiseCases() []testCase {
	return []testCase{
		{"MakesTheCutAtApplied", raiseMakes},
		{"BaseBecomesTheOldTop", raiseOnTop},
		{"BaseStaysWhenTheTopWasAbandoned", raiseOnBase},
		{"AcceptsTheExactBounds", raiseBounds},
		{"RefusesAnUnknownBase", raiseUnknownBase},
		{"RefusesAppliedBelowTheBase", raiseBelowBase},
		{"RefusesAppliedBelowWhatWasSeen", raiseBelowSeen},
		{"RefusesAWatermarkBelowTheFence", raiseBelowFence},
		{"RefusesATokenOfTheTop", raiseTokenOfTop},
		{"RefusesATokenOfTheBase", raiseTokenOfBase},
		{"RefusesACutThatHasGone", raiseForgotten},
	}
}

func raiseMakes(f *fixture) {
	f.create(100)
	want := f.append(150, delta(slice(0), 100, 150, 0))
	before := f.contents()
	r := statestore.Raise{Token: newToken(), Watermark: 60_000, Base: want.Top.Token, BaseOffset: 100, Seen: 120}
	got, err := f.store.Raise(f.ctx, f.slot, r)
	f.must("raise", err)
	want.Top = statestore.Cut{Token: r.Token, Offset: 150, Watermark: 60_000}
	f.equal("head", want, got)
	before.Status.Meta = want
	f.equal("contents", before, f.contents())
}

func raiseOnTop(f *fixture) {
	f.create(100)
	f.append(150)
	f.raise(10)
	top := f.load().Top
	f.append(160)
	f.raise(20)
	f.equal("base", top, f.load().Base)
}

// raiseOnBase plays a firer that died between its raise and its transaction: the next one raises on the same plan.
func raiseOnBase(f *fixture) {
	f.create(100)
	base := f.load().Base
	f.append(150)
	f.raise(10)
	f.append(160)
	r := statestore.Raise{Token: newToken(), Watermark: 20, Base: base.Token, BaseOffset: 100, Seen: 160}
	got, err := f.store.Raise(f.ctx, f.slot, r)
	f.must("raise", err)
	f.equal("base", base, got.Base)
	f.equal("top", statestore.Cut{Token: r.Token, Offset: 160, Watermark: 20}, got.Top)
}

func raiseBounds(f *fixture) {
	base := f.create(100)
	f.append(150)
	f.raise(60_000)
	got, err := f.store.Raise(f.ctx, f.slot, statestore.Raise{
		Token: newToken(), Watermark: 60_000, Base: base, BaseOffset: 150, Seen: 150,
	})
	f.must("raise at the bounds", err)
	f.equal("watermark", event.Time(60_000), got.Top.Watermark)
	_, err = f.store.Raise(f.ctx, f.slot, statestore.Raise{Token: newToken(), Watermark: math.MaxInt64, Base: base})
	f.must("raise to the end of time", err)
	_, err = f.store.Raise(f.ctx, f.slot, statestore.Raise{Token: newToken(), Watermark: math.MaxInt64, Base: base})
	f.must("raise at the end of time", err)
}

// raiseRefused spoils one thing of a raise that would be accepted, and then makes the raise.
func raiseRefused(f *fixture, what string, spoil func(r *statestore.Raise)) {
	f.Helper()
	m := f.load()
	good := statestore.Raise{Token: newToken(), Watermark: m.Top.Watermark.Add(1), Base: m.Top.Token, BaseOffset: 100, Seen: m.Applied}
	f.unchanged(what, func() {
		r := good
		spoil(&r)
		_, err := f.store.Raise(f.ctx, f.slot, r)
		f.fails(what, err, statestore.ErrRefused)
	})
	_, err := f.store.Raise(f.ctx, f.slot, good)
	f.must("raise without "+what, err)
}

// raiseFixture leaves a slot with applied 170, whose base is at watermark -20,000 and whose top is at 30.
func raiseFixture(f *fixture) {
	f.Helper()
	f.create(100)
	f.append(150, delta(slice(0), 100, 150, 0))
	f.raise(-20_000)
	f.raise(30)
	f.append(170, delta(slice(0), 150, 170, 0))
}

func raiseUnknownBase(f *fixture) {
	raiseFixture(f)
	raiseRefused(f, "an unknown base", func(r *statestore.Raise) { r.Base = newToken() })
	raiseRefused(f, "no base", func(r *statestore.Raise) { r.Base = statestore.Token{} })
}

func raiseBelowBase(f *fixture) {
	raiseFixture(f)
	raiseRefused(f, "applied below the base", func(r *statestore.Raise) { r.BaseOffset = 171 })
	raiseRefused(f, "applied far below the base", func(r *statestore.Raise) { r.BaseOffset = math.MaxInt64 })
}

func raiseBelowSeen(f *fixture) {
	raiseFixture(f)
	raiseRefused(f, "applied below what was seen", func(r *statestore.Raise) { r.Seen = 171 })
	raiseRefused(f, "applied far below what was seen", func(r *statestore.Raise) { r.Seen = math.MaxInt64 })
}

func raiseBelowFence(f *fixture) {
	raiseFixture(f)
	for _, w := range []event.Time{29, 0, -20_000, event.MinTime} {
		raiseRefused(f, "a watermark below the fence", func(r *statestore.Raise) { r.Watermark = w })
		f.must("drop", f.store.Drop(f.ctx, f.slot))
		raiseFixture(f)
		raiseRefused(f, "a watermark between base and fence", func(r *statestore.Raise) {
			r.Base, r.Watermark = f.load().Base.Token, max(w, -20_000)
		})
		f.must("drop", f.store.Drop(f.ctx, f.slot))
		raiseFixture(f)
	}
}

func raiseTokenOfTop(f *fixture) {
	raiseFixture(f)
	raiseRefused(f, "the token of the top", func(r *statestore.Raise) { r.Token = f.load().Top.Token })
	raiseRefused(f, "the token of the top, on the base", func(r *statestore.Raise) {
		m := f.load()
		r.Token, r.Base = m.Top.Token, m.Base.Token
	})
}

func raiseTokenOfBase(f *fixture) {
	raiseFixture(f)
	raiseRefused(f, "the token of the base", func(r *statestore.Raise) { r.Token = f.load().Base.Token })
	raiseRefused(f, "the token of the base, on the base", func(r *statestore.Raise) {
		m := f.load()
		r.Token, r.Base = m.Base.Token, m.Base.Token
	})
}

func raiseForgotten(f *fixture) {
	first := f.create(100)
	f.raise(50)
	f.raise(60)
	raiseRefused(f, "a cut that has gone", func(r *statestore.Raise) { r.Base = first })
}
