package spec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/aggregate"
	"github.com/llm-auto-optimizer/tidemark/core/expression"
)

// schemaID names the schema, for editors.
const schemaID = "https://github.com/llm-auto-optimizer/tidemark/core/spec/schema.json"

// Schema returns the JSON Schema (draft 2020-12) of a spec, made from the table that Load reads files against. What takes
// more than one key to say (topics that collide, windows that do not fit) is left to Load. With functions of one's own
// (WithFunctions), their names are legal too.
func Schema(with ...Option) []byte {
	g := optionsOf(with).functions
	table := language()
	root := schemaOf(table, g)
	shared := map[string]any{}
	for i := range table.fields {
		if f := &table.fields[i]; f.shared {
			shared[f.name] = schemaOf(f, g)
		}
	}
	root["$defs"] = shared
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["$id"] = schemaID
	root["title"] = "Tidemark spec"
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(root); err != nil {
		panic(fmt.Sprintf("spec: schema of the table: %v", err)) // maps, slices, strings and numbers only
	}
	return b.Bytes()
}

// schemaOf returns the schema of a field; of a duration, that of Go's syntax.
func schemaOf(f *field, g *aggregate.Registry) map[string]any {
	s := map[string]any{}
	describe(s, f)
	if f.status != statusBuilt {
		s["not"] = map[string]any{} // nothing is legal
		return s
	}
	switch f.kind {
	case kindString:
		if f.alt != nil {
			text := map[string]any{"type": "string"}
			stringSchema(text, f, g)
			s["oneOf"] = []any{text, schemaOf(f.alt, g)}
			break
		}
		s["type"] = "string"
		stringSchema(s, f, g)
	case kindInt, kindNumber:
		s["type"] = "integer"
		if f.kind == kindNumber {
			s["type"] = "number"
		}
		if f.bounds != nil {
			s["minimum"], s["maximum"] = f.bounds.min, f.bounds.max
		}
		if f.limits != nil {
			s["minimum"], s["maximum"] = f.limits.min, f.limits.max
		}
	case kindBool:
		s["type"] = "boolean"
		if f.fixes["true"] != "" {
			s["const"] = false
		}
	case kindDuration:
		s["type"] = []string{"string", "integer"}
		s["pattern"] = durationPattern(f.word)
		s["minimum"], s["maximum"] = 0, 0 // the number 0 needs no unit
	case kindList:
		s["type"] = "array"
		s["items"] = schemaOf(f.elem, g)
		s["uniqueItems"] = f.unique
		s["minItems"], s["maxItems"] = f.bounds.min, f.bounds.max
	case kindMap:
		mapSchema(s, f, g)
	case kindBlock:
		blockSchema(s, f, g)
	case kindAny:
	}
	return s
}

// describe writes what people read.
func describe(s map[string]any, f *field) {
	text := f.doc
	switch f.status {
	case statusBuilt:
	case statusLater:
		text = "Not supported yet. " + text
	case statusRefused:
		text = "Not a key here: " + f.reason + "."
	}
	if f.unit != "" {
		text += " Unit: " + f.unit + "."
	}
	if f.absent != "" {
		text += " Default: " + f.absent + "."
	}
	if text != "" {
		s["description"] = text
	}
	switch d := f.def.(type) {
	case nil:
	case time.Duration:
		s["default"] = spanText(d.Milliseconds())
	default:
		s["default"] = d
	}
	if f.example != "" {
		s["examples"] = []json.RawMessage{json.RawMessage(f.example)}
	}
}

func stringSchema(s map[string]any, f *field, g *aggregate.Registry) {
	if len(f.enum) > 0 {
		var members []any
		for _, m := range append(slices.Clone(f.enum), slices.Sorted(maps.Keys(f.alias))...) {
			members = append(members, m)
			if n, err := strconv.Atoi(m); err == nil {
				s["type"], members = []string{"string", "integer"}, append(members, n)
			}
		}
		s["enum"] = members
		return
	}
	maps.Copy(s, f.format.schema())
	if f.format == formatFunction {
		s["anyOf"] = []any{
			map[string]any{"enum": append(g.Names(), percentileName)},
			map[string]any{"pattern": aggregate.PercentilePattern},
		}
	}
}

