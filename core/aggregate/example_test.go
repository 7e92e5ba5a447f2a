package aggregate_test

import (
	"fmt"

	"github.com/llm-auto-optimizer/tidemark/core/aggregate"
)

// Several functions over several values, in one pass. Two partial rows, here of two partitions, become one.
func Example() {
	parse := func(names ...string) (fs []aggregate.Function) {
		for _, name := range names {
			f, err := aggregate.Parse(name)
			if err != nil {
				panic(err)
			}
			fs = append(fs, f)
		}
		return fs
	}
	c, err := aggregate.NewComposite([]aggregate.Value{
		{Name: "latency", Functions: parse("count", "average", "stddev", "p50", "p95")},
		{Name: "tokens", Functions: parse("sum", "max")},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	const latency, tokens = 0, 1

	var one, other aggregate.Row
	c.Reset(&one)
	c.AddRecord(&one)
	c.Add(&one, latency, 10)
	c.Add(&one, tokens, 512)
	c.Reset(&other)
	for _, v := range []float64{30, 20} {
		c.AddRecord(&other)
		c.Add(&other, latency, v)
	}

	stored := c.AppendBinary(nil, &other)
	if _, err := c.MergeBinary(&one, stored); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(c.Records(&one), "records")
	fmt.Printf("%s\n", c.AppendResults(nil, &one))
	// Output:
	// 3 records
	// {"latency":{"count":3,"average":20,"stddev":8.16496580927726,"p50":20,"p95":29},"tokens":{"sum":512,"max":512}}
}

// The error for an unknown name lists the known ones.
func ExampleParse() {
	_, err := aggregate.Parse("avg")
	fmt.Println(err)
	// Output:
	// aggregate: unknown function "avg": known are count, sum, average, min, max, variance, stddev, variance_sample, stddev_sample, first, last, distinct, distinct_count, and percentiles p0 to p100 such as p99.9
}
