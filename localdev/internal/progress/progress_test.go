package progress_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/functions/fire"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/console"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/progress"
)

// screen is a terminal of a given width (0: none), with a clock that is set by hand.
type screen struct {
	out, err bytes.Buffer
	now      time.Time
	*progress.Terminal
}

func newScreen(width int, asJSON bool) *screen {
	s := &screen{now: time.Unix(0, 0)}
	s.Terminal = progress.New(progress.Options{
		Out: &s.out, Err: &s.err, JSON: asJSON, Width: func() int { return width }, Now: func() time.Time { return s.now },
	})
	return s
}

func snapshot() console.Snapshot {
	ms, earlier := int64(5000), int64(4000)
	return console.Snapshot{
		App: "app", Mode: "embedded", UptimeSeconds: 12.3, Records: 100, Rate: 33.333, Lag: 4, Open: 2, Plans: 3, Results: 8, Late: 1,
		Pipelines: []console.Pipeline{
			{Name: "a", Watermark: "1970-01-01T00:00:05Z", WatermarkMS: &ms, HeldBy: "in/1 (slowest, 2s behind)"},
			{Name: "b", Watermark: "1970-01-01T00:00:04Z", WatermarkMS: &earlier, HeldBy: "in/2 (lagging, 4 offsets to go)"},
		},
		LastResults: []json.RawMessage{json.RawMessage(`{"n":1}`)},
	}
}

const line = "12s  33.33 events/s  W 1970-01-01T00:00:04Z held by in/2 (lagging, 4 offsets to go)  lag 4  open 2  plans 3  results 8  late 1  dead 0"

func value(key, results, timing string) []byte {
	quoted := event.AppendJSONString(nil, []byte(key))
	return fmt.Appendf(nil, `{"pipeline":"p","window":{"name":"1m","type":"tumbling","start":"2025-01-01T12:34:00Z","end":"2025-01-01T12:35:00Z"},"key":%s,"pane":{"timing":%q},"results":%s}`,
		quoted, timing, results)
}

func TestAResultSaysWhatItsWindowSpans(t *testing.T) {
	for span, want := range map[string]string{
		`"2025-01-01T12:34:00Z","end":"2025-01-01T12:35:00Z"`:     "2025-01-01 12:34:00..12:35:00",
		`"2025-01-01T12:34:00.5Z","end":"2025-01-01T12:35:00.5Z"`: "2025-01-01 12:34:00.5..12:35:00.5",
		`"2025-01-01T23:59:00Z","end":"2025-01-02T00:00:00Z"`:     "2025-01-01 23:59:00..2025-01-02 00:00:00",
		`"2025-01-01T12:00:00Z","end":"2026-01-01T12:00:00Z"`:     "2025-01-01 12:00:00..2026-01-01 12:00:00",
		`null,"end":null`: "all of event time",
	} {
		s := newScreen(0, false)
		s.Result(event.TopicPartition{Topic: "out"}, 0, fmt.Appendf(nil, `{"pipeline":"p","window":{"name":"w","start":%s},"key":"k","pane":{"timing":"early"},"results":{"count":1}}`, span))
		if want += "  p/w  k  count 1  (early pane)\n"; s.out.String() != want {
			t.Errorf("got  %swant %s", s.out.String(), want)
		}
	}
}

func TestStatusLineIsRewrittenInPlace(t *testing.T) {
	s := newScreen(200, false)
	s.Tick(snapshot())
	s.Tick(snapshot())
	s.Note("something")
	const back = "\r\x1b[K"
	want := line + back + line + back + "something\n" + line
	if d := cmp.Diff(want, s.err.String()); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	s.err.Reset()
	if err := s.Summary(snapshot(), nil); err != nil {
		t.Fatal(err)
	}
	if got := s.err.String(); got != back {
		t.Errorf("summary left %q, want the line taken back", got)
	}
	if want := "100 records in, 8 results, 1 late, 0 dead letters, 3 plans; watermark a 1970-01-01T00:00:05Z, b 1970-01-01T00:00:04Z; 12.3s\n"; s.out.String() != want {
		t.Errorf("got  %swant %s", s.out.String(), want)
	}
}

