package pipeline

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/delta"
	"github.com/llm-auto-optimizer/tidemark/core/event"
)

const tumbling = `[{name: w, type: tumbling, size: 10ms, allowed_lateness: 5ms}]`

var genesis = Chunk{Fence: event.MinTime}

func outbox(t *testing.T, f Folded) []OutboxEntry {
	t.Helper()
	var out []OutboxEntry
	for _, d := range f.Deltas {
		if d.Slice.Window == delta.ListOutbox {
			var err error
			if out, err = DecodeOutbox(out, d.Payload); err != nil {
				t.Fatal(err)
			}
		}
	}
	return out
}

func TestBadRecordsGoToTheOutboxWithTheirReason(t *testing.T) {
	p := compile(t, tumbling, "")
	deep := strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 100)
	for _, c := range []struct {
		name, value string
		reason      event.Reason
	}{
		{"not JSON", `{"t":`, event.ReasonDecode},
		{"empty", ``, event.ReasonDecode},
		{"invalid UTF-8", "{\"t\":1,\"k\":\"\xff\",\"v\":1}", event.ReasonDecode},
		{"nested too deep", deep, event.ReasonDecode},
		{"the same field twice", `{"t":1,"t":2,"k":"a","v":1}`, event.ReasonDecode},
		{"no timestamp", `{"k":"a","v":1}`, event.ReasonTimestampMissing},
		{"timestamp null", `{"t":null,"k":"a","v":1}`, event.ReasonTimestampMissing},
		{"timestamp of a wrong type", `{"t":true,"k":"a","v":1}`, event.ReasonTimestampInvalid},
		{"timestamp beyond all numbers", `{"t":1e300,"k":"a","v":1}`, event.ReasonTimestampInvalid},
		{"timestamp in the far future", `{"t":9000000000000,"k":"a","v":1}`, event.ReasonTimestampFuture},
		{"no key", `{"t":1,"v":1}`, event.ReasonKeyMissing},
		{"key is an object", `{"t":1,"k":{},"v":1}`, event.ReasonKeyMissing},
		{"key too long", `{"t":1,"k":"` + strings.Repeat("x", MaxKeyBytes) + `","v":1}`, event.ReasonTooLarge},
		{"no value", `{"t":1,"k":"a"}`, event.ReasonValueMissing},
		{"value null", `{"t":1,"k":"a","v":null}`, event.ReasonValueMissing},
		{"value is text", `{"t":1,"k":"a","v":"7"}`, event.ReasonValueType},
		{"value is not a number", `{"t":1,"k":"a","v":"NaN"}`, event.ReasonValueNotFinite},
		{"value overflows", `{"t":1,"k":"a","v":1e400}`, event.ReasonValueNotFinite},
	} {
		f := fold(t, p, genesis, event.Record{Offset: 7, Timestamp: 1, Value: []byte(c.value)})
		got := outbox(t, f)
		if len(got) != 1 || got[0].Reason != c.reason || got[0].Offset != 7 || len(got[0].Detail) == 0 || len(got[0].Detail) > maxDetail {
			t.Errorf("%s: %+v, want reason %s", c.name, got, c.reason)
		}
		if f.Counts != (Counts{In: 1, Dead: 1}) || f.To != 8 {
			t.Errorf("%s: counts %+v, to %d", c.name, f.Counts, f.To)
		}
	}
	null := fold(t, p, genesis, event.Record{Offset: 0, Timestamp: 1})
	if got := outbox(t, null); len(got) != 1 || got[0].Reason != event.ReasonDecode {
		t.Errorf("a tombstone: %+v", got)
	}
}

