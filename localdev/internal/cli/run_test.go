package cli_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/cli"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/jsonl"
	"github.com/llm-auto-optimizer/tidemark/tests/oracle"
	"github.com/llm-auto-optimizer/tidemark/tests/output"
	"github.com/llm-auto-optimizer/tidemark/tests/rig"
	"github.com/llm-auto-optimizer/tidemark/tests/seed"
)

// manySpec has all kinds of windows; backend and path are where the state is with --brokers.
func manySpec(t *testing.T, backend, path string) (string, *spec.App) {
	t.Helper()
	text := fmt.Sprintf(`app: many
processor:
  state: {backend: %s, path: %s}
  watermark: {max_out_of_orderness: 500ms, emit_interval_ms: 20, idle_timeout: 1h}
  kafka: {consumer: {max_poll_records: 50}}
pipelines:
  - name: p
    topics: [in]
    timestamp: {field: t, unit: ms}
    values: {v: v}
    windows:
      - {name: tumbling, type: tumbling, size: 2s, offset: 300ms, allowed_lateness: 1s}
      - {name: sliding, type: sliding, size: 5s, slide: 2s, allowed_lateness: 0s}
      - {name: session, type: session, gap: 60ms, allowed_lateness: 500ms}
    aggregates: {v: [count, sum, average, min, max, stddev, p50, p95, p99]}
    sink: {topic: out}
`, backend, path)
	app, err := spec.Load([]byte(text), "spec.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return write(t, "spec.yaml", text), app
}

// disordered makes events of 30 s over four partitions, out of order and some late by much, as oracle events and as a file.
func disordered(t *testing.T, n int) ([]oracle.Event, string) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed.Of(t), 1))
	var lines []byte
	events := make([]oracle.Event, n)
	next := map[int32]int64{}
	for i := range events {
		at := event.Time(1_700_000_000_000 + i*30_000/n - r.IntN(400))
		if r.IntN(30) == 0 {
			at -= event.Time(r.IntN(15_000))
		}
		p := int32(r.IntN(4))
		events[i] = oracle.Event{
			TopicPartition: event.TopicPartition{Topic: "in", Partition: p}, Offset: next[p], Time: at, Key: string(rune('a' + r.IntN(5))), Value: float64(r.IntN(1000)) / 8,
		}
		next[p]++
		rec := event.Record{Offset: -1, Timestamp: at, Key: []byte(events[i].Key), Value: fmt.Appendf(nil, `{"t":%d,"v":%v}`, at, events[i].Value)}
		lines = jsonl.Append(lines, events[i].TopicPartition, &rec)
	}
	return events, write(t, "events.jsonl", string(lines))
}

