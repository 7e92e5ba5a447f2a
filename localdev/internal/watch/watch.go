// Package watch feeds a console's board with what topics and state tell of an app, whoever runs it. It only reads: it is no member
// of a group and writes nothing.
package watch

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/functions/ops"
	"github.com/llm-auto-optimizer/tidemark/functions/settings"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/console"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/follow"
	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// Options of a watch.
type Options struct {
	App       *spec.App
	Pipelines []*pipeline.Pipeline
	Log       kafkaio.Log
	Store     statestore.Store
	Board     *console.Board
	Logger    *slog.Logger
	// Results says to follow the result topics too, and to look at the state also while nobody watches: the run is somebody else's,
	// and nobody else tells the board.
	Results bool
}

const (
	// resultsEvery is the distance of looks for new results, sideEvery that for late records, dead letters and plans.
	resultsEvery = 250 * time.Millisecond
	sideEvery    = 500 * time.Millisecond
	// mostAtOnce bounds what is read of a partition at once.
	mostAtOnce = 20_000
	// How many offsets before the end of each partition is begun.
	resultsBack, sideBack, ledgerBack = 2000, 200, 200
	// explainEvery is the distance of two explanations while somebody watches, and unwatchedEvery while nobody does.
	explainEvery   = time.Second
	unwatchedEvery = 5 * time.Second
	// share is the most of the time that explaining may take: one part in so many.
	share = 5
	// explainWithin is how long an explanation may take.
	explainWithin = 20 * time.Second
	// mostWindows is how many open windows of a pipeline are shown.
	mostWindows = 500
)

// Run watches until ctx ends. What cannot be read is told on the board and tried again.
func Run(ctx context.Context, o Options) {
	w := &watch{Options: o}
	var all sync.WaitGroup
	for _, t := range w.tails() {
		all.Go(func() { w.follow(ctx, t) })
	}
	all.Go(func() { w.explain(ctx) })
	all.Wait()
}

type watch struct{ Options }

// tail is a Tail, what it is about, and how often it looks.
type tail struct {
	*follow.Tail
	about string
	every time.Duration
}

func (w *watch) tails() []tail {
	var results, late, dead []string
	mine := map[string]bool{}
	for i := range w.App.Pipelines {
		p := &w.App.Pipelines[i]
		results, late, dead = append(results, p.SinkTopic), append(late, p.LateTopic), append(dead, p.DeadLetterTopic)
		mine[anyVersion(p.Group())] = true
	}
	newTail := func(about string, every time.Duration, topics []string, back int64, take func(*event.Record)) tail {
		slices.Sort(topics)
		return tail{follow.New(follow.Options{
			Log: w.Log, Topics: slices.Compact(topics), Back: back, Most: mostAtOnce,
			Take: func(_ event.TopicPartition, r *event.Record) { take(r) },
		}), about, every}
	}
	out := []tail{
		newTail("late records", sideEvery, late, sideBack, func(r *event.Record) { w.rejected(r, true) }),
		newTail("dead letters", sideEvery, dead, sideBack, func(r *event.Record) { w.rejected(r, false) }),
		newTail("the ledger", sideEvery, []string{spec.LedgerTopic}, ledgerBack, func(r *event.Record) {
			if group := string(r.Key); mine[anyVersion(group)] {
				w.Board.Booked(group, r.Value)
			}
		}),
	}
	if w.Results {
		out = append(out, newTail("results", resultsEvery, results, resultsBack, func(r *event.Record) { w.Board.Published(r.Value) }))
	}
	return out
}

// anyVersion returns a pipeline's group without its end, the fingerprint: the versions of a pipeline differ in that alone.
func anyVersion(group string) string { return group[:max(strings.LastIndexByte(group, '.'), 0)] }

// rejected takes a late record or a dead letter. Several apps may share such a topic: what is from none of this one's sources is
// another's.
func (w *watch) rejected(r *event.Record, late bool) {
	for _, h := range r.Headers {
		if h.Key == "tidemark-topic" && !slices.Contains(w.App.SourceTopics(), string(h.Value)) {
			return
		}
	}
	w.Board.Rejected(r, late)
}

// follow takes what comes until ctx ends.
func (w *watch) follow(ctx context.Context, t tail) {
	tick := time.NewTicker(t.every)
	defer tick.Stop()
	for {
		began := time.Now()
		err := t.More(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, kafkaio.ErrUnknownTopic):
			w.Board.Trouble(t.about, console.Trouble{Kind: "error", Where: t.about, What: err.Error(), Do: "create the topic: `tidemark validate --brokers` says how"})
		case err != nil:
			w.Board.Trouble(t.about, console.Trouble{Kind: "unreachable", Where: t.about, What: err.Error(), Do: "this is tried again; see whether the brokers answer"})
		case !t.Missing():
			w.Board.Trouble(t.about, console.Trouble{})
		}
		w.Logger.DebugContext(ctx, "followed", "what", t.about, "took", time.Since(began).String(), "error", err)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// explain finds out why windows have not fired, again and again until ctx ends.
func (w *watch) explain(ctx context.Context) {
	h := ops.New(ops.Deps{
		App: w.App, Pipelines: w.Pipelines, Store: w.Store, Log: w.Log, Clock: settings.Now, Logger: w.Logger, Windows: mostWindows,
	})
	for {
		watched, begins := w.Board.Watched()
		pause := unwatchedEvery
		if watched || w.Results {
			took := w.once(ctx, h)
			if watched {
				pause = max(explainEvery, took*share)
			}
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-begins:
			if watched { // it has begun before: the pace stays what it is
				select {
				case <-ctx.Done():
				case <-timer.C:
				}
			}
		}
		timer.Stop()
	}
}

// once explains once, and returns how long it took.
func (w *watch) once(ctx context.Context, h *ops.Handler) time.Duration {
	within, cancel := context.WithTimeout(ctx, explainWithin)
	defer cancel()
	began := time.Now()
	x, err := h.Explain(within, "", nil)
	took := time.Since(began)
	switch {
	case err == nil:
		w.Board.Explained(x, took)
	case ctx.Err() == nil:
		w.Board.Trouble("explain", console.Trouble{
			Kind: "unreachable", Where: "state and topics", What: err.Error(), Do: "what is shown of partitions and windows is old; this is tried again: see whether brokers and state store answer",
		})
	}
	return took
}
