package spec_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/core/spec"
)

// wrong is a spec with one problem. The text follows five lines of a good one (least) unless whole is set, and every field
// but the last two must be exactly what is reported.
type wrong struct {
	name    string
	text    string
	whole   bool
	line    int
	path    string
	value   string
	message string // a part of it
	hint    string // a part of it
}

func inPipeline(lines ...string) string {
	return "pipelines:\n  - name: p\n    " + strings.Join(lines, "\n    ") + "\n"
}

func wrongSpecs() []wrong {
	return slices.Concat(wrongKeys(), wrongValues(), wrongWindows(), wrongQueries(), wrongKafka(), wrongAggregation(), wrongOperators(), wrongInput(), notBuilt())
}

func TestProblemsSayWhereWhatAndWhatWouldBeRight(t *testing.T) {
	const least = 60
	all := wrongSpecs()
	names := map[string]bool{}
	for _, w := range all {
		t.Run(w.name, func(t *testing.T) { w.check(t) })
		names[w.name] = true
	}
	t.Logf("%d wrong specs", len(names))
	if len(names) < least || len(names) != len(all) {
		t.Errorf("%d wrong specs of %d names, want at least %d, each with a name of its own", len(all), len(names), least)
	}
}

func (w wrong) check(t *testing.T) {
	t.Helper()
	text := w.text
	if !w.whole {
		text = least + text
	}
	app, err := spec.Load([]byte(text), "spec.yaml")
	if app != nil || err == nil {
		t.Fatalf("no error for:\n%s", text)
	}
	problems := spec.Problems(err)
	if len(problems) != 1 {
		t.Fatalf("got %d problems, want 1:\n%v\nin:\n%s", len(problems), err, text)
	}
	p := problems[0]
	if p.File != "spec.yaml" || p.Line != w.line || p.Path != w.path || p.Value != w.value {
		t.Errorf("got line %d, path %q, value %q; want %d, %q, %q: %v", p.Line, p.Path, p.Value, w.line, w.path, w.value, err)
	}
	if !strings.Contains(p.Message, w.message) || !strings.Contains(p.Hint, w.hint) || w.hint == "" && p.Hint != "" {
		t.Errorf("got message %q and hint %q, want %q and %q", p.Message, p.Hint, w.message, w.hint)
	}
	// What would be right is in the hint, or is what must be, is always, or is to be set elsewhere.
	right := regexp.MustCompile(`must be|use |set |see |it is |not supported yet`)
	if p.Hint == "" && !right.MatchString(p.Message) {
		t.Errorf("%q does not say what would be right", err)
	}
	where := fmt.Sprintf("spec.yaml:%d: ", w.line)
	if w.path != "" {
		where += w.path + ": "
	}
	if !strings.HasPrefix(err.Error(), where+p.Message) {
		t.Errorf("got %q, want it to begin with %q", err, where)
	}
}

func wrongKeys() []wrong {
	return []wrong{
		{name: "unknown key", text: "parallelism: 4\n", line: 6, path: "parallelism", message: "unknown key", hint: "it belongs under processor"},
		{name: "misspelt key", text: "pipeline: []\n", line: 6, path: "pipeline", message: "unknown key", hint: "did you mean pipelines?"},
		{name: "key of another block", text: inPipeline("max_retries: 3"), line: 8, path: "pipelines[0].max_retries", message: "unknown key", hint: "it belongs under processor.error_handling"},
		{name: "key of the top level", text: inPipeline("metrics: {}"), line: 8, path: "pipelines[0].metrics", message: "unknown key", hint: "it belongs at the top level"},
		{name: "key of nowhere", text: inPipeline("late: {zebra: 1}"), line: 8, path: "pipelines[0].late.zebra", message: "unknown key", hint: "known here: topic"},
		{name: "unit that a duration has not", text: inPipeline("windows: [{size_mins: 5}]"), line: 8, path: "pipelines[0].windows[0].size_mins", message: "unknown key", hint: "write size in Go's syntax"},
		{name: "repeated key", text: "app: a\napp: b\n", line: 7, path: "app", message: "is given twice, first on line 6", hint: "remove one"},
		{name: "repeated value name", text: inPipeline("values: {a: x, a: y}"), line: 8, path: "pipelines[0].values.a", message: "is given twice, first on line 8", hint: "remove one"},
		{name: "duration twice", text: inPipeline("windows: [{size: 5m,", "  size_secs: 300}]"), line: 9, path: "pipelines[0].windows[0].size_secs", value: "300", message: "is size again, of line 8", hint: "keep one"},
		{name: "kafka twice", text: "kafka: {consumer: {topics: [in]}, producer: {result_topic: out}}\n", line: 6, path: "kafka", message: "is given twice, first as processor.kafka on line 3", hint: "keep one"},
		{name: "key without value", text: "app:\n", line: 6, path: "app", message: "has no value", hint: "leave the key out"},
		{name: "list where a mapping is due", text: "processor: []\nkafka: {consumer: {topics: [in]}, producer: {result_topic: out}}", whole: true, line: 1, path: "processor", value: "a list", message: "must be a mapping", hint: "for example processor: {"},
	}
}

