package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"
)

// box is what an environment runs in. kill may be called at any time and more than once.
type box interface {
	pid() int // 0: not known
	// ended is closed once it has gone; state then says how, as Lambda would: "exit status 1", "signal: killed".
	ended() <-chan struct{}
	state() string
	kill()
	terminate() // SIGTERM
	freeze()
	thaw()
	memory() (now, most int64) // bytes; 0: not known
	drain()                    // has the lines that it has written so far told
}

// launcher starts boxes. line is called for each line that one writes, by one goroutine at a time.
type launcher interface {
	listen(ctx context.Context) (net.Listener, error)
	launch(ctx context.Context, api string, line func(string)) (box, error)
	close()
}

// environment is one execution environment. Each has a Runtime API of its own, so that what a dead one still asks for is never
// taken for its successor's. Fields that change are guarded by Function.mu.
type environment struct {
	f      *Function
	number int
	box    box // nil: a guest's
	server *http.Server
	calls  chan *call
	ready  chan struct{} // closed when it first asks for an invocation
	dead   chan struct{} // closed when it has gone

	warm       bool // ready is closed
	cold       bool // a guest's first
	busy       bool // an invocation is under way
	gone       bool
	registered bool  // an extension is to be told of its end
	killed     error // why the host ended it; nil: it was not the host
	initError  *FunctionError
	current    *call
	lines      lines // of the invocation under way, cold start included
	most       int64 // bytes it took at most
}

// call is an invocation under way. What changes is guarded by Function.mu until done is closed.
type call struct {
	Request
	complete chan struct{} // closed when the function has answered and asks for more
	done     chan struct{} // closed when all is settled

	deadline time.Time
	answered bool
	expired  bool // its caller was told that it timed out
	body     []byte
	err      error
	report   Report
}

// errSlow is why a cold start was ended that took too long.
var errSlow = errors.New("host: the cold start took too long")

// take counts a call and returns a warm environment for it; nil: one has to be started.
func (f *Function) take(ctx context.Context, c *call) (*environment, error) {
	f.mu.Lock()
	switch {
	case f.closed:
		f.mu.Unlock()
		return nil, ErrClosed
	case f.opts.Concurrency > 0 && f.taken >= f.opts.Concurrency:
		f.mu.Unlock()
		return nil, ErrThrottled
	}
	f.taken++
	f.calls[c.ID] = c
	f.work.Add(1) // conduct or forget is its end
	if n := len(f.idle); n > 0 {
		e := f.idle[n-1]
		f.idle = f.idle[:n-1]
		e.busy, e.lines = true, lines{}
		f.mu.Unlock()
		return e, nil
	}
	if f.guests == nil {
		f.mu.Unlock()
		return nil, nil //nolint:nilnil // one has to be started
	}
	w := make(chan *environment, 1)
	f.waiters = append(f.waiters, w)
	f.mu.Unlock()
	e, err := f.await(ctx, w)
	if err != nil {
		f.forget(c)
		f.work.Done()
	}
	return e, err
}

// forget stops counting a call. One that timed out may still be answered, and is known until its environment has gone.
func (f *Function) forget(c *call) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !c.expired {
		f.taken--
		delete(f.calls, c.ID)
	}
}

// conduct takes a call through its life, in an environment that is warm, or in a new one. It does not end with a context.
func (f *Function) conduct(ctx context.Context, e *environment, c *call) {
	defer f.work.Done()
	defer close(c.done)
	body, err := f.phases(ctx, e, c)
	f.forget(c)
	if err != nil {
		err = fmt.Errorf("invoke %s: %w", f.opts.Name, err)
	}
	c.body, c.err, c.report.Err = body, err, err
	if f.opts.OnReport != nil {
		f.opts.OnReport(c.report)
	}
}

// after is when an enforced time is up.
func (f *Function) after(d time.Duration) <-chan time.Time {
	if f.opts.Lenient {
		return nil
	}
	return time.After(d)
}

