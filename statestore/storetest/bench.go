package storetest

import (
	"context"
	"fmt"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// Benchmark measures commits and reads of the sizes that ingest and fire make: a small batch into one slice, a large one into
// many, and what a fire reads of a slice after many batches. Bytes per second are those of payloads.
func Benchmark(b *testing.B, open func(b *testing.B) statestore.Store) {
	b.Helper()
	for _, c := range []struct{ slices, payload int }{{1, 512}, {10, 4 << 10}, {100, 4 << 10}} {
		b.Run(fmt.Sprintf("Commit/deltas=%d/bytes=%d", c.slices, c.payload), func(b *testing.B) { benchCommit(b, open(b), c.slices, c.payload) })
	}
	for _, n := range []int{16, 1_000} {
		b.Run(fmt.Sprintf("IndexAndRead/deltas=%d/bytes=4096", n), func(b *testing.B) { benchRead(b, open(b), n, 4<<10) })
	}
	b.Run("Status/slices=200", func(b *testing.B) { benchStatus(b, open(b)) })
}

// benchPayload looks like state: keys that repeat, numbers that do not.
func benchPayload(size int) []byte {
	var p []byte
	for i := 0; len(p) < size; i++ {
		p = fmt.Appendf(p, "service=%d::model=%d %016x ", i%7, i%11, uint64(i)*0x9E3779B97F4A7C15)
	}
	return p[:size]
}

// benchSlot makes a slot and removes it at the end.
func benchSlot(b *testing.B, s statestore.Store) (statestore.Slot, statestore.Token) {
	b.Helper()
	ctx, slot, token := context.WithoutCancel(b.Context()), newSlot(), newToken()
	b.Cleanup(func() {
		if err := s.Drop(ctx, slot); err != nil {
			b.Error(err)
		}
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	if _, _, err := s.Restore(ctx, slot, statestore.Restore{Token: token, Watermark: event.MinTime, MaxTime: event.MinTime}); err != nil {
		b.Fatal(err)
	}
	return slot, token
}

// benchCommit purges everything every 256 commits, outside of the measured time, as a fire would.
func benchCommit(b *testing.B, s statestore.Store, n, size int) {
	ctx := b.Context()
	slot, token := benchSlot(b, s)
	deltas := make([]statestore.Delta, n)
	drop := make([]statestore.SliceID, n)
	payload := benchPayload(size)
	for i := range deltas {
		drop[i] = slice(event.Time(i) * 60_000)
		deltas[i] = statestore.Delta{Ref: statestore.DeltaRef{Slice: drop[i]}, Payload: payload}
	}
	b.SetBytes(int64(n * size))
	b.ReportAllocs()
	at := int64(0)
	for b.Loop() {
		for i := range deltas {
			deltas[i].From, deltas[i].To = at, at+500
		}
		c := statestore.Commit{Applied: at, Top: token, To: at + 500, MaxTime: 1, Now: 1, Deltas: deltas}
		if _, err := s.Commit(ctx, slot, c); err != nil {
			b.Fatal(err)
		}
		if at += 500; at%(256*500) == 0 {
			b.StopTimer()
			if err := s.Sweep(ctx, slot, statestore.Sweep{Token: token, Drop: drop}); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	}
}

func benchRead(b *testing.B, s statestore.Store, n, size int) {
	ctx := b.Context()
	slot, token := benchSlot(b, s)
	payload := benchPayload(size)
	for i := range int64(n) {
		c := statestore.Commit{Applied: i, Top: token, To: i + 1, Deltas: []statestore.Delta{
			{Ref: statestore.DeltaRef{Slice: slice(0), From: i, To: i + 1}, Payload: payload},
		}}
		if _, err := s.Commit(ctx, slot, c); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(n * size))
	b.ReportAllocs()
	for b.Loop() {
		refs, err := s.Index(ctx, slot, token, []statestore.SliceID{slice(0)})
		if err != nil {
			b.Fatal(err)
		}
		payloads, err := s.Read(ctx, slot, token, refs)
		if err != nil || len(payloads) != n {
			b.Fatalf("%d payloads, %v", len(payloads), err)
		}
	}
}

func benchStatus(b *testing.B, s statestore.Store) {
	ctx := b.Context()
	slot, token := benchSlot(b, s)
	var deltas []statestore.Delta
	for i := range 200 {
		deltas = append(deltas, delta(slice(event.Time(i)), 0, 10, 0), delta(slice(event.Time(i)), 0, 10, 1))
	}
	if _, err := s.Commit(ctx, slot, statestore.Commit{Top: token, To: 10, Deltas: deltas}); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if st, err := s.Status(ctx, slot); err != nil || len(st.Slices) != 200 {
			b.Fatalf("%d slices, %v", len(st.Slices), err)
		}
	}
}