func wrongValues() []wrong {
	processor := func(line string) string {
		return "processor:\n  " + line + "\nkafka: {consumer: {topics: [in]}, producer: {result_topic: out}}\n"
	}
	at2 := func(name, line, path, value, message, hint string) wrong {
		return wrong{name: name, whole: true, text: processor(line), line: 2, path: "processor." + path, value: value, message: message, hint: hint}
	}
	return []wrong{
		at2("number below its range", "parallelism: 0", "parallelism", "0", "must be from 1 to 256", "the default is 4"),
		at2("number above its range", "buffer_size: 99999999", "buffer_size", "99999999", "must be from 1 to 1000000", "10000"),
		at2("number beyond 64 bits", "parallelism: 18446744073709551615", "parallelism", "18446744073709551615", "must be from 1 to 256", "4"),
		at2("number in quotes", `parallelism: "4"`, "parallelism", "4", "must be an integer", "without quotes"),
		at2("fraction", "parallelism: 1.5", "parallelism", "1.5", "must be an integer", "1 to 256"),
		at2("duration without unit", "checkpoint_interval: 60", "checkpoint_interval", "60", "needs a unit", "checkpoint_interval: 60s, or checkpoint_interval_secs: 60"),
		at2("duration in days", "checkpoint_interval: 1d", "checkpoint_interval", "1d", "must be a duration", "Go's syntax such as 1m30s"),
		at2("duration under seconds", "checkpoint_interval_secs: 1m", "checkpoint_interval_secs", "1m", "must be a number of seconds", "checkpoint_interval: 1m"),
		at2("negative duration", "checkpoint_interval: -5s", "checkpoint_interval", "-5s", "must be at least 1s", "the default is 1m"),
		at2("duration beyond event time", "checkpoint_interval_secs: 99999999999", "checkpoint_interval_secs", "99999999999", "must be at most 100 years", "1m"),
		at2("duration beyond the default bound", "checkpoint_interval: 9000h", "checkpoint_interval", "9000h", "must be at most 720h", "1m"),
		at2("duration below a millisecond", "checkpoint_interval: 1500us", "checkpoint_interval", "1500us", "whole number of milliseconds", "checkpoint_interval: 1ms, or 1ms more"),
		at2("unknown backend", "state: {backend: redi}", "state.backend", "redi", "must be redis, bolt or memory", "did you mean redis?"),
		at2("unknown compression", "state: {compression: gzip}", "state.compression", "gzip", "must be none or lz4", ""),
		at2("empty path", `state: {path: ""}`, "state.path", `""`, "must be a line of text", "not empty"),
		at2("unknown policy", "error_handling: {policy: ignore}", "error_handling.policy", "ignore", "must be retry, skip, dead_letter or fail", "did you mean skip?"),
		at2("retries below 0", "error_handling: {max_retries: -1}", "error_handling.max_retries", "-1", "must be from 0 to 100", "3"),
		at2("first delay above the longest", "error_handling: {initial_retry_delay: 10s}", "error_handling.initial_retry_delay", "10s", "must be at most max_retry_delay", "the longest is 5s"),
		at2("unknown strategy", "watermark: {strategy: monotonous}", "watermark.strategy", "monotonous", "must be bounded_out_of_orderness or periodic", "did you mean bounded"),
		at2("processing time watermark", "watermark: {strategy: processing_time}", "watermark.strategy", "processing_time", "would not survive a replay", ""),
		at2("idle timeout of 0", "watermark: {idle_timeout_secs: 0}", "watermark.idle_timeout_secs", "0", "must be at least 1ms", "off for none"),
		at2("negative bound", "watermark: {max_out_of_orderness_secs: -1}", "watermark.max_out_of_orderness_secs", "-1", "must be at least 0s", "30s"),
		at2("periodic without interval", "watermark: {strategy: periodic, emit_interval: 0s}", "watermark.emit_interval", "0s", "must be above 0 for the periodic strategy", "10s"),
		at2("percentile above 100", "aggregation: {percentiles: [50, 101]}", "aggregation.percentiles[1]", "101", "must be from 0 to 100", ""),
		at2("percentile twice", "aggregation: {percentiles: [50, 50.0]}", "aggregation.percentiles[1]", "50.0", "is given twice", "remove one"),
		at2("percentile not a number", "aggregation: {percentiles: [.nan]}", "aggregation.percentiles[0]", ".nan", "must be a number", "0 to 100"),
		at2("no aggregates", "aggregation: {enabled: []}", "aggregation.enabled", "", "must have at least 1 element", "leave the key out"),
		at2("unknown aggregate", "aggregation: {enabled: [count, avg]}", "aggregation.enabled[1]", "avg", "is not an aggregate function", "did you mean average?"),
		at2("flag as a word", "metrics: {enabled: yes}", "metrics.enabled", "yes", "must be true or false", ""),
	}
}

