package crash

import (
	"fmt"
	"slices"
	"strings"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
)

const (
	// partitionsEach is how many partitions every source topic has.
	partitionsEach = 4
	// disorder is how far, in milliseconds, a record may be behind the newest one, in all partitions.
	disorder = 400
)

// query is one pipeline of a mix.
type query struct {
	name    string
	windows string
	bound   int // max_out_of_orderness in milliseconds
	// strict queries get records that are truly late: bound and lateness together are below the disorder. What is not in their
	// panes must be in the late topic. With all others nothing is.
	strict bool
	both   bool   // reads both source topics, where there are two
	more   string // aggregates beside those that are judged
	panes  string // trigger and accumulation, as lines of the spec. With early panes, or retracting ones, every pane is in the history
}

// With an allowed lateness the bound alone is below the disorder, so that there are late panes, and both together are above it,
// so that every record is in one.
var (
	tumbling       = query{name: "tumbling", bound: 500, windows: `[{name: w, type: tumbling, size: 1s, offset: 300ms, allowed_lateness: 0s}]`}
	sliding        = query{name: "sliding", bound: 500, windows: `[{name: w, type: sliding, size: 2500ms, slide: 1s, allowed_lateness: 0s}]`}
	session        = query{name: "session", bound: 500, windows: `[{name: w, type: session, gap: 40ms, allowed_lateness: 0s}]`}
	tumblingLate   = query{name: "tumbling-late", bound: 50, windows: `[{name: w, type: tumbling, size: 700ms, allowed_lateness: 500ms}]`}
	slidingLate    = query{name: "sliding-late", bound: 100, windows: `[{name: w, type: sliding, size: 1500ms, slide: 500ms, allowed_lateness: 400ms}]`}
	sessionLate    = query{name: "session-late", bound: 100, windows: `[{name: w, type: session, gap: 40ms, allowed_lateness: 500ms}]`}
	strictTumbling = query{name: "strict-tumbling", bound: 50, strict: true, windows: `[{name: w, type: tumbling, size: 500ms, allowed_lateness: 0s}]`}
	strictSession  = query{name: "strict-session", bound: 50, strict: true, windows: `[{name: w, type: session, gap: 100ms, allowed_lateness: 0s}]`}
	allKinds       = query{name: "all-kinds", bound: 500, both: true, windows: `[{name: t, type: tumbling, size: 1s, allowed_lateness: 0s},
      {name: sl, type: sliding, size: 2500ms, slide: 1s, allowed_lateness: 0s}, {name: se, type: session, gap: 40ms, allowed_lateness: 0s}]`}
)

// Pipelines that are equal to one above but for the name, and for what they make of their records. They fire at times of their own, and
// state of one is lost without that of the other.
var (
	strictAgain  = query{name: "strict-again", bound: 50, strict: true, windows: strictTumbling.windows, more: ", average, p95"}
	sessionAgain = query{name: "session-again", bound: 50, strict: true, windows: strictSession.windows}
)

// Windows that go out more than once. A second of wall clock is about five of event time.
var (
	earlyDiscarding  = query{name: "early-discarding", bound: 500, windows: tumbling.windows, panes: "trigger: {early: {every: 100ms}, count: 25}\n    accumulation: discarding"}
	earlyTumbling    = query{name: "early-tumbling", bound: 50, windows: tumblingLate.windows, panes: "trigger: {early: {every: 100ms}, count: 40}"}
	slidingTakesBack = query{name: "sliding-retracting", bound: 100, windows: slidingLate.windows, panes: "accumulation: retracting"}
	earlyTakesBack   = query{name: "early-retracting", bound: 100, windows: sessionLate.windows, panes: "trigger: {early: {every: 100ms}, on_change: true}\n    accumulation: retracting"}
	sessionCut       = query{name: "session-cut", bound: 100, windows: `[{name: w, type: session, gap: 40ms, max: 150ms, allowed_lateness: 500ms}]`}
	sessionDiscards  = query{
		name: "session-discarding", bound: 100, windows: `[{name: w, type: session, gap: 40ms, max: 400ms, allowed_lateness: 500ms}]`,
		panes: "trigger: {early: {every: 100ms}, count: 10}\n    accumulation: discarding",
	}
	cumulate  = query{name: "cumulate", bound: 100, windows: `[{name: w, type: cumulate, size: 1s, step: 250ms, allowed_lateness: 400ms}]`, panes: "trigger: {count: 15}"}
	finalOnly = query{name: "final-only", bound: 50, windows: tumblingLate.windows, panes: "trigger: {final_only: true}"}
)

