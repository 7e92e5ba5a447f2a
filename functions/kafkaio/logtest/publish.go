package logtest

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
)

func keysChooseKafkasPartition(f *fixture) {
	// Hashes from UtilsTest.testMurmur2 of Apache Kafka; the partition is their low 31 bits modulo the number.
	hashes := map[string]int32{
		"21":                         -973932308,
		"foobar":                     -790332482,
		"a-little-bit-long-string":   -985981536,
		"a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
	}
	const n = 7
	topic := f.topic(n)
	for key, hash := range hashes {
		want := (hash & 0x7fffffff) % n
		s := f.begun(f.names.next("txid"))
		got := f.produceIn(s, kafkaio.Message{Topic: topic, Partition: -1, Key: []byte(key)})[0].Partition
		f.end(s)
		if got != want {
			f.Errorf("key %q went to partition %d, want %d", key, got, want)
		}
	}
	s := f.begun(f.names.next("txid"))
	got := f.produceIn(s, kafkaio.Message{Topic: topic, Partition: -1, Key: []byte{}})[0].Partition
	if want := kafkaio.KeyPartition(nil, n); got != want {
		f.Errorf("the empty key went to partition %d, want %d", got, want)
	}
	if got := f.produceIn(s, kafkaio.Message{Topic: topic, Partition: -1})[0].Partition; got < 0 || got >= n {
		f.Errorf("a message without a key went to partition %d", got)
	}
}

func namedPartitionsAreHonoured(f *fixture) {
	topic := f.topic(4)
	s := f.begun(f.names.next("txid"))
	var messages []kafkaio.Message
	for _, p := range []int32{3, 0, 2, 2, 1} {
		messages = append(messages, kafkaio.Message{Topic: topic, Partition: p, Key: []byte("always the same")})
	}
	for i, pos := range f.produceIn(s, messages...) {
		if pos.Partition != messages[i].Partition {
			f.Errorf("message to partition %d went to %d", messages[i].Partition, pos.Partition)
		}
	}
	f.end(s)
	s = f.begun(f.names.next("txid"))
	if _, err := s.Produce(f.ctx, []kafkaio.Message{{Topic: topic, Partition: 9}}); err == nil {
		f.Errorf("a message to partition 9 of 4 was taken")
	}
}

func positionsAreInOrder(f *fixture) {
	topic := f.topic(3)
	s := f.begun(f.names.next("txid"))
	var messages []kafkaio.Message
	for i := range 300 {
		messages = append(messages, kafkaio.Message{Topic: topic, Partition: -1, Key: fmt.Append(nil, i), Value: fmt.Append(nil, i)})
	}
	positions := append(f.produceIn(s, messages[:100]...), f.produceIn(s, messages[100:]...)...)
	f.end(s)
	at := map[event.TopicPartition]map[int64]string{}
	for p := range int32(3) {
		tp := event.TopicPartition{Topic: topic, Partition: p}
		at[tp] = map[int64]string{}
		for _, r := range f.read(tp, 0, f.bounds(tp).End) {
			at[tp][r.Offset] = string(r.Value)
		}
	}
	for i, pos := range positions {
		if got := at[pos.TopicPartition][pos.Offset]; got != fmt.Sprint(i) {
			f.Errorf("message %d is said to be at %v, where %q is", i, pos, got)
		}
	}
}

func offsetsCommitWithTheMessages(f *fixture) {
	source, out, group := f.topic(2), f.topic(1), f.names.next("group")
	s := f.begun(f.names.next("txid"))
	f.produceIn(s, to0(out, "first"))
	want := []kafkaio.Committed{{Offset: 17, Metadata: "1,1000"}, {Offset: 1 << 40, Metadata: ""}}
	f.commitIn(s, group, source, want...)
	f.end(s)
	f.wantGroup(group, source, want...)
	f.wantValues(part0(out), 0, 1, "first")

	// A second plan by another session moves one partition; the other one keeps what it has. Offsets may go back.
	s = f.begun(f.names.next("txid"))
	f.produceIn(s, to0(out, "second"))
	f.commitIn(s, group, source, kafkaio.Committed{Offset: 3, Metadata: "not this"})
	f.commitIn(s, group, source, kafkaio.Committed{Offset: 5, Metadata: "é\x01 \""})
	f.end(s)
	f.wantGroup(group, source, kafkaio.Committed{Offset: 5, Metadata: "é\x01 \""}, want[1])
}

