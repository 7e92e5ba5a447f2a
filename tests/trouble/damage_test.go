//go:build servers

package trouble

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/tests/servers"
)

// keys returns the keys of partitions below 6 that end in, or have in them, what is given.
func keys(t *testing.T, c *redis.Client, part string) []string {
	t.Helper()
	var out []string
	for p := range 6 {
		found, err := c.Keys(t.Context(), fmt.Sprintf("{tm:*:%d}:%s", p, part)).Result()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, found...)
	}
	if len(out) == 0 {
		t.Fatalf("nothing is stored under %q", part)
	}
	return out
}

// TestDamagedStateChangesNoResult overwrites what is stored, in another place before each part.
func TestDamagedStateChangesNoResult(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t)
	c := admin(t, server.Addr())
	w := newWorld(t, open(t, server.Addr()))
	w.deliver(w.produce())
	w.journal.take(t)
	for i, hurt := range []func(){
		func() {
			for _, k := range keys(t, c, "m") {
				order(t, c, "HSET", k, "applied", "damaged")
			}
		},
		func() {
			for _, k := range keys(t, c, "m") {
				order(t, c, "SET", k, "another type")
			}
		},
		func() { // every payload: nobody sees it before firing reads them
			for _, k := range keys(t, c, "d:*") {
				for field, v := range c.HGetAll(t.Context(), k).Val() {
					order(t, c, "HSET", k, field, v[:len(v)-1]+string([]byte{v[len(v)-1] ^ 1}))
				}
			}
		},
		func() {
			for _, k := range keys(t, c, "s") {
				order(t, c, "SET", k, "another type")
			}
		},
	} {
		w.Restart() // a new environment has to load what is there
		hurt()
		w.deliver(w.produce())
		w.fire()
		told := map[string]bool{}
		for _, l := range w.journal.take(t) {
			if l.Level != slog.LevelError.String() || !strings.Contains(l.Error, statestore.ErrFormat.Error()) || told[l.Error] {
				t.Errorf("damage %d: the log says %+v", i, l)
			}
			told[l.Error] = true
		}
		if len(told) == 0 {
			t.Errorf("damage %d: the log says nothing", i)
		}
	}
	w.finish()
}

// TestStateOfANewerVersionIsLeftAlone makes slots look as if a newer version had written them.
func TestStateOfANewerVersionIsLeftAlone(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t)
	c := admin(t, server.Addr())
	w := newWorld(t, open(t, server.Addr()))
	w.deliver(w.produce())
	heads := keys(t, c, "m")
	for _, k := range heads {
		order(t, c, "HSET", k, "v", "02", "more", "than this version knows")
	}
	dump := func() []string {
		var all []string
		for _, k := range heads {
			for field, v := range c.HGetAll(t.Context(), k).Val() {
				all = append(all, k+" "+field+" "+v)
			}
		}
		slices.Sort(all)
		return all
	}
	before := dump()
	w.Restart()
	b := w.produce()
	w.journal.take(t)
	failed := w.invoke(b, deadline)
	w.same("failed partitions", []int32{0, 1, 2, 3, 4, 5}, failed)
	w.tells(statestore.ErrVersion, failed)
	w.firing(statestore.ErrVersion)
	if after := dump(); !slices.Equal(before, after) {
		t.Errorf("heads before: %q, after: %q", before, after)
	}
	// The newer version, put back, goes on.
	for _, k := range heads {
		order(t, c, "HSET", k, "v", "01")
		order(t, c, "HDEL", k, "more")
	}
	w.redeliver(b, failed)
	w.finish()
}
