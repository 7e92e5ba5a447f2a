package recompute

import (
	"bytes"
	"fmt"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/window"
)

// session is a run of members, each before the gaps of all those before it have passed.
type session struct {
	window.Window
	members []member
}

// longestGap is the longest that a record can have.
func (c *comparison) longestGap() event.Span { return max(c.def.Gap, c.def.MaxGap) }

// sessions compares the sessions that the members of the present key make up: all records between two times at which all gaps have passed, of which some may not
// have been taken, so that they are one session or several.
func (c *comparison) sessions() error {
	members, end := c.members, c.reach
	c.members, c.bytes, c.reach = nil, 0, event.MinTime
	if len(members) == 0 {
		return nil
	}
	first := members[0].time
	if err := c.upTo(window.Window{Start: first, End: event.MinTime}); err != nil {
		return err
	}
	var got, history []*pane // the newest of each window, and all
	for c.panes.next != nil && c.panes.next.Start < end && bytes.Equal(c.panes.key, c.key) {
		all, err := c.all(c.panes.next.Window)
		if err != nil {
			return err
		}
		got, history = append(got, all[len(all)-1]), append(history, all...)
	}
	c.followSessions(history)
	if c.before != event.MinTime && first.Sub(c.before) < c.longestGap() || end > c.until {
		return nil // it may have begun before what was read, or go on behind it
	}
	c.decide(members, event.MaxTime, func(taken []member) []*Difference {
		return c.split(taken, got)
	})
	return nil
}

// split compares the sessions of the members that were taken with the panes.
func (c *comparison) split(taken []member, got []*pane) []*Difference {
	var all []session
	for _, m := range taken {
		n := len(all) - 1
		if n < 0 || m.time >= all[n].End {
			all = append(all, session{Window: window.Window{Start: m.time, End: event.MinTime}})
			n++
		}
		all[n].End = max(all[n].End, min(m.time.Add(m.gap), c.cut(m.time)))
		all[n].members = append(all[n].members, m)
	}
	var out []*Difference
	matched := make([]bool, len(got))
	for _, s := range all {
		if s.End.Add(c.held()) > c.past.watermark {
			continue // still open
		}
		var its *pane
		for i, p := range got {
			if p.Window == s.Window {
				its, matched[i] = p, true
			}
		}
		out = append(out, c.one(s.Window, s.members, its)...)
	}
	for i, p := range got {
		if matched[i] || p.End > c.past.watermark || c.replaced(p, all) {
			continue
		}
		d := c.difference(Superfluous, c.key, p.Window)
		d.At, d.Note = &p.at, fmt.Sprintf("revision %d; its records make up other sessions", p.revision)
		d.Records = c.ranges(taken)
		out = append(out, d)
	}
	return out
}

// cut is the next point in time at which every session ends, where there are such points.
func (c *comparison) cut(t event.Time) event.Time {
	if c.def.Max == 0 {
		return event.MaxTime
	}
	return t.Floor(c.def.Max, c.def.Offset).Add(c.def.Max)
}

// replaced reports whether a pane is that of a session which a late record has made part of a larger one.
func (c *comparison) replaced(p *pane, all []session) bool {
	if c.def.Lateness == 0 && !c.pipe.Trigger.Early() {
		return false
	}
	for _, s := range all {
		if s.Start <= p.Start && p.End <= s.End && s.Window != p.Window {
			return true
		}
	}
	return false
}
