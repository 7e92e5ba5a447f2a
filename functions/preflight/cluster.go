package preflight

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// trialName is transactional id and group of the trial: beside those of the pipelines, so that permissions by prefix cover it.
func trialName(app string) string { return "tidemark." + app + ".preflight" }

// transaction tries a whole transaction and aborts it.
func (c *check) transaction(ctx context.Context) {
	sources := c.App.SourceTopics()
	if slices.Contains(c.report.Missing, spec.LedgerTopic) || len(sources) == 0 || slices.Contains(c.report.Missing, sources[0]) {
		return // said already; there is nothing to try it with
	}
	parts, err := c.Kafka.Partitions(ctx, sources[:1])
	var version int16
	name := trialName(c.App.Name)
	if err == nil {
		version, err = c.Kafka.TryTransaction(ctx, kafkaio.Trial{ID: name, Topic: spec.LedgerTopic, Group: name, Source: parts[0]})
	}
	c.mu.Lock()
	switch {
	case err == nil:
		c.report.Transactions = TransactionsWork
	case errors.Is(err, kafkaio.ErrNoTransactions):
		c.report.Transactions = TransactionsNotSupported
	}
	c.mu.Unlock()
	if err == nil {
		what := fmt.Sprintf("a transaction was tried and aborted: all of it works. transaction.version is %d: ", version)
		if version >= 2 {
			c.add(Note, CheckTransactions, "", what+"each has an epoch of its own, so a firer keeps its session", "")
			return
		}
		c.add(Note, CheckTransactions, "", what+"a firer takes a fresh epoch for every transaction", "")
		return
	}
	severity, what, do := refusal(err, name)
	c.add(severity, CheckTransactions, "", what, do)
}

// refusal says what the error of a trial means.
func refusal(err error, name string) (severity Severity, what, do string) {
	var denied *kafkaio.NotAuthorizedError
	prefix := strings.TrimSuffix(name, "preflight")
	switch {
	case errors.Is(err, kafkaio.ErrNoTransactions):
		return Warning, "the cluster does not support transactions: results are delivered at least once, with deterministic ids. A reader that keeps the highest revision of " +
				"each window and key, and one of each topic, partition and offset in the late and dead letter topics, is exact; one that does not sees results more than once",
			"use a cluster with transactions (Apache Kafka 2.5 or newer), or see to it that readers tell results apart by `tidemark-id` and revision"
	case errors.As(err, &denied):
		return Error, "the principal may not take part in a transaction: " + err.Error(), permission(denied.Resource, prefix)
	case errors.Is(err, kafkaio.ErrTransactionTimeout):
		return Error, fmt.Sprintf("transaction.max.timeout.ms of the cluster is below the %s that a plan's transaction may take: %v", transactionTimeout, err),
			fmt.Sprintf("set transaction.max.timeout.ms=%d or more on the brokers", transactionTimeout.Milliseconds())
	case errors.Is(err, kafkaio.ErrCoordinator):
		return Error, "no broker coordinates transactions at the moment: " + err.Error(),
			"look at the topics __transaction_state and __consumer_offsets: they need as many brokers as they have replicas"
	case errors.Is(err, kafkaio.ErrFenced):
		return Warning, "others tried a transaction under the same id all the time: " + err.Error(), "try again; nobody but preflight uses " + name
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return Warning, "a transaction was tried, but the time was over before it came to its end: " + err.Error(), "try again; if it stays so, look at the brokers' load"
	}
	return Error, "a transaction was tried and failed: " + err.Error(), "see what the broker says"
}

