package spec

import (
	"errors"
	"slices"
	"strconv"

	"github.com/llm-auto-optimizer/tidemark/core/aggregate"
	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/window"
)

// Load reads a spec, strictly: an unknown or repeated key, a value out of range, a part that is missing or not built yet is a
// problem, and all problems of the file are reported at once (Problems takes the error apart). The name is that of the file,
// for messages. Reading is bounded in time and memory for any data; a file is at most 1 MiB.
func Load(data []byte, name string, with ...Option) (*App, error) {
	root, err := readTree(data)
	if err != nil {
		at, ok := errors.AsType[*syntaxError](err)
		if !ok {
			return nil, err
		}
		return nil, join([]*Problem{{File: name, Line: at.line, Column: at.column, Message: at.message, Value: at.value, Hint: at.hint}})
	}
	c := &checker{file: name}
	l := &loader{checker: c, written: map[string]*value{}, options: optionsOf(with)}
	app := l.app(c.read(language(), root, "", root.place))
	a := &audit{file: name, written: l.written, problems: c.problems}
	a.check(app)
	if err := join(a.problems); err != nil {
		return nil, err
	}
	return app, nil
}

// Option changes how a spec is read.
type Option func(*options)

type options struct{ functions *aggregate.Registry }

// WithFunctions makes functions of one's own known to the spec.
func WithFunctions(functions *aggregate.Registry) Option {
	return func(o *options) { o.functions = functions }
}

func optionsOf(with []Option) (o options) {
	for _, option := range with {
		option(&o)
	}
	return o
}

// loader makes an App of checked values and remembers where its parts are written.
type loader struct {
	*checker
	options
	written map[string]*value // by the path of the part in the App, as audit names them
}

func (l *loader) app(root *value) *App {
	processor := root.kid("processor")
	kafka := l.either(processor.kid("kafka"), root.kid("kafka"))
	metrics := l.either(processor.kid("metrics"), root.kid("metrics"))
	app := &App{
		Name:               root.kid("app").str,
		Parallelism:        int(processor.kid("parallelism").num),
		BufferSize:         int(processor.kid("buffer_size").num),
		CheckpointInterval: event.Span(processor.kid("checkpoint_interval").num).Duration(),
		State:              readState(processor.kid("state")),
		Metrics: Metrics{
			Enabled:        metrics.kid("enabled").flag,
			ExportInterval: event.Span(metrics.kid("export_interval").num).Duration(),
		},
	}
	l.kafka(app, kafka)
	l.errors(app, processor.kid("error_handling"))
	for i, p := range l.pipelines(root) {
		app.Pipelines = append(app.Pipelines, l.pipeline(app, i, p, processor))
	}
	l.sessionKeys(processor.kid("windows", "session"))
	l.unusedColumns(app, processor.kid("input"))
	l.unusedAccuracy(app, processor.kid("aggregation", "relative_accuracy"))
	app.defaults()
	return app
}

// either returns the one of two blocks that is written; both is a problem.
func (l *loader) either(nested, top *value) *value {
	switch {
	case !top.set():
		return nested
	case nested.set():
		later, earlier := top, nested
		if top.line < nested.line {
			later, earlier = nested, top
		}
		l.report(later, "is given twice, first as "+earlier.path+" on line "+strconv.Itoa(earlier.line), "", "keep one of them")
	}
	return top
}

// pipelines returns the pipelines as written, or one that is not written at all. A list that is not one has none.
func (l *loader) pipelines(root *value) []*value {
	list := root.kid("pipelines")
	l.written["pipelines"] = list
	if list.set() {
		return slices.DeleteFunc(slices.Clone(list.items), func(v *value) bool { return v.kids == nil })
	}
	return []*value{l.read(list.field.elem, nil, "", list.place)}
}

func readState(v *value) State {
	return State{
		Backend:        Backend(v.kid("backend").str),
		Path:           v.kid("path").str,
		CheckpointPath: v.kid("checkpoint_path").str,
		Compression:    v.kid("compression").str,
	}
}

