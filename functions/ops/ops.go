// Package ops is the function to operate with, from inside of the network that has the brokers and the state store: why a window
// has not fired, what the state is, copies of it, rebuilding it from the log, and whether it is what the log says. It reads Kafka
// and never writes to it; of the state it changes only what is asked for (replay, restore), which the log repairs in any case.
package ops

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/functions/preflight"
	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// DefaultMargin is kept back before the deadline of an invocation, for the answer.
const DefaultMargin = 3 * time.Second

// maxAnswer is below what Lambda takes as the answer of an invocation, 6 MB.
const maxAnswer = 5_500_000

// ErrTooLarge is returned where an answer is larger than Lambda hands on.
var ErrTooLarge = errors.New("ops: the answer is too large")

// Deps is what the handler works with. Cluster may be nil, then there is no preflight; Margin and Windows have defaults.
type Deps struct {
	App         *spec.App
	Pipelines   []*pipeline.Pipeline
	Store       statestore.Store
	Log         kafkaio.Log
	Cluster     preflight.Cluster
	Clock       func() event.Time
	Logger      *slog.Logger
	Checkpoints string        // directory or s3:// URL where checkpoints are; empty: the spec's
	Margin      time.Duration // kept back before the deadline of an invocation
	Windows     int           // most open windows in an explanation, for each pipeline
}

// Handler is the function. It is safe for concurrent use.
type Handler struct{ Deps }

// New returns a handler.
func New(d Deps) *Handler {
	d.Margin = cmp.Or(d.Margin, DefaultMargin)
	d.Windows = cmp.Or(d.Windows, maxWindows)
	d.Checkpoints = cmp.Or(d.Checkpoints, d.App.State.CheckpointPath)
	return &Handler{d}
}

// Invoke implements lambda.Handler: a command as JSON, answered by JSON. What cannot be done is an error, which says why.
func (h *Handler) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, end.Add(-h.Margin))
		defer cancel()
	}
	r, err := parse(payload)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	answer, err := h.do(ctx, &r)
	h.Logger.InfoContext(ctx, "ops", "command", r.Command, "pipeline", r.Pipeline, "took", time.Since(began).String(), "failed", err != nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.Command, err)
	}
	out, err := json.Marshal(answer)
	if err != nil {
		return nil, fmt.Errorf("%s: encode the answer: %w", r.Command, err)
	}
	if len(out) > maxAnswer {
		return nil, fmt.Errorf("%s: %w: %d bytes, at most %d: name a pipeline, or a lower limit", r.Command, ErrTooLarge, len(out), maxAnswer)
	}
	return out, nil
}

func (h *Handler) do(ctx context.Context, r *request) (any, error) {
	switch r.Command {
	case "explain":
		return h.Explain(ctx, r.Pipeline, r.Key)
	case "state":
		if r.Slot != "" || r.Topic != "" {
			return h.slotState(ctx, r)
		}
		return h.State(ctx, StateQuery{Pipeline: r.Pipeline, Prefix: r.Prefix, After: r.After, Limit: r.Limit})
	case "checkpoint":
		return h.checkpoint(ctx, r.To)
	case "restore":
		return h.restore(ctx, r.From)
	case "replay":
		return h.replay(ctx, r)
	case "verify":
		return h.Verify(ctx, Selection{r.Pipeline, r.Topic, r.Partition})
	case "preflight":
		return h.preflight(ctx)
	}
	return map[string]any{"commands": commands(), "note": "a window that fired too late or not at all: begin with explain. " +
		"To take over from another version of a pipeline, invoke fire with {\"takeover\":true}"}, nil
}

// pipelines returns the one with a name, or all if it is empty.
func (h *Handler) pipelines(name string) ([]*pipeline.Pipeline, error) {
	if name == "" {
		return h.Pipelines, nil
	}
	names := make([]string, len(h.Pipelines))
	for i, p := range h.Pipelines {
		if p.Name == name {
			return h.Pipelines[i : i+1], nil
		}
		names[i] = p.Name
	}
	return nil, fmt.Errorf("%w: no pipeline %q; there are %v", ErrPayload, name, names)
}

// Selection picks partitions of pipelines; zero values pick all.
type Selection struct {
	Pipeline, Topic string
	Partition       *int32
}

func (s *Selection) has(tp event.TopicPartition) bool {
	return (s.Topic == "" || s.Topic == tp.Topic) && (s.Partition == nil || *s.Partition == tp.Partition)
}

// partitions lists the partitions of a pipeline's topics that are picked.
func (h *Handler) partitions(ctx context.Context, p *pipeline.Pipeline, s Selection) ([]kafkaio.Partition, error) {
	all, err := h.Log.Partitions(ctx, p.Topics)
	if err != nil {
		return nil, fmt.Errorf("source partitions: %w", err)
	}
	out := slices.DeleteFunc(slices.Clone(all), func(x kafkaio.Partition) bool { return !s.has(x.TopicPartition) })
	if len(out) == 0 && len(all) > 0 {
		return nil, fmt.Errorf("%w: pipeline %s reads no such partition; its topics are %v", ErrPayload, p.Name, p.Topics)
	}
	return out, nil
}

// applier returns one that folds a pipeline into a store.
func (h *Handler) applier(p *pipeline.Pipeline, store statestore.Store) *apply.Applier {
	return apply.New(apply.Deps{Pipeline: p, Store: store, Log: h.Log, Errors: h.App.Errors, Buffer: h.App.BufferSize, Clock: h.Clock, Logger: h.Logger})
}

func (h *Handler) preflight(ctx context.Context) (any, error) {
	if h.Cluster == nil {
		return nil, errors.New("there are no brokers to look at")
	}
	r, err := preflight.Check(ctx, preflight.Deps{App: h.App, Pipelines: h.Pipelines, Kafka: h.Cluster, Store: h.Store, ReadOnly: true})
	if err != nil {
		return nil, err
	}
	return struct {
		OK       bool                `json:"ok"`
		Findings []preflight.Finding `json:"findings"`
		Missing  []string            `json:"missing"`
	}{r.OK(), append([]preflight.Finding{}, r.Findings...), append([]string{}, r.Missing...)}, nil
}

// stamp is a time for JSON: null where there is none.
func stamp(t event.Time) *string {
	if t == event.MinTime {
		return nil
	}
	s := t.String()
	return &s
}

// name is what a partition is called in answers.
func name(p *pipeline.Pipeline, tp event.TopicPartition) string {
	return fmt.Sprintf("%s/%s/%d", p.Name, tp.Topic, tp.Partition)
}
