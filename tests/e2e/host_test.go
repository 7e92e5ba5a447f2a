//go:build servers

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	buildDir = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "tidemark-e2e-") })
	builds   sync.Map // binary -> func() error
)

// TestMain removes what the tests compiled.
func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := buildDir(); err == nil {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// build compiles a package of the project as it is deployed, for this machine, once, and returns the binary.
func build(t *testing.T, pkg, binary string) string {
	t.Helper()
	dir, err := buildDir()
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, binary)
	once, _ := builds.LoadOrStore(out, sync.OnceValue(func() error {
		cmd := exec.CommandContext(t.Context(), "go", "build", "-tags", "lambda.norpc", "-o", out, pkg)
		cmd.Dir = filepath.Join("..", "..")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w: %s", pkg, err, text)
		}
		return nil
	}))
	if f, ok := once.(func() error); ok {
		if err := f(); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// errDied is the answer of an invocation whose process was killed.
var errDied = errors.New("the function died")

// function is one real bootstrap process behind the Lambda Runtime API: invoked one call at a time, started anew after a death.
type function struct {
	t       *testing.T
	bin     string
	env     []string
	timeout time.Duration

	listener net.Listener
	server   *http.Server
	calls    chan *call
	mu       sync.Mutex
	current  *call
	n        int

	proc *exec.Cmd
	dead chan struct{}
	log  *bytes.Buffer
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

func newFunction(t *testing.T, name string, timeout time.Duration, env ...string) *function {
	t.Helper()
	f := &function{t: t, bin: build(t, "./functions/"+name+"/bootstrap", filepath.Join(name, "bootstrap")), timeout: timeout, calls: make(chan *call)}
	var err error
	if f.listener, err = new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	f.env = append(slices.Clone(env), "AWS_LAMBDA_RUNTIME_API="+f.listener.Addr().String(), "AWS_LAMBDA_FUNCTION_NAME="+name, "_HANDLER=bootstrap", "PATH="+os.Getenv("PATH"))
	f.server = &http.Server{Handler: http.HandlerFunc(f.serve), ReadHeaderTimeout: time.Minute}
	go func() {
		if err := f.server.Serve(f.listener); !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("runtime API: %v", err)
		}
	}()
	t.Cleanup(func() {
		f.kill()
		_ = f.server.Close()
	})
	return f
}

// serve is the part of the Runtime API that aws-lambda-go uses.
func (f *function) serve(w http.ResponseWriter, r *http.Request) {
	const base = "/2018-06-01/runtime/invocation/"
	rest := strings.TrimPrefix(r.URL.Path, base)
	switch id, verb, _ := strings.Cut(rest, "/"); {
	case r.Method == http.MethodGet && rest == "next":
		select {
		case c := <-f.calls:
			f.mu.Lock()
			f.current = c
			f.mu.Unlock()
			w.Header().Set("Lambda-Runtime-Aws-Request-Id", c.id)
			w.Header().Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(time.Now().Add(f.timeout).UnixMilli(), 10))
			w.Header().Set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:123456789012:function:test")
			_, _ = w.Write(c.payload)
		case <-r.Context().Done():
		}
	case r.Method == http.MethodPost && (verb == "response" || verb == "error"):
		body, _ := io.ReadAll(r.Body)
		w.WriteHeader(http.StatusAccepted)
		f.mu.Lock()
		c := f.current
		f.current = nil
		f.mu.Unlock()
		if c == nil || c.id != id {
			return
		}
		if verb == "error" {
			c.done <- result{err: fmt.Errorf("function error: %s", body)}
			return
		}
		c.done <- result{body: body}
	default:
		http.NotFound(w, r)
	}
}

func (f *function) start() {
	f.t.Helper()
	f.log = &bytes.Buffer{}
	f.proc = exec.CommandContext(f.t.Context(), f.bin)
	f.proc.Env, f.proc.Stdout, f.proc.Stderr = f.env, f.log, f.log
	if err := f.proc.Start(); err != nil {
		f.t.Fatal(err)
	}
	f.dead = make(chan struct{})
	go func(p *exec.Cmd, dead chan struct{}) {
		_ = p.Wait()
		close(dead)
	}(f.proc, f.dead)
}

// kill is a real SIGKILL; it returns when the process is gone.
func (f *function) kill() {
	if f.proc == nil {
		return
	}
	_ = f.proc.Process.Kill()
	<-f.dead
	f.proc = nil
	f.mu.Lock()
	f.current = nil
	f.mu.Unlock()
}

// invoke runs one invocation, starting the process if there is none. killAfter > 0 kills the process after that time, if the
// invocation has not ended before.
func (f *function) invoke(ctx context.Context, payload []byte, killAfter time.Duration) ([]byte, error) {
	f.t.Helper()
	if f.proc == nil {
		f.start() //nolint:contextcheck // the process outlives the invocation
	}
	f.n++
	c := &call{id: "request-" + strconv.Itoa(f.n), payload: payload, done: make(chan result, 1)}
	var killer <-chan time.Time
	if killAfter > 0 {
		timer := time.NewTimer(killAfter)
		defer timer.Stop()
		killer = timer.C
	}
	send := f.calls
	for {
		select {
		case send <- c:
			send = nil
		case r := <-c.done:
			return r.body, r.err
		case <-killer:
			f.kill()
			return nil, errDied
		case <-f.dead:
			log := f.log.String()
			f.kill()
			return nil, fmt.Errorf("%w by itself: %s", errDied, log)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
