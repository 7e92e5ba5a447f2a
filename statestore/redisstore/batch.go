package redisstore

import (
	"cmp"
	"context"
	"errors"

	"github.com/redis/go-redis/v9"

	"github.com/llm-auto-optimizer/tidemark/statestore"
)

var _ statestore.Committer = (*Store)(nil)

// CommitAll implements statestore.Committer: one round trip to each server. Deltas that several commits have in common, being the
// same slice, are encoded once. What is too large for one call is committed by itself.
func (s *Store) CommitAll(ctx context.Context, commits []statestore.SlotCommit) []statestore.Committed {
	out := make([]statestore.Committed, len(commits))
	var batches []*batch
	var encoded []encoding
	for i := range commits {
		slot, c := commits[i].Slot, commits[i].Commit
		if err := statestore.CheckCommit(slot, c); err != nil {
			out[i].Err = err
			continue
		}
		var groups []group
		groups, encoded = s.encode(encoded, c.Deltas)
		keys := keysOf(slot)
		one, bytes, ok := s.oneCall(keys, s.scripts.commit, commitArgs(c), groups)
		if !ok {
			out[i].Meta, out[i].Err = s.Commit(ctx, slot, c)
			continue
		}
		node := s.node(ctx, one.keys[0])
		var b *batch
		for _, x := range batches {
			if x.node == node && x.bytes+bytes <= s.limits.bytes {
				b = x
			}
		}
		if b == nil {
			b = &batch{node: node}
			batches = append(batches, b)
		}
		b.calls, b.at, b.bytes = append(b.calls, one), append(b.at, i), b.bytes+bytes
	}
	for _, b := range batches {
		for n, got := range s.runAll(ctx, b.calls) {
			i := b.at[n]
			out[i].Meta, out[i].Err = committed(commits[i].Slot, commits[i].Commit, got.answer, got.err)
		}
	}
	return out
}

// batch is calls that go to one server together.
type batch struct {
	node  string
	calls []call
	at    []int // of each, the index of its commit
	bytes int
}

// encoding is deltas in their stored form.
type encoding struct {
	of     []statestore.Delta
	groups []group
}

// encode returns the stored form of deltas, and what has been encoded so far.
func (s *Store) encode(known []encoding, deltas []statestore.Delta) ([]group, []encoding) {
	for _, e := range known {
		if len(deltas) > 0 && len(e.of) == len(deltas) && &e.of[0] == &deltas[0] {
			return e.groups, known
		}
	}
	groups := groupDeltas(s.codec, deltas)
	return groups, append(known, encoding{deltas, groups})
}

// errNotSent is what became of a command of which nothing else is known.
var errNotSent = errors.New("redisstore: the command was not sent")

// called is what a call came to.
type called struct {
	answer answer
	err    error
}

// runAll calls scripts of one server together, each as run does.
func (s *Store) runAll(ctx context.Context, calls []call) []called {
	out := make([]called, len(calls))
	cmds := make([]*redis.Cmd, len(calls))
	for i, c := range calls {
		cmds[i] = c.command(ctx, "evalsha", c.script.sha)
	}
	err := s.guard(ctx, calls[0].keys[0], func(ctx context.Context) error { return s.processAll(ctx, cmds) })
	for i, cmd := range cmds {
		switch e := cmd.Err(); {
		case e == nil && cmd.Val() == nil: // it was not sent
			out[i].err = cmp.Or(err, errNotSent)
		case e == nil:
			var reply []any
			if reply, out[i].err = cmd.Slice(); out[i].err == nil {
				out[i].answer, out[i].err = parseAnswer(reply)
			}
		case redis.HasErrorPrefix(e, "NOSCRIPT"):
			out[i].answer, out[i].err = s.run(ctx, calls[i])
		case isAnswer(e) || err == nil:
			out[i].err = trouble(ctx, s.node(ctx, calls[i].keys[0]), 0, e)
		default:
			out[i].err = err
		}
	}
	return out
}

// processAll sends commands together, and once more with credentials that were asked for anew where those that were kept were
// refused. The error is that of the connection: what servers answered is with the commands.
func (s *Store) processAll(ctx context.Context, cmds []*redis.Cmd) error {
	send := func() error {
		pipe := s.client.Pipeline()
		for _, cmd := range cmds {
			_ = pipe.Process(ctx, cmd) // it is only queued
		}
		_, err := pipe.Exec(ctx)
		if err == nil {
			return nil
		}
		for _, cmd := range cmds {
			// A server that refuses the connection has answered no command, and the client leaves most of them without an error.
			if cmd.Err() == nil && cmd.Val() == nil {
				cmd.SetErr(err)
			}
		}
		return err
	}
	err := send()
	if s.login.refused(err) {
		for _, cmd := range cmds {
			cmd.SetErr(nil)
		}
		err = send()
	}
	if isAnswer(err) {
		return nil
	}
	return err
}
