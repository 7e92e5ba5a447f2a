package spec

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/llm-auto-optimizer/tidemark/core/aggregate"
	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/window"
)

// audit checks an App as a whole: what the table of keys cannot say, since it is about several parts at once. It names parts
// by their path in the App; where the App was read from a file, written knows the places.
type audit struct {
	file     string
	written  map[string]*value
	problems []*Problem
}

// report reports a problem of a part, at the nearest place that is written around it. A part that was already found bad is
// left alone: what it is in the App is its default.
func (a *audit) report(part, message, got, hint string) {
	p := &Problem{File: a.file, Path: part, Message: message, Value: got, Hint: hint}
	if v := a.nearest(part); v != nil {
		if v.bad {
			return
		}
		p.Line, p.Column, p.Path = v.line, v.column, v.path
	}
	for _, before := range a.problems {
		if *before == *p {
			return // one place that several pipelines share
		}
	}
	a.problems = append(a.problems, p)
}

func (a *audit) nearest(part string) *value {
	for part != "" && a.written != nil {
		if v := a.written[part]; v != nil {
			return v
		}
		part = part[:max(0, strings.LastIndexAny(part, ".["))]
	}
	return nil
}

// Validate checks an App that was changed or built without Load or a Builder: every range, and the App as a whole. All
// problems are reported at once.
func (a *App) Validate() error {
	u := &audit{}
	u.ranges(a)
	u.check(a)
	return join(u.problems)
}

func (a *audit) check(app *App) {
	if c, p := app.Consumer.BootstrapServers, app.Producer.BootstrapServers; c != p && c != "" && p != "" {
		a.report("producer.bootstrap_servers", "must be those of the consumer, "+c+": results and offsets are one transaction of one cluster", shown(p), "leave it out")
	}
	if e := app.Errors; e.InitialRetryDelay > e.MaxRetryDelay {
		a.report("errors.initial_retry_delay", "must be at most max_retry_delay", e.InitialRetryDelay.String(), "the longest is "+e.MaxRetryDelay.String())
	}
	if len(app.Pipelines) == 0 {
		a.report("pipelines", "is empty", "", "leave the key out for one pipeline named default")
	}
	names := map[string]bool{}
	for i := range app.Pipelines {
		p, at := &app.Pipelines[i], pipelinePath(i)
		if names[p.Name] {
			hint := "name each pipeline otherwise"
			if p.Name == defaultName {
				hint = "a pipeline without a name is named default"
			}
			a.report(at+".name", "is the name of two pipelines", shown(p.Name), hint)
		}
		names[p.Name] = true
		a.pipeline(p, at)
	}
	a.topics(app)
}

// missing reports what a pipeline neither has nor inherits: where it would be inherited from, or with the pipeline where those are
// written, whatever else is wrong with that.
func (a *audit) missing(at, key, what, inherited, own string) {
	v, from := a.written[at], a.written[at+key]
	switch {
	case v == nil || v.node == nil:
		a.report(at+key, "is required: "+what, "", inherited)
	case from == nil || !from.bad:
		a.problems = append(a.problems, &Problem{
			File: a.file, Line: v.line, Column: v.column, Path: v.path, Message: "has no " + key[1:] + ", which is required: " + what, Hint: own,
		})
	}
}

func pipelinePath(i int) string { return "pipelines[" + strconv.Itoa(i) + "]" }

func (a *audit) pipeline(p *Pipeline, at string) {
	if len(p.Topics) == 0 {
		a.missing(at, ".topics", "the source topics", "topics: [TOPIC], for example "+`["performance-metrics"]`, "topics: [TOPIC], or kafka.consumer.topics for all pipelines")
	}
	if p.SinkTopic == "" {
		a.missing(at, ".sink", "the topic of results", "for example aggregated-metrics", "sink: {topic: TOPIC}, or kafka.producer.result_topic for all pipelines")
	}
	if p.Timestamp.Field == "" && !p.Timestamp.Record {
		a.report(at+".timestamp", "names neither a field nor the record's own time", "", "{field: timestamp, unit: ms} or {record: true}")
	}
	if p.Shards > 1 {
		a.later(at+".shards", "fire.shards", strconv.Itoa(p.Shards))
	}
	if w := p.Watermark; w.Periodic && w.EmitInterval <= 0 {
		a.report(at+".watermark.emit_interval", "must be above 0 for the periodic strategy", w.EmitInterval.Duration().String(), "the default is 10s")
	}
	a.windows(p, at)
	a.trigger(p, at)
	a.aggregates(p, at)
	a.operators(p, at)
	a.input(p, at)
	if _, err := event.NewExtractor(p.inputs()); err != nil && len(p.Windows) > 0 {
		a.report(at, "fields that cannot be read: "+err.Error(), "", "names joined by dots, such as attributes.tokens")
	}
}

