package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/aggregate"
	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/core/window"
	"github.com/llm-auto-optimizer/tidemark/functions/preflight"
	"github.com/llm-auto-optimizer/tidemark/functions/settings"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/progress"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/template"
)

type validateCmd struct {
	specFlag
	Brokers   []string          `placeholder:"HOST:PORT" help:"Also look at this Kafka: topics and their settings, a transaction that is tried and aborted, what was committed."`
	Redis     []string          `placeholder:"URL" help:"With --brokers: also look at this state store; several URLs with commas are one cluster."`
	Template  string            `placeholder:"FILE" help:"Also compare with this SAM or CloudFormation template: topics, groups, positions, batches, schedules."`
	Parameter map[string]string `placeholder:"NAME=VALUE" mapsep:"none" help:"With --template: a parameter of it that is not the default. May be repeated."`
	Schema    bool              `help:"Print the JSON Schema of specs, for editors, and exit."`
	Example   bool              `help:"Print a spec that shows everything, with comments, and exit."`
	Reference bool              `help:"Print the reference of specs, every key, as Markdown, and exit."`
}

// Help is shown below the flags.
func (*validateCmd) Help() string {
	return `All problems come at once, each with its line. Then, or if there is none, what the spec amounts to: pipelines, windows, topics, consumer groups.

Examples:

  tidemark validate --config tidemark.yaml
  tidemark validate --config tidemark.yaml --brokers localhost:9092 --redis redis://localhost:6379
  tidemark validate --config infra/tidemark.yaml --template template.yaml --parameter BatchSize=1000
  tidemark validate --schema > tidemark.schema.json
  tidemark validate --reference | less

With --brokers each finding says what is to be done: an error cannot work or would lose data, a warning works, but not for ever.

With --template each problem has its line in the template. A schedule of less than a minute, which linters let pass, is one.

Exit codes: 2 the spec is wrong; 1 the template does not go with it, or something of the brokers or the state store is an error.`
}

// report is what validate finds out.
type report struct {
	Type      string              `json:"type"`
	OK        bool                `json:"ok"`
	Config    string              `json:"config"`
	Problems  []problem           `json:"problems,omitempty"`
	App       string              `json:"app,omitempty"`
	State     string              `json:"state,omitempty"`
	Trigger   string              `json:"trigger_group,omitempty"`
	Pipelines []pipelineFacts     `json:"pipelines,omitempty"`
	Template  string              `json:"template,omitempty"`
	Deploy    []template.Problem  `json:"template_problems,omitempty"`
	Brokers   []string            `json:"brokers,omitempty"`
	Missing   []string            `json:"missing,omitempty"` // what the brokers lack
	Preflight []preflight.Finding `json:"preflight,omitempty"`
	Delivery  string              `json:"delivery,omitempty"` // with brokers, if it is known: exactly once, or at least once
}

