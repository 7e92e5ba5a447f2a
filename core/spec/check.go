package spec

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/window"
)

// value is one field of a file, checked against the table. Where the file does not have it, it is the default.
type value struct {
	place           // of what was written; of the block around it where nothing was
	field   *field  // never nil
	node    *node   // nil: absent
	path    string  // as written: "processor.windows.tumbling.size_secs"
	bad     bool    // a problem was reported in it; it then has its default
	strange bool    // blocks: it has a key that is not known, which may be a misspelt one that is missing
	str     string  // strings
	num     int64   // integers; durations in milliseconds
	float   float64 // numbers
	flag    bool
	items   []*value // lists
	names   []string // maps: the keys, parallel to items
	kids    []*value // blocks: parallel to field.fields
}

// set reports whether the file has the field.
func (v *value) set() bool { return v.node != nil }

// kid returns the value of a field of a block. The path is in the table.
func (v *value) kid(names ...string) *value {
	for _, name := range names {
		at := slices.IndexFunc(v.field.fields, func(f field) bool { return f.name == name })
		v = v.kids[at]
	}
	return v
}

// strs returns the strings of a list, without those that a problem was reported for.
func (v *value) strs() []string {
	var out []string
	for _, item := range v.items {
		if !item.bad {
			out = append(out, item.str)
		}
	}
	return out
}

// checker reads a tree against the table and gathers what is wrong.
type checker struct {
	file     string
	problems []*Problem
}

func (c *checker) report(v *value, message, got, hint string) {
	v.bad = true
	c.problems = append(c.problems, &Problem{File: c.file, Line: v.line, Column: v.column, Path: v.path, Value: got, Message: message, Hint: hint})
}

// later reports what is part of the language and not built.
func (c *checker) later(v *value, key, hint string) {
	v.bad = true
	c.problems = append(c.problems, &Problem{
		File: c.file, Line: v.line, Column: v.column, Path: v.path, Hint: hint,
		Message: fmt.Sprintf("not supported yet: %s (line %d)", key, v.line), unsupported: true,
	})
}

// read checks one value. A nil node is an absent field.
func (c *checker) read(f *field, n *node, path string, around place) *value {
	v := &value{place: around, field: f, node: n, path: path}
	if n == nil {
		v.defaults()
		if f.kind == kindBlock {
			c.readBlock(v)
		}
		return v
	}
	v.place = n.place
	switch {
	case f.kind == kindAny:
		return v
	case f.kind == kindBlock && n.kind == nodeNull:
		v.node = nil // a block whose keys are all commented out
		c.readBlock(v)
		return v
	case n.kind == nodeNull:
		c.report(v, "has no value", "", c.want(f, "leave the key out for its default"))
	case c.fixed(v):
	default:
		c.readKind(v)
	}
	if v.bad && f.kind != kindBlock && f.kind != kindList && f.kind != kindMap {
		v.defaults()
	}
	if f.kind == kindBlock && v.kids == nil {
		c.absentKids(v)
	}
	return v
}

func (c *checker) readKind(v *value) {
	switch v.field.kind {
	case kindString:
		c.readString(v)
	case kindInt, kindNumber:
		c.readNumber(v)
	case kindBool:
		if v.flag = v.node.flag; v.node.kind != nodeBool {
			c.mismatch(v, "")
		}
	case kindDuration:
		c.readDuration(v, spelling{v.field.name, 0})
	case kindList:
		c.readList(v)
	case kindMap:
		c.readMap(v)
	case kindBlock:
		c.readBlock(v)
	case kindAny:
	}
}

func (v *value) defaults() {
	switch d := v.field.def.(type) {
	case string:
		v.str = d
	case int:
		v.num, v.float = int64(d), float64(d)
	case float64:
		v.float = d
	case bool:
		v.flag = d
	case time.Duration:
		v.num = d.Milliseconds()
	case []string:
		for _, s := range d {
			v.items = append(v.items, &value{place: v.place, field: v.field.elem, path: v.path, str: s})
		}
	case []float64:
		for _, n := range d {
			v.items = append(v.items, &value{place: v.place, field: v.field.elem, path: v.path, float: n})
		}
	}
}

