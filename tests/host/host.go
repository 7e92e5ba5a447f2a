// Package host runs the real bootstrap binaries as Lambda does: each is a process of its own behind the Runtime API, invoked one
// call at a time, and started anew after it has died. Tests kill it whenever they like.
package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

var (
	// ErrKilled is returned by an invocation whose process Kill has ended.
	ErrKilled = errors.New("host: the function was killed")
	// ErrDied is wrapped by the error of an invocation whose process ended by itself: it could not start, or it crashed. The
	// text has the end of its log.
	ErrDied = errors.New("host: the function died by itself")
	// ErrFunction is wrapped by the error of an invocation that the function itself answered with an error.
	ErrFunction = errors.New("host: function error")
)

// logTail is how much of a function's output is kept, in bytes.
const logTail = 128 << 10

// Options say what to run.
type Options struct {
	Name   string   // AWS_LAMBDA_FUNCTION_NAME, and the function's name in messages
	Binary string   // path of the bootstrap, as Build returns it
	Env    []string // NAME=value, beside what Lambda sets
	// Timeout is the deadline that each invocation is told, from the moment the function asks for it. Nothing is done to a
	// function that overruns it: end the invocation's context, then Kill.
	Timeout time.Duration
	Log     io.Writer // if not nil, gets all output as well; written to by one process at a time
	// OnReady, if not nil, is called with the id of a process once it asks for its first invocation: its cold start is over.
	OnReady func(pid int)
}

// FunctionError is the answer of a function that failed: what it said, and under which type it is told to a caller. It is
// ErrFunction.
type FunctionError struct {
	Type string // of the header, else of the body: errors.errorString, say
	Body []byte // JSON: errorMessage, errorType, stackTrace
}

func (e *FunctionError) Error() string { return ErrFunction.Error() + ": " + string(e.Body) }

// Unwrap returns ErrFunction.
func (e *FunctionError) Unwrap() error { return ErrFunction }

// Function is one function. Invoke is for one goroutine at a time; everything else is safe for concurrent use.
type Function struct {
	opts Options
	n    int

	mu      sync.Mutex
	proc    *process
	busy    bool // an invocation is under way
	closing bool
	log     tail
}

// New returns a function without a process: the first invocation starts one.
func New(o Options) *Function { return &Function{opts: o} }

// process is one execution environment. Each has a Runtime API of its own, so that what a dead one still asks for is never
// taken for its successor's.
type process struct {
	cmd    *exec.Cmd
	server *http.Server
	calls  chan *call
	dead   chan struct{} // closed when the process has gone
	killed bool          // by Kill; guarded by Function.mu

	once sync.Once // the first ask for an invocation

	mu      sync.Mutex
	current *call
}

type call struct {
	id      string
	payload []byte
	done    chan result
}

type result struct {
	body []byte
	err  error
}

// Log returns the end of what the function has written, over all of its processes.
func (f *Function) Log() string { return f.log.String() }

// Busy reports whether an invocation is under way, cold start included.
func (f *Function) Busy() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.busy
}

// Pid returns the id of the running process, 0 if there is none.
func (f *Function) Pid() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.proc == nil {
		return 0
	}
	return f.proc.cmd.Process.Pid
}

// Kill ends the process with SIGKILL and returns when it has gone. It reports whether that ended an invocation; without a
// process it does nothing.
func (f *Function) Kill() (ended bool) {
	f.mu.Lock()
	p := f.proc
	if p == nil {
		f.mu.Unlock()
		return false
	}
	f.proc, p.killed, ended = nil, true, f.busy
	_ = p.cmd.Process.Kill() // it may have died this moment
	f.mu.Unlock()
	<-p.dead
	return ended
}

// Close kills the process; no other is started.
func (f *Function) Close() {
	f.mu.Lock()
	f.closing = true
	f.mu.Unlock()
	f.Kill()
}

// Invoke runs one invocation, starting the process if there is none. killAfter > 0 kills the process after that time, if the
// invocation has not ended before. When ctx ends, the invocation goes on in the process: Kill ends it.
func (f *Function) Invoke(ctx context.Context, payload []byte, killAfter time.Duration) ([]byte, error) {
	p, err := f.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer f.end()
	f.n++
	c := &call{id: "request-" + strconv.Itoa(f.n), payload: payload, done: make(chan result, 1)}
	var killer <-chan time.Time
	if killAfter > 0 {
		timer := time.NewTimer(killAfter)
		defer timer.Stop()
		killer = timer.C
	}
	send := p.calls
	for {
		select {
		case send <- c:
			send = nil
		case r := <-c.done:
			return r.body, r.err
		case <-killer:
			f.Kill()
			return nil, ErrKilled
		case <-p.dead:
			return nil, f.bury(p)
		case <-ctx.Done():
			return nil, fmt.Errorf("invoke %s: %w", f.opts.Name, ctx.Err())
		}
	}
}

// begin returns the process to invoke, marked busy from its start on: a cold start is part of the invocation.
func (f *Function) begin(ctx context.Context) (*process, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closing {
		return nil, fmt.Errorf("invoke %s: %w", f.opts.Name, net.ErrClosed)
	}
	if f.proc == nil {
		p, err := f.start(ctx)
		if err != nil {
			return nil, fmt.Errorf("start %s: %w", f.opts.Name, err)
		}
		f.proc = p
	}
	f.busy = true
	return f.proc, nil
}

func (f *Function) end() {
	f.mu.Lock()
	f.busy = false
	f.mu.Unlock()
}

// bury forgets a dead process and says how it died.
func (f *Function) bury(p *process) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.proc == p {
		f.proc = nil
	}
	if p.killed {
		return ErrKilled
	}
	log := f.log.String()
	return fmt.Errorf("%w: %s: %s", ErrDied, f.opts.Name, log[max(0, len(log)-2000):])
}

// start starts a process and its Runtime API. The caller holds mu.
func (f *Function) start(ctx context.Context) (*process, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &process{calls: make(chan *call), dead: make(chan struct{})}
	p.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f.serve(p, w, r) }), ReadHeaderTimeout: time.Minute}
	p.cmd = exec.CommandContext(context.WithoutCancel(ctx), f.opts.Binary) // it outlives the invocation
	p.cmd.Env = append(slices.Clone(f.opts.Env), "AWS_LAMBDA_RUNTIME_API="+listener.Addr().String(),
		"AWS_LAMBDA_FUNCTION_NAME="+f.opts.Name, "_HANDLER=bootstrap", "PATH="+os.Getenv("PATH"))
	out := io.Writer(&f.log)
	if f.opts.Log != nil {
		out = io.MultiWriter(&f.log, f.opts.Log)
	}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	// A Ctrl-C at the terminal is for the test, which then ends its processes itself.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil { // before anything is served, so that its id is there for OnReady
		return nil, errors.Join(err, listener.Close())
	}
	go func() {
		_ = p.server.Serve(listener) // ends with the process
	}()
	go func() {
		_ = p.cmd.Wait() // of a signal, mostly
		_ = p.server.Close()
		close(p.dead)
	}()
	return p, nil
}

// Build compiles a package of the project (./functions/ingest/bootstrap) as it is deployed, but for this machine, to the file
// out. root is the top of the repository; another working folder does not matter.
func Build(ctx context.Context, root, pkg, out string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-tags", "lambda.norpc", "-o", out, pkg)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w: %s", pkg, err, text)
	}
	return nil
}
