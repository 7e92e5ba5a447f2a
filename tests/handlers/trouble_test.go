package handlers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/ingest"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio/memlog"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/memstore"
	"github.com/llm-auto-optimizer/tidemark/statestore/storetest"
	"github.com/llm-auto-optimizer/tidemark/tests/output"
	"github.com/llm-auto-optimizer/tidemark/tests/rig"
)

// line is what these tests look at in a line of the log.
type line struct {
	Level      string   `json:"level"`
	Msg        string   `json:"msg"`
	Cause      string   `json:"cause"`
	Pipelines  []string `json:"pipelines"`
	Partitions []string `json:"partitions"`
	Count      int      `json:"count"`
	Tries      int      `json:"tries"`
	Error      string   `json:"error"`
}

// journal keeps the lines of a log at info and above, as JSON.
type journal struct{ output.Buffer }

func (j *journal) logger() *slog.Logger { return slog.New(slog.NewJSONHandler(j, nil)) }

// take returns the lines so far and forgets them.
func (j *journal) take(t *testing.T) []line {
	t.Helper()
	var out []line
	for text := range strings.Lines(j.Take()) {
		var l line
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		out = append(out, l)
	}
	return out
}

// two is like world, with two pipelines and a number of partitions, and its log.
func two(t *testing.T, store statestore.Store, partitions int32) (*rig.World, *journal) {
	t.Helper()
	app, err := spec.Load([]byte(`
app: t
processor:
  watermark: {max_out_of_orderness_secs: 0, emit_interval_secs: 0}
  error_handling: {policy: retry, max_retries: 2, initial_retry_delay_ms: 1, max_retry_delay_ms: 2}
  kafka: {consumer: {topics: [in]}, producer: {result_topic: out}}
pipelines:
  - {name: p, timestamp: {field: t, unit: ms}, values: {v: v}, aggregates: {v: [count, sum]}, windows: [{name: w, type: tumbling, size: 10ms, allowed_lateness: 0s}]}
  - {name: q, timestamp: {field: t, unit: ms}, values: {v: v}, aggregates: {v: [count, sum]}, windows: [{name: s, type: session, gap: 5ms, allowed_lateness: 3ms}]}
`), "t.yaml")
	if err != nil {
		t.Fatal(err)
	}
	w, err := rig.New(app, store, memlog.New(memlog.Options{}), partitions)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.RunFire(t.Context()); err != nil {
		t.Fatal(err)
	}
	j := &journal{}
	w.Logger = j.logger()
	w.Restart()
	return w, j
}

// fill appends two records to every partition and returns them as one batch.
func fill(t *testing.T, w *rig.World, partitions int32) map[event.TopicPartition][]event.Record {
	t.Helper()
	batch := map[event.TopicPartition][]event.Record{}
	for p := range partitions {
		for i := range int64(2) {
			r := event.Record{Offset: i, Timestamp: 1, Key: []byte("k"), Value: []byte(ok(int(p) + int(i)))}
			if err := w.Log.Append("in", p, r); err != nil {
				t.Fatal(err)
			}
			batch[tp(p)] = append(batch[tp(p)], r)
		}
	}
	return batch
}

