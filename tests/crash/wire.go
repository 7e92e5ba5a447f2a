package crash

import (
	"bufio"
	"bytes"
	"crypto/sha1" //nolint:gosec // the digest by which Redis names scripts
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/llm-auto-optimizer/tidemark/core/spec"
)

// maxFrame bounds what a proxy reads as one request or answer, in bytes: far above anything the functions send or ask for.
const maxFrame = 64 << 20

// errFrame is returned for bytes that are no request or answer of the protocol.
var errFrame = errors.New("crash: not understood on the wire")

// wire cuts a connection's bytes into requests and answers. Both protocols answer in the order of the requests, one answer each.
type wire interface {
	// request reads one request: all of its bytes, and what call it is.
	request(r *bufio.Reader) (frame []byte, call string, err error)
	// answer reads one answer. tried is false where the server says that it did not even try.
	answer(r *bufio.Reader) (frame []byte, tried bool, err error)
}

// kafkaWire is Kafka's protocol: a length, then the api key. The call is the name of the api, marked where it is about something
// special.
type kafkaWire struct {
	panes *atomic.Pointer[[16]byte] // id of the topic of the pane history, once it is known
}

func kafkaFrame(r *bufio.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n < 4 || n > maxFrame {
		return nil, fmt.Errorf("a frame of %d bytes: %w", n, errFrame)
	}
	return take(r, head[:], int(n))
}

// take appends the next n bytes to frame. Memory grows with what is there, not with what a length promises.
func take(r *bufio.Reader, frame []byte, n int) ([]byte, error) {
	for n > 0 {
		part, start := min(n, 64<<10), len(frame)
		frame = append(frame, make([]byte, part)...)
		if _, err := io.ReadFull(r, frame[start:]); err != nil {
			return nil, err
		}
		n -= part
	}
	return frame, nil
}

func (w kafkaWire) request(r *bufio.Reader) ([]byte, string, error) {
	frame, err := kafkaFrame(r)
	if err != nil {
		return nil, "", err
	}
	call, err := w.call(frame[4:])
	return frame, call, err
}

// trial marks the calls of the transaction that the cold start of fire tries and aborts: what dies there harms no plan.
const trial = "/trial"

// history marks the calls that write or read the pane history.
const history = "/history"

// isHistory reports whether a topic of a request, by its name or its id, is that of the pane history.
func (w kafkaWire) isHistory(name string, id [16]byte) bool {
	if name == spec.PanesTopic {
		return true
	}
	panes := w.panes.Load()
	return name == "" && panes != nil && *panes == id
}

// call names a request without its length: api key, version, correlation, client id, body.
func (w kafkaWire) call(b []byte) (string, error) {
	if len(b) < 10 {
		return "", fmt.Errorf("a request of %d bytes: %w", len(b), errFrame)
	}
	key, version := int16(binary.BigEndian.Uint16(b)), int16(binary.BigEndian.Uint16(b[2:]))
	name := kmsg.NameForKey(key)
	req := kmsg.RequestForKey(key)
	switch req.(type) {
	case *kmsg.ProduceRequest, *kmsg.FetchRequest, *kmsg.InitProducerIDRequest, *kmsg.AddPartitionsToTxnRequest, *kmsg.AddOffsetsToTxnRequest,
		*kmsg.TxnOffsetCommitRequest, *kmsg.EndTxnRequest:
	default:
		return name, nil
	}
	req.SetVersion(version)
	skip := 10 + max(0, int(int16(binary.BigEndian.Uint16(b[8:])))) // the client id may be null
	if req.IsFlexible() {
		skip++ // tags of the header; clients send none
	}
	if err := req.ReadFrom(b[min(skip, len(b)):]); err != nil {
		return "", fmt.Errorf("%s of version %d: %w: %w", name, version, errFrame, err)
	}
	var id *string
	switch r := req.(type) {
	case *kmsg.ProduceRequest:
		id = r.TransactionID
		if slices.ContainsFunc(r.Topics, func(t kmsg.ProduceRequestTopic) bool { return w.isHistory(t.Topic, t.TopicID) }) {
			name += history
		}
	case *kmsg.FetchRequest:
		if slices.ContainsFunc(r.Topics, func(t kmsg.FetchRequestTopic) bool { return w.isHistory(t.Topic, t.TopicID) }) {
			name += history
		}
	case *kmsg.InitProducerIDRequest:
		id = r.TransactionalID
	case *kmsg.AddPartitionsToTxnRequest: // clients stay below version 4, which has many
		id = &r.TransactionalID
	case *kmsg.AddOffsetsToTxnRequest:
		id = &r.TransactionalID
	case *kmsg.TxnOffsetCommitRequest:
		id = &r.TransactionalID
	case *kmsg.EndTxnRequest:
		id = &r.TransactionalID
	}
	if id != nil && strings.HasSuffix(*id, ".preflight") {
		name += trial
	}
	return name, nil
}

func (kafkaWire) answer(r *bufio.Reader) ([]byte, bool, error) {
	frame, err := kafkaFrame(r)
	return frame, true, err
}

// redisWire is RESP. A call that runs a script has the name of the store's operation, HMGET is Load, anything else is itself.
type redisWire struct {
	scripts map[string]string // hex SHA-1 of a script -> operation
}

