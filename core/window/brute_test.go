package window

import (
	"math"
	"math/big"
	"math/rand/v2"

	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// randomDefinition returns a legal aligned definition, now and then a very long one.
func randomDefinition(r *rand.Rand) Definition {
	limit := int64(1 + r.IntN(60))
	if r.IntN(8) == 0 {
		limit = int64(MaxSpan)
	}
	for {
		d := Definition{Kind: KindTumbling, Size: event.Span(1 + r.Int64N(limit)), Lateness: event.Span(r.Int64N(limit))}
		step := d.Size
		if r.IntN(3) > 0 {
			d.Kind, d.Slide, d.AllowGaps = KindSliding, event.Span(1+r.Int64N(limit)), r.IntN(2) == 0
			step = d.Slide
		}
		if d.Kind == KindTumbling && r.IntN(3) == 0 {
			d.Kind, d.Step = KindCumulate, d.Size
			d.Size *= event.Span(1 + r.IntN(6))
			step = d.Size
		}
		d.Offset = event.Span(r.Int64N(2*int64(step)-1)) - step + 1
		if d.Validate() == nil && (d.Kind != KindSliding || d.Size/d.Slide < 200) {
			return d
		}
	}
}

// randomTime returns a time near 0, in the usual years, or near an end of what int64 holds.
func randomTime(r *rand.Rand) event.Time {
	switch r.IntN(6) {
	case 0:
		return event.MinTime + 1 + event.Time(r.Int64N(200))
	case 1:
		return event.MaxTime - 1 - event.Time(r.Int64N(200))
	case 2:
		return event.Time(r.Int64N(4e12) - 2e12)
	}
	return event.Time(r.Int64N(400) - 200)
}

// bruteWindows finds the windows of t from the definition alone, with numbers that cannot overflow.
func bruteWindows(d *Definition, t event.Time) []Window {
	step := d.Size
	if d.Kind == KindSliding {
		step = d.Slide
	}
	at, size, slide := big.NewInt(int64(t)), big.NewInt(int64(d.Size)), big.NewInt(int64(step))
	start := new(big.Int).Sub(at, size) // every window of t starts behind this
	start.Sub(start, big.NewInt(int64(d.Offset)))
	start.Div(start, slide) // Euclidean: rounds down
	start.Mul(start, slide).Add(start, big.NewInt(int64(d.Offset)))
	var ws []Window
	if d.Kind == KindCumulate { // one start, and an end every step
		for start.Cmp(new(big.Int).Sub(at, size)) <= 0 {
			start.Add(start, slide)
		}
		for end := new(big.Int).Add(start, big.NewInt(int64(d.Step))); end.Cmp(new(big.Int).Add(start, size)) <= 0; end.Add(end, big.NewInt(int64(d.Step))) {
			if end.Cmp(at) > 0 {
				ws = append(ws, Window{Start: clamp(start), End: clamp(end)})
			}
		}
		return ws
	}
	for ; start.Cmp(at) <= 0; start.Add(start, slide) {
		end := new(big.Int).Add(start, size)
		if end.Cmp(at) > 0 {
			ws = append(ws, Window{Start: clamp(start), End: clamp(end)})
		}
	}
	return ws
}

func clamp(n *big.Int) event.Time {
	switch {
	case n.Cmp(big.NewInt(math.MinInt64)) < 0:
		return event.MinTime
	case n.Cmp(big.NewInt(math.MaxInt64)) > 0:
		return event.MaxTime
	}
	return event.Time(n.Int64())
}
