// Package jsonl is the file format of the command line: one Kafka record, or one command to fire, a line.
package jsonl

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// MaxLine bounds a line, in bytes: a record of a broker's usual limit of 1 MB, base64, and some more.
const MaxLine = 16 << 20

// ErrLine is wrapped by the errors of a line that cannot be read.
var ErrLine = errors.New("jsonl: line")

// Line is one line of input: a record, or Fire.
type Line struct {
	Number int
	Fire   bool
	NowMS  *int64 // with Fire: the clock

	event.TopicPartition
	HasOffset bool // else the partition's next
	event.Record
}

// Reader reads lines. Empty lines are skipped.
type Reader struct {
	s    *bufio.Scanner
	name string
	n    int
}

// NewReader reads from r; name is for messages.
func NewReader(r io.Reader, name string) *Reader {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 64<<10), MaxLine)
	return &Reader{s: s, name: name}
}

// wire is a line as JSON. Pointers tell what is there from what is not.
type wire struct {
	Fire        bool            `json:"fire"`
	NowMS       *int64          `json:"now_ms"`
	Topic       string          `json:"topic"`
	Partition   int32           `json:"partition"`
	Offset      *int64          `json:"offset"`
	Key         *string         `json:"key"`
	KeyBase64   *string         `json:"key_base64"`
	Timestamp   *int64          `json:"timestamp"`
	Headers     []wireHeader    `json:"headers"`
	Value       json.RawMessage `json:"value"`
	ValueBase64 *string         `json:"value_base64"`
}

type wireHeader struct {
	Key         string  `json:"key"`
	Value       *string `json:"value"`
	ValueBase64 *string `json:"value_base64"`
}

// Next returns the next line, or io.EOF. defaultTopic is taken where a line names none.
func (r *Reader) Next(defaultTopic string) (Line, error) {
	for r.s.Scan() {
		r.n++
		if len(bytes.TrimSpace(r.s.Bytes())) == 0 {
			continue
		}
		l, err := parse(r.s.Bytes(), defaultTopic)
		l.Number = r.n
		if err != nil {
			return l, fmt.Errorf("%s:%d: %w: %w", r.name, r.n, err, ErrLine)
		}
		return l, nil
	}
	if err := r.s.Err(); err != nil {
		return Line{}, fmt.Errorf("%s:%d: %w", r.name, r.n+1, err)
	}
	return Line{}, io.EOF
}

func parse(data []byte, defaultTopic string) (Line, error) {
	var w wire
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&w); err != nil {
		return Line{}, err
	}
	if w.Fire {
		return Line{Fire: true, NowMS: w.NowMS}, nil
	}
	l := Line{TopicPartition: event.TopicPartition{Topic: w.Topic, Partition: w.Partition}}
	if l.Topic == "" {
		l.Topic = defaultTopic
	}
	if l.Topic == "" {
		return l, errors.New("topic is missing, and the spec reads several")
	}
	if l.TopicPartition.Partition < 0 || l.TopicPartition.Partition > 10_000 {
		return l, fmt.Errorf("partition must be from 0 to 10000, got %d", w.Partition)
	}
	if w.Offset != nil {
		if l.HasOffset, l.Offset = true, *w.Offset; *w.Offset < 0 {
			return l, fmt.Errorf("offset must not be negative, got %d", *w.Offset)
		}
	}
	if w.Timestamp != nil {
		l.Timestamp = event.Time(*w.Timestamp)
	}
	var err error
	if l.Key, err = text(w.Key, w.KeyBase64, "key"); err != nil {
		return l, err
	}
	if l.Value, err = value(w.Value, w.ValueBase64); err != nil {
		return l, err
	}
	for _, h := range w.Headers {
		v, err := text(h.Value, h.ValueBase64, "header "+h.Key)
		if err != nil {
			return l, err
		}
		l.Headers = append(l.Headers, event.Header{Key: h.Key, Value: v})
	}
	return l, nil
}

func text(plain, coded *string, what string) ([]byte, error) {
	switch {
	case plain != nil && coded != nil:
		return nil, fmt.Errorf("%s is given twice", what)
	case coded != nil:
		b, err := base64.StdEncoding.DecodeString(*coded)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		return notNil(b), nil
	case plain != nil:
		return notNil([]byte(*plain)), nil
	}
	return nil, nil
}

// value is JSON as it is written, a string's content, or null.
func value(raw json.RawMessage, coded *string) ([]byte, error) {
	if coded != nil {
		if raw != nil {
			return nil, errors.New("value is given twice")
		}
		return text(nil, coded, "value")
	}
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	if raw[0] == '"' {
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return nil, err
		}
		return notNil([]byte(s)), nil
	}
	return bytes.Clone(raw), nil
}

func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// out is a line of output; the order of its fields is that of the file.
type out struct {
	Topic       string          `json:"topic"`
	Partition   int32           `json:"partition"`
	Offset      int64           `json:"offset"`
	Key         *string         `json:"key"`
	KeyBase64   *string         `json:"key_base64,omitempty"`
	Timestamp   int64           `json:"timestamp"`
	Headers     []wireHeader    `json:"headers,omitempty"`
	Value       json.RawMessage `json:"value,omitempty"`
	ValueBase64 *string         `json:"value_base64,omitempty"`
}

// Append writes a record as a line, newline included. A value that is JSON is embedded, other text is a string, other bytes are
// base64.
func Append(dst []byte, tp event.TopicPartition, r *event.Record) ([]byte, error) {
	o := out{Topic: tp.Topic, Partition: tp.Partition, Offset: r.Offset, Timestamp: int64(r.Timestamp)}
	o.Key, o.KeyBase64 = split(r.Key)
	for _, h := range r.Headers {
		x := wireHeader{Key: h.Key}
		x.Value, x.ValueBase64 = split(h.Value)
		o.Headers = append(o.Headers, x)
	}
	switch {
	case r.Value == nil:
		o.Value = json.RawMessage("null")
	case json.Valid(r.Value) && utf8.Valid(r.Value) && r.Value[0] != '"' && string(r.Value) != "null":
		o.Value = r.Value
	default:
		s, coded := split(r.Value)
		if o.ValueBase64 = coded; s != nil {
			quoted, err := json.Marshal(*s)
			if err != nil {
				return dst, err
			}
			o.Value = quoted
		}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(o); err != nil {
		return dst, fmt.Errorf("write %s/%d offset %d: %w", tp.Topic, tp.Partition, r.Offset, err)
	}
	return append(dst, b.Bytes()...), nil
}

func split(b []byte) (plain, coded *string) {
	if b == nil {
		return nil, nil
	}
	s := string(b)
	if utf8.ValidString(s) {
		return &s, nil
	}
	s = base64.StdEncoding.EncodeToString(b)
	return nil, &s
}
