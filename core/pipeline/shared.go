package pipeline

import (
	"errors"
	"fmt"
	"slices"

	"github.com/llm-auto-optimizer/tidemark/core/aggregate"
	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/window"
)

// maxKeys bounds the keys that are remembered between chunks.
const maxKeys = 1 << 16

// SharedFolder folds the records of one partition for several pipelines in one pass. A record's fields are taken out of its bytes
// once. Pipelines that read the same of a record (format, time, key, values, operators, gaps and policy) read it once; those of them whose
// slices have the same edges put it into slices once, and what they keep of it is added up once for each that keeps something else.
// What each gets is what a Folder of its own would have come to, byte for byte.
//
// As a Folder it keeps its memory from chunk to chunk, and is not safe for concurrent use.
type SharedFolder struct {
	readers     []*commonReader
	extractions []*extraction
	members     []*member // by pipeline
	out         []*Folded
}

// commonReader reads records for the pipelines that read them alike.
type commonReader struct {
	reader
	from  *extraction // nil: it is the only one, and reads for itself
	at    []int       // where its fields are among those of the extraction
	folds []*folding

	// Of the chunk at hand.
	active  bool
	next    int64
	blocked error // stopped by a record under the policy fail

	position aggregate.Position // of the record at hand
	keyOf    map[string]int32   // grouping key -> index in keys
	keys     []string
	keyed    int32 // index of the key of the record at hand, -1: not looked up yet
}

// extraction takes the fields that several readers of a format need out of a record's bytes, once.
type extraction struct {
	format  event.Format
	decoder event.Decoder
	paths   []string
	fields  []event.Field

	// For the record at hand.
	asked bool
	ok    bool
	fault rejection // why no reader can have its fields; none: each has to look for itself
}

// NewSharedFolder returns an empty folder of one partition of the pipelines, all of which read its topic.
func NewSharedFolder(of event.TopicPartition, pipelines []*Pipeline) *SharedFolder {
	s := &SharedFolder{out: make([]*Folded, len(pipelines))}
	for i, p := range pipelines {
		topic := p.topicNumber(of.Topic)
		at := slices.IndexFunc(s.readers, func(r *commonReader) bool { return r.position.Topic == topic && readsAlike(r.p, p) })
		if at < 0 {
			at = len(s.readers)
			s.readers = append(s.readers, &commonReader{
				reader: newReader(p), position: aggregate.Position{Topic: topic, Partition: of.Partition}, keyOf: map[string]int32{},
			})
		}
		s.members = append(s.members, s.readers[at].join(p, i))
	}
	if len(s.readers) > 1 {
		for _, r := range s.readers {
			s.join(r)
		}
	}
	for _, x := range s.extractions {
		var err error
		if x.decoder, err = event.NewDecoder(x.format, x.paths); err != nil {
			panic(fmt.Sprintf("topic %s: paths were valid when their pipelines were compiled: %v", of.Topic, err))
		}
	}
	return s
}

// join makes the pipeline a member of the fold that has its edges.
func (r *commonReader) join(p *Pipeline, index int) *member {
	at := slices.IndexFunc(r.folds, func(f *folding) bool { return sameEdges(f.members[0].p, p) })
	if at < 0 {
		at = len(r.folds)
		r.folds = append(r.folds, newFolding(r))
	}
	f := r.folds[at]
	m := &member{p: p, index: index}
	m.sums = slices.IndexFunc(f.sums, func(s *sums) bool { return s.composite.SameRows(p.composite) })
	if m.sums < 0 {
		m.sums = len(f.sums)
		f.sums = append(f.sums, &sums{composite: p.composite})
	}
	f.members = append(f.members, m)
	return m
}

// join makes the fields of a reader part of an extraction that has room.
func (s *SharedFolder) join(r *commonReader) {
	paths := r.p.extracted()
	if len(paths) == 0 {
		return
	}
	for _, x := range s.extractions {
		if all := union(x.paths, paths); x.format.Equal(r.p.Input) && len(all) <= event.MaxPaths {
			x.paths, r.from = all, x
			break
		}
	}
	if r.from == nil {
		r.from = &extraction{format: r.p.Input, paths: union(nil, paths)}
		s.extractions = append(s.extractions, r.from)
	}
	for _, path := range paths {
		r.at = append(r.at, slices.Index(r.from.paths, path))
	}
	r.raw = make([]event.Field, len(paths))
}

