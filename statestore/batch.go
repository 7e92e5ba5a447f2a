package statestore

import "context"

// SlotCommit is one of several commits, each to another slot.
type SlotCommit struct {
	Slot   Slot
	Commit Commit
}

// Committed is what a Commit answers.
type Committed struct {
	Meta Meta
	Err  error
}

// Committer is implemented by a Store that takes several commits in less time than one after the other. Each of them is what a Commit
// is: atomic in its slot, with an answer of its own, whatever becomes of the others.
type Committer interface {
	// CommitAll commits to several slots, each of which is there once, and answers in their order.
	CommitAll(ctx context.Context, commits []SlotCommit) []Committed
}

// CommitAll commits to several slots, at once if the store can.
func CommitAll(ctx context.Context, s Store, commits []SlotCommit) []Committed {
	if c, ok := s.(Committer); ok && len(commits) > 1 {
		return c.CommitAll(ctx, commits)
	}
	out := make([]Committed, len(commits))
	for i := range commits {
		out[i].Meta, out[i].Err = s.Commit(ctx, commits[i].Slot, commits[i].Commit)
	}
	return out
}
