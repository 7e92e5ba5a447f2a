// Package console holds what is known of a pipeline at work, and shows it in a browser.
package console

import (
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/fire"
)

// Snapshot is a run at one moment, as /api/status shows it.
type Snapshot struct {
	App           string            `json:"app"`
	Mode          string            `json:"mode"`           // embedded or kafka
	UptimeSeconds float64           `json:"uptime_seconds"` // since the board was made
	Produced      int64             `json:"produced"`       // records that this run has written to source topics
	Records       int64             `json:"records"`        // records that ingest has applied
	Rate          float64           `json:"rate"`           // of Records, a second, over the last seconds
	Lag           int64             `json:"lag"`            // offsets that are not folded yet, of the pipeline that is furthest behind
	Open          int               `json:"open_windows"`   // slices that are not final
	Plans         int64             `json:"plans"`
	Results       int64             `json:"results"`
	Late          int64             `json:"late"`
	DeadLetters   int64             `json:"dead_letters"`
	Pipelines     []Pipeline        `json:"pipelines"`
	Partitions    []Partition       `json:"partitions"`
	LastResults   []json.RawMessage `json:"last_results"` // values of result records, newest first
}

// Pipeline is what the last look of fire at a pipeline found.
type Pipeline struct {
	Name        string `json:"name"`
	Watermark   string `json:"watermark"`    // RFC 3339, or -inf
	WatermarkMS *int64 `json:"watermark_ms"` // null before the first plan
	HeldBy      string `json:"held_by"`      // who holds the watermark back
	Reason      string `json:"reason"`
	Plan        int64  `json:"plan"`
	Open        int    `json:"open_windows"`
	Lag         int64  `json:"lag"`
	Error       string `json:"error,omitempty"`
}

// Partition is how far a source partition is folded, in the pipeline that is furthest behind.
type Partition struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Applied   int64  `json:"applied"`
	End       int64  `json:"end"`
	Lag       int64  `json:"lag"`
}

// keepResults is how many results a snapshot shows.
const keepResults = 20

// rateOver is the number of whole seconds that the rate is taken over.
const rateOver = 5

// Board gathers what happens in a run. It is safe for concurrent use.
type Board struct {
	now   func() time.Time
	begun time.Time

	mu      sync.Mutex
	s       Snapshot
	seconds [rateOver + 1]struct{ second, records int64 }

	invocations ring[Invocation]
	logs        ring[Log]
}

// NewBoard returns a board for an app; mode says where it runs. now is the clock.
func NewBoard(app *spec.App, mode string, now func() time.Time) *Board {
	b := &Board{now: now, begun: now(), invocations: ring[Invocation]{most: keepInvocations}, logs: ring[Log]{most: keepLogs}, s: Snapshot{App: app.Name, Mode: mode, Partitions: []Partition{}, LastResults: []json.RawMessage{}}}
	for i := range app.Pipelines {
		b.s.Pipelines = append(b.s.Pipelines, Pipeline{Name: app.Pipelines[i].Name, Watermark: event.MinTime.String()})
	}
	return b
}

// Produced counts records written to source topics.
func (b *Board) Produced(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.s.Produced += int64(n)
}

// Applied counts records that ingest has applied.
func (b *Board) Applied(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.s.Records += int64(n)
	second := b.now().Unix()
	at := &b.seconds[second%int64(len(b.seconds))]
	if at.second != second {
		at.second, at.records = second, 0
	}
	at.records += int64(n)
}

// Reports takes what one look of fire at all pipelines found.
func (b *Board) Reports(reports []fire.Report) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range reports {
		r := &reports[i]
		if r.Made {
			b.s.Plans++
			b.s.Results += int64(r.Panes)
			b.s.Late += int64(r.Late)
			b.s.DeadLetters += int64(r.Dead)
		}
		at := slices.IndexFunc(b.s.Pipelines, func(p Pipeline) bool { return p.Name == r.Pipeline })
		if at < 0 {
			continue
		}
		p := &b.s.Pipelines[at]
		if r.Err != nil {
			p.Error = r.Err.Error()
			continue // what else the report says may be missing
		}
		*p = Pipeline{
			Name: r.Pipeline, Watermark: r.Watermark.String(), Reason: string(r.Decision.Holder.Reason), Plan: r.Plan, Open: r.Open, Lag: r.Lag,
		}
		if p.Reason != "" { // a look that ended early has decided nothing
			p.HeldBy = r.Decision.Holder.String()
		}
		if r.Watermark != event.MinTime {
			ms := int64(r.Watermark)
			p.WatermarkMS = &ms
		}
	}
}

// Partitions takes how far the source partitions are.
func (b *Board) Partitions(parts []Partition) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.s.Partitions = parts
	b.s.Lag = 0
	for _, p := range parts {
		b.s.Lag += p.Lag
	}
}

// Published takes the value of a result record.
func (b *Board) Published(value []byte) {
	if !json.Valid(value) {
		return // the topic is shared with something else
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	keep := b.s.LastResults[:min(len(b.s.LastResults), keepResults-1)]
	b.s.LastResults = append([]json.RawMessage{slices.Clone(value)}, keep...)
}

// Snapshot returns the run as it is now. The caller owns it.
func (b *Board) Snapshot() Snapshot {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.s
	s.Pipelines, s.Partitions, s.LastResults = slices.Clone(s.Pipelines), slices.Clone(s.Partitions), slices.Clone(s.LastResults)
	for i := range s.Pipelines {
		s.Open += s.Pipelines[i].Open
	}
	now := b.now()
	s.UptimeSeconds = now.Sub(b.begun).Seconds()
	s.Rate = b.rate(now)
	return s
}

// rate counts whole seconds only, so that it does not jump while one passes. The lock is held.
func (b *Board) rate(now time.Time) float64 {
	current, n := now.Unix(), int64(0)
	seconds := min(rateOver, current-b.begun.Unix())
	if seconds == 0 {
		return 0
	}
	for _, at := range b.seconds {
		if at.second < current && at.second >= current-seconds {
			n += at.records
		}
	}
	return float64(n) / float64(seconds)
}