// trigger looks at what does not go together.
func (a *audit) trigger(p *Pipeline, at string) {
	t := p.Trigger
	switch {
	case t.FinalOnly && t.Early():
		a.report(at+".trigger.final_only", "does not go with early panes", "true", "remove one of them")
	case t.FinalOnly && t.OnChange:
		a.report(at+".trigger.final_only", "does not go with on_change: there is one pane a window", "true", "remove one of them")
	}
	if t.OnChange && p.Accumulation == Discarding {
		a.report(at+".trigger.on_change", "does not go with accumulation: discarding, where each pane has other records", "true", "remove one of them")
	}
	for i := range p.Windows {
		if p.Windows[i].Kind == window.KindGlobal && !t.Early() {
			a.report(at+".windows["+strconv.Itoa(i)+"].type", "never ends, and goes out by a trigger alone", "global", "trigger: {early: {every: 10s}}, or {count: 1000}")
		}
	}
}

func (a *audit) later(part, key, got string) {
	p := &Problem{File: a.file, Path: part, Message: "not supported yet: " + key, Value: got, Hint: "leave it out", unsupported: true}
	if v := a.nearest(part); v != nil {
		p.Line, p.Column, p.Path = v.line, v.column, v.path
		p.Message += fmt.Sprintf(" (line %d)", v.line)
	}
	a.problems = append(a.problems, p)
}

func (a *audit) windows(p *Pipeline, at string) {
	if len(p.Windows) == 0 {
		a.report(at+".windows", "is required: at least one window", "", "{type: tumbling, size: 1m}")
	}
	names := map[string]bool{}
	for i := range p.Windows {
		d := &p.Windows[i]
		part := at + ".windows[" + strconv.Itoa(i) + "]"
		if names[d.Name] {
			hint := "name each window otherwise"
			if d.Name == d.Kind.String() {
				hint = "a window without a name is named after its type"
			}
			a.report(part+".name", "is the name of two windows of the pipeline", shown(d.Name), hint)
		}
		names[d.Name] = true
		if a.partial(d, part) {
			continue
		}
		for _, problem := range d.Problems() {
			key, hint := windowKey(problem.Field)
			message, got := problem.Msg, ""
			if v := a.written[part+"."+key]; v != nil && v.node != nil && v.kids == nil {
				got = v.node.got()
				message, _, _ = strings.Cut(message, ", got ") // in milliseconds; here it is said as written
			}
			a.report(part+"."+key, message, got, hint)
		}
	}
}

// notWhole is said of durations below the unit of event time.
const notWhole = "must be a whole number of milliseconds, the unit of event time"

func (a *audit) partial(d *window.Definition, part string) bool {
	found := false
	for _, s := range []struct {
		key  string
		span event.Span
	}{{"size", d.Size}, {"slide", d.Slide}, {"offset", d.Offset}, {"step", d.Step}, {"gap", d.Gap}, {"max", d.Max}, {"max_gap", d.MaxGap}, {"allowed_lateness", d.Lateness}} {
		if s.span == partial {
			a.report(part+"."+s.key, notWhole, "", "")
			found = true
		}
	}
	return found
}

