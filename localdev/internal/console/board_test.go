package console_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/core/window"
	"github.com/llm-auto-optimizer/tidemark/functions/ops"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/console"
)

// withWindow is a board of an app with one pipeline p and one window w.
func withWindow(mode string) (*console.Board, *clock) {
	c := &clock{time.Unix(1000, 0)}
	return console.NewBoard(&spec.App{Name: "app", Pipelines: []spec.Pipeline{{Name: "p", Windows: []window.Definition{{Name: "w", Kind: window.KindTumbling}}}}}, mode, c.now), c
}

// result is the value of a result record of a window [start, start + 10).
func result(key string, start, revision int, timing, results string) []byte {
	return fmt.Appendf(nil, `{"pipeline":"p","window":{"name":"w","type":"tumbling","start_ms":%d,"end_ms":%d},"key":%q,"pane":{"timing":%q,"revision":%d},"results":%s}`,
		start, start+10, key, timing, revision, results)
}

func TestWindowsThatFiredAreCounted(t *testing.T) {
	b, c := withWindow(console.ModeWatch)
	b.Published(result("a", 0, 2, "early", `{"count":1}`))
	b.Published(result("a", 0, 3, "on_time", `{"count":1}`))
	c.t = c.t.Add(time.Second)
	b.Published(result("b", 0, 3, "on_time", `{"count":1}`))
	b.Published(result("a", 0, 4, "late", `{"count":2}`))
	b.Published(result("a", 10, 4, "on_time", `{"count":2}`))
	b.Published(result("a", 20, 4, "early", `{"count":1}`)) // it is open
	want := []console.Fired{
		{Pipeline: "p", Window: "w", Type: "tumbling", StartMS: 10, EndMS: 20, SeenMS: 1_001_000, Results: 1, Revision: 4},
		{Pipeline: "p", Window: "w", Type: "tumbling", StartMS: 0, EndMS: 10, SeenMS: 1_000_000, Results: 2, Late: 1, Revision: 4},
	}
	if d := cmp.Diff(want, b.FiredWindows()); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if s := b.Snapshot(); s.Results != 6 {
		t.Errorf("%d results, want 6", s.Results)
	}
}

