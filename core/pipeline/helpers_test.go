package pipeline

import (
	"fmt"
	"strings"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/core/delta"
	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
)

// compile makes a pipeline that reads "t", "k" and "v" from JSON records, with the given windows and more YAML for its block.
func compile(t testing.TB, windows, more string) *Pipeline {
	t.Helper()
	if !strings.Contains(more, "aggregates:") {
		more += "\n    aggregates: {v: [count, sum, average, min, max, stddev, p50, p99]}\n"
	}
	app, err := spec.Load(fmt.Appendf(nil, `
processor:
  watermark: {max_out_of_orderness_secs: 0, emit_interval_secs: 0, max_future_skew_secs: 1000}
  error_handling: {policy: dead_letter}
  kafka: {consumer: {topics: [in]}, producer: {result_topic: out}}
pipelines:
  - name: p
    timestamp: {field: t, unit: ms}
    key: [k]
    values: {v: v}
    windows: %s
%s`, windows, more), "test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p, err := Compile(app.Pipelines[0])
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// rec is a record at an offset whose event time is also its Kafka timestamp.
func rec(offset int64, at event.Time, key string, v float64) event.Record {
	return event.Record{Offset: offset, Timestamp: at, Value: fmt.Appendf(nil, `{"t":%d,"k":%q,"v":%v}`, at, key, v)}
}

// fold folds records as one chunk and keeps the deltas.
func fold(t testing.TB, p *Pipeline, c Chunk, records ...event.Record) Folded {
	t.Helper()
	f := p.NewFolder(event.TopicPartition{Topic: "in"})
	f.Begin(c)
	for i := range records {
		if err := f.Add(&records[i]); err != nil {
			t.Fatal(err)
		}
	}
	return *f.Finish(0)
}

// state is the deltas of one partition, as a store would keep them.
type state struct {
	deltas []delta.Delta
}

func (s *state) add(f Folded) {
	for _, d := range f.Deltas {
		d.Payload = append([]byte(nil), d.Payload...)
		s.deltas = append(s.deltas, d)
	}
}

func (s *state) refs() []delta.Ref {
	out := make([]delta.Ref, len(s.deltas))
	for i := range s.deltas {
		out[i] = s.deltas[i].Ref
	}
	return out
}

func (s *state) read(refs []delta.Ref) [][]byte {
	out := make([][]byte, len(refs))
	for i, r := range refs {
		for _, d := range s.deltas {
			if d.Ref == r {
				out[i] = d.Payload
			}
		}
	}
	return out
}

// sweep does with the state what a plan says.
func (s *state) sweep(o PartitionOutcome) {
	keep := s.deltas[:0:0]
	for _, d := range s.deltas {
		gone := false
		for _, id := range o.Drop {
			gone = gone || d.Slice == id
		}
		for _, t := range o.Trim {
			gone = gone || d.Slice == t.Slice && d.To <= t.To
		}
		for _, r := range o.Replace {
			for _, ref := range r.Remove {
				gone = gone || d.Ref == ref
			}
		}
		if !gone {
			keep = append(keep, d)
		}
	}
	for _, r := range o.Replace {
		keep = append(keep, r.With...)
	}
	s.deltas = keep
}

// plan computes a plan over one partition.
func (s *state) plan(t testing.TB, p *Pipeline, n int64, prev, w event.Time, since, upto int64) *Outcome {
	t.Helper()
	f := p.NewFiring(Turn{Plan: n, At: 0, Prev: prev, W: w}, []Prefix{{Since: since, Upto: upto, Refs: s.refs()}})
	refs := f.Needs(0)
	if err := f.Feed(0, refs, s.read(refs)); err != nil {
		t.Fatal(err)
	}
	out, err := f.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// brief writes panes as "name[start,end) key timing".
func brief(panes []Pane) []string {
	out := []string{}
	for _, x := range panes {
		out = append(out, fmt.Sprintf("%s[%d,%d) %s %s", x.Name, x.Window.Start, x.Window.End, x.Key, x.Timing))
	}
	return out
}
