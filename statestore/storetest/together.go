package storetest

import (
	"context"
	"math/rand/v2"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/statestore"
)

func togetherCases() []testCase {
	return []testCase{
		{"EachIsACommitOfItsOwn", togetherEach},
		{"WhatIsTooLargeForOneCallIsThereAsWell", togetherLarge},
		{"CancelledNothingChanges", togetherCancelled},
		{"EachStatusAndIndexIsItsOwn", togetherStatus},
		{"EachRaiseIsItsOwn", togetherRaise},
		{"EachSweepIsItsOwn", togetherSweep},
		{"WhatAPlanAsksForCancelled", togetherPlanCancelled},
	}
}

// others returns n fixtures of new slots of the fixture's pipeline, which it cleans up after.
func (f *fixture) others(n int) []*fixture {
	out := make([]*fixture, n)
	for i := range out {
		o := *f
		o.slot.Partition, o.slot.TopicID = int32(100+i), newToken()
		out[i] = &o
	}
	return out
}

// next is a commit on top of what is stored.
func (f *fixture) next(to int64, deltas ...statestore.Delta) statestore.SlotCommit {
	f.Helper()
	m := f.load()
	return statestore.SlotCommit{Slot: f.slot, Commit: statestore.Commit{
		Applied: m.Applied, Top: m.Top.Token, To: to, MaxTime: event.Time(to), Now: event.Time(to), Deltas: deltas,
	}}
}

// Commits that succeed, that meet another writer, that have no slot and that are no commits: each is answered as if it were alone.
func togetherEach(f *fixture) {
	all := f.others(5)
	shared := []statestore.Delta{delta(slice(0), 100, 150, 0), delta(slice(60_000), 100, 150, 0)}
	own := []statestore.Delta{delta(slice(7), 100, 150, 0)}
	var commits []statestore.SlotCommit
	for i, o := range all {
		if i != 3 {
			o.create(100)
			commits = append(commits, o.next(150, shared...))
			continue
		}
		commits = append(commits, statestore.SlotCommit{Slot: o.slot, Commit: statestore.Commit{Applied: 100, Top: newToken(), To: 150, Deltas: shared}})
	}
	for i := range commits {
		commits[i].Commit.Deltas = shared // the same memory
	}
	commits[1].Commit.Deltas = own
	commits[2].Commit.Applied = 99
	commits[4].Commit.To = 50
	got := statestore.CommitAll(f.ctx, f.store, commits)
	f.must("first", got[0].Err)
	f.must("second", got[1].Err)
	f.fails("behind", got[2].Err, statestore.ErrConflict)
	f.fails("no slot", got[3].Err, statestore.ErrNoSlot)
	f.fails("backwards", got[4].Err, statestore.ErrInvalid)
	for i, want := range [][]statestore.Delta{shared, own, {}} {
		f.equal("head answered", all[i].load(), got[i].Value)
		all[i].holds("slot", want...)
	}
	f.equal("one alone", 1, len(statestore.CommitAll(f.ctx, f.store, commits[:1])))
	f.equal("none", 0, len(statestore.CommitAll(f.ctx, f.store, nil)))
}

func togetherLarge(f *fixture) {
	all := f.others(3)
	payload := make([]byte, 3<<20)
	for i := range payload {
		payload[i] = byte(rand.Uint32())
	}
	var commits []statestore.SlotCommit
	for i, o := range all {
		o.create(0)
		deltas := []statestore.Delta{delta(slice(0), 0, 10, 0)}
		if i == 1 {
			for b := range uint8(3) {
				d := delta(slice(1), 0, 10, b)
				d.Payload = payload
				deltas = append(deltas, d)
			}
		}
		commits = append(commits, o.next(10, deltas...))
	}
	for i, got := range statestore.CommitAll(f.ctx, f.store, commits) {
		f.must("commit", got.Err)
		f.equal("head answered", all[i].load(), got.Value)
		all[i].holds("slot", commits[i].Commit.Deltas...)
	}
}

func togetherCancelled(f *fixture) {
	all := f.others(2)
	var commits []statestore.SlotCommit
	for _, o := range all {
		o.create(0)
		commits = append(commits, o.next(10, delta(slice(0), 0, 10, 0)))
	}
	ctx, cancel := context.WithCancel(f.ctx)
	cancel()
	for i, got := range statestore.CommitAll(ctx, f.store, commits) {
		f.fails("cancelled", got.Err, context.Canceled)
		all[i].holds("slot")
	}
}

// Slots with few and with many lists, and one that is not there.
func togetherStatus(f *fixture) {
	all := f.others(4)
	var slots []statestore.Slot
	var asked []statestore.SlotIndex
	for i, o := range all {
		slots = append(slots, o.slot)
		asked = append(asked, statestore.SlotIndex{Slot: o.slot, Token: newToken()})
		if i == 2 {
			continue
		}
		asked[i].Token = o.create(0)
		var deltas []statestore.Delta
		for n := range []int{3, 1200, 0, 1}[i] { // more than one call asks for, in one of them
			deltas = append(deltas, delta(slice(event.Time(n)), 0, 10, 0), delta(slice(event.Time(n)), 0, 10, 1))
			asked[i].Slices = append(asked[i].Slices, slice(event.Time(n)))
		}
		o.append(10, deltas...)
	}
	for i, got := range statestore.StatusAll(f.ctx, f.store, slots) {
		if i == 2 {
			f.fails("status of no slot", got.Err, statestore.ErrNoSlot)
			continue
		}
		want, err := f.store.Status(f.ctx, slots[i])
		f.must("status alone", err)
		f.must("status", got.Err)
		f.equal("status", want, got.Value)
	}
	asked[3].Token = newToken()
	for i, got := range statestore.IndexAll(f.ctx, f.store, asked) {
		switch i {
		case 2:
			f.fails("index of no slot", got.Err, statestore.ErrNoSlot)
		case 3:
			f.fails("index at no cut", got.Err, statestore.ErrRefused)
		default:
			f.must("index", got.Err)
			f.equal("index", all[i].index(asked[i].Token, asked[i].Slices...), got.Value)
		}
	}
	f.equal("none", 0, len(statestore.StatusAll(f.ctx, f.store, nil))+len(statestore.IndexAll(f.ctx, f.store, nil)))
}

