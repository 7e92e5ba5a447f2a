// Package seed is where the tests' random choices come from: TIDEMARK_SEED repeats those of a run, and TIDEMARK_ROUNDS says how many.
package seed

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// The variables of the environment.
const (
	Variable       = "TIDEMARK_SEED"
	RoundsVariable = "TIDEMARK_ROUNDS"
)

// Get returns TIDEMARK_SEED, or otherwise where it is not set.
func Get(otherwise uint64) (uint64, error) {
	text := os.Getenv(Variable)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s has to be a number from 0 to 2^64-1: %w", Variable, err)
	}
	return n, nil
}

// Of returns TIDEMARK_SEED, or a random seed where it is not set. A test that fails shows it.
func Of(t testing.TB) uint64 {
	t.Helper()
	return Or(t, rand.Uint64())
}

// Or is Of with a seed of the caller's where none is set: for tests whose bounds hold for nearly all seeds, not for every one.
func Or(t testing.TB, otherwise uint64) uint64 {
	t.Helper()
	n, err := Get(otherwise)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s=%d", Variable, n)
	return n
}

// Rand returns a source of choices with the seed of Of.
func Rand(t testing.TB) *rand.Rand {
	t.Helper()
	return rand.New(rand.NewPCG(Of(t), 0))
}

// Rounds is how many random runs a test makes: TIDEMARK_ROUNDS, or n where it is not set.
func Rounds(t testing.TB, n int) int {
	t.Helper()
	text := os.Getenv(RoundsVariable)
	if text == "" {
		return n
	}
	set, err := strconv.Atoi(text)
	if err != nil || set < 0 {
		t.Fatalf("%s has to be a number of rounds, and is %q", RoundsVariable, text)
	}
	return set
}
