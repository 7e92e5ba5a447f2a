package conformance

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/tests/rig"
)

// actual collects what came of the vector. A last run of the firer, whose panes are not looked at and whose watermark stays,
// brings out the late and the failed records: vectors report them at once, we with the next plan.
func (p *play) actual(ctx context.Context) (map[string]any, error) {
	if err := p.flush(ctx); err != nil {
		return nil, err
	}
	if _, _, err := p.engine.fire(ctx, p.clock, hold); err != nil {
		return nil, err
	}
	late, dead, err := p.engine.sides()
	if err != nil {
		return nil, err
	}
	if int64(len(late)) != p.counts.Late || int64(len(dead)) != p.counts.Dead {
		return nil, fmt.Errorf("published %d late and %d failed records, but %d and %d were counted", len(late), len(dead), p.counts.Late, p.counts.Dead)
	}
	lateEntries, rejected := []any{}, []any{}
	for _, at := range p.entries(late) {
		lateEntries = append(lateEntries, p.entryAsOutcome(at))
	}
	reasons := map[int]string{} // by entry
	for _, s := range dead {
		reasons[p.entryOf[position{s.Partition, s.Offset}]] = s.Reason
	}
	for _, at := range slices.Sorted(maps.Keys(reasons)) {
		reason := reasons[at]
		if theirs, ok := vectorReasons()[event.Reason(reason)]; ok {
			reason = theirs
		}
		rejected = append(rejected, map[string]any{"at": at, "reason": reason})
	}
	actual := map[string]any{
		"fired": p.fired, "late": lateEntries, "late_windows": p.counts.LateWindows, "rejected": rejected,
		"duplicates": list(p.outcome["duplicates"]), "watermark_after": p.afterAll,
	}
	if p.batched {
		actual["unassigned"] = p.counts.Unassigned
	} else {
		actual["unassigned"] = list(p.outcome["unassigned"])
	}
	return actual, nil
}

// vectorReasons are the vectors' names of our reasons.
func vectorReasons() map[event.Reason]string {
	return map[event.Reason]string{event.ReasonValueNotFinite: "not_finite", event.ReasonTimestampFuture: "future"}
}

func list(l []any) []any {
	if l == nil {
		return []any{}
	}
	return l
}

// entries finds the entries of side records, ascending.
func (p *play) entries(sides []rig.Side) []int {
	out := make([]int, len(sides))
	for i, s := range sides {
		out[i] = p.entryOf[position{s.Partition, s.Offset}]
	}
	slices.SortFunc(out, cmp.Compare[int])
	return out
}

func (p *play) entryAsOutcome(at int) any {
	e := &p.v.Events[at]
	return map[string]any{"at": at, "key": e.Key, "ts_ms": *e.Time}
}

// paneAsOutcome writes a result as the vectors do.
func (v *Vector) paneAsOutcome(at int, r *rig.Result) (any, error) {
	out := map[string]any{"at": at, "key": r.Key, "start_ms": int64(r.Window.StartMS), "end_ms": int64(r.Window.EndMS), "pane": r.Pane.Timing, "pane_index": r.Pane.Index}
	for theirs, ours := range map[string]string{
		"count": "count", "sum": "sum", "avg": "average", "min": "min", "max": "max", "var_pop": "variance", "stddev_pop": "stddev",
		"var_samp": "variance_sample", "stddev_samp": "stddev_sample", "first": "first", "last": "last",
	} {
		value, ok := r.Results[ours]
		if !ok {
			return nil, fmt.Errorf("a result without %s: %v", ours, r.Results)
		}
		out[theirs] = value
	}
	if len(v.Spec.Quantiles) > 0 {
		quantiles := map[string]any{}
		for _, q := range v.Spec.Quantiles {
			quantiles[quantileName(q)] = r.Results[percentile(q)]
		}
		out["quantiles"] = quantiles
	}
	out["supersedes"], out["retracts"] = []any{}, []any{}
	for _, o := range r.Pane.Supersedes {
		out["supersedes"] = append(out["supersedes"].([]any), map[string]any{"start_ms": int64(o.StartMS), "end_ms": int64(o.EndMS), "pane_index": o.Index})
	}
	for _, o := range r.Pane.Retracts {
		taken := map[string]any{"start_ms": int64(o.StartMS), "end_ms": int64(o.EndMS), "count": o.Results["count"], "sum": o.Results["sum"]}
		out["retracts"] = append(out["retracts"].([]any), taken)
	}
	return out, nil
}

// modelSource is the source of scenarios that the reference model has made.
const modelSource = "model.py gen"

func quantileName(q float64) string { return strconv.FormatFloat(q, 'g', -1, 64) }

// pattern is what is compared of a vector's expectations.
func (v *Vector) pattern(batched bool) (map[string]any, error) {
	out := maps.Clone(v.Expect)
	if panes, ok := out["fired"].([]any); ok {
		kept := make([]any, len(panes))
		for i := range panes {
			pane, ok := panes[i].(map[string]any)
			if !ok {
				return nil, fmt.Errorf("fired[%d] is no object: %v", i, panes[i])
			}
			pane = maps.Clone(pane)
			// The reference model says everything of its panes; vectors may say less.
			if v.Source == modelSource && pane["supersedes"] == nil {
				pane["supersedes"] = []any{}
			}
			if q, ok := pane["quantiles"].(map[string]any); ok {
				byName := map[string]any{}
				for name, value := range q {
					f, err := strconv.ParseFloat(name, 64)
					if err != nil {
						return nil, fmt.Errorf("fired[%d]: quantile %q: %w", i, name, err)
					}
					byName[quantileName(f)] = value
				}
				pane["quantiles"] = byName
			}
			kept[i] = pane
		}
		out["fired"] = kept
	}
	if unassigned, ok := out["unassigned"].([]any); ok && batched {
		out["unassigned"] = len(unassigned) // a batch does not tell which of its records it was
	}
	return out, nil
}
