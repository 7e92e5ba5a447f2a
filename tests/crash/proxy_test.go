package crash

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
)

// echo answers every command with +WORD, in order, and says what it was asked.
type echo struct {
	net.Listener
	mu    sync.Mutex
	asked []string
}

func startEcho(t *testing.T) *echo {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{Listener: l}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { e.serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return e
}

func (e *echo) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		_, args, err := respCommand(r)
		if err != nil {
			return
		}
		e.mu.Lock()
		e.asked = append(e.asked, string(args[0]))
		e.mu.Unlock()
		_, _ = c.Write([]byte("+" + string(args[0]) + "\r\n"))
	}
}

func (e *echo) words() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.asked)
}

func command(word string) []byte { return []byte("*1\r\n$3\r\n" + word + "\r\n") }

// dialProxy is a function's connection to a server through a proxy.
func dialProxy(t *testing.T, s *snares, to string) (*proxy, net.Conn) {
	t.Helper()
	p, err := newProxy(t.Context(), "ingest-a", point{function: ingest, server: redisServer}, redisWire{}, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	p.lead(to)
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", p.address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return p, c
}

func TestTrapSpringsOnTheRightSideOfACall(t *testing.T) {
	for _, c := range []struct {
		when     when
		answers  string
		reached  []string
		skip     int
		commands string
	}{
		{before, "+AAA\r\n", []string{"AAA"}, 0, "AAA BBB CCC"},
		{after, "+AAA\r\n", []string{"AAA", "BBB"}, 0, "AAA BBB CCC"},
		{before, "+BBB\r\n+AAA\r\n", []string{"BBB", "AAA"}, 1, "BBB AAA BBB"},
	} {
		e := startEcho(t)
		s := &snares{table: newTable(true)}
		_, conn := dialProxy(t, s, e.Addr().String())
		var who string
		trap := newTrap(point{ingest, redisServer, "BBB", c.when}, c.skip, func(name string) { who = name })
		s.set(trap)
		var answers []byte
		r := bufio.NewReader(conn)
		for word := range strings.SplitSeq(c.commands, " ") { // one after the other, as a function asks
			if _, err := conn.Write(command(word)); err != nil {
				break
			}
			line, err := r.ReadBytes('\n')
			if err != nil {
				break
			}
			answers = append(answers, line...)
		}
		<-trap.sprung
		if string(answers) != c.answers || !slices.Equal(e.words(), c.reached) || who != "ingest-a" {
			t.Errorf("%s: answers %q, the server was asked %v, %q died", c.when, answers, e.words(), who)
		}
		if s.clear(trap) {
			t.Errorf("%s: the trap is still set", c.when)
		}
	}
}

func TestProxyCutsConnectionsWhenItLeadsElsewhere(t *testing.T) {
	first, second := startEcho(t), startEcho(t)
	s := &snares{table: newTable(true)}
	p, conn := dialProxy(t, s, first.Addr().String())
	if _, err := conn.Write(command("AAA")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	p.lead(second.Addr().String())
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the old connection goes on")
	}
	again, err := new(net.Dialer).DialContext(t.Context(), "tcp", p.address())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if _, err := again.Write(command("BBB")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(again, make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	if got := second.words(); !slices.Equal(got, []string{"BBB"}) {
		t.Errorf("the other server was asked %v", got)
	}
}

func TestProxySaysWhatItDoesNotUnderstand(t *testing.T) {
	e := startEcho(t)
	s := &snares{table: newTable(true)}
	_, conn := dialProxy(t, s, e.Addr().String())
	if _, err := conn.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the connection goes on")
	}
	if err := s.failure(); !errors.Is(err, errFrame) {
		t.Errorf("%v", err)
	}
}

// What a link holds never reaches the replica, and is all there when the primary has gone.
func TestLinkHoldsWhatIsToBeLost(t *testing.T) {
	primary, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer primary.Close()
	l, err := newLink(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	l.lead(primary.Addr().String())
	replica, err := new(net.Dialer).DialContext(t.Context(), "tcp", l.address())
	if err != nil {
		t.Fatal(err)
	}
	defer replica.Close()
	stream, err := primary.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Write([]byte("first")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(replica, got); err != nil || string(got) != "first" {
		t.Fatalf("%q, %v", got, err)
	}
	l.hold()
	if _, err := stream.Write([]byte("second")); err != nil {
		t.Fatal(err)
	}
	if err := stream.Close(); err != nil {
		t.Fatal(err)
	}
	if held := l.discard(); !bytes.Equal(held, []byte("second")) {
		t.Errorf("held %q", held)
	}
	if rest, err := io.ReadAll(replica); err != nil || len(rest) > 0 {
		t.Errorf("the replica got %q, %v", rest, err)
	}
}

func TestLeastHitPointsComeFirst(t *testing.T) {
	table := newTable(false)
	r := rand.New(rand.NewPCG(1, 1))
	table.note(point{function: fire, server: kafkaServer, call: "DescribeConfigs"})
	hits := map[point]int{}
	for range 6 * len(essential) {
		p, ok := table.next(r, func(p point) bool { return p.call == "Sweep" })
		if !ok || p.call == "Sweep" || p.call == "DescribeConfigs" {
			t.Fatalf("drew %s", p)
		}
		table.killed(p)
		hits[p]++
	}
	for p, n := range hits {
		if n < 2 || n > 4 {
			t.Errorf("%s was drawn %d times", p, n)
		}
	}
	if missed := list(table.missed()); missed != "fire before redis.Sweep, fire after redis.Sweep" {
		t.Errorf("missed %s", missed)
	}
	if n := strings.Count(table.String(), "\n"); n != len(essential)+2 {
		t.Errorf("the table has %d lines:\n%s", n, table)
	}
}

func TestFaultsAreSharedOut(t *testing.T) {
	counts := map[fault]int{killAtCall: 30, failover: 3, bounce: 5}
	got := map[fault]int{}
	for _, stage := range draw(rand.New(rand.NewPCG(7, 7)), 4, counts) {
		if n := len(stage); n < 9 || n > 10 {
			t.Errorf("a stage has %d faults", n)
		}
		for _, f := range stage {
			got[f]++
		}
	}
	for f, n := range counts {
		if got[f] != n {
			t.Errorf("%d of %s, want %d", got[f], f, n)
		}
	}
}
