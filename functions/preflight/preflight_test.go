package preflight

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/redisstore"
)

var update = flag.Bool("update", false, "write the golden files anew")

const someSpec = `
app: shop
processor:
  watermark: {max_out_of_orderness: 30s, idle_timeout: 90s}
  kafka:
    consumer: {topics: [events]}
    producer: {result_topic: results}
pipelines:
  - name: orders
    topics: [events]
    timestamp: {%s}
    values: {value: value}
    windows: [{name: hour, type: %s, allowed_lateness: 58m}]
    aggregates: {value: [count]}
`

// somePipelines compiles the spec: records of an hour, 58 minutes of lateness and 2 of bound and idle timeout are 2 hours.
func somePipelines(t *testing.T, timestamp, window string) (*spec.App, []*pipeline.Pipeline) {
	t.Helper()
	app, err := spec.Load(fmt.Appendf(nil, someSpec, timestamp, window), "spec.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p, err := pipeline.Compile(app.Pipelines[0])
	if err != nil {
		t.Fatal(err)
	}
	return app, []*pipeline.Pipeline{p}
}

// cluster is a Kafka that says what a test wants it to. As it comes from healthy, nothing is to be said of it but a note.
type cluster struct {
	topics    map[string]kafkaio.TopicFacts
	topicsErr error
	broker    map[string]string
	brokerErr error
	version   int16
	trialErr  error
	trial     kafkaio.Trial
	id        [16]byte
	bounds    kafkaio.Offsets
	group     map[event.TopicPartition]kafkaio.Committed
	groupErr  error
}

var part = event.TopicPartition{Topic: "events"}

func healthy() *cluster {
	c := &cluster{topics: map[string]kafkaio.TopicFacts{}, version: 2, id: [16]byte{1}, bounds: kafkaio.Offsets{Start: 5, End: 90, Stable: 90}}
	for _, name := range []string{"events", "results", "results-late", "processor-dead-letter"} {
		c.topics[name] = kafkaio.TopicFacts{Replicas: 3, Configs: map[string]string{
			"cleanup.policy": "delete", "retention.ms": "604800000", "retention.bytes": "-1", "min.insync.replicas": "2", "max.message.bytes": "1048588",
			"message.timestamp.type": "CreateTime",
		}}
	}
	ledger := maps.Clone(c.topics["results"].Configs)
	ledger["retention.ms"] = "-1"
	c.topics[spec.LedgerTopic] = kafkaio.TopicFacts{Replicas: 3, Configs: ledger}
	panes := maps.Clone(c.topics["results"].Configs)
	panes["cleanup.policy"] = "compact"
	c.topics[spec.PanesTopic] = kafkaio.TopicFacts{Replicas: 3, Configs: panes}
	c.broker = map[string]string{"offsets.retention.minutes": "10080", "offset.metadata.max.bytes": "4096", "transaction.max.timeout.ms": "900000"}
	return c
}

func (c *cluster) set(topic, key, value string) { c.topics[topic].Configs[key] = value }

func (c *cluster) commit(offset int64, m pipeline.Commitment) {
	c.group = map[event.TopicPartition]kafkaio.Committed{part: {Offset: offset, Metadata: string(pipeline.AppendCommitment(nil, &m))}}
}

func (c *cluster) Partitions(context.Context, []string) ([]kafkaio.Partition, error) {
	return []kafkaio.Partition{{TopicPartition: part, TopicID: c.id}}, nil
}

func (c *cluster) Offsets(context.Context, []event.TopicPartition) (map[event.TopicPartition]kafkaio.Offsets, error) {
	return map[event.TopicPartition]kafkaio.Offsets{part: c.bounds}, nil
}

func (c *cluster) Group(context.Context, string) (map[event.TopicPartition]kafkaio.Committed, error) {
	return c.group, c.groupErr
}

func (c *cluster) TopicFacts(context.Context, []string) (map[string]kafkaio.TopicFacts, error) {
	return c.topics, c.topicsErr
}

func (c *cluster) BrokerFacts(context.Context) (map[string]string, error) {
	return c.broker, c.brokerErr
}

func (c *cluster) TryTransaction(_ context.Context, t kafkaio.Trial) (int16, error) {
	c.trial = t
	return c.version, c.trialErr
}

// store is a state store that says what a test wants it to.
type store struct {
	has   bool
	slots []statestore.Slot
	facts []redisstore.Facts
	err   error
}

func (s *store) Load(context.Context, statestore.Slot) (statestore.Meta, error) {
	if s.has {
		return statestore.Meta{}, nil
	}
	return statestore.Meta{}, statestore.ErrNoSlot
}

func (s *store) Slots(context.Context, string) ([]statestore.Slot, error) { return s.slots, nil }

func (s *store) Inspect(context.Context) ([]redisstore.Facts, error) { return s.facts, s.err }

func denied(e error) error {
	resources := map[error]kafkaio.Resource{
		kerr.TransactionalIDAuthorizationFailed: kafkaio.ResourceTransactionalID, kerr.TopicAuthorizationFailed: kafkaio.ResourceTopic,
		kerr.GroupAuthorizationFailed: kafkaio.ResourceGroup, kerr.ClusterAuthorizationFailed: kafkaio.ResourceCluster,
	}
	return fmt.Errorf("open session: %w", &kafkaio.NotAuthorizedError{Resource: resources[e], Err: e})
}

// world is all that a case may change.
type world struct {
	*cluster
	*store
	timestamp, window string
}

// cases are one of each finding. says are parts of what is found beside the note of a healthy cluster, does of what to do.
var cases = []struct {
	name     string
	harm     func(w *world)
	severity Severity
	check    string
	says     string
	does     string
}{
	{"topics are missing", func(w *world) {
		w.topics["results"], w.topics[spec.LedgerTopic] = kafkaio.TopicFacts{Missing: true}, kafkaio.TopicFacts{Missing: true}
	}, Error, CheckTopics, "do not exist: results, tidemark-ledger", "tidemark run --create-topics"},
	{"settings may not be read", func(w *world) {
		w.topics["events"] = kafkaio.TopicFacts{Replicas: 3, Err: denied(kerr.TopicAuthorizationFailed)}
	}, Warning, CheckSettings, "cannot be read", "DescribeConfigs"},
	{"a source is compacted", func(w *world) { w.set("events", "cleanup.policy", "compact,delete") }, Error, CheckCleanup, "compact,delete", "cleanup.policy=delete"},
	{"a source is never cleaned up", func(w *world) { w.set("events", "cleanup.policy", "") }, Warning, CheckCleanup, "nothing is ever removed", "cleanup.policy=delete"},
	{"retention is too short", func(w *world) { w.set("events", "retention.ms", "7199999") }, Error, CheckRetention, "may need records of 2h0m0s (window hour", "at least 93600000"},
	{"retention leaves no time for an outage", func(w *world) { w.set("events", "retention.ms", "7200000") }, Warning, CheckRetention, "after an outage of 0s", "at least 93600000"},
	{"retention goes by bytes", func(w *world) { w.set("events", "retention.bytes", "1000") }, Warning, CheckRetention, "retention.bytes is 1000", "retention.bytes=-1"},
	{"the ledger goes first", func(w *world) { w.set(spec.LedgerTopic, "retention.ms", "604799999") }, Warning, CheckRetention, "events is kept 168h0m0s", "retention.ms=-1"},
	{"the ledger goes, the sources do not", func(w *world) {
		w.set(spec.LedgerTopic, "retention.ms", "604800000")
		w.set("events", "retention.ms", "-1")
	}, Warning, CheckRetention, "events is kept for ever", "retention.ms=-1"},
	{"the ledger of sessions goes first", func(w *world) {
		w.window = "session, gap: 1h"
		w.set(spec.LedgerTopic, "retention.ms", "1000")
	}, Error, CheckRetention, "halts where one is gone", "retention.ms=-1"},
	{"the pane history is not compacted", func(w *world) { w.set(spec.PanesTopic, "cleanup.policy", "delete") }, Error, CheckCleanup, "may go out again", "cleanup.policy=compact"},
	{"the ledger is compacted", func(w *world) { w.set(spec.LedgerTopic, "cleanup.policy", "compact") }, Warning, CheckCleanup, "compact", "delete"},
	{"one replica", func(w *world) {
		w.topics["events"] = kafkaio.TopicFacts{Replicas: 1, Configs: w.topics["events"].Configs}
	}, Warning, CheckReplication, "one replica", "three replicas"},
	{"one replica suffices", func(w *world) { w.set("results", "min.insync.replicas", "1") }, Warning, CheckReplication, "min.insync.replicas is 1", "min.insync.replicas=2"},
	{"the broker sets the time", func(w *world) {
		w.timestamp = "record: true"
		w.set("events", "message.timestamp.type", "LogAppendTime")
	}, Note, CheckTimestamps, "nothing is ever out of order", ""},
	{"late records are too large", func(w *world) { w.set("results-late", "max.message.bytes", "1000") }, Warning, CheckMessageSize, "events takes 1048588", "max.message.bytes=1048588"},
	{"no transactions", func(w *world) {
		w.trialErr = fmt.Errorf("open session: %w", kafkaio.ErrNoTransactions)
	}, Warning, CheckTransactions, "delivered at least once", "cluster with transactions"},
	{"no permission for the transactional id", func(w *world) { w.trialErr = denied(kerr.TransactionalIDAuthorizationFailed) }, Error, CheckTransactions, "not authorized for the transactional id", "WRITE and DESCRIBE on transactional ids that begin with tidemark.shop."},
	{"no permission for topics", func(w *world) { w.trialErr = denied(kerr.TopicAuthorizationFailed) }, Error, CheckTransactions, "not authorized for the topic", "WRITE and DESCRIBE on the result"},
	{"no permission for groups", func(w *world) { w.trialErr = denied(kerr.GroupAuthorizationFailed) }, Error, CheckTransactions, "not authorized for the group", "READ and DESCRIBE on groups"},
	{"no permission for idempotence", func(w *world) { w.trialErr = denied(kerr.ClusterAuthorizationFailed) }, Error, CheckTransactions, "not authorized for the cluster", "IDEMPOTENT_WRITE"},
	{"transactions may not take long", func(w *world) {
		w.trialErr = fmt.Errorf("open session: %w", kafkaio.ErrTransactionTimeout)
	}, Error, CheckTransactions, "below the 30s", "transaction.max.timeout.ms=30000"},
	{"no coordinator", func(w *world) { w.trialErr = kafkaio.ErrCoordinator }, Error, CheckTransactions, "no broker coordinates", "__transaction_state"},
	{"the trial takes too long", func(w *world) { w.trialErr = context.DeadlineExceeded }, Warning, CheckTransactions, "time was over", "try again"},
	{"the trial fails otherwise", func(w *world) { w.trialErr = errors.New("boom") }, Error, CheckTransactions, "boom", "see what"},
	{"brokers do not say", func(w *world) { w.brokerErr = denied(kerr.ClusterAuthorizationFailed) }, Note, CheckSettings, "brokers cannot be read", "offsets.retention.minutes is 2880"},
	{"offsets expire in less than two days", func(w *world) { w.broker["offsets.retention.minutes"] = "2879" }, Warning, CheckGroupOffsets, "2879 minutes", "=2880"},
	{"offsets expire before the daily plan", func(w *world) { w.broker["offsets.retention.minutes"] = "1440" }, Error, CheckGroupOffsets, "1440 minutes", "=2880"},
	{"metadata is cut off", func(w *world) { w.broker["offset.metadata.max.bytes"] = "4095" }, Error, CheckGroupOffsets, "4095 bytes", "=4096"},
	{"the limit of transactions", func(w *world) { w.broker["transaction.max.timeout.ms"] = "29999" }, Error, CheckTransactions, "29.999s", "=30000"},
	{"the topic is another", func(w *world) {
		w.commit(50, pipeline.Commitment{Plan: 3, TopicID: [16]byte{2}, ReplayFrom: 40})
	}, Error, CheckTopicID, "made anew since plan 3", "another name"},
	{"the log ends before the plan", func(w *world) {
		w.commit(91, pipeline.Commitment{Plan: 3, TopicID: [16]byte{1}, ReplayFrom: 40})
	}, Error, CheckLog, "ends at offset 90", "bring the records back"},
	{"a rebuild is impossible", func(w *world) {
		w.commit(50, pipeline.Commitment{Plan: 3, TopicID: [16]byte{1}, ReplayFrom: 4})
	}, Error, CheckLog, "begins at offset 5", "lengthen the retention"},
	{"the topic is another, and its offsets went with it", func(w *world) {
		w.slots = []statestore.Slot{{TopicID: [16]byte{1}}, {TopicID: [16]byte{2}}}
	}, Error, CheckTopicID, "a topic with the id 02", "another name"},
	{"the pipeline has ended", func(w *world) { w.commit(500, pipeline.Commitment{Plan: 3, Ended: true}) }, Error, CheckGroupOffsets, "another spec of the same name took over", "--take-over"},
	{"the group forgot", func(w *world) { w.has = true }, Error, CheckGroupOffsets, "has no offset", "another name (or drop the state)"},
	{"the group may not be read", func(w *world) { w.groupErr = denied(kerr.GroupAuthorizationFailed) }, Error, CheckGroupOffsets, "cannot be read", "READ and DESCRIBE on groups"},
	{"the group cannot be read", func(w *world) { w.groupErr = errors.New("boom") }, Warning, CheckGroupOffsets, "boom", "see what"},
	{"the store evicts", func(w *world) { w.facts[0].Policy = "allkeys-lru" }, Error, CheckStore, "allkeys-lru", "noeviction"},
	{"the store evicts what others have", func(w *world) { w.facts[0].Policy = "volatile-lru" }, Warning, CheckStore, "volatile-lru", "noeviction"},
	{"the store does not say whether it evicts", func(w *world) { w.facts[0].Policy = "" }, Note, CheckStore, "does not say its", "noeviction"},
	{"the store is old", func(w *world) { w.facts[0].Version = "6.0.9" }, Error, CheckStore, "6.0.9 is older than 6.2", "newer"},
	{"the store is a replica", func(w *world) { w.facts[0].Replica = true }, Error, CheckStore, "replica", "primary"},
	{"the store does not say anything", func(w *world) { w.facts[0].Err = statestore.ErrDenied }, Warning, CheckStore, "does not say how", "allow INFO"},
	{"the store runs no scripts", func(w *world) { w.err = statestore.ErrDenied }, Error, CheckStore, "may not run scripts", "EVALSHA"},
	{"the store is away", func(w *world) { w.err = statestore.ErrUnreachable }, Error, CheckStore, "does not do", "see what"},
}

func (w *world) deps(t *testing.T) Deps {
	t.Helper()
	app, pipes := somePipelines(t, w.timestamp, w.window)
	return Deps{App: app, Pipelines: pipes, Kafka: w.cluster, Store: w.store}
}

func newWorld() *world {
	facts := []redisstore.Facts{{Node: "redis:6379", Version: "7.2.4", Policy: "noeviction"}}
	return &world{cluster: healthy(), store: &store{facts: facts}, timestamp: "field: at", window: "tumbling, size: 1h"}
}

func TestEachFinding(t *testing.T) {
	var all Report
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld()
			c.harm(w)
			report, err := Check(t.Context(), w.deps(t))
			if err != nil {
				t.Fatal(err)
			}
			var found []Finding
			for _, f := range report.Findings {
				if !strings.Contains(f.What, "all of it works") {
					found = append(found, f)
				}
			}
			if len(found) != 1 {
				t.Fatalf("%d findings, want one: %+v", len(found), found)
			}
			f := found[0]
			if f.Severity != c.severity || f.Check != c.check || !strings.Contains(f.What, c.says) || !strings.Contains(f.Do, c.does) || (c.does == "") != (f.Do == "") {
				t.Errorf("%s %s, %s\n%s\n%s\nwant %s %s: %q, %q", f.Severity, f.Check, f.Subject, f.What, f.Do, c.severity, c.check, c.says, c.does)
			}
			if report.OK() == (c.severity == Error) {
				t.Errorf("OK is %v", report.OK())
			}
			all.Findings = append(all.Findings, f)
		})
	}
	all.sort()
	var got bytes.Buffer
	if err := all.Print(&got); err != nil {
		t.Fatal(err)
	}
	golden(t, "findings.txt", got.Bytes())
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got), -update writes it:\n%s", file, diff)
	}
}

