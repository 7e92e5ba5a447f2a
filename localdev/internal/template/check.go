package template

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
)

// Problem is something about a template that does not go with a spec, or with Lambda.
type Problem struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	Where   string `json:"where"`             // logical id
	Warning bool   `json:"warning,omitempty"` // it works, but probably not as it is meant
	Message string `json:"message"`
	Do      string `json:"do"`
}

// String implements fmt.Stringer.
func (p Problem) String() string {
	severity := "error"
	if p.Warning {
		severity = "warning"
	}
	return fmt.Sprintf("%s:%d: %s: %s: %s; %s", p.File, p.Line, severity, p.Where, p.Message, p.Do)
}

// What Lambda takes.
const (
	mostBatch       = 10_000
	mostTimeout     = 14 * 60 // seconds, of a function with a Kafka trigger
	earliest        = "TRIM_HORIZON"
	latest          = "LATEST"
	settingPosition = "StartingPosition"
)

// Check compares a template with the spec that its functions run, and returns what does not go together, in the order of the
// file's resources.
func Check(t *Template, app *spec.App) []Problem {
	c := checker{t: t, app: app}
	c.topics()
	groups := map[string]string{}
	for i := range t.Mappings {
		c.mapping(&t.Mappings[i])
		c.group(&t.Mappings[i], groups)
	}
	for _, s := range t.Schedules {
		c.schedule(s)
	}
	slices.SortStableFunc(c.found, func(a, b Problem) int { return a.Line - b.Line })
	return c.found
}

type checker struct {
	t     *Template
	app   *spec.App
	found []Problem
}

func (c *checker) add(line int, where, message, do string) {
	c.found = append(c.found, Problem{File: c.t.Name, Line: line, Where: where, Message: message, Do: do})
}

func (c *checker) warn(line int, where, message, do string) {
	c.found = append(c.found, Problem{File: c.t.Name, Line: line, Where: where, Warning: true, Message: message, Do: do})
}

// topics compares the topics that pipelines read with those that are handed to a function.
func (c *checker) topics() {
	sources := c.app.SourceTopics()
	mapped := map[string]string{}
	for i := range c.t.Mappings {
		m := &c.t.Mappings[i]
		for _, topic := range m.Topics {
			if other, ok := mapped[topic]; ok {
				c.add(m.line("Topics"), m.Name, fmt.Sprintf("topic %s is that of %s, too", topic, other), "leave one mapping for each topic")
			}
			mapped[topic] = m.Name
			if !slices.Contains(sources, topic) {
				c.add(m.line("Topics"), m.Name, "no pipeline reads topic "+topic, "name one of "+strings.Join(sources, ", ")+", or add it to the spec")
			}
		}
	}
	for _, topic := range sources {
		if _, ok := mapped[topic]; !ok {
			c.add(1, "Resources", fmt.Sprintf("topic %s has no mapping, so that nothing folds its records before fire finds them", topic), "add a mapping for it")
		}
	}
}

func (c *checker) mapping(m *Mapping) {
	if len(m.Topics) != 1 {
		c.add(m.line("Topics"), m.Name, fmt.Sprintf("it has %d topics, and a mapping takes one", len(m.Topics)), "give each topic a mapping of its own")
	}
	want := earliest
	if c.app.Consumer.AutoOffsetReset == "latest" {
		want = latest
	}
	if m.StartingPosition != want {
		c.add(m.line(settingPosition), m.Name, fmt.Sprintf("StartingPosition is %s, but auto_offset_reset of the spec is %s: pipelines would begin where the trigger does not",
			orNothing(m.StartingPosition), c.app.Consumer.AutoOffsetReset), "set StartingPosition to "+want+", or change auto_offset_reset")
	}
	switch poll := c.app.Consumer.MaxPollRecords; {
	case m.BatchSize < 1 || m.BatchSize > mostBatch:
		c.add(m.line("BatchSize"), m.Name, fmt.Sprintf("BatchSize is %d, and Lambda takes 1 to %d", m.BatchSize, mostBatch), fmt.Sprintf("set BatchSize to %d", min(max(poll, 1), mostBatch)))
	case m.BatchSize != poll:
		c.warn(m.line("BatchSize"), m.Name, fmt.Sprintf("BatchSize is %d, but max_poll_records of the spec is %d, which is what runs on a laptop take", m.BatchSize, poll),
			fmt.Sprintf("set BatchSize to %d, or max_poll_records to %d", poll, m.BatchSize))
	}
	if m.Window > 0 {
		c.warn(m.line("MaximumBatchingWindowInSeconds"), m.Name, fmt.Sprintf("records wait up to %d s until they are handed over", m.Window), "set MaximumBatchingWindowInSeconds to 0")
	}
	if !m.PartialFailures {
		c.add(m.line("FunctionResponseTypes"), m.Name, "without ReportBatchItemFailures what ingest answers as failed counts as done", "set FunctionResponseTypes to [ReportBatchItemFailures]")
	}
	if m.Queue {
		c.add(m.line("ConsumptionMode"), m.Name, "ConsumptionMode Queue hands records over in no order", "leave it out: the records of a partition are folded in their order")
	}
	if m.SchemaRegistry {
		c.registry(m)
	}
	for _, setting := range m.Hiding {
		c.warn(m.line(setting), m.Name, setting+" lets records pass that were never folded; fire folds them again from the log as long as it has them, and counts them",
			"leave it out, unless you mean it")
	}
	for _, f := range c.t.Functions {
		if f.Name == m.Function && f.Timeout > mostTimeout {
			c.add(f.Line, f.Name, fmt.Sprintf("its Timeout is %d s, and a function with a Kafka trigger may have %d", f.Timeout, mostTimeout), fmt.Sprintf("set Timeout to %d or less", mostTimeout))
		}
	}
}

