package pipeline

import (
	"bytes"
	"maps"

	"github.com/llm-auto-optimizer/tidemark/core/aggregate"
	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/core/window"
)

// remembersAll reports whether every pane has an entry in the history. Else only those have one that the state does not tell of.
func (p *Pipeline) remembersAll() bool {
	return p.Trigger.Early() || p.Trigger.OnChange || p.Accumulation == spec.Retracting
}

func (p *Pipeline) discards() bool { return p.Accumulation == spec.Discarding }

// hold is how long after its end a window goes out.
func (p *Pipeline) hold(d *window.Definition) event.Span {
	if p.Trigger.FinalOnly {
		return d.Lateness
	}
	return 0
}

// Held is how long after its end a window goes out, at most.
func (p *Pipeline) Held() event.Span {
	held := event.Span(0)
	for i := range p.Windows {
		held = max(held, p.hold(&p.Windows[i]))
	}
	return held
}

// EarlyDue reports whether early panes by time are due: the wall clock has passed a multiple of the interval since the last plan,
// so that nothing but the plan's own time has to be kept.
func (p *Pipeline) EarlyDue(last, now event.Time) bool {
	every := p.Trigger.EarlyEvery
	return every > 0 && last.Floor(every, 0) < now.Floor(every, 0)
}

// Waiting has for each open window the largest number of records of a group that no pane has, as of the plan that read it last. It
// tells whether a trigger that counts can fire, without reading anything.
type Waiting map[paneWindow]int64

// Update takes what a plan has read, and forgets the windows that have ended at its watermark.
func (w Waiting) Update(read Waiting, watermark event.Time) {
	maps.Copy(w, read)
	maps.DeleteFunc(w, func(at paneWindow, _ int64) bool { return at.Window != (window.Window{}) && at.End <= watermark })
}

// Most is the largest number.
func (w Waiting) Most() int64 {
	most := int64(0)
	for _, n := range w {
		most = max(most, n)
	}
	return most
}

// candidate is a window of a group that may go out with a plan.
type candidate struct {
	PaneID
	timing  Timing
	sent    Sent           // what has gone out
	known   bool           // sent is in the history as it is here
	moved   []PaneID       // entries of the history that this one takes the place of
	row     *aggregate.Row // what a pane would hold
	records int64          // of the window in all
	gained  bool           // since the plan before
}

// news is the number of records that no pane has.
func (f *Firing) news(c *candidate) int64 {
	if f.p.discards() {
		return f.p.composite.Records(c.row)
	}
	return c.records - c.sent.Records
}

func (f *Firing) goesOut(c *candidate) bool {
	switch c.timing {
	case TimingOnTime:
		return !f.p.discards() || f.p.composite.Records(c.row) > 0
	case TimingLate:
		return c.gained
	case TimingEarly:
		n := f.news(c)
		return n > 0 && (f.turn.Early || f.p.Trigger.Count > 0 && n >= f.p.Trigger.Count)
	}
	return false
}

// settle emits a candidate or leaves it for later, and notes what has to be remembered of it.
func (f *Firing) settle(panes []Pane, c *candidate) []Pane {
	if !f.goesOut(c) {
		f.leave(c)
		return panes
	}
	var results []byte
	if f.p.Trigger.OnChange || f.p.Accumulation == spec.Retracting {
		results = f.p.composite.AppendResults(nil, c.row)
	}
	next := c.sent
	next.Records, next.Pending = c.records, nil
	if f.p.Trigger.OnChange {
		if c.timing != TimingOnTime && c.unmoved() && bytes.Equal(results, c.sent.Results) {
			f.remember(c, next)
			return panes
		}
		next.Results = results
	}
	panes = append(panes, f.pane(c))
	next.Next++
	next.Out = nil
	if !f.p.discards() {
		o := Out{Window: c.Window, Index: c.sent.Next}
		if f.p.Accumulation == spec.Retracting {
			o.Results = results
		}
		next.Out = []Out{o}
	}
	if next.Next > 1 || f.p.remembersAll() {
		f.remember(c, next)
	}
	return panes
}

// unmoved reports whether the last pane was of the same window: a session that has grown is another one, whatever its results are.
func (c *candidate) unmoved() bool { return len(c.sent.Out) == 1 && c.sent.Out[0].Window == c.Window }

