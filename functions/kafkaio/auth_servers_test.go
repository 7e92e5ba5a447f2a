//go:build servers

package kafkaio_test

import (
	"context"
	"crypto/tls"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/tests/servers"
)

func connect(ctx context.Context, t *testing.T, address string, auth kafkaio.Auth) (*kafkaio.Client, error) {
	t.Helper()
	c, err := kafkaio.Open(ctx, kafkaio.Options{Brokers: []string{address}, Auth: auth})
	if err == nil {
		t.Cleanup(c.Close)
	}
	return c, err
}

// whole does all that fire and ingest do: a topic, a transaction with offsets, the group, the records.
func whole(ctx context.Context, t *testing.T, c *kafkaio.Client) {
	t.Helper()
	topic := servers.Name(t, "in")
	must(t, c.CreateTopic(ctx, topic, 2, 1, nil))
	session, err := c.Open(ctx, topic)
	must(t, err)
	defer session.Close()
	must(t, session.Begin(ctx))
	at, err := session.Produce(ctx, []kafkaio.Message{{Topic: topic, Partition: 1, Value: []byte("v")}})
	must(t, err)
	parts, err := c.Partitions(ctx, []string{topic})
	must(t, err)
	want := kafkaio.Committed{Offset: 7, Metadata: "m"}
	must(t, session.CommitOffsets(ctx, topic, []kafkaio.OffsetCommit{{Partition: parts[1], Committed: want}}))
	must(t, session.End(ctx))
	group, err := c.Group(ctx, topic)
	must(t, err)
	tp := event.TopicPartition{Topic: topic, Partition: 1}
	if group[tp] != want {
		t.Errorf("group: %v", group)
	}
	var got []string
	must(t, c.Read(ctx, tp, 0, at[0].Offset+1, func(records []event.Record, _ int64) error {
		for _, r := range records {
			got = append(got, string(r.Value))
		}
		return nil
	}))
	if len(got) != 1 || got[0] != "v" {
		t.Errorf("read %q", got)
	}
}

func TestSecuredBroker(t *testing.T) {
	k := servers.StartSecuredKafka(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()

	t.Run("over TLS", func(t *testing.T) {
		c, err := connect(ctx, t, k.TLS, kafkaio.Auth{Kind: kafkaio.AuthTLS, Roots: k.Authority.Pool()})
		must(t, err)
		whole(ctx, t, c)
	})
	t.Run("a broker whose certificate nobody vouches for is refused", func(t *testing.T) {
		_, err := connect(ctx, t, k.TLS, kafkaio.Auth{Kind: kafkaio.AuthTLS, Roots: k.Clients.Pool()})
		if _, ok := errors.AsType[*tls.CertificateVerificationError](err); !ok {
			t.Errorf("%v", err)
		}
	})
	t.Run("by SCRAM", func(t *testing.T) {
		c, err := connect(ctx, t, k.SCRAM, scramOf(k, func(bool) string { return k.Password }))
		must(t, err)
		whole(ctx, t, c)
	})
	t.Run("a wrong password is refused, and not shown", func(t *testing.T) { wrongPassword(ctx, t, k) })
	t.Run("a rotated password is picked up", func(t *testing.T) { rotated(ctx, t, k) })
	t.Run("by certificate", func(t *testing.T) {
		c, err := connect(ctx, t, k.MTLS, mtlsOf(k, func(bool) (tls.Certificate, error) { return tls.X509KeyPair(k.Clients.Issue("firer")) }))
		must(t, err)
		whole(ctx, t, c)
	})
	t.Run("a certificate that is refused is asked for again", func(t *testing.T) {
		asked, issuer := 0, servers.NewAuthority(t)
		c, err := connect(ctx, t, k.MTLS, mtlsOf(k, func(rejected bool) (tls.Certificate, error) {
			if asked++; rejected {
				issuer = k.Clients
			}
			return tls.X509KeyPair(issuer.Issue("firer"))
		}))
		must(t, err)
		_, err = c.Groups(ctx, "none")
		must(t, err)
		if asked < 2 {
			t.Errorf("asked %d times", asked)
		}
	})
	t.Run("who has no certificate is refused", func(t *testing.T) {
		_, err := connect(ctx, t, k.MTLS, kafkaio.Auth{Kind: kafkaio.AuthTLS, Roots: k.Authority.Pool()})
		if !errors.Is(err, kafkaio.ErrAuthentication) {
			t.Errorf("%v", err)
		}
	})
}

func scramOf(k *servers.SecuredKafka, password func(rejected bool) string) kafkaio.Auth {
	return kafkaio.Auth{Kind: kafkaio.AuthSCRAM, Roots: k.Authority.Pool(), Password: func(_ context.Context, rejected bool) (string, string, error) {
		return k.User, password(rejected), nil
	}}
}

func mtlsOf(k *servers.SecuredKafka, certificate func(rejected bool) (tls.Certificate, error)) kafkaio.Auth {
	return kafkaio.Auth{Kind: kafkaio.AuthMTLS, Roots: k.Authority.Pool(), Certificate: func(_ context.Context, rejected bool) (*tls.Certificate, error) {
		c, err := certificate(rejected)
		return &c, err
	}}
}

func wrongPassword(ctx context.Context, t *testing.T, k *servers.SecuredKafka) {
	t.Helper()
	var asked, rejections int
	_, err := connect(ctx, t, k.SCRAM, scramOf(k, func(rejected bool) string {
		if asked++; rejected {
			rejections++
		}
		return "not-the-password"
	}))
	if !errors.Is(err, kafkaio.ErrAuthentication) || strings.Contains(err.Error(), "not-the-password") || strings.Contains(err.Error(), k.Password) {
		t.Errorf("%v", err)
	}
	if asked != 2 || rejections != 1 {
		t.Errorf("asked %d times, of which %d after a rejection: want 2 and 1", asked, rejections)
	}
}

// rotated has a client that worked, changes the password at the broker, and has all connections dropped, as after a freeze.
func rotated(ctx context.Context, t *testing.T, k *servers.SecuredKafka) {
	t.Helper()
	const next = "the-next-password"
	kept, valid := k.Password, k.Password
	var renewed atomic.Int32
	p := newProxy(t, k.SCRAM) //nolint:contextcheck // it lives as long as the test
	auth := scramOf(k, func(rejected bool) string {
		if rejected {
			renewed.Add(1)
			kept = valid
		}
		return kept
	})
	c, err := kafkaio.Open(ctx, kafkaio.Options{Brokers: []string{k.SCRAM}, Auth: auth, Extra: []kgo.Opt{kgo.Dialer(p.dialTLS(k.Authority.Pool()))}})
	must(t, err)
	defer c.Close()
	whole(ctx, t, c)

	plain, err := kgo.NewClient(kgo.SeedBrokers(k.Plain))
	must(t, err)
	defer plain.Close()
	answers, err := kadm.NewClient(plain).AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{{User: k.User, Mechanism: kadm.ScramSha512, Iterations: 4096, Password: next}})
	must(t, err)
	must(t, answers.Error())
	valid = next
	p.drop()
	whole(ctx, t, c)
	if renewed.Load() == 0 {
		t.Error("the old password was never refused")
	}
	k.Password = next
}
