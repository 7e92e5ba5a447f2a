package conformance

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/llm-auto-optimizer/tidemark/core/delta"
	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/core/watermark"
	"github.com/llm-auto-optimizer/tidemark/functions/fire"
	"github.com/llm-auto-optimizer/tidemark/tests/rig"
)

// coreEngine is core/pipeline with nothing around it: the deltas are in slices, and a plan is done as soon as it is computed.
type coreEngine struct {
	pipe  *pipeline.Pipeline
	parts []*corePartition
	plan  int64
	w     event.Time

	late, dead []rig.Side
	history    pipeline.History
	waiting    pipeline.Waiting
}

// corePartition is the state of a partition.
type corePartition struct {
	folder       *pipeline.Folder
	applied      int64
	since        int64 // applied of the last plan
	maxTime      event.Time
	lastRecordAt event.Time
	deltas       []delta.Delta // by (slice, From, Bucket)

	totals pipeline.Counts // of all plans, with final what became so
	final  int64
}

func newCore(_ *spec.App, pipe *pipeline.Pipeline, partitions int32, now event.Time) (engine, error) {
	e := &coreEngine{pipe: pipe, w: event.MinTime}
	for i := range partitions {
		e.parts = append(e.parts, &corePartition{folder: pipe.NewFolder(event.TopicPartition{Topic: sourceTopic, Partition: i}), maxTime: event.MinTime, lastRecordAt: now})
	}
	return e, nil
}

func (e *coreEngine) deliver(_ context.Context, records []delivery, now event.Time) (total pipeline.Counts, err error) {
	for i, part := range e.parts {
		part.folder.Begin(pipeline.Chunk{From: part.applied, Fence: e.w})
		for j := range records {
			if int(records[j].partition) != i {
				continue
			}
			if err := part.folder.Add(&records[j].record); err != nil {
				return total, err
			}
		}
		f := part.folder.Finish(part.applied)
		if f.Counts.In == 0 {
			continue
		}
		part.applied, part.maxTime = f.To, max(part.maxTime, f.MaxTime)
		if f.MaxTime != event.MinTime {
			part.lastRecordAt = now
		}
		for _, d := range f.Deltas {
			d.Payload = slices.Clone(d.Payload)
			part.deltas = append(part.deltas, d)
		}
		total = total.Add(f.Counts)
	}
	return total, nil
}

func (e *coreEngine) fire(_ context.Context, now event.Time, low fire.LowFunc) ([]rig.Result, event.Time, error) {
	inputs := make([]watermark.Partition, len(e.parts))
	slots := make([]pipeline.SlotStatus, len(e.parts))
	prefixes := make([]pipeline.Prefix, len(e.parts))
	for i, part := range e.parts {
		tp := event.TopicPartition{Topic: sourceTopic, Partition: int32(i)}
		inputs[i] = watermark.Partition{
			TopicPartition: tp, MaxTime: part.maxTime, Applied: part.applied, End: part.applied, LastRecordAt: part.lastRecordAt, Fence: e.w,
		}
		slots[i] = pipeline.SlotStatus{Since: part.since, MaxTime: part.maxTime, Slices: part.slices()}
		prefixes[i] = pipeline.Prefix{TopicPartition: tp, Since: part.since, Upto: part.applied, Refs: part.refs()}
	}
	d := low(e.pipe.WatermarkPolicy(), inputs, e.w, now)
	counted := e.waiting != nil
	waiting := e.waiting.Most()
	for _, part := range e.parts {
		waiting += part.applied - part.since
	}
	if !e.pipe.Due(e.w, d.Watermark, slots).Now() && !e.pipe.DueEarly(d.Watermark, slots, false, waiting) && !d.Moved {
		return nil, e.w, nil
	}
	e.plan++
	firing := e.pipe.NewFiring(pipeline.Turn{
		Plan: e.plan, At: now, Prev: e.w, W: d.Watermark, Recount: !counted, History: &e.history,
	}, prefixes)
	for i, part := range e.parts {
		refs := firing.Needs(i)
		payloads := make([][]byte, len(refs))
		for n, r := range refs {
			payloads[n] = part.deltas[slices.IndexFunc(part.deltas, func(d delta.Delta) bool { return d.Ref == r })].Payload
		}
		if err := firing.Feed(i, refs, payloads); err != nil {
			return nil, e.w, err
		}
	}
	out, err := firing.Finish()
	if err != nil {
		return nil, e.w, err
	}
	e.w = d.Watermark
	if err := e.remember(out); err != nil {
		return nil, e.w, err
	}
	for i, part := range e.parts {
		if err := e.settle(int32(i), part, &out.Partitions[i]); err != nil {
			return nil, e.w, err
		}
	}
	results := make([]rig.Result, len(out.Panes))
	for i := range out.Panes {
		if err := json.Unmarshal(out.Panes[i].Value, &results[i]); err != nil {
			return nil, e.w, fmt.Errorf("pane %s: %w", out.Panes[i].ID, err)
		}
	}
	return results, e.w, nil
}