// union returns a with those of b that it lacks.
func union(a, b []string) []string {
	out := slices.Clone(a)
	for _, s := range b {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// readsAlike reports whether two pipelines take the same out of every record of a topic, and reject the same for the same reason.
func readsAlike(p, q *Pipeline) bool {
	if !p.Input.Equal(q.Input) || p.Timestamp != q.Timestamp || p.Watermark.MaxFutureSkew != q.Watermark.MaxFutureSkew || p.outcome() != q.outcome() ||
		p.Key.RecordKey != q.Key.RecordKey || !slices.Equal(p.Key.Fields, q.Key.Fields) || !slices.Equal(p.labels, q.labels) ||
		p.Where != q.Where || !slices.Equal(p.Map, q.Map) || !slices.Equal(p.paths, q.paths) || len(p.Values) != len(q.Values) {
		return false
	}
	for i := range p.Values {
		if p.inputs[i] != q.inputs[i] || p.composite.TakesScalars(i) != q.composite.TakesScalars(i) || p.composite.KeepsText(i) != q.composite.KeepsText(i) {
			return false
		}
	}
	if p.gapAt == len(p.paths) {
		return true
	}
	return slices.EqualFunc(p.Windows, q.Windows, func(a, b window.Definition) bool {
		return a.GapField == b.GapField && a.Gap == b.Gap && a.MaxGap == b.MaxGap
	})
}

// sameEdges reports whether two pipelines that read the same cut event time at the same places. With several definitions the one
// that owns a record depends on when each is done with it, so they must be alike in everything; of one alone the edges are enough.
func sameEdges(p, q *Pipeline) bool {
	if len(p.Windows) == 1 && len(q.Windows) == 1 {
		return p.Windows[0].SameSlices(&q.Windows[0])
	}
	return slices.EqualFunc(p.Windows, q.Windows, sameButName)
}

// Begin starts a chunk that begins at an offset; what the last one returned is no longer valid. There is a chunk for each pipeline, in
// their order: its From is the offset. nil: the pipeline takes no part. A chunk that is a replay shares with no other.
func (s *SharedFolder) Begin(from int64, chunks []*Chunk) {
	for i, m := range s.members {
		m.chunk = chunks[i]
	}
	for _, r := range s.readers {
		r.begin(from)
	}
}

func (r *commonReader) begin(from int64) {
	r.active, r.next, r.blocked = false, from, nil
	if len(r.keys) > maxKeys {
		clear(r.keyOf)
		r.keys = r.keys[:0]
	}
	for _, f := range r.folds {
		f.begin(from)
		r.active = r.active || f.lead != nil
	}
}

// Add folds one record; offsets must ascend.
func (s *SharedFolder) Add(rec *event.Record) {
	for _, x := range s.extractions {
		x.asked = false
	}
	for _, r := range s.readers {
		if r.active && r.blocked == nil && rec.Offset >= r.next { // below it: a repeated offset inside a batch
			r.add(rec)
		}
	}
}

func (r *commonReader) add(rec *event.Record) {
	rej := r.take(rec)
	switch {
	case rej.reason != "":
		o := r.p.outcome()
		if o == outcomeBlock {
			r.blocked = fmt.Errorf("offset %d: %s: %s: %w", rec.Offset, rej.reason, rej.detail, ErrBlocked)
			return
		}
		for _, f := range r.folds {
			if f.lead != nil {
				f.reject(rec.Offset, rej, o)
			}
		}
	case r.filtered:
		for _, f := range r.folds {
			if f.lead != nil {
				f.filter()
			}
		}
	default:
		r.keyed = -1
		r.position.Time, r.position.Offset = r.time, rec.Offset
		for i, needed := range r.p.inputs {
			if needed {
				r.inputs[i].At = r.position
			}
		}
		for _, f := range r.folds {
			if f.lead != nil {
				f.place(rec.Offset)
			}
		}
	}
	r.next = rec.Offset + 1
	for _, f := range r.folds {
		f.counts.In++
	}
}

// take reads a record.
func (r *commonReader) take(rec *event.Record) rejection {
	x := r.from
	if x == nil {
		return r.read(rec)
	}
	if !x.asked {
		x.extract(rec)
	}
	switch {
	case x.fault.reason != "":
		return r.unread(x.fault)
	case !x.ok:
		return r.read(rec)
	}
	for i, at := range r.at {
		r.raw[i] = x.fields[at]
	}
	return r.readFields(rec)
}

// extract takes the fields out of a record. One that is there twice may be a field of another's: then each has to ask for its own.
func (x *extraction) extract(rec *event.Record) {
	x.asked, x.ok, x.fault = true, false, rejection{}
	if rec.Value == nil {
		x.fault = nullValue()
		return
	}
	var err error
	x.fields, err = x.decoder.Extract(rec.Value, x.fields[:0])
	if x.ok = err == nil; !x.ok && !errors.Is(err, event.ErrAmbiguous) {
		x.fault = reject(event.ReasonDecode, err.Error())
	}
}

// internKey numbers the key of the record at hand.
func (r *commonReader) internKey() int32 {
	if r.keyed >= 0 {
		return r.keyed
	}
	k, ok := r.keyOf[string(r.key)]
	if !ok {
		k = int32(len(r.keys))
		s := string(r.key)
		r.keys = append(r.keys, s)
		r.keyOf[s] = k
	}
	r.keyed = k
	return k
}

// Finish ends the chunk at offset to, which may be beyond the last record, and returns what it came to for each pipeline. It is nil for
// those that have to fold for themselves: because they took no part, because a record of the chunk blocks the partition for them, or
// because their fence, or their windows, treat some record otherwise than those of the pipelines they share a fold with.
func (s *SharedFolder) Finish(to int64) []*Folded {
	clear(s.out)
	for _, r := range s.readers {
		if !r.active || r.blocked != nil {
			continue
		}
		for _, f := range r.folds {
			if f.lead == nil {
				continue
			}
			f.finish(max(to, r.next))
			for _, m := range f.members {
				if m.shares {
					s.out[m.index] = &m.out
				}
			}
		}
	}
	return s.out
}
