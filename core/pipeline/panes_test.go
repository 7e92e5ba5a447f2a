package pipeline

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// pass is one plan over one partition: what comes before it, and where it takes the watermark.
type pass struct {
	records string // "TIME:KEY=VALUE ..."
	w       event.Time
	early   bool
}

// play makes plans one after the other and returns their panes, one line a plan, as
// TIMING#INDEX[START END)KEY=COUNT/SUM, with <REPLACED and -TAKEN BACK.
func play(t *testing.T, p *Pipeline, passes []pass) []string {
	t.Helper()
	s, history := &state{}, History{}
	waiting := Waiting{}
	prev, since, offset := event.MinTime, int64(0), int64(0)
	var lines []string
	for n, x := range passes {
		f := p.NewFolder(event.TopicPartition{Topic: "in"})
		f.Begin(Chunk{From: offset, Fence: prev})
		for text := range strings.FieldsSeq(x.records) {
			var at event.Time
			var v float64
			where, what, _ := strings.Cut(text, "=")
			when, key, _ := strings.Cut(where, ":")
			if _, err := fmt.Sscan(when, &at); err != nil {
				t.Fatal(err)
			}
			if _, err := fmt.Sscan(what, &v); err != nil {
				t.Fatal(err)
			}
			r := rec(offset, at, key, v)
			if err := f.Add(&r); err != nil {
				t.Fatal(err)
			}
			offset++
		}
		s.add(*f.Finish(offset))
		turn := Turn{Plan: int64(n + 1), Prev: prev, W: max(prev, x.w), Early: x.early, Recount: n == 0, History: &history}
		firing := p.NewFiring(turn, []Prefix{{Since: since, Upto: offset, Refs: s.refs()}})
		refs := firing.Needs(0)
		if err := firing.Feed(0, refs, s.read(refs)); err != nil {
			t.Fatal(err)
		}
		out, err := firing.Finish()
		if err != nil {
			t.Fatal(err)
		}
		s.sweep(out.Partitions[0])
		history.Apply(out.History)
		waiting.Update(out.Waiting, turn.W)
		prev, since = turn.W, offset
		line := make([]string, len(out.Panes))
		for i := range out.Panes {
			line[i] = shown(t, &out.Panes[i])
		}
		lines = append(lines, strings.Join(line, " "))
	}
	if n := history.Len(); prev == event.MaxTime && n > 0 {
		t.Errorf("the history has %d entries when all is final", n)
	}
	return lines
}

func shown(t *testing.T, p *Pane) string {
	t.Helper()
	type out struct {
		Start   int64 `json:"start_ms"`
		End     int64 `json:"end_ms"`
		Index   int64
		Results struct{ Count, Sum float64 }
	}
	var v struct {
		Window struct {
			Start *int64 `json:"start_ms"`
			End   *int64 `json:"end_ms"`
		}
		Pane struct {
			Timing     string
			Index      int64
			Supersedes []out
			Retracts   []out
		}
		Results struct{ Count, Sum float64 }
	}
	if err := json.Unmarshal(p.Value, &v); err != nil {
		t.Fatalf("%s: %v", p.Value, err)
	}
	where := "[)"
	if v.Window.Start != nil {
		where = fmt.Sprintf("[%d %d)", *v.Window.Start, *v.Window.End)
	}
	text := fmt.Sprintf("%s#%d%s%s=%g/%g", v.Pane.Timing, v.Pane.Index, where, strings.TrimPrefix(p.Key, "k="), v.Results.Count, v.Results.Sum)
	for _, o := range v.Pane.Supersedes {
		text += fmt.Sprintf("<#%d[%d %d)", o.Index, o.Start, o.End)
	}
	for _, o := range v.Pane.Retracts {
		text += fmt.Sprintf("-%g/%g", o.Results.Count, o.Results.Sum)
	}
	return text
}

