package trigger_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/llm-auto-optimizer/tidemark/localdev/internal/trigger"
)

var errFunction = errors.New("the function failed")

// poison is a function that fails whenever it is handed one of the offsets of partition 0.
func poison(offsets ...int64) *lambda {
	f := &lambda{more: make(chan struct{}, 10_000)}
	f.answer = func(_ context.Context, _ int, c *call) ([]byte, error) {
		for _, o := range offsets {
			if slices.Contains(c.offsets[0], o) {
				return nil, errFunction
			}
		}
		return nil, nil
	}
	return f
}

func retries() []behaviour {
	return []behaviour{
		{name: "ErrorRetriesTheWholeBatchWithPauses", partitions: 2, run: func(t *testing.T, s *stage) {
			s.put(t, 0, 5)
			s.put(t, 1, 5)
			f := &lambda{more: make(chan struct{}, 10)}
			f.answer = func(_ context.Context, number int, _ *call) ([]byte, error) {
				if number < 4 {
					return nil, errFunction
				}
				return nil, nil
			}
			s.runWith(t, f, trigger.Options{Window: 300 * time.Millisecond, RetryPause: 20 * time.Millisecond})
			calls := f.await(t, 4)
			s.committed(t, map[int32]int64{0: 5, 1: 5})
			for i, c := range calls {
				same(t, fmt.Sprintf("try %d", i+1), map[int32][]int64{0: upTo(0, 5), 1: upTo(0, 5)}, c.offsets)
			}
			for i, least := range []int{20, 40, 80} {
				if pause := calls[i+1].at.Sub(calls[i].at); pause < time.Duration(least)*time.Millisecond {
					t.Errorf("pause %d: %s", i+1, pause)
				}
			}
		}},
		{name: "PoisonRecordBlocksItsPartitionAndNoOther", partitions: 2, run: func(t *testing.T, s *stage) {
			f := poison(3)
			s.put(t, 0, 5)
			s.runWith(t, f, trigger.Options{BatchSize: 3, RetryPause: 5 * time.Millisecond})
			s.committed(t, map[int32]int64{0: 3})
			for i := range 3 {
				s.put(t, 1, 20)
				s.put(t, 0, 20)
				s.committed(t, map[int32]int64{0: 3, 1: int64(i+1) * 20})
			}
			f.await(t, len(f.seen())+5) // and still it is tried
		}},
		{name: "BoundedRetriesThenThePartitionGoesOn", partitions: 1, run: func(t *testing.T, s *stage) {
			var dropped notes[trigger.Dropped]
			f := poison(2)
			s.put(t, 0, 9)
			s.runWith(t, f, trigger.Options{BatchSize: 3, MaxTries: 3, Hooks: trigger.Hooks{Dropped: dropped.add}})
			s.committed(t, map[int32]int64{0: 9})
			same(t, "delivered", slices.Concat(upTo(0, 3), upTo(0, 3), upTo(0, 3), upTo(3, 9)), f.order(0))
			d := dropped.seen()
			if len(d) != 1 || d[0].Reason != trigger.RetriesExhausted || d[0].Topic != "" || d[0].First != 0 || d[0].Last != 2 || d[0].Records != 3 {
				t.Errorf("dropped: %+v", d)
			}
		}},
		{name: "NoRetriesAtAll", partitions: 1, run: func(t *testing.T, s *stage) {
			f := poison(0)
			s.put(t, 0, 2)
			s.runWith(t, f, trigger.Options{BatchSize: 1, MaxTries: 1, Bisect: true})
			s.committed(t, map[int32]int64{0: 2})
			same(t, "delivered", []int64{0, 1}, f.order(0))
		}},
		{name: "RecordsThatAreTooOldAreDropped", partitions: 1, run: func(t *testing.T, s *stage) {
			var dropped notes[trigger.Dropped]
			now := time.Now()
			for _, age := range []time.Duration{2 * time.Hour, time.Second, 3 * time.Hour, time.Second} {
				s.publish(t, &kgo.Record{Timestamp: now.Add(-age), Value: []byte("v")})
			}
			f, _ := s.run(t, trigger.Options{MaxAge: time.Hour, Window: 100 * time.Millisecond, Hooks: trigger.Hooks{Dropped: dropped.add}})
			s.committed(t, map[int32]int64{0: 4})
			same(t, "delivered", []int64{1, 3}, f.order(0))
			if d := dropped.seen(); len(d) != 1 || d[0].Reason != trigger.TooOld || d[0].First != 0 || d[0].Last != 2 || d[0].Records != 2 {
				t.Errorf("dropped: %+v", d)
			}
		}},
		{name: "BisectIsolatesThePoisonRecord", partitions: 1, run: func(t *testing.T, s *stage) {
			var dropped notes[trigger.Dropped]
			f := poison(5)
			s.put(t, 0, 8)
			s.runWith(t, f, trigger.Options{BatchSize: 8, Bisect: true, MaxTries: 3, RetryPause: 2 * time.Millisecond, Hooks: trigger.Hooks{Dropped: dropped.add}})
			s.committed(t, map[int32]int64{0: 8})
			want := [][]int64{upTo(0, 8), upTo(0, 4), upTo(4, 8), {4, 5}, {4}, {5}, {5}, {5}, {6, 7}}
			var got [][]int64
			for _, c := range f.seen() {
				got = append(got, c.offsets[0])
			}
			if f.seen()[0].records() == 8 { // else the first poll had less
				same(t, "batches", want, got)
			}
			if d := dropped.seen(); len(d) != 1 || d[0].First != 5 || d[0].Last != 5 {
				t.Errorf("dropped: %+v", d)
			}
		}},
		{name: "BisectKeepsPartitionsApart", partitions: 2, run: func(t *testing.T, s *stage) {
			f := poison(1)
			s.put(t, 0, 3)
			s.put(t, 1, 3)
			s.runWith(t, f, trigger.Options{Window: 300 * time.Millisecond, Bisect: true, RetryPause: 2 * time.Millisecond})
			s.committed(t, map[int32]int64{0: 1, 1: 3}) // the others of the batch are done, and what comes behind waits
			if last := f.seen()[len(f.seen())-1]; !cmp.Equal(last.offsets, map[int32][]int64{0: {1}}) {
				t.Errorf("tried again: %v", last.offsets)
			}
		}},
		{name: "TimeoutRetriesWhileTheFirstMayStillRun", partitions: 1, run: func(t *testing.T, s *stage) {
			release := make(chan struct{})
			var running, overlap atomic.Int32
			f := &lambda{more: make(chan struct{}, 10)}
			f.answer = func(ctx context.Context, number int, _ *call) ([]byte, error) {
				if number > 1 {
					overlap.Store(running.Load())
					return nil, nil
				}
				running.Add(1)
				go func() { // what Lambda lets run on
					<-release
					running.Add(-1)
				}()
				<-ctx.Done()
				return nil, ctx.Err()
			}
			defer close(release)
			s.put(t, 0, 1)
			var answered notes[trigger.Answered]
			s.runWith(t, f, trigger.Options{Timeout: 50 * time.Millisecond, Hooks: trigger.Hooks{Answered: answered.add}})
			f.await(t, 2)
			s.committed(t, map[int32]int64{0: 1})
			if overlap.Load() != 1 {
				t.Error("the first invocation had ended")
			}
			if a := answered.seen()[0]; a.Outcome != trigger.Failed || !errors.Is(a.Err, context.DeadlineExceeded) || a.Took < 50*time.Millisecond {
				t.Errorf("answered: %+v", a)
			}
		}},
	}
}

