package console_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/core/watermark"
	"github.com/llm-auto-optimizer/tidemark/functions/fire"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/console"
)

// clock is set by hand.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func board() (*console.Board, *clock) {
	c := &clock{time.Unix(1000, 0)}
	return console.NewBoard(&spec.App{Name: "app", Pipelines: []spec.Pipeline{{Name: "a"}, {Name: "b"}}}, "embedded", c.now), c
}

func TestRateCountsWholeSeconds(t *testing.T) {
	b, c := board()
	rates := make([]float64, 0, 10)
	for i := range 10 { // 100 a second for five seconds, then none
		if i < 5 {
			b.Applied(60)
			b.Applied(40)
		}
		c.t = c.t.Add(time.Second)
		rates = append(rates, b.Snapshot().Rate)
	}
	if d := cmp.Diff([]float64{100, 100, 100, 100, 100, 80, 60, 40, 20, 0}, rates); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if s := b.Snapshot(); s.Records != 500 || s.UptimeSeconds != 10 {
		t.Errorf("%d records in %v s, want 500 in 10", s.Records, s.UptimeSeconds)
	}
}

func TestReportsAddUp(t *testing.T) {
	b, _ := board()
	holder := watermark.Decision{Holder: watermark.Holder{TopicPartition: event.TopicPartition{Topic: "in", Partition: 2}, Reason: watermark.ReasonSlowest, Behind: 3000}}
	b.Reports([]fire.Report{{Pipeline: "a", Plan: 4, Watermark: 5000, Decision: holder, Open: 2, Lag: 7, Made: true, Panes: 3, Late: 2, Dead: 1}, {Pipeline: "b", Watermark: event.MinTime, Open: 1}})
	b.Reports([]fire.Report{{Pipeline: "a", Plan: 4, Watermark: 5000, Decision: holder, Open: 2}, {Pipeline: "b", Err: errors.New("no broker")}})
	b.Partitions([]console.Partition{{Topic: "in", Applied: 3, End: 5, Lag: 2}, {Topic: "in", Partition: 1, End: 1, Lag: 1}})
	s := b.Snapshot()
	ms := int64(5000)
	want := []console.Pipeline{
		{Name: "a", Watermark: "1970-01-01T00:00:05Z", WatermarkMS: &ms, HeldBy: "in/2 (slowest, 3s behind)", Reason: "slowest", Plan: 4, Open: 2},
		{Name: "b", Watermark: "-inf", Open: 1, Error: "no broker"},
	}
	if d := cmp.Diff(want, s.Pipelines); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if s.Plans != 1 || s.Results != 3 || s.Late != 2 || s.DeadLetters != 1 || s.Open != 3 || s.Lag != 3 {
		t.Errorf("got %+v", s)
	}
	b.Reports([]fire.Report{{Pipeline: "b", Watermark: 1}})
	if got := b.Snapshot().Pipelines[1].Error; got != "" {
		t.Errorf("error %q stays after it has gone", got)
	}
}

func TestLastResultsAreTheNewest(t *testing.T) {
	b, _ := board()
	for i := range 30 {
		b.Published(fmt.Appendf(nil, `{"n":%d}`, i))
	}
	b.Published([]byte("no JSON"))
	s := b.Snapshot()
	if len(s.LastResults) != 20 || string(s.LastResults[0]) != `{"n":29}` || string(s.LastResults[19]) != `{"n":10}` {
		t.Errorf("got %s", s.LastResults)
	}
}
