package job

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/fire"
)

const (
	// invocation is what one invocation of fire gets, as a function's time-out does.
	invocation = time.Minute
	// finishWithin is how long a plan under way may take to be finished when the schedule ends; then it is aborted, which the
	// protocol takes as it takes a crash.
	finishWithin = 5 * time.Second
	// mostFireDelay bounds the pause after invocations that fail.
	mostFireDelay = 5 * time.Second
)

// schedule invokes fire again and again, as a schedule and nudges do in the cloud.
type schedule struct {
	handler invoker // fire
	tick    time.Duration
	logger  *slog.Logger
	wake    chan struct{}

	mu       sync.Mutex
	pending  *apply.Nudge // what the next invocation is told; nil: nobody asked
	takeOver bool         // tell invocations to take over, until one has ended well
	cancel   context.CancelFunc
	lastTick time.Time // when the running invocation last finished a look
	stopping bool
}

func newSchedule(tick time.Duration, logger *slog.Logger) *schedule {
	return &schedule{tick: tick, logger: logger, wake: make(chan struct{}, 1)}
}

// nudge is ingest's way to ask for an invocation.
func (s *schedule) nudge(_ context.Context, n apply.Nudge) error {
	s.mu.Lock()
	if s.pending == nil {
		s.pending = &apply.Nudge{}
	}
	for _, f := range n.Genesis {
		known := slices.ContainsFunc(s.pending.Genesis, func(g apply.First) bool { return g.Topic == f.Topic && g.Partition == f.Partition })
		if !known { // the first nudge names the lowest offset
			s.pending.Genesis = append(s.pending.Genesis, f)
		}
	}
	if s.between() {
		s.cancel()
	}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return nil
}

// looked is called after each look of an invocation. A nudge that came meanwhile, or the end, ends the invocation: between
// two looks nothing is under way.
func (s *schedule) looked() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastTick = time.Now()
	if s.cancel != nil && (s.stopping || s.pending != nil) {
		s.cancel()
	}
}

// between reports whether an invocation is going on and surely waits for its next look. The lock is held.
func (s *schedule) between() bool {
	return s.cancel != nil && !s.lastTick.IsZero() && time.Since(s.lastTick) < s.tick*3/4
}

// run invokes until stop ends, and returns nil then. It ends by itself only with fire.ErrHalted: what trying again cannot mend.
func (s *schedule) run(stop context.Context) error {
	interrupt := context.AfterFunc(stop, s.interrupt)
	defer interrupt()
	delay := s.tick
	for stop.Err() == nil {
		err := s.invoke(stop)
		switch {
		case errors.Is(err, fire.ErrHalted):
			return err
		case err != nil:
			s.logger.Warn("fire failed and will be invoked again", "in", delay.String(), "error", err)
			delay = min(2*delay, mostFireDelay)
		default:
			delay = s.tick
		}
		timer := time.NewTimer(delay)
		select {
		case <-stop.Done():
		case <-s.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
	return nil
}

func (s *schedule) invoke(stop context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(stop), invocation)
	defer cancel()
	s.mu.Lock()
	var payload []byte
	var err error
	if s.takeOver {
		if s.pending == nil {
			s.pending = &apply.Nudge{}
		}
		s.pending.TakeOver = true
	}
	if s.pending != nil {
		payload, err = json.Marshal(s.pending)
	}
	s.pending, s.cancel, s.lastTick = nil, cancel, time.Time{}
	if s.stopping {
		cancel()
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	_, err = s.handler.Invoke(ctx, payload)
	s.mu.Lock()
	s.cancel = nil
	s.takeOver = s.takeOver && err != nil
	s.mu.Unlock()
	return err
}

// interrupt ends the invocation under way: at once if it waits for its next look, else after the look, but at most after
// finishWithin.
func (s *schedule) interrupt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopping = true
	if s.cancel == nil {
		return
	}
	if s.between() {
		s.cancel()
		return
	}
	time.AfterFunc(finishWithin, s.cancel)
}
