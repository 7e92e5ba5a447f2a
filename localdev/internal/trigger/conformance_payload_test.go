package trigger_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/llm-auto-optimizer/tidemark/functions/esm"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/trigger"
)

// fixtureARN and fixtureServers are those of the sample event in AWS's documentation.
const (
	fixtureARN = "arn:aws:kafka:us-east-1:1:cluster/c/uuid-4"
	// fixture is that event, as Lambda writes it, but for the topic's name.
	fixture = `{"eventSource":"aws:kafka","eventSourceArn":"` + fixtureARN + `","bootstrapServers":"b-2:9092,b-1:9092",` +
		`"records":{"NAME-0":[{"topic":"NAME","partition":0,"offset":15,"timestamp":1545084650987,"timestampType":"CREATE_TIME",` +
		`"key":"cmVjb3JkS2V5","value":"eyJrZXkiOiJ2YWx1ZSJ9","headers":[{"headerKey":[104,-36,0,127,-128]}]}]}}`
	selfManagedFixture = `{"eventSource":"SelfManagedKafka","bootstrapServers":"b-2:9092,b-1:9092",` +
		`"records":{"NAME-0":[{"topic":"NAME","partition":0,"offset":15,"timestamp":1545084650987,"timestampType":"CREATE_TIME",` +
		`"key":"cmVjb3JkS2V5","value":"eyJrZXkiOiJ2YWx1ZSJ9","headers":[{"headerKey":[104,-36,0,127,-128]}]}]}}`
)

func fixtureRecord() *kgo.Record {
	return &kgo.Record{
		Timestamp: time.UnixMilli(1545084650987), Key: []byte("recordKey"), Value: []byte(`{"key":"value"}`),
		Headers: []kgo.RecordHeader{{Key: "headerKey", Value: []byte{104, 220, 0, 127, 128}}},
	}
}

// payload returns the event of records that are published behind 15 others.
func (s *stage) payload(t *testing.T, o trigger.Options, records ...*kgo.Record) []byte {
	t.Helper()
	s.put(t, 0, 15)
	o.Start, o.Window, o.BootstrapServers = trigger.Latest, 200*time.Millisecond, []string{"b-2:9092", "b-1:9092"}
	f, stop := s.run(t, o)
	s.publish(t, records...)
	calls := f.await(t, 1)
	s.committed(t, map[int32]int64{0: 15 + int64(len(records))})
	stop()
	return calls[0].payload
}

