// Package spec is what a user asks for: an App of pipelines, read from YAML (strictly, with every problem at once and its
// line) or built in Go, with all defaults applied. It describes; it opens nothing.
package spec

import (
	"slices"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/aggregate"
	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/window"
)

// App is a complete spec with every default applied.
type App struct {
	Name               string
	Parallelism        int           // partitions folded at once in one invocation
	BufferSize         int           // most records held in memory at once
	CheckpointInterval time.Duration // most age of the newest state export, where exports are on
	State              State
	Errors             ErrorHandling
	Consumer           Consumer
	Producer           Producer
	Metrics            Metrics
	Pipelines          []Pipeline
}

// Backend is a kind of state store.
type Backend string

// The backends; "rocksdb" in a spec is an alias of bolt.
const (
	BackendRedis  Backend = "redis"
	BackendBolt   Backend = "bolt"
	BackendMemory Backend = "memory"
)

// State says where state is kept.
type State struct {
	Backend        Backend
	Path           string
	CheckpointPath string // a directory or s3://BUCKET/PREFIX; empty: no state exports
	Compression    string // "none" or "lz4"
}

// Policy says what happens to a record that cannot be processed, and to operations that fail.
type Policy string

// The policies.
const (
	PolicyRetry      Policy = "retry"
	PolicySkip       Policy = "skip"
	PolicyDeadLetter Policy = "dead_letter"
	PolicyFail       Policy = "fail"
)

// ErrorHandling is the error_handling block.
type ErrorHandling struct {
	Policy            Policy
	MaxRetries        int
	InitialRetryDelay time.Duration
	MaxRetryDelay     time.Duration
	DeadLetterTopic   string
}

// Consumer is the kafka.consumer block.
type Consumer struct {
	BootstrapServers string
	GroupID          string // the trigger's consumer group (ConsumerGroupId of the event source mapping)
	Topics           []string
	AutoOffsetReset  string // "earliest" or "latest": where the genesis starts
	SessionTimeout   time.Duration
	MaxPollRecords   int
}

// Producer is the kafka.producer block.
type Producer struct {
	BootstrapServers string
	ResultTopic      string
	Compression      string // none, gzip, snappy, lz4, zstd
	Acks             string // only "all" is legal: transactions need it
	Retries          int
}

// Metrics is the metrics block.
type Metrics struct {
	Enabled        bool
	ExportInterval time.Duration
}

// Unit is the unit of a numeric timestamp field.
type Unit string

// The units.
const (
	UnitSeconds Unit = "s"
	UnitMillis  Unit = "ms"
	UnitMicros  Unit = "us"
	UnitNanos   Unit = "ns"
)

// Timestamp says where a record's event time is.
type Timestamp struct {
	Field  string // dotted path; empty: the Kafka record's own timestamp
	Unit   Unit
	Record bool // true: the Kafka record's own; with a Field: the record's own where the field is absent
}

// Key says what records are grouped by.
type Key struct {
	RecordKey bool     // the record's own key
	Fields    []string // dotted paths or expressions; empty and not RecordKey: one global group
	Names     []string // what Fields are called in the grouping key, "" for the text of the field; nil: none has a name of its own
}

// Labels returns what the parts of the grouping key are called, in the order of Fields.
func (k Key) Labels() []string {
	labels := slices.Clone(k.Fields)
	for i, name := range k.Names {
		if name != "" && i < len(labels) {
			labels[i] = name
		}
	}
	return labels
}

// Derived is a field that is computed from others, under a name that the timestamp, key, values and where, and those derived after
// it, can use. It is computed only where one of them does.
type Derived struct {
	Name       string
	Expression string
}

// Value names what is taken from each record: a number, or where all of its functions take them a string or a boolean.
type Value struct {
	Name string
	Path string // dotted path
}

// Aggregates are the aggregate functions of one value, as their names in the spec: "count", "p99.9".
type Aggregates struct {
	Value     string // name of the value; empty where the pipeline has no values and counts records
	Functions []string
}

// Watermark is the watermark block.
type Watermark struct {
	Periodic      bool       // W moves on multiples of EmitInterval only
	MaxOutOfOrder event.Span // the bound
	EmitInterval  event.Span // least distance of plans in which only W moved
	IdleTimeout   event.Span // wall clock; 0: never idle by time
	AllIdle       AllIdle
	CatchUp       bool       // a partition that comes back from being idle counts again once it has caught up with W; else at once
	MaxFutureSkew event.Span // a record's event time may be at most this far after its Kafka timestamp; negative: no bound
}

// AllIdle says what the watermark does when all partitions are idle.
type AllIdle string

// What the watermark does when all partitions are idle.
const (
	AllIdleAdvance AllIdle = "advance"
	AllIdleHold    AllIdle = "hold"
	AllIdleMax     AllIdle = "max"
)

// Trigger says when windows go out besides at their end, and when not.
type Trigger struct {
	EarlyEvery event.Span // wall clock: open windows with news go out so often; 0: not
	Count      int64      // a group of an open window goes out with so many new records; 0: not
	OnChange   bool       // an early or late pane with the results of the one before does not go out
	FinalOnly  bool       // one pane a window, once it takes no more records
}

// Early reports whether windows may go out before their end.
func (t Trigger) Early() bool { return t.EarlyEvery > 0 || t.Count > 0 }

// Accumulation says what a window that goes out again holds.
type Accumulation string

// What a window that goes out again holds.
const (
	Accumulating Accumulation = "accumulating" // all of its records
	Discarding   Accumulation = "discarding"   // those that no pane before had
	Retracting   Accumulation = "retracting"   // all of its records, and the results that it takes back
)

// Pipeline is one query with every default applied.
type Pipeline struct {
	App             string
	Name            string
	Topics          []string
	Input           event.Format // how record values are written
	Timestamp       Timestamp
	Where           string    // an expression: records for which it is false do not count; empty: all do
	Map             []Derived // in the order in which they are derived
	Key             Key
	Values          []Value // empty: count counts records
	Windows         []window.Definition
	Aggregates      []Aggregates
	Sketch          aggregate.Sketch    // of percentiles of more than 1,000 values
	Functions       *aggregate.Registry // what the names of Aggregates mean; nil: the functions of package aggregate
	Trigger         Trigger
	Accumulation    Accumulation // empty: accumulating
	Watermark       Watermark
	Policy          Policy
	SinkTopic       string
	LateTopic       string
	DeadLetterTopic string
	Shards          int
}

// KeepsHistory reports whether a window may go out more than once, so that it is kept, in PanesTopic, what has gone out.
func (p *Pipeline) KeepsHistory() bool {
	return p.Trigger.Early() || !p.Trigger.FinalOnly && slices.ContainsFunc(p.Windows, func(d window.Definition) bool { return d.Lateness > 0 })
}

// InternalTopics are the topics of an app that nobody but the functions reads.
func (a *App) InternalTopics() []string {
	for i := range a.Pipelines {
		if a.Pipelines[i].KeepsHistory() {
			return []string{LedgerTopic, PanesTopic}
		}
	}
	return []string{LedgerTopic}
}

// LedgerTopic and PanesTopic are the internal topics: the books, and what has gone out of windows that may go out again.
const (
	LedgerTopic = "tidemark-ledger"
	PanesTopic  = "tidemark-panes"
)
