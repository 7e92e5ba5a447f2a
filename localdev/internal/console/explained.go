package console

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/functions/ops"
)

// Trouble is what somebody should look at, and what to do about it.
type Trouble struct {
	Kind  string `json:"kind"`  // halted, blocked, stuck, error or unreachable
	Where string `json:"where"` // pipeline, partition or function
	What  string `json:"what"`
	Do    string `json:"do,omitempty"` // where What does not say it
}

// explained is the last explanation.
type explained struct {
	x     *ops.Explanation
	at    time.Time
	took  time.Duration
	rates map[string]*ring[mark] // by pipeline
}

// mark is where a watermark was.
type mark struct {
	at time.Time
	w  event.Time
}

const (
	// keepMarks is how many explanations the pace of a watermark is taken over.
	keepMarks = 30
	// mostTroubles bounds what is told at once.
	mostTroubles = 50
	// mostPartitions bounds the partitions of a pipeline that are shown.
	mostPartitions = 1000
)

// Explained takes an explanation of all pipelines, and how long it took. The board owns it from now on.
func (b *Board) Explained(x *ops.Explanation, took time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	b.explained.x, b.explained.at, b.explained.took = x, now, took
	delete(b.troubles, "explain")
	for i := range x.Pipelines {
		p := &x.Pipelines[i]
		if w, ok := parseTime(p.Next); ok {
			r := b.explained.rates[p.Pipeline]
			if r == nil {
				r = &ring[mark]{most: keepMarks}
				b.explained.rates[p.Pipeline] = r
			}
			r.add(mark{now, w})
		}
	}
	if b.s.Mode == ModeWatch {
		b.derive(x)
	}
	b.touch(SectionExplain)
}

// explainedBefore reports whether the last explanation is from before a time.
func (b *Board) explainedBefore(t time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.explained.at.Before(t)
}

// parseTime reads a time of an explanation.
func parseTime(s *string) (event.Time, bool) {
	if s == nil {
		return 0, false
	}
	t, err := time.Parse(time.RFC3339Nano, *s)
	return event.FromGo(t), err == nil
}

