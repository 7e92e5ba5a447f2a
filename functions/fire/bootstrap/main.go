// Command bootstrap is the fire function as Lambda runs it: see package fire.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/llm-auto-optimizer/tidemark/functions/fire"
	"github.com/llm-auto-optimizer/tidemark/functions/preflight"
	"github.com/llm-auto-optimizer/tidemark/functions/settings"
	"github.com/llm-auto-optimizer/tidemark/functions/telemetry"
	"github.com/llm-auto-optimizer/tidemark/functions/telemetry/traces"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "tidemark fire:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	r, err := settings.Open(ctx, os.Getenv, os.Stdout)
	if err != nil {
		return err
	}
	publisher := preflight.Start(ctx, preflight.Deps{App: r.App, Pipelines: r.Pipelines, Store: r.Store}, r.Kafka, r.Logger)
	tracer, err := traces.Open(ctx, r.Traces, r.App.Name, "fire", r.Logger)
	if err != nil {
		return err
	}
	t := telemetry.NewFire(telemetry.Deps{App: r.App, Out: os.Stdout, Clock: settings.Now, Logger: r.Logger, Tracer: tracer})
	lambda.Start(t.Around(fire.New(fire.Deps{
		App: r.App, Pipelines: r.Pipelines, Store: r.Store, Log: r.Kafka, Publisher: publisher, Clock: settings.Now, Logger: r.Logger, Tick: r.FireTick,
		Signals: r.Signals, OnTick: t.OnTick(),
	})))
	return nil
}
