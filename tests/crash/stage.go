package crash

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/localdev/host"
)

// Paces of a stage.
const (
	produceEvery = 40 * time.Millisecond
	perProduce   = 40
	// maxBacklog bounds what is produced ahead of the trigger.
	maxBacklog = 4000
	// stuckAfter is how long no plan may be made although all servers are there.
	stuckAfter = 90 * time.Second
)

var (
	// errStuck is returned when the functions do not go on although nothing stands in their way.
	errStuck = errors.New("crash: no progress")
	// errHalted is returned when a function says that somebody has to decide, or crashes by itself.
	errHalted = errors.New("crash: a function halted")
)

// stage is one app from its first record to its last result, with faults in between.
type stage struct {
	*lab
	app      *app
	seed     uint64
	config   string        // file of the spec
	deadline time.Duration // of fire
	input    *input
	reader   *reader
	rand     *rand.Rand // of the faults

	genesis  *trap       // for the first plans of all
	dropping atomic.Bool // the trigger drops every batch
	problems chan error  // of the loops; the first one ends the stage
}

// newStage makes topics and functions. deadline is what invocations of fire are told.
func newStage(ctx context.Context, l *lab, id string, seed uint64, queries []query, deadline time.Duration) (*stage, error) {
	a, err := newApp(id, queries)
	if err != nil {
		return nil, err
	}
	s := &stage{lab: l, app: a, seed: seed, rand: rand.New(rand.NewPCG(seed, 1)), problems: make(chan error, 10)}
	s.input = newInput(a, l.client, rand.New(rand.NewPCG(seed, 2)))
	if err := l.topics(ctx, a.topics()); err != nil {
		return nil, err
	}
	config := filepath.Join(l.dir, id+".yaml")
	if err := os.WriteFile(config, []byte(a.yaml), 0o600); err != nil {
		return nil, fmt.Errorf("spec of the stage: %w", err)
	}
	if s.reader, err = newReader(ctx, l.broker.plain, l.admin, a); err != nil {
		return nil, err
	}
	s.config = config
	return s, s.deployAll(deadline)
}

// deployAll gives every instance a new function; deadline is what invocations of fire are told.
func (s *stage) deployAll(deadline time.Duration) error {
	s.deadline = deadline
	return s.deploy(s.config, map[string]time.Duration{ingest: ingestTimeout, fire: deadline})
}

// close ends the functions and forgets the stage's topics and state.
func (s *stage) close(ctx context.Context) error {
	s.undeploy()
	s.reader.close()
	names := make([]string, 0, len(s.app.topics()))
	for t := range s.app.topics() {
		names = append(names, t)
	}
	_, err := s.admin.DeleteTopics(ctx, names...)
	return errors.Join(err, s.stores.primary.client.FlushAll(ctx).Err())
}

// run goes through the stage: records, batches and ticks all the time, the faults one after the other, and then the end.
func (s *stage) run(ctx context.Context, faults func(context.Context, *stage) error) (verdict, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var producer, loops sync.WaitGroup
	feeding, stopFeeding := context.WithCancel(ctx)
	defer stopFeeding()
	loop := func(wg *sync.WaitGroup, f func() error) {
		wg.Go(func() {
			if err := f(); err != nil && ctx.Err() == nil {
				s.problems <- err
				cancel()
			}
		})
	}
	s.killAtGenesis()
	loop(&producer, func() error { return s.produce(ctx, feeding.Done()) })
	loop(&loops, func() error { return s.trigger(ctx) })
	loop(&loops, func() error { return s.tick(ctx) })
	err := faults(ctx, s)
	if err == nil {
		stopFeeding()
		producer.Wait()
		err = s.finish(ctx)
	}
	cancel()
	s.undeploy() // an invocation under way need not end by itself
	producer.Wait()
	loops.Wait()
	select {
	case p := <-s.problems:
		err = errors.Join(p, err)
	default:
	}
	if err := errors.Join(err, s.snares.failure()); err != nil {
		return verdict{}, err
	}
	out, err := s.reader.drain(context.WithoutCancel(ctx))
	if err != nil {
		return verdict{}, err
	}
	return judge(s.app, s.input.events, s.input.dead, out), nil
}

// produce publishes records at a steady pace. A broker that is away holds it up.
func (s *stage) produce(ctx context.Context, stop <-chan struct{}) error {
	tick := time.NewTicker(produceEvery)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return nil
		case <-tick.C:
		}
		if s.input.backlog() > maxBacklog {
			continue
		}
		if err := s.input.produce(ctx, perProduce); err != nil {
			return err
		}
	}
}

