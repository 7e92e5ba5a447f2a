//go:build servers

package redisstore

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/statestore"
)

func TestCommitTooLargeForOneCallIsStaged(t *testing.T) {
	eachServer(t, func(t *testing.T, s *Store) {
		log := &sent{}
		s.client.AddHook(log)
		for _, v := range []struct {
			name          string
			deltas, bytes int
			calls         int // of the commit, and of one that is refused
		}{
			{"fits", 3000, 10, 1},
			{"many", 9000, 10, 4},
			{"large", 12, 1 << 20, 5},
		} {
			t.Run(v.name, func(t *testing.T) {
				slot := newSlot(t, s)
				top := created(t, s, slot, 10)
				deltas := deltasOf(10, 20, v.deltas, v.bytes)
				*log = sent{}
				c := statestore.Commit{Applied: 10, Top: top, To: 20, MaxTime: 77, Now: 2000, Deltas: deltas}
				m, err := s.Commit(t.Context(), slot, c)
				if err != nil || m.Applied != 20 || m.MaxTime != 77 {
					t.Fatalf("commit: %+v, %v", m, err)
				}
				calls := 0
				for i, n := range log.args {
					if n > 3900 {
						t.Errorf("a call with %d arguments", n)
					}
					if log.what[i] == "evalsha" {
						calls++
					}
				}
				// A script that the server does not know yet is sent once more, with its text.
				if evals := len(log.what) - calls; calls != v.calls || evals > 2 {
					t.Errorf("%d calls by digest and %d others, want %d and at most 2", calls, evals, v.calls)
				}
				got, err := s.Read(t.Context(), slot, top, refsOf(deltas))
				if err != nil {
					t.Fatal(err)
				}
				samePayloads(t, deltas, got)
				before := keysIn(t, s, slot)
				if m, err = s.Commit(t.Context(), slot, c); !errors.Is(err, statestore.ErrConflict) || m.Applied != 20 {
					t.Errorf("the same commit again: %+v, %v", m, err)
				}
				if diff := cmp.Diff(before, keysIn(t, s, slot)); diff != "" {
					t.Errorf("keys after a refused commit (-before +after):\n%s", diff)
				}
			})
		}
	})
}

func TestStagedDeltasAreNoPartOfTheSlot(t *testing.T) {
	eachServer(t, func(t *testing.T, s *Store) {
		slot := newSlot(t, s)
		top := created(t, s, slot, 0)
		// A commit that dies after its first parts.
		groups := groupDeltas(statestore.CodecNone, deltasOf(0, 9, 300, 5))
		if _, err := s.stage(t.Context(), keysOf(slot), groups); err != nil {
			t.Fatal(err)
		}
		st, err := s.Status(t.Context(), slot)
		if err != nil || len(st.Slices) != 0 || st.Applied != 0 {
			t.Errorf("status: %+v, %v", st, err)
		}
		// The next one that is staged takes what is left of it away.
		s.limits.args = 100
		deltas := deltasOf(0, 5, 300, 5)
		if _, err := s.Commit(t.Context(), slot, statestore.Commit{Applied: 0, Top: top, To: 5, Deltas: deltas}); err != nil {
			t.Fatal(err)
		}
		refs, err := s.Index(t.Context(), slot, top, []statestore.SliceID{deltas[0].Slice, deltas[299].Slice})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(refsOf(deltas), refs); diff != "" {
			t.Errorf("index (-want +got):\n%s", diff)
		}
		want := []string{"d:00018000000000000000", "d:0001800000000000ea60", "m", "s"}
		if diff := cmp.Diff(want, keysIn(t, s, slot)); diff != "" {
			t.Errorf("keys (-want +got):\n%s", diff)
		}
	})
}

func TestLostStageIsStagedAgain(t *testing.T) {
	eachServer(t, func(t *testing.T, s *Store) {
		slot := newSlot(t, s)
		top := created(t, s, slot, 0)
		s.limits.args = 100
		thief := &thief{sha: s.scripts.commit.sha, stage: keysOf(slot).prefix + "r", client: s.client}
		thief.left.Store(stageAttempts - 1)
		s.client.AddHook(thief)
		c := statestore.Commit{Applied: 0, Top: top, To: 5, Deltas: deltasOf(0, 5, 300, 5)}
		if m, err := s.Commit(t.Context(), slot, c); err != nil || m.Applied != 5 {
			t.Fatalf("commit: %+v, %v", m, err)
		}
		thief.left.Store(stageAttempts)
		c = statestore.Commit{Applied: 5, Top: top, To: 7, Deltas: deltasOf(5, 7, 300, 5)}
		if _, err := s.Commit(t.Context(), slot, c); !errors.Is(err, errStage) {
			t.Fatalf("commit whose stage is always lost: %v", err)
		}
		if m, err := s.Load(t.Context(), slot); err != nil || m.Applied != 5 {
			t.Errorf("load: %+v, %v", m, err)
		}
	})
}

