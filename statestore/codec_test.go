package statestore_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/statestore"
)

func payloads() map[string][]byte {
	rng := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 100_000)
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	return map[string][]byte{
		"empty": {}, "zero": {0}, "short": bytes.Repeat([]byte("ab"), 127), "at the limit": make([]byte, 256),
		"zeros": make([]byte, 1<<20), "noise": noise, "text": bytes.Repeat([]byte("service=a::model=b "), 1000),
	}
}

func TestPayloadsComeBack(t *testing.T) {
	for _, codec := range []statestore.Codec{statestore.CodecNone, statestore.CodecLZ4} {
		for name, p := range payloads() {
			stored := codec.Append([]byte("before"), p)
			if !bytes.HasPrefix(stored, []byte("before")) {
				t.Errorf("%s, %s: what was in dst has gone", codec, name)
			}
			stored = stored[len("before"):]
			got, err := statestore.DecodePayload(stored)
			if err != nil || !bytes.Equal(got, p) {
				t.Errorf("%s, %s: %d bytes came back as %d, %v", codec, name, len(p), len(got), err)
			}
			if len(stored) > len(p)+5 {
				t.Errorf("%s, %s: %d bytes stored as %d", codec, name, len(p), len(stored))
			}
			if codec == statestore.CodecLZ4 && len(p) >= 256 && name != "noise" && len(stored) > len(p)/5 {
				t.Errorf("%s: %d bytes stored as %d", name, len(p), len(stored))
			}
		}
	}
}

func TestStoredPayloads(t *testing.T) {
	text := bytes.Repeat([]byte("service=a::model=b "), 20)
	var lines []string
	for _, p := range [][]byte{nil, []byte("\x00"), text} {
		lines = append(lines, "none "+hex.EncodeToString(statestore.CodecNone.Append(nil, p)))
		lines = append(lines, "lz4 "+hex.EncodeToString(statestore.CodecLZ4.Append(nil, p)))
	}
	golden(t, "payloads.golden", lines)
}

func TestDamageOfAPayloadIsFound(t *testing.T) {
	for _, codec := range []statestore.Codec{statestore.CodecNone, statestore.CodecLZ4} {
		stored := codec.Append(nil, bytes.Repeat([]byte("service=a "), 40))
		for i := range stored {
			for bit := range 8 {
				stored[i] ^= 1 << bit
				if _, err := statestore.DecodePayload(stored); !errors.Is(err, statestore.ErrFormat) {
					t.Fatalf("%s, bit %d of byte %d: %v, want ErrFormat", codec, bit, i, err)
				}
				stored[i] ^= 1 << bit
			}
		}
		for n := range stored {
			if _, err := statestore.DecodePayload(stored[:n]); !errors.Is(err, statestore.ErrFormat) {
				t.Fatalf("%s, cut to %d bytes: %v, want ErrFormat", codec, n, err)
			}
		}
	}
}

// seal gives crafted bytes the right checksum: these are the blocks that a checksum does not keep from the decoder.
func seal(codec byte, body []byte) []byte {
	b := append([]byte{codec, 0, 0, 0, 0}, body...)
	table := crc32.MakeTable(crc32.Castagnoli)
	binary.LittleEndian.PutUint32(b[1:], crc32.Update(crc32.Checksum(b[:1], table), table, b[5:]))
	return b
}

func TestCraftedPayloadsAreRefused(t *testing.T) {
	length := func(n uint64, block ...byte) []byte { return append(binary.AppendUvarint(nil, n), block...) }
	for name, b := range map[string][]byte{
		"no length":           seal(1, nil),
		"unfinished length":   seal(1, []byte{0x80}),
		"beyond the bound":    seal(1, length(statestore.MaxPayload+1, make([]byte, 1<<20)...)),
		"too much for a byte": seal(1, length(1<<20, 0)),
		"shorter than said":   seal(1, length(20, 0x10, 'x')),
		"longer than said":    seal(1, length(1, 0x30, 'x', 'y', 'z')),
		"match before start":  seal(1, length(30, 0x14, 'x', 0xff, 0xff, 0x50, 1, 2, 3, 4, 5)),
		"none, too large":     seal(0, make([]byte, statestore.MaxPayload+1)),
	} {
		if p, err := statestore.DecodePayload(b); !errors.Is(err, statestore.ErrFormat) {
			t.Errorf("%s: %d bytes, %v, want ErrFormat", name, len(p), err)
		}
	}
}

func TestAWholePayloadOfAnUnknownCodecIsOfANewerVersion(t *testing.T) {
	stored := seal(2, []byte("x"))
	if p, err := statestore.DecodePayload(stored); !errors.Is(err, statestore.ErrVersion) || errors.Is(err, statestore.ErrFormat) {
		t.Errorf("%d bytes, %v, want ErrVersion alone", len(p), err)
	}
	stored[5] ^= 1
	if p, err := statestore.DecodePayload(stored); !errors.Is(err, statestore.ErrFormat) {
		t.Errorf("damaged: %d bytes, %v, want ErrFormat", len(p), err)
	}
}

func TestCodecsHaveTheNamesOfTheSpec(t *testing.T) {
	for name, want := range map[string]statestore.Codec{"none": statestore.CodecNone, "lz4": statestore.CodecLZ4} {
		if got, err := statestore.ParseCodec(name); err != nil || got != want || got.String() != name {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if _, err := statestore.ParseCodec("zstd"); !errors.Is(err, statestore.ErrInvalid) {
		t.Errorf("zstd: %v, want ErrInvalid", err)
	}
}

func FuzzDecodePayload(f *testing.F) {
	for _, p := range payloads() {
		if len(p) < 10_000 {
			f.Add(byte(0), p)
			f.Add(byte(1), statestore.CodecLZ4.Append(nil, p)[5:])
		}
	}
	f.Fuzz(func(t *testing.T, codec byte, body []byte) {
		// Sealed, so that the fuzzer gets past the checksum.
		p, err := statestore.DecodePayload(seal(codec, body))
		if err != nil {
			if want := codec > byte(statestore.CodecLZ4); errors.Is(err, statestore.ErrVersion) != want || errors.Is(err, statestore.ErrFormat) == want {
				t.Errorf("codec %d: %v", codec, err)
			}
			return
		}
		again, err := statestore.DecodePayload(statestore.CodecLZ4.Append(nil, p))
		if err != nil || !bytes.Equal(again, p) {
			t.Errorf("%d bytes came back as %d, %v", len(p), len(again), err)
		}
	})
}
