package fire

import (
	"context"
	"errors"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
)

// alike is what pipelines have in common that merge the same where their state is the same. Their plans are begun one right after
// the other, so that their cuts are at the same offsets unless a batch came in between; then one of them merges for all.
type alike struct {
	last *pipeline.Firing // the last one of this look that was computed, nil: none
}

// findAlike gives runners of pipelines that merge the same something in common.
func findAlike(runners []*runner) {
	for i, r := range runners {
		for _, q := range runners[:i] {
			if r.pipe.MergesAlike(q.pipe) {
				if q.alike == nil {
					q.alike = &alike{}
				}
				r.alike = q.alike
				break
			}
		}
	}
}

// prepare begins the plans of pipelines that are alike, those of one kind after the other, up to the cuts. It gives up after a while:
// where something hangs, or much has to be caught up with, the others must not wait. Who is not prepared begins when it is its turn.
func prepare(ctx context.Context, runners []*runner, req request) {
	short, cancel := look(ctx)
	defer cancel()
	done := map[*alike]bool{nil: true}
	for i, first := range runners {
		if done[first.alike] {
			continue
		}
		done[first.alike] = true
		for _, r := range runners[i:] {
			if r.alike == first.alike && short.Err() == nil {
				r.prepare(short, req)
			}
		}
	}
}

// forget lets go of what was merged.
func forget(runners []*runner) {
	for _, r := range runners {
		if r.alike != nil {
			r.alike.last = nil
		}
	}
}

// prepare begins a plan as run does, and leaves it where the state is to be read.
func (r *runner) prepare(ctx context.Context, req request) {
	r.tally = tally{}
	began := time.Now()
	for tries := 1; tries <= maxAttempts; tries++ {
		w := &work{tries: tries}
		w.err = r.cut(ctx, req, w)
		if r.ready = w; !errors.Is(w.err, errAgain) {
			break
		}
	}
	if ctx.Err() != nil && r.ready.err != nil { // only because the time was short
		r.ready = nil
		r.closeSession()
		r.claim.number = noClaim
	}
	r.prepared = max(time.Since(began), 1)
}

// compute computes a plan: from what the last one has merged, if it is fed the same. So there are the tables of two firings at most.
func (r *runner) compute(ctx context.Context, parts []*partition, turn pipeline.Turn) (*pipeline.Outcome, error) {
	if r.alike == nil {
		_, out, err := r.feed(ctx, parts, turn)
		return out, err
	}
	turn.Lends, turn.Like = true, r.alike.last
	firing, out, err := r.feed(ctx, parts, turn)
	if errors.Is(err, pipeline.ErrUnlike) {
		turn.Like = nil
		firing, out, err = r.feed(ctx, parts, turn)
	}
	if err != nil {
		return nil, err
	}
	r.alike.last = firing
	if firing.TookOver() {
		r.Logger.DebugContext(ctx, "the plan is made of what another pipeline's has merged", "pipeline", r.pipe.Name, "plan", turn.Plan)
	}
	return out, nil
}
