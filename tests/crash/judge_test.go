package crash

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/tests/oracle"
	"github.com/llm-auto-optimizer/tidemark/tests/rig"
)

// perfect is a stage without a fault: events in order, and what a read_committed consumer sees of them.
func perfect(t *testing.T, queries ...query) (*app, []oracle.Event, []oracle.Event, published) {
	t.Helper()
	a, err := newApp("test", queries)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	in := newInput(a, nil, r)
	var events, dead []oracle.Event
	next := map[event.TopicPartition]int64{}
	for i := range 400 {
		tp := in.order[r.IntN(len(in.order))]
		e := in.draft(tp, origin.Add(event.Span(5*i)), string(rune('a'+r.IntN(3))), false).event
		e.Offset = next[tp]
		next[tp]++
		if i%50 == 7 {
			dead = append(dead, e)
		} else {
			events = append(events, e)
		}
	}
	var out published
	for i := range a.Pipelines {
		p := &a.Pipelines[i]
		for _, e := range dead {
			out.sides = append(out.sides, side{topic: p.DeadLetterTopic, source: e.TopicPartition, offset: e.Offset, reason: "decode", key: e.Key})
		}
		panes, _ := oracle.Compute(p.Windows, events, func(oracle.Event) event.Time { return event.MinTime })
		for _, w := range panes {
			out.panes = append(out.panes, historyOf(p, w)...)
		}
		entry := plan{Pipeline: p.Name}
		out.plans = append(out.plans, entry)
		out.plans = append(out.plans, plan{Pipeline: p.Name, Plan: 1})
		entry.Plan = 2
		for tp, n := range next {
			q := planPartition{Topic: tp.Topic, Partition: tp.Partition, Offset: n, In: n}
			for _, e := range dead {
				if e.TopicPartition == tp {
					q.Dead++
				}
			}
			q.Final = n - q.Dead
			entry.Partitions = append(entry.Partitions, q)
		}
		out.plans = append(out.plans, entry)
	}
	return a, events, dead, out
}

// historyOf is the panes of a window: one, or where they may be early two, the second with plan 2.
func historyOf(p *spec.Pipeline, w oracle.Pane) []pane {
	if !p.Trigger.Early() || len(w.Events) == 1 {
		return []pane{paneOf(p, w, w.Events, "on_time", 1)}
	}
	half := len(w.Events) / 2
	early, last := w.Events[:half], w.Events
	if p.Accumulation == spec.Discarding {
		last = last[half:]
	}
	a, b := paneOf(p, w, early, "early", 1), paneOf(p, w, last, "on_time", 2)
	b.Pane.Index = 1
	if p.Accumulation != spec.Discarding {
		b.Pane.Supersedes = []rig.Out{{StartMS: a.Window.StartMS, EndMS: a.Window.EndMS}}
	}
	if p.Accumulation == spec.Retracting {
		b.Pane.Retracts = []rig.Out{{StartMS: a.Window.StartMS, EndMS: a.Window.EndMS, Results: a.Result.Results}}
	}
	return []pane{a, b}
}

func paneOf(p *spec.Pipeline, w oracle.Pane, events []oracle.Event, timing string, revision int64) pane {
	var out pane
	out.Pipeline, out.Key = p.Name, w.Key
	out.Window.Name, out.Window.StartMS, out.Window.EndMS = w.Window, w.Start, w.End
	for _, d := range p.Windows {
		if d.Name == w.Window {
			out.Window.Type = d.Kind.String()
		}
	}
	out.Pane.Timing, out.Pane.Revision = timing, revision
	values := make([]float64, len(events))
	for i, e := range events {
		values[i] = e.Value
	}
	n, sum, _ := oracle.Moments(values)
	out.Results = numbers{Count: float64(n), Sum: sum, Min: slices.Min(values), Max: slices.Max(values), Distinct: float64(oracle.Distinct(values))}
	out.Results.First, out.Results.Last = oracle.Edges(events)
	out.Result.Results = map[string]any{"sum": sum}
	return out
}

