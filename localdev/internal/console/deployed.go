package console

import (
	"strings"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/functions/ops"
)

// Looked takes what an explanation says of a pipeline whose functions are not in this process.
func (b *Board) Looked(x *ops.PipelineExplained) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.pipeline(x.Pipeline); p != nil {
		in, filtered := p.In, p.Filtered
		*p = pipelineOf(x)
		p.In, p.Filtered = in, filtered
		p.Error = strings.Join(x.Halts, "; ")
	}
}

// pipelineOf is what an explanation says of a pipeline, but for what is wrong with it.
func pipelineOf(x *ops.PipelineExplained) Pipeline {
	p := Pipeline{Name: x.Pipeline, Watermark: event.MinTime.String(), HeldBy: x.HeldBy, Reason: x.Holder, Plan: x.Plan, Open: x.Open}
	if w, ok := parseTime(x.Watermark); ok {
		ms := int64(w)
		p.Watermark, p.WatermarkMS = *x.Watermark, &ms
	}
	for i := range x.Parts {
		p.Lag += x.Parts[i].Lag
	}
	return p
}

// Counted adds to the totals, where Reports are not to be had.
func (b *Board) Counted(plans, results, late, dead int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.s.Plans += plans
	b.s.Results += results
	b.s.Late += late
	b.s.DeadLetters += dead
}
