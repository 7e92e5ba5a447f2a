package aggregate

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/tests/seed"
)

// lazySum adds up what it holds, in ascending order, when it is asked for the result: what a merge comes to depends on whether it was.
type lazySum struct {
	sum     float64
	waiting []float64
}

func (s *lazySum) Reset() { s.sum, s.waiting = 0, s.waiting[:0] }

func (s *lazySum) Add(in *Input) { s.waiting = append(s.waiting, in.Number) }

func (s *lazySum) Merge(other State) {
	if o, ok := other.(*lazySum); ok {
		s.sum += o.sum
		s.waiting = append(s.waiting, o.waiting...)
	}
}

func (s *lazySum) AppendBinary(dst []byte) ([]byte, error) {
	dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(s.sum))
	for _, v := range s.waiting {
		dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(v))
	}
	return dst, nil
}

func (s *lazySum) MergeBinary(stored []byte) error {
	if len(stored)%8 != 0 || len(stored) == 0 {
		return fmt.Errorf("%d bytes", len(stored))
	}
	s.sum += math.Float64frombits(binary.LittleEndian.Uint64(stored))
	for stored = stored[8:]; len(stored) > 0; stored = stored[8:] {
		s.waiting = append(s.waiting, math.Float64frombits(binary.LittleEndian.Uint64(stored)))
	}
	return nil
}

func (s *lazySum) AppendJSON(dst []byte) []byte {
	slices.Sort(s.waiting)
	for _, v := range s.waiting {
		s.sum += v
	}
	s.waiting = s.waiting[:0]
	return AppendNumber(dst, s.sum)
}

// What is merged from an arranged row is the same before and after it was evaluated, to the bit.
func TestEvaluatingAnArrangedRowChangesNothing(t *testing.T) {
	own, err := NewRegistry(Definition{Name: "lazy_sum", Doc: "A sum.", New: func() State { return &lazySum{} }})
	if err != nil {
		t.Fatal(err)
	}
	chosen := seed.Of(t)
	for _, names := range [][]string{{"p50", "stddev"}, {"sum", "average", "min"}, {"distinct", "first", "last"}, {"lazy_sum"}, {"lazy_sum", "p99"}} {
		for _, sketch := range []Sketch{{}, {Kind: DDSketch, Accuracy: 0.01}} {
			v := Value{Name: "v", Sketch: sketch}
			for _, name := range names {
				f, err := own.Parse(name)
				if err != nil {
					t.Fatal(err)
				}
				v.Functions = append(v.Functions, f)
			}
			c, err := NewComposite([]Value{v})
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range []int{1, 900, 1500, 5000, 20_000} {
				r := rand.New(rand.NewPCG(chosen, uint64(n)))
				fill := func(n int) *Row {
					row := &Row{}
					c.Reset(row)
					for i := range n {
						c.AddRecord(row)
						c.AddInput(row, 0, &Input{Kind: InputNumber, Number: r.NormFloat64(), At: Position{Offset: int64(i)}})
					}
					return row
				}
				row, other := fill(n), fill(700)
				merged := func() []byte {
					out := &Row{}
					c.Reset(out)
					c.Merge(out, other)
					c.Merge(out, row)
					return c.AppendBinary(nil, out)
				}
				c.Arrange(row)
				before := merged()
				first := c.AppendResults(nil, row)
				if after := merged(); !bytes.Equal(before, after) {
					t.Errorf("%v of %d values, %v: a row that was evaluated merges to other bytes", names, n, sketch.Kind)
				}
				if again := c.AppendResults(nil, row); !bytes.Equal(first, again) {
					t.Errorf("%v of %d values: %s, and then %s", names, n, first, again)
				}
			}
		}
	}
}
