//go:build servers

package templates_test

import (
	"context"
	"encoding/binary"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/tests/servers"
)

// recorder writes down what one function asks Kafka for, from the bytes that its clients send.
type recorder struct {
	t        *testing.T
	function string
	app      string
	topics   func(id [16]byte) string

	mu    sync.Mutex
	calls map[call]bool
}

// open returns a client that is recorded, with the clients of its sessions.
func (r *recorder) open() *kafkaio.Client {
	r.t.Helper()
	c, err := kafkaio.Open(r.t.Context(), kafkaio.Options{Brokers: servers.Brokers(r.t), Extra: []kgo.Opt{kgo.Dialer(r.dial)}})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(c.Close)
	return c
}

func (r *recorder) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &tapped{Conn: c, requests: r.request}, nil
}

// tapped hands over every request that is written.
type tapped struct {
	net.Conn
	requests func(frame []byte)

	mu   sync.Mutex
	rest []byte
}

// Write implements net.Conn.
func (c *tapped) Write(b []byte) (int, error) {
	c.mu.Lock()
	c.rest = append(c.rest, b...)
	for len(c.rest) >= 4 {
		n := 4 + int(binary.BigEndian.Uint32(c.rest))
		if len(c.rest) < n {
			break
		}
		c.requests(c.rest[4:n])
		c.rest = c.rest[n:]
	}
	c.mu.Unlock()
	return c.Conn.Write(b)
}

// request decodes a request: its header has key, version, correlation id and client id, and where it is flexible a count of tags.
func (r *recorder) request(frame []byte) {
	key, version := int16(binary.BigEndian.Uint16(frame)), int16(binary.BigEndian.Uint16(frame[2:]))
	req := kmsg.RequestForKey(key)
	if req == nil {
		r.t.Errorf("%s sends request %d, which nobody knows", r.function, key)
		return
	}
	req.SetVersion(version)
	body := frame[8:]
	client := int16(binary.BigEndian.Uint16(body))
	body = body[2+max(client, 0):]
	if req.IsFlexible() {
		if body[0] != 0 {
			r.t.Errorf("%s sends tags in the header of %s", r.function, kmsg.NameForKey(key))
		}
		body = body[1:]
	}
	if err := req.ReadFrom(body); err != nil {
		r.t.Errorf("%s sends a %s that cannot be read: %v", r.function, kmsg.NameForKey(key), err)
		return
	}
	for _, resource := range r.resources(req) {
		r.mu.Lock()
		r.calls[call{r.function, strings.ReplaceAll(kmsg.NameForKey(key), "ID", "Id"), resource}] = true
		r.mu.Unlock()
	}
}

// topic is the role of a topic, which has a name or an id.
func (r *recorder) topic(name string, id [16]byte) string {
	if name == "" {
		name = r.topics(id)
	}
	role, ok := map[string]string{
		r.app + "-events": "source", r.app + "-results": "results", r.app + "-results-late": "late", r.app + "-dead": "dead-letter", spec.LedgerTopic: "ledger", spec.PanesTopic: "panes",
	}[name]
	if !ok {
		r.t.Errorf("%s asks for topic %q %x", r.function, name, id)
	}
	return "topic:" + role
}

// named is the role of a group or transactional id.
func (r *recorder) named(kind, name string) string {
	switch {
	case strings.HasPrefix(name, "tidemark."+r.app+"."):
		return kind + ":app"
	case name == "tidemark."+r.app, name == "tidemark."+r.app+":"+r.app+"-events":
		return kind + ":trigger"
	}
	r.t.Errorf("%s asks for %s %q", r.function, kind, name)
	return kind + ":"
}

func (r *recorder) group(name string) string { return r.named("group", name) }
func (r *recorder) txn(id string) string     { return r.named("transactional-id", id) }

const cluster = "cluster:cluster"

