package preflight_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/functions/preflight"
	"github.com/llm-auto-optimizer/tidemark/statestore/memstore"
)

const topicsOnly = `
app: APP
processor:
  kafka:
    consumer: {topics: [APP-events]}
    producer: {result_topic: APP-results}
  error_handling: {dead_letter_topic: APP-dead}
`

// appOn makes an app on a cluster, with its topics: the ledger too if it is not there.
func appOn(t *testing.T, c *kafkaio.Client, name string) preflight.Deps {
	t.Helper()
	app, err := spec.Load([]byte(strings.ReplaceAll(topicsOnly, "APP", name)), "spec.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p, err := pipeline.Compile(app.Pipelines[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, topic := range []string{name + "-events", name + "-results", name + "-results-late", name + "-dead"} {
		if err := c.CreateTopic(t.Context(), topic, 1, 1, nil); err != nil {
			t.Fatal(err)
		}
	}
	for topic, configs := range map[string]map[string]string{spec.LedgerTopic: {"retention.ms": "-1"}, spec.PanesTopic: {"cleanup.policy": "compact"}} {
		if _, err := c.Partitions(t.Context(), []string{topic}); err != nil {
			if err := c.CreateTopic(t.Context(), topic, 1, 1, configs); err != nil && !errors.Is(err, kafkaio.ErrTopicExists) {
				t.Fatal(err)
			}
		}
	}
	return preflight.Deps{App: app, Pipelines: []*pipeline.Pipeline{p}, Kafka: c, Store: memstore.New()}
}

