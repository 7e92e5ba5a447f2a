package event

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/adler32"
	"io"
	"strconv"

	"github.com/llm-auto-optimizer/tidemark/core/jsonscan"
)

// MaxUnpacked is the most bytes that a compressed value may unpack to: more than any payload of a function holds, and a bound for
// a value that was made to have none.
const MaxUnpacked = 8 << 20

// The first bytes of a value that a schema registry knows. No JSON document begins with any of them, so that a value tells by itself
// whether it has a prefix.
const (
	confluentID   = 0x00 // then 4 bytes: the number of the schema
	confluentGUID = 0x01 // then 16 bytes: its GUID
	glueVersion   = 0x03 // then how the rest is compressed, and 16 bytes: the UUID of the version of the schema

	gluePlain = 0x00
	glueZlib  = 0x05
)

// keptUnpacked bounds the memory in bytes that a decoder keeps for what was compressed.
const keptUnpacked = 256 << 10

// registryDecoder reads JSON behind the prefix of a schema registry, or without one: the log has it, while what hands records on may
// have removed it (Lambda does, where its mapping has a schema registry). Both are read as the same.
type registryDecoder struct {
	json   *Extractor
	source bytes.Reader
	flate  io.ReadCloser // nil: nothing compressed came so far
	text   bytes.Buffer  // what was compressed
}

// Extract implements Decoder.
func (x *registryDecoder) Extract(value []byte, dst []Field) ([]Field, error) {
	dst = absent(dst, x.json.paths)
	if x.text.Cap() > keptUnpacked {
		x.text = bytes.Buffer{} // one large value is no reason to keep that much for all that follow
	}
	n, packed := prefix(value)
	if n == 0 {
		return x.json.Extract(value, dst)
	}
	if n > len(value) {
		return dst, fmt.Errorf("%w: byte %d: ends inside of the prefix of a schema registry, which has %d bytes", ErrDecode, len(value), n)
	}
	text := value[n:]
	switch {
	case packed == glueZlib:
		var err error
		if text, err = x.unpack(text); err != nil {
			return dst, fmt.Errorf("%w: behind the prefix of a schema registry: %w", ErrDecode, err)
		}
	case packed != gluePlain:
		return dst, fmt.Errorf("%w: byte 1: compression 0x%02x of a schema registry is not known", ErrDecode, packed)
	}
	dst, i, f := x.json.extract(text, dst)
	switch {
	case f == jsonscan.FaultDuplicate:
		return dst, ambiguous(fmt.Errorf("%w: behind the prefix of schema %s: %s", ErrDecode, schemaOf(value[:n]), jsonscan.Describe(text, i, f)))
	case f != jsonscan.OK:
		return dst, fmt.Errorf("%w: behind the prefix of schema %s: %s: only JSON is read, not Avro or Protobuf",
			ErrDecode, schemaOf(value[:n]), jsonscan.Describe(text, i, f))
	}
	return dst, nil
}

// prefix returns how many bytes the prefix of a schema registry has, 0 if there is none, and how the rest is compressed.
func prefix(b []byte) (n int, packed byte) {
	if len(b) == 0 {
		return 0, gluePlain
	}
	switch b[0] {
	case confluentID:
		return 1 + 4, gluePlain
	case confluentGUID:
		return 1 + 16, gluePlain
	case glueVersion:
		if len(b) > 1 {
			packed = b[1]
		}
		return 1 + 1 + 16, packed
	}
	return 0, gluePlain
}

// schemaOf names the schema of a prefix.
func schemaOf(prefix []byte) string {
	if prefix[0] == confluentID {
		return strconv.FormatUint(uint64(binary.BigEndian.Uint32(prefix[1:])), 10)
	}
	id := prefix[len(prefix)-16:]
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

var (
	errPacked      = errors.New("not what zlib writes")
	errUnpackedSum = errors.New("the checksum of zlib is not that of the content")
)

// unpack returns the content of one stream of zlib (RFC 1950), valid until the next call. Its few allocations are those of the tables
// of codes that package flate makes for each stream.
func (x *registryDecoder) unpack(b []byte) ([]byte, error) {
	const header, sum = 2, 4
	if len(b) < header+sum || b[0]&0x0f != 8 || b[1]&0x20 != 0 || binary.BigEndian.Uint16(b)%31 != 0 {
		return nil, errPacked
	}
	x.source.Reset(b[header:]) // it reads single bytes, so that flate takes no more than it needs
	if r, ok := x.flate.(flate.Resetter); ok {
		if err := r.Reset(&x.source, nil); err != nil {
			return nil, err
		}
	} else {
		x.flate = flate.NewReader(&x.source)
	}
	x.text.Reset()
	n, err := x.text.ReadFrom(&io.LimitedReader{R: x.flate, N: MaxUnpacked + 1})
	switch {
	case n > MaxUnpacked:
		return nil, fmt.Errorf("more than %d bytes unpacked", MaxUnpacked)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", errPacked, err)
	case x.source.Len() != sum:
		return nil, errPacked
	case binary.BigEndian.Uint32(b[len(b)-sum:]) != adler32.Checksum(x.text.Bytes()):
		return nil, errUnpackedSum
	}
	return x.text.Bytes(), nil
}
