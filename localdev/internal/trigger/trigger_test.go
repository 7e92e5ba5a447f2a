package trigger_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/functions/esm"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/trigger"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// broker is a Kafka in this process with a topic "in".
type broker struct {
	cluster *kfake.Cluster
	addrs   []string
	client  *kafkaio.Client
}

func newBroker(t *testing.T, partitions int32) *broker {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(partitions, "in"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	b := &broker{cluster: cluster, addrs: cluster.ListenAddrs()}
	if b.client, err = kafkaio.Open(t.Context(), kafkaio.Options{Brokers: b.addrs}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.client.Close)
	return b
}

// produce writes n records to a partition; their values count on from first.
func (b *broker) produce(t *testing.T, p int32, first, n int) {
	t.Helper()
	var messages []kafkaio.Message
	for i := range n {
		messages = append(messages, kafkaio.Message{Topic: "in", Partition: p, Value: fmt.Appendf(nil, "%d", first+i), Timestamp: 1})
	}
	if err := b.client.Produce(t.Context(), messages); err != nil {
		t.Fatal(err)
	}
}

// committed waits until the group has committed what is wanted.
func (b *broker) committed(t *testing.T, want map[int32]int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		offsets, err := b.client.Group(ctx, "g")
		got := map[int32]int64{}
		for tp, c := range offsets {
			got[tp.Partition] = c.Offset
		}
		if err == nil && cmp.Equal(got, want) {
			return
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			t.Fatalf("committed %v, %v; want %v", got, err, want)
		}
	}
}

// function stands for ingest: it notes what it is handed, and answers with what fail says.
type function struct {
	mu       sync.Mutex
	got      map[int32][]int64 // offsets that were applied, in order
	calls    int
	fail     func(call int, p int32, offset int64) bool
	refuse   func(call int) error
	decoder  esm.Decoder
	problems []string
}

func (f *function) invoke(_ context.Context, payload []byte) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if f.refuse != nil {
		if err := f.refuse(f.calls); err != nil {
			return nil, err
		}
	}
	ev, err := f.decoder.Decode(payload)
	if err != nil {
		f.problems = append(f.problems, err.Error())
		return nil, err
	}
	var failures []esm.Failure
	for _, b := range ev.Batches {
		for i := range b.Records {
			o := b.Records[i].Offset
			if len(failures) > 0 && failures[len(failures)-1].Partition == b.ID || f.fail != nil && f.fail(f.calls, b.Partition, o) {
				failures = append(failures, esm.Failure{Partition: b.ID, Offset: o})
				continue
			}
			if f.got == nil {
				f.got = map[int32][]int64{}
			}
			f.got[b.Partition] = append(f.got[b.Partition], o)
		}
	}
	return esm.AppendResponse(nil, failures), nil
}

// start runs a trigger until the test ends; the returned function ends it before.
func (b *broker) start(t *testing.T, f *function, o trigger.Options) (stop func()) {
	t.Helper()
	o.PartialFailures = true
	o.Brokers, o.Group, o.Topics, o.Invoke, o.Logger = b.addrs, "g", []string{"in"}, f.invoke, slog.New(slog.DiscardHandler)
	stop, _ = running(t, o)
	return stop
}

// running runs the trigger until stop is called, at the latest when the test is over; ended has what it returned before that.
func running(t testing.TB, o trigger.Options) (stop func(), ended <-chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context())) // it ends by stop, also when the test is over
	done := make(chan error, 1)
	go func() { done <- trigger.Run(ctx, o) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("run: %v", err)
			}
		case <-time.After(patience):
			t.Error("the trigger does not end")
		}
	})
	t.Cleanup(stop)
	return stop, done
}

// ascending returns 0 to n-1.
func ascending(n int) []int64 {
	out := make([]int64, n)
	for i := range out {
		out[i] = int64(i)
	}
	return out
}

func (f *function) check(t *testing.T, want map[int32][]int64) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if d := cmp.Diff(want, f.got); d != "" {
		t.Errorf("applied (-want +got)\n%s", d)
	}
	if len(f.problems) > 0 {
		t.Errorf("payloads that are no events: %q", f.problems)
	}
}

func TestEveryRecordIsDeliveredInOrder(t *testing.T) {
	b := newBroker(t, 3)
	for p := range int32(3) {
		b.produce(t, p, 0, 500)
	}
	f := &function{}
	var delivered atomic.Int64
	stop := b.start(t, f, trigger.Options{BatchSize: 70, Hooks: trigger.Hooks{Answered: func(a trigger.Answered) { delivered.Add(int64(a.Done)) }}})
	b.committed(t, map[int32]int64{0: 500, 1: 500, 2: 500})
	stop()
	f.check(t, map[int32][]int64{0: ascending(500), 1: ascending(500), 2: ascending(500)})
	if f.calls < 1500/70 || delivered.Load() != 1500 {
		t.Errorf("%d payloads, %d records told of; want at most 70 records a payload, and 1500", f.calls, delivered.Load())
	}
}

