// Package host runs the real bootstrap binaries as Lambda does: execution environments behind the Runtime API, one for each
// invocation that runs at a time, reused while they are warm, frozen in between, and replaced when they have died. What an
// invocation came to is told as Lambda tells it.
//
// An environment is a process of this machine, a container that the host starts (Options.Container), or one that comes by itself
// and asks for work at a known address (Options.Listen).
package host

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// Sentinels.
var (
	// ErrKilled is returned by an invocation whose environment Kill has ended.
	ErrKilled = errors.New("host: the function was killed")
	// ErrClosed is returned by invocations once Close was called.
	ErrClosed = errors.New("host: the function is closed")
	// ErrThrottled is returned where as many invocations run as may. Nothing was begun: try again later.
	ErrThrottled = errors.New("host: rate exceeded")
	// ErrFunction is wrapped by the error of an invocation that failed as a caller of Lambda sees it: see FunctionError.
	ErrFunction = errors.New("host: function error")
	// ErrDied is wrapped by the error of an invocation whose environment ended by itself: it could not start, it crashed, or it
	// took more memory than it has. The text has the end of its log.
	ErrDied = errors.New("host: the function died by itself")
	// ErrTimeout is wrapped by the error of an invocation that overran the function's time-out.
	ErrTimeout = errors.New("host: the function timed out")
	// ErrMemory is wrapped, beside ErrDied, where the environment was ended for the memory it took.
	ErrMemory = errors.New("host: the function ran out of memory")
	// ErrNotSupported is returned where this system cannot run the environments asked for.
	ErrNotSupported = errors.New("host: not supported on this system")
)

// Bounds, as Lambda has them.
const (
	// InitLimit is how long a cold start may take. One that takes longer is ended and begun again within the first invocation,
	// on its time.
	InitLimit = 10 * time.Second
	// MaxResponse is the longest response that is taken, in bytes.
	MaxResponse = 6<<20 + 100
	// shutdownWithin is what an environment has between SIGTERM and SIGKILL, if it registered an extension; else it has nothing.
	shutdownWithin = 500 * time.Millisecond
)

// Defaults of Options.
const (
	DefaultRegion  = "us-east-1"
	DefaultAccount = "123456789012"
	// DefaultOverrun is how long a process goes on after its invocation has timed out.
	DefaultOverrun = 2 * time.Second
)

// Options describe a function. The zero value of everything but Name and Binary is usable.
type Options struct {
	Name   string // AWS_LAMBDA_FUNCTION_NAME, and the function's name in messages
	Binary string // path of the bootstrap, as Build returns it
	// TaskRoot is the working folder, which is LAMBDA_TASK_ROOT, too; "": that of the binary.
	TaskRoot string
	Env      []string // NAME=value, beside what Lambda sets; they win
	Region   string   // "": DefaultRegion

	// Timeout of each invocation; 0: 3 s, as Lambda has it.
	Timeout time.Duration
	// Overrun is how long the environment of an invocation that timed out goes on, before it is ended. Its caller has been told,
	// and may have invoked again: the two overlap, as they do on Lambda. 0: DefaultOverrun; < 0: it is ended at once.
	Overrun time.Duration
	// Memory in MiB. An environment that takes more is killed. 0: 128 is what it is told, and nobody looks.
	Memory int
	// Concurrency is how many invocations may run at a time; more are ErrThrottled. One that timed out counts no longer.
	// 0: as many as come.
	Concurrency int
	// Freeze stops an environment (SIGSTOP) that waits for its next invocation, and thaws it then.
	Freeze bool
	// InitLimit is how long a cold start may take; 0: InitLimit of the package.
	InitLimit time.Duration
	// Lenient: time-out and bound of the cold start are told and not enforced, and a cold start that fails is not tried again.
	// For tests that end environments themselves.
	Lenient bool

	LogFormat, LogLevel string // AWS_LAMBDA_LOG_FORMAT and _LEVEL; "": Text and unset

	// Container runs the environments in containers; nil: in processes.
	Container *Container
	// Listen is the address of a Runtime API for environments that come by themselves; "": the host starts them.
	Listen string

	Log io.Writer // if not nil, gets all output as well, a line at a time
	// OnReady, if not nil, is called with the process id of an environment once it asks for its first invocation: its cold start
	// is over.
	OnReady func(pid int)
	// OnReport, if not nil, is told what each invocation came to. It must not call the function.
	OnReport func(Report)
}

// Request is an invocation to be.
type Request struct {
	ID            string // "": a new one
	Payload       []byte // JSON; it must not be changed before the invocation has ended
	ClientContext string // JSON; "": none
}

// WithDefaultPayload returns the request with {} for an empty payload, as Lambda's API has it.
func (q Request) WithDefaultPayload() Request {
	if len(q.Payload) == 0 {
		q.Payload = []byte("{}")
	}
	return q
}

