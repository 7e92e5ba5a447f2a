// Package output keeps what processes and loggers write, for tests that read it meanwhile.
package output

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"
)

// Buffer keeps what is written to it, and may be read at the same time: a process writes from a goroutine of its own until it has
// been waited for. The zero value keeps everything.
type Buffer struct {
	Last int // keep no more than this many bytes, the newest; 0: all

	mu  sync.Mutex
	buf bytes.Buffer
}

// Write never fails.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf.Write(p)
	if extra := b.buf.Len() - b.Last; b.Last > 0 && extra > 0 {
		b.buf.Next(extra)
	}
	return len(p), nil
}

// String returns what has been written and not been taken.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// Take returns the same, and forgets it.
func (b *Buffer) Take() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.buf.Reset()
	return b.buf.String()
}

// awaitWithin is longer than anything takes that a test waits for, on a machine that does other things too.
const awaitWithin = 2 * time.Minute

// Await returns once the buffer has a text. Where none comes the test ends.
func (b *Buffer) Await(t testing.TB, text string) {
	t.Helper()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.After(awaitWithin); !strings.Contains(b.String(), text); {
		select {
		case <-poll.C:
		case <-deadline:
			t.Fatalf("no %q in\n%s", text, b)
		}
	}
}