func wrongWindows() []wrong {
	at := func(name, window, path, value, message, hint string) wrong {
		return wrong{name: name, text: inPipeline("windows:", "  - "+window), line: 9, path: "pipelines[0].windows[0]" + path, value: value, message: message, hint: hint}
	}
	return []wrong{
		at("tumbling without size", "{type: tumbling}", ".size", "", "is required for a tumbling window", `size: "1m"`),
		at("sliding without slide", "{type: sliding, size: 1m}", ".slide", "", "is required for a sliding window", "slide:"),
		at("session without gap", "{type: session}", ".gap", "", "is required for a session window", "gap:"),
		at("size of 0", "{size: 0s}", ".size", "0s", "must be above 0", "size: 1m"),
		at("negative slide", "{type: sliding, size: 1m, slide: -1s}", ".slide", "-1s", "must be above 0", "slide: 10s"),
		at("negative gap", "{type: session, gap: -1s}", ".gap", "-1s", "must be above 0", "gap: 5m"),
		at("offset of the size", "{size: 1m, offset: -1m}", ".offset", "-1m", "must be less than the size", "repeat"),
		at("offset above the slide", "{type: sliding, size: 20s, slide: 10s, offset: 11s}", ".offset", "11s", "must be less than the slide", "repeat"),
		at("slide above size", "{type: sliding, size: 1m, slide: 2m}", ".slide", "2m", "must not be above size", "allow_gaps"),
		at("too many slices", "{type: sliding, size: 24h, slide: 1s}", ".slide", "1s", "at most 10000", "slide: 10s"),
		at("negative lateness", "{size: 1m, allowed_lateness: -1s}", ".allowed_lateness", "-1s", "must be from 0 ms", "0s for none"),
		at("cumulate without step", "{type: cumulate, size: 1h}", ".step", "", "is required for a cumulate window", "step:"),
		at("step that does not divide the size", "{type: cumulate, size: 1h, step: 7m}", ".step", "7m", "must divide size", "step: 1h in a size of 24h"),
		at("too many steps", "{type: cumulate, size: 24h, step: 1s}", ".step", "1s", "at most 10000", "step: 1h"),
		at("offset of a cumulate window's size", "{type: cumulate, size: 1h, step: 1m, offset: 1h}", ".offset", "1h", "must be less than the size", "repeat"),
		at("longest session of 0", "{type: session, gap: 1m, max: -1s}", ".max", "-1s", "must be above 0", "max: 24h"),
		at("offset above the longest session", "{type: session, gap: 1m, max: 1h, offset: 2h}", ".offset", "2h", "must be less than the max", "repeat"),
		at("gap that is no path", "{type: session, gap: 1m, gap_field: a..b}", ".gap_field", "a..b", "is not a path of a field", "names joined by dots"),
		at("longest gap below the gap", "{type: session, gap: 1m, gap_field: g, max_gap: 1s}", ".max_gap", "1s", "must not be below gap", "gap is that of records without one"),
		at("longest gap without a field", "{type: session, gap: 1m, max_gap: 1h}", ".max_gap", "1h", "is of records' own gaps", "gap_field"),
		at("grid of sessions without a longest one", "{type: session, gap: 1m, offset: 5m}", ".offset", "5m", "is of the grid that max cuts sessions on", "add max: 24h"),
		{
			name: "longest gap without a field, for all", whole: true, line: 1, path: "processor.windows.session.max_gap", value: "1h", message: "is of records' own gaps", hint: "gap_field",
			text: "processor: {windows: {session: {max_gap: 1h}}}\nkafka: {consumer: {topics: [in]}, producer: {result_topic: out}}\n",
		},
		at("longest session of a tumbling window", "{size: 1m, max: 1h}", ".max", "1h", "has no meaning for a tumbling window", "remove it"),
		at("slide of a tumbling window", "{size: 1m, slide: 1s}", ".slide", "1s", "has no meaning for a tumbling window", "remove it"),
		at("unknown type", "{type: hopping, size: 1m}", ".type", "hopping", "must be tumbling, sliding, session, cumulate or global", "did you mean sliding?"),
		at("bad name", "{name: 1 minute, size: 1m}", ".name", `"1 minute"`, "is not a name", "lower-case letters"),
		at("number as name", "{name: 5, size: 1m}", ".name", "5", "must be a string", `"5"`),
		at("session by another name", "{type: session, gap_secs: 60, max: 1h, gap: 1m}", ".gap", "1m", "is gap_secs again", "keep one"),
		at("step of a sliding window", "{type: sliding, size: 1h, slide: 1m, step: 1m}", ".step", "1m", "has no meaning for a sliding window", "remove it"),
		at("slide of a cumulate window", "{type: cumulate, size: 1h, step: 1m, slide: 1m}", ".slide", "1m", "has no meaning for a cumulate window", "remove it"),
		at("cumulate window without size", "{type: cumulate, step: 1m}", ".size", "", "is required for a cumulate window", "size:"),
		at("step above the size", "{type: cumulate, size: 1m, step: 1h}", ".step", "1h", "must", "step: 1h in a size of 24h"),
		at("size of a session", "{type: session, gap: 1m, size: 1h}", ".size", "1h", "has no meaning for a session window", "remove it"),
		at("gap field of a sliding window", "{type: sliding, size: 1m, slide: 1s, gap_field: g}", ".gap_field", "g", "has no meaning for a sliding window", "remove it"),
		at("holes of a tumbling window", "{size: 1m, allow_gaps: true}", ".allow_gaps", "true", "has no meaning for a tumbling window", "remove it"),
		at("longest session without unit", "{type: session, gap: 1m, max: 24}", ".max", "24", "needs a unit", "max_secs: 24"),
		at("size below a millisecond", "{size_ms: 0.5}", ".size_ms", "0.5", "must be a whole number of milliseconds", "size_ms: 1"),
		at("misspelt gap field", "{type: session, gap: 1m, gap_feild: g}", ".gap_feild", "", "unknown key", "did you mean gap_field?"),
		{
			name: "two windows of a name", text: inPipeline("windows:", "  - {size: 1m}", "  - {size: 2m}"), line: 10, path: "pipelines[0].windows[1]",
			value: "tumbling", message: "is the name of two windows", hint: "named after its type",
		},
		{
			name: "no windows", text: inPipeline("windows: []"), line: 8, path: "pipelines[0].windows", message: "must have at least 1 element", hint: "leave the key out",
		},
		{
			name: "default window that does not fit", whole: true, line: 2, path: "processor.windows.sliding.slide", value: "1h", message: "must not be above size", hint: "allow_gaps",
			text: "processor:\n  windows: {default_type: sliding, sliding: {slide: 1h}}\nkafka: {consumer: {topics: [in]}, producer: {result_topic: out}}\n",
		},
	}
}

