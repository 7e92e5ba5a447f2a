package spec

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// JSON describes record values that are one JSON document: what holds where nothing is said.
func JSON() event.Format { return event.Format{} }

// CSV describes record values that are one row of RFC 4180 without a header, with commas between the fields: what they are called, in
// the order of the row. Change the Delimiter of the result for another one.
func CSV(columns ...string) event.Format {
	return event.Format{Kind: event.FormatCSV, Columns: columns, Delimiter: ','}
}

// Text describes record values that are one scalar, such as a number: the field value.
func Text() event.Format { return event.Format{Kind: event.FormatText} }

// JSONRegistry describes JSON behind the prefix that the serializers of a schema registry write, or already without it.
func JSONRegistry() event.Format { return event.Format{Kind: event.FormatJSONRegistry} }

const noSchemas = "%s is not read: the log has the schema's number alone, and a result must not depend on what a registry says; use JSON Schema, as json_registry, or publish JSON"

func inputField() field {
	return field{
		name: "input", kind: kindBlock, short: "format", fields: inputFields(), example: `{"format": "csv", "columns": ["time", "service", "value"]}`,
		doc: "How record values are written. A word alone is the format: input: text.",
	}
}

func inputFields() []field {
	var kinds []string
	for _, k := range event.FormatKinds() {
		kinds = append(kinds, k.String())
	}
	return []field{
		{
			name: "format", kind: kindString, def: event.FormatJSON.String(), enum: kinds,
			fixes: map[string]string{
				"avro": fmt.Sprintf(noSchemas, "Avro"), "protobuf": fmt.Sprintf(noSchemas, "Protobuf"),
				"tsv": `use {format: csv, columns: [...], delimiter: "\t"}`,
			},
			doc: "json: one document. csv: one row, without a header. text: one scalar, such as 12.5, which is the field value; the time of the record is its own, unless map derives one. json_registry: JSON behind the prefix of a schema registry (Confluent, AWS Glue), or already without it.",
		},
		{
			name: "columns", kind: kindList, unique: true, bounds: between(1, event.MaxColumns), elem: &field{kind: kindString, format: formatColumn}, with: "format: csv",
			absent: "required for csv", example: `["time", "service", "value"]`, doc: "What the fields of a row are called, in its order: all of them, since a row with more or fewer is undecodable.",
		},
		{
			name: "delimiter", kind: kindString, format: formatDelimiter, with: "format: csv, columns: [service, value]", def: ",", example: `";"`,
			doc: `What is between the fields of a row: "\t" is a tab.`,
		},
		{name: "header", kind: kindAny, status: statusRefused, reason: "a row is a record, and none is a header: remove this, set columns, and leave a header record out by where"},
	}
}

// ownInputField is that of a pipeline.
func ownInputField() field {
	f := inputField()
	f.absent, f.doc = "processor.input", "Overrides processor.input key by key."
	for i := range f.fields {
		if k := &f.fields[i]; k.status == statusBuilt {
			k.def, k.absent = nil, absentLike+"processor.input"
		}
	}
	f.fields[0].example = `"text"`
	return f
}

// input makes the format of a pipeline. Columns for all pipelines are none of one that has no rows.
func (l *loader) input(p *Pipeline, at string, own, shared *value) {
	format, columns, delimiter := pick(own.kid("format"), shared.kid("format")), own.kid("columns"), own.kid("delimiter")
	for _, k := range event.FormatKinds() {
		if k.String() == format.str {
			p.Input.Kind = k
		}
	}
	if p.Input.Kind == event.FormatCSV {
		if delimiter = pick(delimiter, shared.kid("delimiter")); !columns.set() && (shared.kid("columns").set() || !own.kid("format").set()) {
			columns = shared.kid("columns")
		}
	}
	p.Input.Columns = columns.strs()
	if rows := p.Input.Kind == event.FormatCSV; (rows || delimiter.set()) && delimiter.str != "" {
		p.Input.Delimiter = delimiter.str[0]
	}
	l.written[at+".input.format"], l.written[at+".input.columns"], l.written[at+".input.delimiter"] = format, columns, delimiter
}

// unusedColumns reports what is said about rows for all pipelines where none has any.
func (l *loader) unusedColumns(app *App, shared *value) {
	if shared.bad {
		return
	}
	for i := range app.Pipelines {
		if format := l.written[pipelinePath(i)+".input.format"]; app.Pipelines[i].Input.Kind == event.FormatCSV || format.bad {
			return
		}
	}
	for _, name := range []string{"columns", "delimiter"} {
		if v := shared.kid(name); v.set() {
			l.report(v, "is of rows, and no pipeline has input.format: csv", v.node.got(), "format: csv, or remove it")
		}
	}
}

