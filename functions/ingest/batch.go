package ingest

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/esm"
)

// maxLinks is the most traces that a batch tells of: what a span takes by default.
const maxLinks = 128

// Batch is what an invocation was handed and what became of it. Nothing of it is used again: it may be kept.
type Batch struct {
	Records int    // that were delivered
	Failed  int    // of them: answered as not applied
	Parts   []Part // one for each partition
	Work    apply.Work
	Began   time.Time
	Took    time.Duration // until the answer was known
	Links   []string      // headers traceparent of records, each once, at most 128; only if Deps.Links asks for them
}

// Part is what an invocation was handed of one partition, and what became of it.
type Part struct {
	event.TopicPartition
	From, To int64 // the first offset that was delivered, and one past the last
	Records  int
	Failed   int
}

// batch tells what became of an invocation. At the level INFO only what is out of the ordinary is worth a line: of the rest there
// are metrics, and failures have their own lines.
func (h *Handler) batch(ctx context.Context, began time.Time, ev esm.Event, work []job, outcomes []outcome) {
	b := Batch{Parts: make([]Part, len(work)), Began: began}
	for i := range work {
		j, o := &work[i], &outcomes[i]
		b.Parts[i] = Part{TopicPartition: j.TopicPartition, From: j.offsets[0], To: j.end, Records: len(j.offsets), Failed: len(o.items)}
		b.Records += len(j.offsets)
		b.Failed += len(o.items)
		b.Work.Add(&o.work)
	}
	b.Took = time.Since(began)
	level := slog.LevelDebug
	if b.Work.Duplicates > 0 || b.Work.Repaired > 0 {
		level = slog.LevelInfo
	}
	if h.Logger.Enabled(ctx, level) {
		h.Logger.Log(ctx, level, "batch", "partitions", Names(b.Parts), "records", b.Records, "folded", b.Work.Folded, "failed", b.Failed,
			"duplicates", b.Work.Duplicates, "repaired", b.Work.Repaired, "duration_ms", b.Took.Milliseconds())
	}
	if h.OnBatch == nil {
		return
	}
	if h.Links {
		b.Links = links(ev)
	}
	h.OnBatch(ctx, &b)
}

// mostNamed is how many partitions a line names.
const mostNamed = 20

// Names are partitions with the range of their offsets, TOPIC/PARTITION [FROM,TO), and if they are very many, how many more.
func Names(parts []Part) []string {
	out := make([]string, 0, min(len(parts), mostNamed+1))
	for i, p := range parts {
		if i == mostNamed {
			return append(out, fmt.Sprintf("and %d more", len(parts)-mostNamed))
		}
		out = append(out, fmt.Sprintf("%s/%d [%d,%d)", p.Topic, p.Partition, p.From, p.To))
	}
	return out
}

// links collects the traces of records. What it returns is a copy: an event is valid until its decoder's next use only.
func links(ev esm.Event) []string {
	var out []string
	seen := map[string]bool{}
	for _, b := range ev.Batches {
		for i := range b.Records {
			for _, h := range b.Records[i].Headers {
				if h.Key != "traceparent" || seen[string(h.Value)] {
					continue
				}
				parent := string(h.Value)
				seen[parent] = true
				if out = append(out, parent); len(out) == maxLinks {
					return out
				}
			}
		}
	}
	return out
}
