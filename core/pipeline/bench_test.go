package pipeline

import (
	"fmt"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// batch is 500 records of 50 keys, out of order by up to five seconds.
func batch(from int64) []event.Record {
	out := make([]event.Record, 500)
	for i := range out {
		n := from + int64(i)
		at := event.Time(1_700_000_000_000 + n/10 - n*7919%5000)
		out[i] = event.Record{Offset: n, Timestamp: at, Value: fmt.Appendf(nil, `{"event_id":"3f9a1c22-51d0-4c11","t":%d,"k":"svc-%02d","model":"gpt-x-1",`+
			`"metric":"latency_ms","v":%d.%02d,"user":"u-%d","attributes":{"region":"us-east-1","tokens":%d}}`, at, n*31%50, n%300, n%100, n%1000, n%2048)}
	}
	return out
}

const minutes = `[{name: 1m, type: tumbling, size: 1m, allowed_lateness: 1m}]`

func BenchmarkFold(b *testing.B) {
	for name, windows := range map[string]string{
		"tumbling": minutes,
		"sliding":  `[{name: 10m, type: sliding, size: 10m, slide: 1m, allowed_lateness: 1m}]`,
		"session":  `[{name: s, type: session, gap: 30s, allowed_lateness: 1m}]`,
	} {
		b.Run(name, func(b *testing.B) {
			p := compile(b, windows, "")
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

// foldAllocations returns the allocations of folding a batch when warm.
func foldAllocations(t *testing.T, p *Pipeline) float64 {
	t.Helper()
	f, records := p.NewFolder(event.TopicPartition{Topic: "in"}), batch(0)
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
	return testing.AllocsPerRun(20, run)
}

func TestFoldDoesNotAllocateOnceWarm(t *testing.T) {
	p := compile(t, minutes, "")
	if n := foldAllocations(t, p); n > 8 {
		t.Errorf("%v allocations for 500 records, want none per record", n)
	}
}

// BenchmarkFire is a plan that closes one window of 50 keys from 80 deltas.
func BenchmarkFire(b *testing.B) {
	p := compile(b, minutes, "")
	s := &state{}
	const n = 80
	for i := range int64(n) {
		s.add(fold(b, p, Chunk{From: i * 500, Fence: event.MinTime}, batch(i*500)...))
	}
	refs := s.refs()
	w := event.Time(1_700_000_000_000).Add(600_000)
	b.ReportAllocs()
	for b.Loop() {
		f := p.NewFiring(Turn{Plan: 1, At: 0, Prev: event.MinTime, W: w}, []Prefix{{Upto: n * 500, Refs: refs}})
		need := f.Needs(0)
		if err := f.Feed(0, need, s.read(need)); err != nil {
			b.Fatal(err)
		}
		if out, err := f.Finish(); err != nil || len(out.Panes) == 0 {
			b.Fatal(err, len(out.Panes))
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n*500), "ns/record")
}

// BenchmarkTogether is ten pipelines with the same key and value, beside one: alike in their windows, or with windows of their own.
func BenchmarkTogether(b *testing.B) {
	const of = `timestamp: {field: t, unit: ms}, key: [k], values: {v: v}, aggregates: {v: [count, sum, average, min, max, stddev, p50, p99]}, windows: `
	var alike, sizes []string
	for i := range 10 {
		alike = append(alike, of+minutes)
		sizes = append(sizes, of+fmt.Sprintf(`[{type: tumbling, size: %ds}]`, 30*(i+1)))
	}
	for _, c := range []struct {
		name   string
		blocks []string
	}{{"one", alike[:1]}, {"ten-alike", alike}, {"ten-sizes", sizes}} {
		b.Run(c.name, func(b *testing.B) {
			pipes := compileAll(b, c.blocks...)
			f, records := NewSharedFolder(together, pipes), batch(0)
			chunks := make([]*Chunk, len(pipes))
			for i := range chunks {
				chunks[i] = &Chunk{Fence: event.MinTime.Add(event.Span(i))} // a plan of its own each
			}
			b.ReportAllocs()
			for b.Loop() {
				f.Begin(0, chunks)
				for i := range records {
					f.Add(&records[i])
				}
				f.Finish(0)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(records)), "ns/record")
		})
	}
}
