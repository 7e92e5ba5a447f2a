package logtest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
)

// shortly is how long a test looks at something that is to go on waiting.
const shortly = 150 * time.Millisecond

func readKeepsNullAndEmptyApart(f *fixture) {
	topic := f.topic(1)
	want := []event.Record{
		{Timestamp: 1, Key: nil, Value: nil},
		{Timestamp: 2, Key: []byte{}, Value: []byte{}},
		{Timestamp: 3, Key: []byte("k"), Value: nil},
		{Timestamp: 4, Key: nil, Value: []byte("v")},
		{Timestamp: 1_735_734_840_123, Key: []byte{0, 0xff}, Value: []byte{0x80, 0}, Headers: []event.Header{
			{Key: "null", Value: nil},
			{Key: "empty", Value: []byte{}},
			{Key: "", Value: []byte("without a name")},
			{Key: "twice", Value: []byte{1}},
			{Key: "twice", Value: []byte{0xff, 2}},
		}},
	}
	var messages []kafkaio.Message
	for i := range want {
		r := &want[i]
		r.Offset = int64(i)
		messages = append(messages, kafkaio.Message{Topic: topic, Key: r.Key, Value: r.Value, Headers: r.Headers, Timestamp: r.Timestamp})
	}
	f.must(f.Produce(f.ctx, messages), "produce")
	f.publish(messages...)
	if diff := cmp.Diff(want, f.read(part0(topic), 0, 5)); diff != "" {
		f.Errorf("records published plainly (-want +got):\n%s", diff)
	}
	for i := range want {
		want[i].Offset += 5
	}
	if diff := cmp.Diff(want, f.read(part0(topic), 5, 10)); diff != "" {
		f.Errorf("records published in a transaction (-want +got):\n%s", diff)
	}
	f.must(f.Produce(f.ctx, []kafkaio.Message{{Topic: topic, Value: []byte("now")}}), "produce")
	last := f.bounds(part0(topic)).End - 1
	if got := f.read(part0(topic), last, last+1); len(got) != 1 || got[0].Timestamp <= 0 {
		f.Errorf("message without a timestamp is stored as %v", got)
	}
}

func readEndsExactlyAtTo(f *fixture) {
	topic := f.topic(1)
	var messages []kafkaio.Message
	for i := range 10 { // one batch on a broker: a read starts and ends within it
		messages = append(messages, to0(topic, fmt.Sprint(i)))
	}
	f.must(f.Produce(f.ctx, messages), "produce")
	f.wantValues(part0(topic), 3, 7, "3", "4", "5", "6")
	f.wantValues(part0(topic), 9, 10, "9")
	f.wantValues(part0(topic), 0, 1, "0")
	if err := f.Log.Read(f.ctx, part0(topic), 7, 3, func([]event.Record, int64) error { return nil }); err == nil {
		f.Errorf("read of [7, 3) is no error")
	}
}

func readOfAnEmptyRange(f *fixture) {
	topic := f.topic(1)
	f.must(f.Produce(f.ctx, []kafkaio.Message{to0(topic, "a")}), "produce")
	for _, at := range []int64{0, 1} {
		if got := f.read(part0(topic), at, at); len(got) != 0 {
			f.Errorf("read [%d, %d): %v", at, at, got)
		}
	}
}

func readPassesMarkersAndAbortedData(f *fixture) {
	topic := f.topic(1)
	f.must(f.Produce(f.ctx, []kafkaio.Message{to0(topic, "a")}), "produce")
	f.abort(to0(topic, "aborted"), to0(topic, "aborted"))
	f.publish(to0(topic, "b"))
	// Interleaved: one transaction around another one, and the same id aborting and then committing.
	outer := f.begun(f.names.next("txid"))
	f.produceIn(outer, to0(topic, "aborted"))
	id := f.names.next("txid")
	inner := f.begun(id)
	f.produceIn(inner, to0(topic, "aborted"))
	inner = f.open(id)
	f.must(inner.Begin(f.ctx), "begin")
	f.produceIn(inner, to0(topic, "c"))
	f.must(f.Produce(f.ctx, []kafkaio.Message{to0(topic, "d")}), "produce")
	f.end(inner)
	outer.Close()
	f.publish(to0(topic, "e"))
	end := f.bounds(part0(topic)).End
	f.wantValues(part0(topic), 0, end, "a", "b", "c", "d", "e")
	// From every offset to every offset: what is read is what of it lies between.
	all := f.read(part0(topic), 0, end)
	for from := range end + 1 {
		for to := from; to <= end; to++ {
			var want []event.Record
			for _, r := range all {
				if r.Offset >= from && r.Offset < to {
					want = append(want, r)
				}
			}
			if diff := cmp.Diff(want, f.read(part0(topic), from, to)); diff != "" {
				f.Errorf("read [%d, %d) (-want +got):\n%s", from, to, diff)
			}
		}
	}
}

func readOfAnAbortedTail(f *fixture) {
	topic := f.topic(1)
	f.abort(to0(topic, "aborted"), to0(topic, "aborted"))
	f.abort(to0(topic, "aborted"))
	end := f.bounds(part0(topic)).End
	if end < 3 {
		f.Fatalf("end is %d after three aborted records", end)
	}
	if got := f.values(part0(topic), 0, end); len(got) != 0 {
		f.Errorf("read %q, want nothing", got)
	}
}

