package spec

import (
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/aggregate"
	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/window"
)

// Source describes where records come from. It opens nothing.
type Source struct{ Kafka Consumer }

// FromKafka describes Kafka topics with the defaults of a spec: from the earliest record, 500 records a batch. The brokers
// are given where the app runs; change fields of the result for anything else.
func FromKafka(topics ...string) Source {
	c := defaultApp(defaultName).Consumer
	c.Topics = topics
	return Source{c}
}

// Redis describes state in Redis or Valkey. Where the server is, is given where the app runs.
func Redis() State { return stateIn(BackendRedis) }

// Bolt describes state in a file of the process, in a directory.
func Bolt(directory string) State {
	s := stateIn(BackendBolt)
	s.Path = directory
	return s
}

// Memory describes state that is gone when the process ends; results stay exact, since state is rebuilt from the log.
func Memory() State { return stateIn(BackendMemory) }

func stateIn(b Backend) State {
	s := defaultApp(defaultName).State
	s.Backend = b
	return s
}

// BoundedOutOfOrderness describes a watermark that expects records of a partition to be out of order by at most the bound.
// Change fields of the result for anything else.
func BoundedOutOfOrderness(bound time.Duration) Watermark {
	w := defaultApp(defaultName).Pipelines[0].Watermark
	w.MaxOutOfOrder = spanOf(bound)
	return w
}

// PeriodicWatermark describes the same with a watermark that moves on multiples of the interval only.
func PeriodicWatermark(bound, interval time.Duration) Watermark {
	w := BoundedOutOfOrderness(bound)
	w.Periodic, w.EmitInterval = true, spanOf(interval)
	return w
}

// AllowedLateness is how long after its end a window still takes records. Only Lateness and NoLateness make one that Build
// accepts, so that it cannot be forgotten.
type AllowedLateness struct {
	span   event.Span
	chosen bool
}

// Lateness lets windows take records until d after their end.
func Lateness(d time.Duration) AllowedLateness { return AllowedLateness{spanOf(d), true} }

// NoLateness sends every record that comes after the end of all its windows to the late topic.
func NoLateness() AllowedLateness { return AllowedLateness{0, true} }

// partial stands for a duration that is no whole number of milliseconds: Build reports it, since cutting it off would change
// the windows that were asked for.
const partial event.Span = math.MinInt64

func spanOf(d time.Duration) event.Span {
	if d%time.Millisecond != 0 {
		return partial
	}
	return event.SpanOf(d)
}

// Builder makes an App in Go. It gathers; Build checks all of it at once. A Builder is not safe for concurrent use.
type Builder struct {
	app       *App
	template  Pipeline // what pipelines begin as
	source    bool
	state     bool
	watermark bool
	pipelines []*PipelineBuilder
}

// NewBuilder begins an App. All that is not said has the default of a spec.
func NewBuilder(app string) *Builder {
	b := &Builder{app: defaultApp(app)}
	b.template, b.app.Pipelines = b.app.Pipelines[0], nil
	b.template.Windows, b.template.Values, b.template.Aggregates = nil, nil, nil
	return b
}

// From says where records come from. Required.
func (b *Builder) From(s Source) *Builder {
	b.app.Consumer, b.source = s.Kafka, true
	return b
}

// State says where state is kept. Required.
func (b *Builder) State(s State) *Builder {
	b.app.State, b.state = s, true
	return b
}

// Input says how record values of all pipelines are written that do not say so themselves. Without it: JSON.
func (b *Builder) Input(f event.Format) *Builder {
	b.template.Input = f
	return b
}

// Sink names the topic of the results of pipelines that name none. Required, unless all do.
func (b *Builder) Sink(topic string) *Builder {
	b.app.Producer.ResultTopic = topic
	return b
}

// Watermark says when event time is taken to have passed. Required.
func (b *Builder) Watermark(w Watermark) *Builder {
	b.template.Watermark, b.watermark = w, true
	return b
}

// Errors says what happens to records and operations that fail, instead of the defaults of a spec.
func (b *Builder) Errors(e ErrorHandling) *Builder {
	b.app.Errors = e
	return b
}

// Producer changes how results are written; its topic stays that of Sink where it names none.
func (b *Builder) Producer(p Producer) *Builder {
	if p.ResultTopic == "" {
		p.ResultTopic = b.app.Producer.ResultTopic
	}
	b.app.Producer = p
	return b
}

// Functions makes functions of one's own known to all pipelines.
func (b *Builder) Functions(g *aggregate.Registry) *Builder {
	b.template.Functions = g
	return b
}

