package job

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/llm-auto-optimizer/tidemark/localdev/internal/console"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/trigger"
)

// invoker is a function.
type invoker interface {
	Invoke(ctx context.Context, payload []byte) ([]byte, error)
}

// observed is a function in this process whose invocations are on the board.
type observed struct {
	invoker
	board *console.Board
	name  string
	calls atomic.Int64
}

// Invoke implements invoker.
func (o *observed) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	n, began := o.calls.Add(1), time.Now()
	answer, err := o.invoker.Invoke(ctx, payload)
	i := console.Invocation{Function: o.name, RequestID: fmt.Sprintf("%s-%d", o.name, n), Started: began, Duration: time.Since(began)}
	if err != nil {
		i.Error = err.Error()
	}
	o.board.Invoked(i)
	return answer, err
}

// delivered takes a batch that has been answered.
func (r *run) delivered(a trigger.Answered) {
	r.board.Applied(a.Done)
	if a.Done > 0 {
		r.board.Folded(a.Appended, a.Arrived, a.At.Add(a.Took))
	}
}

// answered takes a batch that ingest has answered in this process.
func (r *run) answered(a trigger.Answered) {
	r.delivered(a)
	i := console.Invocation{
		Function: "ingest", RequestID: fmt.Sprintf("ingest-%d", a.ID), Started: a.At, Duration: a.Took, Records: a.Records,
	}
	switch {
	case a.Err != nil:
		i.Error = a.Err.Error()
	case a.Outcome != trigger.Applied:
		i.Error = fmt.Sprintf("%s: %d of %d records were answered as failed", a.Outcome, a.Failed, a.Records)
	}
	r.board.Invoked(i)
}

// loggerOf returns the logger of a function in this process: its lines are on the board as well.
func (r *run) loggerOf(function string) *slog.Logger {
	return slog.New(console.NewLogHandler(r.Logger.Handler(), r.board, function))
}