// derive takes from an explanation what a run would have told by itself. The lock is held.
func (b *Board) derive(x *ops.Explanation) {
	least := map[string]Partition{}
	for i := range x.Pipelines {
		p := &x.Pipelines[i]
		for _, q := range p.Parts {
			name := fmt.Sprintf("%s/%d", q.Topic, q.Partition)
			if known, ok := least[name]; !ok || q.Applied < known.Applied {
				least[name] = Partition{Topic: q.Topic, Partition: q.Partition, Applied: q.Applied, End: q.End, Lag: q.Lag}
			}
		}
		if at := b.pipeline(p.Pipeline); at != nil {
			*at = pipelineOf(p)
		}
	}
	parts := make([]Partition, 0, len(least))
	before := map[string]int64{}
	for _, p := range b.s.Partitions {
		before[fmt.Sprintf("%s/%d", p.Topic, p.Partition)] = p.Applied
	}
	for name, p := range least {
		parts = append(parts, p)
		if was, ok := before[name]; ok && p.Applied > was { // a store that lost its state goes back; that is no throughput
			b.applied(p.Applied - was)
		}
	}
	slices.SortFunc(parts, func(a, b Partition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	b.partitions(parts)
}

// Trouble takes what somebody should know; about says of what, so that a later one replaces it. An empty What: it has gone.
func (b *Board) Trouble(about string, t Trouble) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t.What == "" {
		if _, ok := b.troubles[about]; !ok {
			return
		}
		delete(b.troubles, about)
	} else {
		t.What = shorten(t.What)
		if b.troubles[about] == t {
			return
		}
		b.troubles[about] = t
	}
	b.touch(SectionExplain)
}

// Explanation is why windows have not fired, and what is in trouble.
type Explanation struct {
	TimeMS    int64               `json:"time_ms"`   // when it was found out; 0: not yet
	TookMS    float64             `json:"took_ms"`   // how long finding out took
	Watching  bool                `json:"watching"`  // false: somebody has to look at it, then it is kept up to date
	Troubles  []Trouble           `json:"troubles"`  // what somebody should look at, the worst first
	Pipelines []ExplainedPipeline `json:"pipelines"` // as `tidemark explain --json` has them
}

// ExplainedPipeline is an explanation, and the pace of the watermark.
type ExplainedPipeline struct {
	ops.PipelineExplained
	Pace *float64 `json:"pace"` // milliseconds that the watermark moves in one of the clock; null: not known yet
}

// Explanation returns what is known of why windows have not fired. The caller must not change it.
func (b *Board) Explanation() Explanation {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := Explanation{
		Troubles: b.allTroubles(), Pipelines: []ExplainedPipeline{}, TookMS: float64(b.explained.took.Microseconds()) / 1000,
		Watching: b.watchers > 0 || b.now().Sub(b.explained.at) < 2*lookedFor*time.Second,
	}
	x := b.explained.x
	if x == nil {
		return out
	}
	out.TimeMS = b.explained.at.UnixMilli()
	for i := range x.Pipelines {
		p := ExplainedPipeline{PipelineExplained: x.Pipelines[i], Pace: pace(b.explained.rates[x.Pipelines[i].Pipeline])}
		p.Parts = p.Parts[:min(len(p.Parts), mostPartitions)]
		out.Pipelines = append(out.Pipelines, p)
	}
	return out
}

// pace is how fast a watermark moves, in its own time by that of the clock; nil where too little is known.
func pace(r *ring[mark]) *float64 {
	if r == nil || len(r.all) < 3 {
		return nil
	}
	marks := r.newest()
	last, first := marks[0], marks[len(marks)-1]
	wall := last.at.Sub(first.at).Milliseconds()
	if wall < 1500 {
		return nil
	}
	v := float64(last.w-first.w) / float64(wall)
	return &v
}

// allTroubles lists what is wrong, the worst first. The lock is held.
func (b *Board) allTroubles() []Trouble {
	out := []Trouble{}
	if x := b.explained.x; x != nil {
		for i := range x.Pipelines {
			out = append(out, troublesOf(&x.Pipelines[i])...)
		}
	}
	for i := range b.s.Pipelines {
		p := &b.s.Pipelines[i]
		told := slices.ContainsFunc(out, func(t Trouble) bool { return t.Where == p.Name && strings.Contains(p.Error, t.What) })
		if p.Error != "" && !told {
			out = append(out, Trouble{Kind: "error", Where: p.Name, What: "fire failed: " + shorten(p.Error)})
		}
	}
	for _, t := range b.troubles {
		out = append(out, t)
	}
	rank := []string{"halted", "blocked", "unreachable", "error", "stuck"}
	slices.SortStableFunc(out, func(a, b Trouble) int {
		return cmp.Or(cmp.Compare(slices.Index(rank, a.Kind), slices.Index(rank, b.Kind)), cmp.Compare(a.Where, b.Where))
	})
	return out[:min(len(out), mostTroubles)]
}

// troublesOf reads the troubles out of an explanation, in its own words.
func troublesOf(p *ops.PipelineExplained) []Trouble {
	var out []Trouble
	for _, h := range p.Halts {
		out = append(out, Trouble{Kind: "halted", Where: p.Pipeline, What: h})
	}
	for i := range p.Parts {
		q := &p.Parts[i]
		name := fmt.Sprintf("%s/%d", q.Topic, q.Partition)
		switch {
		case q.Blocked != "":
			out = append(out, Trouble{
				Kind: "blocked", Where: p.Pipeline + ": " + name, What: fmt.Sprintf("%s is blocked under the policy fail: %s", name, q.Blocked),
				Do: "windows wait for it: mend what the message says, or deploy the spec with another policy, which takes over",
			})
		case q.Stuck:
			what := fmt.Sprintf("%s is stuck: %d offsets wait, and none was folded for %s", name, q.Lag, rounded(q.LastRecord))
			out = append(out, Trouble{
				Kind: "stuck", Where: p.Pipeline + ": " + name, What: what,
				Do: "see whether the trigger is enabled and delivers it, and what ingest logs",
			})
		}
	}
	return out
}

// rounded is a duration in whole seconds.
func rounded(text string) string {
	d, err := time.ParseDuration(text)
	if err != nil {
		return text
	}
	return d.Round(time.Second).String()
}