func payloads() []behaviour {
	return []behaviour{
		{name: "EventOfMSKIsTheFixture", partitions: 1, run: func(t *testing.T, s *stage) {
			got := s.payload(t, trigger.Options{Source: esm.SourceMSK, SourceARN: fixtureARN}, fixtureRecord())
			same(t, "event", strings.ReplaceAll(fixture, "NAME", s.topic), string(got))
		}},
		{name: "EventOfASelfManagedClusterIsTheFixture", partitions: 1, run: func(t *testing.T, s *stage) {
			got := s.payload(t, trigger.Options{}, fixtureRecord())
			same(t, "event", strings.ReplaceAll(selfManagedFixture, "NAME", s.topic), string(got))
		}},
		{name: "EventOfMSKHasAnARNWhereThereIsNoCluster", partitions: 1, run: func(t *testing.T, s *stage) {
			var ev events.KafkaEvent
			if err := json.Unmarshal(s.payload(t, trigger.Options{Source: esm.SourceMSK}, fixtureRecord()), &ev); err != nil {
				t.Fatal(err)
			}
			if !regexp.MustCompile(`^arn:aws:kafka:[a-z0-9-]+:\d{12}:cluster/[^/]+/[^/]+$`).MatchString(ev.EventSourceARN) {
				t.Errorf("ARN %q", ev.EventSourceARN)
			}
		}},
		{name: "EventPassesThroughAWSLambdaGo", partitions: 1, run: func(t *testing.T, s *stage) {
			all := make([]byte, 256)
			for i := range all {
				all[i] = byte(i)
			}
			var ev events.KafkaEvent
			payload := s.payload(t, trigger.Options{Source: esm.SourceMSK, SourceARN: fixtureARN}, fixtureRecord(),
				&kgo.Record{Timestamp: time.UnixMilli(5), Key: []byte{}, Value: all, Headers: []kgo.RecordHeader{{Key: "a", Value: all}, {Key: "a", Value: []byte{}}, {Key: "", Value: []byte("x")}}})
			if err := json.Unmarshal(payload, &ev); err != nil {
				t.Fatal(err)
			}
			records := ev.Records[s.topic+"-0"]
			if ev.EventSource != "aws:kafka" || ev.EventSourceARN != fixtureARN || ev.BootstrapServers != "b-2:9092,b-1:9092" || len(ev.Records) != 1 || len(records) != 2 {
				t.Fatalf("%+v", ev)
			}
			want := []map[string]events.JSONNumberBytes{{"a": all}, {"a": {}}, {"": []byte("x")}}
			second := records[1]
			same(t, "headers", want, second.Headers)
			if second.Topic != s.topic || second.Partition != 0 || second.Offset != 16 || second.Timestamp.UnixMilli() != 5 || second.TimestampType != "CREATE_TIME" ||
				second.Key != "" || second.Value != base64.StdEncoding.EncodeToString(all) {
				t.Errorf("%+v", second)
			}
		}},
		{name: "NullsOfKeysValuesAndHeaders", partitions: 1, run: func(t *testing.T, s *stage) {
			got := s.payload(t, trigger.Options{}, &kgo.Record{Timestamp: time.UnixMilli(7), Headers: []kgo.RecordHeader{{Key: "h"}}}, &kgo.Record{Timestamp: time.UnixMilli(8), Key: []byte{}, Value: []byte{}})
			want := `"records":{"NAME-0":[{"topic":"NAME","partition":0,"offset":15,"timestamp":7,"timestampType":"CREATE_TIME","value":null,"headers":[{"h":null}]},` +
				`{"topic":"NAME","partition":0,"offset":16,"timestamp":8,"timestampType":"CREATE_TIME","key":"","value":"","headers":[]}]}}`
			_, records, _ := strings.Cut(string(got), `9092",`)
			same(t, "records", strings.ReplaceAll(want, "NAME", s.topic), records)
		}},
		{name: "TimestampsOfTheBrokerAreToldApart", partitions: 1, real: true, run: func(t *testing.T, s *stage) {
			s.topic = s.name("appended")
			s.create(t, s.topic, 1, map[string]string{"message.timestamp.type": "LogAppendTime"})
			got := s.payload(t, trigger.Options{}, fixtureRecord())
			if !bytes.Contains(got, []byte(`"timestampType":"LOG_APPEND_TIME"`)) || bytes.Contains(got, []byte("1545084650987")) {
				t.Errorf("%s", got)
			}
		}},
	}
}

