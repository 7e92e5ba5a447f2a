package pipeline

import (
	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/window"
)

// Passes reports whether a partition whose largest event time went from `from` to `to` may have let a window close: its own
// watermark passed the end of one. Whether the pipeline's did is for the other partitions to say too; but a watermark that passes
// an end does so with some partition's. Sessions have no ends that are known before: for them it is true about once a gap.
func (p *Pipeline) Passes(from, to event.Time) bool {
	if to <= from {
		return false
	}
	if from == event.MinTime {
		return true
	}
	before, after := from.Add(-p.Watermark.MaxOutOfOrder), to.Add(-p.Watermark.MaxOutOfOrder)
	if p.Watermark.Periodic && p.Watermark.EmitInterval > 0 {
		before, after = before.Floor(p.Watermark.EmitInterval, 0), after.Floor(p.Watermark.EmitInterval, 0)
	}
	for i := range p.Windows {
		d := &p.Windows[i]
		if d.Kind == window.KindGlobal {
			continue // it has no end
		}
		var step, offset event.Span
		switch d.Kind {
		case window.KindTumbling:
			step, offset = d.Size, d.Offset
		case window.KindSliding:
			step, offset = d.Slide, d.Offset+d.Size%d.Slide
		case window.KindCumulate:
			step, offset = d.Step, d.Offset
		case window.KindSession:
			step = d.Gap
		case window.KindGlobal:
		}
		if before.Floor(step, offset) < after.Floor(step, offset) {
			return true
		}
	}
	return false
}
