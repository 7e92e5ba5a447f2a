package pipeline

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"testing"
	"weak"

	"github.com/llm-auto-optimizer/tidemark/core/aggregate"
	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/tests/seed"
)

// twin is a pipeline with the state of two partitions.
type twin struct {
	p       *Pipeline
	parts   [2]*state
	history History
}

// compute computes a plan over both partitions, from what like has merged; nil: by itself.
func (w *twin) compute(t *testing.T, turn Turn, since, upto [2]int64, like *Firing) (*Firing, *Outcome, error) {
	t.Helper()
	turn.Lends, turn.Like, turn.History = true, like, &w.history
	var prefixes []Prefix
	for i, s := range w.parts {
		prefixes = append(prefixes, Prefix{TopicPartition: event.TopicPartition{Topic: "in", Partition: int32(i)}, Since: since[i], Upto: upto[i], Refs: s.refs()})
	}
	f := w.p.NewFiring(turn, prefixes)
	for i, s := range w.parts {
		for refs := f.Needs(i); len(refs) > 0; {
			n := min(len(refs), 3)
			if err := f.Feed(i, refs[:n], s.read(refs[:n])); err != nil {
				t.Fatal(err)
			}
			refs = refs[n:]
		}
	}
	out, err := f.Finish()
	return f, out, err
}

// Whether a firing takes over what another pipeline's has merged or not, it comes to the same: also where the state of one differs, which
// is found out.
func TestAFiringComesToTheSameWithTheWorkOfAnother(t *testing.T) {
	windows := []string{
		`[{type: tumbling, size: 10ms, allowed_lateness: 5ms}]`, `[{type: sliding, size: 40ms, slide: 10ms, allowed_lateness: 20ms}]`,
		`[{type: cumulate, size: 30ms, step: 10ms, allowed_lateness: 3ms}]`, `[{type: global}]`,
		`[{name: a, type: tumbling, size: 10ms, allowed_lateness: 0s}, {name: b, type: sliding, size: 20ms, slide: 10ms, allowed_lateness: 9ms}]`,
		`[{type: tumbling, size: 20ms, allowed_lateness: 30ms}], accumulation: discarding`, `[{type: cumulate, size: 30ms, step: 10ms, allowed_lateness: 9ms}], accumulation: discarding`,
		`[{type: tumbling, size: 20ms, allowed_lateness: 30ms}], accumulation: retracting`,
	}
	triggers := []string{"trigger: {count: 3}", "trigger: {count: 2}", "trigger: {count: 2000}"}
	const of = `timestamp: {field: t, unit: ms}, key: [k], values: {v: v}, aggregates: {v: [%s]}, windows: %s, %s`
	chosen := seed.Of(t)
	var borrowed, unlike, apart int
	for round := range seed.Rounds(t, 200) {
		r := rand.New(rand.NewPCG(chosen, uint64(round)))
		query := windows[r.IntN(len(windows))]
		var twins []*twin
		trigger := func() string { return triggers[r.IntN(len(triggers))] } // which decides what is evaluated
		most := 6
		if round%10 == 0 {
			most = 2500 // so many values are not kept: what a row comes to depends on when they are folded
		}
		for _, p := range compileAll(t, fmt.Sprintf(of, "p50, stddev", query, trigger()), fmt.Sprintf(of, "stddev, p50, p99", query, trigger()), fmt.Sprintf(of, "p99, stddev", query, trigger())) {
			p.CompactAfter = 3
			twins = append(twins, &twin{p: p, parts: [2]*state{{}, {}}})
		}
		if !twins[0].p.MergesAlike(twins[1].p) {
			t.Fatalf("%s: pipelines with the same windows do not merge alike", query)
		}
		prev, since, upto := event.MinTime, [2]int64{}, [2]int64{}
		for n := range int64(8) {
			for range 1 + r.IntN(4) { // batches, the same for all
				part := r.IntN(2)
				records := make([]event.Record, 1+r.IntN(most))
				for i := range records {
					records[i] = rec(upto[part]+int64(i), event.Time(n*10+r.Int64N(30)-10), string(rune('a'+r.IntN(3))), r.NormFloat64())
				}
				odd, cut := -1, 0 // a pipeline that has come to something else, or was given the batch in two
				if r.IntN(6) == 0 {
					odd, cut = r.IntN(len(twins)), r.IntN(2)*len(records)/2
				}
				for i, w := range twins {
					mine, from := records, upto[part]
					if i == odd && cut > 0 {
						w.parts[part].add(fold(t, w.p, Chunk{From: from, Fence: prev}, mine[:cut]...))
						mine, from = mine[cut:], from+int64(cut)
					} else if i == odd {
						mine = append([]event.Record(nil), records...)
						mine[0] = rec(mine[0].Offset, mine[0].Timestamp, "a", 0.5)
					}
					w.parts[part].add(fold(t, w.p, Chunk{From: from, Fence: prev}, mine...))
				}
				upto[part] += int64(len(records))
			}
			turn := Turn{Plan: n + 1, At: event.Time(n), Prev: prev, W: max(prev, event.Time(n*10-r.Int64N(10))), Early: r.IntN(2) == 0, Recount: n == 0}
			var like *Firing
			for i, w := range twins {
				last, want, err := w.compute(t, turn, since, upto, nil)
				if err != nil {
					t.Fatal(err)
				}
				f, got, err := w.compute(t, turn, since, upto, like)
				switch {
				case errors.Is(err, ErrUnlike):
					unlike++
					f, got = last, want
				case err != nil:
					t.Fatal(err)
				case i > 0 && f.TookOver():
					borrowed++
				case i > 0:
					apart++
				}
				if !reflect.DeepEqual(want, got) {
					t.Fatalf("round %d, %s, plan %d of pipeline %d\nalone: %+v\nwith the work of another: %+v", round, query, n+1, i, want, got)
				}
				w.history.Apply(got.History)
				for k, s := range w.parts {
					s.sweep(got.Partitions[k])
				}
				like = f
			}
			prev, since = turn.W, upto
		}
	}
	if borrowed == 0 || unlike == 0 || apart == 0 {
		t.Errorf("%d firings took over the work of another, %d found that they may not, %d had other deltas: each has to happen", borrowed, unlike, apart)
	}
	t.Logf("%d firings took over the work of another, %d found that they may not, %d had other deltas", borrowed, unlike, apart)
}

