//go:build servers

package redisstore

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/tests/servers"
)

// TestAFullServerRefusesAnImport imports, in one call and staged, into a server that takes nothing more: it says so, and nothing of
// the slot is there; once there is room again, the same import succeeds.
func TestAFullServerRefusesAnImport(t *testing.T) {
	server := servers.StartRedis(t)
	s, err := Open(t.Context(), Options{URLs: []string{server.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	for name, deltas := range map[string][]statestore.Delta{"one call": deltasOf(0, 5, 10, 100), "staged": deltasOf(0, 5, 5_000, 10)} {
		t.Run(name, func(t *testing.T) {
			slot := newSlot(t, s)
			image := statestore.Image{Meta: statestore.Meta{Applied: 5, Top: statestore.Cut{Token: newToken()}}, Deltas: deltas}
			if err := s.client.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
				t.Fatal(err)
			}
			if err := s.Import(t.Context(), slot, image); !errors.Is(err, statestore.ErrFull) {
				t.Errorf("a full server: %v, want ErrFull", err)
			}
			if err := s.client.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{}, append([]string{}, keysIn(t, s, slot)...)); diff != "" {
				t.Errorf("keys (-want +got):\n%s", diff)
			}
			if err := s.Import(t.Context(), slot, image); err != nil {
				t.Fatal(err)
			}
			got, err := s.Read(t.Context(), slot, image.Top.Token, refsOf(deltas))
			if err != nil {
				t.Fatal(err)
			}
			samePayloads(t, deltas, got)
		})
	}
}