func TestStatusLineFitsTheTerminal(t *testing.T) {
	s := newScreen(20, false)
	s.Tick(snapshot())
	if got := s.err.String(); got != line[:19] {
		t.Errorf("got %q, want %q", got, line[:19])
	}
}

func TestWithoutATerminalTheLineComesNowAndThen(t *testing.T) {
	s := newScreen(0, false)
	for range 12 {
		s.now = s.now.Add(time.Second)
		s.Tick(snapshot())
	}
	if want := line + "\n" + line + "\n"; s.err.String() != want {
		t.Errorf("got %q, want two lines in 12 s", s.err.String())
	}
}

func TestEveryResultIsPrintedWhereNobodyReadsAlong(t *testing.T) {
	s := newScreen(0, false)
	for i := range 100 {
		s.Result(event.TopicPartition{Topic: "out"}, int64(i), value(fmt.Sprint("k", i), `{"count":1}`, "on_time"))
	}
	s.Tick(snapshot())
	if n := strings.Count(s.out.String(), "\n"); n != 100 {
		t.Errorf("%d lines, want 100", n)
	}
}

func TestOnATerminalResultsBeyondTwentyASecondAreCounted(t *testing.T) {
	s := newScreen(0, false)
	s.Brief = true
	for i := range 35 {
		s.Result(event.TopicPartition{Topic: "out"}, int64(i), value(fmt.Sprint("k", i), `{"count":1}`, "on_time"))
	}
	s.Tick(snapshot())
	s.Result(event.TopicPartition{Topic: "out"}, 25, value("last", `{"count":1}`, "late"))
	lines := strings.Split(s.out.String(), "\n")
	if len(lines) != 23 || !strings.HasPrefix(lines[20], "... and 15 more") || !strings.Contains(lines[21], "last") {
		t.Errorf("got\n%s", s.out.String())
	}
	if want := "2025-01-01 12:34:00..12:35:00  p/1m  last  count 1  (late pane)"; lines[21] != want {
		t.Errorf("got  %q\nwant %q", lines[21], want)
	}
}

func TestResultLines(t *testing.T) {
	for _, c := range []struct{ value, want string }{
		{string(value("k", `{"count":3,"average":20.125,"p99":1e20,"min":0.001,"stddev_sample":null}`, "on_time")), "k  count 3 average 20.12 p99 1e+20 min 0.001 stddev_sample null"},
		{string(value("k", `{"b":{"count":1,"sum":2.50},"a":{"max":-7}}`, "on_time")), "k  b(count 1 sum 2.5) a(max -7)"},
		{string(value("\x1b[2J\n", `{"n":1}`, "on_time")), "?[2J?  n 1"},
		{`{"other":"\u001b"}`, `{"other":"\u001b"}`},
		{"\x1b not JSON", "? not JSON"},
	} {
		s := newScreen(0, false)
		s.Result(event.TopicPartition{}, 0, []byte(c.value))
		if got := strings.TrimSuffix(s.out.String(), "\n"); !strings.HasSuffix(got, c.want) {
			t.Errorf("got %q, want it to end in %q", got, c.want)
		}
	}
}

func TestReasonsOfDeadLettersAreTold(t *testing.T) {
	s := newScreen(400, false)
	s.Plans([]fire.Report{{Made: true, Reasons: map[event.Reason]int{event.ReasonDecode: 2}}, {Reasons: map[event.Reason]int{event.ReasonKeyMissing: 9}}})
	s.Plans([]fire.Report{{Made: true, Reasons: map[event.Reason]int{event.ReasonValueType: 3, event.ReasonDecode: 1, event.ReasonTooLarge: 1}}})
	const want = "(decode 3, value_type 3, too_large 1)"
	s.Tick(snapshot())
	if !strings.HasSuffix(s.err.String(), "dead 0 "+want) {
		t.Errorf("status line %q", s.err.String())
	}
	if err := s.Summary(snapshot(), nil); err != nil || !strings.Contains(s.out.String(), "dead letters: "+strings.Trim(want, "()")+"\n") {
		t.Errorf("summary %q, %v", s.out.String(), err)
	}
}

