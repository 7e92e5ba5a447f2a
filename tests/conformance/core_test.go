package conformance

import (
	"cmp"
	"errors"
	"slices"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/watermark"
	"github.com/llm-auto-optimizer/tidemark/core/window"
)

// unsupported returns the member of the spec that asks for something the project does not offer; empty: it offers all.
func (s *Spec) unsupported() string {
	switch s.Type {
	case "tumbling", "sliding", "session", "cumulate", "global", "":
	default:
		return "type " + s.Type
	}
	switch {
	case len(s.unknown) > 0:
		return s.unknown[0]
	case s.SessionTouch != "" && s.SessionTouch != "separate":
		return "session_touch " + s.SessionTouch
	case s.SessionLateness != "" && s.SessionLateness != "time":
		return "session_lateness " + s.SessionLateness
	case s.Watermark != nil:
		return s.Watermark.unsupported()
	}
	return ""
}

func (w *Watermark) unsupported() string {
	if len(w.unknown) > 0 {
		return "watermark " + w.unknown[0]
	}
	return ""
}

// skipUnsupported ends a test whose vector asks for something the project does not offer.
func skipUnsupported(t *testing.T, v *Vector) {
	t.Helper()
	if field := v.unsupported(); field != "" {
		t.Skip("unsupported: " + field)
	}
}

// definition translates a supported spec, which need not be legal.
func (s *Spec) definition() window.Definition {
	d := window.Definition{
		Size: span(s.Size), Slide: span(s.Slide), Step: span(s.Step), Offset: span(s.Offset), Gap: span(s.Gap), Max: span(s.MaxSession),
		Lateness: span(s.Lateness), AllowGaps: s.AllowGaps,
	}
	switch s.Type {
	case "tumbling":
		d.Kind = window.KindTumbling
	case "sliding":
		d.Kind = window.KindSliding
	case "session":
		d.Kind = window.KindSession
	case "cumulate":
		d.Kind = window.KindCumulate
	case "global":
		d.Kind = window.KindGlobal
	}
	return d
}

// policy translates the watermark block; on_all_idle is max where the vector is silent.
func (w *Watermark) policy() watermark.Policy {
	p := watermark.Policy{Bound: span(w.Bound), IdleTimeout: span(w.IdleTimeout), AllIdle: watermark.Max}
	p.CatchUp = w.OnResume == "catch_up"
	if w.OnAllIdle != "" {
		p.AllIdle = watermark.AllIdle(w.OnAllIdle)
	}
	return p
}

// span returns the number, 0 if there is none.
func span(n *int64) event.Span {
	if n == nil {
		return 0
	}
	return event.Span(*n)
}

// check reports how actual differs from what the vector expects.
func check(t *testing.T, v *Vector, actual map[string]any) {
	t.Helper()
	for _, diff := range match(v.Expect, actual) {
		t.Error(diff)
	}
	if t.Failed() {
		t.Logf("source: %s; note: %s", v.Source, v.Note)
	}
}

func runAssign(t *testing.T, v Vector) {
	t.Helper()
	skipUnsupported(t, &v)
	d := v.Spec.definition()
	if err := d.Validate(); err != nil {
		t.Fatal(err)
	}
	all := []any{}
	for _, at := range v.Timestamps {
		ws := d.Windows(nil, event.Time(at))
		all = append(all, pairs(ws))
		checkSlice(t, &d, event.Time(at), ws)
	}
	check(t, &v, map[string]any{"assignments": all})
}

// checkSlice checks that the slice in which a record is stored belongs to exactly the windows that the record is in.
func checkSlice(t *testing.T, d *window.Definition, at event.Time, ws []window.Window) {
	t.Helper()
	s, ok := d.Slice(at)
	if ok != (len(ws) > 0) || !s.Contains(at) {
		t.Errorf("Slice(%d) = %v, %v; the time is in %d windows", at, s, ok, len(ws))
	}
	if d.Kind == window.KindSession || !ok {
		return
	}
	if of := d.WindowsOf(nil, s); !slices.Equal(of, ws) {
		t.Errorf("the slice of %d is in windows %v, the time in %v", at, of, ws)
	}
}

// pairs writes windows as the vectors do.
func pairs(ws []window.Window) []any {
	out := []any{}
	for _, w := range ws {
		out = append(out, []any{int64(w.Start), int64(w.End)})
	}
	return out
}

func runInvalidSpec(t *testing.T, v Vector) {
	t.Helper()
	skipUnsupported(t, &v)
	d := v.Spec.definition()
	problems := []error{d.Validate()}
	if w := v.Spec.Watermark; w != nil {
		problems = append(problems, w.policy().Validate())
		if w.IdleTimeout != nil {
			problems = append(problems, watermark.CheckIdleTimeout(span(w.IdleTimeout)))
		}
	}
	var code any // vectors name the first of several problems
	if all := codes(errors.Join(problems...)); len(all) > 0 {
		code = all[0]
	}
	check(t, &v, map[string]any{"error": code})
}

// codes returns what is wrong according to a joined error, one code a problem.
func codes(err error) []string {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var out []string
		for _, e := range joined.Unwrap() {
			out = append(out, codes(e)...)
		}
		return out
	}
	if p, ok := errors.AsType[window.InvalidError](err); ok {
		return []string{p.Field}
	}
	if p, ok := errors.AsType[watermark.InvalidError](err); ok {
		return []string{p.Field}
	}
	return []string{"unknown problem: " + err.Error()}
}

// gapOfIntervals reads a half-open interval as the session of a gap of 1 ms that has records up to its last millisecond. Two
// of them overlap iff these sessions are one.
const gapOfIntervals event.Span = 1

func fragments(v *Vector) []window.Fragment {
	var out []window.Fragment
	for _, w := range v.Windows {
		out = append(out, window.Fragment{First: event.Time(w[0]), Last: event.Time(w[1]).Add(-gapOfIntervals)})
	}
	return out
}

// sessions merges the fragments of intervals, in any order.
func sessions(fs []window.Fragment) []window.Fragment {
	sorted := slices.SortedFunc(slices.Values(fs), func(a, b window.Fragment) int { return cmp.Compare(a.First, b.First) })
	var out []window.Fragment
	window.MergeFragments(sorted, func(f *window.Fragment) window.Fragment { return *f }, gapOfIntervals,
		func(_, _ int, whole window.Fragment) { out = append(out, whole) })
	return out
}

// intervals turns fragments back into what they came from.
func intervals(fs []window.Fragment) []any {
	var ws []window.Window
	for _, f := range fs {
		ws = append(ws, f.Window(gapOfIntervals))
	}
	return pairs(ws)
}

func runMergeWindows(t *testing.T, v Vector) {
	t.Helper()
	skipUnsupported(t, &v)
	check(t, &v, map[string]any{"merged": intervals(sessions(fragments(&v)))})
}

func runMergeSequence(t *testing.T, v Vector) {
	t.Helper()
	skipUnsupported(t, &v)
	var apart, results []window.Fragment
	for _, added := range fragments(&v) {
		apart = sessions(append(apart, added))
		for _, whole := range apart {
			if whole.First <= added.First && added.Last <= whole.Last {
				results = append(results, whole)
			}
		}
	}
	check(t, &v, map[string]any{"results": intervals(results), "final": intervals(apart)})
}
