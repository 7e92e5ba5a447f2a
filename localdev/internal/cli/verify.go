package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/functions/ops"
	"github.com/llm-auto-optimizer/tidemark/functions/settings"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/recompute"
)

type verifyCmd struct {
	operateFlags
	Results     bool   `default:"true" negatable:"" help:"Compute the results once more from the source topics, and compare them with those published."`
	State       bool   `default:"true" negatable:"" help:"Compare what is open with the state store. --no-state needs no --redis."`
	From        string `placeholder:"TIME" help:"Results: only windows that begin then or later: RFC 3339 or ms since 1970. Less of the topics is read."`
	To          string `placeholder:"TIME" help:"Results: only windows that end then or earlier."`
	Differences int    `default:"20" placeholder:"N" help:"Results: so many differences are shown of each pipeline, the others counted."`
	Memory      int64  `default:"256" placeholder:"MB" help:"Results: what may be held in memory; the rest is sorted in temporary files."`
	TempDir     string `placeholder:"DIR" help:"Results: where the temporary files go. They take about as much as keys and values of the records do."`
}

// errUnequal is returned where something is not what the log says.
var errUnequal = errors.New("something differs from what the log says (above)")

// Help is shown below the flags.
func (*verifyCmd) Help() string {
	return `Is everything right that was published, and will be? It looks at three things, changes none, and the functions may go on meanwhile:

  results   computes every window once more, from the records of the source topics alone, and compares it with the newest result;
            and the late and failed records with those in their topics. No state is used: which watermark a record was judged
            by is said by the ledger.
  state     folds the log again from the committed plan on, and compares what is open with the state store.
  books     checks in the ledger that every record is accounted for, once.

Counts, minima, maxima, first, last, up to 1,024 distinct and percentiles of up to 1,000 values must be the same, sums and moments up to 1e-9, other percentiles up to 1% of rank (t-digest) or the relative accuracy (ddsketch), distinct up to 4%. Of a global window every pane is compared, and with which plans one had to go out. What cannot be verified, because the topics do not have it any more or another pipeline published it, is left out, and said.

Examples:

  tidemark verify --config tidemark.yaml --brokers localhost:9092 --redis redis://localhost:6379
  tidemark verify --config tidemark.yaml --brokers localhost:9092 --no-state --from 2025-01-01T12:00:00Z --to 2025-01-01T13:00:00Z
  tidemark verify --config tidemark.yaml --brokers localhost:9092 --no-state --json | jq '.results.pipelines[].differences'

Exit code 1 if anything differs.`
}

// verified is what verify finds.
type verified struct {
	Type    string               `json:"type"`
	OK      bool                 `json:"ok"`
	Partial bool                 `json:"partial"`
	Results *recompute.Report    `json:"results,omitempty"`
	Slots   []ops.SlotVerified   `json:"partitions,omitempty"`
	Ledger  []ops.PipelineLedger `json:"ledger"`
}

// Run implements the command.
func (c *verifyCmd) Run(ctx context.Context, e *env) error {
	o, err := c.options(e)
	if err != nil {
		return err
	}
	v := &verified{Type: "verify", OK: true}
	if c.State {
		err = c.with(ctx, e, func(h *ops.Handler) (any, func(io.Writer) error, error) {
			err := c.all(ctx, h, o, v)
			return v, func(w io.Writer) error { return printVerified(w, v) }, err
		})
		if errors.Is(err, errUsage) {
			err = fmt.Errorf("%w; or --no-state, which needs the brokers alone", err)
		}
	} else {
		err = c.withoutState(ctx, e, o, v)
	}
	if err == nil && !v.OK {
		err = errUnequal
	}
	return err
}

