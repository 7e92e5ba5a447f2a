// Package ingest is the Kafka-triggered function: it folds a batch of records into the state of each pipeline that reads their
// topics. It reads Kafka and the pipelines' groups, and writes state; it never produces and never commits offsets.
package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/esm"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// DefaultMargin is the time kept back before the deadline of an invocation to answer for what was not applied.
const DefaultMargin = 500 * time.Millisecond

// metadataAge is how long the identity of topics is believed. A recreated topic is noticed after at most this time.
const metadataAge = time.Minute

// Deps is what the handler works with. Nudge may be nil: then fire's schedule does. With Signals, fire is also asked to look when a
// batch may have let a window close, and several functions ask once. A zero Margin is DefaultMargin.
type Deps struct {
	App       *spec.App
	Pipelines []*pipeline.Pipeline
	Store     statestore.Store
	Log       kafkaio.Log
	Nudge     func(ctx context.Context, n apply.Nudge) error // asks fire to run, without waiting for it
	Signals   statestore.Signals                             // shared with fire, or nil
	Clock     func() event.Time
	Logger    *slog.Logger
	Margin    time.Duration
	OnBatch   func(context.Context, *Batch) // hears of each invocation before it answers, or nil; called from several goroutines
	Links     bool                          // whether batches tell the traces that their records belong to
}

// Handler is the function. Its Invoke is safe for concurrent use.
type Handler struct {
	Deps
	appliers []*apply.Applier   // one for each pipeline
	readers  map[string]readers // of each topic that a pipeline reads
	signals  string             // the name of the signals
	decoders sync.Pool

	mu         sync.Mutex
	partitions map[event.TopicPartition]kafkaio.Partition
	asked      time.Time
	marks      map[mark]event.Time // the largest event time when windows were last looked for
}

// New returns a handler.
func New(d Deps) *Handler {
	if d.Margin == 0 {
		d.Margin = DefaultMargin
	}
	h := &Handler{
		Deps: d, signals: apply.SignalName(d.Pipelines), marks: map[mark]event.Time{}, readers: map[string]readers{},
		decoders: sync.Pool{New: func() any { return new(esm.Decoder) }},
	}
	for _, p := range d.Pipelines {
		a := apply.New(apply.Deps{
			Pipeline: p, Store: d.Store, Log: d.Log, Errors: d.App.Errors, Buffer: d.App.BufferSize, Clock: d.Clock, Logger: d.Logger,
		})
		h.appliers = append(h.appliers, a)
		for _, topic := range p.Topics {
			r := h.readers[topic]
			r.appliers = append(r.appliers, a)
			h.readers[topic] = r
		}
	}
	for topic, r := range h.readers {
		r.together = apply.NewTogether(r.appliers)
		h.readers[topic] = r
	}
	return h
}

// readers are the pipelines that read a topic, in their order.
type readers struct {
	appliers []*apply.Applier
	together *apply.Together
}

// Invoke folds the records of a Lambda Kafka event and answers with the partial-batch response: the offsets that are not
// applied in every pipeline. It fails as a whole only where no record can be named: a payload that is no Kafka event.
func (h *Handler) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	began := time.Now()
	whole := ctx // what is kept back is for telling what happened, too
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, end.Add(-h.Margin))
		defer cancel()
	}
	d, _ := h.decoders.Get().(*esm.Decoder)
	defer h.decoders.Put(d)
	ev, err := d.Decode(payload)
	if err != nil {
		return nil, fmt.Errorf("decode the event: %w", err)
	}
	work := h.split(ctx, ev)
	failed := make([]outcome, len(work))
	statestore.SideBySide(len(work), max(1, h.App.Parallelism), func(i int) { failed[i] = h.partition(ctx, work[i]) })
	var items []esm.Failure
	for i := range failed {
		items = append(items, failed[i].items...)
	}
	h.report(whole, work, failed)
	h.batch(whole, began, ev, work, failed)
	return esm.AppendResponse(nil, items), nil
}

