package pipeline

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/llm-auto-optimizer/tidemark/core/aggregate"
	"github.com/llm-auto-optimizer/tidemark/core/delta"
	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/window"
)

// finishSessions merges the fragments of all partitions into sessions, emits those that close, and decides session by session
// what is final: a bucket of event time knows nothing of the sessions that cross its edges.
func (f *Firing) finishSessions(def int) ([]Pane, error) {
	d, fw := &f.p.Windows[def], &f.windows[def]
	if !fw.sessions {
		return nil, nil
	}
	frags := fw.fragments
	slices.SortStableFunc(frags, func(a, b fragment) int {
		return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.first, b.first), cmp.Compare(a.last, b.last),
			cmp.Compare(a.part, b.part), cmp.Compare(a.ref, b.ref))
	})
	var panes []Pane
	kept := map[partRef][]int{} // fragments that stay, by delta
	f.waiting[paneWindow{def: def}] = 0
	history := f.turn.History.byKey(def)
	for i := 0; i < len(frags); {
		whole, gained, j := frags[i].span(), frags[i].gained, i+1
		for j < len(frags) && frags[j].key == frags[i].key && d.OneSession(whole, frags[j].span()) {
			whole, gained = whole.Merge(frags[j].span()), gained || frags[j].gained
			j++
		}
		w := d.SessionWindow(whole)
		c := candidate{PaneID: PaneID{def, w, frags[i].key}, timing: f.sessionTiming(d, w), gained: gained}
		if f.looksAt(&c, history[c.Key]) {
			if err := f.sessionRow(&c, frags[i:j], history[c.Key]); err != nil {
				return nil, err
			}
			panes = f.settle(panes, &c)
		}
		fin := f.finalityAt(w.End.Add(d.Lateness))
		if fin != stays {
			for _, e := range history[c.Key] {
				if e.Start >= w.Start && e.End <= w.End {
					f.updates = append(f.updates, HistoryUpdate{PaneID: e.PaneID})
				}
			}
		}
		for n := i; n < j; n++ {
			x := &frags[n]
			part := &f.parts[x.part]
			switch fin {
			case stays:
				part.open += x.owned
				part.kept = min(part.kept, part.Refs[x.ref].From)
				at := partRef{x.part, x.ref}
				kept[at] = append(kept[at], n)
			case becomesFinal:
				part.final += x.owned
			case wasFinal: // with a plan of another pipeline's, perhaps: then it is final here with the first plan
				if part.inherited(part.Refs[x.ref]) {
					part.final += x.owned
				}
			}
		}
		i = j
	}
	return panes, f.rewriteBuckets(def, kept)
}

type partRef struct{ part, ref int }

func (f *Firing) sessionTiming(d *window.Definition, w window.Window) Timing {
	switch end := w.End.Add(f.p.hold(d)); {
	case end > f.turn.W:
		return TimingEarly
	case end > f.turn.Prev:
		return TimingOnTime
	}
	return TimingLate
}

// looksAt reports whether a session is a candidate at all: it closes, has gained records since it closed, or is open and may go out
// early, or has gone out before.
func (f *Firing) looksAt(c *candidate, history []HistoryUpdate) bool {
	switch c.timing {
	case TimingOnTime:
		return true
	case TimingLate:
		return c.gained && !f.p.Trigger.FinalOnly
	case TimingEarly:
		return f.p.Trigger.Early() || f.p.KeepsHistory() && c.gained && (len(history) > 0 || c.Start < f.turn.Prev)
	}
	return false
}

// sessionRow finds what a session has sent and what a pane of it would hold. It is made of the sessions that there were with the
// plan before, which the records that this plan has gained have joined.
func (f *Firing) sessionRow(c *candidate, frags []fragment, history []HistoryUpdate) (err error) {
	d := &f.p.Windows[c.Def]
	if !f.p.KeepsHistory() {
		c.row, err = f.mergeFragments(frags)
		return err
	}
	var unsent []fragment
	var pending [][]byte
	entries, implied := 0, false
	for i := 0; i < len(frags); {
		if frags[i].gained {
			unsent, i = append(unsent, frags[i]), i+1
			continue
		}
		whole, old := frags[i].span(), []fragment{frags[i]}
		j := i + 1
		for ; j < len(frags); j++ {
			if frags[j].gained {
				unsent = append(unsent, frags[j])
				continue
			}
			if !d.OneSession(whole, frags[j].span()) {
				break
			}
			whole, old = whole.Merge(frags[j].span()), append(old, frags[j])
		}
		i = j
		before, found := d.SessionWindow(whole), false
		for _, e := range history {
			if e.Start < before.Start || e.End > before.End {
				continue
			}
			found, entries = true, entries+1
			c.moved = append(c.moved, e.PaneID)
			c.join(e.Sent)
			pending = append(pending, e.Sent.Pending)
		}
		switch closed := before.End <= f.turn.Prev; {
		case found:
		case closed:
			first := firstSent(before)
			c.join(&first)
			implied = true
		default:
			unsent = append(unsent, old...)
		}
	}
	c.known = entries == 1 && !implied
	if !f.p.discards() {
		c.row, err = f.mergeFragments(frags)
		if err == nil {
			c.records = f.p.composite.Records(c.row)
		}
		return err
	}
	c.sent.Out = nil
	if c.row, err = f.mergeFragments(unsent); err != nil {
		return err
	}
	for _, b := range pending {
		if b != nil {
			f.p.composite.Merge(c.row, f.pendingRow(b))
		}
	}
	return nil
}

