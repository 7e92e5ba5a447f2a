// Package logtest is the conformance suite of kafkaio's contract. Every Log and Publisher passes it: memlog, kafkaio.Client
// over a fake cluster, and kafkaio.Client over real brokers.
package logtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
)

// Env is a log under test, with what the suite needs beside the contract. It may be shared with other tests: the suite makes
// topics, groups and transactional ids of its own.
type Env struct {
	Log       kafkaio.Log
	Publisher kafkaio.Publisher
	// CreateTopic makes a topic that can be used at once.
	CreateTopic func(ctx context.Context, name string, partitions int32) error
	// DeleteTopic deletes a topic, perhaps in the background.
	DeleteTopic func(ctx context.Context, name string) error
	// Produce publishes outside of any transaction.
	Produce func(ctx context.Context, messages []kafkaio.Message) error
	// DeleteRecords removes what lies before an offset.
	DeleteRecords func(ctx context.Context, p event.TopicPartition, before int64) error
	// Markers says whether the end of a transaction takes an offset in each of its partitions.
	Markers bool
	// FirstCommitWaits says whether Group waits also for the first commit that the group ever makes.
	FirstCommitWaits bool
}

// within bounds every test. Nothing here takes longer than a few seconds unless it hangs.
const within = 60 * time.Second

// names numbers topics, groups and ids.
type names struct {
	prefix string
	n      atomic.Int64
}

func (n *names) next(kind string) string {
	return fmt.Sprintf("logtest-%s-%s-%d", n.prefix, kind, n.n.Add(1))
}

// Run runs the suite. open is called once for each test.
func Run(t *testing.T, open func(t *testing.T) Env) {
	t.Helper()
	run(t, open, suite())
}

// test is one test of the suite.
type test struct {
	name string
	fn   func(*fixture)
}

func suite() []test {
	return []test{
		{"PartitionsAreInOrder", partitionsAreInOrder},
		{"UnknownTopicsAreNamed", unknownTopicsAreNamed},
		{"ARecreatedTopicHasAnotherID", recreatedTopicHasAnotherID},
		{"OffsetsAreTheBounds", offsetsAreTheBounds},
		{"OffsetsOfAnOpenTransaction", offsetsOfAnOpenTransaction},
		{"OffsetsAtATime", offsetsAtATime},
		{"OffsetsAtATimeOfTransactions", offsetsAtATimeOfTransactions},
		{"GroupsAreFoundByTheirBeginning", groupsAreFound},
		{"OffsetsOfTwoGroupsCommitTogether", offsetsOfTwoGroups},
		{"ReadKeepsNullAndEmptyApart", readKeepsNullAndEmptyApart},
		{"ReadEndsExactlyAtTo", readEndsExactlyAtTo},
		{"ReadOfAnEmptyRange", readOfAnEmptyRange},
		{"ReadPassesMarkersAndAbortedData", readPassesMarkersAndAbortedData},
		{"ReadOfAnAbortedTail", readOfAnAbortedTail},
		{"ReadOutOfRange", readOutOfRange},
		{"ReadAfterDeletedRecords", readAfterDeletedRecords},
		{"ReadWaitsForAnOpenTransaction", readWaitsForAnOpenTransaction},
		{"ReadEndsWithItsContext", readEndsWithItsContext},
		{"ReadEndsWithTheErrorOfItsFunction", readEndsWithTheErrorOfItsFunction},
		{"ReadRunsAreBounded", readRunsAreBounded},
		{"ReadLargeMessages", readLargeMessages},
		{"KeysChooseKafkasPartition", keysChooseKafkasPartition},
		{"NamedPartitionsAreHonoured", namedPartitionsAreHonoured},
		{"PositionsAreInTheOrderOfTheMessages", positionsAreInOrder},
		{"GroupThatDoesNotExistIsEmpty", groupThatDoesNotExist},
		{"OffsetsCommitWithTheMessages", offsetsCommitWithTheMessages},
		{"GroupWaitsForATransaction", groupWaitsForATransaction},
		{"GroupWaitsForItsFirstCommit", groupWaitsForItsFirstCommit},
		{"CloseAborts", closeAborts},
		{"MetadataIsBounded", metadataIsBounded},
		{"OffsetsOfAnUnknownTopicAreRefused", offsetsOfUnknownTopic},
		{"OpenFencesAndTakesOver", openFencesAndTakesOver},
		{"AFencedSessionCannotProduceOrCommit", fencedSessionCannotWrite},
		{"OpenAfterACommitSeesIt", openAfterACommitSeesIt},
		{"SessionsOfDifferentIDsAreIndependent", independentSessions},
		{"SessionStateIsChecked", sessionStateIsChecked},
		{"AFailedSessionStaysFailed", failedSessionStaysFailed},
		{"TransactionsFollowEachOther", transactionsFollowEachOther},
		{"ManyPartitions", manyPartitions},
		{"ConcurrentReadersSeeWholeTransactions", concurrentReaders},
	}
}

