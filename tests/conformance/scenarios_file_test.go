package conformance

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// leastSupported is the share of the project's own scenarios that must be supported, so that the test does not come to check
// nothing: one in leastSupported.
const leastSupported = 5

// mostReported bounds the scenarios whose differences are printed.
const mostReported = 20

// TestScenarios plays the scenarios of a file, one in each line, in every way: that of TIDEMARK_SCENARIOS, or the project's own.
func TestScenarios(t *testing.T) {
	path, own := os.Getenv("TIDEMARK_SCENARIOS"), false
	if path == "" {
		path, own = filepath.Join("..", "testdata", "scenarios.jsonl"), true
	}
	vectors, err := loadLines(path)
	if err != nil {
		t.Fatal(err)
	}
	variants := []variant{
		{name: "core", open: newCore},
		{name: "core, batches", open: newCore, batched: true},
		{name: "functions", open: inMemory},
		{name: "functions, batches and redelivery", open: inMemory, batched: true},
	}
	unsupported, supported, failed := map[string]int{}, 0, 0
	for i := range vectors {
		v := &vectors[i]
		if field := v.unsupported(); field != "" {
			unsupported[field]++
			continue
		}
		supported++
		if !scenario(t, v, variants, failed < mostReported) {
			failed++
		}
	}
	t.Logf("%s: %d scenarios, %d supported, %d failed", path, len(vectors), supported, failed)
	for _, field := range slices.Sorted(maps.Keys(unsupported)) {
		t.Logf("unsupported: %s: %d scenarios", field, unsupported[field])
	}
	switch {
	case failed > 0:
		t.Errorf("%d scenarios failed", failed)
	case supported == 0, own && supported*leastSupported < len(vectors):
		t.Errorf("only %d of %d scenarios are supported", supported, len(vectors))
	}
}

// scenario plays one vector in all variants and reports, if asked to, how they differ from what it expects.
func scenario(t *testing.T, v *Vector, variants []variant, tell bool) (ok bool) {
	t.Helper()
	ok = true
	for _, x := range variants {
		if x.batched && !v.mayBatch() {
			continue
		}
		diffs, err := differences(t.Context(), v, x.open, x.batched)
		if err != nil {
			diffs = append(diffs, err.Error())
		}
		for _, d := range diffs {
			if ok = false; tell {
				t.Errorf("%s: %s: %s", v.Name, x.name, d)
			}
		}
	}
	return ok
}

// loadLines reads vectors, one a line.
func loadLines(path string) ([]Vector, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read scenarios: %w", err)
	}
	var out []Vector
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, len(b)+1)
	for n := 1; lines.Scan(); n++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		var v Vector
		dec := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		dec.UseNumber()
		if err := dec.Decode(&v); err != nil {
			return nil, fmt.Errorf("read scenarios of %s: line %d: %w", path, n, err)
		}
		out = append(out, v)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read scenarios of %s: %w", path, err)
	}
	return out, nil
}
