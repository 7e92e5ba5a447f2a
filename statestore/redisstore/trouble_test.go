package redisstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// said is an answer of a server.
type said string

func (s said) Error() string { return string(s) }
func (said) RedisError()     {}

var _ redis.Error = said("")

func TestWhatAServerAnswersHasOneMeaning(t *testing.T) {
	for answer, want := range map[string]error{
		"OOM command not allowed when used memory > 'maxmemory'.":                                                                     statestore.ErrFull,
		"OOM command not allowed when used memory > 'maxmemory'. script: 5f, on @user_script:12.":                                     statestore.ErrFull,
		"ERR Error running script (call to f_5f): @user_script:12: -OOM command not allowed when used memory > 'maxmemory'":           statestore.ErrFull,
		"ERR Error running script (call to f_5f): @user_script: 12: OOM command not allowed":                                          statestore.ErrFull,
		"READONLY You can't write against a read only replica.":                                                                       statestore.ErrReadOnly,
		"LOADING Redis is loading the dataset in memory":                                                                              statestore.ErrLoading,
		"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.":                                            statestore.ErrFailover,
		"CLUSTERDOWN Hash slot not served":                                                                                            statestore.ErrFailover,
		"TRYAGAIN Multiple keys request during rehashing of slot":                                                                     statestore.ErrFailover,
		"MOVED 3999 127.0.0.1:6381":                                                                                                   statestore.ErrFailover,
		"NOREPLICAS Not enough good replicas to write.":                                                                               statestore.ErrFailover,
		"MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.":                            statestore.ErrDisk,
		"NOAUTH Authentication required.":                                                                                             statestore.ErrDenied,
		"WRONGPASS invalid username-password pair or user is disabled.":                                                               statestore.ErrDenied,
		"NOPERM User x has no permissions to run the 'evalsha' command":                                                               statestore.ErrDenied,
		"DENIED Redis is running in protected mode":                                                                                   statestore.ErrDenied,
		"ERR AUTH <password> called without any password configured for the default user.":                                            statestore.ErrDenied,
		"BUSY Redis is busy running a script.":                                                                                        statestore.ErrBusy,
		"ERR max number of clients reached":                                                                                           statestore.ErrBusy,
		"WRONGTYPE Operation against a key holding the wrong kind of value":                                                           statestore.ErrFormat,
		"ERR Error running script (call to f_5f): @user_script:23: WRONGTYPE Operation against a key holding the wrong kind of value": statestore.ErrFormat,
		"WRONGTYPE Operation against a key holding the wrong kind of value script: 5f, on @user_script:23.":                           statestore.ErrFormat,
		"ERR unknown command 'evalsha'":                                                                                               nil,
		"NOSCRIPT No matching script. Please use EVAL.":                                                                               nil,
	} {
		got := trouble(t.Context(), "10.0.0.1:6379", time.Millisecond, said(answer))
		if want != nil && !errors.Is(got, want) || want == nil && strings.Contains(got.Error(), "statestore: ") {
			t.Errorf("%s: %v, want %v", answer, got, want)
		}
		if !strings.HasPrefix(got.Error(), "redis at 10.0.0.1:6379: ") {
			t.Errorf("%s: no address in %q", answer, got)
		}
		if errors.Is(got, statestore.ErrDenied) && strings.Contains(got.Error(), "invalid") {
			t.Errorf("%s: shows more than the code: %q", answer, got)
		}
	}
}

// due is past its deadline, and its timer has not fired yet.
type due struct{ context.Context }

func (due) Deadline() (time.Time, bool) { return time.Now().Add(-time.Millisecond), true }

// A dial that timed out claims to be context.DeadlineExceeded, which would look as if the caller's time were up.
func TestATimeoutOfTheConnectionIsNotTheCallersDeadline(t *testing.T) {
	over, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	soon, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connect: connection refused")}
	for _, v := range []struct {
		name        string
		ctx         context.Context
		waited      time.Duration
		err         error
		unreachable bool
		ended       bool
	}{
		{"dial timeout", t.Context(), 2 * time.Second, &net.OpError{Op: "dial", Net: "tcp", Err: context.DeadlineExceeded}, true, false},
		{"read timeout", t.Context(), 3 * time.Second, fmt.Errorf("read: %w", os.ErrDeadlineExceeded), true, false},
		{"the call's own limit", t.Context(), 4 * time.Second, context.DeadlineExceeded, true, false},
		{"refused", t.Context(), time.Millisecond, refused, true, false},
		{"no connection free", t.Context(), 4 * time.Second, redis.ErrPoolTimeout, true, false},
		{"the caller's time was up after a long wait", over, slowAfter, os.ErrDeadlineExceeded, true, true},
		{"the caller's time was up", over, time.Millisecond, os.ErrDeadlineExceeded, false, true},
		{"the caller's time was up, as the connection saw first", due{soon}, time.Millisecond, os.ErrDeadlineExceeded, false, true},
		{"a closed client", t.Context(), 0, redis.ErrClosed, false, false},
	} {
		got := trouble(v.ctx, "node", v.waited, v.err)
		if errors.Is(got, statestore.ErrUnreachable) != v.unreachable || errors.Is(got, context.DeadlineExceeded) != v.ended {
			t.Errorf("%s: %v", v.name, got)
		}
	}
}

