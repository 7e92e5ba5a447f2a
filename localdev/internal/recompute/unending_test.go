package recompute_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/core/window"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio/memlog"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/recompute"
	"github.com/llm-auto-optimizer/tidemark/tests/seed"
)

// ownGaps is a session definition whose gaps are in the field w of the records.
func ownGaps(r *rand.Rand) window.Definition {
	d := window.Definition{
		Name: "gaps", Kind: window.KindSession, Gap: event.Span(1 + r.IntN(6)), GapField: "w", Lateness: []event.Span{0, 5, 30}[r.IntN(3)],
	}
	if d.MaxGap = d.Gap + event.Span(r.IntN(10)); r.IntN(3) == 0 {
		d.Max = event.Span(20 + r.IntN(40))
	}
	return d
}

var forever = window.Definition{Name: "all", Kind: window.KindGlobal}

func earlyTrigger(r *rand.Rand, a spec.Accumulation) spec.Trigger {
	tr := []spec.Trigger{{EarlyEvery: 10}, {Count: 3}, {EarlyEvery: 30, Count: 4}, {Count: 20}, {EarlyEvery: 40}}[r.IntN(5)]
	tr.OnChange = a != spec.Discarding && r.IntN(4) == 0
	return tr
}

func accumulation(r *rand.Rand) spec.Accumulation {
	return []spec.Accumulation{spec.Accumulating, spec.Retracting, spec.Discarding}[r.IntN(3)]
}

// whole wants nothing of some windows to be left out.
func whole(t *testing.T, p recompute.PipelineReport, names ...string) {
	t.Helper()
	for _, text := range p.LeftOut {
		if slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(text, "windows "+name+":") }) {
			t.Errorf("left out: %s", text)
		}
	}
}

// Every pane of a global window is what the source topics say, whatever the trigger and however batches were cut; and so are sessions
// with gaps of the records' own.
func TestGlobalWindowsAndGapsOfRecordsAreEqual(t *testing.T) {
	seed, n := seed.Of(t), seed.Rounds(t, 80)
	groups := int64(0)
	for round := range n {
		r := rand.New(rand.NewPCG(seed, uint64(round)))
		a := accumulation(r)
		app := load(t, twoValues)
		q := &app.Pipelines[0]
		q.Windows, q.Trigger, q.Accumulation = []window.Definition{forever, ownGaps(r)}, earlyTrigger(r, a), a
		if r.IntN(3) == 0 {
			q.Windows, q.Trigger, q.Accumulation = q.Windows[1:], spec.Trigger{}, spec.Accumulating
		}
		w := newWorld(t, r, app, 2, memlog.Options{})
		w.fail = []int{0, 0, 20}[r.IntN(3)]
		w.live(40)
		w.settle()
		p := w.clean(w.options(), "before everything is closed")
		whole(t, p, "all")
		if !q.Trigger.Early() {
			whole(t, p, "gaps")
		}
		if err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		p = w.clean(w.options(), "after")
		if t.Failed() {
			t.Fatalf("round %d: %+v, %+v, %s: %+v", round, q.Windows, q.Trigger, q.Accumulation, p)
		}
		groups += p.Groups
	}
	if t.Logf("%d groups", groups); groups == 0 {
		t.Error("nothing was compared")
	}
}

// A pipeline that takes over sends the global window whole, from the first record on.
func TestGlobalWindowsOfAPipelineThatTookOver(t *testing.T) {
	seed, n := seed.Of(t), seed.Rounds(t, 20)
	for round := range n {
		r := rand.New(rand.NewPCG(seed, uint64(round)))
		specOf := func() *spec.App {
			app := load(t, twoValues)
			q := &app.Pipelines[0]
			q.Watermark.MaxFutureSkew = 100
			q.Windows, q.Accumulation = []window.Definition{forever, ownGaps(r)}, []spec.Accumulation{spec.Accumulating, spec.Retracting}[r.IntN(2)]
			q.Trigger = earlyTrigger(r, q.Accumulation)
			return app
		}
		w := newWorld(t, r, specOf(), 2, memlog.Options{})
		w.live(25)
		changed := specOf()
		old := w.succeed(changed)
		p := w.clean(w.options(), "the new one")
		whole(t, p, "all")
		w.World = old
		q := w.clean(w.options(), "the old one")
		whole(t, q, "all")
		if t.Failed() {
			t.Fatalf("round %d: %+v, then %+v", round, old.App.Pipelines[0], changed.Pipelines[0])
		}
	}
}

