package redisstore

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// MinVersion is the oldest server that the scripts have what they need of.
const MinVersion = "6.2"

// Facts are what a server says of itself. What it does not say is the zero value.
type Facts struct {
	Node      string // host:port
	Cluster   bool
	Version   string // of Redis; of a Valkey server the Redis version that it is compatible with
	Replica   bool   // of a cluster only primaries are asked
	Policy    string // maxmemory-policy
	MaxMemory int64  // bytes; 0: no limit, or not said
	Memory    int64  // bytes in use
	// Err is why it does not say anything; it wraps ErrDenied where the user may not call INFO.
	Err error
}

// Inspect asks the server, or every primary of the cluster, by INFO alone, which managed services allow; and tries a script that
// changes nothing: its error is returned. In order of the nodes.
func (s *Store) Inspect(ctx context.Context) ([]Facts, error) {
	var facts []Facts
	switch c := s.client.(type) {
	case *redis.Client:
		facts = append(facts, inspect(ctx, c, false))
	case *redis.ClusterClient:
		var mu sync.Mutex
		err := c.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
			f := inspect(ctx, node, true)
			mu.Lock()
			defer mu.Unlock()
			facts = append(facts, f)
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("inspect: nodes of the cluster: %w", err)
		}
		slices.SortFunc(facts, func(a, b Facts) int { return strings.Compare(a.Node, b.Node) })
	}
	// No pipeline has this name: it is the hash of a group's.
	nobody := statestore.Slot{Pipeline: "0000000000000000", Topic: "inspect"}
	if _, err := s.Status(ctx, nobody); !errors.Is(err, statestore.ErrNoSlot) {
		return facts, fmt.Errorf("inspect: run a script: %w", err)
	}
	return facts, nil
}

func inspect(ctx context.Context, c *redis.Client, cluster bool) Facts {
	f := Facts{Node: c.Options().Addr, Cluster: cluster}
	began := time.Now()
	info, err := c.Info(ctx).Result()
	if err != nil {
		f.Err = fmt.Errorf("INFO: %w", trouble(ctx, f.Node, time.Since(began), err))
		return f
	}
	f.read(info)
	return f
}

// read takes what is of interest from the answer to INFO.
func (f *Facts) read(info string) {
	lines := bufio.NewScanner(strings.NewReader(info))
	for lines.Scan() {
		name, value, _ := strings.Cut(strings.TrimSpace(lines.Text()), ":")
		switch name {
		case "redis_version":
			f.Version = value
		case "role":
			f.Replica = value == "slave"
		case "maxmemory_policy":
			f.Policy = value
		case "maxmemory":
			f.MaxMemory, _ = strconv.ParseInt(value, 10, 64)
		case "used_memory":
			f.Memory, _ = strconv.ParseInt(value, 10, 64)
		}
	}
}

// Old reports whether the server says a version below MinVersion.
func (f Facts) Old() bool {
	major, rest, _ := strings.Cut(f.Version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	a, errA := strconv.Atoi(major)
	b, errB := strconv.Atoi(minor)
	return errA == nil && errB == nil && (a < 6 || a == 6 && b < 2)
}
