package aggregate

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// goldens are rows whose stored bytes must never change within a version.
func goldens(t testing.TB) (c *Composite, names []string, rows []*Row) {
	t.Helper()
	c, err := NewComposite([]Value{
		{Name: "all", Functions: functions(t, every()...)},
		{Name: "plain", Functions: functions(t, plain()...)},
		{Name: "counted", Functions: functions(t, "count")},
	})
	if err != nil {
		t.Fatal(err)
	}
	add := func(name string, fill func(r *Row)) {
		r := &Row{}
		c.Reset(r)
		fill(r)
		names, rows = append(names, name), append(rows, r)
	}
	add("empty", func(*Row) {})
	add("records without values", func(r *Row) { r.records = 300 })
	add("a few values", func(r *Row) {
		for i, v := range []float64{1e9 + 4, 1e9 + 7, 0.1, -5, 1.7e12} {
			c.AddRecord(r)
			c.Add(r, 0, v)
			c.Add(r, 1, v)
			if i > 2 {
				c.Add(r, 2, v)
			}
		}
	})
	add("huge values", func(r *Row) {
		for _, v := range []float64{1e308, 1e308, -3} {
			c.AddRecord(r)
			c.Add(r, 1, v)
		}
	})
	add("a digest", func(r *Row) { // made by hand: the golden is of the bytes, not of how a digest is built
		a := &r.values[0]
		a.mergeComponents(1203, &sum{hi: 12030, lo: 0.5}, moments{mean: 10, low: 1e-17, m2: 99}, extrema{-1, 1.7e12})
		for _, x := range []centroid{{-1, 1}, {0.5, 200}, {10, 1}, {10, 1000}, {1.7e12, 1}} {
			a.digest.add(x.mean, x.weight)
		}
	})
	return c, names, rows
}

// golden compares rows as they are stored with those of a golden file, which it returns; -update writes it.
func golden(t *testing.T, name, got string) string {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("stored rows differ (-golden +got); a change of the format needs a new version:\n%s", diff)
	}
	return string(want)
}

func TestStoredBytesAreTheGolden(t *testing.T) {
	c, names, rows := goldens(t)
	var got strings.Builder
	for i, r := range rows {
		fmt.Fprintf(&got, "%s\n%s\n%s\n", names[i], hex.EncodeToString(c.AppendBinary(nil, r)), c.AppendResults(nil, r))
	}
	want := golden(t, "rows-v1.golden", got.String())
	lines := strings.Split(want, "\n")
	for i := 1; i < len(lines); i += 3 { // what an earlier run stored gives the same results
		b, err := hex.DecodeString(lines[i])
		if err != nil {
			t.Fatal(err)
		}
		r := &Row{}
		c.Reset(r)
		mergeBinary(t, c, r, b)
		if got := string(c.AppendResults(nil, r)); got != lines[i+1] {
			t.Errorf("%s: loaded results %s, want %s", lines[i-1], got, lines[i+1])
		}
	}
}

// Storing and loading keeps every bit, however often.
func TestStoringLosesNothing(t *testing.T) {
	r := seeded(t)
	c := composite(t, every()...)
	for _, n := range []int{0, 1, 3, exactMost, exactMost + 1, batchSize, 5*batchSize + 7} {
		for range 8 {
			row := rowOf(c, sample(r, n)...)
			stored := c.AppendBinary(nil, row)
			results := c.AppendResults(nil, row)
			for range 20 {
				row = reload(t, c, row)
			}
			if !bytes.Equal(c.AppendResults(nil, row), results) {
				t.Fatalf("%d values: results after 20 times: %s, want %s", n, c.AppendResults(nil, row), results)
			}
			again := reload(t, c, rowOf(c, sample(r, 0)...))
			mergeBinary(t, c, again, stored)
			if !bytes.Equal(c.AppendResults(nil, again), results) {
				t.Fatalf("%d values: results after storing: %s, want %s", n, c.AppendResults(nil, again), results)
			}
		}
	}
}

func TestRowsAreSelfDelimiting(t *testing.T) {
	c, names, rows := goldens(t)
	var b []byte
	for _, r := range rows {
		b = c.AppendBinary(b, r)
	}
	b = append(b, "rest"...)
	merged := &Row{}
	c.Reset(merged)
	skipped, loaded := b, b
	for i := range rows {
		var err error
		if skipped, err = c.Skip(skipped); err != nil {
			t.Fatalf("%s: %v", names[i], err)
		}
		if loaded, err = c.MergeBinary(merged, loaded); err != nil {
			t.Fatalf("%s: %v", names[i], err)
		}
		if len(skipped) != len(loaded) {
			t.Fatalf("%s: Skip leaves %d bytes, MergeBinary %d", names[i], len(skipped), len(loaded))
		}
	}
	if string(skipped) != "rest" || string(loaded) != "rest" {
		t.Errorf("left: %q and %q", skipped, loaded)
	}
}

