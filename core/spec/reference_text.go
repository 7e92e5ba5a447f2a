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
)

// notation is what is said once for all keys.
func notation() []string {
	return []string{
		"**duration**: a string in Go's syntax, a sum of numbers with the units `ms`, `s`, `m`, `h`: `size: 1m30s`. Or a number, " +
			"with the unit in the name of the key: `size_secs: 90`, `size_ms: 90000`; one of the three. 0 needs no unit. Event time is whole " +
			"milliseconds, and so is every duration; at most 100 years.",
		"**integer**, **number**, **true or false**: without quotes. **word**: one of those that the key lists.",
		"**event time** of a record: a number since 1970 in `timestamp.unit`, or an RFC 3339 string: `2025-01-01T12:34:56.789Z`.",
		"**field of a row, text** (`input.format: csv`, `text`): is what its text says: of a row in quotes or without, of a text as it stands. Written as a JSON number (`12.5`, `-3e4`) it " +
			"is a number; `true` and `false` are booleans; all else is a string, such as `007`, `+1`, `1,5`, `0x10`, and `NaN`, which is no finite value. " +
			"A field of nothing is null, one of `\"\"` an empty string. White space is part of a field; around a text it is left out. A row is one " +
			"record: with or without a line end, with as many fields as columns, UTF-8, quotes as in RFC 4180. Keys have the text as it is written.",
		"**schema registry** (`input.format: json_registry`): JSON is read behind the prefix of a registry (Confluent: byte 0 and 4 bytes, or byte 1 and " +
			"16; AWS Glue: byte 3, a byte for none or zlib, and 16; what is compressed unpacks to at most 8 MiB) and without one: an event source mapping with a registry hands records on without " +
			"it, while the log, from which a gap is repaired and everything can be computed again, has it. Both come to the same. Give the mapping " +
			"`EventRecordFormat: SOURCE`, which leaves the text as it is: with `JSON` a number may be written otherwise, which a grouping key shows. " +
			"Its `SchemaValidationConfigs` must not name `KEY` where records are grouped by their own key: keys are never changed here. Avro and " +
			"Protobuf are not read: of the log they are dead-lettered as `decode`, even if a mapping hands them on as JSON.",
		"**grouping key**, in results and as their record key: `NAME=VALUE` of each part of `key`, in that order, joined by `::`, such as " +
			"`service=a::model=b`. In names and values `%`, `:` and `=` are `%25`, `%3A`, `%3D`. Strings are raw, numbers as they are written in the " +
			"record, booleans `true` or `false`. Without a `key` it is the record's own key, `null` if it has none; of `key: []` it is empty.",
	}
}

// words returns what a string of this format is called, and how it looks.
func (f format) words() (word, doc string) {
	switch f {
	case formatFree:
		return "string", "one line of text, not empty."
	case formatName:
		return "name", "1 to 64 lower-case letters, digits, `-` and `_`; the first a letter or digit."
	case formatWindowName:
		return "window name", "the same, and `.`."
	case formatValueName:
		return "value name", "1 to 64 letters, digits, `_`, `-` and `.`; the first a letter, digit or `_`."
	case formatTopic:
		return "topic", "1 to 249 letters, digits, `.`, `_` and `-`: a Kafka topic that is not internal (`" + LedgerTopic + "`, `" + PanesTopic + "`, `__...`)."
	case formatGroup:
		return "group", "1 to 249 letters, digits, `.`, `_`, `-` and `:`: a consumer group."
	case formatServers:
		return "brokers", "`HOST:PORT`, separated by commas."
	case formatPath:
		return "path", "a field of a record: names joined by dots, which reach nested fields, such as `attributes.tokens`; at most 256 bytes."
	case formatKey:
		return "path or expression", "a path, or an expression with the same result as a derived field."
	case formatWhere:
		return "condition", "an expression that is true or false: `metric == \"latency_ms\" and (tokens ?? 0) > 0`. The language is that of [expr](https://expr-lang.org/docs/language-definition), less what would not survive a replay or has no bound."
	case formatDerived:
		return "expression", "one that is a string, a number, true or false: `tokens * 0.002`, `lower(model)`. A missing field is `nil`."
	case formatFieldName:
		return "field name", "1 to 64 letters, digits and `_`, the first no digit: a name that expressions can use."
	case formatColumn:
		return "column", "a name of a field of a row, as a path without dots."
	case formatDelimiter:
		return "delimiter", "one ASCII character that is no letter, digit, quote, line end, `+`, `-` or `.`."
	case formatFunction:
		return "function", "an aggregate function: see " + link(titleFunctions) + "."
	}
	return "", ""
}

