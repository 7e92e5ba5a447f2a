package pipeline

import (
	"errors"

	"github.com/llm-auto-optimizer/tidemark/core/aggregate"
	"github.com/llm-auto-optimizer/tidemark/core/delta"
	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/window"
)

// ErrBlocked is returned by Folder.Add for a record that cannot be processed under the policy `fail`: the partition stops
// before it until the record can be processed or the policy changes.
var ErrBlocked = errors.New("pipeline: record blocks its partition (policy fail)")

// Chunk says under which fence a run of offsets is folded. No chunk straddles a cut.
type Chunk struct {
	From  int64
	Fence event.Time // W of the slot's newest cut, event.MinTime before the first plan
	// Replay is true below the base cut of a restored slot: session definitions then take every record but the Refused ones
	// without looking at the fence, for what they took the first time cannot be told from the fence of today.
	Replay  bool
	Refused map[Refusal]struct{}
}

// Folded is what a chunk came to. It is valid until the folder's next Begin, and only read: pipelines may share what is in it.
type Folded struct {
	From, To int64
	MaxTime  event.Time // largest event time read, event.MinTime if none
	Counts   Counts
	Deltas   []delta.Delta // slices, counts, outbox and refused offsets, all of the range [From, To)
}

// bucketKeys bounds the keys of one delta before it is split into hash buckets.
const bucketKeys = 4096

// Folder folds the records of one partition into deltas of one pipeline. It keeps its memory from chunk to chunk, so that a
// record costs no allocation once it is warm; it is not safe for concurrent use. A Folder reads no clock: equal inputs give equal
// deltas, so a redelivery is a replay.
type Folder struct {
	shared *SharedFolder
	chunk  Chunk
	chunks []*Chunk // the chunk alone
}

// NewFolder returns an empty folder of one partition of the pipeline.
func (p *Pipeline) NewFolder(of event.TopicPartition) *Folder {
	f := &Folder{shared: NewSharedFolder(of, []*Pipeline{p})}
	f.chunks = []*Chunk{&f.chunk}
	return f
}

// Begin starts a chunk; what the last one returned is no longer valid.
func (f *Folder) Begin(c Chunk) {
	f.chunk = c
	f.shared.Begin(c.From, f.chunks)
}

// Add folds one record; offsets must ascend. The only error wraps ErrBlocked: the record was not folded, and the chunk may be
// finished before it.
func (f *Folder) Add(rec *event.Record) error {
	f.shared.Add(rec)
	return f.shared.readers[0].blocked
}

// Finish ends the chunk at offset to, which may be beyond the last record (control records, holes).
func (f *Folder) Finish(to int64) *Folded {
	r := f.shared.readers[0]
	one := r.folds[0]
	one.finish(max(to, r.next))
	return &one.members[0].out
}

// folding puts the records of a reader into slices, for pipelines whose slices have the same edges.
type folding struct {
	r       *commonReader
	members []*member
	sums    []*sums // what is kept in the cells: one for each way in which members keep it

	// Of the chunk at hand.
	lead  *member // the one whose windows and fence decide; nil: none takes part
	chunk *Chunk  // its chunk
	from  int64

	slices  []sliceGroups
	sliceAt map[delta.SliceID]int32
	last    []lastSlice      // for each definition, the slice of the record before
	cellAt  map[uint64]int32 // slice index << 32 | key index -> index in cells, of the slice's first cell for that key
	cells   []cell

	counts   Counts
	maxTime  event.Time
	outbox   []OutboxEntry
	refusals []Refusal
	judged   judged
	arena    []byte
}

// member is a pipeline of a fold.
type member struct {
	p     *Pipeline
	index int // among the pipelines of the folder
	sums  int // index in folding.sums

	chunk  *Chunk // nil: it takes no part
	shares bool   // the outcome of the chunk is its own
	out    Folded
}

// sums are what cells hold for the members that keep the same of each record.
type sums struct {
	composite *aggregate.Composite
	rows      []aggregate.Row // one for each cell
	deltas    []delta.Delta   // what the chunk came to
	used      bool            // by a member that takes part
	encoded   bool
}

// sliceGroups are the cells of one slice, in order of appearance.
type sliceGroups struct {
	id          delta.SliceID
	first, tail int32 // -1: none
	cells       int
	owned       int64
}