func TestSmallRowsAreSmall(t *testing.T) {
	for _, c := range []struct {
		names  []string
		values int
		most   int
	}{
		{every(), 5, 2 + 2 + 5*8},
		{every(), 1000, 3 + 3 + 1000*8},
		{every(), 200_000, 12_000},
		{plain(), 200_000, 85},
		{[]string{"count"}, 200_000, 10},
	} {
		cc := composite(t, c.names...)
		r := seeded(t)
		row := rowOf(cc)
		for range c.values {
			cc.AddRecord(row)
			cc.Add(row, 0, 1.7e12+r.ExpFloat64()*60_000)
		}
		if n := len(cc.AppendBinary(nil, row)); n > c.most {
			t.Errorf("%d values, %d functions: %d bytes, want at most %d", c.values, len(c.names), n, c.most)
		}
	}
}

func TestMalformedRowsAreRefused(t *testing.T) {
	all, plainOnly, counted := composite(t, every()...), composite(t, plain()...), composite(t, "count")
	row := func(head byte, count uint64, parts ...any) []byte {
		b := []byte{1, 0, head}
		b = appendCount(b, count)
		for _, p := range parts {
			switch v := p.(type) {
			case float64:
				b = appendFloats(b, v)
			case int:
				b = appendCount(b, uint64(v))
			}
		}
		return b
	}
	digest := func(count uint64, x extrema, centroids ...any) []byte {
		return row(headOf(needSum|needMoments|needExtrema|needSamples, false), count,
			append([]any{0.0, 0.0, 0.0, 0.0, 0.0, x.min, x.max}, centroids...)...)
	}
	head := headOf(needSum|needMoments|needExtrema, false)
	for _, c := range []struct {
		name  string
		c     *Composite
		bytes []byte
		want  string // empty: it is legal
	}{
		{"nothing", all, nil, "cut off"},
		{"the version of other functions", all, []byte{2, 0, 0}, "version 2, want 1"},
		{"a newer version", all, []byte{3, 0, 0}, "version 3 is newer than this program, which reads up to 2"},
		{"no blocks", all, []byte{1, 0}, "cut off"},
		{"endless integer", all, append([]byte{1}, bytes.Repeat([]byte{0xff}, 11)...), "cut off integer"},
		{"too many records", all, append(appendCount([]byte{1}, 1<<53+1), 0), "integer out of range"},
		{"legal values", all, row(blockRaw, 2, 1.0, 2.0), ""},
		{"values cut off", all, row(blockRaw, 2, 1.0), "cut off values"},
		{"no values", all, row(blockRaw, 0), "block without values"},
		{"more values than are kept", all, append(row(blockRaw, 1001), make([]byte, 8008)...), "raw values out of place"},
		{"a count that asks for memory", all, row(blockRaw, 1<<40), "raw values out of place"},
		{"NaN", all, row(blockRaw, 1, math.NaN()), "not finite"},
		{"infinity", all, row(blockRaw, 1, math.Inf(-1)), "not finite"},
		{"values where none are kept", plainOnly, row(blockRaw, 1, 1.0), "raw values out of place"},
		{"legal sums", plainOnly, row(head, 1, 5.0, 0.0, 5.0, 0.0, 0.0, 5.0, 5.0), ""},
		{"other functions", plainOnly, row(headOf(needSum, false), 1, 5.0, 0.0), "block of other functions"},
		{"unknown bits", plainOnly, row(head|0x80, 1, 5.0, 0.0, 5.0, 0.0, 0.0, 5.0, 5.0), "block of other functions"},
		{"wide without a sum", counted, row(headOf(0, true), 1), "block of other functions"},
		{"no sum", plainOnly, row(head, 1, 5.0), "cut off number"},
		{"negative variance", plainOnly, row(head, 1, 5.0, 0.0, 5.0, 0.0, -1.0, 5.0, 5.0), "negative variance"},
		{"NaN variance", plainOnly, row(head, 1, 5.0, 0.0, 5.0, 0.0, math.NaN(), 5.0, 5.0), "negative variance"},
		{"overflowed variance", plainOnly, row(head, 1, 5.0, 0.0, 5.0, 0.0, math.Inf(1), 5.0, 5.0), ""},
		{"min above max", plainOnly, row(head, 1, 5.0, 0.0, 5.0, 0.0, 0.0, 6.0, 5.0), "min above max"},
		{"a sum that its values cannot have", plainOnly, row(head, 1, 1e308, 0.0, 5.0, 0.0, 0.0, 5.0, 5.0), "sum beyond"},
		{"a legal digest", all, digest(3, extrema{1, 2}, 2, 1.0, 1, 2.0, 2), ""},
		{"too many centroids", all, digest(3, extrema{1, 2}, 2001), "too many centroids"},
		{"centroids cut off", all, digest(3, extrema{1, 2}, 2, 1.0, 1), "cut off number"},
		{"means out of order", all, digest(2, extrema{1, 3}, 2, 2.0, 1, 1.0, 1), "out of order"},
		{"mean below min", all, digest(1, extrema{1, 3}, 1, 0.5, 1), "out of order"},
		{"mean above max", all, digest(1, extrema{1, 3}, 1, 3.5, 1), "out of order"},
		{"weight 0", all, digest(1, extrema{1, 3}, 2, 2.0, 0, 2.0, 1), "weight out of range"},
		{"more weight than values", all, digest(2, extrema{1, 3}, 1, 2.0, 3), "weight out of range"},
		{"less weight than values", all, digest(2, extrema{1, 3}, 1, 2.0, 1), "do not add up"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &Row{}
			c.c.Reset(r)
			_, merge := c.c.MergeBinary(r, c.bytes)
			_, skip := c.c.Skip(c.bytes)
			for _, err := range []error{merge, skip} {
				switch {
				case c.want == "" && err != nil:
					t.Errorf("a legal row: %v", err)
				case c.want != "" && (!errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), c.want)):
					t.Errorf("got %v, want ErrMalformed with %q", err, c.want)
				}
			}
		})
	}
}