func wrongQueries() []wrong {
	at := func(name, line, path, value, message, hint string) wrong {
		return wrong{name: name, text: inPipeline(line), line: 8, path: "pipelines[0]." + path, value: value, message: message, hint: hint}
	}
	return []wrong{
		at("unknown way to resume", "watermark: {on_resume: wait}", "watermark.on_resume", "wait", "must be hold or catch_up", ""),
		at("early panes as a word", "trigger: {early: 10s}", "trigger.early", "10s", "must be a mapping", `early: {"every": "10s"}`),
		at("early panes too often", "trigger: {early: {every: 1ms}}", "trigger.early.every", "1ms", "must be at least 100ms", `every: "10s"`),
		at("count of 0", "trigger: {count: 0}", "trigger.count", "0", "must be from 1 to", "count: 1000"),
		at("unknown trigger", "trigger: {evry: 10s}", "trigger.evry", "", "unknown key", "did you mean"),
		at("late panes that are not each", "trigger: {late: never}", "trigger.late", "never", "must be each", ""),
		at("final panes and early ones", "trigger: {final_only: true, count: 5}", "trigger.final_only", "true", "does not go with early panes", "remove one"),
		at("final panes and only changes", "trigger: {final_only: true, on_change: true}", "trigger.final_only", "true", "does not go with on_change", "remove one"),
		at("unknown accumulation", "accumulation: adding", "accumulation", "adding", "must be accumulating, discarding or retracting", ""),
		{
			name: "only changes where panes discard", text: inPipeline("trigger: {on_change: true}", "accumulation: discarding"), line: 8, path: "pipelines[0].trigger.on_change",
			value: "true", message: "does not go with accumulation: discarding", hint: "remove one",
		},
		at("misspelt way to resume", "watermark: {on_resume: catchup}", "watermark.on_resume", "catchup", "must be hold or catch_up", "did you mean catch_up?"),
		at("early panes without unit", "trigger: {early: {every: 10}}", "trigger.early.every", "10", "needs a unit", "every_secs: 10"),
		at("early panes by a word", "trigger: {early: {every: often}}", "trigger.early.every", "often", "must be a duration", "1m30s"),
		at("count in quotes", `trigger: {count: "5"}`, "trigger.count", "5", "must be an integer", "without quotes"),
		at("flag of panes as a word", "trigger: {on_change: often}", "trigger.on_change", "often", "must be true or false", "on_change: true"),
		at("trigger as a word", "trigger: early", "trigger", "early", "must be a mapping", `{"every": "10s"}`),
		at("accumulation by another name", "accumulation: delta", "accumulation", "delta", "must be accumulating, discarding or retracting", "did you mean discarding?"),
		at("misspelt accumulation", "accumulation: retract", "accumulation", "retract", "must be accumulating", ""),
		at("accumulation as a flag", "accumulation: true", "accumulation", "true", "must be accumulating, discarding or retracting", ""),
		at("final panes and early ones by time", "trigger: {final_only: true, early: {every: 10s}}", "trigger.final_only", "true", "does not go with early panes", "remove one"),
		{
			name: "size of a global window", text: inPipeline("trigger: {count: 5}", "windows: [{type: global, size: 1m}]"), line: 9, path: "pipelines[0].windows[0].size",
			value: "1m", message: "has no meaning for a global window", hint: "remove it",
		},
		at("global window without a trigger", "windows: [{type: global}]", "windows[0]", "global", "never ends", "{count: 1000}"),
		{name: "bad app", text: "app: My App\n", line: 6, path: "app", value: `"My App"`, message: "is not a name", hint: "lower-case"},
		{name: "dot in an app", text: "app: my.app\n", line: 6, path: "app", value: "my.app", message: "is not a name", hint: "a dot separates the parts of the group's name"},
		{name: "no pipelines", text: "pipelines: []\n", line: 6, path: "pipelines", message: "must have at least 1 element", hint: "leave the key out"},
		{name: "two pipelines of a name", text: "pipelines:\n  - {name: a}\n  - {name: a}\n", line: 8, path: "pipelines[1].name", value: "a", message: "is the name of two pipelines", hint: "otherwise"},
		{name: "two pipelines without a name", text: "pipelines:\n  - {}\n  - {}\n", line: 8, path: "pipelines[1].name", value: "default", message: "is the name of two pipelines", hint: "named default"},
		at("key as a word", "key: service", "key", "service", "must be a list", "key: [service]"),
		at("key twice", "key: [a, a]", "key[1]", "a", "is given twice", "remove one"),
		at("empty part of a path", "key: [a..b]", "key[0]", "a..b", "is not a path of a field", "names joined by dots"),
		at("processing time as a word", "timestamp: processing_time", "timestamp", "processing_time", "would not survive a replay", ""),
		at("processing time as a key", "timestamp: {processing: true}", "timestamp.processing", "", "would not survive a replay", ""),
		at("timestamp of nothing", "timestamp: {record: false}", "timestamp", "", "names neither a field nor the record's own time", "{record: true}"),
		at("unit without field", "timestamp: {unit: s}", "timestamp.unit", "s", "is the unit of a field", "field: timestamp"),
		at("unknown unit", "timestamp: {field: ts, unit: min}", "timestamp.unit", "min", "must be s, ms, us or ns", ""),
		at("value of a number", "values: {one: 1}", "values.one", "1", "must be a string", `"1"`),
		at("bad value name", `values: {"a b": x}`, "values.a b", `"a b"`, "is not a name of a value", "letters, digits"),
		at("aggregates of no value", "aggregates: {latency: [count]}", "aggregates.latency", "latency", "is not a value of this pipeline", "values: {latency: latency}"),
		{
			name: "aggregate without value", text: inPipeline("values: {}", "aggregates: [sum]"), line: 9, path: "pipelines[0].aggregates[0]",
			value: "sum", message: "needs a value", hint: "only count",
		},
		at("percentile that is none", "aggregates: {value: [p101]}", "aggregates.value[0]", "p101", "is not an aggregate function", "p0 to p100"),
		at("aggregate twice", "aggregates: {value: [count, sum, count]}", "aggregates.value[2]", "count", "is given twice", "remove one"),
		at("illegal topic", "topics: [in, a/b]", "topics[1]", "a/b", "is not a legal Kafka topic", "1 to 249"),
		at("topic twice", "topics: [in, in]", "topics[1]", "in", "is given twice", "remove one"),
		at("internal topic", "sink: {topic: tidemark-ledger}", "sink.topic", "tidemark-ledger", "is an internal topic", "choose"),
		at("sink is a source", "sink: {topic: in}", "sink.topic", "in", "is a source topic of pipeline p", "choose another"),
		at("late topic is the sink", "late: {topic: out}", "late.topic", "out", "is the result topic of pipeline p", "choose another"),
		at("dead letter topic is a source", "error_handling: {dead_letter_topic: in}", "error_handling.dead_letter_topic", "in", "is a source topic", "choose another"),
		at("no shards", "fire: {shards: 0}", "fire.shards", "0", "must be from 1 to 64", "1"),
	}
}

