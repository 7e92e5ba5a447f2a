// Package progress shows a run in the terminal: results as lines, and below them one line that says how far the run is. Where
// the terminal is none, that line is printed now and then; with JSON, everything is one object a line.
package progress

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/functions/fire"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/console"
)

const (
	// resultsPerTick is how many results are printed between two ticks; of the others only the number is told.
	resultsPerTick = 20
	// plainEvery is the least distance of two status lines where they cannot be written in place.
	plainEvery = 5 * time.Second
)

// Options of a Terminal.
type Options struct {
	Out  io.Writer // results, and what a run came to
	Err  io.Writer // how it goes
	JSON bool      // one object a line on Out: progress, result, summary
	// Brief is for an Out that a person reads: at most resultsPerTick results a tick are printed, the others counted.
	Brief bool
	// Width returns the columns of the terminal behind Err, or 0 if it is none.
	Width func() int
	Now   func() time.Time
	Where map[string]string // of pipelines, by name
}

// Terminal shows one run. It is safe for concurrent use.
type Terminal struct {
	Options

	mu     sync.Mutex
	drawn  bool      // the status line stands below
	line   string    // the status line
	last   time.Time // when a plain status line was printed
	shown  int       // results printed since the last tick
	hidden int       // results not printed since then
	dead   map[event.Reason]int64
	err    error // of writing to Out
}

// New returns a Terminal.
func New(o Options) *Terminal { return &Terminal{Options: o, last: o.Now()} }

// Write prints a log line above the status line. It never fails: a log that cannot be written is not worth a run.
func (t *Terminal) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.above(func() { _, _ = t.Err.Write(p) })
	return len(p), nil
}

// Note tells the user something about the run.
func (t *Terminal) Note(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.above(func() { _, _ = fmt.Fprintf(t.Err, format+"\n", args...) })
}

// Say prints a line that belongs to what the run came to; with JSON the summary has it.
func (t *Terminal) Say(format string, args ...any) {
	if t.JSON {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.above(func() { t.print([]byte(fmt.Sprintf(format, args...) + "\n")) })
}

// Result shows a result record by its value.
func (t *Terminal) Result(tp event.TopicPartition, offset int64, value []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.JSON {
		t.object(struct {
			Type      string          `json:"type"`
			Topic     string          `json:"topic"`
			Partition int32           `json:"partition"`
			Offset    int64           `json:"offset"`
			Result    json.RawMessage `json:"result"`
		}{"result", tp.Topic, tp.Partition, offset, value})
		return
	}
	if t.Brief && t.shown >= resultsPerTick {
		t.hidden++
		return
	}
	t.shown++
	t.above(func() { t.print(append(appendResult(nil, value), '\n')) })
}

// Plans takes what one look of fire came to: why records went to the dead letter topic.
func (t *Terminal) Plans(reports []fire.Report) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range reports {
		if !reports[i].Made {
			continue
		}
		for reason, n := range reports[i].Reasons {
			if t.dead == nil {
				t.dead = map[event.Reason]int64{}
			}
			t.dead[reason] += int64(n)
		}
	}
}

// Tick shows how far the run is. Call it about once a second.
func (t *Terminal) Tick(s console.Snapshot) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.JSON {
		t.object(struct {
			Type string `json:"type"`
			console.Snapshot
		}{"progress", withoutResults(s)})
		return
	}
	t.flushHidden()
	t.line = statusLine(s) + reasons(t.dead)
	if t.Width() > 0 {
		t.above(func() {})
		return
	}
	if now := t.Now(); now.Sub(t.last) >= plainEvery {
		t.last = now
		_, _ = fmt.Fprintln(t.Err, t.line)
	}
}

// Closed is a pipeline whose windows are all closed, and where its watermark went for that.
type Closed struct {
	Pipeline    string `json:"pipeline"`
	Watermark   string `json:"watermark"`
	WatermarkMS *int64 `json:"watermark_ms"`
}

// Summary ends the show with what the run came to, and returns what went wrong in writing to Out.
func (t *Terminal) Summary(s console.Snapshot, closed []Closed) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.JSON {
		t.object(struct {
			Type string `json:"type"`
			console.Snapshot
			Reasons map[event.Reason]int64 `json:"dead_letter_reasons,omitempty"`
			Closed  []Closed               `json:"closed,omitempty"`
		}{"summary", withoutResults(s), t.dead, closed})
		return t.err
	}
	t.flushHidden()
	t.clear()
	t.line = ""
	if len(t.dead) > 0 {
		t.print([]byte("dead letters: " + strings.Trim(reasons(t.dead), " ()") + "\n"))
	}
	var marks []string
	for _, p := range s.Pipelines {
		marks = append(marks, p.Name+" "+p.Watermark)
		if text := AllFiltered(p.Name, t.Where[p.Name], p.In, p.Filtered); text != "" {
			t.print([]byte(text + "\n"))
		}
	}
	t.print(fmt.Appendf(nil, "%d records in, %d results, %d late, %d dead letters%s, %d plans; watermark %s; %s\n",
		s.Records, s.Results, s.Late, s.DeadLetters, Filtered(s.Filtered), s.Plans, strings.Join(marks, ", "), seconds(s.UptimeSeconds)))
	return t.err
}

func seconds(s float64) string {
	return (time.Duration(s*10) * (time.Second / 10)).String()
}

func withoutResults(s console.Snapshot) console.Snapshot {
	s.LastResults = []json.RawMessage{}
	return s
}

// object prints one JSON object. The lock is held.
func (t *Terminal) object(v any) {
	b, err := json.Marshal(v)
	if err != nil {
		t.err = err
		return
	}
	t.print(append(b, '\n'))
}

func (t *Terminal) print(b []byte) {
	if _, err := t.Out.Write(b); err != nil && t.err == nil {
		t.err = fmt.Errorf("write output: %w", err)
	}
}

// Failed returns what went wrong in writing to Out, if anything.
func (t *Terminal) Failed() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

func (t *Terminal) flushHidden() {
	if t.hidden > 0 {
		n := t.hidden
		t.above(func() { t.print(fmt.Appendf(nil, "... and %d more (--json, or output to a file, has all)\n", n)) })
	}
	t.shown, t.hidden = 0, 0
}

// above runs f with the status line out of the way, and draws it again. The lock is held.
func (t *Terminal) above(f func()) {
	t.clear()
	f()
	width := t.Width()
	if width <= 0 || t.line == "" || t.JSON {
		return
	}
	line := []rune(t.line)
	if len(line) >= width {
		line = line[:width-1] // a line that wraps cannot be taken back
	}
	_, _ = io.WriteString(t.Err, string(line))
	t.drawn = true
}

// clear takes the status line back: to the first column, and delete to the end of the line.
func (t *Terminal) clear() {
	if t.drawn {
		_, _ = io.WriteString(t.Err, "\r\x1b[K")
		t.drawn = false
	}
}
