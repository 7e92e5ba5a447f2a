package recompute_test

import (
	"math/rand/v2"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio/memlog"
)

// Whatever windows, lateness, disorder, failed operations and lost state there are: what the functions publish is what the source
// topics and the ledger say.
func TestWhatTheFunctionsPublishIsEqual(t *testing.T) {
	seed := seeded(t)
	var groups, late, dead, either, undecided int64
	n := rounds(t, 80)
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
		if q.Groups < p.Groups || len(q.LeftOut) > 0 || q.Panes == 0 {
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
