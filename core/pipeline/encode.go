package pipeline

import (
	"encoding/binary"
	"fmt"

	"github.com/llm-auto-optimizer/tidemark/core/delta"
	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/window"
)

// Finish ends the chunk at offset to, which may be beyond the last record (control records, holes).
func (f *Folder) Finish(to int64) *Folded {
	f.out.To = max(to, f.next)
	for i := range f.slices {
		f.encodeSlice(&f.slices[i])
	}
	if f.out.Counts.In > 0 {
		f.emit(delta.ListCounts, func(b []byte) []byte { return AppendCounts(b, f.out.Counts) })
	}
	if len(f.outbox) > 0 {
		f.emit(delta.ListOutbox, func(b []byte) []byte { return AppendOutbox(b, f.outbox) })
	}
	if len(f.refusals) > 0 {
		f.emit(delta.ListRefused, func(b []byte) []byte { return AppendRefused(b, f.refusals) })
	}
	return &f.out
}

func (f *Folder) emit(list uint16, appendTo func([]byte) []byte) {
	start := len(f.arena)
	f.arena = appendTo(f.arena)
	f.out.Deltas = append(f.out.Deltas, delta.Delta{
		Ref:     delta.Ref{Slice: delta.SliceID{Window: list}, From: f.out.From, To: f.out.To},
		Payload: f.arena[start:len(f.arena):len(f.arena)],
	})
}

// encodeSlice writes the groups of a slice as one delta, or as several by hash of the key where there are very many.
func (f *Folder) encodeSlice(s *sliceGroups) {
	buckets := bucketCount(s.cells)
	for b := range buckets {
		start := len(f.arena)
		n, owned := 0, int64(0)
		for c := s.first; c >= 0; c = f.cells[c].next {
			if x := &f.cells[c]; !x.merged && inBucket(f.keys[x.key], b, buckets) {
				n++
				owned += x.owned
			}
		}
		if n == 0 {
			continue
		}
		session := f.p.Windows[s.id.Window].Kind == window.KindSession
		f.arena = appendHead(f.arena, session, n)
		for c := s.first; c >= 0; c = f.cells[c].next {
			x := &f.cells[c]
			if x.merged || !inBucket(f.keys[x.key], b, buckets) {
				continue
			}
			f.arena = appendBytes(f.arena, f.keys[x.key])
			if session {
				f.arena = appendFragment(f.arena, s.id.Start, x.span.First, x.span.Last, x.owned)
			}
			f.arena = f.p.composite.AppendBinary(f.arena, &f.rows[c])
		}
		f.out.Deltas = append(f.out.Deltas, delta.Delta{
			Ref:     delta.Ref{Slice: s.id, From: f.out.From, To: f.out.To, Bucket: bucketName(b, buckets), Owned: owned},
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