func TestNothingIsSaidOfWhatIsWell(t *testing.T) {
	for name, change := range map[string]func(w *world){
		"a new pipeline":     func(*world) {},
		"one that has plans": func(w *world) { w.commit(50, pipeline.Commitment{Plan: 3, TopicID: [16]byte{1}, ReplayFrom: 5}) },
		"records for ever":   func(w *world) { w.set("events", "retention.ms", "-1") },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			change(w)
			report, err := Check(t.Context(), w.deps(t))
			if err != nil || !report.OK() || len(report.Findings) != 1 || report.Findings[0].Severity != Note || report.Transactions != TransactionsWork {
				t.Errorf("%+v, %v", report, err)
			}
			want := kafkaio.Trial{ID: "tidemark.shop.preflight", Group: "tidemark.shop.preflight", Topic: spec.LedgerTopic}
			want.Source = kafkaio.Partition{TopicPartition: part, TopicID: [16]byte{1}}
			if diff := cmp.Diff(want, w.trial); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Only a cluster that has no transactions for anybody is one without: everything else may be mended.
func TestOnlyAClusterWithoutTransactionsIsOne(t *testing.T) {
	for _, c := range []struct {
		err  error
		want Transactions
	}{
		{nil, TransactionsWork},
		{kafkaio.ErrNoTransactions, TransactionsNotSupported},
		{denied(kerr.TransactionalIDAuthorizationFailed), TransactionsUnknown},
		{kafkaio.ErrCoordinator, TransactionsUnknown},
		{kafkaio.ErrTransactionTimeout, TransactionsUnknown},
		{context.DeadlineExceeded, TransactionsUnknown},
	} {
		w := newWorld()
		w.trialErr = c.err
		if report, err := Check(t.Context(), w.deps(t)); err != nil || report.Transactions != c.want {
			t.Errorf("%v: %v, %v", c.err, report.Transactions, err)
		}
	}
}

func TestALookThatCannotBeginIsAnError(t *testing.T) {
	w := newWorld()
	w.topicsErr = errors.New("boom")
	w.facts[0].Policy = "allkeys-lru"
	report, err := Check(t.Context(), w.deps(t))
	if !errors.Is(err, w.topicsErr) || len(report.Findings) != 1 || report.Findings[0].Check != CheckStore {
		t.Errorf("%+v, %v", report, err)
	}
}
