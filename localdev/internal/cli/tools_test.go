package cli_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/cli"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/jsonl"
)

func TestGenerateIsDeterminedByItsFlags(t *testing.T) {
	args := []string{"generate", "--count", "500", "--keys", "9", "--late", "0.1", "--seed", "4", "--step", "20ms", "--start", "2025-03-01T12:00:00Z"}
	first := ok(t, args...)
	if d := cmp.Diff(first.out, ok(t, args...).out); d != "" {
		t.Errorf("(-first +second)\n%s", d)
	}
	if ok(t, append(args, "--seed", "5")...).out == first.out {
		t.Error("another seed gives the same records")
	}
	r := jsonl.NewReader(strings.NewReader(first.out), "out")
	keys, parts := map[string]int32{}, map[int32]bool{}
	for i := range 500 {
		l, err := r.Next("")
		if err != nil {
			t.Fatal(err)
		}
		if want := int64(1740830400000 + 20*i); int64(l.Timestamp) != want || l.HasOffset || l.Topic != "llm-metrics" {
			t.Fatalf("line %d: %+v, want timestamp %d", l.Number, l, want)
		}
		if p, ok := keys[string(l.Key)]; ok && p != l.TopicPartition.Partition {
			t.Errorf("key %s is in partitions %d and %d", l.Key, p, l.TopicPartition.Partition)
		}
		keys[string(l.Key)], parts[l.TopicPartition.Partition] = l.TopicPartition.Partition, true
	}
	if len(keys) != 9 || len(parts) != 4 || !strings.Contains(first.err, "500 records") {
		t.Errorf("%d keys in %d partitions; stderr %q", len(keys), len(parts), first.err)
	}
}

func TestGenerateWritesToBrokers(t *testing.T) {
	brokers, client := fakeKafka(t)
	if a := tidemark(t, "generate", "--brokers", brokers); a.code != 1 || !strings.Contains(a.err, "llm-metrics") {
		t.Errorf("without the topic: %s", a)
	}
	if err := client.CreateTopic(t.Context(), "llm-metrics", 4, -1, nil); err != nil {
		t.Fatal(err)
	}
	a := ok(t, "generate", "--brokers", brokers, "--count", "2500", "--json")
	if got := objects(t, a.err); len(got) != 1 || got[0]["records"] != 2500.0 || a.out != "" {
		t.Errorf("%s", a)
	}
	records := readAll(t, client, "llm-metrics")
	for _, r := range records {
		if r.Partition != kafkaio.KeyPartition(r.Key, 4) {
			t.Fatalf("key %s is in partition %d, want %d: the same as in a file", r.Key, r.Partition, kafkaio.KeyPartition(r.Key, 4))
		}
	}
	if len(records) != 2500 {
		t.Errorf("%d records, want 2500", len(records))
	}
}

func TestValidateAsJSON(t *testing.T) {
	wrong := write(t, "wrong.yaml", "app: x\nprocessor:\n  parallelism: none\npipelines:\n  - {name: p, topics: [in], windoes: []}\n")
	a := tidemark(t, "validate", "--config", wrong, "--json")
	got := objects(t, a.out)
	if a.code != cli.ExitUsage || len(got) != 1 || got[0]["ok"] != false {
		t.Fatalf("%s", a)
	}
	problems, _ := got[0]["problems"].([]any)
	var lines []any
	for _, p := range problems {
		m, _ := p.(map[string]any)
		lines = append(lines, m["line"])
		if m["file"] != wrong || m["message"] == "" || m["path"] == "" {
			t.Errorf("problem %v", m)
		}
	}
	if !slices.Contains(lines, any(3.0)) || !slices.Contains(lines, any(5.0)) {
		t.Errorf("problems on lines %v, want 3 and 5", lines)
	}
	got = objects(t, ok(t, "validate", "--config", processorConfig, "--json").out)
	pipelines, _ := got[0]["pipelines"].([]any)
	if got[0]["ok"] != true || len(pipelines) != 1 || got[0]["trigger_group"] != "llm-optimizer-processor" || got[0]["state"] != "bolt in /var/lib/optimizer/state" {
		t.Fatalf("got %v", got)
	}
	p, _ := pipelines[0].(map[string]any)
	for name, want := range map[string]any{
		"name": "default", "key": "the record's own", "windows": []any{"tumbling: tumbling 5m0s, lateness 1m0s"}, "result_topic": "aggregated-metrics",
		"late_topic": "aggregated-metrics-late", "dead_letter_topic": "processor-dead-letter",
		"watermark": "30s behind the largest time; a partition is idle after 1m0s, all idle: advance",
	} {
		if d := cmp.Diff(want, p[name]); d != "" {
			t.Errorf("%s (-want +got)\n%s", name, d)
		}
	}
}

