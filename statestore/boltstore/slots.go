package boltstore

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// The keys of a slot's bucket beside its lists, whose names are hex digits and so come before.
const (
	headKey  = "head"
	topicKey = "topic"
)

// slot is the bucket of a slot that is there, in one transaction, and its head.
type slot struct {
	b    *bolt.Bucket
	meta statestore.Meta
}

// view reads a slot that must be there.
func (s *Store) view(ctx context.Context, op string, id statestore.Slot, read func(st slot) error) error {
	if err := cmp.Or(ctx.Err(), statestore.CheckSlot(id)); err != nil {
		return fmt.Errorf("%s %s: %w", op, id, err)
	}
	err := s.use(func() error {
		return s.db.View(func(tx *bolt.Tx) error { return withSlot(tx, id, read) })
	})
	if err != nil {
		return fmt.Errorf("%s %s: %w", op, id, err)
	}
	return nil
}

// update changes a slot that must be there: all that change does, or nothing if it returns an error.
func (s *Store) update(ctx context.Context, op string, id statestore.Slot, change func(st slot) error) error {
	if err := cmp.Or(ctx.Err(), statestore.CheckSlot(id)); err != nil {
		return fmt.Errorf("%s %s: %w", op, id, err)
	}
	err := s.write(ctx, func(tx *bolt.Tx) error { return withSlot(tx, id, change) })
	if err != nil {
		return fmt.Errorf("%s %s: %w", op, id, err)
	}
	return nil
}

// write runs a writing transaction, unless the context ended while others had their turn.
func (s *Store) write(ctx context.Context, change func(tx *bolt.Tx) error) error {
	return s.use(func() error {
		return s.db.Update(func(tx *bolt.Tx) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return change(tx)
		})
	})
}

func withSlot(tx *bolt.Tx, id statestore.Slot, run func(st slot) error) error {
	b := tx.Bucket([]byte(slotsBucket)).Bucket(statestore.AppendSlot(nil, id))
	if b == nil {
		return statestore.ErrNoSlot
	}
	meta, err := statestore.DecodeMeta(b.Get([]byte(headKey)))
	if err != nil {
		return err
	}
	return run(slot{b: b, meta: meta})
}

func (st slot) putHead(m statestore.Meta) error {
	return st.b.Put([]byte(headKey), statestore.EncodeMeta(m))
}

// fill writes all of a slot whose bucket is empty.
func fill(st slot, topic string, m statestore.Meta, deltas []entry) error {
	if err := st.b.Put([]byte(topicKey), []byte(topic)); err != nil {
		return err
	}
	if err := st.putAll(deltas); err != nil {
		return err
	}
	return st.putHead(m)
}

// Load implements statestore.Store.
func (s *Store) Load(ctx context.Context, id statestore.Slot) (meta statestore.Meta, err error) {
	err = s.view(ctx, "load", id, func(st slot) error {
		meta = st.meta
		return nil
	})
	return meta, err
}

// Status implements statestore.Store. MaxFrom and Bytes are exact.
func (s *Store) Status(ctx context.Context, id statestore.Slot) (status statestore.Status, err error) {
	err = s.view(ctx, "status of", id, func(st slot) error {
		status.Meta = st.meta
		return st.b.ForEachBucket(func(name []byte) error {
			slice, err := statestore.ParseSlice(name)
			if err != nil {
				return err
			}
			l := st.b.Bucket(name)
			c, bytes := l.Cursor(), 0
			for field, value := c.First(); field != nil; field, value = c.Next() {
				bytes += len(value)
			}
			last, _ := c.Last()
			ref, err := statestore.ParseField(slice, last)
			if err != nil {
				return err
			}
			status.Slices = append(status.Slices, statestore.SliceInfo{ID: slice, Deltas: int(l.Sequence()), MaxFrom: ref.From, Bytes: int64(bytes)})
			return nil
		})
	})
	if err != nil {
		return statestore.Status{}, err
	}
	return status, nil
}