// permission says what a principal needs.
func permission(r kafkaio.Resource, prefix string) string {
	switch r {
	case kafkaio.ResourceTransactionalID:
		return "allow WRITE and DESCRIBE on transactional ids that begin with " + prefix + " (MSK: kafka-cluster:AlterTransactionalId, DescribeTransactionalId)"
	case kafkaio.ResourceTopic:
		return "allow WRITE and DESCRIBE on the result, late, dead letter and ledger topics, READ and DESCRIBE on the source topics " +
			"(MSK: kafka-cluster:WriteData, ReadData, DescribeTopic)"
	case kafkaio.ResourceGroup:
		return "allow READ and DESCRIBE on groups that begin with " + prefix + " (MSK: kafka-cluster:AlterGroup, DescribeGroup)"
	case kafkaio.ResourceCluster:
		return "allow IDEMPOTENT_WRITE on the cluster (MSK: kafka-cluster:WriteDataIdempotently)"
	}
	return ""
}

// transactionTimeout is what our sessions ask for.
const transactionTimeout = 30 * time.Second

// keepOffsets is for how long a broker has to keep the offsets of a group: a plan that changes nothing is made once a day.
const keepOffsets = 2 * 24 * time.Hour

// brokers looks at settings of the brokers that decide about groups and transactions.
func (c *check) brokers(ctx context.Context) {
	facts, err := c.Kafka.BrokerFacts(ctx)
	if err != nil {
		c.add(Note, CheckSettings, "brokers", fmt.Sprintf("the settings of the brokers cannot be read, so they were not looked at: %v", err),
			"see to it that offsets.retention.minutes is 2880 or more, and offset.metadata.max.bytes 4096 or more, as they are unless somebody changed them")
		return
	}
	if n, err := strconv.ParseInt(facts["offsets.retention.minutes"], 10, 64); err == nil && time.Duration(n)*time.Minute < keepOffsets {
		severity := Warning
		if time.Duration(n)*time.Minute <= keepOffsets/2 {
			severity = Error
		}
		c.add(severity, CheckGroupOffsets, "offsets.retention.minutes", fmt.Sprintf("the brokers forget the offsets of a group %d minutes after its last commit, and a pipeline "+
			"without records commits once a day: it halts once they are gone", n), fmt.Sprintf("set offsets.retention.minutes=%d or more", int(keepOffsets.Minutes())))
	}
	if n, err := strconv.ParseInt(facts["offset.metadata.max.bytes"], 10, 64); err == nil && n < kafkaio.MaxMetadata {
		c.add(Error, CheckGroupOffsets, "offset.metadata.max.bytes", fmt.Sprintf("the brokers take %d bytes of metadata with an offset, and a plan may have %d", n, kafkaio.MaxMetadata),
			fmt.Sprintf("set offset.metadata.max.bytes=%d, the default", kafkaio.MaxMetadata))
	}
	if d, ok := duration(facts["transaction.max.timeout.ms"]); ok && d < transactionTimeout {
		c.add(Error, CheckTransactions, "transaction.max.timeout.ms", fmt.Sprintf("the brokers allow transactions of %s, and a plan's may take %s", d, transactionTimeout),
			fmt.Sprintf("set transaction.max.timeout.ms=%d or more", transactionTimeout.Milliseconds()))
	}
}

// positions compares what the pipelines have committed with the topics and the state there are.
func (c *check) positions(ctx context.Context) {
	for _, p := range c.Pipelines {
		if slices.ContainsFunc(p.Topics, func(t string) bool { return slices.Contains(c.report.Missing, t) }) {
			continue
		}
		if err := c.position(ctx, p); err != nil {
			severity, do := Warning, "see what the broker or the store says"
			if denied, ok := errors.AsType[*kafkaio.NotAuthorizedError](err); ok {
				severity, do = Error, permission(denied.Resource, "tidemark."+c.App.Name+".")
			}
			c.add(severity, CheckGroupOffsets, p.Group(), "what the pipeline has committed cannot be read: "+err.Error(), do)
		}
	}
}

