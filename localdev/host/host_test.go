//go:build unix

package host_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"

	"github.com/llm-auto-optimizer/tidemark/localdev/host"
)

const (
	// asFunction makes this binary the function under test.
	asFunction = "TIDEMARK_TEST_AS_FUNCTION"
	// onInit says what it does in its cold start: what do takes, once if a file of the name behind @ is not there yet.
	onInit = "TIDEMARK_TEST_INIT"
	// tellSIGTERM has it registered as an extension.
	tellSIGTERM = "TIDEMARK_TEST_SIGTERM"
)

var errPlanned = errors.New("planned")

func TestMain(m *testing.M) {
	if os.Getenv(asFunction) == "" {
		os.Exit(m.Run())
	}
	if what, file, once := strings.Cut(os.Getenv(onInit), "@"); what != "" {
		_, err := os.Stat(file)
		if !once || err != nil {
			_ = os.WriteFile(file, nil, 0o600)
			_, _ = do(context.Background(), what)
		}
	}
	var options []lambda.Option
	if os.Getenv(tellSIGTERM) != "" {
		options = append(options, lambda.WithEnableSIGTERM(func() { fmt.Println("told to end") }))
	}
	lambda.StartWithOptions(do, options...)
}

// kept is what the function allocated.
var kept [][]byte

// do is the handler: "WHAT" or "WHAT ARGUMENT".
func do(ctx context.Context, in string) (any, error) {
	what, argument, _ := strings.Cut(in, " ")
	pause, _ := time.ParseDuration(argument)
	switch what {
	case "fail":
		return nil, errPlanned
	case "long":
		n, _ := strconv.Atoi(argument)
		return strings.Repeat("x", n-2), nil // in quotes
	case "panic":
		panic("planned")
	case "exit":
		os.Exit(3)
	case "sleep": // until the deadline, at most
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	case "hang": // whatever the deadline
		<-time.After(pause)
		fmt.Println("hung for", pause)
	case "allocate":
		n, _ := strconv.Atoi(argument)
		for range n {
			b := make([]byte, 1<<20)
			for i := range b {
				b[i] = byte(i)
			}
			kept = append(kept, b)
			<-time.After(time.Millisecond)
		}
	case "log":
		fmt.Println("to stdout")
		fmt.Fprintln(os.Stderr, "to stderr")
		fmt.Print("no end")
	case "env":
		return os.Getenv(argument), nil
	case "cwd":
		return os.Getwd()
	case "stream":
		return io.MultiReader(strings.NewReader("begun"), broken{}), nil
	case "context":
		c, _ := lambdacontext.FromContext(ctx)
		deadline, _ := ctx.Deadline()
		trace, _ := ctx.Value("x-amzn-trace-id").(string)
		return map[string]any{
			"request": c.AwsRequestID, "arn": c.InvokedFunctionArn, "deadline": deadline.UnixMilli(), "trace": trace, "title": c.ClientContext.Client.AppTitle, "pid": os.Getpid(),
		}, nil
	}
	return os.Getpid(), nil
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errPlanned }

// reports are what a function told.
type reports struct {
	mu  sync.Mutex
	all []host.Report
}

func (r *reports) add(one host.Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, one)
}

func (r *reports) last() host.Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all[len(r.all)-1]
}

func function(t *testing.T, o host.Options, env ...string) (*host.Function, *reports) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o.Name, o.Binary, o.Env = "f", self, slices.Concat(env, []string{asFunction + "=1"})
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	told := &reports{}
	o.OnReport = told.add
	f := host.New(o)
	t.Cleanup(f.Close)
	return f, told
}

// invoke runs an invocation that has to be answered, and reads the answer into out.
func invoke(t *testing.T, f *host.Function, what string, out any) {
	t.Helper()
	body, err := f.Invoke(t.Context(), []byte(strconv.Quote(what)))
	if err != nil {
		t.Fatalf("%v\n%s", err, f.Log())
	}
	if out != nil {
		if err := json.Unmarshal(body, out); err != nil {
			t.Fatalf("%s: %v", body, err)
		}
	}
}

