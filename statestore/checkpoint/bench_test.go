package checkpoint_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/checkpoint"
	"github.com/llm-auto-optimizer/tidemark/statestore/memstore"
)

// large is a store with one slot of 2,000 deltas of 4 KiB, and its size.
func large(b *testing.B) (*memstore.Store, int64) {
	b.Helper()
	image := statestore.Image{Meta: statestore.Meta{Applied: 2_000, Top: statestore.Cut{Token: token(1)}}}
	size := int64(0)
	for i := range int64(2_000) {
		d := delta(list(0, event.Time(i%60)), i, i+1, 0, 2048)
		d.Payload = append(d.Payload, noise(uint64(i), 2048)...) // half of it shrinks
		image.Deltas = append(image.Deltas, d)
		size += int64(len(d.Payload))
	}
	s := memstore.New()
	if err := s.Import(b.Context(), slotOf(0), image); err != nil {
		b.Fatal(err)
	}
	return s, size
}

func BenchmarkExport(b *testing.B) {
	s, size := large(b)
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := checkpoint.Export(b.Context(), s, io.Discard, header(), allSlots(1), nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkImport(b *testing.B) {
	s, size := large(b)
	file := export(b, s, allSlots(1))
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		if got := importAll(b, memstore.New(), bytes.Clone(file)); got[0] != checkpoint.Imported {
			b.Fatal(got)
		}
	}
}