func TestJudgeFindsNothingWhereNothingIsWrong(t *testing.T) {
	for _, mix := range mixes {
		for i := range mix {
			a, events, dead, out := perfect(t, mix[i:i+1]...)
			if v := judge(a, events, dead, out); len(v.problems) > 0 || v.lost+v.doubled > 0 || v.panes == 0 || v.dead != len(dead) {
				t.Errorf("%s: %+v", mix[i].name, v)
			}
		}
	}
}

// Each line breaks what a perfect stage has published, in one place, and says what the judge has to make of it.
func TestJudgeFindsWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		name          string
		query         query
		spoil         func(o *published)
		lost, doubled int64 // -1: some
		says          string
	}{
		{"pane missing", tumbling, func(o *published) { o.panes = o.panes[1:] }, -1, 0, "missing"},
		{"pane superfluous", tumbling, func(o *published) {
			p := o.panes[0]
			p.Window.StartMS, p.Window.EndMS = p.Window.StartMS-1000, p.Window.EndMS-1000
			o.panes = append(o.panes, p)
		}, 0, -1, "superfluous"},
		{"record missing", sliding, func(o *published) { o.panes[3].Results.Count-- }, 1, 0, "want"},
		{"record twice", session, func(o *published) { o.panes[3].Results.Count++ }, 0, 1, "want"},
		{"one record for another", tumbling, func(o *published) { o.panes[3].Results.Sum++ }, 1, 1, "not the right ones"},
		{"another first", tumbling, func(o *published) { o.panes[3].Results.First += .5 }, 1, 1, "want"},
		{"another last", tumbling, func(o *published) { o.panes[3].Results.Last += .5 }, 1, 1, "want"},
		{"a distinct value more", tumbling, func(o *published) { o.panes[3].Results.Distinct++ }, 1, 1, "distinct"},
		{"pane twice with one revision", tumbling, func(o *published) { o.panes = append(o.panes, o.panes[5]) }, 0, -1, "published twice"},
		{"pane again", tumbling, func(o *published) {
			p := o.panes[5]
			p.Pane.Revision = 0
			o.panes = append(o.panes, p)
		}, 0, -1, "again"},
		{"late pane without a gain", tumblingLate, func(o *published) {
			p := o.panes[5]
			o.panes[5].Pane.Revision = 0
			p.Pane.Timing = "late"
			o.panes = append(o.panes, p)
		}, 0, 0, "no record more"},
		{"early pane missing that adds up", earlyDiscarding, func(o *published) { o.panes = slices.DeleteFunc(o.panes, firstOf("early", new(bool))) }, -1, 0, "index before it is -1"},
		{"early pane twice that adds up", earlyDiscarding, func(o *published) {
			p := o.panes[slices.IndexFunc(o.panes, firstOf("on_time", new(bool)))]
			p.Pane.Revision++
			p.Pane.Index++
			p.Pane.Timing = "late"
			o.plans[2].Plan, o.plans = 3, append(o.plans[:2:2], append([]plan{{Pipeline: o.plans[2].Pipeline, Plan: 2}}, o.plans[2:]...)...)
			o.panes = append(o.panes, p)
		}, 0, -1, "late, where nothing may be"},
		{"early pane that nobody replaces", earlyTumbling, func(o *published) {
			o.panes[slices.IndexFunc(o.panes, replacing)].Pane.Supersedes = nil
		}, 0, -1, "no other has replaced"},
		{"a pane replaced that never went out", earlyTumbling, func(o *published) {
			o.panes[slices.IndexFunc(o.panes, replacing)].Pane.Supersedes[0].Index = 7
		}, 0, -1, "did not go out"},
		{"another index", earlyTumbling, func(o *published) { o.panes[slices.IndexFunc(o.panes, replacing)].Pane.Index = 2 }, 0, 0, "index before it is 0"},
		{"other results taken back", earlyTakesBack, func(o *published) {
			o.panes[slices.IndexFunc(o.panes, replacing)].Pane.Retracts[0].Results = map[string]any{"sum": -1.}
		}, 0, 0, "does not take back the results"},
		{"early after its end", earlyTumbling, func(o *published) {
			o.panes[slices.IndexFunc(o.panes, replacing)].Pane.Timing = "early"
			o.panes[slices.IndexFunc(o.panes, replacing)-1].Pane.Timing = "on_time"
		}, 0, -1, "again early"},
		{"dead attempt visible", tumbling, func(o *published) { o.panes[5].Pane.Revision = 3 }, 0, 0, "dead attempt"},
		{"plan twice", tumbling, func(o *published) { o.plans = append(o.plans, o.plans[2]) }, 0, 0, "follows plan 2"},
		{"plan missing", tumbling, func(o *published) { o.plans[2].Plan = 3 }, 0, 0, "follows plan 1"},
		{"books off balance", tumbling, func(o *published) { o.plans[2].Partitions[0].Final-- }, 0, 0, "balance"},
		{"books short of the input", tumbling, func(o *published) { o.plans[2].Partitions = o.plans[2].Partitions[1:] }, 0, 0, "last plan"},
		{"dead letter missing", tumbling, func(o *published) { o.sides = o.sides[1:] }, 1, 0, "not in the dead letter topic"},
		{"dead letter twice", tumbling, func(o *published) { o.sides = append(o.sides, o.sides[0]) }, 0, 1, "twice in"},
		{"late without a reason", tumbling, func(o *published) {
			s := o.sides[0]
			s.topic, s.reason, s.offset = strings.Replace(s.topic, "dead", "late", 1), "late", 0
			o.sides = append(o.sides, s)
		}, 0, 0, "none is late"},
		{"late and in a pane", strictTumbling, func(o *published) {
			s := o.sides[0]
			s.topic, s.reason, s.offset = strings.Replace(s.topic, "dead", "late", 1), "late", 0
			o.sides = append(o.sides, s)
		}, 0, 1, "want"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, events, dead, out := perfect(t, c.query)
			c.spoil(&out)
			v := judge(a, events, dead, out)
			counted := func(got, want int64) bool { return got == want || want < 0 && got > 0 }
			if !counted(v.lost, c.lost) || !counted(v.doubled, c.doubled) || !strings.Contains(strings.Join(v.problems, "\n"), c.says) {
				t.Errorf("%d lost, %d doubled, %q; want %d, %d, %q", v.lost, v.doubled, v.problems, c.lost, c.doubled, c.says)
			}
		})
	}
}

