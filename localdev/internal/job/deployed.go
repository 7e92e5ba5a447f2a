package job

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/ops"
	"github.com/llm-auto-optimizer/tidemark/functions/settings"
	"github.com/llm-auto-optimizer/tidemark/localdev/host"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/console"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/deployment"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/follow"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/trigger"
)

// deployed runs the functions of a template, and learns from broker and store what they come to.
type deployed struct {
	*deployment.Deployment
	run   *run
	ops   *ops.Handler
	begun sync.WaitGroup // mappings whose beginning is not settled
	sides *sides
	plans map[string]int64 // by pipeline, when it was last looked at
}

// deploy makes the functions; nothing invokes them yet.
func (r *run) deploy(ctx context.Context) (*deployed, error) {
	d := &deployed{run: r, plans: map[string]int64{}}
	o := *r.Deploy
	o.Brokers, o.Redis, o.Logger = r.brokers, r.Redis, r.Logger
	o.OnReport = d.report
	o.Hooks = func(string) trigger.Hooks {
		d.begun.Add(1)
		return trigger.Hooks{Begun: d.begun.Done, Answered: r.delivered}
	}
	d.ops = ops.New(ops.Deps{App: r.App, Pipelines: r.pipes, Store: r.store, Log: r.kafka, Cluster: r.kafka, Clock: settings.Now, Logger: r.Logger})
	var err error
	if d.sides, err = newSides(ctx, r); err != nil {
		return nil, err
	}
	if d.Deployment, err = deployment.Open(ctx, o); err != nil {
		return nil, err
	}
	d.look(ctx) // so that plans from before are not counted
	r.Terminal.Note("Lambda's API: %s (aws lambda invoke --endpoint-url); functions %s", d.API(), strings.Join(d.Service().Names(), ", "))
	return d, nil
}

// start hands over records and keeps schedules until work ends; then it ends the functions.
func (d *deployed) start(work context.Context, begun chan<- struct{}) {
	r := d.run
	go func() {
		d.begun.Wait()
		close(begun)
	}()
	if r.TakeOver {
		r.fails(d.TakeOver())
	}
	r.work.Go(func() {
		r.fails(d.Run(work))
		r.fails(d.Close())
	})
}

// settleWithin bounds the last look of a run.
const settleWithin = 10 * time.Second

// settle looks once more, in this process: a firer that was ended in its transaction has left that open, and with it results that
// consumers wait for.
func (r *run) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	for _, rep := range r.fire.Run(ctx, apply.Nudge{}) {
		if rep.Err != nil {
			r.Logger.Debug("the last look", "pipeline", rep.Pipeline, "error", rep.Err)
		}
	}
	r.fire.Close()
}

// report shows what an invocation came to.
func (d *deployed) report(rep host.Report) {
	b, name := d.run.board, strings.ToLower(rep.Function)
	i := console.Invocation{
		Function: name, RequestID: rep.Request, Started: rep.Begun, Duration: rep.Duration, ColdStart: rep.Cold, InitDuration: rep.Init, MaxMemory: int64(rep.MaxMemory) << 20,
	}
	if rep.Err != nil {
		i.Error = rep.Err.Error()
	}
	b.Invoked(i)
	for _, line := range rep.Lines {
		l := console.Log{Function: name, RequestID: rep.Request, Time: rep.Begun, Line: line}
		var said struct {
			Level slog.Level `json:"level"`
			Time  time.Time  `json:"time"`
		}
		if json.Unmarshal([]byte(line), &said) == nil {
			l.Level = said.Level
			if !said.Time.IsZero() {
				l.Time = said.Time
			}
		}
		b.Logged(l)
	}
}

// look reads where the pipelines are, as ops explains it.
func (d *deployed) look(ctx context.Context) {
	r := d.run
	late, dead, err := d.sides.more(ctx)
	if err != nil && ctx.Err() == nil {
		r.Logger.Debug("late records and dead letters are not counted", "error", err)
	}
	r.board.Counted(0, 0, late, dead)
	said, err := d.ops.Explain(ctx, "", nil)
	if err != nil {
		if ctx.Err() == nil {
			r.Logger.Debug("where the pipelines are is not known", "error", err)
		}
		return
	}
	for i := range said.Pipelines {
		p := &said.Pipelines[i]
		r.board.Looked(p)
		if before, ok := d.plans[p.Pipeline]; ok && p.Plan > before {
			r.board.Counted(p.Plan-before, 0, 0, 0)
		}
		d.plans[p.Pipeline] = p.Plan
	}
}

// sides counts the records of late and dead letter topics.
type sides struct {
	late, dead *follow.Tail
	n          [2]int64
}

func newSides(ctx context.Context, r *run) (*sides, error) {
	s := &sides{}
	var late, dead []string
	for i := range r.App.Pipelines {
		late = append(late, r.App.Pipelines[i].LateTopic)
		if t := r.App.Pipelines[i].DeadLetterTopic; !slices.Contains(dead, t) {
			dead = append(dead, t)
		}
	}
	var err error
	if s.late, err = newTailOf(ctx, r.kafka, late, func(event.TopicPartition, int64, []byte) { s.n[0]++ }); err != nil {
		return nil, err
	}
	s.dead, err = newTailOf(ctx, r.kafka, dead, func(event.TopicPartition, int64, []byte) { s.n[1]++ })
	return s, err
}

// more returns how many came since the last call.
func (s *sides) more(ctx context.Context) (late, dead int64, err error) {
	if err = s.late.More(ctx); err == nil {
		err = s.dead.More(ctx)
	}
	late, dead, s.n = s.n[0], s.n[1], [2]int64{}
	return late, dead, err
}
