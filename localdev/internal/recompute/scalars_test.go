package recompute

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/core/aggregate"
	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
)

func text(s string) aggregate.Input {
	return aggregate.Input{Kind: aggregate.InputString, Text: []byte(s)}
}

func number(s string) aggregate.Input {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil {
		panic(err)
	}
	return aggregate.Input{Kind: aggregate.InputNumber, Number: v, Text: []byte(s)}
}

// membersOf are members of one value each, a millisecond apart, as the sorter gives them back. A nil input is a record without it.
func membersOf(t *testing.T, inputs ...*aggregate.Input) []member {
	t.Helper()
	var out []member
	for i, in := range inputs {
		m := member{time: event.Time(i), offset: int64(i)}
		b := appendScalar(nil, &aggregate.Input{}, false)
		if in != nil {
			b = appendScalar(nil, in, true)
		}
		v, rest := cutScalar(append(b, "rest"...))
		if string(rest) != "rest" {
			t.Fatalf("%d: left %q", i, rest)
		}
		m.values = []scalar{v}
		out = append(out, m)
	}
	return out
}

func queryOf(t *testing.T, functions string) query {
	t.Helper()
	app, err := spec.Load(fmt.Appendf(nil, `
kafka: {consumer: {topics: [in]}, producer: {result_topic: out}}
pipelines: [{aggregates: [%s], aggregation: {percentile_sketch: ddsketch, relative_accuracy: 0.05}}]`, functions), "spec.yaml")
	if err != nil {
		t.Fatal(err)
	}
	q, err := newQuery(&app.Pipelines[0])
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func TestScalarResultsAreComputedAgain(t *testing.T) {
	inputs := []aggregate.Input{text("a \"b\" é"), number("1.0"), number("1"), text("1"), {Kind: aggregate.InputBool, Text: []byte("true")}}
	members := membersOf(t, nil, &inputs[0], &inputs[1], &inputs[2], &inputs[3], &inputs[4], nil)
	for _, c := range []struct {
		results string
		wrong   []string
	}{
		{`{"count":5,"first":"a \"b\" é","last":true,"distinct":4}`, nil},
		{`{"count":5,"first":"a \"b\" \u00e9","last":true,"distinct":4}`, nil},
		{`{"count":5,"first":"a","last":true,"distinct":4}`, []string{"value.first"}},
		{`{"count":5,"first":null,"last":"true","distinct":5}`, []string{"value.first", "value.last", "value.distinct"}},
		{`{"count":5,"first":"a \"b\" é","last":true}`, []string{"value.distinct"}},
	} {
		q := queryOf(t, "count, first, last, distinct")
		got := q.differences(members, []byte(c.results))
		if len(got) != len(c.wrong) {
			t.Errorf("%s: %v, want differences of %v", c.results, got, c.wrong)
			continue
		}
		for i := range got {
			if got[i].Name != c.wrong[i] {
				t.Errorf("%s: %v, want differences of %v", c.results, got, c.wrong)
			}
		}
	}
	q := queryOf(t, "count, first, distinct")
	if got := q.differences(membersOf(t, nil), []byte(`{"count":0,"first":null,"distinct":0}`)); len(got) > 0 {
		t.Errorf("of no value: %v", got)
	}
}

func TestSketchesAreHeldToTheirErrors(t *testing.T) {
	var many []*aggregate.Input
	for i := range 5000 {
		in := number(strconv.Itoa(i + 1))
		many = append(many, &in)
	}
	members, q := membersOf(t, many...), queryOf(t, "distinct, p50")
	for results, right := range map[string]bool{
		`{"distinct":5000,"p50":2500.5}`: true,
		`{"distinct":5190,"p50":2620}`:   true,
		`{"distinct":5210,"p50":2500.5}`: false,
		`{"distinct":5000,"p50":2630}`:   false,
		`{"distinct":5000,"p50":2370}`:   false,
		`{"distinct":null,"p50":2500.5}`: false,
	} {
		if got := q.differences(members, []byte(results)); (len(got) == 0) != right {
			t.Errorf("%s: %v, right: %t", results, got, right)
		}
	}
}