// cell is one group of a slice; for sessions one fragment of a group.
type cell struct {
	key     int32
	next    int32 // next cell of the slice, -1 at the end
	sibling int32 // next fragment of the same key in the same bucket, -1 at the end
	merged  bool  // a fragment that was merged into another one
	span    window.Fragment
	owned   int64
}

// lastSlice is the slice of the record before, with what does not change from record to record of the same slice.
type lastSlice struct {
	window.Slice
	index  int32      // in slices, -1: not in this chunk yet
	final  event.Time // when the slice is final: it takes records while this is above the fence (sessions: MaxTime)
	partly bool       // some windows of the slice refuse records already
	ok     bool       // the definition takes the record at hand
}

func newFolding(r *commonReader) *folding {
	return &folding{r: r, sliceAt: map[delta.SliceID]int32{}, cellAt: map[uint64]int32{}}
}

// begin starts a chunk of those members that have one. Whoever has the fence that most of them have decides; of several such fences the
// highest: what it takes, most likely all others take as well.
func (f *folding) begin(from int64) {
	f.lead, f.from = nil, from
	for _, s := range f.sums {
		s.used = false
	}
	most := 0
	for _, m := range f.members {
		m.shares = false
		if m.chunk == nil {
			continue
		}
		f.sums[m.sums].used = true
		n := 0
		for _, o := range f.members {
			if o.chunk != nil && o.chunk.Fence == m.chunk.Fence {
				n++
			}
		}
		if n > most || n == most && m.chunk.Fence > f.lead.chunk.Fence {
			f.lead, most = m, n
		}
	}
	if f.lead == nil {
		return
	}
	f.chunk = f.lead.chunk
	clear(f.sliceAt)
	clear(f.cellAt)
	f.slices, f.cells, f.outbox, f.refusals, f.arena = f.slices[:0], f.cells[:0], f.outbox[:0], f.refusals[:0], f.arena[:0]
	f.last = f.last[:0]
	for range f.lead.p.Windows {
		f.last = append(f.last, lastSlice{index: -1})
	}
	f.counts, f.maxTime = Counts{}, event.MinTime
	f.judged.begin(len(f.last))
}

// reject does with a record that cannot be processed what the policy says.
func (f *folding) reject(offset int64, rej rejection, o outcome) {
	switch o {
	case outcomeSkip:
		f.counts.Skipped++
	case outcomeDead:
		f.counts.Dead++
		f.outbox = append(f.outbox, OutboxEntry{Offset: offset, Reason: rej.reason, Time: event.MinTime, Fence: event.MinTime, Detail: rej.detail})
	case outcomeBlock: // the reader has stopped
	}
}

func (f *folding) filter() {
	f.counts.Filtered++
	f.maxTime = max(f.maxTime, f.r.time)
}

// place puts the record that was just read into the slices of the definitions that take it.
func (f *folding) place(offset int64) {
	t, fence := f.r.time, f.chunk.Fence
	f.maxTime = max(f.maxTime, t)
	inWindow, owner, late := false, -1, 0
	var ownerEnd event.Time
	for i := range f.lead.p.Windows {
		d := &f.lead.p.Windows[i]
		if !f.slice(i, d) {
			continue
		}
		inWindow = true
		if !f.accepts(i, d, offset) {
			// What a replay refuses is in the slot's list already, under the identity that a chunk from the same offset would have.
			if d.Kind == window.KindSession && !f.chunk.Replay {
				f.refusals = append(f.refusals, Refusal{Window: i, Offset: offset})
			}
			f.judged.refuse(i, t)
			late += d.Refused(t, fence)
			continue
		}
		l := &f.last[i]
		l.ok = true
		if d.Kind == window.KindSession {
			f.judged.take(i, t)
		}
		if l.partly {
			late += d.Refused(t, fence)
		}
		if owner < 0 || l.final > ownerEnd {
			owner, ownerEnd = i, l.final
		}
	}
	switch {
	case !inWindow:
		f.counts.Unassigned++
		return
	case owner < 0:
		f.counts.Late++
		f.outbox = append(f.outbox, OutboxEntry{Offset: offset, Reason: event.ReasonLate, Time: t, Fence: fence})
		return
	}
	f.counts.LateWindows += int64(late)
	key := f.r.internKey()
	for i := range f.last {
		if l := &f.last[i]; l.ok {
			f.keep(i, l, key, i == owner)
		}
	}
}