// fakeKafka is a broker of the test, which outlives the runs.
func fakeKafka(t *testing.T) (string, *kafkaio.Client) {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	client, err := kafkaio.Open(t.Context(), kafkaio.Options{Brokers: cluster.ListenAddrs()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return strings.Join(cluster.ListenAddrs(), ","), client
}

func readAll(t *testing.T, client *kafkaio.Client, topic string) []kafkaio.PublishedRecord {
	t.Helper()
	out, err := client.ReadAll(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// What a run over a broker publishes is what a plain batch computation says, which takes from the ledger under which watermark
// each record was judged. Two runs: the second goes on where the first has closed everything, so that much of it is late.
func TestRunUntilIdleEqualsABatchComputation(t *testing.T) {
	config, app := manySpec(t, "bolt", "unused")
	brokers, client := fakeKafka(t)
	state := filepath.Join(t.TempDir(), "state")
	events, file := disordered(t, 4000)
	args := []string{"run", "--config", config, "--brokers", brokers, "--state-dir", state, "--until-idle", "--listen", "off", "--tick", "10ms"}
	first := ok(t, append(args, "--create-topics", "--input", file)...)
	if !strings.Contains(first.out, "p: closed everything at W=2023-11-14T") || !strings.Contains(first.out, "4000 records in") {
		t.Errorf("%s", first)
	}
	second := ok(t, append(args, "--input", file)...)
	for _, e := range slices.Clone(events) {
		e.Offset += counts(events)[e.Partition]
		events = append(events, e)
	}
	plans, err := oracle.ParseLedger(readAll(t, client, spec.LedgerTopic))
	if err != nil {
		t.Fatal(err)
	}
	if unbalanced := oracle.Unbalanced(plans); unbalanced != "" {
		t.Error(unbalanced)
	}
	fence := func(e oracle.Event) event.Time { return oracle.Fence(plans, e.TopicPartition, e.Offset) }
	panes, late := oracle.Compute(app.Pipelines[0].Windows, events, fence)
	results, err := rig.ParseResults(readAll(t, client, "out"))
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range oracle.Problems(panes, results, true) {
		t.Error(problem)
	}
	side, err := rig.ParseSide(readAll(t, client, "out-late"))
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, e := range late {
		want = append(want, fmt.Sprintf("%s/%d@%d late", e.Topic, e.Partition, e.Offset))
	}
	for _, s := range side {
		got = append(got, fmt.Sprintf("%s/%d@%d %s", s.Topic, s.Partition, s.Offset, s.Reason))
	}
	slices.Sort(want)
	slices.Sort(got)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("late records (-want +got)\n%s", d)
	}
	if len(late) < 1000 || len(panes) < 100 || len(readAll(t, client, "in")) != 8000 {
		t.Errorf("%d late records and %d panes say too little\n%s%s", len(late), len(panes), first, second)
	}
	if last := plans[len(plans)-1]; slices.ContainsFunc(last.Partitions, func(p oracle.PlanPartition) bool { return p.Open != 0 }) {
		t.Errorf("something is open after --until-idle: %+v", last)
	}
}

// counts returns the number of events by partition, of the first half of a list of events and their repetition.
func counts(events []oracle.Event) map[int32]int64 {
	n := map[int32]int64{}
	for _, e := range events[:4000] {
		n[e.Partition]++
	}
	return n
}

// resultsOf takes from JSON output what windows came to: the highest revision of each.
func resultsOf(t *testing.T, values []map[string]any) map[string]any {
	t.Helper()
	newest, out := map[string]float64{}, map[string]any{}
	for _, v := range values {
		w, isWindow := v["window"].(map[string]any)
		p, isPane := v["pane"].(map[string]any)
		if !isWindow || !isPane {
			t.Fatalf("no result: %v", v)
		}
		id := fmt.Sprint(w["name"], w["start"], w["end"], v["key"])
		if rev, _ := p["revision"].(float64); rev > newest[id] {
			newest[id], out[id] = rev, v["results"]
		}
	}
	return out
}

// The same file embedded and replayed comes to the same, where nothing is late; also with the memory of a broker's own.
func TestEmbeddedRunEqualsReplay(t *testing.T) {
	config := write(t, "spec.yaml", strings.Replace(smallSpec, "count, sum", "count, min, max, p50", 1))
	file := filepath.Join(t.TempDir(), "events.jsonl")
	ok(t, "generate", "--config", config, "--count", "5000", "--late", "0", "--disorder", "0s", "--keys", "7", "--partitions", "6", "--output", file)
	var replayed []map[string]any
	for _, o := range objects(t, ok(t, "replay", "--config", config, "--input", file).out) {
		v, isResult := o["value"].(map[string]any)
		if !isResult || o["topic"] != "out" {
			t.Fatalf("replay wrote %v", o)
		}
		replayed = append(replayed, v)
	}
	dir := t.TempDir()
	a := ok(t, "run", "--config", config, "--input", file, "--until-idle", "--json", "--listen", "off", "--state-dir", dir)
	empty(t, dir)
	var got []map[string]any
	var summary map[string]any
	for _, o := range objects(t, a.out) {
		switch o["type"] {
		case "result":
			v, _ := o["result"].(map[string]any)
			got = append(got, v)
		case "summary":
			summary = o
		}
	}
	want := resultsOf(t, replayed)
	if d := cmp.Diff(want, resultsOf(t, got)); d != "" || len(want) < 1000 {
		t.Errorf("%d windows (-replay +run)\n%s", len(want), d)
	}
	if summary["records"] != 5000.0 || summary["results"] != float64(len(got)) || summary["late"] != 0.0 || summary["lag"] != 0.0 || summary["closed"] == nil {
		t.Errorf("summary %v, and %d results", summary, len(got))
	}
}

// The user's own file, byte for byte.
func TestProcessorConfigRunsUnchanged(t *testing.T) {
	file := filepath.Join(t.TempDir(), "events.jsonl")
	ok(t, "generate", "--config", processorConfig, "--count", "20000", "--output", file)
	first := ok(t, "replay", "--config", processorConfig, "--input", file)
	if again := ok(t, "replay", "--config", processorConfig, "--input", file); again.out != first.out {
		t.Error("replay gives other bytes the second time")
	}
	lines := objects(t, first.out)
	topics := map[any]int{}
	for _, o := range lines {
		topics[o["topic"]]++
	}
	if topics["aggregated-metrics"] < 50 || topics["aggregated-metrics-late"] < 50 || len(topics) != 2 {
		t.Errorf("replay wrote %v", topics)
	}
	if a := ok(t, "run", "--config", processorConfig, "--input", file, "--until-idle", "--listen", "off"); !strings.Contains(a.out, "20000 records in") {
		t.Errorf("%s", a)
	}
	a := ok(t, "run", "--config", processorConfig, "--until-idle", "--count", "3000", "--listen", "off")
	if !strings.Contains(a.out, "default/tumbling") || !strings.Contains(a.out, "3000 records in") {
		t.Errorf("%s", a)
	}
}

func fetch(t *testing.T, url string) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func TestEmbeddedRunShowsItself(t *testing.T) {
	var out, errs output.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int, 1)
	go func() {
		done <- cli.Main(ctx, []string{"run", "--listen", "127.0.0.1:0", "--rate", "1000", "--tick", "100ms", "--speed", "10"}, cli.Streams{Out: &out, Err: &errs, Getenv: os.Getenv})
	}()
	errs.Await(t, "console: http")
	out.Await(t, "latency/10s")
	_, after, _ := strings.Cut(errs.String(), "console: ")
	url, _, _ := strings.Cut(after, "\n")
	var body []byte
	var s struct {
		Mode        string
		Records     int64
		Results     int64
		Pipelines   []struct{ Watermark, HeldBy string }
		Partitions  []struct{ End int64 }
		LastResults []json.RawMessage `json:"last_results"`
	}
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.After(20 * time.Second); len(s.Partitions) == 0; { // they are looked at once a second
		select {
		case <-poll.C:
		case <-deadline:
			t.Fatalf("no partitions in %s", body)
		}
		body = fetch(t, url+"/api/status")
		if err := json.Unmarshal(body, &s); err != nil {
			t.Fatal(err)
		}
	}
	if s.Mode != "embedded" || s.Records == 0 || s.Results == 0 || len(s.Pipelines) != 1 || s.Pipelines[0].Watermark == "-inf" || len(s.Partitions) != 4 || len(s.LastResults) == 0 {
		t.Errorf("got %s", body)
	}
	cancel()
	select {
	case code := <-done:
		if code != 0 || !strings.Contains(out.String(), "records in") {
			t.Errorf("exit code %d\n%s%s", code, out.String(), errs.String())
		}
	case <-time.After(20 * time.Second):
		t.Fatal("does not end")
	}
}

func TestTopicsThatAreMissingAreNamed(t *testing.T) {
	config, _ := manySpec(t, "memory", "unused")
	brokers, client := fakeKafka(t)
	a := tidemark(t, "run", "--config", config, "--brokers", brokers, "--for", "1s", "--listen", "off")
	if want := "topics do not exist: in, out, out-late, processor-dead-letter, tidemark-ledger, tidemark-panes; create them, or let --create-topics do it"; a.code != 1 || !strings.Contains(a.err, want) {
		t.Errorf("want %s\n%s", want, a)
	}
	if a := tidemark(t, "validate", "--config", config, "--brokers", brokers); a.code != 1 || !strings.Contains(a.err, "topic in; topic out; topic out-late") {
		t.Errorf("validate: %s", a)
	}
	ok(t, "run", "--config", config, "--brokers", brokers, "--create-topics", "--partitions", "3", "--for", "100ms", "--listen", "off")
	for topic, want := range map[string]int{"in": 3, "out": 3, "out-late": 1, "processor-dead-letter": 1, spec.LedgerTopic: 1} {
		parts, err := client.Partitions(t.Context(), []string{topic})
		if err != nil || len(parts) != want {
			t.Errorf("%s: %d partitions, %v; want %d", topic, len(parts), err, want)
		}
	}
	a = ok(t, "validate", "--config", config, "--brokers", brokers)
	if !strings.Contains(a.out, "topics and transactions are there") || !strings.Contains(a.out, "warning: replication, in, out") || !strings.Contains(a.out, "note: transactions") {
		t.Errorf("validate: %s", a)
	}
	looked := objects(t, ok(t, "validate", "--config", config, "--brokers", brokers, "--json").out)[0]
	if findings, _ := looked["preflight"].([]any); len(findings) != 2 || looked["delivery"] != "exactly once" || looked["missing"] != nil || looked["ok"] != true {
		t.Errorf("validate --json: %v", looked)
	}
	if n := len(readAll(t, client, "in")); n != 0 {
		t.Errorf("%d records were written into the source topic, want none without --rate or --input", n)
	}
}

func TestRateWritesToTheBrokers(t *testing.T) {
	config, _ := manySpec(t, "memory", "unused")
	brokers, client := fakeKafka(t)
	a := ok(t, "run", "--config", config, "--brokers", brokers, "--create-topics", "--rate", "400", "--for", "1s", "--until-idle", "--listen", "off", "--tick", "50ms")
	if n := len(readAll(t, client, "in")); n < 200 || n > 500 || !strings.Contains(a.out, fmt.Sprintf("%d records in", n)) {
		t.Errorf("%d records in the source topic, want about 400\n%s", n, a)
	}
}

func TestAStatePathThatCannotBeWrittenNamesTheFlag(t *testing.T) {
	file := write(t, "file", "")
	config, _ := manySpec(t, "bolt", file+"/state")
	brokers, _ := fakeKafka(t)
	a := tidemark(t, "run", "--config", config, "--brokers", brokers, "--create-topics", "--for", "1s", "--listen", "off")
	if a.code != 1 || !strings.Contains(a.err, "--state-dir") {
		t.Errorf("%s", a)
	}
	ok(t, "run", "--config", config, "--brokers", brokers, "--create-topics", "--for", "100ms", "--listen", "off", "--state-dir", filepath.Join(t.TempDir(), "state"))
}

// Records of an input find their partition: the one they name, else that of their key.
func TestInputKeepsPartitions(t *testing.T) {
	config := write(t, "spec.yaml", strings.Replace(smallSpec, "processor:", "processor:\n  state: {backend: memory}", 1))
	brokers, client := fakeKafka(t)
	file := write(t, "events.jsonl", `{"topic":"in","partition":2,"offset":77,"key":"k","timestamp":1000,"headers":[{"key":"h","value":"v"}],"value":{"timestamp":1000,"v":1}}
{"fire":true}
{"partition":3,"timestamp":1000,"value":null}
{"key":"k","value":"text"}
`)
	ok(t, "run", "--config", config, "--brokers", brokers, "--create-topics", "--input", file, "--until-idle", "--listen", "off")
	got := map[string]string{}
	for _, r := range readAll(t, client, "in") {
		got[string(r.Value)] = fmt.Sprintf("%d@%d %s", r.Partition, r.Offset, r.Key)
	}
	byKey := kafkaio.KeyPartition([]byte("k"), 4)
	at := 0
	if byKey == 2 {
		at = 1
	}
	if d := cmp.Diff(map[string]string{`{"timestamp":1000,"v":1}`: "2@0 k", "": "3@0 ", "text": fmt.Sprintf("%d@%d k", byKey, at)}, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	wide := write(t, "wide.jsonl", `{"topic":"in","partition":9,"timestamp":1000,"value":1}`+"\n")
	if a := tidemark(t, "run", "--config", config, "--brokers", brokers, "--input", wide, "--listen", "off"); a.code != 1 || !strings.Contains(a.err, "wide.jsonl:1: partition 9, but in has 4") {
		t.Errorf("%s", a)
	}
	// Embedded, the topic is as wide as the file needs.
	if a := ok(t, "run", "--config", config, "--input", wide, "--until-idle", "--listen", "off"); !strings.Contains(a.out, "1 dead letters") {
		t.Errorf("%s", a)
	}
}
