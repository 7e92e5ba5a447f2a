package filter

import (
	"encoding/json"
	"errors"
	"testing"
)

func TestRecordsPassAsTheirPatternsSay(t *testing.T) {
	const click = `{"type":"click","n":100,"s":"","x":null,"b":true,"tags":["a","b"],"in":{"deep":"v"},"list":[{"k":"1","v":2},{"k":"3","v":4}],"e":[],"f":300.0}`
	tests := []struct {
		name     string
		patterns []string
		value    string // "\x00": null
		want     bool
	}{
		{name: "no filters", value: "anything", want: true},
		{name: "no pattern for the value", patterns: []string{`{}`}, value: "anything", want: true},
		{name: "equal", patterns: []string{`{"value":{"type":["click"]}}`}, value: click, want: true},
		{name: "one of", patterns: []string{`{"value":{"type":["view","click"]}}`}, value: click, want: true},
		{name: "not equal", patterns: []string{`{"value":{"type":["view"]}}`}, value: click},
		{name: "letters are compared as they are", patterns: []string{`{"value":{"type":["Click"]}}`}, value: click},
		{name: "equal, ignoring case", patterns: []string{`{"value":{"type":[{"equals-ignore-case":"CLICK"}]}}`}, value: click, want: true},
		{name: "empty", patterns: []string{`{"value":{"s":[""]}}`}, value: click, want: true},
		{name: "null", patterns: []string{`{"value":{"x":[null]}}`}, value: click, want: true},
		{name: "null is not absent", patterns: []string{`{"value":{"y":[null]}}`}, value: click},
		{name: "boolean", patterns: []string{`{"value":{"b":[true]}}`}, value: click, want: true},
		{name: "a boolean is no string", patterns: []string{`{"value":{"b":["true"]}}`}, value: click},
		{name: "number, as it is written", patterns: []string{`{"value":{"n":[100]}}`}, value: click, want: true},
		{name: "number, written otherwise", patterns: []string{`{"value":{"f":[300]}}`}, value: click},
		{name: "numeric, equal", patterns: []string{`{"value":{"f":[{"numeric":["=",300]}]}}`}, value: click, want: true},
		{name: "numeric, within", patterns: []string{`{"value":{"n":[{"numeric":[">",10,"<=",100]}]}}`}, value: click, want: true},
		{name: "numeric, at an open end", patterns: []string{`{"value":{"n":[{"numeric":[">",100]}]}}`}, value: click},
		{name: "numeric of a string", patterns: []string{`{"value":{"type":[{"numeric":[">",0]}]}}`}, value: click},
		{name: "prefix", patterns: []string{`{"value":{"type":[{"prefix":"cl"}]}}`}, value: click, want: true},
		{name: "other prefix", patterns: []string{`{"value":{"type":[{"prefix":"li"}]}}`}, value: click},
		{name: "suffix", patterns: []string{`{"value":{"type":[{"suffix":"ck"}]}}`}, value: click, want: true},
		{name: "exists", patterns: []string{`{"value":{"type":[{"exists":true}]}}`}, value: click, want: true},
		{name: "exists, null", patterns: []string{`{"value":{"x":[{"exists":true}]}}`}, value: click, want: true},
		{name: "does not exist", patterns: []string{`{"value":{"type":[{"exists":false}]}}`}, value: click},
		{name: "is absent", patterns: []string{`{"value":{"y":[{"exists":false}]}}`}, value: click, want: true},
		{name: "an object is no leaf that exists", patterns: []string{`{"value":{"in":[{"exists":true}]}}`}, value: click},
		{name: "anything but", patterns: []string{`{"value":{"type":[{"anything-but":["view"]}]}}`}, value: click, want: true},
		{name: "anything but this", patterns: []string{`{"value":{"type":[{"anything-but":"click"}]}}`}, value: click},
		{name: "anything but is not for what is absent", patterns: []string{`{"value":{"y":[{"anything-but":["v"]}]}}`}, value: click},
		{name: "anything but a number", patterns: []string{`{"value":{"n":[{"anything-but":[100,200]}]}}`}, value: click},
		{name: "anything but a prefix", patterns: []string{`{"value":{"type":[{"anything-but":{"prefix":"v"}}]}}`}, value: click, want: true},
		{name: "all fields", patterns: []string{`{"value":{"type":["click"],"n":[100]}}`}, value: click, want: true},
		{name: "all fields but one", patterns: []string{`{"value":{"type":["click"],"n":[1]}}`}, value: click},
		{name: "or", patterns: []string{`{"value":{"$or":[{"type":["view"]},{"n":[100]}]}}`}, value: click, want: true},
		{name: "or, none of them", patterns: []string{`{"value":{"$or":[{"type":["view"]},{"n":[1]}]}}`}, value: click},
		{name: "or, and others", patterns: []string{`{"value":{"b":[false],"$or":[{"type":["click"]},{"n":[1]}]}}`}, value: click},
		{name: "or of what is absent", patterns: []string{`{"value":{"$or":[{"y":[{"exists":false}]},{"n":[1]}]}}`}, value: click, want: true},
		{name: "nested", patterns: []string{`{"value":{"in":{"deep":["v"]}}}`}, value: click, want: true},
		{name: "nested in what is absent", patterns: []string{`{"value":{"out":{"deep":["v"]}}}`}, value: click},
		{name: "absent in what is absent", patterns: []string{`{"value":{"out":{"deep":[{"exists":false}]}}}`}, value: click, want: true},
		{name: "nested in a scalar", patterns: []string{`{"value":{"type":{"deep":["v"]}}}`}, value: click},
		{name: "an element of a list", patterns: []string{`{"value":{"tags":["b"]}}`}, value: click, want: true},
		{name: "no element of a list", patterns: []string{`{"value":{"tags":["c"]}}`}, value: click},
		{name: "an empty list", patterns: []string{`{"value":{"e":[{"exists":true}]}}`}, value: click},
		{name: "one object of a list", patterns: []string{`{"value":{"list":{"k":["3"],"v":[4]}}}`}, value: click, want: true},
		{name: "not two halves of two objects", patterns: []string{`{"value":{"list":{"k":["1"],"v":[4]}}}`}, value: click},
		{name: "one of two patterns", patterns: []string{`{"value":{"type":["view"]}}`, `{"value":{"n":[100]}}`}, value: click, want: true},
		{name: "a list of objects", patterns: []string{`{"value":{"k":["v"]}}`}, value: `[{"k":"u"},{"k":"v"}]`, want: true},

		// The form of the value and the form of the pattern.
		{name: "text, equal", patterns: []string{`{"value":["error"]}`}, value: "error", want: true},
		{name: "text, not equal", patterns: []string{`{"value":["error"]}`}, value: "errors"},
		{name: "text, anything but", patterns: []string{`{"value":[{"anything-but":["error"]}]}`}, value: "error"},
		{name: "text, prefix", patterns: []string{`{"value":[{"prefix":"er"}]}`}, value: "error", want: true},
		{name: "text of digits is text", patterns: []string{`{"value":["12"]}`}, value: "12", want: true},
		{name: "a text passes a pattern for JSON", patterns: []string{`{"value":{"type":["view"]}}`}, value: "error", want: true},
		{name: "half of an object is text", patterns: []string{`{"value":{"type":["view"]}}`}, value: `{"type":`, want: true},
		{name: "two objects are text", patterns: []string{`{"value":{"type":["view"]}}`}, value: `{"type":1}{}`, want: true},
		{name: "JSON passes a pattern for texts", patterns: []string{`{"value":["error"]}`}, value: click, want: true},
		{name: "what is not UTF-8 passes", patterns: []string{`{"value":["error"]}`}, value: "\xff\xfe", want: true},
		{name: "null passes", patterns: []string{`{"value":["error"]}`, `{"value":{"type":["view"]}}`}, value: "\x00", want: true},
		{name: "an empty value is a text", patterns: []string{`{"value":["error"]}`}, value: ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, err := Parse(tt.patterns)
			if err != nil {
				t.Fatal(err)
			}
			value := []byte(tt.value)
			if tt.value == "\x00" {
				value = nil
			}
			if got := f.Pass(value); got != tt.want {
				t.Errorf("passes: %t", got)
			}
		})
	}
}

