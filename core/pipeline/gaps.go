package pipeline

import (
	"fmt"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/window"
)

// readGaps reads the record's own gap of each session definition that has a field for it: a number of milliseconds above 0, where
// what is above the definition's MaxGap counts as that. Missing or null is the definition's Gap.
func (r *reader) readGaps() rejection {
	if len(r.fields) <= r.p.gapAt {
		return rejection{}
	}
	r.gaps = r.gaps[:0]
	fields := r.fields[r.p.gapAt:]
	for i := range r.p.Windows {
		d := &r.p.Windows[i]
		gap := d.Gap
		if d.GapField != "" {
			f := fields[0]
			fields = fields[1:]
			if f.Kind != event.FieldAbsent && f.Kind != event.FieldNull {
				var rej rejection
				if gap, rej = parseGap(f, d.GapField, d.MaxGap); rej.reason != "" {
					return rej
				}
			}
		}
		r.gaps = append(r.gaps, gap)
	}
	return rejection{}
}

func parseGap(f event.Field, path string, most event.Span) (event.Span, rejection) {
	if f.Kind != event.FieldNumber {
		return 0, reject(event.ReasonValueType, fmt.Sprintf("the gap in field %s is %s, not a number of milliseconds", path, f.Kind))
	}
	ms, err := event.ParseFloat(f.Raw)
	if err != nil || ms < 1 {
		return 0, reject(event.ReasonValueType, fmt.Sprintf("the gap in field %s is %s, want 1 ms or more", path, f.Raw))
	}
	return event.Span(min(ms, float64(most))), rejection{}
}

// gapOf returns the gap of the record at hand for the session definition d, whose index is def.
func (r *reader) gapOf(def int, d *window.Definition) event.Span {
	if len(r.gaps) == 0 {
		return d.Gap
	}
	return r.gaps[def]
}