func wrongKafka() []wrong {
	consumer := func(name, line, path, value, message, hint string) wrong {
		return wrong{
			name: name, whole: true, line: 4, path: "kafka.consumer." + path, value: value, message: message, hint: hint,
			text: "kafka:\n  producer: {result_topic: out}\n  consumer:\n    " + line + "\n    topics: [in]\n",
		}
	}
	producer := func(name, line, path, value, message, hint string) wrong {
		return wrong{
			name: name, whole: true, line: 4, path: "kafka.producer." + path, value: value, message: message, hint: hint,
			text: "kafka:\n  consumer: {topics: [in], bootstrap_servers: 'a:1'}\n  producer:\n    " + line + "\n    result_topic: out\n",
		}
	}
	return []wrong{
		consumer("auto commit", "enable_auto_commit: true", "enable_auto_commit", "true", "must be false: offsets are committed with the results", ""),
		consumer("unknown reset", "auto_offset_reset: none", "auto_offset_reset", "none", "must be earliest or latest", ""),
		consumer("too many records", "max_poll_records: 20000", "max_poll_records", "20000", "must be from 1 to 10000", "500"),
		consumer("short session", "session_timeout_ms: 10", "session_timeout_ms", "10", "must be at least 1s", "30s"),
		consumer("broker without port", "bootstrap_servers: localhost", "bootstrap_servers", "localhost", "is not a list of brokers", "HOST:PORT"),
		consumer("broker of port 0", `bootstrap_servers: "a:9092,b:0"`, "bootstrap_servers", `"a:9092,b:0"`, "is not a list of brokers", "1 to 65535"),
		consumer("batching of the trigger", "fetch_min_bytes: 1", "fetch_min_bytes", "", "MaximumBatchingWindowInSeconds", ""),
		consumer("polling of the trigger", "max_poll_interval_ms: 1", "max_poll_interval_ms", "", "the trigger polls Kafka", ""),
		consumer("credentials", "sasl_password: hush", "sasl_password", "", "set TIDEMARK_KAFKA_AUTH", ""),
		consumer("key as Kafka spells it", "max.poll.records: 5", "max.poll.records", "", "unknown key", "write max_poll_records"),
		producer("acks of one", "acks: 1", "acks", "1", "must be all", ""),
		producer("unknown compression of results", "compression_type: brotli", "compression_type", "brotli", "must be none, gzip, snappy, lz4 or zstd", ""),
		producer("transactional id", "transactional_id: x", "transactional_id", "", "tidemark.APP.PIPELINE.FINGERPRINT", ""),
		producer("another cluster", "bootstrap_servers: b:1", "bootstrap_servers", `"b:1"`, "must be those of the consumer, a:1", "leave it out"),
		{
			name: "no source topic", whole: true, text: "kafka:\n  producer: {result_topic: out}\n", line: 2, path: "kafka.consumer.topics",
			message: "is required", hint: "topics: [TOPIC]",
		},
		{
			name: "no result topic", whole: true, text: "kafka:\n  consumer: {topics: [in]}\n", line: 2, path: "kafka.producer.result_topic",
			message: "is required", hint: "aggregated-metrics",
		},
	}
}