func TestPanesSayWhatTheyReplace(t *testing.T) {
	const late, session = `[{type: tumbling, size: 10ms, allowed_lateness: 100ms}]`, `[{type: session, gap: 10ms, allowed_lateness: 100ms}]`
	for _, c := range []struct {
		name, windows, more string
		passes              []pass
		want                []string
	}{
		{
			"late panes replace the one before", late, "",
			[]pass{{"1:a=1 2:b=2", 10, false}, {"3:a=4", 10, false}, {"4:a=8 4:c=1", 20, false}, {"", event.MaxTime, false}},
			[]string{"on_time#0[0 10)a=1/1 on_time#0[0 10)b=1/2", "late#1[0 10)a=2/5<#0[0 10)", "late#2[0 10)a=3/13<#1[0 10) late#0[0 10)c=1/1", ""},
		},
		{
			"early panes by time hold what is new", late, "    trigger: {early: {every: 10s}}",
			[]pass{{"1:a=1", 0, true}, {"2:b=2", 0, false}, {"", 0, true}, {"", 10, true}, {"3:b=1", 10, true}, {"", event.MaxTime, false}},
			[]string{
				"early#0[0 10)a=1/1", "", "early#0[0 10)b=1/2", "on_time#1[0 10)a=1/1<#0[0 10) on_time#1[0 10)b=1/2<#0[0 10)",
				"late#2[0 10)b=2/3<#1[0 10)", "",
			},
		},
		{
			"early panes by number count what no pane had", late, "    trigger: {count: 2}",
			[]pass{{"1:a=1 1:b=1", 0, false}, {"2:a=1", 0, false}, {"3:a=1 4:a=1 5:b=9 6:b=9", 0, false}, {"", 10, false}},
			[]string{"", "early#0[0 10)a=2/2", "early#1[0 10)a=4/4<#0[0 10) early#0[0 10)b=3/19", "on_time#2[0 10)a=4/4<#1[0 10) on_time#1[0 10)b=3/19<#0[0 10)"},
		},
		{
			"discarded panes add up", late, "    accumulation: discarding\n    trigger: {count: 2, early: {every: 1s}}",
			[]pass{{"1:a=1 2:a=2 1:b=1", 0, false}, {"3:a=4", 0, false}, {"", 0, true}, {"4:b=2", 10, false}, {"5:a=8", 10, false}, {"", event.MaxTime, false}},
			[]string{"early#0[0 10)a=2/3", "", "early#1[0 10)a=1/4 early#0[0 10)b=1/1", "on_time#1[0 10)b=1/2", "late#2[0 10)a=1/8", ""},
		},
		{
			"panes that retract say what they take back", late, "    accumulation: retracting",
			[]pass{{"1:a=1", 10, false}, {"3:a=4", 10, false}, {"4:a=8", 20, false}},
			[]string{"on_time#0[0 10)a=1/1", "late#1[0 10)a=2/5<#0[0 10)-1/1", "late#2[0 10)a=3/13<#1[0 10)-2/5"},
		},
		{
			"only final panes go out once", late, "    trigger: {final_only: true}",
			[]pass{{"1:a=1", 10, false}, {"3:a=4", 109, false}, {"", 110, false}},
			[]string{"", "", "on_time#0[0 10)a=2/5"},
		},
		{
			"a session that goes on replaces what it was", session, "",
			[]pass{{"1:a=1 20:a=2", 40, false}, {"12:a=4", 40, false}, {"", 60, false}},
			[]string{"on_time#0[1 11)a=1/1 on_time#0[20 30)a=1/2", "late#1[12 30)a=2/6<#0[20 30)", ""},
		},
		{
			"a late record that joins two sessions replaces both", session, "",
			[]pass{{"1:a=1 15:a=2", 40, false}, {"8:a=4", 40, false}},
			[]string{"on_time#0[1 11)a=1/1 on_time#0[15 25)a=1/2", "late#1[1 25)a=3/7<#0[1 11)<#0[15 25)"},
		},
		{
			"a session that is open again carries on what has gone out", session, "",
			[]pass{{"1:a=1", 11, false}, {"9:a=2", 11, false}, {"18:a=4", 12, false}, {"", 100, false}},
			[]string{"on_time#0[1 11)a=1/1", "", "", "on_time#1[1 28)a=3/7<#0[1 11)"},
		},
		{
			"and what it has not sent, where panes discard", session, "    accumulation: discarding",
			[]pass{{"1:a=1", 11, false}, {"9:a=2", 11, false}, {"18:a=4", 12, false}, {"", 100, false}},
			[]string{"on_time#0[1 11)a=1/1", "", "", "on_time#1[1 28)a=2/6"},
		},
		{
			"the global window goes out by number", `[{type: global}]`, "    accumulation: discarding\n    trigger: {count: 3}",
			[]pass{{"1:a=1 2000:a=2", 5000, false}, {"7:a=4 8:a=8", 5000, false}, {"9:a=1", 5000, false}, {"1:a=1 2:a=1", 5000, false}},
			[]string{"", "early#0[)a=4/15", "", "early#1[)a=3/3"},
		},
		{
			"slices that windows share discard for each by itself", `[{type: cumulate, size: 20ms, step: 10ms, allowed_lateness: 100ms}]`, "    accumulation: discarding\n    trigger: {early: {every: 1s}}",
			[]pass{{"1:a=1", 0, true}, {"2:a=2", 10, false}, {"3:a=4 11:a=8", 20, false}, {"", event.MaxTime, false}},
			[]string{"early#0[0 10)a=1/1 early#0[0 20)a=1/1", "on_time#1[0 10)a=1/2", "late#2[0 10)a=1/4 on_time#1[0 20)a=3/14", ""},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := play(t, compile(t, c.windows, c.more), c.passes)
			for i := range c.want {
				if got[i] != c.want[i] {
					t.Errorf("plan %d: got %s, want %s", i+1, got[i], c.want[i])
				}
			}
		})
	}
}

// A pane that says nothing new does not go out, but the one at the end of the window does.
func TestOnlyChangesGoOut(t *testing.T) {
	p := compile(t, `[{type: tumbling, size: 10ms, allowed_lateness: 100ms}]`, "    aggregates: {v: [max]}\n    trigger: {on_change: true, early: {every: 1s}}")
	var got []string
	for _, line := range play(t, p, []pass{
		{"1:a=5", 0, true}, {"2:a=3", 0, true}, {"3:a=9", 0, true}, {"", 10, false}, {"4:a=1", 10, false}, {"5:a=10", 10, false},
	}) {
		pane, _, _ := strings.Cut(line, "[")
		got = append(got, pane)
	}
	if want := "early#0  early#1 on_time#2  late#3"; strings.Join(got, " ") != want {
		t.Errorf("got %q, want %q", strings.Join(got, " "), want)
	}
}

// A session that has grown is another window: it replaces the one before, though its results are the same.
func TestASessionThatHasGrownIsAChange(t *testing.T) {
	p := compile(t, `[{type: session, gap: 10ms, allowed_lateness: 100ms}]`, "    aggregates: {v: [max]}\n    trigger: {on_change: true}")
	got := play(t, p, []pass{{"5:a=9", 40, false}, {"6:a=3", 40, false}, {"5:a=1", 40, false}})
	want := []string{"on_time#0[5 15)a=0/0", "late#1[5 16)a=0/0<#0[5 15)", ""}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("plan %d: got %s, want %s", i+1, got[i], want[i])
		}
	}
}
