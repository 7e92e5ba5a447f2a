package trigger_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/llm-auto-optimizer/tidemark/functions/esm"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/trigger"
)

// behaviour is something that AWS says of event source mappings of Kafka, or that users saw.
type behaviour struct {
	name       string
	partitions int32
	run        func(t *testing.T, s *stage)
	real       bool // of a real cluster alone: the fake one does not know it
}

// behaviours are all that the emulator is held to, on a fake cluster by every run of the tests and on a real one with the tag
// servers. localdev/DESIGN.md lists them, which a test looks at.
func behaviours() []behaviour {
	return slices.Concat(batching(), positions(), groups(), retries(), partialAnswers(), destinations(), filtering(), payloads())
}

func TestConformance(t *testing.T) {
	t.Parallel()
	for _, b := range behaviours() {
		if b.real {
			continue
		}
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(cluster.Close)
			name := func(base string) string { return b.name + "-" + base }
			b.run(t, newStage(t, cluster.ListenAddrs(), name, b.partitions))
		})
	}
}

func batching() []behaviour {
	return []behaviour{
		{name: "BatchClosesBySize", partitions: 1, run: func(t *testing.T, s *stage) {
			var sent notes[trigger.Batch]
			s.put(t, 0, 250)
			f, _ := s.run(t, trigger.Options{BatchSize: 100, Window: 300 * time.Millisecond, Hooks: trigger.Hooks{Sent: sent.add}})
			calls := f.await(t, 3)
			s.committed(t, map[int32]int64{0: 250})
			if calls[0].records() != 100 || calls[1].records() != 100 || calls[2].records() != 50 {
				t.Errorf("%d, %d, %d records", calls[0].records(), calls[1].records(), calls[2].records())
			}
			if b := sent.seen(); b[0].Closed != trigger.ClosedBySize || b[1].Closed != trigger.ClosedBySize || b[2].Closed != trigger.ClosedByWindow {
				t.Errorf("closed by %s, %s, %s", b[0].Closed, b[1].Closed, b[2].Closed)
			}
		}},
		{name: "WindowBeginsWithTheFirstRecord", partitions: 2, run: func(t *testing.T, s *stage) {
			const window = 1200 * time.Millisecond // half of it is how late this machine may be
			var sent notes[trigger.Batch]
			f, _ := s.run(t, trigger.Options{Window: window, Hooks: trigger.Hooks{Sent: sent.add}})
			s.put(t, 0, 1)
			s.committed(t, map[int32]int64{0: 1}) // it reads now
			s.put(t, 0, 1)
			late := time.AfterFunc(window/2, func() { s.put(t, 1, 1) }) // it does not begin a window of its own
			defer late.Stop()
			calls := f.await(t, 2)
			same(t, "second batch", map[int32][]int64{0: {1}, 1: {0}}, calls[1].offsets)
			b := sent.seen()[1]
			if waited := b.At.Sub(b.Arrived); waited < window || waited > window+window/2 || b.Closed != trigger.ClosedByWindow {
				t.Errorf("closed by %s after %s", b.Closed, waited)
			}
		}},
		{name: "BatchClosesBySixMegabytes", partitions: 1, run: func(t *testing.T, s *stage) {
			var sent notes[trigger.Batch]
			for range 12 { // 800 kB are 1.07 MB of base64
				s.publish(t, &kgo.Record{Value: []byte(strings.Repeat("x", 800_000))})
			}
			f, _ := s.run(t, trigger.Options{BatchSize: 10_000, Window: time.Second, Hooks: trigger.Hooks{Sent: sent.add}})
			calls := f.await(t, 2)
			same(t, "first batch", upTo(0, 5), calls[0].offsets[0])
			same(t, "second batch", upTo(5, 10), calls[1].offsets[0])
			if b := sent.seen()[0]; b.Closed != trigger.ClosedByPayload || b.Bytes != len(calls[0].payload) || b.Bytes > esm.MaxPayload || b.Bytes < esm.MaxPayload*8/10 {
				t.Errorf("closed by %s with %d bytes", b.Closed, b.Bytes)
			}
			s.committed(t, map[int32]int64{0: 12})
		}},
		{name: "WindowOfZeroSendsWhatIsThere", partitions: 1, run: func(t *testing.T, s *stage) {
			var sent notes[trigger.Batch]
			f, _ := s.run(t, trigger.Options{BatchSize: 10_000, Hooks: trigger.Hooks{Sent: sent.add}})
			for i := range 20 {
				s.put(t, 0, 1)
				f.await(t, i+1)
			}
			var waits []time.Duration
			for _, b := range sent.seen() {
				waits = append(waits, b.At.Sub(b.Arrived))
				if b.Records != 1 {
					t.Errorf("%d records in a batch", b.Records)
				}
			}
			if slices.Sort(waits); waits[len(waits)/2] > 100*time.Millisecond {
				t.Errorf("half of the batches waited %s and more", waits[len(waits)/2])
			}
		}},
		{name: "EventHoldsSeveralPartitionsInOrder", partitions: 3, run: func(t *testing.T, s *stage) {
			for p := range int32(3) {
				s.put(t, p, 200)
			}
			f, _ := s.run(t, trigger.Options{BatchSize: 1000, Window: 200 * time.Millisecond})
			s.committed(t, map[int32]int64{0: 200, 1: 200, 2: 200})
			several := false
			for _, c := range f.seen() {
				several = several || len(c.offsets) > 1
			}
			if !several {
				t.Error("no event with several partitions")
			}
			for p := range int32(3) {
				same(t, fmt.Sprintf("partition %d", p), upTo(0, 200), f.order(p))
			}
		}},
		{name: "RecordLargerThanAnyEventIsPassedOver", partitions: 1, run: func(t *testing.T, s *stage) {
			s.topic = s.name("large")
			s.create(t, s.topic, 1, map[string]string{"max.message.bytes": "9000000"})
			var dropped notes[trigger.Dropped]
			s.put(t, 0, 1)
			s.publish(t, &kgo.Record{Value: []byte(strings.Repeat("x", 5_500_000))})
			s.put(t, 0, 1)
			f, _ := s.run(t, trigger.Options{Window: 100 * time.Millisecond, Hooks: trigger.Hooks{Dropped: dropped.add}})
			s.committed(t, map[int32]int64{0: 3})
			same(t, "delivered", []int64{0, 2}, f.order(0))
			if d := dropped.seen(); len(d) != 1 || d[0].Reason != trigger.TooLarge || d[0].First != 1 {
				t.Errorf("dropped: %+v", d)
			}
		}},
		{name: "PartitionIsNeverInTwoInvocations", partitions: 4, run: func(t *testing.T, s *stage) {
			var inside [4]atomic.Int32
			var at, most atomic.Int32
			f := &lambda{more: make(chan struct{}, 1000)}
			f.answer = func(_ context.Context, _ int, c *call) ([]byte, error) {
				for p := range c.offsets {
					if inside[p].Add(1) > 1 {
						t.Errorf("partition %d is in two invocations", p)
					}
				}
				most.Store(max(most.Load(), at.Add(1)))
				<-time.After(time.Millisecond)
				at.Add(-1)
				for p := range c.offsets {
					inside[p].Add(-1)
				}
				return nil, nil
			}
			for p := range int32(4) {
				s.put(t, p, 300)
			}
			s.runWith(t, f, trigger.Options{BatchSize: 10, MinPollers: 2})
			s.committed(t, map[int32]int64{0: 300, 1: 300, 2: 300, 3: 300})
			for p := range int32(4) {
				same(t, fmt.Sprintf("partition %d", p), upTo(0, 300), f.order(p))
			}
			if most.Load() < 2 {
				t.Error("no two invocations at once")
			}
		}},
		{name: "PollerHasFiveInvocationsAtMost", partitions: 8, run: func(t *testing.T, s *stage) {
			var at, most atomic.Int32
			release := make(chan struct{})
			f := &lambda{more: make(chan struct{}, 1000)}
			f.answer = func(context.Context, int, *call) ([]byte, error) {
				most.Store(max(most.Load(), at.Add(1)))
				<-release
				at.Add(-1)
				return nil, nil
			}
			for p := range int32(8) {
				s.put(t, p, 1)
			}
			s.runWith(t, f, trigger.Options{BatchSize: 1})
			f.await(t, 5)
			select {
			case <-time.After(200 * time.Millisecond):
			case <-release:
			}
			if n := len(f.seen()); n != 5 {
				t.Errorf("%d invocations", n)
			}
			close(release)
			f.await(t, 8)
			if most.Load() != 5 {
				t.Errorf("%d invocations at once", most.Load())
			}
		}},
		{name: "SlowInvocationHoldsUpNoOtherPartition", partitions: 2, run: func(t *testing.T, s *stage) {
			release := make(chan struct{})
			f := &lambda{more: make(chan struct{}, 1000)}
			f.answer = func(_ context.Context, _ int, c *call) ([]byte, error) {
				if _, slow := c.offsets[0]; slow {
					<-release
				}
				return nil, nil
			}
			s.put(t, 0, 1)
			s.runWith(t, f, trigger.Options{})
			f.await(t, 1)
			for i := range 5 {
				s.put(t, 0, 5)
				s.put(t, 1, 10)
				s.committed(t, map[int32]int64{1: int64(i+1) * 10})
			}
			close(release)
			s.committed(t, map[int32]int64{0: 26, 1: 50})
			same(t, "the slow partition", upTo(0, 26), f.order(0))
		}},
	}
}

