//go:build servers

package redisstore

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// The servers that these tests need: where the environment says they are.
const (
	envServer  = "TIDEMARK_TEST_REDIS"
	envCluster = "TIDEMARK_TEST_REDIS_CLUSTER"
)

// urls returns the URLs in an environment variable.
func urls(t testing.TB, env string) []string {
	t.Helper()
	v := os.Getenv(env)
	if v == "" {
		t.Fatalf(`%s is not set: start the servers with  eval "$(tests/servers/up)"`, env)
	}
	return strings.Split(v, ",")
}

// openAt opens a store at the servers that env names and closes it when the test ends.
func openAt(t testing.TB, env string) *Store {
	t.Helper()
	s, err := Open(t.Context(), Options{URLs: urls(t, env)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// eachServer runs f on one server and on a cluster.
func eachServer(t *testing.T, f func(t *testing.T, s *Store)) {
	t.Helper()
	for _, v := range []struct{ name, env string }{{"server", envServer}, {"cluster", envCluster}} {
		t.Run(v.name, func(t *testing.T) { f(t, openAt(t, v.env)) })
	}
}

// newSlot returns a slot of a pipeline of its own; what is left of that pipeline is dropped when the test ends.
func newSlot(t testing.TB, s *Store) statestore.Slot {
	t.Helper()
	var random [24]byte
	_, _ = rand.Read(random[:]) // never fails (crypto/rand)
	slot := statestore.Slot{Pipeline: hex.EncodeToString(random[:8]), TopicID: [16]byte(random[8:]), Topic: "events", Partition: 3}
	t.Cleanup(func() {
		if err := s.Drop(context.WithoutCancel(t.Context()), slot); err != nil {
			t.Error(err)
		}
	})
	return slot
}

func newToken() statestore.Token {
	var k statestore.Token
	_, _ = rand.Read(k[:]) // never fails (crypto/rand)
	return k
}

// created makes a slot that begins at an offset, and returns the token of its cuts.
func created(t testing.TB, s *Store, slot statestore.Slot, from int64) statestore.Token {
	t.Helper()
	token := newToken()
	_, outcome, err := s.Restore(t.Context(), slot, statestore.Restore{
		Token: token, Offset: from, Watermark: event.MinTime, ReplayFrom: from, MaxTime: event.MinTime, Now: 1000,
	})
	if err != nil || outcome != statestore.Created {
		t.Fatalf("restore: %v, %v", outcome, err)
	}
	return token
}

// deltasOf returns a delta for each of n slices, with payloads of size bytes that do not shrink.
func deltasOf(from, to int64, n, size int) []statestore.Delta {
	all := make([]statestore.Delta, n)
	for i := range all {
		payload := make([]byte, size)
		_, _ = rand.Read(payload) // never fails (crypto/rand)
		all[i].Slice = statestore.SliceID{Window: 1, Start: event.Time(i/256) * 60_000}
		all[i].From, all[i].To, all[i].Bucket, all[i].Owned = from, to, uint8(i), 1
		all[i].Payload = payload
	}
	return all
}

func refsOf(deltas []statestore.Delta) []statestore.DeltaRef {
	refs := make([]statestore.DeltaRef, len(deltas))
	for i, d := range deltas {
		refs[i] = d.Ref
	}
	return refs
}

// samePayloads compares without cmp, which takes seconds for some MiB.
func samePayloads(t *testing.T, want []statestore.Delta, got [][]byte) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d payloads, want %d", len(got), len(want))
	}
	for i, d := range want {
		if !bytes.Equal(d.Payload, got[i]) {
			t.Fatalf("payload %d of %d bytes differs from the %d written", i, len(got[i]), len(d.Payload))
		}
	}
}

// keysIn returns the keys of a slot, sorted and without their common beginning.
func keysIn(t testing.TB, s *Store, slot statestore.Slot) []string {
	t.Helper()
	prefix := keysOf(slot).prefix
	var names []string
	scan := func(ctx context.Context, c *redis.Client) error {
		it := c.Scan(ctx, 0, prefix+"*", 1000).Iterator()
		for it.Next(ctx) {
			names = append(names, strings.TrimPrefix(it.Val(), prefix))
		}
		return it.Err()
	}
	var err error
	switch c := s.client.(type) {
	case *redis.Client:
		err = scan(t.Context(), c)
	case *redis.ClusterClient:
		var node *redis.Client
		if node, err = c.MasterForKey(t.Context(), prefix+"m"); err == nil {
			err = scan(t.Context(), node)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// sent records the commands that a client sends, as their number of arguments and their first two.
type sent struct {
	args []int
	what []string
}

func (h *sent) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *sent) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h *sent) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		a := cmd.Args()
		h.args = append(h.args, len(a))
		h.what = append(h.what, fmt.Sprint(a[0]))
		return next(ctx, cmd)
	}
}
