package handlers

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/ingest"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/memstore"
	"github.com/llm-auto-optimizer/tidemark/tests/rig"
)

// unheard are signals that fail where it is told.
type unheard struct {
	statestore.Signals
	err error
}

func (u *unheard) Post(ctx context.Context, name string, message []byte, ttl time.Duration) (bool, error) {
	if u.err != nil {
		return false, u.err
	}
	return u.Signals.Post(ctx, name, message, ttl)
}

// TestFireIsAskedWhenAWindowMayBeClosed follows what one partition's batches do to whether fire is invoked.
func TestFireIsAskedWhenAWindowMayBeClosed(t *testing.T) {
	w := world(t, "retry", memstore.New())
	signals := &unheard{Signals: &memstore.Signals{}}
	name := apply.SignalName(w.Pipelines)
	nudges := 0
	start := func() *ingest.Handler {
		return ingest.New(ingest.Deps{
			App: w.App, Pipelines: w.Pipelines, Store: w.Store, Log: w.Log, Clock: func() event.Time { return 0 }, Logger: slog.New(slog.DiscardHandler), Signals: signals,
			Nudge: func(context.Context, apply.Nudge) error { nudges++; return nil },
		})
	}
	h := start()
	for _, step := range []struct {
		what    string
		do      func() error
		at      int // event time of a record; windows end at multiples of 10
		invoked int
		waits   bool // a message waits for fire
	}{
		{"the first record of a partition is worth a look", nil, 1, 1, true},
		{"within a window nobody asks", nil, 9, 0, true},
		{"past its end, a message waits already", nil, 10, 0, true},
		{"past the next one, fire has taken it", func() error { _, _, err := signals.Take(t.Context(), name); return err }, 20, 1, true},
		{"fire is at work and will see it", func() error {
			_, _, err := signals.Take(t.Context(), name)
			return errors.Join(err, signals.Hold(t.Context(), name, time.Minute))
		}, 30, 0, true},
		{"an older record", func() error {
			_, _, err := signals.Take(t.Context(), name)
			return errors.Join(err, signals.Release(t.Context(), name))
		}, 11, 0, false},
		{"signals that fail: fire is invoked", func() error { signals.err = errors.New("away"); return nil }, 40, 1, false},
		{"a new process looks once", func() error { signals.err = nil; h = start(); return nil }, 41, 1, true},
	} {
		if step.do != nil {
			if err := step.do(); err != nil {
				t.Fatal(err)
			}
		}
		nudges = 0
		records := produce(t, w, 0, ok(step.at))
		answer, err := h.Invoke(t.Context(), rig.Payload(map[event.TopicPartition][]event.Record{tp(0): records}))
		if err != nil || string(answer) != `{"batchItemFailures":[]}` {
			t.Fatalf("%s: %s, %v", step.what, answer, err)
		}
		if nudges != step.invoked {
			t.Errorf("%s: invoked %d times, want %d", step.what, nudges, step.invoked)
		}
		message, waits, err := signals.Take(t.Context(), name)
		if err != nil || waits != step.waits {
			t.Errorf("%s: a message waits %t, %v; want %t", step.what, waits, err, step.waits)
		}
		if waits {
			if _, err := signals.Signals.Post(t.Context(), name, message, time.Minute); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestNudgesAreAddedUp(t *testing.T) {
	n := apply.Nudge{Genesis: []apply.First{{Topic: "a", Offset: 7}}}
	n.Add(apply.Nudge{TakeOver: true, Genesis: []apply.First{{Topic: "a", Partition: 1, Offset: 3}, {Topic: "a", Offset: 5}, {Topic: "a", Offset: 9}}})
	want := apply.Nudge{TakeOver: true, Genesis: []apply.First{{Topic: "a", Offset: 5}, {Topic: "a", Partition: 1, Offset: 3}}}
	if diff := cmp.Diff(want, n); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
