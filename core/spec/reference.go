package spec

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/llm-auto-optimizer/tidemark/core/aggregate"
	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// Reference returns the page that describes the whole language, as Markdown: made from the table that Load reads files against,
// the registry of aggregate functions and the reasons of records. With functions of one's own (WithFunctions), they are on it too.
func Reference(with ...Option) string {
	r := &reference{}
	r.gather("", language())
	r.line("# Spec reference")
	r.line("")
	r.line("<!-- Made from the code by `go test ./core/spec -update`. Do not edit. -->")
	r.line("")
	r.text("Every key of a spec: what to compute over Kafka topics. It is strict: a key or a value that is not described here is " +
		"refused, with its line and what would be right. Every key may be left out unless it says that it is required. " +
		"`tidemark validate --config FILE` checks a spec, `--example` prints one to begin with, `--schema` the JSON Schema for " +
		"editors, `--reference` this page.")
	r.contents()
	r.formats()
	for _, b := range r.blocks {
		r.block(b)
	}
	r.functions(optionsOf(with).functions)
	r.reasons()
	return r.b.String()
}

const (
	titleTop       = "Top level"
	titleFormats   = "Formats"
	titleFunctions = "Aggregate functions"
	titleReasons   = "Record reasons"
)

// reference writes the page.
type reference struct {
	b      strings.Builder
	blocks []section
}

// section is a block of keys and where it is.
type section struct {
	path string // "" for the root
	key  *field // what the block is the value of, or a list of
	body *field // has the keys
}

func (s section) title() string {
	if s.path == "" {
		return titleTop
	}
	return s.path
}

// gather finds the blocks in the order of the page: each before those in it. A shared one is described at the top level alone.
func (r *reference) gather(path string, key *field) {
	body := key
	if key.kind == kindList {
		body, path = key.elem, path+"[]"
	}
	if body.kind != kindBlock || key.shared && strings.Contains(path, ".") {
		return
	}
	r.blocks = append(r.blocks, section{path, key, body})
	for i := range body.fields {
		if f := &body.fields[i]; f.status == statusBuilt {
			r.gather(joinPath(path, f.name), f)
		}
	}
}

func (r *reference) line(s string) {
	r.b.WriteString(s)
	r.b.WriteByte('\n')
}

func (r *reference) text(s string) { r.line(wrapped(s)) }

func (r *reference) contents() {
	r.line("\n## Contents\n")
	r.line("- " + link(titleFormats))
	for _, b := range r.blocks {
		r.line(strings.Repeat("  ", strings.Count(b.path, ".")) + "- " + link(b.title()))
	}
	r.line("- " + link(titleFunctions))
	r.line("- " + link(titleReasons))
}

func (r *reference) formats() {
	r.line("\n## " + titleFormats + "\n")
	for _, n := range notation() {
		r.text("- " + n)
	}
	for f := formatFree; f <= formatFunction; f++ {
		word, doc := f.words()
		r.text("- **" + word + "**: " + doc)
	}
}

// block writes a block: a table of its keys, then each of them, then those that are refused.
func (r *reference) block(s section) {
	r.line("\n## " + s.title() + "\n")
	r.text(about(s.key))
	if s.path != "" {
		r.line("\nExample: " + code(exampleOf(s.key)))
	}
	rows := [][]string{{"key", "type", "unit", "default", "bounds"}}
	var entries []*field
	for i := range s.body.fields {
		f := &s.body.fields[i]
		if f.status != statusBuilt {
			continue
		}
		rows = append(rows, []string{code(f.name), r.typeOf(s.path, f), f.unitText(), defaultOf(f), boundsOf(f)})
		if f.kind != kindBlock && (f.kind != kindList || f.elem.kind != kindBlock) {
			entries = append(entries, f)
		}
	}
	r.line("")
	r.table(rows)
	if of := inherited(s.body); of != "" {
		r.line("\nWhat the keys do: " + link(of) + ".")
		entries = nil
	}
	for _, f := range entries {
		r.line("\n### " + joinPath(s.path, f.name) + "\n")
		r.text(about(f))
		r.line("\nExample: " + code(exampleOf(f)))
	}
	r.refused(s)
}

// inherited returns the path of the block that all keys of this one have their values from where they are absent, else "".
func inherited(body *field) string {
	var of string
	for i := range body.fields {
		if body.fields[i].status != statusBuilt {
			continue
		}
		from, ok := strings.CutPrefix(body.fields[i].absent, absentLike)
		if !ok || of != "" && from != of {
			return ""
		}
		of = from
	}
	return of
}

