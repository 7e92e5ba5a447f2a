package crash

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// fault is one thing that goes wrong.
type fault uint8

const (
	killAtCall fault = iota + 1 // a function, on one side of one of its calls
	killAtRandom
	failover // the primary dies, a replica that lags takes over
	flush    // FLUSHALL
	bounce   // the broker dies and comes back
	vanish   // some slots disappear
)

// Times that a fault may take.
const (
	trapFor   = 10 * time.Second // how long a trap waits for its call
	lagBytes  = 4096             // least that a replica lags behind
	lagWithin = 20 * time.Second
)

// apply does one fault. With every other one of the servers' faults a function dies as well, at the next call of some kind.
func (s *stage) apply(ctx context.Context, f fault, unreachable map[point]bool) error {
	var err error
	if f != killAtCall && f != killAtRandom && s.rand.IntN(2) == 0 {
		if p, ok := s.table.next(s.rand, func(p point) bool { return unreachable[p] }); ok {
			defer s.snares.clear(s.lay(p, 0))
		}
	}
	switch f {
	case killAtCall:
		err = s.killAtCall(ctx, unreachable)
	case killAtRandom:
		err = s.killAtRandom(ctx)
	case failover:
		err = s.failover(ctx)
	case flush:
		if err = s.stores.primary.client.FlushAll(ctx).Err(); err == nil {
			s.flushes.Add(1)
		}
	case bounce:
		err = s.bounce(ctx)
	case vanish:
		err = s.vanish(ctx, 1+s.rand.IntN(3))
	}
	if err == nil {
		err = wait(ctx, time.Duration(s.rand.IntN(300))*time.Millisecond)
	}
	return err
}

// killAtCall kills a function on one side of the call that was hit least so far, doing what makes it likely. A call that does not
// come is left alone for the rest of the stage, and another one is taken.
func (s *stage) killAtCall(ctx context.Context, unreachable map[point]bool) error {
	for range 3 {
		p, ok := s.table.next(s.rand, func(p point) bool { return unreachable[p] })
		if !ok {
			break
		}
		t := s.lay(p, s.rand.IntN(2))
		if came, err := s.await(ctx, t); err != nil || came {
			return err
		}
		unreachable[p] = true
		s.say("not seen within %s: %s", trapFor, p)
	}
	return s.killAtRandom(ctx)
}

// lay sets a trap that kills whoever makes a call.
func (s *stage) lay(p point, skip int) *trap {
	t := newTrap(p, skip, func(name string) {
		if s.kill(name) {
			s.table.killed(p)
		}
	})
	s.snares.set(t)
	return t
}

// await provokes a trap's call until the trap has sprung; false if that takes too long.
func (s *stage) await(ctx context.Context, t *trap) (bool, error) {
	defer s.dropping.Store(false)
	ctx, cancel := context.WithTimeout(ctx, trapFor)
	defer cancel()
	again := time.NewTicker(700 * time.Millisecond)
	defer again.Stop()
	for try := 0; ; try++ {
		if err := s.provoke(ctx, t.point, try); err != nil && ctx.Err() == nil {
			s.snares.clear(t)
			return false, err
		}
		select {
		case <-t.sprung:
			return true, nil
		case <-again.C:
		case <-ctx.Done():
			if s.snares.clear(t) {
				return false, nil
			}
			<-t.sprung
			return true, nil
		}
	}
}

// provoke makes a function's call likely: what it asks for again after its slots have gone, or after a cold start.
// try counts from 0.
func (s *stage) provoke(ctx context.Context, p point, try int) error {
	if try%4 == 0 && (!p.essential() || p.call == "Fetch"+history) {
		s.recycle(p.function + "-a")
	}
	switch {
	case p.function == ingest && slices.Contains([]string{"Index", "Read"}, p.call): // of refused offsets, where a session is replayed
		return s.vanish(ctx, 100)
	case p.function == ingest && slices.Contains([]string{"Load", "Restore", "OffsetFetch", "FindCoordinator", "Fetch"}, p.call):
		return s.vanish(ctx, 2)
	case p.function == fire && slices.Contains([]string{"Load", "Restore", "Commit", "Fetch"}, p.call):
		// Fire catches up and restores only where the trigger does not deliver.
		s.dropping.Store(true)
		return s.vanish(ctx, 1)
	}
	return nil
}