// readScripts finds the scripts of the store in the source tree, and names each by its file: commit.lua is Commit.
func readScripts(root string) (redisWire, error) {
	dir := filepath.Join(root, "statestore", "redisstore", "lua")
	head, err := os.ReadFile(filepath.Join(dir, "head.lua"))
	if err != nil {
		return redisWire{}, fmt.Errorf("scripts of the store: %w", err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "*.lua"))
	if err != nil {
		return redisWire{}, fmt.Errorf("scripts of the store: %w", err)
	}
	w := redisWire{scripts: map[string]string{}}
	for _, name := range names {
		base := strings.TrimSuffix(filepath.Base(name), ".lua")
		if base == "head" {
			continue
		}
		body, err := os.ReadFile(name)
		if err != nil {
			return redisWire{}, fmt.Errorf("scripts of the store: %w", err)
		}
		w.scripts[digest(append(bytes.Clone(head), body...))] = strings.ToUpper(base[:1]) + base[1:]
	}
	return w, nil
}

func digest(text []byte) string {
	sum := sha1.Sum(text) //nolint:gosec // as above
	return hex.EncodeToString(sum[:])
}

func (w redisWire) request(r *bufio.Reader) ([]byte, string, error) {
	frame, args, err := respCommand(r)
	if err != nil {
		return nil, "", err
	}
	return frame, w.name(args), nil
}

func (w redisWire) name(args [][]byte) string {
	command := strings.ToUpper(string(args[0]))
	sha := ""
	switch {
	case command == "HMGET":
		return "Load"
	case command == "EVALSHA" && len(args) > 1:
		sha = strings.ToLower(string(args[1]))
	case command == "EVAL" && len(args) > 1:
		sha = digest(args[1])
	}
	if op, ok := w.scripts[sha]; ok {
		return op
	}
	return command
}

// respCommand reads an array of bulk strings: its bytes, and the strings, which alias them.
func respCommand(r *bufio.Reader) (frame []byte, args [][]byte, err error) {
	line, err := respLine(r)
	if err != nil {
		return nil, nil, err
	}
	n, err := respCount(line, '*')
	if err != nil || n < 1 || n > 1<<20 {
		return nil, nil, fmt.Errorf("command %.40q: %w", line, errFrame)
	}
	frame = append(frame, line...)
	var spans [][2]int
	for range n {
		if line, err = respLine(r); err != nil {
			return nil, nil, err
		}
		length, err := respCount(line, '$')
		if err != nil || length < 0 || len(frame)+length > maxFrame {
			return nil, nil, fmt.Errorf("argument %.40q: %w", line, errFrame)
		}
		frame = append(frame, line...)
		start := len(frame)
		if frame, err = take(r, frame, length+2); err != nil {
			return nil, nil, err
		}
		if string(frame[start+length:]) != "\r\n" {
			return nil, nil, fmt.Errorf("argument of %d bytes without its end: %w", length, errFrame)
		}
		spans = append(spans, [2]int{start, start + length})
	}
	for _, s := range spans {
		args = append(args, frame[s[0]:s[1]])
	}
	return frame, args, nil
}

func (redisWire) answer(r *bufio.Reader) ([]byte, bool, error) {
	frame, err := respValue(r, nil, 0)
	return frame, !bytes.HasPrefix(frame, []byte("-NOSCRIPT")), err
}

// respValue appends one value of RESP 2 to frame.
func respValue(r *bufio.Reader, frame []byte, depth int) ([]byte, error) {
	line, err := respLine(r)
	if err != nil {
		return nil, err
	}
	if depth > 32 || len(frame) > maxFrame {
		return nil, fmt.Errorf("an answer of %d bytes, %d deep: %w", len(frame), depth, errFrame)
	}
	frame = append(frame, line...)
	switch line[0] {
	case '+', '-', ':':
		return frame, nil
	case '$':
		n, err := respCount(line, '$')
		if err != nil || n > maxFrame {
			return nil, fmt.Errorf("answer %.40q: %w", line, errFrame)
		}
		if n < 0 {
			return frame, nil // null
		}
		return take(r, frame, n+2)
	case '*':
		n, err := respCount(line, '*')
		if err != nil {
			return nil, err
		}
		for range n { // -1 is null
			if frame, err = respValue(r, frame, depth+1); err != nil {
				return nil, err
			}
		}
		return frame, nil
	}
	return nil, fmt.Errorf("answer %.40q: %w", line, errFrame)
}

// respLine reads a line with its end; at least its type is there.
func respLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	if len(line) < 3 || line[len(line)-2] != '\r' {
		return nil, fmt.Errorf("line %.40q: %w", line, errFrame)
	}
	return line, nil
}

func respCount(line []byte, kind byte) (int, error) {
	n, err := strconv.Atoi(string(line[1 : len(line)-2]))
	if line[0] != kind || err != nil {
		return 0, fmt.Errorf("%.40q: %w", line, errFrame)
	}
	return n, nil
}

// countWrites says how many writes a part of a replication stream has: transactions (a script that wrote more than once) and
// single commands. The part may begin and end within a command.
func countWrites(stream []byte) int {
	for len(stream) > 0 {
		i := bytes.IndexByte(stream, '*')
		if i < 0 {
			return 0
		}
		stream = stream[i:]
		if n, ok := countFrom(stream); ok {
			return n
		}
		stream = stream[1:] // that was data: the next one may be a command
	}
	return 0
}

// countFrom counts from the beginning of a command on; false if the bytes are no commands.
func countFrom(stream []byte) (writes int, ok bool) {
	r := bufio.NewReader(bytes.NewReader(stream))
	inside := false
	for {
		_, args, err := respCommand(r)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return writes, true
		case err != nil:
			return 0, false
		}
		switch strings.ToUpper(string(args[0])) {
		case "MULTI":
			inside = true
		case "EXEC":
			inside = false
			writes++
		case "PING", "SELECT", "REPLCONF":
		default:
			if !inside {
				writes++
			}
		}
	}
}