func groupWaitsForATransaction(f *fixture) {
	source, out, group := f.topic(1), f.topic(1), f.names.next("group")
	s := f.begun(f.names.next("txid"))
	f.produceIn(s, to0(out, "1"))
	f.commitIn(s, group, source, kafkaio.Committed{Offset: 1})
	f.end(s)
	f.wantGroup(group, source, kafkaio.Committed{Offset: 1})

	s = f.begun(f.names.next("txid"))
	f.produceIn(s, to0(out, "2"))
	f.commitIn(s, group, source, kafkaio.Committed{Offset: 2})
	f.groupWaits(group)
	f.end(s)
	f.wantGroup(group, source, kafkaio.Committed{Offset: 2})
}

// groupWaits checks that Group does not answer while a transaction with offsets of the group is open.
func (f *fixture) groupWaits(group string) {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.ctx, shortly)
	defer cancel()
	got, err := f.Log.Group(ctx, group)
	if err == nil {
		f.Fatalf("group answers %v while a transaction of it is open", got)
	}
	f.wantIs(err, context.DeadlineExceeded, "group")
}

func groupWaitsForItsFirstCommit(f *fixture) {
	source, out, group := f.topic(2), f.topic(1), f.names.next("group")
	s := f.begun(f.names.next("txid"))
	f.produceIn(s, to0(out, "1"))
	f.commitIn(s, group, source, kafkaio.Committed{Offset: 1}, kafkaio.Committed{Offset: 2})
	if f.FirstCommitWaits {
		f.groupWaits(group)
	} else if got := f.group(group); len(got) != 0 {
		f.Errorf("offsets %v of an open transaction are visible", got)
	}
	f.end(s)
	f.wantGroup(group, source, kafkaio.Committed{Offset: 1}, kafkaio.Committed{Offset: 2})
}

func closeAborts(f *fixture) {
	source, out, group := f.topic(1), f.topic(1), f.names.next("group")
	s := f.begun(f.names.next("txid"))
	f.produceIn(s, to0(out, "aborted"))
	f.commitIn(s, group, source, kafkaio.Committed{Offset: 9})
	s.Close()
	s.Close() // harmless
	f.wantIs(s.Begin(f.ctx), kafkaio.ErrSessionState, "begin after close")
	if got := f.group(group); len(got) != 0 { // waits for the abort
		f.Errorf("group has %v of an aborted transaction", got)
	}
	end := f.bounds(part0(out)).End
	if got := f.values(part0(out), 0, end); len(got) != 0 {
		f.Errorf("read %q of an aborted transaction", got)
	}
}

func metadataIsBounded(f *fixture) {
	source, out, group := f.topic(1), f.topic(1), f.names.next("group")
	most := kafkaio.Committed{Offset: 1, Metadata: strings.Repeat("x", kafkaio.MaxMetadata)}
	s := f.begun(f.names.next("txid"))
	f.produceIn(s, to0(out, "1"))
	f.commitIn(s, group, source, most)
	f.end(s)
	f.wantGroup(group, source, most)

	s = f.begun(f.names.next("txid"))
	f.produceIn(s, to0(out, "2"))
	over := kafkaio.Committed{Offset: 2, Metadata: most.Metadata + "x"}
	f.wantIs(s.CommitOffsets(f.ctx, group, f.commits(source, over)), kafkaio.ErrMetadataTooLarge, "commit")
	s.Close()
	f.wantGroup(group, source, most)
}

func offsetsOfUnknownTopic(f *fixture) {
	out := f.topic(1)
	s := f.begun(f.names.next("txid"))
	f.produceIn(s, to0(out, "1"))
	absent := kafkaio.OffsetCommit{
		Partition: kafkaio.Partition{TopicPartition: event.TopicPartition{Topic: f.names.next("absent")}, TopicID: [16]byte{1, 2, 3}},
		Committed: kafkaio.Committed{Offset: 1},
	}
	f.wantIs(s.CommitOffsets(f.ctx, f.names.next("group"), []kafkaio.OffsetCommit{absent}), kafkaio.ErrUnknownTopic, "commit")
}

func openFencesAndTakesOver(f *fixture) {
	source, out, group, id := f.topic(1), f.topic(1), f.names.next("group"), f.names.next("txid")
	old := f.begun(id)
	f.produceIn(old, to0(out, "of the old session"))
	f.commitIn(old, group, source, kafkaio.Committed{Offset: 99})

	s := f.open(id)
	// What the old one had open is aborted when Open returns: nothing is waited for.
	if o := f.bounds(part0(out)); o.Stable != o.End {
		f.Errorf("after the takeover the log is stable to %d of %d", o.Stable, o.End)
	}
	if got := f.group(group); len(got) != 0 {
		f.Errorf("after the takeover the group has %v", got)
	}
	f.must(s.Begin(f.ctx), "begin")
	f.produceIn(s, to0(out, "of the new session"))
	f.commitIn(s, group, source, kafkaio.Committed{Offset: 1})
	f.wantIs(old.End(f.ctx), kafkaio.ErrFenced, "end of the old session")
	old.Close() // does not disturb the new one
	f.end(s)
	f.wantGroup(group, source, kafkaio.Committed{Offset: 1})
	f.wantValues(part0(out), 0, f.bounds(part0(out)).End, "of the new session")
}

