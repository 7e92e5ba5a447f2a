package pipeline

import (
	"fmt"
	"strings"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/core/aggregate"
	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// readText is what a reader makes of a value, in short.
func readText(p *Pipeline, value string) string {
	got := p.NewReader().Read(&event.Record{Timestamp: 1000, Key: []byte("rk"), Value: []byte(value)})
	if got.Reason != "" {
		return fmt.Sprintf("%s: %s", got.Reason, strings.TrimPrefix(got.Detail, event.ErrDecode.Error()+": "))
	}
	if got.Filtered {
		return fmt.Sprintf("filtered at %d", got.Time)
	}
	text := fmt.Sprintf("%d %s", got.Time, got.Key)
	for i, in := range got.Values {
		switch {
		case !got.Has[i]:
			text += " -"
		case len(in.Text) > 0, in.Kind == aggregate.InputString:
			text += fmt.Sprintf(" %d:%s", in.Kind, in.Text)
		default:
			text += fmt.Sprintf(" %v", in.Number)
		}
	}
	return text
}

func TestRowsAreReadAsTheSpecSays(t *testing.T) {
	p := compileText(t, "dead_letter", `input: {format: csv, columns: [time, service, latency, note], delimiter: ";"}
timestamp: {field: time, unit: s}
where: service != "test"
map: {seconds: latency / 1000}
key: [service]
values: {ms: latency, s: seconds, note: note}
aggregates: {ms: [sum], s: [max], note: [last]}`)
	f := func(value, want string) {
		t.Helper()
		if got := readText(p, value); got != want {
			t.Errorf("%q: got %s, want %s", value, got, want)
		}
	}
	f("1.5;chat;250;hello\r\n", "1500 service=chat 250 2:hello 0.25")
	f(`1970-01-01T00:00:01.5Z;"a=b;c";"250";""`, "1500 service=a%3Db;c 250 2: 0.25")
	f("1;007;250;12.50", "1000 service=007 250 1:12.50 0.25")
	f("1.5;test;250;", "filtered at 1500")
	f(";chat;250;", "timestamp_missing: field time is missing or null")
	f("soon;chat;250;", `timestamp_invalid: field time: string "soon": invalid timestamp`)
	f("9000;chat;250;", "timestamp_future: event time 1970-01-01T02:30:00Z is more than 16m40s after the record's timestamp 1970-01-01T00:00:01Z")
	f("1;;250;", "key_missing: field service is missing, null, an object or an array")
	f("1;chat", "decode: byte 6: the row ends after 2 of 4 columns")
	f("1;chat;250;a;b", "decode: byte 13: a field more than the 4 columns")
	f("1;chat;250;\n2;chat;250;", "decode: byte 12: a second row")
	f("1;ch\xe9t;250;", "decode: byte 4: invalid UTF-8")
	if got := p.NewReader().Read(&event.Record{}); got.Reason != event.ReasonDecode {
		t.Errorf("a tombstone: %+v", got)
	}
}

func TestValuesOfRowsThatAreNoNumbers(t *testing.T) {
	p := compileText(t, "dead_letter", `input: {format: csv, columns: [v, w]}
values: {v: v, w: w}
aggregates: [sum]`)
	for value, want := range map[string]string{
		"1,2":        "1000 rk 1 2",
		"1,":         "1000 rk 1 -",
		",":          "value_missing: no value of the pipeline is in the record",
		"fast,2":     "value_type: field v is string, not a number",
		"007,2":      "value_type: field v is string, not a number",
		"true,2":     "value_type: field v is boolean, not a number",
		`"",2`:       "value_type: field v is string, not a number",
		"1,NaN":      "value_not_finite: field w: not a finite float64",
		"1,1e999":    `value_not_finite: field w: parse "1e999": not a finite float64`,
		"-Infinity,": "value_not_finite: field v: not a finite float64",
	} {
		if got := readText(p, value); got != want {
			t.Errorf("%q: got %s, want %s", value, got, want)
		}
	}
}

// Nothing but the format has to be said of a topic of plain numbers.
func TestATextIsTheValueAtTheTimeOfItsRecord(t *testing.T) {
	numbers := compileText(t, "dead_letter", "input: text")
	scalars := compileText(t, "dead_letter", "input: text\nwhere: value != \"skip\"\nkey: [value]\naggregates: [count, first, last, distinct]")
	timed := compileText(t, "dead_letter", "input: text\nmap: {timestamp: value * 1000}")
	for _, c := range []struct {
		p           *Pipeline
		value, want string
	}{
		{numbers, "12.5", "1000 rk 12.5"},
		{numbers, " -3e2\n", "1000 rk -300"},
		{numbers, "", "value_missing: no value of the pipeline is in the record"},
		{numbers, "fast", "value_type: field value is string, not a number"},
		{numbers, "true", "value_type: field value is boolean, not a number"},
		{numbers, "NaN", "value_not_finite: field value: not a finite float64"},
		{numbers, "12\xff", "decode: byte 2: invalid UTF-8, found 0xff"},
		{scalars, "fast", "1000 value=fast 2:fast"},
		{scalars, "007", "1000 value=007 2:007"},
		{scalars, "7", "1000 value=7 1:7"},
		{scalars, "skip", "filtered at 1000"},
		{scalars, " ", "key_missing: field value is missing, null, an object or an array"},
		{timed, "2", "2000 rk 2"},
	} {
		if got := readText(c.p, c.value); got != c.want {
			t.Errorf("%q: got %s, want %s", c.value, got, c.want)
		}
	}
}

func TestJSONIsReadWithThePrefixOfARegistryAndWithout(t *testing.T) {
	p := compileText(t, "dead_letter", "input: json_registry\ntimestamp: {field: t}\nkey: [k]\nvalues: {v: a.v}")
	const doc = `{"t":1500,"k":"x","a":{"v":2}}`
	for value, want := range map[string]string{
		doc:                          "1500 k=x 2",
		"\x00\x00\x00\x00\x07" + doc: "1500 k=x 2",
		"\x00\x00\x00\x00\x07\x02x":  `decode: behind the prefix of schema 7: byte 0: want a value, found '\x02': only JSON is read, not Avro or Protobuf`,
	} {
		if got := readText(p, value); got != want {
			t.Errorf("%q: got %s, want %s", value, got, want)
		}
	}
}

// Event time is in any unit, as text, or the record's own, however the record is written.
func TestEventTimeInEveryUnitAndFormat(t *testing.T) {
	const want = event.Time(1767225605250) // 2026-01-01T00:00:05.250Z
	for _, c := range []struct{ timestamp, written string }{
		{"{field: t, unit: s}", "1767225605.25"},
		{"{field: t, unit: ms}", "1767225605250"},
		{"{field: t}", "1767225605250"},
		{"{field: t, unit: us}", "1767225605250999"},
		{"{field: t, unit: ns}", "1767225605250999999"},
		{"{field: t}", `"2026-01-01T00:00:05.25Z"`},
		{"{field: t, unit: ns}", `"2026-01-01T02:00:05.250999+02:00"`},
		{"{record: true}", "1"},
		{"{field: t, record: true}", ""},
	} {
		for format, value := range map[string]string{
			"json":                            `{"v":1,"t":` + c.written + `}`,
			"json_registry":                   "\x00\x00\x00\x00\x01" + `{"v":1,"t":` + c.written + `}`,
			"{format: csv, columns: [v, t]}":  "1," + c.written,
			"{format: csv, columns: [t, v] }": strings.Trim(c.written, `"`) + ",1\n",
		} {
			if c.written == "" {
				value = strings.Replace(value, `"t":}`, `"t":null}`, 1)
			}
			p := compileText(t, "dead_letter", "input: "+format+"\ntimestamp: "+c.timestamp+"\nvalues: {v: v}\naggregates: [sum]")
			got := p.NewReader().Read(&event.Record{Timestamp: want, Value: []byte(value)})
			if got.Time != want || got.Reason != "" {
				t.Errorf("%s of %s, timestamp: %s: got %d, %s %s", value, format, c.timestamp, got.Time, got.Reason, got.Detail)
			}
		}
	}
}

func TestFoldOfRowsDoesNotAllocateOnceWarm(t *testing.T) {
	p := compileText(t, "dead_letter", "input: {format: csv, columns: [t, k, v]}\ntimestamp: {field: t}\nkey: [k]\nvalues: {v: v}\naggregates: [count, sum, max]")
	r := p.NewReader()
	rec := event.Record{Timestamp: 1000, Value: []byte("1500,chat,12.5\n")}
	if n := testing.AllocsPerRun(100, func() {
		if got := r.Read(&rec); got.Reason != "" {
			t.Fatal(got)
		}
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
