package otlp

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/functions/fire"
	"github.com/llm-auto-optimizer/tidemark/functions/ingest"
)

// received is a collector, and what it was sent.
type received struct {
	mu       sync.Mutex
	requests int
	spans    []*tracepb.Span
	service  string
	bad      error
}

func (c *received) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests++
	var body io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		body, c.bad = gzip.NewReader(r.Body)
	}
	raw, err := io.ReadAll(body)
	var req collector.ExportTraceServiceRequest
	if err := errors.Join(c.bad, err, proto.Unmarshal(raw, &req)); err != nil || r.URL.Path != "/v1/traces" {
		c.bad = fmt.Errorf("%s: %w", r.URL.Path, err)
		return
	}
	for _, rs := range req.ResourceSpans {
		c.service = text(rs.Resource.Attributes, "service.namespace") + " " + text(rs.Resource.Attributes, "service.name")
		for _, ss := range rs.ScopeSpans {
			c.spans = append(c.spans, ss.Spans...)
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func text(attributes []*common.KeyValue, name string) string {
	for _, a := range attributes {
		if a.Key == name {
			if v, ok := a.Value.Value.(*common.AnyValue_StringValue); ok {
				return v.StringValue
			}
			return strings.TrimSpace(a.Value.String())
		}
	}
	return ""
}

func open(t *testing.T, endpoint, function string, log io.Writer) *Tracer {
	t.Helper()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
	tracer, err := Open(t.Context(), "shop", function, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return tracer
}

// within is the context of an invocation, as the runtime makes it.
func within(t *testing.T, xray string) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return context.WithValue(ctx, "x-amzn-trace-id", xray) //nolint:revive,staticcheck // the runtime's own key
}

const xray = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled="

func TestABatchIsASpanWithLinksToTheTracesOfItsRecords(t *testing.T) {
	c := &received{}
	server := httptest.NewServer(c)
	defer server.Close()
	tracer := open(t, server.URL, "ingest", io.Discard)
	b := &ingest.Batch{
		Records: 130, Failed: 2, Parts: []ingest.Part{{TopicPartition: event.TopicPartition{Topic: "in", Partition: 3}, From: 10, To: 140}},
		Links: []string{"not a trace", "00-00000000000000000000000000000000-00f067aa0ba902b7-01"},
	}
	var want []string
	for i := range 126 {
		id := fmt.Sprintf("%032x-%016x", i+1, i+7)
		want = append(want, id)
		b.Links = append(b.Links, "00-"+id+"-01")
	}
	ctx, end := tracer.Begin(within(t, xray+"1"), "ingest")
	tracer.Batch(ctx, b)
	end(nil)
	if c.bad != nil || c.requests != 1 || len(c.spans) != 1 || c.service != "shop tidemark-ingest" {
		t.Fatalf("%d requests, %d spans of %q, %v", c.requests, len(c.spans), c.service, c.bad)
	}
	s := c.spans[0]
	var got []string
	for _, l := range s.Links {
		got = append(got, hex.EncodeToString(l.TraceId)+"-"+hex.EncodeToString(l.SpanId))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if s.Name != "ingest" || hex.EncodeToString(s.TraceId) != "5759e988bd862e3fe1be46a994272793" || hex.EncodeToString(s.ParentSpanId) != "53995c3f42cd8ad8" {
		t.Errorf("%s is not in the trace of X-Ray: %x, parent %x", s.Name, s.TraceId, s.ParentSpanId)
	}
	if got := text(s.Attributes, "tidemark.partitions"); !strings.Contains(got, "in/3 [10,140)") {
		t.Errorf("partitions: %s", got)
	}
}

func TestAPlanIsASpanBelowThatOfItsInvocation(t *testing.T) {
	c := &received{}
	server := httptest.NewServer(c)
	defer server.Close()
	tracer := open(t, server.URL, "fire", io.Discard)
	began := time.UnixMilli(1_700_000_000_000)
	ctx, end := tracer.Begin(within(t, xray+"0"), "fire")
	tracer.Plan(ctx, &fire.Report{Pipeline: "orders", Plan: 7, Watermark: 5, Counted: pipeline.Counts{In: 3}, Began: began, Took: time.Second})
	end(errors.New("halted"))
	if c.bad != nil || len(c.spans) != 2 {
		t.Fatalf("%v, %v", c.spans, c.bad)
	}
	plan, whole := c.spans[0], c.spans[1]
	if !bytes.Equal(plan.ParentSpanId, whole.SpanId) || len(whole.ParentSpanId) > 0 || whole.Status.Code != tracepb.Status_STATUS_CODE_ERROR {
		t.Errorf("plan %v\nof %v", plan, whole)
	}
	if plan.EndTimeUnixNano-plan.StartTimeUnixNano != uint64(time.Second) || text(plan.Attributes, "tidemark.pipeline") != "orders" {
		t.Errorf("plan %v", plan)
	}
	if got := text(whole.Attributes, "aws.xray.trace_header"); got != xray+"0" {
		t.Errorf("trace of X-Ray: %q", got)
	}
}

// TestACollectorThatIsAwayFailsAndHoldsUpNothing has one that refuses, one that errs, and one that never answers.
func TestACollectorThatIsAwayFailsAndHoldsUpNothing(t *testing.T) {
	release := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer silent.Close()
	defer close(release)
	busy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
	defer busy.Close()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	for _, endpoint := range []string{silent.URL, busy.URL, gone.URL} {
		var log bytes.Buffer
		tracer := open(t, endpoint, "ingest", &log)
		ctx, end := tracer.Begin(within(t, ""), "ingest")
		tracer.Batch(ctx, &ingest.Batch{Records: 1})
		began := time.Now()
		end(nil)
		if took := time.Since(began); took > 10*exportFor {
			t.Errorf("%s: held up for %s", endpoint, took)
		}
		if strings.Count(log.String(), "traces were not exported") != 1 || len(tracer.ended.spans) != 0 {
			t.Errorf("%s: %d spans are kept, log: %s", endpoint, len(tracer.ended.spans), log.String())
		}
	}
}

func TestNoTimeIsTakenFromAnInvocationThatIsOver(t *testing.T) {
	c := &received{}
	server := httptest.NewServer(c)
	defer server.Close()
	tracer := open(t, server.URL, "ingest", io.Discard)
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	_, end := tracer.Begin(ctx, "ingest")
	end(nil)
	if c.requests != 0 {
		t.Errorf("%d requests", c.requests)
	}
}

func FuzzTraceHeaderOfXRay(f *testing.F) {
	for _, seed := range []string{xray + "1", xray + "0", "", ";;=", "Root=1-0-0;Sampled=1", xray + "1;Lineage=a:0"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		if parent, sampled := parseXRay(header); sampled && (!parent.IsValid() || !parent.IsSampled() || !parent.IsRemote()) {
			t.Errorf("%q: %+v", header, parent)
		}
	})
}