// resources are what a request is for.
func (r *recorder) resources(req kmsg.Request) (out []string) {
	add := func(resource string) { out = append(out, resource) }
	switch q := req.(type) {
	case *kmsg.ApiVersionsRequest:
		add(cluster)
	case *kmsg.MetadataRequest:
		add(cluster)
		for _, t := range q.Topics {
			name := ""
			if t.Topic != nil {
				name = *t.Topic
			}
			add(r.topic(name, t.TopicID))
		}
	case *kmsg.ListOffsetsRequest:
		for _, t := range q.Topics {
			add(r.topic(t.Topic, [16]byte{}))
		}
	case *kmsg.OffsetForLeaderEpochRequest:
		for _, t := range q.Topics {
			add(r.topic(t.Topic, [16]byte{}))
		}
	case *kmsg.FetchRequest:
		for _, t := range q.Topics {
			add(r.topic(t.Topic, t.TopicID))
		}
	case *kmsg.ProduceRequest:
		if q.TransactionID != nil {
			add(r.txn(*q.TransactionID))
		}
		for _, t := range q.Topics {
			add(r.topic(t.Topic, t.TopicID))
		}
	case *kmsg.DescribeConfigsRequest:
		for _, t := range q.Resources {
			if t.ResourceType == kmsg.ConfigResourceTypeTopic {
				add(r.topic(t.ResourceName, [16]byte{}))
				continue
			}
			add(cluster)
		}
	default:
		return r.coordinated(req)
	}
	return out
}

// coordinated are what a request of groups and transactions is for.
func (r *recorder) coordinated(req kmsg.Request) (out []string) {
	add := func(resource string) { out = append(out, resource) }
	switch q := req.(type) {
	case *kmsg.FindCoordinatorRequest:
		for _, key := range append(q.CoordinatorKeys, q.CoordinatorKey) {
			switch {
			case key == "":
			case q.CoordinatorType == 0:
				add(r.group(key))
			default:
				add(r.txn(key))
			}
		}
	case *kmsg.InitProducerIDRequest:
		if q.TransactionalID == nil {
			add(cluster)
			break
		}
		add(r.txn(*q.TransactionalID))
	case *kmsg.AddPartitionsToTxnRequest:
		if q.TransactionalID != "" {
			add(r.txn(q.TransactionalID))
		}
		for _, t := range q.Topics {
			add(r.topic(t.Topic, [16]byte{}))
		}
	case *kmsg.AddOffsetsToTxnRequest:
		out = append(out, r.txn(q.TransactionalID), r.group(q.Group))
	case *kmsg.TxnOffsetCommitRequest:
		out = append(out, r.txn(q.TransactionalID), r.group(q.Group))
		for _, t := range q.Topics {
			add(r.topic(t.Topic, t.TopicID))
		}
	case *kmsg.EndTxnRequest:
		add(r.txn(q.TransactionalID))
	case *kmsg.OffsetFetchRequest:
		if q.Group != "" {
			add(r.group(q.Group))
		}
		for _, g := range q.Groups {
			add(r.group(g.Group))
			for _, t := range g.Topics {
				add(r.topic(t.Topic, t.TopicID))
			}
		}
	case *kmsg.OffsetCommitRequest:
		add(r.group(q.Group))
		for _, t := range q.Topics {
			add(r.topic(t.Topic, t.TopicID))
		}
	case *kmsg.JoinGroupRequest:
		add(r.group(q.Group))
	case *kmsg.SyncGroupRequest:
		add(r.group(q.Group))
	case *kmsg.HeartbeatRequest:
		add(r.group(q.Group))
	case *kmsg.LeaveGroupRequest:
		add(r.group(q.Group))
	case *kmsg.ListGroupsRequest:
		add("group:app")
	case *kmsg.DeleteGroupsRequest:
		for _, g := range q.Groups {
			add(r.group(g))
		}
	default:
		r.t.Errorf("%s sends %s, of which this test does not know what it is for", r.function, kmsg.NameForKey(req.Key()))
	}
	return out
}