// phases are cold start and invocation.
func (f *Function) phases(ctx context.Context, e *environment, c *call) ([]byte, error) {
	for {
		begun, limit := time.Now(), f.after(f.opts.Timeout)
		if e == nil {
			var err error
			if e, err = f.coldStart(ctx, c, f.after(f.opts.InitLimit)); err == nil {
				c.report.Init = time.Since(begun)
			}
			begun, limit = time.Now(), f.after(f.opts.Timeout)
			var died *FunctionError
			if !f.opts.Lenient && (errors.Is(err, errSlow) || errors.As(err, &died)) {
				if e, err = f.coldStart(ctx, c, limit); errors.Is(err, errSlow) { // now on the invocation's time
					err = f.timedOut(c)
				}
			}
			if err != nil {
				f.finish(e, c, begun)
				return nil, err
			}
		}
		body, err := f.run(e, c, begun, limit)
		if !errors.Is(err, errUndelivered) {
			return body, err
		}
		// It had died while nothing ran in it.
		if e = nil; f.guests != nil {
			return nil, fmt.Errorf("%w: the environment has gone", ErrThrottled)
		}
	}
}

// coldStart starts an environment and waits until it asks for its first invocation. An error has ended it.
func (f *Function) coldStart(ctx context.Context, c *call, limit <-chan time.Time) (*environment, error) {
	e, err := f.start(ctx)
	f.mu.Lock()
	if !c.report.Cold {
		c.report.Cold = true
		f.colds++
	}
	f.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("cold start: %w", err)
	}
	select {
	case <-e.ready:
		return e, nil
	case <-e.dead:
	case <-limit:
		f.mu.Lock()
		if e.killed == nil {
			e.killed = errSlow
		}
		f.mu.Unlock()
		e.shutdown()
	}
	return e, f.death(e, c)
}

// errUndelivered is returned for a call that its environment did not live to see.
var errUndelivered = errors.New("host: not delivered")

// run hands a call to its environment and sees it through.
func (f *Function) run(e *environment, c *call, begun time.Time, limit <-chan time.Time) ([]byte, error) {
	f.mu.Lock()
	c.deadline = time.Now().Add(f.opts.Timeout)
	if e.cold {
		c.report.Cold = true
		f.colds++
	}
	f.mu.Unlock()
	if f.opts.Freeze && e.box != nil {
		e.box.thaw()
	}
	select {
	case e.calls <- c:
	case <-e.dead:
		f.mu.Lock()
		killed := e.killed
		f.mu.Unlock()
		if killed != nil {
			f.finish(e, c, begun)
			return nil, killed
		}
		return nil, errUndelivered
	}
	select {
	case <-c.complete:
		f.finish(e, c, begun)
		f.release(e)
	case <-e.dead:
		f.finish(e, c, begun)
	case <-limit:
		if f.expire(c) {
			f.finish(e, c, begun)
			f.work.Go(func() { e.linger(f.opts.Overrun, c) })
			return nil, f.timedOut(c)
		}
		// It has its answer, and the function does not ask for more: the environment is not used again.
		f.finish(e, c, begun)
		f.work.Go(e.shutdown)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case c.answered:
		return c.body, c.err
	case e.gone:
		return nil, f.deathLocked(e, c)
	}
	return nil, told(c.ID, typeSilent, "the runtime asked for an invocation and had not answered", nil)
}

// expire marks a call that was not answered in time, and reports whether that is so.
func (f *Function) expire(c *call) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c.answered {
		return false
	}
	c.expired = true
	f.taken--
	return true
}