func positions() []behaviour {
	return []behaviour{
		{name: "TrimHorizonBeginsWithTheOldest", partitions: 1, run: func(t *testing.T, s *stage) {
			s.put(t, 0, 10)
			f, _ := s.run(t, trigger.Options{})
			s.committed(t, map[int32]int64{0: 10})
			same(t, "delivered", upTo(0, 10), f.order(0))
		}},
		{name: "LatestBeginsWithWhatComes", partitions: 2, run: func(t *testing.T, s *stage) {
			s.put(t, 0, 10)
			f, _ := s.run(t, trigger.Options{Start: trigger.Latest})
			s.put(t, 0, 5)
			s.put(t, 1, 5)
			s.committed(t, map[int32]int64{0: 15, 1: 5})
			same(t, "delivered", upTo(10, 15), f.order(0))
			same(t, "of the empty partition", upTo(0, 5), f.order(1))
		}},
		{name: "AtTimestampBeginsWithThatTime", partitions: 2, run: func(t *testing.T, s *stage) {
			at := func(seconds int64) *kgo.Record {
				return &kgo.Record{Timestamp: time.Unix(seconds, 0), Value: []byte("v")}
			}
			s.publish(t, at(1_700_000_000), at(1_700_000_010), at(1_700_000_020), at(1_700_000_030))
			s.publish(t, &kgo.Record{Partition: 1, Timestamp: time.Unix(1_700_000_000, 0)})
			f, _ := s.run(t, trigger.Options{Start: trigger.AtTimestamp, StartingTime: time.Unix(1_700_000_015, 0)})
			s.committed(t, map[int32]int64{0: 4, 1: 1})
			same(t, "delivered", []int64{2, 3}, f.order(0))
			same(t, "all too old", []int64(nil), f.order(1))
		}},
		{name: "PositionIsIgnoredWhereTheGroupHasOffsets", partitions: 1, run: func(t *testing.T, s *stage) {
			s.put(t, 0, 10)
			_, stop := s.run(t, trigger.Options{})
			s.committed(t, map[int32]int64{0: 10})
			stop()
			s.put(t, 0, 10)
			f, stop := s.run(t, trigger.Options{Start: trigger.Latest})
			s.committed(t, map[int32]int64{0: 20})
			stop()
			same(t, "LATEST", upTo(10, 20), f.order(0))
			s.put(t, 0, 10)
			f, _ = s.run(t, trigger.Options{Start: trigger.AtTimestamp, StartingTime: time.Now().Add(time.Hour)})
			s.committed(t, map[int32]int64{0: 30})
			same(t, "AT_TIMESTAMP", upTo(20, 30), f.order(0))
		}},
		{name: "AbortedRecordsAndMarkersAreGaps", partitions: 1, run: func(t *testing.T, s *stage) {
			cl, err := kgo.NewClient(kgo.SeedBrokers(s.addrs...), kgo.TransactionalID(s.name("tx")), kgo.RecordPartitioner(kgo.ManualPartitioner()))
			if err != nil {
				t.Fatal(err)
			}
			defer cl.Close()
			for i, end := range []kgo.TransactionEndTry{kgo.TryAbort, kgo.TryCommit} {
				if err := cl.BeginTransaction(); err != nil {
					t.Fatal(err)
				}
				if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: s.topic, Value: fmt.Append(nil, i)}).FirstErr(); err != nil {
					t.Fatal(err)
				}
				if err := cl.EndTransaction(t.Context(), end); err != nil {
					t.Fatal(err)
				}
			}
			s.put(t, 0, 1)
			f, _ := s.run(t, trigger.Options{Window: 100 * time.Millisecond})
			s.committed(t, map[int32]int64{0: 5})
			same(t, "delivered", []int64{2, 4}, f.order(0))
		}},
	}
}

