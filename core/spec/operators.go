package spec

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/llm-auto-optimizer/tidemark/core/expression"
)

// mostDerived is the most derived fields of a pipeline.
const mostDerived = 64

func keyField() field {
	part := func() *field { return &field{kind: kindString, format: formatKey, example: `"lower(model)"`} }
	elem := part()
	elem.alt = &field{kind: kindMap, keys: formatValueName, bounds: between(1, 1), elem: part(), doc: "A part with a name of its own.", example: `{"model": "lower(model)"}`}
	return field{
		name: "key", kind: kindList, unique: true, bounds: between(0, 16), elem: elem,
		absent: "the record's own key", example: `["service", {"model": "lower(model)"}]`,
		doc: "Fields that records are grouped by, as dotted paths, or expressions, which have their text as their name unless given one as NAME: EXPRESSION. []: one global group.",
	}
}

func whereField() field {
	return field{
		name: "where", kind: kindString, format: formatWhere, absent: "all records count", example: `"metric == \"latency_ms\""`,
		doc: "Which records count, as an expression that is true or false. The others are counted as filtered; their time still moves the watermark.",
	}
}

func mapField() field {
	return field{
		name: "map", kind: kindMap, keys: formatFieldName, bounds: between(0, mostDerived), elem: &field{kind: kindString, format: formatDerived},
		absent: "no derived fields", example: `{"cost_cents": "tokens * 0.002"}`,
		doc: "Derived fields, as expressions over the record and the fields derived before. Timestamp, key, values and where can use them; those that none of them uses are not computed.",
	}
}

// checkExpression returns what is wrong with an expression, and what would be right.
func checkExpression(s string, kind expression.Kind) (message, hint string) {
	_, err := expression.Compile(s, kind)
	if err == nil {
		return "", ""
	}
	p, ok := errors.AsType[*expression.CompileError](err)
	switch {
	case !ok:
		return err.Error(), ""
	case p.At == 0:
		return p.Message, p.Hint
	}
	return "does not compile: " + p.Error(), p.Hint
}

func checkFieldName(s string) (message, hint string) {
	const want = "1 to 64 letters, digits and _, beginning with a letter or _"
	switch {
	case s == "", len(s) > mostName, !only(s, letters+digits+"_"), strings.Contains(digits, s[:1]):
		return "is not a name of a field", want
	case !expression.IsName(s):
		return "is a word of the language of expressions", "another name"
	}
	return "", ""
}

// operators reads where, map and key.
func (l *loader) operators(p *Pipeline, at string, v *value) {
	where, derived, key := v.kid("where"), v.kid("map"), v.kid("key")
	l.written[at+".where"], l.written[at+".map"], l.written[at+".key"] = where, derived, key
	if !where.bad {
		p.Where = where.str
	}
	for i, item := range derived.items {
		if !item.bad {
			p.Map = append(p.Map, Derived{derived.names[i], item.str})
			l.written[at+".map."+derived.names[i]] = item
		}
	}
	p.Key.RecordKey = !key.set()
	named := false
	var names []string
	for _, item := range key.items {
		if item.bad {
			continue
		}
		name, field := "", item.str
		if len(item.names) == 1 {
			name, field, named = item.names[0], item.items[0].str, true
		}
		l.written[at+".key["+strconv.Itoa(len(names))+"]"] = item
		names, p.Key.Fields = append(names, name), append(p.Key.Fields, field)
	}
	if named {
		p.Key.Names = names
	}
}

// operatorRanges checks each expression by itself, as the checker does for a file.
func (a *audit) operatorRanges(p *Pipeline, at string, table *field) {
	if p.Where != "" {
		a.text(at+".where", table.find("where"), p.Where)
	}
	derived := table.find("map")
	if n := int64(len(p.Map)); n > derived.bounds.max {
		a.report(at+".map", "must have at most "+count(derived.bounds.max, "key"), strconv.FormatInt(n, 10), "")
	}
	for i, d := range p.Map {
		part := at + ".map." + d.Name
		if message, hint := derived.keys.check(d.Name); message != "" {
			a.report(part, message, shown(d.Name), hint)
		}
		if slices.ContainsFunc(p.Map[:i], func(b Derived) bool { return b.Name == d.Name }) {
			a.report(part, "is given twice", shown(d.Name), "remove one")
		}
		a.text(part, derived.elem, d.Expression)
	}
	if n := len(p.Key.Names); n > 0 && n > len(p.Key.Fields) {
		a.report(at+".key", "has more names than fields", strconv.Itoa(n), "")
	}
	for i, name := range p.Key.Names {
		if message, hint := formatValueName.check(name); name != "" && message != "" {
			a.report(at+".key["+strconv.Itoa(i)+"]", message, shown(name), hint)
		}
	}
}

