package statestore

import (
	"context"
	"sync"
)

// SlotCommit is one of several commits, each to another slot.
type SlotCommit struct {
	Slot   Slot
	Commit Commit
}

// SlotRaise is one of several raises, each of another slot.
type SlotRaise struct {
	Slot  Slot
	Raise Raise
}

// SlotIndex asks for the deltas of some slices of one slot of several.
type SlotIndex struct {
	Slot   Slot
	Token  Token
	Slices []SliceID
}

// SlotSweep is one of several sweeps, each of another slot.
type SlotSweep struct {
	Slot  Slot
	Sweep Sweep
}

// Answer is what became of one of several calls.
type Answer[T any] struct {
	Value T
	Err   error
}

// Committer is implemented by a Store that takes several commits in less time than one after the other. Each of them is what a Commit
// is: atomic in its slot, with an answer of its own, whatever becomes of the others. No slot may be there twice. Answers are in the
// order of the commits.
type Committer interface {
	CommitAll(ctx context.Context, commits []SlotCommit) []Answer[Meta]
}

// Together is implemented by a Store that does the same for what a plan asks of its partitions, as Committer does for commits.
type Together interface {
	StatusAll(ctx context.Context, slots []Slot) []Answer[Status]
	RaiseAll(ctx context.Context, raises []SlotRaise) []Answer[Meta]
	IndexAll(ctx context.Context, asked []SlotIndex) []Answer[[]DeltaRef]
	SweepAll(ctx context.Context, sweeps []SlotSweep) []Answer[struct{}]
}

// CommitAll commits to several slots: together if the store can, else one after the other.
func CommitAll(ctx context.Context, s Store, commits []SlotCommit) []Answer[Meta] {
	if c, ok := s.(Committer); ok && len(commits) > 1 {
		return c.CommitAll(ctx, commits)
	}
	out := make([]Answer[Meta], len(commits))
	for i := range commits {
		out[i].Value, out[i].Err = s.Commit(ctx, commits[i].Slot, commits[i].Commit)
	}
	return out
}

// StatusAll asks for the status of several slots: together if the store can, else side by side, as all that follow do.
func StatusAll(ctx context.Context, s Store, slots []Slot) []Answer[Status] {
	if t, ok := s.(Together); ok && len(slots) > 1 {
		return t.StatusAll(ctx, slots)
	}
	return sideBySide(slots, func(slot Slot) (Status, error) { return s.Status(ctx, slot) })
}

// RaiseAll raises several slots.
func RaiseAll(ctx context.Context, s Store, raises []SlotRaise) []Answer[Meta] {
	if t, ok := s.(Together); ok && len(raises) > 1 {
		return t.RaiseAll(ctx, raises)
	}
	return sideBySide(raises, func(r SlotRaise) (Meta, error) { return s.Raise(ctx, r.Slot, r.Raise) })
}

// IndexAll lists deltas of several slots.
func IndexAll(ctx context.Context, s Store, asked []SlotIndex) []Answer[[]DeltaRef] {
	if t, ok := s.(Together); ok && len(asked) > 1 {
		return t.IndexAll(ctx, asked)
	}
	return sideBySide(asked, func(a SlotIndex) ([]DeltaRef, error) { return s.Index(ctx, a.Slot, a.Token, a.Slices) })
}

// SweepAll sweeps several slots.
func SweepAll(ctx context.Context, s Store, sweeps []SlotSweep) []Answer[struct{}] {
	if t, ok := s.(Together); ok && len(sweeps) > 1 {
		return t.SweepAll(ctx, sweeps)
	}
	return sideBySide(sweeps, func(w SlotSweep) (struct{}, error) { return struct{}{}, s.Sweep(ctx, w.Slot, w.Sweep) })
}

// MaxSideBySide is how many calls about different slots are under way at once.
const MaxSideBySide = 16

func sideBySide[C, T any](calls []C, f func(C) (T, error)) []Answer[T] {
	out := make([]Answer[T], len(calls))
	SideBySide(len(calls), MaxSideBySide, func(i int) { out[i].Value, out[i].Err = f(calls[i]) })
	return out
}

// SideBySide calls f with 0 to n-1, at most as many at once as are given, and returns when all calls have. A single one is the caller's
// own.
func SideBySide(n, most int, f func(i int)) {
	if n == 1 {
		f(0)
		return
	}
	limit := make(chan struct{}, most)
	var wg sync.WaitGroup
	for i := range n {
		limit <- struct{}{}
		wg.Go(func() {
			defer func() { <-limit }()
			f(i)
		})
	}
	wg.Wait()
}
