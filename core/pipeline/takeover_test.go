package pipeline

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/tests/seed"
)

// What was folded for a pipeline that took over is counted by its first plan, and only by that one: what is in slices as taken,
// what is final already as final, nothing as late. A window that ended before has no pane.
func TestTheFirstPlanAfterATakeOverCountsWhatItInherited(t *testing.T) {
	p := compile(t, `[{name: w, type: tumbling, size: 10ms, allowed_lateness: 20ms}, {name: s, type: session, gap: 3ms, allowed_lateness: 0s}]`, "")
	s := &state{}
	// Offsets 10 to 13, below 14 of the plan that took the watermark to 40: a session that is final there, though the window
	// takes records still; the same of another window, late for it; one that is open; and one that cannot be processed.
	s.add(fold(t, p, Chunk{From: 10, Fence: 40, Replay: true}, rec(10, 25, "a", 1), rec(11, 5, "a", 1), rec(12, 45, "a", 1), event.Record{Offset: 13, Value: []byte("x")}))
	s.add(fold(t, p, Chunk{From: 14, Fence: 40}, rec(14, 46, "a", 1), rec(15, 1, "a", 1)))
	plan := func(n int64, prev, w event.Time, prefix Prefix) *Outcome {
		prefix.Refs = s.refs()
		f := p.NewFiring(Turn{Plan: n, At: 0, Prev: prev, W: w}, []Prefix{prefix})
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
	out := plan(8, 40, 50, Prefix{Since: 14, Upto: 16, TakenOver: true})
	if diff := cmp.Diff([]string{"s[45,49) k=a on_time", "w[40,50) k=a on_time"}, brief(out.Panes)); diff != "" {
		t.Errorf("panes (-want +got):\n%s", diff)
	}
	o := out.Partitions[0]
	// Below: three taken (all by the session definition, which replays everything). From 14 on: one taken, one late.
	if want := (Counts{In: 5, Late: 1, LateWindows: o.Counts.LateWindows}); o.Counts != want || o.Final+o.Open != 4 {
		t.Errorf("counts %+v, final %d, open %d; want %+v and 4 final or open", o.Counts, o.Final, o.Open, want)
	}
	if len(o.Outbox) != 1 || o.Outbox[0].Offset != 15 {
		t.Errorf("outbox %+v, want offset 15 alone", o.Outbox)
	}
	// The sweep was lost: the next plan finds all of it again, and counts nothing of it.
	again := plan(9, 50, 51, Prefix{Since: 16, Upto: 16})
	if o := again.Partitions[0]; o.Counts != (Counts{}) || o.Final != 0 {
		t.Errorf("the plan after counts %+v, final %d", o.Counts, o.Final)
	}
}

// The books balance after a take-over, whatever the definitions, the records, the watermarks and the chunks.
func TestBooksBalanceAfterATakeOver(t *testing.T) {
	seed, rounds := seed.Of(t), seed.Rounds(t, 2000)
	inherited := int64(0)
	for round := range rounds {
		r := rand.New(rand.NewPCG(seed, uint64(round)))
		p := compile(t, randomWindows(r), "")
		base, w, end := r.Int64N(60), event.Time(r.IntN(120)), int64(60+r.IntN(60))
		s := &state{}
		var totals Totals
		for from := r.Int64N(base + 1); from < end; {
			chunk := Chunk{From: from, Fence: w, Replay: from < base}
			to := min(end, from+1+r.Int64N(12))
			if chunk.Replay {
				to = min(to, base)
			}
			var records []event.Record
			for o := from; o < to; o++ {
				records = append(records, rec(o, event.Time(o)+event.Time(r.IntN(60)-30), string(rune('a'+r.IntN(3))), 1))
			}
			f := fold(t, p, chunk, records...)
			s.add(f)
			if from >= base {
				inherited -= f.Counts.In
			}
			from = to
		}
		prefix := Prefix{Since: base, Upto: end, TakenOver: true}
		for n, next := range []event.Time{w + event.Time(r.IntN(40)), 200, 1000} {
			prefix.Refs = s.refs()
			f := p.NewFiring(Turn{Plan: int64(n + 1), At: 0, Prev: w, W: next}, []Prefix{prefix})
			refs := f.Needs(0)
			if err := f.Feed(0, refs, s.read(refs)); err != nil {
				t.Fatal(err)
			}
			out, err := f.Finish()
			if err != nil {
				t.Fatal(err)
			}
			o := out.Partitions[0]
			totals.Counts, totals.Final = totals.Add(o.Counts), totals.Final+o.Final
			if taken := totals.taken(); taken != totals.Final+o.Open {
				t.Fatalf("round %d of TIDEMARK_SEED=%d: plan %d of %+v: %d records are in slices, but %d final and %d open:\n%+v", round, seed, n, prefix.Since, taken, totals.Final, o.Open, p.Windows)
			}
			w, prefix = next, Prefix{Since: end, Upto: end}
			if r.IntN(2) == 0 { // else the sweep is lost
				s.sweep(o)
			}
		}
		inherited += totals.In
	}
	if inherited == 0 {
		t.Error("no record was inherited in any round")
	}
}

// randomWindows is YAML of one to three definitions.
func randomWindows(r *rand.Rand) string {
	var defs []string
	for i := range 1 + r.IntN(3) {
		late := r.IntN(3) * 10
		switch r.IntN(3) {
		case 0:
			defs = append(defs, fmt.Sprintf("{name: w%d, type: tumbling, size: %dms, allowed_lateness: %dms}", i, 5+r.IntN(50), late))
		case 1:
			size := 5 + r.IntN(50)
			defs = append(defs, fmt.Sprintf("{name: w%d, type: sliding, size: %dms, slide: %dms, allowed_lateness: %dms}", i, size, 1+r.IntN(size), late))
		default:
			defs = append(defs, fmt.Sprintf("{name: w%d, type: session, gap: %dms, allowed_lateness: %dms}", i, 1+r.IntN(20), late))
		}
	}
	return "[" + strings.Join(defs, ", ") + "]"
}

func TestReachIsBelowAllThatIsInAnOpenWindow(t *testing.T) {
	for name, c := range map[string]struct {
		windows, more string
		want          event.Time
	}{
		"a window and its lateness":            {`[{name: w, type: tumbling, size: 10s, allowed_lateness: 5s}]`, "", 2_000_000 - 15_000 - 1_000_000},
		"the longest of all":                   {`[{name: w, type: sliding, size: 10s, slide: 1s, allowed_lateness: 0s}, {name: s, type: session, gap: 20s, allowed_lateness: 1s}]`, "", 2_000_000 - 21_000 - 1_000_000},
		"Kafka's own timestamp is never ahead": {`[{name: w, type: tumbling, size: 10s, allowed_lateness: 5s}]`, "record", 2_000_000 - 15_000},
		"nothing bounds event time":            {`[{name: w, type: tumbling, size: 10s, allowed_lateness: 5s}]`, "unbounded", event.MinTime},
	} {
		p := compile(t, c.windows, "")
		switch c.more {
		case "record":
			p.Timestamp.Field = ""
		case "unbounded":
			p.Watermark.MaxFutureSkew = -1
		}
		if got := p.Reach(2_000_000); got != c.want {
			t.Errorf("%s: %d, want %d", name, int64(got), int64(c.want))
		}
	}
}
