package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/bucket"
	"github.com/llm-auto-optimizer/tidemark/functions/ops"
	"github.com/llm-auto-optimizer/tidemark/functions/settings"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/job"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/boltstore"
	"github.com/llm-auto-optimizer/tidemark/statestore/checkpoint"
)

// stateFlags say which state store a command works on.
type stateFlags struct {
	specFlag
	Redis    []string `placeholder:"URL" env:"TIDEMARK_REDIS" help:"Redis that has the state; several URLs with commas are one cluster. Default: the spec's bolt directory."`
	StateDir string   `placeholder:"DIR" help:"State in bolt: its directory, in the place of the spec's. Checkpoints are in its subdirectory checkpoints."`
}

// state is a store, and the app whose slots it has.
type state struct {
	statestore.Store
	app   *spec.App
	pipes []*pipeline.Pipeline
}

// open opens the store. Where there has to be one, a bolt store is not made.
func (f *stateFlags) open(ctx context.Context, e *env, hasToBe bool) (*state, error) {
	app, err := f.load()
	if err != nil {
		return nil, err
	}
	s := &state{app: app}
	if s.pipes, err = settings.Compile(app); err != nil {
		return nil, err
	}
	switch {
	case len(f.Redis) > 0:
		if s.Store, err = settings.OpenRedis(ctx, app, f.Redis); err != nil {
			return nil, fmt.Errorf("no state store (--redis): %w", err)
		}
		return s, nil
	case app.State.Backend != spec.BackendBolt:
		return nil, usage("--redis URL is needed, of the store that a run with --brokers or the deployed functions use: the spec keeps its state in %s. "+
			"A run without --brokers leaves nothing behind; while it runs, its console has it", app.State.Backend)
	}
	dir := cmp.Or(f.StateDir, app.State.Path)
	if _, err := os.Stat(dir); hasToBe && errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no state in %s; name its directory with --state-dir", dir)
	}
	codec, err := statestore.ParseCodec(app.State.Compression)
	if err != nil {
		return nil, err
	}
	store, err := boltstore.Open(dir, boltstore.Options{Compression: codec})
	switch {
	case errors.Is(err, boltstore.ErrBusy):
		return nil, fmt.Errorf("%w: end the run that has it first", err)
	case err != nil:
		return nil, fmt.Errorf("%w; choose another directory with --state-dir", err)
	}
	if n := store.Notice(); n != "" {
		e.logger.Warn("state in bolt", "notice", n)
	}
	s.Store = store
	return s, nil
}

type checkpointCmd struct {
	stateFlags
	To string `placeholder:"DIR|s3://BUCKET/PREFIX" help:"Where the checkpoint goes. Default: the spec's processor.state.checkpoint_path."`
}

// Help is shown below the flags.
func (*checkpointCmd) Help() string {
	return fmt.Sprintf(`A checkpoint is a copy of the state of an app. Results never need one: whatever the state store loses is read from Kafka again. A checkpoint makes that shorter, so it is worth having where windows are long or reading the topics again takes long.

The functions may go on meanwhile: nothing waits for it, and nothing is changed. Each partition is copied as it was at one offset; what comes after it, a restore reads from the log. The newest %d checkpoints of an app are kept where they are made.

Examples:

  tidemark checkpoint --config tidemark.yaml --redis redis://localhost:6379
  tidemark checkpoint --config tidemark.yaml --redis redis://localhost:6379 --to s3://my-bucket/tidemark
  tidemark checkpoint --config tidemark.yaml --state-dir .tidemark/state --to backup     state in bolt, while no run has it

S3 is reached as by any AWS program: AWS_PROFILE, AWS_REGION, a role; AWS_ENDPOINT_URL_S3 for others than AWS.`, checkpoint.Keep)
}

// Run implements the command.
func (c *checkpointCmd) Run(ctx context.Context, e *env) (err error) {
	s, err := c.open(ctx, e, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	place := cmp.Or(c.To, job.CheckpointPlace(s.app, c.StateDir))
	if place == "" {
		return usage("--to DIR or --to s3://BUCKET/PREFIX: the spec has no processor.state.checkpoint_path")
	}
	target, err := ops.Target(ctx, place)
	if err != nil {
		return placeError("--to", err)
	}
	slots, err := ops.Slots(ctx, s, s.pipes)
	if err != nil {
		return err
	}
	if len(slots) == 0 {
		return fmt.Errorf("%w: the store has no partition of app %s", ops.ErrNothing, s.app.Name)
	}
	saved, err := checkpoint.Save(ctx, target, s, ops.Header(s.app, s.pipes, settings.Now()), slots, tellProgress(e))
	if err != nil {
		return err
	}
	if saved.Notice != "" {
		e.logger.Warn("checkpoint made", "notice", saved.Notice)
	}
	if e.json {
		return json.NewEncoder(e.Out).Encode(struct {
			Type string `json:"type"`
			Path string `json:"path"`
			checkpoint.Totals
			Removed []string `json:"removed"`
		}{"checkpoint", saved.Path, saved.Totals, append([]string{}, saved.Removed...)})
	}
	text := fmt.Sprintf("%s: %d partitions, %d deltas, %s", saved.Path, saved.Slots, saved.Deltas, size(saved.Bytes))
	if n := len(saved.Removed); n > 0 {
		text += fmt.Sprintf("; %d older removed", n)
	}
	_, err = fmt.Fprintln(e.Out, text)
	return err
}

// placeError makes of a URL that is none an error of the command line.
func placeError(flag string, err error) error {
	if errors.Is(err, bucket.ErrURL) {
		return usage("%s: %w", flag, err)
	}
	return err
}

// tellProgress prints a line on stderr every few seconds.
func tellProgress(e *env) func(checkpoint.Progress) {
	last := time.Now()
	return func(p checkpoint.Progress) {
		if time.Since(last) < tellEvery {
			return
		}
		last = time.Now()
		_, _ = fmt.Fprintf(e.Err, "%d of %d partitions, %d deltas, %s so far\n", p.Slots, p.Of, p.Deltas, size(p.Bytes))
	}
}

// size writes a number of bytes for people.
func size(n int64) string {
	switch {
	case n < 1_000:
		return fmt.Sprintf("%d B", n)
	case n < 1_000_000:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	case n < 1_000_000_000:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/1e9)
}
