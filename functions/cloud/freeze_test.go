package cloud

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// forgetful is a listener whose connections can be forgotten: nothing that is sent on them arrives any more, and nobody says so.
type forgetful struct {
	net.Listener

	mu    sync.Mutex
	conns []*forgotten
}

type forgotten struct {
	net.Conn
	closed, lost chan struct{}
	once         sync.Once
}

// Accept implements net.Listener.
func (l *forgetful) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	f := &forgotten{Conn: c, closed: make(chan struct{}), lost: make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, f)
	return f, nil
}

// Read implements net.Conn.
func (f *forgotten) Read(b []byte) (int, error) {
	n, err := f.Conn.Read(b)
	select {
	case <-f.lost:
		<-f.closed
		return 0, io.EOF
	default:
		return n, err
	}
}

// Close implements net.Conn.
func (f *forgotten) Close() error {
	f.once.Do(func() { close(f.closed) })
	return f.Conn.Close()
}

// forget returns how many connections there were.
func (l *forgetful) forget() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.conns {
		close(f.lost)
	}
	n := len(l.conns)
	l.conns = nil
	return n
}

// A connection that was idle for longer than it may be is not used again: the first call after a freeze does not wait for an
// answer that cannot come. With the limit far away, as the check of this test, it does.
func TestTheFirstCallAfterAFreezeUsesANewConnection(t *testing.T) {
	t.Parallel()
	for name, idle := range map[string]time.Duration{"idle for too long": 50 * time.Millisecond, "not yet": time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			between := &forgetful{}
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) }))
			between.Listener = server.Listener
			server.Listener = between
			server.Start()
			t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
			vars := map[string]string{envRegion: "eu-west-1", envKey: "AKID", envSecret: "key", envEndpoint: server.URL}
			c := New(func(name string) string { return vars[name] })
			transport, ok := c.http.Transport.(*http.Transport)
			if !ok || transport.IdleConnTimeout > time.Minute {
				t.Fatalf("connections may be idle for longer than firewalls remember them: %+v", transport)
			}
			transport.IdleConnTimeout = idle
			transport.ResponseHeaderTimeout = time.Second
			invoke, err := c.Invoker("fire")
			if err != nil {
				t.Fatal(err)
			}
			if err := invoke(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			if n := between.forget(); n != 1 {
				t.Fatalf("%d connections", n)
			}
			thaw := time.NewTimer(100 * time.Millisecond)
			<-thaw.C
			began := time.Now()
			if err := invoke(t.Context(), nil); err != nil {
				t.Fatal(err) // the call is tried again on another connection
			}
			if waited := time.Since(began) >= transport.ResponseHeaderTimeout; waited != (idle > time.Minute) {
				t.Errorf("a dead connection was waited for: %v, after %s", waited, time.Since(began))
			}
		})
	}
}
