// Package fire is the scheduled function: it fires the windows that the watermark has closed, and publishes results, late
// records, dead letters and the ledger together with the offsets they stand for, in one Kafka transaction per plan.
package fire

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/core/watermark"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// Defaults of Deps.
const (
	DefaultTick   = time.Second
	DefaultMargin = 2 * time.Second
)

// daily is the age at which a plan is made although nothing happened: a broker forgets the offsets of a group without members.
const daily = 24 * time.Hour

var (
	// ErrHalted is wrapped by the errors that trying again cannot mend: somebody has to decide. The text says what.
	ErrHalted = errors.New("fire: halted")
	// errAgain starts the plan again at its first step.
	errAgain = errors.New("fire: begin the plan again")
	// errLater leaves a plan that was begun early to the pipeline's own turn.
	errLater = errors.New("fire: later")
)

// LowFunc decides the watermark. It is a seam for tests and for closing everything; the product uses watermark.Low.
type LowFunc func(p watermark.Policy, parts []watermark.Partition, last, now event.Time) watermark.Decision

// Deps is what the handler works with. Low, NewToken, Tick and Margin have defaults.
type Deps struct {
	App       *spec.App
	Pipelines []*pipeline.Pipeline
	Store     statestore.Store
	Log       kafkaio.Log
	Publisher kafkaio.Publisher
	Clock     func() event.Time
	Logger    *slog.Logger
	Low       LowFunc
	NewToken  func() statestore.Token
	Tick      time.Duration
	Margin    time.Duration      // kept back before the deadline of an invocation
	Signals   statestore.Signals // shared with ingest, or nil: then only ticks look
	OnTick    func([]Report)
}

// Handler is the function. It is not safe for concurrent use: two invocations in one process would fence each other.
type Handler struct {
	Deps
	runners []*runner
	signals string // the name of the signals
}

// New returns a handler.
func New(d Deps) *Handler {
	if d.Low == nil {
		d.Low = watermark.Low
	}
	if d.NewToken == nil {
		d.NewToken = randomToken
	}
	if d.Tick == 0 {
		d.Tick = DefaultTick
	}
	if d.Margin == 0 {
		d.Margin = DefaultMargin
	}
	h := &Handler{Deps: d, signals: apply.SignalName(d.Pipelines)}
	for _, p := range d.Pipelines {
		h.runners = append(h.runners, newRunner(&h.Deps, p))
	}
	findAlike(h.runners)
	return h
}

func randomToken() (t statestore.Token) {
	rand.Read(t[:])
	return t
}

// Report is what one run over a pipeline found and did.
type Report struct {
	Pipeline  string
	Plan      int64      // the newest committed plan
	Watermark event.Time // its watermark
	Decision  watermark.Decision
	HeldBy    string // who holds the watermark back, and why
	Lag       int64  // records in the log that are not folded yet
	Open      int    // slices that are not final
	Bytes     int64  // of all state, as the store keeps it: statestore.SliceInfo
	Made      bool   // this run committed a plan
	Panes     int
	Late      int
	Dead      int
	Reasons   map[event.Reason]int // of Dead: nil where there are none
	Quiet     bool                 // nothing is open, due or lagging
	Err       error

	At          event.Time      // when the newest committed plan was made
	Counted     pipeline.Counts // records that plans committed by this run counted: each record of the log once
	Final       int64           // records that went final with these plans
	Unaccounted int64           // records that the ledger of these plans has lost: always 0
	Repaired    int64           // records that this run read from the log and folded
	Began       time.Time       // by the wall clock
	Took        time.Duration   // until the plan was committed, or it was clear that none is due
}

// Run looks once at every pipeline and makes the plans that are due.
func (h *Handler) Run(ctx context.Context, nudge apply.Nudge) []Report {
	return h.runAll(ctx, request{nudge: nudge})
}

// Flush folds everything up to the given end offsets (up to the end of the log where there is none) and closes every window:
// the watermark goes to the largest end + lateness of an open window.
func (h *Handler) Flush(ctx context.Context, ends map[event.TopicPartition]int64) []Report {
	return h.runAll(ctx, request{closeAll: true, ends: ends})
}

func (h *Handler) runAll(ctx context.Context, req request) []Report {
	reports := make([]Report, 0, len(h.runners))
	for _, r := range h.runners {
		r.said = nil
	}
	prepare(ctx, h.runners, req)
	for _, r := range h.runners {
		reports = append(reports, r.report(ctx, req))
	}
	h.tell(ctx, reports, map[string]bool{})
	return reports
}

// Close ends the sessions. The handler can be used again; it then opens new ones.
func (h *Handler) Close() {
	for _, r := range h.runners {
		r.closeSession()
	}
}