func TestPanesOfAGlobalWindowWithoutTransactionsAreLeftOut(t *testing.T) {
	app := load(t, twoValues)
	app.Pipelines[0].Windows, app.Pipelines[0].Trigger = []window.Definition{forever, {Name: "w", Kind: window.KindTumbling, Size: 20}}, spec.Trigger{Count: 5}
	w := newWorld(t, rand.New(rand.NewPCG(seed.Of(t), 0)), app, 2, memlog.Options{NoTransactions: true})
	w.live(30)
	w.settle()
	p := w.clean(w.options(), "without transactions")
	if left := slices.ContainsFunc(p.LeftOut, func(s string) bool {
		return strings.HasPrefix(s, "windows all: panes of a global window without transactions")
	}); !left || p.Groups == 0 {
		t.Errorf("%+v", p)
	}
}

// Without the first records nothing can be said of a window of all of them; the others are compared.
func TestAGlobalWindowNeedsTheWholeLog(t *testing.T) {
	app := load(t, twoValues)
	app.Pipelines[0].Windows, app.Pipelines[0].Trigger = []window.Definition{forever, {Name: "w", Kind: window.KindTumbling, Size: 20}}, spec.Trigger{Count: 5}
	w := newWorld(t, rand.New(rand.NewPCG(seed.Of(t), 0)), app, 1, memlog.Options{})
	w.live(40)
	w.settle()
	if err := w.Log.Truncate(w.parts[0], int64(len(w.logs[w.parts[0]])/2)); err != nil {
		t.Fatal(err)
	}
	p := w.clean(w.options(), "with half of the log")
	if left := slices.ContainsFunc(p.LeftOut, func(s string) bool { return strings.HasPrefix(s, "windows all:") }); !left || p.Groups == 0 {
		t.Errorf("%+v", p)
	}
}

// What does not fit, or takes too long, is left out by name, and what can be compared is.
func TestALargeGlobalWindowIsComparedAsFarAsThereIsRoom(t *testing.T) {
	app := load(t, strings.Replace(twoValues, "key: [k]", "key: []", 1))
	app.Pipelines[0].Windows, app.Pipelines[0].Trigger = []window.Definition{forever}, spec.Trigger{Count: 1}
	w := newWorld(t, rand.New(rand.NewPCG(seed.Of(t), 0)), app, 1, memlog.Options{})
	for range 150 {
		w.now += 3
		w.Clock = w.now
		w.feed(30)
		w.deliver(true)
		w.fire()
	}
	p := w.clean(w.options(), "with enough memory")
	if len(p.LeftOut) != 1 || !strings.Contains(p.LeftOut[0], "early panes: each has all records before it") || p.Groups != 1 {
		t.Errorf("%+v", p)
	}
	o := w.options()
	o.Memory = 1 << 20
	p = w.clean(o, "with little memory")
	if len(p.LeftOut) != 1 || !strings.Contains(p.LeftOut[0], "1 keys with more records than fit into memory") || p.Groups != 0 {
		t.Errorf("%+v", p)
	}
	o = w.options()
	newest := w.Log.Records("results")
	o.Log = forged{w.Log, "results", func(r *event.Record) bool {
		if r.Offset == newest[len(newest)-1].Offset {
			r.Value = bytes.Replace(r.Value, []byte(`"w":{"count":`), []byte(`"w":{"count":9`), 1)
		}
		return true
	}}
	if p := w.verify(o); len(p.Differences) != 1 || p.Differences[0].What != recompute.Different {
		t.Errorf("the last pane is not compared: %+v", p.Differences)
	}
}

