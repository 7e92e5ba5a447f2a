package recompute

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/core/window"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
)

// entry is what is wanted of a ledger record.
type entry struct {
	Plan        int64            `json:"plan"`
	WatermarkMS *int64           `json:"watermark_ms"`
	Timestamp   time.Time        `json:"timestamp"`
	HeldBy      string           `json:"held_by"`
	TakesOver   string           `json:"takes_over"`
	EndedBy     string           `json:"ended_by"`
	Refused     string           `json:"refused"` // no plan, but a part of one
	Partitions  []entryPartition `json:"partitions"`
}

type entryPartition struct {
	Topic      string `json:"topic"`
	Partition  int32  `json:"partition"`
	Offset     int64  `json:"offset"`
	ReplayFrom int64  `json:"replay_from"`
	MaxTSMS    *int64 `json:"max_ts_ms"`
}

func timeOf(ms *int64) event.Time {
	if ms == nil {
		return event.MinTime
	}
	return event.Time(*ms)
}

// step is a prefix of a partition that plans had: it was reached by plan first, whose watermark was from, and the newest plan
// with it had the watermark to.
type step struct {
	offset   int64
	plan     int64
	from, to event.Time
	maxTime  event.Time // largest event time below offset, of the newest plan with it
}

// past is what the plans say of one partition, from its genesis or from where the ledger begins.
type past struct {
	base       int64 // the first offset that these plans judged
	replayFrom int64 // after a hand-over folding begins here, below base
	steps      []step
}

func (p *past) newest() *step { return &p.steps[len(p.steps)-1] }

// judged returns the plan that first had the record at an offset, and the watermark lo of the newest plan with a prefix that ends
// before it. The fence that the record was judged by was not below lo, nor above the plan's: attempts that died in between may have
// raised it. The offset is in [base, newest().offset).
func (p *past) judged(offset int64) (by *step, lo event.Time) {
	i := sort.Search(len(p.steps), func(i int) bool { return p.steps[i].offset > offset })
	if lo = event.MinTime; i > 0 {
		lo = p.steps[i-1].to
	}
	return &p.steps[i], lo
}

// largest returns the largest event time that plans knew below an offset.
func (p *past) largest(offset int64) event.Time {
	t := event.MinTime
	for i := range p.steps {
		if p.steps[i].offset <= offset {
			t = max(t, p.steps[i].maxTime)
		}
	}
	return t
}

// history is what the ledger says of one pipeline: its present life, that is since its group began.
type history struct {
	whole     bool       // it begins with a genesis
	begins    int64      // number of the first plan; of a hand-over: of the last plan of the pipeline before
	beginsW   event.Time // its watermark
	takesOver string     // the group that it took over from
	endedBy   string
	restarted bool // there was an earlier life, whose results have the same numbers
	atOnce    bool // published without transactions

	// Of pipelines with a global window:
	first  int64      // plan that is no genesis; 0: none
	at     event.Time // when the last plan was made
	ticks  []int64    // plans with which windows go out because it is time
	closes int64      // plan that closed everything; 0: none

	plan      int64
	watermark event.Time
	parts     map[event.TopicPartition]*past
}

// readLedger reads all of the ledger for some pipelines, by their groups.
func readLedger(ctx context.Context, log kafkaio.Log, pipes []*pipeline.Pipeline, tell func(done, of int64)) (map[string]*history, error) {
	out := map[string]*history{}
	last := map[string]*entry{}
	timed := map[string]event.Span{} // the interval of early panes, of those with global windows
	for _, p := range pipes {
		out[p.Group()] = nil
		if slices.ContainsFunc(p.Windows, func(d window.Definition) bool { return d.Kind == window.KindGlobal }) {
			timed[p.Group()] = p.Trigger.EarlyEvery
		}
	}
	parts, err := log.Partitions(ctx, []string{spec.LedgerTopic})
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	err = readAll(ctx, log, parts, tell, func(tp event.TopicPartition, r *event.Record) error {
		group := string(r.Key)
		h, ours := out[group]
		if !ours {
			return nil
		}
		e := &entry{}
		if err := json.Unmarshal(r.Value, e); err != nil {
			return fmt.Errorf("ledger %s/%d, offset %d: %w", tp.Topic, tp.Partition, r.Offset, err)
		}
		if e.Refused != "" {
			return nil
		}
		if before := last[group]; h != nil && h.atOnce && before != nil && before.Plan == e.Plan && before.HeldBy != genesis && e.HeldBy != genesis {
			h.undo(before) // without transactions an attempt that died is there as well, and the later one counts
		}
		h = h.take(e)
		if every, ok := timed[group]; ok {
			h.time(e, event.FromGo(e.Timestamp), every)
		}
		out[group] = h
		last[group] = e
		return nil
	})
	return out, err
}