func (c *verifyCmd) options(e *env) (recompute.Options, error) {
	o := recompute.Options{From: event.MinTime, To: event.MaxTime, Memory: c.Memory << 20, Dir: c.TempDir, Most: c.Differences, Tell: tellVerify(e)}
	if c.Memory < 1 || c.Differences < 0 {
		return o, usage("--memory must be at least 1 and --differences not negative, got %d and %d", c.Memory, c.Differences)
	}
	var err error
	if c.From != "" {
		if o.From, err = moment("--from", c.From); err != nil {
			return o, err
		}
	}
	if c.To != "" {
		if o.To, err = moment("--to", c.To); err != nil {
			return o, err
		}
	}
	if o.From >= o.To {
		return o, usage("--from %s is not before --to %s", o.From, o.To)
	}
	return o, nil
}

// moment reads a time of the command line.
func moment(flag, text string) (event.Time, error) {
	if ms, err := strconv.ParseInt(text, 10, 64); err == nil {
		return event.Time(ms), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return 0, usage("%s must be RFC 3339, such as 2025-01-01T12:00:00Z, or milliseconds since 1970, got %q", flag, text)
	}
	return event.FromGo(t), nil
}

// tellVerify says on stderr every few seconds what is being done.
func tellVerify(e *env) func(pipeline, what string, done, of int64) {
	last := time.Now()
	return func(pipeline, what string, done, of int64) {
		if e.json || time.Since(last) < tellEvery {
			return
		}
		last = time.Now()
		text := what
		if pipeline != "" {
			text = pipeline + ": " + what
		}
		if of > 0 {
			_, _ = fmt.Fprintf(e.Err, "%s, %d of %d offsets\n", text, done, of)
			return
		}
		_, _ = fmt.Fprintf(e.Err, "%s, %d compared\n", text, done)
	}
}

// withoutState needs the brokers alone.
func (c *verifyCmd) withoutState(ctx context.Context, e *env, o recompute.Options, v *verified) error {
	app, err := c.load()
	if err != nil {
		return err
	}
	pipes, err := settings.Compile(app)
	if err != nil {
		return err
	}
	client, err := settings.OpenKafka(ctx, app, c.Brokers)
	if err != nil {
		return noBrokers(err)
	}
	defer client.Close()
	h := ops.New(ops.Deps{App: app, Pipelines: pipes, Log: client, Clock: settings.Now, Logger: e.logger})
	if v.Ledger, err = h.Books(ctx, c.Pipeline); err != nil {
		return err
	}
	v.takeBooks()
	o.App, o.Pipelines, o.Log = app, pipes, client
	if err := c.results(ctx, o, v); err != nil {
		return err
	}
	if e.json {
		return json.NewEncoder(e.Out).Encode(v)
	}
	return printVerified(e.Out, v)
}

func (v *verified) takeBooks() {
	for _, b := range v.Ledger {
		v.OK = v.OK && len(b.Problems) == 0
		v.Partial = v.Partial || b.Note != ""
	}
}

// all verifies with a state store.
func (c *verifyCmd) all(ctx context.Context, h *ops.Handler, o recompute.Options, v *verified) error {
	state, err := h.Verify(ctx, ops.Selection{Pipeline: c.Pipeline})
	if err != nil {
		return err
	}
	v.OK, v.Partial, v.Slots, v.Ledger = state.OK, state.Partial, state.Slots, state.Ledger
	o.App, o.Pipelines, o.Log = h.App, h.Pipelines, h.Log
	return c.results(ctx, o, v)
}

func (c *verifyCmd) results(ctx context.Context, o recompute.Options, v *verified) error {
	if !c.Results {
		return nil
	}
	if c.Pipeline != "" {
		var one []*pipeline.Pipeline
		for _, p := range o.Pipelines {
			if p.Name == c.Pipeline {
				one = append(one, p)
			}
		}
		o.Pipelines = one
	}
	var err error
	v.Results, err = recompute.Run(ctx, o)
	switch {
	case errors.Is(err, recompute.ErrMemory):
		return fmt.Errorf("%w; allow more than --memory %d, or choose other windows with --from and --to", err, c.Memory)
	case errors.Is(err, kafkaio.ErrOutOfRange):
		return fmt.Errorf("%w; records were removed from the log meanwhile: try again, with a later --from", err)
	case err != nil:
		return err
	}
	v.OK, v.Partial = v.OK && v.Results.OK, v.Partial || v.Results.Partial
	return nil
}

