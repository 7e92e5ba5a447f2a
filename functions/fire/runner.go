package fire

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/faults"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/watermark"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// maxAttempts bounds how often one run begins a plan again before it leaves the rest to the next tick.
const maxAttempts = 20

// lookTimeout is how long a look at a committed plan waits for transactions in flight, if the invocation has three times as long.
const lookTimeout = 2 * time.Second

// look returns a context for that.
func look(ctx context.Context) (context.Context, context.CancelFunc) {
	d := lookTimeout
	if end, ok := ctx.Deadline(); ok {
		d = min(d, time.Until(end)/3)
	}
	return context.WithTimeout(ctx, d)
}

// runner fires one pipeline.
type runner struct {
	*Deps
	pipe      *pipeline.Pipeline
	applier   *apply.Applier
	session   kafkaio.Session // nil: none is open
	plan      *apply.Plan     // what the open session read or committed itself; nil: read it
	fresh     bool            // this attempt has read the plan, else it is the open session's
	claim     claim
	maxSide   int             // largest message of a side output that is published whole, in bytes; 0: any
	lived     bool            // this process has seen the pipeline live
	told      bool            // this invocation has said that the pipeline ended
	rests     bool            // the pipeline had ended when it was last looked at
	said      map[string]bool // what this invocation has said of partitions: message and cause
	tidied    event.Time      // when the state of ended pipelines was last looked for
	unsure    *made           // a plan of which it is not known whether it was committed
	alike     *alike          // nil: no other pipeline merges the same
	ready     *work           // a plan that was begun together with those of pipelines that merge the same
	preparing bool            // that is going on: what may take long is left for later
	slow      bool            // the last session could not be opened early
	history   paneHistory
	tally
}

func newRunner(d *Deps, p *pipeline.Pipeline) *runner {
	return &runner{Deps: d, pipe: p, claim: claim{number: noClaim}, tidied: event.MinTime, applier: apply.New(apply.Deps{
		Pipeline: p, Store: d.Store, Log: d.Log, Errors: d.App.Errors, Buffer: d.App.BufferSize, Clock: d.Clock, Logger: d.Logger,
	})}
}

// request is what a run is asked for.
type request struct {
	nudge    apply.Nudge
	closeAll bool
	ends     map[event.TopicPartition]int64
}

// partition is what one attempt knows of a source partition.
type partition struct {
	kafkaio.Partition
	slot    statestore.Slot
	base    apply.Base
	status  statestore.Status
	offsets kafkaio.Offsets
	moved   bool             // catching up moved its applied offset
	token   statestore.Token // of the raise
	raised  statestore.Meta
	refs    []statestore.DeltaRef
	outcome pipeline.PartitionOutcome
}

func (r *runner) closeSession() {
	if r.session != nil {
		r.session.Close()
		r.session, r.plan = nil, nil
	}
}

// run makes a plan if one is due. Whatever is refused on the way, or whose outcome is unknown, begins again at the first step.
func (r *runner) run(ctx context.Context, req request) (Report, error) {
	attempt := 1
	if r.ready != nil {
		attempt = r.ready.tries
	}
	for ; ; attempt++ {
		rep, err := r.attempt(ctx, req)
		if err == nil {
			return rep, nil
		}
		again := errors.Is(err, errAgain) || errors.Is(err, statestore.ErrRefused) || errors.Is(err, statestore.ErrNoSlot) ||
			errors.Is(err, kafkaio.ErrUnknownOutcome) || errors.Is(err, apply.ErrEnded)
		if !errors.Is(err, errAgain) {
			// What the session knows may be out of date, and after an unknown outcome only a new one settles it.
			r.closeSession()
			r.claim.number = noClaim
		}
		if errors.Is(err, kafkaio.ErrTooLarge) {
			again = r.shrink()
		}
		if !again || attempt >= maxAttempts || ctx.Err() != nil {
			return rep, err
		}
		if !errors.Is(err, errAgain) {
			r.Logger.InfoContext(ctx, "plan begins again", "pipeline", r.pipe.Name, "attempt", attempt, "reason", err)
		}
	}
}

// work is a plan on its way, n-1 -> n.
type work struct {
	parts  []*partition
	plan   *apply.Plan // n-1
	now    event.Time
	raised bool // it is due, and every partition is cut
	tries  int  // how often it was begun, if it was not by run
	rep    Report
	err    error
	decision
}

