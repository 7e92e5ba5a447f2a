package checkpoint_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/checkpoint"
)

// pipelineID is the pipeline of all slots here, and created the time of all checkpoints.
const (
	pipelineID = "0123456789abcdef"
	created    = 1_735_734_840_000
)

func header() checkpoint.Header {
	return checkpoint.Header{
		App: "shop", CreatedMS: created,
		Pipelines: []checkpoint.Pipeline{{ID: pipelineID, Name: "orders", Group: "tidemark.shop.orders.0011223344556677"}},
	}
}

func slotOf(partition int32) statestore.Slot {
	return statestore.Slot{Pipeline: pipelineID, TopicID: [16]byte{1, 2, 3}, Topic: "orders", Partition: partition}
}

func allSlots(n int32) []statestore.Slot {
	var out []statestore.Slot
	for p := range n {
		out = append(out, slotOf(p))
	}
	return out
}

func token(n byte) statestore.Token { return statestore.Token{0xee, n} }

func list(window uint16, start event.Time) statestore.SliceID {
	return statestore.SliceID{Window: window, Start: start}
}

func delta(id statestore.SliceID, from, to int64, bucket uint8, size int) statestore.Delta {
	payload := bytes.Repeat(fmt.Appendf(nil, "%d/%d@%d.%d ", id.Window, id.Start, from, bucket), size/8+1)[:size]
	return statestore.Delta{Ref: statestore.DeltaRef{Slice: id, From: from, To: to, Bucket: bucket, Owned: to - from}, Payload: payload}
}

// live fills a slot as restores, commits, raises and sweeps do: restored at 40 with refused offsets up to 60, applied to 90.
func live(t testing.TB, s statestore.Store, slot statestore.Slot) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	restore := statestore.Restore{
		Token: token(1), Offset: 60, Watermark: 1_000, ReplayFrom: 40, MaxTime: 2_000, Now: 5,
		Refused: []statestore.Delta{delta(list(statestore.ListRefused, 0), 40, 60, 0, 20)},
	}
	_, _, err := s.Restore(ctx, slot, restore)
	commit := func(token statestore.Token, from, to int64) {
		_, e := s.Commit(ctx, slot, statestore.Commit{Applied: from, To: to, Top: token, MaxTime: event.Time(to * 100), Now: event.Time(to), Deltas: []statestore.Delta{
			delta(list(0, 0), from, to, 0, 30), delta(list(0, 0), from, to, 1, 0), delta(list(1, -60_000), from, to, 0, 3_000),
			delta(list(statestore.ListCounts, 0), from, to, 0, 9),
		}})
		err = errors.Join(err, e)
	}
	commit(token(1), 40, 55)
	commit(token(1), 55, 60)
	_, e := s.Raise(ctx, slot, statestore.Raise{Token: token(2), Watermark: 3_000, Base: token(1)})
	err = errors.Join(err, e)
	commit(token(2), 60, 80)
	err = errors.Join(err, s.Sweep(ctx, slot, statestore.Sweep{Token: token(2), Replace: []statestore.Replace{{
		Remove: []statestore.DeltaRef{delta(list(1, -60_000), 40, 55, 0, 0).Ref, delta(list(1, -60_000), 55, 60, 0, 0).Ref},
		With:   []statestore.Delta{delta(list(1, -60_000), 40, 60, 0, 100)},
	}}}))
	commit(token(2), 80, 90)
	if err != nil {
		t.Fatal(err)
	}
}

// contents is all that a store tells of a slot.
type contents struct {
	Status   statestore.Status
	Refs     []statestore.DeltaRef
	Payloads [][]byte
}

func read(t testing.TB, s statestore.Store, slot statestore.Slot) contents {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	st, err := s.Status(ctx, slot)
	if err != nil {
		t.Fatal(err)
	}
	for i := range st.Slices {
		st.Slices[i].Bytes = 0 // as each store has them
	}
	c := contents{Status: st}
	var ids []statestore.SliceID
	for _, i := range st.Slices {
		ids = append(ids, i.ID)
	}
	if c.Refs, err = s.Index(ctx, slot, st.Top.Token, ids); err != nil {
		t.Fatal(err)
	}
	if c.Payloads, err = s.Read(ctx, slot, st.Top.Token, c.Refs); err != nil {
		t.Fatal(err)
	}
	return c
}

func same(t testing.TB, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// export exports slots into memory.
func export(t testing.TB, s checkpoint.Source, slots []statestore.Slot) []byte {
	t.Helper()
	var b bytes.Buffer
	totals, err := checkpoint.Export(context.WithoutCancel(t.Context()), s, &b, header(), slots, nil)
	if err != nil {
		t.Fatal(err)
	}
	if totals.Bytes != int64(b.Len()) {
		t.Errorf("%d bytes counted, %d written", totals.Bytes, b.Len())
	}
	return b.Bytes()
}

func everything(statestore.Slot, statestore.Meta) bool { return true }

// importAll imports a file, and returns what became of its slots, by partition.
func importAll(t testing.TB, s checkpoint.Sink, file []byte) map[int32]checkpoint.Outcome {
	t.Helper()
	got := map[int32]checkpoint.Outcome{}
	_, err := checkpoint.Import(context.WithoutCancel(t.Context()), s, bytes.NewReader(file), everything, func(r checkpoint.Result) {
		got[r.Slot.Partition] = r.Outcome
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// images reads all slots of a file.
func images(t testing.TB, file []byte) map[statestore.Slot]statestore.Image {
	t.Helper()
	got := map[statestore.Slot]statestore.Image{}
	_, _, err := checkpoint.Read(bytes.NewReader(file), checkpoint.Content{Slot: func(s statestore.Slot, m statestore.Image) error {
		got[s] = m
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// noise returns a payload that does not shrink.
func noise(seed uint64, size int) []byte {
	rng := rand.New(rand.NewPCG(seed, seed))
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

func sortedNames(t testing.TB, target checkpoint.Target) []string {
	t.Helper()
	names, err := target.List(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}
