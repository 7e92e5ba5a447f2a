package watermark

import (
	"errors"
	"fmt"

	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// The Field of an InvalidError: what is wrong.
const (
	FieldBound       = "bound"
	FieldIdleTimeout = "idle_timeout"
	FieldAllIdle     = "all_idle"
	FieldInterval    = "interval"
)

// maxSpan is the longest bound, timeout or interval: 100 years.
const maxSpan event.Span = 36525 * 24 * 60 * 60 * 1000

// InvalidError is one thing wrong with a Policy.
type InvalidError struct {
	Field string // one of the Field constants
	Msg   string // the rule and the value that breaks it
}

// Error returns "FIELD: MSG".
func (p InvalidError) Error() string { return p.Field + ": " + p.Msg }

// CheckIdleTimeout returns an InvalidError unless timeout is one that can be asked for: above 0, or a partition would be idle as
// soon as it is caught up, and at most 100 years. A Policy that never idles has 0 instead.
func CheckIdleTimeout(timeout event.Span) error {
	if timeout <= 0 || timeout > maxSpan {
		return InvalidError{FieldIdleTimeout, fmt.Sprintf("must be above 0 ms and at most 100 years, got %d ms", timeout)}
	}
	return nil
}

// Validate returns nil if p is legal, else an error that joins every InvalidError.
func (p Policy) Validate() error {
	var errs []error
	if p.Bound < 0 || p.Bound > maxSpan {
		errs = append(errs, InvalidError{FieldBound, fmt.Sprintf("must be from 0 ms to 100 years, got %d ms", p.Bound)})
	}
	if p.IdleTimeout != 0 {
		errs = append(errs, CheckIdleTimeout(p.IdleTimeout))
	}
	if p.Periodic && (p.Interval <= 0 || p.Interval > maxSpan) {
		errs = append(errs, InvalidError{FieldInterval, fmt.Sprintf("must be above 0 ms and at most 100 years, got %d ms", p.Interval)})
	}
	switch p.AllIdle {
	case Advance, Hold, Max, "":
	default:
		errs = append(errs, InvalidError{FieldAllIdle, fmt.Sprintf("must be advance, hold or max, got %q", p.AllIdle)})
	}
	return errors.Join(errs...)
}
