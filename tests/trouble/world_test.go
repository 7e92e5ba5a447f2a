//go:build servers

// Package trouble puts real state stores into each kind of trouble under the real handlers: a batch is answered as failed for
// the partitions that are concerned and for no others, the log says once what happened, and results are those of a run in which
// nothing happened.
package trouble

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio/memlog"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/memstore"
	"github.com/llm-auto-optimizer/tidemark/statestore/redisstore"
	"github.com/llm-auto-optimizer/tidemark/tests/output"
	"github.com/llm-auto-optimizer/tidemark/tests/rig"
)

const (
	// partitions are more than are folded at once, so that some have to wait for others.
	partitions = 12
	// perPart is the number of records that each partition gets in one part.
	perPart = 6
	// deadline of an invocation. A server that does not answer takes 4 s to be given up.
	deadline = 15 * time.Second
)

// world is both functions over a state store, and what they log.
type world struct {
	*rig.World
	t       *testing.T
	journal *journal
	parts   int
}

// newWorld has two pipelines, one of them with sessions, and their genesis.
func newWorld(t *testing.T, store statestore.Store) *world {
	t.Helper()
	app, err := spec.Load([]byte(`
app: t
processor:
  watermark: {max_out_of_orderness_secs: 0, emit_interval_secs: 0}
  error_handling: {policy: retry, max_retries: 2, initial_retry_delay_ms: 20, max_retry_delay_ms: 40}
  kafka: {consumer: {topics: [in]}, producer: {result_topic: out}}
pipelines:
  - {name: p, timestamp: {field: t, unit: ms}, values: {v: v}, aggregates: {v: [count, sum]}, windows: [{name: w, type: tumbling, size: 10ms, allowed_lateness: 0s}]}
  - {name: q, timestamp: {field: t, unit: ms}, values: {v: v}, aggregates: {v: [count, sum]}, windows: [{name: s, type: session, gap: 5ms, allowed_lateness: 0s}]}
`), "t.yaml")
	if err != nil {
		t.Fatal(err)
	}
	r, err := rig.New(app, store, memlog.New(memlog.Options{}), partitions)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{World: r, t: t, journal: &journal{}}
	w.Logger = slog.New(slog.NewJSONHandler(w.journal, &slog.HandlerOptions{Level: slog.LevelWarn}))
	w.Restart()
	w.fire()
	return w
}

// fire looks once at both pipelines.
func (w *world) fire() {
	w.t.Helper()
	if err := w.RunFire(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// batch is records by partition.
type batch = map[event.TopicPartition][]event.Record

// produce appends the next part to every partition and returns it as one batch. Keys and times differ, and windows reach over
// parts.
func (w *world) produce() batch {
	w.t.Helper()
	b := batch{}
	for p := range int32(partitions) {
		tp := event.TopicPartition{Topic: "in", Partition: p}
		for i := range perPart {
			n := w.parts*perPart + i
			r := event.Record{
				Offset: int64(n), Timestamp: 1, Key: fmt.Appendf(nil, "k%d", (n+int(p))%3),
				Value: fmt.Appendf(nil, `{"t":%d,"v":%d}`, 3*n, n),
			}
			if err := w.Log.Append("in", p, r); err != nil {
				w.t.Fatal(err)
			}
			b[tp] = append(b[tp], r)
		}
	}
	w.parts++
	return b
}

// invoke delivers a batch, with a deadline, and returns the partitions of which every offset was answered as failed. Anything else
// in the answer is an error.
func (w *world) invoke(b batch, within time.Duration) []int32 {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), within)
	defer cancel()
	answer, err := w.Ingest.Invoke(ctx, rig.Payload(b))
	if err != nil {
		w.t.Fatal(err)
	}
	if ctx.Err() != nil {
		w.t.Errorf("answered after the deadline of %s", within)
	}
	var got struct {
		Failures []struct {
			Item struct {
				Partition string `json:"partition"`
				Offset    int64  `json:"offset"`
			} `json:"itemIdentifier"`
		} `json:"batchItemFailures"`
	}
	if err := json.Unmarshal(answer, &got); err != nil {
		w.t.Fatalf("%s: %v", answer, err)
	}
	offsets := map[string][]int64{}
	for _, f := range got.Failures {
		offsets[f.Item.Partition] = append(offsets[f.Item.Partition], f.Item.Offset)
	}
	failed := []int32{}
	for tp, records := range b {
		name := fmt.Sprintf("in-%d", tp.Partition)
		if answered := offsets[name]; len(answered) > 0 {
			failed = append(failed, tp.Partition)
			if len(answered) != len(records) {
				w.t.Errorf("%s: offsets %v of %d delivered", name, answered, len(records))
			}
			delete(offsets, name)
		}
	}
	if len(offsets) > 0 {
		w.t.Errorf("the answer names %v, which were not delivered", offsets)
	}
	slices.Sort(failed)
	return failed
}

