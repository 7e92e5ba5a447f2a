//go:build servers

package redisstore

import (
	"cmp"
	"context"
	"crypto/tls"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/storetest"
	"github.com/llm-auto-optimizer/tidemark/tests/servers"
)

// access is what the user of the functions needs, and nothing else.
//
//go:embed acl.txt
var access string

// secured is a real server that talks TLS alone to others, with a user of the least rights, and an administrator of it.
type secured struct {
	url   string
	tls   *tls.Config
	admin *redis.Client
}

func startSecured(t *testing.T) *secured {
	t.Helper()
	authority := servers.NewAuthority(t)
	certificate, key := authority.Issue("redis")
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	port := freePort(t)
	own := servers.StartRedis(t, "--tls-port", port, "--tls-cert-file", file("cert.pem", certificate), "--tls-key-file", file("key.pem", key),
		"--tls-ca-cert-file", file("ca.pem", authority.PEM), "--tls-auth-clients", "no")
	s := &secured{
		url: "rediss://127.0.0.1:" + port, tls: &tls.Config{RootCAs: authority.Pool(), MinVersion: tls.VersionTLS12},
		admin: redis.NewClient(&redis.Options{Addr: own.Addr()}),
	}
	t.Cleanup(func() { _ = s.admin.Close() })
	s.do(t, append([]any{"acl", "setuser", "tidemark", "on", ">first"}, words(access)...)...)
	return s
}

func words(text string) (out []any) {
	for w := range strings.FieldsSeq(text) {
		out = append(out, w)
	}
	return out
}

