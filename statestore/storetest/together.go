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
		f.equal("head answered", all[i].load(), got[i].Meta)
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
		f.equal("head answered", all[i].load(), got.Meta)
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