func wrongAggregation() []wrong {
	pipeline := func(name, line, path, value, message, hint string) wrong {
		return wrong{name: name, text: inPipeline("topics: [in]", line), line: 9, path: "pipelines[0]." + path, value: value, message: message, hint: hint}
	}
	return []wrong{
		pipeline("unknown sketch", "aggregation: {percentile_sketch: hdr}", "aggregation.percentile_sketch", "hdr", "must be tdigest or ddsketch", ""),
		pipeline("misspelt sketch", "aggregation: {percentile_sketch: dd_sketch}", "aggregation.percentile_sketch", "dd_sketch", "must be tdigest or ddsketch", "did you mean ddsketch?"),
		pipeline("accuracy too small", "aggregation: {percentile_sketch: ddsketch, relative_accuracy: 0.0001}", "aggregation.relative_accuracy", "0.0001", "must be from 0.001 to 0.2", "0.005"),
		pipeline("accuracy in percent", "aggregation: {percentile_sketch: ddsketch, relative_accuracy: 1}", "aggregation.relative_accuracy", "1", "must be from 0.001 to 0.2", "0.005"),
		pipeline("accuracy that is no number", "aggregation: {percentile_sketch: ddsketch, relative_accuracy: 1%}", "aggregation.relative_accuracy", "1%", "must be a number", "0.005"),
		pipeline("accuracy of a t-digest", "aggregation: {relative_accuracy: 0.02}", "aggregation.relative_accuracy", "0.02", "has no meaning for the t-digest", "percentile_sketch: ddsketch"),
		pipeline("functions in the pipeline's aggregation", "aggregation: {enabled: [count]}", "aggregation.enabled", "", "unknown key", "processor.aggregation"),
		{
			name: "accuracy that no pipeline uses", text: "kafka: {consumer: {topics: [in]}, producer: {result_topic: out}}\nprocessor: {aggregation: {relative_accuracy: 0.02}}\n", whole: true, line: 2,
			path: "processor.aggregation.relative_accuracy", value: "0.02", message: "has no meaning for the t-digest", hint: "percentile_sketch: ddsketch",
		},
		pipeline("distinct by another name", "aggregates: [unique]", "aggregates[0]", "unique", "is not an aggregate function", "did you mean distinct?"),
		pipeline("misspelt function", "aggregates: {value: [fisrt]}", "aggregates.value[0]", "fisrt", "is not an aggregate function", "did you mean first?"),
		pipeline("function twice", "aggregates: {value: [last, last]}", "aggregates.value[1]", "last", "is given twice", "remove one"),
	}
}