// join adds what a session has sent that became part of this one.
func (c *candidate) join(s *Sent) {
	c.sent.Next = max(c.sent.Next, s.Next)
	c.sent.Records += s.Records
	c.sent.Out = append(c.sent.Out, s.Out...)
	if c.sent.Results = s.Results; len(c.moved) > 1 {
		c.sent.Results = nil // of several sessions: whatever this one has is a change
	}
}

func (f *Firing) mergeFragments(frags []fragment) (*aggregate.Row, error) {
	row := &aggregate.Row{}
	f.p.composite.Reset(row)
	for i := range frags {
		if _, err := f.p.composite.MergeBinary(row, frags[i].row); err != nil {
			return nil, fmt.Errorf("session of %q at %s: %w: %w", frags[i].key, frags[i].first, err, ErrPayload)
		}
	}
	return row, nil
}

// rewriteBuckets puts what stays of each session delta in its place. A bucket with very many deltas is joined into one.
func (f *Firing) rewriteBuckets(def int, kept map[partRef][]int) error {
	total := map[partRef]int{}
	for i := range f.windows[def].fragments {
		x := &f.windows[def].fragments[i]
		total[partRef{x.part, x.ref}]++
	}
	for pi := range f.parts {
		part := &f.parts[pi]
		byBucket := map[event.Time][]int{}
		var starts []event.Time
		for n, r := range part.Refs {
			if int(r.Slice.Window) == def && r.To <= part.Upto {
				if byBucket[r.Slice.Start] == nil {
					starts = append(starts, r.Slice.Start)
				}
				byBucket[r.Slice.Start] = append(byBucket[r.Slice.Start], n)
			}
		}
		for _, start := range starts {
			refs := byBucket[start]
			if len(refs) > f.p.CompactAfter {
				if err := f.joinBucket(def, pi, refs, kept); err != nil {
					return err
				}
				continue
			}
			for _, n := range refs {
				if stay := kept[partRef{pi, n}]; len(stay) < total[partRef{pi, n}] {
					f.rewriteDelta(def, pi, n, stay)
				}
			}
		}
	}
	return nil
}

// rewriteDelta replaces a delta by its fragments that stay.
func (f *Firing) rewriteDelta(def, pi, n int, stay []int) {
	part, frags := &f.parts[pi], f.windows[def].fragments
	r := part.Refs[n]
	rep := delta.Replace{Remove: []delta.Ref{r}}
	if len(stay) > 0 {
		r.Owned = 0
		payload := appendHead(nil, true, len(stay))
		for _, i := range stay {
			x := &frags[i]
			payload = appendFragment(appendBytes(payload, x.key), r.Slice.Start, x.first, x.last, x.owned)
			payload = append(payload, x.row...)
			r.Owned += x.owned
		}
		rep.With = []delta.Delta{{Ref: r, Payload: payload}}
	}
	part.replace = append(part.replace, rep)
}

// joinBucket replaces all deltas of a bucket by one, in which the fragments of a session are merged. The bucket is then one
// offset range, so it holds replayFrom back as long as any of it is open.
func (f *Firing) joinBucket(def, pi int, refs []int, kept map[partRef][]int) error {
	part, frags, d := &f.parts[pi], f.windows[def].fragments, &f.p.Windows[def]
	rep := delta.Replace{}
	var stay []int
	joined := delta.Ref{Slice: part.Refs[refs[0]].Slice, From: part.Upto}
	for _, n := range refs {
		r := part.Refs[n]
		rep.Remove = append(rep.Remove, r)
		joined.From, joined.To = min(joined.From, r.From), max(joined.To, r.To)
		stay = append(stay, kept[partRef{pi, n}]...)
	}
	if len(stay) > 0 {
		slices.Sort(stay) // fragments are sorted by key and time
		body, n := []byte(nil), 0
		for i := 0; i < len(stay); n++ {
			first := &frags[stay[i]]
			whole, owned, j := first.span(), first.owned, i+1
			group := []fragment{*first}
			for j < len(stay) && frags[stay[j]].key == first.key && d.OneSession(whole, frags[stay[j]].span()) {
				x := &frags[stay[j]]
				whole, owned, group = whole.Merge(x.span()), owned+x.owned, append(group, *x)
				j++
			}
			row, err := f.mergeFragments(group)
			if err != nil {
				return err
			}
			body = appendFragment(appendBytes(body, first.key), joined.Slice.Start, whole.First, whole.Last, owned)
			body = f.p.composite.AppendBinary(body, row)
			joined.Owned += owned
			i = j
		}
		rep.With = []delta.Delta{{Ref: joined, Payload: append(appendHead(nil, true, n), body...)}}
		part.kept = min(part.kept, joined.From)
	}
	part.replace = append(part.replace, rep)
	return nil
}