func printVerified(out io.Writer, v *verified) error {
	if v.Results != nil {
		for i := range v.Results.Pipelines {
			printResults(out, &v.Results.Pipelines[i])
		}
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, s := range v.Slots {
		_, _ = fmt.Fprintf(w, "state of %s/%s/%d\t%s\tplan %d\toffsets [%d, %d)\t%d groups\t%s\n", s.Pipeline, s.Topic, s.Partition, s.State, s.Plan, s.From, s.To, s.Compared, s.Note)
		for _, d := range s.Differences {
			_, _ = fmt.Fprintf(w, "  %s [%s, %s) %q: %s\n", d.Window, d.Start, d.End, d.Key, d.What)
		}
		if s.More > 0 {
			_, _ = fmt.Fprintf(w, "  and %d more\n", s.More)
		}
	}
	for _, l := range v.Ledger {
		_, _ = fmt.Fprintf(w, "books of %s: %d plans, the newest %d; %d records in, %d not accounted for %s\n", l.Pipeline, l.Records, l.Plan, l.In, l.Unaccounted, l.Note)
		for _, p := range l.Problems {
			_, _ = fmt.Fprintf(w, "  %s\n", p)
		}
	}
	return w.Flush()
}

func printResults(w io.Writer, p *recompute.PipelineReport) {
	verdict := "as they should be"
	if n := int64(len(p.Differences)) + p.More; n > 0 {
		verdict = fmt.Sprintf("%d differences", n)
	}
	_, _ = fmt.Fprintf(w, "results of %s: %s; %d windows of keys, %d late, %d dead letters, from %d records; up to plan %d, watermark %s\n",
		p.Pipeline, verdict, p.Groups, p.Late, p.DeadLetters, p.Records, p.Plan, p.Watermark)
	if p.Doubtful+p.Undecided > 0 {
		_, _ = fmt.Fprintf(w, "  %d of them are right if attempts at plans died that had raised the fence, which nothing tells (%d more could not be decided); if none did:\n", p.Doubtful, p.Undecided)
		for i := range p.Doubts {
			printDifference(w, &p.Doubts[i])
		}
	}
	for _, s := range p.LeftOut {
		_, _ = fmt.Fprintf(w, "  left out: %s\n", s)
	}
	for i := range p.Differences {
		printDifference(w, &p.Differences[i])
	}
	if p.More > 0 {
		_, _ = fmt.Fprintf(w, "  and %d more (--differences N shows them)\n", p.More)
	}
}

func printDifference(w io.Writer, d *recompute.Difference) {
	text := "  " + strings.ReplaceAll(d.What, "_", " ")
	if d.Window != "" {
		text += fmt.Sprintf("  %s [%s, %s)", d.Window, d.Start, d.End)
	}
	if d.Key != "" || d.Window != "" {
		text += fmt.Sprintf("  key %q", d.Key)
	}
	_, _ = fmt.Fprintln(w, text)
	for _, v := range d.Values {
		_, _ = fmt.Fprintf(w, "      %s: %s, should be %s\n", v.Name, cmp.Or(v.Got, "not there"), v.Want)
	}
	if d.Note != "" {
		_, _ = fmt.Fprintf(w, "      %s\n", d.Note)
	}
	if d.At != nil {
		_, _ = fmt.Fprintf(w, "      published: %s/%d, offset %d\n", d.At.Topic, d.At.Partition, d.At.Offset)
	}
	for _, r := range d.Records {
		_, _ = fmt.Fprintf(w, "      records: %s/%d, %d from offset %d to %d\n", r.Topic, r.Partition, r.N, r.First, r.Last)
	}
}
