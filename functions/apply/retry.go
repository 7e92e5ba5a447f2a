package apply

import (
	"context"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/spec"
)

// retry is exponential backoff, doubling from initial to most.
type retry struct {
	max           int
	initial, most time.Duration
}

func newRetry(e spec.ErrorHandling) retry {
	r := retry{max: e.MaxRetries, initial: e.InitialRetryDelay, most: e.MaxRetryDelay}
	if e.Policy != spec.PolicyRetry {
		r.max = 0
	}
	return r
}

// delay is the pause before try number n, from 1.
func (r retry) delay(n int) time.Duration {
	d := r.initial
	for range n - 1 {
		if d >= r.most/2 {
			return r.most
		}
		d *= 2
	}
	return min(d, r.most)
}

// pause waits before try number n, or until ctx ends.
func (r retry) pause(ctx context.Context, n int) error {
	t := time.NewTimer(r.delay(n))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
