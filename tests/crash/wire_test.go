package crash

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/llm-auto-optimizer/tidemark/core/spec"
)

func over(s string) *bufio.Reader { return bufio.NewReader(strings.NewReader(s)) }

func scripts(t testing.TB) redisWire {
	t.Helper()
	w, err := readScripts(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestRedisCallsHaveTheStoresNames(t *testing.T) {
	w := scripts(t)
	var names []string
	for _, name := range w.scripts {
		names = append(names, name)
	}
	for _, want := range []string{"Commit", "Restore", "Raise", "Status", "Index", "Read", "Sweep"} {
		if !strings.Contains(strings.Join(names, " "), want) {
			t.Errorf("no script is called %s: %v", want, names)
		}
	}
	sha := ""
	for s, name := range w.scripts {
		if name == "Commit" {
			sha = s
		}
	}
	f := func(command, want string) {
		t.Helper()
		frame, call, err := w.request(over(command + "*1\r\n$4\r\nPING\r\n"))
		if err != nil || call != want || string(frame) != command {
			t.Errorf("%q is %q, %v", command, call, err)
		}
	}
	f("*4\r\n$7\r\nevalsha\r\n$40\r\n"+sha+"\r\n$1\r\n0\r\n$3\r\na\r\n\r\n", "Commit")
	f("*3\r\n$5\r\nHMGET\r\n$1\r\nk\r\n$1\r\nf\r\n", "Load")
	f("*2\r\n$7\r\nEVALSHA\r\n$1\r\nx\r\n", "EVALSHA")
	f("*1\r\n$4\r\ninfo\r\n", "INFO")
}

func TestRedisAnswersAreCutWhereTheyEnd(t *testing.T) {
	f := func(answer string, tried bool) {
		t.Helper()
		frame, got, err := redisWire{}.answer(over(answer + "+next\r\n"))
		if err != nil || string(frame) != answer || got != tried {
			t.Errorf("%q: got %q, %v, %v", answer, frame, got, err)
		}
	}
	f("+OK\r\n", true)
	f("-NOSCRIPT No matching script\r\n", false)
	f("-ERR no\r\n", true)
	f(":12\r\n", true)
	f("$-1\r\n", true)
	f("$5\r\na\r\nbc\r\n", true)
	f("*-1\r\n", true)
	f("*0\r\n", true)
	f("*3\r\n$1\r\na\r\n*2\r\n:1\r\n$-1\r\n+x\r\n", true)
}

// newKafkaWire knows no topic's id.
func newKafkaWire() kafkaWire { return kafkaWire{panes: new(atomic.Pointer[[16]byte])} }

// request is a Kafka request as a client writes it.
func request(req kmsg.Request) string {
	return string(kmsg.NewRequestFormatter(kmsg.FormatterClientID("tidemark")).AppendRequest(nil, req, 7))
}

func TestKafkaCallsHaveTheirApisNames(t *testing.T) {
	f := func(req kmsg.Request, want string) {
		t.Helper()
		for version := int16(0); version <= req.MaxVersion(); version++ {
			req.SetVersion(version)
			sent := request(req)
			frame, call, err := newKafkaWire().request(over(sent + "more"))
			if err != nil || call != want || string(frame) != sent {
				t.Errorf("%T version %d is %q, %v; want %q", req, version, call, err, want)
			}
		}
	}
	f(kmsg.NewPtrMetadataRequest(), "Metadata")
	f(kmsg.NewPtrOffsetFetchRequest(), "OffsetFetch")
	for id, suffix := range map[string]string{"tidemark.app.p.0": "", "tidemark.app.preflight": trial} {
		end := kmsg.NewPtrEndTxnRequest()
		end.TransactionalID = id
		f(end, "EndTxn"+suffix)
		begin := kmsg.NewPtrInitProducerIDRequest()
		begin.TransactionalID = &id
		f(begin, "InitProducerID"+suffix)
		offsets := kmsg.NewPtrTxnOffsetCommitRequest()
		offsets.TransactionalID, offsets.Group = id, "g"
		f(offsets, "TxnOffsetCommit"+suffix)
	}
	id := "tidemark.app.preflight"
	produce := kmsg.NewPtrProduceRequest()
	produce.TransactionID = &id
	produce.Version = produce.MaxVersion()
	if _, call, err := newKafkaWire().request(over(request(produce))); err != nil || call != "Produce"+trial {
		t.Errorf("%q, %v", call, err)
	}
}

// What the pane history is read and written by has names of its own, whether requests have the topic's name or its id.
func TestCallsOfThePaneHistoryAreTold(t *testing.T) {
	id := [16]byte{1, 2, 3}
	w := newKafkaWire()
	w.panes.Store(&id)
	for topic, want := range map[string]string{spec.PanesTopic: history, "events": ""} {
		produce, fetch := kmsg.NewPtrProduceRequest(), kmsg.NewPtrFetchRequest()
		p, f := kmsg.NewProduceRequestTopic(), kmsg.NewFetchRequestTopic()
		p.Topic, f.Topic = topic, topic
		if topic == spec.PanesTopic {
			p.TopicID, f.TopicID = id, id
		}
		produce.Topics, fetch.Topics = append(produce.Topics, p), append(fetch.Topics, f)
		for _, req := range []kmsg.Request{produce, fetch} {
			for version := int16(4); version <= req.MaxVersion(); version++ { // produce has had transactions since 3, fetch since 4
				req.SetVersion(version)
				if _, call, err := w.request(over(request(req))); err != nil || call != kmsg.NameForKey(req.Key())+want {
					t.Errorf("%T version %d of %s is %q, %v", req, version, topic, call, err)
				}
			}
		}
	}
}

func TestWhatIsNoFrameIsSaid(t *testing.T) {
	w := scripts(t)
	for _, bad := range []string{"PING\r\n", "*1\r\n:1\r\n", "*x\r\n", "*1\r\n$1\r\nab\r\n", "*0\r\n", "\n\n\n"} {
		if _, _, err := w.request(over(bad)); !errors.Is(err, errFrame) {
			t.Errorf("command %q: %v", bad, err)
		}
	}
	for _, bad := range []string{"%1\r\n", "$x\r\n", "*x\r\n", strings.Repeat("*1\r\n", 100)} {
		if _, _, err := w.answer(over(bad)); !errors.Is(err, errFrame) {
			t.Errorf("answer %.20q: %v", bad, err)
		}
	}
	for _, bad := range []string{"\x00\x00\x00\x01a", "\x7f\x00\x00\x00", "\x00\x00\x00\x04abcd"} {
		if _, _, err := newKafkaWire().request(over(bad)); !errors.Is(err, errFrame) {
			t.Errorf("request %q: %v", bad, err)
		}
	}
}

func TestWritesOfAReplicationStreamAreCounted(t *testing.T) {
	command := func(words ...string) string {
		var b strings.Builder
		b.WriteString("*" + string(rune('0'+len(words))) + "\r\n")
		for _, w := range words {
			b.WriteString("$" + string(rune('0'+len(w))) + "\r\n" + w + "\r\n")
		}
		return b.String()
	}
	set, ping := command("SET", "k", "*3\r\nv"), command("PING")
	script := command("MULTI") + set + command("HSET", "a", "b", "c") + command("EXEC")
	for _, c := range []struct {
		stream string
		want   int
	}{
		{"", 0},
		{set, 1},
		{ping + set + ping, 1},
		{script, 1},
		{set + script + script + command("SELECT", "0"), 3},
		{set[7:] + set + script, 2},          // begins within a command
		{set + script + set[:9], 2},          // ends within one
		{set + command("MULTI") + set, 1},    // a transaction that never came whole
		{"*data without an end" + "\r\n", 0}, // no command at all
	} {
		if got := countWrites([]byte(c.stream)); got != c.want {
			t.Errorf("%q: %d writes, want %d", c.stream, got, c.want)
		}
	}
}

// Whatever comes in, a frame is what was read, and nothing panics.
func FuzzWire(f *testing.F) {
	f.Add([]byte("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"))
	f.Add([]byte("*2\r\n+a\r\n$-1\r\n"))
	f.Add([]byte(request(kmsg.NewPtrEndTxnRequest())))
	f.Add([]byte("\x00\x00\x00\x0a\x00\x1a\x00\x05\x00\x00\x00\x00\xff\xff"))
	w := scripts(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		countWrites(data)
		kafka := newKafkaWire()
		for name, read := range map[string]func(*bufio.Reader) ([]byte, error){
			"kafka request": func(r *bufio.Reader) ([]byte, error) { b, _, err := kafka.request(r); return b, err },
			"kafka answer":  func(r *bufio.Reader) ([]byte, error) { b, _, err := kafka.answer(r); return b, err },
			"redis request": func(r *bufio.Reader) ([]byte, error) { b, _, err := w.request(r); return b, err },
			"redis answer":  func(r *bufio.Reader) ([]byte, error) { b, _, err := w.answer(r); return b, err },
		} {
			if len(data) >= 4 && (data[0] > 0 || data[1] > 1) && strings.HasPrefix(name, "kafka") {
				continue // megabytes that are not there
			}
			r := bufio.NewReader(bytes.NewReader(data))
			frame, err := read(r)
			if err != nil {
				continue
			}
			rest, err := io.ReadAll(r)
			if diff := cmp.Diff(data, append(frame, rest...)); err != nil || diff != "" {
				t.Errorf("%s: %v\n%s", name, err, diff)
			}
		}
	})
}
