package storetest

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/statestore"
)

func limitCases() []testCase {
	return []testCase{
		{"SlicesAreOrderedBeforeAndAfter1970", slicesOrdered},
		{"OffsetsAtTheEndsOfTheRange", offsetsAtTheEnds},
		{"OwnedAtTheEndsOfTheRange", ownedAtTheEnds},
		{"PayloadsOfAllBytes", binaryPayloads},
		{"TenThousandDeltasInASlice", manyInASlice},
		{"FiveThousandDeltasInACommit", manyInACommit},
		{"ThousandsInASweep", manyInASweep},
	}
}

func slicesOrdered(f *fixture) {
	f.create(0)
	starts := []event.Time{event.MinTime, event.MinTime + 1, -1 << 33, -60_001, -60_000, -16, -1, 0, 1, 9, 10, 60_000, 1 << 33, event.MaxTime - 1, event.MaxTime}
	var want []statestore.Delta
	for _, w := range []uint16{0, 1, 9, 10, 0x0FFF, 0x1000} {
		for _, start := range starts {
			want = append(want, delta(statestore.SliceID{Window: w, Start: start}, 0, 1, 0))
		}
	}
	mixed := slices.Clone(want)
	rand.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
	f.append(1, mixed...)
	f.holds("by window, then by start", want...)
}

func offsetsAtTheEnds(f *fixture) {
	f.create(0)
	want := []statestore.Delta{
		delta(slice(0), 0, 1, 0), delta(slice(0), 9, 10, 0), delta(slice(0), 10, 15, 0), delta(slice(0), 15, 16, 0),
		delta(slice(0), 16, 1<<31, 0), delta(slice(0), 1<<31, 1<<53, 0), delta(slice(0), 1<<53+1, 1<<53+2, 0),
		delta(slice(0), 1<<62, math.MaxInt64, 0), delta(slice(0), math.MaxInt64-1, math.MaxInt64, 0),
	}
	for i := range want {
		want[i].Owned = int64(i)
	}
	for _, d := range want {
		f.append(d.To, d)
		if d.To == math.MaxInt64 {
			break // nothing can come after it but what came with it
		}
	}
	f.holds("all but the last", want[:len(want)-1]...)
	f.equal("applied", int64(math.MaxInt64), f.load().Applied)
	f.must("drop", f.store.Drop(f.ctx, f.slot))
	f.create(0)
	f.append(math.MaxInt64, want...)
	f.holds("in one commit", want...)
	f.sweep(statestore.Sweep{Trim: []statestore.Trim{{Slice: slice(0), To: 1<<53 + 1}}})
	f.holds("trimmed just above 2^53", want[6:]...)
}

func ownedAtTheEnds(f *fixture) {
	f.create(0)
	var want []statestore.Delta
	for i, owned := range []int64{0, 1, 1 << 31, math.MaxUint32} {
		d := delta(slice(0), int64(i), int64(i)+1, 0)
		d.Owned = owned
		want = append(want, d)
	}
	f.append(4, want...)
	f.holds("owned", want...)
}

func binaryPayloads(f *fixture) {
	f.create(0)
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	rng := rand.New(rand.NewPCG(7, 7))
	noise := make([]byte, 1<<20)
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	var want []statestore.Delta
	for i, p := range [][]byte{
		{}, {0}, make([]byte, 255), make([]byte, 256), every, bytes.Repeat(every, 20), []byte("\r\n$-1\r\n"), {0xff, 0xfe, 0xc0}, noise, make([]byte, 1<<20),
	} {
		d := delta(slice(0), int64(i), int64(i)+1, 0)
		d.Payload = p
		want = append(want, d)
	}
	f.append(int64(len(want)), want...)
	f.holds("payloads", want...)
}

func manyInASlice(f *fixture) {
	f.create(0)
	var want []statestore.Delta
	const commits, each = 20, 500
	for c := range int64(commits) {
		var deltas []statestore.Delta
		for i := range int64(each) {
			from := c*each + i
			deltas = append(deltas, delta(slice(0), from, from+1, uint8(i)))
		}
		f.append((c+1)*each, deltas...)
		want = append(want, deltas...)
	}
	f.holds("ten thousand", want...)
	f.equal("status", []statestore.SliceInfo{{ID: slice(0), Deltas: commits * each, MaxFrom: commits*each - 1}}, f.contents().Status.Slices)
	f.sweep(statestore.Sweep{Trim: []statestore.Trim{{Slice: slice(0), To: 9_000}}})
	f.holds("a thousand", want[9_000:]...)
}

func manyInACommit(f *fixture) {
	f.create(0)
	var want []statestore.Delta
	for s := range 500 {
		for b := range 10 {
			d := delta(slice(event.Time(s)*1000), int64(s), 5_000, uint8(b))
			d.Payload = bytes.Repeat(fmt.Appendf(nil, "%d.%d ", s, b), 20)
			want = append(want, d)
		}
	}
	f.append(5_000, want...)
	f.holds("five thousand", want...)
	f.unchanged("five thousand that lost", func() {
		_, err := f.store.Commit(f.ctx, f.slot, statestore.Commit{Applied: 0, Top: f.load().Top.Token, To: 5_000, Deltas: want})
		f.fails("five thousand again", err, statestore.ErrConflict)
	})
}

// manyInASweep compacts two slices of 1,500 deltas and purges 400 slices, and before that fails to, for one delta.
func manyInASweep(f *fixture) {
	f.create(0)
	var deltas, with []statestore.Delta
	var s statestore.Sweep
	for i := range int64(1_500) {
		deltas = append(deltas, delta(slice(0), i, i+1, 0), delta(slice(1), i, i+1, 0))
	}
	for i := range 400 {
		id := statestore.SliceID{Window: 1, Start: event.Time(i)}
		deltas = append(deltas, delta(id, 0, 1_500, 0))
		s.Drop = append(s.Drop, id)
	}
	f.append(1_500, deltas...)
	token := f.load().Top.Token
	for start := range event.Time(2) {
		r := statestore.Replace{Remove: f.index(token, slice(start))}
		for b := range 256 {
			r.With = append(r.With, delta(slice(start), 0, 1_500, uint8(b)))
		}
		with = append(with, r.With...)
		s.Replace = append(s.Replace, r)
	}
	last := &s.Replace[1].Remove[1_499]
	last.To++
	s.Token = token
	f.unchanged("a sweep with one delta that is not there", func() {
		f.fails("a sweep with one delta that is not there", f.store.Sweep(f.ctx, f.slot, s), statestore.ErrRefused)
	})
	last.To--
	f.sweep(s)
	f.holds("compacted", with...)
}
