package kafkaio_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
)

// cutter makes connections that break at the first EndTxn.
type cutter struct {
	forward bool   // the request still reaches the broker, only its answer is lost
	refuse  bool   // and no connection can be made after that
	onCut   func() // called before the connection breaks
	once    sync.Once
	cut     atomic.Bool
}

func (c *cutter) dial(ctx context.Context, network, host string) (net.Conn, error) {
	if c.refuse && c.cut.Load() {
		return nil, errors.New("cutter: no way through")
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, host)
	if err != nil {
		return nil, err
	}
	return &cutConn{Conn: conn, cutter: c}, nil
}

type cutConn struct {
	net.Conn
	cutter *cutter
}

// Write looks at the api key of the request: bytes 4 and 5 of what kgo writes at once.
func (c *cutConn) Write(b []byte) (n int, err error) {
	if len(b) < 6 || int16(binary.BigEndian.Uint16(b[4:])) != kmsg.EndTxn.Int16() {
		return c.Conn.Write(b)
	}
	broken := false
	c.cutter.once.Do(func() {
		broken = true
		if c.cutter.forward {
			if n, err = c.Conn.Write(b); err == nil {
				_, err = c.Conn.Read(make([]byte, 1)) // the broker has done it
			}
		}
		c.cutter.cut.Store(true)
		if c.cutter.onCut != nil {
			c.cutter.onCut()
		}
	})
	if !broken {
		return c.Conn.Write(b)
	}
	return n, errors.Join(net.ErrClosed, c.Conn.Close(), err)
}

// plan is one transaction ready to be ended: a message, and an offset of a group.
type plan struct {
	out   string
	group string
	id    string
	s     kafkaio.Session
}

