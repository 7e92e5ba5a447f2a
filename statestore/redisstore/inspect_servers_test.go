//go:build servers

package redisstore

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/tests/servers"
)

func TestInspectAsksEveryPrimary(t *testing.T) {
	eachServer(t, func(t *testing.T, s *Store) {
		facts, err := s.Inspect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, cluster := s.client.(*redis.ClusterClient)
		if cluster != (len(facts) > 1) || len(facts) == 0 {
			t.Fatalf("%d nodes, cluster: %v", len(facts), cluster)
		}
		for _, f := range facts {
			if f.Err != nil || f.Cluster != cluster || f.Version == "" || f.Old() || f.Replica || f.Policy != "noeviction" || f.Memory == 0 || !strings.Contains(f.Node, ":") {
				t.Errorf("%+v", f)
			}
		}
	})
}

// What is wrong with a server: it evicts, it is a replica, its user may not ask or may not run scripts. No password is shown.
func TestInspectFindsWhatIsWrong(t *testing.T) {
	primary, own := servers.StartRedis(t), servers.StartRedis(t)
	admin := redis.NewClient(&redis.Options{Addr: own.Addr()})
	defer admin.Close()
	ctx := t.Context()
	do := func(args ...any) {
		t.Helper()
		if err := admin.Do(ctx, args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	look := func(url string) (Facts, error) {
		t.Helper()
		s, err := Open(ctx, Options{URLs: []string{url}})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		facts, err := s.Inspect(ctx)
		return facts[0], err
	}
	do("config", "set", "maxmemory-policy", "allkeys-lru", "maxmemory", "100mb")
	do("acl", "setuser", "noinfo", "on", ">hunter2", "~*", "+@all", "-info")
	do("acl", "setuser", "noscripts", "on", ">hunter2", "~*", "+@all", "-evalsha", "-eval")
	do("replicaof", strings.Split(primary.Addr(), ":")[0], strings.Split(primary.Addr(), ":")[1])

	f, err := look("redis://" + own.Addr())
	if err != nil || f.Policy != "allkeys-lru" || !f.Replica || f.MaxMemory != 100<<20 {
		t.Errorf("%+v, %v", f, err)
	}
	f, err = look("redis://noinfo:hunter2@" + own.Addr())
	if err != nil || !errors.Is(f.Err, statestore.ErrDenied) || strings.Contains(f.Err.Error(), "hunter2") {
		t.Errorf("%+v, %v", f, err)
	}
	if _, err = look("redis://noscripts:hunter2@" + own.Addr()); !errors.Is(err, statestore.ErrDenied) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v", err)
	}
	own.Kill()
	s := newStore(admin, statestore.CodecNone, time.Second, nil)
	if _, err := s.Inspect(context.WithoutCancel(ctx)); !errors.Is(err, statestore.ErrUnreachable) {
		t.Errorf("a server that is down: %v", err)
	}
}