func TestPolicySkipCountsAndPolicyFailBlocks(t *testing.T) {
	skip, block := compile(t, tumbling, ""), compile(t, tumbling, "")
	skip.Policy, block.Policy = "skip", "fail"
	bad := event.Record{Offset: 1, Timestamp: 1, Value: []byte("x")}
	f := fold(t, skip, genesis, rec(0, 1, "a", 1), bad)
	if f.Counts != (Counts{In: 2, Skipped: 1}) || len(outbox(t, f)) != 0 {
		t.Errorf("skip: %+v", f.Counts)
	}
	folder := block.NewFolder(event.TopicPartition{Topic: "in"})
	folder.Begin(genesis)
	good := rec(0, 1, "a", 1)
	if err := folder.Add(&good); err != nil {
		t.Fatal(err)
	}
	if err := folder.Add(&bad); !errors.Is(err, ErrBlocked) || !strings.Contains(err.Error(), "offset 1") {
		t.Errorf("fail: %v", err)
	}
	if f := folder.Finish(1); f.To != 1 || f.Counts.In != 1 {
		t.Errorf("the records before the bad one: %+v", f)
	}
}

func TestFenceDecidesPerWindow(t *testing.T) {
	p := compile(t, `[{name: w, type: sliding, size: 20ms, slide: 10ms, allowed_lateness: 0s}]`, "")
	// Time 5 is in [-10,10) and [0,20).
	for _, c := range []struct {
		fence event.Time
		want  Counts
	}{
		{event.MinTime, Counts{In: 1}},
		{9, Counts{In: 1}},
		{10, Counts{In: 1, LateWindows: 1}},
		{19, Counts{In: 1, LateWindows: 1}},
		{20, Counts{In: 1, Late: 1}},
	} {
		f := fold(t, p, Chunk{Fence: c.fence}, rec(0, 5, "a", 1))
		if f.Counts != c.want {
			t.Errorf("fence %s: %+v, want %+v", c.fence, f.Counts, c.want)
		}
	}
}

func TestEveryRecordIsOwnedOnce(t *testing.T) {
	p := compile(t, `[{name: a, type: tumbling, size: 10ms, allowed_lateness: 0s}, {name: b, type: sliding, size: 30ms, slide: 10ms, allowed_lateness: 2ms},
      {name: c, type: session, gap: 7ms, allowed_lateness: 0s}]`, "")
	var records []event.Record
	for i := range int64(50) {
		records = append(records, rec(i, event.Time(i*3%37), fmt.Sprint(i%3), 1))
	}
	f := fold(t, p, Chunk{Fence: 12}, records...)
	owned := int64(0)
	for _, d := range f.Deltas {
		owned += d.Owned
	}
	if owned+f.Counts.Late != 50 {
		t.Errorf("owned %d, late %d of 50", owned, f.Counts.Late)
	}
}

func TestPlansFireRefireAndForget(t *testing.T) {
	p := compile(t, tumbling, "")
	s := &state{}
	s.add(fold(t, p, genesis, rec(0, 1, "a", 1), rec(1, 9, "b", 2), rec(2, 12, "a", 3)))
	out := s.plan(t, p, 1, event.MinTime, 10, 0, 3)
	if diff := cmp.Diff([]string{"w[0,10) k=a on_time", "w[0,10) k=b on_time"}, brief(out.Panes)); diff != "" {
		t.Fatal(diff)
	}
	first := out.Partitions[0]
	if first.Open != 3 || first.Final != 0 || first.ReplayFrom != 0 || first.Counts.In != 3 {
		t.Errorf("plan 1: %+v", first)
	}
	s.sweep(first)

	s.add(fold(t, p, Chunk{From: 3, Fence: 10}, rec(3, 2, "a", 4)))
	out = s.plan(t, p, 2, 10, 10, 3, 4)
	if diff := cmp.Diff([]string{"w[0,10) k=a late"}, brief(out.Panes)); diff != "" {
		t.Fatal(diff)
	}
	if !strings.Contains(string(out.Panes[0].Value), `"count":2,"sum":5`) {
		t.Errorf("the late pane has all records of its key: %s", out.Panes[0].Value)
	}
	s.sweep(out.Partitions[0])

	out = s.plan(t, p, 3, 10, 15, 4, 4)
	if got := out.Partitions[0]; got.Final != 3 || got.Open != 1 || got.ReplayFrom != 0 || len(got.Drop) != 1 {
		t.Errorf("plan 3 makes [0,10) final: %+v", got)
	}
	s.sweep(out.Partitions[0])
	out = s.plan(t, p, 4, 15, 25, 4, 4)
	if got := out.Partitions[0]; got.Final != 1 || got.Open != 0 || got.ReplayFrom != 4 {
		t.Errorf("plan 4 makes all final: %+v", got)
	}
	if s.sweep(out.Partitions[0]); len(s.deltas) != 0 {
		t.Errorf("left over: %+v", s.deltas)
	}
}

