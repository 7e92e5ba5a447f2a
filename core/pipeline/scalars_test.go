package pipeline

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/llm-auto-optimizer/tidemark/core/aggregate"
	"github.com/llm-auto-optimizer/tidemark/core/aggregate/aggregatetest"
	"github.com/llm-auto-optimizer/tidemark/core/delta"
	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
)

// compileFunctions makes a pipeline of two topics with one value v and the given functions.
func compileFunctions(t testing.TB, functions string, with ...spec.Option) *Pipeline {
	t.Helper()
	app, err := spec.Load(fmt.Appendf(nil, `
processor:
  error_handling: {policy: dead_letter}
pipelines:
  - name: p
    topics: [z, a]
    timestamp: {field: t, unit: ms}
    key: [k]
    values: {v: v}
    aggregates: {v: [%s]}
    windows: [{name: w, type: tumbling, size: 10ms, allowed_lateness: 0s}]
    sink: {topic: out}
`, functions), "test.yaml", with...)
	if err != nil {
		t.Fatal(err)
	}
	p, err := Compile(app.Pipelines[0])
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func value(offset int64, at event.Time, v string) event.Record {
	return event.Record{Offset: offset, Timestamp: at, Value: fmt.Appendf(nil, `{"t":%d,"k":"a","v":%s}`, at, v)}
}

// results fires the window [0, 10) over partitions and returns its results.
func results(t testing.TB, p *Pipeline, parts map[event.TopicPartition][]event.Record, order ...event.TopicPartition) string {
	t.Helper()
	var prefixes []Prefix
	var states []*state
	for _, tp := range order {
		f := p.NewFolder(tp)
		s := &state{}
		for _, r := range parts[tp] { // a delta for each record
			f.Begin(Chunk{From: r.Offset, Fence: event.MinTime})
			if err := f.Add(&r); err != nil {
				t.Fatal(err)
			}
			s.add(*f.Finish(0))
		}
		states = append(states, s)
		prefixes = append(prefixes, Prefix{TopicPartition: tp, Upto: 1000, Refs: s.refs()})
	}
	f := p.NewFiring(Turn{Plan: 1, At: 0, Prev: event.MinTime, W: 20}, prefixes)
	for i, s := range states {
		refs := f.Needs(i)
		if err := f.Feed(i, refs, s.read(refs)); err != nil {
			t.Fatal(err)
		}
	}
	out, err := f.Finish()
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Panes) != 1 {
		t.Fatalf("%d panes", len(out.Panes))
	}
	_, rest, _ := strings.Cut(string(out.Panes[0].Value), `"results":`)
	body, _, _ := strings.Cut(rest, `,"timestamp"`)
	return body
}

