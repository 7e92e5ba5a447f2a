package pipeline

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/llm-auto-optimizer/tidemark/core/delta"
	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/faults"
	"github.com/llm-auto-optimizer/tidemark/core/window"
)

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

	fed      *fed    // nil: nobody asks what it is fed
	like     *Firing // it is fed the same, as far as is known: nothing is merged again
	tookOver bool    // tables and compactions are those of another one
}

// Turn is the plan that is computed.
type Turn struct {
	Plan    int64
	At      event.Time // the plan's time by the wall clock, for results
	Prev, W event.Time // the watermark of the plan before, and of this one
	Early   bool       // open windows with records that no pane has go out
	Recount bool       // how many records wait in open windows is not known: all of them are read, where a trigger counts
	History *History   // as of the plan before; it is not changed. nil: there is none

	Lends bool    // firings of other pipelines may want to take over what this one merges
	Like  *Firing // one that lends, has been finished, and is not fed any more: what it has merged is taken over where that is the same
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
	if turn.Lends {
		f.fed = &fed{hash: sha256.New()}
		f.borrow(turn.Like)
		f.turn.Like = nil // it holds all that it has merged
	}
	return f
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
	if f.fed != nil {
		f.fed.take(payload)
	}
	if f.like != nil {
		return nil
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

// Finish computes the plan. With Turn.Like it may fail with ErrUnlike.
func (f *Firing) Finish() (*Outcome, error) {
	if err := f.endFeeding(); err != nil {
		return nil, err
	}
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
	if !f.tookOver {
		f.compactSlices(i)
	}
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
