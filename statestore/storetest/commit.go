package storetest

import (
	"math"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/statestore"
)

func commitCases() []testCase {
	return []testCase{
		{"AppendsAndAnswersTheHead", commitAppends},
		{"OtherAppliedIsAConflict", commitOtherApplied},
		{"OtherTopIsAConflict", commitOtherTop},
		{"RedeliveryIsNoOp", commitRedelivery},
		{"MaxTimeOnlyGrows", commitMaxTime},
		{"LastRecordAtIsKeptByAnEmptyRange", commitLastRecordAt},
		{"WithoutDeltasMovesApplied", commitEmptyRange},
		{"SameDeltaTwiceIsOnce", commitTwice},
		{"SameIdentityReplaces", commitReplaces},
		{"GoesOnAfterARaise", commitAfterRaise},
		{"ReservedListsAreListsLikeAnyOther", commitReserved},
		{"WhatCannotBeStoredIsInvalid", commitInvalid},
	}
}

func commitAppends(f *fixture) {
	token := f.create(100)
	a, b, c := delta(slice(0), 100, 150, 0), delta(slice(0), 100, 140, 7), delta(slice(60_000), 120, 150, 0)
	got := f.append(150, c, b, a) // the order of deltas in a commit means nothing
	cut := statestore.Cut{Token: token, Offset: 100, Watermark: event.MinTime}
	f.equal("head", statestore.Meta{Applied: 150, MaxTime: 150, LastRecordAt: 150, Base: cut, Top: cut}, got)
	f.holds("first commit", a, b, c)
	d := delta(slice(0), 150, 151, 3)
	f.append(151, d)
	f.holds("second commit", a, b, d, c)
}

// conflict commits at another state than the stored one: the answer is the stored head, and nothing changes.
func conflict(f *fixture, what string, c statestore.Commit) {
	f.Helper()
	c.MaxTime, c.Now = math.MaxInt64, 99
	f.unchanged(what, func() {
		got, err := f.store.Commit(f.ctx, f.slot, c)
		f.fails(what, err, statestore.ErrConflict)
		f.equal("head answered to "+what, f.load(), got)
	})
}

func commitOtherApplied(f *fixture) {
	token := f.create(100)
	f.append(150, delta(slice(0), 100, 150, 0))
	conflict(f, "applied too small", statestore.Commit{
		Applied: 149, Top: token, To: 200, Deltas: []statestore.Delta{delta(slice(0), 149, 200, 0)},
	})
	conflict(f, "applied too large", statestore.Commit{
		Applied: 151, Top: token, To: 200, Deltas: []statestore.Delta{delta(slice(5), 151, 200, 0)},
	})
	conflict(f, "applied too large, empty range", statestore.Commit{Applied: 1 << 40, Top: token, To: 1 << 40})
}

func commitOtherTop(f *fixture) {
	base := f.create(100)
	f.raise(10)
	deltas := []statestore.Delta{delta(slice(0), 100, 200, 0)}
	conflict(f, "unknown top", statestore.Commit{Applied: 100, Top: newToken(), To: 200, Deltas: deltas})
	conflict(f, "no top", statestore.Commit{Applied: 100, To: 200, Deltas: deltas})
	conflict(f, "top that is only the base", statestore.Commit{Applied: 100, Top: base, To: 200, Deltas: deltas})
}

func commitRedelivery(f *fixture) {
	token := f.create(100)
	c := statestore.Commit{
		Applied: 100, Top: token, To: 150, MaxTime: 5, Now: 6, Deltas: []statestore.Delta{delta(slice(0), 100, 150, 0)},
	}
	_, err := f.store.Commit(f.ctx, f.slot, c)
	f.must("commit", err)
	conflict(f, "the same commit again", c)
	f.holds("one delivery", c.Deltas...)
}

func commitMaxTime(f *fixture) {
	token := f.create(0)
	at, largest := int64(0), event.Time(math.MinInt64)
	for _, t := range []event.Time{event.MinTime, -5_000, -6_000, 0, -1, 1_735_734_840_000, 7, event.MaxTime, event.MinTime} {
		m, err := f.store.Commit(f.ctx, f.slot, statestore.Commit{Applied: at, Top: token, To: at + 1, MaxTime: t, Now: 1})
		f.must("commit", err)
		at, largest = at+1, max(largest, t)
		f.equal("largest time", largest, m.MaxTime)
		f.equal("largest time, loaded", largest, f.load().MaxTime)
	}
}