func wrongOperators() []wrong {
	at := func(name, line, path, value, message, hint string) wrong {
		return wrong{name: name, text: inPipeline(line), line: 8, path: "pipelines[0]." + path, value: value, message: message, hint: hint}
	}
	whole := func(w wrong, line string) wrong {
		w.line, w.text = 9, inPipeline(strings.Split(line, "\n")...)
		return w
	}
	return []wrong{
		at("where that is no text", "where: true", "where", "true", "must be a string", `written "true"`),
		at("where of nothing", `where: " "`, "where", `" "`, "is empty", `metric == "latency_ms"`),
		at("where that ends too early", "where: tokens >", "where", `"tokens >"`, "does not compile: ends too early (character 8)", `metric == "latency_ms"`),
		at("where with one equals sign", "where: metric = 3", "where", `"metric = 3"`, `unexpected token Operator("=") (character 8)`, "== compares"),
		at("where of SQL", "where: tokens IS NULL", "where", `"tokens IS NULL"`, "(character 8)", "a missing field is nil"),
		at("where with AND", "where: a > 1 AND b > 1", "where", `"a > 1 AND b > 1"`, "(character 7)", "lower case"),
		at("where that is a number", "where: tokens * 2", "where", `"tokens * 2"`, "is a number, not true or false", "metric =="),
		at("where that is text", "where: lower(metric)", "where", "\"lower(metric)\"", "is a string, not true or false", "metric =="),
		at("types that do not go together", `where: tokens > 1 + "a"`, "where", `"tokens > 1 + \"a\""`, "invalid operation: + (mismatched types number and string) (character 12)", "metric =="),
		at("unknown function", "where: lowr(model) == model", "where", `"lowr(model) == model"`, "lowr is not a function here (character 1)", "lower"),
		at("function with too much", "where: len(a, b) > 1", "where", `"len(a, b) > 1"`, "does not compile", "metric =="),
		at("clock", "where: ts > now()", "where", `"ts > now()"`, "now is not a function here: results would not survive a replay (character 6)", "event time is a field"),
		at("date", `where: date(at) > date("2025-01-01")`, "where", `"date(at) > date(\"2025-01-01\")"`, "date is not a function here: results would not survive a replay", "event time is a field"),
		at("call of a field", "where: model.lower() == 1", "where", `"model.lower() == 1"`, "model.lower is not a function here", "functions are"),
		at("variable", "where: let a = tokens; a > 1", "where", `"let a = tokens; a > 1"`, "declares a variable", "map"),
		at("range", "where: status in 200..299", "where", `"status in 200..299"`, "is a range, which has no bound", "status >= 200"),
		at("comment of YAML", "where: any(a, # > 1)", "where", `"any(a,"`, "ends too early (character 6)", "is written in quotes"),
		at("loop in a loop", "where: 'any(a, any(b, # > 1))'", "where", `"any(a, any(b, # > 1))"`, "is a loop inside of a loop", "derive"),
		at("text without a bound", `where: repeat(model, 1000000) != ""`, "where", `"repeat(model, 1000000) != \"\""`, "repeat is not a function here: its memory has no bound", "functions are"),
		at("regular expression of a field", "where: model matches pattern", "where", `"model matches pattern"`, "is a regular expression that is not known before", "matches"),
		at("regular expression that is none", `where: model matches "gpt-("`, "where", `"model matches \"gpt-(\""`, "error parsing regexp: missing closing )", "metric =="),
		at("whole record", "where: len($env) > 3", "where", `"len($env) > 3"`, "names the whole record (character 5)", "$env"),
		at("name with a dot", `where: attributes["a.b"] == 1`, "where", `"attributes[\"a.b\"] == 1"`, `names the field "a.b"`, "dots"),
		at("map that is a list", "map: [cost]", "map", "a list", "must be a mapping", "cost_cents"),
		at("derived field that is no text", "map: {two: 2}", "map.two", "2", "must be a string", `"2"`),
		at("derived field with a bad name", "map: {cost-cents: tokens * 2}", "map.cost-cents", "cost-cents", "is not a name of a field", "letters, digits and _"),
		at("derived field named as a word", "map: {not: a}", "map.not", "not", "is a word of the language", "another name"),
		at("derived field twice", "map: {a: x, a: y}", "map.a", "", "is given twice, first on line 8", "remove one"),
		at("derived list", "map: {big: 'filter(items, # > 3)'}", "map.big", `"filter(items, # > 3)"`, "is a list, not a string, a number, true or false", "tokens * 0.002"),
		at("derived nothing", "map: {none: nil}", "map.none", "nil", "is nil, not", "tokens * 0.002"),
		whole(at("field of a derived field", "", "values.c", "cost.cents", "looks for cents in cost, which is derived", "otherwise"), "map: {cost: tokens * 2}\nvalues: {c: cost.cents}"),
		whole(at("expression below a derived field", "", "where", "cost.cents", "looks for cents in cost", "otherwise"), "map: {cost: tokens * 2}\nwhere: cost.cents > 2"),
		at("expression as a value", "values: {cost: tokens * 0.002}", "values.cost", `"tokens * 0.002"`, "is an expression, and the name of a field is wanted", "map: {name: EXPRESSION}"),
		at("expression as event time", "timestamp: {field: ts * 1000}", "timestamp.field", `"ts * 1000"`, "is an expression", "map: {name: EXPRESSION}"),
		at("unknown function in a key", "key: [service, lowr(model)]", "key[1]", `"lowr(model)"`, "lowr is not a function here (character 1)", "lower"),
		at("two names in one part of a key", "key: [{a: x, b: y}]", "key[0]", "2", "must have at most 1 key", "lower(model)"),
		at("two parts of a key of one name", "key: [{m: model}, {m: lower(model)}]", "key[1]", "m", "is the name of two parts of the key", "name each part"),
		at("bad name of a part of a key", "key: [{'a b': model}]", "key[0].a b", `"a b"`, "is not a name of a value", "letters, digits"),
		at("key in a key", "key: [[service]]", "key[0]", "a list", "must be a string", "lower(model)"),
	}
}