// Each line breaks one pane of a global window, or one session with gaps of its records' own, and says what has to be found.
func TestAForgedGlobalWindowAndForgedGapsAreFoundAndNamed(t *testing.T) {
	count := regexp.MustCompile(`"w":\{"count":(\d+)`)
	more := func(r *event.Record) bool {
		r.Value = count.ReplaceAll(r.Value, []byte(`"w":{"count":9$1`))
		return true
	}
	of := func(name, text string) func(*event.Record) bool {
		return func(r *event.Record) bool {
			return bytes.Contains(r.Value, []byte(`"name":"`+name+`"`)) && bytes.Contains(r.Value, []byte(text))
		}
	}
	end := regexp.MustCompile(`"end_ms":\d+`)
	for _, c := range []struct {
		name   string
		window window.Definition
		tr     spec.Trigger
		a      spec.Accumulation
		match  func(*event.Record) bool
		forge  func(*event.Record) bool
		what   string
		says   string
	}{
		{"a count of an early pane", forever, spec.Trigger{Count: 3}, spec.Accumulating, of("all", `"index":1,`), more, recompute.Different, "{Name:w.count Got:9"},
		{"a count where panes discard", forever, spec.Trigger{Count: 3}, spec.Discarding, of("all", `"index":2}`), more, recompute.Different, "{Name:w.count Got:9"},
		{"a last value where panes discard", forever, spec.Trigger{EarlyEvery: 10}, spec.Discarding, of("all", `"index":2}`), func(r *event.Record) bool {
			r.Value = regexp.MustCompile(`"last":(\d+)`).ReplaceAll(r.Value, []byte(`"last":1$1`))
			return true
		}, recompute.Different, "{Name:w.last Got:1"},
		{"an early pane that is missing", forever, spec.Trigger{Count: 3}, spec.Accumulating, of("all", `"index":1,`), drop, recompute.Missing, "records had to go out"},
		{"the last pane that is missing", forever, spec.Trigger{EarlyEvery: 10}, spec.Discarding, nil, drop, recompute.Missing, "records had to go out"},
		{"a pane of another plan", forever, spec.Trigger{Count: 10}, spec.Accumulating, of("all", `"index":1,`), func(r *event.Record) bool {
			r.Value = regexp.MustCompile(`"revision":(\d+)`).ReplaceAll(r.Value, []byte(`"revision":0`))
			return true
		}, recompute.Superfluous, "revision 0, with which nothing had to go out"},
		{"other results taken back", forever, spec.Trigger{Count: 3}, spec.Retracting, of("all", `"index":1,`), func(r *event.Record) bool {
			r.Value = bytes.Replace(r.Value, []byte(`"results":{"v":{"count":`), []byte(`"results":{"v":{"count":9`), 1)
			return true
		}, recompute.Chain, "pane.retracts"},
		{"a key of nobody", forever, spec.Trigger{Count: 3}, spec.Accumulating, of("all", `"index":0`), func(r *event.Record) bool {
			r.Key = []byte("k=nobody")
			r.Value = regexp.MustCompile(`"key":"[^"]*"`).ReplaceAll(r.Value, []byte(`"key":"k=nobody"`))
			return true
		}, recompute.Superfluous, "no record of the key"},
		{"a count of a session", window.Definition{Name: "gaps", Kind: window.KindSession, Gap: 1, GapField: "w", MaxGap: 3}, spec.Trigger{}, spec.Accumulating, of("gaps", ""), more, recompute.Different, "{Name:w.count Got:9"},
		{"the end of a session", window.Definition{Name: "gaps", Kind: window.KindSession, Gap: 1, GapField: "w", MaxGap: 3}, spec.Trigger{}, spec.Accumulating, of("gaps", ""), func(r *event.Record) bool {
			r.Value = end.ReplaceAllFunc(r.Value, func(text []byte) []byte {
				text[len(text)-1] ^= 1
				return text
			})
			return true
		}, recompute.Superfluous, "its records make up other sessions"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := withPanes(t, rand.New(rand.NewPCG(seed.Of(t), 0)), []window.Definition{c.window}, c.tr, c.a)
			w.clean(w.options(), "before anything is forged")
			match := c.match
			if match == nil {
				all := w.Log.Records("results")
				last := all[len(all)-1].Record.Value
				match = func(r *event.Record) bool { return bytes.Equal(r.Value, last) }
			}
			if !slices.ContainsFunc(w.Log.Records("results"), func(s memlog.Stored) bool { return match(&s.Record) }) {
				t.Fatal("there is nothing to forge")
			}
			o := w.options()
			o.Log = forged{w.Log, "results", once(match, c.forge)}
			p := w.verify(o)
			found := slices.ContainsFunc(p.Differences, func(d recompute.Difference) bool {
				return d.What == c.what && strings.Contains(fmt.Sprintf("%+v", d), c.says) && (d.At != nil || len(d.Records) > 0)
			})
			if !found || len(p.Differences) > 6 {
				t.Errorf("%d differences, want %s that says %q: %+v", len(p.Differences), c.what, c.says, p.Differences)
			}
		})
	}
}