// attempt is the protocol's fire, n-1 -> n, from step 0 to step 6.
func (r *runner) attempt(ctx context.Context, req request) (Report, error) {
	w := r.ready
	if r.ready = nil; w == nil {
		w = &work{}
		w.err = r.cut(ctx, req, w)
	}
	if w.err == nil && w.raised {
		w.err = r.complete(ctx, w)
	}
	return w.rep, w.err
}

// cut does what comes before the state is read: steps 0 to 3, the last of which cuts every partition.
func (r *runner) cut(ctx context.Context, req request, w *work) error {
	// The partitions first: where the very first commit of a group is in flight, a client sees it only for topics it knows.
	all, err := r.Log.Partitions(ctx, r.pipe.Topics)
	if err != nil {
		return fmt.Errorf("source partitions: %w", err)
	}
	plan, err := r.committed(ctx)
	if err != nil {
		return err
	}
	r.settle(plan)
	w.plan, w.rep = plan, Report{Plan: plan.Number, Watermark: plan.Watermark, At: plan.At}
	if r.rests = plan.Ended; r.rests {
		w.rep.Quiet = true
		return r.ended(ctx, all, plan, req)
	}
	r.lived = r.lived || len(plan.Partitions) > 0
	if w.parts, err = r.partitions(ctx, all, plan, req); err != nil {
		return err
	}
	if err := r.statuses(ctx, w.parts, plan); err != nil {
		return err
	}
	r.setFloor(w.parts, plan)
	if err := r.catchUp(ctx, w.parts, req); err != nil {
		return err
	}
	w.now = r.Clock()
	w.decision = r.decide(w.parts, plan, w.now, req, &w.rep)
	if !w.due {
		return nil
	}
	if r.session == nil {
		// Only what is read after the session was opened is certain: nobody else can commit then.
		err := r.open(ctx)
		if faults.Off(faults.PlanAfterOpen) {
			r.plan = plan
		}
		return err
	}
	if r.claims(plan) {
		return r.makeClaim(ctx, w.parts, plan)
	}
	if err := r.loadHistory(ctx, plan); err != nil {
		return err
	}
	err = r.raise(ctx, w.parts, plan, w.watermark)
	w.raised = err == nil
	return err
}

// complete reads what the plan needs, computes and publishes it: steps 4 to 6.
func (r *runner) complete(ctx context.Context, w *work) error {
	out, err := r.read(ctx, w)
	if err != nil {
		return err
	}
	next, err := r.publish(ctx, w, out)
	if err != nil {
		return err
	}
	r.history.committed(next, out)
	r.settle(next)
	w.rep.Made, w.rep.Plan, w.rep.Watermark, w.rep.At, w.rep.Panes = true, next.Number, w.watermark, next.At, len(out.Panes)
	r.logPlan(ctx, w.rep)
	r.sweep(ctx, w.parts)
	r.tidy(ctx)
	r.keep(next)
	return nil
}

// committed is the plan n-1: known from the session's own last commit, else read.
func (r *runner) committed(ctx context.Context) (*apply.Plan, error) {
	if r.fresh = r.plan == nil; !r.fresh {
		return r.plan, nil
	}
	// A firer that died with offsets in its transaction makes a stable read wait for the broker's time-out; opening a session
	// settles that at once. What is in flight under an open session is a hand-over's.
	short, cancel := look(ctx)
	defer cancel()
	plan, err := apply.ReadPlan(short, r.Log, r.pipe)
	switch {
	case err != nil && short.Err() != nil && ctx.Err() == nil:
		if r.session == nil {
			return nil, r.open(ctx)
		}
		return nil, r.settleKin(ctx)
	case err == nil && r.session != nil:
		r.plan = plan
	}
	return plan, err
}

// open fences every older firer of the pipeline, and begins again: with the plan read by the new session.
func (r *runner) open(ctx context.Context) error {
	id := r.pipe.Group()
	if faults.Off(faults.Fencing) {
		id = fmt.Sprintf("%s.%x", id, r.NewToken())
	}
	opening, cancel := ctx, func() {}
	if r.preparing {
		opening, cancel = look(ctx)
	}
	defer cancel()
	s, err := r.Publisher.Open(opening, id)
	if err != nil && opening.Err() != nil && ctx.Err() == nil {
		r.slow = true
		return errLater
	}
	if err != nil {
		return fmt.Errorf("open a session of %s: %w", r.pipe.Group(), err)
	}
	r.session, r.plan, r.claim.floor, r.slow = s, nil, nil, false
	return errAgain
}

