package spec_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/goccy/go-yaml"

	"github.com/llm-auto-optimizer/tidemark/core/spec"
)

// The schema and the loader come from one table; here they must agree on whole files. The validator below knows the part of
// JSON Schema that Schema uses, and fails on anything else.
func TestTheSchemaTakesWhatLoadTakes(t *testing.T) {
	user, err := os.ReadFile("../../tests/testdata/processor-config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"user": string(user), "example": spec.Example(), "least": least,
		"spellings": least + inPipeline("windows: [{size_ms: 1000, offset: 0, allowed_lateness_secs: 0.5}]", "aggregates: [count, p99.9, percentile]", "watermark: {idle_timeout: off, max_future_skew_secs: off}"),
		"formats":   least + inPipeline("input: {format: csv, columns: [time, value], delimiter: \"\\t\"}") + "  - {name: q, input: text}\n  - {name: r, input: json_registry}\n  - {name: s, input: {format: csv, columns: [value], delimiter: \"\\x1f\"}}\n",
		"aliases":   "processor: {state: {backend: rocksdb}}\nkafka: {consumer: {topics: [in]}, producer: {result_topic: out, acks: -1}}\npipelines: [{late: }]\n",
	} {
		if _, err := spec.Load([]byte(text), name); err != nil {
			t.Errorf("%s: Load refuses: %v", name, err)
		}
		if err := bySchema(t, text); err != nil {
			t.Errorf("%s: the schema refuses: %v", name, err)
		}
	}
}

func TestTheSchemaRefusesWhatOneKeySays(t *testing.T) {
	// The rest of the tables takes more than one key to see, or is about names that the schema leaves to Load.
	left := []string{
		"first delay above the longest", "periodic without interval", "offset of the size", "offset above the slide", "slide above size", "too many slices", "size of 0",
		"negative slide", "negative gap", "negative lateness", "tumbling without size", "sliding without slide", "session without gap", "slide of a tumbling window", "two windows of a name",
		"default window that does not fit", "two pipelines of a name", "two pipelines without a name", "timestamp of nothing", "unit without field", "aggregates of no value", "aggregate without value",
		"sink is a source", "late topic is the sink", "dead letter topic is a source", "internal topic", "another cluster", "no source topic", "no result topic", "kafka twice", "repeated key",
		"repeated value name", "empty part of a path", "number beyond 64 bits", "broker of port 0", "duration below a millisecond", "duration beyond event time", "negative duration",
		"duration beyond the default bound", "not built: fire.shards", `not built: expression "lower(model)"`, `not built: expression "tokens * 0.002"`, "percentile not a number",
		"duration in days", "cumulate without step", "step that does not divide the size", "too many steps", "offset of a cumulate window's size", "longest session of 0",
		"offset above the longest session", "gap that is no path", "longest gap below the gap", "longest gap without a field", "longest session of a tumbling window",
		"early panes too often", "final panes and early ones", "final panes and only changes", "only changes where panes discard", "global window without a trigger",
	}
	left = append(left, // of formats
		"Avro", "Protobuf", "tabs by their name", "rows without columns", "columns of text", "columns alone", "delimiter of text", "value that no row has", "misspelt column",
		"column that is not there", "nested field of a row", "derived of what is no column", "event time that no row has", "gap that no row has", "field of a text",
		"rows without columns for all", "columns that no pipeline uses", "column with a space",
	)
	left = append(left,
		"step of a sliding window", "slide of a cumulate window", "cumulate window without size", "step above the size", "size of a session", "gap field of a sliding window",
		"holes of a tumbling window", "size below a millisecond", "final panes and early ones by time", "grid of sessions without a longest one", "longest gap without a field, for all", "size of a global window",
	)
	var refused int
	for _, tables := range [][]wrong{wrongKeys(), wrongValues(), wrongWindows(), wrongQueries(), wrongKafka(), wrongInput(), notBuilt()} {
		for _, w := range tables {
			if slices.Contains(left, w.name) {
				continue
			}
			text := w.text
			if !w.whole {
				text = least + text
			}
			if err := bySchema(t, text); err == nil {
				t.Errorf("%s: the schema takes:\n%s", w.name, text)
			}
			refused++
		}
	}
	if refused < 50 {
		t.Errorf("only %d specs tried", refused)
	}
}

