package logtest

import (
	"slices"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
)

// at returns the offset at a time in partition 0.
func (f *fixture) at(topic string, t event.Time) int64 {
	f.Helper()
	got, err := f.Log.OffsetsAt(f.ctx, []event.TopicPartition{part0(topic)}, t)
	f.must(err, "offsets at a time")
	if len(got) != 1 {
		f.Fatalf("asked for one partition, got %v", got)
	}
	return got[part0(topic)]
}

func offsetsAtATime(f *fixture) {
	topic := f.topic(2)
	for _, t := range []event.Time{event.MinTime, 0, 5, event.MaxTime} {
		if o := f.at(topic, t); o != 0 {
			f.Errorf("an empty partition at %s: offset %d, want its end, 0", t, o)
		}
	}
	// Timestamps go up and down: what counts is the first record that has reached the time.
	for i, t := range []event.Time{1_000, 3_000, 2_000, 3_000, 5_000} {
		m := kafkaio.Message{Topic: topic, Timestamp: t, Value: []byte{byte(i)}}
		f.must(f.Produce(f.ctx, []kafkaio.Message{m}), "produce")
	}
	for t, want := range map[event.Time]int64{event.MinTime: 0, 1: 0, 1_000: 0, 1_001: 1, 3_000: 1, 3_001: 4, 5_000: 4, 5_001: 5, event.MaxTime: 5} {
		if got := f.at(topic, t); got != want {
			f.Errorf("at %d: offset %d, want %d", int64(t), got, want)
		}
	}
	f.must(f.DeleteRecords(f.ctx, part0(topic), 3), "delete records")
	for t, want := range map[event.Time]int64{event.MinTime: 3, 1_000: 3, 3_001: 4, 9_000: 5} {
		if got := f.at(topic, t); got != want {
			f.Errorf("at %d in a log that begins at 3: offset %d, want %d", int64(t), got, want)
		}
	}
	_, err := f.Log.OffsetsAt(f.ctx, []event.TopicPartition{part0(topic), {Topic: topic, Partition: 7}}, 1)
	f.wantIs(err, kafkaio.ErrUnknownTopic, "offsets at a time in a partition that is not there")
}

// What is not committed has its place in the log all the same: whoever replays from there waits for it, or passes it.
func offsetsAtATimeOfTransactions(f *fixture) {
	topic := f.topic(1)
	f.must(f.Produce(f.ctx, []kafkaio.Message{{Topic: topic, Timestamp: 1_000}}), "produce")
	s := f.begun(f.names.next("txid"))
	f.produceIn(s, kafkaio.Message{Topic: topic, Timestamp: 4_000})
	f.must(f.Produce(f.ctx, []kafkaio.Message{{Topic: topic, Timestamp: 5_000}}), "produce")
	for t, want := range map[event.Time]int64{1_000: 0, 4_000: 1, 4_001: 2} {
		if got := f.at(topic, t); got != want {
			f.Errorf("at %d, behind the begin of an open transaction: offset %d, want %d", int64(t), got, want)
		}
	}
	f.end(s)
	soon := event.FromGo(time.Now().Add(30 * time.Minute)) // after the control record, and not so late that a broker refuses it
	f.must(f.Produce(f.ctx, []kafkaio.Message{{Topic: topic, Timestamp: soon}}), "produce")
	end := f.bounds(part0(topic)).End
	if got := f.at(topic, soon); got != end-1 {
		f.Errorf("behind a control record: offset %d, want %d", got, end-1)
	}
}

func groupsAreFound(f *fixture) {
	topic, prefix := f.topic(1), f.names.next("group")
	s := f.begun(f.names.next("txid"))
	f.produceIn(s, to0(topic, "x"))
	var want []string
	for _, name := range []string{prefix + ".b", prefix + ".a.1", prefix, "x" + prefix, prefix + "-a"} {
		f.commitIn(s, name, topic, kafkaio.Committed{Offset: 1, Metadata: name})
	}
	f.end(s)
	want = append(want, prefix+".a.1", prefix+".b")
	got, err := f.Log.Groups(f.ctx, prefix+".")
	f.must(err, "groups")
	if diff := cmp.Diff(want, got); diff != "" {
		f.Errorf("groups (-want +got):\n%s", diff)
	}
	if got, err = f.Log.Groups(f.ctx, prefix+".c"); err != nil || len(got) != 0 {
		f.Errorf("groups of a prefix that none has: %v, %v", got, err)
	}
	if got, err = f.Log.Groups(f.ctx, ""); err != nil || !slices.Contains(got, prefix) || !slices.IsSorted(got) {
		f.Errorf("all groups: %v, %v", got, err)
	}
}

// The offsets of two groups in one transaction are there together or not at all.
func offsetsOfTwoGroups(f *fixture) {
	topic, one, two := f.topic(2), f.names.next("group"), f.names.next("group")
	id := f.names.next("txid")
	old := kafkaio.Committed{Offset: 5, Metadata: "old"}
	s := f.begun(id)
	f.produceIn(s, to0(topic, "before"))
	f.commitIn(s, one, topic, old)
	f.end(s)

	s = f.begun(id)
	f.produceIn(s, to0(topic, "aborted"))
	f.commitIn(s, one, topic, kafkaio.Committed{Offset: 6, Metadata: "aborted"})
	f.commitIn(s, two, topic, kafkaio.Committed{Offset: 6, Metadata: "aborted"})
	s = f.begun(id)
	f.wantGroup(one, topic, old)
	f.wantGroup(two, topic)

	f.produceIn(s, to0(topic, "after"))
	ended := kafkaio.Committed{Offset: 5, Metadata: "ended"}
	begun := []kafkaio.Committed{{Offset: 5, Metadata: "begun"}, {Offset: 0, Metadata: "born"}}
	f.commitIn(s, one, topic, ended)
	f.commitIn(s, two, topic, begun...)
	f.end(s)
	f.wantGroup(one, topic, ended)
	f.wantGroup(two, topic, begun...)
}