// remember keeps what the plan says of panes, through the bytes of its records.
func (e *coreEngine) remember(out *pipeline.Outcome) error {
	if !e.pipe.KeepsHistory() && len(out.History) > 0 {
		return fmt.Errorf("%d updates of a history that is not kept", len(out.History))
	}
	for _, u := range out.History {
		key, value, err := e.pipe.HistoryRecord(e.plan, u)
		if err != nil {
			return err
		}
		read, _, ok, err := e.pipe.ReadHistory(key, value)
		if err != nil || !ok {
			return fmt.Errorf("history record %q: %t, %w", key, ok, err)
		}
		e.history.Apply([]pipeline.HistoryUpdate{read})
	}
	if e.waiting == nil {
		e.waiting = pipeline.Waiting{}
	}
	e.waiting.Update(out.Waiting, e.w)
	return nil
}

// settle does with the state what the plan says.
func (e *coreEngine) settle(partition int32, part *corePartition, o *pipeline.PartitionOutcome) error {
	part.since = part.applied
	for _, entry := range o.Outbox {
		s := rig.Side{Topic: sourceTopic, Partition: partition, Offset: entry.Offset, Reason: string(entry.Reason)}
		if entry.Reason == event.ReasonLate {
			e.late = append(e.late, s)
		} else {
			e.dead = append(e.dead, s)
		}
	}
	part.deltas = slices.DeleteFunc(part.deltas, func(d delta.Delta) bool {
		return slices.Contains(o.Drop, d.Slice) ||
			slices.ContainsFunc(o.Trim, func(t delta.Trim) bool { return t.Slice == d.Slice && d.To <= t.To }) ||
			slices.ContainsFunc(o.Replace, func(r delta.Replace) bool { return slices.Contains(r.Remove, d.Ref) })
	})
	for _, r := range o.Replace {
		part.deltas = append(part.deltas, r.With...)
	}
	part.totals = part.totals.Add(o.Counts)
	part.final += o.Final
	t := part.totals
	if got := part.final + o.Open + t.Late + t.Dead + t.Skipped + t.Filtered + t.Unassigned; got != t.In {
		return fmt.Errorf("plan %d, partition %d: %d records in, but the parts add up to %d: %+v, final %d, open %d", e.plan, partition, t.In, got, t, part.final, o.Open)
	}
	for _, d := range part.deltas {
		if d.Slice.Window < delta.FirstReserved && d.From < o.ReplayFrom {
			return fmt.Errorf("plan %d, partition %d: a delta from %d stays, but a replay would begin at %d", e.plan, partition, d.From, o.ReplayFrom)
		}
	}
	return nil
}

// sort orders the deltas as stores do.
func (p *corePartition) sort() {
	slices.SortStableFunc(p.deltas, func(a, b delta.Delta) int {
		return cmp.Or(cmp.Compare(a.Slice.Window, b.Slice.Window), cmp.Compare(a.Slice.Start, b.Slice.Start),
			cmp.Compare(a.From, b.From), cmp.Compare(a.Bucket, b.Bucket))
	})
}

func (p *corePartition) refs() []delta.Ref {
	p.sort()
	out := make([]delta.Ref, len(p.deltas))
	for i := range p.deltas {
		out[i] = p.deltas[i].Ref
	}
	return out
}

func (p *corePartition) slices() []delta.SliceInfo {
	p.sort()
	var out []delta.SliceInfo
	for _, d := range p.deltas {
		if n := len(out); n == 0 || out[n-1].ID != d.Slice {
			out = append(out, delta.SliceInfo{ID: d.Slice})
		}
		s := &out[len(out)-1]
		s.Deltas, s.MaxFrom = s.Deltas+1, d.From
	}
	return out
}

func (e *coreEngine) sides() (late, dead []rig.Side, err error) { return e.late, e.dead, nil }

func (e *coreEngine) finish() error { return nil }