// outcome is what became of a job.
type outcome struct {
	items    []esm.Failure // to answer
	failures []apply.Failure
	unread   bool       // no pipeline reads the topic
	work     apply.Work // of all pipelines
}

// job is one partition of a payload: runs of records between the records that could not be decoded.
type job struct {
	event.TopicPartition
	id      string // the partition's name in the payload and the answer
	runs    [][]event.Record
	end     int64   // one past the last offset delivered
	offsets []int64 // all delivered, ascending
}

// split brings the batches together with the malformed records, which the log has to be asked for.
func (h *Handler) split(ctx context.Context, ev esm.Event) []job {
	jobs := make([]job, 0, len(ev.Batches))
	at := map[event.TopicPartition]int{}
	for _, b := range ev.Batches {
		at[b.TopicPartition] = len(jobs)
		j := job{TopicPartition: b.TopicPartition, id: b.ID, runs: [][]event.Record{b.Records}}
		for i := range b.Records {
			j.offsets = append(j.offsets, b.Records[i].Offset)
		}
		jobs = append(jobs, j)
	}
	for _, m := range ev.Malformed {
		h.Logger.WarnContext(ctx, "record of the payload is malformed, reading it from the log", "topic", m.Topic, "partition", m.Partition,
			"offset", m.Offset, "error", m.Err)
		i, ok := at[m.TopicPartition]
		if !ok {
			i = len(jobs)
			at[m.TopicPartition] = i
			jobs = append(jobs, job{TopicPartition: m.TopicPartition, id: m.ID})
		}
		j := &jobs[i]
		j.offsets = append(j.offsets, m.Offset)
		if n := len(j.runs); n > 0 {
			last := j.runs[n-1]
			if cut, _ := slices.BinarySearchFunc(last, m.Offset, func(r event.Record, o int64) int { return int(min(max(r.Offset-o, -1), 1)) }); cut < len(last) {
				j.runs = append(j.runs[:n-1], last[:cut], last[cut:])
			}
		}
	}
	for i := range jobs {
		slices.Sort(jobs[i].offsets)
		jobs[i].end = jobs[i].offsets[len(jobs[i].offsets)-1] + 1
	}
	return jobs
}

// partition applies one partition in every pipeline that reads its topic. What is answered as failed is every delivered offset
// that some pipeline has not applied, which is right whether the trigger takes them as items or as a place to resume.
func (h *Handler) partition(ctx context.Context, j job) (out outcome) {
	applied := j.end
	r := h.readers[j.Topic]
	out.unread = len(r.appliers) == 0
	for i, got := range h.apply(ctx, r, j, &out.work) {
		if got.Err != nil {
			out.failures = append(out.failures, apply.Failure{Pipeline: r.appliers[i].Pipeline.Name, TopicPartition: j.TopicPartition, Err: got.Err})
			applied = min(applied, got.To)
		}
	}
	for _, o := range j.offsets {
		if o >= applied {
			out.items = append(out.items, esm.Failure{Partition: j.id, Offset: o})
		}
	}
	return out
}

// apply applies a job in all pipelines that read its topic, and says how far each came.
func (h *Handler) apply(ctx context.Context, r readers, j job, w *apply.Work) []apply.Applied {
	out := make([]apply.Applied, len(r.appliers))
	if len(out) == 0 {
		return out
	}
	part, err := h.lookup(ctx, j.TopicPartition)
	for i := range out {
		out[i] = apply.Applied{To: j.offsets[0], Err: err}
	}
	if err != nil {
		return out
	}
	for _, run := range j.runs {
		if len(run) == 0 {
			continue
		}
		failed := func(a apply.Applied) bool { return a.Err != nil }
		if !slices.ContainsFunc(out, failed) {
			for i, got := range r.together.Apply(ctx, part, run, w) {
				out[i] = apply.Applied{To: max(out[i].To, got.To), Err: got.Err}
			}
			continue
		}
		for i, a := range r.appliers {
			if !failed(out[i]) {
				to, err := a.Apply(ctx, part, run, w)
				out[i] = apply.Applied{To: max(out[i].To, to), Err: err}
			}
		}
	}
	n := len(j.runs)
	whole := n > 0 && len(j.runs[n-1]) > 0 && j.runs[n-1][len(j.runs[n-1])-1].Offset+1 == j.end
	for i, a := range r.appliers {
		switch {
		case out[i].Err != nil:
		case whole:
			out[i].To = max(out[i].To, j.end)
		default:
			var to int64
			to, out[i].Err = a.CatchUp(ctx, part, j.end, w)
			out[i].To = max(out[i].To, to)
		}
	}
	return out
}

