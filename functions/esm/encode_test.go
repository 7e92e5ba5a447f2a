package esm

import (
	"encoding/base64"
	"encoding/json"
	"testing"

	"github.com/aws/aws-lambda-go/events"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/tests/seed"
)

func TestAppendEventWritesWhatLambdaWrites(t *testing.T) {
	ev := Event{
		Source: SourceMSK, SourceARN: "arn:aws:kafka:us-east-1:1:cluster/c/uuid-4", BootstrapServers: "b-2:9092,b-1:9092",
		Batches: []Batch{{
			TopicPartition: event.TopicPartition{Topic: "my-topic", Partition: 3},
			Records: []event.Record{
				{
					Offset: 15, Timestamp: 1545084650987, Key: []byte("recordKey"), Value: []byte(`{"key":"value"}`),
					Headers: []event.Header{{Key: "headerKey", Value: []byte{104, 220, 0, 127, 128}}, {Key: "n"}},
				},
				{Offset: 17, Timestamp: 1545084650988},
			},
		}},
	}
	const want = `{"eventSource":"aws:kafka","eventSourceArn":"arn:aws:kafka:us-east-1:1:cluster/c/uuid-4","bootstrapServers":"b-2:9092,b-1:9092",` +
		`"records":{"my-topic-3":[{"topic":"my-topic","partition":3,"offset":15,"timestamp":1545084650987,"timestampType":"CREATE_TIME",` +
		`"key":"cmVjb3JkS2V5","value":"eyJrZXkiOiJ2YWx1ZSJ9","headers":[{"headerKey":[104,-36,0,127,-128]},{"n":null}]},` +
		`{"topic":"my-topic","partition":3,"offset":17,"timestamp":1545084650988,"timestampType":"CREATE_TIME","value":null,"headers":[]}]}}`
	if d := cmp.Diff(want, string(AppendEvent(nil, ev))); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(`{"eventSource":"SelfManagedKafka","bootstrapServers":"","records":{}}`, string(AppendEvent(nil, Event{Source: SourceSelfManaged}))); d != "" {
		t.Error(d)
	}
}

func TestLambdaGoReadsWhatIsWritten(t *testing.T) {
	r := seed.Rand(t)
	for range 200 {
		ev := randomEvent(r)
		payload := AppendEvent([]byte("x"), ev)[1:]
		var got events.KafkaEvent
		if err := json.Unmarshal(payload, &got); err != nil {
			t.Fatalf("%v: %s", err, payload)
		}
		if got.EventSource != ev.Source || got.EventSourceARN != ev.SourceARN || got.BootstrapServers != ev.BootstrapServers || len(got.Records) != len(ev.Batches) {
			t.Fatalf("%+v", got)
		}
		for _, b := range ev.Batches {
			records := got.Records[b.ID]
			if len(records) != len(b.Records) {
				t.Fatalf("%s: %d records, want %d", b.ID, len(records), len(b.Records))
			}
			for i, w := range b.Records {
				g := records[i]
				var headers []event.Header
				for _, h := range g.Headers {
					for k, v := range h {
						headers = append(headers, event.Header{Key: k, Value: v})
					}
				}
				if g.Topic != b.Topic || g.Partition != int64(b.Partition) || g.Offset != w.Offset || event.FromGo(g.Timestamp.Time) != w.Timestamp ||
					g.Key != base64.StdEncoding.EncodeToString(w.Key) || g.Value != base64.StdEncoding.EncodeToString(w.Value) {
					t.Fatalf("%+v, want %+v", g, w)
				}
				if d := cmp.Diff(w.Headers, headers, cmpopts.EquateEmpty()); d != "" { // it reads null as empty
					t.Fatal(d)
				}
			}
		}
	}
}