// operators looks at what takes several expressions to see.
func (a *audit) operators(p *Pipeline, at string) {
	labels := p.Key.Labels()
	for i, label := range labels {
		if first := slices.Index(labels, label); first < i && p.Key.Names != nil {
			a.report(at+".key["+strconv.Itoa(i)+"]", "is the name of two parts of the key", shown(label), "name each part otherwise")
		}
	}
	p.fields(at, func(part, path string, derived []Derived) {
		name, rest, nested := strings.Cut(path, ".")
		if nested && slices.ContainsFunc(derived, func(d Derived) bool { return d.Name == name }) {
			a.report(part, "looks for "+rest+" in "+name+", which is derived: a string, a number, true or false", shown(path), "name the derived field otherwise")
		}
	})
}

// fields calls see for each field that a part of the pipeline names, with the fields that are derived before it.
func (p *Pipeline) fields(at string, see func(part, path string, derived []Derived)) {
	each := func(part, text string, compiled bool, derived []Derived) {
		for _, path := range pathsOf(text, compiled) {
			see(part, path, derived)
		}
	}
	for i, d := range p.Map {
		each(at+".map."+d.Name, d.Expression, true, p.Map[:i])
	}
	each(at+".where", p.Where, true, p.Map)
	for i, f := range p.Key.Fields {
		each(at+".key["+strconv.Itoa(i)+"]", f, isExpression(f), p.Map)
	}
	for _, v := range p.Values {
		each(at+".values."+v.Name, v.Path, false, p.Map)
	}
	each(at+".timestamp.field", p.Timestamp.Field, false, p.Map)
	for i := range p.Windows {
		each(at+".windows["+strconv.Itoa(i)+"].gap_field", p.Windows[i].GapField, false, p.Map)
	}
}

// IsExpression reports whether a part of a key is an expression, and not the path of a field.
func IsExpression(part string) bool { return isExpression(part) }

// pathsOf returns the fields that a path or an expression names.
func pathsOf(text string, compiled bool) []string {
	switch {
	case text == "":
		return nil
	case !compiled:
		return []string{text}
	}
	e, err := expression.Compile(text, expression.Scalar)
	if err != nil {
		return nil // reported where it is written
	}
	return e.Paths()
}

// Origins returns the fields of the record that a field of the pipeline or a part of its key is made of, as dotted paths: of a
// derived field those that it is derived from.
func (p *Pipeline) Origins(field string) []string {
	return p.origins(nil, pathsOf(field, isExpression(field)), len(p.Map))
}

// origins appends the origins of paths, which see the first n derived fields.
func (p *Pipeline) origins(dst, paths []string, n int) []string {
next:
	for _, path := range paths {
		for i := n - 1; i >= 0; i-- {
			if p.Map[i].Name == path {
				dst = p.origins(dst, pathsOf(p.Map[i].Expression, true), i)
				continue next
			}
		}
		if !slices.Contains(dst, path) {
			dst = append(dst, path)
		}
	}
	return dst
}

// inputs returns the fields of the record that the pipeline may read, each once.
func (p *Pipeline) inputs() []string {
	var all []string
	add := func(field string) { all = p.origins(all, pathsOf(field, isExpression(field)), len(p.Map)) }
	add(p.Timestamp.Field)
	all = p.origins(all, pathsOf(p.Where, true), len(p.Map))
	for _, f := range p.Key.Fields {
		add(f)
	}
	for _, v := range p.Values {
		add(v.Path)
	}
	for i := range p.Windows {
		add(p.Windows[i].GapField)
	}
	return all
}

// appendOperators appends the lines of where and map, and of the names of the key's parts where there are any.
func (p *Pipeline) appendOperators(dst []byte) []byte {
	if p.Key.Names != nil {
		dst = appendStrings(append(dst, "key names"...), p.Key.Names)
	}
	dst = appendInt(append(appendString(append(dst, "where"...), p.Where), "\nmap"...), int64(len(p.Map)))
	for _, d := range p.Map {
		dst = appendString(appendString(dst, d.Name), d.Expression)
	}
	return append(dst, '\n')
}
