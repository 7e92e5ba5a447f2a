package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/core/window"
	"github.com/llm-auto-optimizer/tidemark/functions/settings"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/job"
)

type validateCmd struct {
	specFlag
	Brokers []string `placeholder:"HOST:PORT" help:"Also look at this Kafka: does it have the topics, and transactions?"`
	Schema  bool     `help:"Print the JSON Schema of specs, for editors, and exit."`
	Example bool     `help:"Print a spec that shows everything, with comments, and exit."`
}

// Help is shown below the flags.
func (*validateCmd) Help() string {
	return `All problems come at once, each with its line. Then, or if there is none, what the spec amounts to: pipelines, windows, topics, consumer groups.

Examples:

  tidemark validate --config tidemark.yaml
  tidemark validate --config tidemark.yaml --brokers localhost:9092
  tidemark validate --schema > tidemark.schema.json

Exit codes: 2 the spec is wrong; 1 the brokers lack something.`
}

// report is what validate finds out.
type report struct {
	Type      string          `json:"type"`
	OK        bool            `json:"ok"`
	Config    string          `json:"config"`
	Problems  []problem       `json:"problems,omitempty"`
	App       string          `json:"app,omitempty"`
	State     string          `json:"state,omitempty"`
	Trigger   string          `json:"trigger_group,omitempty"`
	Pipelines []pipelineFacts `json:"pipelines,omitempty"`
	Brokers   []string        `json:"brokers,omitempty"`
	Missing   []string        `json:"missing,omitempty"` // what the brokers lack
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
	Key             string   `json:"key"`
	Windows         []string `json:"windows"`
	Aggregates      []string `json:"aggregates"`
	Watermark       string   `json:"watermark"`
	ResultTopic     string   `json:"result_topic"`
	LateTopic       string   `json:"late_topic"`
	DeadLetterTopic string   `json:"dead_letter_topic"`
}

// errLacking is returned where the brokers lack something that the app needs.
var errLacking = errors.New("the brokers lack what the spec needs")

// Run implements the command.
func (c *validateCmd) Run(ctx context.Context, e *env) error {
	switch {
	case c.Schema:
		_, err := e.Out.Write(append(spec.Schema(), '\n'))
		return err
	case c.Example:
		_, err := io.WriteString(e.Out, spec.Example())
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
	if len(c.Brokers) > 0 {
		r.Brokers = c.Brokers
		if r.Missing, err = lacking(ctx, app, c.Brokers); err != nil {
			return err
		}
	}
	r.OK = len(r.Missing) == 0
	if e.json {
		err = json.NewEncoder(e.Out).Encode(r)
	} else {
		err = r.print(e.Out)
	}
	if err != nil || r.OK {
		return err
	}
	return fmt.Errorf("%w: %s", errLacking, strings.Join(r.Missing, "; "))
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
			Name: p.Name, Fingerprint: p.Fingerprint(), Group: p.Group(), Topics: p.Topics, Key: describeKey(p.Key),
			Watermark:   describeWatermark(p.Watermark),
			ResultTopic: p.SinkTopic, LateTopic: p.LateTopic, DeadLetterTopic: p.DeadLetterTopic,
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
		r.Pipelines = append(r.Pipelines, f)
	}
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

func describeWatermark(w spec.Watermark) string {
	text := span(w.MaxOutOfOrder) + " behind the largest time"
	if w.Periodic {
		text += ", in steps of " + span(w.EmitInterval)
	}
	if w.IdleTimeout > 0 {
		return text + fmt.Sprintf("; a partition is idle after %s, all idle: %s", span(w.IdleTimeout), w.AllIdle)
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
	case window.KindSession:
		text += fmt.Sprintf(" until %s apart", span(d.Gap))
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
		line("  key", p.Key)
		for _, d := range p.Windows {
			line("  window", d)
		}
		for _, a := range p.Aggregates {
			line("  aggregates", a)
		}
		line("  watermark", p.Watermark)
		line("  results to", p.ResultTopic)
		line("  late to", p.LateTopic)
		line("  dead letters to", p.DeadLetterTopic)
		line("  fingerprint", p.Fingerprint)
		line("  group", p.Group)
	}
	if len(r.Brokers) > 0 && r.OK {
		line("\nbrokers", strings.Join(r.Brokers, ", ")+": topics and transactions are there")
	}
	return t.Flush()
}

// probe is the transactional id with which it is found out whether there are transactions.
const probe = "tidemark.validate.probe"

// lacking looks at what an app needs of a Kafka, and returns what it does not have.
func lacking(ctx context.Context, app *spec.App, brokers []string) ([]string, error) {
	client, err := settings.OpenKafka(ctx, app, brokers)
	if err != nil {
		return nil, fmt.Errorf("no broker answers (--brokers): %w", err)
	}
	defer client.Close()
	missing, err := job.Missing(ctx, client, job.TopicsOf(app, 1))
	if err != nil {
		return nil, err
	}
	var out []string
	for _, t := range missing {
		out = append(out, "topic "+t.Name)
	}
	s, err := client.Open(ctx, probe)
	if err != nil {
		return append(out, "transactions: "+err.Error()), nil
	}
	s.Close()
	return out, nil
}
