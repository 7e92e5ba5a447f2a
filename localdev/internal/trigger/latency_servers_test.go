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

// BenchmarkLatency measures the time from just before a record is produced to the call of the function, at 10,000 records a second and
// with a window of 0. The time to produce is in it.
func BenchmarkLatency(b *testing.B) {
	const partitions, perMillisecond = 4, 10
	length := time.Duration(max(b.N, 2000)) * time.Millisecond
	s := newStage(b, servers.Brokers(b), func(base string) string { return servers.Name(b, base) }, partitions)
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
		for _, batch := range ev.Batches {
			for _, r := range batch.Records {
				took = append(took, now.Sub(time.Unix(0, int64(binary.BigEndian.Uint64(r.Value)))))
			}
		}
		events++
		return nil, nil
	}
	f.direct = decode
	var held notes[time.Duration] // from a poll to the function: the trigger's own part
	s.runWith(b, f, trigger.Options{BatchSize: 1000, Start: trigger.Latest, Hooks: trigger.Hooks{Sent: func(sent trigger.Batch) { held.add(sent.At.Sub(sent.Arrived)) }}})
	before := cpuTime(b)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	began, sent := time.Now(), 0
	for time.Since(began) < length {
		<-tick.C
		for ; sent < int(time.Since(began).Milliseconds())*perMillisecond; sent++ {
			value := make([]byte, 400)
			binary.BigEndian.PutUint64(value, uint64(time.Now().UnixNano()))
			s.client.Produce(b.Context(), &kgo.Record{Topic: s.topic, Partition: int32(sent % partitions), Value: value}, func(_ *kgo.Record, err error) {
				if err != nil {
					b.Error(err)
				}
			})
		}
	}
	if err := s.client.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	want := map[int32]int64{}
	for n := range sent {
		want[int32(n%partitions)]++
	}
	s.committed(b, want)
	mu.Lock()
	defer mu.Unlock()
	used := cpuTime(b) - before
	slices.Sort(took)
	own := held.seen()
	slices.Sort(own)
	for _, of := range []struct {
		name string
		all  []time.Duration
	}{{"", took}, {"own-", own}} {
		for _, q := range []struct {
			name string
			at   float64
		}{{"p50-ms", 0.5}, {"p90-ms", 0.9}, {"p99-ms", 0.99}} {
			b.ReportMetric(of.all[int(q.at*float64(len(of.all)-1))].Seconds()*1000, of.name+q.name)
		}
	}
	b.ReportMetric(float64(len(took))/float64(events), "records/event")
	b.ReportMetric(float64(used.Nanoseconds())/float64(len(took)), "cpu-ns/record")
	b.ReportMetric(0, "ns/op")
	if len(took) != sent {
		b.Errorf("%d records of %d", len(took), sent)
	}
}

// cpuTime is what this process has used.
func cpuTime(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
