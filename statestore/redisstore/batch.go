package redisstore

import (
	"cmp"
	"context"
	"errors"

	"github.com/redis/go-redis/v9"

	"github.com/llm-auto-optimizer/tidemark/statestore"
)

var (
	_ statestore.Committer = (*Store)(nil)
	_ statestore.Together  = (*Store)(nil)
)

// CommitAll implements statestore.Committer: as all that follow, it takes one round trip to each server, unless there is very much to send or to ask for. Deltas that several commits have in
// common, being the same slice, are encoded once. What is too large for one call is committed by itself.
func (s *Store) CommitAll(ctx context.Context, commits []statestore.SlotCommit) []statestore.Answer[statestore.Meta] {
	out := make([]statestore.Answer[statestore.Meta], len(commits))
	var b bundle
	var encoded []encoding
	for i := range commits {
		slot, c := commits[i].Slot, commits[i].Commit
		if err := statestore.CheckCommit(slot, c); err != nil {
			out[i].Err = err
			continue
		}
		var groups []group
		groups, encoded = s.encode(encoded, c.Deltas)
		one, bytes, ok := s.oneCall(keysOf(slot), s.scripts.commit, commitArgs(c), groups)
		if !ok {
			b.addAlone(func() { out[i].Value, out[i].Err = s.Commit(ctx, slot, c) })
			continue
		}
		b.add(i, one, bytes)
	}
	s.runBundle(ctx, &b, func(i int, got called) {
		out[i].Value, out[i].Err = committed(commits[i].Slot, commits[i].Commit, got.answer, got.err)
	})
	return out
}

// StatusAll implements statestore.Together.
func (s *Store) StatusAll(ctx context.Context, slots []statestore.Slot) []statestore.Answer[statestore.Status] {
	out := make([]statestore.Answer[statestore.Status], len(slots))
	var b bundle
	for i, slot := range slots {
		if out[i].Err = statestore.CheckSlot(slot); out[i].Err == nil {
			b.add(i, s.statusCall(slot), 0)
		}
	}
	s.runBundle(ctx, &b, func(i int, got called) { out[i].Value, out[i].Err = statusOf(slots[i], got.answer, got.err) })
	return out
}

// RaiseAll implements statestore.Together. As with Raise, the client repeats nothing on its own.
func (s *Store) RaiseAll(ctx context.Context, raises []statestore.SlotRaise) []statestore.Answer[statestore.Meta] {
	out := make([]statestore.Answer[statestore.Meta], len(raises))
	var b bundle
	for i, r := range raises {
		if out[i].Err = statestore.CheckSlot(r.Slot); out[i].Err == nil {
			b.add(i, s.raiseCall(r.Slot, r.Raise), 0)
		}
	}
	s.runBundle(ctx, &b, func(i int, got called) {
		out[i].Value, out[i].Err = raised(raises[i].Slot, raises[i].Raise, got.answer, got.err)
	})
	return out
}

// IndexAll implements statestore.Together. A slot with more slices than one call asks for is asked by itself.
func (s *Store) IndexAll(ctx context.Context, asked []statestore.SlotIndex) []statestore.Answer[[]statestore.DeltaRef] {
	out := make([]statestore.Answer[[]statestore.DeltaRef], len(asked))
	var b bundle
	for i, a := range asked {
		switch err := statestore.CheckSlot(a.Slot); {
		case err != nil:
			out[i].Err = err
		case len(a.Slices) > s.limits.lists:
			b.addAlone(func() { out[i].Value, out[i].Err = s.Index(ctx, a.Slot, a.Token, a.Slices) })
		default:
			b.add(i, s.indexCall(keysOf(a.Slot), a.Token, a.Slices), 0)
		}
	}
	s.runBundle(ctx, &b, func(i int, got called) {
		out[i].Value, out[i].Err = indexed(nil, asked[i].Slot, asked[i].Token, asked[i].Slices, got.answer, got.err)
	})
	return out
}