// registry looks whether what a mapping with a schema registry hands on is read as what the log has: it removes prefixes, and the log,
// from which gaps are repaired, has them.
func (c *checker) registry(m *Mapping) {
	line := m.line("SchemaRegistryConfig")
	for i := range c.app.Pipelines {
		p := &c.app.Pipelines[i]
		if !slices.ContainsFunc(p.Topics, func(t string) bool { return slices.Contains(m.Topics, t) }) {
			continue
		}
		if p.Input.Kind != event.FormatJSONRegistry {
			c.add(line, m.Name, fmt.Sprintf("SchemaRegistryConfig removes the prefix of record values, which the log has, and pipeline %s reads %v", p.Name, p.Input.Kind), "set its input to json_registry")
		}
		if m.RegistryKeys && p.Key.RecordKey {
			c.add(line, m.Name, fmt.Sprintf("SchemaRegistryConfig changes record keys, which group the records of pipeline %s, and the log has others", p.Name), "leave KEY out of SchemaValidationConfigs")
		}
	}
	if m.RegistryFormat != "SOURCE" {
		c.warn(line, m.Name, "EventRecordFormat is "+orNothing(m.RegistryFormat)+": values may be written otherwise than in the log, which keys of numbers show, and Avro and Protobuf cannot be read from the log at all",
			"set EventRecordFormat to SOURCE, with JSON Schema")
	}
}

// group looks whether the trigger's group is that of the spec: Lambda wants one for each mapping, so that a topic may be behind.
func (c *checker) group(m *Mapping, seen map[string]string) {
	want, allowed := c.app.Consumer.GroupID, c.app.TriggerGroups(m.Topics)
	if !slices.Contains(allowed, m.Group) {
		c.add(m.line("Group"), m.Name, fmt.Sprintf("ConsumerGroupId is %s, but group_id of the spec is %s", orNothing(m.Group), want), "set ConsumerGroupId to "+strings.Join(allowed, " or "))
	}
	if other, ok := seen[m.Group]; ok && m.Group != "" {
		c.add(m.line("Group"), m.Name, fmt.Sprintf("ConsumerGroupId %s is that of %s, too, and Lambda wants one for each mapping", m.Group, other), "put a colon and the topic behind it")
	}
	seen[m.Group] = m.Name
}

var rate = regexp.MustCompile(`^rate\(\s*\d+\s+seconds?\s*\)$`)

// schedule refuses what neither Scheduler nor rules do, although linters let it pass.
func (c *checker) schedule(s Schedule) {
	expression := strings.ToLower(strings.TrimSpace(s.Expression))
	cron, isCron := strings.CutPrefix(expression, "cron(")
	if rate.MatchString(expression) || isCron && len(strings.Fields(strings.TrimSuffix(cron, ")"))) > 6 {
		c.add(s.Line, s.Name, s.Expression+" is more often than once a minute, which no schedule is",
			"write rate(1 minute), and have fire look more often within an invocation: TIDEMARK_FIRE_TICK, parameter FireTick")
	}
}

func orNothing(s string) string {
	if s == "" {
		return "not set"
	}
	return s
}
