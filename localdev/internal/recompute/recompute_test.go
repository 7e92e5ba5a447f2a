package recompute_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio/memlog"
	"github.com/llm-auto-optimizer/tidemark/tests/seed"
)

// Whatever windows, lateness, disorder, failed operations and lost state there are: what the functions publish is what the source
// topics and the ledger say.
func TestWhatTheFunctionsPublishIsEqual(t *testing.T) {
	seed, n := seed.Of(t), seed.Rounds(t, 80)
	var groups, late, dead, either, undecided int64
	for round := range n {
		r := rand.New(rand.NewPCG(seed, uint64(round)))
		app := load(t, twoValues)
		app.Pipelines[0].Windows = randomDefinitions(r)
		app.BufferSize = []int{1, 3, 10_000}[r.IntN(3)]
		w := newWorld(t, r, app, int32(1+r.IntN(3)), memlog.Options{SingleUse: r.IntN(2) == 0, Scribble: true})
		if round%3 > 0 {
			w.fail = 10 + r.IntN(30)
		}
		w.live(20 + r.IntN(30))
		w.settle()
		p := w.clean(w.options(), "before everything is closed")
		if err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		o := w.options()
		o.Memory = []int64{1 << 20, 64 << 20}[r.IntN(2)]
		q := w.clean(o, "after")
		if t.Failed() {
			t.Fatalf("round %d: %+v", round, app.Pipelines[0].Windows)
		}
		if !grown(p, q, app.Pipelines[0].Windows) || len(q.LeftOut) > 0 || q.Panes == 0 {
			t.Fatalf("round %d: %+v, then %+v", round, p, q)
		}
		groups, late, dead, either, undecided = groups+q.Groups, late+q.Late, dead+q.DeadLetters, either+q.Doubtful, undecided+q.Undecided
	}
	t.Logf("%d rounds: %d groups, %d late, %d dead letters; %d either, %d undecided", n, groups, late, dead, either, undecided)
	if undecided*1000 > groups {
		t.Errorf("%d of %d groups are undecided", undecided, groups)
	}
	if n >= 80 && (late == 0 || dead == 0 || either == 0) {
		t.Errorf("the rounds show too little: %d late, %d dead letters, %d that died plans may have judged", late, dead, either)
	}
}

// However record values are written. Those of a schema registry are delivered without its prefix, which the log has: what was folded
// from the one is computed again from the other.
func TestWhateverTheFormatIsResultsAreEqual(t *testing.T) {
	chosen := seed.Of(t)
	for name, c := range map[string]struct {
		yaml  string
		input string
	}{
		"csv":           {twoValues, "{format: csv, columns: [t, k, v, w]}"},
		"json_registry": {twoValues, "json_registry"},
		"text": {`
app: shop
processor:
  watermark: {max_out_of_orderness_ms: 15, emit_interval_ms: 0, idle_timeout_secs: 3600}
  error_handling: {policy: dead_letter}
  kafka: {consumer: {topics: [events]}, producer: {result_topic: results}}
pipelines:
  - name: p
    windows: [{name: w, type: tumbling, size: 1s}]
`, "text"},
	} {
		t.Run(name, func(t *testing.T) {
			var groups, dead int64
			for round := range seed.Rounds(t, 12) {
				r := rand.New(rand.NewPCG(chosen, uint64(round)))
				app := load(t, strings.Replace(c.yaml, "name: p", "name: p\n    input: "+c.input, 1))
				app.Pipelines[0].Windows = randomDefinitions(r)
				w := newWorld(t, r, app, int32(1+r.IntN(3)), memlog.Options{SingleUse: r.IntN(2) == 0, Scribble: true})
				if round%3 > 0 {
					w.fail = 10 + r.IntN(30)
				}
				w.live(30)
				w.settle()
				if err := w.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
				q := w.clean(w.options(), "after")
				if t.Failed() {
					t.Fatalf("round %d: %+v", round, app.Pipelines[0].Windows)
				}
				groups, dead = groups+q.Groups, dead+q.DeadLetters
			}
			if t.Logf("%d groups, %d dead letters", groups, dead); groups == 0 || dead == 0 {
				t.Error("the rounds show too little")
			}
		})
	}
}
