package aggregatetest_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/core/aggregate"
	"github.com/llm-auto-optimizer/tidemark/core/aggregate/aggregatetest"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
)

// geometricMean is the state of a user-defined function: the n-th root of the product of n positive numbers, by their logarithms.
// Others do not count.
type geometricMean struct {
	n   int64
	log float64
}

func (g *geometricMean) Reset() { *g = geometricMean{} }

func (g *geometricMean) Add(in *aggregate.Input) {
	if in.Number > 0 {
		g.n++
		g.log += math.Log(in.Number)
	}
}

func (g *geometricMean) Merge(other aggregate.State) {
	if o, ok := other.(*geometricMean); ok {
		g.n += o.n
		g.log += o.log
	}
}

func (g *geometricMean) AppendBinary(dst []byte) ([]byte, error) {
	dst = binary.AppendUvarint(dst, uint64(g.n))
	return binary.LittleEndian.AppendUint64(dst, math.Float64bits(g.log)), nil
}

func (g *geometricMean) MergeBinary(stored []byte) error {
	n, size := binary.Uvarint(stored)
	if size <= 0 || len(stored) != size+8 {
		return errors.New("not a geometric mean")
	}
	g.n += int64(n)
	g.log += math.Float64frombits(binary.LittleEndian.Uint64(stored[size:]))
	return nil
}

func (g *geometricMean) AppendJSON(dst []byte) []byte {
	return aggregate.AppendNumber(dst, math.Exp(g.log/float64(g.n))) // null for none
}

func ownFunctions() (*aggregate.Registry, error) {
	return aggregate.NewRegistry(aggregate.Definition{
		Name: "geometric_mean", Doc: "Geometric mean of the positive values.", Version: 1,
		New: func() aggregate.State { return &geometricMean{} },
	})
}

// A function of one's own: a State that keeps the laws, a Definition that names it, and a Registry, with which a spec is read.
func Example() {
	functions, err := ownFunctions()
	if err != nil {
		fmt.Println(err)
		return
	}
	app, err := spec.Load([]byte(`
kafka: {consumer: {topics: [requests]}, producer: {result_topic: latency}}
pipelines:
  - values: {ms: ms}
    aggregates: {ms: [count, geometric_mean]}
`), "requests.yaml", spec.WithFunctions(functions))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(app.Pipelines[0].Aggregates[0].Functions)

	_, err = spec.Load([]byte(`
kafka: {consumer: {topics: [requests]}, producer: {result_topic: latency}}
pipelines: [{aggregates: [geometric_mean]}]
`), "requests.yaml")
	fmt.Println(err)
	// Output:
	// [count geometric_mean]
	// requests.yaml:3: pipelines[0].aggregates[0]: is not an aggregate function, got geometric_mean (count, sum, average, min, max, stddev, variance, stddev_sample, variance_sample, first, last, distinct, percentile, or p0 to p100, such as p99.9)
}

// Whoever defines a function tests that it keeps the laws.
func TestGeometricMeanKeepsTheLaws(t *testing.T) {
	functions, err := ownFunctions()
	if err != nil {
		t.Fatal(err)
	}
	f, err := functions.Parse("geometric_mean")
	if err != nil {
		t.Fatal(err)
	}
	aggregatetest.Laws(t, f, aggregatetest.Within(1e-12))
}
