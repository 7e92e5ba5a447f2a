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
	left int              // pipelines whose turn is still to come in this look
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

// prepare begins the plans of pipelines that are alike, those of one kind after the other, up to the cuts. What may take long is left to
// each one's own turn, and so are all others where it took long nevertheless: nobody is to wait for what somebody else has to do.
func prepare(ctx context.Context, runners []*runner, req request) {
	began := time.Now()
	done := map[*alike]bool{nil: true}
	for i, first := range runners {
		if done[first.alike] {
			continue
		}
		done[first.alike] = true
		for _, r := range runners[i:] {
			if r.alike != first.alike {
				continue
			}
			if r.alike.left++; time.Since(began) < lookTimeout && !(r.slow && r.session == nil) {
				r.prepare(ctx, req)
			}
		}
	}
}

// prepare begins a plan as run does, and leaves it where the state is to be read.
func (r *runner) prepare(ctx context.Context, req request) {
	r.tally = tally{}
	began := time.Now()
	r.preparing = true
	for tries := 1; tries <= maxAttempts; tries++ {
		w := &work{tries: tries}
		w.err = r.cut(ctx, req, w)
		if r.ready = w; !errors.Is(w.err, errAgain) {
			break
		}
	}
	if r.preparing = false; errors.Is(r.ready.err, errLater) {
		r.ready = nil
	}
	r.prepared = max(time.Since(began), 1)
}

// reported lets go of what was merged once the last pipeline of the kind has had its turn.
func (a *alike) reported() {
	if a == nil {
		return
	}
	if a.left--; a.left <= 0 {
		a.last = nil
	}
}

// compute computes a plan: from what the last one has merged, if it is fed the same. So there are the tables of two
// firings at most.
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
