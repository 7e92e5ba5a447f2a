package aggregatetest_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/core/aggregate"
	"github.com/llm-auto-optimizer/tidemark/core/aggregate/aggregatetest"
)

// Every function of the project keeps the laws; percentiles as far as they are exact: their errors beyond are tested with them.
func TestFunctionsKeepTheLaws(t *testing.T) {
	within := map[string]float64{
		"sum": 1e-13, "average": 1e-13, "variance": 1e-9, "stddev": 1e-9, "variance_sample": 1e-9, "stddev_sample": 1e-9,
	}
	for _, name := range append(aggregate.Names(), "p0", "p50", "p99.9", "p100") {
		t.Run(name, func(t *testing.T) {
			f, err := aggregate.Parse(name)
			if err != nil {
				t.Fatal(err)
			}
			aggregatetest.Laws(t, f, aggregatetest.Within(within[name]))
			if f.Kind == aggregate.Percentile {
				aggregatetest.Laws(t, f, aggregatetest.Sketch(aggregate.Sketch{Kind: aggregate.DDSketch, Accuracy: 0.01}))
			}
		})
	}
}

// Beyond what is kept, distinct still does not depend on the order of anything.
func TestDistinctOfManyKeepsTheLaws(t *testing.T) {
	f, err := aggregate.Parse("distinct")
	if err != nil {
		t.Fatal(err)
	}
	aggregatetest.Laws(t, f, aggregatetest.Sizes(30_000, 4))
}

// Numbers that are written in several ways, and integers that no float64 tells apart.
func TestDistinctOfNumbersKeepsTheLaws(t *testing.T) {
	f, err := aggregate.Parse("distinct")
	if err != nil {
		t.Fatal(err)
	}
	aggregatetest.Laws(t, f, aggregatetest.Inputs(func(r *rand.Rand) aggregate.Input {
		n := 1<<53 + r.IntN(50)
		text := fmt.Appendf(nil, []string{"%d", "%d.0", "%de0", "%d00e-2"}[r.IntN(4)], n)
		return aggregate.Input{Kind: aggregate.InputNumber, Number: float64(n), Text: text}
	}))
}

// broken is a sum that breaks a law.
type broken struct {
	sum                       float64
	keepsOnReset, mergesTwice bool
	forgets, ordered, spoils  bool
	noJSON                    bool
}

func (b *broken) Reset() {
	if !b.keepsOnReset {
		b.sum = 0
	}
}

func (b *broken) Add(in *aggregate.Input) {
	if b.ordered {
		b.sum /= 2
	}
	b.sum += in.Number
}

func (b *broken) Merge(other aggregate.State) {
	o, ok := other.(*broken)
	if !ok {
		panic("another function")
	}
	b.sum += o.sum
	if b.mergesTwice {
		b.sum += o.sum
	}
	if b.spoils {
		o.sum = 0
	}
}

func (b *broken) AppendBinary(dst []byte) ([]byte, error) {
	if b.forgets {
		return binary.LittleEndian.AppendUint64(dst, uint64(math.Float32bits(float32(b.sum)))), nil
	}
	return binary.LittleEndian.AppendUint64(dst, math.Float64bits(b.sum)), nil
}

func (b *broken) MergeBinary(stored []byte) error {
	if len(stored) != 8 {
		return errors.New("want 8 bytes")
	}
	v := binary.LittleEndian.Uint64(stored)
	if b.forgets {
		b.sum += float64(math.Float32frombits(uint32(v)))
		return nil
	}
	b.sum += math.Float64frombits(v)
	return nil
}

func (b *broken) AppendJSON(dst []byte) []byte {
	if b.noJSON {
		return append(dst, "<sum>"...)
	}
	return aggregate.AppendNumber(dst, b.sum)
}

// recorder is a testing.TB that only notes failures.
type recorder struct {
	testing.TB
	failed bool
	says   string
}

func (r *recorder) Helper() {}
func (r *recorder) Errorf(format string, args ...any) {
	r.failed, r.says = true, fmt.Sprintf(format, args...)
}

func (r *recorder) Fatal(args ...any) {
	r.failed, r.says = true, fmt.Sprint(args...)
	runtime.Goexit()
}

func TestLawsFindWhatIsBroken(t *testing.T) {
	for name, state := range map[string]broken{
		"keeps on reset":   {keepsOnReset: true},
		"merges twice":     {mergesTwice: true},
		"forgets bits":     {forgets: true},
		"depends on order": {ordered: true},
		"spoils source":    {spoils: true},
		"no JSON":          {noJSON: true},
		"nothing":          {},
	} {
		t.Run(name, func(t *testing.T) {
			g, err := aggregate.NewRegistry(aggregate.Definition{Name: "broken_sum", Doc: "A sum.", New: func() aggregate.State {
				s := state
				return &s
			}})
			if err != nil {
				t.Fatal(err)
			}
			f, err := g.Parse("broken_sum")
			if err != nil {
				t.Fatal(err)
			}
			r := &recorder{TB: t}
			aggregatetest.Laws(r, f, aggregatetest.Within(1e-12))
			if want := name != "nothing"; r.failed != want {
				t.Errorf("found: %t, want %t (%s)", r.failed, want, r.says)
			}
		})
	}
}