// fixed reports a value that people expect and that is refused for a reason of its own.
func (c *checker) fixed(v *value) bool {
	why, ok := v.field.fixes[v.node.text]
	if ok {
		c.report(v, why, v.node.got(), "")
	}
	return ok
}

func (c *checker) mismatch(v *value, hint string) {
	if hint == "" {
		hint = c.want(v.field, "")
	}
	c.report(v, "must be "+v.field.kind.String(), v.node.got(), hint)
}

// want says what would be right for a field.
func (c *checker) want(f *field, also string) string {
	var parts []string
	if len(f.enum) > 0 {
		parts = append(parts, "one of "+strings.Join(f.enum, ", "))
	}
	if f.example != "" {
		name := f.name
		if name != "" {
			name += ": "
		}
		parts = append(parts, "for example "+name+f.example)
	}
	if also != "" {
		parts = append(parts, also)
	}
	return strings.Join(parts, "; ")
}

func (c *checker) readString(v *value) {
	f, n := v.field, v.node
	if meant, ok := f.alias[n.text]; ok && (n.kind == nodeString || n.kind == nodeInt) {
		v.str = meant
		return
	}
	if n.kind == nodeMap && f.alt != nil {
		v.field = f.alt
		c.readMap(v)
		for i, item := range v.items {
			v.str += v.names[i] + ": " + item.str // to tell elements of a list apart
		}
		return
	}
	if n.kind != nodeString {
		hint := c.want(f, "")
		if len(f.enum) > 0 && n.kind != nodeList && n.kind != nodeMap {
			c.report(v, "must be "+oneOf(f.enum), n.got(), "")
			return
		}
		if n.kind == nodeInt || n.kind == nodeFloat || n.kind == nodeBool {
			hint = c.want(f, fmt.Sprintf("a string of these characters is written %q", n.text))
		}
		c.mismatch(v, hint)
		return
	}
	v.str = n.text
	switch {
	case slices.Contains(f.later, n.text):
		key := f.name + ": " + n.text
		if f.name == "" {
			key = n.text
		}
		c.later(v, key, c.want(f, ""))
	case len(f.enum) > 0:
		if !slices.Contains(f.enum, n.text) {
			c.report(v, "must be "+oneOf(f.enum), n.got(), meant(n.text, f.enum))
		}
	default:
		if message, hint := f.format.check(n.text); message != "" {
			c.report(v, message, n.got(), hint)
		}
	}
}

func oneOf(members []string) string {
	if len(members) == 1 {
		return members[0]
	}
	return strings.Join(members[:len(members)-1], ", ") + " or " + members[len(members)-1]
}

// otherWords are what other systems call members of the language.
func otherWords() map[string]string {
	return map[string]string{
		"hopping": "sliding", "hop": "sliding", "fixed": "tumbling", "cumulative": "cumulate", "unbounded": "global",
		"ignore": "skip", "drop": "skip", "dlq": "dead_letter", "stop": "fail", "sqlite": "bolt", "file": "bolt", "valkey": "redis",
		"monotonous": "bounded_out_of_orderness", "delta": "discarding", "smallest": "earliest", "largest": "latest",
		"delimited": "csv", "cvs": "csv", "plain": "text", "number": "text", "string": "text", "raw": "text", "schema_registry": "json_registry", "json_sr": "json_registry", "json_schema": "json_registry",
		"milliseconds": "ms", "seconds": "s", "microseconds": "us", "nanoseconds": "ns",
	}
}

func meant(text string, members []string) string {
	if word := otherWords()[strings.ToLower(text)]; slices.Contains(members, word) {
		return "did you mean " + word + "?"
	}
	if near := nearest(strings.ToLower(text), members); near != "" {
		return "did you mean " + near + "?"
	}
	return ""
}