// statuses reads what the slots hold, restoring those that do not build on the committed plan, and then asks for the bounds of
// the log: a record appended in between shows as lag, not as idleness.
func (r *runner) statuses(ctx context.Context, parts []*partition, plan *apply.Plan) error {
	tps := make([]event.TopicPartition, len(parts))
	for i, p := range parts {
		tps[i] = p.TopicPartition
	}
	var amiss []*partition
	failed := map[*partition]error{}
	for i, st := range statestore.StatusAll(ctx, r.Store, slotsOf(parts)) {
		p := parts[i]
		if p.status = st.Value; st.Err != nil || !p.status.HasCut(p.base.Token) && !faults.Off(faults.Validate) {
			amiss, failed[p] = append(amiss, p), st.Err
		}
	}
	err := each(amiss, func(p *partition) error {
		err := failed[p]
		if errors.Is(err, statestore.ErrFormat) {
			err = r.applier.Drop(ctx, p.Partition, err)
		}
		if err != nil && !errors.Is(err, statestore.ErrNoSlot) {
			return err
		}
		if !r.fresh {
			return errAgain // the slot may build on the plan of a session that has fenced this one: it must not be wiped for that
		}
		if _, err = r.applier.Restore(ctx, p.Partition, plan); err == nil {
			p.status, err = r.Store.Status(ctx, p.slot)
		}
		return err
	})
	if errors.Is(err, errAgain) {
		r.plan = nil
		return errAgain
	}
	if err != nil {
		return fmt.Errorf("status: %w", err)
	}
	offsets, err := r.Log.Offsets(ctx, tps)
	if err != nil {
		return fmt.Errorf("end offsets: %w", err)
	}
	for _, p := range parts {
		p.offsets = offsets[p.TopicPartition]
		if why := apply.Outside(p.TopicPartition, p.status.Applied, p.offsets); why != "" {
			return halted("%s", why)
		}
	}
	return nil
}

// catchUp folds what the trigger is not going to deliver: below its own position, below the committed plan, or where nothing
// moved for the idle timeout. It begins the plan again if it folded anything.
func (r *runner) catchUp(ctx context.Context, parts []*partition, req request) error {
	lagging := make([]*partition, 0, len(parts))
	for _, p := range parts {
		if p.status.Applied < p.offsets.End {
			lagging = append(lagging, p)
		}
	}
	if len(lagging) == 0 || faults.Off(faults.CatchUp) {
		return nil
	}
	trigger, err := r.passed(ctx)
	if err != nil {
		return err
	}
	idle := r.pipe.Watermark.IdleTimeout
	now := r.Clock()
	target := func(p *partition) int64 {
		to := p.base.Offset
		if faults.Off(faults.RaiseBase) {
			to = 0
		}
		to = max(to, min(trigger[p.TopicPartition], p.offsets.Stable))
		if idle > 0 && now.Sub(p.status.LastRecordAt) >= idle {
			to = max(to, p.offsets.Stable)
		}
		to = max(to, r.claim.floor[p.TopicPartition])
		if req.closeAll {
			end, ok := req.ends[p.TopicPartition]
			if !ok {
				end = p.offsets.End
			}
			to = max(to, end)
		}
		return to
	}
	behind := slices.DeleteFunc(lagging, func(p *partition) bool { return p.status.Applied >= target(p) })
	if len(behind) > 0 && r.preparing {
		return errLater
	}
	var blocked apply.PartitionsError
	var mu sync.Mutex
	err = each(behind, func(p *partition) error {
		to := target(p)
		r.Logger.InfoContext(ctx, "catching up from the log", "pipeline", r.pipe.Name, "topic", p.Topic, "partition", p.TopicPartition.Partition,
			"applied", p.status.Applied, "to", to)
		var work apply.Work
		at, err := r.applier.CatchUp(ctx, p.Partition, to, &work)
		p.moved = at > p.status.Applied
		mu.Lock()
		defer mu.Unlock()
		r.repaired += work.Repaired
		// Whoever wants everything closed has to hear that not everything can be folded: past the blocking record the watermark
		// would make late what is on time.
		if errors.Is(err, pipeline.ErrBlocked) && !req.closeAll {
			blocked.Failures = append(blocked.Failures, apply.Failure{TopicPartition: p.TopicPartition, Err: err})
			return nil
		}
		return err
	})
	for _, g := range r.unsaid("blocked", &blocked) {
		r.Logger.ErrorContext(ctx, "partitions are blocked by records under the policy fail", append(g.Attrs(), "pipeline", r.pipe.Name)...)
	}
	if err != nil {
		return fmt.Errorf("catch up: %w", err)
	}
	if slices.ContainsFunc(behind, func(p *partition) bool { return p.moved }) {
		return errAgain
	}
	return nil
}

