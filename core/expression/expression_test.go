package expression_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/expression"
)

// evaluate evaluates an expression over a record, twice: what an evaluator keeps must not show.
func evaluate(t testing.TB, source, record string) (string, error) {
	t.Helper()
	e, err := expression.Compile(source, expression.Scalar)
	if err != nil {
		t.Fatalf("%s: %v", source, err)
	}
	x, err := event.NewExtractor(e.Paths())
	if err != nil {
		t.Fatalf("%s: %v", source, err)
	}
	fields, err := x.Extract([]byte(record), nil)
	if err != nil {
		t.Fatalf("%s: %v", record, err)
	}
	v := e.NewEvaluator()
	first, _, firstErr := v.Scalar(nil, fields)
	f, _, err := v.Scalar(nil, fields)
	if fmt.Sprint(f, err) != fmt.Sprint(first, firstErr) {
		t.Errorf("%s of %s: got %v, %v and then %v, %v", source, record, first, firstErr, f, err)
	}
	if err != nil && !errors.Is(err, expression.ErrEvaluate) {
		t.Errorf("%s: %v does not wrap ErrEvaluate", source, err)
	}
	return fmt.Sprintf("%s %s", f.Kind, f.Raw), err
}

const order = `{"metric":"latency_ms","model":"GPT-X","tokens":1500,"price":0.1,"big":12345678901,"user-id":"u1","ok":true,"none":null,"type":"order","count":3,
	"attributes":{"tokens":7,"region":"EU-West"},"tags":["a","b"],"items":[{"price":2,"n":3},{"price":1.5,"n":2}]}`

func TestResults(t *testing.T) {
	for source, want := range map[string]string{ //nolint:gosec // tokens of a language model are no credentials
		`metric == "latency_ms"`: "boolean true", `metric in ["cost", "latency_ms"]`: "boolean true", `tokens in ["cost", 1500]`: "boolean true", `tokens in ["cost"]`: "boolean false",
		`tokens * 0.002`: "number 3", `tokens / 7`: "number 214.28571428571428", `tokens % 7`: "number 2", `-7 % 3`: "number -1", `tokens + 1`: "number 1501", `2 ** 3`: "number 8",
		`9007199254740993 * 9007199254740993 * 9007199254740993`: "number 7.307508186654515e+47", // does not wrap around
		`floor(tokens / 400)`: "number 3", `round(2.5)`: "number 3", `int(tokens / 7)`: "number 214", `int("12")`: "number 12", `max(tokens, 2000)`: "number 2000",
		`lower(model)`: "string gpt-x", `model + "/" + metric`: "string GPT-X/latency_ms", `trimPrefix(model, "GPT-")`: "string X", `split(attributes.region, "-")[0]`: "string EU",
		`string(big)`: "string 12345678901", `string(price)`: "string 0.1", `string(ok)`: "string true", `model | lower() | trimSuffix("-x")`: "string gpt",
		`attributes.tokens`: "number 7", `attributes["region"]`: "string EU-West", `attributes?.region`: "string EU-West", `$env["user-id"]`: "string u1",
		`missing`: "absent ", `none`: "null null", `missing.far.away`: "absent ", `model.name`: "absent ", `missing == nil`: "boolean true", `missing.far == nil`: "boolean true", `none == nil`: "boolean true",
		`missing ?? 5`: "number 5", `(attributes.tokens ?? 0) > 5`: "boolean true", `missing == "a"`: "boolean false", `missing != "a"`: "boolean true", `tokens == "1500"`: "boolean false",
		`type == "order" and count > 2`: "boolean true", `type`: "string order", // names that functions have too
		`len(tags)`: "number 2", `"a" in tags`: "boolean true", `tags[-1]`: "string b", `"tokens" in attributes`: "boolean true", `count(items, .n > 2)`: "number 1",
		`sum(items, .price * .n)`: "number 9", `sum(items, .price + .n)`: "number 8.5", `any(tags, # matches "^[b-d]$")`: "boolean true", `any(tags, # == "b")`: "boolean true", `items[0].price`: "number 2", `len(filter(items, .price > 1.7))`: "number 1",
		`model matches "^GPT-[A-Z]$"`: "boolean true", `model startsWith "GPT"`: "boolean true", `metric contains "_"`: "boolean true", `not ok`: "boolean false",
		`ok ? "yes" : "no"`: "string yes", `if tokens > 1000 { "long" } else { "short" }`: "string long", `1e21`: "number 1e+21", `tokens - tokens`: "number 0", `0.0000001 * 1`: "number 1e-07",
	} {
		if got, err := evaluate(t, source, order); err != nil || got != want {
			t.Errorf("%s: got %s, %v; want %s", source, got, err, want)
		}
	}
}

