package replay_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/jsonl"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/replay"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/sample"
	"github.com/llm-auto-optimizer/tidemark/statestore/boltstore"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func load(t *testing.T, name string) *spec.App {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	app, err := spec.Load(data, name)
	if err != nil {
		t.Fatal(err)
	}
	return app
}

// run replays over a fresh state.
func run(t *testing.T, in string, o replay.Options) (string, replay.Summary, error) {
	t.Helper()
	store, err := boltstore.Open(t.TempDir(), boltstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	o.Store, o.Logger = store, slog.New(slog.DiscardHandler)
	var out bytes.Buffer
	sum, err := replay.Run(t.Context(), strings.NewReader(in), "in.jsonl", &out, o)
	return out.String(), sum, err
}

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// The goldens are outputs line by line. Read the diff: whatever changes here, changes for those who read the topics.
func TestGoldens(t *testing.T) {
	for _, c := range []struct {
		name, spec, input string
		batch             int
		noFlush, ledger   bool
		want              error
	}{
		{name: "tumbling", spec: "tumbling", batch: 1},
		{name: "tumbling-one-batch", spec: "tumbling", batch: 500},
		{name: "sliding", spec: "sliding", batch: 1},
		{name: "session", spec: "session", batch: 1},
		{name: "fire-lines", spec: "fire", batch: 0},
		{name: "fire-lines-not-flushed", spec: "fire", batch: 0, noFlush: true, ledger: true},
		{name: "offsets", spec: "offsets", batch: 2, ledger: true},
		{name: "operators", spec: "operators", batch: 1, ledger: true},
		{name: "bad", spec: "bad", input: "bad", batch: 500, ledger: true},
		{name: "bad-skip", spec: "bad-skip", input: "bad", batch: 500, ledger: true},
		{name: "bad-fail", spec: "bad-fail", input: "bad", batch: 500, ledger: true, want: replay.ErrNotApplied},
	} {
		t.Run(c.name, func(t *testing.T) {
			input := cmp.Or(c.input, c.spec)
			app := load(t, filepath.Join("testdata", c.spec+".yaml"))
			got, sum, err := run(t, read(t, filepath.Join("testdata", input+".jsonl")), replay.Options{
				App: app, BatchSize: c.batch, Flush: !c.noFlush, Ledger: c.ledger,
			})
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			got += fmt.Sprintf("# %d records, %d batches, %d plans, %d results, %d late, %d dead letters, W %s\n",
				sum.Records, sum.Batches, sum.Plans, sum.Results, sum.Late, sum.DeadLetters, sum.Watermark)
			if err != nil {
				got += "# " + strings.ReplaceAll(err.Error(), "\n", "\n# ") + "\n"
			}
			golden := filepath.Join("testdata", c.name+".golden")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if d := gocmp.Diff(read(t, golden), got); d != "" {
				t.Errorf("(-golden +got)\n%s", d)
			}
		})
	}
}

// generated makes lines that a spec can read.
func generated(t *testing.T, app *spec.App, n int, late float64) string {
	t.Helper()
	bound := app.Pipelines[0].Watermark.MaxOutOfOrder
	g := sample.New(app, sample.Options{Seed: 7, Keys: 5, Disorder: bound.Duration(), Late: late, Start: 1_700_000_000_000, Step: 500})
	var b []byte
	for i := range n {
		m, err := g.Next()
		if err != nil {
			t.Fatal(err)
		}
		r := event.Record{Offset: -1, Timestamp: m.Timestamp, Key: m.Key, Value: m.Value}
		b = jsonl.Append(b, event.TopicPartition{Topic: m.Topic, Partition: int32(i % 3)}, &r)
	}
	return string(b)
}

func TestTheSameInputGivesTheSameBytes(t *testing.T) {
	for _, name := range []string{"tumbling", "sliding", "session"} {
		t.Run(name, func(t *testing.T) {
			app := load(t, filepath.Join("testdata", name+".yaml"))
			in := generated(t, app, 1500, .05)
			first, sum, err := run(t, in, replay.Options{App: app, BatchSize: 100, Flush: true, Ledger: true})
			if err != nil {
				t.Fatal(err)
			}
			if sum.Records != 1500 || sum.Results < 50 || sum.Late < 5 {
				t.Errorf("the input shows too little: %+v", sum)
			}
			for range 2 {
				again, _, err := run(t, in, replay.Options{App: app, BatchSize: 100, Flush: true, Ledger: true})
				if err != nil {
					t.Fatal(err)
				}
				if d := gocmp.Diff(first, again); d != "" {
					t.Fatalf("(-first +again)\n%s", d)
				}
			}
		})
	}
}

// final returns the results of the newest panes, by window and key. Sessions that a later pane contains are left out: a merge
// replaced them.
func final(t *testing.T, out string) map[string]string {
	t.Helper()
	type pane struct {
		Window struct {
			Name, Type string
			StartMS    int64 `json:"start_ms"`
			EndMS      int64 `json:"end_ms"`
		}
		Key     string
		Pane    struct{ Revision int64 }
		Results json.RawMessage
	}
	var all []pane
	for line := range strings.Lines(out) {
		var l struct {
			Topic string
			Value json.RawMessage
		}
		var p pane
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		if l.Topic != "results" {
			continue
		}
		if err := json.Unmarshal(l.Value, &p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	newest := map[string]string{}
	for _, p := range all {
		replaced := slices.ContainsFunc(all, func(q pane) bool {
			same := q.Window.Name == p.Window.Name && q.Key == p.Key && q.Pane.Revision > p.Pane.Revision
			return same && (q.Window.StartMS == p.Window.StartMS && q.Window.EndMS == p.Window.EndMS ||
				p.Window.Type == "session" && q.Window.StartMS <= p.Window.StartMS && p.Window.EndMS <= q.Window.EndMS)
		})
		if !replaced {
			newest[fmt.Sprintf("%s|%d|%d|%s", p.Window.Name, p.Window.StartMS, p.Window.EndMS, p.Key)] = string(p.Results)
		}
	}
	return newest
}

// Records that are no later than the spec's bound are late in no batch, so that the batch size does not show in what the
// windows came to. (Sums are of values with two decimals: their order may show in the last digit, so counts are compared.)
func TestFinalResultsDoNotDependOnTheBatchSize(t *testing.T) {
	for _, name := range []string{"tumbling", "sliding", "session"} {
		t.Run(name, func(t *testing.T) {
			app := load(t, filepath.Join("testdata", name+".yaml"))
			for i := range app.Pipelines[0].Aggregates {
				app.Pipelines[0].Aggregates[i].Functions = []string{"count", "min", "max", "p50"}
			}
			in := generated(t, app, 500, 0)
			var want map[string]string
			for _, batch := range []int{1, 7, 500, 0} {
				out, sum, err := run(t, in, replay.Options{App: app, BatchSize: batch, Flush: true})
				if err != nil {
					t.Fatal(err)
				}
				if sum.Late != 0 {
					t.Fatalf("batch size %d: %d late records, want none", batch, sum.Late)
				}
				got := final(t, out)
				if want == nil {
					want = got
				}
				if d := gocmp.Diff(want, got); d != "" || len(got) < 10 {
					t.Errorf("batch size %d, %d windows (-batch size 1 +got)\n%s", batch, len(got), d)
				}
			}
		})
	}
}

// Every line delivered again, later, and in the same batch, changes nothing.
func TestRedeliveryChangesNothing(t *testing.T) {
	app := load(t, filepath.Join("testdata", "tumbling.yaml"))
	lines := strings.SplitAfter(strings.TrimSpace(generated(t, app, 400, .02))+"\n", "\n")
	lines = lines[:len(lines)-1]
	next := map[string]int{}
	for i, l := range lines { // name the offsets, which otherwise would be new ones
		partition := l[strings.Index(l, `"partition":`):][:len(`"partition":0`)]
		lines[i] = strings.Replace(l, partition, fmt.Sprintf(`%s,"offset":%d`, partition, next[partition]), 1)
		next[partition]++
	}
	var twice []string
	for at := 0; at < len(lines); at += 50 {
		part := lines[at:min(at+50, len(lines))]
		again := lines[max(0, at-30):at] // of the batches before
		twice = append(twice, again...)
		twice = append(twice, part...)
		twice = append(twice, part[:10]...) // of the same batch
		twice = append(twice, `{"fire":true}`+"\n")
	}
	var once []string
	for part := range slices.Chunk(lines, 50) {
		once = append(append(once, part...), `{"fire":true}`+"\n")
	}
	want, sum, err := run(t, strings.Join(once, ""), replay.Options{App: app, Flush: true, Ledger: true})
	if err != nil || sum.Results == 0 || sum.Late == 0 {
		t.Fatalf("%+v, %v", sum, err)
	}
	got, _, err := run(t, strings.Join(twice, ""), replay.Options{App: app, Flush: true, Ledger: true})
	if err != nil {
		t.Fatal(err)
	}
	if d := gocmp.Diff(want, got); d != "" {
		t.Errorf("(-once +twice)\n%s", d)
	}
}

func TestInputThatMakesNoSense(t *testing.T) {
	app := load(t, filepath.Join("testdata", "tumbling.yaml"))
	for in, want := range map[string]string{
		`{"topic":"other","timestamp":1,"value":1}`: `in.jsonl:1: topic "other": no pipeline of the spec reads it; topics are ["calls"]`,
		`{"value":1}`: `in.jsonl:1: timestamp is missing`,
		"{\"offset\":5,\"timestamp\":1}\n{\"offset\":2,\"timestamp\":1}":           "in.jsonl:2: offset 2: an earlier line has a larger one",
		"{\"offset\":5,\"timestamp\":1}\n{\"topic\":\"calls\",\"timestamp\":true}": "in.jsonl:2: json: cannot unmarshal",
	} {
		out, _, err := run(t, in, replay.Options{App: app, BatchSize: 500, Flush: true})
		if err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, replay.ErrInput) && !errors.Is(err, jsonl.ErrLine) {
			t.Errorf("%s: got %v, want %q", in, err, want)
		}
		if out != "" {
			t.Errorf("%s: output %s, want none", in, out)
		}
	}
}

func TestTimeGoesOnWhereALineHasNone(t *testing.T) {
	app := load(t, filepath.Join("testdata", "sliding.yaml"))
	in := `{"timestamp":1000,"value":{"load":1}}` + "\n" + `{"value":{"load":2}}`
	out, sum, err := run(t, in, replay.Options{App: app, BatchSize: 500, Flush: true})
	if err != nil || sum.DeadLetters != 0 || !strings.Contains(out, `"count":2`) {
		t.Errorf("%s%+v, %v; want both in one window", out, sum, err)
	}
}

// Under the policy fail the record is named, with its reason, and the other partitions were folded.
func TestPolicyFailNamesTheRecord(t *testing.T) {
	app := load(t, filepath.Join("testdata", "bad-fail.yaml"))
	in := strings.Join([]string{
		`{"partition":0,"timestamp":1000,"value":{"timestamp":1000,"service":"a","ms":1}}`,
		`{"partition":1,"timestamp":1000,"value":{"timestamp":1000,"service":"a","ms":1}}`,
		`{"partition":1,"timestamp":1000,"value":"no JSON"}`,
		`{"partition":1,"timestamp":1000,"value":{"timestamp":1000,"service":"a","ms":1}}`,
		`{"partition":0,"timestamp":2000,"value":{"timestamp":2000,"service":"a","ms":1}}`,
	}, "\n")
	_, _, err := run(t, in, replay.Options{App: app, BatchSize: 2, Flush: true})
	if !errors.Is(err, replay.ErrNotApplied) || !errors.Is(err, pipeline.ErrBlocked) {
		t.Fatalf("got %v, want ErrNotApplied and ErrBlocked", err)
	}
	for _, part := range []string{"calls-1 from offset 1 on", "calls/1", "decode"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error does not say %q: %v", part, err)
		}
	}
	if strings.Contains(err.Error(), "calls-0") {
		t.Errorf("error names a partition that was folded: %v", err)
	}
}