// trigger delivers batches, most of them well.
func (s *stage) trigger(ctx context.Context) error {
	r := rand.New(rand.NewPCG(s.seed, 3))
	tick := time.NewTicker(produceEvery)
	defer tick.Stop()
	for i := 1; ; i++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if i%20 == 0 || s.dropping.Load() {
			s.commitPositions(ctx)
		}
		payload, move := s.input.batch(1 + r.IntN(60))
		if payload == nil {
			continue
		}
		switch n := r.IntN(100); {
		case s.dropping.Load(), n < 4: // the trigger gives up, or never comes
			s.drops.Add(1)
			move()
		case n < 10: // twice at once
			var second sync.WaitGroup
			second.Go(func() { s.deliver(ctx, "ingest-b", payload) })
			if s.deliver(ctx, "ingest-a", payload) {
				move()
			}
			second.Wait()
		case n < 16: // again, from somewhere before
			if s.deliver(ctx, "ingest-a", payload) {
				move()
				s.input.rewind(1 + r.IntN(100))
			}
		default:
			if s.deliver(ctx, "ingest-a", payload) {
				move()
			} else if r.IntN(4) == 0 { // given up
				s.drops.Add(1)
				move()
			}
		}
	}
}

// commitPositions tries: while the broker is away there is nothing to tell.
func (s *stage) commitPositions(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_ = s.input.commit(ctx, s.admin)
}

// deliver hands a batch to one instance; true if it has all of it.
func (s *stage) deliver(ctx context.Context, name string, payload []byte) bool {
	answer, err := s.invoke(ctx, name, payload, ingestTimeout)
	if err != nil {
		return false
	}
	n, err := failures(answer)
	if err != nil {
		s.fail(err)
	}
	return err == nil && n == 0
}

// fail ends the stage. The first one counts.
func (s *stage) fail(err error) {
	select {
	case s.problems <- fmt.Errorf("%w: %w", errHalted, err):
	default:
	}
}

// invoke runs one invocation. What overruns its deadline by far is killed, as Lambda would.
func (s *stage) invoke(ctx context.Context, name string, payload []byte, timeout time.Duration) ([]byte, error) {
	fn := s.named[name].function()
	limit, cancel := context.WithTimeout(ctx, timeout+10*time.Second)
	defer cancel()
	answer, err := fn.Invoke(limit, payload)
	switch {
	case err == nil || ctx.Err() != nil:
	case limit.Err() != nil:
		fn.Kill()
		s.say("%s overran its deadline by ten seconds and was killed", name)
	case errors.Is(err, host.ErrDied): // a cold start while a server was away; the next one is not at once
		if strings.Contains(err.Error(), "panic") {
			s.fail(err)
		}
		_ = wait(ctx, 100*time.Millisecond)
	case errors.Is(err, host.ErrFunction):
		if strings.Contains(err.Error(), "fire: halted") {
			s.fail(fmt.Errorf("%s: %w", name, err))
		}
		_ = wait(ctx, 100*time.Millisecond)
	}
	return answer, err
}

// tick invokes fire over and over, sometimes two at once.
func (s *stage) tick(ctx context.Context) error {
	r := rand.New(rand.NewPCG(s.seed, 4))
	payload := []byte(`{"source":"aws.scheduler"}`)
	for ctx.Err() == nil {
		var second sync.WaitGroup
		if r.IntN(6) == 0 {
			second.Go(func() { _, _ = s.invoke(ctx, "fire-b", payload, fireTimeout) })
		}
		_, _ = s.invoke(ctx, "fire-a", payload, fireTimeout) // invoke says what matters
		second.Wait()
	}
	return nil
}

// progress waits until every pipeline has made a plan from now on, or is at the watermark given.
func (s *stage) progress(ctx context.Context, until event.Time) error {
	before := s.reader.plans()
	limit, slow := time.NewTimer(stuckAfter), time.NewTimer(stuckAfter/10)
	defer limit.Stop()
	defer slow.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var waiting []string
		for name, now := range s.reader.plans() {
			if until == event.MinTime && now.plan <= before[name].plan || now.watermark < until {
				waiting = append(waiting, fmt.Sprintf("%s is at plan %d, W=%s", name, now.plan, now.watermark))
			}
		}
		if waiting == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-slow.C:
			s.say("waiting: %s: %s", strings.Join(waiting, "; "), s.ledgerState(ctx))
		case p := <-s.problems:
			return p
		case <-ctx.Done():
			return ctx.Err()
		case <-limit.C:
			return fmt.Errorf("%w for %s: %s; %s\nfire-a: %s\ningest-a: %s", errStuck, stuckAfter, strings.Join(waiting, "; "), s.ledgerState(ctx), end(s.named["fire-a"].function().Log()), end(s.named["ingest-a"].function().Log()))
		}
	}
}

func end(log string) string { return log[max(0, len(log)-3000):] }

// finish closes all windows and waits for the plans that say so.
func (s *stage) finish(ctx context.Context) error {
	// A firer that died while it tried a transaction at its cold start left that open, and with it the ledger's end out of sight.
	// The next cold start settles it.
	s.recycle("fire-a")
	closed, err := s.input.finish(ctx, 1000)
	if err != nil {
		return err
	}
	return s.progress(ctx, closed)
}
