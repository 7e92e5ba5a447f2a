package aggregate

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
)

// product is a user-defined function of the tests: the product of numbers as the sum of their exponents.
type product struct{ exponent int64 }

func (p *product) Reset() { p.exponent = 0 }

func (p *product) Add(in *Input) {
	_, e := math.Frexp(in.Number)
	p.exponent += int64(e)
}

func (p *product) Merge(other State) {
	if o, ok := other.(*product); ok {
		p.exponent += o.exponent
	}
}

func (p *product) AppendBinary(dst []byte) ([]byte, error) {
	return binary.AppendVarint(dst, p.exponent), nil
}

func (p *product) MergeBinary(stored []byte) error {
	e, n := binary.Varint(stored)
	if n != len(stored) || n <= 0 {
		return errors.New("no product")
	}
	p.exponent += e
	return nil
}

func (p *product) AppendJSON(dst []byte) []byte {
	return fmt.Appendf(dst, `{"exponent":%d}`, p.exponent)
}

func own(t testing.TB) *Registry {
	t.Helper()
	g, err := NewRegistry(Definition{Name: "product", Doc: "Exponent of the product.", Version: 3, New: func() State { return &product{} }})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func parsed(t testing.TB, g *Registry, names ...string) []Function {
	t.Helper()
	var out []Function
	for _, name := range names {
		f, err := g.Parse(name)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, f)
	}
	return out
}

