// Package job runs an app on this machine: the two functions in one process, invoked as Lambda would invoke them, or those that a
// template deploys, over a broker and a state store that are given or made for the run.
package job

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/fire"
	"github.com/llm-auto-optimizer/tidemark/functions/ingest"
	"github.com/llm-auto-optimizer/tidemark/functions/settings"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/console"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/deployment"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/follow"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/progress"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/trigger"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/watch"
)

// Options of a run.
type Options struct {
	App          *spec.App
	Brokers      []string // none: a broker and a store of this process
	Redis        []string // URLs; none: the store that the app names, bolt or memory
	StateDir     string   // embedded: where the fresh directory is made; else it replaces the app's path
	CreateTopics bool
	Partitions   int32 // of source topics that are created
	Feed         Feed
	For          time.Duration // 0: until ctx ends
	UntilIdle    bool          // close everything once the feed has ended and all is folded, and end
	Tick         time.Duration // pause between two looks of fire
	Listen       string        // address of the console; empty: none
	Stalled      time.Duration // with UntilIdle: how long the trigger may bring nothing before fire folds the rest; 0: 10 s
	TakeOver     bool          // go on where another spec of the same name is now, though it took over from this one before
	// Deploy runs the functions of a template in place of the handlers of this process; it needs Brokers and Redis, which it is
	// given, as it is what it shows. nil: the handlers.
	Deploy   *deployment.Options
	Terminal *progress.Terminal
	Logger   *slog.Logger
}

// Embedded reports whether broker and store are made for the run.
func (o *Options) Embedded() bool { return len(o.Brokers) == 0 }

// resultsEvery is the distance of looks for new results.
const resultsEvery = 250 * time.Millisecond

// run is one run.
type run struct {
	Options
	*world
	board    *console.Board
	fire     *fire.Handler
	schedule *schedule
	tail     *follow.Tail
	exports  *exports  // nil: no checkpoints
	deployed *deployed // nil: the handlers of this process

	work    sync.WaitGroup // what stop ends: feed, trigger, schedule
	stop    context.CancelFunc
	fed     chan struct{} // closed when the feed is at its end
	fatal   chan error    // what ends the run
	shows   sync.WaitGroup
	unshow  context.CancelFunc
	closed  []progress.Closed
	before  map[string]pipeline.Counts // what became of records before the run, as counted says; nil: not known
	started time.Time
}

// Run runs until ctx ends, For has passed, or UntilIdle is reached, all of which is no error; or until something fails that
// trying again does not mend. It prints a summary in each case.
func Run(ctx context.Context, o Options) error {
	r := &run{Options: o, fed: make(chan struct{}), fatal: make(chan error, 4)}
	err := r.all(ctx)
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		return nil // told to end before it had begun
	}
	return err
}

func (r *run) all(ctx context.Context) (err error) {
	mode := console.ModeKafka
	if r.Embedded() {
		mode = console.ModeEmbedded
		if r.Partitions, err = r.Feed.widest(r.App, r.Partitions); err != nil {
			return err
		}
	}
	r.board = console.NewBoard(r.App, mode, time.Now)
	if r.Listen != "" {
		page, err := console.Listen(ctx, r.Listen, r.board)
		if err != nil {
			return fmt.Errorf("%w; choose another address with --listen ADDR, or none with --listen off", err)
		}
		defer func() { err = errors.Join(err, page.Close()) }()
		r.Terminal.Note("console: %s", page.URL())
	}
	if r.world, err = open(ctx, &r.Options); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.world.close()) }()
	if r.exports, err = newExports(ctx, &r.Options, r.world); err != nil {
		return err
	}
	if r.exports != nil {
		if err := r.exports.restore(ctx); err != nil {
			return err
		}
	}
	if r.Deploy != nil {
		if r.deployed, err = r.deploy(ctx); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, r.deployed.Close()) }()
	}
	if err := r.start(ctx); err != nil {
		return err
	}
	err = r.wait(ctx)
	r.end(context.WithoutCancel(ctx))
	return errors.Join(err, r.Terminal.Summary(r.board.Snapshot(), r.closed))
}

