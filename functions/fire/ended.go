package fire

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// ended is what a firer does whose pipeline has ended. One that was at work when its successor came rests; one that finds it
// like that when it starts belongs to a spec that somebody deployed again, or forgot: it halts, unless it is told to take over.
func (r *runner) ended(ctx context.Context, all []kafkaio.Partition, plan *apply.Plan, req request) error {
	if r.Clock().Sub(plan.At) >= event.SpanOf(daily) {
		if r.session == nil {
			return r.open(ctx)
		}
		if err := r.stayEnded(ctx, plan); err != nil {
			return err
		}
	}
	if r.told && !req.nudge.TakeOver {
		return nil
	}
	relatives, err := r.kin(ctx)
	if err != nil {
		return err
	}
	live := alive(relatives)
	names := make([]string, len(live))
	for i, k := range live {
		names[i] = k.group
	}
	successor := strings.Join(names, ", ")
	switch {
	case len(live) == 0:
		return halted("the group %s has ended, and there is no plan of a pipeline that took over from it: start a new pipeline under another name, "+
			"or delete the group to begin anew", r.pipe.Group())
	case req.nudge.TakeOver:
		return r.takeOver(ctx, all, live, req)
	case !r.lived:
		return halted("the group %s has ended: %s took over. To go on with this spec from there, invoke fire with {\"takeover\": true}, or "+
			"`tidemark run --take-over`; else remove these functions", r.pipe.Group(), successor)
	}
	r.Logger.InfoContext(ctx, "pipeline has ended, another one took over: nothing is done", "pipeline", r.pipe.Name, "group", r.pipe.Group(), "successor", successor)
	r.told = true
	return nil
}

// stayEnded commits once a day that the own group has ended, as long as its functions are there: a broker forgets the offsets of
// a group without members, and then this pipeline would take over like a new one. Its state goes with that. It returns errAgain
// once that is committed.
func (r *runner) stayEnded(ctx context.Context, plan *apply.Plan) error {
	if err := r.dropSlots(ctx, r.pipe.Group(), plan); err != nil {
		return err
	}
	offsets, record, err := r.ending(ctx, kin{r.pipe.Group(), plan}, r.Clock())
	if err != nil || len(offsets) == 0 {
		return err
	}
	if err := transact(ctx, r.session, []kafkaio.Message{record}, groupOffsets{r.pipe.Group(), offsets}); err != nil {
		return fmt.Errorf("stay ended: %w", err)
	}
	r.closeSession()
	return errAgain
}

// tidy drops the state of kin that ended a day ago or longer, at the first plan of a process and daily. It is tidying up: what
// it does not get done is done another day.
func (r *runner) tidy(ctx context.Context) {
	now := r.Clock()
	if now.Sub(r.tidied) < event.SpanOf(daily) {
		return
	}
	all, err := r.kin(ctx)
	for _, k := range all {
		if k.plan == nil || !k.plan.Ended || now.Sub(k.plan.At) < event.SpanOf(daily) {
			continue
		}
		if e := r.dropSlots(ctx, k.group, k.plan); e != nil {
			err = errors.Join(err, e)
		}
	}
	if err != nil {
		r.Logger.WarnContext(ctx, "the state of ended pipelines was not looked for or not dropped; the next look will do it", "pipeline", r.pipe.Name, "error", err)
		return
	}
	r.tidied = now
}

// dropSlots drops what a group's plan has in the store.
func (r *runner) dropSlots(ctx context.Context, group string, plan *apply.Plan) error {
	for tp, b := range plan.Partitions {
		slot := statestore.Slot{Pipeline: pipeline.IDOf(group), TopicID: b.TopicID, Topic: tp.Topic, Partition: tp.Partition}
		if err := r.Store.Drop(ctx, slot); err != nil {
			return fmt.Errorf("drop the state of an ended pipeline: %s: %w", slot, err)
		}
	}
	return nil
}
