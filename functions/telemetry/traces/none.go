//go:build !otel

package traces

import (
	"context"
	"log/slog"

	"github.com/llm-auto-optimizer/tidemark/functions/telemetry"
)

// Open returns the tracer of a function of an app, or nil where kind is not otlp.
func Open(_ context.Context, kind, _, _ string, _ *slog.Logger) (telemetry.Tracer, error) {
	if kind != "otlp" {
		return nil, nil //nolint:nilnil // no tracer is what was asked for
	}
	return nil, ErrNotBuilt
}
