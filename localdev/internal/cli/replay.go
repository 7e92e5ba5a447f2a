package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/job"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/jsonl"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/progress"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/replay"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/boltstore"
)

type replayCmd struct {
	specFlag
	Input     string `required:"" placeholder:"FILE.jsonl" help:"Records, one a line; - is stdin."`
	Output    string `default:"-" placeholder:"FILE" help:"Where results, late records and dead letters go; - is stdout."`
	BatchSize int    `default:"500" help:"Records in one payload of ingest; fire follows each. 0: only lines {\"fire\":true} end a payload."`
	Flush     bool   `default:"true" negatable:"" help:"Close every window at the end."`
	Ledger    bool   `help:"Also write the ledger: one record for each plan."`
	StateDir  string `placeholder:"DIR" help:"Where the directory of the state is made, which goes at the end. Default: the system's temporary one."`
}

// Help is shown below the flags.
func (*replayCmd) Help() string {
	return `The records go through the real handlers, in the order of the file, over a log and a state of this process. The clock is that of the records, so the same file and batch size give the same bytes.

Examples:

  tidemark generate --count 10000 --output events.jsonl
  tidemark replay --input events.jsonl                          with the built-in spec
  tidemark replay --config tidemark.yaml --input events.jsonl --output results.jsonl --ledger
  tidemark replay --config tidemark.yaml --input events.jsonl | jq -c 'select(.topic == "llm-results") | .value'

A line of the input:

  {"topic":"llm-metrics","partition":0,"key":"chat","timestamp":1735734850123,"headers":[],"value":{"timestamp":1735734850123,"latency_ms":212.5}}
  topic      may be left out where the spec reads one
  partition  default 0;  offset: default the next, a known one is a redelivery, left out ones are a hole
  timestamp  Kafka's, in ms; default that of the line before
  value      JSON, a string (its content), or null; key_base64, value_base64 for other bytes
  {"fire":true,"now_ms":N}      ends the payload and fires, with the clock at N ms

The output has the same shape. What it came to is on stderr.`
}

// Run implements the command.
func (c *replayCmd) Run(ctx context.Context, e *env) (err error) {
	app, err := c.load()
	if err != nil {
		return err
	}
	if c.BatchSize < 0 {
		return usage("--batch-size must not be negative, got %d", c.BatchSize)
	}
	in, name, err := input(c.Input, e.In)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // it was only read
	out, closeOut, err := output(c.Output, e.Out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeOut()) }()
	dir, err := job.FreshDir(c.StateDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	codec, err := statestore.ParseCodec(app.State.Compression)
	if err != nil {
		return err
	}
	store, err := boltstore.Open(dir, boltstore.Options{Compression: codec})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	sum, err := replay.Run(ctx, in, name, out, replay.Options{
		App: app, Store: store, BatchSize: c.BatchSize, Flush: c.Flush, Ledger: c.Ledger, Logger: e.logger,
	})
	if errors.Is(err, jsonl.ErrLine) || errors.Is(err, replay.ErrInput) {
		return err // nothing came of it
	}
	return errors.Join(err, c.report(e, app, &sum))
}

func (c *replayCmd) report(e *env, app *spec.App, sum *replay.Summary) error {
	if e.json {
		type facts struct {
			replay.Pipeline
			Watermark string `json:"watermark"`
		}
		var pipelines []facts
		for _, p := range sum.Pipelines {
			pipelines = append(pipelines, facts{p, p.Watermark.String()})
		}
		return json.NewEncoder(e.Err).Encode(struct {
			Type string `json:"type"`
			replay.Summary
			Watermark string  `json:"watermark"`
			Pipelines []facts `json:"pipelines"`
		}{"summary", *sum, sum.Watermark.String(), pipelines})
	}
	where, marks := wheres(app), []string(nil)
	for _, p := range sum.Pipelines {
		marks = append(marks, p.Name+" "+p.Watermark.String())
		if text := progress.AllFiltered(p.Name, where[p.Name], p.In, p.Filtered); text != "" {
			if _, err := fmt.Fprintln(e.Err, text); err != nil {
				return err
			}
		}
	}
	if len(marks) == 1 {
		marks[0] = sum.Watermark.String()
	}
	_, err := fmt.Fprintf(e.Err, "%d records in %d batches: %d results, %d late, %d dead letters%s, %d plans; watermark %s\n",
		sum.Records, sum.Batches, sum.Results, sum.Late, sum.DeadLetters, progress.Filtered(sum.Filtered), sum.Plans, strings.Join(marks, ", "))
	return err
}

// wheres are the expressions of pipelines that hold records back, by pipeline.
func wheres(app *spec.App) map[string]string {
	out := map[string]string{}
	for i := range app.Pipelines {
		if p := &app.Pipelines[i]; p.Where != "" {
			out[p.Name] = p.Where
		}
	}
	return out
}

// input opens what --input names.
func input(name string, stdin io.Reader) (io.ReadCloser, string, error) {
	if name == "-" {
		return io.NopCloser(stdin), "stdin", nil
	}
	f, err := os.Open(name) //nolint:gosec // the file that the user names
	if err != nil {
		return nil, "", usage("--input: %w", err)
	}
	return f, name, nil
}

// output opens what --output names. The returned function closes it and says whether all was written.
func output(name string, stdout io.Writer) (io.Writer, func() error, error) {
	if name == "-" {
		return stdout, func() error { return nil }, nil
	}
	f, err := os.Create(name) //nolint:gosec // the file that the user names
	if err != nil {
		return nil, nil, usage("--output: %w", err)
	}
	return f, f.Close, nil
}
