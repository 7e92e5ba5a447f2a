package trigger_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/llm-auto-optimizer/tidemark/functions/esm"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/trigger"
)

// stage is a cluster, real or not, with a topic and a group of a test's own, and a function that a trigger invokes.
type stage struct {
	addrs    []string
	name     func(base string) string // unique in the cluster
	client   *kgo.Client
	admin    *kadm.Client
	topic    string
	group    string
	produced int
}

func newStage(t testing.TB, addrs []string, name func(string) string, partitions int32) *stage {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addrs...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(8<<20))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	s := &stage{addrs: addrs, name: name, client: cl, admin: kadm.NewClient(cl), topic: name("in"), group: name("g")}
	s.create(t, s.topic, partitions, nil)
	return s
}

func (s *stage) create(t testing.TB, topic string, partitions int32, configs map[string]string) {
	t.Helper()
	log, err := kafkaio.Open(t.Context(), kafkaio.Options{Brokers: s.addrs})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if err := log.CreateTopic(t.Context(), topic, partitions, 1, configs); err != nil { // waits until brokers know it
		t.Fatal(err)
	}
}

// put publishes n records to a partition of the topic; values count on.
func (s *stage) put(t testing.TB, partition int32, n int) {
	t.Helper()
	records := make([]*kgo.Record, n)
	for i := range records {
		records[i] = &kgo.Record{Partition: partition, Value: fmt.Appendf(nil, `{"n":%d}`, s.produced)}
		s.produced++
	}
	s.publish(t, records...)
}

func (s *stage) publish(t testing.TB, records ...*kgo.Record) {
	t.Helper()
	for _, r := range records {
		r.Topic = s.topic
	}
	if err := s.client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// read returns the n records of a topic with one partition.
func (s *stage) read(t testing.TB, topic string, n int) []*kgo.Record {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.addrs...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out []*kgo.Record
	for len(out) < n {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%d records in %s, want %d", len(out), topic, n)
		}
		out = append(out, fetches.Records()...)
	}
	return out
}

// committed waits until the group has committed what is wanted.
func (s *stage) committed(t testing.TB, want map[int32]int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		got := s.offsets(ctx)
		if maps.Equal(got, want) {
			return
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			t.Fatalf("committed %v, want %v", got, want)
		}
	}
}

func (s *stage) offsets(ctx context.Context) map[int32]int64 {
	got := map[int32]int64{}
	offsets, err := s.admin.FetchOffsets(ctx, s.group)
	if err != nil {
		return got
	}
	offsets.Each(func(o kadm.OffsetResponse) {
		if o.Topic == s.topic && o.At >= 0 {
			got[o.Partition] = o.At
		}
	})
	return got
}

// call is one invocation, as the function saw it.
type call struct {
	offsets map[int32][]int64
	payload []byte
	at      time.Time
}

func (c *call) records() (n int) {
	for _, o := range c.offsets {
		n += len(o)
	}
	return n
}

// lambda is a function and what it was invoked with.
type lambda struct {
	mu    sync.Mutex
	calls []call
	more  chan struct{} // told of each call, when it begins
	// direct, if not nil, is called in place of all this.
	direct func(ctx context.Context, payload []byte) ([]byte, error)
	// answer, if not nil, is what it does; else all is done.
	answer func(ctx context.Context, number int, c *call) ([]byte, error)
}

func (f *lambda) invoke(ctx context.Context, payload []byte) ([]byte, error) {
	if f.direct != nil {
		return f.direct(ctx, payload)
	}
	var d esm.Decoder
	ev, err := d.Decode(payload)
	if err != nil {
		return nil, err
	}
	c := call{offsets: map[int32][]int64{}, payload: payload, at: time.Now()}
	for _, b := range ev.Batches {
		for _, r := range b.Records {
			c.offsets[b.Partition] = append(c.offsets[b.Partition], r.Offset)
		}
	}
	f.mu.Lock()
	f.calls = append(f.calls, c)
	number := len(f.calls)
	f.mu.Unlock()
	select {
	case f.more <- struct{}{}:
	default:
	}
	if f.answer != nil {
		return f.answer(ctx, number, &c)
	}
	return nil, nil
}

// seen returns the calls so far.
func (f *lambda) seen() []call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// await waits for the n-th call.
func (f *lambda) await(t testing.TB, n int) []call {
	t.Helper()
	limit := time.After(patience)
	for {
		if calls := f.seen(); len(calls) >= n {
			return calls
		}
		select {
		case <-f.more:
		case <-limit:
			t.Fatalf("%d calls, want %d", len(f.seen()), n)
		}
	}
}

// order returns the offsets of a partition in the order in which they came.
func (f *lambda) order(partition int32) []int64 {
	var out []int64
	for _, c := range f.seen() {
		out = append(out, c.offsets[partition]...)
	}
	return out
}

// run runs a trigger until the test ends; stop ends it before.
func (s *stage) run(t testing.TB, o trigger.Options) (f *lambda, stop func()) {
	t.Helper()
	f = &lambda{more: make(chan struct{}, 1000)}
	return f, s.runWith(t, f, o)
}

func (s *stage) runWith(t testing.TB, f *lambda, o trigger.Options) (stop func()) {
	t.Helper()
	o.Brokers, o.Group, o.Topics, o.Invoke, o.Logger = s.addrs, s.group, []string{s.topic}, f.invoke, slog.New(slog.DiscardHandler)
	if o.BatchSize == 0 {
		o.BatchSize = 100
	}
	if o.RetryPause == 0 {
		o.RetryPause = 10 * time.Millisecond
	}
	begun := make(chan struct{})
	hook := o.Hooks.Begun
	o.Hooks.Begun = func() {
		if hook != nil {
			hook()
		}
		close(begun)
	}
	stop, done := running(t, o)
	select {
	case <-begun:
	case err := <-done:
		t.Fatalf("run: %v", err)
	case <-time.After(patience):
		t.Fatal("the trigger does not begin")
	}
	return stop
}

// failures is a partial-batch answer.
func (s *stage) failures(partition int32, offsets ...int64) []byte {
	var out []esm.Failure
	for _, o := range offsets {
		out = append(out, esm.Failure{Partition: fmt.Sprintf("%s-%d", s.topic, partition), Offset: o})
	}
	return esm.AppendResponse(nil, out)
}

// upTo returns from, from+1, ... to-1.
func upTo(from, to int64) (out []int64) {
	for ; from < to; from++ {
		out = append(out, from)
	}
	return out
}

func same(t testing.TB, what string, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got)\n%s", what, d)
	}
}

// notes collects what hooks are told.
type notes[T any] struct {
	mu  sync.Mutex
	all []T
}

func (n *notes[T]) add(v T) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = append(n.all, v)
}

func (n *notes[T]) seen() []T {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.all)
}

// indented makes differences of JSON readable.
func indented(t testing.TB, raw []byte) string {
	t.Helper()
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatalf("%v: %.300s", err, raw)
	}
	out, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
