package console_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/llm-auto-optimizer/tidemark/localdev/internal/console"
)

func TestTheNewestInvocationsAndLinesStay(t *testing.T) {
	b, _ := board()
	for i := range 2500 {
		b.Invoked(console.Invocation{Function: fmt.Sprint("f", i%100), Records: i, Duration: time.Duration(i) * time.Millisecond, Error: strings.Repeat("é", 10_000)})
		b.Logged(console.Log{Function: "ingest", Line: fmt.Sprint(i, strings.Repeat("x", 10_000))})
	}
	f, lines := b.Functions(), b.LogLines("")
	if len(f.Last) != 200 || f.Last[0].Records != 2499 || f.Last[199].Records != 2300 || len(f.Functions) != 16 {
		t.Errorf("%d invocations of %d functions, from %d to %d", len(f.Last), len(f.Functions), f.Last[0].Records, f.Last[len(f.Last)-1].Records)
	}
	if len(lines) != 400 || !strings.HasPrefix(lines[0].Line, "2499x") || !strings.HasPrefix(lines[399].Line, "2100x") {
		t.Errorf("%d lines, from %.5s to %.5s", len(lines), lines[0].Line, lines[len(lines)-1].Line)
	}
	if len(f.Last[0].Error) > 5000 || len(lines[0].Line) > 5000 {
		t.Errorf("an error of %d bytes and a line of %d are kept", len(f.Last[0].Error), len(lines[0].Line))
	}
	if got := b.LogLines("fire"); len(got) != 0 {
		t.Errorf("fire has logged %v", got)
	}
}

func TestFunctionsHavePercentilesAndTotals(t *testing.T) {
	b, _ := board()
	for i := 1; i <= 100; i++ {
		b.Invoked(console.Invocation{Function: "ingest", Duration: time.Duration(i) * time.Millisecond, Records: 2, ColdStart: i == 1, InitDuration: 90 * time.Millisecond, MaxMemory: int64(i)})
	}
	b.Invoked(console.Invocation{Function: "fire", Duration: time.Second, Error: "no broker"})
	got := b.Functions()
	in, fire := got.Functions[1], got.Functions[0]
	if in.Took != (console.Percentiles{Count: 100, P50: 50, P99: 99, Max: 100}) || in.Calls != 100 || in.Records != 200 || in.ColdStarts != 1 || in.Errors != 0 || in.MaxMemory != 100 {
		t.Errorf("ingest: %+v", in)
	}
	if fire.Calls != 1 || fire.Errors != 1 || got.Last[0].Error != "no broker" || got.Last[0].InitMS != nil || *got.Last[100].InitMS != 90 {
		t.Errorf("fire: %+v, the last %+v", fire, got.Last[0])
	}
}

// The append of a record is only known where its Kafka timestamp can be that of the clock.
func TestOnlyPlausibleLatenciesCount(t *testing.T) {
	b, _ := board()
	at := time.Unix(1_800_000_000, 0)
	b.Folded(at.Add(-9000*time.Hour), at.Add(-time.Millisecond), at) // somebody set that
	b.Folded(at.Add(-40*time.Millisecond), at.Add(-10*time.Millisecond), at)
	if got := b.Status(); got.Folded.Count != 1 || got.Folded.Max != 40 || got.FromArrival {
		t.Errorf("%+v, want 40 ms", got.Folded)
	}
	b.Folded(at.Add(time.Hour), at.Add(-50*time.Millisecond), at)
	if got := b.Status(); got.Folded.Count != 2 || got.Folded.Max != 50 || !got.FromArrival {
		t.Errorf("%+v, want 50 ms, from the arrival", got.Folded)
	}
}

func TestLogsOfFunctionsAreOnTheBoardAndPassedOn(t *testing.T) {
	b, _ := board()
	var out strings.Builder
	next := slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn})
	l := slog.New(console.NewLogHandler(next, b, "fire")).With("pipeline", "p").WithGroup("g")
	l.Debug("fine")
	l.Info("plan made", "plan", 7)
	l.Warn("slow", "took", "3s")
	lines := b.LogLines("fire")
	if len(lines) != 2 || lines[1].Line != "plan made pipeline=p g.plan=7" || lines[1].Level != "INFO" || lines[0].Line != "slow pipeline=p g.took=3s" || lines[0].TimeMS == 0 {
		t.Errorf("the board has %+v", lines)
	}
	if got := out.String(); strings.Contains(got, "plan made") || !strings.Contains(got, "msg=slow pipeline=p g.took=3s") {
		t.Errorf("passed on: %q", got)
	}
}
