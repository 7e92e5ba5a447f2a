// Package recompute computes the results of pipelines once more, from the source topics alone, and compares them with what was
// published: the result topic, the late topic and the dead letter topic.
//
// It shares with the functions how a record is read (fields, time, key) and nothing else: no state, no slices, no deltas, no
// accumulators. Each group's values are sorted and computed on as they are. By which watermark a record was judged it knows from
// the ledger and from the late records' own headers. Where an attempt at a plan died, the ledger does not say what it had raised
// the fence to; a window that takes such a record, or does not, is right if it is equal to one of the outcomes that are possible.
//
// Of windows that go out more than once the panes are followed from the first on: indexes, what they replace and take back; what
// stands in the end, or adds up, is compared with the records. What cannot be told from the topics is named in left_out.
//
// Panes of a global window are compared one by one, and so is which plans had to send one: see global.go. Of sessions with gaps of
// the records' own nothing is special but where they end.
//
// Memory is bounded by Options.Memory, but for the ledger, of which one step for each plan and partition that moved is kept (40
// bytes), and where there are global windows 8 bytes for each plan with which it was time for early panes: records and results are
// sorted in temporary files, and what is held of them is one key's values between the beginning of its oldest open window and its
// newest record. Of a global window that is all of them; a key that has too many is left out.
package recompute

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
)

// ErrMemory is returned where one key has more values in its open windows than fit into Options.Memory: allow more, or leave the
// window out. Keys of global windows are left out by themselves.
var ErrMemory = errors.New("recompute: a window is too large")

// Options of a recomputation.
type Options struct {
	App       *spec.App
	Pipelines []*pipeline.Pipeline // those to verify, of the app
	Log       kafkaio.Log
	// Only windows that begin at From or later and end at To or earlier are verified. event.MinTime and event.MaxTime: all.
	From, To event.Time
	Memory   int64  // bytes, at least 1 MiB
	Dir      string // where the directory of temporary files is made; empty: the system's
	Most     int    // differences that are reported of each pipeline; the others are counted
	// Tell is called now and then with what is being done. done and of are offsets, or groups with of = 0.
	Tell func(pipeline, what string, done, of int64)
}

// Report is what was found.
type Report struct {
	OK        bool             `json:"ok"`      // nothing that was compared differs
	Partial   bool             `json:"partial"` // something was left out: the pipelines' left_out say what
	Pipelines []PipelineReport `json:"pipelines"`
}

// PipelineReport is what was found of one pipeline.
type PipelineReport struct {
	Pipeline    string       `json:"pipeline"`
	Plan        int64        `json:"plan"` // the newest: what it and those before it published was compared
	Watermark   string       `json:"watermark"`
	Delivery    string       `json:"delivery"` // exactly once, or at least once: then side records may come several times
	Sources     []Source     `json:"sources"`
	Records     int64        `json:"records"`      // read again
	Panes       int64        `json:"panes"`        // result records read
	Groups      int64        `json:"groups"`       // windows of a key compared
	Late        int64        `json:"late"`         // compared
	DeadLetters int64        `json:"dead_letters"` // compared
	Doubtful    int64        `json:"doubtful"`     // groups that are right if attempts at plans died, which nothing tells
	Undecided   int64        `json:"undecided"`    // such groups with too many possible outcomes to try
	Doubts      []Difference `json:"doubts"`       // what would be wrong with both if none died
	LeftOut     []string     `json:"left_out"`
	Differences []Difference `json:"differences"`
	More        int64        `json:"more_differences,omitempty"`
}

// Source is a range of a source partition that was read again.
type Source struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	From      int64  `json:"from"`
	To        int64  `json:"to"`
}

// What differs.
const (
	Missing     = "missing"      // a window of a key that should be in the result topic is not
	Superfluous = "superfluous"  // one is there that no record accounts for
	Different   = "different"    // its newest result has other values
	Twice       = "twice"        // the same record is there more than once
	Unreadable  = "unreadable"   // it is no result
	Reason      = "reason"       // a late or failed record is there for another reason
	Fence       = "fence"        // a late record names a watermark that no plan had
	LateMissing = "late_missing" // a late record is not in the late topic
	DeadMissing = "dead_missing" // a failed record is not in the dead letter topic
	Chain       = "chain"        // a pane has not the index that follows, or does not name the pane that it replaces
	Foreign     = "foreign"      // a record of the late or dead letter topic that does not belong there
)