func readOutOfRange(f *fixture) {
	topic := f.topic(1)
	f.must(f.Produce(f.ctx, []kafkaio.Message{to0(topic, "a"), to0(topic, "b")}), "produce")
	_, err := readRange(f.ctx, f.Log, part0(topic), 5, 6)
	f.wantIs(err, kafkaio.ErrOutOfRange, "read beyond the end")
}

func readAfterDeletedRecords(f *fixture) {
	topic := f.topic(1)
	f.must(f.Produce(f.ctx, []kafkaio.Message{to0(topic, "a"), to0(topic, "b"), to0(topic, "c")}), "produce")
	f.must(f.DeleteRecords(f.ctx, part0(topic), 2), "delete records")
	_, err := readRange(f.ctx, f.Log, part0(topic), 1, 3)
	f.wantIs(err, kafkaio.ErrOutOfRange, "read what was deleted")
	f.wantValues(part0(topic), 2, 3, "c")
	f.must(f.DeleteRecords(f.ctx, part0(topic), 3), "delete all records")
	if diff := cmp.Diff(kafkaio.Offsets{Start: 3, End: 3, Stable: 3}, f.bounds(part0(topic))); diff != "" {
		f.Errorf("offsets (-want +got):\n%s", diff)
	}
}

func readWaitsForAnOpenTransaction(f *fixture) {
	topic := f.topic(1)
	f.must(f.Produce(f.ctx, []kafkaio.Message{to0(topic, "a")}), "produce")
	s := f.begun(f.names.next("txid"))
	f.produceIn(s, to0(topic, "b"))
	f.must(f.Produce(f.ctx, []kafkaio.Message{to0(topic, "c")}), "produce")

	var decided atomic.Bool
	stable := make(chan struct{}) // closed when the reader has been given what is stable
	done := make(chan error, 1)
	var got []string
	go func() {
		done <- f.Log.Read(f.ctx, part0(topic), 0, 3, func(records []event.Record, next int64) error {
			for _, r := range records {
				got = append(got, string(r.Value))
			}
			if next > 1 && !decided.Load() {
				return fmt.Errorf("next is %d while the transaction at 1 is open", next)
			}
			if next == 1 {
				close(stable)
			}
			return nil
		})
	}()
	select {
	case <-stable:
	case err := <-done:
		f.Fatalf("read ended with the transaction open: %v", err)
	}
	decided.Store(true)
	f.end(s)
	f.must(<-done, "read")
	if diff := cmp.Diff([]string{"a", "b", "c"}, got); diff != "" {
		f.Errorf("values (-want +got):\n%s", diff)
	}
}

func readEndsWithItsContext(f *fixture) {
	topic := f.topic(1)
	s := f.begun(f.names.next("txid"))
	f.produceIn(s, to0(topic, "a"))
	ctx, cancel := context.WithTimeout(f.ctx, shortly)
	defer cancel()
	got, err := readRange(ctx, f.Log, part0(topic), 0, 1)
	f.wantIs(err, context.DeadlineExceeded, "read of an open transaction")
	if len(got) != 0 {
		f.Errorf("read %v of an open transaction", got)
	}
	// An offset that is not there yet is waited for as well.
	other := f.topic(1)
	ctx, cancel = context.WithTimeout(f.ctx, shortly)
	defer cancel()
	_, err = readRange(ctx, f.Log, part0(other), 0, 1)
	f.wantIs(err, context.DeadlineExceeded, "read of an empty partition")
}

func readEndsWithTheErrorOfItsFunction(f *fixture) {
	topic := f.topic(1)
	f.must(f.Produce(f.ctx, []kafkaio.Message{to0(topic, "a"), to0(topic, "b")}), "produce")
	boom, calls := errors.New("boom"), 0
	err := f.Log.Read(f.ctx, part0(topic), 0, 2, func([]event.Record, int64) error {
		calls++
		return boom
	})
	f.wantIs(err, boom, "read")
	if calls != 1 {
		f.Errorf("fn was called %d times, want once", calls)
	}
}

func readRunsAreBounded(f *fixture) {
	topic := f.topic(1)
	const n = 5_000
	messages := make([]kafkaio.Message, n)
	for i := range messages {
		messages[i] = to0(topic, fmt.Sprint(i))
	}
	f.must(f.Produce(f.ctx, messages), "produce")
	seen, at := 0, int64(0)
	err := f.Log.Read(f.ctx, part0(topic), 0, n, func(records []event.Record, next int64) error {
		if len(records) > kafkaio.RunRecords {
			return fmt.Errorf("a run of %d records", len(records))
		}
		for _, r := range records {
			if string(r.Value) != fmt.Sprint(r.Offset) || r.Offset != int64(seen) {
				return fmt.Errorf("value %q at offset %d, %d seen", r.Value, r.Offset, seen)
			}
			seen++
		}
		at = next
		return nil
	})
	f.must(err, "read")
	if seen != n || at != n {
		f.Errorf("%d records up to %d, want %d", seen, at, n)
	}
}
