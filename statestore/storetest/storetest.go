// Package storetest is the contract of a state store as tests: one suite that every store passes, a random comparison with
// memstore, benchmarks, and a wrapper that makes a store fail at a chosen step.
package storetest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// Run runs the suite. Each subtest opens a store and closes it. The store may have slots already, and others may use it at the
// same time: a subtest makes up a pipeline of its own and drops its slots at the end.
func Run(t *testing.T, open func(t *testing.T) statestore.Store) {
	t.Helper()
	groups := []struct {
		name  string
		cases []testCase
	}{
		{"Slots", slotCases()},
		{"Restore", restoreCases()},
		{"Commit", commitCases()},
		{"Together", togetherCases()},
		{"Raise", raiseCases()},
		{"Read", readCases()},
		{"Sweep", sweepCases()},
		{"Import", importCases()},
		{"Limits", limitCases()},
		{"Concurrent", concurrentCases()},
		{"Model", modelCases()},
	}
	for _, g := range groups {
		t.Run(g.name, func(t *testing.T) {
			for _, c := range g.cases {
				t.Run(c.name, func(t *testing.T) { c.run(newFixture(t, open(t))) })
			}
		})
	}
}

type testCase struct {
	name string
	run  func(f *fixture)
}

// fixture is one store and one slot in it that does not exist yet. Its methods fail the test rather than return errors.
type fixture struct {
	*testing.T
	ctx   context.Context
	store statestore.Store
	slot  statestore.Slot
}