// A broker may hear of a topic a moment after it was made.
func TestATopicThatComesInAMomentIsWaitedFor(t *testing.T) {
	b := newBroker(t, 1)
	f := &function{}
	asked := make(chan struct{}, 1)
	b.cluster.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
		b.cluster.KeepControl()
		for _, topic := range req.(*kmsg.MetadataRequest).Topics {
			if topic.Topic != nil && *topic.Topic == "coming" {
				select {
				case asked <- struct{}{}:
				default:
				}
			}
		}
		return nil, nil, false //nolint:nilnil // the cluster answers by itself
	})
	running(t, trigger.Options{
		Brokers: b.addrs, Group: "g", Topics: []string{"coming"}, BatchSize: 10, PartialFailures: true, Invoke: f.invoke, Logger: slog.New(slog.DiscardHandler), Source: esm.SourceMSK,
	})
	select {
	case <-asked:
	case <-time.After(patience):
		t.Fatal("the trigger does not ask for its topic")
	}
	if err := b.client.CreateTopic(t.Context(), "coming", 1, 1, nil); err != nil {
		t.Fatal(err)
	}
	if err := b.client.Produce(t.Context(), []kafkaio.Message{{Topic: "coming", Value: []byte("v"), Timestamp: 1}}); err != nil {
		t.Fatal(err)
	}
	b.committed(t, map[int32]int64{0: 1})
}

// A partition whose records fail now and then keeps its order, and loses and doubles nothing: what was not answered as failed
// is not delivered again.
func TestFailedRecordsAreDeliveredAgain(t *testing.T) {
	b := newBroker(t, 2)
	b.produce(t, 0, 0, 300)
	b.produce(t, 1, 0, 300)
	f := &function{
		fail: func(call int, p int32, offset int64) bool { return p == 1 && call%3 != 0 && offset%17 == 5 },
		refuse: func(call int) error {
			return map[int]error{2: errors.New("function crashed"), 5: errors.New("again")}[call]
		},
	}
	stop := b.start(t, f, trigger.Options{BatchSize: 100})
	b.committed(t, map[int32]int64{0: 300, 1: 300})
	stop()
	f.check(t, map[int32][]int64{0: ascending(300), 1: ascending(300)})
}

// An invocation under way is finished when the trigger ends, and what it applied is committed.
func TestTheEndWaitsForTheInvocation(t *testing.T) {
	b := newBroker(t, 1)
	b.produce(t, 0, 0, 10)
	f := &function{}
	entered, leave := make(chan struct{}), make(chan struct{})
	f.refuse = func(int) error { close(entered); <-leave; return nil }
	stop := b.start(t, f, trigger.Options{BatchSize: 30})
	<-entered
	ended := make(chan struct{})
	go func() { stop(); close(ended) }()
	select {
	case <-ended:
		t.Error("ended while an invocation was under way")
	case <-time.After(50 * time.Millisecond):
	}
	close(leave)
	<-ended
	b.committed(t, map[int32]int64{0: 10})
}

// A commit that the broker refuses is made again, and observers are told of both. Nothing is delivered twice meanwhile.
func TestACommitThatFailsIsMadeAgain(t *testing.T) {
	b := newBroker(t, 1)
	refused := false
	b.cluster.ControlKey(int16(kmsg.OffsetCommit), func(request kmsg.Request) (kmsg.Response, error, bool) {
		if refused {
			return nil, nil, false //nolint:nilnil // the cluster answers by itself
		}
		refused = true
		commit, _ := request.(*kmsg.OffsetCommitRequest)
		answer, _ := commit.ResponseKind().(*kmsg.OffsetCommitResponse)
		for _, topic := range commit.Topics {
			out := kmsg.OffsetCommitResponseTopic{Topic: topic.Topic}
			for _, p := range topic.Partitions {
				out.Partitions = append(out.Partitions, kmsg.OffsetCommitResponseTopicPartition{Partition: p.Partition, ErrorCode: kerr.InvalidCommitOffsetSize.Code})
			}
			answer.Topics = append(answer.Topics, out)
		}
		return answer, nil, true
	})
	b.produce(t, 0, 0, 10)
	f := &function{}
	var commits notes[trigger.Committed]
	stop := b.start(t, f, trigger.Options{BatchSize: 30, Hooks: trigger.Hooks{Committed: commits.add}})
	b.committed(t, map[int32]int64{0: 10})
	stop()
	f.check(t, map[int32][]int64{0: ascending(10)})
	seen := commits.seen()
	if len(seen) != 2 || !errors.Is(seen[0].Err, kerr.InvalidCommitOffsetSize) || seen[1].Err != nil || seen[1].Offsets[event.TopicPartition{Topic: "in"}] != 10 {
		t.Errorf("commits: %+v", seen)
	}
}
