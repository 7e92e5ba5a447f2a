package apply

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/faults"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// Together folds records for several pipelines in one pass, where their slots allow it. It is the fast way for what nearly always is:
// all slots are known, and at the same offset. Whatever is otherwise (a slot is new, is behind the batch, has a cut ahead, or the store
// fails) is left to the pipeline's own Apply, which has all the rules and tries again. A slot that a commit found at another offset within
// the batch goes on from there, as it does in Apply. It is safe for concurrent use.
type Together struct {
	appliers []*Applier
}

// NewTogether returns a Together of the appliers that read a topic, which share one store, one clock and one error policy.
func NewTogether(appliers []*Applier) *Together {
	return &Together{appliers: appliers}
}

// Apply folds records of one partition, ascending by offset, for all pipelines, and commits each. It returns for each the offset up to
// which the partition is applied and committed, or the error that kept it from the end of the records. What it did is added to w.
func (g *Together) Apply(ctx context.Context, part kafkaio.Partition, records []event.Record, w *Work) []Applied {
	out := make([]Applied, len(g.appliers))
	if len(records) == 0 {
		return out
	}
	done, failed := g.inOnePass(ctx, part, records, w)
	for i, a := range g.appliers {
		rest := records[done[i]:]
		switch {
		case len(rest) == 0:
			out[i].To = records[len(records)-1].Offset + 1
		case failed[i] != nil && ctx.Err() != nil:
			// What is wrong is not that the time was up.
			out[i] = Applied{To: -1, Err: fmt.Errorf("apply %s/%d: %w", part.Topic, part.Partition, failed[i])}
		default:
			out[i].To, out[i].Err = a.Apply(ctx, part, rest, w)
		}
	}
	return out
}

// Applied is how far a pipeline came.
type Applied struct {
	To  int64 // -1: that is not known
	Err error
}

// rounds is how often pipelines are looked for that can go on together: those whose cut had moved since they were last here have
// learned of it, and those that the first round left behind may share with each other.
const rounds = 3

// inOnePass returns for each pipeline how many of the records are done with, and what the store failed with, if it did.
func (g *Together) inOnePass(ctx context.Context, part kafkaio.Partition, records []event.Record, w *Work) (done []int, failed []error) {
	done, failed = make([]int, len(g.appliers)), make([]error, len(g.appliers))
	if len(g.appliers) < 2 {
		return done, failed
	}
	slots, unlock := g.lock(part)
	defer unlock()
	for _, s := range slots {
		s.first = records[0].Offset
	}
	p := g.pass(slots[0], part.TopicPartition)
	for range rounds {
		if p.begin(slots, records); p.taking < 2 || ctx.Err() != nil {
			break
		}
		for i := range slots {
			if p.takes[i] {
				w.Duplicates += int64(max(p.at-done[i], 0))
				done[i] = p.at
			}
		}
		for p.at < len(records) && p.taking > 0 {
			n := g.chunk(ctx, p, slots, records[p.at:], w, failed)
			p.at += n
			for i := range slots {
				if p.takes[i] {
					done[i] = p.at
				}
			}
		}
	}
	return done, failed
}

// lock returns the slots of a partition, which nobody else has until they are unlocked. They are locked in the order of the pipelines;
// whoever else locks slots locks one.
func (g *Together) lock(part kafkaio.Partition) (slots []*slot, unlock func()) {
	slots = make([]*slot, len(g.appliers))
	for i, a := range g.appliers {
		slots[i] = a.slot(part)
		slots[i].mu.Lock()
	}
	return slots, func() {
		for _, s := range slots {
			s.mu.Unlock()
		}
	}
}

// chunk folds and commits the first of the records, as many as are folded at once, and returns how many those are.
func (g *Together) chunk(ctx context.Context, p *pass, slots []*slot, records []event.Record, w *Work, failed []error) int {
	n := min(len(records), g.appliers[0].Buffer)
	to := records[len(records)-1].Offset + 1
	if n < len(records) {
		to = records[n].Offset
	}
	if faults.Off(faults.SkewLog) {
		for i := range records[:n] {
			records[i].Timestamp = g.appliers[0].Clock()
		}
	}
	p.fold(slots, records[:n], to)
	p.commit(ctx, g.appliers, slots, n, w, failed)
	return n
}