func run(t *testing.T, open func(t *testing.T) Env, tests []test) {
	t.Helper()
	n := &names{prefix: fmt.Sprintf("%x", time.Now().UnixNano())}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), within)
			defer cancel()
			test.fn(&fixture{T: t, Env: open(t), ctx: ctx, names: n})
		})
	}
}

// fixture is one test with its environment.
type fixture struct {
	*testing.T
	Env
	ctx   context.Context
	names *names
}

// topic makes a topic and lists its partitions, as every user of a Log does first.
func (f *fixture) topic(partitions int32) string {
	f.Helper()
	name := f.names.next("topic")
	f.must(f.CreateTopic(f.ctx, name, partitions), "create topic")
	ps, err := f.Log.Partitions(f.ctx, []string{name})
	f.must(err, "partitions")
	if len(ps) != int(partitions) {
		f.Fatalf("new topic has %d partitions, want %d", len(ps), partitions)
	}
	return name
}

func (f *fixture) must(err error, what string) {
	f.Helper()
	if err != nil {
		f.Fatalf("%s: %v", what, err)
	}
}

func (f *fixture) wantIs(err, want error, what string) {
	f.Helper()
	if !errors.Is(err, want) {
		f.Fatalf("%s: got error %v, want one that is %v", what, err, want)
	}
}

func (f *fixture) open(id string) kafkaio.Session {
	f.Helper()
	s, err := f.Publisher.Open(f.ctx, id)
	f.must(err, "open session")
	f.Cleanup(s.Close)
	return s
}

// begun opens a session and begins a transaction.
func (f *fixture) begun(id string) kafkaio.Session {
	f.Helper()
	s := f.open(id)
	f.must(s.Begin(f.ctx), "begin")
	return s
}

func (f *fixture) produceIn(s kafkaio.Session, messages ...kafkaio.Message) []kafkaio.Position {
	f.Helper()
	ps, err := s.Produce(f.ctx, messages)
	f.must(err, "produce in transaction")
	if len(ps) != len(messages) {
		f.Fatalf("%d positions for %d messages", len(ps), len(messages))
	}
	return ps
}

func (f *fixture) commitIn(s kafkaio.Session, group, topic string, at ...kafkaio.Committed) {
	f.Helper()
	f.must(s.CommitOffsets(f.ctx, group, f.commits(topic, at...)), "commit offsets")
}

// commits makes one commit for each partition from 0 on.
func (f *fixture) commits(topic string, at ...kafkaio.Committed) []kafkaio.OffsetCommit {
	f.Helper()
	ps, err := f.Log.Partitions(f.ctx, []string{topic})
	f.must(err, "partitions")
	commits := make([]kafkaio.OffsetCommit, len(at))
	for i, c := range at {
		commits[i] = kafkaio.OffsetCommit{Partition: ps[i], Committed: c}
	}
	return commits
}

func (f *fixture) end(s kafkaio.Session) {
	f.Helper()
	f.must(s.End(f.ctx), "end")
}

// publish commits messages in a transaction of its own.
func (f *fixture) publish(messages ...kafkaio.Message) {
	f.Helper()
	s := f.begun(f.names.next("txid"))
	f.produceIn(s, messages...)
	f.end(s)
	s.Close()
}

// abort leaves aborted messages in the log.
func (f *fixture) abort(messages ...kafkaio.Message) {
	f.Helper()
	id := f.names.next("txid")
	s := f.begun(id)
	f.produceIn(s, messages...)
	s.Close()
	f.open(id).Close() // settles it, should Close not have
}

func (f *fixture) bounds(tp event.TopicPartition) kafkaio.Offsets {
	f.Helper()
	all, err := f.Log.Offsets(f.ctx, []event.TopicPartition{tp})
	f.must(err, "offsets")
	return all[tp]
}

// read reads a range and checks what holds of every read: runs ascend and lie before their next, next never goes back, and
// the last one is to.
func (f *fixture) read(tp event.TopicPartition, from, to int64) []event.Record {
	f.Helper()
	records, err := readRange(f.ctx, f.Log, tp, from, to)
	f.must(err, "read")
	return records
}