// SweepAll implements statestore.Together. A sweep that is too large for one call is made by itself.
func (s *Store) SweepAll(ctx context.Context, sweeps []statestore.SlotSweep) []statestore.Answer[struct{}] {
	out := make([]statestore.Answer[struct{}], len(sweeps))
	var b bundle
	for i := range sweeps {
		slot, w := sweeps[i].Slot, sweeps[i].Sweep
		if err := statestore.CheckSweep(slot, w); err != nil {
			out[i].Err = err
			continue
		}
		fixed, with := sweepArgs(w)
		one, bytes, ok := s.oneCall(keysOf(slot), s.scripts.sweep, fixed, groupDeltas(s.codec, with))
		if !ok {
			b.addAlone(func() { out[i].Err = s.Sweep(ctx, slot, w) })
			continue
		}
		b.add(i, one, bytes)
	}
	s.runBundle(ctx, &b, func(i int, got called) { out[i].Err = swept(sweeps[i].Slot, sweeps[i].Sweep, got.answer, got.err) })
	return out
}

// bundle is calls about slots that may be of several servers.
type bundle struct {
	calls []call
	at    []int // of each, the index that it has for the caller
	bytes []int // of each, what it sends
	alone []func()
}

func (b *bundle) add(i int, c call, bytes int) {
	b.calls, b.at, b.bytes = append(b.calls, c), append(b.at, i), append(b.bytes, bytes)
}

// addAlone adds what does not fit into one call, and so takes several of its own.
func (b *bundle) addAlone(f func()) { b.alone = append(b.alone, f) }

// runBundle calls everything, what goes to one server together, and tells what became of each; not one after the other.
func (s *Store) runBundle(ctx context.Context, b *bundle, tell func(i int, got called)) {
	byNode := map[string][]*batch{}
	for n, c := range b.calls {
		node, lists := s.node(ctx, c.keys[0]), len(c.keys)-baseKeys
		batches := byNode[node]
		if len(batches) == 0 || !batches[len(batches)-1].takes(s.limits, lists, b.bytes[n]) {
			batches = append(batches, &batch{})
			byNode[node] = batches
		}
		to := batches[len(batches)-1]
		to.calls, to.at, to.lists, to.bytes = append(to.calls, c), append(to.at, b.at[n]), to.lists+lists, to.bytes+b.bytes[n]
	}
	tasks := b.alone
	for _, batches := range byNode {
		tasks = append(tasks, func() {
			for _, x := range batches {
				for n, got := range s.runAll(ctx, x.calls) {
					tell(x.at[n], got)
				}
			}
		})
	}
	statestore.SideBySide(len(tasks), statestore.MaxSideBySide, func(i int) { tasks[i]() })
}

// batch is calls that go to one server together. All of them have the time that one call has, so they are bounded in what they ask for.
type batch struct {
	calls []call
	at    []int // of each, the index that it has for the caller
	lists int   // that are named
	bytes int
}

// takes reports whether there is room for a call.
func (b *batch) takes(l limits, lists, bytes int) bool {
	return len(b.calls) < maxTogether && b.bytes+bytes <= l.bytes && b.lists+lists <= l.lists
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
	err := s.guard(ctx, calls[0].keys[0], func(ctx context.Context) error { return s.processAll(ctx, calls, cmds) })
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

// processAll sends commands together, and those that were not answered once more with credentials that were asked for anew, where those
// that were kept were refused. The error is that of the connection: what servers answered is with the commands.
func (s *Store) processAll(ctx context.Context, calls []call, cmds []*redis.Cmd) error {
	send := func() error {
		pipe := s.client.Pipeline()
		for i, cmd := range cmds {
			switch {
			case cmd.Val() != nil: // answered already
			case calls[i].once:
				_ = pipe.Process(ctx, onceCmd{cmd}) // it is only queued
			default:
				_ = pipe.Process(ctx, cmd)
			}
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
