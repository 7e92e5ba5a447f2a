package recompute_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/core/window"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio/memlog"
	"github.com/llm-auto-optimizer/tidemark/tests/seed"
)

// withPanes is a world that has gone through something, with a trigger and an accumulation.
func withPanes(t *testing.T, r *rand.Rand, defs []window.Definition, tr spec.Trigger, a spec.Accumulation) *world {
	t.Helper()
	app := load(t, twoValues)
	p := &app.Pipelines[0]
	p.Windows, p.Trigger, p.Accumulation = defs, tr, a
	w := newWorld(t, r, app, 2, memlog.Options{})
	w.live(40)
	w.settle()
	return w
}

// Whatever goes out when: what stands in the end, and what leads there, is what the source topics say, or it is left out by name.
func TestTriggersAndAccumulationsAreEqual(t *testing.T) {
	seed, n := seed.Of(t), seed.Rounds(t, 60)
	groups := int64(0)
	for round := range n {
		r := rand.New(rand.NewPCG(seed, uint64(round)))
		tr := []spec.Trigger{{}, {EarlyEvery: 10}, {Count: 3}, {EarlyEvery: 20, Count: 2}, {FinalOnly: true}, {OnChange: true}}[r.IntN(6)]
		a := []spec.Accumulation{spec.Accumulating, spec.Retracting, spec.Discarding}[r.IntN(3)]
		if tr.OnChange && a == spec.Discarding {
			a = spec.Accumulating
		}
		defs := randomDefinitions(r)
		w := withPanes(t, r, defs, tr, a)
		p := w.clean(w.options(), "before everything is closed")
		if err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		q := w.clean(w.options(), "after")
		if partial := len(q.LeftOut) > 0; t.Failed() || !partial && (tr.Early() || tr.OnChange || a == spec.Discarding) || !grown(p, q, defs) {
			t.Fatalf("round %d: %+v, %+v, %s: %+v", round, defs, tr, a, q)
		}
		groups += q.Groups
	}
	if t.Logf("%d groups", groups); groups == 0 {
		t.Error("nothing was compared")
	}
}

// followed matches the panes after which another one of their window and key went out: without one, the rest of its chain shows
// that it is missing. The only pane of a chain is missing as a whole.
func followed(results []memlog.Stored) func(*event.Record) bool {
	chain := func(r *event.Record) string {
		of, _, _ := bytes.Cut(r.Value, []byte(`,"pane":`))
		return string(of)
	}
	last := map[string]string{}
	for _, r := range results { // all of a key's are in one partition, in their order
		last[chain(&r.Record)] = string(r.Record.Value)
	}
	return func(r *event.Record) bool { return last[chain(r)] != string(r.Value) }
}

func TestAForgedChainOfPanesIsFoundAndNamed(t *testing.T) {
	defs := []window.Definition{{Name: "strict", Kind: window.KindTumbling, Size: 40, Lateness: 20}}
	second := func(r *event.Record) bool {
		return bytes.Contains(r.Value, []byte(`"index":1,`)) || bytes.Contains(r.Value, []byte(`"index":1}`))
	}
	change := func(old, with string) func(*event.Record) bool {
		return func(r *event.Record) bool {
			r.Value = bytes.Replace(r.Value, []byte(old), []byte(with), 1)
			return true
		}
	}
	for _, c := range []struct {
		name  string
		a     spec.Accumulation
		match func(*event.Record) bool // nil: a pane that another one follows
		forge func(*event.Record) bool
		says  string // a value
	}{
		{"a pane missing from a discarding chain", spec.Discarding, nil, drop, "pane.index"},
		{"a wrong supersedes", spec.Accumulating, second, change(`"supersedes":[{"start_ms":1`, `"supersedes":[{"start_ms":2`), "pane.supersedes"},
		{"a wrong index", spec.Accumulating, second, change(`"index":1,`, `"index":5,`), "pane.index"},
		{"other results taken back", spec.Retracting, second, change(`"results":{"v":{"count":`, `"results":{"v":{"count":9`), "pane.retracts"},
		{"another count where panes add up", spec.Discarding, second, change(`"w":{"count":`, `"w":{"count":9`), "w.count"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := withPanes(t, seed.Rand(t), defs, spec.Trigger{EarlyEvery: 10}, c.a)
			if err := w.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.clean(w.options(), "before anything is forged")
			match := c.match
			if match == nil {
				match = followed(w.Log.Records("results"))
			}
			o := w.options()
			o.Log = forged{w.Log, "results", once(match, c.forge)}
			p := w.verify(o)
			found := false
			for _, d := range p.Differences {
				found = found || bytes.Contains(fmt.Appendf(nil, "%+v", d.Values), []byte(c.says)) && d.At != nil
			}
			if !found || len(p.Differences) > 3 {
				t.Errorf("%d differences, want one of %s: %+v", len(p.Differences), c.says, p.Differences)
			}
		})
	}
}