func (l *loader) kafka(app *App, v *value) {
	consumer, producer := v.kid("consumer"), v.kid("producer")
	app.Consumer = Consumer{
		BootstrapServers: consumer.kid("bootstrap_servers").str,
		GroupID:          consumer.kid("group_id").str,
		Topics:           consumer.kid("topics").strs(),
		AutoOffsetReset:  consumer.kid("auto_offset_reset").str,
		SessionTimeout:   event.Span(consumer.kid("session_timeout").num).Duration(),
		MaxPollRecords:   int(consumer.kid("max_poll_records").num),
	}
	app.Producer = Producer{
		BootstrapServers: producer.kid("bootstrap_servers").str,
		ResultTopic:      producer.kid("result_topic").str,
		Compression:      producer.kid("compression_type").str,
		Acks:             producer.kid("acks").str,
		Retries:          int(producer.kid("retries").num),
	}
	app.Consumer.defaults(app.Name)
	app.Producer.defaults(app.Consumer)
	l.written["consumer.topics"] = consumer.kid("topics")
	l.written["producer.bootstrap_servers"] = producer.kid("bootstrap_servers")
	l.written["producer.result_topic"] = producer.kid("result_topic")
}

func (l *loader) errors(app *App, v *value) {
	app.Errors = ErrorHandling{
		Policy:            Policy(v.kid("policy").str),
		MaxRetries:        int(v.kid("max_retries").num),
		InitialRetryDelay: event.Span(v.kid("initial_retry_delay").num).Duration(),
		MaxRetryDelay:     event.Span(v.kid("max_retry_delay").num).Duration(),
		DeadLetterTopic:   v.kid("dead_letter_topic").str,
	}
	l.written["errors.initial_retry_delay"] = v.kid("initial_retry_delay")
	l.written["errors.dead_letter_topic"] = v.kid("dead_letter_topic")
}

// pipeline makes one pipeline; v is not set for the one of a file without pipelines.
func (l *loader) pipeline(app *App, i int, v, processor *value) Pipeline {
	at := "pipelines[" + strconv.Itoa(i) + "]"
	l.written[at] = v
	p := Pipeline{App: app.Name, Name: v.kid("name").str, Shards: int(v.kid("fire", "shards").num), Functions: l.functions}
	l.written[at+".name"] = v.kid("name")
	if !v.kid("name").set() {
		p.Name = defaultName
	}
	l.written[at+".shards"] = v.kid("fire", "shards")
	l.topics(&p, at, v, processor)
	l.input(&p, at, v.kid("input"), processor.kid("input"))
	l.operators(&p, at, v)
	p.Timestamp = l.timestamp(&p, at, v.kid("timestamp"))
	l.values(&p, at, v.kid("values"))
	l.aggregates(&p, at, v, processor)
	p.Sketch = l.sketch(v.kid("aggregation"), processor.kid("aggregation"))
	p.Windows = l.windows(at, v, processor)
	p.Trigger, p.Accumulation = l.trigger(at, v.kid("trigger")), Accumulation(v.kid("accumulation").str)
	p.Watermark = l.watermark(at, v.kid("watermark"), processor.kid("watermark"))
	return p
}

// pick returns the value of a pipeline if it is written, else the one of the whole app.
func pick(own, shared *value) *value {
	if own.set() {
		return own
	}
	return shared
}

func (l *loader) topics(p *Pipeline, at string, v, processor *value) {
	source := pick(v.kid("topics"), l.written["consumer.topics"])
	p.Topics = source.strs()
	l.written[at+".topics"] = source
	sink := pick(v.kid("sink", "topic"), l.written["producer.result_topic"])
	p.SinkTopic = sink.str
	l.written[at+".sink"] = sink
	late := v.kid("late", "topic")
	p.LateTopic = late.str
	l.written[at+".late"] = late
	errs, shared := v.kid("error_handling"), processor.kid("error_handling")
	p.Policy = Policy(pick(errs.kid("policy"), shared.kid("policy")).str)
	dead := pick(errs.kid("dead_letter_topic"), shared.kid("dead_letter_topic"))
	p.DeadLetterTopic = dead.str
	l.written[at+".dead_letter"] = dead
	p.topicDefaults()
}

