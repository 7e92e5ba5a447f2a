package pipeline

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/llm-auto-optimizer/tidemark/core/aggregate"
	"github.com/llm-auto-optimizer/tidemark/core/delta"
	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/faults"
	"github.com/llm-auto-optimizer/tidemark/core/window"
)

// DefaultCompactAfter is the CompactAfter of a pipeline: each delta more makes a plan read one more field.
const DefaultCompactAfter = 256

// compactable reports whether a compaction may take in a delta: what the plan does not have is left alone, for it must be seen
// as news by the next one.
func (p *firingPart) compactable(r delta.Ref) bool {
	return r.To <= p.Upto || faults.Off(faults.CompactCut)
}

// Firing computes one plan: feed it the deltas that it needs, partition by partition, and Finish gives the panes and what is
// to be done with the state. It is a function of the deltas: the same prefixes give the same panes.
type Firing struct {
	p     *Pipeline
	turn  Turn
	parts []firingPart

	windows []firingWindow // for each definition
	arena   []byte
	updates []HistoryUpdate
	waiting Waiting
}

// Turn is the plan that is computed.
type Turn struct {
	Plan    int64
	At      event.Time // the plan's time by the wall clock, for results
	Prev, W event.Time // the watermark of the plan before, and of this one
	Early   bool       // open windows with records that no pane has go out
	Recount bool       // how many records wait in open windows is not known: all of them are read, where a trigger counts
	History *History   // as of the plan before; it is not changed. nil: there is none
}

// Prefix is one partition of a plan: the log up to Upto, of which the plan before had up to Since.
type Prefix struct {
	event.TopicPartition
	Since, Upto int64
	// EarlySince is where the log was when open windows went out last by time; 0: never.
	EarlySince int64
	// TakenOver says that the plan before was another pipeline's. The records below Since that are in slices then count with this
	// plan, in the ledger alone: nobody has counted them for this pipeline yet.
	TakenOver bool
	Refs      []delta.Ref // all deltas in the slot; those beyond Upto are left alone
}

// inherited reports whether a delta holds records of the time before the pipeline took over.
func (p *Prefix) inherited(r delta.Ref) bool { return p.TakenOver && r.From < p.Since }

type firingPart struct {
	Prefix
	counts   Counts
	final    int64
	open     int64
	outbox   []OutboxEntry
	refusals []Refusal
	drop     []delta.SliceID
	replace  []delta.Replace
	kept     int64 // least From of the deltas that stay
	compact  map[delta.SliceID]*table
}

// firingWindow is the work on one window definition.
type firingWindow struct {
	onTime, late, early map[window.Window]struct{}
	tables              map[event.Time]*table // slices that a window needs; sessions do not use it
	sessions            bool                  // read all session buckets
	fragments           []fragment
}

// table holds the groups of a slice.
type table struct {
	at     map[string]int32
	keys   []string
	rows   []aggregate.Row
	gained []bool          // the group has records that no plan had before
	had    []bool          // it has records that the plan before had
	news   []aggregate.Row // the records that no plan had before, where they are kept apart from rows
	apart  bool
}

func newTable() *table { return &table{at: map[string]int32{}} }

// newTable returns a table of what panes are made of: where they discard, with news apart.
func (f *Firing) newTable() *table {
	t := newTable()
	t.apart = f.p.discards()
	return t
}

// merge adds the groups of another table.
func (t *table) merge(c *aggregate.Composite, o *table) {
	for k, key := range o.keys {
		at := t.row(c, []byte(key))
		t.gained[at], t.had[at] = t.gained[at] || o.gained[k], t.had[at] || o.had[k]
		c.Merge(&t.rows[at], &o.rows[k])
		if t.apart {
			c.Merge(&t.news[at], &o.news[k])
		}
	}
}