func TestValidateDescribesEveryKindOfWindow(t *testing.T) {
	config, app := manySpec(t, "memory", "unused")
	a := ok(t, "validate", "--config", config)
	for _, want := range []string{
		"tumbling: tumbling 2s, offset 300ms, lateness 1s", "sliding: sliding 5s every 2s, lateness 0s", "session: session until 60ms apart, lateness 500ms",
		app.Pipelines[0].Fingerprint(), app.Pipelines[0].Group(), "v: count, sum",
	} {
		if !strings.Contains(a.out, want) {
			t.Errorf("no %q in\n%s", want, a.out)
		}
	}
}

func TestValidateSaysHowRecordsAreWritten(t *testing.T) {
	config := write(t, "spec.yaml", `
processor: {input: {format: csv, columns: [time, value], delimiter: "\t"}}
kafka: {consumer: {topics: [in]}, producer: {result_topic: out}}
pipelines: [{name: a}, {name: b, input: text}, {name: c, input: json_registry}, {name: d, input: json}]
`)
	a := ok(t, "validate", "--config", config)
	for _, want := range []string{`  input            csv: time, value; between them '\t'`, "  input            text", "  input            json_registry"} {
		if !strings.Contains(a.out, want) {
			t.Errorf("no %q in\n%s", want, a.out)
		}
	}
	if n := strings.Count(a.out, "  input "); n != 3 {
		t.Errorf("%d pipelines have an input, want 3: JSON is not said\n%s", n, a.out)
	}
	a = tidemark(t, "validate", "--config", write(t, "wrong.yaml", `
kafka: {consumer: {topics: [in]}, producer: {result_topic: out}}
pipelines:
  - name: a
    input: {format: csv, columns: [time, latency]}
    values: {ms: latancy}
`))
	if want := `wrong.yaml:6: pipelines[0].values.ms: is not a column of the input, got latancy (did you mean latency?)`; a.code != cli.ExitUsage || !strings.Contains(a.err, want) {
		t.Errorf("want %s\n%s", want, a)
	}
}

// What the program prints of its own is a spec.
func TestPrintedSpecsAreValid(t *testing.T) {
	for _, args := range [][]string{{"run", "--print-config"}, {"validate", "--example"}} {
		text := ok(t, args...).out
		if _, err := spec.Load([]byte(text), "printed.yaml"); err != nil {
			t.Errorf("%v: %v", args, err)
		}
	}
	if schema := ok(t, "validate", "--schema").out; !json.Valid([]byte(schema)) {
		t.Errorf("no JSON: %.200s", schema)
	}
}

// The output of a run may be the input of another, but for its topic: the same shape.
// whereSpec has two pipelines; where holds back every sample record of the first.
const whereSpec = `
app: wheres
processor: {state: {backend: memory}, windows: {tumbling: {size: 1s}}}
kafka: {consumer: {topics: [in]}}
pipelines:
  - {name: a, where: 'state == "on"', map: {kilowatt: watt / 1000}, timestamp: {field: at, unit: s}, values: {kw: kilowatt}, sink: {topic: out-a}}
  - {name: b, input: text, sink: {topic: out-b}}
`

func TestValidateSaysWhatIsReadOfARecord(t *testing.T) {
	a := ok(t, "validate", "--config", write(t, "spec.yaml", whereSpec))
	for _, want := range []string{
		"  timestamp        at, a number in s or RFC 3339\n  where            state == \"on\"\n  map              kilowatt = watt / 1000\n",
		"  value            kw from kilowatt\n", "  timestamp        the record's own\n",
	} {
		if !strings.Contains(a.out, want) {
			t.Errorf("no %q in\n%s", want, a.out)
		}
	}
	if n := strings.Count(a.out, "  value  "); n != 1 {
		t.Errorf("%d values are described, want 1: the other has the name of its field\n%s", n, a.out)
	}
}