// newFixture has a context that outlives the test, for the cleaning up after it.
func newFixture(t *testing.T, store statestore.Store) *fixture {
	t.Helper()
	f := &fixture{T: t, ctx: context.WithoutCancel(t.Context()), store: store, slot: newSlot()}
	t.Cleanup(func() {
		mine, err := store.Slots(f.ctx, f.slot.Pipeline)
		if err != nil {
			t.Errorf("slots, to clean up: %v", err)
		}
		for _, s := range mine {
			if err := store.Drop(f.ctx, s); err != nil {
				t.Errorf("clean up: %v", err)
			}
		}
		if err := store.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return f
}

// newSlot returns a slot of a pipeline that nobody else uses.
func newSlot() statestore.Slot {
	return statestore.Slot{
		Pipeline: fmt.Sprintf("%016x", rand.Uint64()), TopicID: newToken(), Topic: "orders", Partition: 3,
	}
}

func newToken() statestore.Token {
	var t statestore.Token
	binary.BigEndian.PutUint64(t[:8], rand.Uint64())
	binary.BigEndian.PutUint64(t[8:], rand.Uint64())
	return t
}

// diff treats nil and empty as equal: the contract does not tell them apart.
func diff(want, got any) string {
	if reflect.DeepEqual(want, got) { // cmp takes seconds for megabytes
		return ""
	}
	return cmp.Diff(want, got, cmpopts.EquateEmpty())
}

func (f *fixture) equal(what string, want, got any) {
	f.Helper()
	if d := diff(want, got); d != "" {
		f.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func (f *fixture) fails(what string, err, want error) {
	f.Helper()
	if !errors.Is(err, want) {
		f.Errorf("%s: error %v, want %v", what, err, want)
	}
}

func (f *fixture) must(what string, err error) {
	f.Helper()
	if err != nil {
		f.Fatalf("%s: %v", what, err)
	}
}

// create makes the slot at an offset and returns the token of its cuts, whose watermark is event.MinTime.
func (f *fixture) create(offset int64) statestore.Token {
	f.Helper()
	r := statestore.Restore{
		Token: newToken(), Offset: offset, ReplayFrom: offset, Watermark: event.MinTime, MaxTime: event.MinTime, Now: 1_000,
	}
	f.restore(r, statestore.Created)
	return r.Token
}

func (f *fixture) restore(r statestore.Restore, want statestore.Outcome) statestore.Meta {
	f.Helper()
	m, got, err := f.store.Restore(f.ctx, f.slot, r)
	f.must("restore", err)
	if got != want {
		f.Fatalf("restore: %s, want %s", got, want)
	}
	f.equal("head after restore", f.load(), m)
	return m
}

func (f *fixture) load() statestore.Meta {
	f.Helper()
	m, err := f.store.Load(f.ctx, f.slot)
	f.must("load", err)
	return m
}

// append commits deltas on top of what is stored. The commit ends at to.
func (f *fixture) append(to int64, deltas ...statestore.Delta) statestore.Meta {
	f.Helper()
	m := f.load()
	m, err := f.store.Commit(f.ctx, f.slot, statestore.Commit{
		Applied: m.Applied, Top: m.Top.Token, To: to, MaxTime: event.Time(to), Now: event.Time(to), Deltas: deltas,
	})
	f.must("commit", err)
	f.equal("head after commit", f.load(), m)
	return m
}

// raise makes a new top on the present one and returns its token.
func (f *fixture) raise(w event.Time) statestore.Token {
	f.Helper()
	r := statestore.Raise{Token: newToken(), Watermark: w, Base: f.load().Top.Token}
	m, err := f.store.Raise(f.ctx, f.slot, r)
	f.must("raise", err)
	f.equal("head after raise", f.load(), m)
	return r.Token
}

func (f *fixture) sweep(s statestore.Sweep) {
	f.Helper()
	s.Token = f.load().Top.Token
	f.must("sweep", f.store.Sweep(f.ctx, f.slot, s))
}

// contents is all there is in a slot.
type contents struct {
	Status statestore.Status
	Deltas []statestore.Delta
}

func (f *fixture) contents() contents {
	f.Helper()
	c, err := readContents(f.ctx, f.store, f.slot)
	f.must("contents", err)
	return c
}

func readContents(ctx context.Context, store statestore.Store, slot statestore.Slot) (contents, error) {
	st, err := store.Status(ctx, slot)
	if err != nil {
		return contents{}, err
	}
	ids := make([]statestore.SliceID, 0, len(st.Slices))
	for _, s := range st.Slices {
		ids = append(ids, s.ID)
	}
	refs, err := store.Index(ctx, slot, st.Top.Token, ids)
	if err != nil {
		return contents{}, err
	}
	payloads, err := store.Read(ctx, slot, st.Top.Token, refs)
	if err != nil {
		return contents{}, err
	}
	if len(payloads) != len(refs) {
		return contents{}, fmt.Errorf("%d payloads of %d deltas", len(payloads), len(refs))
	}
	for i := range st.Slices {
		st.Slices[i].Bytes = 0 // may be an estimate
	}
	c := contents{Status: st}
	for i, r := range refs {
		c.Deltas = append(c.Deltas, statestore.Delta{Ref: r, Payload: payloads[i]})
	}
	return c, nil
}

// holds checks the deltas of the slot, in the order of (slice, From, Bucket), and what the status says of them.
func (f *fixture) holds(what string, want ...statestore.Delta) {
	f.Helper()
	c := f.contents()
	f.equal(what, want, c.Deltas)
	var infos []statestore.SliceInfo
	for _, d := range want {
		if n := len(infos); n == 0 || infos[n-1].ID != d.Slice {
			infos = append(infos, statestore.SliceInfo{ID: d.Slice})
		}
		last := &infos[len(infos)-1]
		last.Deltas++
		last.MaxFrom = max(last.MaxFrom, d.From)
	}
	if len(infos) != len(c.Status.Slices) {
		f.Errorf("%s: slices %v, want %v", what, c.Status.Slices, infos)
		return
	}
	for i, want := range infos {
		got := c.Status.Slices[i]
		if got.ID != want.ID || got.Deltas != want.Deltas || got.MaxFrom < want.MaxFrom {
			f.Errorf("%s: slice %+v, want %+v", what, got, want)
		}
	}
}

// unchanged runs something that must leave the slot as it is.
func (f *fixture) unchanged(what string, run func()) {
	f.Helper()
	before := f.contents()
	run()
	f.equal("contents after "+what, before, f.contents())
}

// slice names a list of deltas of window definition 0.
func slice(start event.Time) statestore.SliceID { return statestore.SliceID{Start: start} }

// delta makes a delta whose payload names it.
func delta(id statestore.SliceID, from, to int64, bucket uint8) statestore.Delta {
	return statestore.Delta{
		Ref:     statestore.DeltaRef{Slice: id, From: from, To: to, Bucket: bucket, Owned: to - from},
		Payload: fmt.Appendf(nil, "%d/%d [%d, %d) %d", id.Window, id.Start, from, to, bucket),
	}
}

func refused(from, to int64) statestore.Delta {
	return delta(statestore.SliceID{Window: statestore.ListRefused}, from, to, 0)
}

func refsOf(deltas ...statestore.Delta) []statestore.DeltaRef {
	refs := make([]statestore.DeltaRef, 0, len(deltas))
	for _, d := range deltas {
		refs = append(refs, d.Ref)
	}
	return refs
}

func payloadsOf(deltas ...statestore.Delta) [][]byte {
	payloads := make([][]byte, 0, len(deltas))
	for _, d := range deltas {
		payloads = append(payloads, slices.Clone(d.Payload))
	}
	return payloads
}