// mixes are the apps that the stages take in turn. The first two together have every kind of window, with and without lateness, each
// accumulation, records that are truly late, and pipelines over one topic that are equal but for their name, their aggregates or their
// trigger. In the fifth, they differ in their trigger alone.
var mixes = [][]query{
	{earlyDiscarding, tumbling, sessionCut, strictSession, sessionAgain},
	{slidingTakesBack, cumulate, session, strictTumbling, strictAgain},
	{allKinds, tumblingLate},
	{sliding, sessionDiscards, strictSession},
	{tumblingLate, earlyTumbling, finalOnly},
	{slidingLate, session, earlyTakesBack},
	{tumbling, sessionLate, strictSession},
	{cumulate, sessionDiscards, strictTumbling},
}

// app is the spec of one stage.
type app struct {
	*spec.App
	yaml    string
	queries []query
	sources []string // source topics
	group   string   // the trigger's
}

// newApp writes the spec. id is in every name.
func newApp(id string, queries []query) (*app, error) {
	a := &app{queries: queries, sources: []string{"in-" + id}, group: "trigger-" + id}
	if slices.ContainsFunc(queries, func(q query) bool { return q.both }) {
		a.sources = append(a.sources, "more-"+id)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `
app: crash-%s
processor:
  watermark: {emit_interval_ms: 20, idle_timeout_secs: 3600}
  error_handling: {max_retries: 3, initial_retry_delay_ms: 20, max_retry_delay_ms: 200}
  kafka:
    consumer: {topics: [%s], group_id: %s}
    producer: {result_topic: unused}
pipelines:`, id, a.sources[0], a.group)
	for _, q := range queries {
		topics := a.sources[:1]
		if q.both {
			topics = a.sources
		}
		fmt.Fprintf(&b, `
  - name: %[1]s-%[2]s
    topics: [%[3]s]
    timestamp: {field: t, unit: ms}
    values: {v: v}
    windows: %[4]s
    aggregates: {v: [count, sum, min, max, first, last, distinct%[6]s]}
    watermark: {max_out_of_orderness_ms: %[5]d}
    %[7]s
    error_handling: {dead_letter_topic: dead-%[1]s-%[2]s}
    late: {topic: late-%[1]s-%[2]s}
    sink: {topic: out-%[1]s-%[2]s}`, q.name, id, strings.Join(topics, ", "), q.windows, q.bound, q.more, q.panes)
	}
	a.yaml = b.String() + "\n"
	var err error
	if a.App, err = spec.Load([]byte(a.yaml), "crash.yaml"); err != nil {
		return nil, fmt.Errorf("spec of the stage: %w", err)
	}
	return a, nil
}

// topics lists all topics of the app and their partitions.
func (a *app) topics() map[string]int32 {
	out := map[string]int32{}
	for _, t := range a.sources {
		out[t] = partitionsEach
	}
	for _, t := range a.outputs() {
		out[t] = 2
	}
	return out
}

// outputs lists what the functions publish to, but for the ledger.
func (a *app) outputs() []string {
	var out []string
	for i := range a.Pipelines {
		p := &a.Pipelines[i]
		out = append(out, p.SinkTopic, p.LateTopic, p.DeadLetterTopic)
	}
	return out
}

// partitions lists the source partitions.
func (a *app) partitions() []event.TopicPartition {
	var out []event.TopicPartition
	for _, t := range a.sources {
		for p := range int32(partitionsEach) {
			out = append(out, event.TopicPartition{Topic: t, Partition: p})
		}
	}
	return out
}