// Parallelism is the number of partitions folded at once in one invocation.
func (b *Builder) Parallelism(n int) *Builder {
	b.app.Parallelism = n
	return b
}

// BufferSize is the most records that are held in memory at once; a larger batch is folded in parts.
func (b *Builder) BufferSize(n int) *Builder {
	b.app.BufferSize = n
	return b
}

// CheckpointInterval is the most age of the newest state export, where State has a CheckpointPath.
func (b *Builder) CheckpointInterval(d time.Duration) *Builder {
	b.app.CheckpointInterval = d
	return b
}

// Metrics says whether and how often the functions write metrics, instead of the defaults of a spec.
func (b *Builder) Metrics(m Metrics) *Builder {
	b.app.Metrics = m
	return b
}

// Pipeline adds a query, which describe fills. At least one with a window is required.
func (b *Builder) Pipeline(name string, describe func(p *PipelineBuilder)) *Builder {
	p := &PipelineBuilder{}
	p.Pipeline.Name = name
	if describe != nil {
		describe(p)
	}
	b.pipelines = append(b.pipelines, p)
	return b
}

// Build returns the App. The error names every part that is missing, or else every problem of those that are there; the
// Builder can be completed and built again.
func (b *Builder) Build() (*App, error) {
	app := *b.app
	app.Consumer.defaults(app.Name)
	app.Producer.defaults(app.Consumer)
	app.Pipelines = nil
	for _, p := range b.pipelines {
		app.Pipelines = append(app.Pipelines, p.complete(&app, b.template))
	}
	app.defaults()
	problems := b.missing(&app)
	u := &audit{problems: problems}
	if len(problems) == 0 {
		u.ranges(&app)
		u.check(&app)
		for i, p := range b.pipelines {
			p.lateness(u, pipelinePath(i))
		}
	}
	if err := join(u.problems); err != nil {
		return nil, err
	}
	return &app, nil
}

// missing names the parts that nothing can stand in for.
func (b *Builder) missing(app *App) []*Problem {
	var problems []*Problem
	add := func(path, hint string) {
		problems = append(problems, &Problem{Path: path, Message: "is missing", Hint: hint})
	}
	sources, sinks, windows := len(b.app.Consumer.Topics) > 0, app.Producer.ResultTopic != "", len(app.Pipelines) > 0
	allTopics, allSinks := windows, windows
	for i := range app.Pipelines {
		p := &app.Pipelines[i]
		allTopics = allTopics && len(p.Topics) > 0
		allSinks = allSinks && p.SinkTopic != ""
	}
	if !b.source || !sources && !allTopics {
		add("source", `From(spec.FromKafka("TOPIC"))`)
	}
	if !b.watermark {
		add("watermark", "Watermark(spec.BoundedOutOfOrderness(30*time.Second))")
	}
	const window = `Tumbling("1m", time.Minute, spec.NoLateness())`
	if !windows {
		add("window", `Pipeline("NAME", func(p *spec.PipelineBuilder) { p.`+window+` })`)
	}
	for i := range app.Pipelines {
		if len(app.Pipelines[i].Windows) == 0 {
			add("window of pipeline "+shown(app.Pipelines[i].Name), "p."+window)
		}
	}
	if !b.state {
		add("state", `State(spec.Redis()), State(spec.Bolt("DIRECTORY")) or State(spec.Memory())`)
	}
	if !sinks && !allSinks {
		add("sink", `Sink("TOPIC")`)
	}
	return problems
}

// PipelineBuilder describes one pipeline. Its methods return it, for chaining.
type PipelineBuilder struct {
	Pipeline Pipeline // what has been said so far; fields may be set directly

	formatted, timed, keyed, marked bool

	everything []string // functions of every value
	unchosen   []int    // windows whose lateness nobody chose
}

// Topics names the source topics, instead of those of the app's source.
func (p *PipelineBuilder) Topics(topics ...string) *PipelineBuilder {
	p.Pipeline.Topics = topics
	return p
}

// Input says how record values are written: spec.CSV("time", "service", "latency"). Without it: as the app says.
func (p *PipelineBuilder) Input(f event.Format) *PipelineBuilder {
	p.Pipeline.Input, p.formatted = f, true
	return p
}

// Where says which records count, as an expression: metric == "latency_ms".
func (p *PipelineBuilder) Where(expression string) *PipelineBuilder {
	p.Pipeline.Where = expression
	return p
}

// Derive adds a field that is computed from others, as an expression: tokens * 0.002. What is said of the pipeline by a path, and
// expressions derived later, can use its name.
func (p *PipelineBuilder) Derive(name, expression string) *PipelineBuilder {
	p.Pipeline.Map = append(p.Pipeline.Map, Derived{name, expression})
	return p
}

