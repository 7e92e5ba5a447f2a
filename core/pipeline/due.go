package pipeline

import (
	"github.com/llm-auto-optimizer/tidemark/core/delta"
	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/window"
)

// SlotStatus is what is known of a partition's state without reading it.
type SlotStatus struct {
	Since int64 // o_p(n-1)
	// EarlySince is where the log was when open windows went out last by time; 0: never.
	EarlySince int64
	MaxTime    event.Time
	Slices     []delta.SliceInfo
}

// Due says why a plan would be made.
type Due struct {
	Closes  bool // a window closes (of sessions: may close)
	Late    bool // a fired window gained records (of sessions: may have)
	Outbox  bool // late or failed records wait to be published
	Compact bool // a slice has more than CompactAfter deltas
}

// Now reports whether the plan is made at once; what is only W moving, or a compaction, waits for the emit interval.
func (d Due) Now() bool { return d.Closes || d.Late || d.Outbox }

// Due looks at what a plan that takes the watermark from prev to w would do.
func (p *Pipeline) Due(prev, w event.Time, slots []SlotStatus) Due {
	var due Due
	var buf [1]window.Window
	for i := range slots {
		for _, s := range slots[i].Slices {
			gained := s.MaxFrom >= slots[i].Since
			if s.ID.Window >= delta.FirstReserved {
				due.Outbox = due.Outbox || gained && s.ID.Window == delta.ListOutbox
				continue
			}
			due.Compact = due.Compact || s.Deltas > p.CompactAfter
			d := &p.Windows[s.ID.Window]
			slice, hold := d.SliceAt(s.ID.Start), p.hold(d)
			if d.Kind == window.KindSession {
				first, last := d.FirstEnd(slice), d.LatestEnd(slice, event.MaxTime)
				due.Closes = due.Closes || first.Add(hold) <= w && last.Add(hold) > prev
				due.Late = due.Late || gained && first <= prev && !p.Trigger.FinalOnly
				continue
			}
			if d.FirstEnd(slice).Add(hold) <= w {
				due.Closes = due.Closes || len(d.Closing(buf[:0], slice, prev.Add(-hold), w.Add(-hold))) > 0
			}
			if gained && d.FirstEnd(slice) <= prev && !p.Trigger.FinalOnly {
				due.Late = due.Late || len(d.Closing(buf[:0], slice, prev.Add(-d.Lateness), prev)) > 0
			}
		}
	}
	return due
}

// DueEarly reports whether early panes may be due at the watermark w: tick says that it is time for those by time, and waiting is the
// largest number of records of a group that no pane has yet, with all that came since the last plan.
func (p *Pipeline) DueEarly(w event.Time, slots []SlotStatus, tick bool, waiting int64) bool {
	if !tick && (p.Trigger.Count == 0 || waiting < p.Trigger.Count) {
		return false
	}
	for i := range slots {
		since := slots[i].Since
		if tick {
			since = min(since, slots[i].EarlySince)
		}
		for _, s := range slots[i].Slices {
			if s.ID.Window >= delta.FirstReserved || s.MaxFrom < since {
				continue
			}
			d := &p.Windows[s.ID.Window]
			slice := d.SliceAt(s.ID.Start)
			if d.Kind == window.KindSession && d.LatestEnd(slice, event.MaxTime) > w || d.Kind != window.KindSession && d.LastEnd(slice) > w {
				return true
			}
		}
	}
	return false
}

// OpenSlices counts the slices (of sessions: buckets) that are not final at w, each once however many partitions have it.
func (p *Pipeline) OpenSlices(w event.Time, slots []SlotStatus) int {
	open := map[delta.SliceID]struct{}{}
	for i := range slots {
		for _, s := range slots[i].Slices {
			if s.ID.Window < delta.FirstReserved && p.lastFinal(s.ID, slots[i].MaxTime) > w {
				open[s.ID] = struct{}{}
			}
		}
	}
	return len(open)
}

// CloseAll returns the watermark that makes everything stored final: the largest end + lateness of an open window. It is
// event.MinTime if nothing is open.
func (p *Pipeline) CloseAll(w event.Time, slots []SlotStatus) event.Time {
	out := event.MinTime
	for i := range slots {
		for _, s := range slots[i].Slices {
			if s.ID.Window >= delta.FirstReserved {
				continue
			}
			if end := p.lastFinal(s.ID, slots[i].MaxTime); end > w {
				out = max(out, end)
			}
		}
	}
	return out
}

// lastFinal is when a slice is final. A session bucket of a partition is so at the latest with its last record.
func (p *Pipeline) lastFinal(id delta.SliceID, maxTime event.Time) event.Time {
	d := &p.Windows[id.Window]
	s := d.SliceAt(id.Start)
	if d.Kind == window.KindSession {
		return d.LatestEnd(s, maxTime).Add(d.Lateness)
	}
	return d.LastEnd(s).Add(d.Lateness)
}