func (l *loader) timestamp(p *Pipeline, at string, v *value) Timestamp {
	l.written[at+".timestamp"] = v
	if !v.set() {
		return p.impliedTimestamp()
	}
	if field := v.kid("field"); field.set() {
		l.written[at+".timestamp.field"] = field
	}
	t := Timestamp{Field: v.kid("field").str, Unit: Unit(v.kid("unit").str), Record: v.kid("record").flag}
	if unit := v.kid("unit"); unit.set() && !v.kid("field").set() {
		l.report(unit, "is the unit of a field, and none is named", unit.node.got(), "timestamp: {field: timestamp, unit: ms}")
		v.bad = true
	}
	return t
}

func (l *loader) values(p *Pipeline, at string, v *value) {
	l.written[at+".values"] = v
	if !v.set() {
		p.Values = []Value{{defaultValue, defaultValue}}
		return
	}
	for i, item := range v.items {
		p.Values = append(p.Values, Value{v.names[i], item.str})
		l.written[at+".values."+v.names[i]] = item
	}
	sortValues(p.Values)
}

func (l *loader) trigger(at string, v *value) Trigger {
	for _, name := range []string{"on_change", "final_only"} {
		l.written[at+".trigger."+name] = v.kid(name)
	}
	return Trigger{
		EarlyEvery: event.Span(v.kid("early", "every").num), Count: v.kid("count").num,
		OnChange: v.kid("on_change").flag, FinalOnly: v.kid("final_only").flag,
	}
}

func (l *loader) watermark(at string, own, shared *value) Watermark {
	var w Watermark
	get := func(name string) *value { return pick(own.kid(name), shared.kid(name)) }
	span := func(name string) event.Span { return event.Span(get(name).num) }
	w.Periodic = get("strategy").str == "periodic"
	w.MaxOutOfOrder = span("max_out_of_orderness")
	w.EmitInterval = span("emit_interval")
	w.IdleTimeout = span("idle_timeout")
	w.AllIdle = AllIdle(get("all_idle").str)
	w.CatchUp = get("on_resume").str == "catch_up"
	w.MaxFutureSkew = span("max_future_skew")
	l.written[at+".watermark.emit_interval"] = get("emit_interval")
	return w
}

// windows returns the definitions that a pipeline lists, or the default one.
func (l *loader) windows(at string, v, processor *value) []window.Definition {
	shared, list := processor.kid("windows"), v.kid("windows")
	defaultType := shared.kid("default_type").str
	l.written[at+".windows"] = list
	if !list.set() {
		block := shared.kid(defaultType)
		return []window.Definition{l.window(at+".windows[0]", defaultType, block, block)}
	}
	var out []window.Definition
	for _, item := range list.items {
		if item.kids == nil {
			continue
		}
		kind := item.kid("type").str
		if kind == "" {
			kind = defaultType
		}
		if item.kid("type").bad {
			continue // which keys it needs is not known
		}
		l.windowKeys(item, kind)
		out = append(out, l.window(at+".windows["+strconv.Itoa(len(out))+"]", kind, item, shared.kid(kind)))
	}
	return out
}

// defaultMaxGap is the longest gap of a record's own that counts, where nothing is said.
const defaultMaxGap = day

