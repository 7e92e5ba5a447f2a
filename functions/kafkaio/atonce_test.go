package kafkaio_test

import (
	"context"
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio/logtest"
)

// withoutTransactions is a cluster that has all of the newest Kafka but the requests of transactions.
func withoutTransactions() kfake.Opt {
	v := kversion.Tip()
	for _, key := range []kmsg.Key{kmsg.AddPartitionsToTxn, kmsg.AddOffsetsToTxn, kmsg.EndTxn, kmsg.TxnOffsetCommit, kmsg.InitProducerID} {
		v.SetMaxKeyVersion(key.Int16(), -1)
	}
	return kfake.MaxVersions(v)
}

func atOnceEnv(c *kafkaio.Client) logtest.Env {
	e := env(c, false)
	e.Publisher, e.Markers = c.AtOnce(), false
	return e
}

func TestSessionsWithoutTransactionsOverFakeCluster(t *testing.T) {
	c := client(t, fake(t, withoutTransactions()).ListenAddrs()...)
	logtest.RunAtOnce(t, func(*testing.T) logtest.Env { return atOnceEnv(c) })
}

func TestAClusterWithoutTransactionsIsNotTakenForOneWithThem(t *testing.T) {
	c := client(t, fake(t, withoutTransactions()).ListenAddrs()...)
	if _, err := c.Open(t.Context(), "id"); !errors.Is(err, kafkaio.ErrNoTransactions) || errors.Is(err, kafkaio.ErrNotAuthorized) {
		t.Errorf("%v, want that there are no transactions", err)
	}
}

// A cluster may have no members with an id of their own, which its versions tell, or that it asks for a member id.
func TestWithoutMembersASessionServesOnceAndFindsWhoOverwroteIt(t *testing.T) {
	for _, how := range []string{"old requests", "asks for a member id"} {
		t.Run(how, func(t *testing.T) {
			v := kversion.Tip()
			if how == "old requests" {
				v.SetMaxKeyVersion(kmsg.JoinGroup.Int16(), 4)
			}
			cluster := fake(t, kfake.MaxVersions(v))
			if how != "old requests" {
				cluster.ControlKey(kmsg.JoinGroup.Int16(), func(r kmsg.Request) (kmsg.Response, error, bool) {
					cluster.KeepControl()
					resp := r.ResponseKind().(*kmsg.JoinGroupResponse) //nolint:forcetypeassert // of this key
					resp.ErrorCode, resp.MemberID = kerr.MemberIDRequired.Code, "member"
					return resp, nil, true
				})
			}
			healthy := client(t, cluster.ListenAddrs()...)
			must(t, healthy.CreateTopic(t.Context(), "out", 1, 1, nil))
			parts, err := healthy.Partitions(t.Context(), []string{"out"})
			must(t, err)
			at := func(o int64) []kafkaio.OffsetCommit {
				return []kafkaio.OffsetCommit{{Partition: parts[0], Committed: kafkaio.Committed{Offset: o}}}
			}
			plan := func(ctx context.Context, s kafkaio.Session, o int64) error {
				if err := s.Begin(ctx); err != nil {
					return err
				}
				if _, err := s.Produce(ctx, []kafkaio.Message{{Topic: "out", Value: []byte("x")}}); err != nil {
					return err
				}
				if err := s.CommitOffsets(ctx, "group", at(o)); err != nil {
					return err
				}
				return s.End(ctx)
			}
			s, err := healthy.AtOnce().Open(t.Context(), "group")
			must(t, err)
			defer s.Close()
			must(t, plan(t.Context(), s, 1))
			if s.Reusable() {
				t.Error("reusable, though nobody would tell it of another session's commit")
			}
			if err := s.Begin(t.Context()); !errors.Is(err, kafkaio.ErrSessionState) {
				t.Errorf("begin again: %v", err)
			}

			// Another firer commits between this one's commit and its look.
			overwritten, err := healthy.AtOnce().Open(t.Context(), "group")
			must(t, err)
			defer overwritten.Close()
			other, err := healthy.AtOnce().Open(t.Context(), "group")
			must(t, err)
			defer other.Close()
			once := true
			cluster.ControlKey(kmsg.OffsetFetch.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
				if !once {
					return nil, nil, false //nolint:nilnil // not answered here
				}
				once = false
				done := make(chan error, 1)
				go func() { done <- commitRaw(t.Context(), cluster.ListenAddrs(), "group", "out", 7) }()
				cluster.SleepControl(func() { err = <-done })
				return nil, nil, false //nolint:nilnil // not answered here
			})
			if end := plan(t.Context(), overwritten, 2); !errors.Is(end, kafkaio.ErrFenced) {
				t.Errorf("end: %v, want that another session has overwritten it", end)
			}
			must(t, err)
		})
	}
}

// commitRaw commits an offset as one who is no member of the group.
func commitRaw(ctx context.Context, brokers []string, group, topic string, offset int64) error {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation = group, -1
	v := kversion.Tip()
	v.SetMaxKeyVersion(kmsg.OffsetCommit.Int16(), 9) // newer ones want the topic's id
	named := kmsg.NewOffsetCommitRequestTopic()
	named.Topic = topic
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Offset = offset
	named.Partitions = append(named.Partitions, p)
	req.Topics = append(req.Topics, named)
	pinned, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.MaxVersions(v))
	if err != nil {
		return err
	}
	defer pinned.Close()
	resp, err := req.RequestWith(ctx, pinned)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
}

// The answer to an offset commit is lost for good: whether it was done is for the next session to find out.
func TestWithoutTransactionsAnEndWhoseAnswerIsLostIsUnknown(t *testing.T) {
	cluster := fake(t, withoutTransactions())
	c := client(t, cluster.ListenAddrs()...)
	must(t, c.CreateTopic(t.Context(), "out", 1, 1, nil))
	parts, err := c.Partitions(t.Context(), []string{"out"})
	must(t, err)
	s, err := c.AtOnce().Open(t.Context(), "group")
	must(t, err)
	defer s.Close()
	must(t, s.Begin(t.Context()))
	_, err = s.Produce(t.Context(), []kafkaio.Message{{Topic: "out", Value: []byte("x")}})
	must(t, err)
	must(t, s.CommitOffsets(t.Context(), "group", []kafkaio.OffsetCommit{{Partition: parts[0], Committed: kafkaio.Committed{Offset: 7}}}))
	ctx, cancel := context.WithCancel(t.Context())
	cluster.ControlKey(kmsg.OffsetCommit.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		cancel()
		return nil, errors.New("connection reset"), true
	})
	if err := s.End(ctx); !errors.Is(err, kafkaio.ErrUnknownOutcome) {
		t.Errorf("end: %v, want an unknown outcome", err)
	}
	if err := s.Begin(t.Context()); !errors.Is(err, kafkaio.ErrSessionState) || s.Reusable() {
		t.Errorf("begin: %v, reusable: %v", err, s.Reusable())
	}
}
