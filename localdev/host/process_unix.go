//go:build unix

package host

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// processes starts environments as processes of this machine.
type processes struct {
	f      *Function
	number atomic.Int64
	once   sync.Once
	starts chan func()
}

func newProcesses(f *Function) launcher { return &processes{f: f, starts: make(chan func())} }

func (p *processes) listen(ctx context.Context) (net.Listener, error) {
	return new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
}

// on runs start on the one thread that starts all processes of the function. Linux ends a process whose parent has gone, so that
// nothing is left behind by a host that was killed; but the parent is the thread, which has to live as long as they do.
func (p *processes) on(start func()) {
	p.once.Do(func() {
		go func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			for s := range p.starts {
				s()
			}
		}()
	})
	done := make(chan struct{})
	p.starts <- func() { start(); close(done) }
	<-done
}

// close ends the thread. All processes have gone.
func (p *processes) close() {
	p.once.Do(func() {})
	close(p.starts)
}

func (p *processes) launch(ctx context.Context, api string, line func(string)) (box, error) {
	binary, root, err := p.f.taskRoot()
	if err != nil {
		return nil, err
	}
	out, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer in.Close() //nolint:errcheck // the process has its own
	b := &process{gone: make(chan struct{}), memoryOf: memoryOf}
	b.cmd = exec.CommandContext(ctx, binary) //nolint:gosec // the bootstrap that the caller names
	b.cmd.Dir = root
	b.cmd.Env = append(p.f.variables(api, root, int(p.number.Add(1))), "PATH="+os.Getenv("PATH"))
	b.cmd.Stdout, b.cmd.Stderr = in, in
	b.cmd.SysProcAttr = attributes()
	p.on(func() { err = b.cmd.Start() })
	if err != nil {
		return nil, errors.Join(err, out.Close())
	}
	if b.output, err = newReader(out, line); err != nil {
		b.kill()
		return nil, errors.Join(err, b.cmd.Wait(), out.Close())
	}
	go b.output.run()
	go func() {
		_ = b.cmd.Wait() // of a signal, mostly; its state says which
		select {
		case <-b.output.end:
		case <-time.After(lastOutput): // something that it started has its output, and lives
		}
		close(b.gone)
	}()
	return b, nil
}

// group gives a process a group of its own, so that a Ctrl-C at the terminal is for the host, which then ends its processes itself.
func group() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// lastOutput is how long the end of a process's output is waited for.
const lastOutput = time.Second

// process is an environment that is a process of this machine.
type process struct {
	cmd      *exec.Cmd
	output   *reader
	gone     chan struct{}
	memoryOf func(pid int) (now, most int64)
}

func (b *process) pid() int               { return b.cmd.Process.Pid }
func (b *process) ended() <-chan struct{} { return b.gone }
func (b *process) state() string          { return b.cmd.ProcessState.String() }
func (b *process) drain()                 { b.output.drain() }

// signal tells the process something; one that has gone is not told. It is never another process: its id is kept until Wait.
func (b *process) signal(s syscall.Signal) { _ = b.cmd.Process.Signal(s) }

func (b *process) kill()      { b.signal(syscall.SIGKILL) }
func (b *process) terminate() { b.signal(syscall.SIGTERM) }
func (b *process) freeze()    { b.signal(syscall.SIGSTOP) }
func (b *process) thaw()      { b.signal(syscall.SIGCONT) }

func (b *process) memory() (now, most int64) {
	select {
	case <-b.gone:
		return 0, 0
	default:
		return b.memoryOf(b.cmd.Process.Pid)
	}
}

// reader reads the lines of a pipe. Whoever drains it has the lines told that are in it, without waiting for more.
type reader struct {
	file *os.File
	raw  syscall.RawConn
	line func(string)
	end  chan struct{} // closed when everything was told

	mu   sync.Mutex
	buf  [32 << 10]byte
	rest []byte // of a line whose end has not come
}

// mostLine is where a line is cut, in bytes.
const mostLine = 256 << 10

func newReader(f *os.File, line func(string)) (*reader, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &reader{file: f, raw: raw, line: line, end: make(chan struct{})}, nil
}

// run reads until all writers have gone.
func (r *reader) run() {
	for end := false; !end; {
		err := r.raw.Read(func(fd uintptr) bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			n, err := r.read(fd)
			end = err == nil && n == 0
			return !errors.Is(err, syscall.EAGAIN)
		})
		end = end || err != nil
	}
	r.mu.Lock()
	if len(r.rest) > 0 {
		r.line(string(r.rest))
		r.rest = nil
	}
	r.mu.Unlock()
	_ = r.file.Close() // it was only read
	close(r.end)
}

// drain takes what is there.
func (r *reader) drain() {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = r.raw.Control(func(fd uintptr) { // an error: it is closed, and everything told
		for {
			if n, err := r.read(fd); err != nil || n <= 0 {
				return
			}
		}
	})
}

// read reads once and tells whole lines. The lock is held.
func (r *reader) read(fd uintptr) (int, error) {
	n, err := syscall.Read(int(fd), r.buf[:])
	for _, c := range r.buf[:max(n, 0)] {
		if c != '\n' && len(r.rest) < mostLine {
			r.rest = append(r.rest, c)
			continue
		}
		r.line(string(r.rest))
		r.rest = r.rest[:0]
	}
	return n, err
}

// number parses a number of a file of the system, 0 for everything else.
func number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0
	}
	return n
}
