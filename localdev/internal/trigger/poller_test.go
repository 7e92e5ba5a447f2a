package trigger

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/filter"
)

// alone is a poller without a group: it is handed what a poll would have brought.
func alone(tb testing.TB, o Options) *poller {
	tb.Helper()
	o.Brokers, o.Group, o.Topics, o.Logger = []string{"127.0.0.1:1"}, "g", []string{"performance-metrics"}, slog.New(slog.DiscardHandler)
	o, err := o.complete()
	if err != nil {
		tb.Fatal(err)
	}
	filters, err := filter.Parse(o.Filters)
	if err != nil {
		tb.Fatal(err)
	}
	p := newPoller(tb.Context(), &trigger{Options: o, filters: filters, servers: "b-1:9092"}, 0)
	if p.client, err = kgo.NewClient(kgo.SeedBrokers(o.Brokers...)); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(p.client.Close)
	close(p.ready)
	return p
}

// typical are records of about 250 bytes, as the shipped spec's source topics have.
func typical(partition int32, first int64, n int) []*kgo.Record {
	out := make([]*kgo.Record, n)
	for i := range out {
		out[i] = &kgo.Record{
			Topic: "performance-metrics", Partition: partition, Offset: first + int64(i), Timestamp: time.UnixMilli(1_700_000_000_000 + int64(i)),
			Key: fmt.Appendf(nil, "service=svc-%02d::model=gpt-x-%d", i%20, i%10),
			Value: fmt.Appendf(nil, `{"event_id":"%016x","timestamp":1700000000000,"service":"svc-%02d","model":"gpt-x-%d","metric":"latency_ms","value":%d.5,`+
				`"user":"u-%d","attributes":{"region":"us-east-1","tokens":%d}}`, i, i%20, i%10, i%997, i%5000, i%300),
		}
	}
	return out
}

// BenchmarkDelivery is what the trigger itself costs: from a poll of 500 records on 4 partitions to their answers, without the client of
// Kafka and without the function.
func BenchmarkDelivery(b *testing.B) {
	const partitions, records = 4, 500
	for name, o := range map[string]Options{
		"plain":    {},
		"filtered": {Filters: []string{`{"value":{"metric":["latency_ms"]}}`}},
	} {
		b.Run(name, func(b *testing.B) {
			o.BatchSize, o.PartialFailures = records, true
			o.Invoke = func(context.Context, []byte) ([]byte, error) { return []byte(`{"batchItemFailures":[]}`), nil }
			p := alone(b, o)
			var fetches []kgo.FetchTopicPartition
			for n := range int32(partitions) {
				fetches = append(fetches, kgo.FetchTopicPartition{Topic: "performance-metrics", FetchPartition: kgo.FetchPartition{Partition: n, Records: typical(n, 0, records/partitions)}})
				tp := event.TopicPartition{Topic: "performance-metrics", Partition: n}
				p.partitions[tp] = &partition{TopicPartition: tp, read: -1, committed: -1}
			}
			b.ReportAllocs()
			for b.Loop() {
				now := time.Now()
				came := make([]arrival, 0, partitions)
				for _, f := range fetches {
					came = append(came, p.arrived(f, now))
				}
				p.mu.Lock()
				for i := range came {
					p.enqueue(&came[i])
				}
				p.dispatch()
				p.mu.Unlock()
				p.work.Wait()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/records, "ns/record")
		})
	}
}
