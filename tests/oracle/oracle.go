// Package oracle is a plain batch computation of what a pipeline must have published: no state, no increments, no slices. It
// knows the records, the window definitions and, from the ledger, under which watermark each record was judged.
package oracle

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"sort"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/window"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
)

// Event is a record as the oracle sees it: well-formed and with one value.
type Event struct {
	event.TopicPartition
	Offset int64
	Time   event.Time
	Key    string
	Value  float64
}

// Plan is what the ledger says of one plan.
type Plan struct {
	Pipeline    string          `json:"pipeline"`
	Fingerprint string          `json:"fingerprint"`
	Plan        int64           `json:"plan"`
	Watermark   *int64          `json:"watermark_ms"`
	TakesOver   string          `json:"takes_over"` // of a genesis: the group that ended with it
	EndedBy     string          `json:"ended_by"`   // of the last one of a pipeline
	Partitions  []PlanPartition `json:"partitions"`
}

// W is the watermark, event.MinTime before the first plan.
func (p *Plan) W() event.Time {
	if p.Watermark == nil {
		return event.MinTime
	}
	return event.Time(*p.Watermark)
}

// PlanPartition is a partition of a plan.
type PlanPartition struct {
	Topic      string `json:"topic"`
	Partition  int32  `json:"partition"`
	Offset     int64  `json:"offset"`
	ReplayFrom int64  `json:"replay_from"`
	In         int64  `json:"in"`
	Open       int64  `json:"open"`
	Final      int64  `json:"final"`
	Late       int64  `json:"late"`
	Dead       int64  `json:"dead"`
	Skipped    int64  `json:"skipped"`
	Filtered   int64  `json:"filtered"`
	Unassigned int64  `json:"unassigned"`
}

// ParseLedger decodes ledger records.
func ParseLedger(records []kafkaio.PublishedRecord) ([]Plan, error) {
	out := make([]Plan, len(records))
	for i := range records {
		if err := json.Unmarshal(records[i].Value, &out[i]); err != nil {
			return nil, fmt.Errorf("ledger record %d: %w", i, err)
		}
	}
	return out, nil
}

// Unbalanced returns a description of the first partition whose counts do not add up, or "".
func Unbalanced(plans []Plan) string {
	for _, p := range plans {
		for _, q := range p.Partitions {
			if got := q.Final + q.Open + q.Late + q.Dead + q.Skipped + q.Filtered + q.Unassigned; got != q.In {
				return fmt.Sprintf("plan %d, %s/%d: in %d, but the parts add up to %d: %+v", p.Plan, q.Topic, q.Partition, q.In, got, q)
			}
		}
	}
	return ""
}

// Fence is the watermark that judged the record at an offset: the largest of the plans whose prefix ends at or before it.
func Fence(plans []Plan, tp event.TopicPartition, offset int64) event.Time {
	f := event.MinTime
	for _, p := range plans {
		for _, q := range p.Partitions {
			if q.Topic == tp.Topic && q.Partition == tp.Partition && q.Offset <= offset && p.Watermark != nil {
				f = max(f, event.Time(*p.Watermark))
			}
		}
	}
	return f
}

// Pane is what a window and key must have come to.
type Pane struct {
	Window string
	Start  event.Time
	End    event.Time
	Key    string
	Values []float64 // in no particular order
	Events []Event   // whose values they are
}

// ID orders and identifies panes.
func (p Pane) ID() string { return fmt.Sprintf("%s|%d|%d|%s", p.Window, p.Start, p.End, p.Key) }