func TestNoRowHoldsMoreThanAFloatCanCount(t *testing.T) {
	c := composite(t, "count")
	row := append(appendCount([]byte{1}, 1<<53), blockFolded)
	row = appendCount(row, 1<<53)
	r := &Row{}
	c.Reset(r)
	mergeBinary(t, c, r, row)
	if got := string(c.AppendResults(nil, r)); got != `{"count":9007199254740992}` {
		t.Errorf("got %s", got)
	}
	if _, err := c.MergeBinary(r, row); !errors.Is(err, ErrMalformed) {
		t.Errorf("twice that: %v, want ErrMalformed", err)
	}
}

func appendCount(b []byte, n uint64) []byte {
	for n >= 0x80 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}

// Whatever the bytes are: no panic, Skip and MergeBinary agree, and what was loaded can be stored, loaded and asked.
func FuzzMergeBinary(f *testing.F) {
	c, _, rows := goldens(f)
	for _, r := range rows {
		f.Add(c.AppendBinary(nil, r))
	}
	big := rowOf(c)
	for i := range 3000 {
		c.Add(big, 0, float64(i%700)*1.5)
		c.Add(big, 1, math.Exp(float64(i)/5))
	}
	f.Add(c.AppendBinary(nil, big))
	f.Fuzz(func(t *testing.T, b []byte) {
		row, base := rowOf(c), rowOf(c, 1, 2, 3)
		rest, err := c.MergeBinary(row, b)
		skipped, skipErr := c.Skip(b)
		if (err == nil) != (skipErr == nil) || !bytes.Equal(rest, skipped) {
			t.Fatalf("MergeBinary: %d left, %v; Skip: %d left, %v", len(rest), err, len(skipped), skipErr)
		}
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("%v is not ErrMalformed", err)
			}
			return
		}
		if _, err := c.MergeBinary(base, b); err != nil {
			if c.Records(row)+3 <= countMost && row.values[0].count()+3 <= countMost {
				t.Fatalf("into a row that is not empty: %v", err)
			}
		} else {
			c.AppendResults(nil, base)
		}
		want := c.AppendResults(nil, row)
		again := rowOf(c)
		if _, err := c.MergeBinary(again, c.AppendBinary(nil, row)); err != nil {
			t.Fatalf("stored again: %v", err)
		}
		if got := c.AppendResults(nil, again); !bytes.Equal(got, want) {
			t.Fatalf("stored again: %s, want %s", got, want)
		}
	})
}
