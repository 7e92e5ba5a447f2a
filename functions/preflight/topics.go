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
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
)

// outage is by how much retention should be longer than what a rebuild needs: the time in which somebody notices that nothing
// fires any more.
const outage = 24 * time.Hour

// names are the topics of an app: sources, results, side topics (late and dead letters), and the internal ones. Each is named once in
// all.
func (c *check) names() (sources, all []string) {
	add := func(name string) {
		if !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	sources = c.App.SourceTopics()
	for _, name := range sources {
		add(name)
	}
	for _, p := range c.Pipelines {
		add(p.SinkTopic)
	}
	for _, p := range c.Pipelines {
		add(p.LateTopic)
		add(p.DeadLetterTopic)
	}
	for _, name := range c.App.InternalTopics() {
		add(name)
	}
	return sources, all
}

// topics looks whether all topics are there, and at their settings.
func (c *check) topics(ctx context.Context) error {
	sources, all := c.names()
	facts, err := c.Kafka.TopicFacts(ctx, all)
	if err != nil {
		return err
	}
	var unread []string
	for _, name := range all {
		f := facts[name]
		switch {
		case f.Missing:
			c.report.Missing = append(c.report.Missing, name)
		case f.Configs == nil:
			unread = append(unread, name)
			err = f.Err
		}
	}
	if len(c.report.Missing) > 0 {
		c.add(Error, CheckTopics, "", "do not exist: "+strings.Join(c.report.Missing, ", "),
			"create them: `tidemark run --create-topics` with the same --config and --brokers does, or `kafka-topics.sh --create --topic NAME "+
				"--partitions N` for each; the ledger topic, "+spec.LedgerTopic+", with --config retention.ms=-1, "+spec.PanesTopic+" with --config cleanup.policy=compact")
	}
	if len(unread) > 0 {
		do := "see what the broker says"
		if errors.Is(err, kafkaio.ErrNotAuthorized) {
			do = "allow the principal DescribeConfigs on these topics (MSK: kafka-cluster:DescribeTopicDynamicConfiguration), or see to retention and cleanup.policy yourself"
		}
		c.add(Warning, CheckSettings, strings.Join(unread, ", "), fmt.Sprintf("the settings of these topics cannot be read, so they were not looked at: %v", err), do)
	}
	for _, name := range sources {
		if f := facts[name]; f.Configs != nil {
			c.source(name, f)
		}
	}
	if f := facts[spec.LedgerTopic]; f.Configs != nil {
		c.ledger(f, facts, sources)
	}
	if f := facts[spec.PanesTopic]; f.Configs != nil && f.Configs["cleanup.policy"] != "compact" {
		c.add(Error, CheckCleanup, spec.PanesTopic, fmt.Sprintf("cleanup.policy is %q: what has gone out of windows that may go out again is removed, and a pipeline halts "+
			"where it is gone", f.Configs["cleanup.policy"]), "set cleanup.policy=compact")
	}
	c.replication(all, facts)
	c.sizes(sources, facts)
	return nil
}

// source looks at what a source topic keeps, and for how long.
func (c *check) source(name string, f kafkaio.TopicFacts) {
	switch policies := strings.Split(f.Configs["cleanup.policy"], ","); {
	case slices.Contains(policies, "compact"):
		c.add(Error, CheckCleanup, name, fmt.Sprintf("cleanup.policy is %q: compaction removes records that a rebuild has to read again, so that results change",
			f.Configs["cleanup.policy"]), "set cleanup.policy=delete, or read from a topic that is not compacted")
	case !slices.Contains(policies, "delete"):
		c.add(Warning, CheckCleanup, name, fmt.Sprintf("cleanup.policy is %q: nothing is ever removed, whatever retention.ms says", f.Configs["cleanup.policy"]),
			"set cleanup.policy=delete")
	}
	need, why := c.need(name)
	if keeps, ok := duration(f.Configs["retention.ms"]); ok && keeps >= 0 && need > 0 {
		switch {
		case keeps < need:
			c.add(Error, CheckRetention, name, fmt.Sprintf("retention.ms is %s, but a rebuild of state may need records of %s (%s)", keeps, need, why),
				fmt.Sprintf("set retention.ms to at least %d: that, and a day in which somebody notices an outage", (need+outage).Milliseconds()))
		case keeps < need+outage:
			c.add(Warning, CheckRetention, name, fmt.Sprintf("retention.ms is %s, of which a rebuild of state may need %s (%s): after an outage of %s records are lost",
				keeps, need, why, keeps-need), fmt.Sprintf("set retention.ms to at least %d", (need+outage).Milliseconds()))
		}
	}
	if n, err := strconv.ParseInt(f.Configs["retention.bytes"], 10, 64); err == nil && n >= 0 {
		c.add(Warning, CheckRetention, name, fmt.Sprintf("retention.bytes is %d: when many records come, they are removed earlier than retention.ms says", n),
			"set retention.bytes=-1, or see to it that this many bytes a partition last for "+(need+outage).String())
	}
	if f.Configs["message.timestamp.type"] == "LogAppendTime" {
		for _, p := range c.Pipelines {
			if p.Timestamp.Record && slices.Contains(p.Topics, name) {
				c.add(Note, CheckTimestamps, name, fmt.Sprintf("message.timestamp.type is LogAppendTime, and pipeline %s takes the record's timestamp: event time is when the broker got "+
					"a record, so nothing is ever out of order or late", p.Name), "")
			}
		}
	}
}

// need is for how long records of a source topic are needed: the longest that any pipeline may have to read again, and how it
// comes to that. 0: nothing bounds it.
func (c *check) need(topic string) (longest time.Duration, why string) {
	for _, p := range c.Pipelines {
		if !slices.Contains(p.Topics, topic) {
			continue
		}
		d, text := needOf(p)
		if d > longest {
			longest, why = d, text
		}
	}
	return longest, why
}

func needOf(p *pipeline.Pipeline) (time.Duration, string) {
	var span event.Span
	name := ""
	for _, d := range p.Windows {
		if s := max(d.Size, d.Gap, d.MaxGap, d.Max) + d.Lateness; s > span {
			span, name = s, d.Name
		}
	}
	bound, idle := p.Watermark.MaxOutOfOrder, p.Watermark.IdleTimeout
	return (span + bound + idle).Duration(), fmt.Sprintf("window %s of pipeline %s with its lateness %s, bound %s, idle timeout %s",
		name, p.Name, span.Duration(), bound.Duration(), idle.Duration())
}

// duration reads a number of milliseconds; negative means for ever.
func duration(ms string) (time.Duration, bool) {
	n, err := strconv.ParseInt(ms, 10, 64)
	const most = int64(1<<63-1) / int64(time.Millisecond)
	return time.Duration(min(n, most)) * time.Millisecond, err == nil
}

// ledger looks whether the ledger keeps what committed plans name for as long as the sources keep their records.
func (c *check) ledger(f kafkaio.TopicFacts, facts map[string]kafkaio.TopicFacts, sources []string) {
	severity, cost := Warning, "its records go before the records do that they tell of"
	if slices.ContainsFunc(c.Pipelines, func(p *pipeline.Pipeline) bool { return p.HasSessions() }) {
		severity, cost = Error, "plans of sessions may name ledger records, and a pipeline halts where one is gone"
	}
	if strings.Contains(f.Configs["cleanup.policy"], "compact") {
		c.add(severity, CheckCleanup, spec.LedgerTopic, fmt.Sprintf("cleanup.policy is %q: %s", f.Configs["cleanup.policy"], cost), "set cleanup.policy=delete")
	}
	keeps, ok := duration(f.Configs["retention.ms"])
	if !ok || keeps < 0 {
		return
	}
	for _, name := range sources {
		source, ok := duration(facts[name].Configs["retention.ms"])
		if !ok || source >= 0 && source <= keeps {
			continue
		}
		kept := "for ever"
		if source >= 0 {
			kept = source.String()
		}
		c.add(severity, CheckRetention, spec.LedgerTopic, fmt.Sprintf("retention.ms is %s, but %s is kept %s: %s", keeps, name, kept, cost), "set retention.ms=-1 for it")
		return
	}
}

// replication looks whether the death of one broker loses records.
func (c *check) replication(all []string, facts map[string]kafkaio.TopicFacts) {
	var single, one []string
	for _, name := range all {
		f := facts[name]
		switch {
		case f.Missing || f.Replicas == 0:
		case f.Replicas == 1:
			single = append(single, name)
		case f.Configs["min.insync.replicas"] == "1":
			one = append(one, name)
		}
	}
	if len(single) > 0 {
		c.add(Warning, CheckReplication, strings.Join(single, ", "), "one replica: the death of a broker loses records, and a pipeline halts where the log ends before its state",
			"where records matter, have three replicas, and min.insync.replicas=2")
	}
	if len(one) > 0 {
		c.add(Warning, CheckReplication, strings.Join(one, ", "), "min.insync.replicas is 1: a record may be acknowledged that one broker alone has", "set min.insync.replicas=2")
	}
}

// sizes looks whether late and failed records fit into their topics.
func (c *check) sizes(sources []string, facts map[string]kafkaio.TopicFacts) {
	most := func(name string) int64 {
		n, err := strconv.ParseInt(facts[name].Configs["max.message.bytes"], 10, 64)
		if err != nil {
			return 0
		}
		return n
	}
	seen := map[string]bool{}
	for _, p := range c.Pipelines {
		for _, side := range []string{p.LateTopic, p.DeadLetterTopic} {
			takes := most(side)
			for _, name := range sources {
				if takes == 0 || most(name) <= takes || seen[side] || !slices.Contains(p.Topics, name) {
					continue
				}
				seen[side] = true
				c.add(Warning, CheckMessageSize, side, fmt.Sprintf("max.message.bytes is %d, but %s takes %d: a larger late or failed record goes there without its content",
					takes, name, most(name)), fmt.Sprintf("set max.message.bytes=%d for %s, and some more for our headers", most(name), side))
			}
		}
	}
}
