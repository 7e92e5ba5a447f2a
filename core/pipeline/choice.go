package pipeline

import (
	"github.com/llm-auto-optimizer/tidemark/core/delta"
	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/window"
)

// choose finds the windows that the plan emits, from the index alone.
func (f *Firing) choose() {
	var buf []window.Window
	for pi := range f.parts {
		part := &f.parts[pi]
		for _, r := range part.Refs {
			if r.Slice.Window >= delta.FirstReserved || r.To > part.Upto {
				continue
			}
			d, fw := &f.p.Windows[r.Slice.Window], &f.windows[r.Slice.Window]
			if d.Kind == window.KindSession {
				fw.sessions = fw.sessions || f.sessionDue(d, r.Slice, r.From >= part.Since) || f.sessionPanes(part, r)
				continue
			}
			s, hold := d.SliceAt(r.Slice.Start), f.p.hold(d)
			for _, w := range d.Closing(buf[:0], s, f.turn.Prev.Add(-hold), f.turn.W.Add(-hold)) {
				fw.onTime[w] = struct{}{}
			}
			if f.wantsEarly(part, r) {
				for _, w := range d.Closing(buf[:0], s, f.turn.W, event.MaxTime) {
					fw.early[w] = struct{}{}
				}
			}
			if r.From < part.Since || d.FirstEnd(s) > f.turn.Prev || f.p.Trigger.FinalOnly {
				continue
			}
			for _, w := range d.Closing(buf[:0], s, f.turn.Prev.Add(-d.Lateness), f.turn.Prev) {
				fw.late[w] = struct{}{}
			}
		}
	}
	f.choosePending()
	var starts []event.Time
	for i := range f.windows {
		fw, d := &f.windows[i], &f.p.Windows[i]
		for _, set := range []map[window.Window]struct{}{fw.onTime, fw.late, fw.early} {
			for w := range set {
				starts = d.Slices(starts[:0], w)
				for _, s := range starts {
					if fw.tables[s] == nil {
						fw.tables[s] = f.newTable()
					}
				}
			}
		}
	}
	f.chooseCompactions()
}

// wantsEarly reports whether a delta may make its open windows go out: it has records that came after they did so last; or changes
// what waits in them, where that is kept.
func (f *Firing) wantsEarly(part *firingPart, r delta.Ref) bool {
	if !f.p.Trigger.Early() {
		return false
	}
	if f.p.Trigger.Count > 0 && f.turn.Recount {
		return true
	}
	gained := r.From >= part.Since
	return f.turn.Early && r.To > part.EarlySince || gained && (f.p.Trigger.Count > 0 || f.p.discards())
}

// choosePending adds the windows in which records wait that came before the last plan.
func (f *Firing) choosePending() {
	if !f.turn.Early || !f.p.discards() {
		return
	}
	for i := range f.windows {
		fw := &f.windows[i]
		f.turn.History.pending(i, func(w window.Window) {
			switch {
			case f.p.Windows[i].Kind == window.KindSession:
				fw.sessions = true
			case w.End > f.turn.W:
				fw.early[w] = struct{}{}
			}
		})
	}
}

// sessionPanes reports whether the sessions have to be read for the sake of panes, not of their ends: some may go out early, or a
// session that has gone out may be open again, which only a record before the last watermark can do.
func (f *Firing) sessionPanes(part *firingPart, r delta.Ref) bool {
	if !f.p.KeepsHistory() {
		return false
	}
	gained := r.From >= part.Since
	return f.wantsEarly(part, r) || gained && (r.Slice.Start < f.turn.Prev || f.p.discards() && f.turn.History.has(int(r.Slice.Window)))
}

// sessionDue reports whether a session with records in a bucket may close, refire or become final with this plan. A bucket
// tells only when its sessions could end at the earliest and, unless they go on in another bucket, at the latest.
func (f *Firing) sessionDue(d *window.Definition, id delta.SliceID, gained bool) bool {
	b, hold := d.SliceAt(id.Start), f.p.hold(d)
	first, last := d.FirstEnd(b), d.LatestEnd(b, event.MaxTime)
	closes := first.Add(hold) <= f.turn.W && last.Add(hold) > f.turn.Prev
	final := first.Add(d.Lateness) <= f.turn.W // also of an earlier plan: a replay brings back what was final, and it must not count as open
	return closes || final || gained && first <= f.turn.Prev
}

// finality says what a plan does with a slice of an aligned window.
type finality uint8

const (
	stays        finality = iota
	becomesFinal          // with this plan: its records go from open to final in the ledger
	wasFinal              // since an earlier plan whose purge was lost, or undone by a replay: nothing is counted
)

func (f *Firing) finality(d *window.Definition, id delta.SliceID) finality {
	return f.finalityAt(d.LastEnd(d.SliceAt(id.Start)).Add(d.Lateness))
}

func (f *Firing) finalityAt(end event.Time) finality {
	switch {
	case end > f.turn.W:
		return stays
	case end > f.turn.Prev:
		return becomesFinal
	}
	return wasFinal
}
