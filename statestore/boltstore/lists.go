package boltstore

import (
	"bytes"

	bolt "go.etcd.io/bbolt"

	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// A list is a bucket whose keys are field names and whose values are payloads in their stored form, never empty. The bucket's
// sequence is the number of its deltas.

// entry is a delta as it is stored.
type entry struct {
	slice statestore.SliceID
	field []byte
	value []byte
}

// encode returns the stored form of deltas, in memory of its own.
func (s *Store) encode(deltas []statestore.Delta) []entry {
	entries := make([]entry, len(deltas))
	fields := make([]byte, 0, len(deltas)*statestore.FieldSize)
	size := 0
	for _, d := range deltas {
		size += len(d.Payload) + len(d.Payload)/128 + 32
	}
	values := make([]byte, 0, size)
	for i, d := range deltas {
		f, v := len(fields), len(values)
		fields = statestore.AppendField(fields, d.Ref)
		values = s.codec.Append(values, d.Payload)
		entries[i] = entry{slice: d.Slice, field: fields[f:len(fields):len(fields)], value: values[v:len(values):len(values)]}
	}
	return entries
}

// list returns the bucket of a slice; nil if the slice has no deltas.
func (st slot) list(slice statestore.SliceID) *bolt.Bucket {
	return st.b.Bucket(statestore.AppendSlice(nil, slice))
}

// get returns the stored payload of a delta, valid in the transaction; nil if it has gone, also if another delta took its place.
func (st slot) get(ref statestore.DeltaRef) []byte {
	l := st.list(ref.Slice)
	if l == nil {
		return nil
	}
	return l.Get(statestore.AppendField(nil, ref))
}

// putAll writes deltas, each in the place of one with the same identity. What it is given must stay as it is until the
// transaction has ended.
func (st slot) putAll(entries []entry) error {
	for _, e := range entries {
		l, err := st.b.CreateBucketIfNotExists(statestore.AppendSlice(nil, e.slice))
		if err != nil {
			return err
		}
		l.FillPercent = fillOfAppend
		count := l.Sequence()
		identity := e.field[:statestore.FieldKeySize]
		if old, _ := l.Cursor().Seek(identity); old != nil && bytes.HasPrefix(old, identity) {
			if err := l.Delete(bytes.Clone(old)); err != nil {
				return err
			}
			count--
		}
		if err := l.Put(e.field, e.value); err != nil {
			return err
		}
		if err := l.SetSequence(count + 1); err != nil {
			return err
		}
	}
	return nil
}

// drop removes a list, if it is there.
func (st slot) drop(slice statestore.SliceID) error {
	if st.list(slice) == nil {
		return nil
	}
	return st.b.DeleteBucket(statestore.AppendSlice(nil, slice))
}

// trim removes the deltas that end at or before t.To.
func (st slot) trim(t statestore.Trim) error {
	l := st.list(t.Slice)
	if l == nil {
		return nil
	}
	var refs []statestore.DeltaRef
	c := l.Cursor()
	for name, _ := c.First(); name != nil; name, _ = c.Next() {
		ref, err := statestore.ParseField(t.Slice, name)
		if err != nil {
			return err
		}
		if ref.From > t.To {
			break // names are in ascending order of From, and no delta ends before it begins
		}
		if ref.To <= t.To {
			refs = append(refs, ref)
		}
	}
	return st.remove(refs)
}

// remove removes deltas of one slice, all of which are there. A list that is left empty disappears.
func (st slot) remove(refs []statestore.DeltaRef) error {
	if len(refs) == 0 {
		return nil
	}
	slice := refs[0].Slice
	l := st.list(slice)
	if l == nil {
		return nil // dropped by the same sweep
	}
	count := l.Sequence()
	for _, ref := range refs {
		name := statestore.AppendField(nil, ref)
		if l.Get(name) == nil {
			continue // trimmed by the same sweep
		}
		if err := l.Delete(name); err != nil {
			return err
		}
		count--
	}
	if count == 0 {
		return st.drop(slice)
	}
	return l.SetSequence(count)
}