// What a firing has merged is let go of, also where nothing of it could be taken over: else the last of many would hold all of them.
func TestAFiringDoesNotHoldTheOneBefore(t *testing.T) {
	w := &twin{p: compile(t, `[{type: tumbling, size: 10ms}]`, ""), parts: [2]*state{{}, {}}}
	var before weak.Pointer[Firing]
	var last *Firing
	for n := range int64(3) {
		w.parts[0].add(fold(t, w.p, Chunk{From: n, Fence: event.MinTime}, rec(n, 1, "a", 1)))
		f, _, err := w.compute(t, Turn{Plan: 1, Prev: event.MinTime, W: 25}, [2]int64{}, [2]int64{n + 1, 0}, last)
		if err != nil || f.TookOver() {
			t.Fatal(err, f.TookOver())
		}
		if last != nil {
			before = weak.Make(last)
		}
		last = f
	}
	runtime.GC()
	if before.Value() != nil {
		t.Error("the firing before is still held")
	}
	runtime.KeepAlive(last)
}

// Writing down what waits in a row leaves the row to others as it was.
func TestAStoredRowIsAsItWas(t *testing.T) {
	f := &Firing{p: compile(t, `[{type: tumbling, size: 10ms}]`, "")}
	r := rand.New(rand.NewPCG(seed.Of(t), 0))
	row := aggregate.Row{}
	f.p.composite.Reset(&row)
	for range 3000 { // not folded yet, though too many to be stored as they are
		f.p.composite.AddRecord(&row)
		f.p.composite.Add(&row, 0, r.NormFloat64())
	}
	f.p.composite.Arrange(&row)
	before := f.p.composite.AppendResults(nil, &row)
	if len(f.stored(&row)) == 0 {
		t.Error("nothing is stored")
	}
	if after := f.p.composite.AppendResults(nil, &row); !bytes.Equal(before, after) {
		t.Errorf("%s\nand then\n%s", before, after)
	}
}

// In which order the windows of a plan are looked at is not fixed, and rows of slices are evaluated as well as merged.
func TestAPlanComesToTheSameBytesEachTime(t *testing.T) {
	p := compile(t, `[{type: cumulate, size: 30ms, step: 10ms}]`, "")
	r := rand.New(rand.NewPCG(seed.Of(t), 0))
	s, end := &state{}, int64(0)
	for _, n := range []int64{3000, 3000, 1500} {
		records := make([]event.Record, n)
		for i := range records {
			records[i] = rec(end+int64(i), event.Time(r.Int64N(20)), "a", r.NormFloat64())
		}
		s.add(fold(t, p, Chunk{From: end, Fence: event.MinTime}, records...))
		end += n
	}
	first := s.plan(t, p, 1, event.MinTime, 25, 0, end)
	for range 50 {
		if again := s.plan(t, p, 1, event.MinTime, 25, 0, end); !reflect.DeepEqual(first, again) {
			t.Fatalf("%s\nand then\n%s", first.Panes[len(first.Panes)-1].Value, again.Panes[len(again.Panes)-1].Value)
		}
	}
}

func TestPipelinesThatMergeAlike(t *testing.T) {
	const of = `timestamp: {field: t, unit: ms}, key: [k], values: {v: v}, `
	const sums, tumbling = `aggregates: {v: [sum]}, `, `windows: [{type: tumbling, size: 10ms, allowed_lateness: 5ms}]`
	for name, c := range map[string]struct {
		a, b string
		want bool
	}{
		"the same":                       {sums + tumbling, sums + tumbling, true},
		"other functions of the same":    {`aggregates: {v: [p50]}, ` + tumbling, `aggregates: {v: [p99]}, ` + tumbling, true},
		"another filter":                 {sums + tumbling, sums + `where: v > 7, ` + tumbling, false},
		"another topic besides":          {sums + tumbling, sums + `topics: [in, behind], ` + tumbling, false},
		"functions that keep other rows": {sums + tumbling, `aggregates: {v: [sum, p50]}, ` + tumbling, false},
		"another size":                   {sums + tumbling, sums + `windows: [{type: tumbling, size: 20ms, allowed_lateness: 5ms}]`, false},
		"another lateness":               {sums + tumbling, sums + `windows: [{type: tumbling, size: 10ms, allowed_lateness: 0s}]`, false},
		"panes that discard":             {sums + tumbling, sums + `accumulation: discarding, ` + tumbling, false},
		"sessions":                       {sums + `windows: [{type: session, gap: 5ms}]`, sums + `windows: [{type: session, gap: 5ms}]`, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := compileAll(t, of+c.a, of+c.b)
			if got := p[0].MergesAlike(p[1]); got != c.want || p[1].MergesAlike(p[0]) != got {
				t.Errorf("%v, and the other way round %v; want %v", got, p[1].MergesAlike(p[0]), c.want)
			}
		})
	}
}