// slice finds the slice of the record for a definition; false: the record is in none of its windows.
func (f *folding) slice(i int, d *window.Definition) bool {
	l, t := &f.last[i], f.r.time
	l.ok = false
	if l.Start <= t && t < l.End {
		return true
	}
	s, ok := d.Slice(t)
	if !ok {
		return false
	}
	*l = lastSlice{Slice: s, index: -1, final: event.MaxTime}
	if d.Kind != window.KindSession {
		l.final = d.LastEnd(s).Add(d.Lateness)
		l.partly = d.FirstEnd(s).Add(d.Lateness) <= f.chunk.Fence
	}
	return true
}

// accepts applies the fence. A record counts as open until the last definition that took it is done with it: session buckets
// come after all others, hence their final of MaxTime.
func (f *folding) accepts(i int, d *window.Definition, offset int64) bool {
	if d.Kind != window.KindSession {
		return f.last[i].final > f.chunk.Fence
	}
	if f.chunk.Replay {
		_, refused := f.chunk.Refused[Refusal{Window: i, Offset: offset}]
		return !refused
	}
	return d.Accepts(f.r.time, f.chunk.Fence)
}

func (f *folding) keep(def int, l *lastSlice, key int32, own bool) {
	if l.index < 0 {
		id := delta.SliceID{Window: uint16(def), Start: l.Start}
		at, ok := f.sliceAt[id]
		if !ok {
			at = int32(len(f.slices))
			f.slices = append(f.slices, sliceGroups{id: id, first: -1, tail: -1})
			f.sliceAt[id] = at
		}
		l.index = at
	}
	at := uint64(l.index)<<32 | uint64(uint32(key))
	c, found := f.cellAt[at]
	if !found {
		c = f.newCell(l.index, key)
		f.cellAt[at] = c
	}
	d := &f.lead.p.Windows[def]
	if d.Kind == window.KindSession {
		c = f.fragment(c, found, l.index, def)
	}
	if own {
		f.slices[l.index].owned++
		f.cells[c].owned++
	}
	for _, s := range f.sums {
		if !s.used {
			continue
		}
		row := &s.rows[c]
		s.composite.AddRecord(row)
		for i, ok := range f.r.has {
			if ok {
				s.composite.AddInput(row, i, &f.r.inputs[i])
			}
		}
	}
}

func (f *folding) newCell(slice, key int32) int32 {
	c := int32(len(f.cells))
	f.cells = append(f.cells, cell{key: key, next: -1, sibling: -1})
	for _, s := range f.sums {
		if !s.used {
			continue
		}
		for len(s.rows) <= int(c) {
			s.rows = append(s.rows, aggregate.Row{})
		}
		s.composite.Reset(&s.rows[c])
	}
	s := &f.slices[slice]
	if s.tail < 0 {
		s.first = c
	} else {
		f.cells[s.tail].next = c
	}
	s.tail = c
	s.cells++
	return c
}

// fragment finds, or makes, the fragment of a session that the record belongs to, among those of its key in its bucket, and
// merges the fragments that the record joins.
func (f *folding) fragment(head int32, found bool, slice int32, def int) int32 {
	d := &f.lead.p.Windows[def]
	piece := d.Piece(f.r.time, f.r.gapOf(def, d))
	if !found {
		f.cells[head].span = piece
		return head
	}
	home, tail := int32(-1), head
	for c := head; c >= 0; c = f.cells[c].sibling {
		tail = c
		x := &f.cells[c]
		if x.merged || !d.OneSession(piece, x.span) {
			continue
		}
		if home < 0 {
			home = c
			x.span = x.span.Merge(piece)
			continue
		}
		// The record joins a second fragment: what was apart is one.
		h := &f.cells[home]
		h.span, h.owned = h.span.Merge(x.span), h.owned+x.owned
		x.merged = true
		for _, s := range f.sums {
			if s.used {
				s.composite.Merge(&s.rows[home], &s.rows[c])
			}
		}
		f.slices[slice].cells--
	}
	if home < 0 {
		home = f.newCell(slice, f.cells[head].key)
		f.cells[home].span = piece
		f.cells[tail].sibling = home
	}
	return home
}
