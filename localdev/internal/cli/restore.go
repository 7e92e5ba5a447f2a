package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/llm-auto-optimizer/tidemark/functions/ops"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/job"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/checkpoint"
)

type restoreCmd struct {
	stateFlags
	From string `placeholder:"DIR|FILE|s3://..." help:"Where the checkpoint is: a place, of which the newest that can be read is taken, or a single one. Default: the spec's processor.state.checkpoint_path."`
}

// Help is shown below the flags.
func (*restoreCmd) Help() string {
	return `Puts back what the state store has lost. A partition that the store has is left alone: it is newer, or the log repairs it. Partitions that come back go on from the offset that the checkpoint has of them, whatever its age: what came later is read from Kafka. So the functions may be running, and a restore can be repeated.

Without a restore the same state is rebuilt from Kafka alone. A checkpoint that is older than what the committed plan still needs is of no use: results are the same, but more of the log may be read than without it.

For each partition it says what became of it:

  imported   it is in the store now
  exists     the store has it
  foreign    it is of a pipeline that the spec does not have (any more)

Examples:

  tidemark restore --config tidemark.yaml --redis redis://localhost:6379
  tidemark restore --config tidemark.yaml --redis redis://localhost:6379 --from s3://my-bucket/tidemark
  tidemark restore --config tidemark.yaml --state-dir .tidemark/state --from backup/my-app.20250101T123400.000Z.ckpt

Do not restore what is from before a pipeline was begun anew (its group deleted): it would go on from a history that is no longer its own.`
}

// Run implements the command.
func (c *restoreCmd) Run(ctx context.Context, e *env) (err error) {
	app, err := c.load()
	if err != nil {
		return err
	}
	from := c.From
	if from == "" {
		if from = job.CheckpointPlace(app, c.StateDir); from == "" {
			return usage("--from DIR, FILE or s3://BUCKET/PREFIX: the spec has no processor.state.checkpoint_path")
		}
	}
	target, name, err := ops.Source(ctx, from)
	switch {
	case errors.Is(err, fs.ErrNotExist) && c.From == "":
		return fmt.Errorf("%s does not exist: %w", from, checkpoint.ErrNone)
	case errors.Is(err, fs.ErrNotExist):
		return usage("--from: %w", err)
	case err != nil:
		return placeError("--from", err)
	}
	s, err := c.open(ctx, e, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	own := map[string]string{} // names of the spec's pipelines by their id
	for _, p := range s.pipes {
		own[p.ID()] = p.Name
	}
	var failed error
	r, err := checkpoint.Restore(ctx, target, app.Name, name, s,
		func(slot statestore.Slot, _ statestore.Meta) bool { return own[slot.Pipeline] != "" },
		func(r checkpoint.Result) { failed = errors.Join(failed, tellSlot(e, own, r)) })
	for _, passed := range r.Passed {
		e.logger.Warn("a checkpoint is not used", "error", passed)
	}
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	return tellRestored(e, r)
}

// tellSlot prints what became of a slot.
func tellSlot(e *env, own map[string]string, r checkpoint.Result) error {
	name := own[r.Slot.Pipeline]
	if name == "" {
		name = r.Slot.Pipeline
	}
	if e.json {
		return json.NewEncoder(e.Out).Encode(struct {
			Type      string             `json:"type"`
			Pipeline  string             `json:"pipeline"`
			Topic     string             `json:"topic"`
			Partition int32              `json:"partition"`
			Outcome   checkpoint.Outcome `json:"outcome"`
			Applied   int64              `json:"applied"`
			Deltas    int                `json:"deltas"`
		}{"slot", name, r.Slot.Topic, r.Slot.Partition, r.Outcome, r.Applied, r.Deltas})
	}
	topic := r.Slot.Topic
	if topic == "" {
		topic = fmt.Sprintf("topic %x", r.Slot.TopicID)
	}
	text := fmt.Sprintf("%-8s  %s: %s/%d, offset %d", r.Outcome, name, topic, r.Slot.Partition, r.Applied)
	if r.Outcome == checkpoint.Imported {
		text += fmt.Sprintf(", %d deltas", r.Deltas)
	}
	_, err := fmt.Fprintln(e.Out, text)
	return err
}

func tellRestored(e *env, r checkpoint.Restored) error {
	imported, exists, foreign := r.Counts[checkpoint.Imported], r.Counts[checkpoint.Exists], r.Counts[checkpoint.Foreign]
	if e.json {
		passed := []string{}
		for _, err := range r.Passed {
			passed = append(passed, err.Error())
		}
		return json.NewEncoder(e.Out).Encode(struct {
			Type     string   `json:"type"`
			Path     string   `json:"path"`
			Created  string   `json:"created"`
			Imported int      `json:"imported"`
			Exists   int      `json:"exists"`
			Foreign  int      `json:"foreign"`
			Passed   []string `json:"not_used"` // newer ones
		}{"restore", r.Path, r.Header.Created().Format(time.RFC3339Nano), imported, exists, foreign, passed})
	}
	_, err := fmt.Fprintf(e.Out, "%s of %s: %d imported, %d there already, %d of other pipelines\n",
		r.Path, r.Header.Created().Format(time.RFC3339), imported, exists, foreign)
	return err
}