func partialAnswers() []behaviour {
	all := []behaviour{
		{name: "PartialFailureRetriesJustThoseItems", partitions: 2, run: func(t *testing.T, s *stage) {
			s.put(t, 0, 10)
			s.put(t, 1, 5)
			f := &lambda{more: make(chan struct{}, 100)}
			f.answer = func(_ context.Context, _ int, c *call) ([]byte, error) {
				switch {
				case len(c.offsets[0]) > 2:
					return s.failures(0, 3, 7), nil
				case len(c.offsets[0]) == 2:
					return s.failures(0, 7), nil
				}
				return nil, nil
			}
			var answered notes[trigger.Answered]
			s.runWith(t, f, trigger.Options{Window: 300 * time.Millisecond, PartialFailures: true, Hooks: trigger.Hooks{Answered: answered.add}})
			calls := f.await(t, 3)
			s.committed(t, map[int32]int64{0: 10, 1: 5})
			same(t, "first", map[int32][]int64{0: upTo(0, 10), 1: upTo(0, 5)}, calls[0].offsets)
			same(t, "second", map[int32][]int64{0: {3, 7}}, calls[1].offsets)
			same(t, "third", map[int32][]int64{0: {7}}, calls[2].offsets)
			if a := answered.seen()[0]; a.Outcome != trigger.Partial || a.Done != 13 || a.Failed != 2 {
				t.Errorf("answered: %+v", a)
			}
		}},
		{name: "RecordsBehindAFailedOneWait", partitions: 1, run: func(t *testing.T, s *stage) {
			var mended atomic.Bool
			f := &lambda{more: make(chan struct{}, 10_000)}
			f.answer = func(_ context.Context, _ int, c *call) ([]byte, error) {
				if !mended.Load() && slices.Contains(c.offsets[0], 1) {
					return s.failures(0, 1), nil
				}
				return nil, nil
			}
			s.put(t, 0, 3)
			s.runWith(t, f, trigger.Options{PartialFailures: true, RetryPause: 2 * time.Millisecond})
			s.committed(t, map[int32]int64{0: 1})
			s.put(t, 0, 3)
			f.await(t, len(f.seen())+5)
			if slices.Max(f.order(0)) > 2 {
				t.Errorf("delivered: %v", f.order(0))
			}
			mended.Store(true)
			s.committed(t, map[int32]int64{0: 6})
		}},
		{name: "PartialFailureIsIgnoredWithoutTheResponseType", partitions: 1, run: func(t *testing.T, s *stage) {
			s.put(t, 0, 5)
			f := &lambda{more: make(chan struct{}, 10)}
			f.answer = func(context.Context, int, *call) ([]byte, error) { return s.failures(0, 2), nil }
			s.runWith(t, f, trigger.Options{Window: 100 * time.Millisecond})
			s.committed(t, map[int32]int64{0: 5})
			same(t, "delivered", upTo(0, 5), f.order(0))
		}},
	}
	// What counts as success, and what brings the whole batch again. NAME is the topic.
	for name, answer := range map[string]string{
		"Nothing": "", "Null": "null", "EmptyObject": "{}", "EmptyList": `{"batchItemFailures":[]}`, "NullList": `{"batchItemFailures":null}`, "OtherMembers": `{"statusCode":200}`,
	} {
		all = append(all, behaviour{name: "AnswerOf" + name + "IsSuccess", partitions: 1, run: func(t *testing.T, s *stage) {
			s.put(t, 0, 5)
			f := &lambda{more: make(chan struct{}, 10)}
			f.answer = func(context.Context, int, *call) ([]byte, error) { return []byte(answer), nil }
			s.runWith(t, f, trigger.Options{Window: 100 * time.Millisecond, PartialFailures: true})
			s.committed(t, map[int32]int64{0: 5})
			same(t, "delivered", upTo(0, 5), f.order(0))
		}})
	}
	for name, answer := range map[string]string{
		"UnknownPartition": `{"batchItemFailures":[{"itemIdentifier":{"partition":"NAME-7","offset":2}}]}`,
		"UnknownOffset":    `{"batchItemFailures":[{"itemIdentifier":{"partition":"NAME-0","offset":2}},{"itemIdentifier":{"partition":"NAME-0","offset":99}}]}`,
		"TextOffset":       `{"batchItemFailures":[{"itemIdentifier":{"partition":"NAME-0","offset":"2"}}]}`,
		"NullIdentifier":   `{"batchItemFailures":[{"itemIdentifier":null}]}`,
		"TextIdentifier":   `{"batchItemFailures":[{"itemIdentifier":"NAME-0"}]}`,
		"OtherName":        `{"batchItemFailures":[{"itemIdentifier":{"topic-partition":"NAME-0","offset":2}}]}`,
		"NoList":           `{"batchItemFailures":{}}`,
		"NoObject":         `"ok"`,
		"NoJSON":           `ok`,
	} {
		all = append(all, behaviour{name: "AnswerWith" + name + "RetriesTheWholeBatch", partitions: 1, run: func(t *testing.T, s *stage) {
			s.put(t, 0, 5)
			f := &lambda{more: make(chan struct{}, 10)}
			f.answer = func(_ context.Context, number int, _ *call) ([]byte, error) {
				if number == 1 {
					return []byte(strings.ReplaceAll(answer, "NAME", s.topic)), nil
				}
				return nil, nil
			}
			var answered notes[trigger.Answered]
			s.runWith(t, f, trigger.Options{Window: 300 * time.Millisecond, PartialFailures: true, Hooks: trigger.Hooks{Answered: answered.add}})
			calls := f.await(t, 2)
			s.committed(t, map[int32]int64{0: 5})
			same(t, "again", calls[0].offsets, calls[1].offsets)
			if a := answered.seen()[0]; a.Outcome != trigger.Malformed || !errors.Is(a.Err, trigger.ErrAnswer) || a.Failed != 5 {
				t.Errorf("answered: %+v", a)
			}
		}})
	}
	return all
}

// partly answers that these offsets of partition 0 failed, as far as they were handed over.
func partly(s *stage, offsets ...int64) func(context.Context, int, *call) ([]byte, error) {
	return func(_ context.Context, _ int, c *call) ([]byte, error) {
		failed := slices.DeleteFunc(slices.Clone(offsets), func(o int64) bool { return !slices.Contains(c.offsets[0], o) })
		return s.failures(0, failed...), nil
	}
}
