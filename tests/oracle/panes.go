package oracle

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"

	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/core/window"
	"github.com/llm-auto-optimizer/tidemark/tests/rig"
)

// paneKey names one pane of a group, as others refer to it.
type paneKey struct {
	window, key string
	window.Window
	index int64
}

// PaneProblems says how a whole history of panes differs from what it must come to, where everything that was published is of a plan
// that was committed, all of one pipeline. Each pane replaces, or takes back, panes that went out before and that no other has
// replaced; what nobody has replaced in the end are the panes that there must be. Where panes discard, they add up to those.
func PaneProblems(want []Pane, got []rig.Result, mode spec.Accumulation) []string {
	last, out := Standing(got, mode)
	if mode == spec.Discarding {
		return append(out, Sums(want, got)...)
	}
	return append(out, Problems(want, last, false)...)
}

// Standing follows the panes of one pipeline from the first on. It returns those that no other has replaced, and says where one
// replaces what did not go out, or its index is not the next one. Where panes discard, none is replaced. Panes without results are
// of a pipeline before, and are not taken back.
func Standing(got []rig.Result, mode spec.Accumulation) (last []rig.Result, out []string) {
	got = slices.Clone(got)
	slices.SortStableFunc(got, func(a, b rig.Result) int { return cmp.Compare(a.Pane.Revision, b.Pane.Revision) })
	problem := func(r *rig.Result, format string, args ...any) {
		out = append(out, fmt.Sprintf("%s [%d, %d) %q, revision %d, pane %d: ", r.Window.Name, r.Window.StartMS, r.Window.EndMS, r.Key, r.Pane.Revision, r.Pane.Index)+
			fmt.Sprintf(format, args...))
	}
	standing := map[paneKey]*rig.Result{}
	for i := range got {
		r := &got[i]
		at := paneKey{r.Window.Name, r.Key, window.Window{Start: r.Window.StartMS, End: r.Window.EndMS}, r.Pane.Index}
		replaced, known := int64(-1), 0
		for _, o := range r.Pane.Supersedes {
			before := paneKey{at.window, at.key, window.Window{Start: o.StartMS, End: o.EndMS}, o.Index}
			old := standing[before]
			if old == nil {
				problem(r, "it replaces pane %d of [%d, %d), which did not go out, or is replaced already", o.Index, o.StartMS, o.EndMS)
				continue
			}
			if before.Start < at.Start || before.End > at.End {
				problem(r, "it replaces a pane of another window, [%d, %d)", o.StartMS, o.EndMS)
			}
			replaced = max(replaced, o.Index)
			if old.Results != nil {
				known++
			}
			if mode == spec.Retracting && old.Results != nil && !slices.ContainsFunc(r.Pane.Retracts, func(x rig.Out) bool {
				return x.StartMS == o.StartMS && x.EndMS == o.EndMS && x.Index == o.Index && reflect.DeepEqual(x.Results, old.Results)
			}) {
				problem(r, "it does not take back the results that pane %d of [%d, %d) had", o.Index, o.StartMS, o.EndMS)
			}
			delete(standing, before)
		}
		if mode == spec.Discarding {
			for _, old := range standing { // none is deleted
				if old.Window.Name == at.window && old.Key == at.key && partOf(old, r) {
					replaced = max(replaced, old.Pane.Index)
				}
			}
			if len(r.Pane.Supersedes) > 0 {
				problem(r, "it replaces panes, where panes discard")
			}
		}
		if r.Pane.Index != replaced+1 {
			problem(r, "the largest index before it is %d", replaced)
		}
		if mode == spec.Retracting && len(r.Pane.Retracts) != known {
			problem(r, "it replaces %d panes and takes back %d", known, len(r.Pane.Retracts))
		}
		if standing[at] != nil {
			problem(r, "it went out before")
		}
		standing[at] = r
	}
	last = make([]rig.Result, 0, len(standing))
	for _, r := range standing {
		last = append(last, *r)
	}
	return last, out
}

// partOf reports whether a pane is of a window that another one's is, or has become part of: of sessions, which grow.
func partOf(old, r *rig.Result) bool {
	if r.Window.Type != window.KindSession.String() {
		return old.Window.StartMS == r.Window.StartMS && old.Window.EndMS == r.Window.EndMS
	}
	return old.Window.StartMS >= r.Window.StartMS && old.Window.EndMS <= r.Window.EndMS
}

// Sums compares what panes that discard add up to: of sessions, all that lie in one that there must be.
func Sums(want []Pane, got []rig.Result) []string {
	var out []string
	used := make([]bool, len(got))
	for _, p := range want {
		n, sum, _ := Moments(p.Values)
		count, total, indexes := 0.0, 0.0, map[int64]int{}
		for i := range got {
			r := &got[i]
			if r.Window.Name != p.Window || r.Key != p.Key || r.Window.StartMS < p.Start || r.Window.EndMS > p.End || r.Window.Type != "session" && r.Window.EndMS != p.End {
				continue
			}
			used[i] = true
			c, _ := r.Results["count"].(float64)
			s, _ := r.Results["sum"].(float64)
			count, total = count+c, total+s
			if indexes[r.Pane.Index]++; c == 0 {
				out = append(out, fmt.Sprintf("%s: pane %d is empty", p.ID(), r.Pane.Index))
			}
			if r.Window.Type != "session" && indexes[r.Pane.Index] > 1 {
				out = append(out, fmt.Sprintf("%s: two panes %d", p.ID(), r.Pane.Index))
			}
		}
		if count != float64(n) || total != sum {
			out = append(out, fmt.Sprintf("%s: count is %g, want %d: panes that discard add up to the sum %g, want %g", p.ID(), count, n, total, sum))
		}
	}
	for i := range got {
		if !used[i] {
			out = append(out, fmt.Sprintf("superfluous %s [%d, %d) %q: %v", got[i].Window.Name, got[i].Window.StartMS, got[i].Window.EndMS, got[i].Key, got[i].Results))
		}
	}
	return out
}