func wrongInput() []wrong {
	at := func(name, line, path, value, message, hint string) wrong {
		return wrong{name: name, text: inPipeline(line), line: 8, path: "pipelines[0]." + path, value: value, message: message, hint: hint}
	}
	// below is about a line of a pipeline that reads rows.
	below := func(name, line, path, value, message, hint string) wrong {
		w := at(name, "", path, value, message, hint)
		w.line, w.text = 10, inPipeline("input: {format: csv, columns: [time, service, latency]}", "values: {latency: latency}", line)
		return w
	}
	shared := func(name, line, path, value, message, hint string) wrong {
		return wrong{
			name: name, whole: true, line: 2, path: "processor.input" + path, value: value, message: message, hint: hint,
			text: "processor:\n  input: " + line + "\nkafka: {consumer: {topics: [in]}, producer: {result_topic: out}}\n",
		}
	}
	return []wrong{
		at("misspelt format", "input: cvs", "input.format", "cvs", "must be json, csv, text or json_registry", "did you mean csv?"),
		at("format of another system", "input: {format: DELIMITED}", "input.format", "DELIMITED", "must be json, csv, text or json_registry", "did you mean csv?"),
		at("Avro", "input: avro", "input.format", "avro", "Avro is not read: the log has the schema's number alone, and a result must not depend on what a registry says; use JSON Schema", ""),
		at("Protobuf", "input: {format: protobuf}", "input.format", "protobuf", "use JSON Schema, as json_registry, or publish JSON", ""),
		at("tabs by their name", "input: tsv", "input.format", "tsv", `use {format: csv, columns: [...], delimiter: "\t"}`, ""),
		at("number as a format", "input: 5", "input", "5", "must be a mapping", `"format": "csv"`),
		at("rows without columns", "input: csv", "input.columns", "", "is required for csv", "columns: [time, service, latency]"),
		at("rows of nothing", "input: {format: csv, columns: []}", "input.columns", "", "must have at least 1 element", `columns: ["time", "service", "value"]`),
		at("columns as a word", "input: {format: csv, columns: value}", "input.columns", "value", "must be a list", "columns: [value]"),
		at("column twice", "input: {format: csv, columns: [value, value]}", "input.columns[1]", "value", "is given twice", "remove one"),
		at("column with a dot", "input: {format: csv, columns: [usage.tokens, value]}", "input.columns[0]", "usage.tokens", "dots reach nested fields, of JSON alone", "write usage_tokens"),
		at("column with a space", "input: {format: csv, columns: [total cost, value]}", "input.columns[0]", `"total cost"`, "is not a name of a column", "letters, digits"),
		at("column of a number", "input: {format: csv, columns: [1, value]}", "input.columns[0]", "1", "must be a string", `"1"`),
		at("header", "input: {format: csv, header: true, columns: [value]}", "input.header", "", "a row is a record, and none is a header: remove this, set columns, and leave a header record out by where", ""),
		at("delimiter of two characters", `input: {format: csv, columns: [value], delimiter: "||"}`, "input.delimiter", `"||"`, "is not a delimiter", "one ASCII character"),
		at("delimiter of a number", `input: {format: csv, columns: [value], delimiter: "."}`, "input.delimiter", ".", "is not a delimiter", `"\t"`),
		at("delimiter of nothing", `input: {format: csv, columns: [value], delimiter: ""}`, "input.delimiter", `""`, "is not a delimiter", `";"`),
		at("separator", "input: {format: csv, columns: [value], separator: ';'}", "input.separator", "", "unknown key", "known here: format, columns, delimiter"),
		at("columns of text", "input: {format: text, columns: [value]}", "input.columns", "a list", "is of rows, and the format is text", "format: csv, or remove it"),
		at("columns alone", "input: {columns: [value]}", "input.columns", "a list", "is of rows, and the format is json", "format: csv, or remove it"),
		at("delimiter of text", "input: {format: text, delimiter: ';'}", "input.delimiter", `";"`, "is of rows, and the format is text", "format: csv, or remove it"),
		{
			name: "value that no row has", text: inPipeline("input: {format: csv, columns: [time, latency]}"), line: 7, path: "pipelines[0].values", value: "value",
			message: "is not a column of the input", hint: "the columns are time, latency",
		},
		below("misspelt column", "key: [servce]", "key[0]", "servce", "is not a column of the input", "did you mean service?"),
		below("column that is not there", "key: [service, model]", "key[1]", "model", "is not a column of the input", "the columns are time, service, latency"),
		below("nested field of a row", "where: service.name == 'chat'", "where", "service.name", "is not a column of the input", "the columns are"),
		below("derived of what is no column", "map: {cost: tokens * 2}", "map.cost", "tokens", "is not a column of the input", "the columns are"),
		below("event time that no row has", "timestamp: {field: at, record: true}", "timestamp.field", "at", "is not a column of the input", "the columns are"),
		below("gap that no row has", "windows: [{type: session, gap: 1m, gap_field: gap}]", "windows[0].gap_field", "gap", "is not a column of the input", "the columns are"),
		{
			name: "field of a text", text: inPipeline("input: text", "key: [service]"), line: 9, path: "pipelines[0].key[0]", value: "service",
			message: "is no field of text input, which has one: value", hint: "write value",
		},
		shared("misspelt format for all", "{format: cvs, columns: [value]}", ".format", "cvs", "must be json, csv, text or json_registry", "did you mean csv?"),
		shared("rows without columns for all", "csv", ".columns", "", "is required for csv", "columns: ["),
		shared("columns that no pipeline uses", "{columns: [value]}", ".columns", "a list", "is of rows, and no pipeline has input.format: csv", "remove it"),
	}
}

func notBuilt() []wrong {
	at := func(line, path, key string) wrong {
		return wrong{
			name: "not built: " + key, text: inPipeline("topics: [in]", line), line: 9, path: "pipelines[0]." + path,
			message: "not supported yet: " + key + " (line 9)",
		}
	}
	hinted := func(w wrong, hint string) wrong { w.hint = hint; return w }
	return []wrong{
		hinted(at("windows: [{type: calendar}]", "windows[0].type", "type: calendar"), "tumbling"),
		func() wrong {
			w := at("fire: {shards: 4}", "fire.shards", "fire.shards")
			w.value, w.hint = "4", "leave it out"
			return w
		}(),
	}
}
