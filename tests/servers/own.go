package servers

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llm-auto-optimizer/tidemark/tests/output"
)

// readyWithin bounds how long a server of a test's own may take to start.
const readyWithin = 20 * time.Second

// OwnRedis is a Redis server of one test, without persistence: Kill takes every key with it, as the loss of a cache
// node does, unless the test had it SAVE. Its methods are for one goroutine at a time.
type OwnRedis struct {
	t       testing.TB
	addr    string
	dir     string
	options []string
	cmd     *exec.Cmd
	log     *output.Buffer
}

// StartRedis starts a Redis server on a free port of 127.0.0.1 and ends it with the test. It needs redis-server on the
// PATH, which tests/servers/up installs where it runs without Docker; the test fails when it is missing. options are
// further ones of its command line.
func StartRedis(t testing.TB, options ...string) *OwnRedis {
	t.Helper()
	r := &OwnRedis{t: t, addr: freeAddress(t), dir: t.TempDir(), options: options}
	r.Start()
	t.Cleanup(r.Kill)
	return r
}

// Addr returns host:port, the same before and after a restart.
func (r *OwnRedis) Addr() string { return r.addr }

// Start starts the server and returns when it answers and has loaded what was saved. It does nothing while the server
// runs.
func (r *OwnRedis) Start() {
	r.t.Helper()
	if r.cmd != nil {
		return
	}
	r.Launch()
	if err := awaitRedis(r.t.Context(), r.addr, readyWithin); err != nil {
		r.Kill()
		r.t.Fatalf("own redis on %s: %v; its log ends in\n%s", r.addr, err, r.log)
	}
}

// Launch starts the server, which does not run, with some more options for this once. It does not wait until it answers.
func (r *OwnRedis) Launch(options ...string) {
	r.t.Helper()
	_, port, err := net.SplitHostPort(r.addr)
	if err != nil {
		r.t.Fatalf("own redis: address %q: %v", r.addr, err)
	}
	r.log = &output.Buffer{Last: mostLog}
	args := slices.Concat([]string{
		"--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no", "--dir", r.dir,
	}, r.options, options)
	cmd := exec.CommandContext(r.t.Context(), "redis-server", args...)
	cmd.Stdout, cmd.Stderr = r.log, r.log
	if err := cmd.Start(); err != nil {
		r.t.Fatalf("own redis: %v (install redis-server: apt-get install redis-server)", err)
	}
	r.cmd = cmd
}

// Kill ends the server at once (SIGKILL): connections break and the data is gone. It does nothing while it is down.
func (r *OwnRedis) Kill() {
	if r.cmd == nil {
		return
	}
	// It may have ended by itself, and it dies of the signal: neither is the test's failure.
	_ = r.cmd.Process.Kill()
	_ = r.cmd.Wait()
	r.cmd = nil
}

// awaitRedis returns when the server answers PING, else the last failure after the given time.
func awaitRedis(ctx context.Context, addr string, within time.Duration) error {
	end := time.Now().Add(within)
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		err := ping(ctx, addr)
		if err == nil {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("not ready after %s: %w", within, err)
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return fmt.Errorf("%w; last: %w", ctx.Err(), err)
		}
	}
}

// ping asks over a connection of its own, so that this package needs no client library.
func ping(ctx context.Context, addr string) (err error) {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return fmt.Errorf("ping %s: %w", addr, err)
	}
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return fmt.Errorf("ping %s: %w", addr, err)
	}
	reply, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return fmt.Errorf("ping %s: %w", addr, err)
	}
	if !strings.HasPrefix(reply, "+PONG") {
		return fmt.Errorf("ping %s: answered %q", addr, reply)
	}
	return nil
}

// freeAddress returns an address that nobody listened on a moment ago.
func freeAddress(t testing.TB) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("free port: %v", err)
	}
	defer func() {
		if err := listener.Close(); err != nil {
			t.Fatalf("free port: %v", err)
		}
	}()
	return listener.Addr().String()
}

// mostLog is how much of a server's log is kept, for tests that fail: the last 4 KiB.
const mostLog = 4 << 10