func (t *table) row(c *aggregate.Composite, key []byte) int32 {
	if i, ok := t.at[string(key)]; ok {
		return i
	}
	i := int32(len(t.keys))
	s := string(key)
	t.at[s] = i
	t.keys = append(t.keys, s)
	t.rows = append(t.rows, aggregate.Row{})
	t.gained, t.had = append(t.gained, false), append(t.had, false)
	c.Reset(&t.rows[i])
	if t.apart {
		t.news = append(t.news, aggregate.Row{})
		c.Reset(&t.news[i])
	}
	return i
}

// fragment is one run of records of a key in a session bucket of a partition.
type fragment struct {
	key         string
	first, last event.Time
	part        int
	ref         int // index in the partition's Refs
	owned       int64
	gained      bool
	row         []byte
}

// span is the run of records that a fragment is.
func (f *fragment) span() window.Fragment { return window.Fragment{First: f.first, Last: f.last} }

// NewFiring begins a plan.
func (p *Pipeline) NewFiring(turn Turn, parts []Prefix) *Firing {
	if turn.History == nil {
		turn.History = &History{}
	}
	f := &Firing{p: p, turn: turn, windows: make([]firingWindow, len(p.Windows)), waiting: Waiting{}}
	for _, x := range parts {
		f.parts = append(f.parts, firingPart{Prefix: x, kept: x.Upto, compact: map[delta.SliceID]*table{}})
	}
	for i := range f.windows {
		f.windows[i] = firingWindow{
			onTime: map[window.Window]struct{}{}, late: map[window.Window]struct{}{}, early: map[window.Window]struct{}{}, tables: map[event.Time]*table{},
		}
	}
	f.choose()
	return f
}

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

