package cli

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"sync"
	"time"
)

// repeatAfter is how long a line is not printed again: what fails is tried again, and says the same each time.
const repeatAfter = 10 * time.Second

// logHandler writes logs for people: time of day, level, message, attributes.
type logHandler struct {
	text *slog.TextHandler // of attributes alone, into out.line
	out  *logOutput
}

type logOutput struct {
	mu   sync.Mutex
	w    io.Writer
	line bytes.Buffer
	seen map[string]time.Time // when a line was last printed
}

func newLogHandler(w io.Writer, level slog.Level) *logHandler {
	out := &logOutput{w: w, seen: map[string]time.Time{}}
	return &logHandler{out: out, text: slog.NewTextHandler(&out.line, &slog.HandlerOptions{Level: level, ReplaceAttr: onlyAttributes})}
}

// onlyAttributes leaves out what the line begins with.
func onlyAttributes(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
		return slog.Attr{}
	}
	return a
}

// Enabled implements slog.Handler.
func (h *logHandler) Enabled(ctx context.Context, l slog.Level) bool { return h.text.Enabled(ctx, l) }

// WithAttrs implements slog.Handler.
func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	if t, ok := h.text.WithAttrs(attrs).(*slog.TextHandler); ok {
		return &logHandler{text: t, out: h.out}
	}
	return h
}

// WithGroup implements slog.Handler.
func (h *logHandler) WithGroup(name string) slog.Handler {
	if t, ok := h.text.WithGroup(name).(*slog.TextHandler); ok {
		return &logHandler{text: t, out: h.out}
	}
	return h
}

// Handle implements slog.Handler.
func (h *logHandler) Handle(ctx context.Context, r slog.Record) error {
	o := h.out
	o.mu.Lock()
	defer o.mu.Unlock()
	o.line.Reset()
	if err := h.text.Handle(ctx, r); err != nil {
		return err
	}
	line := make([]byte, 0, 128)
	line = append(append(line, r.Level.String()...), "  "...)
	line = append(line, r.Message...)
	if attrs := bytes.TrimSpace(o.line.Bytes()); len(attrs) > 0 {
		line = append(append(line, "  "...), attrs...)
	}
	if at, ok := o.seen[string(line)]; ok && r.Time.Sub(at) < repeatAfter {
		return nil
	}
	if len(o.seen) > 1000 {
		clear(o.seen)
	}
	o.seen[string(line)] = r.Time
	_, err := o.w.Write(append(append(r.Time.AppendFormat(nil, "15:04:05 "), line...), '\n'))
	return err
}