// stage makes a plan through c; the topics are made by healthy.
func stage(t *testing.T, healthy, c *kafkaio.Client) plan {
	t.Helper()
	ctx := t.Context()
	p := plan{out: "out", group: "group", id: "id"}
	must(t, healthy.CreateTopic(ctx, p.out, 1, 1, nil))
	parts, err := healthy.Partitions(ctx, []string{p.out})
	must(t, err)
	p.s, err = c.Open(ctx, p.id)
	must(t, err)
	t.Cleanup(p.s.Close)
	must(t, p.s.Begin(ctx))
	_, err = p.s.Produce(ctx, []kafkaio.Message{{Topic: p.out, Value: []byte("pane")}})
	must(t, err)
	must(t, p.s.CommitOffsets(ctx, p.group, []kafkaio.OffsetCommit{{Partition: parts[0], Committed: kafkaio.Committed{Offset: 7}}}))
	return p
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func clientThrough(t *testing.T, c *cutter, brokers ...string) *kafkaio.Client {
	t.Helper()
	o := kafkaio.Options{Brokers: brokers, RetryFor: 2 * time.Second, Extra: []kgo.Opt{kgo.Dialer(c.dial)}}
	cl, err := kafkaio.Open(t.Context(), o)
	must(t, err)
	t.Cleanup(cl.Close)
	return cl
}

// The answer to an EndTxn is lost, and so is the way to the broker, or the request itself is: both look the same to the
// session, and the next one tells which it was.
func TestAnEndWhoseAnswerIsLostIsUnknown(t *testing.T) {
	for _, committed := range []bool{true, false} {
		t.Run(fmt.Sprintf("committed %v", committed), func(t *testing.T) {
			addrs := fake(t).ListenAddrs()
			healthy := client(t, addrs...)
			p := stage(t, healthy, clientThrough(t, &cutter{forward: committed, refuse: true}, addrs...))

			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			if err := p.s.End(ctx); !errors.Is(err, kafkaio.ErrUnknownOutcome) || errors.Is(err, kafkaio.ErrFenced) {
				t.Fatalf("end: %v, want an unknown outcome", err)
			}
			if err := p.s.Begin(ctx); !errors.Is(err, kafkaio.ErrSessionState) || p.s.Reusable() {
				t.Errorf("begin after an unknown outcome: %v, reusable: %v", err, p.s.Reusable())
			}
			p.s.Close()

			s, err := healthy.Open(t.Context(), p.id)
			must(t, err)
			defer s.Close()
			got, err := healthy.Group(t.Context(), p.group)
			must(t, err)
			all, err := healthy.ReadAll(t.Context(), p.out)
			must(t, err)
			if has := len(got) == 1; has != committed || len(all) != len(got) {
				t.Errorf("group has %v, the topic %d records; committed: %v", got, len(all), committed)
			}
		})
	}
}

// A lost answer alone is no matter: the request is repeated, and the broker knows that it has done it.
func TestAnEndIsRepeatedWhenItsAnswerIsLost(t *testing.T) {
	for _, forward := range []bool{true, false} {
		addrs := fake(t).ListenAddrs()
		healthy := client(t, addrs...)
		p := stage(t, healthy, clientThrough(t, &cutter{forward: forward}, addrs...))
		must(t, p.s.End(t.Context()))
		got, err := healthy.Group(t.Context(), p.group)
		must(t, err)
		if len(got) != 1 {
			t.Errorf("forward %v: group has %v after a commit", forward, got)
		}
	}
}

// A refusal proves that nothing was committed only if it is the answer to the one request that was sent.
func TestAFencedEndIsUnknownBehindARepeatedRequest(t *testing.T) {
	addrs := fake(t).ListenAddrs()
	healthy := client(t, addrs...)
	p := stage(t, healthy, healthy)
	newer, err := healthy.Open(t.Context(), p.id)
	must(t, err)
	defer newer.Close()
	must(t, newer.Begin(t.Context()))
	_, err = newer.Produce(t.Context(), []kafkaio.Message{{Topic: p.out, Value: []byte("newer")}})
	must(t, err)
	if err := p.s.End(t.Context()); !errors.Is(err, kafkaio.ErrFenced) || errors.Is(err, kafkaio.ErrUnknownOutcome) {
		t.Errorf("end, fenced before it was sent: %v", err)
	}

	addrs = fake(t).ListenAddrs()
	healthy = client(t, addrs...)
	c := &cutter{forward: true}
	c.onCut = func() { // committed; then a newer session, before the request is repeated
		s, err := healthy.Open(t.Context(), "id")
		if err != nil {
			t.Errorf("open: %v", err)
			return
		}
		s.Close()
	}
	p = stage(t, healthy, clientThrough(t, c, addrs...))
	err = p.s.End(t.Context())
	if !errors.Is(err, kafkaio.ErrFenced) || !errors.Is(err, kafkaio.ErrUnknownOutcome) {
		t.Errorf("end, repeated and fenced: %v, want an unknown outcome", err)
	}
	got, err := healthy.Group(t.Context(), p.group)
	must(t, err)
	if len(got) != 1 {
		t.Errorf("group has %v: the first request has committed", got)
	}
}

func TestReadFollowsTheLeader(t *testing.T) {
	cluster := fake(t)
	c := client(t, cluster.ListenAddrs()...)
	tp := event.TopicPartition{Topic: "moving"}
	must(t, c.CreateTopic(t.Context(), tp.Topic, 1, 1, nil))
	must(t, c.Produce(t.Context(), []kafkaio.Message{{Topic: tp.Topic, Value: []byte("a")}}))
	for node := range int32(3) {
		must(t, cluster.MoveTopicPartition(tp.Topic, 0, node))
		all, err := c.ReadAll(t.Context(), tp.Topic)
		must(t, err)
		if len(all) != 1 {
			t.Errorf("leader %d: %d records, want 1", node, len(all))
		}
	}
}

// intercept answers requests in the cluster's place; nil leaves a request to the cluster.
func intercept(cluster *kfake.Cluster, key kmsg.Key, fn func(kmsg.Request) kmsg.Response) {
	cluster.ControlKey(key.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		resp := fn(req)
		return resp, nil, resp != nil
	})
}