// finish completes the report of a call.
func (f *Function) finish(e *environment, c *call, begun time.Time) {
	r := &c.report
	r.Duration = time.Since(begun)
	r.Billed = (r.Duration + r.Init + time.Millisecond - 1).Truncate(time.Millisecond)
	if e == nil {
		return
	}
	var most int64
	if e.box != nil {
		e.box.drain()
		_, most = e.box.memory()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	e.most = max(e.most, most)
	r.Environment, r.MaxMemory = e.number, int((e.most+1<<20-1)>>20)
	if e.box != nil {
		r.Pid = e.box.pid()
	}
	if errors.Is(e.killed, ErrMemory) {
		r.MaxMemory = r.Memory
	}
	r.Lines, r.Dropped = e.lines.take()
	e.current = nil
}

// release lets an environment wait for its next call.
func (f *Function) release(e *environment) {
	if e.box == nil {
		f.depart(e) // it comes again by itself
		return
	}
	if f.opts.Freeze {
		e.box.freeze()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	e.busy = false
	if !e.gone && e.killed == nil {
		f.idle = append(f.idle, e)
	}
}

func (f *Function) timedOut(c *call) error {
	return told(c.ID, typeTimeout, fmt.Sprintf("Task timed out after %.2f seconds", f.opts.Timeout.Seconds()), ErrTimeout)
}

func (f *Function) death(e *environment, c *call) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.deathLocked(e, c)
}

// lastWords is how much of the log the error of a death has, in bytes.
const lastWords = 2000

// deathLocked says why an environment ended. The lock is held.
func (f *Function) deathLocked(e *environment, c *call) error {
	cause := ErrDied
	switch {
	case errors.Is(e.killed, ErrMemory):
		cause = errors.Join(ErrDied, ErrMemory)
	case e.killed != nil:
		return e.killed
	case e.initError != nil:
		return e.initError
	}
	how := "the connection was closed"
	if e.box != nil {
		how = e.box.state()
	}
	err := told(c.ID, typeExit, "Runtime exited with error: "+how, cause)
	log := f.log.String()
	err.log = log[max(0, len(log)-lastWords):]
	return err
}

// start starts an environment, marked busy: a cold start is part of its first call.
func (f *Function) start(ctx context.Context) (*environment, error) {
	listener, err := f.boxes.listen(ctx)
	if err != nil {
		return nil, err
	}
	e := &environment{f: f, busy: true, calls: make(chan *call), ready: make(chan struct{}), dead: make(chan struct{})}
	e.server = &http.Server{Handler: e.api(), ReadHeaderTimeout: time.Minute}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, errors.Join(ErrClosed, listener.Close())
	}
	// Under the lock, so that its process id is there before it can ask for anything.
	if e.box, err = f.boxes.launch(ctx, listener.Addr().String(), func(text string) { f.line(e, text) }); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	f.number++
	e.number = f.number
	f.all[e] = struct{}{}
	go func() { _ = e.server.Serve(listener) }() // ends with the environment
	f.work.Go(e.watch)
	return e, nil
}

// lookEvery is the distance of looks at an environment's memory.
const lookEvery = 20 * time.Millisecond

// watch waits for the environment's end, and brings it about where it takes too much memory.
func (e *environment) watch() {
	f := e.f
	var look <-chan time.Time
	if f.opts.Memory > 0 {
		ticker := time.NewTicker(lookEvery)
		defer ticker.Stop()
		look = ticker.C
	}
	for ended := false; !ended; {
		select {
		case <-e.box.ended():
			ended = true
		case <-look:
			now, most := e.box.memory()
			f.mu.Lock()
			e.most = max(e.most, now, most)
			if now > int64(f.opts.Memory)<<20 && e.killed == nil {
				e.killed = ErrMemory
				e.box.kill()
			}
			f.mu.Unlock()
		}
	}
	e.box.drain()
	_ = e.server.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	e.gone = true
	delete(f.all, e)
	f.idle = slices.DeleteFunc(f.idle, func(o *environment) bool { return o == e })
	close(e.dead)
}

// linger leaves an environment alone for a while, although its call has timed out, and then ends it.
func (e *environment) linger(d time.Duration, c *call) {
	select {
	case <-time.After(d):
		e.shutdown()
	case <-e.dead:
	}
	e.f.mu.Lock()
	delete(e.f.calls, c.ID)
	e.f.mu.Unlock()
}

// shutdown ends an environment as Lambda does, and returns when it has gone.
func (e *environment) shutdown() {
	f := e.f
	f.mu.Lock()
	b, registered := e.box, e.registered
	if e.killed == nil {
		e.killed = ErrClosed
	}
	f.mu.Unlock()
	if b == nil {
		return
	}
	b.thaw()
	if registered {
		b.terminate()
		select {
		case <-e.dead:
			return
		case <-time.After(shutdownWithin):
		}
	}
	b.kill()
	<-e.dead
}

// line takes a line that an environment has written.
func (f *Function) line(e *environment, text string) {
	f.mu.Lock()
	e.lines.add(text)
	f.mu.Unlock()
	f.log.line(text, f.opts.Log)
}

// pids are the process ids of what is there. The lock is held.
func (f *Function) pids() []int {
	var all []*environment
	for e := range f.all {
		if e.box != nil && e.box.pid() > 0 {
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b *environment) int { return a.number - b.number })
	out := make([]int, len(all))
	for i, e := range all {
		out[i] = e.box.pid()
	}
	return out
}