// window makes a definition of a block that has the keys of its kind; lateness comes from shared where it is silent.
func (l *loader) window(at, kind string, v, shared *value) window.Definition {
	get := func(name string) event.Span {
		if indexOf(v.field.fields, name) < 0 {
			return 0
		}
		l.written[at+"."+name] = v.kid(name)
		return event.Span(v.kid(name).num)
	}
	l.written[at+".type"] = v
	d := window.Definition{Name: kind, Kind: kindOf(kind), Lateness: event.Span(pick(v.kid("allowed_lateness"), shared.kid("allowed_lateness")).num)}
	l.written[at] = v
	l.written[at+".allowed_lateness"] = pick(v.kid("allowed_lateness"), shared.kid("allowed_lateness"))
	if i := indexOf(v.field.fields, "name"); i >= 0 && v.kids[i].set() {
		d.Name = v.kids[i].str
		l.written[at+".name"] = v.kids[i]
	}
	switch d.Kind {
	case window.KindTumbling:
		d.Size, d.Offset = get("size"), get("offset")
	case window.KindSliding:
		d.Size, d.Slide, d.Offset = get("size"), get("slide"), get("offset")
		d.AllowGaps = v.kid("allow_gaps").flag
	case window.KindCumulate:
		d.Size, d.Step, d.Offset = get("size"), get("step"), get("offset")
	case window.KindSession:
		d.Gap, d.Max, d.Offset = get("gap"), get("max"), get("offset")
		l.written[at+".gap_field"] = v.kid("gap_field")
		if d.GapField = v.kid("gap_field").str; d.GapField != "" {
			if d.MaxGap = get("max_gap"); !v.kid("max_gap").set() {
				d.MaxGap = max(event.SpanOf(defaultMaxGap), d.Gap)
			}
		}
	case window.KindGlobal:
		d.Lateness = 0
	}
	return d
}

// windowKeys reports the keys that a listed window lacks, and those that its kind has no use for.
func (l *loader) windowKeys(v *value, kind string) {
	need, may := keysOf(kindOf(kind))
	for _, name := range need {
		kid := v.kid(name)
		switch {
		case kid.set() || kid.bad:
		case v.strange:
			kid.bad = true // the key that is not known is this one, most likely: one problem is enough
		default:
			l.report(kid, "is required for a "+kind+" window", "", l.want(kid.field, ""))
		}
	}
	if kindOf(kind) == window.KindSession {
		l.sessionKeys(v)
	}
	for _, name := range []string{"size", "slide", "step", "gap", "max", "gap_field", "max_gap", "offset", "allow_gaps", "allowed_lateness"} {
		if kid := v.kid(name); kid.set() && !slices.Contains(need, name) && !slices.Contains(may, name) {
			l.report(kid, "has no meaning for a "+kind+" window", kid.node.got(), "remove it")
		}
	}
}

// sessionKeys reports the keys of a session that have no effect without another one.
func (l *loader) sessionKeys(v *value) {
	if gap := v.kid("max_gap"); gap.set() && !v.kid("gap_field").set() {
		l.report(gap, "is of records' own gaps, and there is no gap_field", gap.node.got(), "add gap_field: PATH, or remove it")
	}
	if offset := v.kid("offset"); offset.set() && offset.num != 0 && !v.kid("max").set() {
		l.report(offset, "is of the grid that max cuts sessions on, and there is no max", offset.node.got(), "add max: 24h, or remove it")
	}
}

// keysOf returns the keys that a window of a kind needs, and those that it may have besides.
func keysOf(kind window.Kind) (need, may []string) {
	switch kind {
	case window.KindTumbling:
		return []string{"size"}, []string{"offset", "allowed_lateness"}
	case window.KindSliding:
		return []string{"size", "slide"}, []string{"offset", "allow_gaps", "allowed_lateness"}
	case window.KindCumulate:
		return []string{"size", "step"}, []string{"offset", "allowed_lateness"}
	case window.KindSession:
		return []string{"gap"}, []string{"max", "gap_field", "max_gap", "offset", "allowed_lateness"}
	case window.KindGlobal:
	}
	return nil, nil
}

// kindOf returns the kind of a name that the table knows.
func kindOf(name string) window.Kind {
	for _, kind := range []window.Kind{window.KindTumbling, window.KindSliding, window.KindSession, window.KindCumulate, window.KindGlobal} {
		if kind.String() == name {
			return kind
		}
	}
	return 0
}
