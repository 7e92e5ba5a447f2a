package boltstore_test

import (
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
	for name, o := range map[string]boltstore.Options{
		"Default": {}, "Synced": {Sync: true}, "LZ4": {Compression: statestore.CodecLZ4},
	} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) statestore.Store { return open(t, t.TempDir(), o) })
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
