package fire

import (
	"context"
	"fmt"

	"github.com/llm-auto-optimizer/tidemark/core/delta"
	"github.com/llm-auto-optimizer/tidemark/core/faults"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// readPage is the number of deltas read in one call.
const readPage = 500

// read reads what the plan needs, partition by partition in order, and computes it.
func (r *runner) read(ctx context.Context, w *work) (*pipeline.Outcome, error) {
	if err := r.index(ctx, w.parts); err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	turn := pipeline.Turn{
		Plan: w.plan.Number + 1, At: w.now, Prev: w.plan.Watermark, W: w.watermark, Early: w.early, Recount: !r.history.counted(w.plan), History: &r.history.History,
	}
	out, err := r.compute(ctx, w.parts, turn)
	if err != nil {
		return nil, err
	}
	for i, p := range w.parts {
		p.outcome = out.Partitions[i]
	}
	return out, nil
}

// index finds the deltas of every partition.
func (r *runner) index(ctx context.Context, parts []*partition) error {
	var moved []*partition // what was folded since the status may have begun other slices
	for _, p := range parts {
		if p.raised.Top.Offset > p.status.Applied && !faults.Off(faults.IndexAfterRaise) {
			moved = append(moved, p)
		}
	}
	err := eachWith(moved, statestore.StatusAll(ctx, r.Store, slotsOf(moved)), func(p *partition, st statestore.Status, err error) error {
		p.status.Slices = st.Slices
		return r.damaged(ctx, p, err)
	})
	if err != nil {
		return err
	}
	asked := make([]statestore.SlotIndex, len(parts))
	for i, p := range parts {
		asked[i] = statestore.SlotIndex{Slot: p.slot, Token: p.raised.Top.Token}
		for _, s := range p.status.Slices {
			asked[i].Slices = append(asked[i].Slices, s.ID)
		}
	}
	return eachWith(parts, statestore.IndexAll(ctx, r.Store, asked), func(p *partition, refs []statestore.DeltaRef, err error) error {
		p.refs = refs
		return r.damaged(ctx, p, err)
	})
}

// feed feeds a firing what it needs.
func (r *runner) feed(ctx context.Context, parts []*partition, turn pipeline.Turn) (*pipeline.Firing, *pipeline.Outcome, error) {
	prefixes := make([]pipeline.Prefix, len(parts))
	for i, p := range parts {
		prefixes[i] = pipeline.Prefix{
			TopicPartition: p.TopicPartition, Since: p.base.Offset, Upto: p.raised.Top.Offset, EarlySince: p.base.EarlySince, TakenOver: p.base.TakenOver, Refs: p.refs,
		}
	}
	firing := r.pipe.NewFiring(turn, prefixes)
	for i, p := range parts {
		refs := firing.Needs(i)
		for len(refs) > 0 {
			n := min(len(refs), readPage)
			payloads, err := r.Store.Read(ctx, p.slot, p.raised.Top.Token, refs[:n])
			if err = r.damaged(ctx, p, err); err != nil {
				failure := apply.Failure{TopicPartition: p.TopicPartition, Err: err}
				return nil, nil, fmt.Errorf("read: %w", &apply.PartitionsError{Failures: []apply.Failure{failure}})
			}
			if err := firing.Feed(i, refs[:n], payloads); err != nil {
				return nil, nil, err
			}
			refs = refs[n:]
		}
	}
	out, err := firing.Finish()
	return firing, out, err
}

// sweep purges and compacts. It is tidying up: what it does not get done the next plan does.
func (r *runner) sweep(ctx context.Context, parts []*partition) {
	var swept []*partition
	var sweeps []statestore.SlotSweep
	for _, p := range parts {
		if s, ok := p.sweep(); ok {
			swept, sweeps = append(swept, p), append(sweeps, statestore.SlotSweep{Slot: p.slot, Sweep: s})
		}
	}
	err := eachWith(swept, statestore.SweepAll(ctx, r.Store, sweeps), func(_ *partition, _ struct{}, err error) error { return err })
	for _, g := range r.unsaid("sweep", err) {
		r.Logger.WarnContext(ctx, "state was not tidied up, the next plan will do it", append(g.Attrs(), "pipeline", r.pipe.Name)...)
	}
}

// sweep is what is to be purged and compacted in a partition; false: nothing.
func (p *partition) sweep() (s statestore.Sweep, ok bool) {
	stored := map[delta.SliceID]bool{}
	for _, ref := range p.refs {
		stored[ref.Slice] = true
	}
	s = statestore.Sweep{Token: p.raised.Top.Token, Drop: p.outcome.Drop, Replace: p.outcome.Replace}
	for _, t := range p.outcome.Trim {
		if stored[t.Slice] {
			s.Trim = append(s.Trim, t)
		}
	}
	return s, len(s.Drop)+len(s.Replace)+len(s.Trim) > 0
}