// deliver delivers a batch that nothing is in the way of.
func (w *world) deliver(b batch) {
	w.t.Helper()
	if failed := w.invoke(b, deadline); len(failed) > 0 {
		w.t.Fatalf("partitions %v failed: %v", failed, w.journal.take(w.t))
	}
}

// redeliver delivers what failed again and again, as the trigger does, until all of it is applied. A server that was left alone
// is asked again after a second, and a cluster takes a moment to agree.
func (w *world) redeliver(b batch, failed []int32) {
	w.t.Helper()
	end := time.Now().Add(20 * time.Second)
	for len(failed) > 0 {
		again := batch{}
		for _, p := range failed {
			tp := event.TopicPartition{Topic: "in", Partition: p}
			again[tp] = b[tp]
		}
		if failed = w.invoke(again, deadline); len(failed) > 0 && time.Now().After(end) {
			w.t.Fatalf("partitions %v still fail: %v", failed, w.journal.take(w.t))
		}
	}
	w.journal.take(w.t)
}

// finish plays some more parts, closes all windows and compares the results with those of a run in which nothing happened.
func (w *world) finish() {
	w.t.Helper()
	for w.parts < 5 {
		w.deliver(w.produce())
		w.fire()
	}
	want := calm(w.t)
	if diff := gocmp.Diff(want, w.results()); diff != "" {
		w.t.Errorf("results (-want +got):\n%s", diff)
	}
}

// calm is a run in which nothing happens.
func calm(t *testing.T) []rig.Result {
	t.Helper()
	w := newWorld(t, memstore.New())
	for w.parts < 5 {
		w.deliver(w.produce())
		w.fire()
	}
	results := w.results()
	if len(results) < 20 {
		t.Fatalf("%d results only", len(results))
	}
	return results
}

// results closes everything and returns what was published. Plans that were put off leave other numbers, and nothing else.
func (w *world) results() []rig.Result {
	w.t.Helper()
	if err := w.Flush(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	results, err := rig.ParseResults(w.Log.Records("out"))
	if err != nil {
		w.t.Fatal(err)
	}
	for i := range results {
		results[i].Pane.Revision = 0
	}
	slices.SortFunc(results, func(a, b rig.Result) int {
		return cmp.Or(strings.Compare(a.Pipeline, b.Pipeline), cmp.Compare(a.Window.StartMS, b.Window.StartMS), strings.Compare(a.Key, b.Key))
	})
	return results
}

// tells checks that the log has said since the last look that a cause stood in the way of partitions, in one line, and nothing
// else that is an error.
func (w *world) tells(cause error, failed []int32) {
	w.t.Helper()
	want := []string{}
	for _, p := range failed {
		want = append(want, fmt.Sprintf("in/%d", p))
	}
	slices.Sort(want)
	lines := w.journal.take(w.t)
	if len(lines) != 1 {
		w.t.Errorf("%d lines in the log, want one:", len(lines))
		for _, l := range lines {
			w.t.Errorf("%+v", l)
		}
		return
	}
	slices.Sort(lines[0].Partitions)
	if lines[0].Cause != cause.Error() || !slices.Equal(lines[0].Partitions, want) {
		w.t.Errorf("the log says %+v, want %q for %v", lines[0], cause, want)
	}
	if !strings.Contains(lines[0].Error, "redis at 127.0.0.1:") && !errors.Is(cause, statestore.ErrVersion) {
		w.t.Errorf("the log does not name the server: %s", lines[0].Error)
	}
}

// firing runs fire as an invocation, which must not outlast its deadline, and checks that it fails with a cause and says it once.
func (w *world) firing(cause error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), deadline)
	defer cancel()
	_, err := w.Fire.Invoke(ctx, nil)
	if ctx.Err() != nil || !errors.Is(err, cause) {
		w.t.Errorf("fire: %v (deadline: %v), want %v", err, ctx.Err(), cause)
	}
	lines := w.journal.take(w.t)
	if len(lines) != 1 || lines[0].Cause != cause.Error() || lines[0].Level != slog.LevelError.String() {
		w.t.Errorf("fire logs %+v, want one line about %q", lines, cause)
	}
}

// all are the partitions of a batch on one server.
func all() []int32 {
	out := make([]int32, partitions)
	for p := range out {
		out[p] = int32(p)
	}
	return out
}

func (w *world) same(what string, want, got []int32) {
	w.t.Helper()
	if diff := gocmp.Diff(want, got); diff != "" {
		w.t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// open opens a store and closes it with the test.
func open(t *testing.T, urls ...string) *redisstore.Store {
	t.Helper()
	s, err := redisstore.Open(t.Context(), redisstore.Options{URLs: urls, Codec: statestore.CodecLZ4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// line is what is looked at in a line of the log.
type line struct {
	Level      string   `json:"level"`
	Msg        string   `json:"msg"`
	Cause      string   `json:"cause"`
	Partitions []string `json:"partitions"`
	Error      string   `json:"error"`
}

// journal keeps the lines of a log, warnings and errors, as JSON.
type journal struct{ output.Buffer }

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