func fencedSessionCannotWrite(f *fixture) {
	source, out, group := f.topic(1), f.topic(1), f.names.next("group")
	for _, op := range []string{"produce", "commit offsets", "begin and produce"} {
		id := f.names.next("txid")
		old := f.open(id)
		if op != "begin and produce" {
			f.must(old.Begin(f.ctx), "begin")
			f.produceIn(old, to0(out, "old"))
		}
		s := f.begun(id)
		f.produceIn(s, to0(out, "new, "+op))
		var err error
		switch op {
		case "produce":
			_, err = old.Produce(f.ctx, []kafkaio.Message{to0(out, "old")})
		case "commit offsets":
			err = old.CommitOffsets(f.ctx, group, f.commits(source, kafkaio.Committed{Offset: 99}))
		case "begin and produce":
			if err = old.Begin(f.ctx); err == nil {
				_, err = old.Produce(f.ctx, []kafkaio.Message{to0(out, "old")})
			}
		}
		f.wantIs(err, kafkaio.ErrFenced, op)
		if old.Reusable() {
			f.Errorf("%s: a fenced session says that it is reusable", op)
		}
		old.Close()
		f.end(s)
	}
	if got := f.group(group); len(got) != 0 {
		f.Errorf("a fenced session has committed %v", got)
	}
	f.wantValues(part0(out), 0, f.bounds(part0(out)).End, "new, produce", "new, commit offsets", "new, begin and produce")
}

func openAfterACommitSeesIt(f *fixture) {
	source, out, group, id := f.topic(1), f.topic(1), f.names.next("group"), f.names.next("txid")
	var want []string
	for i := range 20 { // the group is read at once, every time: what it answers is never the plan before
		s := f.begun(id)
		if i > 0 {
			f.wantGroup(group, source, kafkaio.Committed{Offset: int64(i), Metadata: fmt.Sprint(i)})
		}
		f.produceIn(s, to0(out, fmt.Sprint(i)))
		f.commitIn(s, group, source, kafkaio.Committed{Offset: int64(i + 1), Metadata: fmt.Sprint(i + 1)})
		f.end(s)
		want = append(want, fmt.Sprint(i))
		if i%2 == 0 {
			f.wantGroup(group, source, kafkaio.Committed{Offset: int64(i + 1), Metadata: fmt.Sprint(i + 1)})
		}
		s.Close()
	}
	f.wantValues(part0(out), 0, f.bounds(part0(out)).End, want...)
}

func independentSessions(f *fixture) {
	source, out := f.topic(1), f.topic(1)
	g1, g2 := f.names.next("group"), f.names.next("group")
	a, b := f.begun(f.names.next("txid")), f.begun(f.names.next("txid"))
	f.produceIn(a, to0(out, "a"))
	f.produceIn(b, to0(out, "b"))
	f.commitIn(a, g1, source, kafkaio.Committed{Offset: 1})
	f.commitIn(b, g2, source, kafkaio.Committed{Offset: 2})
	f.end(b)
	f.wantGroup(g2, source, kafkaio.Committed{Offset: 2})
	f.groupIsNot(g1, source)
	f.end(a)
	f.wantGroup(g1, source, kafkaio.Committed{Offset: 1})
	f.wantValues(part0(out), 0, 2, "a", "b")
}

// groupIsNot checks that nothing of an open transaction shows: the group has nothing, or waits.
func (f *fixture) groupIsNot(group, topic string) {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.ctx, shortly)
	defer cancel()
	got, err := f.Log.Group(ctx, group)
	if c, ok := got[part0(topic)]; ok {
		f.Errorf("group has %v of an open transaction", c)
	}
	if err != nil {
		f.wantIs(err, context.DeadlineExceeded, "group")
	}
}

func sessionStateIsChecked(f *fixture) {
	source, out := f.topic(1), f.topic(1)
	s := f.open(f.names.next("txid"))
	_, err := s.Produce(f.ctx, []kafkaio.Message{to0(out, "x")})
	f.wantIs(err, kafkaio.ErrSessionState, "produce before begin")

	s = f.open(f.names.next("txid"))
	err = s.CommitOffsets(f.ctx, f.names.next("group"), f.commits(source, kafkaio.Committed{Offset: 1}))
	f.wantIs(err, kafkaio.ErrSessionState, "commit offsets before begin")

	s = f.open(f.names.next("txid"))
	f.wantIs(s.End(f.ctx), kafkaio.ErrSessionState, "end before begin")

	s = f.begun(f.names.next("txid"))
	f.wantIs(s.Begin(f.ctx), kafkaio.ErrSessionState, "begin twice")

	group := f.names.next("group")
	s = f.begun(f.names.next("txid"))
	f.commitIn(s, group, source, kafkaio.Committed{Offset: 1})
	f.wantIs(s.End(f.ctx), kafkaio.ErrSessionState, "end without a message")
	s.Close()
	if got := f.group(group); len(got) != 0 {
		f.Errorf("a transaction without a message has committed %v", got)
	}
}