// recycle ends an execution environment, as Lambda does when it pleases. It is not counted as a kill.
func (s *stage) recycle(name string) {
	s.named[name].function().Kill()
	s.recycled.Add(1)
}

// killAtRandom kills a function at a moment of an invocation.
func (s *stage) killAtRandom(ctx context.Context) error {
	limit := time.NewTimer(trapFor)
	defer limit.Stop()
	for {
		name, after := "ingest-a", 15
		if s.rand.IntN(2) == 0 {
			name, after = "fire-a", 600
		}
		if err := wait(ctx, time.Duration(s.rand.IntN(after))*time.Millisecond); err != nil {
			return err
		}
		if s.named[name].function().Busy() && s.kill(name) {
			s.randomKills.Add(1)
			return nil
		}
		select {
		case <-limit.C:
			return nil // it is counted nowhere, and so comes again
		default:
		}
	}
}

// vanish removes some slots, each at once: a store that forgot one partition of one pipeline.
func (s *stage) vanish(ctx context.Context, n int) error {
	keys, err := s.stores.primary.client.Keys(ctx, "{tm:*}:m").Result()
	if err != nil {
		return fmt.Errorf("slots: %w", err)
	}
	slices.Sort(keys)
	s.rand.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	for _, k := range keys[:min(n, len(keys))] {
		tag := k[:len(k)-len("m")]
		err := s.stores.primary.client.Eval(ctx, `for _, k in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do redis.call('DEL', k) end return 1`, nil, tag).Err()
		if err != nil {
			return fmt.Errorf("remove slot %s: %w", tag, err)
		}
		s.slots.Add(1)
	}
	return nil
}