func readRange(ctx context.Context, log kafkaio.Log, tp event.TopicPartition, from, to int64) ([]event.Record, error) {
	var all []event.Record
	at, calls := from, 0
	var broken error
	err := log.Read(ctx, tp, from, to, func(records []event.Record, next int64) error {
		calls++
		if next < at || next > to {
			broken = fmt.Errorf("next is %d after %d, in [%d, %d)", next, at, from, to)
			return broken
		}
		for _, r := range records {
			if r.Offset < at || r.Offset >= next {
				broken = fmt.Errorf("record at %d in a run of [%d, %d)", r.Offset, at, next)
				return broken
			}
			at = r.Offset + 1
			all = append(all, kafkaio.CloneRecord(r))
		}
		at = next
		return nil
	})
	switch {
	case err != nil:
		return all, err
	case broken != nil:
		return all, fmt.Errorf("an error of fn was not returned: %w", broken)
	case at != to || calls == 0:
		return all, fmt.Errorf("read [%d, %d) ended at %d after %d calls", from, to, at, calls)
	}
	return all, nil
}

func (f *fixture) values(tp event.TopicPartition, from, to int64) []string {
	f.Helper()
	var vs []string
	for _, r := range f.read(tp, from, to) {
		vs = append(vs, string(r.Value))
	}
	return vs
}

func (f *fixture) wantValues(tp event.TopicPartition, from, to int64, want ...string) {
	f.Helper()
	if diff := cmp.Diff(want, f.values(tp, from, to)); diff != "" {
		f.Errorf("values in [%d, %d) of %v (-want +got):\n%s", from, to, tp, diff)
	}
}

func (f *fixture) group(group string) map[event.TopicPartition]kafkaio.Committed {
	f.Helper()
	got, err := f.Log.Group(f.ctx, group)
	f.must(err, "group")
	return got
}

func (f *fixture) wantGroup(group, topic string, want ...kafkaio.Committed) {
	f.Helper()
	expect := map[event.TopicPartition]kafkaio.Committed{}
	for p, c := range want {
		expect[event.TopicPartition{Topic: topic, Partition: int32(p)}] = c
	}
	if diff := cmp.Diff(expect, f.group(group)); diff != "" {
		f.Errorf("group %s (-want +got):\n%s", group, diff)
	}
}

// to0 is a message to partition 0.
func to0(topic, value string) kafkaio.Message {
	return kafkaio.Message{Topic: topic, Value: []byte(value), Timestamp: 1_000}
}

func part0(topic string) event.TopicPartition { return event.TopicPartition{Topic: topic} }

func partitionsAreInOrder(f *fixture) {
	b, a := f.topic(3), f.topic(1)
	got, err := f.Log.Partitions(f.ctx, []string{b, a})
	f.must(err, "partitions")
	var tps []event.TopicPartition
	ids := map[string][16]byte{}
	for _, p := range got {
		tps = append(tps, p.TopicPartition)
		if id, ok := ids[p.Topic]; ok && id != p.TopicID {
			f.Errorf("partitions of %s have several topic ids", p.Topic)
		}
		ids[p.Topic] = p.TopicID
	}
	want := []event.TopicPartition{{Topic: b}, {Topic: b, Partition: 1}, {Topic: b, Partition: 2}, {Topic: a}}
	if diff := cmp.Diff(want, tps); diff != "" {
		f.Errorf("partitions (-want +got):\n%s", diff)
	}
	if ids[a] == ids[b] || ids[a] == ([16]byte{}) {
		f.Errorf("topic ids %x and %x, want two that differ", ids[a], ids[b])
	}
	none, err := f.Log.Partitions(f.ctx, nil)
	f.must(err, "partitions of no topics")
	if len(none) != 0 {
		f.Errorf("no topics have partitions %v", none)
	}
}

func unknownTopicsAreNamed(f *fixture) {
	there, absent := f.topic(1), f.names.next("absent")
	_, err := f.Log.Partitions(f.ctx, []string{there, absent})
	f.wantIs(err, kafkaio.ErrUnknownTopic, "partitions")
	if !strings.Contains(err.Error(), absent) {
		f.Errorf("error %q does not name %q", err, absent)
	}
	_, err = f.Log.Offsets(f.ctx, []event.TopicPartition{part0(there), {Topic: there, Partition: 7}})
	f.wantIs(err, kafkaio.ErrUnknownTopic, "offsets of a partition that is not there")
	for _, tp := range []event.TopicPartition{part0(absent), {Topic: there, Partition: 7}} {
		_, err = readRange(f.ctx, f.Log, tp, 0, 1)
		f.wantIs(err, kafkaio.ErrUnknownTopic, fmt.Sprintf("read %v", tp))
	}
	s := f.begun(f.names.next("txid"))
	_, err = s.Produce(f.ctx, []kafkaio.Message{to0(absent, "x")})
	f.wantIs(err, kafkaio.ErrUnknownTopic, "produce")
}

