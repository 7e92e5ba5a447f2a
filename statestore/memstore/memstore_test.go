package memstore_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/memstore"
	"github.com/llm-auto-optimizer/tidemark/statestore/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(*testing.T) statestore.Store { return memstore.New() })
}

func BenchmarkStore(b *testing.B) {
	storetest.Benchmark(b, func(*testing.B) statestore.Store { return memstore.New() })
}

func TestACloneGoesItsOwnWay(t *testing.T) {
	ctx := t.Context()
	slot := statestore.Slot{Pipeline: "0123456789abcdef", Topic: "orders"}
	token := statestore.Token{1}
	id := statestore.SliceID{Start: 60_000}
	s := memstore.New()
	if _, _, err := s.Restore(ctx, slot, statestore.Restore{Token: token, Watermark: event.MinTime, MaxTime: event.MinTime}); err != nil {
		t.Fatal(err)
	}
	commit := func(s *memstore.Store, from int64, payload string) {
		t.Helper()
		_, err := s.Commit(ctx, slot, statestore.Commit{Applied: from, Top: token, To: from + 10, Deltas: []statestore.Delta{
			{Ref: statestore.DeltaRef{Slice: id, From: from, To: from + 10}, Payload: []byte(payload)},
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	payloads := func(s *memstore.Store) (got []string) {
		t.Helper()
		refs, err := s.Index(ctx, slot, token, []statestore.SliceID{id})
		if err != nil {
			t.Fatal(err)
		}
		read, err := s.Read(ctx, slot, token, refs)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range read {
			got = append(got, string(p))
		}
		return got
	}
	commit(s, 0, "both")
	c := s.Clone()
	commit(s, 10, "the first")
	commit(c, 10, "the clone")
	if err := c.Sweep(ctx, slot, statestore.Sweep{Token: token, Trim: []statestore.Trim{{Slice: id, To: 10}}}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"both", "the first"}, payloads(s)); diff != "" {
		t.Errorf("the first (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"the clone"}, payloads(c)); diff != "" {
		t.Errorf("the clone (-want +got):\n%s", diff)
	}
}

func TestSignals(t *testing.T) {
	storetest.Signals(t, func(*testing.T) (a, b statestore.Signals) {
		s := &memstore.Signals{}
		return s, s
	})
}