// failed returns the partitions in an answer; each must be there with both of its offsets.
func failed(t *testing.T, answer []byte) []string {
	t.Helper()
	var got struct {
		Failures []struct {
			Item struct {
				Partition string `json:"partition"`
				Offset    int64  `json:"offset"`
			} `json:"itemIdentifier"`
		} `json:"batchItemFailures"`
	}
	if err := json.Unmarshal(answer, &got); err != nil {
		t.Fatalf("%s: %v", answer, err)
	}
	offsets := map[string][]int64{}
	for _, f := range got.Failures {
		offsets[f.Item.Partition] = append(offsets[f.Item.Partition], f.Item.Offset)
	}
	names := []string{}
	for name, o := range offsets {
		if slices.Sort(o); !slices.Equal(o, []int64{0, 1}) {
			t.Errorf("%s failed with offsets %v, want both", name, o)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// inTrouble fails calls about some partitions with an error that names them, as a store does.
type inTrouble struct {
	mu    sync.Mutex
	ops   string
	fails map[int32]error // by partition
}

func (f *inTrouble) set(ops string, fails map[int32]error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ops, f.fails = ops, fails
}

func (f *inTrouble) before(op string, slot statestore.Slot) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.fails[slot.Partition]; err != nil && strings.Contains(f.ops, op) {
		return fmt.Errorf("%s %s: redis at 10.0.0.%d:6379: %w", op, slot, slot.Partition, err)
	}
	return nil
}

func TestOnePartitionsTroubleIsAnsweredForItAloneAndToldOncePerCause(t *testing.T) {
	for _, c := range []struct {
		name  string
		ops   string
		fails map[int32]error
		want  []line // without texts of errors
	}{
		{"one full server", "Commit", map[int32]error{1: statestore.ErrFull, 3: statestore.ErrFull}, []line{
			{Cause: statestore.ErrFull.Error(), Partitions: []string{"in/1", "in/3"}, Count: 2, Tries: 3},
		}},
		{"two causes", "Load Commit", map[int32]error{0: statestore.ErrLoading, 2: statestore.ErrReadOnly, 3: statestore.ErrLoading}, []line{
			{Cause: statestore.ErrLoading.Error(), Partitions: []string{"in/0", "in/3"}, Count: 2, Tries: 3},
			{Cause: statestore.ErrReadOnly.Error(), Partitions: []string{"in/2"}, Count: 1, Tries: 3},
		}},
		{"access is denied: it is not tried again", "Load", map[int32]error{2: statestore.ErrDenied}, []line{
			{Cause: statestore.ErrDenied.Error(), Partitions: []string{"in/2"}, Count: 1, Tries: 1},
		}},
		{"a newer version is not tried again, and not dropped", "Load", map[int32]error{2: statestore.ErrVersion}, []line{
			{Cause: statestore.ErrVersion.Error(), Partitions: []string{"in/2"}, Count: 1, Tries: 1},
		}},
		{"an error without a name", "Commit", map[int32]error{1: errors.New("disk on fire"), 2: errors.New("disk on fire")}, []line{
			{Cause: "disk on fire", Partitions: []string{"in/1", "in/2"}, Count: 2, Tries: 3},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			trouble := &inTrouble{}
			w, log := two(t, storetest.Hook(memstore.New(), trouble.before, nil), 5)
			batch := fill(t, w, 5)
			trouble.set(c.ops, c.fails)
			answer, err := w.Ingest.Invoke(t.Context(), rig.Payload(batch))
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for p := range c.fails {
				want = append(want, fmt.Sprintf("in-%d", p))
			}
			slices.Sort(want)
			if diff := cmp.Diff(want, failed(t, answer)); diff != "" {
				t.Errorf("failed partitions (-want +got):\n%s", diff)
			}
			var got []line
			for _, l := range log.take(t) {
				if l.Level == "INFO" {
					continue // of slots that were made
				}
				if !strings.Contains(l.Error, "redis at 10.0.0.") || l.Level != "ERROR" {
					t.Errorf("%s %q", l.Level, l.Error)
				}
				slices.Sort(l.Partitions)
				l.Level, l.Msg, l.Error = "", "", ""
				got = append(got, l)
			}
			slices.SortFunc(got, func(a, b line) int { return strings.Compare(a.Partitions[0], b.Partitions[0]) })
			for i := range c.want {
				c.want[i].Pipelines = []string{"p", "q"}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("log (-want +got):\n%s", diff)
			}

			trouble.set("", nil)
			if n, err := w.Deliver(t.Context(), batch); n != 0 || err != nil {
				t.Errorf("delivered again: %d failed, %v", n, err)
			}
			if err := w.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			counted(t, w, 10)
		})
	}
}

// counted checks how many records are in the results of each of the two pipelines.
func counted(t *testing.T, w *rig.World, want float64) {
	t.Helper()
	results, err := rig.ParseResults(w.Log.Records("out"))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, r := range results {
		n, _ := r.Results["count"].(float64)
		got[r.Pipeline] += n
	}
	if diff := cmp.Diff(map[string]float64{"p": want, "q": want}, got); diff != "" {
		t.Errorf("records in the results (-want +got):\n%s", diff)
	}
}

func TestALineNamesTwentyPartitionsAtMost(t *testing.T) {
	trouble, fails := &inTrouble{}, map[int32]error{}
	for p := range int32(30) {
		fails[p] = statestore.ErrUnreachable
	}
	w, log := two(t, storetest.Hook(memstore.New(), trouble.before, nil), 30)
	batch := fill(t, w, 30)
	trouble.set("Load", fails)
	if n, err := w.Deliver(t.Context(), batch); n != 60 || err != nil {
		t.Fatal(n, err)
	}
	lines := log.take(t)
	if len(lines) != 1 || len(lines[0].Partitions) != 20 || lines[0].Count != 30 {
		t.Errorf("%+v", lines)
	}
}

func TestFireTellsOncePerCause(t *testing.T) {
	trouble := &inTrouble{}
	w, log := two(t, storetest.Hook(memstore.New(), trouble.before, nil), 5)
	if n, err := w.Deliver(t.Context(), fill(t, w, 5)); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	log.take(t)
	trouble.set("Status", map[int32]error{0: statestore.ErrLoading, 1: statestore.ErrUnreachable, 4: statestore.ErrLoading})
	_, err := w.Fire.Invoke(t.Context(), nil)
	if !errors.Is(err, statestore.ErrLoading) || !errors.Is(err, statestore.ErrUnreachable) {
		t.Errorf("%v", err)
	}
	var got []line
	for _, l := range log.take(t) {
		if l.Level != "ERROR" {
			t.Errorf("%+v", l)
		}
		l.Level, l.Msg, l.Error = "", "", ""
		got = append(got, l)
	}
	both := []string{"p", "q"}
	want := []line{
		{Cause: statestore.ErrLoading.Error(), Pipelines: both, Partitions: []string{"in/0", "in/4"}, Count: 2, Tries: 1},
		{Cause: statestore.ErrUnreachable.Error(), Pipelines: both, Partitions: []string{"in/1"}, Count: 1, Tries: 1},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
	trouble.set("", nil)
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	counted(t, w, 10)
}

func TestAllPartitionsWithoutAGenesisAreOneLineAndOneNudge(t *testing.T) {
	w, log := two(t, memstore.New(), 3)
	for _, p := range w.Pipelines {
		w.Log.DeleteGroup(p.Group())
	}
	var nudges []apply.Nudge
	h := ingest.New(ingest.Deps{
		App: w.App, Pipelines: w.Pipelines, Store: memstore.New(), Log: w.Log, Clock: func() event.Time { return 0 }, Logger: w.Logger,
		Nudge: func(_ context.Context, n apply.Nudge) error { nudges = append(nudges, n); return nil },
	})
	answer, err := h.Invoke(t.Context(), rig.Payload(fill(t, w, 3)))
	if err != nil || len(failed(t, answer)) != 3 {
		t.Fatalf("%s, %v", answer, err)
	}
	for i := range nudges {
		slices.SortFunc(nudges[i].Genesis, func(a, b apply.First) int { return int(a.Partition - b.Partition) })
	}
	want := []apply.Nudge{{Genesis: []apply.First{{Topic: "in"}, {Topic: "in", Partition: 1}, {Topic: "in", Partition: 2}}}}
	if diff := cmp.Diff(want, nudges); diff != "" {
		t.Errorf("nudges (-want +got):\n%s", diff)
	}
	lines := log.take(t)
	if len(lines) != 1 || lines[0].Level != "INFO" || lines[0].Count != 3 || len(lines[0].Pipelines) != 2 {
		t.Errorf("%+v", lines)
	}
}

func TestRecordsThatNobodyReadsAreToldOnce(t *testing.T) {
	w, log := two(t, memstore.New(), 2)
	batch := map[event.TopicPartition][]event.Record{}
	for p := range int32(3) {
		batch[event.TopicPartition{Topic: "other", Partition: p}] = []event.Record{{Value: []byte("{}")}}
	}
	if n, err := w.Deliver(t.Context(), batch); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	lines := log.take(t)
	if len(lines) != 1 || lines[0].Level != "ERROR" || len(lines[0].Partitions) != 3 {
		t.Errorf("%+v", lines)
	}
}
