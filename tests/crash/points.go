package crash

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
)

// The two kinds of functions.
const (
	ingest = "ingest"
	fire   = "fire"
)

// when is on which side of a call something happens.
type when uint8

const (
	before when = iota + 1 // the request has left the function and does not reach the server
	after                  // the server has done it, and its answer does not reach the function
)

// String names the side in the table.
func (w when) String() string {
	switch w {
	case before:
		return "before"
	case after:
		return "after"
	}
	return fmt.Sprintf("when(%d)", uint8(w))
}

// point is a place where a function can die.
type point struct {
	function string // ingest or fire
	server   string // redis or kafka
	call     string
	when     when
}

func (p point) String() string {
	return fmt.Sprintf("%s %s %s.%s", p.function, p.when, p.server, p.call)
}

// The servers of a point.
const (
	redisServer = "redis"
	kafkaServer = "kafka"
)

// essential are the calls that every plan and every batch may need. The others that are seen on the wire belong to cold starts.
var essential = []point{
	{function: ingest, server: redisServer, call: "Load"},
	{function: ingest, server: redisServer, call: "Restore"},
	{function: ingest, server: redisServer, call: "Commit"},
	{function: ingest, server: redisServer, call: "Index"},
	{function: ingest, server: kafkaServer, call: "OffsetFetch"},
	{function: ingest, server: kafkaServer, call: "Fetch"},
	{function: fire, server: redisServer, call: "Status"},
	{function: fire, server: redisServer, call: "Load"},
	{function: fire, server: redisServer, call: "Restore"},
	{function: fire, server: redisServer, call: "Commit"},
	{function: fire, server: redisServer, call: "Raise"},
	{function: fire, server: redisServer, call: "Index"},
	{function: fire, server: redisServer, call: "Read"},
	{function: fire, server: redisServer, call: "Sweep"},
	{function: fire, server: kafkaServer, call: "InitProducerID"},
	{function: fire, server: kafkaServer, call: "Produce"},
	{function: fire, server: kafkaServer, call: "Produce" + history},
	{function: fire, server: kafkaServer, call: "TxnOffsetCommit"},
	{function: fire, server: kafkaServer, call: "EndTxn"},
	{function: fire, server: kafkaServer, call: "OffsetFetch"},
	{function: fire, server: kafkaServer, call: "ListOffsets"},
	{function: fire, server: kafkaServer, call: "Fetch"},
	{function: fire, server: kafkaServer, call: "Fetch" + history}, // at a cold start, which the kills bring about
}

// essential reports whether the call is one of those, on either side.
func (p point) essential() bool {
	p.when = 0
	return slices.Contains(essential, p)
}

// handshakes are what the Redis client says to open a connection. They are forwarded and not counted.
var handshakes = []string{"HELLO", "PING", "CLIENT", "SELECT"}

// table counts the calls that were seen and the kills that fell at each. It is safe for concurrent use.
type table struct {
	all   bool // every call seen is to be hit, not only the essential ones
	mu    sync.Mutex
	seen  map[point]int // without a side
	kills map[point]int
}

func newTable(all bool) *table {
	t := &table{all: all, seen: map[point]int{}, kills: map[point]int{}}
	for _, p := range essential {
		t.seen[p] = 0
	}
	return t
}

// note counts a call.
func (t *table) note(p point) {
	p.when = 0
	t.mu.Lock()
	t.seen[p]++
	t.mu.Unlock()
}

// killed counts a kill at a point.
func (t *table) killed(p point) {
	t.mu.Lock()
	t.kills[p]++
	t.mu.Unlock()
}

// points lists all points in a fixed order. The caller holds mu.
func (t *table) points() []point {
	var out []point
	for p := range t.seen {
		for _, w := range []when{before, after} {
			p.when = w
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b point) int {
		return cmp.Or(-cmp.Compare(a.function, b.function), -cmp.Compare(a.server, b.server), cmp.Compare(a.call, b.call), cmp.Compare(a.when, b.when))
	})
	return out
}

// next draws one of the points that were hit least, leaving out some.
func (t *table) next(r *rand.Rand, except func(point) bool) (point, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := slices.DeleteFunc(t.points(), func(p point) bool { return except(p) || !t.all && !p.essential() })
	if len(all) == 0 {
		return point{}, false
	}
	least := t.kills[slices.MinFunc(all, func(a, b point) int { return cmp.Compare(t.kills[a], t.kills[b]) })]
	all = slices.DeleteFunc(all, func(p point) bool { return t.kills[p] > least })
	return all[r.IntN(len(all))], true
}

// missed lists the points without a kill.
func (t *table) missed() []point {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.DeleteFunc(t.points(), func(p point) bool { return t.kills[p] > 0 || !t.all && !p.essential() })
}

// String is the table as text.
func (t *table) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var w strings.Builder
	fmt.Fprintf(&w, "%-8s %-6s %-22s %10s %8s %8s\n", "function", "server", "call", "calls", "before", "after")
	for _, p := range t.points() {
		if p.when != before {
			continue
		}
		q, plain := p, p
		q.when, plain.when = after, 0
		fmt.Fprintf(&w, "%-8s %-6s %-22s %10d %8d %8d\n", p.function, p.server, p.call, t.seen[plain], t.kills[p], t.kills[q])
	}
	return w.String()
}

func list(points []point) string {
	names := make([]string, len(points))
	for i, p := range points {
		names[i] = p.String()
	}
	return strings.Join(names, ", ")
}