// goldens2 are rows of version 2.
func goldens2(t testing.TB) (c *Composite, names []string, rows []*Row) {
	t.Helper()
	c, err := NewComposite([]Value{
		{Name: "who", Functions: functions(t, "count", "first", "last", "distinct")},
		{Name: "ms", Functions: parsed(t, own(t), "sum", "first", "p50", "product"), Sketch: Sketch{DDSketch, 0.01}},
		{Name: "plain", Functions: functions(t, "max", "p50")},
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
	text := func(s string, p Position) *Input { return &Input{Kind: InputString, Text: []byte(s), At: p} }
	add("empty", func(*Row) {})
	add("a few values", func(r *Row) {
		for i, v := range []string{"ann", "bob", "ann"} {
			c.AddRecord(r)
			c.AddInput(r, 0, text(v, Position{Time: 1_700_000_000_000 - 7, Topic: 1, Partition: 300, Offset: int64(i)}))
			c.AddInput(r, 1, &Input{Kind: InputNumber, Number: float64(i) - 1, Text: fmt.Appendf(nil, "%d.0", i-1), At: Position{Time: -5, Offset: int64(i)}})
		}
		c.AddInput(r, 0, &Input{Kind: InputBool, Text: []byte("true"), At: Position{Time: 1_800_000_000_000}})
		c.Add(r, 2, 1.5)
	})
	add("sketches", func(r *Row) { // made by hand: the golden is of the bytes, not of the hash or the scale
		r.values[0].folded = 2000
		r.values[0].more.first.offer(InputNumber, Position{Offset: 9}, []byte("1e3"), -1)
		r.values[0].more.last.offer(InputString, Position{Offset: 9}, []byte("x"), 1)
		d := &r.values[0].more.distinct
		d.sketch()
		d.registers[0], d.registers[300], d.registers[distinctRegisters-1] = 3, 1, distinctMostRank
		a := &r.values[1]
		a.mergeComponents(1203, &sum{hi: 12030, lo: 0.5}, moments{}, extrema{-1, 1.7e12})
		a.more.buckets.list = []bucket{{-37592, 1}, {0, 200}, {37591, 2}, {37592, 1000}}
		a.more.first.offer(InputNumber, Position{}, []byte("-1"), -1)
		a.more.own[0].(*product).exponent = -12 //nolint:forcetypeassert // it is ours
	})
	return c, names, rows
}

func TestStoredBytesOfVersion2AreTheGolden(t *testing.T) {
	c, names, rows := goldens2(t)
	var got strings.Builder
	for i, r := range rows {
		fmt.Fprintf(&got, "%s\n%s\n%s\n", names[i], hex.EncodeToString(c.AppendBinary(nil, r)), c.AppendResults(nil, r))
	}
	// All registers of a large sketch: 12 KB, of which only a checksum is in the golden.
	d := composite(t, "distinct")
	large := rowOf(d)
	inputs := texts(20_000)
	for i := range inputs {
		d.AddInput(large, 0, &inputs[i])
	}
	stored := d.AppendBinary(nil, large)
	fmt.Fprintf(&got, "20,000 texts\n%d bytes, SHA-256 %x\n%s\n", len(stored), sha256.Sum256(stored), d.AppendResults(nil, large))

	want := golden(t, "rows-v2.golden", got.String())
	lines := strings.Split(want, "\n")
	for i := range rows { // what an earlier run stored gives the same results
		b, err := hex.DecodeString(lines[3*i+1])
		if err != nil {
			t.Fatal(err)
		}
		r := &Row{}
		c.Reset(r)
		mergeBinary(t, c, r, b)
		if got := string(c.AppendResults(nil, r)); got != lines[3*i+2] {
			t.Errorf("%s: loaded results %s, want %s", lines[3*i], got, lines[3*i+2])
		}
	}
}

// Pipelines that use nothing new write what they always wrote, so that older programs can still read it.
func TestOnlyRowsThatNeedItAreOfVersion2(t *testing.T) {
	for names, want := range map[string]byte{"count p50 stddev": 1, "count": 1, "count first": 2, "distinct": 2, "last": 2} {
		c := composite(t, strings.Fields(names)...)
		if got := c.AppendBinary(nil, rowOf(c, 1))[0]; got != want {
			t.Errorf("%s: version %d, want %d", names, got, want)
		}
	}
	if c := sketched(t, 0.01, "p50"); c.AppendBinary(nil, rowOf(c, 1))[0] != 2 {
		t.Error("buckets are of version 2")
	}
}

func TestMalformedRowsOfVersion2AreRefused(t *testing.T) {
	row := func(parts ...any) []byte {
		b := []byte{2, 0}
		for _, p := range parts {
			switch v := p.(type) {
			case byte:
				b = append(b, v)
			case int:
				b = appendCount(b, uint64(v))
			case int64:
				b = binary.AppendVarint(b, v)
			case float64:
				b = appendFloats(b, v)
			case string:
				b = append(b, v...)
			}
		}
		return b
	}
	zero := string(make([]byte, 4)) // a position
	hash := func(n uint64) string { return string(binary.LittleEndian.AppendUint64(nil, n)) }
	g := own(t)
	first, distinct := composite(t, "first"), composite(t, "distinct")
	buckets, product := sketched(t, 0.01, "p50"), must(NewComposite([]Value{{Name: "x", Functions: parsed(t, g, "product")}}))
	head := blockFolded | blockExtrema | blockBuckets
	for _, c := range []struct {
		name  string
		c     *Composite
		bytes []byte
		want  string // empty: it is legal
	}{
		{"the version of other functions", first, []byte{1, 0, 2, 1}, "version 1, want 2"},
		{"a newer version", first, []byte{3, 0, 0}, "version 3 is newer than this program"},
		{"no more", first, row(blockFolded, 1), "cut off"},
		{"other parts", first, row(blockFolded, 1, partLast), "other functions"},
		{"a number", first, row(blockFolded, 1, partFirst, zero, byte(InputNumber), 4, "1e-3"), ""},
		{"a string", first, row(blockFolded, 1, partFirst, zero, byte(InputString), 2, "xy"), ""},
		{"a boolean", first, row(blockFolded, 1, partFirst, zero, byte(InputBool), 4, "true"), ""},
		{"no number", first, row(blockFolded, 1, partFirst, zero, byte(InputNumber), 2, "1e"), "no such input"},
		{"no boolean", first, row(blockFolded, 1, partFirst, zero, byte(InputBool), 4, "yeah"), "no such input"},
		{"no kind", first, row(blockFolded, 1, partFirst, zero, byte(0), 0), "no such input"},
		{"a text cut off", first, row(blockFolded, 1, partFirst, zero, byte(InputString), 3, "xy"), "cut off"},
		{"a partition out of range", first, row(blockFolded, 1, partFirst, int64(0), 0, 1<<31, int64(0), byte(InputString), 0), "out of range"},
		{"hashes", distinct, row(blockFolded, 3, partDistinct, distinctHashes, 2, hash(1), hash(2)), ""},
		{"no hashes", distinct, row(blockFolded, 3, partDistinct, distinctHashes, 0), "hashes out of range"},
		{"more hashes than values", distinct, row(blockFolded, 1, partDistinct, distinctHashes, 2, hash(1), hash(2)), "hashes out of range"},
		{"more hashes than are kept", distinct, row(blockFolded, 2000, partDistinct, distinctHashes, 1025, strings.Repeat(hash(1), 1025)), "hashes out of range"},
		{"hashes out of order", distinct, row(blockFolded, 3, partDistinct, distinctHashes, 2, hash(2), hash(1)), "out of order"},
		{"registers", distinct, row(blockFolded, 2000, partDistinct, distinctSparse, 2, 0, byte(1), distinctRegisters-1, byte(51)), ""},
		{"a register beyond", distinct, row(blockFolded, 2000, partDistinct, distinctSparse, 1, distinctRegisters, byte(1)), "register out of range"},
		{"a register twice", distinct, row(blockFolded, 2000, partDistinct, distinctSparse, 2, 5, byte(1), 0, byte(1)), "register out of range"},
		{"a rank of 0", distinct, row(blockFolded, 2000, partDistinct, distinctSparse, 1, 5, byte(0)), "register out of range"},
		{"a rank beyond", distinct, row(blockFolded, 2000, partDistinct, distinctSparse, 1, 5, byte(52)), "register out of range"},
		{"all registers", distinct, row(blockFolded, 2000, partDistinct, distinctDense, strings.Repeat("\x41\x10\x04", denseLength/3)), ""},
		{"registers cut off", distinct, row(blockFolded, 2000, partDistinct, distinctDense, strings.Repeat("\x41", denseLength-1)), "cut off"},
		{"registers beyond", distinct, row(blockFolded, 2000, partDistinct, distinctDense, strings.Repeat("\xff", denseLength)), "register out of range"},
		{"another form", distinct, row(blockFolded, 2000, partDistinct, byte(3)), "no such form"},
		{"buckets", buckets, row(head, 3, -1.0, 1.0, 2, int64(-5), 1, 10, 2), ""},
		{"too many buckets", buckets, row(head, 3, -1.0, 1.0, 1<<20), "too many buckets"},
		{"a bucket twice", buckets, row(head, 3, -1.0, 1.0, 2, int64(-5), 1, 0, 2), "out of order"},
		{"an empty bucket", buckets, row(head, 3, -1.0, 1.0, 2, int64(-5), 0, 1, 3), "bucket out of range"},
		{"a key beyond", buckets, row(head, 3, -1.0, 1.0, 1, int64(1<<40), 3), "bucket out of range"},
		{"less values than the count", buckets, row(head, 3, -1.0, 1.0, 1, int64(1), 2), "do not add up"},
		{"more values than the count", buckets, row(head, 3, -1.0, 1.0, 1, int64(1), 4), "bucket out of range"},
		{"a digest in place of buckets", buckets, row(blockFolded|blockExtrema|blockDigest, 3), "other functions"},
		{"a state", product, row(blockFolded, 1, partOwn, 1, 1, byte(4)), ""},
		{"a state cut off", product, row(blockFolded, 1, partOwn, 1, 3, byte(4)), "cut off"},
		{"another number of states", product, row(blockFolded, 1, partOwn, 2, 1, byte(4), 1, byte(4)), "other functions"},
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
			if c.want == "" {
				c.c.AppendResults(nil, r)
			}
		})
	}
	r := &Row{}
	product.Reset(r)
	if _, err := product.MergeBinary(r, row(blockFolded, 1, partOwn, 1, 2, byte(4), byte(4))); !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), "function product: no product") {
		t.Errorf("what a function refuses: %v", err)
	}
}