// Of equal times topic (by name, not as the spec lists them), partition and offset decide, in whatever order partitions are merged.
func TestFirstAndLastAreDecidedByPosition(t *testing.T) {
	p := compileFunctions(t, "count, first, last, distinct")
	a0, a1, z0 := event.TopicPartition{Topic: "a"}, event.TopicPartition{Topic: "a", Partition: 1}, event.TopicPartition{Topic: "z"}
	parts := map[event.TopicPartition][]event.Record{
		a0: {value(7, 3, `"a0"`), value(8, 9, `"a0 late"`)},
		a1: {value(1, 3, `"a1"`), value(2, 3, `true`), value(3, 9, `12345678901234567890`), value(4, 9, `1.50`)},
		z0: {value(0, 3, `"z0"`), value(2, 5, `"x"`), value(3, 9, `"a0"`)},
	}
	want := `{"count":9,"first":"a0","last":"a0","distinct":8}`
	for _, order := range [][]event.TopicPartition{{a0, a1, z0}, {z0, a1, a0}, {a1, z0, a0}} {
		if got := results(t, p, parts, order...); got != want {
			t.Errorf("%v: %s, want %s", order, got, want)
		}
	}
	delete(parts, z0)
	if got, want := results(t, p, parts, a1, a0), `{"count":6,"first":"a0","last":1.50,"distinct":6}`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestScalarsAreReadWhereAllFunctionsTakeThem(t *testing.T) {
	const numbers, scalars = "count, first, max", "count, first, last, distinct"
	long := `"` + strings.Repeat("x", aggregate.MaxTextBytes+1) + `"`
	for _, c := range []struct {
		functions, value string
		reason           event.Reason
		detail           string
	}{
		{numbers, `1`, "", ""},
		{numbers, `"x"`, event.ReasonValueType, "field v is string, not a number"},
		{numbers, `true`, event.ReasonValueType, "field v is boolean, not a number"},
		{numbers, `"NaN"`, event.ReasonValueNotFinite, "not a finite float64"},
		{numbers, `1e400`, event.ReasonValueNotFinite, "not a finite float64"},
		{scalars, `1`, "", ""},
		{scalars, `"x"`, "", ""},
		{scalars, `"NaN"`, "", ""},
		{scalars, `false`, "", ""},
		{scalars, `""`, "", ""},
		{scalars, `1e400`, event.ReasonValueNotFinite, "not a finite float64"},
		{scalars, `null`, event.ReasonValueMissing, "no value"},
		{scalars, `{}`, event.ReasonValueType, "field v is object, not a number, a string or a boolean"},
		{scalars, `[1]`, event.ReasonValueType, "field v is array, not a number, a string or a boolean"},
		{scalars, long, event.ReasonTooLarge, "at most 65536 are possible for first and last"},
		{"count, distinct", long, "", ""},
		{"count", `"x"`, "", ""},
	} {
		p := compileFunctions(t, c.functions)
		r := value(0, 1, c.value)
		got := p.NewReader().Read(&r)
		if got.Reason != c.reason || !strings.Contains(got.Detail, c.detail) {
			t.Errorf("%s of %.20s: %q, %q; want %q, %q", c.functions, c.value, got.Reason, got.Detail, c.reason, c.detail)
		}
	}
}

// A record of another type than the one before leaves nothing of that behind.
func TestInputsAreMadeAnew(t *testing.T) {
	p := compileFunctions(t, "count, distinct, last")
	tp := event.TopicPartition{Topic: "a"}
	var records []event.Record
	for i, v := range []string{`"1"`, `1`, `1.0`, `true`, `"true"`, `1e0`, `"1"`} {
		records = append(records, value(int64(i), 1, v))
	}
	if got, want := results(t, p, map[event.TopicPartition][]event.Record{tp: records}, tp), `{"count":7,"distinct":4,"last":"1"}`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestFoldOfScalarsDoesNotAllocateOnceWarm(t *testing.T) {
	p := compileFunctions(t, "count, first, last, distinct")
	f := p.NewFolder(event.TopicPartition{Topic: "a"})
	var records []event.Record
	for i := range 500 {
		records = append(records, value(int64(i), event.Time(i%10), fmt.Sprintf(`"user-%d"`, i%50)))
	}
	run := func() {
		f.Begin(Chunk{Fence: event.MinTime})
		for i := range records {
			if err := f.Add(&records[i]); err != nil {
				t.Fatal(err)
			}
		}
		f.Finish(0)
	}
	run()
	if n := testing.AllocsPerRun(20, run); n > 8 {
		t.Errorf("%v allocations for 500 records, want none per record", n)
	}
}

func TestViewsCompareTheNewFunctions(t *testing.T) {
	p := compileFunctions(t, "count, first, last, distinct")
	view := func(values ...string) *View {
		v, err := p.NewView(nil)
		if err != nil {
			t.Fatal(err)
		}
		for i, x := range values {
			r := value(int64(i), event.Time(i), x)
			for _, d := range fold(t, p, Chunk{From: r.Offset, Fence: event.MinTime}, r).Deltas {
				if d.Slice.Window != 0 {
					continue // counts
				}
				if err := v.Add(d.Slice, d.Payload); err != nil {
					t.Fatal(err)
				}
			}
		}
		return v
	}
	for _, c := range []struct {
		other []string
		same  bool
	}{
		{[]string{`"x"`, `2`, `true`}, true},
		{[]string{`"y"`, `2`, `true`}, false},
		{[]string{`"x"`, `2`, `"true"`}, false},
		{[]string{`"x"`, `true`, `true`}, false},
	} {
		found := 0
		n, err := view(`"x"`, `2`, `true`).Compare(view(c.other...), event.MinTime, func(Mismatch) { found++ })
		if err != nil || n != 1 || (found == 0) != c.same {
			t.Errorf("%v: %d compared, %d differ, %v", c.other, n, found, err)
		}
	}
}

// longest is a user-defined function: the longest text, of several the least.
type longest struct{ text string }

func (l *longest) Reset() { l.text = "" }

func (l *longest) take(s string) {
	if len(s) > len(l.text) || len(s) == len(l.text) && s < l.text {
		l.text = s
	}
}

func (l *longest) Add(in *aggregate.Input) { l.take(string(in.Text)) }

func (l *longest) Merge(other aggregate.State) {
	if o, ok := other.(*longest); ok {
		l.take(o.text)
	}
}

func (l *longest) AppendBinary(dst []byte) ([]byte, error) { return append(dst, l.text...), nil }

func (l *longest) MergeBinary(stored []byte) error {
	if !utf8.Valid(stored) {
		return errors.New("not UTF-8")
	}
	l.take(string(stored))
	return nil
}

func (l *longest) AppendJSON(dst []byte) []byte { return event.AppendJSONString(dst, []byte(l.text)) }

// From the spec to the result, through stored deltas of two partitions.
func TestFunctionsOfOnesOwnAreFoldedStoredAndFired(t *testing.T) {
	g, err := aggregate.NewRegistry(aggregate.Definition{Name: "longest", Doc: "Longest text.", Scalars: true, New: func() aggregate.State { return &longest{} }})
	if err != nil {
		t.Fatal(err)
	}
	f, err := g.Parse("longest")
	if err != nil {
		t.Fatal(err)
	}
	aggregatetest.Laws(t, f)
	p := compileFunctions(t, "count, longest, first", spec.WithFunctions(g))
	one, two := event.TopicPartition{Topic: "a"}, event.TopicPartition{Topic: "z"}
	parts := map[event.TopicPartition][]event.Record{
		one: {value(0, 3, `"ab"`), value(1, 4, `"abc"`), value(2, 5, `17`)},
		two: {value(0, 2, `"zzz"`), value(1, 4, `"aaa"`)},
	}
	if got, want := results(t, p, parts, one, two), `{"count":5,"longest":"aaa","first":"zzz"}`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if _, err := Compile(spec.Pipeline{Values: p.Values, Aggregates: p.Aggregates, Windows: p.Windows}); !errors.Is(err, aggregate.ErrUnknownFunction) {
		t.Errorf("without the registry: %v", err)
	}
	payload := fold(t, p, genesis, value(0, 1, `"x"`)).Deltas[0].Payload
	payload[bytes.LastIndexByte(payload, 'x')] = 0xff
	v, err := p.NewView(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Add(delta.SliceID{}, payload); !errors.Is(err, ErrPayload) || !strings.Contains(err.Error(), "function longest: not UTF-8") {
		t.Errorf("damaged state: %v", err)
	}
}
