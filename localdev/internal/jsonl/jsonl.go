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
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// MaxLine bounds a line, in bytes: a record of a broker's usual limit of 1 MB, base64, and some more.
const MaxLine = 16 << 20

// MaxPartition bounds the partitions of a line: the log of a replay makes all of them.
const MaxPartition = 10_000

// ErrLine is wrapped by the errors of a line that cannot be read.
var ErrLine = errors.New("jsonl: line")

// lineError is an ErrLine that says only what is wrong with the line: the file and the number stand before it.
type lineError struct{ error }

func (e lineError) Unwrap() []error { return []error{e.error, ErrLine} }

// Line is one line of input: a record, or Fire.
type Line struct {
	Number int
	Fire   bool
	NowMS  *int64 // with Fire: the clock

	event.TopicPartition
	event.Record

	HasPartition bool // else 0, or chosen from the key
	HasOffset    bool // else the partition's next
	HasTimestamp bool // else whoever takes the record decides
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
	Partition   *int32          `json:"partition"`
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
			return l, fmt.Errorf("%s:%d: %w", r.name, r.n, lineError{err})
		}
		return l, nil
	}
	if err := r.s.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			err = lineError{fmt.Errorf("longer than %d bytes", MaxLine)}
		}
		return Line{}, fmt.Errorf("%s:%d: %w", r.name, r.n+1, err)
	}
	return Line{}, io.EOF
}

func parse(data []byte, defaultTopic string) (Line, error) {
	var w wire
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&w); err != nil {
		switch {
		case errors.Is(err, io.ErrUnexpectedEOF):
			err = errors.New("the JSON object is not complete: one line is one record")
		case !bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")):
			err = errors.New(`not a JSON object; a line is {"key":...,"timestamp":MS,"value":{the event}}, of which only value is needed; a row or a number goes there as text: {"value":"12.5"}`)
		case strings.Contains(err.Error(), "unknown field"):
			err = fmt.Errorf(`%w; a line is {"key":...,"timestamp":MS,"value":{the event}}, of which only value is needed`, err)
		}
		return Line{}, err
	}
	if rest := bytes.TrimSpace(data[d.InputOffset():]); len(rest) > 0 {
		return Line{}, errors.New("something follows the object: one line is one record")
	}
	if w.Fire {
		return Line{Fire: true, NowMS: w.NowMS}, nil
	}
	if w.NowMS != nil {
		return Line{}, errors.New(`now_ms belongs to a line with "fire": true`)
	}
	l, err := w.place(defaultTopic)
	if err != nil {
		return l, err
	}
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

// place reads where and when the record is.
func (w *wire) place(defaultTopic string) (Line, error) {
	l := Line{TopicPartition: event.TopicPartition{Topic: w.Topic}}
	if l.Topic == "" {
		l.Topic = defaultTopic
	}
	if l.Topic == "" {
		return l, errors.New("topic is missing, and the spec reads several")
	}
	if w.Partition != nil {
		l.HasPartition, l.TopicPartition.Partition = true, *w.Partition
		if *w.Partition < 0 || *w.Partition > MaxPartition {
			return l, fmt.Errorf("partition must be from 0 to %d, got %d", MaxPartition, *w.Partition)
		}
	}
	if w.Offset != nil {
		if l.HasOffset, l.Offset = true, *w.Offset; *w.Offset < 0 {
			return l, fmt.Errorf("offset must not be negative, got %d", *w.Offset)
		}
	}
	if w.Timestamp != nil {
		if l.HasTimestamp, l.Timestamp = true, event.Time(*w.Timestamp); *w.Timestamp < 0 {
			return l, fmt.Errorf("timestamp is in milliseconds since 1970 and must not be negative, got %d", *w.Timestamp)
		}
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

// Append writes a record as a line, newline included. A value that is JSON is embedded (on one line: white space around its
// parts is left out), other text is a string, other bytes are base64. A negative partition or offset is left out.
func Append(dst []byte, tp event.TopicPartition, r *event.Record) []byte {
	dst = event.AppendJSONString(append(dst, `{"topic":`...), []byte(tp.Topic))
	if tp.Partition >= 0 {
		dst = strconv.AppendInt(append(dst, `,"partition":`...), int64(tp.Partition), 10)
	}
	if r.Offset >= 0 {
		dst = strconv.AppendInt(append(dst, `,"offset":`...), r.Offset, 10)
	}
	dst = appendBytes(dst, "key", r.Key)
	dst = strconv.AppendInt(append(dst, `,"timestamp":`...), int64(r.Timestamp), 10)
	if len(r.Headers) > 0 {
		dst = append(dst, `,"headers":[`...)
		for i := range r.Headers {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = event.AppendJSONString(append(dst, `{"key":`...), []byte(r.Headers[i].Key))
			dst = append(appendBytes(dst, "value", r.Headers[i].Value), '}')
		}
		dst = append(dst, ']')
	}
	if !embeddable(r.Value) {
		return append(appendBytes(dst, "value", r.Value), "}\n"...)
	}
	dst = append(dst, `,"value":`...)
	if bytes.ContainsAny(r.Value, " \t\r\n") {
		b := bytes.NewBuffer(dst)
		if err := json.Compact(b, r.Value); err == nil {
			return append(b.Bytes(), "}\n"...)
		}
	}
	return append(append(dst, r.Value...), "}\n"...)
}

// embeddable reports whether a value can stand in a line as it is and be read as the same value. A JSON string cannot: it
// would be read as its content.
func embeddable(v []byte) bool {
	trimmed := bytes.TrimSpace(v)
	return len(trimmed) > 0 && trimmed[0] != '"' && string(trimmed) != "null" && json.Valid(v) && utf8.Valid(v)
}

// appendBytes appends a member: null, text, or base64 under another name.
func appendBytes(dst []byte, name string, b []byte) []byte {
	dst = append(append(dst, `,"`...), name...)
	switch {
	case b == nil:
		return append(dst, `":null`...)
	case utf8.Valid(b):
		return event.AppendJSONString(append(dst, `":`...), b)
	}
	dst = base64.StdEncoding.AppendEncode(append(dst, `_base64":"`...), b)
	return append(dst, '"')
}
