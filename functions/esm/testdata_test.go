package esm

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// diff compares events: errors only by their being there; nil keys, values and headers differ from empty ones.
func diff(want, got Event) string {
	return cmp.Diff(want, got,
		cmp.Comparer(func(a, b error) bool { return (a == nil) == (b == nil) }),
		cmp.FilterValues(func(a, b []Batch) bool { return len(a)+len(b) == 0 }, cmp.Ignore()),
		cmp.FilterValues(func(a, b []Malformed) bool { return len(a)+len(b) == 0 }, cmp.Ignore()))
}

func decode(t testing.TB, payload string) Event {
	t.Helper()
	ev, err := new(Decoder).Decode([]byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	return ev
}

// wrap puts records into one entry of an event.
func wrap(records string) string {
	return `{"eventSource":"aws:kafka","records":{"mytopic-0":[` + records + `]}}`
}

// with is a record with some members replaced or, in the end, added.
func with(member string) string {
	return `{"topic":"mytopic","partition":0,"offset":15,"timestamp":1545084650987,"timestampType":"CREATE_TIME",` + member + `}`
}

// typicalEvent is like what arrives under load: n records of about 450 bytes on partitions partitions.
func typicalEvent(n, partitions int) Event {
	ev := Event{
		Source:           SourceMSK,
		SourceARN:        "arn:aws:kafka:us-east-1:123456789012:cluster/demo/0f1e2d3c-0000-4000-8000-000000000000-1",
		BootstrapServers: "b-1.demo.kafka.us-east-1.example:9098,b-2.demo.kafka.us-east-1.example:9098",
		Records:          n,
	}
	for p := range partitions {
		b := Batch{TopicPartition: event.TopicPartition{Topic: "performance-metrics", Partition: int32(p)}}
		b.ID = EntryName(b.TopicPartition)
		for i := p; i < n; i += partitions {
			r := event.Record{Offset: int64(1_000_000 + i/partitions), Timestamp: event.Time(1_700_000_400_000 + i/10)}
			r.Key = fmt.Appendf(nil, "service=svc-%02d::model=gpt-x-%d", i%20, i%10)
			r.Value = fmt.Appendf(nil, `{"event_id":"%016x-%08x","timestamp":%d,"service":"svc-%02d","model":"gpt-x-%d",`+
				`"metric":"latency_ms","value":%d.%02d,"user":"u-%d","attributes":{"region":"us-east-1","tokens":%d}}`,
				i, i, r.Timestamp, i%20, i%10, i%997, i%100, i%5000, i%300)
			b.Records = append(b.Records, r)
			b.Info = append(b.Info, DefaultInfo(&r))
		}
		ev.Batches = append(ev.Batches, b)
	}
	return ev
}

// randomEvent has every form that an event can have.
func randomEvent(r *rand.Rand) Event {
	bytesOf := func(most int) []byte {
		b := make([]byte, r.IntN(most+1))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	presence := func() ([]byte, Presence) {
		switch p := Presence(r.IntN(3)); p {
		case Absent, Null:
			return nil, p
		case Present:
		}
		return bytesOf(40), Present
	}
	schema := func() *Schema {
		if r.IntN(3) > 0 {
			return nil
		}
		return &Schema{ID: strconv.Itoa(r.IntN(9)), DataFormat: "AVRO"}
	}
	ev := Event{Source: []string{SourceMSK, SourceSelfManaged, SourceSelfManagedAWS}[r.IntN(3)], BootstrapServers: "a:1,b:2"}
	for _, topic := range []string{"a", "a-1", "t\"é\n"} {
		for p := range r.IntN(4) {
			b := Batch{TopicPartition: event.TopicPartition{Topic: topic, Partition: int32(p * 5)}}
			b.ID = EntryName(b.TopicPartition)
			offset := r.Int64N(1 << 40)
			for range 1 + r.IntN(5) {
				rec := event.Record{Offset: offset, Timestamp: event.Time(r.Int64N(1<<42) - 1)}
				offset += 1 + r.Int64N(3)
				info := Info{TimestampType: TimestampType(r.IntN(3)), KeySchema: schema(), ValueSchema: schema()}
				rec.Key, info.Key = presence()
				rec.Value, info.Value = presence()
				for range r.IntN(3) {
					h := event.Header{Key: []string{"", "k", "é\\"}[r.IntN(3)], Value: bytesOf(4)}
					if r.IntN(4) == 0 {
						h.Value = nil
					}
					rec.Headers = append(rec.Headers, h)
				}
				b.Records, b.Info = append(b.Records, rec), append(b.Info, info)
			}
			ev.Batches = append(ev.Batches, b)
			ev.Records += len(b.Records)
		}
	}
	return ev
}