func TestErrorsSayWhatAndWhichFieldsAreMissing(t *testing.T) {
	long := fmt.Sprintf(`{"text":%q,"list":[%s1]}`, strings.Repeat("x", expression.MaxFieldBytes+1), strings.Repeat("1,", 1000))
	for _, c := range []struct{ source, record, want string }{
		{`tokens * 2`, `{}`, "invalid operation: nil * number (character 8); missing or null: tokens"},
		{`tokens > 2 and ok`, `{"tokens":null,"ok":true}`, "invalid operation: nil > number (character 8); missing or null: tokens"},
		{`tokens * 2`, `{"tokens":"many"}`, "invalid operation: string * number (character 8)"},
		{`lower(model)`, `{"model":5}`, "is number, not string (character 1)"},
		{`not ok`, `{"ok":"yes"}`, "is string, not bool (character 1)"},
		{`tags[5]`, `{"tags":[1]}`, "index out of range: 5 (array length is 1) (character 5)"},
		{`a / b * 1`, `{"a":1,"b":0}`, "the result is not a finite number"},
		{`a % b`, `{"a":1,"b":0}`, "remainder of a division by 0 (character 3)"},
		{`a + 0`, `{"a":1e999}`, `field a: parse "1e999": not a finite float64`},
		{`a["b"][0]`, `{"a":{"b":[{"c":1}]}}`, "the result is a mapping, not a string, a number, true or false"},
		{`text + ""`, long, "field text: 65537 bytes, at most 65536 are possible in an expression"},
		{`len(list)`, long, "field list: an array of 1001 elements, at most 1000 are possible in an expression"},
		{`a + a + a`, fmt.Sprintf(`{"a":%q}`, strings.Repeat("x", expression.MaxFieldBytes/2)), "the result has 98304 bytes, at most 65536 are possible"},
		{`map(list, # + "x")[0]`, `{"list":["a"]}`, "+ inside of a loop: a string is not a number (character 13)"},
		{`string(list)`, `{"list":[1]}`, "string() of a list (character 1)"},
	} {
		if got, err := evaluate(t, c.source, c.record); err == nil || err.Error() != c.want {
			t.Errorf("%s: got %s and %v, want %q", c.source, got, err, c.want)
		}
	}
	where, err := expression.Compile("ok", expression.Bool)
	if err != nil {
		t.Fatal(err)
	}
	for want, f := range map[string]event.Field{
		"the result is nil, not true or false":      {Kind: event.FieldNull},
		"the result is a number, not true or false": {Kind: event.FieldNumber, Raw: []byte("1")},
	} {
		if _, err := where.NewEvaluator().Bool([]event.Field{f}); err == nil || err.Error() != want || !errors.Is(err, expression.ErrEvaluate) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestCompileErrorsAreProblemsWithAHint(t *testing.T) {
	for _, source := range []string{
		"", "a >", "a b", "now() > 1", "nowhere(a)", "let x = 1; x", "1..3", "$env", "$env[a]", "get($env, 'a')", "a.b()", `a matches b`, "any(a, any(b, # == 1))", `b"x"`, "'a' + 1", "{}", "[1]", "keys(a)", "map(a, split(s, ''))[0]", "any(a, s matches 'x+')", "plus(a, b)",
		"toJSON(a)", "a[''] + 1", "#", strings.Repeat("a+", 300) + "a", strings.Repeat(" ", 5000),
	} {
		var p *expression.CompileError
		e, err := expression.Compile(source, expression.Scalar)
		if e != nil || !errors.As(err, &p) || p.Message == "" || p.Hint == "" || strings.Contains(p.Message, "\n") {
			t.Errorf("%q: got %v, %#v", source, e, err)
		}
	}
}

func TestAliasesAndPaths(t *testing.T) {
	for source, want := range map[string]string{
		"a": "[a] true", "a.b": "[a.b] true", `$env["x-y"].z`: "[x-y.z] true", "a + b.c + a": "[a b.c] false", "1": "[] false", "len(items) + items[0].n": "[items] false",
		"any(tags, # == model)": "[model tags] false", "mod(a, 2)": "[a] false",
	} {
		e, err := expression.Compile(source, expression.Scalar)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(e.Paths(), e.Alias()); got != want || e.Source() != source {
			t.Errorf("%s: got %s, want %s", source, got, want)
		}
	}
	for name, want := range map[string]bool{"model": true, "type": true, "count": true, "not": false, "in": false, "true": false, "nil": false, "a.b": false, "a b": false, "": false, "#": false} {
		if got := expression.IsName(name); got != want {
			t.Errorf("%q: got %t", name, got)
		}
	}
}

func TestFieldsThatAreTheSameAreNotConvertedAgain(t *testing.T) {
	e, err := expression.Compile(`metric == "latency_ms" and attributes.region != "x" and tokens > 5`, expression.Bool)
	if err != nil {
		t.Fatal(err)
	}
	v := e.NewEvaluator()
	fields := []event.Field{{Kind: event.FieldString, Raw: []byte("EU")}, {Kind: event.FieldString, Raw: []byte("latency_ms")}, {Kind: event.FieldNumber, Raw: []byte("7")}}
	if n := testing.AllocsPerRun(100, func() {
		if ok, err := v.Bool(fields); !ok || err != nil {
			t.Error(ok, err)
		}
	}); n > 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

// What the bounds are for: no record and no expression that compiles takes more than this.
func TestAnEvaluationIsBounded(t *testing.T) {
	text := strings.Repeat("x", expression.MaxFieldBytes)
	list := strings.TrimSuffix(strings.Repeat(`"`+text[:50]+`",`, 1000), ",")
	record := fmt.Sprintf(`{"s":%q,"a":[%s]}`, text, list)
	for _, source := range []string{
		`len(filter(a, # in a)) == 0`, `len(map(a, upper(s))) == 3`, strings.Repeat("s + ", 90) + `"a" == s`, strings.Repeat(`s matches "(x+x+)+y" or `, 40) + "true",
		`len(map(a, lower(#) matches "(x+x+)+y")) == 1`, `count(a, s contains #) == 1`, `all(a, string(#) == s)`, `len(split(s, "")) > 3`,
	} {
		var before, after runtime.MemStats
		begin := time.Now()
		runtime.ReadMemStats(&before)
		_, _ = evaluate(t, source, record)
		runtime.ReadMemStats(&after)
		if n := (after.TotalAlloc - before.TotalAlloc) >> 20; n > 1<<10 || time.Since(begin) > time.Minute {
			t.Errorf("%.40s: %d MiB in %s", source, n, time.Since(begin))
		} else {
			t.Logf("%.40s: %d MiB in %s", source, n, time.Since(begin))
		}
	}
}

// Whatever is compiled and evaluated ends without a panic, and gives the same again.
func FuzzEvaluate(f *testing.F) {
	for _, source := range []string{`metric == "a"`, `tokens * 0.002`, `lower(model)`, `any(tags, # == "b")`, `attributes.tokens ?? 0`, `a % b`, `int(s)`, `sum(items, .price)`, `split(s, "")[0]`, `$env["x"]`} {
		f.Add(source, order)
		f.Add(source, `{"a":1,"b":0,"s":"x"}`)
	}
	f.Fuzz(func(t *testing.T, source, record string) {
		e, err := expression.Compile(source, expression.Scalar)
		if err != nil || len(record) > 1<<10 || !json.Valid([]byte(record)) {
			return
		}
		x, err := event.NewExtractor(e.Paths())
		if err != nil {
			return
		}
		fields, err := x.Extract([]byte(record), nil)
		if err != nil {
			return
		}
		v := e.NewEvaluator()
		got, _, err := v.Scalar(nil, fields)
		again, _, errAgain := e.NewEvaluator().Scalar(nil, fields)
		if fmt.Sprint(got, err) != fmt.Sprint(again, errAgain) {
			t.Errorf("%q of %q: got %v, %v and %v, %v", source, record, got, err, again, errAgain)
		}
		if err != nil && !errors.Is(err, expression.ErrEvaluate) {
			t.Errorf("%q: %v", source, err)
		}
	})
}