// windowKey returns the key of a spec that a problem of a window is about, and what would be right.
func windowKey(name string) (key, hint string) {
	switch name {
	case window.FieldSize:
		return "size", "for example size: 1m"
	case window.FieldSlide:
		return "slide", "for example slide: 10s"
	case window.FieldSlideAboveSize:
		return "slide", "allow_gaps: true leaves records between two windows out of both"
	case window.FieldOffset:
		return "offset", "the edges repeat after that"
	case window.FieldGap:
		return "gap", "for example gap: 5m"
	case window.FieldStep:
		return "step", "for example step: 1h in a size of 24h"
	case window.FieldMax:
		return "max", "for example max: 24h"
	case window.FieldMaxGap:
		return "max_gap", "gap is that of records without one of their own"
	case window.FieldLateness:
		return "allowed_lateness", "0s for none"
	}
	return "type", "tumbling, sliding, session, cumulate or global"
}

func (a *audit) aggregates(p *Pipeline, at string) {
	have := map[string]bool{}
	for _, g := range p.Aggregates {
		have[g.Value] = true
		if g.Value != "" && !slices.ContainsFunc(p.Values, func(v Value) bool { return v.Name == g.Value }) {
			a.report(at+".aggregates", "is not a value of this pipeline", shown(g.Value), "name its field, as a value")
			continue
		}
		for i, name := range g.Functions {
			part := functionPath(at, g.Value, i)
			_, err := p.Functions.Parse(name)
			switch {
			case err != nil:
				a.report(part, "is not an aggregate function", shown(name), functionHint(name, p.Functions))
			case slices.Contains(g.Functions[:i], name):
				a.report(part, "is given twice", shown(name), "remove one")
			case g.Value == "" && name != countFunction:
				a.report(part, "needs a value, and the pipeline has none", shown(name), "without values, only count; or values: {value: value}")
			}
		}
		if len(g.Functions) == 0 {
			a.report(at+".aggregates."+strconv.Quote(g.Value), "has no function", "", "for example [count, average, p99]")
		}
	}
	for _, v := range p.Values {
		if !have[v.Name] {
			a.report(at+".aggregates", "has nothing for the value "+shown(v.Name), "", "for example [count, average, p99]")
		}
	}
}

func functionHint(name string, g *aggregate.Registry) string {
	known := []string{"count", "sum", "average", "min", "max", "stddev", "variance", "stddev_sample", "variance_sample", "first", "last", "distinct"}
	for _, name := range g.Names() {
		if f, err := g.Parse(name); err == nil && f.Kind == aggregate.UserDefined {
			known = append(known, name)
		}
	}
	known = append(known, percentileName)
	other := map[string]string{
		"avg": "average", "mean": "average", "median": "p50", "std": "stddev", "minimum": "min", "maximum": "max", "percentiles": percentileName,
		"count_distinct": "distinct", "unique": "distinct", "cardinality": "distinct", "latest": "last", "earliest": "first",
	}
	if meant, ok := other[strings.ToLower(name)]; ok {
		return "did you mean " + meant + "?"
	}
	if hint := meant(name, known); hint != "" {
		return hint
	}
	return strings.Join(known, ", ") + ", or p0 to p100, such as p99.9"
}

// topics checks that nothing is written to where something else is read or written.
func (a *audit) topics(app *App) {
	sources, sinks := map[string]string{}, map[string]string{}
	for i := range app.Pipelines {
		p := &app.Pipelines[i]
		for _, t := range p.Topics {
			sources[t] = p.Name
		}
		if p.SinkTopic != "" {
			sinks[p.SinkTopic] = p.Name
		}
	}
	for i := range app.Pipelines {
		p, at := &app.Pipelines[i], pipelinePath(i)
		for _, out := range []struct{ part, what, topic string }{
			{".sink", "results", p.SinkTopic},
			{".late", "late records", p.LateTopic},
			{".dead_letter", "dead letters", p.DeadLetterTopic},
		} {
			if out.topic == "" {
				continue
			}
			if reader, ok := sources[out.topic]; ok {
				a.report(at+out.part, "the topic of "+out.what+" is a source topic of pipeline "+reader, shown(out.topic), "choose another; a chain of pipelines is two apps")
			}
			if writer, ok := sinks[out.topic]; ok && out.part != ".sink" {
				a.report(at+out.part, "the topic of "+out.what+" is the result topic of pipeline "+writer, shown(out.topic), "choose another")
			}
			if message, hint := formatTopic.check(out.topic); message != "" {
				a.report(at+out.part, "the topic of "+out.what+" "+message, shown(out.topic), hint)
			}
		}
	}
}
