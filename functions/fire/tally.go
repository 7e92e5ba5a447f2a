package fire

import (
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
)

// tally is what one run did, over all of its attempts.
type tally struct {
	counted     pipeline.Counts
	final       int64
	unaccounted int64
	repaired    int64
	committedAt time.Time     // when it was known that the last plan of the run is committed
	prepared    time.Duration // by prepare, and how long it took; 0: the run begins with report
}

// made is a plan that was published, with what its ledger has more than that of the plan before.
type made struct {
	plan        *apply.Plan
	counted     pipeline.Counts
	final       int64
	unaccounted int64
}

func (m *made) add(p *partition, unaccounted int64) {
	m.counted = m.counted.Add(p.outcome.Counts)
	m.final += p.outcome.Final
	m.unaccounted += max(unaccounted, -unaccounted)
}

// settle counts the plan that was published last if the committed plan is that one, which its tokens say. So no plan is counted
// twice, and one whose answer was lost is counted once it is read. If another firer was quicker and has built on it, nobody can
// tell any more, and it is not counted.
func (r *runner) settle(committed *apply.Plan) {
	m := r.unsure
	if m == nil || committed.Number < m.plan.Number {
		return
	}
	r.unsure = nil
	if committed.Number > m.plan.Number || len(committed.Partitions) != len(m.plan.Partitions) {
		return
	}
	for tp, b := range m.plan.Partitions {
		if committed.Partitions[tp].Token != b.Token {
			return
		}
	}
	r.counted = r.counted.Add(m.counted)
	r.final += m.final
	r.unaccounted += m.unaccounted
	r.committedAt = time.Now()
}