func (s *secured) do(t *testing.T, args ...any) {
	t.Helper()
	if err := s.admin.Do(t.Context(), args...).Err(); err != nil {
		t.Fatal(err)
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// keeper has the credentials of a secret that it asks for only when told that they were rejected.
type keeper struct{ kept, secret, asked atomic.Value }

func (k *keeper) get(_ context.Context, rejected bool) (user, password string, err error) {
	if rejected {
		k.kept.Store(k.secret.Load())
		k.asked.Store(true)
	}
	password, _ = k.kept.Load().(string)
	return "tidemark", password, nil
}

func TestAllOfTheStoreNeedsNoMoreThanItsRightsOverTLS(t *testing.T) {
	s := startSecured(t)
	open := func(t *testing.T) *Store {
		t.Helper()
		store, err := Open(t.Context(), Options{
			URLs: []string{s.url}, TLS: s.tls,
			Credentials: func(context.Context, bool) (string, string, error) { return "tidemark", "first", nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		return store
	}
	storetest.Run(t, func(t *testing.T) statestore.Store { return open(t) })
	storetest.Signals(t, func(t *testing.T) (a, b statestore.Signals) {
		x, y := open(t), open(t)
		t.Cleanup(func() { _, _ = x.Close(), y.Close() })
		return x, y
	})
	store := open(t)
	defer store.Close()
	facts, err := store.Inspect(t.Context())
	if err != nil || len(facts) != 1 || facts[0].Err != nil {
		t.Errorf("inspect: %+v, %v", facts, err)
	}
	for _, denied := range [][]any{{"get", "other"}, {"flushall"}, {"config", "get", "*"}, {"keys", "*"}, {"acl", "list"}} {
		if err := store.client.Do(t.Context(), denied...).Err(); !redis.HasErrorPrefix(err, "NOPERM") {
			t.Errorf("%v: %v", denied, err)
		}
	}
}

func TestAServerThatIsNotTheOneIsNotTalkedTo(t *testing.T) {
	s := startSecured(t)
	_, err := Open(t.Context(), Options{URLs: []string{strings.Replace(s.url, "rediss://", "rediss://tidemark:first@", 1)}, TLS: &tls.Config{RootCAs: servers.NewAuthority(t).Pool(), MinVersion: tls.VersionTLS12}})
	if err == nil || !strings.Contains(err.Error(), "certificate") || strings.Contains(err.Error(), "first") {
		t.Errorf("%v", err)
	}
}

// A password that was changed while connections were cut is asked for again, within the call that finds out: of one command, and of
// several that are sent together.
func TestARotatedPasswordIsAskedForWithinTheCall(t *testing.T) {
	for name, look := range map[string]func(s *Store) error{
		"one": func(s *Store) error { _, err := s.Held(t.Context(), "rotation"); return err },
		"several": func(s *Store) error {
			var commits []statestore.SlotCommit
			for i := range int32(2) {
				slot := testSlot()
				slot.Partition = i
				commits = append(commits, statestore.SlotCommit{Slot: slot, Commit: statestore.Commit{To: 1}})
			}
			var err error
			for _, got := range s.CommitAll(t.Context(), commits) {
				if !errors.Is(got.Err, statestore.ErrNoSlot) { // which is an answer
					err = errors.Join(err, fmt.Errorf("commit: %w", cmp.Or(got.Err, errors.New("without a slot"))))
				}
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := startSecured(t)
			var k keeper
			k.kept.Store("first")
			k.secret.Store("first")
			store, err := Open(t.Context(), Options{URLs: []string{s.url}, TLS: s.tls, Credentials: k.get})
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			if err := look(store); err != nil {
				t.Fatal(err)
			}
			s.do(t, "acl", "setuser", "tidemark", "resetpass", ">second")
			k.secret.Store("second")
			s.do(t, "client", "kill", "user", "tidemark")
			if err := look(store); err != nil {
				t.Fatalf("after the rotation: %v", err)
			}
			if k.asked.Load() == nil {
				t.Error("nobody asked again")
			}
			s.do(t, "acl", "setuser", "tidemark", "resetpass", ">third")
			s.do(t, "client", "kill", "user", "tidemark")
			if err := look(store); !errors.Is(err, statestore.ErrDenied) || strings.Contains(err.Error(), "second") {
				t.Errorf("with a password that nobody knows: %v", err)
			}
		})
	}
}

// forgetful carries connections until it forgets them all, without a word to either side, as a firewall does with what was idle
// while a function was frozen.
type forgetful struct {
	mu   sync.Mutex
	open []chan struct{}
}

func (f *forgetful) start(t *testing.T, to string) (address string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	ctx := t.Context()
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := (&net.Dialer{}).DialContext(ctx, "tcp", to)
			if err != nil {
				_ = client.Close()
				continue
			}
			forgotten := make(chan struct{})
			f.mu.Lock()
			f.open = append(f.open, forgotten)
			f.mu.Unlock()
			for _, ways := range [][2]net.Conn{{client, server}, {server, client}} {
				go func() {
					buffer := make([]byte, 32<<10)
					for {
						n, err := ways[0].Read(buffer)
						if err != nil {
							_ = ways[1].Close()
							return
						}
						select {
						case <-forgotten:
						default:
							_, _ = ways[1].Write(buffer[:n])
						}
					}
				}()
			}
		}
	}()
	return l.Addr().String()
}

func (f *forgetful) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.open {
		close(c)
	}
	f.open = nil
}

// After a pause that is longer than connections may be idle, none of them is used again: the first calls go through at once though
// every connection is dead and nobody has said so. Without that limit they wait for an answer.
func TestTheFirstCallsAfterAFreezeGoThroughAtOnce(t *testing.T) {
	own := servers.StartRedis(t)
	var between forgetful
	address := between.start(t, own.Addr())
	const idle = 50 * time.Millisecond
	store, err := Open(t.Context(), Options{URLs: []string{"redis://" + address + "?conn_max_idle_time=" + idle.String()}})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	all := func() error {
		errs := make([]error, 8)
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() { _, errs[i] = store.Held(t.Context(), "freeze") })
		}
		wg.Wait()
		return errors.Join(errs...)
	}
	if err := all(); err != nil {
		t.Fatal(err)
	}
	between.forget()
	thaw := time.NewTimer(2 * idle)
	<-thaw.C
	began := time.Now()
	if err := all(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took >= readTimeout {
		t.Errorf("took %s: a dead connection was waited for", took)
	}
	if connMaxIdle > time.Minute {
		t.Errorf("connections may be idle for %s, which is long enough to be forgotten by firewalls", connMaxIdle)
	}
}

// TestTheRightsAreThoseOfTheScripts looks for calls of commands that the user would not have.
func TestTheRightsAreThoseOfTheScripts(t *testing.T) {
	allowed := strings.Fields(access)
	names, err := filepath.Glob("lua/*.lua")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range strings.Split(string(text), "call('")[1:] {
			command, _, _ := strings.Cut(part, "'")
			if !slices.Contains(allowed, "+"+strings.ToLower(command)) {
				t.Errorf("%s calls %s, which acl.txt does not allow", name, command)
			}
		}
	}
}
