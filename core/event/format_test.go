package event

import (
	"bytes"
	"compress/zlib"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func newDecoder(tb testing.TB, f Format, paths ...string) Decoder {
	tb.Helper()
	x, err := NewDecoder(f, paths)
	if err != nil {
		tb.Fatal(err)
	}
	return x
}

// read returns the fields of a value as text, or the error's.
func read(x Decoder, value string) string {
	fields, err := x.Extract([]byte(value), nil)
	if err != nil {
		for _, f := range fields {
			if f.Kind != FieldAbsent || f.Raw != nil {
				return "an error and fields"
			}
		}
		if !errors.Is(err, ErrDecode) {
			return "another error: " + err.Error()
		}
		return strings.TrimPrefix(err.Error(), ErrDecode.Error()+": ")
	}
	var text []string
	for _, f := range fields {
		text = append(text, strings.TrimSuffix(fmt.Sprintf("%v %s", f.Kind, f.Raw), " "))
	}
	return strings.Join(text, " | ")
}

func TestRowsAreReadByTheirColumns(t *testing.T) {
	three := Format{Kind: FormatCSV, Columns: []string{"time", "service", "latency"}}
	f := func(value, want string) {
		t.Helper()
		if got := read(newDecoder(t, three, "latency", "time", "service"), value); got != want {
			t.Errorf("%q: got %q, want %q", value, got, want)
		}
	}
	const plain = "number 12.5 | number 1767225600000 | string chat"
	f("1767225600000,chat,12.5", plain)
	f("1767225600000,chat,12.5\n", plain)
	f("1767225600000,chat,12.5\r\n", plain)
	f("1767225600000,chat,12.5\r", plain)
	f(`"1767225600000","chat","12.5"`, plain)
	f("\"1767225600000\",\"chat\",\"12.5\"\r\n", plain)
	f(",,", "null | null | null")
	f(",\"\",\n", "null | null | string")
	f(`2026-01-01T00:00:05Z,"a,b",-1e-3`, "number -1e-3 | string 2026-01-01T00:00:05Z | string a,b")
	f(`1,"say ""hi"" to ""you""",2`, `number 2 | number 1 | string say "hi" to "you"`)
	f(`1,"""",2`, `number 2 | number 1 | string "`)
	f("1,\"two\r\nlines\",2\n", "number 2 | number 1 | string two\r\nlines")
	f(`1, chat ,2`, "number 2 | number 1 | string  chat")
	f(`1,chat, 2`, "string  2 | number 1 | string chat")
	f(`true,"false",null`, "string null | boolean true | boolean false")
	f(`007,+1,0x10`, "string 0x10 | string 007 | string +1")
	f(`1.,.5,1e`, "string 1e | string 1. | string .5")
	f(`NaN,-Infinity,"1,5"`, "string 1,5 | string NaN | string -Infinity")
	f("1,d\xc3\xa9j\xc3\xa0\x00,2", "number 2 | number 1 | string d\xc3\xa9j\xc3\xa0\x00")

	f("", "byte 0: the row ends after 1 of 3 columns")
	f("1,2", "byte 3: the row ends after 2 of 3 columns")
	f("1,2\n3", "byte 3: the row ends after 2 of 3 columns")
	f("1,2,3,4", "byte 6: a field more than the 3 columns")
	f("1,2,3,", "byte 6: a field more than the 3 columns")
	f("1,2,3\n4,5,6", "byte 6: a second row")
	f("1,2,3\r4,5,6", "byte 6: a second row")
	f("1,2,3\n\n", "byte 6: a second row")
	f("\n1,2,3", "byte 0: the row ends after 1 of 3 columns")
	f(`1,"2,3`, "byte 2: a quote that is not closed")
	f(`1,"2"",3`, "byte 2: a quote that is not closed")
	f(`1,2"3,4`, "byte 3: a quote in a field that does not begin with one")
	f(`1,"2" ,3`, "byte 5: text after a closing quote")
	f(`1,"2"3,4`, "byte 5: text after a closing quote")
	f("1,2,\xff", "byte 4: invalid UTF-8")
	f("1,\xc3\xa9\xe9,3", "byte 4: invalid UTF-8")
}

func TestRowsHaveOneColumnOrMany(t *testing.T) {
	one := newDecoder(t, Format{Kind: FormatCSV, Columns: []string{"v"}}, "v", "v")
	for value, want := range map[string]string{"": "null | null", "\n": "null | null", `""`: "string | string", "7\r\n": "number 7 | number 7", ",": "byte 1: a field more than the 1 columns"} {
		if got := read(one, value); got != want {
			t.Errorf("%q: got %q, want %q", value, got, want)
		}
	}
	columns := make([]string, MaxColumns)
	for i := range columns {
		columns[i] = fmt.Sprintf("c%d", i)
	}
	wide := newDecoder(t, Format{Kind: FormatCSV, Columns: columns, Delimiter: '\t'}, "c1023", "c0")
	if got := read(wide, "a"+strings.Repeat("\t", MaxColumns-1)+"z"); got != "string z | string a" {
		t.Errorf("got %q", got)
	}
	none := newDecoder(t, Format{Kind: FormatCSV, Columns: []string{"a", "b"}})
	if got := read(none, "1,2"); got != "" {
		t.Errorf("no paths: got %q", got)
	}
	if got := read(none, "1"); !strings.Contains(got, "the row ends") {
		t.Errorf("no paths, a row that is too short: got %q", got)
	}
}

func TestRowsHaveADelimiterOfTheirOwn(t *testing.T) {
	for _, d := range []byte{';', '\t', '|', ' ', ':', '_', 0x01, 0x1f} {
		x := newDecoder(t, Format{Kind: FormatCSV, Columns: []string{"a", "b", "c"}, Delimiter: d}, "a", "b", "c")
		got := read(x, strings.Join([]string{"1,5", `"x` + string(d) + `y"`, "2"}, string(d)))
		if want := "string 1,5 | string x" + string(d) + "y | number 2"; got != want {
			t.Errorf("%q: got %q, want %q", d, got, want)
		}
	}
	for c := range 256 {
		_, err := NewDecoder(Format{Kind: FormatCSV, Columns: []string{"a"}, Delimiter: byte(c)}, nil)
		if legal := c == 0 || IsDelimiter(byte(c)); legal != (err == nil) || err != nil && !errors.Is(err, ErrFormat) {
			t.Errorf("delimiter %q: %v", byte(c), err)
		}
	}
}

func TestTextIsOneScalar(t *testing.T) {
	f := func(value, want string) {
		t.Helper()
		if got := read(newDecoder(t, Format{Kind: FormatText}, "value", "value"), value); got != want {
			t.Errorf("%q: got %q, want %q", value, got, want)
		}
	}
	twice := func(s string) string { return s + " | " + s }
	f("12.5", twice("number 12.5"))
	f(" \t-3e4\v\f\r\n", twice("number -3e4"))
	f("", twice("null"))
	f(" \n", twice("null"))
	f("true", twice("boolean true"))
	f("null", twice("string null"))
	f("NaN", twice("string NaN"))
	f("007", twice("string 007"))
	f("12 13", twice("string 12 13"))
	f(`"12"`, twice(`string "12"`))
	f(`{"value":1}`, twice(`string {"value":1}`))
	f("\u00a012", twice("string \u00a012"))
	f("12\xff", "byte 2: invalid UTF-8, found 0xff")
}

// packed compresses as the serializer of AWS Glue does.
func packed(tb testing.TB, text string) string {
	tb.Helper()
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	_, err := io.WriteString(w, text)
	if err := errors.Join(err, w.Close()); err != nil {
		tb.Fatal(err)
	}
	return b.String()
}

const (
	confluent = "\x00\x00\x00\x04\xd2"
	guid      = "\x12\x34\x56\x78\x9a\xbc\xde\xf0\x12\x34\x56\x78\x9a\xbc\xde\xf0"
)

func TestJSONIsReadBehindThePrefixOfASchemaRegistryAndWithout(t *testing.T) {
	x := newDecoder(t, Format{Kind: FormatJSONRegistry}, "service", "value")
	f := func(value, want string) {
		t.Helper()
		if got := read(x, value); got != want {
			t.Errorf("%q: got %q, want %q", value, got, want)
		}
	}
	const doc = ` {"service": "ch\u0061t", "value": 1.50}`
	const want = "string chat | number 1.50"
	f(doc, want)
	f(confluent+doc, want)
	f("\x01"+guid+doc, want)
	f("\x03\x00"+guid+doc, want)
	f("\x03\x05"+guid+packed(t, doc), want)
	f("\x03\x05"+guid+packed(t, doc), want) // a second stream of the same decoder
	f(confluent+"12", "absent | absent")

	const none = ": only JSON is read, not Avro or Protobuf"
	f("", "byte 0: unexpected end")
	f("\x02abc", "byte 0: want a value, found '\\x02'")
	f("\x00\x00\x00", "byte 3: ends inside of the prefix of a schema registry, which has 5 bytes")
	f("\x03", "byte 1: ends inside of the prefix of a schema registry, which has 18 bytes")
	f("\x03\x05"+guid[:15], "byte 17: ends inside of the prefix of a schema registry, which has 18 bytes")
	f(confluent, "behind the prefix of schema 1234: byte 0: unexpected end"+none)
	f(confluent+"\x08chat\x00", "behind the prefix of schema 1234: byte 0: want a value, found '\\b'"+none)
	f(confluent+`{"value":1,"value":2}`, "behind the prefix of schema 1234: byte 11: key occurs twice in one object")
	f("\x03\x00"+guid+"\x02", "behind the prefix of schema 12345678-9abc-def0-1234-56789abcdef0: byte 0: want a value, found '\\x02'"+none)
	f("\x03\x07"+guid+doc, "byte 1: compression 0x07 of a schema registry is not known")
	const zlibbed = "behind the prefix of a schema registry: "
	good := packed(t, doc)
	f("\x03\x05"+guid+doc, zlibbed+errPacked.Error())
	f("\x03\x05"+guid, zlibbed+errPacked.Error())
	f("\x03\x05"+guid+good+"x", zlibbed+errPacked.Error())
	f("\x03\x05"+guid+good[:len(good)-1]+"x", zlibbed+errUnpackedSum.Error())
	f("\x03\x05"+guid+good[:len(good)-6], zlibbed+errPacked.Error()+": unexpected EOF")
	f("\x03\x05"+guid+packed(t, strings.Repeat(" ", MaxUnpacked-1)+"1"), "absent | absent")
	f("\x03\x05"+guid+packed(t, strings.Repeat(" ", MaxUnpacked)+"1"), zlibbed+"more than 8388608 bytes unpacked")
	f("\x03\x05"+guid+good, want) // it is not harmed by what came before
}

func TestNewDecoderRefusesWhatNoRecordHas(t *testing.T) {
	row := Format{Kind: FormatCSV, Columns: []string{"a", "b"}}
	f := func(name string, format Format, want error, paths ...string) {
		t.Helper()
		if x, err := NewDecoder(format, paths); x != nil || !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", name, err, want)
		}
	}
	f("path of no column", row, ErrPath, "a", "c")
	f("path below a column", row, ErrPath, "a.b")
	f("other field of text", Format{Kind: FormatText}, ErrPath, "value", "val")
	f("empty path", Format{Kind: FormatJSONRegistry}, ErrPath, "a..b")
	f("too many paths", row, ErrPath, make([]string, MaxPaths+1)...)
	f("no columns", Format{Kind: FormatCSV}, ErrFormat)
	f("too many columns", Format{Kind: FormatCSV, Columns: make([]string, MaxColumns+1)}, ErrFormat)
	f("a column twice", Format{Kind: FormatCSV, Columns: []string{"a", "b", "a"}}, ErrFormat)
	f("columns of text", Format{Kind: FormatText, Columns: []string{"a"}}, ErrFormat)
	f("unknown kind", Format{Kind: 99}, ErrFormat)
}

