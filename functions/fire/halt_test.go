package fire_test

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/fire"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio/memlog"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/memstore"
	"github.com/llm-auto-optimizer/tidemark/statestore/storetest"
)

var source = event.TopicPartition{Topic: "events", Partition: 0}

// topicID is Kafka's id of the source topic.
func topicID(t *testing.T, log *memlog.Log) [16]byte {
	t.Helper()
	parts, err := log.Partitions(t.Context(), []string{source.Topic})
	if err != nil {
		t.Fatal(err)
	}
	return parts[0].TopicID
}

// fails runs fire once and returns its error.
func (b *bench) fails(t *testing.T) error {
	t.Helper()
	err := b.fire.Run(t.Context(), apply.Nudge{})[0].Err
	if err == nil {
		t.Fatal("no error")
	}
	return err
}

func TestFireHaltsOnWhatTryingAgainCannotMend(t *testing.T) {
	for name, c := range map[string]struct {
		harm func(t *testing.T, b *bench)
		says string
	}{
		"the group's offsets are gone": {func(_ *testing.T, b *bench) { b.log.DeleteGroup(b.pipe.Group()) }, "offsets were deleted or have expired"},
		"the group's offsets are gone, and its state is damaged": {func(_ *testing.T, b *bench) {
			b.log.DeleteGroup(b.pipe.Group())
			b.store = storetest.Hook(b.store, func(op string, _ statestore.Slot) error {
				if op == "Load" {
					return statestore.ErrFormat
				}
				return nil
			}, nil)
		}, "offsets were deleted or have expired"},
		"the topic was made anew": {func(t *testing.T, b *bench) {
			t.Helper()
			if err := errors.Join(b.log.DeleteTopic("events"), b.log.CreateTopic("events", 1)); err != nil {
				t.Fatal(err)
			}
		}, "made anew"},
		"the topic was made anew, and the broker has not forgotten its offsets": {func(t *testing.T, b *bench) {
			t.Helper()
			if err := errors.Join(b.log.DeleteTopic("events"), b.log.CreateTopic("events", 1)); err != nil {
				t.Fatal(err)
			}
			b.log.SetGroup(b.pipe.Group(), b.committed)
		}, "made anew"},
		"the log ends before what is folded": {func(t *testing.T, b *bench) {
			t.Helper()
			id := topicID(t, b.log)
			for dummies := 0; topicID(t, b.log) != id || b.log.Records(spec.LedgerTopic) != nil; dummies++ {
				b.log = memlog.New(memlog.Options{})
				for i := range dummies {
					if err := b.log.CreateTopic("dummy"+strconv.Itoa(i), 1); err != nil {
						t.Fatal(err)
					}
				}
				if err := b.log.CreateTopic("events", 1); err != nil {
					t.Fatal(err)
				}
			}
			b.log.SetGroup(b.pipe.Group(), b.committed)
		}, "the log ends at offset"},
		"the log was cut before it was folded": {func(t *testing.T, b *bench) {
			t.Helper()
			for range 5 {
				if err := b.log.Append("events", 0, event.Record{Offset: memlog.Next, Timestamp: 30, Value: []byte(`{"value":1}`)}); err != nil {
					t.Fatal(err)
				}
			}
			if err := b.log.Truncate(source, 6); err != nil {
				t.Fatal(err)
			}
		}, "the log begins at offset 6"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, tumbling, 1, memlog.Options{})
			b.run(t)
			b.ingest(t, 0, 1, 2, 12)
			b.run(t)
			var err error
			if b.committed, err = b.log.Group(t.Context(), b.pipe.Group()); err != nil {
				t.Fatal(err)
			}
			before := len(b.log.Records(spec.LedgerTopic))
			c.harm(t, b)
			b.restart()
			if err := b.fails(t); !errors.Is(err, fire.ErrHalted) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want a halt that says %q", err, c.says)
			}
			if n := len(b.log.Records(spec.LedgerTopic)); n > before {
				t.Errorf("%d plans were made after the harm", n-before)
			}
		})
	}
}