func open(t *testing.T, brokers []string, extra ...kgo.Opt) *kafkaio.Client {
	t.Helper()
	c, err := kafkaio.Open(t.Context(), kafkaio.Options{Brokers: brokers, Extra: extra})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func fake(t *testing.T, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	cluster, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return cluster
}

// leavesNothing checks that a look leaves no record for a read_committed reader, no open transaction, and no offset of a group.
func leavesNothing(t *testing.T, c *kafkaio.Client, d preflight.Deps) {
	t.Helper()
	ctx := t.Context()
	before, err := c.ReadAll(ctx, spec.LedgerTopic)
	if err != nil {
		t.Fatal(err)
	}
	report, err := preflight.Check(ctx, d)
	if err != nil || report.Transactions != preflight.TransactionsWork || !report.OK() {
		t.Fatalf("%+v, %v", report, err)
	}
	after, err := c.ReadAll(ctx, spec.LedgerTopic) // waits for open transactions
	if err != nil {
		t.Fatal(err)
	}
	id := "tidemark." + d.App.Name + ".preflight"
	for _, r := range after[min(len(before), len(after)):] {
		if string(r.Key) == id {
			t.Errorf("a reader sees %s", r.Value)
		}
	}
	offsets, err := c.Group(ctx, id)
	if err != nil || len(offsets) != 0 {
		t.Errorf("the group of the trial has %v, %v", offsets, err)
	}
}

func TestTheTrialLeavesNothing(t *testing.T) {
	for name, opts := range map[string][]kfake.Opt{"version 2": nil, "before that": {kfake.MaxVersions(kversion.V3_9_0())}} {
		t.Run(name, func(t *testing.T) {
			c := open(t, fake(t, opts...).ListenAddrs())
			d := appOn(t, c, "shop")
			leavesNothing(t, c, d)
			all := 0
			follow, stop := context.WithCancel(t.Context())
			defer stop()
			err := c.Consume(follow, []string{spec.LedgerTopic}, kafkaio.ConsumeOptions{Uncommitted: true}, func(rs []kafkaio.PublishedRecord) error {
				all += len(rs)
				stop()
				return nil
			})
			if all != 1 || err == nil {
				t.Errorf("%d records were produced, %v: the trial is none without", all, err)
			}
		})
	}
}

func withoutTransactions() kfake.Opt {
	v := kversion.Tip()
	for _, key := range []kmsg.Key{kmsg.AddPartitionsToTxn, kmsg.AddOffsetsToTxn, kmsg.EndTxn, kmsg.TxnOffsetCommit, kmsg.InitProducerID} {
		v.SetMaxKeyVersion(key.Int16(), -1)
	}
	return kfake.MaxVersions(v)
}

// At the start of a function all is logged once, and the publisher is the one that the cluster can serve.
func TestStartChoosesThePublisher(t *testing.T) {
	for name, c := range map[string]struct {
		opts   []kfake.Opt
		atOnce bool
		says   string
	}{
		"with transactions":     {nil, false, "all of it works"},
		"without any":           {[]kfake.Opt{withoutTransactions()}, true, "level=WARN msg=preflight check=transactions subject=\"\" found=\"the cluster does not support transactions: results are delivered at least once"},
		"they may not be long":  {[]kfake.Opt{kfake.BrokerConfigs(map[string]string{"transaction.max.timeout.ms": "20000"})}, false, "level=ERROR msg=preflight check=transactions subject=\"\" found=\"transaction.max.timeout.ms"},
		"offsets are forgotten": {[]kfake.Opt{kfake.BrokerConfigs(map[string]string{"offsets.retention.minutes": "60"})}, false, "level=ERROR msg=preflight check=\"group offsets\" subject=offsets.retention.minutes found=\"the brokers forget"},
	} {
		t.Run(name, func(t *testing.T) {
			client := open(t, fake(t, c.opts...).ListenAddrs())
			d := appOn(t, client, "shop")
			var log bytes.Buffer
			publisher := preflight.Start(t.Context(), d, client, slog.New(slog.NewTextHandler(&log, nil)))
			if n := strings.Count(log.String(), c.says); n != 1 {
				t.Errorf("%q is said %d times in\n%s", c.says, n, log.String())
			}
			s, err := publisher.Open(t.Context(), d.Pipelines[0].Group())
			if strings.Contains(name, "long") {
				if err == nil {
					t.Error("the cluster took it all the same")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if kafkaio.IsAtOnce(s) != c.atOnce {
				t.Errorf("sessions are at once: %v", !c.atOnce)
			}
		})
	}
}

// A start that came too early for a trial finds out with the first session, and says so once.
func TestThePublisherIsChosenLaterWhereTheStartCouldNotTell(t *testing.T) {
	client := open(t, fake(t, withoutTransactions()).ListenAddrs())
	d := appOn(t, client, "shop")
	var log bytes.Buffer
	over, cancel := context.WithCancel(t.Context())
	cancel()
	publisher := preflight.Start(over, d, client, slog.New(slog.NewTextHandler(&log, nil)))
	for range 2 {
		s, err := publisher.Open(t.Context(), d.Pipelines[0].Group())
		if err != nil {
			t.Fatal(err)
		}
		if !kafkaio.IsAtOnce(s) {
			t.Error("a session of transactions")
		}
		s.Close()
	}
	if n := strings.Count(log.String(), "the cluster has no transactions"); n != 1 {
		t.Errorf("said %d times in\n%s", n, log.String())
	}
}

// A principal that lacks one permission is told which; and nobody publishes without transactions for want of one.
func TestWhatIsNotAllowedIsNamed(t *testing.T) {
	type grant struct {
		resource kmsg.ACLResourceType
		name     string
		ops      []kmsg.ACLOperation
	}
	all := map[string]grant{
		"transactional id": {kmsg.ACLResourceTypeTransactionalId, "tidemark.shop.", []kmsg.ACLOperation{kmsg.ACLOperationWrite, kmsg.ACLOperationDescribe}},
		"group":            {kmsg.ACLResourceTypeGroup, "tidemark.shop.", []kmsg.ACLOperation{kmsg.ACLOperationRead, kmsg.ACLOperationDescribe}},
		"ledger":           {kmsg.ACLResourceTypeTopic, "tidemark-ledger", []kmsg.ACLOperation{kmsg.ACLOperationWrite}},
		"topics":           {kmsg.ACLResourceTypeTopic, "", []kmsg.ACLOperation{kmsg.ACLOperationRead, kmsg.ACLOperationDescribe, kmsg.ACLOperationDescribeConfigs}},
	}
	for lacks, says := range map[string]string{
		"nothing": "", "transactional id": "WRITE and DESCRIBE on transactional ids that begin with tidemark.shop.", "group": "READ and DESCRIBE on groups that begin with tidemark.shop.",
		"ledger": "WRITE and DESCRIBE on the result",
	} {
		t.Run(lacks, func(t *testing.T) {
			var acls []kfake.ACL
			for name, g := range all {
				for _, op := range g.ops {
					acl := kfake.ACL{Resource: g.resource, Name: g.name, Pattern: kmsg.ACLResourcePatternTypePrefixed, Operation: op, Allow: true}
					if g.name == "" {
						acl.Name, acl.Pattern = "*", kmsg.ACLResourcePatternTypeLiteral
					}
					if name != lacks {
						acls = append(acls, acl)
					}
				}
			}
			cluster := fake(t, kfake.EnableSASL(), kfake.EnableACLs(), kfake.Superuser("PLAIN", "admin", "hunter1"), kfake.User("PLAIN", "firer", "hunter2", acls...))
			admin := open(t, cluster.ListenAddrs(), kgo.SASL(plain.Auth{User: "admin", Pass: "hunter1"}.AsMechanism()))
			d := appOn(t, admin, "shop")
			firer := open(t, cluster.ListenAddrs(), kgo.SASL(plain.Auth{User: "firer", Pass: "hunter2"}.AsMechanism()))
			d.Kafka = firer
			report, err := preflight.Check(t.Context(), d)
			if err != nil {
				t.Fatal(err)
			}
			if lacks == "nothing" {
				if !report.OK() || report.Transactions != preflight.TransactionsWork {
					t.Errorf("%+v", report)
				}
				return
			}
			said := false
			for _, f := range report.Findings {
				said = said || f.Check == preflight.CheckTransactions && f.Severity == preflight.Error && strings.Contains(f.Do, says)
				if strings.Contains(f.What+f.Do, "hunter") {
					t.Errorf("a password is shown: %+v", f)
				}
			}
			if !said || report.Transactions != preflight.TransactionsUnknown {
				t.Errorf("%v: %+v, want %q", report.Transactions, report.Findings, says)
			}
		})
	}
}
