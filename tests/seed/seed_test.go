package seed_test

import (
	"strings"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/tests/seed"
)

func TestTheSameSeedMakesTheSameChoices(t *testing.T) {
	t.Setenv(seed.Variable, "18446744073709551615")
	if got := seed.Of(t); got != 1<<64-1 {
		t.Errorf("%d, want the largest one", got)
	}
	if a, b := seed.Rand(t).Uint64(), seed.Rand(t).Uint64(); a != b {
		t.Errorf("%d, then %d", a, b)
	}
	if got := seed.Or(t, 1); got != 1<<64-1 {
		t.Errorf("%d, want what is set", got)
	}
}

func TestWithoutAVariableTheChoicesDiffer(t *testing.T) {
	t.Setenv(seed.Variable, "")
	t.Setenv(seed.RoundsVariable, "")
	if a, b := seed.Of(t), seed.Of(t); a == b {
		t.Errorf("%d twice", a)
	}
	if got := seed.Or(t, 7); got != 7 {
		t.Errorf("%d, want 7", got)
	}
	if got := seed.Rounds(t, 30); got != 30 {
		t.Errorf("%d rounds, want 30", got)
	}
}

func TestASeedThatIsNoneIsRefusedByName(t *testing.T) {
	for _, text := range []string{"seven", "-1", "18446744073709551616", "1.5"} {
		t.Setenv(seed.Variable, text)
		if n, err := seed.Get(1); err == nil || !strings.Contains(err.Error(), seed.Variable) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %d, %v", text, n, err)
		}
	}
}

func TestRoundsCanBeSet(t *testing.T) {
	t.Setenv(seed.RoundsVariable, "2")
	if got := seed.Rounds(t, 30); got != 2 {
		t.Errorf("%d rounds, want 2", got)
	}
}
