package esm

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/tests/seed"
)

func TestDecodeReadsAnEventOfMSK(t *testing.T) {
	got := decode(t, `{"eventSource":"aws:kafka","eventSourceArn":"arn:aws:kafka:us-east-1:1:cluster/c/uuid-4","bootstrapServers":"b-2:9092,b-1:9092",
 "records":{"mytopic-0":[{"topic":"mytopic","partition":0,"offset":15,"timestamp":1545084650987,"timestampType":"CREATE_TIME",
   "key":"cmVjb3JkS2V5","value":"eyJrZXkiOiJ2YWx1ZSJ9","headers":[{"headerKey":[104,-36,0,127,-128]},{"headerKey":[255]},{"":null},{"e":[]}]}]}}`)
	want := Event{
		Source: SourceMSK, SourceARN: "arn:aws:kafka:us-east-1:1:cluster/c/uuid-4", BootstrapServers: "b-2:9092,b-1:9092", Records: 1,
		Batches: []Batch{{
			TopicPartition: event.TopicPartition{Topic: "mytopic"}, ID: "mytopic-0",
			Records: []event.Record{{
				Offset: 15, Timestamp: 1545084650987, Key: []byte("recordKey"), Value: []byte(`{"key":"value"}`),
				Headers: []event.Header{{Key: "headerKey", Value: []byte{104, 220, 0, 127, 128}}, {Key: "headerKey", Value: []byte{255}}, {Key: ""}, {Key: "e", Value: []byte{}}},
			}},
			Info: []Info{{Key: Present, Value: Present, TimestampType: TimestampCreate}},
		}},
	}
	if d := diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestDecodeTellsNullAbsentAndEmptyApart(t *testing.T) {
	for _, c := range []struct {
		member     string
		key, value Presence
	}{
		{`"x":1`, Absent, Absent},
		{`"key":null,"value":null`, Null, Null},
		{`"key":"","value":""`, Present, Present},
		{`"key":null,"value":""`, Null, Present},
		{`"value":null`, Absent, Null},
	} {
		b := decode(t, wrap(with(c.member))).Batches[0]
		r, info := b.Records[0], b.Info[0]
		if info.Key != c.key || info.Value != c.value || (r.Key != nil) != (c.key == Present) || (r.Value != nil) != (c.value == Present) {
			t.Errorf("%s: key %v %#v, value %v %#v", c.member, info.Key, r.Key, info.Value, r.Value)
		}
	}
}

func TestDecodeKnowsEverySourceOfKafka(t *testing.T) {
	for _, source := range []string{"aws:kafka", "SelfManagedKafka", "aws:SelfManagedKafka"} {
		if got := decode(t, `{"eventSource":"`+source+`","records":{}}`); got.Source != source {
			t.Errorf("%s: %q", source, got.Source)
		}
	}
	for _, source := range []string{"aws:sqs", "AWS:KAFKA", "kafka", strings.Repeat("x", 5000)} {
		_, err := new(Decoder).Decode([]byte(`{"eventSource":"` + source + `","records":{}}`))
		if !errors.Is(err, ErrSource) || !strings.Contains(err.Error(), source[:min(len(source), 60)]) || len(err.Error()) > 200 {
			t.Errorf("%.20s: %v, want ErrSource naming it", source, err)
		}
	}
}

func TestDecodeTakesEventsWithoutRecords(t *testing.T) {
	for _, records := range []string{`{}`, `null`, `{"t-0":[]}`, `{"t-0":null,"t-1":[ ]}`} {
		if got := decode(t, `{"records":`+records+`,"eventSource":"aws:kafka"}`); got.Records != 0 || len(got.Batches) != 0 {
			t.Errorf("%s: %+v", records, got)
		}
	}
	if got := decode(t, ` {"eventSource":"aws:kafka","eventSourceArn":null,"bootstrapServers":null} `); len(got.Batches) != 0 {
		t.Errorf("%+v", got)
	}
}

func TestDecodeRefusesWhatIsNoKafkaEvent(t *testing.T) {
	ok := wrap(with(`"key":"cmVjb3JkS2V5","headers":[{"h":[1]}]`))
	decode(t, ok)
	for name, c := range map[string]struct{ payload, want string }{
		"empty":                       {"", "byte 0: unexpected end"},
		"white space":                 {" \n", "byte 2: unexpected end"},
		"an empty object":             {"{}", "no eventSource"},
		"not an object":               {"[]", "byte 0: want an object"},
		"null":                        {"null", "byte 0: want an object"},
		"text":                        {"hello", "byte 0: want an object"},
		"a scheduler's event":         {`{"source":"aws.scheduler","detail":{}}`, "no eventSource"},
		"an SQS event":                {`{"Records":[{"eventSource":"aws:sqs"}]}`, "no eventSource"},
		"a source that is no string":  {`{"eventSource":null}`, "byte 15: want a string"},
		"records that are an array":   {`{"eventSource":"aws:kafka","records":[]}`, "byte 37: want an object of records"},
		"an entry that is no array":   {`{"eventSource":"aws:kafka","records":{"t-0":{}}}`, "byte 44: want an array of records"},
		"a record that is no object":  {wrap("1"), "want a record"},
		"no topic":                    {wrap(`{"partition":0,"offset":1}`), "byte 51: record without topic, partition or offset"},
		"no partition":                {wrap(`{"topic":"t","offset":1}`), "record without topic"},
		"no offset":                   {wrap(`{"topic":"t","partition":0}`), "record without topic"},
		"an empty topic":              {wrap(`{"topic":"","partition":0,"offset":1}`), "empty topic"},
		"a topic that is null":        {wrap(`{"topic":null,"partition":0,"offset":1}`), "want a string"},
		"a negative partition":        {wrap(`{"topic":"t","partition":-1,"offset":1}`), "want a partition"},
		"a partition beyond int32":    {wrap(`{"topic":"t","partition":2147483648,"offset":1}`), "want a partition"},
		"a partition that is text":    {wrap(`{"topic":"t","partition":"0","offset":1}`), "want a partition"},
		"a negative offset":           {wrap(`{"topic":"t","partition":0,"offset":-1}`), "want an offset"},
		"an offset with decimals":     {wrap(`{"topic":"t","partition":0,"offset":1.5}`), "want an offset"},
		"an offset beyond int64":      {wrap(`{"topic":"t","partition":0,"offset":9223372036854775808}`), "want an offset"},
		"the offset after which none": {wrap(`{"topic":"t","partition":0,"offset":9223372036854775807}`), "want an offset"},
		"an offset twice":             {wrap(`{"topic":"t","partition":0,"offset":1,"offset":2}`), "key occurs twice"},
		"records twice":               {`{"eventSource":"aws:kafka","records":{},"records":{}}`, "byte 40: key occurs twice"},
		"something behind":            {ok + "x", "data after the end of the document"},
		"two documents":               {ok + ok, "data after the end of the document"},
		"invalid UTF-8 in a topic":    {wrap("{\"topic\":\"\xff\",\"partition\":0,\"offset\":1}"), "byte 61: invalid UTF-8, found 0xff"},
		"invalid UTF-8 where skipped": {wrap(with("\"x\":\"\xc3\"")), "invalid UTF-8"},
		"deep nesting":                {wrap(with(`"x":` + strings.Repeat("[", 100_000))), "nested deeper than 64"},
		"deep nesting in headers":     {wrap(with(`"headers":` + strings.Repeat(`[{"a":`, 100_000))), "nested deeper than 64"},
		"deep nesting at the top":     {strings.Repeat(`{"a":`, 100_000), "nested deeper than 64"},
		"a trailing comma":            {wrap(with(`"x":1`) + ","), "want a record"},
		"headers that are not JSON":   {wrap(with(`"headers":[{"h":[1,]}]`)), "want a value"},
	} {
		t.Run(name, func(t *testing.T) {
			ev, err := new(Decoder).Decode([]byte(c.payload))
			if !errors.Is(err, ErrPayload) || !strings.Contains(err.Error(), c.want) || len(err.Error()) > 200 {
				t.Errorf("error %v, want ErrPayload with %q", err, c.want)
			}
			if d := diff(Event{}, ev); d != "" {
				t.Errorf("an event is returned: %s", d)
			}
		})
	}
	for n := range len(ok) {
		if _, err := new(Decoder).Decode([]byte(ok[:n])); !errors.Is(err, ErrPayload) {
			t.Errorf("cut off at byte %d: %v, want ErrPayload", n, err)
		}
	}
}

func TestARecordWithMalformedContentLeavesAHole(t *testing.T) {
	for name, c := range map[string]struct{ member, want string }{
		"a key that is not base64":            {`"key":"!"`, "byte 158: not base64"},
		"a value that is not base64":          {`"value":"abc$"`, "not base64"},
		"base64 cut off":                      {`"value":"abcde"`, "not base64"},
		"padding alone":                       {`"value":"===="`, "not base64"},
		"padding inside":                      {`"value":"ab==abcd"`, "not base64"},
		"a line break in base64":              {`"value":"ab\ncd"`, "not base64"},
		"a raw line break in base64":          {"\"value\":\"abcd\nabcd\"", "control character"},
		"invalid UTF-8 in base64":             {"\"value\":\"abcd\xff\\\"abcd\"", "invalid UTF-8"},
		"an unknown escape in base64":         {`"key":"ab\xcd"`, "unknown escape"},
		"a key that is a number":              {`"key":12`, "want base64 or null"},
		"a value that is an object":           {`"value":{"a":[1]}`, "want base64 or null"},
		"a header byte that is too large":     {`"headers":[{"h":[1,256]}]`, "malformed headers"},
		"a header byte that is too small":     {`"headers":[{"h":[-129]}]`, "malformed headers"},
		"a header byte with decimals":         {`"headers":[{"h":[1.5]}]`, "malformed headers"},
		"a header that is text":               {`"headers":[{"h":"MQ=="}]`, "malformed headers"},
		"a header that is no object":          {`"headers":[1]`, "malformed headers"},
		"headers that are no array":           {`"headers":{}`, "malformed headers"},
		"headers that are nested too much":    {`"headers":[{"h":[[1]]}]`, "malformed headers"},
		"the first of two faults is reported": {`"key":1,"value":2`, "byte 158: want base64"},
	} {
		t.Run(name, func(t *testing.T) {
			before := strings.Replace(with(`"value":"MQ=="`), `"offset":15`, `"offset":14`, 1)
			after := strings.Replace(with(`"value":"Mg==","headers":[{"h":[2]}]`), `"offset":15`, `"offset":16`, 1)
			ev := decode(t, wrap(with(c.member)+","+after+","+before))
			if ev.Records != 2 || len(ev.Batches) != 1 || ev.Batches[0].Records[0].Offset != 14 || string(ev.Batches[0].Records[1].Value) != "2" {
				t.Fatalf("%+v", ev)
			}
			if d := cmp.Diff([]event.Header{{Key: "h", Value: []byte{2}}}, ev.Batches[0].Records[1].Headers); d != "" {
				t.Errorf("headers of another record: %s", d)
			}
			if len(ev.Malformed) != 1 {
				t.Fatalf("malformed: %+v", ev.Malformed)
			}
			m := ev.Malformed[0]
			if m.Topic != "mytopic" || m.Partition != 0 || m.Offset != 15 || m.ID != "mytopic-0" {
				t.Errorf("malformed: %+v", m)
			}
			if !errors.Is(m.Err, ErrRecord) || !strings.Contains(m.Err.Error(), c.want) {
				t.Errorf("error %v, want ErrRecord with %q", m.Err, c.want)
			}
		})
	}
	for _, timestamp := range []string{"", `"timestamp":null,`, `"timestamp":"1545084650987",`, `"timestamp":1e3,`, `"timestamp":-9223372036854775808,`, `"timestamp":9223372036854775808,`} {
		ev := decode(t, wrap(`{"topic":"t","partition":3,`+timestamp+`"offset":7}`))
		if len(ev.Batches) != 0 || len(ev.Malformed) != 1 || ev.Malformed[0].Offset != 7 || ev.Malformed[0].Partition != 3 {
			t.Errorf("%q: %+v", timestamp, ev)
		}
	}
}

func TestMalformedRecordsAreInOrder(t *testing.T) {
	ev := decode(t, wrap(`{"topic":"b","partition":0,"offset":1},{"topic":"a","partition":1,"offset":9},{"topic":"a","partition":1,"offset":2},{"topic":"a","partition":0,"offset":5}`))
	var got []string
	for _, m := range ev.Malformed {
		got = append(got, fmt.Sprintf("%s-%d@%d", m.Topic, m.Partition, m.Offset))
	}
	if d := cmp.Diff([]string{"a-0@5", "a-1@2", "a-1@9", "b-0@1"}, got); d != "" {
		t.Error(d)
	}
}

func TestDecodeSkipsWhatItDoesNotKnow(t *testing.T) {
	ev := decode(t, `{"new":[{"a":"\u00e9"}],"eventSource":"aws:kafka","records":{"t-0":[{"new":{"offset":3},"topic":"t","partition":0,"offset":1,
"timestamp":2,"timestampType":7,"headers":null,"key":"MQ==","keySchemaMetadata":"x","valueSchemaMetadata":null}]},"x":null}`)
	want := Batch{
		TopicPartition: event.TopicPartition{Topic: "t"}, ID: "t-0", Records: []event.Record{{Offset: 1, Timestamp: 2, Key: []byte("1")}}, Info: []Info{{Key: Present}},
	}
	if d := diff(Event{Source: SourceMSK, Records: 1, Batches: []Batch{want}}, ev); d != "" {
		t.Error(d)
	}
}

func TestDecodeReadsSchemaMetadata(t *testing.T) {
	ev := decode(t, wrap(with(`"keySchemaMetadata":{"schemaId":"f1\u002d2","new":{},"dataFormat":"AVRO"},"value":"MQ==","valueSchemaMetadata":{"schemaId":1124,"dataFormat":"PROTOBUF"}`)+","+
		strings.Replace(with(`"x":1`), "15", "16", 1)))
	info := ev.Batches[0].Info
	if d := cmp.Diff(&Schema{ID: "f1-2", DataFormat: "AVRO"}, info[0].KeySchema); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(&Schema{ID: "1124", DataFormat: "PROTOBUF"}, info[0].ValueSchema); d != "" {
		t.Error(d)
	}
	if info[1].KeySchema != nil || info[1].ValueSchema != nil {
		t.Errorf("the next record has the schemas %v and %v", info[1].KeySchema, info[1].ValueSchema)
	}
}

func TestDecodeReadsEscapedText(t *testing.T) {
	ev := decode(t, `{"eventSource":"aws\u003akafka","records":{"a\u002d0":[{"\u0074opic":"\u0061","partition":0,"offset":1,"timestamp":1,
"key":"\/\/8\u003d","value":"QQ\u003d\u003d","headers":[{"\u0068":[1]}]}]}}`)
	want := Batch{
		TopicPartition: event.TopicPartition{Topic: "a"}, ID: "a-0",
		Records: []event.Record{{Offset: 1, Timestamp: 1, Key: []byte{255, 255}, Value: []byte("A"), Headers: []event.Header{{Key: "h", Value: []byte{1}}}}},
		Info:    []Info{{Key: Present, Value: Present}},
	}
	if d := diff(Event{Source: SourceMSK, Records: 1, Batches: []Batch{want}}, ev); d != "" {
		t.Error(d)
	}
}

func TestRecordsAreGroupedByTheirOwnPartitionAndOrdered(t *testing.T) {
	rec := func(topic string, partition, offset int, value string) string {
		return fmt.Sprintf(`{"topic":%q,"partition":%d,"offset":%d,"timestamp":1,"value":%q}`, topic, partition, offset, base64.StdEncoding.EncodeToString([]byte(value)))
	}
	ev := decode(t, `{"eventSource":"aws:kafka","records":{"x-1":[`+strings.Join([]string{
		rec("b-2", 1, 7, "seven"), rec("b-2", 1, 5, "five"), rec("a", 10, 3, "x"), rec("b-2", 1, 7, "again"), rec("a", 9, 1, "y"),
	}, ",")+`],"a-10":[`+rec("a", 10, 2, "w")+","+rec("a", 10, 3, "again")+`]}}`)
	var got []string
	for _, b := range ev.Batches {
		for i, r := range b.Records {
			got = append(got, fmt.Sprintf("%s %s/%d@%d %s %v", b.ID, b.Topic, b.Partition, r.Offset, r.Value, b.Info[i].Value))
		}
	}
	want := []string{ // with the name under which the partition was met first
		"x-1 a/9@1 y present", "x-1 a/10@2 w present", "x-1 a/10@3 x present", "x-1 b-2/1@5 five present", "x-1 b-2/1@7 seven present",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if ev.Records != len(want) {
		t.Errorf("%d records, want %d", ev.Records, len(want))
	}
}

func TestAnEventDoesNotReferToThePayload(t *testing.T) {
	want := typicalEvent(20, 3)
	payload := AppendEvent(nil, want)
	got, err := new(Decoder).Decode(payload)
	if err != nil {
		t.Fatal(err)
	}
	for i := range payload {
		payload[i] = '!'
	}
	if d := diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestADecoderForgetsEarlierEvents(t *testing.T) {
	r := seed.Rand(t)
	var d Decoder
	for range 300 {
		want := randomEvent(r)
		payload := AppendEvent(nil, want)
		if r.IntN(3) == 0 { // an event that fails half-way
			if _, err := d.Decode(payload[:r.IntN(len(payload))]); !errors.Is(err, ErrPayload) {
				t.Fatalf("error %v, want ErrPayload", err)
			}
		}
		got, err := d.Decode(payload)
		if err != nil {
			t.Fatal(err)
		}
		if d := diff(want, got); d != "" {
			t.Fatal(d)
		}
	}
}

func TestDecodeTakesTheLargestPayloads(t *testing.T) {
	var e Encoder
	e.Source = SourceMSK
	value := bytes.Repeat([]byte("0123456789"), 100)
	for offset := int64(0); e.Len() < MaxPayload; offset++ {
		e.Add(event.TopicPartition{Topic: "t"}, &event.Record{Offset: offset, Key: []byte{}, Value: value}, Info{Key: Present, Value: Present})
	}
	payload := e.AppendTo(nil)
	ev, err := new(Decoder).Decode(payload)
	if err != nil || ev.Records != e.Records() || len(payload) < MaxPayload {
		t.Fatalf("%d of %d records of %d bytes, %v", ev.Records, e.Records(), len(payload), err)
	}
	for _, r := range ev.Batches[0].Records {
		if !bytes.Equal(r.Value, value) || r.Key == nil {
			t.Fatalf("offset %d has another value", r.Offset)
		}
	}
	// One record as large as all.
	payload = AppendEvent(nil, Event{Source: SourceMSK, Batches: []Batch{{Records: []event.Record{{Value: make([]byte, MaxPayload)}}, TopicPartition: event.TopicPartition{Topic: "t"}}}})
	if ev, err = new(Decoder).Decode(payload); err != nil || len(ev.Batches[0].Records[0].Value) != MaxPayload {
		t.Fatalf("one large record: %v", err)
	}
}

func TestDecodeDoesNotAllocateAtSteadyState(t *testing.T) {
	headers := typicalEvent(100, 2)
	for i := range headers.Batches[0].Records {
		headers.Batches[0].Records[i].Headers = []event.Header{{Key: "trace", Value: []byte{1, 200}}, {Key: "x"}}
		headers.Batches[0].Info[i].ValueSchema = &Schema{ID: "7", DataFormat: "AVRO"}
	}
	for name, ev := range map[string]Event{"plain": typicalEvent(1000, 4), "headers and schemas": headers} {
		payload := AppendEvent(nil, ev)
		var d Decoder
		if n := testing.AllocsPerRun(20, func() {
			if _, err := d.Decode(payload); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations an event, want 0", name, n)
		}
	}
}

func TestBase64IsReadAsTheStandardLibraryDoes(t *testing.T) {
	var d base64Decoder
	d.init()
	r := seed.Rand(t)
	const alphabet = "ABCDwxyz0189+/+/+/AAAA"
	for range 200_000 {
		var src []byte
		for range r.IntN(30) {
			src = append(src, alphabet[r.IntN(len(alphabet))])
		}
		switch r.IntN(4) {
		case 0:
			src = append(src, "=="[:r.IntN(3)]...)
		case 1:
			if len(src) > 0 {
				src[r.IntN(len(src))] = "=!\x00\xff-_ \\\""[r.IntN(9)]
			}
		case 2:
			src = []byte(base64.StdEncoding.EncodeToString(src))
		}
		encoding := base64.StdEncoding
		if !bytes.HasSuffix(src, []byte("=")) {
			encoding = base64.RawStdEncoding
		}
		want, err := encoding.DecodeString(string(src))
		dst := make([]byte, len(src)+8)
		n, ok := d.decode(dst, src)
		if ok != (err == nil) || ok && !bytes.Equal(dst[:n], want) {
			t.Fatalf("%q: %x, %v; want %x, %v", src, dst[:n], ok, want, err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, n := range []int{500, 10_000} {
		b.Run(fmt.Sprintf("%drecords", n), func(b *testing.B) {
			payload := AppendEvent(nil, typicalEvent(n, 4))
			var d Decoder
			b.SetBytes(int64(len(payload)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := d.Decode(payload); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/record")
			b.ReportMetric(float64(len(payload))/float64(n), "B/record")
		})
	}
}

// FuzzDecode checks that nothing panics, that what is accepted without reserve is JSON, and that what was decoded is
// encoded to what is decoded the same.
func FuzzDecode(f *testing.F) {
	f.Add(AppendEvent(nil, typicalEvent(3, 2)))
	f.Add([]byte(wrap(with(`"key":null,"value":"QQ\u003d=","headers":[{"h":[1,-2,200]},{"n":null}],"keySchemaMetadata":{"schemaId":1,"dataFormat":"AVRO"}`))))
	f.Add([]byte(wrap(with(`"value":"!"`) + "," + with(`"value":""`) + "," + strings.Replace(with(`"key":"MQ"`), "15", "3", 1))))
	f.Add([]byte(`{"records":{"a-0":[{"topic":"a","partition":1,"offset":2,"timestamp":3},{"topic":"b","partition":1,"offset":2,"timestamp":3}],"a-1":null},"eventSource":"SelfManagedKafka"}`))
	f.Add([]byte(wrap(with("\"value\":\"\xff\\\"\""))))
	f.Add([]byte(`{"eventSource":"aws:kafka","records":{"":[{"topic":"t","partition":0,"offset":0,"timestamp":0}]}}`))
	var first, second Decoder
	f.Fuzz(func(t *testing.T, payload []byte) {
		ev, err := first.Decode(payload)
		if err != nil {
			if !errors.Is(err, ErrPayload) && !errors.Is(err, ErrSource) {
				t.Fatalf("error %v", err)
			}
			return
		}
		if len(ev.Malformed) == 0 && !json.Valid(payload) {
			t.Fatal("accepted, but not JSON")
		}
		for _, m := range ev.Malformed {
			if !errors.Is(m.Err, ErrRecord) || m.Topic == "" || m.Offset < 0 {
				t.Fatalf("malformed: %+v", m)
			}
		}
		records := 0
		for _, b := range ev.Batches {
			if len(b.Records) == 0 || len(b.Info) != len(b.Records) || b.Topic == "" || b.Partition < 0 {
				t.Fatalf("batch: %+v", b)
			}
			for i := range b.Records {
				if i > 0 && b.Records[i-1].Offset >= b.Records[i].Offset {
					t.Fatalf("offsets are not ascending: %+v", b)
				}
			}
			records += len(b.Records)
		}
		if records != ev.Records {
			t.Fatalf("%d records, Records is %d", records, ev.Records)
		}
		again, err := second.Decode(AppendEvent(nil, ev))
		if err != nil {
			t.Fatal(err)
		}
		ev.Malformed = nil
		for i, b := range ev.Batches {
			if b.ID == "" { // which is what AppendEvent fills in
				ev.Batches[i].ID = EntryName(b.TopicPartition)
			}
		}
		if d := diff(ev, again); d != "" {
			t.Fatal(d)
		}
	})
}
