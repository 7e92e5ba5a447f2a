package storetest

import (
	"slices"

	"github.com/llm-auto-optimizer/tidemark/statestore"
)

func sweepCases() []testCase {
	return []testCase{
		{"DropRemovesSlices", sweepDrop},
		{"TrimRemovesWhatEnds", sweepTrim},
		{"TrimRemovesAnEmptyRange", sweepTrimEmptyRange},
		{"ReplaceMerges", sweepReplace},
		{"ReplaceSplitsIntoBuckets", sweepSplit},
		{"ReplaceByNothingRemoves", sweepReplaceByNothing},
		{"ReplacementsOfOneSlice", sweepTwoOfOneSlice},
		{"AllAtOnce", sweepAll},
		{"SlicesLeftEmptyDisappear", sweepEmpty},
		{"WhatIsNotThereIsNoError", sweepNothing},
		{"OnlyTheTokenOfTopServes", sweepToken},
		{"MissingDeltaRefusesAllOfIt", sweepMissing},
		{"ChangedDeltaRefusesAllOfIt", sweepChanged},
		{"RepeatedIsRefused", sweepRepeated},
		{"HeadStays", sweepHead},
		{"CommitsGoOn", sweepThenCommit},
		{"WhatCannotBeStoredIsInvalid", sweepInvalid},
	}
}

func sweepDrop(f *fixture) {
	_, late := twoSlices(f)
	f.sweep(statestore.Sweep{Drop: []statestore.SliceID{slice(-60)}})
	f.holds("the other slice", late...)
}

func sweepTrim(f *fixture) {
	early, late := twoSlices(f)
	f.sweep(statestore.Sweep{Trim: []statestore.Trim{{Slice: slice(-60), To: 109}}})
	f.holds("nothing ends at 109", append(slices.Clone(early), late...)...)
	f.sweep(statestore.Sweep{Trim: []statestore.Trim{{Slice: slice(-60), To: 110}}})
	f.holds("two end at 110, one after it though it begins with them", append([]statestore.Delta{early[1], early[3]}, late...)...)
	f.sweep(statestore.Sweep{Trim: []statestore.Trim{{Slice: slice(-60), To: 129}, {Slice: slice(60), To: 125}}})
	f.holds("two slices", early[3], late[3])
}

// sweepTrimEmptyRange trims a delta that folds no offset: it ends where it begins.
func sweepTrimEmptyRange(f *fixture) {
	f.create(100)
	a, b := delta(slice(0), 105, 105, 0), delta(slice(0), 106, 106, 0)
	f.append(110, a, b)
	f.sweep(statestore.Sweep{Trim: []statestore.Trim{{Slice: slice(0), To: 104}}})
	f.holds("both", a, b)
	f.sweep(statestore.Sweep{Trim: []statestore.Trim{{Slice: slice(0), To: 105}}})
	f.holds("the second", b)
}

func sweepReplace(f *fixture) {
	early, late := twoSlices(f)
	with := delta(slice(-60), 100, 120, 0)
	f.sweep(statestore.Sweep{Replace: []statestore.Replace{{Remove: refsOf(early[:3]...), With: []statestore.Delta{with}}}})
	f.holds("one for three", append([]statestore.Delta{with, early[3]}, late...)...)
}

func sweepSplit(f *fixture) {
	early, late := twoSlices(f)
	var with []statestore.Delta
	for b := range 256 {
		with = append(with, delta(slice(60), 100, 130, uint8(b)))
	}
	f.sweep(statestore.Sweep{Replace: []statestore.Replace{{Remove: refsOf(late...), With: with}}})
	f.holds("256 for four", append(slices.Clone(early), with...)...)
}

func sweepReplaceByNothing(f *fixture) {
	early, late := twoSlices(f)
	f.sweep(statestore.Sweep{Replace: []statestore.Replace{{Remove: refsOf(early[1], early[2])}}})
	f.holds("the first and the last", append([]statestore.Delta{early[0], early[3]}, late...)...)
}

