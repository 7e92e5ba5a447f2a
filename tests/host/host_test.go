package host_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/llm-auto-optimizer/tidemark/tests/host"
)

// asFunction makes this binary the function under test.
const asFunction = "TIDEMARK_TEST_AS_FUNCTION"

var errPlanned = errors.New("planned")

func TestMain(m *testing.M) {
	if os.Getenv(asFunction) == "" {
		os.Exit(m.Run())
	}
	lambda.StartWithOptions(func(ctx context.Context, in string) (string, error) {
		switch in {
		case "fail":
			return "", errPlanned
		case "long":
			return strings.Repeat("x", 7<<20), nil
		}
		trace, _ := ctx.Value("x-amzn-trace-id").(string)
		return trace, nil
	}, lambda.WithEnableSIGTERM(func() { fmt.Println("told to end") }))
}

func function(t *testing.T, o host.Options) *host.Function {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o.Name, o.Binary, o.Env, o.Timeout = "f", self, []string{asFunction + "=1"}, 10*time.Second
	f := host.New(o)
	t.Cleanup(f.Close)
	return f
}

func TestAFunctionIsToldATraceAndSaysThatItIsReadyOnce(t *testing.T) {
	var ready []int
	f := function(t, host.Options{OnReady: func(pid int) { ready = append(ready, pid) }})
	seen := map[string]bool{}
	for range 2 {
		got, err := f.Invoke(t.Context(), []byte(`""`), 0)
		if err != nil {
			t.Fatalf("%v\n%s", err, f.Log())
		}
		if !regexp.MustCompile(`^"Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=0"$`).Match(got) {
			t.Errorf("trace %s", got)
		}
		seen[string(got)] = true
	}
	if len(seen) != 2 || len(ready) != 1 || ready[0] != f.Pid() {
		t.Errorf("traces %v; ready %v, process %d", seen, ready, f.Pid())
	}
}

func TestAFailureHasATypeAndTheFunctionLivesOn(t *testing.T) {
	f := function(t, host.Options{})
	_, err := f.Invoke(t.Context(), []byte(`"fail"`), 0)
	var said *host.FunctionError
	if !errors.As(err, &said) || !errors.Is(err, host.ErrFunction) || said.Type != "errorString" || !strings.Contains(string(said.Body), "planned") {
		t.Errorf("%v: %+v", err, said)
	}
	pid := f.Pid()
	if _, err := f.Invoke(t.Context(), []byte(`""`), 0); err != nil || f.Pid() != pid {
		t.Errorf("%v; process %d, then %d", err, pid, f.Pid())
	}
}

func TestAnAnswerThatIsTooLongIsRefused(t *testing.T) {
	f := function(t, host.Options{})
	_, err := f.Invoke(t.Context(), []byte(`"long"`), 0)
	var said *host.FunctionError
	if !errors.As(err, &said) || said.Type != "Function.ResponseSizeTooLarge" {
		t.Errorf("%v", err)
	}
}

// What registers as an extension is told with SIGTERM before its environment ends.
func TestAFunctionThatRegistersIsToldToEnd(t *testing.T) {
	f := function(t, host.Options{})
	if _, err := f.Invoke(t.Context(), []byte(`""`), 0); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(f.Pid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for !strings.Contains(f.Log(), "told to end") {
		select {
		case <-ctx.Done():
			t.Fatalf("not told: %s", f.Log())
		case <-time.After(5 * time.Millisecond):
		}
	}
}
