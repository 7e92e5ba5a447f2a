package fire

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// halt is a reason to halt. It is the innermost error, so that each reason is a cause of its own.
type halt struct{ reason string }

func (h *halt) Error() string        { return ErrHalted.Error() + ": " + h.reason }
func (h *halt) Is(target error) bool { return target == ErrHalted }

// halted returns an error that is ErrHalted. The text says what was found and what to do.
func halted(format string, args ...any) error { return &halt{fmt.Sprintf(format, args...)} }

// tell is the one place where fire logs why pipelines were not fired: a line for each cause, and for each only once while told
// lasts, however many pipelines and partitions met it. What only came of the deadline is not worth a line.
func (h *Handler) tell(ctx context.Context, reports []Report, told map[string]bool) {
	var failures []apply.Failure
	for _, rep := range reports {
		parts, ok := errors.AsType[*apply.PartitionsError](rep.Err)
		switch {
		case ok:
			for _, f := range parts.Failures {
				f.Pipeline = rep.Pipeline
				failures = append(failures, f)
			}
		case rep.Err != nil:
			failures = append(failures, apply.Failure{Pipeline: rep.Pipeline, Err: rep.Err})
		}
	}
	for _, g := range apply.Groups(failures) {
		if ctx.Err() != nil && !errors.Is(g.Failures[0].Err, statestore.ErrUnreachable) {
			continue
		}
		level := slog.LevelError
		if told[g.Cause] {
			level = slog.LevelDebug
		}
		told[g.Cause] = true
		h.Logger.Log(ctx, level, "pipelines were not fired", g.Attrs()...)
	}
}

// report makes a plan if one is due and says what became of it.
func (r *runner) report(ctx context.Context, req request) Report {
	if r.prepared == 0 {
		r.tally = tally{}
	}
	began := time.Now().Add(-r.prepared) // how long it takes is no part of any result
	r.prepared = 0
	rep, err := r.run(ctx, req)
	r.alike.reported()
	rep.Pipeline, rep.Began, rep.Took = r.pipe.Name, began, time.Since(began)
	rep.Counted, rep.Final, rep.Unaccounted, rep.Repaired = r.counted, r.final, r.unaccounted, r.repaired
	if rep.Made {
		rep.Took = r.committedAt.Sub(began)
	}
	if err != nil {
		rep.Err = fmt.Errorf("pipeline %s: %w", r.pipe.Name, err)
	}
	return rep
}

// unsaid returns the failures of partitions that this invocation has not logged yet, by cause: each is worth one line. They are
// failures that do not stop the pipeline; what says what they did not get done.
func (r *runner) unsaid(what string, err error) []apply.Group {
	parts, ok := errors.AsType[*apply.PartitionsError](err)
	if !ok {
		return nil
	}
	if r.said == nil {
		r.said = map[string]bool{}
	}
	var groups []apply.Group
	for _, g := range apply.Groups(parts.Failures) {
		if about := what + ": " + g.Cause; !r.said[about] {
			r.said[about] = true
			groups = append(groups, g)
		}
	}
	return groups
}

// damaged drops the slot of a partition if that is what an error is about, and then begins the plan again: its first step restores
// what is not there.
func (r *runner) damaged(ctx context.Context, p *partition, err error) error {
	if err == nil || !errors.Is(err, statestore.ErrFormat) {
		return err
	}
	if left := r.applier.Drop(ctx, p.Partition, err); left != nil {
		return left
	}
	return fmt.Errorf("%w: %w", errAgain, err)
}

// slotsOf returns the slots of partitions.
func slotsOf(parts []*partition) []statestore.Slot {
	out := make([]statestore.Slot, len(parts))
	for i, p := range parts {
		out[i] = p.slot
	}
	return out
}

// eachWith gives f what the store answered for every partition. What f fails with comes back as each's does.
func eachWith[T any](parts []*partition, answers []statestore.Answer[T], f func(*partition, T, error) error) error {
	errs := make([]error, len(parts))
	for i, p := range parts {
		errs[i] = f(p, answers[i].Value, answers[i].Err)
	}
	return joined(parts, errs)
}

// each runs f for all partitions side by side. What fails comes back as an apply.PartitionsError.
func each(parts []*partition, f func(*partition) error) error {
	errs := make([]error, len(parts))
	statestore.SideBySide(len(parts), statestore.MaxSideBySide, func(i int) { errs[i] = f(parts[i]) })
	return joined(parts, errs)
}

// joined is an apply.PartitionsError of those that failed, nil if none did.
func joined(parts []*partition, errs []error) error {
	var failed apply.PartitionsError
	for i, p := range parts {
		if errs[i] != nil {
			failed.Failures = append(failed.Failures, apply.Failure{TopicPartition: p.TopicPartition, Err: errs[i]})
		}
	}
	if len(failed.Failures) == 0 {
		return nil
	}
	return &failed
}
