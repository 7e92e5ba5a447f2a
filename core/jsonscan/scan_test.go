package jsonscan

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

// document reads b as one document.
func document(b []byte) (int, Fault) {
	i, f := Skip(b, Space(b, 0), 0)
	if f != OK {
		return i, f
	}
	return End(b, i)
}

func nested(open, end string, n int) string {
	return strings.Repeat(open, n) + "1" + strings.Repeat(end, n)
}

func TestFaultsNameTheByte(t *testing.T) {
	for _, c := range []struct {
		in    string
		at    int
		fault Fault
	}{
		{``, 0, FaultEnd},
		{` `, 1, FaultEnd},
		{`x`, 0, FaultValue},
		{"\ufeff1", 0, FaultValue},
		{`nul`, 3, FaultEnd},
		{`nulL`, 3, FaultValue},
		{`1 2`, 2, FaultTrailing},
		{`{}}`, 2, FaultTrailing},
		{`[1,]`, 3, FaultValue},
		{`[1 2]`, 3, FaultNext},
		{`[1`, 2, FaultEnd},
		{`[}`, 1, FaultValue},
		{`{"a":1]`, 6, FaultNext},
		{`{"a":1,}`, 7, FaultKey},
		{`{a:1}`, 1, FaultKey},
		{`{"a" 1}`, 5, FaultColon},
		{`{"a"`, 4, FaultEnd},
		{`{"a":`, 5, FaultEnd},
		{`{"a":}`, 5, FaultValue},
		{`01`, 1, FaultNumber},
		{`-`, 1, FaultEnd},
		{`-a`, 1, FaultNumber},
		{`1.`, 2, FaultEnd},
		{`1.e1`, 2, FaultNumber},
		{`[1e+]`, 4, FaultNumber},
		{`+1`, 0, FaultValue},
		{`.1`, 0, FaultValue},
		{`NaN`, 0, FaultValue},
		{`"abc`, 4, FaultEnd},
		{`"abcdefghijk`, 12, FaultEnd},
		{`"\x"`, 2, FaultEscape},
		{`"\u12g4"`, 5, FaultEscape},
		{`"\u12`, 5, FaultEnd},
		{`"\`, 2, FaultEnd},
		{"\"a\nb\"", 2, FaultControl},
		{"\"abcdefghijkl\x00nop\"", 13, FaultControl},
		{"\"\xff\"", 1, FaultUTF8},
		{"\"abcdefghi\xc3(klmnop\"", 10, FaultUTF8},
		{"\"\xed\xa0\x80\"", 1, FaultUTF8}, // a surrogate
		{"\"\xc0\x80\"", 1, FaultUTF8},     // not the shortest form
		{nested("[", "]", MaxDepth+1), MaxDepth, FaultDepth},
		{nested(`{"a":`, "}", MaxDepth+1), 5 * MaxDepth, FaultDepth},
	} {
		if at, f := document([]byte(c.in)); at != c.at || f != c.fault {
			t.Errorf("%.40q: byte %d: %v; want byte %d: %v", c.in, at, f, c.at, c.fault)
		}
	}
}

func TestWellFormedDocumentsPass(t *testing.T) {
	for _, in := range []string{
		`null`, ` true `, "\t\r\nfalse", `0`, `-0`, `-0.0e-0`, `1E+400`, `12.5`, `""`, `"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00"`,
		"\"plain \u00e9\u4e16\U0001F600 text\x7f\"", `[]`, `[ ]`, `{}`, `{ }`, `[[],{},[{}]]`, `{"a":{"b":[1,{"c":null}]},"d":[]}`,
		` { "a" : [ 1 , 2 ] , "" : "x" } `, nested("[", "]", MaxDepth), nested(`{"a":`, "}", MaxDepth),
	} {
		if at, f := document([]byte(in)); f != OK || at != len(in) {
			t.Errorf("%.40q: byte %d: %v", in, at, f)
		}
	}
}

func TestSpecialFindsTheFirstByteOfInterest(t *testing.T) {
	for c := range 256 {
		for at := range 16 {
			in := []byte(strings.Repeat("~", at) + string([]byte{byte(c)}) + strings.Repeat("!", 24) + `"`)
			_, _, f := String(append([]byte(`"`), in...), 0)
			want := OK
			switch {
			case c < ' ':
				want = FaultControl
			case c == '\\':
				want = FaultEscape
			case c >= utf8.RuneSelf:
				want = FaultUTF8
			}
			if f != want {
				t.Fatalf("byte %#x at %d: %v, want %v", c, at, f, want)
			}
		}
	}
}

func TestDescribeShowsOneByteOnly(t *testing.T) {
	for _, c := range []struct {
		in   string
		want string
	}{
		{`{"secret":x}`, `byte 10: want a value, found 'x'`},
		{"\"\xff\"", `byte 1: invalid UTF-8, found 0xff`},
		{`{"secret"`, `byte 9: unexpected end`},
	} {
		at, f := document([]byte(c.in))
		if got := Describe([]byte(c.in), at, f); got != c.want {
			t.Errorf("%q: %s, want %s", c.in, got, c.want)
		}
	}
}

func TestAppendStringIsReadBackByTheStandardLibrary(t *testing.T) {
	var all []rune
	for r := range rune(0x300) {
		all = append(all, r)
	}
	for _, s := range []string{"", "plain", string(all), "\u2028\U0010ffff\ufffd", `"\`} {
		out := AppendString([]byte("x"), s)[1:]
		var back string
		if err := json.Unmarshal(out, &back); err != nil || back != s {
			t.Errorf("%q is written as %s, read back as %q, %v", s, out, back, err)
		}
	}
	if got, want := string(AppendString(nil, []byte("a\xffb\xc3"))), "\"a\uFFFDb\uFFFD\""; got != want {
		t.Errorf("invalid UTF-8 is written as %s, want %s", got, want)
	}
}

// depth returns how deep a well-formed document is nested.
func depth(b []byte) (deepest int) {
	open, quoted := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case !quoted && (c == '{' || c == '['):
			open++
			deepest = max(deepest, open)
		case !quoted && (c == '}' || c == ']'):
			open--
		}
	}
	return deepest
}

// FuzzDocument compares with encoding/json: the same documents are well-formed, but for UTF-8 and depth, and strings have
// the same values.
func FuzzDocument(f *testing.F) {
	for _, s := range []string{`{"a":[1,2.5e-3,"\u00e9\ud800\udc00x",null,true,{}]}`, `"\ud800\u0041\udc00"`, `[1,]`, `"\`, nested("[", "]", 65)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		at, fault := document(b)
		if at < 0 || at > len(b) {
			t.Fatalf("position %d of %d", at, len(b))
		}
		valid := json.Valid(b)
		if want := valid && utf8.Valid(b) && depth(b) <= MaxDepth; (fault == OK) != want {
			t.Fatalf("%s; json.Valid is %v", Describe(b, at, fault), valid)
		}
		i := Space(b, 0)
		if fault != OK || b[i] != '"' {
			return
		}
		end, plain, _ := String(b, i)
		raw := b[i+1 : end-1]
		var want string
		if err := json.Unmarshal(b, &want); err != nil {
			t.Fatal(err)
		}
		got := AppendUnescaped(nil, raw)
		if string(got) != want || len(got) > len(raw) || plain && string(raw) != want {
			t.Fatalf("%q has value %q, want %q", raw, got, want)
		}
	})
}
