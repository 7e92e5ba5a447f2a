package host

import (
	"bytes"
	"io"
	"sync"
)

// logTail is how much of a function's output is kept, in bytes.
const logTail = 128 << 10

// tail keeps the last bytes written to it.
type tail struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// line adds a line, and hands it on to also, if that is not nil.
func (w *tail) line(text string, also io.Writer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf.WriteString(text)
	w.buf.WriteByte('\n')
	if extra := w.buf.Len() - logTail; extra > 0 {
		w.buf.Next(extra)
	}
	if also != nil {
		_, _ = also.Write(append([]byte(text), '\n')) // whoever reads it may have gone; the function goes on
	}
}

func (w *tail) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}

// lines are the last MaxLines of an invocation.
type lines struct {
	kept    []string
	dropped int
}

func (l *lines) add(text string) {
	if len(l.kept) == MaxLines {
		l.kept, l.dropped = l.kept[1:], l.dropped+1
	}
	l.kept = append(l.kept, text)
}

// take returns the lines and forgets them.
func (l *lines) take() ([]string, int) {
	kept, dropped := l.kept, l.dropped
	*l = lines{}
	return kept, dropped
}
