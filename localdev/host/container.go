package host

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultImage is Lambda's own base image for binaries.
const DefaultImage = "public.ecr.aws/lambda/provided:al2023"

// Container says how environments are run in containers: the bootstrap is mounted into Lambda's base image. They share the
// network of this machine, so that they reach what it reaches. Docker does not know when its caller is killed: what a host that
// was killed leaves behind ends by itself when it next asks for an invocation, unless it is frozen.
type Container struct {
	Docker string // command; "": docker
	Image  string // "": DefaultImage
	Label  string // label of the containers, NAME=value; "": none
}

// containers starts environments as containers.
type containers struct {
	f      *Function
	c      Container
	number atomic.Int64
}

func newContainers(f *Function) launcher {
	c := *f.opts.Container
	if c.Docker == "" {
		c.Docker = "docker"
	}
	if c.Image == "" {
		c.Image = DefaultImage
	}
	return &containers{f: f, c: c}
}

func (p *containers) listen(ctx context.Context) (net.Listener, error) {
	return new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
}

func (p *containers) close() {}

// arguments are those of docker run. Variables are named there and passed by docker's own environment: the arguments of a process
// can be read by everyone on the machine, and a variable may be a secret.
func (p *containers) arguments(name string, variables []string) ([]string, error) {
	binary, root, err := p.f.taskRoot()
	if err != nil {
		return nil, err
	}
	args := []string{
		"run", "--rm", "--name", name, "--network", "host",
		"--memory", strconv.Itoa(p.f.memory()) + "m", "--memory-swap", strconv.Itoa(p.f.memory()) + "m",
		"--volume", binary + ":/var/runtime/bootstrap:ro", "--volume", root + ":/var/task:ro",
	}
	if p.c.Label != "" {
		args = append(args, "--label", p.c.Label)
	}
	for _, v := range variables {
		named, _, _ := strings.Cut(v, "=")
		args = append(args, "--env", named)
	}
	return append(args, p.c.Image, "bootstrap"), nil // the image's entry point wants a handler
}

func (p *containers) launch(ctx context.Context, api string, line func(string)) (box, error) {
	name := "tidemark-" + filepath.Base(p.f.opts.Name) + "-" + NewRequestID()[:8]
	variables := p.f.variables(api, "/var/task", int(p.number.Add(1)))
	args, err := p.arguments(name, variables)
	if err != nil {
		return nil, err
	}
	b := &container{docker: p.c.Docker, name: name, gone: make(chan struct{})}
	b.cmd = exec.CommandContext(ctx, p.c.Docker, args...) //nolint:gosec // the docker that the caller names
	b.cmd.Env = append(os.Environ(), variables...)
	b.cmd.SysProcAttr = group()
	out, in := io.Pipe()
	b.cmd.Stdout, b.cmd.Stderr = in, in
	b.cmd.WaitDelay = time.Second
	if err := b.cmd.Start(); err != nil {
		return nil, errors.Join(err, in.Close())
	}
	told := make(chan struct{})
	go func() {
		defer close(told)
		for s := bufio.NewScanner(out); s.Scan(); {
			line(s.Text())
		}
		_, _ = io.Copy(io.Discard, out) // behind a line that is too long
	}()
	go func() {
		_ = b.cmd.Wait() // its state says how
		_ = in.Close()
		<-told
		close(b.gone)
	}()
	return b, nil
}

// container is an environment that is a container; its process here is docker run.
type container struct {
	docker, name string
	cmd          *exec.Cmd
	gone         chan struct{}
	killing      sync.Once
}

func (b *container) pid() int               { return 0 }
func (b *container) ended() <-chan struct{} { return b.gone }
func (b *container) drain()                 {}

// killed is the exit code of a container that SIGKILL has ended.
const killed = 128 + 9

func (b *container) state() string {
	if b.cmd.ProcessState.ExitCode() == killed {
		return "signal: killed"
	}
	return b.cmd.ProcessState.String()
}

// dockerWithin bounds a command to a container.
const dockerWithin = 20 * time.Second

// tell runs a command of docker on the container. One that has gone is not told.
func (b *container) tell(args ...string) {
	ctx, cancel := context.WithTimeout(context.Background(), dockerWithin)
	defer cancel()
	_ = exec.CommandContext(ctx, b.docker, append(args, b.name)...).Run() //nolint:gosec // see launch
}

func (b *container) kill() {
	b.killing.Do(func() {
		go func() {
			b.tell("rm", "--force")
			// A container that was not there yet is seen by its command alone.
			_ = b.cmd.Process.Kill()
			b.tell("rm", "--force")
		}()
	})
}

func (b *container) terminate() { b.tell("kill", "--signal", "TERM") }
func (b *container) freeze()    { b.tell("pause") }
func (b *container) thaw() {
	select {
	case <-b.gone:
	default:
		b.tell("unpause")
	}
}

// memory is not asked for: docker enforces the limit.
func (b *container) memory() (now, most int64) { return 0, 0 }

// CheckDocker says whether containers can be started, and why not.
func (c Container) CheckDocker(ctx context.Context) error {
	docker := c.Docker
	if docker == "" {
		docker = "docker"
	}
	out, err := exec.CommandContext(ctx, docker, "version", "--format", "{{.Server.Os}}").CombinedOutput() //nolint:gosec // see launch
	switch system := strings.TrimSpace(string(out)); {
	case err != nil:
		return fmt.Errorf("docker: %w: %s", err, system)
	case system != "linux":
		return fmt.Errorf("docker runs %s containers on %s: %w", system, runtime.GOOS, ErrNotSupported)
	}
	return nil
}
