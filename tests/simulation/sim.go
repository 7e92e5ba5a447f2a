// Package simulation runs the real core, ingest and fire over an in-memory log, transaction coordinator and state store, one
// operation at a time, in an order that a seed decides. Between any two operations the world may change: batches come twice, at
// once, too late or never; functions die or sleep and wake up as zombies; answers are lost; slots of the store go back to what
// they were, or disappear. One seed is one run, always the same.
//
// Goroutines of the functions stop before each operation on log and store and wait to be let go. Everything runs in a bubble of
// testing/synctest: when all its goroutines wait, the scheduler chooses what happens next. Time stands still unless the
// scheduler lets it pass.
package simulation

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio/memlog"
	"github.com/llm-auto-optimizer/tidemark/functions/settings"
	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// Result is what a run came to.
type Result struct {
	Problems []Problem
	Steps    int
	Records  int
	Plans    int
	Panes    int
	Kills    int // functions that died
	Faults   int // operations that failed, stores that went back
	Trace    string
}

// Problem is one broken promise.
type Problem struct {
	Kind Kind
	Text string
}

// Kind says which promise.
type Kind string

// The promises that a run checks.
const (
	Lost       Kind = "lost"         // a record is in no pane and no side output, or a pane lacks it
	Doubled    Kind = "doubled"      // a record or a pane is there twice
	LateOpen   Kind = "late_open"    // a record was judged late although a plan of its prefix had not closed its window
	OrderLate  Kind = "order_late"   // a record is late although the log is in order
	Regress    Kind = "regress"      // offsets, watermark or number of a plan went back
	Shrunk     Kind = "shrunk"       // a later revision of a pane has fewer records
	Stuck      Kind = "stuck"        // undisturbed, the windows do not all close
	Unbalanced Kind = "unbalanced"   // the ledger does not add up
	Wrong      Kind = "wrong_result" // a result differs otherwise
)

// Sim is one run. Only the scheduler's goroutine uses it, but for what mu guards and for operations that were let go, of which
// there is one at a time.
type Sim struct {
	sc    Scenario
	r     *rand.Rand
	ctx   context.Context
	start time.Time
	app   *spec.App
	pipes []*pipeline.Pipeline
	log   *memlog.Log

	mu     sync.Mutex
	parked []*parked
	trace  *strings.Builder // nil: none

	actors []*actor           // those that are alive
	named  map[string]*actor  // those of a trace
	others func(*parked) bool // while a trace lets one pipeline fire: what fails of the others
	born   int
	tokens uint64
	cells  map[statestore.Slot]*cell
	raises []raise // requests of raises, for late copies of them
	ends   []func() error
	logs   [][]event.Record // what was appended, by partition
	left   [][]Record       // what is still to be appended
	at     []int            // the trigger's place in logs
	books  []*book          // for each pipeline
	faults int              // left
	result Result
}

// Run plays a scenario. It must be called in a bubble of testing/synctest.
func Run(sc Scenario, traced bool) Result { return run(sc, traced, (*Sim).play) }

func run(sc Scenario, traced bool, play func(*Sim)) Result {
	s := &Sim{
		sc: sc, r: rand.New(rand.NewPCG(sc.Seed, 0x7469646d61726b)), start: time.Now(), cells: map[statestore.Slot]*cell{}, left: slices.Clone(sc.Logs),
		logs: make([][]event.Record, len(sc.Logs)), at: make([]int, len(sc.Logs)), named: map[string]*actor{}, faults: sc.Faults,
	}
	if traced {
		s.trace = &strings.Builder{}
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.ctx = ctx
	defer func() {
		cancel()
		synctest.Wait()
	}()
	if err := s.open(); err != nil {
		s.problem(Stuck, "the run could not begin: %v", err)
		return s.result
	}
	play(s)
	for len(s.actors) > 0 {
		s.actors[0].dead.Store(true)
		s.bury(s.actors[0])
	}
	if len(s.result.Problems) == 0 {
		s.judge()
	}
	if s.trace != nil {
		s.result.Trace = s.trace.String()
	}
	return s.result
}

func (s *Sim) open() (err error) {
	if s.app, err = s.sc.app(); err != nil {
		return err
	}
	if s.pipes, err = settings.Compile(s.app); err != nil {
		return err
	}
	s.log = memlog.New(memlog.Options{NoMarkers: s.sc.NoMarkers, SingleUse: s.sc.SingleUse, NoTransactions: s.sc.AtOnce, Now: s.clock})
	topics := []string{events, spec.LedgerTopic, spec.PanesTopic}
	if s.sc.Clicks > 0 {
		topics = append(topics, clicks)
	}
	for i, p := range s.pipes {
		p.CompactAfter = s.sc.CompactAfter
		s.books = append(s.books, newBook(s.pipes[i], &s.sc.Pipelines[i], len(s.sc.Logs)))
		for _, t := range []string{p.SinkTopic, p.LateTopic, p.DeadLetterTopic} {
			if !slices.Contains(topics, t) {
				topics = append(topics, t)
			}
		}
	}
	for _, t := range topics {
		n := 1
		switch t {
		case events:
			n = len(s.sc.Logs) - s.sc.Clicks
		case clicks:
			n = s.sc.Clicks
		}
		if err := s.log.CreateTopic(t, int32(n)); err != nil {
			return err
		}
	}
	return nil
}

// clock is the wall clock of the run.
func (s *Sim) clock() event.Time { return epoch.Add(event.SpanOf(time.Since(s.start))) }

func (s *Sim) token() (t statestore.Token) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens++
	binary.BigEndian.PutUint64(t[:], s.tokens)
	t[15] = 1 // never what a token made of values could be
	return t
}

func (s *Sim) problem(k Kind, format string, args ...any) {
	s.result.Problems = append(s.result.Problems, Problem{Kind: k, Text: fmt.Sprintf(format, args...)})
	s.say("!! %s: %s", k, s.result.Problems[len(s.result.Problems)-1].Text)
}

func (s *Sim) say(format string, args ...any) {
	if s.trace != nil {
		fmt.Fprintf(s.trace, format+"\n", args...)
	}
}

// logger writes what the functions log into the trace.
func (s *Sim) logger(a *actor) *slog.Logger {
	if s.trace == nil {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(&traceWriter{s: s, name: a.name}, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(_ []string, at slog.Attr) slog.Attr {
			if at.Key == slog.TimeKey || at.Key == slog.LevelKey {
				return slog.Attr{}
			}
			return at
		},
	}))
}

type traceWriter struct {
	s    *Sim
	name string
}

// Write never fails.
func (w *traceWriter) Write(b []byte) (int, error) {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	fmt.Fprintf(w.s.trace, "        %s: %s", w.name, b)
	return len(b), nil
}

// errInjected is the network's, errDead that of a process that is no more.
var (
	errInjected = errors.New("injected fault")
	errDead     = errors.New("the process is dead")
)