// as is a request or a response as what its key says that it is.
func as[T any](v any) T {
	t, ok := v.(T)
	if !ok {
		panic(fmt.Sprintf("a %T", v))
	}
	return t
}

// answer is what a fetch gets instead of the cluster's answer.
type answer func(*kmsg.FetchRequest) *kmsg.FetchResponse

func twice(a answer) []answer { return []answer{a, a} }

// fetchAnswers replaces answers to fetches, in order; nil leaves the request to the cluster.
func fetchAnswers(cluster *kfake.Cluster, answers ...answer) *atomic.Int64 {
	var fetches atomic.Int64
	intercept(cluster, kmsg.Fetch, func(req kmsg.Request) kmsg.Response {
		i := int(fetches.Add(1)) - 1
		if i >= len(answers) || answers[i] == nil {
			return nil
		}
		return answers[i](as[*kmsg.FetchRequest](req))
	})
	return &fetches
}

// emptyUpTo answers as a broker that has nothing between the offset that was asked for and end.
func emptyUpTo(end int64) answer {
	return func(req *kmsg.FetchRequest) *kmsg.FetchResponse {
		resp := as[*kmsg.FetchResponse](req.ResponseKind())
		for _, rt := range req.Topics {
			st := kmsg.NewFetchResponseTopic()
			st.Topic, st.TopicID = rt.Topic, rt.TopicID
			for _, rp := range rt.Partitions {
				sp := kmsg.NewFetchResponseTopicPartition()
				sp.Partition, sp.HighWatermark, sp.LastStableOffset = rp.Partition, end, end
				st.Partitions = append(st.Partitions, sp)
			}
			resp.Topics = append(resp.Topics, st)
		}
		return resp
	}
}

// throttled answers as a broker that holds a client to its quota: without the partition.
func throttled(req *kmsg.FetchRequest) *kmsg.FetchResponse {
	return as[*kmsg.FetchResponse](req.ResponseKind())
}

func filled(t *testing.T, cluster *kfake.Cluster, n int) (*kafkaio.Client, event.TopicPartition) {
	t.Helper()
	c := client(t, cluster.ListenAddrs()...)
	tp := event.TopicPartition{Topic: "filled"}
	must(t, c.CreateTopic(t.Context(), tp.Topic, 1, 1, nil))
	must(t, c.Produce(t.Context(), numbered(tp.Topic, n)))
	return c, tp
}

func numbered(topic string, n int) []kafkaio.Message {
	messages := make([]kafkaio.Message, n)
	for i := range messages {
		messages[i] = kafkaio.Message{Topic: topic, Value: fmt.Append(nil, i)}
	}
	return messages
}

// readTo returns how many records there are, and the next of the last call.
func readTo(ctx context.Context, c *kafkaio.Client, tp event.TopicPartition, to int64) (records int, next int64, err error) {
	err = c.Read(ctx, tp, 0, to, func(rs []event.Record, n int64) error {
		records, next = records+len(rs), n
		return nil
	})
	return records, next, err
}

func TestReadIgnoresThrottledAnswers(t *testing.T) {
	cluster := fake(t)
	c, tp := filled(t, cluster, 5)
	fetches := fetchAnswers(cluster, twice(throttled)...)
	records, next, err := readTo(t.Context(), c, tp, 5)
	if records != 5 || next != 5 || err != nil || fetches.Load() < 3 {
		t.Errorf("%d records up to %d after %d fetches, %v", records, next, fetches.Load(), err)
	}
}

func TestReadEndsBehindATrailingHole(t *testing.T) {
	cluster := fake(t)
	c, tp := filled(t, cluster, 5)
	fetchAnswers(cluster, nil, emptyUpTo(9)) // 5 to 8 were removed and left no batch
	records, next, err := readTo(t.Context(), c, tp, 9)
	if records != 5 || next != 9 || err != nil {
		t.Errorf("%d records up to %d, %v; want 5 up to 9", records, next, err)
	}
}