func destinations() []behaviour {
	// destined is a stage whose poison record 2 goes to a topic for failures.
	destined := func(t *testing.T, s *stage, f *lambda, o trigger.Options) []*kgo.Record {
		t.Helper()
		o.OnFailure = s.name("dlt")
		s.create(t, o.OnFailure, 1, nil)
		for i := range 4 {
			r := fixtureRecord()
			r.Key = fmt.Appendf(nil, "key-%d", i)
			s.publish(t, r)
		}
		o.BatchSize, o.RetryPause = 1, time.Millisecond
		o.Source, o.SourceARN, o.BootstrapServers, o.FunctionARN = esm.SourceMSK, fixtureARN, []string{"b-2:9092", "b-1:9092"}, "arn:aws:lambda:us-east-1:123456789012:function:F"
		s.runWith(t, f, o)
		s.committed(t, map[int32]int64{0: 4})
		return s.read(t, o.OnFailure, 1)
	}
	return []behaviour{
		{name: "TopicForFailuresGetsMetadataAndTheRecord", partitions: 1, run: func(t *testing.T, s *stage) {
			var dropped notes[trigger.Dropped]
			got := destined(t, s, poison(2), trigger.Options{MaxTries: 3, Hooks: trigger.Hooks{Dropped: dropped.add}})
			if len(got) != 1 || string(got[0].Key) != "key-2" {
				t.Fatalf("records: %v", got)
			}
			id := regexp.MustCompile(`"requestId":"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"`)
			at := regexp.MustCompile(`"version":"1.0","timestamp":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"`)
			value := at.ReplaceAllString(id.ReplaceAllString(string(got[0].Value), `"requestId":"ID"`), `"version":"1.0","timestamp":"NOW"`)
			event := strings.ReplaceAll(strings.ReplaceAll(strings.ReplaceAll(fixture, "NAME", s.topic), `"offset":15`, `"offset":2`), "cmVjb3JkS2V5", base64.StdEncoding.EncodeToString([]byte("key-2")))
			want := `{"requestContext":{"requestId":"ID","functionArn":"arn:aws:lambda:us-east-1:123456789012:function:F:$LATEST","condition":"RetriesExhausted","approximateInvokeCount":3},` +
				`"responseContext":{"statusCode":200,"executedVersion":"$LATEST","functionError":"Unhandled"},"version":"1.0","timestamp":"NOW",` +
				`"KafkaBatchInfo":{"batchSize":1,"eventSourceArn":"` + fixtureARN + `","bootstrapServers":"b-2:9092,b-1:9092","payloadSize":` + fmt.Sprint(len(event)) +
				`,"recordInfo":{"offset":"2","timestamp":"2018-12-17T22:10:50.987Z"}},"payload":` + event + `}`
			same(t, "record", indented(t, []byte(want)), indented(t, []byte(value)))
			same(t, "bytes", want, value)
			if d := dropped.seen(); len(d) != 1 || d[0].Topic == "" || d[0].First != 2 {
				t.Errorf("dropped: %+v", d)
			}
		}},
		{name: "UnlimitedRetriesWithADestinationAreTen", partitions: 1, run: func(t *testing.T, s *stage) {
			f := poison(2)
			got := destined(t, s, f, trigger.Options{})
			if !bytes.Contains(got[0].Value, []byte(`"approximateInvokeCount":11`)) {
				t.Errorf("%s", got[0].Value)
			}
			tries := 0
			for _, o := range f.order(0) {
				if o == 2 {
					tries++
				}
			}
			if tries != 11 {
				t.Errorf("tried %d times, want 11", tries)
			}
		}},
		{name: "TooOldRecordsGoToTheDestination", partitions: 1, run: func(t *testing.T, s *stage) {
			f := poison()
			o := trigger.Options{MaxAge: time.Hour, OnFailure: s.name("dlt")} // the fixture is of 2018
			s.create(t, o.OnFailure, 1, nil)
			s.publish(t, fixtureRecord(), &kgo.Record{Timestamp: time.Now()})
			s.runWith(t, f, o)
			s.committed(t, map[int32]int64{0: 2})
			got := s.read(t, o.OnFailure, 1)
			if !bytes.Contains(got[0].Value, []byte(`"condition":"RecordAgeExceeded","approximateInvokeCount":0},"responseContext":null`)) {
				t.Errorf("%s", got[0].Value)
			}
			same(t, "delivered", []int64{1}, f.order(0))
		}},
		{name: "WhatTheDestinationFindsTooLargeGoesWithoutItsPayload", partitions: 1, real: true, run: func(t *testing.T, s *stage) {
			o := trigger.Options{MaxTries: 1, OnFailure: s.name("dlt")}
			s.create(t, o.OnFailure, 1, map[string]string{"max.message.bytes": "1500"})
			value := make([]byte, 5000)
			for i := range value {
				value[i] = byte(i * i >> 3)
			}
			s.publish(t, &kgo.Record{Key: []byte("k"), Value: value}, &kgo.Record{Value: []byte("v")})
			f := poison(0)
			s.runWith(t, f, o)
			s.committed(t, map[int32]int64{0: 2})
			if got := s.read(t, o.OnFailure, 1)[0]; string(got.Key) != "k" || bytes.Contains(got.Value, []byte(`"payload":`)) || !bytes.Contains(got.Value, []byte(`"offset":"0"`)) {
				t.Errorf("key %q, %s", got.Key, got.Value)
			}
		}},
		{name: "FailedItemsAloneGoToTheDestination", partitions: 1, run: func(t *testing.T, s *stage) {
			o := trigger.Options{MaxTries: 2, PartialFailures: true, Window: 300 * time.Millisecond, OnFailure: s.name("dlt")}
			s.create(t, o.OnFailure, 1, nil)
			s.put(t, 0, 6)
			f := &lambda{more: make(chan struct{}, 10)}
			f.answer = partly(s, 1, 4)
			s.runWith(t, f, o)
			s.committed(t, map[int32]int64{0: 6})
			for i, r := range s.read(t, o.OnFailure, 2) {
				if !bytes.Contains(r.Value, fmt.Appendf(nil, `"offset":"%d"`, []int{1, 4}[i])) || bytes.Contains(r.Value, []byte("functionError")) || r.Key != nil {
					t.Errorf("record %d: key %q, %s", i, r.Key, r.Value)
				}
			}
		}},
	}
}

