package checkpoint_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/checkpoint"
	"github.com/llm-auto-optimizer/tidemark/statestore/memstore"
)

var update = flag.Bool("update", false, "write the golden file of the present version")

// written is a checkpoint with a whole slot, one that was given up, and one without deltas.
func written(t testing.TB) []byte {
	t.Helper()
	s := memstore.New()
	live(t, s, slotOf(0))
	live(t, s, slotOf(1))
	if _, _, err := s.Restore(t.Context(), slotOf(2), statestore.Restore{Token: token(9), Offset: 7, ReplayFrom: 7}); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w, err := checkpoint.NewWriter(&b, header())
	for p := range int32(3) {
		c := read(t, s, slotOf(p))
		var deltas []statestore.Delta
		for i, r := range c.Refs {
			deltas = append(deltas, statestore.Delta{Ref: r, Payload: c.Payloads[i]})
		}
		err = errors.Join(err, w.Begin(slotOf(p), c.Status.Meta))
		if p == 1 {
			err = errors.Join(err, w.Add(deltas[:3]), w.Void(), w.Begin(slotOf(p), c.Status.Meta))
		}
		err = errors.Join(err, w.Add(deltas), w.End())
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestFilesOfEachVersionAreRead reads the golden file of each version that was ever written. That of the present version is what
// is written now, byte for byte.
func TestFilesOfEachVersionAreRead(t *testing.T) {
	want := written(t)
	for version := 1; version <= checkpoint.Version; version++ {
		golden := filepath.Join("testdata", fmt.Sprintf("v%d.ckpt", version))
		if *update && version == checkpoint.Version {
			if err := os.WriteFile(golden, want, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		file, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if version == checkpoint.Version && !bytes.Equal(file, want) {
			t.Errorf("%s is not what is written now: a change of the format takes a new version", golden)
		}
		h, totals, err := checkpoint.Read(bytes.NewReader(file), checkpoint.Content{})
		if err != nil {
			t.Fatalf("%s: %v", golden, err)
		}
		same(t, "header", header(), h)
		same(t, "totals", checkpoint.Totals{Slots: 3, Deltas: 32, Bytes: int64(len(file))}, totals)
		same(t, golden, images(t, want), images(t, file))
	}
}

func TestWhatIsReadIsWhatWasWritten(t *testing.T) {
	s := memstore.New()
	live(t, s, slotOf(1))
	c := read(t, s, slotOf(1))
	got := images(t, written(t))
	if len(got) != 3 {
		t.Fatalf("%d slots, want 3", len(got))
	}
	m := got[slotOf(1)]
	same(t, "head", c.Status.Meta, m.Meta)
	var refs []statestore.DeltaRef
	var payloads [][]byte
	for _, d := range m.Deltas {
		refs, payloads = append(refs, d.Ref), append(payloads, d.Payload)
	}
	same(t, "deltas", c.Refs, refs)
	same(t, "payloads", c.Payloads, payloads)
	same(t, "the slot without deltas", int64(7), got[slotOf(2)].Applied)
}

// TestEveryCutIsFound truncates a file at each length.
func TestEveryCutIsFound(t *testing.T) {
	file := written(t)
	for n := range file {
		_, _, err := checkpoint.Read(bytes.NewReader(file[:n]), checkpoint.Content{})
		if !errors.Is(err, checkpoint.ErrDamaged) || !strings.Contains(err.Error(), fmt.Sprintf("byte %d", n)) {
			t.Fatalf("%d of %d bytes: %v, want ErrDamaged and the place", n, len(file), err)
		}
	}
	if _, _, err := checkpoint.Read(bytes.NewReader(append(file, 0)), checkpoint.Content{}); !errors.Is(err, checkpoint.ErrDamaged) {
		t.Errorf("a byte more: %v", err)
	}
}

// TestEveryFlippedBitIsFound changes one bit of each byte in turn. The version is the one thing that may be another.
func TestEveryFlippedBitIsFound(t *testing.T) {
	file := written(t)
	for i := range file {
		spoilt := bytes.Clone(file)
		spoilt[i] ^= 1 << (i % 8)
		_, _, err := checkpoint.Read(bytes.NewReader(spoilt), checkpoint.Content{})
		version := i >= 8 && i < 12
		if !errors.Is(err, checkpoint.ErrDamaged) && !(version && errors.Is(err, checkpoint.ErrVersion)) {
			t.Fatalf("byte %d of %d: %v", i, len(file), err)
		}
	}
}

func TestDamageNamesTheSlot(t *testing.T) {
	file := written(t)
	second := bytes.LastIndex(file, statestore.AppendSlot(nil, slotOf(1)))
	file[second+statestore.SlotSize+statestore.MetaSize+40] ^= 1
	_, _, err := checkpoint.Read(bytes.NewReader(file), checkpoint.Content{})
	if !errors.Is(err, checkpoint.ErrDamaged) || !strings.Contains(err.Error(), slotOf(1).String()) {
		t.Errorf("%v, want ErrDamaged and the slot", err)
	}
}

func TestOtherFilesAreRefused(t *testing.T) {
	newer := written(t)
	binary.LittleEndian.PutUint32(newer[8:], checkpoint.Version+1)
	_, _, err := checkpoint.Read(bytes.NewReader(newer), checkpoint.Content{})
	if !errors.Is(err, checkpoint.ErrVersion) || errors.Is(err, checkpoint.ErrDamaged) || !strings.Contains(err.Error(), fmt.Sprint(checkpoint.Version+1)) {
		t.Errorf("newer version: %v, want ErrVersion with the number", err)
	}
	for name, text := range map[string]string{
		"empty": "", "text": strings.Repeat("some other file\n", 10), "of version 0": "\x89TMK\r\n\x1a\n\x00\x00\x00\x00",
		"through a text filter": strings.ReplaceAll(string(written(t)), "\r\n", "\n"),
	} {
		if _, _, err := checkpoint.Read(strings.NewReader(text), checkpoint.Content{}); !errors.Is(err, checkpoint.ErrDamaged) {
			t.Errorf("%s: %v, want ErrDamaged", name, err)
		}
	}
}

// frames makes a file of frames with right checksums.
type frames struct {
	all    []byte
	summed []byte // all but the checksums
}

func newFrames() *frames {
	return begun().add('H', []byte(`{"app":"shop"}`))
}

// begun is a file without a frame.
func begun() *frames {
	f := &frames{}
	f.part(binary.LittleEndian.AppendUint32([]byte("\x89TMK\r\n\x1a\n"), 1))
	return f
}

func (f *frames) part(b []byte) {
	f.all = append(f.all, b...)
	f.summed = append(f.summed, b...)
}

func (f *frames) add(kind byte, body []byte) *frames {
	f.part(binary.LittleEndian.AppendUint32([]byte{kind}, uint32(len(body))))
	f.part(body)
	f.all = binary.LittleEndian.AppendUint32(f.all, crc32.Checksum(f.summed, crc32.MakeTable(crc32.Castagnoli)))
	return f
}

func (f *frames) begin(slot statestore.Slot, m statestore.Meta) *frames {
	return f.add('S', append(statestore.AppendSlot(nil, slot), statestore.EncodeMeta(m)...))
}

func plainDelta(ref statestore.DeltaRef, length uint64, payload string) []byte {
	b := statestore.AppendField(statestore.AppendSlice(nil, ref.Slice), ref)
	return append(binary.AppendUvarint(b, length), payload...)
}

// TestCraftedFilesAreRefused has files whose checksums are right and whose frames are not.
func TestCraftedFilesAreRefused(t *testing.T) {
	meta := statestore.Meta{Applied: 10}
	ref := statestore.DeltaRef{From: 1, To: 5}
	ok := func() *frames {
		return newFrames().begin(slotOf(0), meta).add('P', plainDelta(ref, 2, "ab")).add('E', []byte{1})
	}
	whole := ok().add('T', []byte{1, 1, 0})
	if _, _, err := checkpoint.Read(bytes.NewReader(whole.all), checkpoint.Content{}); err != nil {
		t.Fatalf("the file that the others are made of: %v", err)
	}
	head := statestore.AppendSlot(nil, slotOf(0))
	for name, f := range map[string]*frames{
		"no header":                begun().add('T', []byte{0, 0, 0}),
		"two headers":              newFrames().add('H', []byte(`{}`)),
		"header of something else": begun().add('H', []byte("[]")),
		"unknown frame":            newFrames().add('?', nil),
		"slot without a head":      newFrames().add('S', head),
		"slot of no name":          newFrames().add('S', bytes.Repeat([]byte("?"), 242)),
		"slot of a damaged head":   newFrames().add('S', append(head, bytes.Repeat([]byte("?"), statestore.MetaSize)...)),
		"slot within a slot":       newFrames().begin(slotOf(0), meta).begin(slotOf(1), meta),
		"slot twice":               ok().begin(slotOf(0), meta),
		"delta outside of a slot":  newFrames().add('P', plainDelta(ref, 2, "ab")),
		"end outside of a slot":    newFrames().add('E', []byte{0}),
		"void outside of a slot":   newFrames().add('V', nil),
		"trailer within a slot":    newFrames().begin(slotOf(0), meta).add('T', []byte{0, 0, 0}),
		"payload that is too long": newFrames().begin(slotOf(0), meta).add('P', plainDelta(ref, 3, "ab")),
		"payload beyond numbers":   newFrames().begin(slotOf(0), meta).add('P', plainDelta(ref, 1<<63, "ab")),
		"delta cut short":          newFrames().begin(slotOf(0), meta).add('P', plainDelta(ref, 2, "ab")[:61]),
		"delta of no slice":        newFrames().begin(slotOf(0), meta).add('P', bytes.Repeat([]byte("?"), 70)),
		"delta of no name":         newFrames().begin(slotOf(0), meta).add('P', append(statestore.AppendSlice(nil, ref.Slice), bytes.Repeat([]byte("?"), 50)...)),
		"page that is no payload":  newFrames().begin(slotOf(0), meta).add('D', []byte("page")),
		"fewer deltas than said":   newFrames().begin(slotOf(0), meta).add('E', []byte{1}),
		"end with more":            newFrames().begin(slotOf(0), meta).add('E', []byte{0, 0}),
		"delta beyond applied":     newFrames().begin(slotOf(0), meta).add('P', plainDelta(statestore.DeltaRef{From: 5, To: 11}, 0, "")).add('E', []byte{1}),
		"delta twice":              newFrames().begin(slotOf(0), meta).add('P', append(plainDelta(ref, 0, ""), plainDelta(ref, 0, "")...)).add('E', []byte{2}),
		"trailer of more slots":    ok().add('T', []byte{2, 1, 0}),
		"trailer of more deltas":   ok().add('T', []byte{1, 2, 0}),
		"trailer of more void":     ok().add('T', []byte{1, 1, 1}),
		"trailer that goes on":     ok().add('T', []byte{1, 1, 0, 0}),
		"trailer cut short":        ok().add('T', []byte{1, 1}),
		"frame after the trailer":  ok().add('T', []byte{1, 1, 0}).add('V', nil),
	} {
		keep := func(statestore.Slot, statestore.Image) error { return nil }
		if _, _, err := checkpoint.Read(bytes.NewReader(f.all), checkpoint.Content{Slot: keep}); !errors.Is(err, checkpoint.ErrDamaged) {
			t.Errorf("%s: %v, want ErrDamaged", name, err)
		}
	}
}

// TestFramesCannotChangePlaces swaps two frames of one length and puts in a third from another file, each with its own checksum.
func TestFramesCannotChangePlaces(t *testing.T) {
	f := newFrames().begin(slotOf(0), statestore.Meta{Applied: 9})
	frame := func(from int64, of *frames) []byte {
		before := len(of.all)
		of.add('P', plainDelta(statestore.DeltaRef{From: from, To: from + 1}, 0, ""))
		return bytes.Clone(of.all[before:])
	}
	at := len(f.all)
	first, second := frame(1, f), frame(2, f)
	f.add('E', []byte{2}).add('T', []byte{1, 2, 0})
	file := f.all
	if _, _, err := checkpoint.Read(bytes.NewReader(file), checkpoint.Content{}); err != nil {
		t.Fatal(err)
	}
	for name, pair := range map[string][][]byte{
		"swapped": {second, first}, "twice the first": {first, first}, "twice the second": {second, second},
		"of another file": {frame(1, newFrames().begin(slotOf(1), statestore.Meta{Applied: 9})), second},
	} {
		spoilt := slices.Concat(file[:at], pair[0], pair[1], file[at+len(first)+len(second):])
		if _, _, err := checkpoint.Read(bytes.NewReader(spoilt), checkpoint.Content{}); !errors.Is(err, checkpoint.ErrDamaged) {
			t.Errorf("%s: %v, want ErrDamaged", name, err)
		}
	}
}

// TestALyingLengthAsksForNoMemory has a frame of 60 MB in a file of a few bytes.
func TestALyingLengthAsksForNoMemory(t *testing.T) {
	file := binary.LittleEndian.AppendUint32([]byte("\x89TMK\r\n\x1a\n"), 1)
	file = append(binary.LittleEndian.AppendUint32(append(file, 'H'), 60<<20), "short"...)
	var r bytes.Reader
	allocated := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			r.Reset(file)
			if _, _, err := checkpoint.Read(&r, checkpoint.Content{}); !errors.Is(err, checkpoint.ErrDamaged) {
				b.Fatal(err)
			}
		}
	})
	if n := allocated.AllocedBytesPerOp(); n > 4<<20 {
		t.Errorf("%d bytes of memory for a file of %d", n, len(file))
	}
}

func TestLargeAndManyPayloads(t *testing.T) {
	s := memstore.New()
	sizes := []int{0, 1, 255 << 10, 256 << 10, 257 << 10, 3 << 20}
	var deltas []statestore.Delta
	for i, size := range sizes {
		d := delta(list(0, 0), int64(i), int64(i)+1, 0, 0)
		d.Payload = noise(uint64(i), size)
		deltas = append(deltas, d)
	}
	m := statestore.Image{Meta: statestore.Meta{Applied: 100}, Deltas: deltas}
	if err := s.Import(t.Context(), slotOf(0), m); err != nil {
		t.Fatal(err)
	}
	got := images(t, export(t, s, allSlots(1)))[slotOf(0)]
	for i, d := range got.Deltas {
		if d.Ref != deltas[i].Ref || !bytes.Equal(d.Payload, deltas[i].Payload) {
			t.Errorf("delta %d of %d bytes came back as %d", i, sizes[i], len(d.Payload))
		}
	}
	if len(got.Deltas) != len(sizes) {
		t.Errorf("%d deltas, want %d", len(got.Deltas), len(sizes))
	}
}

// TestThePayloadAtTheLimit has the largest payload that a store decodes: with its name it is more than a page may have.
func TestThePayloadAtTheLimit(t *testing.T) {
	d := delta(list(0, 0), 0, 1, 0, 0)
	d.Payload = make([]byte, statestore.MaxPayload)
	d.Payload[statestore.MaxPayload-1] = 7
	r, w := io.Pipe()
	go func() {
		cw, err := checkpoint.NewWriter(w, header())
		if err == nil {
			err = errors.Join(cw.Begin(slotOf(0), statestore.Meta{Applied: 1}), cw.Add([]statestore.Delta{d}), cw.End(), cw.Close())
		}
		w.CloseWithError(err)
	}()
	found := false
	_, _, err := checkpoint.Read(r, checkpoint.Content{Slot: func(_ statestore.Slot, m statestore.Image) error {
		found = len(m.Deltas) == 1 && bytes.Equal(m.Deltas[0].Payload, d.Payload)
		return nil
	}})
	if err != nil || !found {
		t.Errorf("found %v, %v", found, err)
	}
	cw, err := checkpoint.NewWriter(io.Discard, header())
	if err = errors.Join(err, cw.Begin(slotOf(0), statestore.Meta{Applied: 1})); err != nil {
		t.Fatal(err)
	}
	d.Payload = append(d.Payload, 0)
	if err := cw.Add([]statestore.Delta{d}); !errors.Is(err, statestore.ErrInvalid) {
		t.Errorf("a payload that no store decodes: %v, want ErrInvalid", err)
	}
}

// FuzzRead: whatever is read, an error is one of the two, and what is read whole can be imported, exported, and is read again.
func FuzzRead(f *testing.F) {
	file := written(f)
	f.Add(file[12:])
	f.Add([]byte{})
	f.Add(newFrames().begin(slotOf(0), statestore.Meta{}).add('E', []byte{0}).add('T', []byte{1, 0, 0}).all[12:])
	f.Fuzz(func(t *testing.T, body []byte) {
		// The checksums are made right where the lengths are, so that the fuzzer gets past them.
		sealed := begun()
		for len(body) >= 5 {
			length := int(binary.LittleEndian.Uint32(body[1:]))
			if length > len(body)-5 {
				break
			}
			sealed.add(body[0], body[5:5+length])
			body = body[min(len(body), 5+length+4):]
		}
		sealed.part(body)
		s := memstore.New()
		var slots []statestore.Slot
		_, _, err := checkpoint.Read(bytes.NewReader(sealed.all), checkpoint.Content{Slot: func(slot statestore.Slot, m statestore.Image) error {
			slots = append(slots, slot)
			return s.Import(t.Context(), slot, m)
		}})
		if err != nil {
			if !errors.Is(err, checkpoint.ErrDamaged) {
				t.Errorf("%v, want ErrDamaged", err)
			}
			return
		}
		if again := images(t, export(t, s, slots)); len(again) != len(slots) {
			t.Errorf("%d slots, exported as %d", len(slots), len(again))
		}
	})
}
