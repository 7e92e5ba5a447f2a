package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/functions/ops"
	"github.com/llm-auto-optimizer/tidemark/functions/settings"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/progress"
)

// operateFlags say which brokers and which state a command looks at.
type operateFlags struct {
	stateFlags
	Brokers  []string `placeholder:"HOST:PORT" env:"TIDEMARK_BROKERS" help:"The Kafka that has the topics. Default: the spec's bootstrap_servers."`
	Pipeline string   `placeholder:"NAME" help:"One pipeline only."`
}

// with opens what a command needs, and prints what it answers.
func (f *operateFlags) with(ctx context.Context, e *env, do func(h *ops.Handler) (any, func(io.Writer) error, error)) (err error) {
	s, err := f.open(ctx, e, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	client, err := settings.OpenKafka(ctx, s.app, f.Brokers)
	if err != nil {
		return noBrokers(err)
	}
	defer client.Close()
	h := ops.New(ops.Deps{App: s.app, Pipelines: s.pipes, Store: s.Store, Log: client, Clock: settings.Now, Logger: e.logger})
	answer, text, err := do(h)
	if errors.Is(err, kafkaio.ErrUnknownTopic) && f.Config == "" {
		return fmt.Errorf("%w; it is of the built-in spec: --config FILE names another", err)
	}
	if err != nil {
		return err
	}
	if e.json {
		return json.NewEncoder(e.Out).Encode(answer)
	}
	return text(e.Out)
}

// noBrokers says what to do where no broker answers, or none is named.
func noBrokers(err error) error {
	if errors.Is(err, settings.ErrNoBrokers) {
		return usage("--brokers HOST:PORT is needed: %w", err)
	}
	return fmt.Errorf("no broker answers: %w; is Kafka running there? --brokers HOST:PORT names another", err)
}

type explainCmd struct {
	operateFlags
	Key *string `placeholder:"KEY" help:"Also show what the open windows have of this grouping key so far."`
}

// Help is shown below the flags.
func (*explainCmd) Help() string {
	return `Why has a window not fired? It decides as fire would, changes nothing, and says who holds the watermark back, what is halted or blocked, how far each partition is, and which windows are open.

Example:

  tidemark explain --config tidemark.yaml --brokers localhost:9092 --redis redis://localhost:6379 --key service=a`
}

// Run implements the command.
func (c *explainCmd) Run(ctx context.Context, e *env) error {
	return c.with(ctx, e, func(h *ops.Handler) (any, func(io.Writer) error, error) {
		x, err := h.Explain(ctx, c.Pipeline, c.Key)
		return x, func(w io.Writer) error { return printExplanation(w, x) }, err
	})
}

// or writes what may be missing.
func or(s *string) string {
	if s == nil {
		return "-"
	}
	return *s
}

func printExplanation(out io.Writer, x *ops.Explanation) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for i := range x.Pipelines {
		p := &x.Pipelines[i]
		_, _ = fmt.Fprintf(w, "pipeline %s: plan %d, watermark %s, held by %s\n", p.Pipeline, p.Plan, or(p.Watermark), progress.HeldBy(p.HeldBy))
		for _, why := range p.Why {
			_, _ = fmt.Fprintf(w, "  %s\n", why)
		}
		_, _ = fmt.Fprint(w, "\nPARTITION\tAPPLIED\tEND\tLAG\tLARGEST TIME\tLAST RECORD\tSTATE\n")
		for _, q := range p.Parts {
			state := q.State
			if q.Idle {
				state += ", idle"
			}
			_, _ = fmt.Fprintf(w, "%s/%d\t%d\t%d\t%d\t%s\t%s\t%s\n", q.Topic, q.Partition, q.Applied, q.End, q.Lag, or(q.MaxTime), q.LastRecord, state)
		}
		_, _ = fmt.Fprintf(w, "\n%d open windows\nWINDOW\tSTART\tFIRES AT\tTO GO\tFINAL AT\n", p.Open)
		for _, q := range p.Windows {
			_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", q.Name, q.Start, q.End, q.ToGo, q.Final)
		}
		if p.EarlyNote != "" {
			_, _ = fmt.Fprintf(w, "\nearly look, %s\n", p.EarlyNote)
			if len(p.Early) == 0 {
				_, _ = fmt.Fprintln(w, "no open window has records of this grouping key; results name theirs in \"key\", such as service=a::model=b")
			}
		}
		for _, q := range p.Early {
			_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%d records\t%s\n", q.Window, q.Start, q.End, q.Records, q.Results)
		}
	}
	return w.Flush()
}

