// Package conformance checks the project against vectors: windows, merges, aggregates and whole scenarios as data, with
// expectations that come from other systems' suites or were worked out by hand. See tests/testdata/vectors/README.md.
package conformance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// Vector is one vector of any kind: each kind uses some of the fields.
type Vector struct {
	Name   string
	Kind   string
	Source string
	Note   string
	Spec   Spec

	Timestamps []int64    // assign; aggregate: one a value
	Windows    [][2]int64 // merge_windows, merge_sequence
	Events     []Event    // scenario

	Values       []any   // aggregate: json.Number, or one of the strings NaN, Infinity, -Infinity
	Partials     [][]any // merge
	Roundtrip    bool    // aggregate: save and load the accumulator before it is asked
	Generator    *Generator
	MaxRankError map[string]float64 `json:"max_rank_error"`

	Expect map[string]any // numbers are json.Number
}

// Spec is what a vector asks for. A nil pointer is a member that is absent or null.
type Spec struct {
	Type            string     `json:"type"`
	Size            *int64     `json:"size_ms"`
	Slide           *int64     `json:"slide_ms"`
	Step            *int64     `json:"step_ms"`
	Offset          *int64     `json:"offset_ms"`
	AllowGaps       bool       `json:"allow_gaps"`
	Unit            string     `json:"unit"`
	TZ              string     `json:"tz"`
	WeekStart       string     `json:"week_start"`
	Gap             *int64     `json:"gap_ms"`
	MaxSession      *int64     `json:"max_session_ms"`
	SessionTouch    string     `json:"session_touch"`
	SessionLateness string     `json:"session_lateness"`
	Lateness        *int64     `json:"lateness_ms"`
	Accumulation    string     `json:"accumulation"`
	EarlyCount      *int64     `json:"early_count"`
	Quantiles       []float64  `json:"quantiles"`
	Watermark       *Watermark `json:"watermark"`

	unknown []string // members that this harness has not heard of
	ownGaps bool     // some event of the vector has a gap_ms of its own
}

// Watermark is the watermark block of a Spec.
type Watermark struct {
	Mode        string  `json:"mode"` // manual (default), explicit, bounded
	Partitions  []int32 `json:"partitions"`
	Bound       *int64  `json:"bound_ms"`
	Emit        string  `json:"emit"` // per_event (default), on_tick
	IdleTimeout *int64  `json:"idle_timeout_ms"`
	StartNow    *int64  `json:"start_now_ms"`
	OnAllIdle   string  `json:"on_all_idle"` // max (default), hold, advance
	OnResume    string  `json:"on_resume"`   // hold (default), catch_up
	MaxFuture   *int64  `json:"max_future_ms"`

	unknown []string
}

// Event is one entry of a scenario: a record (Time is set), or one of the other things that happen.
type Event struct {
	Time      *int64 `json:"ts_ms"`
	Key       string `json:"key"`
	Value     any    `json:"value"` // json.Number, or one of the strings NaN, Infinity, -Infinity
	Partition int32  `json:"partition"`
	Offset    *int64 `json:"offset"`
	Now       *int64 `json:"now_ms"`
	Gap       *int64 `json:"gap_ms"`

	AdvanceWatermark   *int64 `json:"advance_watermark_ms"`
	Tick               bool   `json:"tick"`
	PartitionWatermark *struct {
		Partition int32 `json:"partition"`
		At        int64 `json:"ms"`
	} `json:"partition_watermark"`
	MarkIdle   *int32 `json:"mark_idle"`
	MarkActive *int32 `json:"mark_active"`
}

// Generator makes the values of a sketch vector.
type Generator struct {
	Name string `json:"name"` // modular_permutation: i*mul mod n for i in [0, n)
	N    int64  `json:"n"`
	Mul  int64  `json:"mul"`
}

// UnmarshalJSON also notes the members that have no field: what a vector asks for must not be ignored in silence.
func (s *Spec) UnmarshalJSON(b []byte) error {
	type plain Spec
	if err := json.Unmarshal(b, (*plain)(s)); err != nil {
		return err
	}
	var err error
	s.unknown, err = unknownMembers(b, reflect.TypeFor[Spec]())
	return err
}

