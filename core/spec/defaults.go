package spec

import (
	"cmp"
	"slices"
	"strconv"
)

// What holds where a spec is silent and the table of keys has no single value for it.
const (
	defaultName     = "default"
	defaultValue    = "value"
	defaultField    = "timestamp"
	lateSuffix      = "-late"
	deadLetterTopic = "processor-dead-letter"
	countFunction   = "count"
	percentileName  = "percentile"
)

func defaultTimestamp() Timestamp {
	return Timestamp{Field: defaultField, Unit: UnitMillis, Record: true}
}

func (c *Consumer) defaults(app string) {
	if c.GroupID == "" {
		c.GroupID = "tidemark." + app
	}
}

func (p *Producer) defaults(c Consumer) {
	if p.BootstrapServers == "" {
		p.BootstrapServers = c.BootstrapServers
	}
}

// defaults completes what follows from the pipelines: the consumer's topics are at least all that they read.
func (a *App) defaults() {
	topics := slices.Clone(a.Consumer.Topics)
	for i := range a.Pipelines {
		for _, topic := range a.Pipelines[i].Topics {
			if !slices.Contains(topics, topic) {
				topics = append(topics, topic)
			}
		}
	}
	a.Consumer.Topics = topics
	if a.Errors.DeadLetterTopic == "" {
		a.Errors.DeadLetterTopic = deadLetterTopic
	}
}

// SourceTopics returns the topics that pipelines read, each once, sorted. Consumer.Topics may have more, which are read by none.
func (a *App) SourceTopics() []string {
	var topics []string
	for i := range a.Pipelines {
		topics = append(topics, a.Pipelines[i].Topics...)
	}
	slices.Sort(topics)
	return slices.Compact(topics)
}

// TriggerGroups returns the consumer groups in which the trigger may deliver topics: that of the spec, and for each topic the same
// with a colon and the topic behind. On Lambda each topic has a mapping of its own, and no two mappings may share a group.
func (a *App) TriggerGroups(topics []string) []string {
	groups := append(make([]string, 0, 1+len(topics)), a.Consumer.GroupID)
	for _, t := range topics {
		groups = append(groups, a.Consumer.GroupID+":"+t)
	}
	return groups
}

// topicDefaults names the late topic after the sink, and the dead letter topic as all apps do that name none.
func (p *Pipeline) topicDefaults() {
	if p.SinkTopic == "" {
		return
	}
	if p.LateTopic == "" {
		p.LateTopic = p.SinkTopic + lateSuffix
	}
	if p.DeadLetterTopic == "" {
		p.DeadLetterTopic = deadLetterTopic
	}
}

// sortValues orders values by name: the keys of a mapping have no order, so reordering them changes nothing.
func sortValues(values []Value) {
	slices.SortFunc(values, func(a, b Value) int { return cmp.Compare(a.Name, b.Name) })
}

// percentileFunction names the function of a percentile: 99.9 is "p99.9".
func percentileFunction(q float64) string { return "p" + strconv.FormatFloat(q, 'f', -1, 64) }

// expand replaces "percentile" by the functions of the percentiles that are not listed themselves. The second result is,
// for each function, the index of the name that it comes from.
func expand(names []string, percentiles []float64) (functions []string, from []int) {
	seen := map[string]bool{}
	for i, name := range names {
		if name != percentileName {
			seen[name] = true
			functions, from = append(functions, name), append(from, i)
			continue
		}
		for _, q := range percentiles {
			if f := percentileFunction(q); !seen[f] && !slices.Contains(names, f) {
				seen[f] = true
				functions, from = append(functions, f), append(from, i)
			}
		}
	}
	return functions, from
}

// defaultApp returns an App of one pipeline with the defaults of the table, for the builder.
func defaultApp(name string) *App {
	l := &loader{checker: &checker{}, written: map[string]*value{}}
	app := l.app(l.read(language(), nil, "", place{}))
	app.Name, app.Pipelines[0].App = name, name
	app.Consumer.GroupID = ""
	return app
}
