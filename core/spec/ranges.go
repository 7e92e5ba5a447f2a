package spec

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/aggregate"
	"github.com/llm-auto-optimizer/tidemark/core/window"
)

// ranges checks every single value of an App against the table of keys, as the checker does for a file.
func (a *audit) ranges(app *App) {
	root := language()
	at := func(path ...string) *field { return root.at(path...) }
	a.text("app", at("app"), app.Name)
	a.number("parallelism", at("processor", "parallelism"), app.Parallelism)
	a.number("buffer_size", at("processor", "buffer_size"), app.BufferSize)
	a.lasts("checkpoint_interval", at("processor", "checkpoint_interval"), app.CheckpointInterval)
	state := at("processor", "state")
	a.text("state.backend", state.find("backend"), string(app.State.Backend))
	a.text("state.path", state.find("path"), app.State.Path)
	if s := app.State.CheckpointPath; s != "" {
		a.text("state.checkpoint_path", state.find("checkpoint_path"), s)
	}
	a.text("state.compression", state.find("compression"), app.State.Compression)
	errs := at("processor", "error_handling")
	a.text("errors.policy", errs.find("policy"), string(app.Errors.Policy))
	a.number("errors.max_retries", errs.find("max_retries"), app.Errors.MaxRetries)
	a.lasts("errors.initial_retry_delay", errs.find("initial_retry_delay"), app.Errors.InitialRetryDelay)
	a.lasts("errors.max_retry_delay", errs.find("max_retry_delay"), app.Errors.MaxRetryDelay)
	if app.Metrics.Enabled {
		a.lasts("metrics.export_interval", at("metrics", "export_interval"), app.Metrics.ExportInterval)
	}
	a.kafkaRanges(app, at("kafka"))
	for i := range app.Pipelines {
		a.pipelineRanges(&app.Pipelines[i], pipelinePath(i), at("pipelines").elem, app.Name)
	}
}

func (a *audit) kafkaRanges(app *App, kafka *field) {
	consumer, producer := kafka.find("consumer"), kafka.find("producer")
	if s := app.Consumer.BootstrapServers; s != "" {
		a.text("consumer.bootstrap_servers", consumer.find("bootstrap_servers"), s)
	}
	a.text("consumer.group_id", consumer.find("group_id"), app.Consumer.GroupID)
	a.text("consumer.auto_offset_reset", consumer.find("auto_offset_reset"), app.Consumer.AutoOffsetReset)
	a.lasts("consumer.session_timeout", consumer.find("session_timeout"), app.Consumer.SessionTimeout)
	a.number("consumer.max_poll_records", consumer.find("max_poll_records"), app.Consumer.MaxPollRecords)
	a.text("producer.compression_type", producer.find("compression_type"), app.Producer.Compression)
	a.text("producer.acks", producer.find("acks"), app.Producer.Acks)
	a.number("producer.retries", producer.find("retries"), app.Producer.Retries)
}

