package watermark

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
)

func TestHolderInWords(t *testing.T) {
	for _, c := range []struct {
		h    Holder
		want string
	}{
		{Holder{Reason: ReasonNone}, "no partitions"},
		{Holder{Reason: ReasonAllIdle}, "all partitions idle"},
		{Holder{tp(2), ReasonSlowest, 12_000, 0}, "events/2 (slowest, 12s behind)"},
		{Holder{tp(0), ReasonSlowest, 0, 0}, "events/0 (slowest)"},
		{Holder{tp(1), ReasonLagging, 1500, 340}, "events/1 (lagging, 340 offsets to go, 1.5s behind)"},
		{Holder{tp(1), ReasonNoRecordYet, 0, 0}, "events/1 (no record yet)"},
		{Holder{tp(3), ReasonOpenTransaction, 0, 1}, "events/3 (open transaction, 1 offset to go)"},
		{Holder{tp(3), ReasonFence, 5000, 0}, "events/3 (raised by an unfinished plan)"},
		{Holder{tp(0), ReasonInterval, 0, 0}, "events/0 (waits for the interval)"},
	} {
		if got := c.h.String(); got != c.want {
			t.Errorf("%+v: got %q, want %q", c.h, got, c.want)
		}
	}
}

func TestDecisionInWords(t *testing.T) {
	for _, c := range []struct {
		d    Decision
		want string
	}{
		{
			Decision{Watermark: 60_000, Moved: true, Holder: Holder{tp(2), ReasonSlowest, 12_000, 0}, Idle: []event.TopicPartition{tp(0), tp(1)}},
			"watermark 1970-01-01T00:01:00Z moved, held by events/2 (slowest, 12s behind); idle: events/0, events/1",
		},
		{
			Decision{Watermark: none, Waiting: true, Holder: Holder{tp(1), ReasonLagging, 0, 7}},
			"watermark -inf waits, held by events/1 (lagging, 7 offsets to go)",
		},
		{
			Decision{Watermark: 0, Holder: Holder{Reason: ReasonAllIdle}, Idle: []event.TopicPartition{tp(0)}},
			"watermark 1970-01-01T00:00:00Z stays, held by all partitions idle; idle: events/0",
		},
	} {
		if got := c.d.String(); got != c.want {
			t.Errorf("got  %q\nwant %q", got, c.want)
		}
	}
}

func TestValidateNamesEveryProblem(t *testing.T) {
	for _, c := range []struct {
		name string
		p    Policy
		want []string
	}{
		{"the zero policy is legal", Policy{}, nil},
		{"a usual one", Policy{Bound: 30_000, IdleTimeout: 60_000, AllIdle: Advance, Periodic: true, Interval: 10_000}, nil},
		{"a negative bound", Policy{Bound: -1}, []string{FieldBound}},
		{"a negative timeout", Policy{IdleTimeout: -1}, []string{FieldIdleTimeout}},
		{"periodic without an interval", Policy{Periodic: true}, []string{FieldInterval}},
		{"an unknown word", Policy{AllIdle: "wait"}, []string{FieldAllIdle}},
		{"all at once", Policy{Bound: maxSpan + 1, IdleTimeout: maxSpan + 1, AllIdle: "x", Periodic: true, Interval: maxSpan + 1}, []string{FieldBound, FieldIdleTimeout, FieldInterval, FieldAllIdle}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, fields(c.p.Validate())); diff != "" {
				t.Errorf("fields (-want +got):\n%s", diff)
			}
		})
	}
}

// fields returns the fields of the problems that err joins.
func fields(err error) []string {
	var out []string
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			out = append(out, fields(e)...)
		}
		return out
	}
	if p, ok := errors.AsType[InvalidError](err); ok {
		out = append(out, p.Field)
	}
	return out
}

func TestAnIdleTimeoutThatIsAskedForMustBeAboveZero(t *testing.T) {
	for timeout, want := range map[event.Span][]string{0: {FieldIdleTimeout}, -5: {FieldIdleTimeout}, 1: nil, maxSpan: nil, maxSpan + 1: {FieldIdleTimeout}} {
		if diff := cmp.Diff(want, fields(CheckIdleTimeout(timeout))); diff != "" {
			t.Errorf("%d ms (-want +got):\n%s", timeout, diff)
		}
	}
}
