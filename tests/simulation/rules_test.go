//go:build faults

package simulation

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/faults"
)

// without are the sets of rules that are switched off together: each rule for itself, and those that stand in for each other.
func without() [][]faults.Rule {
	var sets [][]faults.Rule
	for _, r := range faults.All() {
		sets = append(sets, []faults.Rule{r})
	}
	return append(sets, []faults.Rule{faults.Validate, faults.RaiseCut}, []faults.Rule{faults.Tokens, faults.CASCut})
}

// Without any one rule a schedule is found in which something goes wrong: within TIDEMARK_SEEDS seeds from TIDEMARK_FIRST on.
// TIDEMARK_RULES names those to try, as they are in the table.
func TestWithoutARuleSomethingGoesWrong(t *testing.T) {
	n, first := number(t, "TIDEMARK_SEEDS", 5000), number(t, "TIDEMARK_FIRST", 1)
	only := strings.FieldsFunc(os.Getenv("TIDEMARK_RULES"), func(r rune) bool { return r == ',' })
	t.Cleanup(func() { faults.Switch() })
	var table strings.Builder
	fmt.Fprintf(&table, "%-22s %10s %8s  %s\n", "without", "schedules", "seconds", "found")
	for _, set := range without() {
		var names []string
		for _, r := range set {
			names = append(names, r.String())
		}
		name := strings.Join(names, "+")
		if len(only) > 0 && !slices.Contains(only, name) {
			continue
		}
		faults.Switch(set...)
		began := time.Now()
		failed := search(t, first, n, func(Result) {})
		took := time.Since(began).Seconds()
		if len(failed) == 0 {
			fmt.Fprintf(&table, "%-22s %10s %8.1f  nothing\n", name, "-", took)
			t.Errorf("without %s nothing goes wrong in %d schedules", name, n)
			continue
		}
		p := failed[0].result.Problems[0]
		fmt.Fprintf(&table, "%-22s %10d %8.1f  %s: %.110s\n", name, failed[0].seed-first+1, took, p.Kind, p.Text)
		if os.Getenv("TIDEMARK_TRACE") != "" {
			t.Logf("%s: seed %d\n%s", name, failed[0].seed, play(t, New(failed[0].seed), true).Trace)
		}
	}
	fmt.Print(table.String())
}

// Each trace goes wrong without its rule.
func TestTracesGoWrongWithoutTheirRules(t *testing.T) {
	t.Cleanup(func() { faults.Switch() })
	for _, trace := range Traces() {
		for _, rule := range trace.Rules {
			t.Run(trace.Name, func(t *testing.T) {
				faults.Switch(rule)
				if r := playTrace(t, trace); len(r.Problems) == 0 {
					t.Errorf("nothing goes wrong without %s\n%s", rule, r.Trace)
				}
			})
		}
	}
}
