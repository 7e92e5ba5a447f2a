package handlers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/esm"
	"github.com/llm-auto-optimizer/tidemark/functions/ingest"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio/memlog"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/memstore"
	"github.com/llm-auto-optimizer/tidemark/statestore/storetest"
	"github.com/llm-auto-optimizer/tidemark/tests/rig"
)

// world is a pipeline that counts records of the topic "in" in windows of 10 ms, under an error policy.
func world(t *testing.T, policy string, store statestore.Store) *rig.World {
	t.Helper()
	app, err := spec.Load(fmt.Appendf(nil, `
app: t
processor:
  watermark: {max_out_of_orderness_secs: 0, emit_interval_secs: 0}
  error_handling: {policy: %s, max_retries: 2, initial_retry_delay_ms: 1, max_retry_delay_ms: 2}
  kafka: {consumer: {topics: [in]}, producer: {result_topic: out}}
pipelines:
  - {name: p, timestamp: {field: t, unit: ms}, values: {v: v}, aggregates: {v: [count, sum]}, windows: [{name: w, type: tumbling, size: 10ms, allowed_lateness: 0s}]}
`, policy), "t.yaml")
	if err != nil {
		t.Fatal(err)
	}
	w, err := rig.New(app, store, memlog.New(memlog.Options{}), 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.RunFire(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w
}

func tp(p int32) event.TopicPartition { return event.TopicPartition{Topic: "in", Partition: p} }

// produce appends records with the given values to a partition and returns them.
func produce(t *testing.T, w *rig.World, p int32, values ...string) []event.Record {
	t.Helper()
	at := int64(len(w.Log.Records("in")))
	var out []event.Record
	for i, v := range values {
		r := event.Record{Offset: at + int64(i), Timestamp: 1, Key: []byte("k"), Value: []byte(v)}
		out = append(out, r)
		if err := w.Log.Append("in", p, r); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func ok(at int) string { return fmt.Sprintf(`{"t":%d,"v":1}`, at) }

func TestABatchIsAnsweredAsASuccessOnceItIsFolded(t *testing.T) {
	w := world(t, "retry", memstore.New())
	records := produce(t, w, 0, ok(1), ok(2))
	if failed, err := w.Deliver(t.Context(), map[event.TopicPartition][]event.Record{tp(0): records}); failed != 0 || err != nil {
		t.Fatal(failed, err)
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := rig.ParseResults(w.Log.Records("out"))
	if err != nil || len(got) != 1 || got[0].Results["count"] != 2.0 {
		t.Fatalf("%+v, %v", got, err)
	}
}

func TestPayloadsThatAreNoKafkaEventFailAsAWhole(t *testing.T) {
	w := world(t, "retry", memstore.New())
	for name, c := range map[string]struct {
		payload string
		want    error
	}{
		"empty":          {"", esm.ErrPayload},
		"not JSON":       {"{", esm.ErrPayload},
		"another source": {`{"eventSource":"aws:sqs","Records":[]}`, esm.ErrSource},
		"nested deeply":  {`{"eventSource":"aws:kafka","x":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `,"records":{}}`, esm.ErrPayload},
	} {
		if _, err := w.Ingest.Invoke(t.Context(), []byte(c.payload)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestBadRecordsGoToTheDeadLetterTopicAndNothingStops(t *testing.T) {
	w := world(t, "dead_letter", memstore.New())
	records := produce(t, w, 0, ok(1), `{"t":1,"v":1e400}`, "\xff", ok(2))
	if failed, err := w.Deliver(t.Context(), map[event.TopicPartition][]event.Record{tp(0): records}); failed != 0 || err != nil {
		t.Fatal(failed, err)
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	dead, err := rig.ParseSide(w.Log.Records(w.Pipelines[0].DeadLetterTopic))
	if err != nil {
		t.Fatal(err)
	}
	want := []rig.Side{{Topic: "in", Offset: 1, Reason: "value_not_finite"}, {Topic: "in", Offset: 2, Reason: "decode"}}
	if fmt.Sprint(dead) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", dead, want)
	}
	if r := w.Log.Records(w.Pipelines[0].DeadLetterTopic); string(r[1].Value) != "\xff" || string(r[1].Key) != "k" {
		t.Errorf("the record itself: %+v", r[1])
	}
}

func TestPolicyFailBlocksItsPartitionAlone(t *testing.T) {
	w := world(t, "fail", memstore.New())
	batch := map[event.TopicPartition][]event.Record{tp(0): produce(t, w, 0, ok(1), "bad", ok(2))}
	other := event.Record{Offset: 0, Timestamp: 1, Value: []byte(ok(3))}
	if err := w.Log.Append("in", 1, other); err != nil {
		t.Fatal(err)
	}
	batch[tp(1)] = []event.Record{other}
	for range 2 { // also when it is delivered again
		answer, err := w.Ingest.Invoke(t.Context(), rig.Payload(batch))
		if err != nil {
			t.Fatal(err)
		}
		const want = `{"batchItemFailures":[{"itemIdentifier":{"partition":"in-0","offset":1}},{"itemIdentifier":{"partition":"in-0","offset":2}}]}`
		if string(answer) != want {
			t.Fatalf("got %s, want %s", answer, want)
		}
	}
}

func TestAMalformedRecordOfThePayloadIsReadFromTheLog(t *testing.T) {
	for name, at := range map[string]int{"first": 0, "in the middle": 1, "last": 2} {
		w := world(t, "retry", memstore.New())
		records := produce(t, w, 0, ok(1), ok(2), ok(3))
		payload := rig.Payload(map[event.TopicPartition][]event.Record{tp(0): records})
		parts := bytes.SplitAfter(payload, []byte(`"value":"`))
		parts[at+1][0] = '*' // no base64
		answer, err := w.Ingest.Invoke(t.Context(), bytes.Join(parts, nil))
		if err != nil || string(answer) != `{"batchItemFailures":[]}` {
			t.Fatalf("%s: %s, %v", name, answer, err)
		}
		if err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		got, err := rig.ParseResults(w.Log.Records("out"))
		if err != nil || len(got) != 1 || got[0].Results["count"] != 3.0 {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestAGapIsFilledFromTheLog(t *testing.T) {
	w := world(t, "retry", memstore.New())
	records := produce(t, w, 0, ok(1), ok(2), ok(3), ok(4))
	if failed, err := w.Deliver(t.Context(), map[event.TopicPartition][]event.Record{tp(0): records[3:]}); failed != 0 || err != nil {
		t.Fatal(failed, err)
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := rig.ParseResults(w.Log.Records("out"))
	if err != nil || len(got) != 1 || got[0].Results["count"] != 4.0 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestAStoreThatIsDownFailsThePartitionsAndLosesNothing(t *testing.T) {
	down, failures := true, 0
	store := storetest.Hook(memstore.New(), func(op string, slot statestore.Slot) error {
		if down && op == "Commit" && slot.Partition == 0 {
			failures++
			return errors.New("connection refused")
		}
		return nil
	}, nil)
	w := world(t, "retry", store)
	batch := map[event.TopicPartition][]event.Record{tp(0): produce(t, w, 0, ok(1), ok(2))}
	other := event.Record{Offset: 0, Timestamp: 1, Value: []byte(ok(3))}
	if err := w.Log.Append("in", 1, other); err != nil {
		t.Fatal(err)
	}
	batch[tp(1)] = []event.Record{other}
	if failed, err := w.Deliver(t.Context(), batch); failed != 2 || err != nil {
		t.Fatalf("%d failed, %v: only the two of partition 0 should be", failed, err)
	}
	if failures != 3 {
		t.Errorf("%d tries, want 3: max_retries is 2", failures)
	}
	down = false
	if failed, err := w.Deliver(t.Context(), batch); failed != 0 || err != nil {
		t.Fatal(failed, err)
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := rig.ParseResults(w.Log.Records("out"))
	if err != nil {
		t.Fatal(err)
	}
	total := 0.0
	for _, r := range got {
		n, _ := r.Results["count"].(float64)
		total += n
	}
	if total != 3 {
		t.Errorf("%v records in the results, want 3: %+v", total, got)
	}
}

func TestWithoutAGenesisFireIsNudgedAndTheRecordsStay(t *testing.T) {
	w := world(t, "retry", memstore.New())
	w.Log.DeleteGroup(w.Pipelines[0].Group())
	w.Store = memstore.New()
	var got []apply.Nudge
	h := ingest.New(ingest.Deps{
		App: w.App, Pipelines: w.Pipelines, Store: w.Store, Log: w.Log, Clock: func() event.Time { return 0 }, Logger: slog.New(slog.DiscardHandler),
		Nudge: func(_ context.Context, n apply.Nudge) error { got = append(got, n); return nil },
	})
	records := produce(t, w, 1, ok(1), ok(2))
	answer, err := h.Invoke(t.Context(), rig.Payload(map[event.TopicPartition][]event.Record{tp(1): records}))
	if err != nil || strings.Count(string(answer), "itemIdentifier") != 2 {
		t.Fatalf("%s, %v", answer, err)
	}
	if want := (apply.First{Topic: "in", Partition: 1, Offset: 0}); len(got) != 1 || got[0].Genesis[0] != want {
		t.Errorf("nudges %+v, want one for %+v", got, want)
	}
}

func TestTheDeadlineIsKept(t *testing.T) {
	block := make(chan struct{})
	store := storetest.Hook(memstore.New(), func(op string, _ statestore.Slot) error {
		if op == "Commit" {
			<-block
			return context.DeadlineExceeded
		}
		return nil
	}, nil)
	w := world(t, "retry", store)
	h := ingest.New(ingest.Deps{
		App: w.App, Pipelines: w.Pipelines, Store: store, Log: w.Log, Clock: func() event.Time { return 0 }, Logger: slog.New(slog.DiscardHandler), Margin: time.Hour,
	})
	records := produce(t, w, 0, ok(1))
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	close(block) // the margin is as long as the time there is: nothing may even be tried
	answer, err := h.Invoke(ctx, rig.Payload(map[event.TopicPartition][]event.Record{tp(0): records}))
	if err != nil || strings.Count(string(answer), "itemIdentifier") != 1 {
		t.Errorf("%s, %v", answer, err)
	}
}

func TestLargePayloadsAndPayloadsWithoutRecords(t *testing.T) {
	w := world(t, "retry", memstore.New())
	if answer, err := w.Ingest.Invoke(t.Context(), []byte(`{"eventSource":"aws:kafka","records":{}}`)); err != nil || string(answer) != `{"batchItemFailures":[]}` {
		t.Errorf("no records: %s, %v", answer, err)
	}
	const n = 10_000
	values := make([]string, n)
	for i := range values {
		values[i] = fmt.Sprintf(`{"t":%d,"v":1,"x":%q}`, i%50, strings.Repeat("y", 280))
	}
	records := produce(t, w, 0, values...)
	payload := rig.Payload(map[event.TopicPartition][]event.Record{tp(0): records})
	if len(payload) < 5<<20 {
		t.Fatalf("payload of %d bytes only", len(payload))
	}
	answer, err := w.Ingest.Invoke(t.Context(), payload)
	if err != nil || string(answer) != `{"batchItemFailures":[]}` {
		t.Fatalf("%.200s, %v", answer, err)
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := rig.ParseResults(w.Log.Records("out"))
	if err != nil || len(got) != 5 || got[0].Results["count"] != n/5.0 {
		t.Errorf("%d results, %v", len(got), err)
	}
}
