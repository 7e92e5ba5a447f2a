package checkpoint

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// Content is what Read does with what it finds. Either function may be nil.
type Content struct {
	// Want is asked for each slot by its head, before its deltas are read; nil wants all. What is not wanted is checked, but not
	// kept.
	Want func(h Header, slot statestore.Slot, m statestore.Meta) bool
	// Slot gets each wanted slot, once it is whole. The image is the function's own. An error of it ends the reading.
	Slot func(slot statestore.Slot, image statestore.Image) error
}

// Read reads a checkpoint of any version up to Version, one slot in memory at a time. ErrVersion if it is newer, ErrDamaged if it
// is not whole; slots that come before the damage have been handed out by then, so read it once without Content to be sure.
func Read(r io.Reader, c Content) (Header, Totals, error) {
	d := &decoder{r: r, content: c, seen: map[statestore.Slot]struct{}{}}
	begin := make([]byte, len(magic)+4)
	if err := d.fill(begin); err != nil {
		return Header{}, Totals{}, err
	}
	if string(begin[:len(magic)]) != magic {
		return Header{}, Totals{}, fmt.Errorf("it does not begin as a checkpoint does: %w", ErrDamaged)
	}
	switch version := binary.LittleEndian.Uint32(begin[len(magic):]); version {
	case 1:
		err := d.version1()
		return d.header, d.totals, err
	case 0:
		return Header{}, Totals{}, fmt.Errorf("version 0: %w", ErrDamaged)
	default:
		return Header{}, Totals{}, fmt.Errorf("it is of version %d, this program reads up to %d; use the program that wrote it, or a newer one: %w", version, Version, ErrVersion)
	}
}

// decoder reads one file.
type decoder struct {
	r       io.Reader
	content Content
	at      int64  // bytes read
	sum     uint32 // of those that are no checksums
	header  Header
	totals  Totals
	voided  uint64
	slot    *section
	seen    map[statestore.Slot]struct{} // whole ones
}

// section is the slot that is being read.
type section struct {
	id     statestore.Slot
	image  statestore.Image
	deltas uint64
	wanted bool
}

func (d *decoder) damaged(format string, args ...any) error {
	where := fmt.Sprintf("byte %d", d.at)
	if d.slot != nil {
		where += ", slot " + d.slot.id.String()
	}
	return fmt.Errorf("at %s: %w: %w", where, fmt.Errorf(format, args...), ErrDamaged)
}

// fill reads exactly len(b) bytes.
func (d *decoder) fill(b []byte) error {
	n, err := io.ReadFull(d.r, b)
	d.at += int64(n)
	d.sum = crc32.Update(d.sum, crc32.MakeTable(crc32.Castagnoli), b[:n])
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return d.damaged("it ends here, before its trailer")
	}
	return err
}

// frame reads a frame, in memory of its own. A length that lies does not make it ask for more than there is.
func (d *decoder) frame() (kind byte, body []byte, err error) {
	var head [frameHead]byte
	if err := d.fill(head[:]); err != nil {
		return 0, nil, err
	}
	length := int(binary.LittleEndian.Uint32(head[1:]))
	if length > maxFrame {
		return 0, nil, d.damaged("a frame of %d bytes", length)
	}
	const step = 1 << 20
	for len(body) < length {
		n := len(body)
		body = append(body, make([]byte, min(step, length-n))...)
		if err := d.fill(body[n:]); err != nil {
			return 0, nil, err
		}
	}
	want := d.sum
	var tail [frameTail]byte
	if err := d.fill(tail[:]); err != nil {
		return 0, nil, err
	}
	d.sum = want
	if have := binary.LittleEndian.Uint32(tail[:]); have != want {
		return 0, nil, d.damaged("checksum %08x, want %08x", have, want)
	}
	return head[0], body, nil
}