// Compute returns the final panes and the records that are late for all windows.
func Compute(defs []window.Definition, events []Event, fence func(Event) event.Time) (panes []Pane, late []Event) {
	accepted := make([][]Event, len(defs)) // of session definitions
	groups := map[string]*Pane{}
	for _, e := range events {
		f := fence(e)
		in, taken := false, false
		for i := range defs {
			d := &defs[i]
			if d.Kind == window.KindSession {
				in = true
				if e.Time.Add(d.Lateness) >= f {
					taken = true
					accepted[i] = append(accepted[i], e)
				}
				continue
			}
			for _, w := range aligned(d, e.Time) {
				in = true
				if w.End.Add(d.Lateness) <= f {
					continue
				}
				taken = true
				p := Pane{Window: d.Name, Start: w.Start, End: w.End, Key: e.Key}
				if groups[p.ID()] == nil {
					groups[p.ID()] = &p
				}
				g := groups[p.ID()]
				g.Values, g.Events = append(g.Values, e.Value), append(g.Events, e)
			}
		}
		if in && !taken {
			late = append(late, e)
		}
	}
	for _, g := range groups {
		panes = append(panes, *g)
	}
	for i := range defs {
		panes = append(panes, sessions(&defs[i], accepted[i])...)
	}
	sort.Slice(panes, func(i, j int) bool { return panes[i].ID() < panes[j].ID() })
	return panes, late
}

// aligned lists windows by trying every start near the time.
func aligned(d *window.Definition, t event.Time) []window.Window {
	step := d.Size
	if d.Kind == window.KindSliding {
		step = d.Slide
	}
	first := int64(math.Floor(float64(int64(t)-int64(d.Size)-int64(d.Offset))/float64(step))) - 1
	var out []window.Window
	for k := first; ; k++ {
		s := event.Time(k*int64(step) + int64(d.Offset))
		if s > t {
			return out
		}
		if d.Kind == window.KindCumulate {
			for e := s.Add(d.Step); e <= s.Add(d.Size); e = e.Add(d.Step) {
				if t < e && t < s.Add(d.Size) {
					out = append(out, window.Window{Start: s, End: e})
				}
			}
			continue
		}
		if w := (window.Window{Start: s, End: s.Add(d.Size)}); t < w.End {
			out = append(out, w)
		}
	}
}

func sessions(d *window.Definition, events []Event) []Pane {
	slices.SortFunc(events, func(a, b Event) int { return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Time, b.Time)) })
	var out []Pane
	for i, e := range events {
		end, cut := e.Time.Add(d.Gap), event.MaxTime
		if d.Max > 0 {
			cut = event.Time(math.Floor(float64(int64(e.Time)-int64(d.Offset))/float64(d.Max)))*event.Time(d.Max) + event.Time(d.Offset) + event.Time(d.Max)
			end = min(end, cut)
		}
		if n := len(out) - 1; i > 0 && events[i-1].Key == e.Key && e.Time.Sub(events[i-1].Time) < d.Gap && out[n].End <= cut && (d.Max == 0 || e.Time < out[n].End) {
			out[n].End = end
			out[n].Values, out[n].Events = append(out[n].Values, e.Value), append(out[n].Events, e)
			continue
		}
		out = append(out, Pane{Window: d.Name, Start: e.Time, End: end, Key: e.Key, Values: []float64{e.Value}, Events: []Event{e}})
	}
	return out
}

// Quantile is R-7 (Hyndman and Fan 1996): linear interpolation at q(n-1).
func Quantile(values []float64, q float64) float64 {
	v := slices.Sorted(slices.Values(values))
	h := q * float64(len(v)-1)
	i := int(h)
	if i+1 >= len(v) {
		return v[len(v)-1]
	}
	return v[i] + (h-float64(i))*(v[i+1]-v[i])
}

// Edges are the first and the last value by event time, topic, partition and offset.
func Edges(events []Event) (first, last float64) {
	byPlace := func(a, b Event) int {
		return cmp.Or(cmp.Compare(a.Time, b.Time), cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
	}
	return slices.MinFunc(events, byPlace).Value, slices.MaxFunc(events, byPlace).Value
}

// Distinct is the number of distinct values.
func Distinct(values []float64) int {
	return len(slices.Compact(slices.Sorted(slices.Values(values))))
}

// Moments are count, sum and population variance, computed in two passes.
func Moments(values []float64) (n int, sum, variance float64) {
	for _, v := range values {
		sum += v
	}
	n = len(values)
	mean := sum / float64(n)
	for _, v := range values {
		variance += (v - mean) * (v - mean)
	}
	return n, sum, variance / float64(n)
}
