package pipeline

import (
	"fmt"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
)

func TestSessionsTakeTheGapOfEachRecord(t *testing.T) {
	app, err := spec.Load([]byte(`
kafka: {consumer: {topics: [in]}, producer: {result_topic: out}}
pipelines:
  - key: []
    timestamp: {field: t}
    values: {}
    windows: [{type: session, gap: 10ms, gap_field: user.gap, max_gap: 50ms, max: 1s, allowed_lateness: 0s}]
`), "spec.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p, err := Compile(app.Pipelines[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		records []string
		want    string // windows and numbers of records
	}{
		{"without one the gap is the window's", []string{`{"t":0}`, `{"t":9}`, `{"t":19}`}, "[0 19):2 [19 29):1"},
		{"null is none", []string{`{"t":0,"user":{"gap":null}}`}, "[0 10):1"},
		{"a longer one holds the session open", []string{`{"t":0,"user":{"gap":40}}`, `{"t":39}`}, "[0 49):2"},
		{"also over records with shorter ones", []string{`{"t":0,"user":{"gap":40}}`, `{"t":5,"user":{"gap":1}}`, `{"t":30,"user":{"gap":1}}`}, "[0 40):3"},
		{"in any order", []string{`{"t":39}`, `{"t":0,"user":{"gap":40}}`}, "[0 49):2"},
		{"a shorter one ends it sooner", []string{`{"t":0,"user":{"gap":2.9}}`, `{"t":2}`}, "[0 2):1 [2 12):1"},
		{"it counts up to the longest", []string{`{"t":0,"user":{"gap":1e9}}`, `{"t":50}`}, "[0 50):1 [50 60):1"},
		{"the session is cut all the same", []string{`{"t":990,"user":{"gap":40}}`, `{"t":1001}`}, "[990 1000):1 [1001 1011):1"},
		{"it joins what was apart", []string{`{"t":0}`, `{"t":20}`, `{"t":1,"user":{"gap":30}}`}, "[0 31):3"},
		{"one that is no number is an error", []string{`{"t":0,"user":{"gap":"long"}}`}, "value_type: the gap in field user.gap is string, not a number of milliseconds"},
		{"one below a millisecond is an error", []string{`{"t":0,"user":{"gap":0}}`}, "value_type: the gap in field user.gap is 0, want 1 ms or more"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := p.NewFolder(event.TopicPartition{Topic: "in"})
			f.Begin(Chunk{Fence: event.MinTime})
			for i, text := range c.records {
				if err := f.Add(&event.Record{Offset: int64(i), Value: []byte(text)}); err != nil {
					t.Fatal(err)
				}
			}
			out := f.Finish(int64(len(c.records)))
			v, err := p.NewView(nil)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for _, d := range out.Deltas {
				if err := v.Add(d.Slice, d.Payload); err != nil {
					t.Fatal(err)
				}
			}
			groups, _, err := v.Open(event.MinTime, 100)
			if err != nil {
				t.Fatal(err)
			}
			for i, g := range groups {
				if i > 0 {
					got += " "
				}
				got += fmt.Sprintf("[%d %d):%d", g.Window.Start, g.Window.End, g.Records)
			}
			for _, e := range outbox(t, *out) {
				got += fmt.Sprintf("%s: %s", e.Reason, e.Detail)
			}
			if got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}