func (a *audit) pipelineRanges(p *Pipeline, at string, table *field, app string) {
	if p.App != app {
		a.report(at+".app", "must be the name of the app, "+app, shown(p.App), "")
	}
	a.text(at+".name", table.find("name"), p.Name)
	a.list(at+".topics", table.find("topics"), p.Topics)
	a.inputRanges(p.Input, at+".input", table.find("input"))
	if !p.Key.RecordKey {
		a.list(at+".key", table.find("key"), p.Key.Fields)
	} else if len(p.Key.Fields) > 0 {
		a.report(at+".key", "is both the record's own key and fields", strings.Join(p.Key.Fields, ", "), "one of them")
	}
	a.operatorRanges(p, at, table)
	if t := p.Timestamp; t.Field != "" {
		a.text(at+".timestamp.field", table.at("timestamp", "field"), t.Field)
		a.text(at+".timestamp.unit", table.at("timestamp", "unit"), string(t.Unit))
	}
	values := table.find("values")
	if n := int64(len(p.Values)); n > values.bounds.max {
		a.report(at+".values", "must have at most "+count(values.bounds.max, "key"), strconv.FormatInt(n, 10), "")
	}
	for i, v := range p.Values {
		part := at + ".values." + v.Name
		if message, hint := values.keys.check(v.Name); message != "" {
			a.report(part, message, shown(v.Name), hint)
		}
		if slices.ContainsFunc(p.Values[:i], func(b Value) bool { return b.Name == v.Name }) {
			a.report(part, "is given twice", shown(v.Name), "remove one")
		}
		a.text(part, values.elem, v.Path)
	}
	if s := p.Sketch; s.Kind == aggregate.DDSketch {
		if l := table.at("aggregation", "relative_accuracy").limits; !(s.Accuracy >= l.min && s.Accuracy <= l.max) {
			a.report(at+".aggregation.relative_accuracy", fmt.Sprintf("must be from %v to %v", l.min, l.max), strconv.FormatFloat(s.Accuracy, 'g', -1, 64), "")
		}
	}
	windows := table.find("windows")
	if n := int64(len(p.Windows)); n > windows.bounds.max {
		a.report(at+".windows", "must have at most "+count(windows.bounds.max, "element"), strconv.FormatInt(n, 10), "")
	}
	for i, d := range p.Windows {
		a.text(at+".windows["+strconv.Itoa(i)+"].name", windows.elem.find("name"), d.Name)
	}
	a.watermarkRanges(&p.Watermark, at+".watermark", table.find("watermark"))
	a.text(at+".policy", table.at("error_handling", "policy"), string(p.Policy))
	if p.Shards < 1 {
		a.number(at+".shards", table.at("fire", "shards"), p.Shards)
	}
}

func (a *audit) watermarkRanges(w *Watermark, at string, table *field) {
	a.lasts(at+".max_out_of_orderness", table.find("max_out_of_orderness"), w.MaxOutOfOrder.Duration())
	a.lasts(at+".emit_interval", table.find("emit_interval"), w.EmitInterval.Duration())
	if w.IdleTimeout != 0 {
		a.lasts(at+".idle_timeout", table.find("idle_timeout"), w.IdleTimeout.Duration())
	}
	a.text(at+".all_idle", table.find("all_idle"), string(w.AllIdle))
	if w.MaxFutureSkew >= 0 || w.MaxFutureSkew == partial {
		a.lasts(at+".max_future_skew", table.find("max_future_skew"), w.MaxFutureSkew.Duration())
	}
}

func (a *audit) text(part string, f *field, s string) {
	if len(f.enum) > 0 {
		if !slices.Contains(f.enum, s) {
			a.report(part, "must be "+oneOf(f.enum), shown(s), meant(s, f.enum))
		}
		return
	}
	if message, hint := f.format.check(s); message != "" {
		a.report(part, message, shown(s), hint)
	}
}

func (a *audit) list(part string, f *field, list []string) {
	if n := int64(len(list)); n > f.bounds.max {
		a.report(part, "must have at most "+count(f.bounds.max, "element"), strconv.FormatInt(n, 10), "")
	}
	for i, s := range list {
		a.text(part+"["+strconv.Itoa(i)+"]", f.elem, s)
		if slices.Contains(list[:i], s) {
			a.report(part, "is given twice", shown(s), "remove one")
		}
	}
}

func (a *audit) number(part string, f *field, n int) {
	if b := f.bounds; int64(n) < b.min || int64(n) > b.max {
		a.report(part, fmt.Sprintf("must be from %d to %d", b.min, b.max), strconv.Itoa(n), "")
	}
}

// lasts checks a duration. One that is no whole number of milliseconds would be cut off on its way into event time.
func (a *audit) lasts(part string, f *field, d time.Duration) {
	least, most := int64(0), int64(window.MaxSpan)
	if f.bounds != nil {
		least, most = f.bounds.min, f.bounds.max
	}
	switch ms := d.Milliseconds(); {
	case d == partial.Duration():
		a.report(part, notWhole, "", "")
	case d%time.Millisecond != 0:
		a.report(part, notWhole, d.String(), "")
	case ms < least:
		a.report(part, "must be at least "+spanText(least), d.String(), "")
	case ms > most:
		a.report(part, "must be at most "+spanText(most), d.String(), "")
	}
}