// start begins everything that goes on by itself.
func (r *run) start(ctx context.Context) (err error) {
	r.schedule = newSchedule(r.Tick, r.Logger)
	r.schedule.takeOver = r.TakeOver
	r.fire = fire.New(fire.Deps{
		App: r.App, Pipelines: r.pipes, Store: r.store, Log: r.kafka, Publisher: r.publisher, Clock: settings.Now, Logger: r.loggerOf("fire"), Tick: r.Tick,
		OnTick: func(reports []fire.Report) { r.board.Reports(reports); r.Terminal.Plans(reports); r.schedule.looked() },
	})
	r.schedule.handler = &observed{invoker: r.fire, board: r.board, name: "fire"}
	if r.tail, err = newTail(ctx, r.kafka, r.App, r.show); err != nil {
		return err
	}
	if r.before, err = r.counted(ctx); err != nil {
		r.Logger.Debug("what where has filtered is not counted", "error", err)
	}
	r.started = time.Now()
	// The parts end when they are told to, in their order, not when ctx does: each finishes what it has in hand.
	var work, shows context.Context
	work, r.stop = context.WithCancel(context.WithoutCancel(ctx))
	shows, r.unshow = context.WithCancel(context.WithoutCancel(ctx))
	r.shows.Go(func() { r.progress(shows) })
	if r.Listen != "" {
		r.shows.Go(func() {
			watch.Run(shows, watch.Options{App: r.App, Pipelines: r.pipes, Log: r.kafka, Store: r.store, Board: r.board, Logger: r.Logger})
		})
	}
	if r.exports != nil {
		r.work.Go(func() { r.exports.run(work) })
	}
	begun := make(chan struct{})
	if r.deployed != nil {
		r.deployed.start(work, begun)
	} else {
		r.handlers(work, begun)
	}
	// A feed ends with ctx at once: what it has not written is nobody's loss.
	feed := &feeder{Feed: &r.Feed, app: r.App, kafka: r.kafka, produced: r.board.Produced, lag: func() int64 { return r.board.Snapshot().Lag }}
	feeding, unfeed := context.WithCancel(ctx)
	context.AfterFunc(work, unfeed)
	if r.UntilIdle && r.For > 0 && r.Feed.endless() {
		time.AfterFunc(r.For, unfeed)
	}
	r.work.Go(func() {
		defer unfeed()
		defer close(r.fed)
		select { // what is written before is not for a group that begins at the end
		case <-begun:
		case <-feeding.Done():
		}
		if err := feed.run(feeding); err != nil && feeding.Err() == nil {
			r.fails(err)
		}
	})
	return nil
}

// handlers runs the functions in this process.
func (r *run) handlers(work context.Context, begun chan<- struct{}) {
	in := ingest.New(ingest.Deps{
		App: r.App, Pipelines: r.pipes, Store: r.store, Log: r.kafka, Nudge: r.schedule.nudge, Clock: settings.Now, Logger: r.loggerOf("ingest"),
	})
	r.work.Go(func() { r.fails(r.schedule.run(work)) })
	r.work.Go(func() {
		r.fails(trigger.Run(work, trigger.Options{
			Brokers: r.brokers, Group: r.App.Consumer.GroupID, Topics: r.App.SourceTopics(), BatchSize: r.App.Consumer.MaxPollRecords,
			Start: r.startingPosition(), PartialFailures: true, Concurrency: 1, Invoke: in.Invoke, Logger: r.Logger,
			Hooks: trigger.Hooks{
				Begun:    func() { close(begun) },
				Answered: r.answered,
			},
		}))
	})
}

// startingPosition is that of a mapping which goes with the spec.
func (r *run) startingPosition() trigger.Position {
	if r.fromEnd() {
		return trigger.Latest
	}
	return trigger.TrimHorizon
}

// endless reports whether the feed goes on until it is told to end.
func (f *Feed) endless() bool { return f.Input == "" && f.Sample && f.Count == 0 }

func (r *run) fails(err error) {
	if err != nil {
		r.fatal <- err
	}
}

// show takes a result.
func (r *run) show(tp event.TopicPartition, offset int64, value []byte) {
	r.board.Published(value)
	if r.deployed != nil {
		r.board.Counted(0, 1, 0, 0)
	}
	r.Terminal.Result(tp, offset, value)
}

// progress shows results as they come and the state of things once a second, until ctx ends.
func (r *run) progress(ctx context.Context) {
	tick := time.NewTicker(resultsEvery)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := r.tail.More(ctx); err != nil && ctx.Err() == nil {
			r.Logger.Warn("results cannot be shown", "error", err)
		}
		if n%int(time.Second/resultsEvery) != 1 {
			continue
		}
		if r.deployed != nil {
			r.deployed.look(ctx)
		}
		r.filtered(ctx)
		if parts, err := r.positions(ctx); err == nil {
			r.board.Partitions(parts)
		} else if ctx.Err() == nil {
			r.Logger.Debug("how far the partitions are is not known", "error", err)
		}
		r.Terminal.Tick(r.board.Snapshot())
		if err := r.Terminal.Failed(); err != nil {
			select {
			case r.fatal <- err: // whoever read the results has gone
			default:
			}
			return
		}
	}
}

