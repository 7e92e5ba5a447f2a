// Package lambda is as much of Lambda's service as functions on a laptop need: the Invoke API, over HTTP for the functions and for
// `aws lambda invoke --endpoint-url`, and the queues of asynchronous invocations with their retries.
package lambda

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/llm-auto-optimizer/tidemark/localdev/host"
)

// Sentinels.
var (
	// ErrNoFunction is returned for a name that no function has.
	ErrNoFunction = errors.New("lambda: function not found")
	// ErrQueueFull is returned for an asynchronous invocation where too many wait already.
	ErrQueueFull = errors.New("lambda: too many events wait")
)

// What Lambda takes where nothing is said.
const (
	DefaultRetries = 2
	DefaultMaxAge  = 6 * time.Hour
)

const (
	// retryPause is before the first try after a function error; it is twice as long before the second.
	retryPause = time.Minute
	// Throttled events and those that failed for no fault of the function wait from leastBackoff to mostBackoff.
	leastBackoff = time.Second
	mostBackoff  = 5 * time.Minute
	// mostWaiting is how many events of a function may wait.
	mostWaiting = 10_000
)

// Runner is what runs a function: *host.Function.
type Runner interface {
	Do(ctx context.Context, q host.Request) ([]byte, host.Report, error)
}

// Function is a function of the service.
type Function struct {
	Name string // logical id
	Run  Runner
	// Disabled: its reserved concurrency is 0, so that every call is throttled.
	Disabled bool
	// Retries of an asynchronous invocation that failed, 0 to 2.
	Retries int
	// MaxAge of an event, from the moment it was taken; 0: DefaultMaxAge.
	MaxAge time.Duration
}

// Service knows functions by their logical ids. Its methods are safe for concurrent use.
type Service struct {
	logger *slog.Logger
	stop   context.CancelFunc
	ctx    context.Context //nolint:containedctx // the life of the queues

	mu        sync.Mutex
	functions map[string]*function
	work      sync.WaitGroup
}

type function struct {
	Function
	waiting int // events, guarded by Service.mu
}

// New returns a service. Close ends it.
func New(ctx context.Context, logger *slog.Logger, functions ...Function) *Service {
	s := &Service{logger: logger, functions: map[string]*function{}}
	s.ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	for _, f := range functions {
		if f.MaxAge <= 0 {
			f.MaxAge = DefaultMaxAge
		}
		s.functions[f.Name] = &function{Function: f}
	}
	return s
}

// Close drops the events that wait and returns when no invocation of theirs runs any more: end the functions before it, else it
// waits for them.
func (s *Service) Close() {
	s.stop()
	s.work.Wait()
}

// Names are those of the functions, sorted.
func (s *Service) Names() []string {
	names := make([]string, 0, len(s.functions))
	for name := range s.functions {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// find returns a function by its name, its ARN, or ACCOUNT:function:NAME.
func (s *Service) find(name string) (*function, error) {
	if parts := strings.Split(name, ":"); len(parts) >= 3 {
		for i, p := range parts[:len(parts)-1] {
			if p == "function" {
				name = parts[i+1]
			}
		}
	}
	f := s.functions[name]
	if f == nil {
		return nil, fmt.Errorf("%w: %s; there are %s", ErrNoFunction, name, strings.Join(s.Names(), ", "))
	}
	return f, nil
}

// Do invokes a function and waits for its answer.
func (s *Service) Do(ctx context.Context, name string, q host.Request) ([]byte, host.Report, error) {
	f, err := s.find(name)
	if err != nil {
		return nil, host.Report{}, err
	}
	return f.do(ctx, q)
}

func (f *function) do(ctx context.Context, q host.Request) ([]byte, host.Report, error) {
	if f.Disabled {
		return nil, host.Report{}, host.ErrThrottled
	}
	return f.Run.Do(ctx, q)
}

// Send takes an event for a function and returns; the function runs later, again if it fails. q.Payload must not be changed any more.
func (s *Service) Send(name string, q host.Request) error {
	f, err := s.find(name)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return host.ErrClosed
	}
	if f.waiting >= mostWaiting {
		return fmt.Errorf("%w: %s has %d", ErrQueueFull, f.Name, f.waiting)
	}
	f.waiting++
	if q.ID == "" {
		q.ID = host.NewRequestID()
	}
	taken := time.Now()
	s.work.Go(func() {
		s.deliver(f, q, taken)
		s.mu.Lock()
		f.waiting--
		s.mu.Unlock()
	})
	return nil
}

// deliver runs an event until it succeeds, has failed as often as it may, or is too old.
func (s *Service) deliver(f *function, q host.Request, taken time.Time) {
	backoff, failures := leastBackoff, 0
	for {
		_, _, err := f.do(s.ctx, q)
		var pause time.Duration
		switch {
		case err == nil:
			return
		case s.ctx.Err() != nil || errors.Is(err, host.ErrClosed):
			return
		case errors.Is(err, host.ErrFunction):
			if failures++; failures > f.Retries {
				s.dropped(f, q, "RetriesExhausted", err)
				return
			}
			pause = retryPause << (failures - 1)
		default: // throttled, or nothing could be started
			pause = backoff
			backoff = min(2*backoff, mostBackoff)
		}
		if time.Since(taken)+pause > f.MaxAge {
			s.dropped(f, q, "EventAgeExceeded", err)
			return
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-s.ctx.Done():
			timer.Stop()
			return
		}
	}
}

// dropped tells of an event that is given up. A throttled one is no news where others run: that is how nudges are coalesced.
func (s *Service) dropped(f *function, q host.Request, condition string, err error) {
	level := slog.LevelWarn
	if errors.Is(err, host.ErrThrottled) {
		level = slog.LevelDebug
	}
	s.logger.Log(s.ctx, level, "asynchronous event dropped", "function", f.Name, "request", q.ID, "condition", condition, "error", err)
}
