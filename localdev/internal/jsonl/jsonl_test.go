package jsonl_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/jsonl"
)

// one reads a single line.
func one(t *testing.T, line, defaultTopic string) (jsonl.Line, error) {
	t.Helper()
	r := jsonl.NewReader(strings.NewReader(line), "in")
	l, err := r.Next(defaultTopic)
	if err == nil {
		if _, end := r.Next(defaultTopic); !errors.Is(end, io.EOF) {
			t.Fatalf("after the only line: %v, want io.EOF", end)
		}
	}
	return l, err
}

func TestLines(t *testing.T) {
	at := func(topic string, p int32) event.TopicPartition {
		return event.TopicPartition{Topic: topic, Partition: p}
	}
	now := int64(5)
	cases := map[string]struct {
		line string
		want jsonl.Line
	}{
		"everything": {
			`{"topic":"a","partition":2,"offset":7,"key":"k","timestamp":5,"headers":[{"key":"h","value":"v"},{"key":"n","value":null}],"value":{"x": 1}}`,
			jsonl.Line{
				TopicPartition: at("a", 2), HasPartition: true, HasOffset: true, HasTimestamp: true,
				Record: event.Record{
					Offset: 7, Timestamp: 5, Key: []byte("k"), Value: []byte(`{"x": 1}`),
					Headers: []event.Header{{Key: "h", Value: []byte("v")}, {Key: "n"}},
				},
			},
		},
		"topic of the only source":      {`{}`, jsonl.Line{TopicPartition: at("default", 0)}},
		"null key and value":            {`{"key":null,"value":null}`, jsonl.Line{TopicPartition: at("default", 0)}},
		"empty key and value":           {`{"key":"","value":""}`, jsonl.Line{TopicPartition: at("default", 0), Record: event.Record{Key: []byte{}, Value: []byte{}}}},
		"a string is its content":       {`{"value":"{\"a\":"}`, jsonl.Line{TopicPartition: at("default", 0), Record: event.Record{Value: []byte(`{"a":`)}}},
		"other bytes":                   {`{"key_base64":"/w==","value_base64":"AP8="}`, jsonl.Line{TopicPartition: at("default", 0), Record: event.Record{Key: []byte{255}, Value: []byte{0, 255}}}},
		"a number is JSON":              {`{"value":12.50}`, jsonl.Line{TopicPartition: at("default", 0), Record: event.Record{Value: []byte("12.50")}}},
		"fire":                          {`{"fire":true,"now_ms":5}`, jsonl.Line{Fire: true, NowMS: &now}},
		"fire with the clock as it was": {`{"fire":true}`, jsonl.Line{Fire: true}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := one(t, c.line, "default")
			if err != nil {
				t.Fatal(err)
			}
			c.want.Number = 1
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}

func TestWrongLinesAreNamed(t *testing.T) {
	for line, want := range map[string]string{
		`{"topik":"a"}`:                                            `unknown field "topik"`,
		`{"topic":"a"} {"topic":"b"}`:                              "something follows the object",
		`{"value":1}`:                                              "topic is missing",
		`[1]`:                                                      "not a JSON object; a line is",
		`{"topic":"a","partition":-1}`:                             "partition must be from 0 to 10000, got -1",
		`{"topic":"a","partition":10001}`:                          "partition must be from 0 to 10000, got 10001",
		`{"topic":"a","offset":-2}`:                                "offset must not be negative, got -2",
		`{"topic":"a","timestamp":-1}`:                             "timestamp is in milliseconds",
		`{"topic":"a","key_base64":"?"}`:                           "key: illegal base64",
		`{"topic":"a","now_ms":1}`:                                 "now_ms belongs to a line",
		`{"topic":"a","value`:                                      "the JSON object is not complete",
		`{"topic":"a","key":"a","key_base64":"YQ=="}`:              "key is given twice",
		`{"topic":"a","value":1,"value_base64":"YQ=="}`:            "value is given twice",
		`{"topic":"a","headers":[{"key":"h","value_base64":"?"}]}`: "header h: illegal base64",
		`{"topic":"a","value":"` + strings.Repeat("x", jsonl.MaxLine) + `"}`: "longer than",
	} {
		_, err := one(t, line, "")
		if !errors.Is(err, jsonl.ErrLine) || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "in:1: ") {
			t.Errorf("%.60s: got %.200v, want an ErrLine at in:1 with %q", line, err, want)
		}
	}
}

func TestLineNumbersCountEmptyLines(t *testing.T) {
	r := jsonl.NewReader(strings.NewReader("\n\n{\"topic\":\"a\"}\n \n{\n"), "in")
	l, err := r.Next("")
	if err != nil || l.Number != 3 {
		t.Errorf("first: line %d, %v; want line 3", l.Number, err)
	}
	if _, err := r.Next(""); err == nil || !strings.HasPrefix(err.Error(), "in:5: ") {
		t.Errorf("second: %v, want an error at in:5", err)
	}
}

func TestAppendLeavesOutWhatIsNotKnown(t *testing.T) {
	got := string(jsonl.Append(nil, event.TopicPartition{Topic: "a", Partition: -1}, &event.Record{Offset: -1, Timestamp: 3}))
	if want := `{"topic":"a","key":null,"timestamp":3,"value":null}` + "\n"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestAppendEmbedsJSONOnOneLine(t *testing.T) {
	for value, want := range map[string]string{
		`{"a": [1,  2]}`:   `"value":{"a":[1,2]}`,
		"{\n\"a\":1\n}\n":  `"value":{"a":1}`,
		`{"<>": "&"}`:      `"value":{"<>":"&"}`,
		`12.50`:            `"value":12.50`,
		`"text"`:           `"value":"\"text\""`,
		`null`:             `"value":"null"`,
		`not JSON`:         `"value":"not JSON"`,
		"{\"a\":\"\xff\"}": `"value_base64":"eyJhIjoi/yJ9"`,
	} {
		got := string(jsonl.Append(nil, event.TopicPartition{Topic: "a"}, &event.Record{Value: []byte(value)}))
		if !strings.HasSuffix(got, ","+want+"}\n") {
			t.Errorf("%q: got %s, want it to end in %s", value, got, want)
		}
	}
}

// roundTrip writes a record and reads it again.
func roundTrip(t *testing.T, tp event.TopicPartition, rec event.Record) jsonl.Line {
	t.Helper()
	line := jsonl.Append(nil, tp, &rec)
	l, err := one(t, string(line), "")
	if err != nil {
		t.Fatalf("read %s: %v", line, err)
	}
	return l
}

// FuzzRoundTrip checks that what Append writes is one line, which is read as the same record; white space around the parts of a
// JSON value aside.
func FuzzRoundTrip(f *testing.F) {
	f.Add("topic", int32(1), int64(5), int64(1735734850123), []byte("key"), []byte(`{"a": "b"}`), "header", []byte{255}, byte(0))
	f.Add("t", int32(0), int64(0), int64(0), []byte{}, []byte(`"s"`), "", []byte(nil), byte(7))
	f.Add("t", int32(0), int64(0), int64(0), []byte{0xff}, []byte("null"), "", []byte(nil), byte(0))
	f.Fuzz(func(t *testing.T, topic string, p int32, offset, ts int64, key, value []byte, header string, hv []byte, nils byte) {
		topic, header = strings.ToValidUTF8(topic, "?"), strings.ToValidUTF8(header, "?")
		if topic == "" || p < 0 || p > jsonl.MaxPartition || offset < 0 || ts < 0 {
			return
		}
		for i, b := range []*[]byte{&key, &value, &hv} {
			switch {
			case nils>>i&1 == 1:
				*b = nil
			case *b == nil:
				*b = []byte{}
			}
		}
		want := event.Record{Offset: offset, Timestamp: event.Time(ts), Key: key, Value: value, Headers: []event.Header{{Key: header, Value: hv}}}
		tp := event.TopicPartition{Topic: topic, Partition: p}
		got := roundTrip(t, tp, want)
		if got.TopicPartition != tp {
			t.Errorf("written to %v, read from %v", tp, got.TopicPartition)
		}
		// Compacting is idempotent: the second time nothing changes.
		again := roundTrip(t, tp, got.Record)
		if d := cmp.Diff(got.Record, again.Record); d != "" {
			t.Errorf("second round (-first +second)\n%s", d)
		}
		if strip(want.Value) == strip(got.Value) {
			got.Value = want.Value
		}
		if d := cmp.Diff(want, got.Record); d != "" {
			t.Errorf("(-written +read)\n%s", d)
		}
	})
}

// strip removes JSON's white space, also inside of strings, which is enough to see that nothing else has changed.
func strip(b []byte) string {
	if b == nil {
		return "nil"
	}
	return strings.NewReplacer(" ", "", "\t", "", "\r", "", "\n", "").Replace(string(b))
}

// FuzzReader checks that no input crashes the reader or makes it read for ever.
func FuzzReader(f *testing.F) {
	f.Add("{\"topic\":\"a\",\"value\":1}\n{\"fire\":true}\n")
	f.Add("\n\n[")
	f.Fuzz(func(t *testing.T, text string) {
		r := jsonl.NewReader(strings.NewReader(text), "in")
		for n := 0; ; n++ {
			if n > len(text) {
				t.Fatal("more lines than bytes")
			}
			if _, err := r.Next("default"); errors.Is(err, io.EOF) {
				return
			} else if err != nil && !errors.Is(err, jsonl.ErrLine) {
				t.Fatalf("neither a line nor ErrLine: %v", err)
			}
		}
	})
}
