// Package otlp makes OpenTelemetry spans of the functions' work and sends them to a collector, by OTLP over HTTP. Where to and with
// what, the variables of OpenTelemetry say (OTEL_EXPORTER_OTLP_ENDPOINT and so on); without them it is a collector on the same
// machine, as a layer of Lambda brings one. It costs a binary some 8 MB: only those built with the tag otel have it.
package otlp

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/llm-auto-optimizer/tidemark/functions/fire"
	"github.com/llm-auto-optimizer/tidemark/functions/ingest"
)

// exportFor is the longest that an invocation waits for the collector. It never takes more than half of what is left to it.
const exportFor = 200 * time.Millisecond

// Tracer is a telemetry.Tracer. It is safe for concurrent use.
type Tracer struct {
	tracer trace.Tracer
	ended  *ended
	logger *slog.Logger
}

// Open returns a Tracer of an app. It does not connect: a collector that is away is noticed by the first export, and fails nothing.
func Open(ctx context.Context, app, function string, logger *slog.Logger) (*Tracer, error) {
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: false}), otlptracehttp.WithTimeout(exportFor))
	if err != nil {
		return nil, fmt.Errorf("open the exporter of traces: %w", err)
	}
	res, err := resource.New(ctx, resource.WithAttributes(
		attribute.String("service.name", "tidemark-"+function), attribute.String("service.namespace", app),
	), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("describe the source of traces: %w", err)
	}
	e := &ended{exporter: exporter}
	provider := sdk.NewTracerProvider(sdk.WithSpanProcessor(e), sdk.WithResource(res))
	return &Tracer{tracer: provider.Tracer("github.com/llm-auto-optimizer/tidemark"), ended: e, logger: logger}, nil
}

// Begin implements telemetry.Tracer. A span is part of the trace of X-Ray if that is sampled; else it only names it.
func (t *Tracer) Begin(ctx context.Context, function string) (context.Context, func(error)) {
	whole := ctx
	id, _ := ctx.Value("x-amzn-trace-id").(string)
	parent, sampled := parseXRay(id)
	if sampled {
		ctx = trace.ContextWithRemoteSpanContext(ctx, parent)
	}
	ctx, span := t.tracer.Start(ctx, function, trace.WithSpanKind(trace.SpanKindConsumer))
	if id != "" {
		span.SetAttributes(attribute.String("aws.xray.trace_header", id))
	}
	return ctx, func(err error) {
		if err != nil {
			span.SetStatus(codes.Error, err.Error())
		}
		span.End()
		t.flush(whole)
	}
}

// Batch implements telemetry.Tracer.
func (t *Tracer) Batch(ctx context.Context, b *ingest.Batch) {
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(
		attribute.String("messaging.system", "kafka"), attribute.Int("messaging.batch.message_count", b.Records),
		attribute.StringSlice("tidemark.partitions", ingest.Names(b.Parts)), attribute.Int("tidemark.unapplied", b.Failed),
		attribute.Int64("tidemark.duplicates", b.Work.Duplicates), attribute.Int64("tidemark.repaired", b.Work.Repaired),
	)
	for _, l := range b.Links {
		carrier := propagation.MapCarrier{"traceparent": l}
		// Not ctx: a traceparent that is none must not become the batch's own span.
		of := propagation.TraceContext{}.Extract(context.Background(), carrier)
		if sc := trace.SpanContextFromContext(of); sc.IsValid() { //nolint:contextcheck // see above
			span.AddLink(trace.Link{SpanContext: sc})
		}
	}
}

// Plan implements telemetry.Tracer.
func (t *Tracer) Plan(ctx context.Context, rep *fire.Report) {
	_, span := t.tracer.Start(ctx, "plan", trace.WithTimestamp(rep.Began), trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(
		attribute.String("tidemark.pipeline", rep.Pipeline), attribute.Int64("tidemark.plan", rep.Plan),
		attribute.String("tidemark.watermark", rep.Watermark.String()), attribute.String("tidemark.held_by", rep.HeldBy),
		attribute.Int("tidemark.panes", rep.Panes), attribute.Int64("tidemark.records", rep.Counted.In),
		attribute.Int64("tidemark.late", rep.Counted.Late), attribute.Int64("tidemark.dead_lettered", rep.Counted.Dead),
	))
	span.End(trace.WithTimestamp(rep.Began.Add(rep.Took)))
}

// flush sends what has ended. What cannot be sent within the time is dropped: traces are not worth a batch.
func (t *Tracer) flush(ctx context.Context) {
	wait := exportFor
	if end, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(end)/2)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), wait)
	defer cancel()
	if n, err := t.ended.export(ctx); err != nil {
		t.logger.WarnContext(ctx, "traces were not exported", "spans", n, "error", err)
	}
}

// ended keeps spans that have ended until the invocation does. A processor with a goroutine of its own would be frozen with the
// process, in the middle of a request.
type ended struct {
	exporter sdk.SpanExporter
	mu       sync.Mutex
	spans    []sdk.ReadOnlySpan
}

// OnStart implements sdk.SpanProcessor.
func (e *ended) OnStart(context.Context, sdk.ReadWriteSpan) {}

// OnEnd implements sdk.SpanProcessor.
func (e *ended) OnEnd(s sdk.ReadOnlySpan) {
	if !s.SpanContext().IsSampled() {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.spans = append(e.spans, s)
}

// Shutdown implements sdk.SpanProcessor.
func (e *ended) Shutdown(ctx context.Context) error { return e.exporter.Shutdown(ctx) }

// ForceFlush implements sdk.SpanProcessor.
func (e *ended) ForceFlush(ctx context.Context) error {
	_, err := e.export(ctx)
	return err
}

func (e *ended) export(ctx context.Context) (int, error) {
	e.mu.Lock()
	spans := e.spans
	e.spans = nil
	e.mu.Unlock()
	if len(spans) == 0 {
		return 0, nil
	}
	return len(spans), e.exporter.ExportSpans(ctx, spans)
}

// parseXRay reads the trace header of an invocation: Root=1-TIME-ID;Parent=SPAN;Sampled=1, perhaps with more. It reports whether
// the trace is sampled and the parent is one.
func parseXRay(header string) (parent trace.SpanContext, sampled bool) {
	var c trace.SpanContextConfig
	for part := range strings.SplitSeq(header, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "Root":
			version, rest, _ := strings.Cut(value, "-")
			when, id, _ := strings.Cut(rest, "-")
			if raw, err := hex.DecodeString(when + id); err == nil && version == "1" && len(when) == 8 && len(raw) == len(c.TraceID) {
				c.TraceID = trace.TraceID(raw)
			}
		case "Parent":
			if raw, err := hex.DecodeString(value); err == nil && len(raw) == len(c.SpanID) {
				c.SpanID = trace.SpanID(raw)
			}
		case "Sampled":
			sampled = value == "1"
		}
	}
	c.TraceFlags, c.Remote = trace.FlagsSampled, true
	parent = trace.NewSpanContext(c)
	return parent, sampled && parent.IsValid()
}
