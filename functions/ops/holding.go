package ops

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/watermark"
)

const (
	// quiet is how long a partition may bring nothing before the sentences say so.
	quiet event.Span = 2000
	// stuckAfter is how long records may wait in a partition of which none is folded before it is called stuck. It is longer than
	// the pause between two tries of a trigger.
	stuckAfter event.Span = 10_000
)

// span writes a span for people.
func span(s event.Span) string {
	d := s.Duration()
	if d >= 10*time.Second {
		d = d.Round(time.Second)
	}
	return d.String()
}

// holding says in a sentence what the partition that holds the watermark back waits for, and what moves it on.
func (l *look) holding(d watermark.Decision) string {
	policy := l.pipe.WatermarkPolicy()
	at := slices.IndexFunc(l.parts, func(p *lookPart) bool { return p.TopicPartition == d.Holder.TopicPartition })
	name := fmt.Sprintf("%s/%d", d.Holder.Topic, d.Holder.Partition)
	switch d.Holder.Reason {
	case watermark.ReasonNone:
		return "" // no plan was committed yet, which is said
	case watermark.ReasonAllIdle:
		switch policy.AllIdle {
		case watermark.Advance:
			return fmt.Sprintf("all partitions are idle: the watermark follows the clock, %s behind it", span(policy.IdleTimeout+policy.Bound))
		case watermark.Max:
			return "all partitions are idle: the watermark is that of the partition that is furthest on; the next record moves it"
		case watermark.Hold:
		}
		return "all partitions are idle, and all_idle is hold: the watermark stays until a record comes"
	case watermark.ReasonFence:
		return name + " holds it back: an attempt at a plan that did not finish has raised it so far; the next plan goes on from there"
	case watermark.ReasonInterval:
		return fmt.Sprintf("the watermark moves to multiples of %s only, and %s has not reached the next one", span(policy.Interval), name)
	case watermark.ReasonSlowest, watermark.ReasonLagging, watermark.ReasonNoRecordYet, watermark.ReasonOpenTransaction:
	}
	if at < 0 {
		return name + " holds it back"
	}
	return name + " holds it back: " + l.waits(l.parts[at], d.Holder)
}

// waits says what a partition waits for.
func (l *look) waits(p *lookPart, h watermark.Holder) string {
	var parts []string
	say := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	switch h.Reason {
	case watermark.ReasonOpenTransaction:
		say("a transaction is open in it; what is behind its first record is read once its producer ends it, or the broker does after the producer's transaction.timeout.ms")
	case watermark.ReasonLagging:
		say("%s not folded yet", offsets(h.Lag))
		if p.out.Stuck {
			say("none was folded for %s: see whether the trigger is enabled and delivers it, and what ingest logs", span(l.now.Sub(p.status.LastRecordAt)))
		}
	case watermark.ReasonNoRecordYet:
		say("it has had no record yet")
	case watermark.ReasonNone, watermark.ReasonAllIdle, watermark.ReasonFence, watermark.ReasonInterval, watermark.ReasonSlowest:
		if since := l.now.Sub(p.status.LastRecordAt); p.stored && since >= quiet {
			say("no record for %s", span(since))
		} else if h.Behind > 0 {
			say("its records have the lowest times, %s behind the partition that is furthest on", span(h.Behind))
		} else {
			say("it is read to its end")
		}
	}
	if p.out.IdleIn != "" {
		say("idle in %s, and then left out", p.out.IdleIn)
	} else if h.Reason != watermark.ReasonLagging && l.pipe.WatermarkPolicy().IdleTimeout == 0 {
		say("it never counts as idle: the spec has no idle_timeout")
	}
	text := strings.Join(parts, ", ")
	if p.out.MaxTime != nil {
		text += "; its largest time is " + *p.out.MaxTime
	}
	return text
}

func offsets(n int64) string {
	if n == 1 {
		return "1 offset is"
	}
	return fmt.Sprintf("%d offsets are", n)
}

// standing fills in what a partition is to the watermark: its own one, whether it is left out or when it will be, and whether it
// is stuck.
func (l *look) standing(p *lookPart, idle bool) {
	policy := l.pipe.WatermarkPolicy()
	p.out.Idle = idle
	if p.status.MaxTime != event.MinTime {
		p.out.Watermark = stamp(p.status.MaxTime.Add(-policy.Bound))
	}
	if !p.stored {
		return
	}
	since := l.now.Sub(p.status.LastRecordAt)
	caughtUp := p.out.Lag == 0 && !p.out.Open
	if caughtUp && !idle && policy.IdleTimeout > 0 && since >= quiet {
		p.out.IdleIn = span(policy.IdleTimeout - since)
	}
	p.out.Stuck = p.out.Lag > 0 && !p.out.Open && p.out.Blocked == "" && since >= stuckAfter
}

// next says what the window that fires next waits for.
func (l *look) next(w watermark.Decision) string {
	for _, open := range l.out.Windows {
		if open.Fired || open.at.End <= w.Watermark {
			continue
		}
		text := fmt.Sprintf("the next window to fire is %s from %s to %s", open.Name, open.Start, open.End)
		if w.Watermark != event.MinTime {
			text += ", once the watermark has moved on by " + span(open.at.End.Sub(w.Watermark))
		}
		return text + fmt.Sprintf(": when each partition that is not idle has had a time of %s", open.at.End.Add(l.pipe.WatermarkPolicy().Bound))
	}
	return ""
}
