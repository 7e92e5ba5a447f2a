// Package memstore is the state store as plain maps and slices: the readable form of the contract, and the oracle that other
// stores are compared with. It keeps nothing beyond the process.
package memstore

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/llm-auto-optimizer/tidemark/core/faults"
	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// Store implements statestore.Store in memory. The zero value is not usable, see New.
type Store struct {
	mu    sync.Mutex
	slots map[statestore.Slot]*slot // by identity: Topic is empty
}

// slot is the state of one partition. Payloads are never written to once they are in it, so that copies may share them.
type slot struct {
	topic string
	meta  statestore.Meta
	lists map[statestore.SliceID]list // none of them empty
}

var _ statestore.Store = (*Store)(nil)

// New returns an empty store.
func New() *Store {
	return &Store{slots: map[statestore.Slot]*slot{}}
}

// Clone returns a store with the same contents that goes its own way from here: a test takes one, and goes back to it, to
// play a store that lost its last writes.
func (s *Store) Clone() *Store {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := New()
	for id, from := range s.slots {
		to := &slot{topic: from.topic, meta: from.meta, lists: make(map[statestore.SliceID]list, len(from.lists))}
		for slice, l := range from.lists {
			to.lists[slice] = slices.Clone(l)
		}
		c.slots[id] = to
	}
	return c
}

// Load implements statestore.Store.
func (s *Store) Load(ctx context.Context, id statestore.Slot) (statestore.Meta, error) {
	st, unlock, err := s.open(ctx, "load", id)
	if err != nil {
		return statestore.Meta{}, err
	}
	defer unlock()
	return st.meta, nil
}

// Status implements statestore.Store. MaxFrom and Bytes are exact.
func (s *Store) Status(ctx context.Context, id statestore.Slot) (statestore.Status, error) {
	st, unlock, err := s.open(ctx, "status of", id)
	if err != nil {
		return statestore.Status{}, err
	}
	defer unlock()
	infos := make([]statestore.SliceInfo, 0, len(st.lists))
	for slice, l := range st.lists {
		info := statestore.SliceInfo{ID: slice, Deltas: len(l), MaxFrom: l[len(l)-1].From}
		for i := range l {
			info.Bytes += int64(len(l[i].Payload))
		}
		infos = append(infos, info)
	}
	slices.SortFunc(infos, func(a, b statestore.SliceInfo) int {
		return cmp.Or(cmp.Compare(a.ID.Window, b.ID.Window), cmp.Compare(a.ID.Start, b.ID.Start))
	})
	return statestore.Status{Meta: st.meta, Slices: infos}, nil
}

