//go:build servers

package trouble

import (
	"context"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/storetest"
	"github.com/llm-auto-optimizer/tidemark/tests/servers"
)

// endpoint is one address in front of whichever server is the primary, as a managed cache has it.
type endpoint struct {
	listener net.Listener

	mu    sync.Mutex
	to    string
	conns map[net.Conn]bool
}

func newEndpoint(t *testing.T, to string) *endpoint {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &endpoint{listener: l, to: to, conns: map[net.Conn]bool{}}
	var wg sync.WaitGroup
	wg.Go(func() { e.serve(context.WithoutCancel(t.Context()), &wg) })
	t.Cleanup(func() {
		_ = l.Close() // the test is over
		e.lead("")
		wg.Wait()
	})
	return e
}

func (e *endpoint) addr() string { return e.listener.Addr().String() }

// lead sends new connections elsewhere and cuts those there are.
func (e *endpoint) lead(to string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.to = to
	for c := range e.conns {
		_ = c.Close() // whoever uses it finds out
	}
	clear(e.conns)
}

func (e *endpoint) serve(ctx context.Context, wg *sync.WaitGroup) {
	for {
		in, err := e.listener.Accept()
		if err != nil {
			return
		}
		e.mu.Lock()
		to := e.to
		e.mu.Unlock()
		out, err := new(net.Dialer).DialContext(ctx, "tcp", to)
		if err != nil {
			_ = in.Close() // nobody is there
			continue
		}
		e.mu.Lock()
		e.conns[in], e.conns[out] = true, true
		if e.to != to { // it moved in between
			_, _ = in.Close(), out.Close()
		}
		e.mu.Unlock()
		for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
			wg.Go(func() {
				_, _ = io.Copy(pair[0], pair[1]) // ends with either connection
				_, _ = pair[0].Close(), pair[1].Close()
			})
		}
	}
}

// TestAFailoverInMidBatchLosesNothing kills the primary after some of a batch's commits. Its replica, which lags and has none of
// them, takes over behind the same address: what was answered as applied is lost in the store, and the trigger will not deliver
// it again.
func TestAFailoverInMidBatchLosesNothing(t *testing.T) {
	t.Parallel()
	primary, replica := replicated(t)
	host, port, err := net.SplitHostPort(primary.Addr())
	if err != nil {
		t.Fatal(err)
	}
	leading, following := admin(t, primary.Addr()), admin(t, replica.Addr())
	order(t, following, "REPLICAOF", host, port)
	e := newEndpoint(t, primary.Addr())

	k := &killer{after: 7, kill: func() {
		primary.Kill()
		e.lead("")
	}}
	store := storetest.Hook(open(t, e.addr()), nil, k.commit)
	w := newWorld(t, store)
	w.deliver(w.produce())
	w.fire()
	awaitReplica(t, leading, following)
	replica.Pause() // from here on it lags
	b := w.produce()
	w.journal.take(t)

	k.arm(len(w.Pipelines))
	failed := w.invoke(b, deadline)
	committed := k.disarm()
	if len(failed) == 0 || len(committed) == 0 {
		t.Fatalf("partitions %v failed, %v were applied: it was not in mid-batch", failed, committed)
	}
	together := slices.Concat(failed, committed)
	slices.Sort(together)
	w.same("failed and applied partitions", all(), together)
	w.tells(statestore.ErrUnreachable, failed)

	replica.Resume()
	order(t, following, "REPLICAOF", "NO", "ONE")
	e.lead(replica.Addr())
	w.redeliver(b, failed)
	w.finish()
}

// replicated starts two servers, neither of which waits for more replicas before it sends its data.
func replicated(t *testing.T) (primary, replica *servers.OwnRedis) {
	t.Helper()
	start := func() *servers.OwnRedis { return servers.StartRedis(t, "--repl-diskless-sync-delay", "0") }
	return start(), start()
}

// killer does something after a number of commits and remembers which partitions all pipelines committed.
type killer struct {
	after int
	kill  func()

	mu        sync.Mutex
	armed     bool
	pipelines int
	n         int
	done      map[int32]int
}

func (k *killer) arm(pipelines int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.armed, k.pipelines, k.n, k.done = true, pipelines, 0, map[int32]int{}
}

// disarm returns the partitions that every pipeline committed.
func (k *killer) disarm() (partitions []int32) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.armed = false
	for p, n := range k.done {
		if n == k.pipelines {
			partitions = append(partitions, p)
		}
	}
	return partitions
}

func (k *killer) commit(op string, slot statestore.Slot) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.armed || op != "Commit" {
		return nil
	}
	k.done[slot.Partition]++
	if k.n++; k.n == k.after {
		k.kill()
	}
	return nil
}

// awaitReplica waits until a replica has everything that its primary has.
func awaitReplica(t *testing.T, leading, following *redis.Client) {
	t.Helper()
	offset := func(c *redis.Client, field string) string {
		info, err := c.Info(t.Context(), "replication").Result()
		if err != nil {
			t.Fatal(err)
		}
		for text := range strings.Lines(info) {
			if v, ok := strings.CutPrefix(strings.TrimSpace(text), field+":"); ok {
				return v
			}
		}
		return ""
	}
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for end := time.Now().Add(20 * time.Second); ; <-poll.C {
		want, have := offset(leading, "master_repl_offset"), offset(following, "slave_repl_offset")
		if want == have && offset(following, "master_link_status") == "up" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the replica is at %s of %s", have, want)
		}
	}
}

// TestAPrimaryThatBecameAReplicaIsLeftForTheNewOne swaps the roles behind the address, as a planned failover does: the old
// primary answers READONLY, and what it had is on the other one.
func TestAPrimaryThatBecameAReplicaIsLeftForTheNewOne(t *testing.T) {
	t.Parallel()
	primary, replica := replicated(t)
	leading, following := admin(t, primary.Addr()), admin(t, replica.Addr())
	host, port, err := net.SplitHostPort(primary.Addr())
	if err != nil {
		t.Fatal(err)
	}
	order(t, following, "REPLICAOF", host, port)
	e := newEndpoint(t, primary.Addr())
	w := newWorld(t, open(t, e.addr()))
	w.deliver(w.produce())
	awaitReplica(t, leading, following)
	order(t, following, "REPLICAOF", "NO", "ONE")
	if host, port, err = net.SplitHostPort(replica.Addr()); err != nil {
		t.Fatal(err)
	}
	order(t, leading, "REPLICAOF", host, port)
	w.journal.take(t)
	b := w.produce()
	failed := w.invoke(b, deadline)
	w.same("failed partitions", all(), failed)
	for _, l := range w.journal.take(t) {
		// While it fetches the other's data it may say that it is loading.
		if l.Cause != statestore.ErrReadOnly.Error() && l.Cause != statestore.ErrLoading.Error() {
			t.Errorf("the log says %+v", l)
		}
	}
	e.lead(replica.Addr())
	w.redeliver(b, failed)
	w.finish()
}