// Restore implements statestore.Store.
func (s *Store) Restore(ctx context.Context, id statestore.Slot, r statestore.Restore) (meta statestore.Meta, outcome statestore.Outcome, err error) {
	if err := cmp.Or(ctx.Err(), statestore.CheckRestore(id, r)); err != nil {
		return statestore.Meta{}, 0, fmt.Errorf("restore %s: %w", id, err)
	}
	refused := s.encode(r.Refused)
	err = s.write(ctx, func(tx *bolt.Tx) error {
		slots, name := tx.Bucket([]byte(slotsBucket)), statestore.AppendSlot(nil, id)
		st := slot{b: slots.Bucket(name)}
		var head *statestore.Meta
		if st.b != nil {
			m, err := statestore.DecodeMeta(st.b.Get([]byte(headKey)))
			if err != nil {
				return err
			}
			head = &m
		}
		meta, outcome = statestore.Restored(head, r)
		switch outcome {
		case statestore.Present:
			return nil
		case statestore.Adopted:
			return st.putHead(meta)
		case statestore.Wiped:
			if err := slots.DeleteBucket(name); err != nil {
				return err
			}
		case statestore.Created:
		}
		var err error
		if st.b, err = slots.CreateBucket(name); err != nil {
			return err
		}
		return fill(st, id.Topic, meta, refused)
	})
	if err != nil {
		return statestore.Meta{}, 0, fmt.Errorf("restore %s: %w", id, err)
	}
	return meta, outcome, nil
}

// Commit implements statestore.Store.
func (s *Store) Commit(ctx context.Context, id statestore.Slot, c statestore.Commit) (meta statestore.Meta, err error) {
	if err := statestore.CheckCommit(id, c); err != nil {
		return statestore.Meta{}, err
	}
	deltas := s.encode(c.Deltas) // before others have to wait for it
	err = s.update(ctx, "commit", id, func(st slot) error {
		meta = st.meta
		if st.meta.Applied != c.Applied || st.meta.Top.Token != c.Top {
			return fmt.Errorf("from offset %d, store has %d: %w", c.Applied, st.meta.Applied, statestore.ErrConflict)
		}
		if err := st.putAll(deltas); err != nil {
			return err
		}
		meta = st.meta.After(c)
		return st.putHead(meta)
	})
	if err != nil && !errors.Is(err, statestore.ErrConflict) {
		return statestore.Meta{}, err
	}
	return meta, err
}

// Raise implements statestore.Store.
func (s *Store) Raise(ctx context.Context, id statestore.Slot, r statestore.Raise) (statestore.Meta, error) {
	var raised statestore.Meta
	err := s.update(ctx, "raise", id, func(st slot) error {
		var err error
		if raised, err = st.meta.Raised(r); err != nil {
			return err
		}
		return st.putHead(raised)
	})
	if err != nil {
		return statestore.Meta{}, err
	}
	return raised, nil
}

