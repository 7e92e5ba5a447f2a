package recompute

import (
	"bufio"
	"bytes"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// sorter puts entries in the order of their keys, whatever their number: what does not fit into its budget goes to temporary
// files, sorted runs that are merged when they are read. Keys are unique.
type sorter struct {
	dir    string
	budget int // bytes that are held in memory

	arena []byte
	at    []place // of entries in the arena
	runs  []*run
	size  int64 // bytes in files
}

// place is an entry in the arena: the key, then the value.
type place struct{ from, key, to int }

// run is a sorted run in a file.
type run struct {
	file *os.File
	size int64
}

// perEntry is about what an entry takes in memory beside its bytes.
const perEntry = 24

func newSorter(dir string, budget int) *sorter { return &sorter{dir: dir, budget: budget} }

// add takes an entry; the bytes are copied.
func (s *sorter) add(key, value []byte) error {
	if len(s.arena)+len(key)+len(value)+perEntry*(len(s.at)+1) > s.budget && len(s.at) > 0 {
		if err := s.spill(); err != nil {
			return err
		}
	}
	p := place{from: len(s.arena)}
	s.arena = append(s.arena, key...)
	p.key = len(s.arena)
	s.arena = append(s.arena, value...)
	p.to = len(s.arena)
	s.at = append(s.at, p)
	return nil
}

func (s *sorter) sort() {
	slices.SortFunc(s.at, func(a, b place) int { return bytes.Compare(s.arena[a.from:a.key], s.arena[b.from:b.key]) })
}

// spill writes what is in memory as a run.
func (s *sorter) spill() (err error) {
	s.sort()
	f, err := os.CreateTemp(s.dir, "run-")
	if err != nil {
		return fmt.Errorf("temporary file: %w", err)
	}
	r := &run{file: f}
	s.runs = append(s.runs, r)
	w := bufio.NewWriterSize(f, 1<<16)
	var head []byte
	for _, p := range s.at {
		head = binary.AppendUvarint(head[:0], uint64(p.key-p.from))
		head = binary.AppendUvarint(head, uint64(p.to-p.key))
		n, err := w.Write(head)
		if err == nil {
			_, err = w.Write(s.arena[p.from:p.to])
		}
		if err != nil {
			return fmt.Errorf("temporary file: %w", err)
		}
		r.size += int64(n + p.to - p.from)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("temporary file: %w", err)
	}
	s.size += r.size
	s.arena, s.at = s.arena[:0], s.at[:0]
	return nil
}

// close removes the files.
func (s *sorter) close() error {
	var errs []error
	for _, r := range s.runs {
		errs = append(errs, r.file.Close(), os.Remove(r.file.Name()))
	}
	s.runs, s.arena, s.at = nil, nil, nil
	return errors.Join(errs...)
}

// cursor goes through the entries in order. Nothing may be added any more; cursors do not disturb each other.
func (s *sorter) cursor() (*cursor, error) {
	s.sort()
	c := &cursor{}
	for _, r := range s.runs {
		c.sources = append(c.sources, &fileSource{r: bufio.NewReaderSize(io.NewSectionReader(r.file, 0, r.size), 1<<16)})
	}
	c.sources = append(c.sources, &memorySource{s: s})
	for i := 0; i < len(c.sources); {
		ok, err := c.sources[i].next()
		if err != nil {
			return nil, err
		}
		if !ok {
			c.sources = slices.Delete(c.sources, i, i+1)
			continue
		}
		i++
	}
	heap.Init(c)
	return c, nil
}

// source is one sorted run, at an entry.
type source interface {
	next() (bool, error)
	entry() (key, value []byte)
}

type memorySource struct {
	s *sorter
	n int
}

func (m *memorySource) next() (bool, error) { m.n++; return m.n <= len(m.s.at), nil }

func (m *memorySource) entry() (key, value []byte) {
	p := m.s.at[m.n-1]
	return m.s.arena[p.from:p.key], m.s.arena[p.key:p.to]
}

type fileSource struct {
	r   *bufio.Reader
	buf []byte
	key int
}

func (f *fileSource) next() (bool, error) {
	k, err := binary.ReadUvarint(f.r)
	if errors.Is(err, io.EOF) {
		return false, nil
	}
	var v uint64
	if err == nil {
		v, err = binary.ReadUvarint(f.r)
	}
	if err == nil {
		f.key = int(k)
		f.buf = slices.Grow(f.buf[:0], int(k+v))[:k+v]
		_, err = io.ReadFull(f.r, f.buf)
	}
	if err != nil {
		return false, fmt.Errorf("temporary file: %w", err)
	}
	return true, nil
}

func (f *fileSource) entry() (key, value []byte) { return f.buf[:f.key], f.buf[f.key:] }

// cursor merges sorted runs. It is a heap of them, by their present keys.
type cursor struct {
	sources []source
	begun   bool
}

// next goes to the next entry and returns it, valid until the next call; false at the end.
func (c *cursor) next() (key, value []byte, ok bool, err error) {
	if c.begun && len(c.sources) > 0 {
		ok, err := c.sources[0].next()
		switch {
		case err != nil:
			return nil, nil, false, err
		case ok:
			heap.Fix(c, 0)
		default:
			heap.Pop(c)
		}
	}
	c.begun = true
	if len(c.sources) == 0 {
		return nil, nil, false, nil
	}
	key, value = c.sources[0].entry()
	return key, value, true, nil
}

// Len implements heap.Interface.
func (c *cursor) Len() int { return len(c.sources) }

// Less implements heap.Interface.
func (c *cursor) Less(i, j int) bool {
	a, _ := c.sources[i].entry()
	b, _ := c.sources[j].entry()
	return bytes.Compare(a, b) < 0
}

// Swap implements heap.Interface.
func (c *cursor) Swap(i, j int) { c.sources[i], c.sources[j] = c.sources[j], c.sources[i] }

// Push implements heap.Interface; nothing is pushed.
func (c *cursor) Push(any) {}

// Pop implements heap.Interface.
func (c *cursor) Pop() any {
	n := len(c.sources) - 1
	last := c.sources[n]
	c.sources = c.sources[:n]
	return last
}

// Keys are bytes that sort as what they stand for does.

// appendText appends text so that shorter ones come first and no text is the beginning of another.
func appendText(dst []byte, text []byte) []byte {
	for _, b := range text {
		if dst = append(dst, b); b == 0 {
			dst = append(dst, 0xff)
		}
	}
	return append(dst, 0, 1)
}

// cutText takes a text off the front of a key.
func cutText(key []byte) (text, rest []byte) {
	for i := 0; i < len(key); i++ {
		if key[i] != 0 {
			text = append(text, key[i])
			continue
		}
		if i++; key[i] == 1 {
			return text, key[i+1:]
		}
		text = append(text, 0)
	}
	return text, nil
}

// appendInt appends a number, negative ones first.
func appendInt(dst []byte, n int64) []byte {
	return binary.BigEndian.AppendUint64(dst, uint64(n)^1<<63)
}

func cutInt(key []byte) (n int64, rest []byte) {
	return int64(binary.BigEndian.Uint64(key) ^ 1<<63), key[8:]
}

func cutTime(key []byte) (event.Time, []byte) {
	n, rest := cutInt(key)
	return event.Time(n), rest
}