// failover holds the replica back until it lags, kills the primary and promotes the replica. Functions are at work all the time:
// for a moment they find nobody, or a replica that refuses writes.
func (s *stage) failover(ctx context.Context) error {
	s.stores.link.hold()
	if err := wait(ctx, time.Duration(100+s.rand.IntN(900))*time.Millisecond); err != nil {
		return err
	}
	limit, cancel := context.WithTimeout(ctx, lagWithin)
	defer cancel()
	err := poll(limit, nil, func(context.Context) error {
		if n := s.stores.link.size(); n < lagBytes {
			return fmt.Errorf("the replica lags by %d bytes only", n)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("failover: %w", err)
	}
	pause := time.Duration(s.rand.IntN(200)) * time.Millisecond
	readOnly := s.rand.IntN(2) == 0
	lost, err := s.stores.failover(ctx, func(address string) error {
		if readOnly {
			s.leadStores(address)
		}
		return wait(ctx, pause)
	})
	if err != nil {
		return err
	}
	if !readOnly {
		s.leadStores(s.stores.primary.address)
	}
	if lost.writes == 0 {
		return errors.New("failover: nothing was lost, which shows nothing")
	}
	s.failovers.Add(1)
	s.lostWrites.Add(int64(lost.writes))
	s.lostBytes.Add(lost.bytes)
	return s.stores.attach(ctx)
}

// bounce kills the broker, mostly in the middle of a commit, and starts it again on its data.
func (s *stage) bounce(ctx context.Context) error {
	at := []point{
		{fire, kafkaServer, "TxnOffsetCommit", before},
		{fire, kafkaServer, "TxnOffsetCommit", after},
		{fire, kafkaServer, "EndTxn", before},
		{fire, kafkaServer, "EndTxn", after},
		{fire, kafkaServer, "Produce", after},
	}
	if i := s.rand.IntN(len(at) + 1); i < len(at) {
		t := newTrap(at[i], s.rand.IntN(3), func(string) { s.broker.kill() })
		s.snares.set(t)
		limit, cancel := context.WithTimeout(ctx, trapFor)
		defer cancel()
		select {
		case <-t.sprung:
			s.commits.Add(1)
		case <-limit.Done():
			if !s.snares.clear(t) {
				<-t.sprung
			}
		}
	}
	s.broker.kill()
	if err := wait(ctx, time.Duration(s.rand.IntN(500))*time.Millisecond); err != nil {
		return err
	}
	if err := s.broker.start(ctx); err != nil {
		return err
	}
	s.bounces.Add(1)
	return nil
}

// beginnings are the calls of a genesis; the first is made at no other time.
var beginnings = []string{"SCAN", "InitProducerID", "Produce", "TxnOffsetCommit", "EndTxn"}

// killAtGenesis lays a trap for the first plans of all, before anything runs.
func (s *stage) killAtGenesis() {
	p, ok := s.table.next(s.rand, func(p point) bool { return p.function != fire || !slices.Contains(beginnings, p.call) })
	if ok {
		s.genesis = s.lay(p, 0)
	}
}

// unreachable are the points that this stage does not come to.
func (s *stage) unreachable() map[point]bool {
	out := map[point]bool{}
	for _, w := range []when{before, after} {
		out[point{fire, redisServer, beginnings[0], w}] = true
		if !slices.ContainsFunc(s.app.queries, func(q query) bool { return q.panes != "" }) {
			out[point{fire, kafkaServer, "Produce" + history, w}] = true
			out[point{fire, kafkaServer, "Fetch" + history, w}] = true
		}
		// Refused offsets are read back where there are sessions, and one refused any.
		if !slices.ContainsFunc(s.app.queries, func(q query) bool { return strings.Contains(q.windows, "type: session") }) {
			out[point{ingest, redisServer, "Index", w}] = true
		}
		if !slices.ContainsFunc(s.app.queries, func(q query) bool { return q == strictSession }) {
			out[point{ingest, redisServer, "Read", w}] = true
		}
		if s.version >= implicit {
			for _, call := range []string{"AddPartitionsToTxn", "AddOffsetsToTxn"} {
				out[point{fire, kafkaServer, call, w}] = true
				out[point{fire, kafkaServer, call + trial, w}] = true
			}
		}
	}
	return out
}

// script does faults one after the other, once every pipeline has begun. Now and then it waits until every pipeline has made a plan.
func script(plan []fault) func(context.Context, *stage) error {
	return func(ctx context.Context, s *stage) error {
		if err := s.progress(ctx, event.MinTime); err != nil {
			return err
		}
		s.snares.clear(s.genesis)
		unreachable := s.unreachable()
		for i, f := range plan {
			if err := s.apply(ctx, f, unreachable); err != nil {
				return fmt.Errorf("fault %d, %s: %w", i, f, err)
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if s.rand.IntN(8) == 0 {
				if err := s.progress(ctx, event.MinTime); err != nil {
					return err
				}
			}
		}
		return nil
	}
}

// String names the fault in messages.
func (f fault) String() string {
	switch f {
	case killAtCall:
		return "kill at a call"
	case killAtRandom:
		return "kill at random"
	case failover:
		return "failover"
	case flush:
		return "FLUSHALL"
	case bounce:
		return "bounce of the broker"
	case vanish:
		return "slots vanish"
	}
	return fmt.Sprintf("fault(%d)", uint8(f))
}

// draw shares faults out among stages, in random order.
func draw(r *rand.Rand, stages int, counts map[fault]int) [][]fault {
	var all []fault
	for _, f := range []fault{killAtCall, killAtRandom, failover, flush, bounce, vanish} {
		for range counts[f] {
			all = append(all, f)
		}
	}
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	out := make([][]fault, stages)
	for i, f := range all {
		out[i%stages] = append(out[i%stages], f)
	}
	return out
}
