//go:build servers

package trouble

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/tests/servers"
)

// hashSlots is how many there are in a cluster.
const hashSlots = 16384

// cluster is three primaries, each with a third of the hash slots.
type cluster struct {
	nodes   []*servers.OwnRedis
	clients []*redis.Client
}

// startCluster starts a cluster of the test's own. Its nodes take each other for dead only after longer than these tests last:
// what is tested is one node in trouble, not what the others make of it.
func startCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{}
	buses := make([]string, 3)
	for i := range buses {
		_, buses[i] = nowhere(t)
		n := servers.StartRedis(t, "--cluster-enabled", "yes", "--cluster-port", buses[i], "--cluster-node-timeout", "60000",
			"--cluster-require-full-coverage", "no")
		c.nodes = append(c.nodes, n)
		c.clients = append(c.clients, admin(t, n.Addr()))
	}
	host, port, err := net.SplitHostPort(c.nodes[0].Addr())
	if err != nil {
		t.Fatal(err)
	}
	for i, client := range c.clients {
		order(t, client, "CLUSTER", "ADDSLOTSRANGE", first(i), first(i+1)-1)
		if i > 0 {
			order(t, client, "CLUSTER", "MEET", host, port, buses[0])
		}
	}
	for _, client := range c.clients {
		c.awaitAgreement(t, client)
	}
	return c
}

// first is the first hash slot of a node.
func first(node int) int { return node * hashSlots / 3 }

// awaitAgreement waits until a node knows who has each hash slot.
func (c *cluster) awaitAgreement(t *testing.T, client *redis.Client) {
	t.Helper()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for end := time.Now().Add(20 * time.Second); ; <-poll.C {
		info, err := client.ClusterInfo(t.Context()).Result()
		if err == nil && strings.Contains(info, "cluster_state:ok") && strings.Contains(info, fmt.Sprintf("cluster_slots_assigned:%d", hashSlots)) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the cluster does not come up: %v\n%s", err, info)
		}
	}
}

// on returns the partitions of which a pipeline's slot is on a node.
func (c *cluster) on(t *testing.T, w *world, node int) []int32 {
	t.Helper()
	parts, err := w.Log.Partitions(t.Context(), []string{"in"})
	if err != nil {
		t.Fatal(err)
	}
	var out []int32
	for _, part := range parts {
		for _, p := range w.Pipelines {
			s := apply.SlotID(p, part)
			// The tag as statestore/redisstore/DESIGN.md draws it.
			tag := fmt.Sprintf("{tm:%s:%d:%x:%d}:m", s.Pipeline, s.Shard, s.TopicID, s.Partition)
			slot, err := c.clients[(node+1)%3].ClusterKeySlot(t.Context(), tag).Result()
			if err != nil {
				t.Fatal(err)
			}
			if int(slot) >= first(node) && int(slot) < first(node+1) && !slices.Contains(out, part.Partition) {
				out = append(out, part.Partition)
			}
		}
	}
	slices.Sort(out)
	return out
}

// TestOneNodeInTroubleFailsItsPartitionsAlone has slots on all three nodes and trouble on one.
func TestOneNodeInTroubleFailsItsPartitionsAlone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		cause   error
		trouble func(t *testing.T, r *servers.OwnRedis, c *redis.Client)
		mend    func(t *testing.T, r *servers.OwnRedis, c *redis.Client)
	}{
		{
			"out of memory", statestore.ErrFull,
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
			"killed", statestore.ErrUnreachable,
			func(_ *testing.T, r *servers.OwnRedis, _ *redis.Client) { r.Kill() },
			func(_ *testing.T, r *servers.OwnRedis, _ *redis.Client) { r.Start() },
		},
		{
			"taking connections and never answering", statestore.ErrUnreachable,
			func(_ *testing.T, r *servers.OwnRedis, _ *redis.Client) { r.Pause() },
			func(_ *testing.T, r *servers.OwnRedis, _ *redis.Client) { r.Resume() },
		},
		{
			"without its hash slots", statestore.ErrFailover,
			func(t *testing.T, _ *servers.OwnRedis, c *redis.Client) {
				t.Helper()
				order(t, c, "CLUSTER", "DELSLOTSRANGE", first(1), first(2)-1)
			},
			func(t *testing.T, _ *servers.OwnRedis, c *redis.Client) {
				t.Helper()
				order(t, c, "CLUSTER", "ADDSLOTSRANGE", first(1), first(2)-1)
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cluster := startCluster(t)
			var urls []string
			for _, n := range cluster.nodes {
				urls = append(urls, n.Addr())
			}
			w := newWorld(t, open(t, urls...))
			w.deliver(w.produce())
			b := w.produce()
			affected := cluster.on(t, w, 1)
			if len(affected) == 0 || len(affected) == partitions {
				t.Fatalf("partitions %v are on the node: that proves nothing", affected)
			}
			w.journal.take(t)

			c.trouble(t, cluster.nodes[1], cluster.clients[1])
			begun := time.Now()
			failed := w.invoke(b, deadline)
			t.Logf("%d of %d partitions failed, answered after %s", len(failed), partitions, time.Since(begun).Round(time.Millisecond))
			w.same("failed partitions", affected, failed)
			w.tells(c.cause, failed)
			c.mend(t, cluster.nodes[1], cluster.clients[1])

			w.redeliver(b, failed)
			w.fire()
			w.finish()
		})
	}
}

// TestAStoreOpensWhileANodeIsInTrouble is a cold start of functions while one node does not answer.
func TestAStoreOpensWhileANodeIsInTrouble(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t)
	var urls []string
	for _, n := range cluster.nodes {
		urls = append(urls, n.Addr())
	}
	w := newWorld(t, open(t, urls...))
	w.deliver(w.produce())
	b := w.produce()
	affected := cluster.on(t, w, 2)
	cluster.nodes[2].Pause()
	w.Store = open(t, urls...)
	w.Restart()
	failed := w.invoke(b, deadline)
	w.same("failed partitions", affected, failed)
	cluster.nodes[2].Resume()
	w.redeliver(b, failed)
	w.finish()
}