// version1 reads frames up to the trailer and the end of the file.
func (d *decoder) version1() error {
	kind, body, err := d.frame()
	if err != nil {
		return err
	}
	if kind != kindHeader {
		return d.damaged("frame %q where the header should be", kind)
	}
	if err := json.Unmarshal(body, &d.header); err != nil {
		return d.damaged("header: %w", err)
	}
	for {
		kind, body, err := d.frame()
		if err != nil {
			return err
		}
		if inside := kind == kindPage || kind == kindPlain || kind == kindEnd || kind == kindVoid; inside != (d.slot != nil) {
			return d.damaged("frame %q is out of place", kind)
		}
		switch kind {
		case kindSlot:
			err = d.begin(body)
		case kindPage, kindPlain:
			err = d.page(kind, body)
		case kindVoid:
			d.slot = nil
			d.voided++
		case kindEnd:
			err = d.end(body)
		case kindTrailer:
			return d.trailer(body)
		default:
			err = d.damaged("frame of unknown kind %q", kind)
		}
		if err != nil {
			return err
		}
	}
}

func (d *decoder) begin(body []byte) error {
	const head = statestore.SlotSize + statestore.MetaSize
	if len(body) < head {
		return d.damaged("the beginning of a slot in %d bytes", len(body))
	}
	id, err := statestore.ParseSlot(body[:statestore.SlotSize])
	if err != nil {
		return d.damaged("%w", err)
	}
	m, err := statestore.DecodeMeta(body[statestore.SlotSize:head])
	if err != nil {
		return d.damaged("slot %s: %w", id, err)
	}
	if _, twice := d.seen[id]; twice {
		return d.damaged("slot %s is there twice", id)
	}
	id.Topic = string(body[head:])
	d.slot = &section{id: id, image: statestore.Image{Meta: m}}
	d.slot.wanted = d.content.Slot != nil && (d.content.Want == nil || d.content.Want(d.header, id, m))
	return nil
}

func (d *decoder) page(kind byte, body []byte) error {
	if kind == kindPage {
		var err error
		if body, err = statestore.DecodePayload(body); err != nil {
			return d.damaged("%w", err)
		}
	}
	const names = statestore.SliceSize + statestore.FieldSize
	for len(body) > 0 {
		if len(body) < names {
			return d.damaged("a delta in %d bytes", len(body))
		}
		slice, err := statestore.ParseSlice(body[:statestore.SliceSize])
		if err != nil {
			return d.damaged("%w", err)
		}
		ref, err := statestore.ParseField(slice, body[statestore.SliceSize:names])
		if err != nil {
			return d.damaged("%w", err)
		}
		size, n := binary.Uvarint(body[names:])
		if n <= 0 || size > uint64(len(body)-names-n) {
			return d.damaged("a delta of %d bytes where %d are left", size, len(body)-names)
		}
		payload := body[names+n:][:size:size]
		body = body[names+n+int(size):]
		d.slot.deltas++
		if d.slot.wanted {
			d.slot.image.Deltas = append(d.slot.image.Deltas, statestore.Delta{Ref: ref, Payload: payload})
		}
	}
	return nil
}

func (d *decoder) end(body []byte) error {
	want, n := binary.Uvarint(body)
	if n <= 0 || n != len(body) || want != d.slot.deltas {
		return d.damaged("%d deltas, want %d", d.slot.deltas, want)
	}
	if d.slot.wanted {
		if err := statestore.CheckImport(d.slot.id, d.slot.image); err != nil {
			return d.damaged("%w", err)
		}
		if err := d.content.Slot(d.slot.id, d.slot.image); err != nil {
			return err
		}
	}
	d.seen[place(d.slot.id)] = struct{}{}
	d.totals.Slots++
	d.totals.Deltas += int64(d.slot.deltas)
	d.slot = nil
	return nil
}

func (d *decoder) trailer(body []byte) error {
	want := [3]uint64{uint64(d.totals.Slots), uint64(d.totals.Deltas), d.voided}
	for _, w := range want {
		v, n := binary.Uvarint(body)
		if n <= 0 || v != w {
			return d.damaged("the trailer does not say what was read: %d slots, %d deltas, %d given up", want[0], want[1], want[2])
		}
		body = body[n:]
	}
	if len(body) > 0 {
		return d.damaged("%d bytes more in the trailer", len(body))
	}
	d.totals.Bytes = d.at
	n, err := io.ReadFull(d.r, make([]byte, 1))
	if n > 0 {
		return d.damaged("something follows the trailer")
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
