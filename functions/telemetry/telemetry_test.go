package telemetry

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/fire"
	"github.com/llm-auto-optimizer/tidemark/functions/ingest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// world is telemetry with its output and its clock.
type world struct {
	Deps
	out bytes.Buffer
	now event.Time
	ctx context.Context
}

func newWorld(t *testing.T, enabled bool) *world {
	t.Helper()
	w := &world{now: 1_700_000_000_000, ctx: lambdacontext.NewContext(t.Context(), &lambdacontext.LambdaContext{AwsRequestID: "4711"})}
	app := &spec.App{Name: "shop", Metrics: spec.Metrics{Enabled: enabled, ExportInterval: time.Minute}}
	w.Deps = Deps{App: app, Out: &w.out, Clock: func() event.Time { return w.now }, Logger: slog.New(slog.DiscardHandler)}
	return w
}

func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	file = "testdata/" + file
	if *update {
		if err := os.WriteFile(file, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (make golden rewrites it):\n%s", file, diff)
	}
	checkAll(t, got)
}

func batch() *ingest.Batch {
	return &ingest.Batch{
		Records: 5, Failed: 1, Took: 12_345_678 * time.Nanosecond,
		Parts: []ingest.Part{{TopicPartition: event.TopicPartition{Topic: "in", Partition: 3}, From: 10, To: 15, Records: 5, Failed: 1}},
		Work: apply.Work{
			Folded: 3, Duplicates: 1, Repaired: 2,
			Fold: []time.Duration{time.Millisecond, 1500 * time.Microsecond}, Commit: []time.Duration{4 * time.Millisecond, 5 * time.Millisecond},
		},
	}
}

func report(plan int64, now event.Time) fire.Report {
	return fire.Report{
		Pipeline: "orders", Plan: plan, Watermark: now.Add(-3 * 1000), At: now, HeldBy: "slowest", Lag: 7, Open: 2, Bytes: 4096, Made: true, Panes: 4,
		Counted: pipeline.Counts{In: 100, Filtered: 1, Unassigned: 2, Skipped: 3, Late: 4, Dead: 5}, Final: 80, Repaired: 6, Took: 25 * time.Millisecond,
	}
}

func TestEachBatchIsALineOfMetrics(t *testing.T) {
	w := newWorld(t, true)
	tell := NewIngest(w.Deps).OnBatch()
	tell(w.ctx, batch())
	tell(w.ctx, &ingest.Batch{Records: 1})
	golden(t, "ingest.jsonl", w.out.Bytes())
}

// invoke runs what happens within an invocation of fire.
type invoke func(ctx context.Context) error

func (f invoke) Invoke(ctx context.Context, _ []byte) ([]byte, error) { return nil, f(ctx) }

func TestPlansAreWrittenOnceAnIntervalAndAtTheEnd(t *testing.T) {
	w := newWorld(t, true)
	f := NewFire(w.Deps)
	tick := f.OnTick()
	_, err := f.Around(invoke(func(context.Context) error {
		for i := range 150 {
			tick([]fire.Report{report(int64(i+1), w.now)})
			w.now = w.now.Add(1000)
		}
		return nil
	})).Invoke(w.ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "fire.jsonl", w.out.Bytes())
	all, lines := checkAll(t, w.out.Bytes())
	sum := func(name string) (n float64) {
		for _, v := range all[name] {
			n += v
		}
		return n
	}
	if lines != 3 || sum("Records") != 15000 || sum("Late") != 600 || sum("DeadLettered") != 750 || sum("Plans") != 150 || len(all["FireLatency"]) != 150 {
		t.Errorf("%d lines, %v", lines, all)
	}
}

