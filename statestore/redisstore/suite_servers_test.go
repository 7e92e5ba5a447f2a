//go:build servers

package redisstore

import (
	"testing"

	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/storetest"
)

// TestStore runs the suite of every store on one server and on a cluster, with payloads written as they are and compressed.
func TestStore(t *testing.T) {
	for _, v := range []struct {
		name, env string
		codec     statestore.Codec
	}{
		{"server", envServer, statestore.CodecNone},
		{"server, lz4", envServer, statestore.CodecLZ4},
		{"cluster", envCluster, statestore.CodecLZ4},
	} {
		t.Run(v.name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) statestore.Store {
				t.Helper()
				s, err := Open(t.Context(), Options{URLs: urls(t, v.env), Codec: v.codec})
				if err != nil {
					t.Fatal(err)
				}
				return s // the suite closes it
			})
		})
	}
}

func TestSignals(t *testing.T) {
	for _, v := range []struct{ name, env string }{{"server", envServer}, {"cluster", envCluster}} {
		t.Run(v.name, func(t *testing.T) {
			storetest.Signals(t, func(t *testing.T) (a, b statestore.Signals) {
				t.Helper()
				var of [2]*Store
				for i := range of {
					s, err := Open(t.Context(), Options{URLs: urls(t, v.env)})
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() {
						if err := s.Close(); err != nil {
							t.Error(err)
						}
					})
					of[i] = s
				}
				return of[0], of[1]
			})
		})
	}
}
