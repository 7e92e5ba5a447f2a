package spec

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/window"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares got with a file, or writes it with -update.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-update rewrites it): -want +got:\n%s", file, diff)
	}
}

func TestTheSchemaIsCurrent(t *testing.T) {
	golden(t, "schema.json", string(Schema()))
}

func TestTheReferenceIsCurrent(t *testing.T) {
	golden(t, "REFERENCE.md", Reference())
}

func pipelineOf(t *testing.T, text string) Pipeline {
	t.Helper()
	app, err := Load([]byte(text), "spec.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return app.Pipelines[0]
}

// A change of this golden drops all stored state of all users: every pipeline becomes a new one.
func TestFingerprintGolden(t *testing.T) {
	user, err := os.ReadFile("../../tests/testdata/processor-config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	rest := `
kafka: {consumer: {topics: [b, a]}, producer: {result_topic: out}}
processor: {watermark: {max_future_skew: off}, error_handling: {policy: fail}}
pipelines:
  - timestamp: {record: true}
    key: []
    values: {}
    windows: [{name: w, type: sliding, size: 1m, slide: 90s, offset: -1s, allow_gaps: true}]
`
	var b strings.Builder
	operators := `
kafka: {consumer: {topics: [in]}, producer: {result_topic: out}}
pipelines:
  - where: metric == "latency_ms"
    map: {model: lower(model), cost: tokens * 0.002}
    key: [service, {m: model}, "floor(tokens / 100)"]
    values: {cost: cost}
`
	rows := `
kafka: {consumer: {topics: [in]}, producer: {result_topic: out}}
pipelines:
  - input: {format: csv, columns: [time, service, latency], delimiter: "\t"}
    timestamp: {field: time}
    key: [service]
    values: {latency: latency}
`
	text := `
kafka: {consumer: {topics: [in]}, producer: {result_topic: out}}
processor: {input: text}
`
	for _, text := range []string{string(user), Example(), rest, operators, rows, text} {
		p := pipelineOf(t, text)
		b.Write(p.canonical())
		b.WriteString(p.Group() + "\n\n")
	}
	golden(t, "testdata/fingerprint.golden", b.String())
}

func TestFingerprintCoversWhatChangesResultsAndNothingElse(t *testing.T) {
	base := pipelineOf(t, Example())
	f := func(name string, differs bool, change func(p *Pipeline)) {
		t.Helper()
		p := pipelineOf(t, Example())
		change(&p)
		if got := p.Fingerprint() != base.Fingerprint(); got != differs {
			t.Errorf("%s: differs is %t, want %t", name, got, differs)
		}
	}
	f("topics", true, func(p *Pipeline) { p.Topics = append(p.Topics, "more") })
	f("rows", true, func(p *Pipeline) { p.Input = CSV("timestamp", "service", "model", "value", "tokens") })
	f("text", true, func(p *Pipeline) { p.Input = Text() })
	f("schema registry", true, func(p *Pipeline) { p.Input = JSONRegistry() })
	f("JSON", false, func(p *Pipeline) { p.Input = JSON() })
	f("timestamp field", true, func(p *Pipeline) { p.Timestamp.Field = "ts" })
	f("timestamp unit", true, func(p *Pipeline) { p.Timestamp.Unit = UnitSeconds })
	f("timestamp fallback", true, func(p *Pipeline) { p.Timestamp.Record = true })
	f("key", true, func(p *Pipeline) { p.Key.Fields = []string{"model", "service"} })
	f("record key", true, func(p *Pipeline) { p.Key = Key{RecordKey: true} })
	f("global key", true, func(p *Pipeline) { p.Key = Key{} })
	f("key name", true, func(p *Pipeline) { p.Key.Names = []string{"", "m"} })
	f("where", true, func(p *Pipeline) { p.Where = "a" })
	f("derived field", true, func(p *Pipeline) { p.Map = []Derived{{"a", "b"}} })
	f("value name", true, func(p *Pipeline) { p.Values[0].Name = "l" })
	f("value path", true, func(p *Pipeline) { p.Values[0].Path = "v" })
	f("window name", true, func(p *Pipeline) { p.Windows[0].Name = "minute" })
	f("window kind", true, func(p *Pipeline) { p.Windows[0].Kind = window.KindSliding })
	f("window size", true, func(p *Pipeline) { p.Windows[0].Size++ })
	f("window slide", true, func(p *Pipeline) { p.Windows[1].Slide++ })
	f("window offset", true, func(p *Pipeline) { p.Windows[0].Offset-- })
	f("window gap", true, func(p *Pipeline) { p.Windows[2].Gap++ })
	f("window lateness", true, func(p *Pipeline) { p.Windows[0].Lateness = 0 })
	f("window allow_gaps", true, func(p *Pipeline) { p.Windows[1].AllowGaps = true })
	f("window step", true, func(p *Pipeline) { p.Windows[0].Step = 1 })
	f("longest session", true, func(p *Pipeline) { p.Windows[2].Max = 1 })
	f("window gap field", true, func(p *Pipeline) { p.Windows[2].GapField = "g" })
	f("early panes", true, func(p *Pipeline) { p.Trigger.EarlyEvery = 1 })
	f("panes by count", true, func(p *Pipeline) { p.Trigger.Count = 1 })
	f("only changes", true, func(p *Pipeline) { p.Trigger.OnChange = true })
	f("only final panes", true, func(p *Pipeline) { p.Trigger.FinalOnly = true })
	f("accumulation", true, func(p *Pipeline) { p.Accumulation = Discarding })
	f("default accumulation", false, func(p *Pipeline) { p.Accumulation = "" })
	f("aggregates", true, func(p *Pipeline) { p.Aggregates[0].Functions = p.Aggregates[0].Functions[1:] })
	f("future skew", true, func(p *Pipeline) { p.Watermark.MaxFutureSkew = -1 })
	f("policy skip", true, func(p *Pipeline) { p.Policy = PolicySkip })
	f("policy fail", true, func(p *Pipeline) { p.Policy = PolicyFail })
	f("shards", true, func(p *Pipeline) { p.Shards = 2 })

	f("order of topics", false, func(p *Pipeline) { p.Topics = []string{p.Topics[0]} })
	f("policy dead_letter", false, func(p *Pipeline) { p.Policy = PolicyDeadLetter })
	f("names", false, func(p *Pipeline) { p.App, p.Name = "x", "y" })
	f("topics written to", false, func(p *Pipeline) { p.SinkTopic, p.LateTopic, p.DeadLetterTopic = "x", "y", "z" })
	f("watermark", false, func(p *Pipeline) {
		p.Watermark = Watermark{Periodic: true, MaxOutOfOrder: 1, EmitInterval: 2, AllIdle: AllIdleMax, MaxFutureSkew: p.Watermark.MaxFutureSkew}
	})
}

func TestFingerprintKnowsNoOrderWhereTheSpecHasNone(t *testing.T) {
	const text = `
kafka: {consumer: {topics: [TOPICS]}, producer: {result_topic: out}}
pipelines: [{values: {VALUES}, aggregates: {AGGREGATES}}]
`
	a := pipelineOf(t, strings.NewReplacer("TOPICS", "b, a", "VALUES", "x: p, y: q", "AGGREGATES", "x: [sum], y: [max]").Replace(text))
	b := pipelineOf(t, strings.NewReplacer("TOPICS", "a, b", "VALUES", "y: q, x: p", "AGGREGATES", "y: [max], x: [sum]").Replace(text))
	if a.Fingerprint() != b.Fingerprint() {
		t.Errorf("%s\n%s", a.canonical(), b.canonical())
	}
}

func TestFingerprintCoversColumnsAndDelimiter(t *testing.T) {
	base := pipelineOf(t, Example())
	base.Input = CSV("a", "b", "c")
	f := func(name string, differs bool, input event.Format) {
		t.Helper()
		p := pipelineOf(t, Example())
		p.Input = input
		if got := p.Fingerprint() != base.Fingerprint(); got != differs {
			t.Errorf("%s: differs is %t, want %t", name, got, differs)
		}
	}
	f("order of columns", true, CSV("a", "c", "b"))
	f("name of a column", true, CSV("a", "b", "d"))
	f("delimiter", true, event.Format{Kind: event.FormatCSV, Columns: []string{"a", "b", "c"}, Delimiter: ';'})
	f("comma that is not said", false, event.Format{Kind: event.FormatCSV, Columns: []string{"a", "b", "c"}})
}

// Quoting and counts keep parts from running into each other.
func TestFingerprintTellsSplitNamesApart(t *testing.T) {
	a, b := pipelineOf(t, Example()), pipelineOf(t, Example())
	a.Key.Fields, b.Key.Fields = []string{"x y"}, []string{"x", "y"}
	if a.Fingerprint() == b.Fingerprint() {
		t.Error("one field and two have one fingerprint")
	}
	a.Key.Fields, b.Key.Fields = []string{`x" "y`}, []string{"x", "y"}
	if a.Fingerprint() == b.Fingerprint() {
		t.Error("a quote in a name ends it")
	}
}

func TestGroupOfAShard(t *testing.T) {
	p := pipelineOf(t, Example())
	if got, want := p.GroupOf(0), "tidemark.llm-metrics.model-latency."+p.Fingerprint(); got != want || p.Group() != want || p.TransactionalIDOf(0) != want {
		t.Errorf("one shard: got %q and %q, want %q", got, p.Group(), want)
	}
	p.Shards = 3
	if got, want := p.GroupOf(2), "tidemark.llm-metrics.model-latency."+p.Fingerprint()+".2"; got != want || p.TransactionalIDOf(2) != want {
		t.Errorf("three shards: got %q, want %q", got, want)
	}
	if p.TransactionalID() != p.Group() {
		t.Error("transactional id and group differ")
	}
}
