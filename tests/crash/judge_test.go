package crash

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/tests/oracle"
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
			out.panes = append(out.panes, paneOf(p.Name, w, 1))
		}
		entry := plan{Pipeline: p.Name}
		out.plans = append(out.plans, entry)
		entry.Plan = 1
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

func paneOf(pipeline string, w oracle.Pane, revision int64) pane {
	p := pane{Pipeline: pipeline, Key: w.Key}
	p.Window.Name, p.Window.StartMS, p.Window.EndMS = w.Window, w.Start, w.End
	p.Pane.Timing, p.Pane.Revision = "on_time", revision
	n, sum, _ := oracle.Moments(w.Values)
	p.Results.Count, p.Results.Sum, p.Results.Min, p.Results.Max = float64(n), sum, slices.Min(w.Values), slices.Max(w.Values)
	p.Results.First, p.Results.Last = oracle.Edges(w.Events)
	p.Results.Distinct = float64(oracle.Distinct(w.Values))
	return p
}

func TestJudgeFindsNothingWhereNothingIsWrong(t *testing.T) {
	for _, mix := range mixes {
		a, events, dead, out := perfect(t, mix[:1]...)
		if v := judge(a, events, dead, out); len(v.problems) > 0 || v.lost+v.doubled > 0 || v.panes == 0 || v.dead != len(dead) {
			t.Errorf("%s: %+v", mix[0].name, v)
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
		{"dead attempt visible", tumbling, func(o *published) { o.panes[5].Pane.Revision = 2 }, 0, 0, "dead attempt"},
		{"plan twice", tumbling, func(o *published) { o.plans = append(o.plans, o.plans[1]) }, 0, 0, "follows plan 1"},
		{"plan missing", tumbling, func(o *published) { o.plans[1].Plan = 2 }, 0, 0, "follows plan 0"},
		{"books off balance", tumbling, func(o *published) { o.plans[1].Partitions[0].Final-- }, 0, 0, "balance"},
		{"books short of the input", tumbling, func(o *published) { o.plans[1].Partitions = o.plans[1].Partitions[1:] }, 0, 0, "last plan"},
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

// Strict pipelines have each record in a pane or in the late topic.
func TestJudgeTakesLateRecordsOutOfPanes(t *testing.T) {
	a, events, dead, out := perfect(t, strictTumbling)
	late := events[10]
	p := &a.Pipelines[0]
	out.sides = append(out.sides, side{topic: p.LateTopic, source: late.TopicPartition, offset: late.Offset, reason: "late", key: late.Key})
	panes, _ := oracle.Compute(p.Windows, slices.DeleteFunc(slices.Clone(events), func(e oracle.Event) bool { return e == late }), func(oracle.Event) event.Time { return event.MinTime })
	out.panes = nil
	for _, w := range panes {
		out.panes = append(out.panes, paneOf(p.Name, w, 1))
	}
	for i, q := range out.plans[1].Partitions {
		if q.Topic == late.Topic && q.Partition == late.Partition {
			out.plans[1].Partitions[i].Late, out.plans[1].Partitions[i].Final = 1, q.Final-1
		}
	}
	if v := judge(a, events, dead, out); len(v.problems) > 0 || v.late != 1 {
		t.Errorf("%+v", v)
	}
}
