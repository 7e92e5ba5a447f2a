// Package trigger invokes a function with batches of records as a Kafka event source mapping of Lambda does: pollers in a consumer
// group read the topics, an event holds several partitions, offsets are committed once a batch is done, and what a function says of
// a batch is taken as Lambda takes it. How, and what is not emulated: localdev/DESIGN.md.
package trigger

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/llm-auto-optimizer/tidemark/localdev/internal/filter"
)

const (
	// grace is how long an invocation under way may go on once the trigger is to end.
	grace = 3 * time.Second
	// sessionTimeout is how long the group waits for a member that died: the least that brokers allow by default. A run that is
	// started again after a kill gets its partitions only then.
	sessionTimeout = 6 * time.Second
	// rebalanceTimeout is how long the group waits for a member that gives partitions away, which takes up to handOver.
	rebalanceTimeout = 30 * time.Second
	clientID         = "tidemark-trigger"
)

// Run delivers until ctx ends, and returns nil then; an error means that it could not start, ErrOptions that it never will. An
// invocation that is under way when ctx ends is waited for, up to three seconds.
func Run(ctx context.Context, o Options) error {
	o, err := o.complete()
	if err != nil {
		return err
	}
	t := &trigger{Options: o, servers: strings.Join(o.BootstrapServers, ",")}
	if t.filters, err = filter.Parse(o.Filters); err != nil {
		return fmt.Errorf("%w: %w", ErrOptions, err)
	}
	start, err := t.begin(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil // told to end before it had begun
		}
		return fmt.Errorf("trigger: %w", err)
	}
	if o.OnFailure != "" {
		if t.failures, err = newFailures(&t.Options); err != nil {
			return fmt.Errorf("trigger: %w", err)
		}
		defer t.failures.close()
	}
	if o.Hooks.Begun != nil {
		o.Hooks.Begun()
	}
	pollers := make([]*poller, start.pollers)
	for i := range pollers {
		if pollers[i], err = t.newPoller(ctx, i, start); err != nil {
			for _, p := range pollers[:i] {
				p.client.Close()
			}
			return fmt.Errorf("trigger: %w", err)
		}
	}
	var all sync.WaitGroup
	for _, p := range pollers {
		all.Go(func() { p.run(ctx) })
	}
	all.Wait()
	return nil
}

// trigger is what the pollers of a mapping share.
type trigger struct {
	Options
	servers  string // as events say
	filters  *filter.Filters
	failures *failures // nil: there is no topic for them
	ids      atomic.Int64
	encoders sync.Pool // of *encoder
}

// newPoller makes a member of the group, which joins at once.
func (t *trigger) newPoller(ctx context.Context, number int, s start) (*poller, error) {
	p := newPoller(ctx, t, number)
	cl, err := kgo.NewClient(kgo.SeedBrokers(t.Brokers...), kgo.ClientID(clientID), kgo.ConsumerGroup(t.Group), kgo.ConsumeTopics(t.Topics...),
		kgo.ConsumeStartOffset(s.offset), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.FetchMaxWait(500*time.Millisecond), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
		kgo.SessionTimeout(sessionTimeout), kgo.HeartbeatInterval(sessionTimeout/6), kgo.RebalanceTimeout(rebalanceTimeout),
		kgo.OnPartitionsAssigned(p.assigned), kgo.OnPartitionsRevoked(p.revoked), kgo.OnPartitionsLost(p.lost))
	if err != nil {
		return nil, err
	}
	p.client = cl
	close(p.ready)
	return p, nil
}

// invoke calls the function, within its time and, once ctx ends, within the grace.
func (t *trigger) invoke(ctx context.Context, payload []byte) ([]byte, error) {
	call, cancel := context.WithTimeout(context.WithoutCancel(ctx), t.Timeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(grace, cancel)
		context.AfterFunc(call, func() { timer.Stop() })
	})
	defer stop()
	answer, err := t.Invoke(call, payload)
	if errors.Is(call.Err(), context.DeadlineExceeded) {
		return nil, fmt.Errorf("the invocation took longer than its time-out of %s: %w", t.Timeout, errors.Join(err, call.Err()))
	}
	if err == nil {
		err = call.Err() // it came too late
	}
	return answer, err
}