// An editor shows what a key does and what holds without it.
func TestTheSchemaDescribesEveryKeyWithItsDefault(t *testing.T) {
	var schema any
	if err := json.Unmarshal(spec.Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	var keys, defaults int
	var look func(path string, x any)
	look = func(path string, x any) {
		s := as[map[string]any](x)
		for name, key := range as[map[string]any](s["properties"]) {
			k := as[map[string]any](key)
			text := as[string](k["description"])
			if k["$ref"] == nil && text == "" {
				t.Errorf("%s.%s has no description", path, name)
			}
			keys++
			if k["default"] != nil || strings.Contains(text, "Default: ") {
				defaults++
			}
			look(path+"."+name, key)
		}
		if items := s["items"]; items != nil {
			look(path+"[]", items)
		}
	}
	look("", schema)
	for name, def := range as[map[string]any](as[map[string]any](schema)["$defs"]) {
		look("$"+name, def)
	}
	if keys < 150 || defaults < 60 {
		t.Errorf("%d keys are described, %d with a default", keys, defaults)
	}
}

func bySchema(t *testing.T, text string) error {
	t.Helper()
	var schema, data any
	if err := json.Unmarshal(spec.Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte(text), &data); err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	asJSON, err := json.Marshal(data)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(asJSON, &data); err != nil {
		t.Fatal(err)
	}
	return valid("", inline(schema, schema), data)
}

// inline replaces references to definitions of the root.
func inline(root, schema any) any {
	switch s := schema.(type) {
	case map[string]any:
		if ref, ok := s["$ref"].(string); ok {
			return inline(root, as[map[string]any](as[map[string]any](root)["$defs"])[strings.TrimPrefix(ref, "#/$defs/")])
		}
		out := map[string]any{}
		for k, v := range s {
			if k != "$defs" {
				out[k] = inline(root, v)
			}
		}
		return out
	case []any:
		out := make([]any, len(s))
		for i := range s {
			out[i] = inline(root, s[i])
		}
		return out
	}
	return schema
}

// as returns x as a T, else the zero value: a wrong schema then fails the check that it is for.
func as[T any](x any) T {
	t, _ := x.(T)
	return t
}

// valid checks data against a schema.
func valid(path string, schema, data any) error {
	if schema == false {
		return fmt.Errorf("%s: not allowed", path)
	}
	s, ok := schema.(map[string]any)
	if !ok {
		return fmt.Errorf("%s: schema is %T", path, schema)
	}
	for keyword, want := range s {
		if err := keywordHolds(path, keyword, want, s, data); err != nil {
			return err
		}
	}
	return nil
}

func keywordHolds(path, keyword string, want any, s map[string]any, data any) error {
	object, _ := data.(map[string]any)
	list, isList := data.([]any)
	text, isText := data.(string)
	number, isNumber := data.(float64)
	bad := func(ok bool) error {
		if ok {
			return nil
		}
		return fmt.Errorf("%s: %v breaks %s: %v", path, data, keyword, want)
	}
	switch keyword {
	case "$schema", "$id", "title", "description", "default", "examples":
	case "type":
		types, ok := want.([]any)
		if !ok {
			types = []any{want}
		}
		return bad(slices.ContainsFunc(types, func(x any) bool { return isType(x, data) }))
	case "const":
		return bad(reflect.DeepEqual(want, data))
	case "enum":
		return bad(slices.Contains(as[[]any](want), data))
	case "pattern":
		return bad(!isText || regexp.MustCompile(as[string](want)).MatchString(text))
	case "minLength":
		return bad(!isText || utf8.RuneCountInString(text) >= int(as[float64](want)))
	case "maxLength":
		return bad(!isText || utf8.RuneCountInString(text) <= int(as[float64](want)))
	case "minimum":
		return bad(!isNumber || number >= as[float64](want))
	case "maximum":
		return bad(!isNumber || number <= as[float64](want))
	case "minItems", "minProperties":
		return bad(len(list)+len(object) >= int(as[float64](want)) || data == nil)
	case "maxItems", "maxProperties":
		return bad(len(list)+len(object) <= int(as[float64](want)))
	case "uniqueItems":
		for i := range list {
			if want == true && slices.Contains(list[:i], list[i]) {
				return bad(false)
			}
		}
	case "required":
		for _, name := range as[[]any](want) {
			if _, ok := object[as[string](name)]; !ok {
				return bad(false)
			}
		}
	case "items":
		for i, item := range list {
			if err := valid(fmt.Sprintf("%s[%d]", path, i), want, item); err != nil {
				return err
			}
		}
		return bad(isList || data != nil || s["type"] != "array")
	case "properties":
		for name, sub := range as[map[string]any](want) {
			if x, ok := object[name]; ok {
				if err := valid(path+"."+name, sub, x); err != nil {
					return err
				}
			}
		}
	case "additionalProperties":
		known, _ := s["properties"].(map[string]any)
		for name, x := range object {
			if _, ok := known[name]; ok {
				continue
			}
			if err := valid(path+"."+name, want, x); err != nil {
				return err
			}
		}
	case "propertyNames":
		for name := range object {
			if err := valid(path+"."+name, want, name); err != nil {
				return err
			}
		}
	case "not":
		return bad(valid(path, want, data) != nil)
	case "allOf", "anyOf", "oneOf":
		return several(path, keyword, as[[]any](want), data)
	default:
		return fmt.Errorf("%s: the test does not know the keyword %s", path, keyword)
	}
	return nil
}

func several(path, keyword string, schemas []any, data any) error {
	var errs []string
	for _, s := range schemas {
		if err := valid(path, s, data); err != nil {
			errs = append(errs, err.Error())
		}
	}
	holds := len(schemas) - len(errs)
	if keyword == "allOf" && len(errs) == 0 || keyword == "anyOf" && holds > 0 || keyword == "oneOf" && holds == 1 {
		return nil
	}
	return fmt.Errorf("%s: %s holds for %d of %d: %s", path, keyword, holds, len(schemas), strings.Join(errs, "; "))
}

func isType(name, data any) bool {
	switch v := data.(type) {
	case nil:
		return name == "null"
	case bool:
		return name == "boolean"
	case string:
		return name == "string"
	case float64:
		return name == "number" || name == "integer" && v == math.Trunc(v)
	case []any:
		return name == "array"
	case map[string]any:
		return name == "object"
	}
	return false
}