// firstOf matches the first pane of a timing.
func firstOf(timing string, found *bool) func(pane) bool {
	return func(p pane) bool {
		if *found || p.Pane.Timing != timing {
			return false
		}
		*found = true
		return true
	}
}

func replacing(p pane) bool { return len(p.Pane.Supersedes) > 0 }

// Strict pipelines have each record in a pane or in the late topic.
func TestJudgeTakesLateRecordsOutOfPanes(t *testing.T) {
	a, events, dead, out := perfect(t, strictTumbling)
	late := events[10]
	p := &a.Pipelines[0]
	out.sides = append(out.sides, side{topic: p.LateTopic, source: late.TopicPartition, offset: late.Offset, reason: "late", key: late.Key})
	panes, _ := oracle.Compute(p.Windows, slices.DeleteFunc(slices.Clone(events), func(e oracle.Event) bool { return e == late }), func(oracle.Event) event.Time { return event.MinTime })
	out.panes = nil
	for _, w := range panes {
		out.panes = append(out.panes, paneOf(p, w, w.Events, "on_time", 1))
	}
	for i, q := range out.plans[2].Partitions {
		if q.Topic == late.Topic && q.Partition == late.Partition {
			out.plans[2].Partitions[i].Late, out.plans[2].Partitions[i].Final = 1, q.Final-1
		}
	}
	if v := judge(a, events, dead, out); len(v.problems) > 0 || v.late != 1 {
		t.Errorf("%+v", v)
	}
}