func TestWhatIsNotKnownIsNotWritten(t *testing.T) {
	halted := fmt.Errorf("%w: no", fire.ErrHalted)
	for _, c := range []struct {
		what string
		rep  fire.Report
		want []string // of the gauges
	}{
		{"nothing is known", fire.Report{Pipeline: "p", Err: errors.New("no broker")}, nil},
		{"before the first plan", fire.Report{Pipeline: "p", Watermark: event.MinTime, At: 5, HeldBy: "no record yet"}, []string{"Lag", "OpenSlices", "StateBytes", "PlanAge"}},
		{"nothing to do", fire.Report{Pipeline: "p", Plan: 3, Watermark: 5, At: 5, HeldBy: "all idle", Quiet: true}, []string{"Lag", "OpenSlices", "StateBytes"}},
		{"it has ended", fire.Report{Pipeline: "p", Plan: 3, Watermark: 5, At: 5, Quiet: true}, nil},
		{"halted", fire.Report{Pipeline: "p", Plan: 3, Watermark: 5, At: 5, Err: halted}, []string{"WatermarkLag", "PlanAge"}},
	} {
		w := newWorld(t, true)
		f := NewFire(w.Deps)
		f.written = w.now
		f.OnTick()([]fire.Report{c.rep})
		f.export()
		all, _ := checkAll(t, w.out.Bytes())
		var got []string
		for _, name := range []string{"Lag", "OpenSlices", "StateBytes", "WatermarkLag", "PlanAge"} {
			if all[name] != nil {
				got = append(got, name)
			}
		}
		if diff := cmp.Diff(c.want, got); diff != "" || all["Halted"][0] == 1 != errors.Is(c.rep.Err, fire.ErrHalted) {
			t.Errorf("%s: halted %v, %s", c.what, all["Halted"], diff)
		}
	}
}

func TestNothingIsMeasuredWhereMetricsAreOff(t *testing.T) {
	w := newWorld(t, false)
	h := invoke(func(context.Context) error { return nil })
	i, f := NewIngest(w.Deps), NewFire(w.Deps)
	if i.OnBatch() != nil || f.OnTick() != nil {
		t.Error("somebody listens")
	}
	for _, around := range []Handler{i.Around(h), f.Around(h)} {
		if _, err := around.Invoke(w.ctx, nil); err != nil {
			t.Error(err)
		}
	}
	if w.out.Len() > 0 {
		t.Errorf("%s", w.out.Bytes())
	}
}

// spans is a Tracer that writes down what it is told.
type spans struct{ heard []string }

func (s *spans) Begin(ctx context.Context, function string) (context.Context, func(error)) {
	s.heard = append(s.heard, "begin "+function)
	return ctx, func(err error) { s.heard = append(s.heard, fmt.Sprintf("end: %v", err)) }
}

func (s *spans) Batch(_ context.Context, b *ingest.Batch) {
	s.heard = append(s.heard, fmt.Sprintf("batch of %d", b.Records))
}

func (s *spans) Plan(_ context.Context, rep *fire.Report) {
	s.heard = append(s.heard, fmt.Sprintf("plan %d", rep.Plan))
}

func TestATracerHearsOfBatchesAndPlansAlsoWithoutMetrics(t *testing.T) {
	w, s := newWorld(t, false), &spans{}
	w.Tracer = s
	i, f := NewIngest(w.Deps), NewFire(w.Deps)
	_, _ = i.Around(invoke(func(ctx context.Context) error { i.OnBatch()(ctx, batch()); return nil })).Invoke(w.ctx, nil)
	_, err := f.Around(invoke(func(context.Context) error {
		f.OnTick()([]fire.Report{report(1, w.now), {Pipeline: "orders"}})
		return errors.New("halted")
	})).Invoke(w.ctx, nil)
	want := []string{"begin ingest", "batch of 5", "end: <nil>", "begin fire", "plan 1", "end: halted"}
	if diff := cmp.Diff(want, s.heard); diff != "" || err == nil || w.out.Len() > 0 {
		t.Errorf("%v, %q\n%s", err, w.out.Bytes(), diff)
	}
}