func TestSessionsMergeAcrossBucketsAndAreFinalOneByOne(t *testing.T) {
	p := compile(t, `[{name: s, type: session, gap: 600ms, allowed_lateness: 0s}]`, "")
	s := &state{}
	// a: one session over two buckets of a second, and a second one; b: closes first.
	s.add(fold(t, p, genesis, rec(0, 900, "a", 1), rec(1, 100, "b", 1), rec(2, 1400, "a", 1)))
	s.add(fold(t, p, Chunk{From: 3, Fence: event.MinTime}, rec(3, 2900, "a", 1)))
	out := s.plan(t, p, 1, event.MinTime, 1000, 0, 4)
	if diff := cmp.Diff([]string{"s[100,700) k=b on_time"}, brief(out.Panes)); diff != "" {
		t.Fatal(diff)
	}
	if got := out.Partitions[0]; got.Final != 1 || got.Open != 3 || got.ReplayFrom != 0 {
		t.Errorf("plan 1: %+v", got)
	}
	s.sweep(out.Partitions[0])
	out = s.plan(t, p, 2, 1000, 2000, 4, 4)
	if diff := cmp.Diff([]string{"s[900,2000) k=a on_time"}, brief(out.Panes)); diff != "" {
		t.Fatal(diff)
	}
	if got := out.Partitions[0]; got.Final != 2 || got.Open != 1 || got.ReplayFrom != 3 {
		t.Errorf("plan 2: %+v", got)
	}
	s.sweep(out.Partitions[0])
	out = s.plan(t, p, 3, 2000, 3500, 4, 4)
	if diff := cmp.Diff([]string{"s[2900,3500) k=a on_time"}, brief(out.Panes)); diff != "" {
		t.Fatal(diff)
	}
	if s.sweep(out.Partitions[0]); len(s.deltas) != 0 {
		t.Errorf("left over: %+v", s.deltas)
	}
}

func TestCompactionKeepsWhatPlansSay(t *testing.T) {
	for _, windows := range []string{
		`[{name: w, type: sliding, size: 3s, slide: 1s, allowed_lateness: 0s}]`,
		`[{name: s, type: session, gap: 500ms, allowed_lateness: 0s}]`,
	} {
		p := compile(t, windows, "")
		plain, compacted := &state{}, &state{}
		const n = DefaultCompactAfter + 50
		for i := range int64(n) {
			f := fold(t, p, Chunk{From: i, Fence: event.MinTime}, rec(i, event.Time(i%90*10), fmt.Sprint(i%2), float64(i)))
			plain.add(f)
			compacted.add(f)
		}
		out := compacted.plan(t, p, 1, event.MinTime, 1, 0, n)
		if len(out.Partitions[0].Replace) == 0 {
			t.Errorf("%s: %d deltas were not joined", windows, n)
		}
		before := len(compacted.deltas)
		if compacted.sweep(out.Partitions[0]); len(compacted.deltas) >= before {
			t.Errorf("%s: %d deltas before, %d after", windows, before, len(compacted.deltas))
		}
		a := plain.plan(t, p, 2, 1, 10_000, 0, n)
		b := compacted.plan(t, p, 2, 1, 10_000, n, n)
		if diff := cmp.Diff(a.Panes, b.Panes); diff != "" || len(a.Panes) == 0 {
			t.Errorf("%s: compaction changed the panes:\n%s", windows, diff)
		}
		if x, y := a.Partitions[0], b.Partitions[0]; x.Final != n || y.Final != n {
			t.Errorf("%s: final %d and %d of %d", windows, x.Final, y.Final, n)
		}
	}
}