type problem struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Path    string `json:"path"`
	Value   string `json:"value,omitempty"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

type pipelineFacts struct {
	Name            string   `json:"name"`
	Fingerprint     string   `json:"fingerprint"`
	Group           string   `json:"group"`
	Topics          []string `json:"topics"`
	Input           string   `json:"input,omitempty"` // where it is not JSON: how record values are written
	Timestamp       string   `json:"timestamp"`
	Where           string   `json:"where,omitempty"`
	Map             []string `json:"map,omitempty"` // derived fields, in their order: NAME = EXPRESSION
	Key             string   `json:"key"`
	Values          []string `json:"values,omitempty"` // those whose field has another name: NAME from FIELD
	Windows         []string `json:"windows"`
	Aggregates      []string `json:"aggregates"`
	Percentiles     string   `json:"percentiles,omitempty"` // where it is not the t-digest: what estimates those of many values
	GoesOut         string   `json:"goes_out,omitempty"`    // where it is not at the end and for each late record, whole
	Watermark       string   `json:"watermark"`
	ResultTopic     string   `json:"result_topic"`
	LateTopic       string   `json:"late_topic"`
	DeadLetterTopic string   `json:"dead_letter_topic"`
}

// errLacking is returned where brokers or state store are not fit for the app.
var errLacking = errors.New("brokers or state store lack what the spec needs")

// Run implements the command.
func (c *validateCmd) Run(ctx context.Context, e *env) error {
	switch {
	case c.Schema:
		_, err := e.Out.Write(append(spec.Schema(), '\n'))
		return err
	case c.Example:
		_, err := io.WriteString(e.Out, spec.Example())
		return err
	case c.Reference:
		_, err := io.WriteString(e.Out, spec.Reference())
		return err
	}
	r := report{Type: "validation", Config: c.Config}
	if r.Config == "" {
		r.Config = defaultName
	}
	app, err := c.load()
	if problems := spec.Problems(err); err != nil && len(problems) > 0 && e.json {
		for _, p := range problems {
			r.Problems = append(r.Problems, problem{p.File, p.Line, p.Column, p.Path, p.Value, p.Message, p.Hint})
		}
		if err := json.NewEncoder(e.Out).Encode(r); err != nil {
			return err
		}
		return usage("%s has %d problems", r.Config, len(problems))
	}
	if err != nil {
		return err
	}
	r.describe(app)
	if len(c.Redis) > 0 && len(c.Brokers) == 0 {
		return usage("--redis needs --brokers: what is looked at is whether they go together")
	}
	r.OK = true
	if len(c.Parameter) > 0 && c.Template == "" {
		return usage("--parameter needs --template: it is a parameter of that")
	}
	if r.Template = c.Template; c.Template != "" {
		if r.Deploy, err = checkTemplate(c.Template, c.Parameter, app); err != nil {
			return err
		}
		r.OK = judge(r.Deploy) == nil
	}
	if len(c.Brokers) > 0 {
		r.Brokers = c.Brokers
		if err := r.look(ctx, app, c.Brokers, c.Redis); err != nil {
			return err
		}
	}
	if e.json {
		err = json.NewEncoder(e.Out).Encode(r)
	} else {
		err = r.print(e.Out)
	}
	if err != nil || r.OK {
		return err
	}
	if err := judge(r.Deploy); err != nil {
		return err
	}
	lacks := r.Missing
	for _, f := range r.Preflight {
		if f.Severity == preflight.Error && f.Check != preflight.CheckTopics {
			lacks = append(lacks, f.Check)
		}
	}
	return fmt.Errorf("%w: %s", errLacking, strings.Join(slices.Compact(lacks), "; "))
}

func (r *report) describe(app *spec.App) {
	r.App, r.Trigger = app.Name, app.Consumer.GroupID
	r.State = string(app.State.Backend)
	if app.State.Backend == spec.BackendBolt {
		r.State += " in " + app.State.Path
	}
	for i := range app.Pipelines {
		p := &app.Pipelines[i]
		f := pipelineFacts{
			Name: p.Name, Fingerprint: p.Fingerprint(), Group: p.Group(), Topics: p.Topics, Input: describeInput(p.Input),
			Timestamp: describeTimestamp(p.Timestamp), Where: progress.OneLine(p.Where), Key: describeKey(p.Key),
			GoesOut: describePanes(p.Trigger, p.Accumulation), Watermark: describeWatermark(p.Watermark),
			ResultTopic: p.SinkTopic, LateTopic: p.LateTopic, DeadLetterTopic: p.DeadLetterTopic,
		}
		for _, d := range p.Map {
			f.Map = append(f.Map, d.Name+" = "+progress.OneLine(d.Expression))
		}
		for _, v := range p.Values {
			if v.Path != v.Name {
				f.Values = append(f.Values, v.Name+" from "+v.Path)
			}
		}
		for _, d := range p.Windows {
			f.Windows = append(f.Windows, describeWindow(d))
		}
		for _, a := range p.Aggregates {
			text := strings.Join(a.Functions, ", ")
			if a.Value != "" {
				text = a.Value + ": " + text
			}
			f.Aggregates = append(f.Aggregates, text)
		}
		if p.Sketch.Kind == aggregate.DDSketch {
			f.Percentiles = fmt.Sprintf("of more than 1,000 values by DDSketch, within %v of the value", p.Sketch.Accuracy)
		}
		r.Pipelines = append(r.Pipelines, f)
	}
}

// describeInput says how record values are written, where they are not JSON.
func describeInput(f event.Format) string {
	switch f.Kind {
	case event.FormatJSON:
		return ""
	case event.FormatCSV:
		text := "csv: " + strings.Join(f.Columns, ", ")
		if d := f.Separator(); d != ',' {
			text += fmt.Sprintf("; between them %q", d)
		}
		return text
	case event.FormatText, event.FormatJSONRegistry:
	}
	return f.Kind.String()
}

func describeTimestamp(t spec.Timestamp) string {
	if t.Field == "" {
		return "the record's own"
	}
	text := fmt.Sprintf("%s, a number in %s or RFC 3339", t.Field, t.Unit)
	if t.Record {
		text += "; where it is absent, the record's own"
	}
	return text
}

func describeKey(k spec.Key) string {
	switch {
	case k.RecordKey:
		return "the record's own"
	case len(k.Fields) == 0:
		return "none: one group"
	}
	return strings.Join(k.Fields, ", ")
}

// describePanes says when windows go out and what their panes hold, where the spec says something about it.
func describePanes(t spec.Trigger, a spec.Accumulation) string {
	var parts []string
	if t.EarlyEvery > 0 {
		parts = append(parts, "early every "+span(t.EarlyEvery))
	}
	if t.Count > 0 {
		parts = append(parts, fmt.Sprintf("early with %d new records", t.Count))
	}
	if t.OnChange {
		parts = append(parts, "only when results change")
	}
	if t.FinalOnly {
		parts = append(parts, "once, when final")
	}
	if a != "" && a != spec.Accumulating {
		parts = append(parts, string(a))
	}
	return strings.Join(parts, ", ")
}

func describeWatermark(w spec.Watermark) string {
	text := span(w.MaxOutOfOrder) + " behind the largest time"
	if w.Periodic {
		text += ", in steps of " + span(w.EmitInterval)
	}
	if w.IdleTimeout > 0 {
		text += fmt.Sprintf("; a partition is idle after %s, all idle: %s", span(w.IdleTimeout), w.AllIdle)
		if w.CatchUp {
			text += ", and counts again once it has caught up"
		}
		return text
	}
	return text + "; a partition is never idle"
}

func describeWindow(d window.Definition) string {
	text := fmt.Sprintf("%s: %s", d.Name, d.Kind)
	switch d.Kind {
	case window.KindTumbling:
		text += " " + span(d.Size)
	case window.KindSliding:
		text += fmt.Sprintf(" %s every %s", span(d.Size), span(d.Slide))
	case window.KindCumulate:
		text += fmt.Sprintf(" %s in steps of %s", span(d.Size), span(d.Step))
	case window.KindSession:
		text += fmt.Sprintf(" until %s apart", span(d.Gap))
		if d.GapField != "" {
			text += fmt.Sprintf(" (or %s, %s at most)", d.GapField, span(d.MaxGap))
		}
		if d.Max != 0 {
			text += ", cut every " + span(d.Max)
		}
	case window.KindGlobal:
	}
	if d.Offset != 0 {
		text += ", offset " + span(d.Offset)
	}
	return text + ", lateness " + span(d.Lateness)
}

func span(s event.Span) string { return s.Duration().String() }

func (r *report) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, value string) { fmt.Fprintf(t, "%s\t%s\n", name, value) } //nolint:errcheck // Flush says
	fmt.Fprintf(t, "%s is a valid spec\n", r.Config)                             //nolint:errcheck // Flush says
	line("app", r.App)
	line("state", r.State)
	line("trigger's group", r.Trigger)
	for i := range r.Pipelines {
		p := &r.Pipelines[i]
		line("\npipeline", p.Name)
		line("  reads", strings.Join(p.Topics, ", "))
		if p.Input != "" {
			line("  input", p.Input)
		}
		line("  timestamp", p.Timestamp)
		if p.Where != "" {
			line("  where", p.Where)
		}
		for _, d := range p.Map {
			line("  map", d)
		}
		line("  key", p.Key)
		for _, v := range p.Values {
			line("  value", v)
		}
		for _, d := range p.Windows {
			line("  window", d)
		}
		for _, a := range p.Aggregates {
			line("  aggregates", a)
		}
		if p.Percentiles != "" {
			line("  percentiles", p.Percentiles)
		}
		if p.GoesOut != "" {
			line("  goes out", p.GoesOut)
		}
		line("  watermark", p.Watermark)
		line("  results to", p.ResultTopic)
		line("  late to", p.LateTopic)
		line("  dead letters to", p.DeadLetterTopic)
		line("  fingerprint", p.Fingerprint)
		line("  group", p.Group)
	}
	if r.Template != "" {
		says := "goes with the spec"
		if judge(r.Deploy) != nil {
			says = "does not go with the spec"
		}
		line("\ntemplate", r.Template+" "+says)
	}
	if len(r.Brokers) > 0 && r.OK {
		what := "topics and transactions are there"
		if r.Delivery == atLeastOnce {
			what = "topics are there, transactions are not supported: " + atLeastOnce
		}
		line("\nbrokers", strings.Join(r.Brokers, ", ")+": "+what)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, p := range r.Deploy {
		if _, err := fmt.Fprintln(w, p); err != nil {
			return err
		}
	}
	if len(r.Preflight) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	return preflight.Report{Findings: r.Preflight}.Print(w)
}

// What results are delivered as.
const (
	exactlyOnce = "exactly once"
	atLeastOnce = "at least once, with deterministic ids"
)

// lookWithin bounds the look at brokers and state store.
const lookWithin = 60 * time.Second

// look finds out whether brokers, and the state store if there are URLs of one, are fit for an app.
func (r *report) look(ctx context.Context, app *spec.App, brokers, redis []string) error {
	ctx, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	pipes, err := settings.Compile(app)
	if err != nil {
		return err
	}
	client, err := settings.OpenKafka(ctx, app, brokers)
	if err != nil {
		return fmt.Errorf("no broker answers (--brokers): %w", err)
	}
	defer client.Close()
	deps := preflight.Deps{App: app, Pipelines: pipes, Kafka: client}
	if len(redis) > 0 {
		store, err := settings.OpenRedis(ctx, app, redis)
		if err != nil {
			return fmt.Errorf("no state store (--redis): %w", err)
		}
		defer store.Close() //nolint:errcheck // nothing was written
		deps.Store = store
	}
	found, err := preflight.Check(ctx, deps)
	if err != nil {
		return err
	}
	for _, name := range found.Missing {
		r.Missing = append(r.Missing, "topic "+name)
	}
	r.Preflight, r.OK = found.Findings, r.OK && found.OK()
	switch found.Transactions {
	case preflight.TransactionsWork:
		r.Delivery = exactlyOnce
	case preflight.TransactionsNotSupported:
		r.Delivery = atLeastOnce
	case preflight.TransactionsUnknown:
	}
	return nil
}