// Index implements statestore.Store.
func (s *Store) Index(ctx context.Context, id statestore.Slot, token statestore.Token, ids []statestore.SliceID) (refs []statestore.DeltaRef, err error) {
	err = s.view(ctx, "index of", id, func(st slot) error {
		if !st.meta.HasCut(token) {
			return fmt.Errorf("no cut %x: %w", token, statestore.ErrRefused)
		}
		for _, slice := range ids {
			l := st.list(slice)
			if l == nil {
				continue
			}
			c := l.Cursor()
			for name, _ := c.First(); name != nil; name, _ = c.Next() {
				ref, err := statestore.ParseField(slice, name)
				if err != nil {
					return err
				}
				refs = append(refs, ref)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return refs, nil
}

// Read implements statestore.Store.
func (s *Store) Read(ctx context.Context, id statestore.Slot, token statestore.Token, refs []statestore.DeltaRef) (payloads [][]byte, err error) {
	err = s.view(ctx, "read", id, func(st slot) error {
		if !st.meta.HasCut(token) {
			return fmt.Errorf("no cut %x: %w", token, statestore.ErrRefused)
		}
		payloads = make([][]byte, 0, len(refs))
		for _, ref := range refs {
			stored := st.get(ref)
			if stored == nil {
				return statestore.Gone(ref)
			}
			p, err := statestore.DecodePayload(stored)
			if err != nil {
				return fmt.Errorf("delta [%d, %d) of slice %d/%s: %w", ref.From, ref.To, ref.Slice.Window, ref.Slice.Start, err)
			}
			payloads = append(payloads, p)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return payloads, nil
}

// Sweep implements statestore.Store.
func (s *Store) Sweep(ctx context.Context, id statestore.Slot, w statestore.Sweep) error {
	if err := statestore.CheckSweep(id, w); err != nil {
		return err
	}
	var with []entry
	for _, r := range w.Replace {
		with = append(with, s.encode(r.With)...)
	}
	return s.update(ctx, "sweep", id, func(st slot) error {
		if st.meta.Top.Token != w.Token {
			return fmt.Errorf("top is not %x: %w", w.Token, statestore.ErrRefused)
		}
		for _, r := range w.Replace {
			for _, ref := range r.Remove {
				if st.get(ref) == nil {
					return statestore.Gone(ref)
				}
			}
		}
		for _, slice := range w.Drop {
			if err := st.drop(slice); err != nil {
				return err
			}
		}
		for _, t := range w.Trim {
			if err := st.trim(t); err != nil {
				return err
			}
		}
		for _, r := range w.Replace {
			if err := st.remove(r.Remove); err != nil {
				return err
			}
		}
		return st.putAll(with)
	})
}

// Import implements statestore.Store. It is one transaction.
func (s *Store) Import(ctx context.Context, id statestore.Slot, image statestore.Image) error {
	if err := cmp.Or(ctx.Err(), statestore.CheckImport(id, image)); err != nil {
		return fmt.Errorf("import %s: %w", id, err)
	}
	deltas := s.encode(image.Deltas)
	err := s.write(ctx, func(tx *bolt.Tx) error {
		slots, name := tx.Bucket([]byte(slotsBucket)), statestore.AppendSlot(nil, id)
		if slots.Bucket(name) != nil {
			return statestore.ErrExists
		}
		b, err := slots.CreateBucket(name)
		if err != nil {
			return err
		}
		return fill(slot{b: b}, id.Topic, image.Meta, deltas)
	})
	if err != nil {
		return fmt.Errorf("import %s: %w", id, err)
	}
	return nil
}

// Drop implements statestore.Store. It does not read what it drops.
func (s *Store) Drop(ctx context.Context, id statestore.Slot) error {
	if err := cmp.Or(ctx.Err(), statestore.CheckSlot(id)); err != nil {
		return fmt.Errorf("drop %s: %w", id, err)
	}
	err := s.write(ctx, func(tx *bolt.Tx) error {
		slots, name := tx.Bucket([]byte(slotsBucket)), statestore.AppendSlot(nil, id)
		if slots.Bucket(name) == nil {
			return nil
		}
		return slots.DeleteBucket(name)
	})
	if err != nil {
		return fmt.Errorf("drop %s: %w", id, err)
	}
	return nil
}

// Slots implements statestore.Store. Topic is that of the Restore which made the slot.
func (s *Store) Slots(ctx context.Context, pipeline string) (ids []statestore.Slot, err error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("slots of pipeline %q: %w", pipeline, err)
	}
	err = s.use(func() error {
		return s.db.View(func(tx *bolt.Tx) error {
			slots := tx.Bucket([]byte(slotsBucket))
			c := slots.Cursor()
			for name, _ := c.Seek([]byte(pipeline)); name != nil && bytes.HasPrefix(name, []byte(pipeline)); name, _ = c.Next() {
				id, err := statestore.ParseSlot(name)
				if err != nil {
					return err
				}
				if pipeline == "" || id.Pipeline == pipeline {
					id.Topic = string(slots.Bucket(name).Get([]byte(topicKey)))
					ids = append(ids, id)
				}
			}
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("slots of pipeline %q: %w", pipeline, err)
	}
	return ids, nil
}
