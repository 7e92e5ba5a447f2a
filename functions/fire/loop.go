package fire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/llm-auto-optimizer/tidemark/functions/apply"
)

// quietTicks is the number of ticks with nothing open, due or lagging after which an invocation ends: the schedule or a nudge
// starts the next.
const quietTicks = 3

const (
	// askEvery is how often a firer that waits for its tick looks whether it was asked.
	askEvery = 100 * time.Millisecond
	// workFor is how long the mark of a firer at work stays if it dies; each tick renews it.
	workFor = 10 * time.Second
)

// Invoke runs until the deadline of the invocation is near, or nothing was to be done for three ticks. The payload is a nudge
// or whatever a schedule sends.
func (h *Handler) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	var nudge apply.Nudge
	if len(payload) > 0 {
		if err := json.Unmarshal(payload, &nudge); err != nil {
			h.Logger.WarnContext(ctx, "payload is no nudge and not a schedule's event; ignored", "error", err)
		}
	}
	whole := ctx
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, end.Add(-h.Margin))
		defer cancel()
	}
	defer h.Close()
	l := loop{Handler: h, failed: map[*runner]error{}, told: map[string]bool{}}
	err := l.run(ctx, nudge)
	h.release(whole)
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]int{"plans": l.made})
}

// loop is one invocation.
type loop struct {
	*Handler
	made   int
	failed map[*runner]error // left to the next invocation: they must not slow down the others
	told   map[string]bool
}

func (l *loop) run(ctx context.Context, nudge apply.Nudge) error {
	for _, r := range l.runners {
		r.told, r.said = false, nil
	}
	l.asked(ctx, &nudge)
	takeOver := nudge.TakeOver
	for quiet := 0; len(l.failed) == 0 || len(l.failed) < len(l.runners); {
		l.hold(ctx)
		if quiet++; !l.tick(ctx, nudge) {
			quiet = 0
		}
		nudge = apply.Nudge{TakeOver: takeOver && len(l.resting()) > 0}
		if quiet >= quietTicks {
			// From here on ingest invokes; who asked before that is heard now.
			if l.release(ctx); !l.asked(ctx, &nudge) {
				break
			}
			quiet = 0
			continue
		}
		if !l.wait(ctx, time.Now().Add(l.Tick), &nudge) {
			break
		}
	}
	errs := slices.Collect(maps.Values(l.failed))
	if takeOver {
		for _, r := range l.resting() {
			errs = append(errs, fmt.Errorf("pipeline %s: it has not taken over yet, for another firer was at work; invoke fire with {\"takeover\": true} again", r.pipe.Name))
		}
	}
	return errors.Join(errs...)
}

// resting returns the pipelines that had ended when they were last looked at, and have not failed.
func (l *loop) resting() []*runner {
	return slices.DeleteFunc(slices.Clone(l.runners), func(r *runner) bool { return !r.rests || l.failed[r] != nil })
}

// tick looks at every pipeline that has not failed, and reports whether there is nothing to do.
func (l *loop) tick(ctx context.Context, nudge apply.Nudge) (quiet bool) {
	quiet = true
	var reports []Report
	live := slices.DeleteFunc(slices.Clone(l.runners), func(r *runner) bool { return l.failed[r] != nil })
	req := request{nudge: nudge}
	prepare(ctx, live, req)
	for _, r := range live {
		rep := r.report(ctx, req)
		reports = append(reports, rep)
		if rep.Made {
			l.made++
		}
		quiet = quiet && rep.Quiet
		if rep.Err != nil && ctx.Err() == nil {
			l.failed[r] = rep.Err
		}
	}
	l.tell(ctx, reports, l.told)
	if l.OnTick != nil {
		l.OnTick(reports)
	}
	return quiet
}

// wait returns true when the time has come for the next look: until, or as soon as somebody asks, and then nudge says for what. It
// returns false when the invocation has to end.
func (l *loop) wait(ctx context.Context, until time.Time, nudge *apply.Nudge) bool {
	for {
		left := time.Until(until)
		pause := left
		if l.Signals != nil {
			pause = min(left, askEvery)
		}
		timer := time.NewTimer(max(pause, 0))
		select {
		case <-ctx.Done():
			timer.Stop()
			return false
		case <-timer.C:
		}
		if pause == left || l.asked(ctx, nudge) {
			return ctx.Err() == nil
		}
	}
}

// asked takes the message that waits, if one does, and adds it to nudge.
func (h *Handler) asked(ctx context.Context, nudge *apply.Nudge) bool {
	if h.Signals == nil {
		return false
	}
	message, ok, err := h.Signals.Take(ctx, h.signals)
	if err != nil {
		h.Logger.DebugContext(ctx, "signals cannot be read; ticks will do", "error", err)
	}
	if err != nil || !ok {
		return false
	}
	var n apply.Nudge
	if err := json.Unmarshal(message, &n); err != nil {
		h.Logger.WarnContext(ctx, "signal is no nudge; it is taken as one that says nothing", "error", err)
	}
	nudge.Add(n)
	return true
}

// hold says that this firer is at work, so that it need not be invoked.
func (h *Handler) hold(ctx context.Context) {
	if h.Signals == nil {
		return
	}
	if err := h.Signals.Hold(ctx, h.signals, workFor+h.Tick); err != nil {
		h.Logger.DebugContext(ctx, "cannot say that fire is at work; ingest will invoke it", "error", err)
	}
}

// release says that it is not any more. If that fails the mark ends by itself.
func (h *Handler) release(ctx context.Context) {
	if h.Signals == nil {
		return
	}
	if err := h.Signals.Release(ctx, h.signals); err != nil {
		h.Logger.DebugContext(ctx, "cannot say that fire has ended", "error", err)
	}
}
