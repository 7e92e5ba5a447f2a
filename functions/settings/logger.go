package settings

import (
	"context"
	"io"
	"log/slog"

	"github.com/aws/aws-lambda-go/lambdacontext"
)

// envLambdaLogLevel is set by Lambda from the LoggingConfig of a function whose format is JSON.
const envLambdaLogLevel = "AWS_LAMBDA_LOG_LEVEL"

// logLevel is what TIDEMARK_LOG_LEVEL says, which was checked, else what the function's LoggingConfig says, else INFO.
func (s Settings) logLevel(getenv func(string) string) slog.Level {
	if getenv(EnvLogLevel) != "" {
		return s.LogLevel
	}
	switch getenv(envLambdaLogLevel) {
	case "TRACE", "DEBUG":
		return slog.LevelDebug
	case "WARN":
		return slog.LevelWarn
	case "ERROR", "FATAL":
		return slog.LevelError
	}
	return slog.LevelInfo
}

// newLogger returns a logger whose lines are as Lambda's own: timestamp, level, message, what the line says, and the requestId of
// the invocation. They are JSON whatever format the function has: nothing here is for people without a query. Lambda's own handler
// serves less well: it writes to stdout only, and knows one level only, that of Lambda.
func newLogger(w io.Writer, level slog.Level) *slog.Logger {
	return slog.New(&logHandler{slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: lambdacontext.ReplaceAttr})})
}

// logHandler adds the invocation to each record.
type logHandler struct{ slog.Handler }

// Handle implements slog.Handler.
func (h *logHandler) Handle(ctx context.Context, r slog.Record) error {
	if lc, ok := lambdacontext.FromContext(ctx); ok {
		r.AddAttrs(slog.String("requestId", lc.AwsRequestID))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &logHandler{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h *logHandler) WithGroup(name string) slog.Handler {
	return &logHandler{h.Handler.WithGroup(name)}
}