func (c *check) position(ctx context.Context, p *pipeline.Pipeline) error {
	parts, err := c.Kafka.Partitions(ctx, p.Topics)
	if err != nil {
		return err
	}
	committed, err := c.Kafka.Group(ctx, p.Group())
	if err != nil {
		return err
	}
	tps := make([]event.TopicPartition, len(parts))
	for i := range parts {
		tps[i] = parts[i].TopicPartition
	}
	bounds, err := c.Kafka.Offsets(ctx, tps)
	if err != nil {
		return err
	}
	var unknown []kafkaio.Partition
	ended := false
	for _, part := range parts {
		at := fmt.Sprintf("%s/%d", part.Topic, part.TopicPartition.Partition)
		com, ok := committed[part.TopicPartition]
		if !ok {
			unknown = append(unknown, part)
			continue
		}
		m, err := pipeline.DecodeCommitment(com.Metadata)
		if err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
		if m.Ended {
			ended = true
			continue
		}
		c.committed(p, part, at, com.Offset, m, bounds[part.TopicPartition])
	}
	if ended {
		c.add(Error, CheckGroupOffsets, p.Group(), fmt.Sprintf("pipeline %s has ended: another spec of the same name took over, and fire halts", p.Name),
			"run the spec that took over; or, to go back to this one, invoke fire with {\"takeover\": true}, or `tidemark run --take-over`")
	}
	return c.forgotten(ctx, p, parts, unknown)
}

// committed compares one partition's commitment with its log.
func (c *check) committed(p *pipeline.Pipeline, part kafkaio.Partition, at string, offset int64, m *pipeline.Commitment, log kafkaio.Offsets) {
	switch {
	case m.TopicID != part.TopicID:
		c.add(Error, CheckTopicID, at, fmt.Sprintf("the topic was deleted and made anew since plan %d of pipeline %s: its offsets mean other records now, and fire halts", m.Plan, p.Name),
			"give the pipeline another name, and it begins anew")
	case log.End < offset:
		c.add(Error, CheckLog, at, fmt.Sprintf("the log ends at offset %d, but plan %d of pipeline %s has it up to %d: the brokers lost records, and fire halts", log.End, m.Plan, p.Name, offset),
			"bring the records back; or give the pipeline another name, and it begins anew")
	case log.Start > m.ReplayFrom:
		what := fmt.Sprintf("the log begins at offset %d, but state that is lost would have to be rebuilt from %d (plan %d of pipeline %s)", log.Start, m.ReplayFrom, m.Plan, p.Name)
		c.add(Error, CheckLog, at, what, "lengthen the retention now; as long as the state store forgets nothing, results stay right, and a few plans on it can be rebuilt again")
	}
}

// forgotten looks whether there is state of partitions that the group knows nothing of, or of topics that are no more: a broker
// forgets the offsets of a topic that is deleted.
func (c *check) forgotten(ctx context.Context, p *pipeline.Pipeline, parts, unknown []kafkaio.Partition) error {
	if c.Store == nil || len(unknown) == 0 {
		return nil
	}
	for _, part := range unknown {
		_, err := c.Store.Load(ctx, apply.SlotID(p, part))
		if errors.Is(err, statestore.ErrNoSlot) {
			continue
		}
		if err != nil && !errors.Is(err, statestore.ErrFormat) { // a damaged slot is one, too
			return err
		}
		c.add(Error, CheckGroupOffsets, fmt.Sprintf("%s/%d", part.Topic, part.TopicPartition.Partition),
			fmt.Sprintf("there is state of pipeline %s, but its group %s has no offset: they were deleted, or have expired, and fire halts", p.Name, p.Group()),
			"reset the group's offsets from a backup with their metadata; or give the pipeline another name (or drop the state), and it begins anew")
	}
	slots, err := c.Store.Slots(ctx, p.ID())
	if err != nil {
		return err
	}
	for _, slot := range slots {
		if slices.ContainsFunc(parts, func(part kafkaio.Partition) bool { return part.TopicID == slot.TopicID }) {
			continue
		}
		c.add(Error, CheckTopicID, unknown[0].Topic, fmt.Sprintf("there is state of pipeline %s for a topic with the id %x, which is no more: the topic was deleted and made anew, "+
			"its offsets mean other records now, and fire halts", p.Name, slot.TopicID), "give the pipeline another name (or drop the state), and it begins anew")
		return nil
	}
	return nil
}