func TestFormatHas(t *testing.T) {
	row := Format{Kind: FormatCSV, Columns: []string{"a", "b"}}
	for _, c := range []struct {
		f    Format
		path string
		want bool
	}{
		{Format{}, "a.b", true},
		{Format{Kind: FormatJSONRegistry}, "a", true},
		{row, "b", true},
		{row, "c", false},
		{row, "a.b", false},
		{Format{Kind: FormatText}, "value", true},
		{Format{Kind: FormatText}, "timestamp", false},
		{Format{Kind: 99}, "a", false},
	} {
		if got := c.f.Has(c.path); got != c.want {
			t.Errorf("%v has %s: %t", c.f.Kind, c.path, got)
		}
	}
}

// Time is in a row as number or as text, and in text only as what it is.
func TestTimestampsOfRowsAndTexts(t *testing.T) {
	const want = Time(1767225605250) // 2026-01-01T00:00:05.250Z
	row := newDecoder(t, Format{Kind: FormatCSV, Columns: []string{"time", "v"}}, "time")
	text := newDecoder(t, Format{Kind: FormatText}, TextField)
	for _, c := range []struct{ written, unit string }{
		{"1767225605.25", "s"},
		{"1767225605250", "ms"},
		{"1767225605250.9", "ms"},
		{"1767225605250999", "us"},
		{"1767225605250999999", "ns"},
		{"1.76722560525e9", "s"},
		{"2026-01-01T00:00:05.250Z", "s"},
		{"2026-01-01T00:00:05.25Z", "ns"},
		{"2026-01-01T01:00:05.250999+01:00", "ms"},
	} {
		for name, value := range map[string]string{"row": c.written + ",1", "quoted": `"` + c.written + `",1`, "text": c.written} {
			x := row
			if name == "text" {
				x = text
			}
			fields, err := x.Extract([]byte(value), nil)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := ParseTimestamp(fields[0], c.unit); got != want || err != nil {
				t.Errorf("%s %q in %s: got %d, %v", name, value, c.unit, got, err)
			}
		}
	}
	for _, bad := range []string{"2026-01-01", "01767225605250", "5s", "true"} {
		fields, err := row.Extract([]byte(bad+",1"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParseTimestamp(fields[0], "ms"); !errors.Is(err, ErrTimestamp) {
			t.Errorf("%q: got %d, %v", bad, got, err)
		}
	}
}

// What a key is made of is the text as it is written: 007 and 7 are two groups, and so are 1.0 and 1.
func TestKeysOfRowsAreTheTextAsWritten(t *testing.T) {
	x := newDecoder(t, Format{Kind: FormatCSV, Columns: []string{"a", "b", "c"}}, "a", "b", "c")
	fields, err := x.Extract([]byte(`007,"1.0",true`), nil)
	if err != nil {
		t.Fatal(err)
	}
	if key, bad := AppendKey(nil, []string{"a", "b", "c"}, fields); string(key) != "a=007::b=1.0::c=true" || bad >= 0 {
		t.Errorf("got %s, %d", key, bad)
	}
	if fields, err = x.Extract([]byte(`7,"",`), fields); err != nil {
		t.Fatal(err)
	}
	if key, bad := AppendKey(nil, []string{"a", "b"}, fields); string(key) != "a=7::b=" || bad >= 0 {
		t.Errorf("an empty string: got %s, %d", key, bad)
	}
	if _, bad := AppendKey(nil, []string{"a", "b", "c"}, fields); bad != 2 {
		t.Errorf("nothing at all: %d", bad)
	}
}

func TestDecodersDoNotAllocate(t *testing.T) {
	row := Format{Kind: FormatCSV, Columns: []string{"time", "service", "note", "latency"}}
	for name, c := range map[string]struct {
		x      Decoder
		values []string
	}{
		"csv":           {newDecoder(t, row, "time", "service", "note", "latency"), []string{"1767225600000,chat,,12.5\n", `1,"a ""b"" c","d""",2`, `"1","","","2"`}},
		"text":          {newDecoder(t, Format{Kind: FormatText}, "value"), []string{"12.5", " abc ", ""}},
		"json_registry": {newDecoder(t, Format{Kind: FormatJSONRegistry}, "timestamp", "service", "value"), []string{typical, confluent + typical, "\x03\x00" + guid + typical}},
	} {
		var values [][]byte
		for _, v := range c.values {
			values = append(values, []byte(v))
		}
		var fields []Field
		var err error
		each := func() {
			for _, v := range values {
				if fields, err = c.x.Extract(v, fields); err != nil {
					t.Fatal(err)
				}
			}
		}
		each()
		if n := testing.AllocsPerRun(100, each); n != 0 {
			t.Errorf("%s: %v allocations, want 0", name, n)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	row := Format{Kind: FormatCSV, Columns: []string{"timestamp", "service", "model", "value", "tokens"}}
	for _, c := range []struct {
		name  string
		x     Decoder
		value string
	}{
		{"json", newDecoder(b, Format{}, "timestamp", "service", "model", "value"), typical},
		{"csv", newDecoder(b, row, "timestamp", "service", "model", "value"), "1735689600123,svc-01,gpt-4o-mini,123.456,512\n"},
		{"csv-quoted", newDecoder(b, row, "timestamp", "service", "model", "value"), `"1735689600123","svc-01","gpt-4o-mini","123.456","512"`},
		{"text", newDecoder(b, Format{Kind: FormatText}, TextField), "123.456"},
		{"json_registry", newDecoder(b, Format{Kind: FormatJSONRegistry}, "timestamp", "service", "model", "value"), confluent + typical},
		{"json_registry-zlib", newDecoder(b, Format{Kind: FormatJSONRegistry}, "timestamp", "service", "model", "value"), "\x03\x05" + guid + packed(b, typical)},
	} {
		b.Run(c.name, func(b *testing.B) {
			value := []byte(c.value)
			var fields []Field
			var err error
			b.SetBytes(int64(len(value)))
			b.ReportAllocs()
			for b.Loop() {
				if fields, err = c.x.Extract(value, fields); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// wantOfText is fieldOfText by other means.
func wantOfText(text string) Field {
	f := Field{Kind: FieldString, Raw: []byte(text)}
	switch {
	case text == "true" || text == "false":
		f.Kind = FieldBool
	case json.Valid([]byte(text)) && !strings.ContainsAny(text, " \t\r\n\"[{") && text != "null":
		f.Kind = FieldNumber
	}
	return f
}

// FuzzExtractRow compares with encoding/csv, which reads more: several rows, rows without content, and a CR anywhere.
func FuzzExtractRow(f *testing.F) {
	for _, s := range []string{"1,2,3", "1,\"a\"\"b\",\n", ",,\r\n", "\"\",\"x\ny\",\"z\r\n\"", "a;b;c", "1,2", "1,2,3\n4,5,6", "1,2\"", "\"1\"2,3,4", "\xff,,", "1,2,3\r"} {
		f.Add([]byte(s), byte(','))
		f.Add([]byte(s), byte(';'))
	}
	columns := []string{"a", "b", "c"}
	f.Fuzz(func(t *testing.T, value []byte, delimiter byte) {
		x, err := NewDecoder(Format{Kind: FormatCSV, Columns: columns, Delimiter: delimiter}, columns)
		if err != nil {
			if delimiter == 0 || IsDelimiter(delimiter) {
				t.Fatal(err)
			}
			return
		}
		fields, err := x.Extract(value, nil)
		if err != nil && (!errors.Is(err, ErrDecode) || !strings.Contains(err.Error(), ": byte ")) {
			t.Fatalf("error %v", err)
		}
		if err == nil && !utf8.Valid(value) {
			t.Fatal("it is not UTF-8")
		}
		r := csv.NewReader(bytes.NewReader(value))
		r.Comma = ','
		if delimiter != 0 {
			r.Comma = rune(delimiter)
		}
		rows, theirs := r.ReadAll()
		one := theirs == nil && len(rows) == 1 && len(rows[0]) == len(columns)
		if err != nil {
			// What the standard library takes and we do not has a CR in it, a line without content, or is not UTF-8.
			if one && utf8.Valid(value) && !bytes.Contains(value, []byte("\r")) && !bytes.HasPrefix(value, []byte("\n")) && !bytes.HasSuffix(value, []byte("\n\n")) {
				t.Fatalf("refused: %v", err)
			}
			return
		}
		if !one {
			if len(value) > 0 && value[len(value)-1] == '\r' {
				return // a CR alone ends a line here
			}
			t.Fatalf("taken, and by encoding/csv it is %q, %v", rows, theirs)
		}
		quoted := quotedCells(value, r.Comma)
		for i, got := range fields {
			// In quotes encoding/csv reads CRLF as LF; here the field is as it was written.
			raw := strings.ReplaceAll(string(got.Raw), "\r\n", "\n")
			want := wantOfText(rows[0][i])
			if rows[0][i] == "" && !quoted[i] {
				want = Field{Kind: FieldNull}
			}
			if got.Kind != want.Kind || raw != string(want.Raw) {
				t.Fatalf("field %d is %v %q, want %v %q", i, got.Kind, got.Raw, want.Kind, want.Raw)
			}
		}
	})
}

// quotedCells returns which cells of a well-formed row begin with a quote.
func quotedCells(row []byte, comma rune) []bool {
	begins, inside := []bool{len(row) > 0 && row[0] == '"'}, false
	for i, c := range row {
		if c == '"' {
			inside = !inside
		}
		if !inside && rune(c) == comma {
			begins = append(begins, i+1 < len(row) && row[i+1] == '"')
		}
	}
	return begins
}

// FuzzExtractText compares with the white space of strings and the numbers of encoding/json.
func FuzzExtractText(f *testing.F) {
	for _, s := range []string{"12.5", " -1e9\n", "true", "", "NaN", "007", "\xff", "null", "\"1\"", "1 2", "\u00a01"} {
		f.Add([]byte(s))
	}
	x := newDecoder(f, Format{Kind: FormatText}, TextField)
	f.Fuzz(func(t *testing.T, value []byte) {
		fields, err := x.Extract(value, nil)
		if valid := utf8.Valid(value); valid != (err == nil) || err != nil && !errors.Is(err, ErrDecode) {
			t.Fatalf("error %v", err)
		}
		if err != nil {
			return
		}
		text := strings.TrimFunc(string(value), func(r rune) bool { return strings.ContainsRune(" \t\n\v\f\r", r) })
		want := wantOfText(text)
		if text == "" {
			want = Field{Kind: FieldNull}
		}
		if diff := cmp.Diff(want, fields[0]); diff != "" {
			t.Fatalf("-want +got:\n%s", diff)
		}
	})
}

// FuzzExtractRegistry: a prefix changes nothing of what is read behind it, and hostile bytes do no harm.
func FuzzExtractRegistry(f *testing.F) {
	for _, s := range []string{typical, confluent + typical, "\x01" + guid + typical, "\x03\x00" + guid + typical, "\x03\x05" + guid + packed(f, typical), "\x00", "\x03\x05", confluent + "\x02\x04", `{"a":1,"a":2}`} {
		f.Add([]byte(s))
	}
	paths := []string{"service", "value", "attributes.tokens"}
	plain, registry := newDecoder(f, Format{}, paths...), newDecoder(f, Format{Kind: FormatJSONRegistry}, paths...)
	f.Fuzz(func(t *testing.T, value []byte) {
		fields, err := registry.Extract(value, nil)
		if err != nil && !errors.Is(err, ErrDecode) {
			t.Fatalf("error %v", err)
		}
		want, plainly := plain.Extract(value, nil)
		if plainly == nil && (err != nil || !cmp.Equal(want, fields)) {
			t.Fatalf("JSON is %v, %v", fields, err)
		}
		for _, prefix := range []string{confluent, "\x01" + guid, "\x03\x00" + guid} {
			again, err := registry.Extract(slices.Concat([]byte(prefix), value), nil)
			if (err == nil) != (plainly == nil) || plainly == nil && !cmp.Equal(want, again) {
				t.Fatalf("behind %x it is %v, %v; without %v, %v", prefix, again, err, want, plainly)
			}
		}
	})
}

// One value that is large when it is unpacked does not make a decoder keep its memory for all that follow.
func TestMemoryOfALargeValueIsGivenBack(t *testing.T) {
	x, ok := newDecoder(t, Format{Kind: FormatJSONRegistry}, "value").(*registryDecoder)
	if !ok {
		t.Fatal("another decoder")
	}
	large := "\x03\x05" + guid + packed(t, `{"value":1,"rest":"`+strings.Repeat("a", 4<<20)+`"}`)
	if got := read(x, large); got != "number 1" || x.text.Cap() < 4<<20 {
		t.Fatalf("got %s, with %d bytes", got, x.text.Cap())
	}
	if got := read(x, `{"value":2}`); got != "number 2" || x.text.Cap() > keptUnpacked {
		t.Errorf("got %s, and %d bytes are kept", got, x.text.Cap())
	}
}
