//go:build otel

package traces

import "testing"

func TestTracesAreMadeWhereTheyAreWanted(t *testing.T) {
	for _, kind := range []string{"none", "otlp"} {
		tracer, err := Open(t.Context(), kind, "shop", "ingest", nil)
		if err != nil || (tracer != nil) != (kind == "otlp") {
			t.Errorf("%s: %v, %v", kind, tracer, err)
		}
	}
}
