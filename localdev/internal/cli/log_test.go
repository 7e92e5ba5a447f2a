package cli

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func TestLogLinesAreForPeople(t *testing.T) {
	var out bytes.Buffer
	h := newLogHandler(&out, slog.LevelWarn)
	at := time.Date(2025, 1, 1, 12, 34, 56, 0, time.UTC)
	handle := func(h slog.Handler, at time.Time, message string, args ...any) {
		t.Helper()
		r := slog.NewRecord(at, slog.LevelWarn, message, 0)
		r.Add(args...)
		if err := h.Handle(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	handle(h, at, "first", "n", 1, "text", "two words")
	handle(h, at.Add(time.Second), "first", "n", 1, "text", "two words") // the same again: what fails is tried again
	handle(h, at.Add(time.Second), "first", "n", 2, "text", "two words")
	handle(h.WithAttrs([]slog.Attr{slog.String("app", "a")}), at, "with")
	handle(h.WithGroup("g"), at, "in group", "n", 1)
	handle(h, at.Add(11*time.Second), "first", "n", 1, "text", "two words")
	want := `12:34:56 WARN  first  n=1 text="two words"
12:34:57 WARN  first  n=2 text="two words"
12:34:56 WARN  with  app=a
12:34:56 WARN  in group  g.n=1
12:35:07 WARN  first  n=1 text="two words"
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
	if h.Enabled(t.Context(), slog.LevelInfo) || !h.Enabled(t.Context(), slog.LevelError) {
		t.Error("the level is not kept")
	}
}

// The Redis client logs to a global logger, on stderr unless it is told otherwise.
func TestTheRedisClientLogsThroughOurs(t *testing.T) {
	var out bytes.Buffer
	e := &env{level: slog.LevelDebug}
	e.setLogs(&out)
	cl := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1, DialTimeout: time.Second})
	defer cl.Close()
	if err := cl.Ping(t.Context()).Err(); err == nil {
		t.Fatal("a server answers where none is")
	}
	redisLogger{e.logger}.Printf(t.Context(), "pool %d", 1)
	if !strings.Contains(out.String(), `redis client  message="pool 1"`) {
		t.Errorf("got %q", out.String())
	}
	out.Reset()
	e.level = slog.LevelWarn
	e.setLogs(&out)
	redisLogger{e.logger}.Printf(t.Context(), "pool %d", 1)
	if out.Len() > 0 {
		t.Errorf("at level warn: %q", out.String())
	}
}