func filtering() []behaviour {
	return []behaviour{
		{name: "FilteredRecordsAreCommittedAndNotDelivered", partitions: 1, run: func(t *testing.T, s *stage) {
			var mu sync.Mutex
			records, filtered := 0, 0
			f, _ := s.run(t, trigger.Options{Filters: []string{`{"value":{"type":["click"]}}`}, Hooks: trigger.Hooks{Polled: func(p trigger.Polled) {
				mu.Lock()
				defer mu.Unlock()
				records, filtered = records+p.Records, filtered+p.Filtered
			}}})
			for _, kind := range []string{"click", "view", "click", "view", "view"} {
				s.publish(t, &kgo.Record{Value: fmt.Appendf(nil, `{"type":%q}`, kind)})
			}
			s.committed(t, map[int32]int64{0: 5})
			same(t, "delivered", []int64{0, 2}, f.order(0))
			mu.Lock()
			defer mu.Unlock()
			if records != 5 || filtered != 3 {
				t.Errorf("polled %d, filtered %d", records, filtered)
			}
		}},
		{name: "FiltersLookAtValuesOfTheirForm", partitions: 1, run: func(t *testing.T, s *stage) {
			f, _ := s.run(t, trigger.Options{Filters: []string{`{"value":["error"]}`}, Window: 100 * time.Millisecond})
			s.publish(t, &kgo.Record{Value: []byte("error")}, &kgo.Record{Value: []byte("fine")}, &kgo.Record{Value: []byte(`{"a":1}`)}, &kgo.Record{}, &kgo.Record{Value: []byte("fine")})
			s.committed(t, map[int32]int64{0: 5})
			same(t, "delivered", []int64{0, 2, 3}, f.order(0))
		}},
	}
}

// FuzzFailures holds the decoder of answers to what it promises: an error, or failures that would be written as they were read.
func FuzzFailures(f *testing.F) {
	f.Add([]byte(`{"batchItemFailures":[{"itemIdentifier":{"partition":"t-0","offset":1}},{"itemIdentifier":{"partition":"t-1","offset":2,"x":[{}]}}]}`))
	f.Add([]byte("null"))
	f.Add([]byte(`{"batchItemFailures":null}`))
	f.Fuzz(func(t *testing.T, answer []byte) {
		got, err := trigger.Failures(answer)
		if err != nil {
			if len(got) > 0 {
				t.Errorf("failures %v with error %v", got, err)
			}
			return
		}
		again, err := trigger.Failures(esm.AppendResponse(nil, got))
		if err != nil || len(got) != len(again) || len(got) > 0 && !cmp.Equal(got, again) {
			t.Errorf("read %v, and again %v, %v", got, again, err)
		}
	})
}
