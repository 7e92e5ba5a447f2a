package pipeline

import (
	"errors"
	"fmt"

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

// Folded is what a chunk came to. It is valid until the folder's next Begin.
type Folded struct {
	From, To int64
	MaxTime  event.Time // largest event time read, event.MinTime if none
	Counts   Counts
	Deltas   []delta.Delta // slices, counts, outbox and refused offsets, all of the range [From, To)
}

// maxKeys bounds the keys that a folder remembers between chunks, and bucketKeys the keys of one delta before it is split
// into hash buckets.
const (
	maxKeys    = 1 << 16
	bucketKeys = 4096
)

// Folder folds records into deltas. It keeps its memory from chunk to chunk, so that a record costs no allocation once it is
// warm; it is not safe for concurrent use. A Folder reads no clock: equal inputs give equal deltas, so a redelivery is a
// replay.
type Folder struct {
	p     *Pipeline
	at    aggregate.Position // of the record at hand
	chunk Chunk
	next  int64
	reader

	keyOf map[string]int32 // grouping key -> index in keys
	keys  []string

	slices  []sliceGroups
	sliceAt map[delta.SliceID]int32
	last    []lastSlice      // for each definition, the slice of the record before
	cellAt  map[uint64]int32 // slice index << 32 | key index -> index in cells, of the slice's first cell for that key
	cells   []cell
	rows    []aggregate.Row // one for each cell

	out      Folded
	outbox   []OutboxEntry
	refusals []Refusal
	arena    []byte
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

// NewFolder returns an empty folder of one partition of the pipeline.
func (p *Pipeline) NewFolder(of event.TopicPartition) *Folder {
	return &Folder{
		p: p, reader: newReader(p), at: aggregate.Position{Topic: p.topicNumber(of.Topic), Partition: of.Partition},
		keyOf: map[string]int32{}, sliceAt: map[delta.SliceID]int32{}, cellAt: map[uint64]int32{},
		last: make([]lastSlice, len(p.Windows)),
	}
}

// Begin starts a chunk; what the last one returned is no longer valid.
func (f *Folder) Begin(c Chunk) {
	f.chunk, f.next = c, c.From
	if len(f.keys) > maxKeys {
		clear(f.keyOf)
		f.keys = f.keys[:0]
	}
	clear(f.sliceAt)
	clear(f.cellAt)
	f.slices, f.cells, f.outbox, f.refusals, f.arena = f.slices[:0], f.cells[:0], f.outbox[:0], f.refusals[:0], f.arena[:0]
	for i := range f.last {
		f.last[i] = lastSlice{index: -1}
	}
	f.out = Folded{From: c.From, To: c.From, MaxTime: event.MinTime, Deltas: f.out.Deltas[:0]}
}

// Add folds one record; offsets must ascend. The only error wraps ErrBlocked: the record was not folded, and the chunk may be
// finished before it.
func (f *Folder) Add(rec *event.Record) error {
	if rec.Offset < f.next {
		return nil // a repeated offset inside a batch
	}
	rej := f.read(rec)
	switch {
	case rej.reason != "":
		switch f.p.outcome() {
		case outcomeBlock:
			return fmt.Errorf("offset %d: %s: %s: %w", rec.Offset, rej.reason, rej.detail, ErrBlocked)
		case outcomeSkip:
			f.out.Counts.Skipped++
		case outcomeDead:
			f.out.Counts.Dead++
			f.outbox = append(f.outbox, OutboxEntry{Offset: rec.Offset, Reason: rej.reason, Time: event.MinTime, Fence: event.MinTime, Detail: rej.detail})
		}
	case f.filtered:
		f.out.Counts.Filtered++
		f.out.MaxTime = max(f.out.MaxTime, f.time)
	default:
		f.place(rec.Offset)
	}
	f.out.Counts.In++
	f.next = rec.Offset + 1
	return nil
}

// place puts the record that was just read into the slices of the definitions that take it.
func (f *Folder) place(offset int64) {
	f.out.MaxTime = max(f.out.MaxTime, f.time)
	inWindow, owner, late := false, -1, 0
	var ownerEnd event.Time
	for i := range f.p.Windows {
		d := &f.p.Windows[i]
		if !f.slice(i, d) {
			continue
		}
		inWindow = true
		if !f.accepts(i, d, offset) {
			// What a replay refuses is in the slot's list already, under the identity that a chunk from the same offset would have.
			if d.Kind == window.KindSession && !f.chunk.Replay {
				f.refusals = append(f.refusals, Refusal{Window: i, Offset: offset})
			}
			late += d.Refused(f.time, f.chunk.Fence)
			continue
		}
		l := &f.last[i]
		l.ok = true
		if l.partly {
			late += d.Refused(f.time, f.chunk.Fence)
		}
		if owner < 0 || l.final > ownerEnd {
			owner, ownerEnd = i, l.final
		}
	}
	switch {
	case !inWindow:
		f.out.Counts.Unassigned++
		return
	case owner < 0:
		f.out.Counts.Late++
		f.outbox = append(f.outbox, OutboxEntry{Offset: offset, Reason: event.ReasonLate, Time: f.time, Fence: f.chunk.Fence})
		return
	}
	f.out.Counts.LateWindows += int64(late)
	key := f.internKey()
	f.at.Time, f.at.Offset = f.time, offset
	for i, needed := range f.p.inputs {
		if needed {
			f.inputs[i].At = f.at
		}
	}
	for i := range f.p.Windows {
		if l := &f.last[i]; l.ok {
			f.store(i, l, key, i == owner)
		}
	}
}

// slice finds the slice of the record for a definition; false: the record is in none of its windows.
func (f *Folder) slice(i int, d *window.Definition) bool {
	l := &f.last[i]
	l.ok = false
	if l.Start <= f.time && f.time < l.End {
		return true
	}
	s, ok := d.Slice(f.time)
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
func (f *Folder) accepts(i int, d *window.Definition, offset int64) bool {
	if d.Kind != window.KindSession {
		return f.last[i].final > f.chunk.Fence
	}
	if f.chunk.Replay {
		_, refused := f.chunk.Refused[Refusal{Window: i, Offset: offset}]
		return !refused
	}
	return d.Accepts(f.time, f.chunk.Fence)
}

func (f *Folder) internKey() int32 {
	if k, ok := f.keyOf[string(f.key)]; ok {
		return k
	}
	k := int32(len(f.keys))
	s := string(f.key)
	f.keys = append(f.keys, s)
	f.keyOf[s] = k
	return k
}

func (f *Folder) store(def int, l *lastSlice, key int32, own bool) {
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
	d := &f.p.Windows[def]
	if d.Kind == window.KindSession {
		c = f.fragment(c, found, l.index, def)
	}
	if own {
		f.slices[l.index].owned++
		f.cells[c].owned++
	}
	row := &f.rows[c]
	f.p.composite.AddRecord(row)
	for i, ok := range f.has {
		if ok {
			f.p.composite.AddInput(row, i, &f.inputs[i])
		}
	}
}

func (f *Folder) newCell(slice, key int32) int32 {
	c := int32(len(f.cells))
	f.cells = append(f.cells, cell{key: key, next: -1, sibling: -1})
	if len(f.rows) <= int(c) {
		f.rows = append(f.rows, aggregate.Row{})
	}
	f.p.composite.Reset(&f.rows[c])
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
func (f *Folder) fragment(head int32, found bool, slice int32, def int) int32 {
	d := &f.p.Windows[def]
	piece := d.Piece(f.time, f.gapOf(def))
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
		f.p.composite.Merge(&f.rows[home], &f.rows[c])
		f.slices[slice].cells--
	}
	if home < 0 {
		home = f.newCell(slice, f.cells[head].key)
		f.cells[home].span = piece
		f.cells[tail].sibling = home
	}
	return home
}