func mapSchema(s map[string]any, f *field, g *aggregate.Registry) {
	object := map[string]any{
		"type":                 "object",
		"propertyNames":        f.keys.schema(),
		"additionalProperties": schemaOf(f.elem, g),
		"minProperties":        f.bounds.min,
		"maxProperties":        f.bounds.max,
	}
	if f.alt == nil {
		maps.Copy(s, object)
		return
	}
	s["oneOf"] = []any{object, schemaOf(f.alt, g)}
}

// blockSchema writes the keys of a block. A block may be empty (null): that is one whose keys are commented out.
func blockSchema(s map[string]any, f *field, g *aggregate.Registry) {
	properties := map[string]any{}
	var once []any
	for i := range f.fields {
		k := &f.fields[i]
		if properties[k.name] = schemaOf(k, g); k.shared {
			properties[k.name] = map[string]any{"$ref": "#/$defs/" + k.name}
		}
		if k.kind != kindDuration {
			continue
		}
		spellings := k.spellings()
		for j, a := range spellings {
			for _, b := range spellings[:j] {
				once = append(once, map[string]any{"not": map[string]any{"required": []string{b.name, a.name}}})
			}
			if a.unit != 0 {
				properties[a.name] = numberOf(k, a)
			}
		}
	}
	s["type"] = []string{"object", "null"}
	if f.short != "" {
		s["type"], s["pattern"] = []string{"object", "null", "string"}, "^("+strings.Join(f.find(f.short).enum, "|")+")$"
	}
	s["properties"] = properties
	s["additionalProperties"] = false
	if len(once) > 0 {
		s["allOf"] = once
	}
}

// numberOf returns the schema of a duration as a number of units.
func numberOf(f *field, as spelling) map[string]any {
	n := map[string]any{"type": "number", "description": fmt.Sprintf("%s in %s: %s", f.name, unitName(as.unit), f.doc)}
	unit := as.unit.Milliseconds()
	if f.bounds != nil {
		n["minimum"], n["maximum"] = float64(f.bounds.min)/float64(unit), float64(f.bounds.max)/float64(unit)
	}
	if f.word != "" {
		n["type"] = []string{"number", "string"}
		n["pattern"] = "^" + f.word + "$"
	}
	if d, ok := f.def.(time.Duration); ok {
		n["default"] = float64(d.Milliseconds()) / float64(unit)
	}
	return n
}

// durationPattern is Go's syntax: signed sums of decimals with a unit.
func durationPattern(word string) string {
	const number = `^[-+]?(0|([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$`
	if word == "" {
		return number
	}
	return number + "|^" + word + "$"
}

// schema returns the part of a JSON Schema that says what check checks; of names of the user's records it says less.
func (f format) schema() map[string]any {
	switch f {
	case formatFree:
		return map[string]any{"minLength": 1}
	case formatName:
		return map[string]any{"pattern": `^[a-z0-9][a-z0-9_-]{0,63}$`}
	case formatWindowName:
		return map[string]any{"pattern": `^[a-z0-9][a-z0-9_.-]{0,63}$`}
	case formatValueName:
		return map[string]any{"pattern": `^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$`}
	case formatTopic:
		return map[string]any{"pattern": `^[A-Za-z0-9._-]{1,249}$`}
	case formatGroup:
		return map[string]any{"pattern": `^[A-Za-z0-9._:-]{1,249}$`}
	case formatServers:
		return map[string]any{"pattern": `^[^,:/]+:[0-9]{1,5}(,[^,:/]+:[0-9]{1,5})*$`}
	case formatPath:
		return map[string]any{"minLength": 1, "maxLength": 256}
	case formatKey, formatWhere, formatDerived:
		return map[string]any{"minLength": 1, "maxLength": expression.MaxSourceBytes}
	case formatFieldName:
		return map[string]any{"pattern": `^[A-Za-z_][A-Za-z0-9_]{0,63}$`}
	case formatColumn:
		return map[string]any{"pattern": `^[^.]{1,256}$`}
	case formatDelimiter:
		return map[string]any{"pattern": delimiterPattern}
	case formatFunction:
	}
	return nil
}