// fails runs an invocation that has to fail.
func fails(t *testing.T, f *host.Function, what string) *host.FunctionError {
	t.Helper()
	body, err := f.Invoke(t.Context(), []byte(strconv.Quote(what)))
	var said *host.FunctionError
	if !errors.As(err, &said) || !errors.Is(err, host.ErrFunction) {
		t.Fatalf("%s answered %s, %v\n%s", what, body, err, f.Log())
	}
	return said
}

// await returns once ok does.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.After(20 * time.Second); !ok(); {
		select {
		case <-end:
			t.Fatal("not seen:", what)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

func TestAFunctionIsToldOfItsInvocation(t *testing.T) {
	var ready []int
	f, _ := function(t, host.Options{OnReady: func(pid int) { ready = append(ready, pid) }})
	seen := map[string]bool{}
	for range 2 {
		began := time.Now()
		body, report, err := f.Do(t.Context(), host.Request{Payload: []byte(`"context"`), ClientContext: `{"client":{"app_title":"a title"}}`})
		if err != nil {
			t.Fatal(err, f.Log())
		}
		var got struct {
			Request, ARN, Trace, Title string
			Deadline                   int64
			Pid                        int
		}
		if err := json.Unmarshal(body, &got); err != nil {
			t.Fatal(err)
		}
		if got.ARN != "arn:aws:lambda:us-east-1:123456789012:function:f" || got.Title != "a title" {
			t.Errorf("%+v", got)
		}
		if !regexp.MustCompile(`^Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=0$`).MatchString(got.Trace) {
			t.Errorf("trace %s", got.Trace)
		}
		if !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(got.Request) || got.Request != report.Request {
			t.Errorf("request %s, reported %s", got.Request, report.Request)
		}
		if left := time.UnixMilli(got.Deadline).Sub(began); left < 9*time.Second || left > 20*time.Second {
			t.Errorf("deadline in %s, want in about 10s", left)
		}
		if got.Pid != f.Pid() || report.Pid != got.Pid {
			t.Errorf("process %d, %d, reported %d", got.Pid, f.Pid(), report.Pid)
		}
		seen[got.Request], seen[got.Trace] = true, true
	}
	if len(seen) != 4 || len(ready) != 1 || ready[0] != f.Pid() {
		t.Errorf("requests and traces %v; ready %v, process %d", seen, ready, f.Pid())
	}
}

func TestTheEnvironmentIsThatOfLambda(t *testing.T) {
	f, _ := function(t, host.Options{Memory: 512, LogFormat: "JSON", LogLevel: "DEBUG", TaskRoot: t.TempDir(), Region: "eu-west-1"}, "OWN=1", "TZ=Europe/Berlin")
	var root string
	invoke(t, f, "cwd", &root)
	for name, want := range map[string]string{
		"AWS_LAMBDA_FUNCTION_NAME": "f", "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512", "AWS_REGION": "eu-west-1",
		"AWS_DEFAULT_REGION": "eu-west-1", "_HANDLER": "bootstrap", "LAMBDA_TASK_ROOT": root, "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/f",
		"AWS_LAMBDA_LOG_STREAM_NAME": "local/[$LATEST]1", "AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_LAMBDA_LOG_LEVEL": "DEBUG", "AWS_ACCESS_KEY_ID": "local",
		"AWS_SECRET_ACCESS_KEY": "local", "AWS_SESSION_TOKEN": "local", "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand", "OWN": "1", "TZ": "Europe/Berlin", "HOME": "",
	} {
		var got string
		if invoke(t, f, "env "+name, &got); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func TestAFailureHasATypeAndTheFunctionLivesOn(t *testing.T) {
	f, told := function(t, host.Options{})
	said := fails(t, f, "fail")
	if said.Type != "errorString" || !strings.Contains(string(said.Body), "planned") || errors.Is(said, host.ErrDied) {
		t.Errorf("%+v", said)
	}
	if r := told.last(); r.Err == nil || !strings.Contains(r.String(), "Status: error\tError Type: errorString") {
		t.Errorf("%s", r)
	}
	pid := f.Pid()
	if invoke(t, f, "", nil); f.Pid() != pid {
		t.Errorf("process %d, then %d", pid, f.Pid())
	}
}

func TestAnAnswerMayBeAsLongAsOnLambda(t *testing.T) {
	f, _ := function(t, host.Options{})
	var got string
	if invoke(t, f, "long "+strconv.Itoa(host.MaxResponse), &got); len(got) != host.MaxResponse-2 {
		t.Errorf("%d bytes", len(got))
	}
	for _, n := range []int{host.MaxResponse + 1, 20 << 20} {
		if said := fails(t, f, "long "+strconv.Itoa(n)); said.Type != "Function.ResponseSizeTooLarge" || !strings.Contains(string(said.Body), "6291556 bytes") {
			t.Errorf("%d bytes: %v", n, said)
		}
		invoke(t, f, "", nil) // the runtime ended itself, and is replaced
	}
	if !strings.Contains(f.Log(), "status code: 413") {
		t.Errorf("the runtime was not told:\n%s", f.Log())
	}
}

func TestAStreamThatBreaksOffIsAFailure(t *testing.T) {
	f, _ := function(t, host.Options{})
	if said := fails(t, f, "stream"); !strings.Contains(string(said.Body), "planned") {
		t.Errorf("%+v", said)
	}
}

func TestWhatCrashesFailsItsInvocationAndIsReplaced(t *testing.T) {
	for _, tt := range []struct{ what, kind, message, log string }{
		{"panic", "string", "planned", ""},
		{"exit", "Runtime.ExitError", "Runtime exited with error: exit status 3", "PRINTED"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			f, told := function(t, host.Options{})
			var pid, next int
			invoke(t, f, "", &pid)
			said := fails(t, f, tt.what)
			if said.Type != tt.kind || !strings.Contains(string(said.Body), tt.message) || errors.Is(said, host.ErrDied) != (tt.what == "exit") {
				t.Errorf("%+v", said)
			}
			if alive(pid) {
				t.Errorf("process %d is there", pid)
			}
			invoke(t, f, "", &next)
			if r := told.last(); next == pid || !r.Cold || r.Environment != 2 || f.ColdStarts() != 2 {
				t.Errorf("process %d, then %d: %s", pid, next, r)
			}
		})
	}
}

// What dies while nothing runs in it costs nobody an invocation.
func TestAnEnvironmentThatDiedWhileItWaitedIsReplaced(t *testing.T) {
	for _, freeze := range []bool{false, true} {
		f, _ := function(t, host.Options{Freeze: freeze})
		for range 5 {
			var pid int
			invoke(t, f, "", &pid)
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			await(t, "its end", func() bool { return !slices.Contains(f.Pids(), pid) })
		}
		invoke(t, f, "", nil)
	}
}

func TestATimeOutIsToldAndTheProcessGoesOnForAWhile(t *testing.T) {
	f, told := function(t, host.Options{Timeout: 300 * time.Millisecond, Overrun: 10 * time.Second})
	var pid, next int
	invoke(t, f, "", &pid)
	began := time.Now()
	said := fails(t, f, "hang 2s")
	if took := time.Since(began); took < 300*time.Millisecond || took >= 2*time.Second {
		t.Errorf("told after %s", took)
	}
	if said.Type != "Sandbox.Timedout" || !strings.Contains(string(said.Body), "Task timed out after 0.30 seconds") || !errors.Is(said, host.ErrTimeout) {
		t.Errorf("%+v", said)
	}
	if r := told.last(); !strings.HasSuffix(r.String(), "Status: timeout") || r.Duration < 300*time.Millisecond {
		t.Errorf("%s", r)
	}
	if !alive(pid) {
		t.Error("it was killed at once")
	}
	invoke(t, f, "", &next) // meanwhile, in another one
	if next == pid {
		t.Error("the environment was used again")
	}
	await(t, "what it wrote after its time-out", func() bool { return strings.Contains(f.Log(), "hung for 2s") })
	// Its answer is not taken any more, by which the runtime ends itself.
	await(t, "its end", func() bool { return !alive(pid) })
	// What it said last may be read after it has ended.
	await(t, "that its answer was not taken", func() bool { return strings.Contains(f.Log(), "status code: 410") })
}

func TestWhatOverrunsItsTimeOutIsKilledInTheEnd(t *testing.T) {
	f, _ := function(t, host.Options{Timeout: 100 * time.Millisecond, Overrun: 200 * time.Millisecond})
	var pid int
	invoke(t, f, "", &pid)
	began := time.Now()
	fails(t, f, "hang 1h")
	await(t, "its end", func() bool { return !alive(pid) })
	if took := time.Since(began); took < 300*time.Millisecond {
		t.Errorf("killed after %s", took)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	f, told := function(t, host.Options{Memory: 128})
	invoke(t, f, "allocate 30", nil)
	if r := told.last(); r.MaxMemory < 30 || r.MaxMemory > 128 || r.Memory != 128 {
		t.Errorf("%s", r)
	}
	said := fails(t, f, "allocate 1000")
	if said.Type != "Runtime.ExitError" || !strings.Contains(string(said.Body), "signal: killed") || !errors.Is(said, host.ErrMemory) || !errors.Is(said, host.ErrDied) {
		t.Errorf("%+v", said)
	}
	if r := told.last(); r.MaxMemory != 128 {
		t.Errorf("%s", r)
	}
	invoke(t, f, "", nil)
}

func TestEachConcurrentCallHasItsEnvironment(t *testing.T) {
	f, told := function(t, host.Options{Concurrency: 3})
	var wg sync.WaitGroup
	bodies := make([]string, 3)
	for i := range bodies {
		wg.Go(func() {
			body, err := f.Invoke(t.Context(), []byte(`"hang 1s"`))
			if err != nil {
				t.Error(err)
			}
			bodies[i] = string(body)
		})
	}
	await(t, "three environments", func() bool { return len(f.Pids()) == 3 })
	if _, err := f.Invoke(t.Context(), []byte(`""`)); !errors.Is(err, host.ErrThrottled) || errors.Is(err, host.ErrFunction) {
		t.Errorf("a fourth call: %v", err)
	}
	wg.Wait()
	slices.Sort(bodies)
	if n := len(slices.Compact(bodies)); n != 3 {
		t.Errorf("%d environments", n)
	}
	for range 5 { // one after the other: the one that was used last
		invoke(t, f, "", nil)
		if r := told.last(); r.Cold || r.Init != 0 {
			t.Errorf("cold: %s", r)
		}
	}
	if f.ColdStarts() != 3 {
		t.Errorf("%d cold starts", f.ColdStarts())
	}
}

// state is the state of a process as the system says it: R, S, T.
func state(t *testing.T, pid int) string {
	t.Helper()
	if data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat"); err == nil {
		_, rest, _ := strings.Cut(string(data), ") ")
		return rest[:1]
	}
	out, err := exec.CommandContext(t.Context(), "ps", "-o", "state=", "-p", strconv.Itoa(pid)).Output() // a system without /proc
	if err != nil || len(out) == 0 {
		t.Fatalf("the state of process %d: ps: %v", pid, err)
	}
	return string(out[:1])
}

func TestAnEnvironmentIsFrozenBetweenInvocations(t *testing.T) {
	for _, freeze := range []bool{true, false} {
		f, _ := function(t, host.Options{Freeze: freeze})
		for range 3 {
			var pid int
			invoke(t, f, "", &pid)
			if freeze { // a moment later: it has to be scheduled to stop
				await(t, "it is stopped", func() bool { return state(t, pid) == "T" })
			} else if s := state(t, pid); s == "T" {
				t.Error("it is stopped")
			}
		}
		if f.ColdStarts() != 1 {
			t.Errorf("%d cold starts", f.ColdStarts())
		}
	}
}

func TestOnlyWhatRegistersIsToldToEnd(t *testing.T) {
	for _, tt := range []struct{ registers, freeze bool }{{true, false}, {true, true}, {false, false}} {
		var env []string
		if tt.registers {
			env = append(env, tellSIGTERM+"=1")
		}
		f, _ := function(t, host.Options{Freeze: tt.freeze}, env...)
		var pid int
		invoke(t, f, "", &pid)
		f.Close()
		if told := strings.Contains(f.Log(), "told to end"); told != tt.registers {
			t.Errorf("%+v: told: %t", tt, told)
		}
		if alive(pid) {
			t.Errorf("%+v: it is there", tt)
		}
		if _, err := f.Invoke(t.Context(), []byte(`""`)); !errors.Is(err, host.ErrClosed) {
			t.Errorf("after the end: %v", err)
		}
	}
}

func TestAColdStartHasItsLimit(t *testing.T) {
	mark := func(t *testing.T) string {
		t.Helper()
		return t.TempDir() + "/mark"
	}
	t.Run("slow once", func(t *testing.T) {
		f, told := function(t, host.Options{InitLimit: 300 * time.Millisecond}, onInit+"=hang 1h@"+mark(t))
		invoke(t, f, "", nil)
		if r := told.last(); !r.Cold || r.Init != 0 || r.Environment != 2 || f.ColdStarts() != 1 {
			t.Errorf("%s, %d cold starts", r, f.ColdStarts())
		}
	})
	t.Run("slow for ever", func(t *testing.T) {
		f, _ := function(t, host.Options{InitLimit: 200 * time.Millisecond, Timeout: 400 * time.Millisecond}, onInit+"=hang 1h")
		began := time.Now()
		if said := fails(t, f, ""); said.Type != "Sandbox.Timedout" {
			t.Errorf("%+v", said)
		}
		if took := time.Since(began); took < 600*time.Millisecond {
			t.Errorf("told after %s: the limit of the cold start, then the time-out", took)
		}
	})
	t.Run("crash once", func(t *testing.T) {
		f, _ := function(t, host.Options{}, onInit+"=exit@"+mark(t))
		invoke(t, f, "", nil)
	})
	t.Run("crash for ever", func(t *testing.T) {
		f, _ := function(t, host.Options{}, onInit+"=exit")
		if said := fails(t, f, ""); said.Type != "Runtime.ExitError" || !strings.Contains(string(said.Body), "exit status 3") || !errors.Is(said, host.ErrDied) {
			t.Errorf("%+v", said)
		}
	})
	t.Run("fast", func(t *testing.T) {
		f, told := function(t, host.Options{}, onInit+"=hang 100ms")
		invoke(t, f, "", nil)
		r := told.last()
		if r.Init < 100*time.Millisecond || r.Duration > 90*time.Millisecond || r.Billed < r.Init || !strings.Contains(r.String(), "Init Duration: ") {
			t.Errorf("%s", r)
		}
	})
}

func TestLinesAreThoseOfTheirInvocation(t *testing.T) {
	var log strings.Builder
	f, told := function(t, host.Options{Log: &log, Freeze: true}, onInit+"=log")
	invoke(t, f, "log", nil)
	want := []string{"to stdout", "to stderr", "no endto stdout", "to stderr"} // of cold start and invocation; the last is not whole yet
	if r := told.last(); !slices.Equal(r.Lines, want) {
		t.Errorf("first: %q", r.Lines)
	}
	invoke(t, f, "log", nil)
	if r := told.last(); !slices.Equal(r.Lines, []string{"no endto stdout", "to stderr"}) {
		t.Errorf("second: %q", r.Lines)
	}
	f.Close()
	if got := log.String(); strings.Count(got, "\n") != 7 || !strings.HasSuffix(got, "\nno end\n") {
		t.Errorf("in all: %q", got)
	}
}

func TestACallerWhoLeavesDoesNotEndTheInvocation(t *testing.T) {
	f, told := function(t, host.Options{})
	var pid, next int
	invoke(t, f, "", &pid)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := f.Invoke(ctx, []byte(`"hang 300ms"`)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	await(t, "its report", func() bool { return told.last().Duration >= 300*time.Millisecond })
	await(t, "its end", func() bool { return !f.Busy() })
	if invoke(t, f, "", &next); next != pid {
		t.Errorf("process %d, then %d", pid, next)
	}
}

func TestKillEndsInvocationsAndSaysSo(t *testing.T) {
	f, _ := function(t, host.Options{Lenient: true})
	if f.Kill() {
		t.Error("nothing was there")
	}
	var pid int
	invoke(t, f, "", &pid)
	if f.Kill() || alive(pid) {
		t.Error("nothing ran, or it lives")
	}
	ended := make(chan error, 1)
	go func() {
		_, err := f.Invoke(t.Context(), []byte(`"hang 1h"`))
		ended <- err
	}()
	await(t, "the invocation", func() bool { return f.Busy() && f.Pid() > 0 })
	if !f.Kill() {
		t.Error("an invocation ran")
	}
	if err := <-ended; !errors.Is(err, host.ErrKilled) {
		t.Errorf("%v", err)
	}
	invoke(t, f, "", nil)
}

func TestWhatCannotStartSaysWhy(t *testing.T) {
	f := host.New(host.Options{Name: "f", Binary: t.TempDir() + "/nothing"})
	defer f.Close()
	if _, err := f.Invoke(t.Context(), nil); !errors.Is(err, os.ErrNotExist) || errors.Is(err, host.ErrFunction) {
		t.Errorf("%v", err)
	}
}

// Everyone on a machine can read the arguments of its processes: a variable may be a secret. The docker here is a script that
// writes its arguments down and has the function in its own place, with the environment that it was given.
func TestDockerIsGivenVariablesOutsideItsArguments(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\n[ \"$1\" = run ] || exit 0\nprintf '%s\\n' \"$@\" > '" + dir + "/arguments'\nexec '" + os.Args[0] + "'\n"
	if err := os.WriteFile(dir+"/docker", []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	f, _ := function(t, host.Options{Container: &host.Container{Docker: dir + "/docker"}}, "TIDEMARK_TEST_PASSWORD=planted-in-a-variable")
	invoke(t, f, "", nil) // it has found the Runtime API, which is a variable
	arguments, err := os.ReadFile(dir + "/arguments")
	if err != nil {
		t.Fatal(err)
	}
	if a := string(arguments); strings.Contains(a, "planted") || !strings.Contains(a, "--env\nTIDEMARK_TEST_PASSWORD\n") {
		t.Errorf("%s", a)
	}
}

// Whatever calls, dies and ends at the same time: calls are answered or fail, and nothing is left.
func TestConcurrentUse(t *testing.T) {
	f, _ := function(t, host.Options{Concurrency: 4, Freeze: true, Timeout: time.Second, Overrun: -1, Memory: 512})
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[int]bool{}
	for i := range 6 {
		wg.Go(func() {
			for n := range 8 {
				what := []string{"", "fail", "log", "sleep 5ms", "exit", "panic"}[(i+n)%6]
				_, report, err := f.Do(t.Context(), host.Request{Payload: []byte(strconv.Quote(what))})
				if err != nil && !errors.Is(err, host.ErrFunction) && !errors.Is(err, host.ErrThrottled) && !errors.Is(err, host.ErrKilled) {
					t.Errorf("%s: %v", what, err)
				}
				mu.Lock()
				seen[report.Pid] = true
				mu.Unlock()
			}
		})
	}
	wg.Go(func() {
		for range 5 {
			<-time.After(40 * time.Millisecond)
			f.Kill()
		}
	})
	wg.Wait()
	f.Close()
	for pid := range seen {
		if pid > 0 && alive(pid) {
			t.Errorf("process %d is there", pid)
		}
	}
}
