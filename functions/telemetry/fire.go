package telemetry

import (
	"context"
	"errors"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/functions/fire"
)

// Fire measures the function fire. Like its handler it is not safe for concurrent use.
type Fire struct {
	output
	pipelines []*running    // in the order in which they were first heard of
	written   event.Time    // when metrics were written last, or the invocation began
	request   string        // the invocation
	plans     []fire.Report // of this invocation, for the tracer
}

// running is what has happened to a pipeline since metrics were written.
type running struct {
	name        string
	looks       int
	plans       int64
	panes       int64
	counted     pipeline.Counts
	final       int64
	repaired    int64
	unaccounted int64
	halted      int64
	latency     []float64
	last        fire.Report // the newest that got as far as to know the plan
	decided     bool        // last knows what is open and lagging
	known       bool
}

// NewFire returns a Fire.
func NewFire(d Deps) *Fire { return &Fire{output: output{Deps: d}} }

// OnTick returns what fire is to tell its looks, or nil if nobody wants to hear of them.
func (f *Fire) OnTick() func([]fire.Report) {
	if !f.App.Metrics.Enabled && f.Tracer == nil {
		return nil
	}
	return func(reports []fire.Report) {
		for i := range reports {
			if f.Tracer != nil && reports[i].Made {
				f.plans = append(f.plans, reports[i])
			}
			if f.App.Metrics.Enabled {
				f.pipeline(reports[i].Pipeline).add(&reports[i])
			}
		}
		if f.App.Metrics.Enabled && f.Clock().Sub(f.written) >= event.SpanOf(f.App.Metrics.ExportInterval) {
			f.export()
		}
	}
}

// Around returns the handler that the runtime is to call.
func (f *Fire) Around(h Handler) Handler {
	if !f.App.Metrics.Enabled && f.Tracer == nil {
		return h
	}
	return &measured{Handler: h, fire: f}
}

// measured writes what is left when an invocation ends: nobody knows whether there will be another in this process.
type measured struct {
	Handler
	fire *Fire
}

func (m *measured) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	f, end := m.fire, func(error) {}
	f.written, f.request = f.Clock(), request(ctx)
	if f.Tracer != nil {
		ctx, end = f.Tracer.Begin(ctx, "fire")
	}
	out, err := m.Handler.Invoke(ctx, payload)
	f.export()
	for i := range f.plans {
		f.Tracer.Plan(ctx, &f.plans[i])
	}
	f.plans = nil
	end(err)
	return out, err
}

func (f *Fire) pipeline(name string) *running {
	for _, r := range f.pipelines {
		if r.name == name {
			return r
		}
	}
	r := &running{name: name}
	f.pipelines = append(f.pipelines, r)
	return r
}

func (r *running) add(rep *fire.Report) {
	r.looks++
	r.counted = r.counted.Add(rep.Counted)
	r.final += rep.Final
	r.repaired += rep.Repaired
	r.unaccounted += rep.Unaccounted
	if rep.Made {
		r.plans++
		r.panes += int64(rep.Panes)
		r.latency = append(r.latency, ms(rep.Took))
	}
	if errors.Is(rep.Err, fire.ErrHalted) {
		r.halted = 1
	}
	decided := rep.HeldBy != ""
	if decided || rep.Err != nil && rep.Plan > 0 {
		r.last, r.known, r.decided = *rep, true, decided
	}
}

// export writes what has happened since the last time.
func (f *Fire) export() {
	now := f.Clock()
	for _, r := range f.pipelines {
		if r.looks == 0 {
			continue
		}
		f.write(f.request, []member{{"App", f.App.Name}, {"Pipeline", r.name}}, r.metrics(now), member{"plan", r.last.Plan}, member{"heldBy", r.last.HeldBy})
		*r = running{name: r.name}
	}
	f.written = now
}

func (r *running) metrics(now event.Time) []metric {
	all := []metric{
		{"Records", count, number(r.counted.In)},
		{"Final", count, number(r.final)},
		{"Late", count, number(r.counted.Late)},
		{"DeadLettered", count, number(r.counted.Dead)},
		{"Skipped", count, number(r.counted.Skipped)},
		{"Filtered", count, number(r.counted.Filtered)},
		{"Unassigned", count, number(r.counted.Unassigned)},
		{"Unaccounted", count, number(r.unaccounted)},
		{"GapsRepaired", count, number(r.repaired)},
		{"Plans", count, number(r.plans)},
		{"Panes", count, number(r.panes)},
		{"Halted", count, number(r.halted)},
		{"FireLatency", millis, r.latency},
	}
	if r.decided {
		all = append(all, metric{"Lag", count, number(r.last.Lag)}, metric{"OpenSlices", count, number(r.last.Open)}, metric{"StateBytes", size, number(r.last.Bytes)})
	}
	if !r.known || r.last.Quiet {
		// With nothing to do a watermark stands still, and no plan is made: how old they are says nothing.
		return all
	}
	if r.last.Watermark > event.MinTime {
		all = append(all, metric{"WatermarkLag", millis, number(int64(now.Sub(r.last.Watermark)))})
	}
	if r.last.At > event.MinTime {
		all = append(all, metric{"PlanAge", millis, number(int64(now.Sub(r.last.At)))})
	}
	return all
}
