// Command bootstrap is the ingest function as Lambda runs it: see package ingest.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/ingest"
	"github.com/llm-auto-optimizer/tidemark/functions/settings"
	"github.com/llm-auto-optimizer/tidemark/functions/telemetry"
	"github.com/llm-auto-optimizer/tidemark/functions/telemetry/traces"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "tidemark ingest:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	r, err := settings.Open(ctx, os.Getenv, os.Stdout)
	if err != nil {
		return err
	}
	nudge, err := nudger(r)
	if err != nil {
		return err
	}
	tracer, err := traces.Open(ctx, r.Traces, r.App.Name, "ingest", r.Logger)
	if err != nil {
		return err
	}
	t := telemetry.NewIngest(telemetry.Deps{App: r.App, Out: os.Stdout, Clock: settings.Now, Logger: r.Logger, Tracer: tracer})
	lambda.Start(t.Around(ingest.New(ingest.Deps{
		App: r.App, Pipelines: r.Pipelines, Store: r.Store, Log: r.Kafka, Clock: settings.Now, Logger: r.Logger, Signals: r.Signals, Nudge: nudge,
		OnBatch: t.OnBatch(), Links: tracer != nil,
	})))
	return nil
}

// nudger invokes fire, if it has a name here; else its schedule does alone.
func nudger(r *settings.Runtime) (func(context.Context, apply.Nudge) error, error) {
	if r.FireFunction == "" {
		return nil, nil //nolint:nilnil // nobody is asked
	}
	invoke, err := r.Cloud.Invoker(r.FireFunction)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", settings.EnvFireFunction, err)
	}
	return func(ctx context.Context, n apply.Nudge) error { return invoke(ctx, n) }, nil
}
