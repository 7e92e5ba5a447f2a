package crash

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/llm-auto-optimizer/tidemark/tests/output"
)

// node is one Redis server.
type node struct {
	process
	address string
	client  *redis.Client
}

// stores are a Redis primary and its replica, which gets the primary's writes through a link that can hold them back. A failover
// kills the primary while it does: what was held is lost, although it was acknowledged.
type stores struct {
	dir  string
	log  io.Writer
	n    int
	link *link

	primary, replica *node
}

func newStores(ctx context.Context, dir string, log io.Writer) (*stores, error) {
	s := &stores{dir: dir, log: log}
	var err error
	if s.link, err = newLink(ctx); err != nil {
		return nil, err
	}
	if s.primary, err = s.node(ctx); err != nil {
		return s, err
	}
	return s, s.attach(ctx)
}

func (s *stores) close() {
	for _, n := range []*node{s.primary, s.replica} {
		if n != nil {
			n.kill()
			_ = n.client.Close()
		}
	}
	s.link.close()
}

// node starts an empty server.
func (s *stores) node(ctx context.Context, args ...string) (*node, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("address %s: %w", address, err)
	}
	s.n++
	dir := filepath.Join(s.dir, "redis-"+strconv.Itoa(s.n))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, fmt.Errorf("folder of a Redis server: %w", err)
	}
	args = append([]string{
		"redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", dir, "--save", "", "--appendonly", "no",
		"--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0", "--maxmemory-policy", "noeviction",
	}, args...)
	n := &node{address: address, process: process{
		name: "redis-server on " + address, args: args, log: s.log, end: output.Buffer{Last: keptOfLog},
	}}
	n.client = redis.NewClient(&redis.Options{Addr: address, MaxRetries: -1})
	if err := n.start(ctx, func(ctx context.Context) error { return n.client.Ping(ctx).Err() }); err != nil {
		return nil, errors.Join(err, n.client.Close())
	}
	return n, nil
}

// attach gives the primary a new replica, and returns when that follows.
func (s *stores) attach(ctx context.Context) error {
	s.link.lead(s.primary.address)
	host, port, err := net.SplitHostPort(s.link.address())
	if err != nil {
		return fmt.Errorf("address of the link: %w", err)
	}
	if s.replica, err = s.node(ctx, "--replicaof", host+" "+port); err != nil {
		return err
	}
	err = poll(ctx, s.replica.dead, func(ctx context.Context) error {
		info, err := s.replica.client.Info(ctx, "replication").Result()
		if err == nil && !strings.Contains(info, "master_link_status:up") {
			err = errors.New("the replica does not follow yet")
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("attach a replica: %w", err)
	}
	return nil
}

// lost is what a failover took with it.
type lost struct {
	writes int   // acknowledged, and unknown to the replica
	bytes  int64 // of the replication stream
}

// failover kills the primary, whose last writes the link has been holding, and promotes the replica. What was acknowledged while
// the link held is gone. The new primary has no replica until attach.
func (s *stores) failover(ctx context.Context, unpromoted func(address string) error) (lost, error) {
	s.primary.kill()
	held := s.link.discard()
	out := lost{writes: countWrites(held), bytes: int64(len(held))}
	old := s.primary
	s.primary, s.replica = s.replica, nil
	if err := old.client.Close(); err != nil {
		return out, fmt.Errorf("failover: %w", err)
	}
	if err := unpromoted(s.primary.address); err != nil {
		return out, err
	}
	if err := s.primary.client.ReplicaOf(ctx, "NO", "ONE").Err(); err != nil {
		return out, fmt.Errorf("promote the replica: %w", err)
	}
	return out, nil
}

// link carries the replication stream of one primary to one replica.
type link struct {
	listener net.Listener
	mu       sync.Mutex
	to       string
	holding  bool
	held     []byte
	conns    []net.Conn
	flow     sync.WaitGroup // of the copying goroutines
}

func newLink(ctx context.Context) (*link, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("link between Redis servers: %w", err)
	}
	l := &link{listener: listener}
	go l.accept() //nolint:gosec,contextcheck // it ends with the listener
	return l, nil
}

func (l *link) address() string { return l.listener.Addr().String() }

// lead sends the next connection to a primary.
func (l *link) lead(to string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.to = to
}

// hold keeps what the primary sends from now on.
func (l *link) hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.holding = true
}

// size is how many bytes are being held.
func (l *link) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.held)
}

// discard ends the link of a dead primary and returns what it held. Everything the primary sent is in there or has arrived.
func (l *link) discard() []byte {
	l.flow.Wait() // the primary's end of the connection is closed: the copying ends
	l.mu.Lock()
	defer l.mu.Unlock()
	held := l.held
	l.held, l.holding = nil, false
	return held
}

func (l *link) close() {
	_ = l.listener.Close()
	l.mu.Lock()
	for _, c := range l.conns {
		_ = c.Close()
	}
	l.mu.Unlock()
	l.flow.Wait()
}

func (l *link) accept() {
	for {
		replica, err := l.listener.Accept()
		if err != nil {
			return // closed
		}
		l.mu.Lock()
		to := l.to
		l.mu.Unlock()
		primary, err := (&net.Dialer{Timeout: 2 * time.Second}).DialContext(context.Background(), "tcp", to)
		if err != nil {
			_ = replica.Close()
			continue
		}
		l.mu.Lock()
		l.conns = []net.Conn{replica, primary}
		l.flow.Add(2)
		l.mu.Unlock()
		go func() {
			defer l.flow.Done()
			_, _ = io.Copy(primary, replica)
			_ = primary.Close()
		}()
		go func() {
			defer l.flow.Done()
			l.forward(primary, replica)
			_ = replica.Close()
		}()
	}
}

// forward copies the stream, or keeps it.
func (l *link) forward(primary, replica net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := primary.Read(buf)
		l.mu.Lock()
		if l.holding {
			l.held = append(l.held, buf[:n]...)
			l.mu.Unlock()
		} else {
			l.mu.Unlock()
			if _, err := replica.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
