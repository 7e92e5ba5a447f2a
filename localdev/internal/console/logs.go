package console

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"time"
)

// logHandler passes records on, and gives those of a function to a board.
type logHandler struct {
	next     slog.Handler
	board    *Board
	function string
	text     *slog.TextHandler // of attributes alone, into out.line
	out      *logText
}

// logText is where attributes are written.
type logText struct {
	mu   sync.Mutex
	line bytes.Buffer
}

// NewLogHandler returns a handler that passes on what next wants, and gives the board what a function logs, from info on.
func NewLogHandler(next slog.Handler, b *Board, function string) slog.Handler {
	out := &logText{}
	return &logHandler{next: next, board: b, function: function, out: out, text: slog.NewTextHandler(&out.line, &slog.HandlerOptions{
		Level: slog.LevelInfo,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
				return slog.Attr{}
			}
			return a
		},
	})}
}

// Enabled implements slog.Handler.
func (h *logHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelInfo || h.next.Enabled(ctx, l)
}

// Handle implements slog.Handler.
func (h *logHandler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelInfo {
		if attributes, err := h.attributes(ctx, r); err == nil {
			h.board.Logged(Log{Function: h.function, Time: at(r.Time), Level: r.Level, Line: r.Message + attributes})
		}
	}
	if !h.next.Enabled(ctx, r.Level) {
		return nil
	}
	return h.next.Handle(ctx, r)
}

func at(t time.Time) time.Time {
	if t.IsZero() {
		return time.Now()
	}
	return t
}

// attributes returns those of a record, each after a space.
func (h *logHandler) attributes(ctx context.Context, r slog.Record) (string, error) {
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	h.out.line.Reset()
	if err := h.text.Handle(ctx, r); err != nil {
		return "", err
	}
	text := bytes.TrimSpace(h.out.line.Bytes())
	if len(text) == 0 {
		return "", nil
	}
	return " " + string(text), nil
}

// WithAttrs implements slog.Handler.
func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	c.next = h.next.WithAttrs(attrs)
	if t, ok := h.text.WithAttrs(attrs).(*slog.TextHandler); ok {
		c.text = t
	}
	return &c
}

// WithGroup implements slog.Handler.
func (h *logHandler) WithGroup(name string) slog.Handler {
	c := *h
	c.next = h.next.WithGroup(name)
	if t, ok := h.text.WithGroup(name).(*slog.TextHandler); ok {
		c.text = t
	}
	return &c
}