// filtered counts what where has held back in this run.
func (r *run) filtered(ctx context.Context) {
	if r.before == nil {
		return
	}
	now, err := r.counted(ctx)
	if err != nil && ctx.Err() == nil {
		r.Logger.Debug("what where has filtered is not known", "error", err)
	}
	for name, c := range now {
		before := r.before[name]
		r.board.Filtered(name, c.In-before.In, c.Filtered-before.Filtered)
	}
}

// wait waits for what ends the run.
func (r *run) wait(ctx context.Context) error {
	var after <-chan time.Time
	if r.For > 0 && !(r.UntilIdle && r.Feed.endless()) {
		timer := time.NewTimer(r.For)
		defer timer.Stop()
		after = timer.C
	}
	var idle chan error
	fed := r.fed
	if !r.UntilIdle {
		fed = nil
	}
	limit, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		if idle != nil {
			err := <-idle // it uses what is taken down next
			r.Logger.Debug("the run has ended before everything was closed", "error", err)
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-after:
			if r.UntilIdle {
				r.Terminal.Note("--for %s has passed before everything was closed", r.For)
			}
			return nil
		case err := <-r.fatal:
			return err
		case <-fed:
			fed, idle = nil, make(chan error, 1)
			go func() { idle <- r.untilIdle(limit) }()
		case err := <-idle:
			idle = nil
			if ctx.Err() != nil && errors.Is(err, context.Canceled) {
				return nil
			}
			return err
		}
	}
}

// untilIdle folds everything that is in the log now and closes all windows.
func (r *run) untilIdle(ctx context.Context) error {
	select {
	case err := <-r.fatal: // the feed may have ended because it failed
		return err
	default:
	}
	ends, err := r.ends(ctx)
	if err != nil {
		return err
	}
	stalled := defaultStalled
	if r.Stalled > 0 {
		stalled = r.Stalled
	}
	if err := r.waitFolded(ctx, ends, stalled); err != nil {
		return err
	}
	r.stop()
	r.work.Wait() // fire is not to be used twice at a time
	if ctx.Err() != nil {
		return ctx.Err()
	}
	reports, err := r.flush(ctx, ends)
	if err != nil {
		return err
	}
	if err := r.checkFolded(ctx, ends); err != nil {
		return err
	}
	for _, rep := range reports {
		c := progress.Closed{Pipeline: rep.Pipeline, Watermark: rep.Watermark.String()}
		if rep.Watermark != event.MinTime {
			ms := int64(rep.Watermark)
			c.WatermarkMS = &ms
		}
		r.closed = append(r.closed, c)
	}
	return nil
}

// flushTries is how often closing everything is tried: another firer may have come between.
const flushTries = 3

func (r *run) flush(ctx context.Context, ends map[event.TopicPartition]int64) ([]fire.Report, error) {
	defer r.fire.Close()
	for try := 1; ; try++ {
		reports := r.fire.Flush(ctx, ends)
		if r.deployed == nil { // else what is published is counted
			r.board.Reports(reports)
			r.Terminal.Plans(reports)
		}
		var errs []error
		for _, rep := range reports {
			errs = append(errs, rep.Err)
		}
		err := errors.Join(errs...)
		if err == nil || try == flushTries || ctx.Err() != nil || errors.Is(err, fire.ErrHalted) || errors.Is(err, pipeline.ErrBlocked) {
			return reports, err
		}
	}
}

// end stops what is left, shows the last results and says where the watermark went.
func (r *run) end(ctx context.Context) {
	r.stop()
	r.work.Wait()
	if r.deployed != nil && r.closed == nil {
		r.settle(ctx)
	}
	r.unshow()
	r.shows.Wait()
	if r.exports != nil {
		r.exports.last(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, connectWithin)
	defer cancel()
	if err := r.tail.More(ctx); err != nil {
		r.Logger.Warn("the last results cannot be shown", "error", err)
	}
	if r.deployed != nil {
		r.deployed.look(ctx)
	}
	r.filtered(ctx)
	if parts, err := r.positions(ctx); err == nil {
		r.board.Partitions(parts)
	}
	r.Terminal.Tick(r.board.Snapshot())
	for _, c := range r.closed {
		at := ""
		if c.WatermarkMS != nil {
			at = fmt.Sprintf(" (%d ms)", *c.WatermarkMS)
		}
		r.Terminal.Say("%s: closed everything at W=%s%s", c.Pipeline, c.Watermark, at)
	}
}