func failedSessionStaysFailed(f *fixture) {
	out, id := f.topic(1), f.names.next("txid")
	s := f.begun(id)
	f.produceIn(s, to0(out, "aborted"))
	if _, err := s.Produce(f.ctx, []kafkaio.Message{{Topic: out, Partition: 5}}); err == nil {
		f.Fatalf("a message to partition 5 of 1 was taken")
	}
	if s.Reusable() {
		f.Errorf("a failed session says that it is reusable")
	}
	if err := s.End(f.ctx); err == nil {
		f.Fatalf("a failed session has committed")
	}
	s.Close()
	s = f.begun(id)
	f.produceIn(s, to0(out, "b"))
	f.end(s)
	f.wantValues(part0(out), 0, f.bounds(part0(out)).End, "b")
}

func transactionsFollowEachOther(f *fixture) {
	source, out, group, id := f.topic(1), f.topic(2), f.names.next("group"), f.names.next("txid")
	s := f.open(id)
	var want []string
	for i := range 10 {
		f.must(s.Begin(f.ctx), "begin")
		f.produceIn(s, to0(out, fmt.Sprint(i)), kafkaio.Message{Topic: out, Partition: 1, Value: []byte("x")})
		f.commitIn(s, group, source, kafkaio.Committed{Offset: int64(i)})
		f.end(s)
		f.wantGroup(group, source, kafkaio.Committed{Offset: int64(i)})
		want = append(want, fmt.Sprint(i))
		if !s.Reusable() {
			f.wantIs(s.Begin(f.ctx), kafkaio.ErrSessionState, "begin in a session that is not reusable")
			s.Close()
			s = f.open(id)
		}
	}
	f.wantValues(part0(out), 0, f.bounds(part0(out)).End, want...)
}

func concurrentReaders(f *fixture) {
	const plans = 15
	source, out, group := f.topic(1), f.topic(2), f.names.next("group")
	ctx, cancel := context.WithCancel(f.ctx)
	defer cancel()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := f.lookOnce(ctx, source, out, group); err != nil && ctx.Err() == nil {
					f.Errorf("reader: %v", err)
					return
				}
			}
		})
	}
	id := f.names.next("txid")
	for i := range plans {
		s := f.begun(id)
		two := []kafkaio.Message{to0(out, fmt.Sprint(i)), {Topic: out, Partition: 1, Value: fmt.Append(nil, i)}}
		f.produceIn(s, two...)
		f.commitIn(s, group, source, kafkaio.Committed{Offset: int64(i + 1)})
		if i%4 == 3 { // is taken over by the next one and never seen
			continue
		}
		f.end(s)
		s.Close()
	}
	f.open(id).Close()
	cancel()
	wg.Wait()
	var want []string
	for i := range plans {
		if i%4 != 3 {
			want = append(want, fmt.Sprint(i))
		}
	}
	for p := range int32(2) {
		tp := event.TopicPartition{Topic: out, Partition: p}
		f.wantValues(tp, 0, f.bounds(tp).End, want...)
	}
	f.wantGroup(group, source, kafkaio.Committed{Offset: plans})
}

// lookOnce checks what holds whenever it is looked: a plan that the group tells of is in both partitions, in order, and
// nothing of a plan that was aborted is.
func (f *fixture) lookOnce(ctx context.Context, source, out, group string) error {
	committed, err := f.Log.Group(ctx, group)
	if err != nil {
		return err
	}
	for p := range int32(2) {
		tp := event.TopicPartition{Topic: out, Partition: p}
		offsets, err := f.Log.Offsets(ctx, []event.TopicPartition{tp})
		if err != nil {
			return err
		}
		records, err := readRange(ctx, f.Log, tp, 0, offsets[tp].End)
		if err != nil {
			return err
		}
		var got []string
		for _, r := range records {
			got = append(got, string(r.Value))
		}
		var want []string
		for i := range committed[part0(source)].Offset {
			if i%4 != 3 {
				want = append(want, fmt.Sprint(i))
			}
		}
		if len(got) < len(want) || !cmp.Equal(want, append([]string(nil), got[:len(want)]...)) {
			return fmt.Errorf("group is at %d, %v has %q", committed[part0(source)].Offset, tp, got)
		}
	}
	return nil
}