// pass returns the memory for a partition. It is kept with the first slot, so that it belongs to whoever has that locked, and goes with
// it when the topic is made anew.
func (g *Together) pass(first *slot, tp event.TopicPartition) *pass {
	if first.pass == nil {
		n := len(g.appliers)
		pipes := make([]*pipeline.Pipeline, n)
		for i, a := range g.appliers {
			pipes[i] = a.Pipeline
		}
		first.pass = &pass{folder: pipeline.NewSharedFolder(tp, pipes), takes: make([]bool, n), chunks: make([]*pipeline.Chunk, n), memory: make([]pipeline.Chunk, n)}
	}
	return first.pass
}

// pass is the memory of a Together for one partition.
type pass struct {
	folder *pipeline.SharedFolder
	takes  []bool // which pipelines take part
	taking int
	at     int // how many of the records are behind all of them
	from   int64

	chunks  []*pipeline.Chunk
	memory  []pipeline.Chunk
	folded  []*pipeline.Folded
	took    time.Duration // to fold
	commits []statestore.SlotCommit
	whose   []int // the commits
}

// begin finds the pipelines that can go on together: those whose slots are at the same offset, where the first one is that has
// anything to do, with no cut ahead.
func (p *pass) begin(slots []*slot, records []event.Record) {
	first, end := records[0].Offset, records[len(records)-1].Offset+1
	p.taking, p.at, p.from = 0, 0, -1
	for i, s := range slots {
		m := &s.meta
		p.takes[i] = s.known && first <= m.Applied && m.Applied < end && m.Base.Offset <= m.Applied && m.Top.Offset <= m.Applied &&
			(p.from < 0 || m.Applied == p.from)
		if p.takes[i] {
			p.from = m.Applied
			p.taking++
		}
	}
	for p.at < len(records) && records[p.at].Offset < p.from {
		p.at++
	}
}

// fold folds a chunk of the records for all that take part. Those that cannot share it take part no longer.
func (p *pass) fold(slots []*slot, records []event.Record, to int64) {
	for i, s := range slots {
		if p.chunks[i] = nil; p.takes[i] {
			p.memory[i] = pipeline.Chunk{From: p.from, Fence: s.meta.Top.Watermark}
			p.chunks[i] = &p.memory[i]
		}
	}
	began := time.Now() // how long it takes is no part of any result
	p.folder.Begin(p.from, p.chunks)
	for i := range records {
		p.folder.Add(&records[i])
	}
	p.folded = p.folder.Finish(to)
	p.took, p.from = time.Since(began), to
	for i, f := range p.folded {
		if p.takes[i] && f == nil {
			p.drop(i)
		}
	}
}

func (p *pass) drop(i int) {
	p.takes[i] = false
	p.taking--
}

// commit commits what was folded of n records. Those whose commit does not succeed take part no longer.
func (p *pass) commit(ctx context.Context, appliers []*Applier, slots []*slot, n int, w *Work, failed []error) {
	p.commits, p.whose = p.commits[:0], p.whose[:0]
	for i, f := range p.folded {
		if p.takes[i] {
			p.commits = append(p.commits, statestore.SlotCommit{Slot: slots[i].id, Commit: appliers[i].commitOf(slots[i], f)})
			p.whose = append(p.whose, i)
		}
	}
	if len(p.commits) == 0 {
		return
	}
	began := time.Now()
	answers := statestore.CommitAll(ctx, appliers[0].Store, p.commits)
	took := time.Since(began) // all of them waited so long
	fold := p.took / time.Duration(len(answers))
	for k, i := range p.whose {
		if err := slots[i].committed(p.folded[i], answers[k].Value, answers[k].Err); err != nil {
			if !errors.Is(err, errAgain) {
				slots[i].known, failed[i] = false, err // the outcome is unknown
			}
			p.drop(i)
			continue
		}
		w.add(n, fold, took)
	}
}