// An empty answer for an offset that only tiered storage has is no hole: the broker was too slow to get it.
func TestReadWaitsForTieredStorage(t *testing.T) {
	cluster := fake(t)
	c, tp := filled(t, cluster, 5)
	fetchAnswers(cluster, twice(emptyUpTo(5))...)
	intercept(cluster, kmsg.ListOffsets, func(kreq kmsg.Request) kmsg.Response {
		req := as[*kmsg.ListOffsetsRequest](kreq)
		if req.Topics[0].Partitions[0].Timestamp != -4 {
			return nil
		}
		resp := as[*kmsg.ListOffsetsResponse](req.ResponseKind())
		st := kmsg.NewListOffsetsResponseTopic()
		st.Topic = req.Topics[0].Topic
		sp := kmsg.NewListOffsetsResponseTopicPartition()
		sp.Partition, sp.Offset = req.Topics[0].Partitions[0].Partition, 3
		st.Partitions = append(st.Partitions, sp)
		resp.Topics = append(resp.Topics, st)
		return resp
	})
	records, next, err := readTo(t.Context(), c, tp, 5)
	if records != 5 || next != 5 || err != nil {
		t.Errorf("%d records up to %d, %v; want 5 up to 5", records, next, err)
	}
}

func TestReadPassesWhatCompactionRemoved(t *testing.T) {
	cluster := fake(t)
	c := client(t, cluster.ListenAddrs()...)
	tp := event.TopicPartition{Topic: "compacted"}
	must(t, c.CreateTopic(t.Context(), tp.Topic, 1, 1, map[string]string{"cleanup.policy": "compact", "segment.bytes": "200"}))
	const n = 40
	must(t, c.Produce(t.Context(), []kafkaio.Message{{Topic: tp.Topic, Key: []byte("kept")}}))
	for i := range n {
		must(t, c.Produce(t.Context(), []kafkaio.Message{{Topic: tp.Topic, Key: []byte("k"), Value: fmt.Append(nil, i)}}))
	}
	cluster.Compact()
	records, next, err := readTo(t.Context(), c, tp, n+1)
	if records < 2 || records > n || next != n+1 || err != nil {
		t.Errorf("%d records up to %d, %v; want some, not all, up to %d", records, next, err, n+1)
	}
}

func TestOffsetsAreAskedAgainWhileALeaderIsMissing(t *testing.T) {
	cluster := fake(t)
	c, tp := filled(t, cluster, 5)
	var refused atomic.Int64
	intercept(cluster, kmsg.ListOffsets, func(kreq kmsg.Request) kmsg.Response {
		if refused.Add(1) > 3 {
			return nil
		}
		req := as[*kmsg.ListOffsetsRequest](kreq)
		resp := as[*kmsg.ListOffsetsResponse](req.ResponseKind())
		st := kmsg.NewListOffsetsResponseTopic()
		st.Topic = req.Topics[0].Topic
		sp := kmsg.NewListOffsetsResponseTopicPartition()
		sp.Partition, sp.ErrorCode = req.Topics[0].Partitions[0].Partition, kerr.NotLeaderForPartition.Code
		st.Partitions = append(st.Partitions, sp)
		resp.Topics = append(resp.Topics, st)
		return resp
	})
	got, err := c.Offsets(t.Context(), []event.TopicPartition{tp, tp})
	must(t, err)
	want := map[event.TopicPartition]kafkaio.Offsets{tp: {End: 5, Stable: 5}}
	if diff := cmp.Diff(want, got); diff != "" || refused.Load() < 6 {
		t.Errorf("offsets after %d requests, 3 of them refused (-want +got):\n%s", refused.Load(), diff)
	}
}
