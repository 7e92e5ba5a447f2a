package pipeline

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/llm-auto-optimizer/tidemark/core/delta"
	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/window"
)

// finish ends the chunk at offset to, and sets the outcome of each member that may share it.
func (f *folding) finish(to int64) {
	for _, s := range f.sums {
		s.deltas, s.encoded = s.deltas[:0], false
	}
	for _, m := range f.members {
		if m.shares = f.agrees(m); !m.shares {
			continue
		}
		m.out = Folded{From: f.from, To: to, MaxTime: f.maxTime, Counts: f.counts}
		s := f.sums[m.sums]
		if !s.encoded {
			s.encoded = true
			for i := range f.slices {
				f.encodeSlice(s, &f.slices[i], to)
			}
			s.deltas = f.appendLists(s.deltas, to)
		}
		m.out.Deltas = s.deltas
		if m.chunk.Fence != f.chunk.Fence && f.counts.Late > 0 {
			m.out.Deltas = f.withFence(m.out.Deltas, m.chunk.Fence)
		}
	}
}

// appendLists appends what is kept beside the slices.
func (f *folding) appendLists(dst []delta.Delta, to int64) []delta.Delta {
	emit := func(list uint16, appendTo func([]byte) []byte) {
		start := len(f.arena)
		f.arena = appendTo(f.arena)
		dst = append(dst, delta.Delta{
			Ref:     delta.Ref{Slice: delta.SliceID{Window: list}, From: f.from, To: to},
			Payload: f.arena[start:len(f.arena):len(f.arena)],
		})
	}
	if f.counts.In > 0 {
		emit(delta.ListCounts, func(b []byte) []byte { return AppendCounts(b, f.counts) })
	}
	if len(f.outbox) > 0 {
		emit(delta.ListOutbox, func(b []byte) []byte { return AppendOutbox(b, f.outbox) })
	}
	if len(f.refusals) > 0 {
		emit(delta.ListRefused, func(b []byte) []byte { return AppendRefused(b, f.refusals) })
	}
	return dst
}

// withFence returns the deltas with another fence in the entries of late records, which tell it.
func (f *folding) withFence(deltas []delta.Delta, fence event.Time) []delta.Delta {
	out, entries := slices.Clone(deltas), slices.Clone(f.outbox)
	for i := range entries {
		if entries[i].Reason == event.ReasonLate {
			entries[i].Fence = fence
		}
	}
	for i := range out {
		if out[i].Slice.Window == delta.ListOutbox {
			out[i].Payload = AppendOutbox(nil, entries)
		}
	}
	return out
}

// encodeSlice writes the groups of a slice as one delta, or as several by hash of the key where there are very many.
func (f *folding) encodeSlice(st *sums, s *sliceGroups, to int64) {
	buckets := bucketCount(s.cells)
	for b := range buckets {
		start := len(f.arena)
		n, owned := 0, int64(0)
		for c := s.first; c >= 0; c = f.cells[c].next {
			if x := &f.cells[c]; !x.merged && inBucket(f.r.keys[x.key], b, buckets) {
				n++
				owned += x.owned
			}
		}
		if n == 0 {
			continue
		}
		session := f.lead.p.Windows[s.id.Window].Kind == window.KindSession
		f.arena = appendHead(f.arena, session, n)
		for c := s.first; c >= 0; c = f.cells[c].next {
			x := &f.cells[c]
			if x.merged || !inBucket(f.r.keys[x.key], b, buckets) {
				continue
			}
			f.arena = appendBytes(f.arena, f.r.keys[x.key])
			if session {
				f.arena = appendFragment(f.arena, s.id.Start, x.span.First, x.span.Last, x.owned)
			}
			f.arena = st.composite.AppendBinary(f.arena, &st.rows[c])
		}
		st.deltas = append(st.deltas, delta.Delta{
			Ref:     delta.Ref{Slice: s.id, From: f.from, To: to, Bucket: bucketName(b, buckets), Owned: owned},
			Payload: f.arena[start:len(f.arena):len(f.arena)],
		})
	}
}

func appendHead(dst []byte, session bool, n int) []byte {
	version := byte(groupsVersion)
	if session {
		version = fragmentsVersion
	}
	return binary.AppendUvarint(append(dst, version), uint64(n))
}

func appendFragment(dst []byte, bucket, first, last event.Time, owned int64) []byte {
	dst = binary.AppendUvarint(dst, uint64(first-bucket))
	dst = binary.AppendUvarint(dst, uint64(last-first))
	return binary.AppendUvarint(dst, uint64(owned))
}

// bucketCount is 1 for up to bucketKeys groups, else the power of two, up to 256, that brings the buckets below that.
func bucketCount(groups int) int {
	n := 1
	for n < 256 && groups > n*bucketKeys {
		n *= 2
	}
	return n
}

// bucketName numbers the buckets by the high bits of the hash, whatever their count: bucket names then stay in hash order.
func bucketName(b, buckets int) uint8 { return uint8(b * (256 / buckets)) }

func inBucket(key string, b, buckets int) bool {
	if buckets == 1 {
		return true
	}
	return int(keyHash(key))*buckets>>8 == b
}

// keyHash is the high byte of FNV-1a (Fowler, Noll, Vo; 32 bits), folded: stable across programs and versions, since it is stored.
func keyHash(key string) uint8 {
	h := uint32(2166136261)
	for i := range len(key) {
		h = (h ^ uint32(key[i])) * 16777619
	}
	return uint8(h ^ h>>8 ^ h>>16 ^ h>>24)
}

// groupIter steps through the groups of a slice's payload, or the fragments of a session bucket's.
type groupIter struct {
	p       *Pipeline
	session bool
	bucket  event.Time
	c       cursor
	left    int
	err     error

	key         []byte
	first, last event.Time
	owned       int64
	row         []byte // the encoded row, for MergeBinary
}

func (p *Pipeline) groups(id delta.SliceID, payload []byte) *groupIter {
	it := &groupIter{p: p, bucket: id.Start, session: p.Windows[id.Window].Kind == window.KindSession}
	version := byte(groupsVersion)
	if it.session {
		version = fragmentsVersion
	}
	it.c.b, it.err = checkVersion(payload, version, "slice")
	if it.err == nil {
		it.left = it.c.count()
		it.check("head")
	}
	return it
}

func (it *groupIter) check(what string) bool {
	if it.c.failed && it.err == nil {
		it.err = fmt.Errorf("slice: cut short at its %s: %w", what, ErrPayload)
	}
	return it.err == nil
}

// next steps to the next group; false at the end or on an error, which is in err.
func (it *groupIter) next() bool {
	if it.err != nil {
		return false
	}
	if it.left == 0 {
		if len(it.c.b) > 0 {
			it.err = fmt.Errorf("slice: %d bytes too many: %w", len(it.c.b), ErrPayload)
		}
		return false
	}
	it.left--
	it.key = it.c.bytes()
	if it.session {
		it.first = it.bucket + event.Time(it.c.uvarint())
		it.last = it.first + event.Time(it.c.uvarint())
		it.owned = int64(it.c.uvarint())
		if it.first < it.bucket || it.last < it.first || it.owned < 0 {
			it.c.failed = true
		}
	}
	if !it.check("group") {
		return false
	}
	rest, err := it.p.composite.Skip(it.c.b)
	if err != nil {
		it.err = fmt.Errorf("slice: group %q: %w: %w", it.key, err, ErrPayload)
		return false
	}
	it.row = it.c.b[:len(it.c.b)-len(rest)]
	it.c.b = rest
	return true
}
