package boltstore

import (
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/storetest"
)

// raw writes what a slot's bucket holds behind the store's back.
type raw struct{ s *Store }

func (r raw) change(slot statestore.Slot, change func(b *bolt.Bucket) error) error {
	return r.s.db.Update(func(tx *bolt.Tx) error {
		return change(tx.Bucket([]byte(slotsBucket)).Bucket(statestore.AppendSlot(nil, slot)))
	})
}

func (r raw) Head(slot statestore.Slot, head []byte) error {
	return r.change(slot, func(b *bolt.Bucket) error { return b.Put([]byte(headKey), head) })
}

func (r raw) Delta(slot statestore.Slot, ref statestore.DeltaRef, stored []byte) error {
	return r.change(slot, func(b *bolt.Bucket) error {
		return b.Bucket(statestore.AppendSlice(nil, ref.Slice)).Put(statestore.AppendField(nil, ref), stored)
	})
}

func (r raw) List(slot statestore.Slot, name string) error {
	return r.change(slot, func(b *bolt.Bucket) error {
		_, err := b.CreateBucket([]byte(name))
		return err
	})
}

func TestDamage(t *testing.T) {
	storetest.RunDamage(t, func(t *testing.T) (statestore.Store, storetest.Raw) {
		t.Helper()
		s, err := Open(t.TempDir(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		return s, raw{s} // the suite closes it
	})
}