// typeOf returns what a key takes; of a block, where it is described.
func (r *reference) typeOf(path string, f *field) string {
	if f.kind == kindBlock {
		at := joinPath(path, f.name)
		if f.shared {
			at = f.name
		}
		text := "block " + link(at)
		if f.short != "" {
			text += ", or " + typeText(f.find(f.short))
		}
		return text
	}
	if f.kind == kindList && f.elem.kind == kindBlock {
		return "list of " + link(joinPath(path, f.name)+"[]")
	}
	return typeText(f)
}

func typeText(f *field) string {
	var text string
	switch f.kind {
	case kindString:
		if text, _ = f.format.words(); len(f.enum) > 0 {
			text = "word"
		}
	case kindInt:
		text = "integer"
	case kindNumber:
		text = "number"
	case kindDuration:
		text = "duration"
		if f.word != "" {
			text += " or " + code(f.word)
		}
	case kindList:
		if text = "list of " + typeText(f.elem); f.elem.alt == nil {
			text += "s"
		}
	case kindMap:
		word, _ := f.keys.words()
		text = "mapping of " + word + " to " + typeText(f.elem)
	case kindBool, kindBlock, kindAny:
		text = f.kind.String()
	}
	if f.alt != nil {
		text += ", or " + typeText(f.alt)
	}
	return text
}

// unitText returns the unit of a number.
func (f *field) unitText() string {
	if f.unit == "" && f.elem != nil {
		return f.elem.unit
	}
	return f.unit
}

// defaultOf returns the default of a key for a table; one that takes words is said below it.
func defaultOf(f *field) string {
	switch {
	case f.def != nil:
		return code(flowOf(f.def))
	case len(f.absent) <= 32:
		return f.absent
	case strings.HasPrefix(f.absent, "required"):
		return "required"
	}
	return "see below"
}

// boundsOf returns the bounds of a number, a duration, a length; they are inclusive.
func boundsOf(f *field) string {
	own := func(f *field) string {
		switch {
		case f.within != "":
			return f.within
		case f.limits != nil:
			return fmt.Sprintf("%v to %v", f.limits.min, f.limits.max)
		case f.bounds == nil:
			return ""
		case f.kind == kindDuration:
			return spanText(f.bounds.min) + " to " + spanText(f.bounds.max)
		}
		return fmt.Sprintf("%d to %d", f.bounds.min, f.bounds.max)
	}
	if f.kind != kindList && f.kind != kindMap {
		return own(f)
	}
	text := own(f) + " elements"
	if each := own(f.elem); each != "" && f.elem.kind != kindList && f.elem.kind != kindMap {
		text += ", each " + each
	}
	return text
}

// about returns the sentences about a key.
func about(f *field) string {
	parts := []string{f.doc}
	say := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if f.elem != nil && f.elem.doc != "" {
		say("Each: %s", f.elem.doc)
	}
	if len(f.enum) > 0 {
		say("One of %s.", codes(f.enum))
	}
	for _, from := range slices.Sorted(maps.Keys(f.alias)) {
		say("%s is read as %s.", code(from), code(f.alias[from]))
	}
	if len(f.later) > 0 {
		say("Not supported yet: %s.", codes(f.later))
	}
	for _, value := range slices.Sorted(maps.Keys(f.fixes)) {
		say("%s is refused: %s.", code(value), f.fixes[value])
	}
	switch {
	case f.def != nil:
		say("Default: %s.", code(flowOf(f.def)))
	case strings.HasPrefix(f.absent, "required"):
		say("%s.", strings.ToUpper(f.absent[:1])+f.absent[1:])
	case f.absent != "":
		say("Without it: %s.", f.absent)
	}
	return strings.Join(parts, " ")
}