// absentLike begins what is said of a key of a pipeline that has its value from a block of processor.
const absentLike = "that of "

// refused writes the keys that exist elsewhere, or will exist, with the reason.
func (r *reference) refused(s section) {
	keys := map[string][]string{}
	for i := range s.body.fields {
		f := &s.body.fields[i]
		switch f.status {
		case statusBuilt:
		case statusLater:
			reason := "not supported yet. " + strings.TrimSuffix(f.doc, ".")
			keys[reason] = append(keys[reason], code(f.name))
		case statusRefused:
			keys[f.reason] = append(keys[f.reason], code(f.name))
		}
	}
	if len(keys) == 0 {
		return
	}
	r.line("\n### Refused in " + s.title() + "\n")
	for _, reason := range slices.Sorted(maps.Keys(keys)) {
		r.text("- " + strings.Join(keys[reason], ", ") + ": " + reason + ".")
	}
}

func (r *reference) functions(g *aggregate.Registry) {
	r.line("\n## " + titleFunctions + "\n")
	r.text("Names in " + code("aggregates") + " and " + code("enabled") + ". A result of no value is " + code("null") +
		", a sum beyond a float64 is " + code("null") + " with " + code(`"overflow": true`) + ". Functions of one's own, in Go, are registered " +
		"with `aggregate.NewRegistry`.")
	r.line("")
	rows := [][]string{{"function", "takes", "error"}}
	var docs []string
	for _, e := range aggregate.Functions() {
		name := code(e.Name)
		if e.Kind == aggregate.Percentile {
			name = "`p0` to `p100`"
		}
		rows = append(rows, []string{name, takes(e.Scalars), e.Error})
		docs = append(docs, "- "+name+": "+e.Doc)
	}
	for _, name := range g.Names() {
		switch f, err := g.Parse(name); {
		case err != nil:
		case f.Kind == aggregate.UserDefined:
			rows = append(rows, []string{code(name), takes(f.Definition().Scalars), "its own"})
			docs = append(docs, "- "+code(name)+": "+f.Definition().Doc)
		case f.Kind.String() != name:
			docs = append(docs, "- "+code(name)+": another name of "+code(f.Kind.String())+".")
		}
	}
	r.table(rows)
	r.line("")
	for _, d := range append(docs, "- "+code(percentileName)+": stands for the percentiles of "+code("processor.aggregation.percentiles")+".") {
		r.text(d)
	}
}

func takes(scalars bool) string {
	if scalars {
		return "numbers, strings, booleans"
	}
	return "numbers"
}

func (r *reference) reasons() {
	r.line("\n## " + titleReasons + "\n")
	r.text("Why a record is in the late topic (" + code(string(event.ReasonLate)) + ") or, as `error_handling.policy` says, in the dead letter " +
		"topic (all others): the header `tidemark-reason`.")
	r.line("")
	for _, e := range event.Reasons() {
		r.text("- " + code(string(e.Reason)) + ": " + e.Doc)
	}
}

// table writes rows with padded columns, so that it can be read as it is. Columns in which only the head has text are left out.
func (r *reference) table(rows [][]string) {
	widths := make([]int, len(rows[0]))
	for i, row := range rows {
		for j, cell := range row {
			if i > 0 || slices.ContainsFunc(rows[1:], func(r []string) bool { return r[j] != "" }) {
				widths[j] = max(widths[j], len([]rune(cell)))
			}
		}
	}
	for i, row := range rows {
		var line, rule strings.Builder
		for j, cell := range row {
			if widths[j] > 0 {
				fmt.Fprintf(&line, "| %-*s ", widths[j], cell)
				rule.WriteString("| " + strings.Repeat("-", widths[j]) + " ")
			}
		}
		r.line(line.String() + "|")
		if i == 0 {
			r.line(rule.String() + "|")
		}
	}
}

// link returns a link to a section of the page.
func link(title string) string { return "[" + title + "](#" + anchor(title) + ")" }

// anchor returns the name that GitHub gives a heading.
func anchor(title string) string {
	var b strings.Builder
	for _, c := range strings.ToLower(title) {
		switch {
		case unicode.IsLetter(c), unicode.IsDigit(c), c == '-', c == '_':
			b.WriteRune(c)
		case c == ' ':
			b.WriteByte('-')
		}
	}
	return b.String()
}
