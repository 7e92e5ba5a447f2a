//go:build unix

package host_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/llm-auto-optimizer/tidemark/localdev/host"
)

// served is a function whose environments come by themselves.
func served(t *testing.T, o host.Options) (*host.Function, *reports) {
	t.Helper()
	told := &reports{}
	o.Name, o.Listen, o.OnReport = "f", "127.0.0.1:0", told.add
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	f, err := host.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f, told
}

// come starts an environment of the function, and returns what kills it.
func come(t *testing.T, f *host.Function) (kill func()) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = []string{asFunction + "=1", "AWS_LAMBDA_RUNTIME_API=" + f.Address(), "_HANDLER=bootstrap"}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	t.Cleanup(kill)
	return kill
}

func TestAnEnvironmentMayComeByItself(t *testing.T) {
	f, told := served(t, host.Options{})
	first := make(chan error, 1)
	go func() { // before anybody is there
		_, err := f.Invoke(t.Context(), []byte(`""`))
		first <- err
	}()
	kill := come(t, f)
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	var pid, next int
	invoke(t, f, "", &pid)
	if r := told.last(); r.Cold || f.ColdStarts() != 1 {
		t.Errorf("%s, %d cold starts", r, f.ColdStarts())
	}
	if said := fails(t, f, "fail"); said.Type != "errorString" {
		t.Errorf("%v", said)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := f.Invoke(t.Context(), []byte(`"hang 1h"`))
		ended <- err
	}()
	await(t, "the invocation", f.Busy)
	<-time.After(50 * time.Millisecond) // so that it is in the handler, most times: else nothing was begun
	kill()
	if err := <-ended; !errors.Is(err, host.ErrDied) && !errors.Is(err, host.ErrThrottled) {
		t.Errorf("killed: %v", err)
	}
	come(t, f)
	if invoke(t, f, "", &next); next == pid || f.ColdStarts() != 2 {
		t.Errorf("process %d, then %d; %d cold starts", pid, next, f.ColdStarts())
	}
}

func TestSeveralEnvironmentsMayCome(t *testing.T) {
	f, _ := served(t, host.Options{})
	come(t, f)
	come(t, f)
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[string]bool{}
	for range 2 {
		wg.Go(func() {
			body, err := f.Invoke(t.Context(), []byte(`"hang 1s"`))
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			seen[string(body)] = true
			mu.Unlock()
		})
	}
	wg.Wait()
	if len(seen) != 2 {
		t.Errorf("%v", seen)
	}
}

func TestWhereNoEnvironmentComesCallsAreThrottled(t *testing.T) {
	f, _ := served(t, host.Options{InitLimit: 50 * time.Millisecond})
	if _, err := f.Invoke(t.Context(), []byte(`""`)); !errors.Is(err, host.ErrThrottled) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Invoke(ctx, []byte(`""`)); !errors.Is(err, context.Canceled) && !errors.Is(err, host.ErrThrottled) {
		t.Errorf("%v", err)
	}
	if f.Busy() {
		t.Error("it is busy")
	}
}

func TestATimeOutIsToldWhereNobodyCanBeKilled(t *testing.T) {
	f, _ := served(t, host.Options{Timeout: 100 * time.Millisecond, Overrun: 100 * time.Millisecond})
	kill := come(t, f)
	if said := fails(t, f, "hang 1h"); !errors.Is(said, host.ErrTimeout) {
		t.Errorf("%v", said)
	}
	kill()
	come(t, f)
	invoke(t, f, "", nil)
}

func TestTheEndSendsThoseAwayWhoWait(t *testing.T) {
	f, _ := served(t, host.Options{})
	come(t, f)
	invoke(t, f, "", nil)
	ended := make(chan error, 2)
	for _, what := range []string{"hang 1h", "hang 1h"} { // one runs, one waits for an environment
		go func() {
			_, err := f.Invoke(t.Context(), []byte(strconv.Quote(what)))
			ended <- err
		}()
	}
	await(t, "the invocation", f.Busy)
	<-time.After(50 * time.Millisecond) // it has been handed over, most times
	f.Close()
	for range 2 {
		if err := <-ended; !errors.Is(err, host.ErrClosed) && !errors.Is(err, host.ErrThrottled) {
			t.Errorf("%v", err)
		}
	}
	if _, err := f.Invoke(t.Context(), []byte(`""`)); !errors.Is(err, host.ErrClosed) {
		t.Errorf("%v", err)
	}
}