// UnmarshalJSON is as that of Spec.
func (w *Watermark) UnmarshalJSON(b []byte) error {
	type plain Watermark
	if err := json.Unmarshal(b, (*plain)(w)); err != nil {
		return err
	}
	var err error
	w.unknown, err = unknownMembers(b, reflect.TypeFor[Watermark]())
	return err
}

// unknownMembers returns the members of the JSON object b that no field of t reads, in order.
func unknownMembers(b []byte, t reflect.Type) ([]string, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(b, &members); err != nil {
		return nil, err
	}
	for f := range t.Fields() {
		delete(members, f.Tag.Get("json"))
	}
	return slices.Sorted(maps.Keys(members)), nil
}

// File is the vectors of one file.
type File struct {
	Name    string // without folder and extension
	Vectors []Vector
}

// load reads every vector of a folder, files in order of their names.
func load(dir string) ([]File, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, fmt.Errorf("list vectors: %w", err)
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("no *.json in %s", dir)
	}
	var files []File
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read vectors: %w", err)
		}
		f := File{Name: strings.TrimSuffix(filepath.Base(path), ".json")}
		dec := json.NewDecoder(bytes.NewReader(b))
		dec.UseNumber()
		if err := dec.Decode(&f.Vectors); err != nil {
			return nil, fmt.Errorf("read vectors of %s: %w", path, err)
		}
		for i := range f.Vectors {
			if v := &f.Vectors[i]; v.Kind == "" {
				v.Kind = "scenario"
			}
		}
		files = append(files, f)
	}
	return files, nil
}

// vectorsDir returns the folder of the vectors: TIDEMARK_VECTORS, or the project's own.
func vectorsDir() string {
	if dir := os.Getenv("TIDEMARK_VECTORS"); dir != "" {
		return dir
	}
	return filepath.Join("..", "testdata", "vectors")
}

// runner checks one vector and reports every difference. It skips, with the field, what the vector's spec asks for and the
// project does not offer.
type runner func(t *testing.T, v Vector)

// runners returns, per way of running vectors, what runs each kind.
func runners() map[string]map[string]runner {
	return map[string]map[string]runner{
		"core": {
			"assign":         runAssign,
			"invalid_spec":   runInvalidSpec,
			"merge_windows":  runMergeWindows,
			"merge_sequence": runMergeSequence,
			"aggregate":      runAggregate,
			"merge":          runMerge,
			"sketch":         runSketch,
			"scenario":       runScenarioInCore,
		},
		"functions": {
			"scenario": runScenarioInFunctions,
		},
	}
}

// TestVectors runs every vector in every way that knows its kind, as TestVectors/WAY/FILE/NAME.
func TestVectors(t *testing.T) {
	files, err := load(vectorsDir())
	if err != nil {
		t.Fatal(err)
	}
	ways := runners()
	for _, way := range slices.Sorted(maps.Keys(ways)) {
		t.Run(way, func(t *testing.T) {
			for _, f := range files {
				t.Run(f.Name, func(t *testing.T) {
					for _, v := range f.Vectors {
						if run := ways[way][v.Kind]; run != nil {
							t.Run(v.Name, func(t *testing.T) { run(t, v) })
						}
					}
				})
			}
		})
	}
}

// Every kind of vector is one that the README describes, and no two vectors have one name.
func TestVectorsAreWellFormed(t *testing.T) {
	files, err := load(vectorsDir())
	if err != nil {
		t.Fatal(err)
	}
	kinds := []string{"assign", "invalid_spec", "merge_windows", "merge_sequence", "aggregate", "merge", "sketch", "scenario"}
	seen := map[string]string{}
	for _, f := range files {
		for _, v := range f.Vectors {
			if v.Name == "" || v.Expect == nil {
				t.Errorf("%s: a vector has no name (%q) or no expect", f.Name, v.Name)
			}
			if !slices.Contains(kinds, v.Kind) {
				t.Errorf("%s/%s: unknown kind %q", f.Name, v.Name, v.Kind)
			}
			if other, ok := seen[v.Name]; ok {
				t.Errorf("%s/%s: %s has a vector of that name", f.Name, v.Name, other)
			}
			seen[v.Name] = f.Name
		}
	}
}
