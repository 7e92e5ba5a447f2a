// Package console holds what is known of a pipeline at work, and shows it in a browser. A Board gathers; a Server shows. Whoever
// runs or watches the pipeline feeds the board: see package watch.
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
	Mode          string            `json:"mode"`           // embedded, kafka, or watch
	UptimeSeconds float64           `json:"uptime_seconds"` // since the board was made
	Produced      int64             `json:"produced"`       // records that this run has written to source topics
	Records       int64             `json:"records"`        // records that ingest has applied
	Rate          float64           `json:"rate"`           // of Records, a second, over the last seconds
	ResultRate    float64           `json:"result_rate"`    // of results in the result topics, a second
	Lag           int64             `json:"lag"`            // offsets that are not folded yet, of the pipeline that is furthest behind
	Open          int               `json:"open_windows"`   // slices that are not final
	Plans         int64             `json:"plans"`
	Results       int64             `json:"results"`
	Late          int64             `json:"late"`
	DeadLetters   int64             `json:"dead_letters"`
	Filtered      int64             `json:"filtered"` // of the pipelines
	Pipelines     []Pipeline        `json:"pipelines"`
	Partitions    []Partition       `json:"partitions"`
	LastResults   []json.RawMessage `json:"last_results"` // values of result records, newest first
}

// Pipeline is what the last look at a pipeline found.
type Pipeline struct {
	Name        string `json:"name"`
	Watermark   string `json:"watermark"`    // RFC 3339, or -inf
	WatermarkMS *int64 `json:"watermark_ms"` // null before the first plan
	HeldBy      string `json:"held_by"`      // who holds the watermark back
	Reason      string `json:"reason"`
	Plan        int64  `json:"plan"`
	Open        int    `json:"open_windows"`
	Lag         int64  `json:"lag"`
	In          int64  `json:"in,omitempty"`       // records folded in this run, if the pipeline has a where
	Filtered    int64  `json:"filtered,omitempty"` // of In, those that where holds back
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

// The modes of a board.
const (
	ModeEmbedded = "embedded" // a run in this process, its broker too
	ModeKafka    = "kafka"    // a run in this process, on a Kafka
	ModeWatch    = "watch"    // somebody else runs it: counts come from the topics and the state alone
)

// keepResults is how many results a snapshot shows.
const keepResults = 20

// Board gathers what happens in a run. It is safe for concurrent use, and bounded: of everything the newest is kept.
type Board struct {
	now   func() time.Time
	begun time.Time

	mu          sync.Mutex
	s           Snapshot
	versions    [sections]uint64
	changed     chan struct{} // closed when a section has changed, and made anew
	history     history
	latency     latencies
	invocations ring[Invocation]
	logs        ring[Log]
	explained   explained
	fired       firedWindows
	keys        keys
	rejects     rejects
	ledger      ledger
	troubles    map[string]Trouble // of whoever feeds the board, by what they are about
	watchers    int
	lastLook    time.Time // when somebody last asked for what is expensive
	watched     chan struct{}
}

// NewBoard returns a board for an app; mode says where it runs. now is the clock.
func NewBoard(app *spec.App, mode string, now func() time.Time) *Board {
	b := &Board{
		now: now, begun: now(), changed: make(chan struct{}), watched: make(chan struct{}, 1), troubles: map[string]Trouble{},
		s:           Snapshot{App: app.Name, Mode: mode, Partitions: []Partition{}, LastResults: []json.RawMessage{}, Pipelines: []Pipeline{}},
		invocations: ring[Invocation]{most: keepInvocations}, logs: ring[Log]{most: keepLogs},
		fired: newFiredWindows(), keys: newKeys(app), rejects: newRejects(), ledger: newLedger(), latency: newLatencies(),
	}
	for i := range app.Pipelines {
		b.s.Pipelines = append(b.s.Pipelines, Pipeline{Name: app.Pipelines[i].Name, Watermark: event.MinTime.String()})
	}
	b.explained.rates = map[string]*ring[mark]{}
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
	b.applied(int64(n))
}

// applied counts. The lock is held.
func (b *Board) applied(n int64) {
	b.s.Records += n
	b.history.at(b.now()).records += n
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
			b.latency.plans.add(r.Took)
		}
		p := b.pipeline(r.Pipeline)
		if p == nil {
			continue
		}
		if r.Err != nil {
			p.Error = r.Err.Error()
			continue // what else the report says may be missing
		}
		*p = Pipeline{
			Name: r.Pipeline, Watermark: r.Watermark.String(), Reason: string(r.Decision.Holder.Reason), Plan: r.Plan, Open: r.Open, Lag: r.Lag,
			In: p.In, Filtered: p.Filtered,
		}
		if p.Reason != "" { // a look that ended early has decided nothing
			p.HeldBy = r.Decision.Holder.String()
		}
		if r.Watermark != event.MinTime {
			ms := int64(r.Watermark)
			p.WatermarkMS = &ms
		}
	}
	b.touch(SectionExplain)
}

// Filtered takes how many records a pipeline has folded in this run, and how many of them its where holds back. It never goes back.
func (b *Board) Filtered(pipeline string, in, filtered int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.pipeline(pipeline); p != nil && in >= p.In && filtered >= p.Filtered {
		b.s.Filtered += filtered - p.Filtered
		p.In, p.Filtered = in, filtered
	}
}

// pipeline returns the pipeline with a name, nil if there is none. The lock is held.
func (b *Board) pipeline(name string) *Pipeline {
	at := slices.IndexFunc(b.s.Pipelines, func(p Pipeline) bool { return p.Name == name })
	if at < 0 {
		return nil
	}
	return &b.s.Pipelines[at]
}

// Partitions takes how far the source partitions are.
func (b *Board) Partitions(parts []Partition) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.partitions(parts)
}

func (b *Board) partitions(parts []Partition) {
	b.s.Partitions = parts
	b.s.Lag = 0
	for _, p := range parts {
		b.s.Lag += p.Lag
	}
	b.history.at(b.now()).lag = b.s.Lag
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
	s.Rate = b.history.rate(b.begun, now, func(h *second) int64 { return h.records })
	s.ResultRate = b.history.rate(b.begun, now, func(h *second) int64 { return h.results })
	return s
}
