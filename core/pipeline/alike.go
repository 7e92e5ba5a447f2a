package pipeline

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"maps"
	"slices"

	"github.com/llm-auto-optimizer/tidemark/core/delta"
)

// ErrUnlike is returned by Finish where the firing was fed something else than that whose work it was to take over. A firing without
// Turn.Like has to be fed instead.
var ErrUnlike = errors.New("pipeline: not fed the same as the firing before")

// MergesAlike reports whether firings of two pipelines are likely to be fed the same, and come to the same rows and compactions where
// they are: they read and keep the same of the records of the same topics, and their windows differ in nothing but names. What they
// make of a row may differ. It is false with sessions, whose fragments are joined differently from pipeline to pipeline as soon as
// their histories differ.
func (p *Pipeline) MergesAlike(q *Pipeline) bool {
	return len(p.sessions)+len(q.sessions) == 0 && slices.Equal(p.Topics, q.Topics) && readsAlike(p, q) && slices.EqualFunc(p.Windows, q.Windows, sameButName) &&
		p.composite.SameRows(q.composite) && p.discards() == q.discards()
}

// fed is what a firing has been fed of slices, so that another one that is fed the same knows that it need not merge it again. Which
// deltas they are is known before. Deltas of the same slice and offsets hold the same, for a fence refuses all of a slice or nothing;
// but that is no rule that anything else rests on, so it is looked at, by a digest: two stores may keep different things.
type fed struct {
	hash hash.Hash
	sum  [sha256.Size]byte // once the firing is finished
}

func (d *fed) take(payload []byte) {
	var n [8]byte
	binary.LittleEndian.PutUint64(n[:], uint64(len(payload)))
	d.hash.Write(n[:])
	d.hash.Write(payload)
}

// borrow makes this firing take over what another one has merged, if it is going to be fed the same deltas for the same ends.
func (f *Firing) borrow(from *Firing) {
	if from == nil || from.fed == nil || !f.p.MergesAlike(from.p) || len(f.parts) != len(from.parts) {
		return
	}
	for i := range f.windows {
		if !maps.EqualFunc(f.windows[i].tables, from.windows[i].tables, anyTables) {
			return
		}
	}
	for i := range f.parts {
		a, b := &f.parts[i], &from.parts[i]
		if a.TopicPartition != b.TopicPartition || a.Since != b.Since || a.Upto != b.Upto || !maps.EqualFunc(a.compact, b.compact, anyTables) ||
			!slices.Equal(sliceRefs(f.Needs(i)), sliceRefs(from.Needs(i))) {
			return
		}
	}
	f.like = from
}

// anyTables compares maps of tables by their keys alone.
func anyTables(*table, *table) bool { return true }

// sliceRefs returns the deltas that belong to windows; the slice is changed.
func sliceRefs(refs []delta.Ref) []delta.Ref {
	return slices.DeleteFunc(refs, func(r delta.Ref) bool { return r.Slice.Window >= delta.FirstReserved })
}

// endFeeding ends what the firing is fed. If it was to take over the work of another one, it does that, or returns ErrUnlike.
func (f *Firing) endFeeding() error {
	if f.fed != nil {
		f.fed.hash.Sum(f.fed.sum[:0])
	}
	if f.like == nil {
		for i := range f.windows {
			for _, t := range f.windows[i].tables {
				t.arrange(f.p.composite)
			}
		}
		return nil
	}
	if f.fed.sum != f.like.fed.sum {
		return ErrUnlike
	}
	for i := range f.windows {
		f.windows[i].tables = f.like.windows[i].tables
	}
	for i := range f.parts {
		f.parts[i].compact, f.parts[i].replace = f.like.parts[i].compact, f.like.parts[i].replace
	}
	f.like, f.tookOver = nil, true
	return nil
}

// TookOver reports whether the firing has taken over the work of another one. It is known once it is finished.
func (f *Firing) TookOver() bool { return f.tookOver }