func (f *Firing) chooseCompactions() {
	for pi := range f.parts {
		part := &f.parts[pi]
		n := map[delta.SliceID]int{}
		for _, r := range part.Refs {
			if r.Slice.Window < delta.FirstReserved && part.compactable(r) {
				n[r.Slice]++
			}
		}
		for id, count := range n {
			d := &f.p.Windows[id.Window]
			if count <= f.p.CompactAfter {
				continue
			}
			if d.Kind == window.KindSession {
				f.windows[id.Window].sessions = true
			} else if f.finality(d, id) == stays {
				part.compact[id] = newTable()
			}
		}
	}
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

// Needs returns the deltas of partition i that Feed wants, in order of (slice, From, Bucket).
func (f *Firing) Needs(i int) []delta.Ref {
	part := &f.parts[i]
	var out []delta.Ref
	for _, r := range part.Refs {
		if r.To > part.Upto {
			if part.compactable(r) && part.compact[r.Slice] != nil {
				out = append(out, r)
			}
			continue
		}
		var need bool
		switch r.Slice.Window {
		case delta.ListCounts, delta.ListOutbox:
			need = r.From >= part.Since || r.Slice.Window == delta.ListCounts && part.TakenOver || r.Slice.Window == delta.ListOutbox && faults.Off(faults.OutboxBase)
		case delta.ListRefused:
			need = true
		default:
			fw := &f.windows[r.Slice.Window]
			need = fw.sessions || fw.tables[r.Slice.Start] != nil || part.compact[r.Slice] != nil
		}
		if need {
			out = append(out, r)
		}
	}
	return out
}

// Feed takes payloads of partition i. Partitions and, within them, deltas must come in the order of Needs: sums and digests
// depend on the order of merging, and a plan that is computed again must come to the same bytes.
func (f *Firing) Feed(i int, refs []delta.Ref, payloads [][]byte) error {
	part := &f.parts[i]
	if len(payloads) != len(refs) {
		return fmt.Errorf("%d payloads for %d deltas of %s/%d: %w", len(payloads), len(refs), part.Topic, part.Partition, ErrPayload)
	}
	for n, payload := range payloads {
		r := refs[n]
		if err := f.feed(i, r, payload); err != nil {
			return fmt.Errorf("delta [%d,%d) of %s/%d, slice %d@%s: %w", r.From, r.To, part.Topic, part.Partition, r.Slice.Window, r.Slice.Start, err)
		}
	}
	return nil
}

func (f *Firing) feed(i int, r delta.Ref, payload []byte) (err error) {
	part := &f.parts[i]
	switch r.Slice.Window {
	case delta.ListCounts:
		var c Counts
		if c, err = DecodeCounts(payload); err != nil {
			return err
		}
		if part.inherited(r) {
			c = Counts{In: c.taken()} // whatever else became of them is in the books of the pipeline before
		}
		part.counts = part.counts.Add(c)
		return err
	case delta.ListOutbox:
		part.outbox, err = DecodeOutbox(part.outbox, payload)
		return err
	case delta.ListRefused:
		part.refusals, err = DecodeRefused(part.refusals, payload)
		return err
	}
	fw, gained := &f.windows[r.Slice.Window], r.From >= part.Since
	it := f.p.groups(r.Slice, payload)
	if it.session {
		ref := slices.Index(part.Refs, r)
		for it.next() {
			fw.fragments = append(fw.fragments, fragment{
				key: string(it.key), first: it.first, last: it.last, part: i, ref: ref, owned: it.owned, gained: gained, row: slices.Clone(it.row),
			})
		}
		return it.err
	}
	t, c := fw.tables[r.Slice.Start], part.compact[r.Slice]
	for it.next() {
		if t != nil && r.To <= part.Upto {
			at := t.row(f.p.composite, it.key)
			t.gained[at], t.had[at] = t.gained[at] || gained, t.had[at] || !gained
			row := &t.rows[at]
			if gained && t.apart {
				row = &t.news[at]
			}
			if _, err := f.p.composite.MergeBinary(row, it.row); err != nil {
				return fmt.Errorf("group %q: %w: %w", it.key, err, ErrPayload)
			}
		}
		if c != nil {
			if _, err := f.p.composite.MergeBinary(&c.rows[c.row(f.p.composite, it.key)], it.row); err != nil {
				return fmt.Errorf("group %q: %w: %w", it.key, err, ErrPayload)
			}
		}
	}
	return it.err
}

// Outcome is a computed plan.
type Outcome struct {
	Panes      []Pane          // by (end, start, window name, key)
	History    []HistoryUpdate // to be kept once the plan is committed
	Waiting    Waiting         // of the windows that were looked at for a trigger
	Partitions []PartitionOutcome
}

// PartitionOutcome is what a plan says of a partition.
type PartitionOutcome struct {
	Outbox     []OutboxEntry // to publish, ascending by offset
	Counts     Counts        // of the offsets that no plan had before
	Final      int64         // records that became final with this plan
	Open       int64         // records in the slices that stay
	ReplayFrom int64
	Refused    []Refusal // from ReplayFrom on, ascending
	Drop       []delta.SliceID
	Trim       []delta.Trim
	Replace    []delta.Replace
}

// Finish computes the plan.
func (f *Firing) Finish() (*Outcome, error) {
	out := &Outcome{}
	for i := range f.windows {
		panes, err := f.finishWindow(i)
		if err != nil {
			return nil, fmt.Errorf("window %s: %w", f.p.Windows[i].Name, err)
		}
		out.Panes = append(out.Panes, panes...)
	}
	slices.SortFunc(out.Panes, func(a, b Pane) int {
		return cmp.Or(cmp.Compare(a.Window.End, b.Window.End), cmp.Compare(a.Window.Start, b.Window.Start),
			cmp.Compare(a.Name, b.Name), cmp.Compare(a.Key, b.Key))
	})
	for i := range f.parts {
		out.Partitions = append(out.Partitions, f.finishPart(i))
	}
	out.History = slices.Concat(f.updates, f.turn.History.final(f.p, f.turn.W))
	sortUpdates(out.History)
	out.Waiting = f.waiting
	return out, nil
}

func (f *Firing) finishWindow(i int) ([]Pane, error) {
	if f.p.Windows[i].Kind == window.KindSession {
		return f.finishSessions(i)
	}
	var panes []Pane
	for w := range f.windows[i].onTime {
		panes = f.alignedPanes(panes, i, w, TimingOnTime)
	}
	for w := range f.windows[i].late {
		panes = f.alignedPanes(panes, i, w, TimingLate)
	}
	for w := range f.windows[i].early {
		panes = f.alignedPanes(panes, i, w, TimingEarly)
	}
	return panes, nil
}

// finishPart decides what stays of a partition's state, and how far back a replay would have to begin.
func (f *Firing) finishPart(i int) PartitionOutcome {
	part := &f.parts[i]
	dropped := map[delta.SliceID]bool{}
	for _, r := range part.Refs {
		if r.Slice.Window >= delta.FirstReserved || r.To > part.Upto {
			continue
		}
		d := &f.p.Windows[r.Slice.Window]
		if d.Kind == window.KindSession {
			if !f.windows[r.Slice.Window].sessions {
				part.open += r.Owned
				part.kept = min(part.kept, r.From)
			}
			continue
		}
		switch f.finality(d, r.Slice) {
		case stays:
			part.open += r.Owned
			if !faults.Off(faults.ReplayLate) || d.LastEnd(d.SliceAt(r.Slice.Start)) > f.turn.W {
				part.kept = min(part.kept, r.From)
			}
			continue
		case becomesFinal:
			part.final += r.Owned
		case wasFinal:
		}
		if !dropped[r.Slice] {
			dropped[r.Slice] = true
			part.drop = append(part.drop, r.Slice)
		}
	}
	f.compactSlices(i)
	out := PartitionOutcome{
		Counts: part.counts, Final: part.final, Open: part.open, ReplayFrom: part.kept, Drop: part.drop, Replace: part.replace,
		Trim: []delta.Trim{
			{Slice: delta.SliceID{Window: delta.ListCounts}, To: part.Upto},
			{Slice: delta.SliceID{Window: delta.ListOutbox}, To: part.Upto},
			{Slice: delta.SliceID{Window: delta.ListRefused}, To: part.kept},
		},
	}
	for _, e := range part.outbox {
		if (e.Offset >= part.Since || faults.Off(faults.OutboxBase)) && e.Offset < part.Upto {
			out.Outbox = append(out.Outbox, e)
		}
	}
	for _, r := range part.refusals {
		if r.Offset >= part.kept && r.Offset < part.Upto {
			out.Refused = append(out.Refused, r)
		}
	}
	return out
}

// compactSlices joins the deltas of the slices that have many into one.
func (f *Firing) compactSlices(i int) {
	part := &f.parts[i]
	for id, t := range part.compact {
		rep := delta.Replace{}
		joined := delta.Ref{Slice: id, From: part.Upto}
		for _, r := range part.Refs {
			if r.Slice == id && part.compactable(r) {
				rep.Remove = append(rep.Remove, r)
				joined.From, joined.To, joined.Owned = min(joined.From, r.From), max(joined.To, r.To), joined.Owned+r.Owned
			}
		}
		rep.With = f.encodeTable(joined, t)
		part.replace = append(part.replace, rep)
	}
	slices.SortFunc(part.replace, func(a, b delta.Replace) int {
		x, y := a.Remove[0].Slice, b.Remove[0].Slice
		return cmp.Or(cmp.Compare(x.Window, y.Window), cmp.Compare(x.Start, y.Start), cmp.Compare(a.Remove[0].From, b.Remove[0].From))
	})
}

// encodeTable writes a table as deltas by hash bucket. The ledger's count goes with the first of them: it is a property of the
// offset range.
func (f *Firing) encodeTable(ref delta.Ref, t *table) []delta.Delta {
	var out []delta.Delta
	buckets := bucketCount(len(t.keys))
	for b := range buckets {
		n := 0
		for _, key := range t.keys {
			if inBucket(key, b, buckets) {
				n++
			}
		}
		if n == 0 {
			continue
		}
		payload := appendHead(nil, false, n)
		for k, key := range t.keys {
			if inBucket(key, b, buckets) {
				payload = f.p.composite.AppendBinary(appendBytes(payload, key), &t.rows[k])
			}
		}
		ref.Bucket = bucketName(b, buckets)
		out = append(out, delta.Delta{Ref: ref, Payload: payload})
		ref.Owned = 0
	}
	return out
}