func sweepTwoOfOneSlice(f *fixture) {
	early, late := twoSlices(f)
	a, b := delta(slice(60), 100, 120, 1), delta(slice(60), 121, 130, 2)
	f.sweep(statestore.Sweep{Replace: []statestore.Replace{
		{Remove: refsOf(late[:2]...), With: []statestore.Delta{a}},
		{Remove: refsOf(late[2:]...), With: []statestore.Delta{b}},
	}})
	f.holds("two for four", append(slices.Clone(early), a, b)...)
}

// sweepAll drops, trims and replaces in one sweep, each in slices of its own.
func sweepAll(f *fixture) {
	_, late := twoSlices(f)
	more := []statestore.Delta{delta(slice(120), 130, 135, 0), delta(slice(120), 135, 140, 0)}
	outbox := statestore.SliceID{Window: statestore.ListOutbox}
	entries := []statestore.Delta{delta(outbox, 130, 131, 0), delta(outbox, 139, 140, 0)}
	f.append(140, append(slices.Clone(more), entries...)...)
	with := delta(slice(120), 130, 140, 0)
	f.sweep(statestore.Sweep{
		Drop:    []statestore.SliceID{slice(-60), slice(7)},
		Trim:    []statestore.Trim{{Slice: outbox, To: 131}, {Slice: slice(60), To: 120}},
		Replace: []statestore.Replace{{Remove: refsOf(more...), With: []statestore.Delta{with}}},
	})
	f.holds("after it", late[2], late[3], with, entries[1])
}

func sweepEmpty(f *fixture) {
	early, late := twoSlices(f)
	only := delta(slice(-120), 130, 140, 0)
	f.append(140, only)
	f.sweep(statestore.Sweep{Replace: []statestore.Replace{{Remove: refsOf(only)}}})
	f.holds("without the replaced", append(slices.Clone(early), late...)...)
	f.sweep(statestore.Sweep{Trim: []statestore.Trim{{Slice: slice(-60), To: 130}}})
	f.holds("without the trimmed", late...)
	f.sweep(statestore.Sweep{Drop: []statestore.SliceID{slice(60)}})
	f.holds("nothing")
	again := delta(slice(-60), 140, 150, 2)
	f.append(150, again)
	f.holds("a slice that was gone comes back", again)
	f.equal("its status", []statestore.SliceInfo{{ID: slice(-60), Deltas: 1, MaxFrom: 140}}, f.contents().Status.Slices)
}

func sweepNothing(f *fixture) {
	twoSlices(f)
	f.unchanged("a sweep of nothing", func() {
		f.sweep(statestore.Sweep{})
		f.sweep(statestore.Sweep{
			Drop:    []statestore.SliceID{slice(0), {Window: 4, Start: 60}},
			Trim:    []statestore.Trim{{Slice: slice(1), To: 1 << 40}, {Slice: slice(60), To: 0}},
			Replace: []statestore.Replace{{}},
		})
	})
}

func sweepToken(f *fixture) {
	twoSlices(f)
	first := f.load().Top.Token
	f.raise(10)
	base := f.load().Top.Token
	f.raise(20)
	f.unchanged("sweeps by other tokens", func() {
		for what, token := range map[string]statestore.Token{
			"the base": base, "a cut that has gone": first, "a token that never was": newToken(), "no token": {},
		} {
			err := f.store.Sweep(f.ctx, f.slot, statestore.Sweep{Token: token, Drop: []statestore.SliceID{slice(60)}})
			f.fails("sweep by "+what, err, statestore.ErrRefused)
			f.fails("empty sweep by "+what, f.store.Sweep(f.ctx, f.slot, statestore.Sweep{Token: token}), statestore.ErrRefused)
		}
	})
}