// Restore implements statestore.Store.
func (s *Store) Restore(ctx context.Context, id statestore.Slot, r statestore.Restore) (statestore.Meta, statestore.Outcome, error) {
	if err := cmp.Or(ctx.Err(), statestore.CheckRestore(id, r)); err != nil {
		return statestore.Meta{}, 0, fmt.Errorf("restore %s: %w", id, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var head *statestore.Meta
	if st := s.slots[identity(id)]; st != nil {
		head = &st.meta
	}
	meta, outcome := statestore.Restored(head, r)
	switch outcome {
	case statestore.Present:
		return meta, outcome, nil
	case statestore.Adopted:
		s.slots[identity(id)].meta = meta
		return meta, outcome, nil
	case statestore.Created, statestore.Wiped:
	}
	st := &slot{topic: id.Topic, meta: meta, lists: map[statestore.SliceID]list{}}
	for _, d := range r.Refused {
		st.put(d)
	}
	s.slots[identity(id)] = st
	return meta, outcome, nil
}

// Commit implements statestore.Store.
func (s *Store) Commit(ctx context.Context, id statestore.Slot, c statestore.Commit) (statestore.Meta, error) {
	if err := statestore.CheckCommit(id, c); err != nil {
		return statestore.Meta{}, err
	}
	st, unlock, err := s.open(ctx, "commit", id)
	if err != nil {
		return statestore.Meta{}, err
	}
	defer unlock()
	if st.meta.Applied != c.Applied || st.meta.Top.Token != c.Top && !faults.Off(faults.CASCut) {
		return st.meta, fmt.Errorf("commit %s from offset %d, store has %d: %w", id, c.Applied, st.meta.Applied, statestore.ErrConflict)
	}
	for _, d := range c.Deltas {
		st.put(d)
	}
	st.meta = st.meta.After(c)
	return st.meta, nil
}

// Raise implements statestore.Store.
func (s *Store) Raise(ctx context.Context, id statestore.Slot, r statestore.Raise) (statestore.Meta, error) {
	st, unlock, err := s.open(ctx, "raise", id)
	if err != nil {
		return statestore.Meta{}, err
	}
	defer unlock()
	raised, err := st.meta.Raised(r)
	if err != nil {
		return statestore.Meta{}, fmt.Errorf("raise %s: %w", id, err)
	}
	st.meta = raised
	return raised, nil
}

// Index implements statestore.Store.
func (s *Store) Index(ctx context.Context, id statestore.Slot, token statestore.Token, ids []statestore.SliceID) ([]statestore.DeltaRef, error) {
	st, unlock, err := s.open(ctx, "index of", id)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if !st.meta.HasCut(token) && !faults.Off(faults.ReadCut) {
		return nil, fmt.Errorf("index of %s: no cut %x: %w", id, token, statestore.ErrRefused)
	}
	var refs []statestore.DeltaRef
	for _, slice := range ids {
		for _, d := range st.lists[slice] {
			refs = append(refs, d.Ref)
		}
	}
	return refs, nil
}

// Read implements statestore.Store.
func (s *Store) Read(ctx context.Context, id statestore.Slot, token statestore.Token, refs []statestore.DeltaRef) ([][]byte, error) {
	st, unlock, err := s.open(ctx, "read", id)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if !st.meta.HasCut(token) && !faults.Off(faults.ReadCut) {
		return nil, fmt.Errorf("read %s: no cut %x: %w", id, token, statestore.ErrRefused)
	}
	payloads := make([][]byte, 0, len(refs))
	for _, ref := range refs {
		l := st.lists[ref.Slice]
		i, ok := l.find(ref)
		if !ok || l[i].Ref != ref {
			return nil, fmt.Errorf("read %s: %w", id, statestore.Gone(ref))
		}
		payloads = append(payloads, bytes.Clone(l[i].Payload))
	}
	return payloads, nil
}

// Sweep implements statestore.Store.
func (s *Store) Sweep(ctx context.Context, id statestore.Slot, w statestore.Sweep) error {
	if err := statestore.CheckSweep(id, w); err != nil {
		return err
	}
	st, unlock, err := s.open(ctx, "sweep", id)
	if err != nil {
		return err
	}
	defer unlock()
	if st.meta.Top.Token != w.Token {
		return fmt.Errorf("sweep %s: top is not %x: %w", id, w.Token, statestore.ErrRefused)
	}
	for _, r := range w.Replace {
		for _, ref := range r.Remove {
			l := st.lists[ref.Slice]
			if i, ok := l.find(ref); (!ok || l[i].Ref != ref) && !faults.Off(faults.CompactionCheck) {
				return fmt.Errorf("sweep %s: %w", id, statestore.Gone(ref))
			}
		}
	}
	for _, slice := range w.Drop {
		delete(st.lists, slice)
	}
	for _, t := range w.Trim {
		st.set(t.Slice, slices.DeleteFunc(st.lists[t.Slice], func(d statestore.Delta) bool { return d.To <= t.To }))
	}
	for _, r := range w.Replace {
		for _, ref := range r.Remove {
			l := st.lists[ref.Slice]
			if i, ok := l.find(ref); ok {
				st.set(ref.Slice, slices.Delete(l, i, i+1))
			}
		}
	}
	for _, r := range w.Replace {
		for _, d := range r.With {
			st.put(d)
		}
	}
	return nil
}

// Import implements statestore.Store.
func (s *Store) Import(ctx context.Context, id statestore.Slot, image statestore.Image) error {
	if err := cmp.Or(ctx.Err(), statestore.CheckImport(id, image)); err != nil {
		return fmt.Errorf("import %s: %w", id, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.slots[identity(id)] != nil {
		return fmt.Errorf("import %s: %w", id, statestore.ErrExists)
	}
	st := &slot{topic: id.Topic, meta: image.Meta, lists: map[statestore.SliceID]list{}}
	for _, d := range image.Deltas {
		st.put(d)
	}
	s.slots[identity(id)] = st
	return nil
}

// Drop implements statestore.Store.
func (s *Store) Drop(ctx context.Context, id statestore.Slot) error {
	if err := cmp.Or(ctx.Err(), statestore.CheckSlot(id)); err != nil {
		return fmt.Errorf("drop %s: %w", id, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.slots, identity(id))
	return nil
}

// Slots implements statestore.Store. Topic is that of the Restore which made the slot.
func (s *Store) Slots(ctx context.Context, pipeline string) ([]statestore.Slot, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("slots of pipeline %q: %w", pipeline, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []statestore.Slot
	for id, st := range s.slots {
		if pipeline == "" || id.Pipeline == pipeline {
			id.Topic = st.topic
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// Close implements statestore.Store. It does nothing: the store may be used on, as if it had been opened again.
func (s *Store) Close() error { return nil }

// open locks the store and returns a slot that exists; the caller unlocks.
func (s *Store) open(ctx context.Context, op string, id statestore.Slot) (*slot, func(), error) {
	if err := cmp.Or(ctx.Err(), statestore.CheckSlot(id)); err != nil {
		return nil, nil, fmt.Errorf("%s %s: %w", op, id, err)
	}
	s.mu.Lock()
	st := s.slots[identity(id)]
	if st == nil {
		s.mu.Unlock()
		return nil, nil, fmt.Errorf("%s %s: %w", op, id, statestore.ErrNoSlot)
	}
	return st, s.mu.Unlock, nil
}

// identity is the slot without what is no part of its identity.
func identity(id statestore.Slot) statestore.Slot {
	id.Topic = ""
	return id
}

// put writes a delta, in the place of one with the same identity.
func (st *slot) put(d statestore.Delta) {
	d.Payload = bytes.Clone(d.Payload)
	l := st.lists[d.Slice]
	i, ok := l.find(d.Ref)
	if ok {
		l[i] = d
		return
	}
	st.lists[d.Slice] = slices.Insert(l, i, d)
}

// set writes a list back; an empty one disappears.
func (st *slot) set(slice statestore.SliceID, l list) {
	if len(l) == 0 {
		delete(st.lists, slice)
		return
	}
	st.lists[slice] = l
}

// list is the deltas of one slice in ascending order of (From, Bucket), which is their identity.
type list []statestore.Delta

// find returns where the delta with the identity of ref is, or where it would be.
func (l list) find(ref statestore.DeltaRef) (int, bool) {
	return slices.BinarySearchFunc(l, ref, func(d statestore.Delta, ref statestore.DeltaRef) int {
		return cmp.Or(cmp.Compare(d.From, ref.From), cmp.Compare(d.Bucket, ref.Bucket))
	})
}