func must(c *Composite, err error) *Composite {
	if err != nil {
		panic(err)
	}
	return c
}

// As FuzzMergeBinary, of version 2.
func FuzzMergeBinaryOfVersion2(f *testing.F) {
	c, _, rows := goldens2(f)
	for _, r := range rows {
		f.Add(c.AppendBinary(nil, r))
	}
	many := texts(5000)
	big := rowOf(c)
	for i := range many {
		c.AddInput(big, 0, &many[i])
		c.Add(big, 1, math.Exp(float64(i)/5-400))
	}
	f.Add(c.AppendBinary(nil, big))
	f.Fuzz(func(t *testing.T, b []byte) {
		row, base := rowOf(c), rowOf(c, 1, 2, 3)
		rest, err := c.MergeBinary(row, b)
		skipped, skipErr := c.Skip(b)
		if err == nil && (skipErr != nil || !bytes.Equal(rest, skipped)) {
			t.Fatalf("MergeBinary: %d left; Skip: %d left, %v", len(rest), len(skipped), skipErr)
		}
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("%v is not ErrMalformed", err)
			}
			return
		}
		if _, err := c.MergeBinary(base, b); err == nil {
			c.AppendResults(nil, base)
			c.AppendBinary(nil, base)
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

func TestNewRegistryRefusesWhatMakesNoFunction(t *testing.T) {
	state := func() State { return &product{} }
	for name, d := range map[string]Definition{
		"a name is 1 to 64": {Name: "Top", Doc: "d", New: state}, "a name is 1 to": {Doc: "d", New: state}, "a name is": {Name: "9lives", Doc: "d", New: state},
		"there is a function": {Name: "sum", Doc: "d", New: state}, "there is": {Name: "percentile", Doc: "d", New: state},
		"there is a": {Name: "p50", Doc: "d", New: state}, "it has no New": {Name: "x", Doc: "d"}, "it has no Doc": {Name: "x", New: state},
	} {
		if _, err := NewRegistry(d); !errors.Is(err, ErrDefinition) || !strings.Contains(err.Error(), name) {
			t.Errorf("%q: %v, want %q", d.Name, err, name)
		}
	}
	if _, err := NewRegistry(Definition{Name: "x", Doc: "d", New: state}, Definition{Name: "x", Doc: "d", New: state}); !errors.Is(err, ErrDefinition) {
		t.Errorf("one name twice: %v", err)
	}
	g := own(t)
	f, err := g.Parse("product")
	if err != nil || f.Kind != UserDefined || f.Name() != "product" || f.Definition().Version != 3 {
		t.Errorf("%+v, %v", f, err)
	}
	if _, err := Parse("product"); !errors.Is(err, ErrUnknownFunction) {
		t.Errorf("without its registry: %v", err)
	}
	if _, err := g.Parse("produce"); err == nil || !strings.Contains(err.Error(), "distinct_count, product, and") {
		t.Errorf("the known names: %v", err)
	}
}

// wordy writes a result that is no JSON.
type wordy struct{ product }

func (*wordy) AppendJSON(dst []byte) []byte { return append(dst, "NaN"...) }

func TestAResultThatIsNoJSONIsNull(t *testing.T) {
	g, err := NewRegistry(Definition{Name: "wordy", Doc: "d", New: func() State { return &wordy{} }})
	if err != nil {
		t.Fatal(err)
	}
	c := must(NewComposite([]Value{{Name: "x", Functions: parsed(t, g, "count", "wordy")}}))
	if got := string(c.AppendResults(nil, rowOf(c, 1))); got != `{"count":1,"wordy":null}` {
		t.Errorf("got %s", got)
	}
	if got := string(AppendNumber(AppendNumber(nil, math.NaN()), 1.5)); got != "null1.5" {
		t.Errorf("got %s", got)
	}
}

// Rows of the new functions do not allocate once warm, however many values there are, but for what user-defined functions do.
func TestTheHotPathOfVersion2DoesNotAllocate(t *testing.T) {
	inputs := texts(3000)
	c := must(NewComposite([]Value{
		{Name: "who", Functions: functions(t, "count", "first", "last", "distinct")},
		{Name: "ms", Functions: functions(t, "sum", "p50", "first"), Sketch: Sketch{DDSketch, 0.01}},
	}))
	r, dst := &Row{}, &Row{}
	var stored, out []byte
	var in Input // one for all, as a reader of records has it
	run := func() {
		c.Reset(r)
		c.Reset(dst)
		for i := range inputs {
			in = Input{Kind: InputString, Text: inputs[i].Text, At: Position{Offset: int64(i)}}
			c.AddInput(r, 0, &in)
			in = Input{Kind: InputNumber, Number: float64(i) * 1.5, At: Position{Offset: int64(i)}}
			c.AddInput(r, 1, &in)
		}
		stored = c.AppendBinary(stored[:0], r)
		if _, err := c.MergeBinary(dst, stored); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Skip(stored); err != nil {
			t.Fatal(err)
		}
		out = c.AppendResults(out[:0], dst)
		c.Reset(dst)
		c.Merge(dst, r)
	}
	run()
	if n := testing.AllocsPerRun(20, run); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

// The functions of the new kinds, a value each, in groups of 1,000 of 300 distinct texts.
func BenchmarkAddInput(b *testing.B) {
	inputs := texts(300)
	for _, name := range []string{"count", "first", "last", "distinct", "p99 ddsketch"} {
		b.Run(name, func(b *testing.B) {
			function, sketch, _ := strings.Cut(name, " ")
			c := must(NewComposite([]Value{{Name: "x", Functions: functions(b, function)}}))
			if sketch != "" {
				c = sketched(b, 0.01, function)
			}
			r := rowOf(c)
			var in Input
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				in = Input{Kind: InputString, Text: inputs[n%300].Text, At: Position{Offset: int64(n)}}
				if sketch != "" {
					in = Input{Kind: InputNumber, Number: float64(n%7000) + 1}
				}
				c.AddInput(r, 0, &in)
				if n%100_000 == 0 || sketch == "" && n%1000 == 0 {
					c.Reset(r)
				}
			}
		})
	}
}