// thief removes the stage just before a script that needs it, so many times.
type thief struct {
	sha, stage string
	client     redis.UniversalClient
	left       atomic.Int32
}

func (h *thief) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *thief) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h *thief) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if a := cmd.Args(); a[0] == "evalsha" && a[1] == h.sha && h.left.Add(-1) >= 0 {
			if err := h.client.Del(ctx, h.stage).Err(); err != nil {
				return err
			}
		}
		return next(ctx, cmd)
	}
}

func TestScriptsAreSentAgainToAServerThatForgotThem(t *testing.T) {
	eachServer(t, func(t *testing.T, s *Store) {
		slot := newSlot(t, s)
		top := created(t, s, slot, 0)
		for i := range int64(3) {
			if err := s.client.ScriptFlush(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Commit(t.Context(), slot, statestore.Commit{Applied: i, Top: top, To: i + 1}); err != nil {
				t.Fatal(err)
			}
			token := newToken()
			if _, err := s.Raise(t.Context(), slot, statestore.Raise{Token: token, Base: top, Watermark: event.Time(i)}); err != nil {
				t.Fatal(err)
			}
			top = token
		}
		other := newSlot(t, s)
		tops := []statestore.Token{top, created(t, s, other, 3)}
		if err := s.client.ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		commits := []statestore.SlotCommit{{Slot: slot, Commit: statestore.Commit{Applied: 3, Top: tops[0], To: 4}}, {Slot: other, Commit: statestore.Commit{Applied: 3, Top: tops[1], To: 4}}}
		for i, got := range s.CommitAll(t.Context(), commits) {
			if got.Err != nil || got.Value.Applied != 4 {
				t.Errorf("commit %d of several: %+v, %v", i, got.Value, got.Err)
			}
		}
	})
}

// More calls than go together at once, and more lists than one of them may ask for: each has its own answer all the same.
func TestVeryManyGoTogether(t *testing.T) {
	eachServer(t, func(t *testing.T, s *Store) {
		s.limits.lists = 7
		base := newSlot(t, s)
		const n = 2*maxTogether + 9
		slots := make([]statestore.Slot, n)
		commits, raises, asked := make([]statestore.SlotCommit, n), make([]statestore.SlotRaise, n), make([]statestore.SlotIndex, n)
		for i := range slots {
			slots[i] = base
			slots[i].Partition = int32(100 + i)
			t.Cleanup(func() {
				if err := s.Drop(context.WithoutCancel(t.Context()), slots[i]); err != nil {
					t.Error(err)
				}
			})
			top := created(t, s, slots[i], 0)
			commits[i] = statestore.SlotCommit{Slot: slots[i], Commit: statestore.Commit{Top: top, To: int64(i + 1)}}
			raises[i] = statestore.SlotRaise{Slot: slots[i], Raise: statestore.Raise{Token: newToken(), Base: top, Watermark: event.Time(i)}}
			asked[i] = statestore.SlotIndex{Slot: slots[i], Token: raises[i].Raise.Token}
			for l := range i % 10 {
				id := statestore.SliceID{Start: event.Time(l)}
				commits[i].Commit.Deltas = append(commits[i].Commit.Deltas, statestore.Delta{Ref: statestore.DeltaRef{Slice: id, To: int64(i + 1)}, Payload: []byte{byte(l)}})
				asked[i].Slices = append(asked[i].Slices, id)
			}
		}
		for i, got := range s.CommitAll(t.Context(), commits) {
			if got.Err != nil || got.Value.Applied != int64(i+1) {
				t.Fatalf("commit %d: %+v, %v", i, got.Value, got.Err)
			}
		}
		for i, got := range s.RaiseAll(t.Context(), raises) {
			if got.Err != nil || got.Value.Top.Token != raises[i].Raise.Token {
				t.Fatalf("raise %d: %+v, %v", i, got.Value, got.Err)
			}
		}
		for i, got := range s.StatusAll(t.Context(), slots) {
			if got.Err != nil || got.Value.Applied != int64(i+1) || len(got.Value.Slices) != i%10 {
				t.Fatalf("status %d: %+v, %v", i, got.Value, got.Err)
			}
		}
		for i, got := range s.IndexAll(t.Context(), asked) {
			if got.Err != nil || len(got.Value) != i%10 {
				t.Fatalf("index %d: %v, %v", i, got.Value, got.Err)
			}
		}
	})
}

// A client repeats a command whose answer it did not get. That is harmless for a commit, which then is a conflict with the head
// it wrote itself, and not done for a raise.
func TestRetriesAfterALostAnswer(t *testing.T) {
	eachServer(t, func(t *testing.T, s *Store) {
		slot := newSlot(t, s)
		top := created(t, s, slot, 0)
		// The node of the slot knows both scripts: what is lost is not the answer that it does not.
		if _, err := s.Commit(t.Context(), slot, statestore.Commit{Applied: 0, Top: top, To: 1}); err != nil {
			t.Fatal(err)
		}
		base := top
		top = newToken()
		if _, err := s.Raise(t.Context(), slot, statestore.Raise{Token: top, Base: base, Watermark: 1}); err != nil {
			t.Fatal(err)
		}
		lossy, lose := losingAnswers(t, s)

		lose.Store(1)
		m, err := lossy.Commit(t.Context(), slot, statestore.Commit{Applied: 1, Top: top, To: 4})
		if !errors.Is(err, statestore.ErrConflict) || m.Applied != 4 || m.Top.Token != top {
			t.Errorf("commit whose first answer was lost: %+v, %v", m, err)
		}

		lose.Store(1)
		token := newToken()
		_, err = lossy.Raise(t.Context(), slot, statestore.Raise{Token: token, Base: top, Watermark: 9})
		if err == nil || errors.Is(err, statestore.ErrRefused) {
			t.Errorf("raise whose answer was lost: %v, want an error of the connection", err)
		}
		if m, err = s.Load(t.Context(), slot); err != nil || m.Top.Token != token || m.Base.Token != top {
			t.Errorf("head after it: %+v, %v", m, err)
		}

		lose.Store(1)
		other := slot
		other.Partition++ // in a cluster perhaps on another node, whose answer is not lost
		created(t, s, other, 0)
		base = token
		token = newToken()
		got := lossy.RaiseAll(t.Context(), []statestore.SlotRaise{
			{Slot: slot, Raise: statestore.Raise{Token: token, Base: base, Watermark: 10}}, {Slot: other, Raise: statestore.Raise{Token: newToken(), Base: newToken()}},
		})
		if lost := got[0].Err != nil; lost && errors.Is(got[0].Err, statestore.ErrRefused) || !lost && !errors.Is(got[1].Err, statestore.ErrUnreachable) {
			t.Errorf("raises whose answers were lost: %v, %v; want errors of the connection", got[0].Err, got[1].Err)
		}
		if m, err = s.Load(t.Context(), slot); err != nil || m.Top.Token != token || m.Base.Token != base {
			t.Errorf("head after it: %+v, %v", m, err)
		}
	})
}

// losingAnswers opens the same store over connections that close instead of the next answers, as many as the counter says.
func losingAnswers(t *testing.T, s *Store) (*Store, *atomic.Int32) {
	t.Helper()
	lose := new(atomic.Int32)
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		return &lossyConn{Conn: c, lose: lose}, err
	}
	u, err := Options{URLs: urls(t, envServer)}.universal(nil)
	if err != nil {
		t.Fatal(err)
	}
	var client redis.UniversalClient
	switch s.client.(type) {
	case *redis.Client:
		u.Dialer = dial
		client = redis.NewClient(u.Simple())
	case *redis.ClusterClient:
		if u, err = (Options{URLs: urls(t, envCluster)}).universal(nil); err != nil {
			t.Fatal(err)
		}
		u.Dialer = dial
		o := u.Cluster()
		o.DisableRoutingPolicies, o.MaxRetries = true, -1
		client = redis.NewClusterClient(o)
	}
	lossy := newStore(client, statestore.CodecNone, time.Minute, nil)
	t.Cleanup(func() {
		if err := lossy.Close(); err != nil {
			t.Error(err)
		}
	})
	return lossy, lose
}