// sweepRefused sweeps with one replacement whose Remove has bad among deltas that are there; everything else of it is good.
func sweepRefused(f *fixture, what string, early, late []statestore.Delta, bad statestore.DeltaRef) {
	f.Helper()
	good := statestore.Replace{Remove: refsOf(late[0]), With: []statestore.Delta{delta(slice(60), 100, 110, 0)}}
	with := []statestore.Delta{delta(bad.Slice, 100, 120, 77)}
	for _, remove := range [][]statestore.DeltaRef{{bad}, {early[0].Ref, bad}, {bad, early[0].Ref}} {
		for _, replace := range [][]statestore.Replace{
			{good, {Remove: remove, With: with}}, {{Remove: remove, With: with}, good}, {{Remove: remove}},
		} {
			f.unchanged(what, func() {
				err := f.store.Sweep(f.ctx, f.slot, statestore.Sweep{
					Token:   f.load().Top.Token,
					Drop:    []statestore.SliceID{slice(120)},
					Trim:    []statestore.Trim{{Slice: slice(180), To: 1 << 40}},
					Replace: replace,
				})
				f.fails(what, err, statestore.ErrRefused)
			})
		}
	}
}

func sweepMissing(f *fixture) {
	early, late := twoSlices(f)
	f.append(140, delta(slice(120), 130, 140, 0), delta(slice(180), 130, 140, 0))
	ref := early[2].Ref
	ref.From++
	sweepRefused(f, "a range that never was", early, late, ref)
	ref = early[2].Ref
	ref.Bucket++
	sweepRefused(f, "a bucket that never was", early, late, ref)
	f.sweep(statestore.Sweep{Replace: []statestore.Replace{{Remove: refsOf(early[3])}}})
	sweepRefused(f, "a delta that has gone", early, late, early[3].Ref)
}

func sweepChanged(f *fixture) {
	early, late := twoSlices(f)
	f.append(140, delta(slice(120), 130, 140, 0), delta(slice(180), 130, 140, 0))
	longer := delta(slice(-60), 101, 120, 3)
	f.sweep(statestore.Sweep{Replace: []statestore.Replace{{Remove: refsOf(early[2]), With: []statestore.Delta{longer}}}})
	sweepRefused(f, "a delta whose end is another now", early, late, early[2].Ref)
}

func sweepRepeated(f *fixture) {
	early, _ := twoSlices(f)
	s := statestore.Sweep{
		Token:   f.load().Top.Token,
		Replace: []statestore.Replace{{Remove: refsOf(early...), With: []statestore.Delta{delta(slice(-60), 100, 130, 0)}}},
	}
	f.must("sweep", f.store.Sweep(f.ctx, f.slot, s))
	f.unchanged("the same sweep again", func() {
		f.fails("the same sweep again", f.store.Sweep(f.ctx, f.slot, s), statestore.ErrRefused)
	})
}

func sweepHead(f *fixture) {
	early, _ := twoSlices(f)
	f.raise(10)
	before := f.load()
	f.sweep(statestore.Sweep{
		Drop: []statestore.SliceID{slice(60)}, Replace: []statestore.Replace{{Remove: refsOf(early[0], early[1])}},
	})
	f.equal("head", before, f.load())
}

func sweepThenCommit(f *fixture) {
	early, late := twoSlices(f)
	with := delta(slice(-60), 100, 130, 0)
	f.sweep(statestore.Sweep{Replace: []statestore.Replace{{Remove: refsOf(early...), With: []statestore.Delta{with}}}})
	next := delta(slice(-60), 130, 131, 0)
	f.append(131, next)
	f.holds("compacted and new", append([]statestore.Delta{with, next}, late...)...)
}

func sweepInvalid(f *fixture) {
	early, late := twoSlices(f)
	for what, r := range map[string]statestore.Replace{
		"two slices to remove":             {Remove: refsOf(early[0], late[0])},
		"put into another slice":           {Remove: refsOf(early[0]), With: []statestore.Delta{delta(slice(60), 100, 110, 0)}},
		"a delta that ends before it is":   {Remove: refsOf(early[0]), With: []statestore.Delta{delta(slice(-60), 110, 100, 0)}},
		"a delta from before the offset 0": {Remove: refsOf(early[0]), With: []statestore.Delta{delta(slice(-60), -1, 0, 0)}},
	} {
		f.unchanged(what, func() {
			err := f.store.Sweep(f.ctx, f.slot, statestore.Sweep{
				Token: f.load().Top.Token, Drop: []statestore.SliceID{slice(60)}, Replace: []statestore.Replace{r},
			})
			f.fails(what, err, statestore.ErrInvalid)
		})
	}
}
