//go:build unix

package servers

import "syscall"

// Pause stops the server in its tracks (SIGSTOP): it takes connections and never answers, until Resume.
func (r *OwnRedis) Pause() { r.signal(syscall.SIGSTOP) }

// Resume lets a server go on that Pause stopped.
func (r *OwnRedis) Resume() { r.signal(syscall.SIGCONT) }

func (r *OwnRedis) signal(s syscall.Signal) {
	r.t.Helper()
	if err := r.cmd.Process.Signal(s); err != nil {
		r.t.Fatalf("own redis on %s: signal %s: %v", r.addr, s, err)
	}
}
