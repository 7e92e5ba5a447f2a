//go:build servers

package redisstore

import (
	"context"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// One batch of ingest: four slices, each with 200 groups of about 60 bytes, and the counts.
func BenchmarkCommit(b *testing.B) {
	s, slot, top := benchSlot(b)
	applied := int64(0)
	b.ReportAllocs()
	for b.Loop() {
		m, err := s.Commit(b.Context(), slot, statestore.Commit{
			Applied: applied, Top: top, To: applied + 500, MaxTime: event.Time(applied), Now: 1, Deltas: benchBatch(applied),
		})
		if err != nil {
			b.Fatal(err)
		}
		applied = m.Applied
	}
}

// What a firer reads of a partition: 80 deltas of 12 KB.
func BenchmarkRead80(b *testing.B) {
	s, slot, top := benchSlot(b)
	var refs []statestore.DeltaRef
	for applied := int64(0); len(refs) < 80; applied += 500 {
		batch := benchBatch(applied)
		if _, err := s.Commit(b.Context(), slot, statestore.Commit{Applied: applied, Top: top, To: applied + 500, Deltas: batch}); err != nil {
			b.Fatal(err)
		}
		refs = append(refs, refsOf(batch[:4])...)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Read(b.Context(), slot, top, refs); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLoad(b *testing.B) {
	s, slot, _ := benchSlot(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Load(b.Context(), slot); err != nil {
			b.Fatal(err)
		}
	}
}

// What each look of a firer reads: 40 lists of as many deltas as batches of a minute leave.
func BenchmarkStatus(b *testing.B) {
	s, slot, top := benchSlot(b)
	for applied := int64(0); applied < 20*500; applied += 500 {
		batch := benchBatch(applied)
		for i := range 36 {
			d := batch[0]
			d.Slice.Start = event.Time(i+10) * 60_000
			batch = append(batch, d)
		}
		if _, err := s.Commit(b.Context(), slot, statestore.Commit{Applied: applied, Top: top, To: applied + 500, Deltas: batch}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if st, err := s.Status(b.Context(), slot); err != nil || len(st.Slices) != 41 {
			b.Fatalf("%d slices, %v", len(st.Slices), err)
		}
	}
}

func benchSlot(b *testing.B) (*Store, statestore.Slot, statestore.Token) {
	b.Helper()
	s := openAt(b, envServer)
	slot := newSlot(b, s)
	top := created(b, s, slot, 0)
	b.Cleanup(func() {
		if err := s.Drop(context.WithoutCancel(b.Context()), slot); err != nil {
			b.Error(err)
		}
	})
	return s, slot, top
}

func benchBatch(applied int64) []statestore.Delta {
	batch := make([]statestore.Delta, 5)
	payload := make([]byte, 200*60)
	for i := range payload {
		payload[i] = byte(i * 7)
	}
	for i := range 4 {
		batch[i].Slice = statestore.SliceID{Start: event.Time(i) * 60_000}
		batch[i].From, batch[i].To, batch[i].Payload = applied, applied+500, payload
	}
	batch[4].Slice.Window = statestore.ListCounts
	batch[4].From, batch[4].To, batch[4].Payload = applied, applied+500, payload[:24]
	return batch
}
