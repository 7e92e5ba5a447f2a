package kafkaio_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"sync"
	"testing"
)

// proxy carries connections to one address, until they are dropped: with or without a word to the client.
type proxy struct {
	t        *testing.T
	to       string
	listener net.Listener

	mu     sync.Mutex
	passed int // connections ever
	open   []*carried
}

// carried is one connection. What is sent on a silent one arrives nowhere, and nobody says so.
type carried struct {
	client, server net.Conn
	silent         chan struct{}
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{t: t, to: to, listener: l}
	t.Cleanup(func() {
		_ = l.Close()
		p.drop()
	})
	go p.accept()
	return p
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", p.to)
		if err != nil {
			_ = client.Close()
			continue
		}
		c := &carried{client: client, server: server, silent: make(chan struct{})}
		p.mu.Lock()
		p.passed++
		p.open = append(p.open, c)
		p.mu.Unlock()
		go c.carry(server, client)
		go c.carry(client, server)
	}
}

func (c *carried) carry(to io.WriteCloser, from io.Reader) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		select {
		case <-c.silent:
			if err == nil {
				continue
			}
			return
		default:
		}
		if n > 0 {
			_, _ = to.Write(buffer[:n])
		}
		if err != nil {
			_ = to.Close()
			return
		}
	}
}

// dial goes through the proxy, whatever the address.
func (p *proxy) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, network, p.listener.Addr().String())
}

func (p *proxy) dialTLS(roots *x509.CertPool) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&tls.Dialer{Config: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}).DialContext(ctx, network, p.listener.Addr().String())
	}
}

// drop breaks all connections.
func (p *proxy) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.open {
		_, _ = c.client.Close(), c.server.Close()
	}
	p.open = nil
}

// freeze does to all connections what a firewall does that has forgotten them.
func (p *proxy) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.open {
		select {
		case <-c.silent:
		default:
			close(c.silent)
		}
	}
}

func (p *proxy) connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.passed
}
