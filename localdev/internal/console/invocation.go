package console

import (
	"log/slog"
	"slices"
	"strings"
	"time"
)

// Invocation is one call of a function, as whoever made it saw it.
type Invocation struct {
	Function     string // ingest, fire, ops
	RequestID    string
	Started      time.Time
	Duration     time.Duration // from the call to the answer, without InitDuration
	ColdStart    bool          // the first one of its process
	InitDuration time.Duration // of a cold start, before the call
	Records      int           // in the batch; 0 where there is none
	MaxMemory    int64         // bytes; 0: not measured
	Error        string        // empty: it answered
}

// Log is one line that a function logged.
type Log struct {
	Function  string
	RequestID string // of the invocation that wrote it; empty if it is not known
	Time      time.Time
	Level     slog.Level
	Line      string
}

// What is kept of a run: the newest ones.
const (
	keepInvocations = 1000
	keepLogs        = 500
	// longestLine bounds the bytes of a log line, and of an error, that are kept.
	longestLine = 4 << 10
)

// Invoked takes an invocation that has ended.
func (b *Board) Invoked(i Invocation) {
	i.Error = shorten(i.Error)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.invocations.add(i)
}

// Logged takes a line of a function's log.
func (b *Board) Logged(l Log) {
	l.Line = shorten(l.Line)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.logs.add(l)
}

// Invocations returns the last invocations, newest first. The caller owns them.
func (b *Board) Invocations() []Invocation {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.invocations.newest()
}

// Logs returns the last lines of the functions' logs, newest first. The caller owns them.
func (b *Board) Logs() []Log {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.logs.newest()
}

func shorten(s string) string {
	if len(s) <= longestLine {
		return s
	}
	return strings.ToValidUTF8(s[:longestLine], "") + " ..."
}

// ring keeps the newest elements, at most as many as its capacity.
type ring[T any] struct {
	all  []T
	next int // where the next one goes, once all are there
	most int
}

func (r *ring[T]) add(v T) {
	if len(r.all) < r.most {
		r.all = append(r.all, v)
		return
	}
	r.all[r.next] = v
	r.next = (r.next + 1) % r.most
}

// newest returns a copy, newest first.
func (r *ring[T]) newest() []T {
	out := make([]T, 0, len(r.all))
	for i := range r.all {
		out = append(out, r.all[(r.next+i)%len(r.all)])
	}
	slices.Reverse(out)
	return out
}
