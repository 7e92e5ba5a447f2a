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
	keepInvocations = 200
	keepLogs        = 400
	// longestLine bounds the bytes of a log line, and of an error, that are kept.
	longestLine = 4 << 10
)

// Invoked takes an invocation that has ended.
func (b *Board) Invoked(i Invocation) {
	i.Error = shorten(i.Error)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.invocations.add(i)
	b.latency.invoked(&i)
	b.touch(SectionFunctions)
}

// Logged takes a line of a function's log.
func (b *Board) Logged(l Log) {
	l.Line = shorten(l.Line)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.logs.add(l)
	b.touch(SectionLogs)
}

// Functions is what is known of the functions' invocations.
type Functions struct {
	Functions []Function       `json:"functions"`
	Last      []InvocationLine `json:"last"` // newest first
}

// InvocationLine is an invocation as the page shows it.
type InvocationLine struct {
	Function  string   `json:"function"`
	RequestID string   `json:"request_id"`
	TimeMS    int64    `json:"time_ms"` // when it began
	TookMS    float64  `json:"took_ms"`
	ColdStart bool     `json:"cold_start"`
	InitMS    *float64 `json:"init_ms"` // of a cold start
	Records   int      `json:"records"`
	MaxMemory int64    `json:"max_memory_bytes"`
	Error     string   `json:"error,omitempty"`
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// Functions returns the last invocations, and what is known of each function. The caller owns it.
func (b *Board) Functions() Functions {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := Functions{Functions: b.functionsKnown(), Last: []InvocationLine{}}
	for _, i := range b.invocations.newest() {
		line := InvocationLine{
			Function: i.Function, RequestID: i.RequestID, TimeMS: i.Started.UnixMilli(), TookMS: millis(i.Duration), ColdStart: i.ColdStart,
			Records: i.Records, MaxMemory: i.MaxMemory, Error: i.Error,
		}
		if i.ColdStart {
			init := millis(i.InitDuration)
			line.InitMS = &init
		}
		out.Last = append(out.Last, line)
	}
	return out
}

// LogLine is a line of a function's log as the page shows it.
type LogLine struct {
	Function  string `json:"function"`
	RequestID string `json:"request_id,omitempty"`
	TimeMS    int64  `json:"time_ms"`
	Level     string `json:"level"`
	Line      string `json:"line"`
}

// LogLines returns the last lines of a function's log, or of all if there is no name, newest first. The caller owns them.
func (b *Board) LogLines(function string) []LogLine {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := []LogLine{}
	for _, l := range b.logs.newest() {
		if function == "" || function == l.Function {
			out = append(out, LogLine{l.Function, l.RequestID, l.Time.UnixMilli(), l.Level.String(), l.Line})
		}
	}
	return out
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