type lossyConn struct {
	net.Conn
	lose   *atomic.Int32
	script atomic.Bool // the last thing written was a script call
}

func (c *lossyConn) Write(p []byte) (int, error) {
	c.script.Store(bytes.Contains(p, []byte("evalsha")))
	return c.Conn.Write(p)
}

// Read waits for the answer, so that the server has done what it was asked, and then closes.
func (c *lossyConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && c.script.Load() && c.lose.Add(-1) >= 0 {
		_ = c.Close() // the read fails either way
		return 0, net.ErrClosed
	}
	return n, err
}

func TestNothingExpiresAndDropLeavesNothing(t *testing.T) {
	eachServer(t, func(t *testing.T, s *Store) {
		slot := newSlot(t, s)
		top := created(t, s, slot, 0)
		if _, err := s.Commit(t.Context(), slot, statestore.Commit{Top: top, To: 5, Deltas: deltasOf(0, 5, 600, 5)}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.stage(t.Context(), keysOf(slot), groupDeltas(statestore.CodecNone, deltasOf(5, 6, 3, 5))); err != nil {
			t.Fatal(err)
		}
		names := keysIn(t, s, slot)
		if len(names) != 6 {
			t.Errorf("keys %q, want 3 lists, head, slices and stage", names)
		}
		for _, name := range names {
			ttl, err := s.client.TTL(t.Context(), keysOf(slot).prefix+name).Result()
			if err != nil || ttl != -1 {
				t.Errorf("key %s: time to live %v, %v", name, ttl, err)
			}
		}
		if err := s.Drop(t.Context(), slot); err != nil {
			t.Fatal(err)
		}
		if names = keysIn(t, s, slot); len(names) != 0 {
			t.Errorf("left after drop: %q", names)
		}
	})
}

func TestReadAndIndexInSeveralCalls(t *testing.T) {
	eachServer(t, func(t *testing.T, s *Store) {
		slot := newSlot(t, s)
		top := created(t, s, slot, 0)
		deltas := deltasOf(0, 5, 1000, 50)
		if _, err := s.Commit(t.Context(), slot, statestore.Commit{Top: top, To: 5, Deltas: deltas}); err != nil {
			t.Fatal(err)
		}
		s.limits.refs, s.limits.readBytes, s.limits.lists = 300, 10*55, 3
		got, err := s.Read(t.Context(), slot, top, refsOf(deltas))
		if err != nil {
			t.Fatal(err)
		}
		samePayloads(t, deltas, got)
		ids := []statestore.SliceID{deltas[999].Slice, {Window: 9}, deltas[300].Slice, deltas[0].Slice, deltas[600].Slice, {Window: 8}, {Window: 7}}
		refs, err := s.Index(t.Context(), slot, top, ids)
		if err != nil {
			t.Fatal(err)
		}
		all := refsOf(deltas)
		want := append(append(append(append([]statestore.DeltaRef{}, all[768:]...), all[256:512]...), all[:256]...), all[512:768]...)
		if diff := cmp.Diff(want, refs); diff != "" {
			t.Errorf("index (-want +got):\n%s", diff)
		}
	})
}

func TestSlotsFindsThemOnEveryNode(t *testing.T) {
	eachServer(t, func(t *testing.T, s *Store) {
		slot := newSlot(t, s)
		want := map[statestore.Slot]bool{}
		for p := range int32(20) {
			one := slot
			one.Partition, one.Shard, one.Topic = p, int(p)%2, ""
			created(t, s, one, 0)
			t.Cleanup(func() {
				if err := s.Drop(context.WithoutCancel(t.Context()), one); err != nil {
					t.Error(err)
				}
			})
			want[one] = true
		}
		for _, pipeline := range []string{slot.Pipeline, ""} {
			found, err := s.Slots(t.Context(), pipeline)
			if err != nil {
				t.Fatal(err)
			}
			got := map[statestore.Slot]bool{}
			for _, one := range found {
				if one.Pipeline == slot.Pipeline {
					got[one] = true
				} else if pipeline != "" {
					t.Errorf("slot %+v of another pipeline", one)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("slots of %q (-want +got):\n%s", pipeline, diff)
			}
		}
	})
}

func TestOneNodeIsEnoughToFindTheCluster(t *testing.T) {
	s, err := Open(t.Context(), Options{URLs: urls(t, envCluster)[:1]})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, ok := s.client.(*redis.ClusterClient); !ok {
		t.Fatalf("client is %T", s.client)
	}
	for range 8 { // slots of several nodes
		created(t, s, newSlot(t, s), 0)
	}
}

func TestOpenFailsWhereNobodyListensAndHidesThePassword(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, list := range [][]string{{addr}, {addr, addr}} {
		for i := range list {
			list[i] = "redis://user:hunter2@" + list[i]
		}
		s, err := Open(t.Context(), Options{URLs: list})
		if err == nil {
			_ = s.Close()
			t.Fatal("opened")
		}
		if strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), addr) {
			t.Errorf("error %q", err)
		}
	}
}