func TestEncoderWritesTheSameAsAppendEvent(t *testing.T) {
	r := seed.Rand(t)
	var e Encoder
	for range 500 {
		ev := randomEvent(r)
		e.Source, e.SourceARN, e.BootstrapServers = ev.Source, ev.SourceARN, ev.BootstrapServers
		e.Reset()
		for i := range 100 { // record by record, the partitions in turn
			for _, b := range ev.Batches {
				if i < len(b.Records) {
					e.Add(b.TopicPartition, &b.Records[i], b.Info[i])
				}
			}
		}
		got := e.AppendTo(nil)
		if e.Len() != len(got) || e.Records() != ev.Records {
			t.Fatalf("Len %d, Records %d; want %d, %d", e.Len(), e.Records(), len(got), ev.Records)
		}
		if d := cmp.Diff(string(AppendEvent(nil, ev)), string(got)); d != "" {
			t.Fatal(d)
		}
	}
}

// A record that does not fit leaves no trace, and one that just does is taken.
func TestTryAddKeepsTheEventWithinItsBound(t *testing.T) {
	r := seed.Rand(t)
	var e, with Encoder
	for range 300 {
		ev := randomEvent(r)
		most := len(AppendEvent(nil, ev)) - r.IntN(200)
		for _, e := range []*Encoder{&e, &with} {
			e.Source, e.SourceARN, e.BootstrapServers = ev.Source, ev.SourceARN, ev.BootstrapServers
			e.Reset()
		}
		for _, b := range ev.Batches {
			for i := range b.Records {
				fits := e.TryAdd(b.TopicPartition, &b.Records[i], b.Info[i], most)
				with.Reset()
				if got := e.AppendTo(nil); fits {
					if len(got) > most || len(got) != e.Len() {
						t.Fatalf("%d bytes, Len %d, at most %d", len(got), e.Len(), most)
					}
					continue
				}
				over, err := new(Decoder).Decode(e.AppendTo(nil))
				if err != nil {
					t.Fatal(err)
				}
				for _, b := range over.Batches {
					for i := range b.Records {
						with.Add(b.TopicPartition, &b.Records[i], b.Info[i])
					}
				}
				if with.Add(b.TopicPartition, &b.Records[i], b.Info[i]); with.Len() <= most {
					t.Fatalf("refused, with %d bytes of %d", with.Len(), most)
				}
			}
		}
	}
}

func TestAppendResponseNamesEveryFailure(t *testing.T) {
	for _, c := range []struct {
		failures []Failure
		want     string
	}{
		{nil, `{"batchItemFailures":[]}`},
		{[]Failure{{"mytopic-0", 100}}, `{"batchItemFailures":[{"itemIdentifier":{"partition":"mytopic-0","offset":100}}]}`},
		{
			[]Failure{{"my\"topic-0", 0}, {"a-b-1", 1 << 62}},
			`{"batchItemFailures":[{"itemIdentifier":{"partition":"my\"topic-0","offset":0}},{"itemIdentifier":{"partition":"a-b-1","offset":4611686018427387904}}]}`,
		},
	} {
		if d := cmp.Diff("x"+c.want, string(AppendResponse([]byte("x"), c.failures))); d != "" {
			t.Error(d)
		}
	}
}

func TestNamesOfEnumsAreThoseOfEvents(t *testing.T) {
	got := []string{
		Absent.String(), Null.String(), Present.String(), Presence(9).String(),
		TimestampUnknown.String(), TimestampCreate.String(), TimestampLogAppend.String(), TimestampType(9).String(),
	}
	want := []string{"absent", "null", "present", "Presence(9)", "unknown", "CREATE_TIME", "LOG_APPEND_TIME", "TimestampType(9)"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func BenchmarkEncoder(b *testing.B) {
	ev := typicalEvent(500, 4)
	var e Encoder
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		e.Reset()
		for _, batch := range ev.Batches {
			for i := range batch.Records {
				e.Add(batch.TopicPartition, &batch.Records[i], batch.Info[i])
			}
		}
		out = e.AppendTo(out[:0])
	}
	b.SetBytes(int64(len(out)))
}
