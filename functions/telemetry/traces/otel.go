//go:build otel

package traces

import (
	"context"
	"log/slog"

	"github.com/llm-auto-optimizer/tidemark/functions/telemetry"
	"github.com/llm-auto-optimizer/tidemark/functions/telemetry/otlp"
)

// Open returns the tracer of a function of an app, or nil where kind is not otlp.
func Open(ctx context.Context, kind, app, function string, logger *slog.Logger) (telemetry.Tracer, error) {
	if kind != "otlp" {
		return nil, nil //nolint:nilnil // no tracer is what was asked for
	}
	return otlp.Open(ctx, app, function, logger)
}
