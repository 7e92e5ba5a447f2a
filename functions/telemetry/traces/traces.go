// Package traces makes the tracer of a function, and links OpenTelemetry only into binaries that are built with the tag otel: in the
// others it would be the larger part of their size and of their start, for nothing.
package traces

import "errors"

// ErrNotBuilt is returned where traces are wanted from a binary that cannot make any.
var ErrNotBuilt = errors.New("traces: TIDEMARK_TRACES=otlp, but this binary is built without OpenTelemetry: build it with `make build OTEL=1`, or ask for none")