// KeyAs adds a field or an expression to what records are grouped by, under a name of its own.
func (p *PipelineBuilder) KeyAs(name, field string) *PipelineBuilder {
	k := &p.Pipeline.Key
	names := make([]string, len(k.Fields)+1)
	copy(names, k.Names)
	names[len(k.Fields)] = name
	k.Names, k.Fields = names, append(k.Fields, field)
	p.keyed = true
	return p
}

// Key groups records by fields, as dotted paths, or by expressions. Without it they are grouped by the record's own key.
func (p *PipelineBuilder) Key(fields ...string) *PipelineBuilder {
	p.Pipeline.Key, p.keyed = Key{Fields: fields}, true
	return p
}

// Ungrouped puts all records into one group.
func (p *PipelineBuilder) Ungrouped() *PipelineBuilder { return p.Key() }

// Timestamp takes event time from a field: a number in the unit, or an RFC 3339 string.
func (p *PipelineBuilder) Timestamp(field string, unit Unit) *PipelineBuilder {
	p.Pipeline.Timestamp, p.timed = Timestamp{Field: field, Unit: unit}, true
	return p
}

// RecordTimestamp takes the Kafka record's own timestamp as event time.
func (p *PipelineBuilder) RecordTimestamp() *PipelineBuilder {
	p.Pipeline.Timestamp, p.timed = Timestamp{Record: true, Unit: UnitMillis}, true
	return p
}

// Value names what is aggregated, and the dotted path of its field: a number, or where all of its functions take them a string or a
// boolean.
func (p *PipelineBuilder) Value(name, path string) *PipelineBuilder {
	p.Pipeline.Values = append(p.Pipeline.Values, Value{name, path})
	return p
}

// Tumbling adds windows that follow each other.
func (p *PipelineBuilder) Tumbling(name string, size time.Duration, late AllowedLateness) *PipelineBuilder {
	return p.Window(window.Definition{Name: name, Kind: window.KindTumbling, Size: spanOf(size)}, late)
}

// Sliding adds windows that overlap.
func (p *PipelineBuilder) Sliding(name string, size, slide time.Duration, late AllowedLateness) *PipelineBuilder {
	return p.Window(window.Definition{Name: name, Kind: window.KindSliding, Size: spanOf(size), Slide: spanOf(slide)}, late)
}

// Session adds windows that end when a key is quiet for the gap. For a maximum, or gaps of the records' own, use Window.
func (p *PipelineBuilder) Session(name string, gap time.Duration, late AllowedLateness) *PipelineBuilder {
	return p.Window(window.Definition{Name: name, Kind: window.KindSession, Gap: spanOf(gap)}, late)
}

// Cumulate adds windows of one start that end every step, up to the size.
func (p *PipelineBuilder) Cumulate(name string, size, step time.Duration, late AllowedLateness) *PipelineBuilder {
	return p.Window(window.Definition{Name: name, Kind: window.KindCumulate, Size: spanOf(size), Step: spanOf(step)}, late)
}

// Window adds any definition, for what the other methods have no parameter for. Its Lateness is replaced.
func (p *PipelineBuilder) Window(d window.Definition, late AllowedLateness) *PipelineBuilder {
	d.Lateness = late.span
	if !late.chosen {
		p.unchosen = append(p.unchosen, len(p.Pipeline.Windows))
	}
	p.Pipeline.Windows = append(p.Pipeline.Windows, d)
	return p
}

// Trigger says when windows go out besides at their end, and when not.
func (p *PipelineBuilder) Trigger(t Trigger) *PipelineBuilder {
	p.Pipeline.Trigger = t
	return p
}

// Accumulate says what a window that goes out again holds. Without it: all of its records.
func (p *PipelineBuilder) Accumulate(a Accumulation) *PipelineBuilder {
	p.Pipeline.Accumulation = a
	return p
}

// Aggregate adds functions of one value: "count", "p99".
func (p *PipelineBuilder) Aggregate(value string, functions ...string) *PipelineBuilder {
	for i := range p.Pipeline.Aggregates {
		if a := &p.Pipeline.Aggregates[i]; a.Value == value {
			a.Functions = append(a.Functions, functions...)
			return p
		}
	}
	p.Pipeline.Aggregates = append(p.Pipeline.Aggregates, Aggregates{value, slices.Clone(functions)})
	return p
}

// AggregateAll gives these functions to every value that has none of its own. Without it they get those of a spec.
func (p *PipelineBuilder) AggregateAll(functions ...string) *PipelineBuilder {
	p.everything = append(p.everything, functions...)
	return p
}

