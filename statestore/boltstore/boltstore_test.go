package boltstore_test

import (
	"context"
	"errors"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/boltstore"
	"github.com/llm-auto-optimizer/tidemark/statestore/storetest"
)

func open(t testing.TB, dir string, o boltstore.Options) *boltstore.Store {
	t.Helper()
	s, err := boltstore.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) statestore.Store { return open(t, t.TempDir(), boltstore.Options{}) })
}

// kept is a store that stays open when a subtest closes it: opening files costs more than the rest of the suite.
type kept struct{ statestore.Store }

func (kept) Close() error { return nil }

func TestStoreWithOtherOptions(t *testing.T) {
	for name, o := range map[string]boltstore.Options{"Synced": {Sync: true}, "LZ4": {Compression: statestore.CodecLZ4}} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir(), o)
			storetest.Run(t, func(*testing.T) statestore.Store { return kept{s} })
			left, err := s.Slots(t.Context(), "")
			if err != nil || len(left) > 0 {
				t.Errorf("the suite left %v, %v", left, err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func BenchmarkStore(b *testing.B) {
	for _, c := range []struct {
		name string
		o    boltstore.Options
	}{
		{"Default", boltstore.Options{}},
		{"LZ4", boltstore.Options{Compression: statestore.CodecLZ4}},
		{"Synced", boltstore.Options{Sync: true}},
	} {
		b.Run(c.name, func(b *testing.B) {
			storetest.Benchmark(b, func(b *testing.B) statestore.Store { return open(b, b.TempDir(), c.o) })
		})
	}
}

// lateContext ends after its first look: while the call waits for its turn to write.
type lateContext struct {
	context.Context
	looked bool
}

func (c *lateContext) Err() error {
	if c.looked {
		return context.DeadlineExceeded
	}
	c.looked = true
	return nil
}

func TestDeadlineWhileWaitingForTheTurnToWrite(t *testing.T) {
	s := open(t, t.TempDir(), boltstore.Options{})
	if err := write(s, 50); err != nil {
		t.Fatal(err)
	}
	late := func() context.Context { return &lateContext{Context: ctx} }
	_, commit := s.Commit(late(), slot, statestore.Commit{Applied: 50, Top: token, To: 60})
	_, raise := s.Raise(late(), slot, statestore.Raise{Token: statestore.Token{8}, Base: token})
	_, _, restore := s.Restore(late(), slot, statestore.Restore{Token: statestore.Token{8}})
	sweep := s.Sweep(late(), slot, statestore.Sweep{Token: token, Drop: lists})
	drop := s.Drop(late(), slot)
	for what, err := range map[string]error{"commit": commit, "raise": raise, "restore": restore, "sweep": sweep, "drop": drop} {
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v, want DeadlineExceeded", what, err)
		}
	}
	if err := errors.Join(check(s, 50), s.Close()); err != nil {
		t.Error(err)
	}
}