func TestWhatWhereHoldsBackIsTold(t *testing.T) {
	s := newScreen(400, false)
	s.Where = map[string]string{"a": "state ==\n  \"on\""}
	x := snapshot()
	x.Filtered = 40
	x.Pipelines[0].In, x.Pipelines[0].Filtered = 35, 35
	x.Pipelines[1].In, x.Pipelines[1].Filtered = 65, 5
	s.Tick(x)
	if !strings.HasSuffix(s.err.String(), "results 8  filtered 40  late 1  dead 0") {
		t.Errorf("status line %q", s.err.String())
	}
	if err := s.Summary(x, nil); err != nil {
		t.Fatal(err)
	}
	const want = "a: all 35 records were filtered by where: state == \"on\"\n100 records in, 8 results, 1 late, 0 dead letters, 40 filtered, 3 plans; "
	if !strings.HasPrefix(s.out.String(), want) {
		t.Errorf("got  %swant %s", s.out.String(), want)
	}
}

func TestBehindIsBehindTheFurthest(t *testing.T) {
	s := newScreen(400, false)
	x := snapshot()
	x.Pipelines = x.Pipelines[:1]
	s.Tick(x)
	if !strings.Contains(s.err.String(), "held by in/1 (slowest, 2s behind the furthest)") {
		t.Errorf("got %q", s.err.String())
	}
}

func TestAnErrorOfAPipelineComesFirst(t *testing.T) {
	s := newScreen(400, false)
	x := snapshot()
	x.Pipelines[0].Error = "no broker\nanswers"
	s.Tick(x)
	if !strings.Contains(s.err.String(), "a: no broker?answers") {
		t.Errorf("got %q", s.err.String())
	}
}

func TestJSONIsOneObjectALine(t *testing.T) {
	s := newScreen(200, true)
	s.Note("for people")
	s.Tick(snapshot())
	for i := range 12 {
		s.Result(event.TopicPartition{Topic: "out", Partition: 1}, int64(i), value("k", `{"count":1}`, "on_time"))
	}
	s.Say("for people")
	ms := int64(5)
	if err := s.Summary(snapshot(), []progress.Closed{{Pipeline: "a", Watermark: "w", WatermarkMS: &ms}}); err != nil {
		t.Fatal(err)
	}
	var types []string
	for l := range strings.Lines(s.out.String()) {
		var o struct {
			Type    string
			Records int64
			Offset  int64
			Result  struct{ Key string }
			Closed  []progress.Closed
		}
		if err := json.Unmarshal([]byte(l), &o); err != nil {
			t.Fatalf("%s: %v", l, err)
		}
		types = append(types, o.Type)
		switch {
		case o.Type == "result" && o.Result.Key != "k", o.Type == "progress" && o.Records != 100, o.Type == "summary" && len(o.Closed) != 1:
			t.Errorf("got %s", l)
		}
	}
	if len(types) != 14 || types[0] != "progress" || types[13] != "summary" {
		t.Errorf("got %v, want a progress, twelve results and a summary", types)
	}
	if s.err.String() != "for people\n" {
		t.Errorf("stderr has %q", s.err.String())
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestAnOutputThatCannotBeWrittenIsTold(t *testing.T) {
	var errs bytes.Buffer
	p := progress.New(progress.Options{Out: full{}, Err: &errs, Width: func() int { return 0 }, Now: time.Now})
	p.Result(event.TopicPartition{}, 0, value("k", `{}`, "on_time"))
	if err := p.Failed(); err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("got %v", err)
	}
	if err := p.Summary(snapshot(), nil); err == nil {
		t.Error("the summary says that all went well")
	}
}

func TestWidthOfWhatIsNoTerminal(t *testing.T) {
	if w := progress.Width(&bytes.Buffer{}); w != 0 {
		t.Errorf("a buffer is %d columns wide, want 0", w)
	}
}
