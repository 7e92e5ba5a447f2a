package window

import (
	"errors"
	"fmt"

	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// MaxSpan is the longest size, slide, gap or lateness: 100 years. It keeps sums of a few spans far from overflow.
const MaxSpan event.Span = 36525 * 24 * 60 * 60 * 1000

// MaxSlices is the largest number of slices that one window may be cut into.
const MaxSlices = 10_000

// The Field of an InvalidError: what is wrong. FieldSlideAboveSize is a slide that leaves holes nobody asked for.
const (
	FieldKind           = "kind"
	FieldSize           = "size"
	FieldSlide          = "slide"
	FieldSlideAboveSize = "slide>size"
	FieldOffset         = "offset"
	FieldStep           = "step"
	FieldGap            = "gap"
	FieldMax            = "max"
	FieldMaxGap         = "max_gap"
	FieldLateness       = "lateness"
)

// InvalidError is one thing wrong with a Definition.
type InvalidError struct {
	Field string // one of the Field constants
	Msg   string // the rule and the value that breaks it
}

// Error returns "FIELD: MSG".
func (p InvalidError) Error() string { return p.Field + ": " + p.Msg }

// Problems lists everything that makes d illegal; none if it is legal. Fields that d's kind does not use are not looked at.
func (d *Definition) Problems() []InvalidError {
	var ps []InvalidError
	add := func(field, format string, args ...any) {
		ps = append(ps, InvalidError{Field: field, Msg: fmt.Sprintf(format, args...)})
	}
	positive := func(field string, s event.Span) bool {
		switch {
		case s <= 0:
			add(field, "must be above 0 ms, got %d ms", s)
		case s > MaxSpan:
			add(field, "must be at most 100 years, got %d ms", s)
		default:
			return true
		}
		return false
	}
	within := func(what string, step event.Span) {
		if d.Offset <= -step || d.Offset >= step {
			add(FieldOffset, "must be less than the %s (%d ms) in either direction, got %d ms", what, step, d.Offset)
		}
	}
	switch d.Kind {
	case KindTumbling:
		if positive(FieldSize, d.Size) {
			within("size", d.Size)
		}
	case KindSliding:
		size, slide := positive(FieldSize, d.Size), positive(FieldSlide, d.Slide)
		if slide {
			within("slide", d.Slide)
		}
		if size && slide {
			if d.Slide > d.Size && !d.AllowGaps {
				add(FieldSlideAboveSize, "slide (%d ms) must not be above size (%d ms) unless allow_gaps is set", d.Slide, d.Size)
			}
			if n := d.slicesPerWindow(); n > MaxSlices {
				add(FieldSlide, "cuts a window into %d slices, at most %d: size %d ms, slide %d ms", n, MaxSlices, d.Size, d.Slide)
			}
		}
	case KindCumulate:
		size, step := positive(FieldSize, d.Size), positive(FieldStep, d.Step)
		if size {
			within("size", d.Size)
		}
		switch {
		case !size || !step:
		case d.Size%d.Step != 0:
			add(FieldStep, "must divide size (%d ms), got %d ms", d.Size, d.Step)
		case d.slicesPerWindow() > MaxSlices:
			add(FieldStep, "cuts a window into %d slices, at most %d: size %d ms, step %d ms", d.slicesPerWindow(), MaxSlices, d.Size, d.Step)
		}
	case KindSession:
		positive(FieldGap, d.Gap)
		if d.Max != 0 && positive(FieldMax, d.Max) {
			within("max", d.Max)
		}
		if d.GapField != "" && positive(FieldMaxGap, d.MaxGap) && d.MaxGap < d.Gap {
			add(FieldMaxGap, "must not be below gap (%d ms), got %d ms", d.Gap, d.MaxGap)
		}
	case KindGlobal:
	default:
		add(FieldKind, "must be tumbling, sliding, cumulate, session or global, got %v", d.Kind)
	}
	if d.Lateness < 0 || d.Lateness > MaxSpan {
		add(FieldLateness, "must be from 0 ms to 100 years, got %d ms", d.Lateness)
	}
	return ps
}

// Validate returns nil if d is legal, else an error that joins all Problems, each an InvalidError prefixed with the definition's name.
func (d *Definition) Validate() error {
	var errs []error
	for _, p := range d.Problems() {
		errs = append(errs, fmt.Errorf("window %q: %w", d.Name, p))
	}
	return errors.Join(errs...)
}
