package kafkaio

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/llm-auto-optimizer/tidemark/tests/seed"
)

// trials lets n contenders try, one beginning 10 ms after the other, on virtual time: a trial takes 60 ms, and is fenced by
// whichever begins meanwhile. It returns how many came to their end, and after how long all were done.
func trials(t *testing.T, n int, random func(time.Duration) time.Duration) (ended int, took time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex // also for random
		epoch := 0
		locked := func(d time.Duration) time.Duration {
			mu.Lock()
			defer mu.Unlock()
			return random(d)
		}
		try := func() error {
			mu.Lock()
			epoch++
			mine := epoch
			mu.Unlock()
			<-time.After(60 * time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case epoch == mine:
				return nil
			case mine%2 == 0:
				return fmt.Errorf("try: %w", kerr.InvalidTxnState)
			}
			return fmt.Errorf("try: %w", classify(kerr.InvalidProducerEpoch))
		}
		began := time.Now()
		errs := make(chan error)
		for i := range n {
			go func() {
				<-time.After(time.Duration(i) * 10 * time.Millisecond)
				errs <- contend(t.Context(), locked, try)
			}()
		}
		for range n {
			if err := <-errs; err == nil {
				ended++
			} else if !isContended(err) {
				t.Error(err)
			}
		}
		took = time.Since(began)
	})
	return ended, took
}

func TestContendersComeToTheirEndOneByOne(t *testing.T) {
	r := seed.Rand(t)
	longest := time.Duration(0)
	for range 500 {
		ended, took := trials(t, 6, func(n time.Duration) time.Duration { return time.Duration(r.Int64N(int64(n))) })
		if ended != 6 {
			t.Errorf("%d of 6 came to their end in %s", ended, took)
		}
		longest = max(longest, took)
	}
	t.Logf("500 times 6 contenders: %s at most", longest)
}

// What the pauses are for.
func TestWithoutPausesContendersFenceEachOtherForEver(t *testing.T) {
	ended, took := trials(t, 6, func(time.Duration) time.Duration { return 0 })
	if ended > 1 || took < contendFor || took > contendFor+time.Second {
		t.Errorf("%d came to their end in %s, want one at most, and an end soon after %s", ended, took, contendFor)
	}
}

func TestATrialThatIsAlwaysFencedGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		err := contend(t.Context(), func(n time.Duration) time.Duration { return n - 1 }, func() error { return ErrFenced })
		if took := time.Since(began); !errors.Is(err, ErrFenced) || took < contendFor || took > contendFor+mostContention {
			t.Errorf("%v after %s", err, took)
		}
	})
}

func TestContentionEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		err := contend(ctx, func(n time.Duration) time.Duration { return n - 1 }, func() error { return ErrFenced })
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrFenced) || time.Since(began) != time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}

func TestOtherErrorsOfATrialAreNotTriedAgain(t *testing.T) {
	n := 0
	err := contend(t.Context(), rand.N[time.Duration], func() error { n++; return ErrNoTransactions })
	if !errors.Is(err, ErrNoTransactions) || n != 1 {
		t.Errorf("%v after %d tries", err, n)
	}
}
