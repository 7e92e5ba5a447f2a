package statestore

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/pierrec/lz4/v4"
)

// Codec says how payloads are stored. What is stored tells its codec itself, so a store may be opened with another one.
type Codec uint8

// The codecs. The numbers are stored.
const (
	CodecNone Codec = iota
	CodecLZ4        // LZ4 block format; payloads that are short or do not shrink are stored as they are
)

// MaxPayload is the size in bytes of the largest payload that DecodePayload returns: 64 MiB.
const MaxPayload = 64 << 20

const (
	payloadHead   = 1 + 4 // codec, CRC32C
	compressAbove = 256   // below, LZ4 saves less than it costs
)

// ParseCodec reads the name of a codec as it is in a spec: none or lz4.
func ParseCodec(name string) (Codec, error) {
	for _, c := range []Codec{CodecNone, CodecLZ4} {
		if c.String() == name {
			return c, nil
		}
	}
	return 0, fmt.Errorf("compression %q, want none or lz4: %w", name, ErrInvalid)
}

// String is the name of the codec in a spec.
func (c Codec) String() string {
	switch c {
	case CodecNone:
		return "none"
	case CodecLZ4:
		return "lz4"
	}
	return fmt.Sprintf("Codec(%d)", uint8(c))
}

// Append appends the stored form of a payload, which must not overlap dst and may be MaxPayload bytes:
//
//	codec (1 byte)   CRC32C of all other bytes (4, little endian)   none: payload
//	                                                                lz4: length of the payload (uvarint), LZ4 block
//
// It does not keep payload.
func (c Codec) Append(dst, payload []byte) []byte {
	start := len(dst)
	dst = append(dst, byte(CodecNone), 0, 0, 0, 0)
	if packed, ok := c.pack(dst, payload); ok {
		dst = packed
		dst[start] = byte(CodecLZ4)
	} else {
		dst = append(dst, payload...)
	}
	binary.LittleEndian.PutUint32(dst[start+1:], payloadSum(dst[start:]))
	return dst
}

// pack appends length and block, unless they would not be shorter than the payload.
func (c Codec) pack(dst, payload []byte) ([]byte, bool) {
	if c != CodecLZ4 || len(payload) < compressAbove {
		return nil, false
	}
	head := len(dst)
	dst = binary.AppendUvarint(dst, uint64(len(payload)))
	at := len(dst)
	bound := lz4.CompressBlockBound(len(payload))
	dst = append(dst, make([]byte, bound)...)
	n, err := lz4.CompressBlock(payload, dst[at:], nil)
	if err != nil || n == 0 || at+n-head >= len(payload) {
		return nil, false
	}
	return dst[:at+n], true
}

// DecodePayload returns the payload of a stored form, in memory of its own. ErrFormat if b is damaged or the payload is larger
// than MaxPayload; ErrVersion if it is whole, but of a codec that this program does not know.
func DecodePayload(b []byte) ([]byte, error) {
	if len(b) < payloadHead {
		return nil, fmt.Errorf("payload of %d stored bytes: %w", len(b), ErrFormat)
	}
	if have, want := payloadSum(b), binary.LittleEndian.Uint32(b[1:]); have != want {
		return nil, fmt.Errorf("payload of %d stored bytes has checksum %08x, want %08x: %w", len(b), have, want, ErrFormat)
	}
	body := b[payloadHead:]
	switch Codec(b[0]) {
	case CodecNone:
		if len(body) > MaxPayload {
			return nil, fmt.Errorf("payload of %d bytes: %w", len(body), ErrFormat)
		}
		return append(make([]byte, 0, len(body)), body...), nil
	case CodecLZ4:
		return unpack(body)
	}
	return nil, fmt.Errorf("payload of unknown codec %d: %w", b[0], ErrVersion)
}

func unpack(body []byte) ([]byte, error) {
	size, n := binary.Uvarint(body)
	block := body[max(n, 0):]
	// LZ4 cannot expand a byte to more than 255: a small block that announces much is damaged, and must not allocate it.
	if n <= 0 || size > MaxPayload || size > 255*uint64(len(block)) {
		return nil, fmt.Errorf("payload of %d bytes in a block of %d: %w", size, len(block), ErrFormat)
	}
	payload := make([]byte, size)
	m, err := lz4.UncompressBlock(block, payload)
	if err != nil {
		return nil, fmt.Errorf("payload of %d bytes in a block of %d: %w: %w", size, len(block), err, ErrFormat)
	}
	if uint64(m) != size {
		return nil, fmt.Errorf("payload of %d bytes, want %d: %w", m, size, ErrFormat)
	}
	return payload, nil
}

// payloadSum is the CRC32C of the codec byte and of everything after the checksum.
func payloadSum(stored []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli) // computed once by the package
	return crc32.Update(crc32.Update(0, table, stored[:1]), table, stored[payloadHead:])
}
