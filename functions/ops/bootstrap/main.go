// Command bootstrap is the ops function as Lambda runs it: see package ops.
package main

import (
	"cmp"
	"context"
	"fmt"
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/llm-auto-optimizer/tidemark/functions/ops"
	"github.com/llm-auto-optimizer/tidemark/functions/settings"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "tidemark ops:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	r, err := settings.Open(ctx, os.Getenv, os.Stdout)
	if err != nil {
		return err
	}
	lambda.Start(ops.New(ops.Deps{
		App: r.App, Pipelines: r.Pipelines, Store: r.Store, Log: r.Kafka, Cluster: r.Kafka, Clock: settings.Now, Logger: r.Logger,
		Checkpoints: cmp.Or(r.Checkpoints, r.App.State.CheckpointPath),
	}))
	return nil
}