func togetherRaise(f *fixture) {
	all := f.others(4)
	var raises []statestore.SlotRaise
	for i, o := range all {
		r := statestore.Raise{Token: newToken(), Watermark: 20, Base: newToken(), BaseOffset: 100, Seen: 150}
		if i != 2 {
			r.Base = o.create(100)
			o.append(150)
		}
		raises = append(raises, statestore.SlotRaise{Slot: o.slot, Raise: r})
	}
	raises[1].Raise.Seen = 151
	got := statestore.RaiseAll(f.ctx, f.store, raises)
	f.must("first", got[0].Err)
	f.fails("one that saw more", got[1].Err, statestore.ErrRefused)
	f.fails("no slot", got[2].Err, statestore.ErrNoSlot)
	f.must("last", got[3].Err)
	for i, o := range all {
		if i == 2 {
			continue
		}
		top := statestore.Cut{Token: raises[i].Raise.Token, Offset: 150, Watermark: 20}
		if i == 1 {
			top = o.load().Base
		}
		f.equal("top", top, o.load().Top)
		if got[i].Err == nil {
			f.equal("head answered", o.load(), got[i].Value)
		}
	}
	f.fails("once more", statestore.RaiseAll(f.ctx, f.store, raises)[0].Err, statestore.ErrRefused)
}

func togetherSweep(f *fixture) {
	all := f.others(5)
	payload := make([]byte, 3<<20)
	for i := range payload {
		payload[i] = byte(rand.Uint32())
	}
	one, two := delta(slice(0), 100, 110, 0), delta(slice(0), 110, 120, 0)
	large := []statestore.Delta{delta(slice(0), 100, 120, 0), delta(slice(0), 100, 120, 1)}
	large[0].Payload, large[1].Payload = payload, payload // more than one call takes
	want := [][]statestore.Delta{large[:1], {one, two}, nil, {one, two}, large}
	var sweeps []statestore.SlotSweep
	for i, o := range all {
		w := statestore.Sweep{Token: newToken()}
		if i != 2 {
			o.create(100)
			o.append(120, one, two)
			w.Token = o.load().Top.Token
		}
		w.Replace = []statestore.Replace{{Remove: refsOf(one, two), With: large[:1]}}
		sweeps = append(sweeps, statestore.SlotSweep{Slot: o.slot, Sweep: w})
	}
	sweeps[1].Sweep.Token = newToken()
	sweeps[3].Sweep.Replace = []statestore.Replace{{Remove: refsOf(one, delta(slice(0), 120, 130, 0)), With: large[:1]}}
	sweeps[4].Sweep.Replace = []statestore.Replace{{Remove: refsOf(one, two), With: large}}
	got := statestore.SweepAll(f.ctx, f.store, sweeps)
	f.must("first", got[0].Err)
	f.fails("another top", got[1].Err, statestore.ErrRefused)
	f.fails("no slot", got[2].Err, statestore.ErrNoSlot)
	f.fails("what is not there", got[3].Err, statestore.ErrRefused)
	f.must("large", got[4].Err)
	for i, o := range all {
		if i != 2 {
			o.holds("slot", want[i]...)
		}
	}
}

func togetherPlanCancelled(f *fixture) {
	var slots []statestore.Slot
	var raises []statestore.SlotRaise
	var sweeps []statestore.SlotSweep
	var asked []statestore.SlotIndex
	all := f.others(2)
	for _, o := range all {
		token := o.create(0)
		o.append(10, delta(slice(0), 0, 10, 0))
		slots = append(slots, o.slot)
		raises = append(raises, statestore.SlotRaise{Slot: o.slot, Raise: statestore.Raise{Token: newToken(), Watermark: 20, Base: token}})
		sweeps = append(sweeps, statestore.SlotSweep{Slot: o.slot, Sweep: statestore.Sweep{Token: token, Drop: []statestore.SliceID{slice(0)}}})
		asked = append(asked, statestore.SlotIndex{Slot: o.slot, Token: token, Slices: []statestore.SliceID{slice(0)}})
	}
	ctx, cancel := context.WithCancel(f.ctx)
	cancel()
	for i, o := range all {
		o.unchanged("cancelled", func() {
			f.fails("status", statestore.StatusAll(ctx, f.store, slots)[i].Err, context.Canceled)
			f.fails("raise", statestore.RaiseAll(ctx, f.store, raises)[i].Err, context.Canceled)
			f.fails("index", statestore.IndexAll(ctx, f.store, asked)[i].Err, context.Canceled)
			f.fails("sweep", statestore.SweepAll(ctx, f.store, sweeps)[i].Err, context.Canceled)
		})
		o.holds("slot", delta(slice(0), 0, 10, 0))
	}
}
