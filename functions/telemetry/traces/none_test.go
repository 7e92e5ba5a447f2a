//go:build !otel

package traces

import (
	"errors"
	"testing"
)

func TestTracesAreRefusedWhereTheyAreNotBuilt(t *testing.T) {
	for _, kind := range []string{"none", "otlp"} {
		tracer, err := Open(t.Context(), kind, "shop", "ingest", nil)
		if tracer != nil || errors.Is(err, ErrNotBuilt) != (kind == "otlp") {
			t.Errorf("%s: %v, %v", kind, tracer, err)
		}
	}
}
