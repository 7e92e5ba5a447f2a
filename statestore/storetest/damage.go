package storetest

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"strings"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// Raw writes stored bytes of a slot behind the back of its store.
type Raw interface {
	// Head replaces the head by one that is as long as statestore.EncodeMeta writes it.
	Head(slot statestore.Slot, head []byte) error
	// Delta replaces the stored bytes of a delta that is there.
	Delta(slot statestore.Slot, ref statestore.DeltaRef, stored []byte) error
	// List adds a list whose name is not the name of a slice.
	List(slot statestore.Slot, name string) error
}

// RunDamage runs the suite of what cannot be read: damage is ErrFormat, a newer version is ErrVersion and never both; neither
// changes anything; a damaged slot is dropped and made anew.
func RunDamage(t *testing.T, open func(t *testing.T) (statestore.Store, Raw)) {
	t.Helper()
	for _, c := range []struct {
		name string
		want error
		hurt func(f *fixture, raw Raw) error
		ops  string // those that see it
	}{
		{"HeadOfANewerVersion", statestore.ErrVersion, hurtVersion("02"), "load status restore commit raise index read sweep"},
		{"HeadOfNoVersion", statestore.ErrFormat, hurtVersion("?!"), "load status restore commit raise index read sweep"},
		{"HeadOfVersionZero", statestore.ErrFormat, hurtVersion("00"), "load status restore commit raise index read sweep"},
		{"HeadWithADamagedOffset", statestore.ErrFormat, hurtHead(2), "load status restore commit raise index read sweep"},
		{"HeadWithADamagedCut", statestore.ErrFormat, hurtHead(statestore.MetaSize - 60), "load status restore commit raise index read sweep"},
		{"DeltaWithOneBitFlipped", statestore.ErrFormat, hurtDelta(func(b []byte) []byte { b[len(b)-1] ^= 1; return b }), "read"},
		{"DeltaCutShort", statestore.ErrFormat, hurtDelta(func(b []byte) []byte { return b[:3] }), "read"},
		{"DeltaOfAnUnknownCodec", statestore.ErrVersion, hurtDelta(func(b []byte) []byte { return seal(9, b[5:]) }), "read"},
		{"ListOfNoSlice", statestore.ErrFormat, func(f *fixture, raw Raw) error { return raw.List(f.slot, "00zz") }, "status"},
	} {
		t.Run(c.name, func(t *testing.T) {
			store, raw := open(t)
			f := newFixture(t, store)
			token := f.create(0)
			d := damaged()
			f.must("commit", second(store.Commit(f.ctx, f.slot, statestore.Commit{Applied: 0, Top: token, To: 5, Deltas: []statestore.Delta{d}})))
			f.must("damage", c.hurt(f, raw))
			for range 2 { // what refuses it leaves it as it is
				for op, err := range everyOp(f, token, d) {
					sees := strings.Contains(" "+c.ops+" ", " "+op+" ")
					if sees && (!errors.Is(err, c.want) || errors.Is(err, statestore.ErrFormat) && errors.Is(err, statestore.ErrVersion)) {
						f.Errorf("%s: error %v, want %v alone", op, err, c.want)
					}
					if !sees && (errors.Is(err, statestore.ErrFormat) || errors.Is(err, statestore.ErrVersion)) {
						f.Errorf("%s: error %v", op, err)
					}
				}
			}
			f.must("drop", store.Drop(f.ctx, f.slot))
			token = f.create(0)
			d.Payload = []byte("anew")
			f.must("commit", second(store.Commit(f.ctx, f.slot, statestore.Commit{Applied: 0, Top: token, To: 5, Deltas: []statestore.Delta{d}})))
			f.holds("what was written after the drop", d)
		})
	}
}

// damaged is a delta whose payload is written as it is.
func damaged() statestore.Delta {
	return statestore.Delta{
		Ref: statestore.DeltaRef{Slice: statestore.SliceID{Window: 1, Start: 60_000}, From: 0, To: 5, Owned: 5}, Payload: []byte("five records"),
	}
}

// everyOp calls what changes nothing in a slot that cannot be read, and as little as can be in one that can.
func everyOp(f *fixture, token statestore.Token, d statestore.Delta) map[string]error {
	_, errIndex := f.store.Index(f.ctx, f.slot, token, []statestore.SliceID{d.Slice})
	_, errRead := f.store.Read(f.ctx, f.slot, token, []statestore.DeltaRef{d.Ref})
	_, _, errRestore := f.store.Restore(f.ctx, f.slot, statestore.Restore{Token: token})
	return map[string]error{
		"load":    second(f.store.Load(f.ctx, f.slot)),
		"status":  second(f.store.Status(f.ctx, f.slot)),
		"restore": errRestore,
		"commit":  second(f.store.Commit(f.ctx, f.slot, statestore.Commit{Applied: 5, Top: token, To: 5})),
		"raise":   second(f.store.Raise(f.ctx, f.slot, statestore.Raise{Token: newToken(), Base: newToken()})),
		"index":   errIndex,
		"read":    errRead,
		"sweep":   f.store.Sweep(f.ctx, f.slot, statestore.Sweep{Token: token}),
	}
}

func second[T any](_ T, err error) error { return err }

// hurtVersion replaces the version of the head.
func hurtVersion(v string) func(*fixture, Raw) error {
	return func(f *fixture, raw Raw) error {
		return raw.Head(f.slot, append([]byte(v), statestore.EncodeMeta(f.load())[len(v):]...))
	}
}

// hurtHead makes one character of the head none that a head can have.
func hurtHead(at int) func(*fixture, Raw) error {
	return func(f *fixture, raw Raw) error {
		head := statestore.EncodeMeta(f.load())
		head[at] = '~'
		return raw.Head(f.slot, head)
	}
}

// hurtDelta replaces the stored bytes of the delta.
func hurtDelta(change func([]byte) []byte) func(*fixture, Raw) error {
	return func(f *fixture, raw Raw) error {
		d := damaged()
		return raw.Delta(f.slot, d.Ref, change(statestore.CodecNone.Append(nil, d.Payload)))
	}
}

// seal writes a payload under a codec that need not exist, with the checksum that it should have.
func seal(codec byte, body []byte) []byte {
	stored := append([]byte{codec, 0, 0, 0, 0}, body...)
	sum := crc32.Update(crc32.Update(0, crc32.MakeTable(crc32.Castagnoli), stored[:1]), crc32.MakeTable(crc32.Castagnoli), body)
	binary.LittleEndian.PutUint32(stored[1:], sum)
	return stored
}
