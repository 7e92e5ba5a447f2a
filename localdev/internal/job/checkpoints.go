package job

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/bucket"
	"github.com/llm-auto-optimizer/tidemark/functions/ops"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/progress"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/checkpoint"
)

const (
	// checkpointsDir is where checkpoints go below --state-dir.
	checkpointsDir = "checkpoints"
	// lastWithin is how long the checkpoint at the end of a run may take.
	lastWithin = 30 * time.Second
	// restoreWithin is how long looking for a checkpoint and importing it may hold up the start of a run.
	restoreWithin = 5 * time.Minute
)

// CheckpointPlace is where checkpoints of an app are: what the spec says, but below stateDir if that is given and the spec names a
// directory; empty if the spec says nothing.
func CheckpointPlace(app *spec.App, stateDir string) string {
	place := app.State.CheckpointPath
	if place == "" || stateDir == "" || strings.HasPrefix(place, bucket.Scheme) {
		return place
	}
	return filepath.Join(stateDir, checkpointsDir)
}

// exports makes checkpoints of the state while a run goes on.
type exports struct {
	*world
	target   checkpoint.Target
	place    string
	every    time.Duration
	newest   time.Time // when the newest checkpoint was made; zero: there is none
	terminal *progress.Terminal
	logger   *slog.Logger
}

// newExports returns what the options ask for; nil if the spec names no place for checkpoints, or the run leaves nothing behind.
func newExports(ctx context.Context, o *Options, w *world) (*exports, error) {
	place := CheckpointPlace(o.App, o.StateDir)
	if o.Embedded() || place == "" {
		return nil, nil //nolint:nilnil // there are none
	}
	target, err := ops.Target(ctx, place)
	if err != nil {
		return nil, fmt.Errorf("checkpoint_path: %w", err)
	}
	if d, ok := target.(*checkpoint.Directory); ok {
		if err := d.Ready(); err != nil {
			// They only spare reading: a spec that was written for another machine runs without them.
			o.Terminal.Note("no checkpoints are made: checkpoint_path: %s; choose another directory with --state-dir", err)
			return nil, nil //nolint:nilnil // there are none
		}
	}
	return &exports{world: w, target: target, place: place, every: o.App.CheckpointInterval, terminal: o.Terminal, logger: o.Logger}, nil
}

// slots names all slots of the app, whether or not they exist.
func (e *exports) slots(ctx context.Context) ([]statestore.Slot, error) {
	var out []statestore.Slot
	for _, p := range e.pipes {
		parts, err := e.kafka.Partitions(ctx, p.Topics)
		if err != nil {
			return nil, err
		}
		for _, part := range parts {
			out = append(out, apply.SlotID(p, part))
		}
	}
	return out, nil
}

// save makes a checkpoint, and reports whether it did. That it fails is worth a warning, and no more: the log has everything.
func (e *exports) save(ctx context.Context) bool {
	began := time.Now()
	slots, err := e.slots(ctx)
	var s checkpoint.Saved
	if err == nil {
		s, err = checkpoint.Save(ctx, e.target, e.store, ops.Header(e.app, e.pipes, event.FromGo(began)), slots, nil)
	}
	switch {
	case err != nil && ctx.Err() != nil && errors.Is(err, context.Canceled):
	case err != nil:
		e.logger.Warn("no checkpoint was made", "place", e.place, "error", err)
	case s.Notice != "":
		e.logger.Warn("checkpoint made", "path", s.Path, "notice", s.Notice)
	default:
		e.logger.Info("checkpoint made", "path", s.Path, "slots", s.Slots, "deltas", s.Deltas, "bytes", s.Bytes, "took", time.Since(began).String())
	}
	if err != nil {
		return false
	}
	e.newest = began
	return true
}

// run makes a checkpoint whenever the newest one is an interval old, until ctx ends, one at a time. One that could not be made is
// tried again a tenth of the interval later.
func (e *exports) run(ctx context.Context) {
	timer := time.NewTimer(e.every)
	defer timer.Stop()
	if !e.newest.IsZero() {
		timer.Reset(max(0, e.every-time.Since(e.newest)))
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		pause := e.every
		if !e.save(ctx) {
			pause /= 10
		}
		timer.Reset(pause)
	}
}

// last makes the checkpoint that the next run finds.
func (e *exports) last(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lastWithin)
	defer cancel()
	e.save(ctx)
}

// restore imports what the store lacks from the newest checkpoint, and says so. Only a place that cannot be looked into is an
// error: the log rebuilds what does not come from a checkpoint.
func (e *exports) restore(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, restoreWithin)
	defer cancel()
	if _, err := e.target.List(ctx); err != nil {
		return fmt.Errorf("checkpoint_path: %w", err)
	}
	found, err := ops.Committed(ctx, e.kafka, e.pipes)
	if err != nil {
		e.logger.Warn("no checkpoint is imported, since the committed plan cannot be read", "error", err)
		return nil
	}
	r, err := checkpoint.Restore(ctx, e.target, e.app.Name, "", e.store, found.Wants, func(checkpoint.Result) {})
	for _, passed := range r.Passed {
		e.logger.Warn("a checkpoint is not used", "error", passed)
	}
	switch {
	case errors.Is(err, checkpoint.ErrNone):
		e.terminal.Note("checkpoints: none in %s yet; one is made every %s, and at the end", e.place, e.every)
		return nil
	case err != nil:
		e.logger.Warn("the checkpoint was not imported, or not all of it: the log rebuilds the rest", "error", err)
		return nil
	}
	e.newest = r.Header.Created()
	e.terminal.Note("%s", tellRestored(found, r))
	if found.Earlier > 0 {
		// A later start must not take it for one of the pipeline that begins now: a newer one comes in its place at once.
		e.save(ctx)
	}
	return nil
}

// tellRestored says in a line what came of a checkpoint.
func tellRestored(k *ops.Known, r checkpoint.Restored) string {
	counts := []string{plural(r.Counts[checkpoint.Imported], "slot") + " imported"}
	count := func(n int, what string) {
		if n > 0 {
			counts = append(counts, fmt.Sprintf("%d %s", n, what))
		}
	}
	count(r.Counts[checkpoint.Exists], "there already")
	count(k.Behind, "too old to be of use")
	count(k.Earlier, "from before the pipeline began anew")
	count(r.Counts[checkpoint.Foreign]-k.Behind-k.Earlier, "of other pipelines")
	return fmt.Sprintf("checkpoint of %s (%s): %s", r.Header.Created().Format(time.RFC3339), r.Path, strings.Join(counts, ", "))
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