// exampleOf returns a key with a value, in YAML; with the keys beside it that the value needs, as a mapping.
func exampleOf(f *field) string {
	value := f.example
	if value == "" {
		value = "null" // a test requires one of each key that has no default
		if f.def != nil {
			value = jsonOf(f.def)
		}
	}
	text := f.name + ": " + flow(value)
	if f.with != "" {
		return "{" + f.with + ", " + text + "}"
	}
	return text
}

func jsonOf(def any) string {
	if d, ok := def.(time.Duration); ok {
		def = spanText(d.Milliseconds())
	}
	text, err := json.Marshal(def)
	if err != nil {
		panic(fmt.Sprintf("spec: default %v: %v", def, err)) // strings, numbers, booleans and lists of them
	}
	return string(text)
}

func flowOf(def any) string { return flow(jsonOf(def)) }

// flow rewrites JSON of the table as YAML in flow style, in its order and without quotes that are not needed.
func flow(text string) string {
	dec := json.NewDecoder(bytes.NewReader([]byte(text)))
	dec.UseNumber()
	var b strings.Builder
	flowValue(&b, dec)
	return b.String()
}

func flowValue(b *strings.Builder, dec *json.Decoder) {
	token, err := dec.Token()
	if err != nil {
		panic(fmt.Sprintf("spec: example of the table: %v", err)) // a test reads each of them
	}
	switch v := token.(type) {
	case json.Delim:
		b.WriteRune(rune(v))
		for first := true; dec.More(); first = false {
			if !first {
				b.WriteString(", ")
			}
			flowValue(b, dec)
			if v == '{' {
				b.WriteString(": ")
				flowValue(b, dec)
			}
		}
		end, _ := dec.Token()
		fmt.Fprint(b, end)
	case string:
		b.WriteString(unquoted(v))
	case nil:
		b.WriteString("null")
	default:
		fmt.Fprint(b, v)
	}
}

// unquoted writes a string without quotes where YAML then reads the same.
func unquoted(s string) string {
	_, err := strconv.ParseFloat(s, 64)
	word := s != "" && err != nil && !slices.Contains([]string{"true", "false", "null", "-"}, s)
	for i := range len(s) {
		word = word && isWordByte(s[i]) && s[i] != '%'
	}
	switch {
	case word:
		return s
	case strings.Contains(s, `"`) && !strings.Contains(s, "'"):
		return "'" + s + "'"
	}
	return strconv.Quote(s)
}

func code(s string) string { return "`" + s + "`" }

func codes(list []string) string {
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = code(s)
	}
	return strings.Join(quoted, ", ")
}

// wrapped breaks a paragraph into lines of at most 120 characters where it can, so that it can be read in a terminal. No line begins with
// what Markdown takes for the beginning of something else.
func wrapped(s string) string {
	const most = 120
	var b strings.Builder
	indent, n := "", 0
	if strings.HasPrefix(s, "- ") {
		indent = "  "
	}
	for i, word := range unbroken(s) {
		size := len([]rune(word))
		switch {
		case i == 0:
		case n+1+size > most && !strings.ContainsAny(word[:1], "-+*#>=|") && !(word[0] >= '0' && word[0] <= '9'):
			b.WriteString("\n" + indent)
			n = len(indent)
		default:
			b.WriteByte(' ')
			n++
		}
		b.WriteString(word)
		n += size
	}
	return b.String()
}

// unbroken returns the words of a paragraph; code in backticks is one.
func unbroken(s string) []string {
	var words []string
	open := false
	for word := range strings.FieldsSeq(s) {
		if open {
			words[len(words)-1] += " " + word
		} else {
			words = append(words, word)
		}
		open = open != (strings.Count(word, "`")%2 == 1)
	}
	return words
}
