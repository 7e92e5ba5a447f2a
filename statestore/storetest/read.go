package storetest

import (
	"slices"

	"github.com/llm-auto-optimizer/tidemark/statestore"
)

func readCases() []testCase {
	return []testCase{
		{"IndexIsOrderedAsAsked", indexOrdered},
		{"IndexOfNothingIsEmpty", indexEmpty},
		{"EitherCutServes", readEitherCut},
		{"UnknownCutIsRefused", readUnknownCut},
		{"PayloadsComeInTheOrderOfTheRefs", readInOrder},
		{"CommitsInBetweenDoNotDisturb", readAcrossCommits},
		{"DeltaThatNeverWasIsRefused", readNeverWas},
		{"DeltaThatHasGoneIsRefused", readGone},
		{"DeltaThatWasReplacedIsRefused", readReplaced},
	}
}

// twoSlices commits deltas of two slices, each in several buckets and ranges, and returns them in order.
func twoSlices(f *fixture) (early, late []statestore.Delta) {
	f.Helper()
	f.create(100)
	early = []statestore.Delta{
		delta(slice(-60), 100, 110, 0), delta(slice(-60), 100, 120, 255), delta(slice(-60), 101, 110, 3), delta(slice(-60), 120, 130, 1),
	}
	late = []statestore.Delta{
		delta(slice(60), 100, 120, 9), delta(slice(60), 119, 120, 0), delta(slice(60), 121, 125, 2), delta(slice(60), 121, 130, 16),
	}
	f.append(120, late[1], early[2], early[0], late[0], early[1])
	f.append(130, late[3], late[2], early[3])
	f.holds("two slices", append(slices.Clone(early), late...)...)
	return early, late
}

func (f *fixture) index(token statestore.Token, ids ...statestore.SliceID) []statestore.DeltaRef {
	f.Helper()
	refs, err := f.store.Index(f.ctx, f.slot, token, ids)
	f.must("index", err)
	return refs
}

func (f *fixture) read(token statestore.Token, refs ...statestore.DeltaRef) [][]byte {
	f.Helper()
	payloads, err := f.store.Read(f.ctx, f.slot, token, refs)
	f.must("read", err)
	return payloads
}

func indexOrdered(f *fixture) {
	early, late := twoSlices(f)
	token := f.load().Top.Token
	e, l := refsOf(early...), refsOf(late...)
	f.equal("early", e, f.index(token, slice(-60)))
	f.equal("late", l, f.index(token, slice(60)))
	f.equal("early, late", append(slices.Clone(e), l...), f.index(token, slice(-60), slice(60)))
	f.equal("late, early", append(slices.Clone(l), e...), f.index(token, slice(60), slice(0), slice(-60)))
}

func indexEmpty(f *fixture) {
	twoSlices(f)
	token := f.load().Top.Token
	f.equal("no slice", []statestore.DeltaRef{}, f.index(token))
	other := slice(60)
	other.Window = 1
	f.equal("slices that are not there", []statestore.DeltaRef{}, f.index(token, slice(0), slice(61), slice(59), other))
}

func readEitherCut(f *fixture) {
	early, _ := twoSlices(f)
	base := f.load().Top.Token
	for _, token := range []statestore.Token{f.raise(10), base} {
		f.equal("index", refsOf(early...), f.index(token, slice(-60)))
		f.equal("payloads", payloadsOf(early...), f.read(token, refsOf(early...)...))
	}
}

func readUnknownCut(f *fixture) {
	early, _ := twoSlices(f)
	gone := f.load().Top.Token
	f.raise(10)
	f.raise(20)
	for what, token := range map[string]statestore.Token{"a token that never was": newToken(), "no token": {}, "a cut that has gone": gone} {
		_, err := f.store.Index(f.ctx, f.slot, token, []statestore.SliceID{slice(-60)})
		f.fails("index by "+what, err, statestore.ErrRefused)
		_, err = f.store.Index(f.ctx, f.slot, token, nil)
		f.fails("index of nothing by "+what, err, statestore.ErrRefused)
		_, err = f.store.Read(f.ctx, f.slot, token, refsOf(early...))
		f.fails("read by "+what, err, statestore.ErrRefused)
		_, err = f.store.Read(f.ctx, f.slot, token, nil)
		f.fails("read of nothing by "+what, err, statestore.ErrRefused)
	}
}

func readInOrder(f *fixture) {
	early, late := twoSlices(f)
	token := f.load().Top.Token
	all := append(slices.Clone(late), early...)
	slices.Reverse(all)
	all[0], all[3] = all[3], all[0]
	f.equal("payloads", payloadsOf(all...), f.read(token, refsOf(all...)...))
	f.equal("one", payloadsOf(late[2]), f.read(token, late[2].Ref))
	f.equal("none", [][]byte{}, f.read(token))
}

func readAcrossCommits(f *fixture) {
	early, late := twoSlices(f)
	token := f.load().Top.Token
	refs := f.index(token, slice(-60), slice(60))
	f.append(140, delta(slice(-60), 130, 140, 0), delta(slice(60), 130, 140, 0))
	f.equal("payloads", payloadsOf(append(early, late...)...), f.read(token, refs...))
}

// gone reads a ref that is not stored, alone and after one that is.
func gone(f *fixture, what string, there, ref statestore.DeltaRef) {
	f.Helper()
	token := f.load().Top.Token
	for _, refs := range [][]statestore.DeltaRef{{ref}, {there, ref}, {ref, there}} {
		payloads, err := f.store.Read(f.ctx, f.slot, token, refs)
		f.fails(what, err, statestore.ErrRefused)
		if len(payloads) != 0 {
			f.Errorf("%s: %d payloads beside the error", what, len(payloads))
		}
	}
}

func readNeverWas(f *fixture) {
	early, _ := twoSlices(f)
	there := early[2].Ref
	for what, change := range map[string]func(r *statestore.DeltaRef){
		"another from":   func(r *statestore.DeltaRef) { r.From++ },
		"another to":     func(r *statestore.DeltaRef) { r.To++ },
		"another bucket": func(r *statestore.DeltaRef) { r.Bucket++ },
		"another start":  func(r *statestore.DeltaRef) { r.Slice.Start++ },
		"another window": func(r *statestore.DeltaRef) { r.Slice.Window++ },
	} {
		ref := there
		change(&ref)
		gone(f, what, there, ref)
	}
}

func readGone(f *fixture) {
	early, late := twoSlices(f)
	f.sweep(statestore.Sweep{
		Drop: []statestore.SliceID{slice(-60)},
		Trim: []statestore.Trim{{Slice: slice(60), To: 120}},
	})
	gone(f, "a delta of a dropped slice", late[3].Ref, early[0].Ref)
	gone(f, "a trimmed delta", late[3].Ref, late[1].Ref)
}

// readReplaced reads by an index that is older than a compaction whose result has the identity of a delta that it replaced.
func readReplaced(f *fixture) {
	early, late := twoSlices(f)
	with := delta(slice(-60), 100, 120, 0)
	f.sweep(statestore.Sweep{Replace: []statestore.Replace{{Remove: refsOf(early[:3]...), With: []statestore.Delta{with}}}})
	gone(f, "the delta that was replaced", late[0].Ref, early[0].Ref)
	f.equal("payload", payloadsOf(with), f.read(f.load().Top.Token, with.Ref))
}