func recreatedTopicHasAnotherID(f *fixture) {
	name := f.topic(1)
	before, err := f.Log.Partitions(f.ctx, []string{name})
	f.must(err, "partitions")
	f.must(f.DeleteTopic(f.ctx, name), "delete topic")
	for { // until the deletion has come through
		err := f.CreateTopic(f.ctx, name, 1)
		if err == nil {
			break
		}
		f.wantIs(err, kafkaio.ErrTopicExists, "create the topic again")
		f.must(f.ctx.Err(), "create the topic again")
	}
	after, err := f.Log.Partitions(f.ctx, []string{name})
	f.must(err, "partitions")
	if before[0].TopicID == after[0].TopicID {
		f.Errorf("both topics have the id %x", after[0].TopicID)
	}
	f.must(f.Produce(f.ctx, []kafkaio.Message{to0(name, "new")}), "produce")
	f.wantValues(part0(name), 0, 1, "new")
}

func offsetsAreTheBounds(f *fixture) {
	topic := f.topic(2)
	if diff := cmp.Diff(kafkaio.Offsets{}, f.bounds(part0(topic))); diff != "" {
		f.Errorf("offsets of an empty partition (-want +got):\n%s", diff)
	}
	f.must(f.Produce(f.ctx, []kafkaio.Message{to0(topic, "a"), to0(topic, "b"), to0(topic, "c")}), "produce")
	f.must(f.DeleteRecords(f.ctx, part0(topic), 1), "delete records")
	tp1 := event.TopicPartition{Topic: topic, Partition: 1}
	got, err := f.Log.Offsets(f.ctx, []event.TopicPartition{part0(topic), tp1})
	f.must(err, "offsets")
	want := map[event.TopicPartition]kafkaio.Offsets{part0(topic): {Start: 1, End: 3, Stable: 3}, tp1: {}}
	if diff := cmp.Diff(want, got); diff != "" {
		f.Errorf("offsets (-want +got):\n%s", diff)
	}
}

func offsetsOfAnOpenTransaction(f *fixture) {
	topic := f.topic(1)
	f.must(f.Produce(f.ctx, []kafkaio.Message{to0(topic, "a")}), "produce")
	s := f.begun(f.names.next("txid"))
	f.produceIn(s, to0(topic, "b"), to0(topic, "c"))
	f.must(f.Produce(f.ctx, []kafkaio.Message{to0(topic, "d")}), "produce")
	if diff := cmp.Diff(kafkaio.Offsets{End: 4, Stable: 1}, f.bounds(part0(topic))); diff != "" {
		f.Errorf("offsets while the transaction is open (-want +got):\n%s", diff)
	}
	f.end(s)
	end := int64(4)
	if f.Markers {
		end++
	}
	f.wantValues(part0(topic), 0, end, "a", "b", "c", "d")
	if diff := cmp.Diff(kafkaio.Offsets{End: end, Stable: end}, f.bounds(part0(topic))); diff != "" {
		f.Errorf("offsets after the transaction (-want +got):\n%s", diff)
	}
}

func groupThatDoesNotExist(f *fixture) {
	if got := f.group(f.names.next("group")); len(got) != 0 {
		f.Errorf("got %v, want nothing", got)
	}
}

func manyPartitions(f *fixture) {
	const n = 48
	topic, group := f.topic(n), f.names.next("group")
	messages := make([]kafkaio.Message, n)
	commits := make([]kafkaio.Committed, n)
	for p := range n {
		messages[p] = kafkaio.Message{Topic: topic, Partition: int32(p), Value: fmt.Appendf(nil, "v%d", p)}
		commits[p] = kafkaio.Committed{Offset: int64(1_000 + p), Metadata: fmt.Sprintf("m%d", p)}
	}
	s := f.begun(f.names.next("txid"))
	f.produceIn(s, messages...)
	f.commitIn(s, group, topic, commits...)
	f.end(s)
	f.wantGroup(group, topic, commits...)
	for p := range int32(n) {
		f.wantValues(event.TopicPartition{Topic: topic, Partition: p}, 0, 1, fmt.Sprintf("v%d", p))
	}
}

func readLargeMessages(f *fixture) {
	topic := f.topic(1)
	const n, size = 6, 900 * 1_000
	var want [][]byte
	for i := range n {
		v := make([]byte, size)
		for j := range v { // does not compress to nothing
			v[j] = byte(uint32(i*size+j) * 2654435761 >> 13)
		}
		want = append(want, v)
		f.must(f.Produce(f.ctx, []kafkaio.Message{{Topic: topic, Value: v}}), "produce 900 kB")
	}
	s := f.begun(f.names.next("txid"))
	f.produceIn(s, kafkaio.Message{Topic: topic, Value: want[0]}, kafkaio.Message{Topic: topic, Value: want[1]})
	f.end(s)
	want = append(want, want[0], want[1])
	for i, r := range f.read(part0(topic), 0, int64(len(want))) {
		if !bytes.Equal(r.Value, want[i]) {
			f.Errorf("message %d differs", i)
		}
	}
}