// What held_by says of records that are no plans.
const (
	genesis = "genesis"
	claim   = "claim"
	ended   = "ended"
)

// take adds a record and returns the history, which is another one where a life begins.
func (h *history) take(e *entry) *history {
	begins := e.TakesOver != "" || e.HeldBy == genesis && e.Plan == 0 && (h == nil || h.plan > 0 || h.knows(e))
	if h == nil || begins {
		h = &history{
			whole: begins, begins: e.Plan, beginsW: timeOf(e.WatermarkMS), takesOver: e.TakesOver, restarted: h != nil && e.TakesOver == "",
			watermark: event.MinTime, at: event.MinTime, parts: map[event.TopicPartition]*past{},
		}
	}
	h.plan, h.watermark = e.Plan, max(h.watermark, timeOf(e.WatermarkMS))
	h.endedBy = e.EndedBy
	h.atOnce = h.atOnce || e.HeldBy == claim
	for _, q := range e.Partitions {
		tp := event.TopicPartition{Topic: q.Topic, Partition: q.Partition}
		p := h.parts[tp]
		if p == nil {
			p = &past{base: q.Offset, replayFrom: q.Offset}
			if e.TakesOver != "" {
				p.replayFrom = q.ReplayFrom
			}
			h.parts[tp] = p
		}
		w := timeOf(e.WatermarkMS)
		if n := len(p.steps); n > 0 && p.steps[n-1].offset == q.Offset {
			s := &p.steps[n-1]
			s.to, s.maxTime = max(s.to, w), max(s.maxTime, timeOf(q.MaxTSMS))
			continue
		}
		p.steps = append(p.steps, step{offset: q.Offset, plan: e.Plan, from: w, to: w, maxTime: timeOf(q.MaxTSMS)})
	}
	return h
}

// undo takes back the steps of an attempt that came to nothing.
func (h *history) undo(e *entry) {
	for _, q := range e.Partitions {
		p := h.parts[event.TopicPartition{Topic: q.Topic, Partition: q.Partition}]
		if n := len(p.steps); n > 1 && p.steps[n-1].plan == e.Plan {
			p.steps = p.steps[:n-1]
		}
	}
}

func (h *history) knows(e *entry) bool {
	for _, q := range e.Partitions {
		if h.parts[event.TopicPartition{Topic: q.Topic, Partition: q.Partition}] != nil {
			return true
		}
	}
	return false
}

// readAll reads whole topics, as far as they go now, partition by partition. It waits for transactions that are open there: what
// is behind one, be it of a neighbour in the ledger, is committed all the same.
func readAll(ctx context.Context, log kafkaio.Log, parts []kafkaio.Partition, tell func(done, of int64), fn func(event.TopicPartition, *event.Record) error) error {
	tps := make([]event.TopicPartition, len(parts))
	for i, p := range parts {
		tps[i] = p.TopicPartition
	}
	offsets, err := log.Offsets(ctx, tps)
	if err != nil {
		return err
	}
	var done, of int64
	for _, o := range offsets {
		of += o.End - o.Start
	}
	for _, tp := range tps {
		o := offsets[tp]
		if o.Start >= o.End {
			continue
		}
		at := o.Start
		err := log.Read(ctx, tp, o.Start, o.End, func(records []event.Record, next int64) error {
			for i := range records {
				if err := fn(tp, &records[i]); err != nil {
					return err
				}
			}
			done, at = done+next-at, next
			tell(done, of)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
