package pipeline

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/tests/seed"
)

var together = event.TopicPartition{Topic: "in", Partition: 3}

// compileAll makes pipelines of the blocks given, which need no name.
func compileAll(t testing.TB, blocks ...string) []*Pipeline {
	t.Helper()
	yaml := `
processor:
  watermark: {max_out_of_orderness_secs: 0, emit_interval_secs: 0, max_future_skew_secs: 1000}
  error_handling: {policy: dead_letter}
  kafka: {consumer: {topics: [in]}, producer: {result_topic: out}}
pipelines:
`
	for i, b := range blocks {
		yaml += fmt.Sprintf("  - {name: p%d, sink: {topic: out%d}, %s}\n", i, i, b)
	}
	app, err := spec.Load([]byte(yaml), "test.yaml")
	if err != nil {
		t.Fatalf("%v\n%s", err, yaml)
	}
	out := make([]*Pipeline, len(app.Pipelines))
	for i, p := range app.Pipelines {
		if out[i], err = Compile(p); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// alone folds what a chunk of the pipeline has, without any other pipeline; false: a record blocks it.
func alone(p *Pipeline, c *Chunk, records []event.Record, to int64) (Folded, bool) {
	f := p.NewFolder(together)
	f.Begin(*c)
	for i := range records {
		if f.Add(&records[i]) != nil {
			return Folded{}, false
		}
	}
	return *f.Finish(to), true
}

// Whatever pipelines have in common, and however far apart their fences are: what they are given together is what each comes to alone,
// byte for byte.
func TestTogetherEachComesToWhatItDoesAlone(t *testing.T) {
	chosen := seed.Of(t)
	// Most pipelines of a round have the same of each list.
	pick := func(r *rand.Rand, of []string, usual int) string {
		if r.IntN(3) > 0 {
			return of[usual%len(of)]
		}
		return of[r.IntN(len(of))]
	}
	// Windows of one row often have the same edges.
	windows := [][]string{
		{
			`[{type: tumbling, size: 10ms, allowed_lateness: 5ms}]`, `[{type: tumbling, size: 10ms, allowed_lateness: 20ms}]`, `[{type: tumbling, size: 10ms, offset: 3ms, allowed_lateness: 5ms}]`,
			`[{type: tumbling, size: 10ms, offset: -7ms, allowed_lateness: 5ms}]`, `[{type: sliding, size: 40ms, slide: 10ms, allowed_lateness: 0s}]`, `[{type: cumulate, size: 30ms, step: 10ms, offset: 20ms, allowed_lateness: 3ms}]`,
		},
		{
			`[{type: sliding, size: 25ms, slide: 10ms, allowed_lateness: 1ms}]`, `[{type: sliding, size: 35ms, slide: 10ms, allowed_lateness: 9ms}]`, `[{type: sliding, size: 15ms, slide: 10ms, allowed_lateness: 0s}]`,
			`[{type: sliding, size: 5ms, slide: 10ms, allow_gaps: true, allowed_lateness: 4ms}]`, `[{type: sliding, size: 5ms, slide: 10ms, allow_gaps: true, allowed_lateness: 14ms}]`,
		},
		{
			`[{type: session, gap: 4ms, allowed_lateness: 2ms}]`, `[{type: session, gap: 4ms, allowed_lateness: 9ms}]`, `[{type: session, gap: 7ms, allowed_lateness: 9ms}]`, `[{type: session, gap: 4ms, max: 20ms, allowed_lateness: 9ms}]`,
			`[{type: session, gap: 4ms, gap_field: a.w, max_gap: 1s, allowed_lateness: 9ms}]`, `[{type: session, gap: 4ms, gap_field: a.w, max_gap: 6ms, allowed_lateness: 0s}]`,
		},
		{
			`[{name: a, type: session, gap: 4ms, allowed_lateness: 9ms}, {name: b, type: tumbling, size: 7ms, allowed_lateness: 0s}]`, `[{name: c, type: session, gap: 4ms, allowed_lateness: 9ms}, {name: d, type: tumbling, size: 7ms, allowed_lateness: 0s}]`,
			`[{name: a, type: session, gap: 4ms, allowed_lateness: 9ms}, {name: b, type: tumbling, size: 7ms, allowed_lateness: 5ms}]`, `[{type: global}], trigger: {count: 3}`,
		},
	}
	var shared, apart int
	for round := range seed.Rounds(t, 150) {
		r := rand.New(rand.NewPCG(chosen, uint64(round)))
		usual, row := r.IntN(100), windows[r.IntN(len(windows))]
		var blocks []string
		for range 2 + r.IntN(5) {
			blocks = append(blocks, strings.Join([]string{
				pick(r, []string{`topics: [in]`, `topics: [in, behind]`, `topics: [before, in]`}, 0),
				pick(r, []string{`input: json`, `input: json_registry`}, usual),
				pick(r, []string{`timestamp: {field: t, unit: ms}`, `timestamp: {field: t, unit: ms, record: true}`, `timestamp: {record: true}`}, usual),
				pick(r, []string{`key: [k]`, `key: []`, `key: [k, v]`, `key: ["upper(k)"]`}, usual),
				pick(r, []string{
					`values: {v: v}, aggregates: {v: [count, sum, p50]}`, `values: {v: v}, aggregates: {v: [p99, max, sum]}`, `values: {v: v}, aggregates: {v: [count]}`,
					`values: {x: v}, aggregates: {x: [count, distinct]}`, `values: {v: v}, aggregates: {v: [average, first]}`, `values: {v: v, w: a.w}, aggregates: {v: [stddev], w: [min, last]}`,
					`values: {v: v}, aggregates: {v: [sum, p50]}, aggregation: {percentile_sketch: ddsketch}`, `aggregates: [count]`,
				}, usual),
				pick(r, []string{`error_handling: {policy: dead_letter}`, `error_handling: {policy: skip}`, `error_handling: {policy: fail}`}, usual*usual%5/2),
				pick(r, []string{`map: {x: "2"}`, `where: v != 7`, `where: v > 40`, `map: {v: "a.w ?? 0"}`}, usual),
				`windows: ` + pick(r, row, usual),
			}, ", "))
		}
		pipes := compileAll(t, blocks...)
		f := NewSharedFolder(together, pipes)
		fence, from := event.Time(r.IntN(120)-60), int64(0)
		for range 6 {
			records := randomRecords(r, from, 1+r.IntN(20), fence)
			to := records[len(records)-1].Offset + 1 + int64(r.IntN(3))
			chunks := make([]*Chunk, len(pipes))
			for i := range chunks {
				if r.IntN(6) > 0 {
					chunks[i] = &Chunk{From: from, Fence: fence}
					switch r.IntN(30) {
					case 0:
						chunks[i].Fence = event.MinTime
					case 1:
						chunks[i].Fence = event.MaxTime
					case 2:
						chunks[i].Replay, chunks[i].Refused = true, map[Refusal]struct{}{{Offset: from}: {}}
					case 3, 4, 5, 6, 7, 8, 9, 10:
						chunks[i].Fence += event.Time(r.IntN(30) - 15)
					}
				}
			}
			f.Begin(from, chunks)
			for i := range records {
				f.Add(&records[i])
			}
			for i, got := range f.Finish(to) {
				switch {
				case chunks[i] == nil:
					if got != nil {
						t.Fatalf("round %d: pipeline %d took no part", round, i)
					}
					continue
				case got == nil:
					apart++
					continue
				}
				shared++
				want, ok := alone(pipes[i], chunks[i], records, to)
				if !ok {
					t.Fatalf("round %d: pipeline %d is blocked, but has an outcome", round, i)
				}
				if diff := cmp.Diff(want, *got); diff != "" {
					t.Fatalf("round %d: pipeline %d of\n%s\nis not what it is alone (-alone +together):\n%s", round, i, strings.Join(blocks, "\n"), diff)
				}
			}
			from, fence = to, fence+event.Time(r.IntN(8))
		}
	}
	t.Logf("%d outcomes together, %d left to the pipelines", shared, apart)
	if apart > shared || apart == 0 {
		t.Error("the rounds show too little")
	}
}

// randomRecords are n records around the fence, some of which are no JSON, lack something, or have one field twice.
func randomRecords(r *rand.Rand, from int64, n int, fence event.Time) []event.Record {
	var out []event.Record
	for range n {
		at := fence + event.Time(r.IntN(60)-20)
		value := fmt.Sprintf(`{"t":%d,"k":"k%d","v":%d,"a":{"w":%d}}`, at, r.IntN(3), r.IntN(100), 1+r.IntN(12))
		switch r.IntN(25) {
		case 0:
			value = []string{"no JSON", value[:r.IntN(len(value))], value[:20] + "\xff" + value[20:]}[r.IntN(3)]
		case 1:
			value = fmt.Sprintf(`{"t":%d,"k":"k1","v":"seven","a":{"w":1}}`, at)
		case 2:
			value = fmt.Sprintf(`{"t":%d,"k":"k1","a":{"w":3}}`, at)
		case 3:
			value = fmt.Sprintf(`{"t":%d,"k":"k1","v":5,"a":{"w":3,"w":4}}`, at) // a.w twice: a fault only for who needs it
		case 4:
			value = `{"k":"k1","v":5}`
		}
		out = append(out, event.Record{Offset: from, Timestamp: at, Value: []byte(value)})
		from += 1 + int64(r.IntN(8)/7)
	}
	return out
}

// Pipelines that differ in nothing that a fold knows of are folded once, whatever their fences, as long as no record is between them.
func TestWhatIsAlikeIsFoldedOnce(t *testing.T) {
	const of = `timestamp: {field: t, unit: ms}, key: [k], values: {v: v}, `
	for _, c := range []struct {
		name                     string
		a, b                     string
		readings, folds, keeping int
	}{
		{"names and topics", `windows: [{type: tumbling, size: 10ms}], aggregates: {v: [count]}`, `windows: [{name: x, type: tumbling, size: 10ms}], aggregates: {v: [count]}`, 1, 1, 1},
		{"functions of the same parts", `windows: [{type: tumbling, size: 10ms}], aggregates: {v: [sum]}`, `windows: [{type: tumbling, size: 10ms}], aggregates: {v: [sum, average]}`, 1, 1, 1},
		{"functions", `windows: [{type: tumbling, size: 10ms}], aggregates: {v: [sum]}`, `windows: [{type: tumbling, size: 10ms}], aggregates: {v: [p50]}`, 1, 1, 2},
		{"windows with the same edges", `windows: [{type: tumbling, size: 10ms}], aggregates: {v: [sum]}`, `windows: [{type: sliding, size: 50ms, slide: 10ms}], aggregates: {v: [sum]}`, 1, 1, 1},
		{"lateness", `windows: [{type: tumbling, size: 10ms, allowed_lateness: 5s}], aggregates: {v: [sum]}`, `windows: [{type: cumulate, size: 50ms, step: 10ms}], aggregates: {v: [sum]}`, 1, 1, 1},
		{"edges", `windows: [{type: tumbling, size: 10ms}], aggregates: {v: [sum]}`, `windows: [{type: tumbling, size: 20ms}], aggregates: {v: [sum]}`, 1, 2, 2},
		{"operators", `windows: [{type: tumbling, size: 10ms}], aggregates: {v: [sum]}`, `where: v > 1, windows: [{type: tumbling, size: 10ms}], aggregates: {v: [sum]}`, 2, 2, 2},
		{"inputs", `windows: [{type: tumbling, size: 10ms}], aggregates: {v: [sum]}`, `windows: [{type: tumbling, size: 10ms}], aggregates: {v: [last]}`, 2, 2, 2},
		{"numbers with their text", `windows: [{type: tumbling, size: 10ms}], aggregates: {v: [sum]}`, `windows: [{type: tumbling, size: 10ms}], aggregates: {v: [sum, distinct]}`, 2, 2, 2},
		{"gaps of their own", `windows: [{type: session, gap: 1s, gap_field: g, max_gap: 1m}], aggregates: {v: [sum]}`, `windows: [{type: session, gap: 1s, gap_field: g, max_gap: 2m}], aggregates: {v: [sum]}`, 2, 2, 2},
		{"formats", `windows: [{type: tumbling, size: 10ms}], aggregates: {v: [sum]}`, `input: json_registry, windows: [{type: tumbling, size: 10ms}], aggregates: {v: [sum]}`, 2, 2, 2},
		{"columns", `input: {format: csv, columns: [t, k, v]}, windows: [{type: tumbling, size: 10ms}], aggregates: {v: [sum]}`, `input: {format: csv, columns: [t, v, k]}, windows: [{type: tumbling, size: 10ms}], aggregates: {v: [sum]}`, 2, 2, 2},
		{"delimiters", `input: {format: csv, columns: [t, k, v]}, windows: [{type: tumbling, size: 10ms}], aggregates: {v: [sum]}`, `input: {format: csv, columns: [t, k, v], delimiter: ";"}, windows: [{type: tumbling, size: 10ms}], aggregates: {v: [sum]}`, 2, 2, 2},
		{"rows of the same columns", `input: {format: csv, columns: [t, k, v]}, windows: [{type: tumbling, size: 10ms}], aggregates: {v: [sum]}`, `input: {format: csv, columns: [t, k, v], delimiter: ","}, windows: [{type: tumbling, size: 10ms}], aggregates: {v: [sum]}`, 1, 1, 1},
		{"policies", `windows: [{type: tumbling, size: 10ms}], aggregates: {v: [sum]}`, `error_handling: {policy: skip}, windows: [{type: tumbling, size: 10ms}], aggregates: {v: [sum]}`, 2, 2, 2},
	} {
		f := NewSharedFolder(together, compileAll(t, of+c.a, of+c.b))
		folds, keeping := 0, 0
		for _, r := range f.readers {
			folds += len(r.folds)
			for _, x := range r.folds {
				keeping += len(x.sums)
			}
		}
		if len(f.readers) != c.readings || folds != c.folds || keeping != c.keeping {
			t.Errorf("different %s: %d readings, %d folds, %d sums, want %d, %d, %d", c.name, len(f.readers), folds, keeping, c.readings, c.folds, c.keeping)
		}
	}
}

// Pipelines may read one topic in several formats: each record is then what each of them makes of it.
func TestFormatsAreReadSideBySide(t *testing.T) {
	const windows = `windows: [{type: tumbling, size: 10ms, allowed_lateness: 0s}]`
	pipes := compileAll(
		t,
		`input: {format: csv, columns: [t, k, v]}, timestamp: {field: t}, key: [k], values: {v: v}, `+windows,
		`input: {format: csv, columns: [t, k, v]}, key: [k], where: v != 2, values: {t: t}, aggregates: [last], `+windows,
		`input: {format: csv, columns: [k, v, t]}, key: [v], values: {k: k}, `+windows,
		`input: {format: csv, columns: [a, b, c], delimiter: ";"}, key: [c], values: {a: a}, `+windows,
		`input: text, aggregates: [distinct, last], `+windows,
		`input: text, where: 'value != "1,a,3"', aggregates: [first], `+windows,
		`input: json_registry, timestamp: {field: t}, key: [k], values: {v: v}, `+windows,
		`timestamp: {field: t}, key: [k], values: {v: v}, `+windows,
	)
	var records []event.Record
	for i, v := range []string{"1,a,2", "1,a,3", `"4","b ""c""","5"`, "1;2;3", "12.5", `{"t":3,"k":"a","v":1}`, "\x00\x00\x00\x00\x01" + `{"t":3,"k":"a","v":1}`, "", "\xff", `"7","d ""e""",8`} {
		records = append(records, event.Record{Offset: int64(i), Timestamp: 5, Key: []byte("r"), Value: []byte(v)})
	}
	records = append(records, event.Record{Offset: 10, Timestamp: 5})
	f := NewSharedFolder(together, pipes)
	chunks := make([]*Chunk, len(pipes))
	for i := range chunks {
		chunks[i] = &Chunk{Fence: event.MinTime}
	}
	f.Begin(0, chunks)
	for i := range records {
		f.Add(&records[i])
	}
	for i, got := range f.Finish(11) {
		if got == nil {
			t.Errorf("pipeline %d has no outcome", i)
			continue
		}
		want, _ := alone(pipes[i], chunks[i], records, 11)
		if diff := cmp.Diff(want, *got); diff != "" {
			t.Errorf("pipeline %d (-alone +together):\n%s", i, diff)
		}
		if got.Counts.In != 11 || got.Counts.Dead == 0 || got.Counts.Dead == 11 {
			t.Errorf("pipeline %d: %+v shows too little", i, got.Counts)
		}
	}
}

func TestFencesApartShareUntilARecordIsBetweenThem(t *testing.T) {
	const of = `timestamp: {field: t, unit: ms}, key: [k], values: {v: v}, aggregates: {v: [sum]}, windows: `
	tumbling := func(lateness string) string {
		return of + `[{type: tumbling, size: 10ms, allowed_lateness: ` + lateness + `}]`
	}
	session := func(lateness string) string {
		return of + `[{type: session, gap: 3ms, allowed_lateness: ` + lateness + `}]`
	}
	for _, c := range []struct {
		name   string
		pipes  []string
		fences []event.Time
		times  []event.Time
		shared []bool
	}{
		{"all records are open for both", []string{tumbling("0s"), tumbling("0s")}, []event.Time{3, 9}, []event.Time{5, 12}, []bool{true, true}},
		{"one is late for both", []string{tumbling("0s"), tumbling("0s")}, []event.Time{13, 19}, []event.Time{5, 12}, []bool{true, true}},
		{"one is late for one", []string{tumbling("0s"), tumbling("0s")}, []event.Time{9, 10}, []event.Time{5, 12}, []bool{false, true}},
		{"one is late for one by its lateness", []string{tumbling("0s"), tumbling("5ms")}, []event.Time{10, 10}, []event.Time{5, 12}, []bool{true, false}},
		{"sessions take all", []string{session("1ms"), session("5ms")}, []event.Time{6, 5}, []event.Time{5, 12}, []bool{true, true}},
		{"sessions refuse one", []string{session("1ms"), session("5ms")}, []event.Time{30, 28}, []event.Time{5, 40}, []bool{true, true}},
		{"one takes what the other refuses", []string{session("1ms"), session("5ms")}, []event.Time{7, 9}, []event.Time{5, 12}, []bool{false, true}},
	} {
		pipes := compileAll(t, c.pipes...)
		f := NewSharedFolder(together, pipes)
		chunks := []*Chunk{{Fence: c.fences[0]}, {Fence: c.fences[1]}}
		f.Begin(0, chunks)
		var records []event.Record
		for i, at := range c.times {
			records = append(records, rec(int64(i), at, "a", 1))
			f.Add(&records[i])
		}
		for i, got := range f.Finish(2) {
			if (got != nil) != c.shared[i] {
				t.Errorf("%s: pipeline %d shares: %v, want %v", c.name, i, got != nil, c.shared[i])
			}
			if got == nil {
				continue
			}
			want, _ := alone(pipes[i], chunks[i], records, 2)
			if diff := cmp.Diff(want, *got); diff != "" {
				t.Errorf("%s: pipeline %d (-alone +together):\n%s", c.name, i, diff)
			}
		}
	}
}

func TestTogetherDoesNotAllocateOnceWarm(t *testing.T) {
	const of = `timestamp: {field: t, unit: ms}, key: [k], values: {v: v}, aggregates: {v: [count, sum, p50]}, windows: `
	f := NewSharedFolder(together, compileAll(t, of+minutes, of+minutes, of+`[{type: tumbling, size: 10m}]`))
	records := batch(0)
	chunks := []*Chunk{{Fence: event.MinTime}, {Fence: event.MinTime + 1}, {Fence: event.MinTime}}
	run := func() {
		f.Begin(0, chunks)
		for i := range records {
			f.Add(&records[i])
		}
		f.Finish(0)
	}
	run()
	if n := testing.AllocsPerRun(20, run); n > 8 {
		t.Errorf("%v allocations for 500 records, want none per record", n)
	}
}