func groups() []behaviour {
	return []behaviour{
		{name: "PollersAreMembersOfTheGroup", partitions: 3, run: func(t *testing.T, s *stage) {
			var assigned notes[trigger.Assigned]
			s.run(t, trigger.Options{MinPollers: 5, Hooks: trigger.Hooks{Assigned: assigned.add}})
			// Not more of them than partitions, and each has one in the end.
			deadline := time.Now().Add(patience)
			for {
				now := map[int]int{}
				for _, a := range assigned.seen() {
					now[a.Poller] = len(a.Partitions)
				}
				if maps.Equal(now, map[int]int{0: 1, 1: 1, 2: 1}) {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("partitions of pollers: %v", now)
				}
				s.put(t, 0, 1) // takes a while
			}
			groups, err := s.admin.DescribeGroups(t.Context(), s.group)
			if err != nil || len(groups[s.group].Members) != 3 {
				t.Errorf("members: %v, %v", groups[s.group].Members, err)
			}
		}},
		{name: "OtherMembersTakeAShare", partitions: 4, run: func(t *testing.T, s *stage) {
			first, second := &lambda{more: make(chan struct{}, 1000)}, &lambda{more: make(chan struct{}, 1000)}
			var mine, yours notes[trigger.Assigned]
			s.runWith(t, first, trigger.Options{Hooks: trigger.Hooks{Assigned: mine.add}})
			s.runWith(t, second, trigger.Options{Start: trigger.Latest, Hooks: trigger.Hooks{Assigned: yours.add}})
			shared := func(n *notes[trigger.Assigned]) bool {
				a := n.seen()
				return len(a) > 0 && len(a[len(a)-1].Partitions) == 2
			}
			for deadline := time.Now().Add(patience); !shared(&mine) || !shared(&yours); {
				if time.Now().After(deadline) {
					t.Fatalf("assigned: %v and %v", mine.seen(), yours.seen())
				}
				for p := range int32(4) {
					s.put(t, p, 1)
				}
			}
		}},
		{name: "RebalancesLoseNothingAndKeepTheOrder", partitions: 4, run: func(t *testing.T, s *stage) {
			f := &lambda{more: make(chan struct{}, 10_000)}
			f.answer = func(_ context.Context, number int, _ *call) ([]byte, error) {
				if number%7 == 3 {
					return nil, errors.New("now and then")
				}
				return nil, nil
			}
			s.runWith(t, f, trigger.Options{BatchSize: 20, MinPollers: 2})
			over := make(chan struct{})
			var feed sync.WaitGroup
			rounds := int64(0)
			feed.Go(func() { // until all is over, but not more than is delivered
				for n := 0; ; n++ {
					select {
					case <-over:
						return
					case <-f.more:
					case <-time.After(10 * time.Millisecond):
					}
					for p := range int32(4) {
						s.put(t, p, 20)
					}
					rounds++
				}
			})
			for range 3 {
				var assigned notes[trigger.Assigned]
				stop := s.runWith(t, f, trigger.Options{BatchSize: 20, Hooks: trigger.Hooks{Assigned: assigned.add}})
				for deadline := time.Now().Add(patience); !slices.ContainsFunc(assigned.seen(), func(a trigger.Assigned) bool { return len(a.Partitions) > 0 }); {
					if time.Now().After(deadline) {
						t.Fatal("the other member gets no partition")
					}
					<-time.After(time.Millisecond)
				}
				stop()
			}
			close(over)
			feed.Wait()
			each := 20 * rounds
			s.committed(t, map[int32]int64{0: each, 1: each, 2: each, 3: each})
			for p := range int32(4) {
				inOrder(t, p, f.order(p), each)
			}
		}},
		{name: "RebalanceWaitsForTheInvocation", partitions: 2, run: func(t *testing.T, s *stage) {
			release := make(chan struct{})
			f := &lambda{more: make(chan struct{}, 100)}
			f.answer = func(context.Context, int, *call) ([]byte, error) {
				<-release
				return nil, nil
			}
			s.put(t, 0, 5)
			s.put(t, 1, 5)
			s.runWith(t, f, trigger.Options{Window: 200 * time.Millisecond})
			f.await(t, 1)
			var assigned notes[trigger.Assigned]
			s.runWith(t, f, trigger.Options{Hooks: trigger.Hooks{Assigned: assigned.add}})
			has := func(a trigger.Assigned) bool { return len(a.Partitions) > 0 }
			<-time.After(2 * time.Second) // two heartbeats: the first member has been told to give a partition away
			if slices.ContainsFunc(assigned.seen(), has) {
				t.Error("a partition was given away during its invocation")
			}
			close(release)
			for deadline := time.Now().Add(patience); !slices.ContainsFunc(assigned.seen(), has); {
				if time.Now().After(deadline) {
					t.Fatal("the other member gets no partition")
				}
				<-time.After(10 * time.Millisecond)
			}
			s.put(t, 0, 5)
			s.put(t, 1, 5)
			s.committed(t, map[int32]int64{0: 10, 1: 10})
			for p := range int32(2) {
				same(t, "delivered once", upTo(0, 10), f.order(p))
			}
		}},
		{name: "UnansweredBatchIsDeliveredAgain", partitions: 1, run: func(t *testing.T, s *stage) {
			s.put(t, 0, 10)
			f := &lambda{more: make(chan struct{}, 10)}
			f.answer = func(ctx context.Context, _ int, _ *call) ([]byte, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			stop := s.runWith(t, f, trigger.Options{})
			f.await(t, 1)
			stop()
			same(t, "committed", map[int32]int64{}, s.offsets(t.Context()))
			g, _ := s.run(t, trigger.Options{})
			s.committed(t, map[int32]int64{0: 10})
			same(t, "delivered again", upTo(0, 10), g.order(0))
		}},
		{name: "OffsetsAreCommittedAfterSuccessOnly", partitions: 1, run: func(t *testing.T, s *stage) {
			release := make(chan struct{})
			f := &lambda{more: make(chan struct{}, 10)}
			f.answer = func(context.Context, int, *call) ([]byte, error) {
				<-release
				return nil, nil
			}
			var order notes[string]
			s.put(t, 0, 10)
			s.runWith(t, f, trigger.Options{Hooks: trigger.Hooks{
				Answered:  func(trigger.Answered) { order.add("answered") },
				Committed: func(trigger.Committed) { order.add("committed") },
			}})
			f.await(t, 1)
			same(t, "before the answer", map[int32]int64{}, s.offsets(t.Context()))
			close(release)
			s.committed(t, map[int32]int64{0: 10})
			if seen := order.seen(); seen[0] != "answered" {
				t.Errorf("order: %v", seen)
			}
		}},
	}
}

// inOrder fails unless every record came, and each after the one before it had come, at first or again.
func inOrder(t *testing.T, p int32, got []int64, want int64) {
	t.Helper()
	next := int64(0)
	for _, o := range got {
		if o > next {
			t.Fatalf("partition %d: offset %d comes before %d", p, o, next)
		}
		next = max(next, o+1)
	}
	if next != want {
		t.Errorf("partition %d: delivered up to %d, want %d", p, next, want)
	}
}
