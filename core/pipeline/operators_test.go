package pipeline

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/tests/seed"
)

// compileText makes the only pipeline of a spec: what is said goes under its name.
func compileText(t testing.TB, policy, text string) *Pipeline {
	t.Helper()
	if !strings.Contains(text, "windows:") {
		text += "\nwindows: [{name: m, type: tumbling, size: 1m}]"
	}
	app, err := spec.Load(fmt.Appendf(nil, `
processor:
  watermark: {max_out_of_orderness_secs: 0, emit_interval_secs: 0, max_future_skew_secs: 1000}
  error_handling: {policy: %s}
  kafka: {consumer: {topics: [in]}, producer: {result_topic: out}}
pipelines:
  - name: p
    %s
`, policy, strings.ReplaceAll(text, "\n", "\n    ")), "test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p, err := Compile(app.Pipelines[0])
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func at(offset int64, value string) event.Record {
	return event.Record{Offset: offset, Timestamp: 1000, Value: []byte(value)}
}

func TestOperatorsInOrder(t *testing.T) {
	p := compileText(t, "dead_letter", `where: kind == "call" and cost > 0
map:
  cost: (tokens ?? 0) * price
  cents: cost * 100
  model: lower(model)
  family: split(model, "-")[0]
  unused: tokens * missing
  at: seconds * 1000
timestamp: {field: at}
key: [model, {family: family}, {region: attributes.region}, "floor(tokens / 100)"]
values: {cents: cents, raw: tokens}
aggregates: {cents: [sum], raw: [last]}`)
	r := p.NewReader()
	for _, c := range []struct{ record, want string }{
		{`{"kind":"call","tokens":250,"price":0.5,"model":"GPT-X","seconds":2,"attributes":{"region":"eu"}}`, "2000 model=gpt-x::family=gpt::region=eu::floor(tokens / 100)=2 [12500 250] false "},
		{`{"kind":"ping","seconds":3}`, "3000  [] true "},
		{`{"kind":"call","price":3,"seconds":4}`, "4000  [] true "},
		{`{"kind":"call","tokens":5,"seconds":4}`, `0  [] false expression map.cost: invalid operation: number * nil (character 15); missing or null: price`},
		{`{"kind":"ping","seconds":"never"}`, "MinTime  [] true "}, // what does not count does not fail either
		{`{"kind":"ping","seconds":1e9}`, "MinTime  [] true "},     // and does not move the watermark into the future
		{`{"kind":"call","tokens":1,"price":"high"}`, `0  [] false expression map.cost: invalid operation: number * string (character 15)`},
		{`{"kind":"call","tokens":1,"price":1,"seconds":1}`, `0  [] false expression map.model: is nil, not string (character 1); missing or null: model`},
		{`{"kind":"call","tokens":1,"price":1,"model":"a","seconds":1}`, `0  [] false key_missing field attributes.region is missing, null, an object or an array`},
		{`{"kind":"call"`, `0  [] false decode undecodable value: byte 14: unexpected end`},
	} {
		rec := at(0, c.record)
		got := r.Read(&rec)
		var values []string
		for i, v := range got.Values {
			values = append(values, fmt.Sprint(v.Number))
			if p.inputs[i] && string(v.Text) != fmt.Sprint(v.Number) {
				t.Errorf("%s: value %d is the text %q", c.record, i, v.Text)
			}
		}
		at := fmt.Sprint(int64(got.Time))
		if got.Time == event.MinTime {
			at = "MinTime"
		}
		if text := fmt.Sprintf("%s %s %v %t %s %s", at, got.Key, values, got.Filtered, got.Reason, got.Detail); strings.TrimSpace(text) != strings.TrimSpace(c.want) {
			t.Errorf("%s:\n got %s\nwant %s", c.record, text, c.want)
		}
	}
}

func TestADerivedFieldSeesThoseBeforeIt(t *testing.T) {
	p := compileText(t, "dead_letter", "map: {b: a + 1, a: a * 10, c: a + b}\nkey: [a, b, c]\nvalues: {}\ntimestamp: {record: true}")
	rec := at(0, `{"a":2,"c":0}`)
	if got := p.NewReader().Read(&rec); string(got.Key) != "a=20::b=3::c=23" {
		t.Errorf("got %q, %s", got.Key, got.Detail)
	}
}

func TestRecordsWithoutAResultGoWhereThePolicySays(t *testing.T) {
	for policy, want := range map[string]Counts{
		"retry": {In: 3, Filtered: 1, Dead: 1}, "dead_letter": {In: 3, Filtered: 1, Dead: 1}, "skip": {In: 3, Filtered: 1, Skipped: 1}, "fail": {In: 1},
	} {
		p := compileText(t, policy, "where: v > 1\ntimestamp: {record: true}\nvalues: {v: v}")
		f := p.NewFolder(event.TopicPartition{Topic: "in"})
		f.Begin(Chunk{Fence: event.MinTime})
		for i, value := range []string{`{"v":2}`, `{}`, `{"v":1}`} {
			rec := at(int64(i), value)
			err := f.Add(&rec)
			if blocked := policy == "fail" && i == 1; errors.Is(err, ErrBlocked) != blocked {
				t.Errorf("%s: record %d: %v", policy, i, err)
			} else if blocked {
				break
			}
		}
		got := f.Finish(0)
		if got.Counts != want {
			t.Errorf("%s: got %+v, want %+v", policy, got.Counts, want)
		}
		for _, d := range outbox(t, *got) {
			if d.Reason != event.ReasonExpression || d.Detail != "where: invalid operation: nil > number (character 3); missing or null: v" {
				t.Errorf("%s: got %+v", policy, d)
			}
		}
	}
}

// A record that does not count moves the watermark, and that is all: else no window of a partition of such records would ever end.
func TestFoldingWithWhereIsFilteringBefore(t *testing.T) {
	seed := seed.Of(t)
	const windows = `windows: [{name: m, type: tumbling, size: 10s, allowed_lateness: 5s}, {name: h, type: sliding, size: 30s, slide: 7s}, {name: s, type: session, gap: 4s}]
timestamp: {field: t}
values: {v: v}
`
	with := compileText(t, "dead_letter", "where: metric == \"a\" and v % 3 != 0\n"+windows+"key: [k]")
	without := compileText(t, "dead_letter", windows+"key: [k]")
	for round := range 200 {
		r := rand.New(rand.NewPCG(seed, uint64(round)))
		var all, kept []event.Record
		largest := event.MinTime
		for i := range 1 + r.IntN(60) {
			v, metric, when := r.IntN(50), string(rune('a'+r.IntN(2))), event.Time(r.IntN(60_000))
			rec := event.Record{Offset: int64(i), Timestamp: when, Value: fmt.Appendf(nil, `{"t":%d,"k":%d,"metric":%q,"v":%d}`, when, r.IntN(3), metric, v)}
			largest = max(largest, when)
			if all = append(all, rec); metric == "a" && v%3 != 0 {
				kept = append(kept, rec)
			}
		}
		c := Chunk{Fence: event.Time(r.IntN(40_000))}
		got, want := fold(t, with, c, all...), fold(t, without, c, kept...)
		if got.MaxTime != largest {
			t.Fatalf("round %d of seed %d: the largest time is %d, want %d", round, seed, got.MaxTime, largest)
		}
		want.Counts.In, want.Counts.Filtered = int64(len(all)), int64(len(all)-len(kept))
		if got.Counts != want.Counts {
			t.Fatalf("round %d of seed %d: got %+v, want %+v", round, seed, got.Counts, want.Counts)
		}
		g, w := &state{}, &state{}
		g.add(got)
		w.add(want)
		const end = event.Time(200_000)
		upto := int64(len(all))
		if diff := cmp.Diff(panesOf(w.plan(t, without, 1, event.MinTime, end, 0, upto)), panesOf(g.plan(t, with, 1, event.MinTime, end, 0, upto))); diff != "" {
			t.Fatalf("round %d of seed %d (-filtered before +where):\n%s", round, seed, diff)
		}
	}
}

func panesOf(o *Outcome) []string {
	var out []string
	for _, p := range o.Panes {
		out = append(out, string(p.Value))
	}
	return out
}

func TestResultsNameThePartsOfTheKey(t *testing.T) {
	p := compileText(t, "dead_letter", "key: [{model: lower(model)}, floor(v / 10)]\ntimestamp: {record: true}\nvalues: {v: v}")
	s := &state{}
	s.add(fold(t, p, Chunk{Fence: event.MinTime}, at(0, `{"model":"GPT","v":25}`)))
	out := s.plan(t, p, 1, event.MinTime, 1_000_000, 0, 1)
	if len(out.Panes) != 1 {
		t.Fatalf("got %d panes", len(out.Panes))
	}
	got := string(p.appendKey(nil, out.Panes[0].Key))
	if want := `"model=gpt::floor(v / 10)=2","key_fields":{"model":"gpt","floor(v / 10)":"2"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestWhereDoesNotAllocateOnceWarm(t *testing.T) {
	p := compile(t, minutes, "    where: metric == \"latency_ms\" and attributes.region == \"us-east-1\"")
	if n := foldAllocations(t, p); n > 8 {
		t.Errorf("%v allocations for 500 records, want none per record where fields are those of the record before", n)
	}
}

func BenchmarkOperators(b *testing.B) {
	for _, c := range []struct{ name, text string }{
		{"none", ""},
		{"where", "    where: metric == \"latency_ms\""},
		{"where-false", "    where: metric == \"cost\""},
		{"where-nested", "    where: metric == \"latency_ms\" and attributes.tokens > 100"},
		{"map", "    map: {v: v * 2}"},
		{"alias", "    map: {v: v}"},
		{"map-and-where", "    where: metric == \"latency_ms\"\n    map: {v: attributes.tokens * 0.002, k: upper(k)}"},
	} {
		b.Run(c.name, func(b *testing.B) {
			p := compile(b, minutes, c.text)
			f, records := p.NewFolder(event.TopicPartition{Topic: "in"}), batch(0)
			b.ReportAllocs()
			for b.Loop() {
				f.Begin(Chunk{Fence: event.MinTime})
				for i := range records {
					if err := f.Add(&records[i]); err != nil {
						b.Fatal(err)
					}
				}
				f.Finish(0)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(records)), "ns/record")
		})
	}
}