func TestLateRecordsAreNotPublishedAgainByAReplay(t *testing.T) {
	b := newBench(t, tumbling, 1, memlog.Options{})
	b.run(t)
	b.ingest(t, 0, 1, 25)
	b.run(t)
	b.ingest(t, 0, 2, 26) // 2 is too late
	b.run(t)
	if n := len(b.log.Records("results-late")); n != 1 {
		t.Fatalf("%d late records, want 1", n)
	}
	// The replay folds the late record again, since offset 1, of a window that is still open, is before it.
	b.store = memstore.New()
	b.restart()
	b.ingest(t, 0, 27, 60)
	b.run(t)
	b.run(t)
	if n := len(b.log.Records("results-late")); n != 1 {
		t.Errorf("%d late records after the replay, want 1", n)
	}
	if got, want := b.results(t), "0 on_time 1, 20 on_time 3"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLatestBeginsWhereIngestWasHandedTheFirstRecord(t *testing.T) {
	b := newBench(t, strings.Replace(tumbling, "topics: [events]}", "topics: [events], auto_offset_reset: latest}", 1), 2, memlog.Options{})
	for range 3 {
		if err := b.log.Append("events", 0, event.Record{Offset: memlog.Next, Timestamp: 1, Value: []byte(`{"value":1}`)}); err != nil {
			t.Fatal(err)
		}
	}
	b.run(t)
	plan, err := apply.ReadPlan(t.Context(), b.log, b.pipe)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := plan.Partitions[source]; ok || len(plan.Partitions) != 1 {
		t.Fatalf("only the empty partition begins without a nudge: %+v", plan.Partitions)
	}

	b = newBench(t, strings.Replace(tumbling, "topics: [events]}", "topics: [events], auto_offset_reset: latest}", 1), 1, memlog.Options{})
	for range 3 {
		if err := b.log.Append("events", 0, event.Record{Offset: memlog.Next, Timestamp: 1, Value: []byte(`{"value":1}`)}); err != nil {
			t.Fatal(err)
		}
	}
	if r := b.fire.Run(t.Context(), apply.Nudge{Genesis: []apply.First{{Topic: "events", Partition: 0, Offset: 2}}})[0]; r.Err != nil {
		t.Fatal(r.Err)
	}
	if plan, err = apply.ReadPlan(t.Context(), b.log, b.pipe); err != nil || plan.Partitions[source].Offset != 2 {
		t.Errorf("%+v, %v: want offset 2", plan, err)
	}
}

func TestAPartitionBornLaterBeginsAtItsStart(t *testing.T) {
	b := newBench(t, tumbling, 1, memlog.Options{})
	b.run(t)
	b.ingest(t, 0, 1, 12)
	b.run(t)
	if err := b.log.AddPartitions("events", 2); err != nil {
		t.Fatal(err)
	}
	if err := b.log.Append("events", 1, event.Record{Offset: memlog.Next, Timestamp: 13, Key: []byte("k"), Value: []byte(`{"value":1}`)}); err != nil {
		t.Fatal(err)
	}
	b.run(t)
	plan, err := apply.ReadPlan(t.Context(), b.log, b.pipe)
	if err != nil {
		t.Fatal(err)
	}
	born := plan.Partitions[event.TopicPartition{Topic: "events", Partition: 1}]
	if born.Offset != 0 || born.Watermark != plan.Watermark || plan.Watermark != 12 {
		t.Errorf("%+v of plan at %s", born, plan.Watermark)
	}
	b.ingest(t, 1, 40)
	b.ingest(t, 0, 40)
	b.run(t)
	if got, want := b.results(t), "0 on_time 1, 10 on_time 2"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAnUnknownOutcomeIsLearntAndNothingIsPublishedTwice(t *testing.T) {
	for _, side := range []string{":before", ":after"} {
		armed := false
		b := newBench(t, tumbling, 1, memlog.Options{Hook: func(op string) error {
			if armed && op == memlog.OpEnd+side {
				armed = false
				return errors.New("connection reset")
			}
			return nil
		}})
		b.run(t)
		b.ingest(t, 0, 1, 12)
		armed = true
		b.run(t)
		b.run(t)
		if got, want := b.results(t), "0 on_time 1"; got != want || armed {
			t.Errorf("end%s: got %q, want %q", side, got, want)
		}
	}
}

func TestRefusedOffsetsThatDoNotFitMoveToTheLedger(t *testing.T) {
	sessions := strings.Replace(tumbling, "[{name: w, type: tumbling, size: 10ms, allowed_lateness: 5ms}]", "[{name: s, type: session, gap: 5000ms, allowed_lateness: 0s}]", 1)
	b := newBench(t, sessions, 1, memlog.Options{})
	b.run(t)
	b.ingest(t, 0, 100_000)
	b.run(t)
	b.ingest(t, 0, 100_001) // keeps replayFrom before what follows
	var late []event.Time
	for i := range 3000 {
		late = append(late, event.Time(i*7%1000))
	}
	b.ingest(t, 0, late...)
	b.run(t)
	plan, err := apply.ReadPlan(t.Context(), b.log, b.pipe)
	if err != nil {
		t.Fatal(err)
	}
	if base := plan.Partitions[source]; base.RefusedAt == nil {
		t.Fatalf("metadata holds all of it: %d refused", len(base.Refused))
	}
	// A store that forgets all has to come to the same end: the late ones stay late, the session is whole.
	b.store = memstore.New()
	b.restart()
	b.ingest(t, 0, 100_002, 200_000)
	b.run(t)
	if n := len(b.log.Records("results-late")); n != len(late) {
		t.Errorf("%d late records, want %d", n, len(late))
	}
	if got, want := b.results(t), "100000 on_time 3"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAFirerThatDiedInItsTransactionDoesNotHoldUpTheNext(t *testing.T) {
	dead := false
	b := newBench(t, tumbling, 1, memlog.Options{Hook: func(op string) error {
		if dead && (op == memlog.OpEnd+":before" || op == memlog.OpClose+":before" || op == memlog.OpOpen+":before") {
			return errors.New("killed")
		}
		return nil
	}})
	b.run(t)
	b.ingest(t, 0, 1, 12)
	dead = true
	if r := b.fire.Run(t.Context(), apply.Nudge{})[0]; r.Err == nil {
		t.Fatal("it did not die")
	}
	dead = false
	if open := b.log.OpenTransactions(); len(open) != 1 {
		t.Fatalf("open transactions: %v, want the dead one's", open)
	}
	b.restart()
	// On memlog nobody times a transaction out: without opening a session first, this would wait for ever.
	b.run(t)
	if got, want := b.results(t), "0 on_time 1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestARecordTooLargeForItsSideTopicGoesThereWithoutItsContent(t *testing.T) {
	refusals := 0
	b := newBench(t, tumbling, 1, memlog.Options{Hook: func(op string) error {
		// As a broker does while the message is whole: the first plan, and the first try of making it smaller.
		if op == memlog.OpProduce+":before" && refusals > 0 {
			refusals--
			return kafkaio.ErrTooLarge
		}
		return nil
	}})
	b.run(t)
	for _, v := range []string{`{"value":1}`, strings.Repeat("x", 600_000), `{"value":1}`} {
		if err := b.log.Append("events", 0, event.Record{Offset: memlog.Next, Timestamp: 12, Key: []byte("k"), Value: []byte(v)}); err != nil {
			t.Fatal(err)
		}
	}
	refusals = 2
	b.ingest(t, 0, 30)
	b.run(t)
	dead := b.log.Records(b.pipe.DeadLetterTopic)
	if len(dead) != 1 || dead[0].Value != nil || string(dead[0].Headers[0].Value) != "too_large" || string(dead[0].Headers[3].Value) != "1" {
		t.Errorf("dead letters: %+v", dead)
	}
	if got, want := b.results(t), "10 on_time 2"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestOnlyWhatTheLogNoLongerHasIsLost(t *testing.T) {
	b := newBench(t, tumbling, 1, memlog.Options{})
	b.run(t)
	b.ingest(t, 0, 40)
	b.run(t)
	b.ingest(t, 0, 1, 2, 3, 4) // offsets 1 to 4, all late
	if err := b.log.Truncate(source, 3); err != nil {
		t.Fatal(err)
	}
	b.run(t)
	var got []string
	for _, r := range b.log.Records("results-late") {
		got = append(got, string(r.Headers[len(r.Headers)-6].Value)+" "+string(r.Headers[len(r.Headers)-9].Value)+" "+string(r.Value))
	}
	want := []string{"1 lost ", "2 lost ", `3 late {"value":1}`, `4 late {"value":1}`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
