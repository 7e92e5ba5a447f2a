package pipeline

import (
	"cmp"
	"slices"

	"github.com/llm-auto-optimizer/tidemark/core/delta"
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
