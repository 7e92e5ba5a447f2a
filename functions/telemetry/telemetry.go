// Package telemetry makes metrics and traces of what the functions say of their work. Metrics are lines on the standard output, in
// CloudWatch's embedded metric format: nothing is sent, and nothing is lost when the process is frozen. Traces are whatever a
// Tracer makes of them.
package telemetry

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/fire"
	"github.com/llm-auto-optimizer/tidemark/functions/ingest"
)

// Deps is what telemetry works with. Out takes the metrics; Tracer may be nil: then there are no traces.
type Deps struct {
	App    *spec.App
	Out    io.Writer
	Clock  func() event.Time
	Logger *slog.Logger
	Tracer Tracer
}

// Tracer makes spans. It never fails, and never holds up an invocation for more than a moment.
type Tracer interface {
	// Begin starts the span of an invocation. The function that it returns ends it and sends what there is, before the process may
	// be frozen; err is what the invocation came to.
	Begin(ctx context.Context, function string) (context.Context, func(err error))
	// Batch adds to the span of ctx what the invocation was handed, with links to the traces of the records.
	Batch(ctx context.Context, b *ingest.Batch)
	// Plan adds a committed plan as a span of its own below that of ctx.
	Plan(ctx context.Context, rep *fire.Report)
}

// Handler is a function as the runtime calls it.
type Handler interface {
	Invoke(ctx context.Context, payload []byte) ([]byte, error)
}

// output writes lines of metrics. It is safe for concurrent use.
type output struct {
	Deps
	mu  sync.Mutex
	buf []byte
}

// request is the id of an invocation, empty outside of one.
func request(ctx context.Context) string {
	if lc, ok := lambdacontext.FromContext(ctx); ok {
		return lc.AwsRequestID
	}
	return ""
}

// write encodes metrics and writes them at once, so that no line of the log comes in between.
func (o *output) write(request string, dimensions []member, metrics []metric, others ...member) {
	if request != "" {
		others = append(others, member{"requestId", request})
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	lines, err := appendLines(o.buf[:0], o.Clock(), dimensions, metrics, others...)
	if err == nil {
		o.buf = lines
		_, err = o.Out.Write(lines)
	}
	if err != nil {
		o.Logger.Warn("metrics were not written", "requestId", request, "error", err)
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func number[N int | int64](n N) []float64 { return []float64{float64(n)} }

// traced is a handler within spans.
type traced struct {
	Handler
	tracer   Tracer
	function string
}

func (t *traced) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	ctx, end := t.tracer.Begin(ctx, t.function)
	out, err := t.Handler.Invoke(ctx, payload)
	end(err)
	return out, err
}
