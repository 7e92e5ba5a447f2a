package schedule

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/llm-auto-optimizer/tidemark/localdev/internal/template"
)

// Schedule is one schedule at work.
type Schedule struct {
	Name       string
	Function   string
	Expression Expression
	Input      string // JSON; "": the event of Scheduler
	MaxRetries int    // of an invocation that was not taken
	MaxAge     time.Duration
}

// FromTemplate reads a schedule of a template.
func FromTemplate(t *template.Schedule) (Schedule, error) {
	e, err := Parse(t.Expression, t.TimeZone)
	if err != nil {
		return Schedule{}, fmt.Errorf("schedule %s: %w", t.Name, err)
	}
	if t.Input != "" && !strings.Contains(t.Input, "<aws.scheduler.") && !json.Valid([]byte(t.Input)) {
		return Schedule{}, fmt.Errorf("schedule %s: Input is not JSON", t.Name)
	}
	return Schedule{
		Name: t.Name, Function: t.Function, Expression: e, Input: t.Input, MaxRetries: t.MaxRetries, MaxAge: time.Duration(t.MaxAge) * time.Second,
	}, nil
}

// Pauses between tries of an invocation that was not taken.
const (
	leastPause = time.Second
	mostPause  = time.Minute
)

// Run fires schedules until ctx ends, from now on. send hands an asynchronous invocation over; where it fails it is tried again as the
// schedule's retry policy says. A rate is due at once, and then at its distance. Times that passed while this machine slept are
// made up for by one invocation, the latest.
func Run(ctx context.Context, schedules []Schedule, send func(function string, payload []byte) error, logger *slog.Logger) {
	var all sync.WaitGroup
	for i := range schedules {
		all.Go(func() { schedules[i].run(ctx, send, logger) })
	}
	all.Wait()
}

func (s *Schedule) run(ctx context.Context, send func(string, []byte) error, logger *slog.Logger) {
	start := time.Now()
	last := start.Add(-time.Nanosecond)
	for {
		at, ok := s.Expression.Next(start, last)
		if !ok || !wait(ctx, time.Until(at)) {
			return
		}
		for { // what has passed meanwhile
			next, ok := s.Expression.Next(start, at)
			if !ok || next.After(time.Now()) {
				break
			}
			at = next
		}
		last = at
		s.fire(ctx, at, send, logger)
	}
}

// fire invokes once.
func (s *Schedule) fire(ctx context.Context, at time.Time, send func(string, []byte) error, logger *slog.Logger) {
	id, pause := newID(), leastPause
	for try := 1; ; try++ {
		err := send(s.Function, s.payload(at, id, try))
		if err == nil {
			return
		}
		if try > s.MaxRetries || time.Since(at)+pause > s.MaxAge {
			logger.Warn("scheduled invocation dropped", "schedule", s.Name, "function", s.Function, "due", at, "tries", try, "error", err)
			return
		}
		if !wait(ctx, pause) {
			return
		}
		pause = min(2*pause, mostPause)
	}
}

// wait returns false if ctx ended.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails: see crypto/rand
	return hex.EncodeToString(b[:])
}

// payload is the Input with its context attributes, or the event that Scheduler sends without one.
func (s *Schedule) payload(at time.Time, id string, try int) []byte {
	arn, due := "arn:aws:scheduler:us-east-1:123456789012:schedule/default/"+s.Name, at.UTC().Format(time.RFC3339)
	if s.Input != "" {
		return []byte(strings.NewReplacer("<aws.scheduler.schedule-arn>", arn, "<aws.scheduler.scheduled-time>", due,
			"<aws.scheduler.execution-id>", id, "<aws.scheduler.attempt-number>", strconv.Itoa(try)).Replace(s.Input))
	}
	out, _ := json.Marshal(struct { // texts
		Version    string   `json:"version"`
		ID         string   `json:"id"`
		DetailType string   `json:"detail-type"`
		Source     string   `json:"source"`
		Account    string   `json:"account"`
		Time       string   `json:"time"`
		Region     string   `json:"region"`
		Resources  []string `json:"resources"`
		Detail     string   `json:"detail"`
	}{"0", id, "Scheduled Event", "aws.scheduler", "123456789012", due, "us-east-1", []string{arn}, "{}"})
	return out
}
