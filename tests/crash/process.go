package crash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/llm-auto-optimizer/tidemark/tests/output"
)

// readyWithin bounds how long a server may take to start. A broker that was killed reads its logs first.
const readyWithin = 90 * time.Second

// keptOfLog is how much of what a server has written is shown where it fails.
const keptOfLog = 8 << 10

// process is a server that the run owns. Its methods are safe for concurrent use.
type process struct {
	name string
	args []string
	log  io.Writer // nil: dropped

	mu   sync.Mutex
	cmd  *exec.Cmd
	dead chan struct{}
	end  output.Buffer
}

// start starts the process and returns when ready does without an error.
func (p *process) start(ctx context.Context, ready func(context.Context) error) error {
	p.mu.Lock()
	cmd := exec.CommandContext(context.WithoutCancel(ctx), p.args[0], p.args[1:]...)
	out := io.Writer(&p.end)
	if p.log != nil {
		out = io.MultiWriter(out, p.log)
	}
	cmd.Stdout, cmd.Stderr = out, out
	// A Ctrl-C at the terminal is for the run, which then ends its processes itself.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		p.mu.Unlock()
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	dead := make(chan struct{})
	p.cmd, p.dead = cmd, dead
	p.mu.Unlock()
	go func() {
		_ = cmd.Wait() // of a signal
		close(dead)
	}()
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	if err := poll(ctx, dead, ready); err != nil {
		p.kill()
		return fmt.Errorf("start %s: %w; its log ends in\n%s", p.name, err, p.end.String())
	}
	return nil
}

// kill is SIGKILL; it returns when the process has gone.
func (p *process) kill() {
	p.mu.Lock()
	cmd, dead := p.cmd, p.dead
	p.cmd = nil
	p.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = cmd.Process.Kill() // it may have died this moment
	<-dead
}

var errGone = errors.New("the process has ended")

// poll asks until there is no error, the process is dead (nil: none to watch) or ctx ends.
func poll(ctx context.Context, dead <-chan struct{}, ready func(context.Context) error) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		try, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := ready(try)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-dead:
			return fmt.Errorf("%w; last: %w", errGone, err)
		case <-ctx.Done():
			return fmt.Errorf("%w; last: %w", ctx.Err(), err)
		}
	}
}

// wait pauses the run's own pace.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// freeAddress finds a port that nobody listens on, below those that systems give to outgoing connections: a server that is
// killed must get its port back.
func freeAddress(ctx context.Context) (string, error) {
	var last error
	for range 100 {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(20_000+rand.IntN(10_000)))
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		if err == nil {
			return address, l.Close()
		}
		last = err
	}
	return "", fmt.Errorf("no free port: %w", last)
}

// programs makes redis-server and the broker's jars available, and returns the folder of the jars.
func programs(ctx context.Context, root string, log io.Writer) (string, error) {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, "bash", "tests/servers/programs")
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.Env = root, &out, log, os.Environ()
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("tests/servers/programs: %w", err)
	}
	_, jars, _ := strings.Cut(out.String(), "TIDEMARK_TEST_KAFKA_JARS='")
	jars, _, ok := strings.Cut(jars, "'")
	if !ok {
		return "", fmt.Errorf("tests/servers/programs printed %q", out.String())
	}
	return jars, nil
}
