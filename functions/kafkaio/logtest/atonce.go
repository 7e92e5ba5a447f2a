package logtest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
)

// RunAtOnce runs what of the suite holds without transactions, for a publisher whose sessions are kafkaio.IsAtOnce, and what
// holds of those alone.
func RunAtOnce(t *testing.T, open func(t *testing.T) Env) {
	t.Helper()
	needTransactions := []string{
		"OffsetsOfAnOpenTransaction", "OffsetsAtATimeOfTransactions", "OffsetsOfTwoGroupsCommitTogether", "ReadPassesMarkersAndAbortedData",
		"ReadOfAnAbortedTail", "ReadWaitsForAnOpenTransaction", "ReadEndsWithItsContext", "GroupWaitsForATransaction",
		"GroupWaitsForItsFirstCommit", "CloseAborts", "OpenFencesAndTakesOver", "AFencedSessionCannotProduceOrCommit",
		"AFailedSessionStaysFailed", "ConcurrentReadersSeeWholeTransactions",
	}
	tests := slices.DeleteFunc(suite(), func(v test) bool { return slices.Contains(needTransactions, v.name) })
	run(t, open, append(tests,
		test{"WhatIsProducedIsVisibleAtOnce", producedIsVisible},
		test{"ANewerSessionRefusesTheCommitOfAnOlder", newerSessionRefusesCommits},
		test{"AFencedSessionDoesNotBegin", fencedSessionDoesNotBegin},
		test{"SessionsFollowEachOtherHoweverTheyEnd", sessionsFollowEachOther},
		test{"GroupsCommitInOrder", groupsCommitInOrder},
	))
}

// atOnceSession opens a session of a group: id and group are one.
func (f *fixture) atOnceSession(group string) kafkaio.Session {
	f.Helper()
	s := f.open(group)
	if !kafkaio.IsAtOnce(s) {
		f.Fatalf("the session is not at once")
	}
	return s
}

func producedIsVisible(f *fixture) {
	source, out, group := f.topic(1), f.topic(1), f.names.next("group")
	s := f.atOnceSession(group)
	f.must(s.Begin(f.ctx), "begin")
	f.produceIn(s, to0(out, "1"))
	f.commitIn(s, group, source, kafkaio.Committed{Offset: 1})
	f.wantValues(part0(out), 0, 1, "1")
	f.wantGroup(group, source)
	s.Close() // as the death of its owner
	f.wantValues(part0(out), 0, 1, "1")
	f.wantGroup(group, source)

	s = f.atOnceSession(group)
	f.must(s.Begin(f.ctx), "begin")
	f.produceIn(s, to0(out, "2"))
	f.commitIn(s, group, source, kafkaio.Committed{Offset: 2, Metadata: "m"})
	f.end(s)
	f.wantGroup(group, source, kafkaio.Committed{Offset: 2, Metadata: "m"})
	f.wantValues(part0(out), 0, 2, "1", "2")
}

func newerSessionRefusesCommits(f *fixture) {
	source, out, group := f.topic(1), f.topic(1), f.names.next("group")
	old := f.atOnceSession(group)
	f.must(old.Begin(f.ctx), "begin")
	f.produceIn(old, to0(out, "old"))
	f.commitIn(old, group, source, kafkaio.Committed{Offset: 99})

	s := f.atOnceSession(group)
	f.must(s.Begin(f.ctx), "begin")
	f.produceIn(s, to0(out, "new"))
	f.commitIn(s, group, source, kafkaio.Committed{Offset: 1})
	f.wantIs(old.End(f.ctx), kafkaio.ErrFenced, "end of the old session")
	if old.Reusable() {
		f.Errorf("a fenced session says that it is reusable")
	}
	f.wantGroup(group, source)
	f.end(s)
	old.Close() // does not disturb the new one
	f.wantGroup(group, source, kafkaio.Committed{Offset: 1})
	if !s.Reusable() {
		s = f.atOnceSession(group)
	}
	f.must(s.Begin(f.ctx), "begin again")
	f.produceIn(s, to0(out, "newer"))
	f.commitIn(s, group, source, kafkaio.Committed{Offset: 2})
	f.end(s)
	f.wantGroup(group, source, kafkaio.Committed{Offset: 2})
}

func fencedSessionDoesNotBegin(f *fixture) {
	group := f.names.next("group")
	old := f.atOnceSession(group)
	f.atOnceSession(group)
	f.wantIs(old.Begin(f.ctx), kafkaio.ErrFenced, "begin")
}

func sessionsFollowEachOther(f *fixture) {
	source, out, group := f.topic(1), f.topic(1), f.names.next("group")
	var want []string
	for i := range 8 {
		s := f.atOnceSession(group)
		f.must(s.Begin(f.ctx), "begin")
		f.produceIn(s, to0(out, fmt.Sprint(i)))
		f.commitIn(s, group, source, kafkaio.Committed{Offset: int64(i)})
		if i%3 == 2 { // is left as it is, and taken over
			continue
		}
		f.end(s)
		f.wantGroup(group, source, kafkaio.Committed{Offset: int64(i)})
		if i%2 == 0 {
			s.Close()
		}
	}
	for i := range 8 {
		want = append(want, fmt.Sprint(i))
	}
	f.wantValues(part0(out), 0, 8, want...)
}

func groupsCommitInOrder(f *fixture) {
	source, out, group, other := f.topic(1), f.topic(1), f.names.next("group"), f.names.next("other")
	s := f.atOnceSession(group)
	f.must(s.Begin(f.ctx), "begin")
	f.produceIn(s, to0(out, "x"))
	f.commitIn(s, other, source, kafkaio.Committed{Offset: 3, Metadata: "ended"})
	f.commitIn(s, group, source, kafkaio.Committed{Offset: 3, Metadata: "begun"})
	f.end(s)
	f.wantGroup(other, source, kafkaio.Committed{Offset: 3, Metadata: "ended"})
	f.wantGroup(group, source, kafkaio.Committed{Offset: 3, Metadata: "begun"})
}
