package template

import (
	"slices"
	"strings"
)

// Kind is what kind of cluster a mapping reads from.
type Kind uint8

// The kinds.
const (
	MSK Kind = iota
	SelfManaged
)

// Unlimited is the number of retries, and the age of records, where a mapping sets no bound.
const Unlimited = -1

// Unset is the window of a mapping that says nothing: Lambda takes half a second then, which cannot be written.
const Unset = -1

// Mapping hands the records of a topic to a function. Numbers are as the template says or, where it does not, as Lambda takes them.
type Mapping struct {
	Name     string // logical id; of an event FUNCTION.EVENT
	Line     int
	Function string // logical id
	Disabled bool

	Kind      Kind
	SourceARN string   // of an MSK cluster; what only a deployment knows is a placeholder
	Brokers   []string // of a self-managed cluster, host:port
	Topics    []string
	Group     string // "": the mapping's own

	StartingPosition string
	StartingTime     int64 // AT_TIMESTAMP: Unix seconds; 0: nothing is said
	BatchSize        int   // 100 where nothing is said
	Window           int   // seconds; Unset: nothing is said, which is half a second
	MinPollers       int   // provisioned mode; 0: nothing is said
	MaxPollers       int   // 0: nothing is said

	MaxRetries      int // Unlimited
	MaxAge          int // of a record, seconds; Unlimited
	Bisect          bool
	PartialFailures bool
	OnFailure       string   // destination: kafka://TOPIC, or an ARN; "": none
	Filters         []string // patterns

	Queue          bool     // ConsumptionMode Queue: a share group, without order
	SchemaRegistry bool     // Lambda looks at records by a schema registry, and removes its prefixes
	RegistryFormat string   // EventRecordFormat of it: JSON or SOURCE
	RegistryKeys   bool     // it changes keys, too
	Hiding         []string // settings that are there and let records pass unseen

	lines map[string]int
}

// topicScheme is how a destination names a topic.
const topicScheme = "kafka://"

// OnFailureTopic is the topic that failures go to, if that is what the destination is.
func (m *Mapping) OnFailureTopic() (topic string, ok bool) {
	return strings.CutPrefix(m.OnFailure, topicScheme)
}

// hiding are the settings of a mapping by which records are not handed to the function, or not again, although it failed.
func hiding() []string {
	return []string{"DestinationConfig", "FilterCriteria", "MaximumRecordAgeInSeconds", "MaximumRetryAttempts"}
}

// mskEvent is an event of a function, of type MSK.
func mskEvent(name string, line int, function string, p *value) Mapping {
	m := mapping(name, line, function, p)
	m.SourceARN = p.at("Stream").string()
	m.group(p.at("ConsumerGroupId"))
	return m
}

// selfManagedEvent is an event of a function, of type SelfManagedKafka.
func selfManagedEvent(name string, line int, function string, p *value) Mapping {
	m := mapping(name, line, function, p)
	m.Kind, m.Brokers = SelfManaged, addresses(p.at("KafkaBootstrapServers"))
	m.group(p.at("ConsumerGroupId"))
	return m
}

// rawMapping is an AWS::Lambda::EventSourceMapping.
func rawMapping(name string, line int, p *value) Mapping {
	m := mapping(name, line, owner(p.at("FunctionName").string()), p)
	m.SourceARN = p.at("EventSourceArn").string()
	if source := p.at("SelfManagedEventSource"); source != nil {
		m.Kind, m.Brokers = SelfManaged, addresses(source.at("Endpoints", "KafkaBootstrapServers"))
	}
	for _, config := range []string{"AmazonManagedKafkaEventSourceConfig", "SelfManagedKafkaEventSourceConfig"} {
		m.group(p.at(config, "ConsumerGroupId"))
		m.special(p.at(config))
	}
	return m
}

// mapping reads what all kinds have in common.
func mapping(name string, line int, function string, p *value) Mapping {
	m := Mapping{
		Name: name, Line: line, Function: function, Topics: p.at("Topics").strings(), Disabled: isFalse(p.at("Enabled")),
		StartingPosition: p.at("StartingPosition").string(), StartingTime: int64(p.at("StartingPositionTimestamp").number(0)),
		BatchSize: p.at("BatchSize").number(100), Window: p.at("MaximumBatchingWindowInSeconds").number(Unset),
		MinPollers: p.at("ProvisionedPollerConfig", "MinimumPollers").number(0), MaxPollers: p.at("ProvisionedPollerConfig", "MaximumPollers").number(0),
		MaxRetries: p.at("MaximumRetryAttempts").number(Unlimited), MaxAge: p.at("MaximumRecordAgeInSeconds").number(Unlimited),
		Bisect: isTrue(p.at("BisectBatchOnFunctionError")), PartialFailures: slices.Contains(p.at("FunctionResponseTypes").strings(), "ReportBatchItemFailures"),
		OnFailure: p.at("DestinationConfig", "OnFailure", "Destination").string(), lines: map[string]int{},
	}
	if filters := p.at("FilterCriteria", "Filters"); filters != nil {
		for _, f := range filters.list {
			m.Filters = append(m.Filters, f.at("Pattern").string())
		}
	}
	m.special(p)
	for _, setting := range hiding() {
		v := p.at(setting)
		if v == nil || v.string() == "-1" {
			continue
		}
		m.Hiding = append(m.Hiding, setting)
	}
	for _, key := range p.keys {
		m.lines[key] = p.kids[key].line
	}
	return m
}

// group takes the consumer group, if it is said.
func (m *Mapping) group(v *value) {
	if v != nil {
		m.Group, m.lines["Group"] = v.string(), v.line
	}
}

// special takes what a mapping or a block of it says of modes that change what a function gets.
func (m *Mapping) special(p *value) {
	if mode := p.at("ConsumptionMode"); strings.EqualFold(mode.string(), "queue") {
		m.Queue, m.lines["ConsumptionMode"] = true, mode.line
	}
	if registry := p.at("SchemaRegistryConfig"); registry != nil {
		m.SchemaRegistry, m.lines["SchemaRegistryConfig"] = true, registry.line
		m.RegistryFormat = registry.at("EventRecordFormat").string()
		if attributes := registry.at("SchemaValidationConfigs"); attributes != nil {
			for _, a := range attributes.list {
				m.RegistryKeys = m.RegistryKeys || a.at("Attribute").string() == "KEY"
			}
		}
	}
}

// addresses reads a list, or one text with commas.
func addresses(v *value) (out []string) {
	all := v.strings()
	if v != nil && v.kind == kindText {
		all = strings.Split(v.text, ",")
	}
	for _, a := range all {
		if a = strings.TrimSpace(a); a != "" {
			out = append(out, a)
		}
	}
	return out
}

func isTrue(v *value) bool  { return strings.EqualFold(v.string(), "true") }
func isFalse(v *value) bool { return strings.EqualFold(v.string(), "false") }

// line is where a setting is, or the mapping.
func (m *Mapping) line(setting string) int {
	if line := m.lines[setting]; line > 0 {
		return line
	}
	return m.Line
}