func TestKeysHaveTheNewestRevisionOfEachWindow(t *testing.T) {
	b, _ := withWindow(console.ModeKafka)
	b.Published(result("a", 10, 4, "on_time", `{"x":{"count":2,"p50":null},"y":{"sum":7.5}}`))
	b.Published(result("a", 0, 5, "late", `{"x":{"count":3,"p50":9},"y":{"sum":1}}`)) // of the window before
	b.Published(result("a", 0, 3, "on_time", `{"x":{"count":1,"p50":8},"y":{"sum":1}}`))
	b.Published(result("a", 20, 6, "on_time", `{"y":{"sum":2,"max":3},"x":{"count":null,"p50":1}}`)) // another order, a new number
	want := console.Series{Key: "a", Values: []string{"x.count", "x.p50", "y.sum", "y.max"}, Points: []console.SeriesPoint{
		{StartMS: 0, EndMS: 10, Revision: 5, Late: true, Numbers: []*float64{new(float64(3)), new(float64(9)), new(float64(1)), nil}},
		{StartMS: 10, EndMS: 20, Revision: 4, Numbers: []*float64{new(float64(2)), nil, new(float64(7.5)), nil}},
		{StartMS: 20, EndMS: 30, Revision: 6, Numbers: []*float64{nil, new(float64(1)), new(float64(2)), new(float64(3))}},
	}}
	if d := cmp.Diff(want, b.Series("p", "w", "a")); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	page := b.Keys(console.KeyQuery{Pipeline: "p", Window: "w", Value: "y.sum", Limit: 10})
	if d := cmp.Diff(console.KeyPage{Value: "y.sum", Total: 1, Keys: []console.KeyLine{{Key: "a", StartMS: 20, EndMS: 30, Latest: new(float64(2)), Spark: []*float64{new(float64(1)), new(float64(7.5)), new(float64(2))}}}}, page); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if d := cmp.Diff([]console.Source{{Pipeline: "p", Window: "w", Type: "tumbling", Values: want.Values, Keys: 1}}, b.Results().Sources); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	for name, s := range map[string]console.Series{"no key": b.Series("p", "w", "z"), "no window": b.Series("p", "z", "a")} {
		if len(s.Points) != 0 || s.Points == nil || s.Values == nil {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

func TestKeysAreFoundOrderedAndPaged(t *testing.T) {
	b, _ := withWindow(console.ModeKafka)
	for i := range 30 {
		b.Published(result(fmt.Sprintf("service=%c::n=%02d", 'A'+i%2, i), i*10, i, "on_time", fmt.Sprintf(`{"count":%d}`, i*7%30)))
	}
	for name, c := range map[string]struct {
		q     console.KeyQuery
		total int
		first string
		keys  int
	}{
		"the largest first":      {console.KeyQuery{Limit: 3}, 30, "service=B::n=17", 3},
		"by name":                {console.KeyQuery{Sort: "key", Limit: 100}, 30, "service=A::n=00", 30},
		"newest":                 {console.KeyQuery{Sort: "recent", Limit: 1}, 30, "service=B::n=29", 1},
		"a part, in any case":    {console.KeyQuery{Sort: "key", Search: "=b::N=1", Limit: 100}, 5, "service=B::n=11", 5},
		"a page":                 {console.KeyQuery{Sort: "key", Offset: 28, Limit: 10}, 30, "service=B::n=27", 2},
		"behind the last":        {console.KeyQuery{Sort: "key", Offset: 99, Limit: 10}, 30, "", 0},
		"a limit that is no one": {console.KeyQuery{Sort: "key", Offset: -4, Limit: -1}, 30, "service=A::n=00", 1},
	} {
		c.q.Pipeline, c.q.Window = "p", "w"
		got := b.Keys(c.q)
		first := ""
		if len(got.Keys) > 0 {
			first = got.Keys[0].Key
		}
		if got.Total != c.total || len(got.Keys) != c.keys || first != c.first {
			t.Errorf("%s: %d of %d, the first %q; want %d of %d, %q", name, len(got.Keys), got.Total, first, c.keys, c.total, c.first)
		}
	}
}

// Whatever comes, the board stays small.
func TestTheBoardIsBounded(t *testing.T) {
	b, _ := withWindow(console.ModeWatch)
	wide := `{"count":1`
	for i := range 500 {
		wide += fmt.Sprintf(`,"v%d":1`, i)
	}
	b.Published(result("wide", 0, 1, "on_time", wide+"}"))
	for i := range 6000 {
		b.Published(result(fmt.Sprint("k", i), i*10, i, "on_time", `{"count":1}`))
		b.Published(result("one", i*10, i, "on_time", `{"count":1}`))
		b.Rejected(&event.Record{
			Key: []byte(strings.Repeat("k", 9000)), Value: []byte(strings.Repeat("ü", 9000)),
			Headers: []event.Header{{Key: "tidemark-reason", Value: fmt.Append(nil, "reason", i)}, {Key: "tidemark-error", Value: []byte(strings.Repeat("e", 9000))}},
		}, false)
		b.Booked("g", fmt.Appendf(nil, `{"pipeline":"p","plan":%d,"partitions":[{"topic":"in","partition":0,"in":%d,"final":%d}]}`, i, i, i))
		b.Trouble(fmt.Sprint(i%200), console.Trouble{Kind: "error", What: strings.Repeat("x", 9000)})
	}
	keys := b.Keys(console.KeyQuery{Pipeline: "p", Window: "w", Limit: 1 << 30})
	rejects := b.Rejects()
	for what, n := range map[string][2]int{
		"keys": {keys.Total, 2000}, "a page of keys": {len(keys.Keys), 200}, "points": {len(b.Series("p", "w", "one").Points), 120}, "windows": {len(b.FiredWindows()), 500},
		"rejects": {len(rejects.Last), 100}, "reasons": {len(rejects.Counts), 32}, "plans": {len(b.Ledger()), 60}, "troubles": {len(b.Explanation().Troubles), 50},
		"values": {len(b.Results().Sources[0].Values), 64}, "results": {len(b.Snapshot().LastResults), 20},
	} {
		if n[0] != n[1] {
			t.Errorf("%d %s, want %d", n[0], what, n[1])
		}
	}
	if r := rejects.Last[0]; len(r.Key) > 310 || len(r.Value) > 310 || len(r.Detail) > 310 {
		t.Errorf("%d bytes of a key, %d of a value, %d of a detail are kept", len(r.Key), len(r.Value), len(r.Detail))
	}
	if got := b.Explanation().Troubles[0]; len(got.What) > 5000 {
		t.Errorf("%d bytes of a trouble are kept", len(got.What))
	}
	if first := b.Series("p", "w", "one").Points[0]; first.StartMS != (6000-120)*10 {
		t.Errorf("the oldest window is of %d, want the newest 120", first.StartMS)
	}
}

func TestWhatIsNoResultIsLeftAlone(t *testing.T) {
	b, _ := withWindow(console.ModeWatch)
	for _, v := range []string{``, `null`, `[]`, `"x"`, `{"pipeline":"other","window":{"name":"w"},"results":{"count":1}}`, `{"pipeline":"p","window":{"name":"w"},"results":[1]}`, `{"pipeline":"p","window":{"name":"w"},"results":{"x":{"y":{"z":1}}}}`} {
		b.Published([]byte(v))
	}
	b.Rejected(&event.Record{Value: []byte("somebody else's")}, true)
	b.Booked("g", []byte("no JSON"))
	b.Booked("g", []byte(`{"pipeline":"p","plan":1,"refused":"AAAA"}`))
	if k := b.Keys(console.KeyQuery{Pipeline: "p", Window: "w"}); k.Total != 0 || len(b.Rejects().Counts) != 0 || len(b.Ledger()) != 0 {
		t.Errorf("%+v %+v %+v", k, b.Rejects(), b.Ledger())
	}
}

func TestRejectedRecordsSayWhy(t *testing.T) {
	b, _ := board()
	headers := func(reason string, more ...event.Header) []event.Header {
		return append([]event.Header{{Key: "other", Value: []byte("x")}, {Key: "tidemark-reason", Value: []byte(reason)}, {Key: "tidemark-topic", Value: []byte("in")}, {Key: "tidemark-partition", Value: []byte("3")}, {Key: "tidemark-offset", Value: []byte("17")}}, more...)
	}
	b.Rejected(&event.Record{Timestamp: 5000, Key: []byte{0xff, 'a'}, Headers: headers("decode", event.Header{Key: "tidemark-error", Value: []byte("no JSON")})}, false)
	for range 2 {
		b.Rejected(&event.Record{Key: []byte("k"), Value: []byte(`{"v":1}`), Headers: headers("late", event.Header{Key: "tidemark-lateness-ms", Value: []byte("700")}, event.Header{Key: "tidemark-plan", Value: []byte("9")})}, true)
	}
	got := b.Rejects()
	late := int64(700)
	want := console.Rejects{Counts: []console.ReasonCount{{Reason: "late", Count: 2}, {Reason: "decode", Count: 1}}, Last: []console.Reject{
		{Late: true, Reason: "late", Topic: "in", Partition: 3, Offset: 17, Key: "k", Value: `{"v":1}`, LatenessMS: &late, Plan: "9"},
		{Late: true, Reason: "late", Topic: "in", Partition: 3, Offset: 17, Key: "k", Value: `{"v":1}`, LatenessMS: &late, Plan: "9"},
		{Reason: "decode", Topic: "in", Partition: 3, Offset: 17, Detail: "no JSON", Key: `"\xffa"`, TimeMS: 5000},
	}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func TestTheLedgerAddsUpPartitions(t *testing.T) {
	b, _ := withWindow(console.ModeWatch)
	b.Booked("tidemark.app.p.1", []byte(`{"pipeline":"p","plan":1,"watermark_ms":null,"timestamp":"t","held_by":"h","takes_over":"old","partitions":[{"topic":"in","partition":0,"in":5,"open":3,"final":2},{"topic":"in","partition":1,"in":4,"open":1,"late":1,"dead":1,"skipped":1}]}`))
	b.Booked("tidemark.app.p.1", []byte(`{"pipeline":"p","plan":2,"watermark_ms":7,"timestamp":"u","held_by":"h","partitions":[{"topic":"in","partition":0,"in":9,"final":7,"unassigned":1}]}`))
	w := int64(7)
	want := []console.Plan{
		{Pipeline: "p", Plan: 2, WatermarkMS: &w, Timestamp: "u", HeldBy: "h", Partitions: 2, Books: console.Books{In: 13, Open: 1, Final: 7, Late: 1, Dead: 1, Skipped: 1, Unassigned: 1}, Unaccounted: 1},
		{Pipeline: "p", Plan: 1, Timestamp: "t", HeldBy: "h", Note: "took over from old", Partitions: 2, Books: console.Books{In: 9, Open: 4, Final: 2, Late: 1, Dead: 1, Skipped: 1}},
	}
	if d := cmp.Diff(want, b.Ledger()); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

// explanation is one of pipeline p with two partitions.
func explanation(applied int64, w string) *ops.Explanation {
	return &ops.Explanation{Pipelines: []ops.PipelineExplained{{
		Pipeline: "p", Plan: 3, Watermark: new("1970-01-01T00:00:01Z"), Next: new(w), HeldBy: "in/1 (lagging)", Holder: "lagging", Open: 4,
		Parts: []ops.PartitionExplained{{Topic: "in", Applied: applied, End: 20, Lag: 20 - applied}, {Topic: "in", Partition: 1, Applied: 5, End: 5}},
	}}}
}

// Where nobody tells the board, explanations do.
func TestAWatchedPipelineIsKnownByItsExplanations(t *testing.T) {
	b, c := withWindow(console.ModeWatch)
	for i, applied := range []int64{4, 10, 16, 2} { // then the store has lost what it had
		b.Explained(explanation(applied, fmt.Sprintf("1970-01-01T00:00:%02dZ", 1+2*i)), time.Millisecond)
		c.t = c.t.Add(time.Second)
	}
	s := b.Snapshot()
	ms := int64(1000)
	if d := cmp.Diff([]console.Pipeline{{Name: "p", Watermark: "1970-01-01T00:00:01Z", WatermarkMS: &ms, HeldBy: "in/1 (lagging)", Reason: "lagging", Plan: 3, Open: 4, Lag: 18}}, s.Pipelines); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if s.Records != 12 || s.Lag != 18 || len(s.Partitions) != 2 || s.Open != 4 {
		t.Errorf("%+v", s)
	}
	if x := b.Explanation(); x.Pipelines[0].Pace == nil || *x.Pipelines[0].Pace != 2 || x.TookMS != 1 || !x.Watching {
		t.Errorf("%+v: want a pace of 2", x)
	}
}

func TestTroublesAreNamedTheWorstFirst(t *testing.T) {
	b, _ := withWindow(console.ModeKafka)
	x := explanation(3, "1970-01-01T00:00:01Z")
	x.Pipelines[0].Halts = []string{"the log begins at 7; lengthen the retention"}
	x.Pipelines[0].Parts[0].Stuck, x.Pipelines[0].Parts[0].LastRecord = true, "40s"
	x.Pipelines[0].Parts[1].Blocked = "offset 5: decode"
	b.Trouble("explain", console.Trouble{Kind: "unreachable", What: "no broker"})
	b.Explained(x, time.Millisecond) // it answers again
	b.Trouble("ledger", console.Trouble{Kind: "error", Where: "ledger", What: "no topic"})
	kinds := func() (out []string) {
		for _, t := range b.Explanation().Troubles {
			out = append(out, t.Kind+" "+t.What)
		}
		return out
	}
	want := []string{"halted the log begins at 7; lengthen the retention", "blocked in/1 is blocked under the policy fail: offset 5: decode", "error no topic", "stuck in/0 is stuck: 17 offsets wait, and none was folded for 40s"}
	if d := cmp.Diff(want, kinds()); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	b.Trouble("ledger", console.Trouble{})
	if got := kinds(); len(got) != 3 {
		t.Errorf("%q stays after it has gone", got)
	}
}

func TestHistoryHasOneNumberASecond(t *testing.T) {
	b, c := withWindow(console.ModeKafka)
	for i := range 4 {
		b.Applied(10 * i)
		if i%2 == 0 {
			b.Published(result("a", i*10, i, "on_time", `{"count":1}`))
			b.Partitions([]console.Partition{{Topic: "in", End: int64(i), Lag: int64(i)}})
		}
		c.t = c.t.Add(time.Second)
	}
	c.t = c.t.Add(time.Second)
	want := console.History{UntilMS: 1_005_000, Records: []int64{0, 10, 20, 30, 0}, Results: []int64{1, 0, 1, 0, 0}, Lag: []int64{0, 0, 2, 2, 2}}
	if d := cmp.Diff(want, b.History()); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	c.t = c.t.Add(time.Hour)
	if h := b.History(); len(h.Records) != 300 || len(h.Lag) != 300 {
		t.Errorf("%d seconds are kept", len(h.Records))
	}
}