// silent is a server that takes connections and what is written to them, and never answers.
func silent(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // the test is over
	return l.Addr().String()
}

// of returns a store over one server, without asking it anything.
func of(t *testing.T, url string) *Store {
	t.Helper()
	u, err := Options{URLs: []string{url}}.universal(nil)
	if err != nil {
		t.Fatal(err)
	}
	s := newStore(redis.NewClient(u.Simple()), statestore.CodecNone, time.Second, nil)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestAServerThatNeverAnswersIsGivenUpInTime(t *testing.T) {
	t.Parallel()
	addr := silent(t)
	for name, op := range map[string]func(ctx context.Context, s *Store) error{
		"load": func(ctx context.Context, s *Store) error { _, err := s.Load(ctx, testSlot()); return err },
		"commit": func(ctx context.Context, s *Store) error {
			_, err := s.Commit(ctx, testSlot(), statestore.Commit{To: 1})
			return err
		},
		"commit together": func(ctx context.Context, s *Store) error {
			other := testSlot()
			other.Partition++
			got := s.CommitAll(ctx, []statestore.SlotCommit{{Slot: testSlot(), Commit: statestore.Commit{To: 1}}, {Slot: other, Commit: statestore.Commit{To: 1}}})
			if got[1].Err == nil {
				return errors.New("the second commit has no error")
			}
			return got[0].Err
		},
		"raise": func(ctx context.Context, s *Store) error {
			_, err := s.Raise(ctx, testSlot(), statestore.Raise{})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := of(t, addr)
			// Before the caller's deadline, if that is sooner.
			ctx, cancel := context.WithTimeout(t.Context(), slowAfter+100*time.Millisecond)
			defer cancel()
			begun := time.Now()
			err := op(ctx, s)
			if took := time.Since(begun); took > 2*slowAfter {
				t.Errorf("took %s", took)
			}
			if !errors.Is(err, statestore.ErrUnreachable) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("with a deadline: %v", err)
			}
			if !strings.Contains(err.Error(), addr) || !strings.HasPrefix(err.Error(), strings.TrimSuffix(name, " together")+" "+testSlot().String()) {
				t.Errorf("operation, slot and address are not all in %q", err)
			}
			// It is left alone for a moment: others do not wait their turn for nothing.
			begun = time.Now()
			if err := op(t.Context(), s); !errors.Is(err, statestore.ErrUnreachable) || time.Since(begun) > slowAfter {
				t.Errorf("right after: %v, after %s", err, time.Since(begun))
			}
			// Then it is asked again, for as long as a call may take.
			s.gates.until[addr] = time.Now()
			begun = time.Now()
			err = op(t.Context(), s)
			if took := time.Since(begun); !errors.Is(err, statestore.ErrUnreachable) || errors.Is(err, context.DeadlineExceeded) || took < s.callTimeout/2 || took > 2*s.callTimeout {
				t.Errorf("without a deadline: %v, after %s", err, took)
			}
		})
	}
}

func TestGatesLetOneCallerTry(t *testing.T) {
	var g gates
	if !g.pass("a", time.Hour) || g.shut.Load() {
		t.Fatal("closed from the beginning")
	}
	g.close("a")
	if g.pass("a", time.Hour) || !g.pass("b", time.Hour) || !g.shut.Load() {
		t.Fatal("only a is closed")
	}
	g.until["a"] = time.Now()
	if !g.pass("a", time.Hour) {
		t.Error("nobody may try")
	}
	if g.pass("a", time.Hour) {
		t.Error("two may try")
	}
	g.open("a")
	if !g.pass("a", time.Hour) || g.shut.Load() {
		t.Error("closed for good")
	}
}

func TestAServerThatIsNotThereIsNotLeftAlone(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	s := of(t, "redis://user:hunter2@"+addr)
	for range 2 {
		_, err := s.Load(t.Context(), testSlot())
		if !errors.Is(err, statestore.ErrUnreachable) || !strings.Contains(err.Error(), "refused") || s.gates.shut.Load() {
			t.Errorf("%v", err)
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("shows the password: %v", err)
		}
	}
}
