package storetest

import (
	"errors"
	"fmt"
	"sync"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/statestore"
)

func concurrentCases() []testCase {
	return []testCase{
		{"OneOfManyCommitsWins", oneCommitWins},
		{"OneOfManyEqualRaisesWins", oneRaiseWins},
		{"OneOfManyRestoresCreates", oneRestoreCreates},
		{"WritersTakeTurns", writersTakeTurns},
		{"ReadersSeeWholeCommits", readersSeeWholeCommits},
	}
}

// together runs n functions at once and returns their errors.
func together(n int, run func(i int) error) []error {
	errs := make([]error, n)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			errs[i] = run(i)
		})
	}
	close(start)
	wg.Wait()
	return errs
}

// winner returns the index of the only nil error; all others must be of the sentinel.
func winner(f *fixture, errs []error, lost error) int {
	f.Helper()
	won := -1
	for i, err := range errs {
		switch {
		case err == nil && won >= 0:
			f.Fatalf("calls %d and %d both won", won, i)
		case err == nil:
			won = i
		case !errors.Is(err, lost):
			f.Fatalf("call %d: %v, want %v", i, err, lost)
		}
	}
	if won < 0 {
		f.Fatalf("nobody won: %v", errs)
	}
	return won
}

func oneCommitWins(f *fixture) {
	token := f.create(100)
	const n = 8
	heads := make([]statestore.Meta, n)
	deltas := func(i int) []statestore.Delta {
		return []statestore.Delta{delta(slice(0), 100, 110+int64(i), uint8(i)), delta(slice(60), 100, 110+int64(i), uint8(i))}
	}
	won := winner(f, together(n, func(i int) error {
		var err error
		heads[i], err = f.store.Commit(f.ctx, f.slot, statestore.Commit{
			Applied: 100, Top: token, To: 110 + int64(i), MaxTime: event.Time(i), Now: event.Time(i), Deltas: deltas(i),
		})
		return err
	}), statestore.ErrConflict)
	f.holds("what the winner wrote", deltas(won)...)
	for i, m := range heads {
		f.equal(fmt.Sprintf("head answered to call %d, when %d won", i, won), f.load(), m)
	}
}

func oneRaiseWins(f *fixture) {
	base := f.create(100)
	f.append(110)
	middle := f.raise(5)
	// One call that was sent many times: a raise with a token of its own may be followed by another on the same base.
	r := statestore.Raise{Token: newToken(), Watermark: 10, Base: middle, BaseOffset: 100, Seen: 110}
	winner(f, together(8, func(int) error {
		_, err := f.store.Raise(f.ctx, f.slot, r)
		return err
	}), statestore.ErrRefused)
	m := f.load()
	f.equal("top", statestore.Cut{Token: r.Token, Offset: 110, Watermark: 10}, m.Top)
	f.equal("base", middle, m.Base.Token)
	if m.HasCut(base) {
		f.Error("the cut below the base is still there")
	}
}

func oneRestoreCreates(f *fixture) {
	r := plan()
	outcomes := make([]statestore.Outcome, 8)
	for _, err := range together(len(outcomes), func(i int) error {
		var err error
		_, outcomes[i], err = f.store.Restore(f.ctx, f.slot, r)
		return err
	}) {
		f.must("restore", err)
	}
	created := 0
	for _, o := range outcomes {
		if o == statestore.Created {
			created++
		} else if o != statestore.Present {
			f.Errorf("outcome %s", o)
		}
	}
	f.equal("restores that created", 1, created)
	f.holds("the refused offsets", r.Refused...)
}

// writersTakeTurns has several writers that each commit on top of what they find: none of their commits is lost or doubled.
func writersTakeTurns(f *fixture) {
	f.create(0)
	const writers, each = 4, 25
	for _, err := range together(writers, func(w int) error {
		m, err := f.store.Load(f.ctx, f.slot)
		if err != nil {
			return err
		}
		for done := 0; done < each; {
			m, err = f.store.Commit(f.ctx, f.slot, statestore.Commit{
				Applied: m.Applied, Top: m.Top.Token, To: m.Applied + 1, MaxTime: event.Time(m.Applied), Now: 1,
				Deltas: []statestore.Delta{delta(slice(0), m.Applied, m.Applied+1, uint8(w))},
			})
			switch {
			case err == nil:
				done++
			case !errors.Is(err, statestore.ErrConflict): // with a conflict came the head to go on from
				return err
			}
		}
		return nil
	}) {
		f.must("write", err)
	}
	count := map[uint8]int{}
	for i, d := range f.contents().Deltas {
		count[d.Bucket]++
		f.equal("delta", delta(slice(0), int64(i), int64(i)+1, d.Bucket), d)
	}
	f.equal("commits of each writer", map[uint8]int{0: each, 1: each, 2: each, 3: each}, count)
	f.equal("applied", int64(writers*each), f.load().Applied)
}

// readersSeeWholeCommits reads heads and indexes while another writes: a status never shows a part of a commit.
func readersSeeWholeCommits(f *fixture) {
	token := f.create(0)
	const commits = 40
	errs := together(3, func(i int) error {
		if i == 0 {
			for n := range int64(commits) {
				deltas := []statestore.Delta{delta(slice(0), n, n+1, 0), delta(slice(0), n, n+1, 1), delta(slice(60), n, n+1, 0)}
				if _, err := f.store.Commit(f.ctx, f.slot, statestore.Commit{Applied: n, Top: token, To: n + 1, Deltas: deltas}); err != nil {
					return err
				}
			}
			return nil
		}
		for applied := int64(0); applied < commits; {
			st, err := f.store.Status(f.ctx, f.slot)
			if err != nil {
				return err
			}
			if applied = st.Applied; applied == 0 {
				continue
			}
			for i := range st.Slices {
				st.Slices[i].Bytes = 0
			}
			want := []statestore.SliceInfo{
				{ID: slice(0), Deltas: int(2 * applied), MaxFrom: applied - 1}, {ID: slice(60), Deltas: int(applied), MaxFrom: applied - 1},
			}
			if d := diff(want, st.Slices); d != "" {
				return fmt.Errorf("slices at offset %d (-want +got):\n%s", applied, d)
			}
			refs, err := f.store.Index(f.ctx, f.slot, token, []statestore.SliceID{slice(0), slice(60)})
			if err != nil {
				return err
			}
			if len(refs)%3 != 0 {
				return fmt.Errorf("an index of %d deltas: part of a commit", len(refs))
			}
			if _, err := f.store.Read(f.ctx, f.slot, token, refs); err != nil {
				return err
			}
		}
		return nil
	})
	for _, err := range errs {
		f.must("reader or writer", err)
	}
}
