// Command bootstrap is the ingest function as Lambda runs it: see package ingest.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/llm-auto-optimizer/tidemark/functions/ingest"
	"github.com/llm-auto-optimizer/tidemark/functions/settings"
	"github.com/llm-auto-optimizer/tidemark/functions/telemetry"
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
	t := telemetry.NewIngest(telemetry.Deps{App: r.App, Out: os.Stdout, Clock: settings.Now, Logger: r.Logger})
	lambda.Start(t.Around(ingest.New(ingest.Deps{
		App: r.App, Pipelines: r.Pipelines, Store: r.Store, Log: r.Kafka, Clock: settings.Now, Logger: r.Logger, Signals: r.Signals,
		OnBatch: t.OnBatch(),
	})))
	return nil
}