// Difference is one thing that was published otherwise than it should have been, or not.
type Difference struct {
	What    string    `json:"what"`
	Window  string    `json:"window,omitempty"`
	Start   string    `json:"start,omitempty"`
	End     string    `json:"end,omitempty"`
	Key     string    `json:"key,omitempty"`
	Values  []Value   `json:"values,omitempty"`
	Note    string    `json:"note,omitempty"`
	Records []Range   `json:"records,omitempty"` // of the source topics, which it is made of
	At      *Position `json:"at,omitempty"`      // of what was published
}

// Value is one result, or a property of a record, as it is and as it should be. Numbers are as they are in JSON.
type Value struct {
	Name string `json:"name"`
	Got  string `json:"got"`
	Want string `json:"want"`
}

// Range is where records are: N of them between two offsets, both inclusive.
type Range struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	First     int64  `json:"first"`
	Last      int64  `json:"last"`
	N         int64  `json:"n"`
}

// Position is a record of a topic.
type Position struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
}

func (r *PipelineReport) differ(most int, d *Difference) {
	if len(r.Differences) >= most {
		r.More++
		return
	}
	r.Differences = append(r.Differences, *d)
}

func (r *PipelineReport) leaveOut(format string, args ...any) {
	r.LeftOut = append(r.LeftOut, fmt.Sprintf(format, args...))
}

// leastMemory is what the sorters need to work at all.
const leastMemory = 1 << 20

// Run recomputes the pipelines, one after the other. The functions may go on meanwhile: what plans publish that are newer than the
// ledger was when it was read is left alone.
func Run(ctx context.Context, o Options) (out *Report, err error) {
	o.Memory = max(o.Memory, leastMemory)
	dir, err := os.MkdirTemp(o.Dir, "tidemark-verify-")
	if err != nil {
		return nil, fmt.Errorf("temporary files: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	histories, err := readLedger(ctx, o.Log, o.Pipelines, func(done, of int64) { o.Tell("", "ledger", done, of) })
	if err != nil {
		return nil, err
	}
	out = &Report{OK: true, Pipelines: []PipelineReport{}}
	for _, p := range o.Pipelines {
		j := &job{
			Options: o, pipe: p, dir: dir, past: histories[p.Group()],
			out: PipelineReport{Pipeline: p.Name, Delivery: "exactly once", Sources: []Source{}, LeftOut: []string{}, Doubts: []Difference{}, Differences: []Difference{}},
		}
		if err := j.run(ctx); err != nil {
			return nil, fmt.Errorf("pipeline %s: %w", p.Name, err)
		}
		out.OK = out.OK && len(j.out.Differences) == 0
		out.Partial = out.Partial || len(j.out.LeftOut) > 0 || j.out.Undecided > 0
		out.Pipelines = append(out.Pipelines, j.out)
	}
	return out, nil
}

// job is the work on one pipeline.
type job struct {
	Options
	pipe *pipeline.Pipeline
	dir  string
	past *history
	out  PipelineReport

	sources []*stretch
	before  event.Time // records up to this time may be missing: only windows that begin after it are whole
	until   event.Time // windows that end later are not verified
}

func (j *job) tell(what string) func(done, of int64) {
	return func(done, of int64) { j.Tell(j.pipe.Name, what, done, of) }
}

// run does one step after the other; each leaves the next what it needs in sorted files.
func (j *job) run(ctx context.Context) (err error) {
	if j.past == nil {
		j.out.Watermark = event.MinTime.String()
		j.out.leaveOut("everything: the ledger has no plan of the pipeline")
		return nil
	}
	j.out.Plan, j.out.Watermark = j.past.plan, j.past.watermark.String()
	if j.past.restarted {
		j.out.leaveOut("everything: the pipeline was begun anew under the same name, so that results of its earlier life have the same revisions")
		return nil
	}
	if j.past.atOnce {
		j.out.Delivery = "at least once"
	}
	if err := j.plan(ctx); err != nil {
		return err
	}
	sides := newSorter(j.dir, int(j.Memory/4))
	records := newSorter(j.dir, int(j.Memory/4))
	panes := newSorter(j.dir, int(j.Memory/4))
	defer func() { err = errors.Join(err, sides.close(), records.close(), panes.close()) }()
	if err := j.readSides(ctx, sides); err != nil {
		return err
	}
	if err := j.readSources(ctx, sides, records); err != nil {
		return err
	}
	oldest, err := j.readPanes(ctx, panes)
	if err != nil {
		return err
	}
	for def := range j.pipe.Windows {
		if !j.chains(&j.pipe.Windows[def]) {
			continue
		}
		if err := j.compare(def, records, panes, oldest); err != nil {
			return err
		}
	}
	return nil
}