type stateCmd struct {
	List stateListCmd `cmd:"" help:"List the slots of the state store."`
	Get  stateGetCmd  `cmd:"" help:"Show one slot and its slices."`
}

type stateListCmd struct {
	operateFlags
	Prefix string `placeholder:"PREFIX" help:"Only slots whose name, PIPELINE/TOPIC/PARTITION, begins so."`
	After  string `placeholder:"SLOT" help:"Go on behind this one."`
	Limit  int    `default:"100" help:"So many at most."`
}

// Help is shown below the flags.
func (*stateListCmd) Help() string {
	return `A slot is the state of one partition in one pipeline: how far it is applied, the largest event time, the fence, and how many slices and deltas it has.

Examples:

  tidemark state list --config tidemark.yaml --brokers localhost:9092 --redis redis://localhost:6379
  tidemark state list --config tidemark.yaml --brokers localhost:9092 --state-dir .tidemark/state --prefix latency/requests
  tidemark state list --config tidemark.yaml --brokers localhost:9092 --redis redis://localhost:6379 --json | jq '.slots[] | select(.deltas > 100)'`
}

// Run implements the command.
func (c *stateListCmd) Run(ctx context.Context, e *env) error {
	return c.with(ctx, e, func(h *ops.Handler) (any, func(io.Writer) error, error) {
		l, err := h.State(ctx, ops.StateQuery{Pipeline: c.Pipeline, Prefix: c.Prefix, After: c.After, Limit: c.Limit})
		return l, func(out io.Writer) error {
			w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
			_, _ = fmt.Fprint(w, "SLOT\tAPPLIED\tLARGEST TIME\tFENCE\tSLICES\tDELTAS\n")
			for _, s := range l.Slots {
				_, _ = fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%d\t%d\t%s\n", s.Slot, s.Applied, or(s.MaxTime), or(s.Fence), s.Slices, s.Deltas, s.Trouble)
			}
			if l.Next != "" {
				_, _ = fmt.Fprintf(w, "there are more: --after %s\n", l.Next)
			}
			return w.Flush()
		}, err
	})
}

type stateGetCmd struct {
	operateFlags
	Slot  string `arg:"" help:"Its name: PIPELINE/TOPIC/PARTITION."`
	After string `placeholder:"PLACE" help:"Go on behind what the page before said."`
	Limit int    `default:"100" help:"So many slices at most."`
}

// Help is shown below the flags.
func (*stateGetCmd) Help() string {
	return `Shows the cuts of a slot and, slice by slice, which offsets its deltas have, how many records, groups and bytes.

Example:

  tidemark state get --config tidemark.yaml --brokers localhost:9092 --redis redis://localhost:6379 latency/requests/0

The names are those that tidemark state list shows.`
}

// Run implements the command.
func (c *stateGetCmd) Run(ctx context.Context, e *env) error {
	return c.with(ctx, e, func(h *ops.Handler) (any, func(io.Writer) error, error) {
		d, err := h.Slot(ctx, c.Slot, c.After, c.Limit)
		return d, func(out io.Writer) error {
			w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
			_, _ = fmt.Fprintf(w, "%s: applied %d, largest time %s, base (%d, %s), top (%d, %s)\n", d.Slot, d.Applied, or(d.MaxTime), d.Base.Offset, or(d.Base.Watermark), d.Top.Offset, or(d.Top.Watermark))
			_, _ = fmt.Fprint(w, "WINDOW\tSTART\tEND\tDELTAS\tOFFSETS\tRECORDS\tGROUPS\tSIZE\n")
			for _, s := range d.Detail {
				_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%d\t[%d, %d)\t%d\t%d\t%s\t%s\n", s.Window, s.Start, s.End, s.Deltas, s.From, s.To, s.Owned, s.Groups, size(s.Bytes), s.Trouble)
			}
			if d.Next != "" {
				_, _ = fmt.Fprintf(w, "there are more: --after %s\n", d.Next)
			}
			return w.Flush()
		}, err
	})
}
