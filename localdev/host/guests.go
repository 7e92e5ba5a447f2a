package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// Open returns a function whose environments come by themselves: they ask for work at Options.Listen, as a container of Lambda's
// base image does whose AWS_LAMBDA_RUNTIME_API names that address. Time-outs are enforced for callers alone: nothing is killed,
// frozen or measured, and logs are the containers' own.
func Open(ctx context.Context, o Options) (*Function, error) {
	f := New(o)
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("runtime API of %s: %w", o.Name, err)
	}
	g := &guests{f: f, hosts: map[string]bool{}, address: listener.Addr().String()}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /2018-06-01/runtime/invocation/next", g.next)
	mux.HandleFunc("POST /2018-06-01/runtime/init/error", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) })
	mux.HandleFunc("POST /2020-01-01/extension/register", func(w http.ResponseWriter, r *http.Request) { f.registered(w, r.Header.Get(headerName)) })
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	f.answers(mux)
	g.server = &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute, ConnState: g.state, ConnContext: func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, c)
	}}
	f.guests = g
	f.work.Go(func() { _ = g.server.Serve(listener) }) // until it is closed
	return f, nil
}

// Address is where the Runtime API of a function listens whose environments come by themselves; "" for others.
func (f *Function) Address() string {
	if f.guests == nil {
		return ""
	}
	return f.guests.address
}

type connKey struct{}

// guests are environments that come by themselves. Each ask for an invocation is one that waits.
type guests struct {
	f       *Function
	server  *http.Server
	address string

	mu    sync.Mutex
	hosts map[string]bool // which are known to be warm
	conns sync.Map        // net.Conn -> *delivery, of invocations that went over them last
}

type delivery struct {
	call *call
	e    *environment
	at   time.Time
}

// idleConnections is less than what the runtime client keeps an idle connection for, which is 90 s: what closes one sooner has died.
const idleConnections = 80 * time.Second

// await waits for a guest. It waits as long as a cold start may take: one may be on its way.
func (f *Function) await(ctx context.Context, w chan *environment) (*environment, error) {
	timer := time.NewTimer(f.opts.InitLimit)
	defer timer.Stop()
	var err error
	select {
	case e, ok := <-w:
		if !ok {
			return nil, ErrClosed
		}
		return e, nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-timer.C:
		err = fmt.Errorf("%w: no environment asked for work within %s", ErrThrottled, f.opts.InitLimit)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, o := range f.waiters {
		if o == w {
			f.waiters = append(f.waiters[:i], f.waiters[i+1:]...)
			return nil, err
		}
	}
	// It came this moment, or everything ends.
	if e, ok := <-w; ok {
		return e, nil
	}
	return nil, ErrClosed
}

// next is a guest that asks for an invocation.
func (g *guests) next(w http.ResponseWriter, r *http.Request) {
	f := g.f
	host, _, _ := net.SplitHostPort(r.RemoteAddr) // it is one
	conn, _ := r.Context().Value(connKey{}).(net.Conn)
	e := &environment{f: f, calls: make(chan *call), dead: make(chan struct{})}
	g.mu.Lock()
	cold := !g.hosts[host]
	g.hosts[host] = true
	g.mu.Unlock()
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return
	}
	if cold {
		f.number++
	}
	e.number, e.cold = f.number, cold
	f.all[e] = struct{}{}
	if len(f.waiters) > 0 {
		e.busy = true
		f.waiters[0] <- e
		f.waiters = f.waiters[1:]
	} else {
		f.idle = append(f.idle, e)
	}
	f.mu.Unlock()
	select {
	case c := <-e.calls:
		g.conns.Store(conn, &delivery{c, e, time.Now()})
		f.hand(w, c)
	case <-r.Context().Done():
		g.leave(host, e)
	}
}

// leave takes note of a guest that has gone.
func (g *guests) leave(host string, e *environment) {
	g.mu.Lock()
	delete(g.hosts, host)
	g.mu.Unlock()
	g.f.depart(e)
}

// depart marks an environment as gone.
func (f *Function) depart(e *environment) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e.gone {
		return
	}
	e.gone = true
	delete(f.all, e)
	for i, o := range f.idle {
		if o == e {
			f.idle = append(f.idle[:i], f.idle[i+1:]...)
			break
		}
	}
	close(e.dead)
}

// state follows connections: one that is closed while an invocation that it brought is not answered was that of an environment
// that died.
func (g *guests) state(conn net.Conn, s http.ConnState) {
	if s != http.StateClosed {
		return
	}
	v, ok := g.conns.LoadAndDelete(conn)
	if !ok {
		return
	}
	d, ok := v.(*delivery)
	if !ok || time.Since(d.at) > idleConnections {
		return
	}
	g.f.mu.Lock()
	answered := d.call.answered || d.call.expired
	g.f.mu.Unlock()
	if host, _, err := net.SplitHostPort(conn.RemoteAddr().String()); err == nil && !answered {
		g.leave(host, d.e)
	}
}

func (g *guests) close() {
	err := g.server.Close()
	if err != nil && !errors.Is(err, net.ErrClosed) {
		g.f.log.line("runtime API: "+err.Error(), g.f.opts.Log)
	}
}