func TestReplayTakesWhatSessionsTookTheFirstTime(t *testing.T) {
	p := compile(t, `[{name: s, type: session, gap: 5ms, allowed_lateness: 0s}]`, "")
	c := Chunk{Fence: 100, Replay: true, Refused: map[Refusal]struct{}{{Window: 0, Offset: 1}: {}}}
	f := fold(t, p, c, rec(0, 1, "a", 1), rec(1, 2, "a", 1))
	if f.Counts != (Counts{In: 2, Late: 1, LateWindows: 0}) {
		t.Errorf("%+v", f.Counts)
	}
}

func TestManyKeysAreSplitIntoBuckets(t *testing.T) {
	p := compile(t, tumbling, "")
	var records []event.Record
	const n = 10_000
	for i := range int64(n) {
		records = append(records, rec(i, 1, fmt.Sprint("key-", i), 1))
	}
	s := &state{}
	s.add(fold(t, p, genesis, records...))
	buckets := 0
	for _, d := range s.deltas {
		if d.Slice.Window == 0 {
			buckets++
		}
	}
	if buckets != 4 {
		t.Errorf("%d buckets for %d keys, want 4", buckets, n)
	}
	out := s.plan(t, p, 1, event.MinTime, 20, 0, n)
	if len(out.Panes) != n || out.Partitions[0].Final != n {
		t.Errorf("%d panes, %d final of %d", len(out.Panes), out.Partitions[0].Final, n)
	}
}

func TestResultHasTheFormOfTheContract(t *testing.T) {
	p := compile(t, tumbling, "")
	s := &state{}
	s.add(fold(t, p, genesis, rec(0, 1, "a", 10), rec(1, 2, "a", 20), rec(2, 3, "a", 30)))
	out := s.plan(t, p, 17, event.MinTime, 10, 0, 3)
	const want = `{"pipeline":"p","window":{"name":"w","type":"tumbling","start":"1970-01-01T00:00:00Z","end":"1970-01-01T00:00:00.01Z","start_ms":0,"end_ms":10},` +
		`"key":"k=a","key_fields":{"k":"a"},"pane":{"timing":"on_time","revision":17,"index":0},` +
		`"results":{"count":3,"sum":60,"average":20,"min":10,"max":30,"stddev":8.16496580927726,"p50":20,"p99":29.8},"timestamp":"1970-01-01T00:00:00Z"}`
	if got := string(out.Panes[0].Value); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	if got, want := out.Panes[0].ID, "p|w|0|10|k=a|17"; got != want {
		t.Errorf("id %s, want %s", got, want)
	}
}

func TestDamagedPayloadsAreErrors(t *testing.T) {
	p := compile(t, tumbling, "")
	s := &state{}
	s.add(fold(t, p, genesis, rec(0, 1, "a", 10), rec(1, 2, "b", 20)))
	for i := range s.deltas[0].Payload {
		broken := append([]byte(nil), s.deltas[0].Payload[:i]...)
		f := p.NewFiring(Turn{Plan: 1, At: 0, Prev: event.MinTime, W: 10}, []Prefix{{Upto: 2, Refs: s.refs()}})
		if err := f.Feed(0, s.refs()[:1], [][]byte{broken}); !errors.Is(err, ErrPayload) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
	newer := append([]byte{9}, s.deltas[0].Payload[1:]...)
	f := p.NewFiring(Turn{Plan: 1, At: 0, Prev: event.MinTime, W: 10}, []Prefix{{Upto: 2, Refs: s.refs()}})
	if err := f.Feed(0, s.refs()[:1], [][]byte{newer}); !errors.Is(err, ErrPayload) || !strings.Contains(err.Error(), "newer") {
		t.Errorf("newer version: %v", err)
	}
}
