package oracle

import (
	"fmt"
	"math"
	"slices"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/tests/rig"
)

// Problems says how published results differ from what they must be: missing, superfluous or wrong panes. lateSessions allows
// panes of sessions that a later pane of a larger session replaced, which happens only with an allowed lateness.
func Problems(want []Pane, got []rig.Result, lateSessions bool) []string {
	newest := map[string]rig.Result{}
	count := map[string]int{}
	for _, r := range got {
		id := Pane{Window: r.Window.Name, Start: r.Window.StartMS, End: r.Window.EndMS, Key: r.Key}.ID()
		rev := fmt.Sprintf("%s#%d", id, r.Pane.Revision)
		if count[rev]++; count[rev] > 1 {
			return []string{"pane published twice: " + rev}
		}
		if old, ok := newest[id]; !ok || r.Pane.Revision > old.Pane.Revision {
			newest[id] = r
		}
	}
	var out []string
	for _, p := range want {
		r, ok := newest[p.ID()]
		if !ok {
			out = append(out, fmt.Sprintf("missing %s with %d values", p.ID(), len(p.Values)))
			continue
		}
		delete(newest, p.ID())
		out = append(out, differences(p, r)...)
	}
	for id, r := range newest {
		replaced := lateSessions && r.Window.Type == "session" && slices.ContainsFunc(want, func(p Pane) bool {
			return p.Window == r.Window.Name && p.Key == r.Key && p.Start <= r.Window.StartMS && r.Window.EndMS <= p.End
		})
		if !replaced {
			out = append(out, fmt.Sprintf("superfluous %s: %v", id, r.Results))
		}
	}
	slices.Sort(out)
	return out
}

func differences(p Pane, r rig.Result) []string {
	n, sum, variance := Moments(p.Values)
	first, last := Edges(p.Events)
	want := map[string]float64{
		"count": float64(n), "sum": sum, "average": sum / float64(n), "min": slices.Min(p.Values), "max": slices.Max(p.Values),
		"variance": variance, "stddev": math.Sqrt(variance), "first": first, "last": last, "distinct": float64(Distinct(p.Values)),
		"p50": Quantile(p.Values, .5), "p95": Quantile(p.Values, .95), "p99": Quantile(p.Values, .99),
	}
	var out []string
	for name, v := range r.Results {
		f, ok := v.(float64)
		w, known := want[name]
		if !ok || !known {
			continue
		}
		switch name {
		case "distinct":
			if w > 1024 { // then it is an estimate; five times the standard error
				if math.Abs(f/w-1) > 5*.0081 {
					out = append(out, fmt.Sprintf("%s: %s is %v, far from %v", p.ID(), name, f, w))
				}
				continue
			}
		case "p50", "p95", "p99":
			if n > 1000 {
				if rank := rankError(p.Values, f, name); rank > .01 {
					out = append(out, fmt.Sprintf("%s: %s is %v, off by %.4f in rank", p.ID(), name, f, rank))
				}
				continue
			}
		}
		if math.Abs(f-w) > 1e-9*math.Max(1, math.Abs(w)) {
			out = append(out, fmt.Sprintf("%s: %s is %v, want %v (of %d values)", p.ID(), name, f, w, n))
		}
	}
	return out
}

// rankError is how far the rank of v among the values is from the one that was asked for.
func rankError(values []float64, v float64, name string) float64 {
	q := map[string]float64{"p50": .5, "p95": .95, "p99": .99}[name]
	below, equal := 0, 0
	for _, x := range values {
		switch {
		case x < v:
			below++
		case x == v:
			equal++
		}
	}
	n := float64(len(values))
	lo, hi := float64(below)/n, float64(below+equal)/n
	return math.Max(0, math.Max(lo-q, q-hi))
}

// LateProblems compares the late topic with the records that must be there, each exactly once; "" if they are.
func LateProblems(want []Event, got []rig.Side) string {
	left := map[rig.Side]int{}
	for _, e := range want {
		left[rig.Side{Topic: e.Topic, Partition: e.Partition, Offset: e.Offset, Reason: string(event.ReasonLate)}]++
	}
	for _, s := range got {
		left[s]--
	}
	missing, extra := 0, 0
	for _, n := range left {
		missing, extra = missing+max(n, 0), extra+max(-n, 0)
	}
	if missing+extra == 0 {
		return ""
	}
	return fmt.Sprintf("late topic: %d records are missing, %d are too many (of %d)", missing, extra, len(want))
}
