package job_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/fire"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/job"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/progress"
)

const text = `app: job
processor:
  state: {backend: bolt}
  watermark: {max_out_of_orderness: 0s}
  %s
pipelines:
  - name: p
    topics: [in]
    values: {v: v}
    windows: [{name: w, type: tumbling, size: 1s, allowed_lateness: 0s}]
    aggregates: {v: [count, sum]}
    sink: {topic: out}
`

// place is where runs of a test take place: a broker that outlives them, and a directory for the state.
type place struct {
	app     *spec.App
	brokers []string
	client  *kafkaio.Client
	dir     string

	takeOver bool
}

func newPlace(t *testing.T, extra string) *place {
	t.Helper()
	app, err := spec.Load(fmt.Appendf(nil, text, extra), "spec.yaml")
	if err != nil {
		t.Fatal(err)
	}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	p := &place{app: app, brokers: cluster.ListenAddrs(), dir: filepath.Join(t.TempDir(), "state")}
	if p.client, err = kafkaio.Open(t.Context(), kafkaio.Options{Brokers: p.brokers}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.client.Close)
	return p
}

// run runs until idle with lines of input, and returns what it printed.
func (p *place) run(t *testing.T, lines ...string) (string, error) {
	t.Helper()
	input := filepath.Join(t.TempDir(), "in.jsonl")
	if err := os.WriteFile(input, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err := job.Run(t.Context(), job.Options{
		App: p.app, Brokers: p.brokers, StateDir: p.dir, CreateTopics: true, Partitions: 2, Feed: job.Feed{Input: input}, UntilIdle: true,
		For: time.Minute, Tick: 20 * time.Millisecond, Stalled: 500 * time.Millisecond, TakeOver: p.takeOver, Logger: slog.New(slog.DiscardHandler),
		Terminal: progress.New(progress.Options{Out: &out, Err: &bytes.Buffer{}, Width: func() int { return 0 }, Now: time.Now}),
	})
	return out.String(), err
}

func event(partition, at, v int) string {
	return fmt.Sprintf(`{"partition":%d,"timestamp":%d,"value":{"timestamp":%d,"v":%d}}`, partition, at, at, v)
}

// sums returns the results that were published, in order.
func (p *place) sums(t *testing.T) []string {
	t.Helper()
	records, err := p.client.ReadAll(t.Context(), "out")
	if err != nil {
		t.Fatal(err)
	}
	out := []string{}
	for _, r := range records {
		_, after, _ := strings.Cut(string(r.Value), `"results":`)
		results, _, _ := strings.Cut(after, `,"timestamp"`)
		out = append(out, results)
	}
	return out
}

// A record that nobody can process under the policy fail is named, and what is not folded is not closed over.
func TestUntilIdleNamesTheRecordThatBlocks(t *testing.T) {
	p := newPlace(t, "error_handling: {policy: fail}")
	out, err := p.run(t, event(0, 1000, 1), `{"partition":1,"timestamp":1000,"value":"no JSON"}`, event(0, 1500, 2), event(1, 1000, 4))
	if !errors.Is(err, pipeline.ErrBlocked) || !strings.Contains(err.Error(), "in/1") || !strings.Contains(err.Error(), "offset 0: decode") {
		t.Errorf("got %v, want ErrBlocked at in/1 offset 0", err)
	}
	if strings.Contains(out, "closed everything") || len(p.sums(t)) != 0 {
		t.Errorf("windows were closed although records of theirs are left:\n%s%v", out, p.sums(t))
	}
}

// What trying again cannot mend ends the run: here the state is there, and the offsets that it belongs to are gone.
func TestAHaltedPipelineEndsTheRun(t *testing.T) {
	p := newPlace(t, "")
	if out, err := p.run(t, event(0, 1000, 1)); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(p.brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	deleted, err := kadm.NewClient(cl).DeleteGroups(t.Context(), p.app.Pipelines[0].Group())
	if err == nil {
		err = deleted.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err = p.run(t, event(0, 1000, 1)); !errors.Is(err, fire.ErrHalted) || !strings.Contains(err.Error(), "offsets were deleted") {
		t.Errorf("got %v, want ErrHalted", err)
	}
}

// A changed spec goes on where the old one was; the old one does not come back unless it is told to.
func TestAChangedSpecTakesOver(t *testing.T) {
	p := newPlace(t, "")
	old := p.app
	if out, err := p.run(t, event(0, 1000, 1), event(1, 1999, 2)); err != nil { // all is closed up to 2000
		t.Fatalf("%v\n%s", err, out)
	}
	var err error
	if p.app, err = spec.Load(fmt.Appendf(nil, strings.Replace(text, "size: 1s", "size: 4s", 1), ""), "spec.yaml"); err != nil {
		t.Fatal(err)
	}
	// [0, 4000) is the new query's window, and whole.
	if out, err := p.run(t, event(0, 3000, 4)); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	p.app = old
	if _, err := p.run(t); !errors.Is(err, fire.ErrHalted) || !strings.Contains(err.Error(), "tidemark run --take-over") {
		t.Errorf("got %v, want ErrHalted that says what to do", err)
	}
	p.takeOver = true
	if out, err := p.run(t, event(0, 4000, 8)); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if d := cmp.Diff([]string{`{"count":2,"sum":3}`, `{"count":3,"sum":7}`, `{"count":1,"sum":8}`}, p.sums(t)); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

// With auto_offset_reset: latest, what was in the topic before the first start is nobody's; what comes with the run is not.
func TestLatestBeginsWithTheRun(t *testing.T) {
	p := newPlace(t, "kafka: {consumer: {auto_offset_reset: latest}}")
	if err := p.client.CreateTopic(t.Context(), "in", 2, -1, nil); err != nil {
		t.Fatal(err)
	}
	old := []kafkaio.Message{{Topic: "in", Partition: 0, Value: []byte(`{"timestamp":1000,"v":100}`), Timestamp: 1000}}
	if err := p.client.Produce(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	if out, err := p.run(t, event(0, 1000, 1), event(1, 1500, 2), event(0, 2500, 4)); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if d := cmp.Diff([]string{`{"count":2,"sum":3}`, `{"count":1,"sum":4}`}, p.sums(t)); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

// Nothing to do is done at once.
func TestUntilIdleWithoutRecords(t *testing.T) {
	p := newPlace(t, "")
	out, err := p.run(t)
	if err != nil || !strings.Contains(out, "p: closed everything at W=-inf\n") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestTopicsOf(t *testing.T) {
	app, err := spec.Load([]byte(`
processor: {error_handling: {dead_letter_topic: dead}, kafka: {consumer: {topics: [b, a, unread]}, producer: {result_topic: out}}}
pipelines:
  - {name: one, topics: [b, a]}
  - {name: two, topics: [a], sink: {topic: other}, late: {topic: shared}}
  - {name: three, topics: [b], sink: {topic: other}, late: {topic: shared}}
`), "spec.yaml")
	if err != nil {
		t.Fatal(err)
	}
	got := make([]string, 0, 8)
	for _, topic := range job.TopicsOf(app, 7) {
		got = append(got, fmt.Sprintf("%s %d %v", topic.Name, topic.Partitions, topic.Source))
	}
	want := []string{
		"a 7 true", "b 7 true", "out 7 false", "other 7 false", "out-late 1 false", "dead 1 false", "shared 1 false", "tidemark-ledger 1 false", "tidemark-panes 1 false",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func TestSmallest(t *testing.T) {
	for windows, want := range map[string]time.Duration{
		"[{name: a, type: tumbling, size: 1m}, {name: b, type: tumbling, size: 5m}]": time.Minute,
		"[{name: a, type: sliding, size: 1m, slide: 10s}]":                           10 * time.Second,
		"[{name: a, type: session, gap: 30s}, {name: b, type: tumbling, size: 5m}]":  30 * time.Second,
	} {
		app, err := spec.Load([]byte("pipelines:\n  - {name: p, topics: [in], sink: {topic: out}, windows: "+windows+"}\n"), "spec.yaml")
		if err != nil {
			t.Fatal(err)
		}
		if got := job.Smallest(app).Duration(); got != want {
			t.Errorf("%s: got %s, want %s", windows, got, want)
		}
	}
}
