//go:build servers

package trouble

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/redisstore"
	"github.com/llm-auto-optimizer/tidemark/tests/servers"
)

// admin is a client to give orders to a server with.
func admin(t *testing.T, addr string) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr, Protocol: 2, MaxRetries: -1})
	t.Cleanup(func() { _ = c.Close() }) // the server may have gone
	return c
}

// order gives a server an order that it has to follow.
func order(t *testing.T, c *redis.Client, args ...any) {
	t.Helper()
	if err := c.Do(t.Context(), args...).Err(); err != nil {
		t.Fatalf("%v: %v", args, err)
	}
}

// nowhere is an address that nobody listens on.
func nowhere(t *testing.T) (host, port string) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	host, port, err = net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return host, port
}

// TestAServerInTroubleFailsItsBatchesAndNothingElse puts the one server of a store into trouble for one batch.
func TestAServerInTroubleFailsItsBatchesAndNothingElse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		cause   error
		fires   bool // firing goes on in this trouble
		trouble func(t *testing.T, r *servers.OwnRedis, c *redis.Client)
		mend    func(t *testing.T, r *servers.OwnRedis, c *redis.Client)
	}{
		{
			"out of memory", statestore.ErrFull, true,
			func(t *testing.T, _ *servers.OwnRedis, c *redis.Client) {
				t.Helper()
				order(t, c, "CONFIG", "SET", "maxmemory", "1")
			},
			func(t *testing.T, _ *servers.OwnRedis, c *redis.Client) {
				t.Helper()
				order(t, c, "CONFIG", "SET", "maxmemory", "0")
			},
		},
		{
			"killed", statestore.ErrUnreachable, false,
			func(_ *testing.T, r *servers.OwnRedis, _ *redis.Client) { r.Kill() },
			func(_ *testing.T, r *servers.OwnRedis, _ *redis.Client) { r.Start() },
		},
		{
			"taking connections and never answering", statestore.ErrUnreachable, false,
			func(_ *testing.T, r *servers.OwnRedis, _ *redis.Client) { r.Pause() },
			func(_ *testing.T, r *servers.OwnRedis, _ *redis.Client) { r.Resume() },
		},
		{
			"a replica without its primary", statestore.ErrReadOnly, false,
			func(t *testing.T, _ *servers.OwnRedis, c *redis.Client) {
				t.Helper()
				host, port := nowhere(t)
				order(t, c, "REPLICAOF", host, port)
			},
			func(t *testing.T, _ *servers.OwnRedis, c *redis.Client) {
				t.Helper()
				order(t, c, "REPLICAOF", "NO", "ONE")
			},
		},
		{
			"a user who may not run scripts", statestore.ErrDenied, false,
			func(t *testing.T, _ *servers.OwnRedis, c *redis.Client) {
				t.Helper()
				order(t, c, "ACL", "SETUSER", "default", "-@scripting", "-hmget")
			},
			func(t *testing.T, _ *servers.OwnRedis, c *redis.Client) {
				t.Helper()
				order(t, c, "ACL", "SETUSER", "default", "+@all")
			},
		},
		{
			"loading", statestore.ErrLoading, false,
			func(t *testing.T, r *servers.OwnRedis, c *redis.Client) {
				t.Helper()
				fill(t, c)
				order(t, c, "SAVE")
				r.Kill()
				// Ten seconds, if nobody says otherwise before.
				r.Launch("--key-load-delay", "500", "--loading-process-events-interval-bytes", "1024")
				awaitLoading(t, c)
			},
			func(t *testing.T, _ *servers.OwnRedis, c *redis.Client) {
				t.Helper()
				order(t, c, "CONFIG", "SET", "key-load-delay", "0")
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			server := servers.StartRedis(t)
			client := admin(t, server.Addr())
			w := newWorld(t, open(t, server.Addr()))
			w.deliver(w.produce()) // windows are due, and nobody has fired them yet
			b := w.produce()
			w.journal.take(t)

			c.trouble(t, server, client)
			begun := time.Now()
			failed := w.invoke(b, deadline)
			t.Logf("answered after %s", time.Since(begun).Round(time.Millisecond))
			w.same("failed partitions", all(), failed)
			w.tells(c.cause, failed)
			if !c.fires {
				w.firing(c.cause)
			} else if err := w.RunFire(t.Context()); err != nil {
				t.Errorf("fire: %v", err)
			}
			c.mend(t, server, client)

			w.redeliver(b, failed)
			w.fire()
			w.finish()
		})
	}
}

// fill writes enough keys for a load that takes its time.
func fill(t *testing.T, c *redis.Client) {
	t.Helper()
	order(t, c, "EVAL", "for i = 1, 20000 do redis.call('SET', 'filling' .. i, i) end return 1", "0")
}

// awaitLoading waits until a server answers that it is loading.
func awaitLoading(t *testing.T, c *redis.Client) {
	t.Helper()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for end := time.Now().Add(10 * time.Second); ; <-poll.C {
		if err := c.Get(t.Context(), "x").Err(); redis.HasErrorPrefix(err, "LOADING") {
			return
		} else if time.Now().After(end) {
			t.Fatalf("the server does not load: %v", err)
		}
	}
}

// TestAnInvocationAnswersBeforeItsDeadlineWhateverTheStoreDoes has less time than it takes to give a server up.
func TestAnInvocationAnswersBeforeItsDeadlineWhateverTheStoreDoes(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t)
	w := newWorld(t, open(t, server.Addr()))
	w.deliver(w.produce())
	b := w.produce()
	w.journal.take(t)
	server.Pause()
	// 500 ms of this are kept back for the answer; the rest is less than a call may take, and far more than tells a server that does not answer.
	failed := w.invoke(b, 2500*time.Millisecond)
	w.same("failed partitions", all(), failed)
	told := false
	for _, l := range w.journal.take(t) {
		told = told || l.Cause == statestore.ErrUnreachable.Error()
	}
	if !told {
		t.Error("the log does not say that the server cannot be reached")
	}
	server.Resume()
	w.redeliver(b, failed)
	w.finish()
}

// TestOpeningAStoreInTroubleSaysWhatIsWrong is what a cold start meets.
func TestOpeningAStoreInTroubleSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t)
	order(t, admin(t, server.Addr()), "CONFIG", "SET", "requirepass", "sesame")
	for _, c := range []struct {
		name    string
		trouble func()
		cause   error
	}{
		{"another password", func() {}, statestore.ErrDenied},
		{"never answering", server.Pause, statestore.ErrUnreachable},
		{"killed", server.Kill, statestore.ErrUnreachable},
	} {
		c.trouble()
		begun := time.Now()
		s, err := redisstore.Open(t.Context(), redisstore.Options{URLs: []string{"redis://default:hunter2@" + server.Addr()}})
		if err == nil {
			_ = s.Close()
		}
		if !errors.Is(err, c.cause) || !strings.Contains(err.Error(), server.Addr()) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want %v with the address", c.name, err, c.cause)
		}
		if took := time.Since(begun); took > 6*time.Second {
			t.Errorf("%s: took %s", c.name, took)
		}
	}
}