// Function is one function. Its methods are safe for concurrent use.
type Function struct {
	opts  Options
	boxes launcher
	log   tail

	mu      sync.Mutex
	closed  bool
	number  int            // of environments that were started
	taken   int            // invocations that count against Concurrency
	colds   int            // invocations that began with a cold start
	idle    []*environment // warm ones, the one used last at the end
	all     map[*environment]struct{}
	calls   map[string]*call // by request id, until they are complete
	waiters []chan *environment
	guests  *guests

	closing sync.Once
	work    sync.WaitGroup // invocations and environments that end
}

// New returns a function without an environment: the first invocation starts one. With Options.Listen use Open.
func New(o Options) *Function {
	if o.Timeout <= 0 {
		o.Timeout = 3 * time.Second
	}
	if o.Overrun == 0 {
		o.Overrun = DefaultOverrun
	}
	if o.InitLimit <= 0 {
		o.InitLimit = InitLimit
	}
	if o.Region == "" {
		o.Region = DefaultRegion
	}
	f := &Function{opts: o, all: map[*environment]struct{}{}, calls: map[string]*call{}}
	f.boxes = newProcesses(f)
	if o.Container != nil {
		f.boxes = newContainers(f)
	}
	return f
}

// Name is the function's name.
func (f *Function) Name() string { return f.opts.Name }

// ARN is the function's ARN.
func (f *Function) ARN() string {
	return "arn:aws:lambda:" + f.opts.Region + ":" + DefaultAccount + ":function:" + f.opts.Name
}

// Timeout is the time-out of its invocations.
func (f *Function) Timeout() time.Duration { return f.opts.Timeout }

// Log returns the end of what the function has written, over all of its environments.
func (f *Function) Log() string { return f.log.String() }

// ColdStarts is how many invocations began with a cold start.
func (f *Function) ColdStarts() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.colds
}

// Busy reports whether an invocation is under way, cold start included.
func (f *Function) Busy() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.taken > 0
}

// Pids returns the ids of the processes that are there, the newest last.
func (f *Function) Pids() []int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pids()
}

// Pid returns the id of the newest process, 0 if there is none.
func (f *Function) Pid() int {
	if pids := f.Pids(); len(pids) > 0 {
		return pids[len(pids)-1]
	}
	return 0
}

// Kill ends all environments with SIGKILL and returns when they have gone. It reports whether that ended an invocation; without
// an environment it does nothing.
func (f *Function) Kill() (ended bool) {
	f.mu.Lock()
	var gone []*environment
	for e := range f.all {
		if e.box == nil {
			continue // a guest is not ours
		}
		e.killed = ErrKilled
		ended = ended || e.busy
		e.box.kill()
		gone = append(gone, e)
	}
	f.mu.Unlock()
	for _, e := range gone {
		<-e.dead
	}
	return ended
}

// Close ends all environments as Lambda does when it shuts them down: those that registered an extension are told by SIGTERM and
// have 500 ms, the others are killed. Invocations under way end with ErrClosed. It returns when everything has gone.
func (f *Function) Close() {
	f.mu.Lock()
	f.closed = true
	var visitors []*environment
	for e := range f.all {
		if e.killed == nil {
			e.killed = ErrClosed
		}
		if e.box == nil {
			visitors = append(visitors, e)
			continue
		}
		f.work.Go(e.shutdown)
	}
	for _, w := range f.waiters {
		close(w)
	}
	f.waiters = nil
	f.mu.Unlock()
	for _, e := range visitors {
		f.depart(e)
	}
	if f.guests != nil {
		f.guests.close()
	}
	f.work.Wait()
	f.closing.Do(f.boxes.close)
}

// Invoke runs one invocation and returns its response.
func (f *Function) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	body, _, err := f.Do(ctx, Request{Payload: payload})
	return body, err
}

// Do runs one invocation: in a warm environment if there is one, else in a new one. It returns when the invocation is complete,
// which is when the function asks for the next one. When ctx ends before, the caller is told, and the invocation goes on.
func (f *Function) Do(ctx context.Context, q Request) ([]byte, Report, error) {
	if q.ID == "" {
		q.ID = NewRequestID()
	}
	c := &call{Request: q, complete: make(chan struct{}), done: make(chan struct{})}
	c.report = Report{Function: f.opts.Name, Request: q.ID, Begun: time.Now(), Memory: f.memory()}
	begun := c.report // what is known already, for a caller who leaves
	e, err := f.take(ctx, c)
	if err != nil {
		return nil, begun, fmt.Errorf("invoke %s: %w", f.opts.Name, err)
	}
	go f.conduct(context.WithoutCancel(ctx), e, c)
	select {
	case <-c.done:
		return c.body, c.report, c.err
	case <-ctx.Done():
		return nil, begun, fmt.Errorf("invoke %s: %w", f.opts.Name, ctx.Err())
	}
}

// NewRequestID returns a random UUID, which is the form of request ids.
func NewRequestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails: see crypto/rand
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// defaultMemory is what Lambda gives a function that asks for nothing, in MiB.
const defaultMemory = 128

func (f *Function) memory() int {
	if f.opts.Memory > 0 {
		return f.opts.Memory
	}
	return defaultMemory
}
