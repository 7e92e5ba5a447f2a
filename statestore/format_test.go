package statestore_test

import (
	"bytes"
	"errors"
	"flag"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/tests/seed"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares lines with testdata/name, or writes it with -update. What is in it is stored somewhere: it only grows.
func golden(t *testing.T, name string, lines []string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	got := strings.Join(lines, "\n") + "\n"
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
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func token(b byte) statestore.Token {
	var t statestore.Token
	for i := range t {
		t[i] = b + byte(i)
	}
	return t
}

func metas() []statestore.Meta {
	return []statestore.Meta{
		{},
		{
			Applied: 123456789, MaxTime: 1735734840000, LastRecordAt: 1735734871000,
			Base: statestore.Cut{Token: token(0x10), Offset: 123456000, Watermark: 1735734780000},
			Top:  statestore.Cut{Token: token(0xa0), Offset: 123456700, Watermark: 1735734840000},
		},
		{
			Applied: math.MaxInt64, MaxTime: event.MinTime, LastRecordAt: event.MaxTime,
			Base: statestore.Cut{Token: token(0xff), Offset: math.MaxInt64, Watermark: event.MinTime},
			Top:  statestore.Cut{Token: token(0), Offset: 0, Watermark: -1},
		},
	}
}

func refs() []statestore.DeltaRef {
	s := statestore.SliceID{Window: 3, Start: -60000}
	return []statestore.DeltaRef{
		{Slice: s},
		{Slice: s, From: 1, To: 2, Owned: 1},
		{Slice: s, From: 1, To: 2, Bucket: 255},
		{Slice: s, From: 255, To: 256, Bucket: 1, Owned: 77},
		{Slice: s, From: 256, To: 1000, Bucket: 16, Owned: math.MaxUint32},
		{Slice: s, From: math.MaxInt64 - 1, To: math.MaxInt64, Bucket: 10, Owned: 9},
	}
}

func TestStoredNamesAndHeads(t *testing.T) {
	var lines []string
	for _, m := range metas() {
		b := statestore.EncodeMeta(m)
		if len(b) != statestore.MetaSize {
			t.Errorf("head of %d bytes, want %d", len(b), statestore.MetaSize)
		}
		got, err := statestore.DecodeMeta(b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m, got); diff != "" {
			t.Errorf("head (-want +got):\n%s", diff)
		}
		lines = append(lines, "meta "+string(b))
	}
	for _, r := range refs() {
		b := statestore.AppendField(nil, r)
		if len(b) != statestore.FieldSize {
			t.Errorf("field name of %d bytes, want %d", len(b), statestore.FieldSize)
		}
		got, err := statestore.ParseField(r.Slice, b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r, got); diff != "" {
			t.Errorf("field (-want +got):\n%s", diff)
		}
		lines = append(lines, "field "+string(b))
	}
	for _, id := range []statestore.SliceID{
		{},
		{Window: 1, Start: event.MinTime},
		{Window: 1, Start: -1},
		{Window: 1, Start: 1735734840000},
		{Window: 1, Start: event.MaxTime},
		{Window: statestore.ListRefused},
		{Window: statestore.ListOutbox},
		{Window: statestore.ListCounts},
	} {
		b := statestore.AppendSlice(nil, id)
		got, err := statestore.ParseSlice(b)
		if err != nil || got != id || len(b) != statestore.SliceSize {
			t.Errorf("slice %v came back as %v, %v", id, got, err)
		}
		lines = append(lines, "slice "+string(b))
	}
	for _, s := range []statestore.Slot{
		{Pipeline: "0123456789abcdef"},
		{Pipeline: "ffffffffffffffff", Shard: 255, TopicID: token(0xf0), Topic: "named in messages", Partition: math.MaxInt32},
	} {
		b := statestore.AppendSlot(nil, s)
		got, err := statestore.ParseSlot(b)
		s.Topic = ""
		if err != nil || got != s || len(b) != statestore.SlotSize {
			t.Errorf("slot %v came back as %v, %v", s, got, err)
		}
		lines = append(lines, "slot "+string(b))
	}
	golden(t, "names.golden", lines)
}

func TestOrderOfBytesIsOrderOfValues(t *testing.T) {
	seed := seed.Of(t)
	rng := rand.New(rand.NewPCG(seed, 1))
	number := func() int64 { return int64(rng.Uint64() >> rng.IntN(64)) }
	for range 20000 {
		a, b := event.Time(number()), event.Time(-number())
		if got, want := bytes.Compare(statestore.AppendTime(nil, a), statestore.AppendTime(nil, b)), compare(a, b); got != want {
			t.Fatalf("times %d and %d compare as %d, want %d", a, b, got, want)
		}
		ref := func() statestore.DeltaRef {
			from := number() & math.MaxInt64
			return statestore.DeltaRef{From: from, To: from, Bucket: uint8(rng.IntN(256)), Owned: rng.Int64N(1 << 32)}
		}
		r, s := ref(), ref()
		if rng.IntN(2) == 0 {
			s.From, s.To = r.From, r.To
		}
		want := compare(r.From, s.From)
		if want == 0 {
			want = compare(r.Bucket, s.Bucket)
		}
		if got := bytes.Compare(statestore.AppendFieldKey(nil, r), statestore.AppendFieldKey(nil, s)); got != want {
			t.Fatalf("fields %v and %v compare as %d, want %d", r, s, got, want)
		}
	}
}

func TestDamagedNamesAreRefused(t *testing.T) {
	field := string(statestore.AppendField(nil, refs()[3]))
	meta := string(statestore.EncodeMeta(metas()[1]))
	slot := "0123456789abcdef" + strings.Repeat("0", statestore.SlotSize-16)
	parseField := func(b []byte) error { _, err := statestore.ParseField(statestore.SliceID{}, b); return err }
	parseMeta := func(b []byte) error { _, err := statestore.DecodeMeta(b); return err }
	parseSlot := func(b []byte) error { _, err := statestore.ParseSlot(b); return err }
	parseSlice := func(b []byte) error { _, err := statestore.ParseSlice(b); return err }
	for name, c := range map[string]struct {
		parse func([]byte) error
		in    string
	}{
		"field empty":           {parseField, ""},
		"field short":           {parseField, field[1:]},
		"field long":            {parseField, field + "0"},
		"field upper case":      {parseField, strings.ToUpper(field)},
		"field not hex":         {parseField, "g" + field[1:]},
		"field negative from":   {parseField, "f" + field[1:]},
		"field negative to":     {parseField, field[:18] + "f" + field[19:]},
		"field ends before":     {parseField, field[:18] + strings.Repeat("0", 16) + field[34:]},
		"field of a bad delta":  {parseField, string(statestore.AppendField(nil, statestore.DeltaRef{Owned: 1 << 32}))},
		"field of negative own": {parseField, string(statestore.AppendField(nil, statestore.DeltaRef{Owned: -1}))},
		"meta empty":            {parseMeta, ""},
		"meta of no version":    {parseMeta, "zz" + meta[2:]},
		"meta of version 0":     {parseMeta, "00" + meta[2:]},
		"meta short":            {parseMeta, meta[:len(meta)-1]},
		"meta long":             {parseMeta, meta + "0"},
		"meta negative applied": {parseMeta, "01f" + meta[3:]},
		"meta bad token":        {parseMeta, meta[:50] + "-" + meta[51:]},
		"meta bad time":         {parseMeta, meta[:18] + " " + meta[19:]},
		"slot short":            {parseSlot, slot[1:]},
		"slot not hex":          {parseSlot, "X" + slot[1:]},
		"slot huge shard":       {parseSlot, slot[:16] + "80000000" + slot[24:]},
		"slot negative part":    {parseSlot, slot[:56] + "ffffffff"},
		"slice short":           {parseSlice, strings.Repeat("0", statestore.SliceSize-1)},
		"slice not hex":         {parseSlice, strings.Repeat("Z", statestore.SliceSize)},
	} {
		if err := c.parse([]byte(c.in)); !errors.Is(err, statestore.ErrFormat) {
			t.Errorf("%s: %v, want ErrFormat", name, err)
		}
	}
}

func TestANewerVersionIsNoDamage(t *testing.T) {
	meta := string(statestore.EncodeMeta(statestore.Meta{}))
	for name, in := range map[string]string{"next": "02" + meta[2:], "much later": "ff" + meta[2:], "another length": "02"} {
		if _, err := statestore.DecodeMeta([]byte(in)); !errors.Is(err, statestore.ErrVersion) || errors.Is(err, statestore.ErrFormat) {
			t.Errorf("%s: %v, want ErrVersion alone", name, err)
		}
	}
}

func TestChecksNameWhatCannotBeStored(t *testing.T) {
	slot := statestore.Slot{Pipeline: "0123456789abcdef"}
	d := func(from, to, owned int64) statestore.Delta {
		return statestore.Delta{Ref: statestore.DeltaRef{From: from, To: to, Owned: owned}}
	}
	other := d(1, 2, 0)
	other.Slice.Start = 5
	refused := d(1, 2, 0)
	refused.Slice.Window = statestore.ListRefused
	commit := func(deltas ...statestore.Delta) error {
		return statestore.CheckCommit(slot, statestore.Commit{Applied: 10, To: 20, Deltas: deltas})
	}
	sweep := func(r ...statestore.Replace) error {
		return statestore.CheckSweep(slot, statestore.Sweep{Replace: r})
	}
	for name, c := range map[string]struct {
		err error
		ok  bool
	}{
		"slot":                 {statestore.CheckSlot(slot), true},
		"fingerprint":          {statestore.CheckSlot(statestore.Slot{Pipeline: "0123456789ABCDEF"}), false},
		"no fingerprint":       {statestore.CheckSlot(statestore.Slot{}), false},
		"shard":                {statestore.CheckSlot(statestore.Slot{Pipeline: slot.Pipeline, Shard: -1}), false},
		"partition":            {statestore.CheckSlot(statestore.Slot{Pipeline: slot.Pipeline, Partition: -1}), false},
		"commit":               {commit(d(10, 20, 0), d(19, 20, math.MaxUint32)), true},
		"delta before commit":  {commit(d(9, 20, 0)), false},
		"delta beyond commit":  {commit(d(10, 21, 0)), false},
		"delta ends before":    {commit(d(15, 14, 0)), false},
		"delta owns too much":  {commit(d(10, 20, 1<<32)), false},
		"delta owns too few":   {commit(d(10, 20, -1)), false},
		"commit backwards":     {statestore.CheckCommit(slot, statestore.Commit{Applied: 2, To: 1}), false},
		"commit from before 0": {statestore.CheckCommit(slot, statestore.Commit{Applied: -1, To: 1}), false},
		"commit to no slot":    {statestore.CheckCommit(statestore.Slot{}, statestore.Commit{}), false},
		"restore":              {statestore.CheckRestore(slot, statestore.Restore{Refused: []statestore.Delta{refused}}), true},
		"restore before 0":     {statestore.CheckRestore(slot, statestore.Restore{Offset: -1}), false},
		"replay from before 0": {statestore.CheckRestore(slot, statestore.Restore{ReplayFrom: -1}), false},
		"refused elsewhere":    {statestore.CheckRestore(slot, statestore.Restore{Refused: []statestore.Delta{other}}), false},
		"sweep":                {sweep(statestore.Replace{Remove: []statestore.DeltaRef{d(1, 2, 0).Ref}}), true},
		"sweep two slices":     {sweep(statestore.Replace{Remove: []statestore.DeltaRef{other.Ref}, With: []statestore.Delta{d(1, 2, 0)}}), false},
		"sweep removes in two": {sweep(statestore.Replace{Remove: []statestore.DeltaRef{other.Ref, refused.Ref}}), false},
		"sweep bad delta":      {sweep(statestore.Replace{With: []statestore.Delta{d(2, 1, 0)}}), false},
	} {
		if c.ok && c.err != nil || !c.ok && !errors.Is(c.err, statestore.ErrInvalid) {
			t.Errorf("%s: %v, want ok = %t", name, c.err, c.ok)
		}
	}
}

func FuzzParseField(f *testing.F) {
	for _, r := range refs() {
		f.Add(statestore.AppendField(nil, r))
	}
	f.Fuzz(func(t *testing.T, name []byte) {
		r, err := statestore.ParseField(statestore.SliceID{Window: 1}, name)
		checkDecoded(t, name, err, func() []byte {
			if err := statestore.CheckDelta(r); err != nil {
				t.Errorf("%q was read as a delta that cannot be stored: %v", name, err)
			}
			return statestore.AppendField(nil, r)
		})
	})
}

func FuzzDecodeMeta(f *testing.F) {
	for _, m := range metas() {
		f.Add(statestore.EncodeMeta(m))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := statestore.DecodeMeta(b)
		checkDecoded(t, b, err, func() []byte { return statestore.EncodeMeta(m) })
	})
}

func FuzzParseNames(f *testing.F) {
	f.Add(statestore.AppendSlice(nil, statestore.SliceID{Window: 7, Start: -5}))
	f.Add(statestore.AppendSlot(nil, statestore.Slot{Pipeline: "0123456789abcdef", Shard: 3, Partition: 9}))
	f.Add(statestore.AppendToken(nil, token(9)))
	f.Add(statestore.AppendTime(nil, -9))
	f.Fuzz(func(t *testing.T, b []byte) {
		id, err := statestore.ParseSlice(b)
		checkDecoded(t, b, err, func() []byte { return statestore.AppendSlice(nil, id) })
		slot, err := statestore.ParseSlot(b)
		checkDecoded(t, b, err, func() []byte {
			if err := statestore.CheckSlot(slot); err != nil {
				t.Errorf("%q was read as no slot: %v", b, err)
			}
			return statestore.AppendSlot(nil, slot)
		})
		tok, err := statestore.ParseToken(b)
		checkDecoded(t, b, err, func() []byte { return statestore.AppendToken(nil, tok) })
		at, err := statestore.ParseTime(b)
		checkDecoded(t, b, err, func() []byte { return statestore.AppendTime(nil, at) })
		offset, err := statestore.ParseOffset(b)
		checkDecoded(t, b, err, func() []byte { return statestore.AppendOffset(nil, offset) })
	})
}

// checkDecoded checks the law of every decoder here: what it takes has one spelling, what it does not take is ErrFormat, or
// ErrVersion.
func checkDecoded(t *testing.T, in []byte, err error, again func() []byte) {
	t.Helper()
	if err != nil {
		if errors.Is(err, statestore.ErrFormat) == errors.Is(err, statestore.ErrVersion) {
			t.Errorf("%q: %v, want ErrFormat or ErrVersion", in, err)
		}
		return
	}
	if got := again(); !bytes.Equal(got, in) {
		t.Errorf("%q was written again as %q", in, got)
	}
}

func compare[T int64 | uint8 | event.Time](a, b T) int {
	return slices.Compare([]T{a}, []T{b})
}
