//go:build servers && unix

package trigger_test

import (
	"context"
	"encoding/binary"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/llm-auto-optimizer/tidemark/functions/esm"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/trigger"
	"github.com/llm-auto-optimizer/tidemark/tests/servers"
)

// TestLatencyAtTenThousandEventsASecond measures the time from just before a record is produced to the call of the function, with a
// window of 0. The time to produce is in it. The bound is for a busy machine; what is usual is in localdev/DESIGN.md.
func TestLatencyAtTenThousandEventsASecond(t *testing.T) {
	const partitions, perMillisecond, length = 4, 10, 5 * time.Second
	s := newStage(t, servers.Brokers(t), func(base string) string { return servers.Name(t, base) }, partitions)
	var mu sync.Mutex
	var took []time.Duration
	events := 0
	f := &lambda{more: make(chan struct{}, 1)}
	var d esm.Decoder
	decode := func(_ context.Context, payload []byte) ([]byte, error) {
		now := time.Now()
		mu.Lock()
		defer mu.Unlock()
		ev, err := d.Decode(payload)
		if err != nil {
			return nil, err
		}
		for _, b := range ev.Batches {
			for _, r := range b.Records {
				took = append(took, now.Sub(time.Unix(0, int64(binary.BigEndian.Uint64(r.Value)))))
			}
		}
		events++
		return nil, nil
	}
	f.direct = decode
	var held notes[time.Duration] // from a poll to the function: the trigger's own part
	s.runWith(t, f, trigger.Options{BatchSize: 1000, Start: trigger.Latest, Hooks: trigger.Hooks{Sent: func(b trigger.Batch) { held.add(b.At.Sub(b.Arrived)) }}})
	before := cpuTime(t)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	began, sent := time.Now(), 0
	for time.Since(began) < length {
		<-tick.C
		for ; sent < int(time.Since(began).Milliseconds())*perMillisecond; sent++ {
			value := make([]byte, 400)
			binary.BigEndian.PutUint64(value, uint64(time.Now().UnixNano()))
			s.client.Produce(t.Context(), &kgo.Record{Topic: s.topic, Partition: int32(sent % partitions), Value: value}, func(_ *kgo.Record, err error) {
				if err != nil {
					t.Error(err)
				}
			})
		}
	}
	if err := s.client.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := map[int32]int64{}
	for n := range sent {
		want[int32(n%partitions)]++
	}
	s.committed(t, want)
	mu.Lock()
	defer mu.Unlock()
	used := cpuTime(t) - before
	slices.Sort(took)
	own := held.seen()
	slices.Sort(own)
	quantile := func(sorted []time.Duration, q float64) time.Duration {
		return sorted[int(q*float64(len(sorted)-1))].Round(10 * time.Microsecond)
	}
	t.Logf("%d records in %d events: produced to invoked p50 %s, p90 %s, p99 %s, most %s; of it in the trigger p50 %s, p99 %s; %s of CPU a record, with producer and function",
		len(took), events, quantile(took, 0.5), quantile(took, 0.9), quantile(took, 0.99), quantile(took, 1), quantile(own, 0.5), quantile(own, 0.99), used/time.Duration(len(took)))
	if len(took) != sent {
		t.Errorf("%d records of %d", len(took), sent)
	}
	if half := quantile(took, 0.5); half > 50*time.Millisecond {
		t.Errorf("half of the records take %s", half)
	}
}

// cpuTime is what this process has used.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