// leave keeps what has to be known of a candidate that does not go out.
func (f *Firing) leave(c *candidate) {
	if c.timing == TimingEarly {
		f.left(c)
	}
	next := c.sent
	if f.p.discards() && c.gained {
		if next.Pending = nil; f.p.composite.Records(c.row) > 0 {
			next.Pending = f.stored(c.row)
		}
		// Without early panes an open window has sent nothing, and the state has all of it.
		if c.timing == TimingEarly && !f.p.Trigger.Early() && next.Next == 0 {
			return
		}
		f.remember(c, next)
		return
	}
	if !c.known && next.Next > 0 && c.timing == TimingEarly { // open again: the state will not tell any more what has gone out
		f.remember(c, next)
	}
}

// left notes how many records wait in a window for the trigger to count.
func (f *Firing) left(c *candidate) {
	at := paneWindow{def: c.Def}
	if f.p.Windows[c.Def].Kind != window.KindSession {
		at.Window = c.Window
	}
	f.waiting[at] = max(f.waiting[at], f.news(c))
}

// remember puts an entry into the history, unless the window is final with this plan.
func (f *Firing) remember(c *candidate, next Sent) {
	if !f.p.KeepsHistory() || f.finalityAt(c.End.Add(f.p.Windows[c.Def].Lateness)) != stays {
		return
	}
	for _, id := range c.moved {
		if id != c.PaneID {
			f.updates = append(f.updates, HistoryUpdate{PaneID: id})
		}
	}
	f.updates = append(f.updates, HistoryUpdate{c.PaneID, &next})
}

// alignedPanes merges the slices of a window and emits what is to go out of it.
func (f *Firing) alignedPanes(panes []Pane, def int, w window.Window, timing Timing) []Pane {
	d, fw := &f.p.Windows[def], &f.windows[def]
	starts := d.Slices(nil, w)
	t := fw.tables[starts[0]]
	if len(starts) > 1 {
		t = f.newTable()
		for _, s := range starts {
			t.merge(f.p.composite, fw.tables[s])
		}
	}
	if timing == TimingEarly {
		f.waiting[paneWindow{def, w}] = 0
	}
	for k, key := range t.keys {
		c := candidate{PaneID: PaneID{def, w, key}, timing: timing, row: &t.rows[k], gained: t.gained[k]}
		if f.p.KeepsHistory() {
			if sent := f.turn.History.get(c.PaneID); sent != nil {
				c.sent, c.known = *sent, true
			} else if w.End <= f.turn.Prev && t.had[k] {
				c.sent = firstSent(w)
			}
		}
		if f.p.discards() {
			c.sent.Out = nil
			c.row = f.unsent(&c, w.End.Add(f.p.hold(d)) <= f.turn.Prev, &t.rows[k], &t.news[k])
		} else {
			c.records = f.p.composite.Records(c.row)
		}
		panes = f.settle(panes, &c)
	}
	return panes
}

// firstSent is what a window has sent that had records when it closed, and has no entry in the history.
func firstSent(w window.Window) Sent { return Sent{Next: 1, Out: []Out{{Window: w}}} }

// unsent merges the records of an aligned window that no pane has: old and news are those that the plan before had, and had not.
// An entry in the history has what waits of the old ones. Without one, a window that has closed has sent all of them, and an open
// one nothing.
func (f *Firing) unsent(c *candidate, closed bool, old, news *aggregate.Row) *aggregate.Row {
	switch {
	case c.known:
		if c.sent.Pending == nil {
			return news
		}
		row := f.pendingRow(c.sent.Pending)
		f.p.composite.Merge(row, news)
		return row
	case closed:
		return news
	}
	row := &aggregate.Row{} // the table may be that of other windows, too
	f.p.composite.Reset(row)
	f.p.composite.Merge(row, old)
	f.p.composite.Merge(row, news)
	return row
}

// stored returns the stored form of a row that others may read: writing one may change it.
func (f *Firing) stored(r *aggregate.Row) []byte {
	row := &aggregate.Row{}
	f.p.composite.Reset(row)
	f.p.composite.Merge(row, r)
	return f.p.composite.AppendBinary(nil, row)
}

// pendingRow decodes a row of the history, which was looked at when it was read.
func (f *Firing) pendingRow(b []byte) *aggregate.Row {
	row := &aggregate.Row{}
	f.p.composite.Reset(row)
	if _, err := f.p.composite.MergeBinary(row, b); err != nil {
		panic("pipeline: a row of the pane history was sound when it was read: " + err.Error())
	}
	return row
}