func TestWhatIsNoPatternIsRefused(t *testing.T) {
	for text, want := range map[string]error{
		"":                                      ErrPattern,
		"no":                                    ErrPattern,
		"[]":                                    ErrPattern,
		`{"value":{"a":["b"]}} {}`:              ErrPattern,
		`{"value":{}}`:                          ErrPattern,
		`{"value":[]}`:                          ErrPattern,
		`{"value":"a"}`:                         ErrPattern,
		`{"value":{"a":"b"}}`:                   ErrPattern,
		`{"value":{"a":[["b"]]}}`:               ErrPattern,
		`{"value":{"a":["b"],"a":["c"]}}`:       ErrPattern,
		`{"value":{"a":[{"like":"b"}]}}`:        ErrPattern,
		`{"value":{"a":[{}]}}`:                  ErrPattern,
		`{"value":{"a":[{"exists":1}]}}`:        ErrPattern,
		`{"value":{"a":[{"prefix":1}]}}`:        ErrPattern,
		`{"value":{"a":[{"prefix":""}]}}`:       ErrPattern,
		`{"value":{"a":[{"numeric":[1]}]}}`:     ErrPattern,
		`{"value":{"a":[{"numeric":["~",1]}]}}`: ErrPattern,
		`{"value":{"a":[{"numeric":["<",1,">",0]}]}}`:      ErrPattern,
		`{"value":{"a":[{"numeric":[">",6000000000]}]}}`:   ErrPattern,
		`{"value":{"a":[{"numeric":[">",null]}]}}`:         ErrPattern,
		`{"value":{"a":[{"anything-but":[]}]}}`:            ErrPattern,
		`{"value":{"a":[{"anything-but":[true]}]}}`:        ErrPattern,
		`{"value":{"a":[{"anything-but":null}]}}`:          ErrPattern,
		`{"value":{"$or":[{"a":["b"]}]}}`:                  ErrPattern,
		`{"topic":["t"]}`:                                  ErrNotSupported,
		`{"value":{"a":[{"cidr":"10.0.0.0/8"}]}}`:          ErrNotSupported,
		`{"value":{"a":[{"wildcard":"a*"}]}}`:              ErrNotSupported,
		`{"value":{"a":[{"anything-but":{"numeric":1}}]}}`: ErrNotSupported,
	} {
		if _, err := Parse([]string{text}); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", text, err, want)
		}
	}
	if _, err := Parse(make([]string, mostFilters+1)); !errors.Is(err, ErrPattern) {
		t.Errorf("too many: %v", err)
	}
}

// Whatever a pattern is, reading it and matching with it comes to an end, and a pattern that is read is JSON.
func FuzzPattern(f *testing.F) {
	f.Add(`{"value":{"a":["b",1,null,true,{"prefix":"c"},{"numeric":[">",0,"<",9]},{"anything-but":["d"]},{"exists":false}],"$or":[{"a":["b"]},{"c":{"d":[1]}}]}}`, `{"a":"b","c":[{"d":1}]}`)
	f.Add(`{"value":[{"equals-ignore-case":"A"},{"suffix":"b"}]}`, "a")
	f.Fuzz(func(t *testing.T, text, value string) {
		p, err := Parse([]string{text})
		if err != nil {
			if !errors.Is(err, ErrPattern) && !errors.Is(err, ErrNotSupported) {
				t.Errorf("error %v", err)
			}
			return
		}
		if !json.Valid([]byte(text)) {
			t.Errorf("%q was read", text)
		}
		if first := p.Pass([]byte(value)); p.Pass([]byte(value)) != first {
			t.Error("passes, and does not")
		}
	})
}