// decision is what a plan is to be.
type decision struct {
	watermark event.Time
	due       bool
	early     bool // open windows go out, since it is time
}

// decide finds the watermark of the plan and whether there is to be one.
func (r *runner) decide(parts []*partition, plan *apply.Plan, now event.Time, req request, rep *Report) decision {
	inputs := make([]watermark.Partition, len(parts))
	slots := make([]pipeline.SlotStatus, len(parts))
	behind, waiting := false, r.history.waiting(plan, r.pipe)
	for i, p := range parts {
		waiting += max(p.status.Applied-p.base.Offset, 0)
		inputs[i] = apply.Facts(p.TopicPartition, &p.status, p.offsets)
		slots[i] = apply.SlotStatus(&p.base, &p.status)
		rep.Lag += p.offsets.End - p.status.Applied
		for _, s := range p.status.Slices {
			rep.Bytes += s.Bytes
		}
		behind = behind || p.status.Applied < p.base.Offset && !faults.Off(faults.RaiseBase)
	}
	d := r.Low(r.pipe.WatermarkPolicy(), inputs, plan.Watermark, now)
	w := d.Watermark
	if req.closeAll {
		w = max(w, r.pipe.CloseAll(w, slots))
		for i := range inputs {
			w = max(w, inputs[i].Fence)
		}
	}
	rep.Decision, rep.HeldBy = d, d.Holder.String()
	if w > d.Watermark {
		rep.HeldBy = "everything is closed"
	}
	rep.Open = r.pipe.OpenSlices(plan.Watermark, slots)
	// A dead attempt may have raised a partition beyond a watermark that another one still holds: no plan is possible below it.
	fenced := slices.ContainsFunc(inputs, func(p watermark.Partition) bool { return p.Fence > w }) && !faults.Off(faults.RaiseFence)
	early := r.pipe.EarlyDue(plan.At, now) || req.closeAll && r.pipe.Trigger.Early()
	if behind || fenced || len(parts) == 0 {
		return decision{watermark: w}
	}
	due := r.pipe.Due(plan.Watermark, w, slots)
	age := now.Sub(plan.At)
	waited := age >= r.pipe.Watermark.EmitInterval
	made := due.Now() || r.pipe.DueEarly(w, slots, early, waiting) || req.closeAll && w > plan.Watermark || waited && (due.Compact || w > plan.Watermark) || age >= event.SpanOf(daily)
	rep.Quiet = !made && rep.Open == 0 && rep.Lag == 0
	return decision{w, made, early}
}

// raise cuts every partition at its applied offset: from here on ingest classifies against w.
func (r *runner) raise(ctx context.Context, parts []*partition, plan *apply.Plan, w event.Time) error {
	raises := make([]statestore.SlotRaise, len(parts))
	for i, p := range parts {
		p.token = r.NewToken() // in order: a test's tokens are counted, not drawn
		raises[i] = statestore.SlotRaise{Slot: p.slot, Raise: statestore.Raise{
			Token: p.token, Watermark: w, Base: p.base.Token, BaseOffset: p.base.Offset, Seen: p.status.Applied,
		}}
	}
	err := eachWith(parts, statestore.RaiseAll(ctx, r.Store, raises), func(p *partition, m statestore.Meta, err error) error {
		p.raised = m
		return r.damaged(ctx, p, err)
	})
	if err != nil {
		return fmt.Errorf("raise to %s after plan %d: %w", w, plan.Number, err)
	}
	return nil
}
