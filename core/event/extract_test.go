package event

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/jsonscan"
)

// typical is a value of the size and shape that the fold sees most.
const typical = `{"event_id":"0f1e2d3c-9a8b-4c7d-8e6f-001122334455","timestamp":1700000400000,"service":"svc-01","model":"gpt-x-3",` +
	`"metric":"latency_ms","value":148.41,"user":"u-1","attributes":{"region":"us-east-1","tokens":17}}`

func newExtractor(t testing.TB, paths ...string) *Extractor {
	t.Helper()
	x, err := NewExtractor(paths)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// show writes fields as "kind raw".
func show(fields []Field) []string {
	out := make([]string, len(fields))
	for i, f := range fields {
		out[i] = strings.TrimSpace(fmt.Sprintf("%v %s", f.Kind, f.Raw))
	}
	return out
}

func TestExtractFindsFields(t *testing.T) {
	for name, c := range map[string]struct {
		value string
		paths []string
		want  []string
	}{
		"the typical record": {
			typical,
			[]string{"timestamp", "service", "model", "value", "attributes.tokens", "attributes.none", "none"},
			[]string{"number 1700000400000", "string svc-01", "string gpt-x-3", "number 148.41", "number 17", "absent", "absent"},
		},
		"every kind": {
			`{"n":null,"t":true,"f":false,"s":"","i":-0,"o":{"x":[1]},"a":[1, 2]}`,
			[]string{"n", "t", "f", "s", "i", "o", "a", "a.x", "n.x", "s.x"},
			[]string{"null null", "boolean true", "boolean false", "string", "number -0", `object {"x":[1]}`, "array [1, 2]", "absent", "absent", "absent"},
		},
		"equal paths and prefixes": {
			`{"a":{"b":{"c":1}}}`,
			[]string{"a", "a.b", "a.b.c", "a.b", "a.b.c.d"},
			[]string{`object {"b":{"c":1}}`, `object {"c":1}`, "number 1", `object {"c":1}`, "absent"},
		},
		"a prefix that is no object": {`{"a":3}`, []string{"a", "a.b"}, []string{"number 3", "absent"}},
		"keys match exactly": {
			`{"A":1,"aa":2,"":3," a":4,"a":5}`, []string{"a"}, []string{"number 5"},
		},
		"keys match after unescaping": {
			`{"\u0061b":1,"c\/":2,"\"":3}`, []string{"ab", "c/", `"`}, []string{"number 1", "number 2", "number 3"},
		},
		"strings are unescaped": {
			`{"a":"x\ty","b":"\ud83d\ude00","c":"\ud83d-","d":"\\"}`,
			[]string{"a", "b", "c", "d"},
			[]string{"string x\ty", "string \U0001F600", "string \uFFFD-", `string \`},
		},
		"a dotted key is not a path":         {`{"a.b":1}`, []string{"a.b"}, []string{"absent"}},
		"elements of arrays are not members": {`[{"a":1}]`, []string{"a"}, []string{"absent"}},
		"a number at the top":                {` 12 `, []string{"a"}, []string{"absent"}},
		"a string at the top":                {`"a"`, []string{"a"}, []string{"absent"}},
		"an empty object":                    {` { } `, []string{"a"}, []string{"absent"}},
		"white space everywhere":             {" {\n\t\"a\" : { \"b\"\r: 1 } , \"c\" : 2 } \n", []string{"a.b", "c"}, []string{"number 1", "number 2"}},
		"keys that are not asked for may repeat": {
			`{"x":1,"x":2,"a":3,"y":{"a":1,"a":2}}`, []string{"a"}, []string{"number 3"},
		},
		"the same key on two levels": {`{"a":{"a":{"a":1}}}`, []string{"a.a.a"}, []string{"number 1"}},
		"a name longer than 64":      {`{"` + strings.Repeat("k", 70) + `":1}`, []string{strings.Repeat("k", 70), strings.Repeat("k", 71)}, []string{"number 1", "absent"}},
		"the deepest path":           {strings.Repeat(`{"a":`, 64) + "1" + strings.Repeat("}", 64), []string{"a" + strings.Repeat(".a", 63)}, []string{"number 1"}},
		"no paths":                   {`{"a":1,"a":2}`, nil, []string{}},
	} {
		t.Run(name, func(t *testing.T) {
			fields, err := newExtractor(t, c.paths...).Extract([]byte(c.value), nil)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, show(fields)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestExtractRefusesWhatItCannotRead(t *testing.T) {
	for name, c := range map[string]struct{ value, want string }{
		"nothing":                       {"", "byte 0: unexpected end"},
		"not JSON":                      {"hello", "byte 0: want a value, found 'h'"},
		"cut off":                       {typical[:100], "byte 100: unexpected end"},
		"a value missing":               {`{"a":`, "byte 5: unexpected end"},
		"something behind":              {`{"a":1} {`, "byte 8: data after the end of the document, found '{'"},
		"NaN":                           {`{"a":NaN}`, "byte 5: want a value, found 'N'"},
		"fault in a skipped member":     {`{"z":[1,tru],"a":1}`, "byte 11: want a value, found ']'"},
		"fault behind the last path":    {`{"a":1,"z":01}`, "byte 12: malformed number, found '1'"},
		"a raw control character":       {"{\"a\":\"\t\"}", `byte 6: control character in a string, found '\t'`},
		"invalid UTF-8 in a string":     {"{\"a\":\"\xff\"}", "byte 6: invalid UTF-8, found 0xff"},
		"invalid UTF-8 in a key":        {"{\"\xff\":1}", "byte 2: invalid UTF-8, found 0xff"},
		"invalid UTF-8 outside":         {"\xff", "byte 0: want a value, found 0xff"},
		"a path twice":                  {`{"a":1,"a":1}`, "byte 7: key occurs twice in one object"},
		"a path twice, one is escaped":  {`{"a":1,"\u0061":1}`, "byte 7: key occurs twice in one object"},
		"a path twice, one is null":     {`{"a":null,"a":1}`, "byte 10: key occurs twice in one object"},
		"a nested path twice":           {`{"b":{"c":1,"c":2}}`, "byte 12: key occurs twice in one object"},
		"an object on the way twice":    {`{"b":{"c":1},"b":{}}`, "byte 13: key occurs twice in one object"},
		"nested too deep":               {strings.Repeat("[", 65) + strings.Repeat("]", 65), "byte 64: nested deeper than 64, found '['"},
		"nested too deep in a member":   {`{"z":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + "}", "byte 68: nested deeper than 64, found '['"},
		"nested too deep along a path":  {strings.Repeat(`{"b":`, 65), "nested deeper than 64"},
		"nested without end":            {strings.Repeat("[", 1_000_000), "byte 64: nested deeper than 64"},
		"objects nested without an end": {strings.Repeat(`{"a":`, 1_000_000), "nested deeper than 64"},
	} {
		t.Run(name, func(t *testing.T) {
			x := newExtractor(t, "a", "b.c", "b.b.b"+strings.Repeat(".b", 61))
			fields, err := x.Extract([]byte(c.value), nil)
			if !errors.Is(err, ErrDecode) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %q, want ErrDecode with %q", err, c.want)
			}
			for _, f := range fields {
				if f.Kind != FieldAbsent || f.Raw != nil {
					t.Errorf("a field is left: %v", show(fields))
				}
			}
			if len(err.Error()) > 150 {
				t.Errorf("the error shows too much: %v", err)
			}
			// A refused value leaves nothing behind.
			if fields, err = x.Extract([]byte(`{"a":1,"b":{"c":2}}`), fields); err != nil || string(fields[0].Raw) != "1" || string(fields[1].Raw) != "2" {
				t.Errorf("the next value: %v, %v", show(fields), err)
			}
		})
	}
}

func TestNewExtractorRefusesPathsItCannotRead(t *testing.T) {
	for _, paths := range [][]string{{""}, {"a."}, {".a"}, {"a..b"}, {"\xff"}, {"a" + strings.Repeat(".a", 64)}, make([]string, MaxPaths+1)} {
		if _, err := NewExtractor(paths); !errors.Is(err, ErrPath) {
			t.Errorf("%.40q: error %v, want ErrPath", paths, err)
		}
	}
	many := slices.Repeat([]string{"a.b"}, MaxPaths)
	fields, err := newExtractor(t, many...).Extract([]byte(`{"a":{"b":7}}`), nil)
	if err != nil || len(fields) != MaxPaths || string(fields[MaxPaths-1].Raw) != "7" {
		t.Errorf("%d fields, %v", len(fields), err)
	}
}

func TestFieldsWithEscapesDoNotOverwriteEachOther(t *testing.T) {
	x := newExtractor(t, "a", "b", "c")
	for n := 1; n < 200; n += 13 { // longer and longer, so that the scratch grows in the middle
		a, b := strings.Repeat("é\n", n), strings.Repeat("\"", 3*n)
		value, err := json.Marshal(map[string]string{"a": a, "b": b, "c": a + b})
		if err != nil {
			t.Fatal(err)
		}
		fields, err := x.Extract(value, nil)
		if err != nil {
			t.Fatal(err)
		}
		if string(fields[0].Raw) != a || string(fields[1].Raw) != b || string(fields[2].Raw) != a+b {
			t.Fatalf("n = %d: %v", n, show(fields))
		}
	}
}

func TestExtractDoesNotAllocate(t *testing.T) {
	x := newExtractor(t, "timestamp", "service", "model", "value", "attributes.tokens")
	values := [][]byte{[]byte(typical), []byte(strings.Replace(typical, "svc-01", `svc\u002d01\n`, 1)), []byte(`{"serv\u0069ce":"é"}`)}
	var fields []Field
	var err error
	each := func() {
		for _, v := range values {
			if fields, err = x.Extract(v, fields); err != nil {
				t.Fatal(err)
			}
		}
	}
	each()
	if n := testing.AllocsPerRun(100, each); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkExtract(b *testing.B) {
	for name, paths := range map[string][]string{
		"4paths": {"timestamp", "service", "model", "value"},
		"nested": {"timestamp", "service", "model", "value", "attributes.tokens"},
	} {
		b.Run(name, func(b *testing.B) {
			x := newExtractor(b, paths...)
			value := []byte(typical)
			var fields []Field
			var err error
			b.SetBytes(int64(len(value)))
			b.ReportAllocs()
			for b.Loop() {
				if fields, err = x.Extract(value, fields); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// walk reads a document with encoding/json as Extract should: every path's value, whether a key on a path is ambiguous, and
// the depth.
type walker struct {
	dec       *json.Decoder
	paths     map[string]bool // all paths and all their beginnings
	found     map[string]any  // containers are json.Delim
	ambiguous bool
	deepest   int
}

// value reads one value at a path; on is whether it is on a path at all, through objects only.
func (w *walker) value(path string, on bool, depth int) {
	tok, err := w.dec.Token()
	if err != nil {
		panic(err) // json.Valid said it is well-formed
	}
	if on && path != "" {
		if _, twice := w.found[path]; twice {
			w.ambiguous = true
		}
		w.found[path] = tok
	}
	open, ok := tok.(json.Delim)
	if !ok {
		return
	}
	w.deepest = max(w.deepest, depth+1)
	for w.dec.More() {
		if open == '[' {
			w.value("", false, depth+1)
			continue
		}
		key, err := w.dec.Token()
		if err != nil {
			panic(err)
		}
		name, _ := key.(string)
		sub := strings.TrimPrefix(path+"."+name, ".")
		w.value(sub, on && !strings.Contains(name, ".") && w.paths[sub], depth+1)
	}
	if _, err := w.dec.Token(); err != nil && !errors.Is(err, io.EOF) {
		panic(err)
	}
}

// FuzzExtract compares with encoding/json.
func FuzzExtract(f *testing.F) {
	for _, s := range []string{
		typical, `{"a":1,"a":2}`, `{"a":{"b":"\u00e9\ud800","c":[{"a":1}]},"b":-1.5e3}`, `{"a":{"b":1},"a":{"b":2}}`, `{"a.b":1}`, `12`, `"x"`,
		"{\"a\":\"\xff\"}", strings.Repeat(`{"a":`, 65) + "1" + strings.Repeat("}", 65), `{"":1,"a":{"":{}}}`,
	} {
		f.Add([]byte(s))
	}
	paths := []string{"a", "b", "a.b", "a.b.c", "value", "timestamp", "attributes.tokens", "service"}
	x := newExtractor(f, paths...)
	var fields []Field
	f.Fuzz(func(t *testing.T, value []byte) {
		var err error
		fields, err = x.Extract(value, fields)
		if err != nil && !errors.Is(err, ErrDecode) {
			t.Fatalf("error %v does not wrap ErrDecode", err)
		}
		if !json.Valid(value) || !utf8.Valid(value) {
			if err == nil {
				t.Fatal("accepted")
			}
			return
		}
		w := walker{dec: json.NewDecoder(strings.NewReader(string(value))), paths: map[string]bool{}, found: map[string]any{}}
		for _, p := range paths {
			for i := range p {
				if p[i] == '.' {
					w.paths[p[:i]] = true
				}
			}
			w.paths[p] = true
		}
		w.dec.UseNumber()
		w.value("", true, 0)
		if want := !w.ambiguous && w.deepest <= jsonscan.MaxDepth; (err == nil) != want {
			t.Fatalf("error %v; ambiguous: %v, depth %d", err, w.ambiguous, w.deepest)
		}
		if err != nil {
			return
		}
		for i, p := range paths {
			want := "absent"
			if tok, ok := w.found[p]; ok {
				switch v := tok.(type) {
				case nil:
					want = "null null"
				case bool:
					want = fmt.Sprintf("boolean %v", v)
				case json.Number:
					want = "number " + v.String()
				case string:
					want = "string " + v
				case json.Delim:
					want = map[json.Delim]string{'{': "object ", '[': "array "}[v]
					if !json.Valid(fields[i].Raw) {
						t.Fatalf("%s is %q", p, fields[i].Raw)
					}
					want += string(fields[i].Raw)
				}
			}
			got := "absent"
			if fields[i].Kind != FieldAbsent {
				got = fmt.Sprintf("%v %s", fields[i].Kind, fields[i].Raw)
			}
			if got != want {
				t.Fatalf("%s is %q, want %q", p, got, want)
			}
		}
	})
}

// What is wrong with a value is the same for all who read it, but for a field that is there twice.
func TestOnlyAFieldThatIsThereTwiceIsAmbiguous(t *testing.T) {
	x, err := NewExtractor([]string{"a.b", "c"})
	if err != nil {
		t.Fatal(err)
	}
	for value, want := range map[string]bool{
		`{"c":1,"c":2}`: true, `{"a":{"b":1,"b":2}}`: true, `{"a":{"b":1},"a":{}}`: true, `{"d":1,"d":2}`: false, `{"c":1,"c"`: false, `{"d":1,"c"`: false, "": false, `{"c":"\xff"}`: false,
	} {
		_, err := x.Extract([]byte(value), nil)
		if got := errors.Is(err, ErrAmbiguous); got != want || got && !errors.Is(err, ErrDecode) {
			t.Errorf("%q: %v: ambiguous is %v, want %v", value, err, got, want)
		}
	}
}
