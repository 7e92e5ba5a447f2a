package simulation

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/tests/seed"
)

// totals are printed at the end of the process, for whoever reads only that.
var totals struct {
	schedules, records, kills, faults, lost, doubled, other atomic.Int64
}

// TestMain prints what came out in lines of four fields.
func TestMain(m *testing.M) {
	code := m.Run()
	if n := totals.schedules.Load(); n > 0 {
		fmt.Printf("RESULT schedules %d runs\n", n)
		fmt.Printf("RESULT records %d records\n", totals.records.Load())
		fmt.Printf("RESULT kills %d kills\n", totals.kills.Load())
		fmt.Printf("RESULT faults %d faults\n", totals.faults.Load())
		fmt.Printf("RESULT lost %d records\n", totals.lost.Load())
		fmt.Printf("RESULT doubled %d records\n", totals.doubled.Load())
		fmt.Printf("RESULT other %d problems\n", totals.other.Load())
	}
	os.Exit(code)
}

func play(t *testing.T, sc Scenario, traced bool) (r Result) {
	t.Helper()
	synctest.Test(t, func(*testing.T) { r = Run(sc, traced) })
	return r
}

// number reads a variable of the environment.
func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// failure is the first seed that failed.
type failure struct {
	seed   uint64
	result Result
}

// search plays seeds side by side until one fails, or all are played; the least one that failed is returned.
func search(t *testing.T, first, n uint64, after func(Result)) (failed []failure) {
	t.Helper()
	workers := uint64(runtime.GOMAXPROCS(0))
	var next atomic.Uint64
	var stop atomic.Bool
	found := make([][]failure, workers)
	t.Run("workers", func(t *testing.T) {
		for w := range workers {
			t.Run(strconv.FormatUint(w, 10), func(t *testing.T) {
				t.Parallel()
				for !stop.Load() {
					i := next.Add(1) - 1
					if i >= n {
						return
					}
					r := play(t, New(first+i), false)
					after(r)
					if len(r.Problems) > 0 {
						found[w] = append(found[w], failure{first + i, r})
						stop.Store(true)
					}
				}
			})
		}
	})
	failed = slices.Concat(found...)
	slices.SortFunc(failed, func(a, b failure) int { return cmp.Compare(a.seed, b.seed) })
	return failed
}

// A schedule that TIDEMARK_SEED names is played and told. Without it TIDEMARK_SEEDS schedules are, from a random one on.
func TestSchedules(t *testing.T) {
	if os.Getenv(seed.Variable) != "" {
		seed := seed.Of(t)
		r := play(t, New(seed), true)
		t.Logf("%+v\n%s", New(seed), r.Trace)
		for _, p := range r.Problems {
			t.Errorf("%s: %s", p.Kind, p.Text)
		}
		return
	}
	n := number(t, "TIDEMARK_SEEDS", 500)
	if testing.Short() {
		n = min(n, 100)
	}
	first := number(t, "TIDEMARK_FIRST", rand.Uint64N(1<<62))
	t.Logf("seeds %d to %d", first, first+n-1)
	began := time.Now()
	kinds := map[Kind]int{}
	failed := search(t, first, n, func(r Result) {
		done := totals.schedules.Add(1)
		totals.records.Add(int64(r.Records))
		totals.kills.Add(int64(r.Kills))
		totals.faults.Add(int64(r.Faults))
		if done%10_000 == 0 {
			fmt.Fprintf(os.Stderr, "%d schedules in %s\n", done, time.Since(began).Round(time.Second))
		}
	})
	for _, f := range failed {
		for _, p := range f.result.Problems {
			switch kinds[p.Kind]++; p.Kind {
			case Lost, Shrunk:
				totals.lost.Add(1)
			case Doubled:
				totals.doubled.Add(1)
			case LateOpen, OrderLate, Regress, Stuck, Unbalanced, Wrong:
				totals.other.Add(1)
			}
			t.Errorf("TIDEMARK_SEED=%d: %s: %s", f.seed, p.Kind, p.Text)
		}
	}
	if len(failed) > 0 {
		t.Logf("%v\n%s", slices.Sorted(maps.Keys(kinds)), play(t, New(failed[0].seed), true).Trace)
	}
}

// Seeds have all that pipelines may share, and records that they filter, or that block them.
func TestScenariosShareAllThereIs(t *testing.T) {
	found := map[string]int{}
	for seed := range uint64(2000) {
		sc := New(seed)
		for i := range sc.Pipelines {
			q := &sc.Pipelines[i]
			found[q.Kin.String()]++
			for _, log := range sc.Logs {
				for _, r := range log {
					switch _, filtered, reason := q.Reading.read(r); {
					case filtered:
						found["filtered"]++
					case reason == event.ReasonExpression:
						found["failed"]++
					case reason != "" && q.Policy == spec.PolicyFail:
						found["blocked"]++
					}
				}
			}
		}
	}
	for _, what := range []string{Alone.String(), SameWindows.String(), SameReading.String(), SameFold.String(), Same.String(), "filtered", "failed", "blocked"} {
		if found[what] < 20 {
			t.Errorf("%s: %d in 2000 seeds", what, found[what])
		}
	}
	t.Log(found)
}

// Each trace of the model, and those that this simulation found, with all rules on.
func TestTraces(t *testing.T) {
	for _, trace := range Traces() {
		t.Run(trace.Name, func(t *testing.T) {
			r := playTrace(t, trace)
			if len(r.Problems) > 0 || r.Plans == 0 {
				t.Errorf("%v\n%s", r.Problems, r.Trace)
			}
		})
	}
}

func playTrace(t *testing.T, trace Trace) (r Result) {
	t.Helper()
	synctest.Test(t, func(*testing.T) { r = RunTrace(trace, true) })
	return r
}
