package crash

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

// trap waits for one call and springs once, in the goroutine that carries the call: nothing moves on that connection meanwhile.
type trap struct {
	point
	skip   int                   // how many such calls pass before
	action func(instance string) // what happens; afterwards the connection is cut

	once   sync.Once
	sprung chan struct{} // closed after the action
}

func newTrap(p point, skip int, action func(instance string)) *trap {
	return &trap{point: p, skip: skip, action: action, sprung: make(chan struct{})}
}

// snares holds the traps that are set, and counts the calls. It is safe for concurrent use.
type snares struct {
	table *table
	mu    sync.Mutex
	traps []*trap
	err   error // what a proxy did not understand
}

// misread notes that a proxy did not understand what it carries: from there on calls are missing in the table.
func (s *snares) misread(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
}

func (s *snares) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *snares) set(t *trap) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.traps = append(s.traps, t)
}

// clear takes a trap away; false if it has sprung, or springs this moment.
func (s *snares) clear(t *trap) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, o := range s.traps {
		if o == t {
			s.traps = append(s.traps[:i:i], s.traps[i+1:]...)
			return true
		}
	}
	return false
}

// passes is asked about every call on both sides. False: a trap has sprung, and the call ends here.
func (s *snares) passes(p point, instance string) bool {
	if p.when == before {
		s.table.note(p)
	}
	s.mu.Lock()
	for i, t := range s.traps {
		if t.point != p {
			continue
		}
		if t.skip > 0 {
			t.skip--
			break
		}
		s.traps = append(s.traps[:i:i], s.traps[i+1:]...)
		s.mu.Unlock()
		t.once.Do(func() {
			t.action(instance)
			close(t.sprung)
		})
		return false
	}
	s.mu.Unlock()
	return true
}

// proxy stands between one function and one server. The function's address for the server never changes; where the proxy leads
// to can.
type proxy struct {
	instance string // name of the function
	at       point  // function and server of its calls
	wire     wire
	snares   *snares
	listener net.Listener

	mu    sync.Mutex
	to    string
	conns map[net.Conn]struct{}
	wg    sync.WaitGroup
}

// newProxy listens on a free port. It leads nowhere until lead is called.
func newProxy(ctx context.Context, instance string, at point, w wire, s *snares) (*proxy, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("proxy of %s for %s: %w", instance, at.server, err)
	}
	p := &proxy{instance: instance, at: at, wire: w, snares: s, listener: l, conns: map[net.Conn]struct{}{}}
	p.wg.Go(p.accept)
	return p, nil
}

func (p *proxy) address() string { return p.listener.Addr().String() }

// lead sends new connections to another server ("" to none) and cuts those there are.
func (p *proxy) lead(to string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.to = to
	for c := range p.conns {
		_ = c.Close() // both directions end, and remove them
	}
}

// close ends the proxy and waits for its connections.
func (p *proxy) close() {
	_ = p.listener.Close()
	p.lead("")
	p.wg.Wait()
}

func (p *proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		p.wg.Go(func() { p.carry(c) })
	}
}

// track remembers a connection, so that lead can cut it; false if it is too late.
func (p *proxy) track(c net.Conn, to string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.to != to || to == "" {
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *proxy) drop(c net.Conn) {
	_ = c.Close()
	p.mu.Lock()
	delete(p.conns, c)
	p.mu.Unlock()
}

// carry serves one connection of the function until either side ends it or a trap springs.
func (p *proxy) carry(client net.Conn) {
	defer p.drop(client)
	p.mu.Lock()
	to := p.to
	p.mu.Unlock()
	if !p.track(client, to) {
		return
	}
	server, err := (&net.Dialer{Timeout: 2 * time.Second}).DialContext(context.Background(), "tcp", to)
	if err != nil {
		return // the function sees a connection that ends at once
	}
	defer p.drop(server)
	if !p.track(server, to) {
		return
	}
	calls := make(chan string, 10_000) // asked and not yet answered, in order
	var wg sync.WaitGroup
	wg.Go(func() {
		defer p.drop(client)
		defer p.drop(server)
		defer close(calls)
		p.requests(client, server, calls)
	})
	p.answers(server, client, calls)
	p.drop(client)
	p.drop(server)
	wg.Wait()
}

func (p *proxy) requests(client, server net.Conn, calls chan<- string) {
	r := bufio.NewReaderSize(client, 64<<10)
	for {
		frame, call, err := p.wire.request(r)
		if err != nil {
			if errors.Is(err, errFrame) {
				p.snares.misread(fmt.Errorf("a request of %s to %s: %w", p.instance, p.at.server, err))
			}
			return
		}
		if !p.passes(call, before) {
			return
		}
		select {
		case calls <- call:
		default:
			p.snares.misread(fmt.Errorf("%s asks %s without waiting for answers: %w", p.instance, p.at.server, errFrame))
			return
		}
		if _, err := server.Write(frame); err != nil {
			return
		}
	}
}

func (p *proxy) answers(server, client net.Conn, calls <-chan string) {
	r := bufio.NewReaderSize(server, 64<<10)
	for {
		frame, tried, err := p.wire.answer(r)
		if err != nil {
			if errors.Is(err, errFrame) {
				p.snares.misread(fmt.Errorf("an answer of %s to %s: %w", p.at.server, p.instance, err))
			}
			return
		}
		call, ok := <-calls
		if !ok || (tried && !p.passes(call, after)) {
			return
		}
		if _, err := client.Write(frame); err != nil {
			return
		}
	}
}

func (p *proxy) passes(call string, w when) bool {
	if slices.Contains(handshakes, call) {
		return true
	}
	at := p.at
	at.call, at.when = call, w
	return p.snares.passes(at, p.instance)
}
