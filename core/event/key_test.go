package event

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/tests/seed"
)

func TestAppendKeyJoinsEscapedParts(t *testing.T) {
	names := KeyFields{"service", "a.b", "x=:%y"}
	fields := []Field{
		stringField("a::b=100%"), numberField("1.50e2"), {Kind: FieldBool, Raw: []byte("true")},
	}
	got, bad := AppendKey([]byte("before "), names, fields)
	if want := "before service=a%3A%3Ab%3D100%25::a.b=1.50e2::x%3D%3A%25y=true"; string(got) != want || bad != -1 {
		t.Errorf("%s, %d; want %s", got, bad, want)
	}
	if got, bad := AppendKey(nil, nil, nil); len(got) != 0 || bad != -1 {
		t.Errorf("without fields: %q, %d", got, bad)
	}
	if got, _ := AppendKey(nil, []string{"s"}, []Field{stringField("")}); string(got) != "s=" {
		t.Errorf("an empty string: %q", got)
	}
}

func TestAppendKeyNamesTheFirstFieldThatHasNoValue(t *testing.T) {
	for _, kind := range []FieldKind{FieldAbsent, FieldNull, FieldObject, FieldArray} {
		fields := []Field{stringField("x"), {Kind: kind, Raw: []byte("x")}, {}}
		got, bad := AppendKey([]byte("before"), []string{"a", "b", "c"}, fields)
		if string(got) != "before" || bad != 1 {
			t.Errorf("%v: %q, %d; want field 1", kind, got, bad)
		}
	}
}

func TestSplitKeyRefusesWhatAppendKeyDoesNotWrite(t *testing.T) {
	for _, key := range []string{
		"", "a", "a=1", "a=1::", "a=1::b", "b=1::a=2", "a=1::b=2::c=3", "a=1::b=2::", "a=1:::b=2", "a=1::b=2:", "a=1::b=2=3",
		"a=%::b=2", "a=%2::b=2", "a=%41::b=2", "a=%3a::b=2", "%61=1::b=2", "null",
	} {
		if got, err := SplitKey([]string{"a", "b"}, []byte(key)); !errors.Is(err, ErrKey) {
			t.Errorf("%q is split into %v, %v; want ErrKey", key, got, err)
		}
	}
	if _, err := SplitKey(nil, []byte("x")); !errors.Is(err, ErrKey) {
		t.Errorf("error %v, want ErrKey", err)
	}
	if got, err := SplitKey(nil, nil); err != nil || len(got) != 0 {
		t.Errorf("no names: %v, %v", got, err)
	}
}

// keyOf makes the key of string values.
func keyOf(names, values []string) []byte {
	fields := make([]Field, len(values))
	for i, v := range values {
		fields[i] = stringField(v)
	}
	key, _ := AppendKey(nil, names, fields)
	return key
}

func TestDifferentValuesHaveDifferentKeysAndComeBack(t *testing.T) {
	r := seed.Rand(t)
	const alphabet = "::==%%253ADab\n\x00é"
	word := func(r *rand.Rand) string {
		b := make([]byte, r.IntN(5))
		for i := range b {
			b[i] = alphabet[r.IntN(len(alphabet))]
		}
		return string(b)
	}
	seen := map[string][]string{}
	names := []string{"a", ":b", "c%3D"}
	for range 100_000 {
		values := []string{word(r), word(r), word(r)}
		key := keyOf(names, values)
		if other, ok := seen[string(key)]; ok && !slices.Equal(other, values) {
			t.Fatalf("%q and %q have the same key %q", other, values, key)
		}
		seen[string(key)] = values
		split, err := SplitKey(names, key)
		if err != nil {
			t.Fatalf("%q: %v", key, err)
		}
		want := []KeyValue{{names[0], values[0]}, {names[1], values[1]}, {names[2], values[2]}}
		if d := cmp.Diff(want, split); d != "" {
			t.Fatalf("%q: %s", key, d)
		}
	}
}

func TestAppendKeyDoesNotAllocate(t *testing.T) {
	names := []string{"service", "model"}
	fields := []Field{stringField("svc-01"), stringField("gpt:x=3")}
	var key []byte
	if n := testing.AllocsPerRun(100, func() { key, _ = AppendKey(key[:0], names, fields) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkAppendKey(b *testing.B) {
	names := []string{"service", "model"}
	fields := []Field{stringField("svc-01"), stringField("gpt-x-3")}
	var key []byte
	b.ReportAllocs()
	for b.Loop() {
		key, _ = AppendKey(key[:0], names, fields)
	}
}

func TestAppendJSONStringEscapes(t *testing.T) {
	if got, want := string(AppendJSONString([]byte("x"), []byte("a\"\\\n\x01é"))), `x"a\"\\\n\u0001é"`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// FuzzKeyRoundTrip checks both directions: what is appended is split into the same values, and what can be split is
// appended as the same bytes.
func FuzzKeyRoundTrip(f *testing.F) {
	f.Add("a", "b", "x", "y", []byte("a=x::b=y"))
	f.Add("a:", "b%", "=", "::", []byte("a%3A=%3D::b%25=%3A%3A"))
	f.Fuzz(func(t *testing.T, name0, name1, value0, value1 string, key []byte) {
		names := []string{name0, name1}
		split, err := SplitKey(names, keyOf(names, []string{value0, value1}))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff([]KeyValue{{name0, value0}, {name1, value1}}, split); d != "" {
			t.Fatal(d)
		}
		if split, err = SplitKey(names, key); err != nil {
			return
		}
		if again := keyOf(names, []string{split[0].Value, split[1].Value}); string(again) != string(key) {
			t.Fatalf("%q is split into %v, which is appended as %q", key, split, again)
		}
	})
}
