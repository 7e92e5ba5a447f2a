package memlog_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio/memlog"
)

var in0 = event.TopicPartition{Topic: "in"}

func TestAppendMakesHoles(t *testing.T) {
	l := memlog.New(memlog.Options{})
	must(t, l.CreateTopic("in", 1))
	must(t, l.Append("in", 0, event.Record{Offset: 3, Value: []byte("a")}, event.Record{Offset: memlog.Next}, event.Record{Offset: 10}))
	var offsets, nexts []int64
	for _, to := range []int64{2, 4, 9, 11} {
		must(t, l.Read(t.Context(), in0, 0, to, func(rs []event.Record, next int64) error {
			for _, r := range rs {
				offsets = append(offsets, r.Offset)
			}
			nexts = append(nexts, next)
			return nil
		}))
	}
	if diff := cmp.Diff([]int64{3, 3, 4, 3, 4, 10}, offsets); diff != "" {
		t.Errorf("offsets (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]int64{2, 4, 9, 11}, nexts); diff != "" {
		t.Errorf("next (-want +got):\n%s", diff)
	}
}

func TestAppendRefusesWhatIsThere(t *testing.T) {
	l := memlog.New(memlog.Options{})
	must(t, l.CreateTopic("in", 1))
	must(t, l.Append("in", 0, event.Record{Offset: 5}))
	for name, rs := range map[string][]event.Record{
		"a known offset":           {{Offset: 6}, {Offset: 5}},
		"an offset within a hole":  {{Offset: 2}},
		"a descending second one":  {{Offset: 9}, {Offset: 8}},
		"the same one twice":       {{Offset: 9}, {Offset: 9}},
		"one that is negative":     {{Offset: -2}},
		"the end, then one before": {{Offset: memlog.Next}, {Offset: 6}},
	} {
		if err := l.Append("in", 0, rs...); !errors.Is(err, kafkaio.ErrOutOfRange) {
			t.Errorf("%s: %v, want ErrOutOfRange", name, err)
		}
	}
	if n := len(l.Records("in")); n != 1 {
		t.Errorf("%d records after refused appends, want 1", n)
	}
	for _, p := range []int32{-1, 1} {
		if err := l.Append("in", p, event.Record{}); !errors.Is(err, kafkaio.ErrUnknownTopic) {
			t.Errorf("append to partition %d: %v, want ErrUnknownTopic", p, err)
		}
	}
}

func TestAppendCopies(t *testing.T) {
	l := memlog.New(memlog.Options{})
	must(t, l.CreateTopic("in", 1))
	value := []byte("before")
	must(t, l.Append("in", 0, event.Record{Value: value}))
	copy(value, "after!")
	l.Records("in")[0].Value[0] = 'X'
	if got := string(l.Records("in")[0].Value); got != "before" {
		t.Errorf("stored value is %q", got)
	}
}

func TestScribbleFindsKeptRecords(t *testing.T) {
	l := memlog.New(memlog.Options{Scribble: true})
	must(t, l.CreateTopic("in", 1))
	must(t, l.Append("in", 0, event.Record{Value: []byte("v"), Headers: []event.Header{{Key: "k", Value: []byte("h")}}}))
	var kept []byte
	for range 2 { // what is stored is not touched
		must(t, l.Read(t.Context(), in0, 0, 1, func(rs []event.Record, _ int64) error {
			if kept = rs[0].Value; string(kept) != "v" || string(rs[0].Headers[0].Value) != "h" {
				t.Errorf("read %q", kept)
			}
			return nil
		}))
		if string(kept) == "v" {
			t.Errorf("a kept value is still readable")
		}
	}
}

func TestTopicsGrowAndGoAway(t *testing.T) {
	l := memlog.New(memlog.Options{})
	must(t, l.CreateTopic("in", 1))
	must(t, l.AddPartitions("in", 3))
	ps, err := l.Partitions(t.Context(), []string{"in"})
	must(t, err)
	if len(ps) != 3 {
		t.Errorf("%d partitions, want 3", len(ps))
	}
	if err := l.AddPartitions("in", 3); err == nil {
		t.Errorf("3 partitions can be made of 3")
	}
	offset := map[event.TopicPartition]kafkaio.Committed{in0: {Offset: 1, Metadata: "m"}, {Topic: "other"}: {Offset: 2}}
	l.SetGroup("group", offset)
	got, err := l.Group(t.Context(), "group")
	must(t, err)
	if diff := cmp.Diff(offset, got); diff != "" {
		t.Errorf("group (-want +got):\n%s", diff)
	}
	must(t, l.DeleteTopic("in"))
	if got, err = l.Group(t.Context(), "group"); err != nil || len(got) != 1 {
		t.Errorf("group after its topic was deleted: %v, %v", got, err)
	}
	l.DeleteGroup("group")
	if got, err = l.Group(t.Context(), "group"); err != nil || len(got) != 0 {
		t.Errorf("deleted group: %v, %v", got, err)
	}
	if l.Records("in") != nil {
		t.Errorf("a deleted topic has records")
	}
	if err := l.CreateTopic("none", 0); err == nil {
		t.Errorf("a topic without partitions was made")
	}
}

// Two logs that are told the same are the same: ids, offsets, timestamps.
func TestItIsDeterministic(t *testing.T) {
	run := func() ([]kafkaio.Partition, []memlog.Stored) {
		now := event.Time(100)
		l := memlog.New(memlog.Options{NoMarkers: true, Now: func() event.Time { now++; return now }})
		must(t, l.CreateTopic("out", 4))
		s, err := l.Open(t.Context(), "id")
		must(t, err)
		for _, key := range []string{"a", "b", "c"} {
			must(t, s.Begin(t.Context()))
			_, err := s.Produce(t.Context(), []kafkaio.Message{
				{Topic: "out", Partition: -1, Key: []byte(key)}, {Topic: "out", Partition: -1}, {Topic: "out", Partition: 2, Timestamp: 7},
			})
			must(t, err)
			must(t, s.End(t.Context()))
		}
		ps, err := l.Partitions(t.Context(), []string{"out"})
		must(t, err)
		return ps, l.Records("out")
	}
	ps1, rs1 := run()
	ps2, rs2 := run()
	if diff := cmp.Diff(ps1, ps2); diff != "" {
		t.Errorf("partitions differ:\n%s", diff)
	}
	if diff := cmp.Diff(rs1, rs2); diff != "" {
		t.Errorf("records differ:\n%s", diff)
	}
	var in2 []int64
	for _, r := range rs1 {
		if r.Partition == 2 && r.Timestamp == 7 {
			in2 = append(in2, r.Offset)
		}
		if r.Partition == 0 && r.Key == nil && r.Timestamp <= 100 {
			t.Errorf("the clock did not stamp %v", r)
		}
	}
	if len(in2) != 3 || len(rs1) != 9 {
		t.Errorf("%d records, those to partition 2 at %v", len(rs1), in2)
	}
}