// impliedTimestamp is where the event time is if nothing says so: in the field timestamp, else it is the record's own. Of records that
// have no such field, it is the record's own.
func (p *Pipeline) impliedTimestamp() Timestamp {
	t := defaultTimestamp()
	if !p.Input.Has(t.Field) && !slices.ContainsFunc(p.Map, func(d Derived) bool { return d.Name == t.Field }) {
		return Timestamp{Unit: UnitMillis, Record: true}
	}
	return t
}

// inputRanges checks each part of a format by itself, as the checker does for a file.
func (a *audit) inputRanges(f event.Format, at string, table *field) {
	a.text(at+".format", table.find("format"), f.Kind.String())
	a.list(at+".columns", table.find("columns"), f.Columns)
	if f.Kind == event.FormatCSV && !event.IsDelimiter(f.Separator()) {
		a.text(at+".delimiter", table.find("delimiter"), string(rune(f.Delimiter)))
	}
}

// input checks that records of the format can have what the pipeline looks for.
func (a *audit) input(p *Pipeline, at string) {
	f := p.Input
	rows := f.Kind == event.FormatCSV
	for _, part := range []struct {
		name string
		said bool
	}{{"columns", len(f.Columns) > 0}, {"delimiter", f.Delimiter != 0}} {
		if part.said && !rows && !a.bad(at+".input.format") {
			a.report(at+".input."+part.name, "is of rows, and the format is "+f.Kind.String(), a.got(at+".input."+part.name), "format: csv, or remove it")
		}
	}
	switch {
	case a.bad(at + ".input.format"), a.bad(at + ".input.columns"), !slices.Contains(event.FormatKinds(), f.Kind):
		return // what records have is not known
	case rows && len(f.Columns) == 0:
		a.report(at+".input.columns", "is required for csv", "", "for example columns: [time, service, latency], in the order of the row")
		return
	}
	p.fields(at, func(part, path string, derived []Derived) {
		name, _, _ := strings.Cut(path, ".")
		if f.Has(path) || slices.ContainsFunc(derived, func(d Derived) bool { return d.Name == name }) {
			return
		}
		if !rows {
			a.report(part, "is no field of "+f.Kind.String()+" input, which has one: value", shown(path), "write value")
			return
		}
		hint := meant(path, f.Columns)
		if hint == "" {
			hint = "the columns are " + shownList(f.Columns)
		}
		a.report(part, "is not a column of the input", shown(path), hint)
	})
}

// shownList shortens a list for a message.
func shownList(list []string) string {
	const most = 8
	if len(list) <= most {
		return strings.Join(list, ", ")
	}
	return strings.Join(list[:most], ", ") + " and " + strconv.Itoa(len(list)-most) + " more"
}

// bad reports whether a part of the App is written, and wrong.
func (a *audit) bad(part string) bool {
	v := a.written[part]
	return v != nil && v.bad
}

// got says what is written of a part, "" where nothing is.
func (a *audit) got(part string) string {
	if v := a.written[part]; v != nil && v.node != nil {
		return v.node.got()
	}
	return ""
}

// appendInput appends the line of the format, where it is not JSON.
func (p *Pipeline) appendInput(dst []byte) []byte {
	f := p.Input
	switch f.Kind {
	case event.FormatJSON:
		return dst
	case event.FormatCSV:
		return appendStrings(appendString(append(dst, "input csv"...), string(rune(f.Separator()))), f.Columns)
	case event.FormatText, event.FormatJSONRegistry:
	}
	return append(append(append(dst, "input "...), f.Kind.String()...), '\n')
}

// checkColumn accepts the name of a column: one part of a path.
func checkColumn(s string) (message, hint string) {
	if message, _ = checkPath(s); message != "" {
		return "is not a name of a column", "letters, digits, _ and - are; a row has no names itself, so any will do"
	}
	if strings.Contains(s, ".") {
		return "is not a name of a column: dots reach nested fields, of JSON alone", "write " + strings.ReplaceAll(s, ".", "_")
	}
	return "", ""
}

// delimiterPattern is what checkDelimiter accepts, for the schema.
const delimiterPattern = `^[\x01-\t\x0b\x0c\x0e-!#-*,/:-@\[-` + "`" + `{-\x7f]$`

func checkDelimiter(s string) (message, hint string) {
	if len(s) != 1 || !event.IsDelimiter(s[0]) {
		return "is not a delimiter", `one ASCII character that is no letter, digit, quote, line end, +, - or .; for example delimiter: ";", or "\t"`
	}
	return "", ""
}
