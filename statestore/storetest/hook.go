package storetest

import (
	"context"

	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// Hook returns a store that calls before and after around each call of s, with the name of the method and the slot (empty for
// Slots and Close). An error of before is returned in the place of the call, which is not made: a process that died before
// it. An error of after is returned although the call was made and nothing else of its answer is: a process that died, or a
// connection that broke, after it. after is called only when the call itself succeeded. Either may be nil; both may be called
// concurrently.
func Hook(s statestore.Store, before, after func(op string, slot statestore.Slot) error) statestore.Store {
	none := func(string, statestore.Slot) error { return nil }
	if before == nil {
		before = none
	}
	if after == nil {
		after = none
	}
	return &hooked{store: s, before: before, after: after}
}

type hooked struct {
	store         statestore.Store
	before, after func(op string, slot statestore.Slot) error
}

// around makes a call between the hooks. The answer of a call whose success is hidden is the zero value.
func around[T any](h *hooked, op string, slot statestore.Slot, call func() (T, error)) (T, error) {
	var zero T
	if err := h.before(op, slot); err != nil {
		return zero, err
	}
	answer, err := call()
	if err != nil {
		return answer, err // a conflict comes with the stored head
	}
	if err := h.after(op, slot); err != nil {
		return zero, err
	}
	return answer, nil
}

func (h *hooked) Load(ctx context.Context, slot statestore.Slot) (statestore.Meta, error) {
	return around(h, "Load", slot, func() (statestore.Meta, error) { return h.store.Load(ctx, slot) })
}

func (h *hooked) Status(ctx context.Context, slot statestore.Slot) (statestore.Status, error) {
	return around(h, "Status", slot, func() (statestore.Status, error) { return h.store.Status(ctx, slot) })
}

func (h *hooked) Restore(ctx context.Context, slot statestore.Slot, r statestore.Restore) (statestore.Meta, statestore.Outcome, error) {
	type answer struct {
		meta    statestore.Meta
		outcome statestore.Outcome
	}
	a, err := around(h, "Restore", slot, func() (answer, error) {
		m, o, err := h.store.Restore(ctx, slot, r)
		return answer{m, o}, err
	})
	return a.meta, a.outcome, err
}

func (h *hooked) Commit(ctx context.Context, slot statestore.Slot, c statestore.Commit) (statestore.Meta, error) {
	return around(h, "Commit", slot, func() (statestore.Meta, error) { return h.store.Commit(ctx, slot, c) })
}

func (h *hooked) Raise(ctx context.Context, slot statestore.Slot, r statestore.Raise) (statestore.Meta, error) {
	return around(h, "Raise", slot, func() (statestore.Meta, error) { return h.store.Raise(ctx, slot, r) })
}

func (h *hooked) Index(ctx context.Context, slot statestore.Slot, token statestore.Token, ids []statestore.SliceID) ([]statestore.DeltaRef, error) {
	return around(h, "Index", slot, func() ([]statestore.DeltaRef, error) { return h.store.Index(ctx, slot, token, ids) })
}

func (h *hooked) Read(ctx context.Context, slot statestore.Slot, token statestore.Token, refs []statestore.DeltaRef) ([][]byte, error) {
	return around(h, "Read", slot, func() ([][]byte, error) { return h.store.Read(ctx, slot, token, refs) })
}

func (h *hooked) Sweep(ctx context.Context, slot statestore.Slot, s statestore.Sweep) error {
	return h.plain("Sweep", slot, func() error { return h.store.Sweep(ctx, slot, s) })
}

func (h *hooked) Import(ctx context.Context, slot statestore.Slot, image statestore.Image) error {
	return h.plain("Import", slot, func() error { return h.store.Import(ctx, slot, image) })
}

func (h *hooked) Drop(ctx context.Context, slot statestore.Slot) error {
	return h.plain("Drop", slot, func() error { return h.store.Drop(ctx, slot) })
}

func (h *hooked) Slots(ctx context.Context, pipeline string) ([]statestore.Slot, error) {
	return around(h, "Slots", statestore.Slot{}, func() ([]statestore.Slot, error) { return h.store.Slots(ctx, pipeline) })
}

func (h *hooked) Close() error { return h.plain("Close", statestore.Slot{}, h.store.Close) }

func (h *hooked) plain(op string, slot statestore.Slot, call func() error) error {
	_, err := around(h, op, slot, func() (struct{}, error) { return struct{}{}, call() })
	return err
}
