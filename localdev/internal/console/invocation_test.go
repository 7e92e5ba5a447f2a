package console_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/localdev/internal/console"
)

func TestTheNewestInvocationsAndLinesStay(t *testing.T) {
	b, _ := board()
	for i := range 2500 {
		b.Invoked(console.Invocation{Function: "ingest", Records: i, Error: strings.Repeat("é", 10_000)})
		b.Logged(console.Log{Function: "ingest", Line: fmt.Sprint(i, strings.Repeat("x", 10_000))})
	}
	calls, lines := b.Invocations(), b.Logs()
	if len(calls) != 1000 || calls[0].Records != 2499 || calls[999].Records != 1500 {
		t.Errorf("%d invocations, from %d to %d", len(calls), calls[0].Records, calls[len(calls)-1].Records)
	}
	if len(lines) != 500 || !strings.HasPrefix(lines[0].Line, "2499x") || !strings.HasPrefix(lines[499].Line, "2000x") {
		t.Errorf("%d lines, from %.5s to %.5s", len(lines), lines[0].Line, lines[len(lines)-1].Line)
	}
	if len(calls[0].Error) > 5000 || len(lines[0].Line) > 5000 {
		t.Errorf("an error of %d bytes and a line of %d are kept", len(calls[0].Error), len(lines[0].Line))
	}
}
