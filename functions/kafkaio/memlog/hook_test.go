package memlog_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio/memlog"
)

var errInjected = errors.New("injected")

// faulty is a log that fails at one point, once, and notes the order of operations.
type faulty struct {
	*memlog.Log
	at  string
	ops []string
}

func newFaulty(t *testing.T, at string) *faulty {
	t.Helper()
	f := &faulty{at: at}
	f.Log = memlog.New(memlog.Options{NoMarkers: true, Hook: func(op string) error {
		f.ops = append(f.ops, op)
		if op == f.at {
			f.at = ""
			return errInjected
		}
		return nil
	}})
	must(t, f.CreateTopic("in", 1))
	must(t, f.CreateTopic("out", 1))
	return f
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// plan runs one whole transaction and stops at the first error.
func (f *faulty) plan(ctx context.Context) error {
	ps, err := f.Partitions(ctx, []string{"in"})
	if err != nil {
		return err
	}
	if _, err := f.Offsets(ctx, []event.TopicPartition{ps[0].TopicPartition}); err != nil {
		return err
	}
	s, err := f.Open(ctx, "id")
	if err != nil {
		return err
	}
	defer s.Close()
	if _, err := f.Group(ctx, "group"); err != nil {
		return err
	}
	if _, err := f.Groups(ctx, "gr"); err != nil {
		return err
	}
	if _, err := f.OffsetsAt(ctx, []event.TopicPartition{ps[0].TopicPartition}, 0); err != nil {
		return err
	}
	err = f.Read(ctx, ps[0].TopicPartition, 0, 0, func([]event.Record, int64) error { return nil })
	if err != nil {
		return err
	}
	if err := s.Begin(ctx); err != nil {
		return err
	}
	if _, err := s.Produce(ctx, []kafkaio.Message{{Topic: "out", Value: []byte("pane")}}); err != nil {
		return err
	}
	commit := kafkaio.OffsetCommit{Partition: ps[0], Committed: kafkaio.Committed{Offset: 3}}
	if err := s.CommitOffsets(ctx, "group", []kafkaio.OffsetCommit{commit}); err != nil {
		return err
	}
	return s.End(ctx)
}

// Whatever fails at whichever side: the caller learns it, nothing but an End leaves the outcome open, and only one that
// happened has published anything. The next plan goes through.
func TestHookFailsAnOperation(t *testing.T) {
	ops := []string{
		memlog.OpPartitions, memlog.OpOffsets, memlog.OpOpen, memlog.OpGroup, memlog.OpGroups, memlog.OpOffsetsAt, memlog.OpRead,
		memlog.OpBegin, memlog.OpProduce, memlog.OpCommit, memlog.OpEnd,
	}
	for _, op := range ops {
		for _, side := range []string{":before", ":after"} {
			t.Run(op+side, func(t *testing.T) {
				f := newFaulty(t, op+side)
				err := f.plan(t.Context())
				if !errors.Is(err, errInjected) {
					t.Fatalf("plan: %v, want the injected error", err)
				}
				if got, want := errors.Is(err, kafkaio.ErrUnknownOutcome), op == memlog.OpEnd; got != want {
					t.Errorf("outcome unknown: %v, want %v: %v", got, want, err)
				}
				happened := 0
				if op+side == "end:after" {
					happened = 1
				}
				group, err := f.Group(t.Context(), "group")
				must(t, err)
				if n := len(f.Records("out")); n != happened || len(group) != happened {
					t.Errorf("%d records, group %v, want %d of each", n, group, happened)
				}
				must(t, f.plan(t.Context()))
				if n := len(f.Records("out")); n != happened+1 {
					t.Errorf("%d records after the next plan, want %d", n, happened+1)
				}
			})
		}
	}
}

func TestHookSeesEveryOperationInOrder(t *testing.T) {
	f := newFaulty(t, "")
	must(t, f.plan(t.Context()))
	want := []string{
		"partitions:before", "partitions:after", "offsets:before", "offsets:after", "open:before", "open:after",
		"group:before", "group:after", "groups:before", "groups:after", "offsets_at:before", "offsets_at:after", "read:before", "read:after",
		"begin:before", "begin:after",
		"produce:before", "produce:after", "commit_offsets:before", "commit_offsets:after", "end:before", "end:after",
		"close:before",
	}
	if diff := cmp.Diff(want, f.ops); diff != "" {
		t.Errorf("operations (-want +got):\n%s", diff)
	}
}

// A process that dies does not close its session: what it had open stays, and holds readers, until the next one opens.
func TestADeadProcessLeavesItsTransactionOpen(t *testing.T) {
	dead := errors.New("dead")
	kills := map[string]bool{"end:before": true, "close:before": true}
	f := &faulty{Log: memlog.New(memlog.Options{Hook: func(op string) error {
		if kills[op] {
			delete(kills, op)
			return dead
		}
		return nil
	}})}
	must(t, f.CreateTopic("in", 1))
	must(t, f.CreateTopic("out", 1))
	if err := f.plan(t.Context()); !errors.Is(err, dead) {
		t.Fatalf("plan: %v", err)
	}
	if diff := cmp.Diff([]string{"id"}, f.OpenTransactions()); diff != "" {
		t.Errorf("open transactions (-want +got):\n%s", diff)
	}
	must(t, f.plan(t.Context()))
	if diff := cmp.Diff([]string(nil), f.OpenTransactions()); diff != "" {
		t.Errorf("open transactions afterwards (-want +got):\n%s", diff)
	}
	if n := len(f.Records("out")); n != 1 {
		t.Errorf("%d records, want that of the second plan", n)
	}
}

// The hook runs without a lock: a second firer may do its whole work inside of the first one's call.
func TestARacingFirerInsideOfAHook(t *testing.T) {
	raced := false
	var l *memlog.Log
	l = memlog.New(memlog.Options{NoMarkers: true, Hook: func(op string) error {
		if op != "end:before" || raced {
			return nil
		}
		raced = true
		other := &faulty{Log: l}
		return other.plan(t.Context())
	}})
	f := &faulty{Log: l}
	must(t, f.CreateTopic("in", 1))
	must(t, f.CreateTopic("out", 1))
	if err := f.plan(t.Context()); !errors.Is(err, kafkaio.ErrFenced) || errors.Is(err, kafkaio.ErrUnknownOutcome) {
		t.Errorf("plan: %v, want to be fenced", err)
	}
	if n := len(f.Records("out")); n != 1 {
		t.Errorf("%d records, want that of the racing plan", n)
	}
}
