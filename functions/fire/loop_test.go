package fire_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/fire"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio/memlog"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/memstore"
)

// looping is a firer in a bubble of time, and what its looks found.
type looping struct {
	*bench
	signals statestore.Signals
	looks   []time.Duration // since the start
	name    string
}

// newLoop makes a firer of a pipeline with an open window, so that it goes on ticking.
func newLoop(t *testing.T, signals statestore.Signals, tick time.Duration, each func(n int)) *looping {
	t.Helper()
	l := &looping{bench: newBench(t, tumbling, 1, memlog.Options{}), signals: signals}
	l.run(t)
	l.ingest(t, 0, 1)
	l.name = apply.SignalName([]*pipeline.Pipeline{l.pipe})
	start := time.Now()
	l.fire = fire.New(fire.Deps{
		App: l.app, Pipelines: []*pipeline.Pipeline{l.pipe}, Store: l.store, Log: l.log, Publisher: l.log, Logger: slog.New(slog.DiscardHandler),
		Clock: func() event.Time { return l.now }, Tick: tick, Signals: signals,
		OnTick: func([]fire.Report) {
			l.looks = append(l.looks, time.Since(start))
			if each != nil {
				each(len(l.looks))
			}
		},
	})
	return l
}

// invoke runs one invocation with a deadline.
func (l *looping) invoke(t *testing.T, timeout time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	if _, err := l.fire.Invoke(ctx, []byte(`{}`)); err != nil {
		t.Fatal(err)
	}
}

func TestAFirerThatIsAskedLooksAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signals := &memstore.Signals{}
		l := newLoop(t, signals, 10*time.Second, nil)
		time.AfterFunc(3*time.Second, func() {
			if held, err := signals.Held(t.Context(), l.name); !held || err != nil {
				t.Errorf("a firer at work has not said so: %v", err)
			}
			if _, err := signals.Post(t.Context(), l.name, []byte(`{}`), apply.AskFor); err != nil {
				t.Error(err)
			}
		})
		l.invoke(t, 17*time.Second)
		// At once, asked after 3 s, a tick later; 2 s of the 17 are kept back.
		if n := len(l.looks); n != 3 || l.looks[0] != 0 || l.looks[1] > 3*time.Second+100*time.Millisecond || l.looks[2] != l.looks[1]+10*time.Second {
			t.Errorf("looks at %v", l.looks)
		}
		if held, err := signals.Held(t.Context(), l.name); held || err != nil {
			t.Errorf("a firer that has ended still has its mark: %v", err)
		}
	})
}

// The next minute's invocation finds it gone, however much is open.
func TestAnInvocationEndsBeforeItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLoop(t, &memstore.Signals{}, time.Second, nil)
		began := time.Now()
		l.invoke(t, time.Minute)
		if took := time.Since(began); took != time.Minute-fire.DefaultMargin || len(l.looks) < 58 {
			t.Errorf("it took %s, and looked %d times", took, len(l.looks))
		}
	})
}

func TestAFirerHearsWhoAskedBeforeItStarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signals := &memstore.Signals{}
		l := newLoop(t, signals, time.Second, nil)
		message, err := json.Marshal(apply.Nudge{Genesis: []apply.First{{Topic: "events", Offset: 1}}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := signals.Post(t.Context(), l.name, message, apply.AskFor); err != nil {
			t.Fatal(err)
		}
		l.invoke(t, 3500*time.Millisecond)
		if _, ok, err := signals.Take(t.Context(), l.name); ok || err != nil {
			t.Errorf("the message is still there: %v", err)
		}
		if len(l.looks) != 2 {
			t.Errorf("looks at %v", l.looks)
		}
	})
}

// TestWhoAsksWhileAFirerEndsIsHeard posts at the last quiet look: ingest sees the mark then, and does not invoke.
func TestWhoAsksWhileAFirerEndsIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signals := &memstore.Signals{}
		var l *looping
		l = newLoop(t, signals, time.Second, func(n int) {
			if n != 4 { // the first closes the window, and the three after it find nothing
				return
			}
			l.ingest(t, 0, 105, 130) // the window [100, 110) is due
			if posted, err := signals.Post(t.Context(), l.name, []byte(`{}`), apply.AskFor); !posted || err != nil {
				t.Errorf("posted %t, %v", posted, err)
			}
		})
		l.ingest(t, 0, 10, 100)
		l.now = 1 << 40
		l.app.Consumer.GroupID = "none"
		l.invoke(t, time.Minute)
		if len(l.looks) < 5 || l.looks[4] != l.looks[3] {
			t.Errorf("looks at %v", l.looks)
		}
	})
}

// deaf fails at everything.
type deaf struct{}

var errDeaf = errors.New("deaf")

func (deaf) Post(context.Context, string, []byte, time.Duration) (bool, error) { return false, errDeaf }

func (deaf) Take(context.Context, string) ([]byte, bool, error) { return nil, false, errDeaf }
func (deaf) Hold(context.Context, string, time.Duration) error  { return errDeaf }
func (deaf) Held(context.Context, string) (bool, error)         { return false, errDeaf }
func (deaf) Release(context.Context, string) error              { return errDeaf }

func TestWithoutItsSignalsAFirerTicks(t *testing.T) {
	for name, signals := range map[string]statestore.Signals{"none": nil, "deaf": deaf{}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLoop(t, signals, time.Second, nil)
				l.invoke(t, 4500*time.Millisecond)
				if len(l.looks) != 3 {
					t.Errorf("looks at %v", l.looks)
				}
			})
		})
	}
}