func TestWhoeverHasGoneIsToldNothing(t *testing.T) {
	config := write(t, "spec.yaml", whereSpec)
	for _, args := range [][]string{{"validate", "--config", config}, {"validate", "--reference"}, {"generate", "--config", config, "--count", "1000"}} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		_ = r.Close()
		var errs bytes.Buffer
		cmd := exec.CommandContext(t.Context(), binary, args...)
		cmd.Stdout, cmd.Stderr = w, &errs
		err = cmd.Run()
		_ = w.Close()
		if errs.Len() > 0 || err == nil || cmd.ProcessState.ExitCode() != cli.ExitFailed {
			t.Errorf("tidemark %s into a closed pipe: %v\n%s", strings.Join(args, " "), err, errs.Bytes())
		}
	}
}

func TestASummarySaysWhatWhereHeldBack(t *testing.T) {
	config := write(t, "spec.yaml", whereSpec)
	input := write(t, "in.jsonl", `{"timestamp":1000,"value":{"at":1,"state":"off","watt":5}}`+"\n"+`{"timestamp":2000,"value":{"at":2,"state":"off","watt":5}}`+"\n")
	const all = "a: all 2 records were filtered by where: state == \"on\"\n"
	a := ok(t, "replay", "--config", config, "--input", input)
	if !strings.HasPrefix(a.err, all+"2 records in 1 batches: 0 results, 0 late, 2 dead letters, 2 filtered, ") || !strings.Contains(a.err, "; watermark a 1969-12-31T23:59:32Z, b -inf\n") {
		t.Errorf("replay: %s", a)
	}
	sum := objects(t, ok(t, "replay", "--config", config, "--input", input, "--json").err)[0]
	if p, _ := sum["pipelines"].([]any); sum["filtered"] != 2.0 || len(p) != 2 {
		t.Errorf("replay --json: %v", sum)
	}
	a = ok(t, "run", "--config", config, "--input", input, "--until-idle", "--listen", "off")
	if !strings.Contains(a.out, all) || !strings.Contains(a.out, "2 dead letters, 2 filtered, ") || strings.Contains(a.err, "sample records") {
		t.Errorf("run: %s", a)
	}
	lines := objects(t, ok(t, "run", "--config", config, "--input", input, "--until-idle", "--listen", "off", "--json").out)
	if got := lines[len(lines)-1]; got["filtered"] != 2.0 {
		t.Errorf("run --json: %v", got)
	}
	a = ok(t, "run", "--config", config, "--count", "10", "--until-idle", "--listen", "off")
	if !strings.Contains(a.err, "where of a: sample records are made without regard to it") {
		t.Errorf("run: %s", a)
	}
}

func TestOutputOfReplayIsInput(t *testing.T) {
	config := write(t, "spec.yaml", smallSpec)
	again := write(t, "again.yaml", strings.NewReplacer("[in]", "[out]", "sink: {topic: out}", "sink: {topic: second}", "{v: v}", "{v: results.count}", "    values", "    timestamp: {field: window.end_ms, unit: ms}\n    values").Replace(smallSpec))
	events := filepath.Join(t.TempDir(), "events.jsonl")
	results := filepath.Join(t.TempDir(), "results.jsonl")
	ok(t, "generate", "--config", config, "--count", "1000", "--late", "0", "--disorder", "0s", "--output", events)
	ok(t, "replay", "--config", config, "--input", events, "--output", results)
	a := ok(t, "replay", "--config", again, "--input", results, "--json")
	sum := 0.0
	for _, o := range objects(t, a.out) {
		v, _ := o["value"].(map[string]any)
		r, _ := v["results"].(map[string]any)
		n, _ := r["sum"].(float64)
		sum += n
	}
	if sum != 1000 {
		t.Errorf("the counts of all windows add up to %v, want 1000", sum)
	}
	if got := objects(t, a.err); len(got) != 1 || got[0]["type"] != "summary" || got[0]["dead_letters"] != 0.0 {
		t.Errorf("summary %v", got)
	}
}
