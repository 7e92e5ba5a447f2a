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

// magic begins every checkpoint of every version. As in PNG, its bytes show whether something on the way took it for text.
const magic = "\x89TMK\r\n\x1a\n"

// Kinds of frames. A slot is S, any number of D and P, and E; one that was given up ends in V in the place of E.
const (
	kindHeader  = 'H'
	kindSlot    = 'S'
	kindPage    = 'D' // deltas, in the stored form of a payload
	kindPlain   = 'P' // deltas as they are: a page that is larger than a payload may be
	kindEnd     = 'E'
	kindVoid    = 'V'
	kindTrailer = 'T'
)

const (
	frameHead = 1 + 4     // kind, length
	frameTail = 4         // checksum
	pageSize  = 256 << 10 // bytes of a page before it is packed, unless one delta alone has more
	maxFrame  = statestore.MaxPayload + 1<<20
)

// Writer writes a checkpoint: header, slots, trailer. It is not safe for concurrent use. After an error it is of no more use.
type Writer struct {
	w       io.Writer
	sum     uint32 // of all bytes so far that are no checksums
	totals  Totals
	voided  int
	open    bool
	deltas  int64 // of the open slot
	page    []byte
	scratch []byte
}

// NewWriter writes what a checkpoint begins with. w should be buffered: each page is written in three parts.
func NewWriter(w io.Writer, h Header) (*Writer, error) {
	cw := &Writer{w: w}
	if err := cw.raw(binary.LittleEndian.AppendUint32([]byte(magic), Version)); err != nil {
		return nil, err
	}
	body, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: header: %w", err)
	}
	if err := cw.frame(kindHeader, body); err != nil {
		return nil, err
	}
	return cw, nil
}

// Totals counts what is written: whole slots, their deltas, and all bytes.
func (w *Writer) Totals() Totals { return w.totals }

// Begin begins a slot.
func (w *Writer) Begin(slot statestore.Slot, m statestore.Meta) error {
	if err := statestore.CheckSlot(slot); err != nil {
		return err
	}
	w.open, w.deltas = true, 0
	w.scratch = statestore.AppendSlot(w.scratch[:0], slot)
	w.scratch = append(w.scratch, statestore.EncodeMeta(m)...)
	w.scratch = append(w.scratch, slot.Topic...)
	return w.frame(kindSlot, w.scratch)
}

// Add adds deltas to the slot that was begun. It keeps nothing of them.
func (w *Writer) Add(deltas []statestore.Delta) error {
	for _, d := range deltas {
		if err := statestore.CheckDelta(d.Ref); err != nil {
			return err
		}
		if len(d.Payload) > statestore.MaxPayload {
			return fmt.Errorf("checkpoint: a delta of %d bytes: %w", len(d.Payload), statestore.ErrInvalid)
		}
		if len(w.page) > 0 && len(w.page)+len(d.Payload) > pageSize {
			if err := w.flush(); err != nil {
				return err
			}
		}
		w.page = statestore.AppendSlice(w.page, d.Slice)
		w.page = statestore.AppendField(w.page, d.Ref)
		w.page = binary.AppendUvarint(w.page, uint64(len(d.Payload)))
		w.page = append(w.page, d.Payload...)
		w.deltas++
	}
	return nil
}

// flush writes the deltas that were added.
func (w *Writer) flush() error {
	page := w.page
	w.page = w.page[:0]
	switch {
	case len(page) == 0:
		return nil
	case len(page) > statestore.MaxPayload:
		return w.frame(kindPlain, page)
	}
	w.scratch = statestore.CodecLZ4.Append(w.scratch[:0], page)
	return w.frame(kindPage, w.scratch)
}

// End finishes the slot that was begun: from here on it is part of the checkpoint.
func (w *Writer) End() error {
	if err := w.flush(); err != nil {
		return err
	}
	if err := w.frame(kindEnd, binary.AppendUvarint(nil, uint64(w.deltas))); err != nil {
		return err
	}
	w.open = false
	w.totals.Slots++
	w.totals.Deltas += w.deltas
	return nil
}

// Void gives up the slot that was begun: readers pass over it. It may be begun again.
func (w *Writer) Void() error {
	w.page = w.page[:0]
	w.open = false
	w.voided++
	return w.frame(kindVoid, nil)
}

// Close writes the trailer, without which a file is no checkpoint. It does not close the underlying writer.
func (w *Writer) Close() error {
	if w.open {
		return errors.New("checkpoint: closed within a slot")
	}
	body := binary.AppendUvarint(nil, uint64(w.totals.Slots))
	body = binary.AppendUvarint(body, uint64(w.totals.Deltas))
	return w.frame(kindTrailer, binary.AppendUvarint(body, uint64(w.voided)))
}

// frame writes a frame. Its checksum is of everything before it in the file, so frames cannot change places; of everything but
// the checksums themselves, since the CRC of anything with its own CRC behind it is always the same number.
func (w *Writer) frame(kind byte, body []byte) error {
	if len(body) > maxFrame {
		return fmt.Errorf("checkpoint: a frame %c of %d bytes: %w", kind, len(body), statestore.ErrInvalid)
	}
	head := binary.LittleEndian.AppendUint32([]byte{kind}, uint32(len(body)))
	for _, part := range [][]byte{head, body} {
		if err := w.raw(part); err != nil {
			return err
		}
	}
	sum := w.sum
	err := w.raw(binary.LittleEndian.AppendUint32(nil, sum))
	w.sum = sum
	return err
}

func (w *Writer) raw(b []byte) error {
	n, err := w.w.Write(b)
	w.sum = crc32.Update(w.sum, crc32.MakeTable(crc32.Castagnoli), b[:n])
	w.totals.Bytes += int64(n)
	return err
}
