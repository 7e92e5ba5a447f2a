package redisstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/llm-auto-optimizer/tidemark/statestore"
)

const (
	// slowAfter tells a server that does not answer from a caller whose time was up: one that runs answers in milliseconds.
	slowAfter = 500 * time.Millisecond
	// gateFor is how long a server that did not answer is not asked again. One batch has many partitions on a server, and each
	// would wait its full time; those on other servers would have to wait behind them.
	gateFor = time.Second
)

// do sends one command about the key given and waits for its answer, at most as long as a call may take and as ctx allows. What
// is wrong with a server comes back as a sentinel of statestore, with the address of the server.
func (s *Store) do(ctx context.Context, key string, cmd redis.Cmder) error {
	return s.guard(ctx, key, func(ctx context.Context) error { return s.process(ctx, cmd) })
}

// guard does it for whatever is sent to the server of a key.
func (s *Store) guard(ctx context.Context, key string, send func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.gates.shut.Load() && !s.gates.pass(s.node(ctx, key), s.callTimeout) {
		return fmt.Errorf("redis at %s: it did not answer a moment ago and is left alone for %s: %w", s.node(ctx, key), gateFor, statestore.ErrUnreachable)
	}
	begun := time.Now()
	limited, cancel := context.WithTimeout(ctx, s.callTimeout)
	defer cancel()
	err := send(limited)
	waited := time.Since(begun)
	if err != nil {
		err = trouble(ctx, s.node(ctx, key), waited, err)
		if waited >= slowAfter && errors.Is(err, statestore.ErrUnreachable) {
			s.gates.close(s.node(ctx, key))
			return err
		}
	}
	// It answered, or refused at once: nobody has to wait for it.
	if s.gates.shut.Load() {
		s.gates.open(s.node(ctx, key))
	}
	return err
}

// node returns the address of the server that serves a key, as far as the client knows without asking.
func (s *Store) node(ctx context.Context, key string) string {
	switch c := s.client.(type) {
	case *redis.Client:
		return c.Options().Addr
	case *redis.ClusterClient:
		known, cancel := context.WithCancel(ctx)
		cancel() // what is known needs no time; what is not is not asked for
		if node, err := c.MasterForKey(known, key); err == nil {
			return node.Options().Addr
		}
	}
	return "an unknown node"
}

// isAnswer reports whether an error is what the server answered: it is there.
func isAnswer(err error) bool {
	var answer redis.Error
	return errors.As(err, &answer)
}

// trouble says what an error of the client means. ctx is the caller's, which the call may have outlived; waited is how long it
// took. Errors of the connection are kept as text only: some of them claim to be the caller's deadline.
func trouble(ctx context.Context, node string, waited time.Duration, err error) error {
	if isAnswer(err) {
		switch sentinel := sentinelOf(err.Error()); {
		case sentinel == nil:
			return fmt.Errorf("redis at %s: %w", node, err)
		case errors.Is(sentinel, statestore.ErrDenied):
			return fmt.Errorf("redis at %s: %s: %w", node, codeOf(err.Error()), sentinel) // the text may quote what it was sent
		default:
			return fmt.Errorf("redis at %s: %w: %w", node, err, sentinel)
		}
	}
	ended := ctx.Err()
	if end, ok := ctx.Deadline(); ended == nil && ok && !time.Now().Before(end) {
		// The connection has the same deadline, and its timer was the first: the caller's is due as well.
		<-ctx.Done()
		ended = ctx.Err()
	}
	switch {
	case ended != nil && waited < slowAfter:
		return ended
	case ended != nil:
		return fmt.Errorf("redis at %s: no answer in %s: %w: %w", node, waited.Round(time.Millisecond), statestore.ErrUnreachable, ended)
	case isConnection(err):
		return fmt.Errorf("redis at %s: after %s: %s: %w", node, waited.Round(time.Millisecond), err.Error(), statestore.ErrUnreachable)
	}
	return fmt.Errorf("redis at %s: %w", node, err)
}

// isConnection reports whether an error is of the connection, or of waiting for one.
func isConnection(err error) bool {
	for _, target := range []error{
		io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, context.DeadlineExceeded, redis.ErrPoolTimeout, redis.ErrPoolExhausted,
	} {
		if errors.Is(err, target) {
			return true
		}
	}
	var network net.Error
	return errors.As(err, &network)
}

// inScript finds the code of an error that Redis 6 reports as its own, with what a command of the script answered inside.
var inScript = regexp.MustCompile(`@user_script: ?[0-9]+: -?([A-Z]{3,}) `)

// codeOf returns the first word of a server's answer, which says what it is about.
func codeOf(answer string) string {
	if strings.HasPrefix(answer, "ERR ") {
		if m := inScript.FindStringSubmatch(answer); m != nil {
			return m[1]
		}
		for _, denied := range []string{"ERR AUTH", "ERR invalid password"} {
			if strings.HasPrefix(answer, denied) {
				return "WRONGPASS"
			}
		}
		if strings.HasPrefix(answer, "ERR max number of clients") {
			return "MAXCLIENTS"
		}
	}
	code, _, _ := strings.Cut(answer, " ")
	return code
}

// sentinelOf says what a server's answer means; nil if it is none of what a store must expect.
func sentinelOf(answer string) error {
	switch codeOf(answer) {
	case "OOM":
		return statestore.ErrFull
	case "READONLY":
		return statestore.ErrReadOnly
	case "LOADING":
		return statestore.ErrLoading
	case "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK", "NOREPLICAS":
		return statestore.ErrFailover
	case "MISCONF":
		return statestore.ErrDisk
	case "NOAUTH", "WRONGPASS", "NOPERM", "DENIED":
		return statestore.ErrDenied
	case "BUSY", "MAXCLIENTS":
		return statestore.ErrBusy
	case "WRONGTYPE":
		return statestore.ErrFormat
	}
	return nil
}

// gates are the servers that are left alone for a moment. The zero value is ready.
type gates struct {
	shut  atomic.Bool // whether there are any: calls look at nothing else while all is well
	mu    sync.Mutex
	until map[string]time.Time
}

func (g *gates) close(node string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.until == nil {
		g.until = map[string]time.Time{}
	}
	g.until[node] = time.Now().Add(gateFor)
	g.shut.Store(true)
}

// pass reports whether a server may be asked. After the time is up one caller may try; the others wait until it knows, but not
// longer than a call can take.
func (g *gates) pass(node string, callTimeout time.Duration) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	until, closed := g.until[node]
	if !closed {
		return true
	}
	now := time.Now()
	if now.Before(until) {
		return false
	}
	g.until[node] = now.Add(callTimeout)
	return true
}

func (g *gates) open(node string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.until, node)
	g.shut.Store(len(g.until) > 0)
}

// silence takes the client's own log: it writes a line for every dial that fails, and all it has to say is in the errors.
type silence struct{}

// Printf implements the client's logger.
func (silence) Printf(context.Context, string, ...any) {}