func (c *checker) readNumber(v *value) {
	f, n := v.field, v.node
	if n.kind != nodeInt && (f.kind == kindInt || n.kind != nodeFloat) {
		hint := c.want(f, "")
		if _, err := strconv.ParseFloat(n.text, 64); err == nil && n.kind == nodeString {
			hint = "without quotes or underscores, not too large"
		}
		if f.bounds != nil && hint == "" {
			hint = fmt.Sprintf("%d to %d", f.bounds.min, f.bounds.max)
		}
		c.mismatch(v, hint)
		return
	}
	v.num, v.float = n.integer, n.float
	if b := f.bounds; b != nil && !(n.float >= float64(b.min) && n.float <= float64(b.max)) {
		c.report(v, fmt.Sprintf("must be from %d to %d", b.min, b.max), n.got(), c.defaultHint(f))
	}
	if l := f.limits; l != nil && !(n.float >= l.min && n.float <= l.max) {
		c.report(v, fmt.Sprintf("must be from %v to %v", l.min, l.max), n.got(), c.defaultHint(f))
	}
}

func (c *checker) defaultHint(f *field) string {
	switch d := f.def.(type) {
	case int, float64:
		return fmt.Sprintf("the default is %v", d)
	case time.Duration:
		return "the default is " + spanText(d.Milliseconds())
	}
	return c.want(f, "")
}

// readDuration reads Go's syntax, or a number of units.
func (c *checker) readDuration(v *value, as spelling) {
	f, n := v.field, v.node
	switch {
	case n.text == f.word && f.word != "":
		v.num = f.wordMs
		return
	case as.unit != 0:
		if n.kind != nodeInt && n.kind != nodeFloat {
			c.report(v, "must be a number of "+unitName(as.unit), n.got(), fmt.Sprintf("%s: 60, or %s: 1m in Go's syntax", as.name, f.name))
			return
		}
		ms := n.float * float64(as.unit.Milliseconds())
		if ms != math.Trunc(ms) {
			c.report(v, notWhole, n.got(), fmt.Sprintf("%s_ms: %.0f", f.name, math.Ceil(ms)))
			return
		}
		if math.Abs(ms) > float64(window.MaxSpan) {
			c.report(v, "must be at most 100 years", n.got(), c.defaultHint(f))
			return
		}
		v.num = int64(ms)
	case n.kind == nodeInt && n.integer == 0:
	case n.kind == nodeInt || n.kind == nodeFloat:
		c.report(v, "needs a unit", n.got(), fmt.Sprintf("%s: %ss, or %s_secs: %s", f.name, n.text, f.name, n.text))
		return
	default:
		d, err := time.ParseDuration(n.text)
		if n.kind != nodeString || err != nil {
			hint := fmt.Sprintf("Go's syntax such as 1m30s, or a number under %s_secs or %s_ms", f.name, f.name)
			if f.word != "" {
				hint += ", or " + f.word
			}
			c.report(v, "must be a duration", n.got(), hint)
			return
		}
		if d%time.Millisecond != 0 {
			c.report(v, notWhole, n.got(), fmt.Sprintf("%s: %s, or 1ms more", f.name, spanText(d.Milliseconds())))
			return
		}
		v.num = d.Milliseconds()
	}
	least, most := -int64(window.MaxSpan), int64(window.MaxSpan)
	if f.bounds != nil {
		least, most = f.bounds.min, f.bounds.max
	}
	switch {
	case v.num < least:
		c.report(v, "must be at least "+spanText(least), n.got(), c.wordHint(f))
	case v.num > most:
		c.report(v, "must be at most "+spanText(most), n.got(), c.wordHint(f))
	}
}

func (c *checker) wordHint(f *field) string {
	hint := c.defaultHint(f)
	if f.word == "" {
		return hint
	}
	return strings.TrimPrefix(hint+"; "+f.word+" for none", "; ")
}

func unitName(unit time.Duration) string {
	if unit == time.Second {
		return "seconds"
	}
	return "milliseconds"
}

// spanText formats milliseconds as a Go duration without parts that are 0: 5m, 1h30m.
func spanText(ms int64) string {
	s := (time.Duration(ms) * time.Millisecond).String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}