// report is the one place where ingest decides what an error means: all of them leave the records to the trigger; they differ
// in what somebody should know. One cause is one line, however many partitions, pipelines and tries met it.
func (h *Handler) report(ctx context.Context, work []job, outcomes []outcome) {
	var failures []apply.Failure
	var unread []string
	ask := false
	for i, o := range outcomes {
		ask = ask || h.Signals != nil && h.passed(work[i])
		failures = append(failures, o.failures...)
		if o.unread {
			unread = append(unread, fmt.Sprintf("%s/%d", work[i].Topic, work[i].Partition))
		}
	}
	if len(unread) > 0 {
		// Nothing is lost that a query asked for, and failing would stop the partitions for good; but somebody wired it wrongly.
		h.Logger.ErrorContext(ctx, "records of topics that no pipeline reads: trigger and spec do not agree", "partitions", unread)
	}
	var nudge apply.Nudge
	for _, g := range apply.Groups(failures) {
		switch err := g.Failures[0].Err; {
		case errors.Is(err, apply.ErrNoGenesis):
			h.Logger.InfoContext(ctx, "waiting for the genesis of partitions", g.Attrs()...)
			nudge.Add(firsts(g, work))
			ask = true
		case errors.Is(err, pipeline.ErrBlocked):
			h.Logger.ErrorContext(ctx, "partitions are blocked by records under the policy fail", g.Attrs()...)
		default:
			h.Logger.ErrorContext(ctx, "partitions were not applied, the trigger will deliver them again", g.Attrs()...)
		}
	}
	if ask {
		h.ask(ctx, nudge)
	}
}

// firsts are the first offsets that were delivered of all partitions that wait for their genesis.
func firsts(g apply.Group, work []job) apply.Nudge {
	var n apply.Nudge
	for i := range work {
		waits := func(f apply.Failure) bool { return f.TopicPartition == work[i].TopicPartition }
		if slices.ContainsFunc(g.Failures, waits) {
			n.Genesis = append(n.Genesis, apply.First{Topic: work[i].Topic, Partition: work[i].Partition, Offset: work[i].offsets[0]})
		}
	}
	return n
}

// lookup returns a partition with the identity of its topic.
func (h *Handler) lookup(ctx context.Context, tp event.TopicPartition) (kafkaio.Partition, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	// The age of a cache is no part of any result, so the real clock serves.
	if part, ok := h.partitions[tp]; ok && time.Since(h.asked) < metadataAge {
		return part, nil
	}
	var topics []string
	for _, p := range h.Pipelines {
		for _, t := range p.Topics {
			if !slices.Contains(topics, t) {
				topics = append(topics, t)
			}
		}
	}
	parts, err := h.Log.Partitions(ctx, topics)
	if err != nil {
		return kafkaio.Partition{}, fmt.Errorf("look up partitions: %w", err)
	}
	h.partitions, h.asked = make(map[event.TopicPartition]kafkaio.Partition, len(parts)), time.Now()
	for _, p := range parts {
		h.partitions[p.TopicPartition] = p
	}
	part, ok := h.partitions[tp]
	if !ok {
		return kafkaio.Partition{}, fmt.Errorf("%s/%d: the broker does not know this partition: %w", tp.Topic, tp.Partition, kafkaio.ErrUnknownTopic)
	}
	return part, nil
}
