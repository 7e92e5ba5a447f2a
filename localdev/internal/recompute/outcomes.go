package recompute

import (
	"cmp"
	"slices"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/window"
)

// certainty of a member in a window.
const (
	refused = iota
	accepted
	either
)

// takes says whether a window that is final from a watermark on takes a member. A record that the definition took for a later window
// is in every one that was not final yet with the plan before: they share its slice.
func (c *comparison) takes(m *member, final event.Time) int {
	from := refusedFrom(c.def, m.time)
	switch {
	case c.def.Kind == window.KindSession && m.offset < c.sources[m.part].base:
		return accepted // after a hand-over sessions take whatever is read again
	case final <= m.final, from <= m.lo:
		return refused
	case from > m.hi:
		return accepted
	}
	return either
}

// What is tried of one group: fences that attempts which died have raised so often in all, and so many outcomes.
const (
	maxRaises   = 4
	maxOutcomes = 20_000
)

// outcomes yields the sets of members that a window may have taken: one, unless attempts at plans died, whose fences nothing
// tells. The fence of a partition never goes down, so that an outcome is given by where it was raised, and to what. Outcomes of few
// such raises come first, none at all before them. It is false if there may be more outcomes than were tried.
func (c *comparison) outcomes(members []member, final event.Time, try func([]member) (done bool)) bool {
	s := search{members: members, state: make([]int, len(members)), limits: make([]event.Time, len(members)), try: try}
	for i := range members {
		s.limits[i] = refusedFrom(c.def, members[i].time)
		if s.state[i] = c.takes(&members[i], final); s.state[i] == either {
			s.open = append(s.open, i)
		}
	}
	slices.SortFunc(s.open, func(a, b int) int {
		x, y := &members[a], &members[b]
		return cmp.Or(cmp.Compare(x.part, y.part), cmp.Compare(x.offset, y.offset))
	})
	for raises := 0; raises <= len(s.open); raises++ {
		if raises > maxRaises {
			return false
		}
		if s.choose(0, event.MinTime, raises) {
			return s.tried <= maxOutcomes
		}
	}
	return true
}

// search goes through the outcomes of one group.
type search struct {
	members []member
	limits  []event.Time // fences from which on each is refused
	state   []int
	open    []int // indexes of members that may be either, by partition and offset
	try     func([]member) bool
	tried   int
}

// choose decides about the open members from the n-th on, where the fence before it was at least so high and goes up exactly so
// often. It is true if the search is at its end.
func (s *search) choose(n int, fence event.Time, raises int) bool {
	if n == len(s.open) {
		return raises == 0 && s.one()
	}
	i := s.open[n]
	m := &s.members[i]
	if n > 0 && s.members[s.open[n-1]].part != m.part {
		fence = event.MinTime
	}
	fence = max(fence, m.lo)
	if fence > m.hi {
		return false
	}
	s.state[i] = accepted
	if s.limits[i] <= fence {
		s.state[i] = refused
	}
	if s.choose(n+1, fence, raises) {
		return true
	}
	if raises == 0 || s.state[i] == refused {
		return false
	}
	// A raise that does not make the window refuse this member may as well come later.
	s.state[i] = refused
	seen := map[event.Time]bool{}
	for _, k := range s.open[n:] {
		to := s.limits[k]
		if s.members[k].part != m.part || to < s.limits[i] || to > m.hi || seen[to] {
			continue
		}
		seen[to] = true
		if s.choose(n+1, to, raises-1) {
			return true
		}
	}
	return false
}

func (s *search) one() bool {
	if s.tried++; s.tried > maxOutcomes {
		return true
	}
	taken := make([]member, 0, len(s.members))
	for i := range s.members {
		if s.state[i] == accepted {
			taken = append(taken, s.members[i])
		}
	}
	return s.try(taken)
}