func commitLastRecordAt(f *fixture) {
	token := f.create(0)
	f.equal("at first", event.Time(1_000), f.load().LastRecordAt)
	want := event.Time(1_000)
	for i, now := range []event.Time{event.MinTime, 2_000, event.MinTime, 1_500, event.MinTime, -3} {
		if now != event.MinTime {
			want = now
		}
		m, err := f.store.Commit(f.ctx, f.slot, statestore.Commit{
			Applied: int64(i), Top: token, To: int64(i) + 1, MaxTime: event.MinTime, Now: now,
		})
		f.must("commit", err)
		f.equal("last record", want, m.LastRecordAt)
		f.equal("last record, loaded", want, f.load().LastRecordAt)
	}
}

func commitEmptyRange(f *fixture) {
	token := f.create(100)
	d := delta(slice(0), 100, 150, 0)
	before := f.append(150, d)
	for _, to := range []int64{150, 151, 1 << 40} { // an empty commit is one, too
		m, err := f.store.Commit(f.ctx, f.slot, statestore.Commit{
			Applied: before.Applied, Top: token, To: to, MaxTime: event.MinTime, Now: event.MinTime,
		})
		f.must("commit", err)
		before.Applied = to
		f.equal("head", before, m)
	}
	f.holds("what was there", d)
}

func commitTwice(f *fixture) {
	f.create(100)
	d := delta(slice(0), 100, 150, 4)
	f.append(150, d, d)
	f.holds("once", d)
}

// commitReplaces writes a delta in the place of one with the same identity, as a replay may: the list of refused offsets is
// there before the offsets are folded again.
func commitReplaces(f *fixture) {
	r := plan()
	f.restore(r, statestore.Created)
	longer := refused(460, 510)
	longer.Payload = []byte("other")
	f.append(520, longer)
	f.holds("the newer one", r.Refused[0], longer)
	_, err := f.store.Read(f.ctx, f.slot, r.Token, refsOf(r.Refused[1]))
	f.fails("read of the older one", err, statestore.ErrRefused)
}

func commitAfterRaise(f *fixture) {
	f.create(100)
	a, b := delta(slice(0), 100, 150, 0), delta(slice(0), 150, 160, 0)
	f.append(150, a)
	f.raise(10)
	f.append(160, b)
	f.holds("before and after the raise", a, b)
}

func commitReserved(f *fixture) {
	f.create(0)
	var want []statestore.Delta
	for _, w := range []uint16{0, 1, 0xFFFC, statestore.ListRefused, statestore.ListOutbox, statestore.ListCounts} {
		want = append(want, delta(statestore.SliceID{Window: w}, 0, 5, 0), delta(statestore.SliceID{Window: w}, 5, 9, 0))
	}
	f.append(9, want...)
	f.holds("every list", want...)
}

func commitInvalid(f *fixture) {
	token := f.create(100)
	f.append(150, delta(slice(0), 100, 150, 0))
	good := statestore.Commit{Applied: 150, Top: token, To: 200, Deltas: []statestore.Delta{delta(slice(0), 150, 200, 0)}}
	for what, spoil := range map[string]func(c *statestore.Commit, d *statestore.Delta){
		"it ends before it begins":         func(c *statestore.Commit, _ *statestore.Delta) { c.To = 149 },
		"a delta from before the commit":   func(_ *statestore.Commit, d *statestore.Delta) { d.From = 149 },
		"a delta beyond the commit":        func(_ *statestore.Commit, d *statestore.Delta) { d.To = 201 },
		"a delta that ends before it is":   func(_ *statestore.Commit, d *statestore.Delta) { d.From, d.To = 170, 169 },
		"a delta that owns less than none": func(_ *statestore.Commit, d *statestore.Delta) { d.Owned = -1 },
		"a delta that owns too much":       func(_ *statestore.Commit, d *statestore.Delta) { d.Owned = 1 << 32 },
	} {
		f.unchanged(what, func() {
			c, d := good, good.Deltas[0]
			spoil(&c, &d)
			c.Deltas = []statestore.Delta{delta(slice(0), 150, 151, 9), d}
			_, err := f.store.Commit(f.ctx, f.slot, c)
			f.fails(what, err, statestore.ErrInvalid)
		})
	}
}