// DDSketch estimates percentiles of more than 1,000 values by a DDSketch of a relative accuracy (0.01 is 1%), instead of a t-digest.
func (p *PipelineBuilder) DDSketch(accuracy float64) *PipelineBuilder {
	p.Pipeline.Sketch = aggregate.Sketch{Kind: aggregate.DDSketch, Accuracy: accuracy}
	return p
}

// Watermark overrides the app's.
func (p *PipelineBuilder) Watermark(w Watermark) *PipelineBuilder {
	p.Pipeline.Watermark, p.marked = w, true
	return p
}

// Sink names the topic of the results, instead of the app's.
func (p *PipelineBuilder) Sink(topic string) *PipelineBuilder {
	p.Pipeline.SinkTopic = topic
	return p
}

// Late names the topic of records that are too late. Without it: the sink's with "-late".
func (p *PipelineBuilder) Late(topic string) *PipelineBuilder {
	p.Pipeline.LateTopic = topic
	return p
}

// DeadLetter names the topic of records that cannot be processed. Without it: the app's.
func (p *PipelineBuilder) DeadLetter(topic string) *PipelineBuilder {
	p.Pipeline.DeadLetterTopic = topic
	return p
}

// Policy says what happens to a record that cannot be processed, instead of the app's.
func (p *PipelineBuilder) Policy(policy Policy) *PipelineBuilder {
	p.Pipeline.Policy = policy
	return p
}

// complete returns the pipeline with the defaults for what was not said. The receiver is not changed.
func (p *PipelineBuilder) complete(app *App, template Pipeline) Pipeline {
	out := p.Pipeline
	out.App = app.Name
	if out.Functions == nil {
		out.Functions = template.Functions
	}
	out.Shards = max(out.Shards, 1)
	if out.Topics == nil {
		out.Topics = app.Consumer.Topics
	}
	out.Topics, out.Key.Fields = slices.Clone(out.Topics), slices.Clone(out.Key.Fields)
	out.Key.Names, out.Map = slices.Clone(out.Key.Names), slices.Clone(out.Map)
	if !p.formatted && out.Input.Kind == event.FormatJSON {
		out.Input = template.Input
	}
	out.Input.Columns = slices.Clone(out.Input.Columns)
	if !p.timed && out.Timestamp == (Timestamp{}) {
		out.Timestamp = out.impliedTimestamp()
	}
	if !p.keyed && len(out.Key.Fields) == 0 {
		out.Key = template.Key
	}
	if !p.marked {
		out.Watermark = template.Watermark
	}
	if out.Policy == "" {
		out.Policy = app.Errors.Policy
	}
	if out.SinkTopic == "" {
		out.SinkTopic = app.Producer.ResultTopic
	}
	if out.DeadLetterTopic == "" {
		out.DeadLetterTopic = app.Errors.DeadLetterTopic
	}
	out.topicDefaults()
	if out.Accumulation == "" {
		out.Accumulation = Accumulating
	}
	if out.Values == nil && len(out.Aggregates) == 0 {
		out.Values = []Value{{defaultValue, defaultValue}}
	}
	out.Values = slices.Clone(out.Values)
	sortValues(out.Values)
	out.Windows = slices.Clone(out.Windows)
	out.Aggregates = p.functions(out.Values)
	return out
}

// functions returns the aggregates of the values in their order, then those of values that do not exist, for Build to report.
func (p *PipelineBuilder) functions(values []Value) []Aggregates {
	table := language().at("processor", "aggregation")
	shared, _ := table.find("enabled").def.([]string)
	percentiles, _ := table.find("percentiles").def.([]float64)
	if p.everything != nil {
		shared = p.everything
	}
	var out []Aggregates
	known := map[string]bool{}
	for _, v := range values {
		names := shared
		for _, a := range p.Pipeline.Aggregates {
			if a.Value == v.Name {
				names = a.Functions
			}
		}
		functions, _ := expand(names, percentiles)
		out = append(out, Aggregates{v.Name, functions})
		known[v.Name] = true
	}
	for _, a := range p.Pipeline.Aggregates {
		if !known[a.Value] {
			out = append(out, a)
		}
	}
	return out
}

// lateness reports windows whose lateness nobody chose.
func (p *PipelineBuilder) lateness(u *audit, at string) {
	for _, i := range p.unchosen {
		u.report(at+".windows["+strconv.Itoa(i)+"].allowed_lateness", "was not chosen", "", "spec.Lateness(d) or spec.NoLateness()")
	}
}
