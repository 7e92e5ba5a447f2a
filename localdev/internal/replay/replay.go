// Package replay runs a file of records through the real handlers, deterministically: file order, one Lambda payload per batch,
// a plan after each. The log is what has been read so far, the clock is that of the records.
package replay

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/esm"
	"github.com/llm-auto-optimizer/tidemark/functions/fire"
	"github.com/llm-auto-optimizer/tidemark/functions/ingest"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio/memlog"
	"github.com/llm-auto-optimizer/tidemark/functions/settings"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/jsonl"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/tally"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/trigger"
	"github.com/llm-auto-optimizer/tidemark/statestore"
)

// Options of a run.
type Options struct {
	App       *spec.App
	Store     statestore.Store
	BatchSize int  // records a payload; 0: only lines that say fire cut
	Flush     bool // close everything at the end
	Ledger    bool // also write ledger records
	Logger    *slog.Logger
}

// Summary is what a run came to.
type Summary struct {
	Records     int64      `json:"records"`
	Batches     int64      `json:"batches"`
	Plans       int64      `json:"plans"`
	Results     int64      `json:"results"`
	Late        int64      `json:"late"`
	DeadLetters int64      `json:"dead_letters"`
	Filtered    int64      `json:"filtered"` // records that where held back, of all pipelines
	Pipelines   []Pipeline `json:"pipelines"`
	Watermark   event.Time `json:"-"` // the lowest of the pipelines
}

// Pipeline is what a run came to in one pipeline.
type Pipeline struct {
	Name      string     `json:"name"`
	Watermark event.Time `json:"-"`
	In        int64      `json:"in"`       // records that were folded
	Filtered  int64      `json:"filtered"` // of them, those that where held back
}

// ErrNotApplied is returned when ingest answered records as failed, as it does under the policy `fail`. The rest of the file
// was replayed all the same.
var ErrNotApplied = errors.New("replay: records were not applied")

// ErrInput is wrapped by the errors of lines that make no sense where they are.
var ErrInput = errors.New("replay: input")

// inputError is an ErrInput that says only what is wrong with the line: the file and the number stand before it.
type inputError struct{ error }

func (e inputError) Unwrap() []error { return []error{e.error, ErrInput} }

// run is the state of one replay.
type run struct {
	Options
	log     *memlog.Log
	pipes   []*pipeline.Pipeline
	ingest  *ingest.Handler
	fire    *fire.Handler
	out     *bufio.Writer
	clock   event.Time
	largest event.Time // of the Kafka timestamps; the clock where no line sets it
	set     bool       // a line has set the clock
	tokens  uint64

	name    string // of the input, for messages
	sources map[string]bool
	holes   map[event.TopicPartition][]hole
	pending []esm.Batch
	at      map[event.TopicPartition]int // index in pending
	count   int
	sum     Summary
	failed  map[string]int64 // partition, as the answer names it -> its first offset that was not applied
}

// hole is a range of offsets [from, to) that lines have skipped: the log is empty there.
type hole struct{ from, to int64 }

// Run replays in to out.
func Run(ctx context.Context, in io.Reader, name string, out io.Writer, o Options) (Summary, error) {
	lines, err := readAll(in, name, o.App)
	if err != nil {
		return Summary{}, err
	}
	r := &run{
		Options: o, name: name, out: bufio.NewWriter(out), at: map[event.TopicPartition]int{}, sources: map[string]bool{}, largest: math.MinInt64,
		holes: map[event.TopicPartition][]hole{}, failed: map[string]int64{},
		sum: Summary{Watermark: event.MinTime},
	}
	for i := range o.App.Pipelines {
		r.sum.Pipelines = append(r.sum.Pipelines, Pipeline{Name: o.App.Pipelines[i].Name, Watermark: event.MinTime})
	}
	if err := r.open(lines); err != nil {
		return r.sum, err
	}
	defer r.fire.Close()
	if err = r.all(ctx, lines); err == nil {
		err = r.countAll(ctx)
	}
	return r.sum, errors.Join(err, r.notApplied(), r.out.Flush())
}

// notApplied names the first offset of each partition that was answered as failed.
func (r *run) notApplied() error {
	if len(r.failed) == 0 {
		return nil
	}
	names := make([]string, 0, len(r.failed))
	for _, p := range slices.Sorted(maps.Keys(r.failed)) {
		names = append(names, fmt.Sprintf("%s from offset %d on", p, r.failed[p]))
	}
	return fmt.Errorf("%w: %s", ErrNotApplied, strings.Join(names, ", "))
}

func readAll(in io.Reader, name string, app *spec.App) ([]jsonl.Line, error) {
	defaultTopic := ""
	if t := app.SourceTopics(); len(t) == 1 {
		defaultTopic = t[0]
	}
	var lines []jsonl.Line
	for reader := jsonl.NewReader(in, name); ; {
		l, err := reader.Next(defaultTopic)
		if errors.Is(err, io.EOF) {
			return lines, nil
		}
		if err != nil {
			return nil, err
		}
		lines = append(lines, l)
	}
}

// open makes the topics, as many partitions as the file uses, and the handlers.
func (r *run) open(lines []jsonl.Line) error {
	partitions := map[string]int32{}
	topics := r.App.SourceTopics()
	for _, t := range topics {
		r.sources[t], partitions[t] = true, 1
	}
	started := false
	for _, l := range lines {
		switch {
		case l.Fire && l.NowMS != nil && !started:
			r.clock, started = event.Time(*l.NowMS), true
		case !l.Fire:
			if r.sources[l.Topic] {
				partitions[l.Topic] = max(partitions[l.Topic], l.TopicPartition.Partition+1)
			}
			if !started && l.HasTimestamp {
				r.clock, started = l.Timestamp, true
			}
		}
	}
	// The clock of the genesis is the first one of the file; a quiet partition's idleness counts from there.
	r.log = memlog.New(memlog.Options{NoMarkers: true, Now: r.now})
	for _, t := range topics {
		if err := r.log.CreateTopic(t, partitions[t]); err != nil {
			return err
		}
	}
	targets := r.App.InternalTopics()
	for i := range r.App.Pipelines {
		p := &r.App.Pipelines[i]
		targets = append(targets, p.SinkTopic, p.LateTopic, p.DeadLetterTopic)
	}
	for _, t := range targets {
		if err := r.log.CreateTopic(t, 1); err != nil && !errors.Is(err, kafkaio.ErrTopicExists) {
			return err
		}
	}
	pipes, err := settings.Compile(r.App)
	if err != nil {
		return err
	}
	for _, p := range pipes {
		p.Watermark.EmitInterval = 0 // every batch ends in a plan, whatever the clock says
	}
	r.pipes = pipes
	r.ingest = ingest.New(ingest.Deps{App: r.App, Pipelines: pipes, Store: r.Store, Log: r.log, Clock: r.now, Logger: r.Logger})
	r.fire = fire.New(fire.Deps{
		App: r.App, Pipelines: pipes, Store: r.Store, Log: r.log, Publisher: &recorder{Log: r.log, run: r}, Clock: r.now, Logger: r.Logger, NewToken: r.token,
	})
	return nil
}

func (r *run) now() event.Time { return r.clock }

func (r *run) token() (t statestore.Token) {
	r.tokens++
	binary.BigEndian.PutUint64(t[:], r.tokens)
	return t
}

func (r *run) all(ctx context.Context, lines []jsonl.Line) error {
	if err := r.plan(ctx, false); err != nil { // the genesis
		return err
	}
	for i := range lines {
		l := &lines[i]
		if l.Fire {
			if l.NowMS != nil {
				r.clock, r.set = event.Time(*l.NowMS), true
			}
			if err := r.cut(ctx); err != nil {
				return err
			}
			continue
		}
		if err := r.add(ctx, l); err != nil {
			return err
		}
		if r.count == r.BatchSize && r.BatchSize > 0 {
			if err := r.cut(ctx); err != nil {
				return err
			}
		}
	}
	if r.count > 0 && (r.BatchSize > 0 || r.Flush) {
		if err := r.cut(ctx); err != nil {
			return err
		}
	}
	if r.Flush {
		return r.plan(ctx, true)
	}
	return nil
}

// add appends a record to the log, unless it is there already, and to the batch.
func (r *run) add(ctx context.Context, l *jsonl.Line) error {
	if !r.sources[l.Topic] {
		return r.bad(l, "topic %q: no pipeline of the spec reads it; topics are %q", l.Topic, r.App.SourceTopics())
	}
	rec := l.Record
	if !l.HasTimestamp {
		// Time does not stand still at 1970 because nobody said what time it is.
		if r.largest == math.MinInt64 && !r.set {
			return r.bad(l, "timestamp is missing, and no line before has one: the first record needs the time at which Kafka got it, in ms")
		}
		rec.Timestamp = r.clock
	}
	offsets, err := r.log.Offsets(ctx, []event.TopicPartition{l.TopicPartition})
	if err != nil {
		return err
	}
	end := offsets[l.TopicPartition].End
	if !l.HasOffset {
		rec.Offset = end
	}
	if rec.Offset >= end {
		if rec.Offset > end {
			r.holes[l.TopicPartition] = append(r.holes[l.TopicPartition], hole{end, rec.Offset})
		}
		if err := r.log.Append(l.Topic, l.TopicPartition.Partition, rec); err != nil {
			return r.bad(l, "%w", err)
		}
	} else if slices.ContainsFunc(r.holes[l.TopicPartition], func(h hole) bool { return h.from <= rec.Offset && rec.Offset < h.to }) {
		return r.bad(l, "offset %d: an earlier line has a larger one, so the log is empty here", rec.Offset)
	}
	i, ok := r.at[l.TopicPartition]
	if !ok {
		i = len(r.pending)
		r.at[l.TopicPartition] = i
		r.pending = append(r.pending, esm.Batch{TopicPartition: l.TopicPartition})
	}
	r.pending[i].Records = append(r.pending[i].Records, rec)
	r.count++
	r.sum.Records++
	if r.largest = max(r.largest, rec.Timestamp); !r.set {
		r.clock = r.largest
	}
	return nil
}

func (r *run) bad(l *jsonl.Line, format string, args ...any) error {
	return fmt.Errorf("%s:%d: %w", r.name, l.Number, inputError{fmt.Errorf(format, args...)})
}

// cut delivers the batch and fires.
func (r *run) cut(ctx context.Context) error {
	if r.count > 0 {
		payload := esm.AppendEvent(nil, esm.Event{Source: esm.SourceSelfManaged, BootstrapServers: "localhost:9092", Batches: r.pending})
		answer, err := r.ingest.Invoke(ctx, payload)
		if err != nil {
			return fmt.Errorf("ingest: %w", err)
		}
		failures, err := trigger.Failures(answer)
		if err != nil {
			return fmt.Errorf("ingest: %w", err)
		}
		for _, f := range failures {
			// The trigger would deliver again. Under the policy `fail` that changes nothing: the partition stands still.
			if at, ok := r.failed[f.Partition]; !ok || f.Offset < at {
				r.failed[f.Partition] = f.Offset
			}
		}
		r.pending, r.at, r.count = r.pending[:0], map[event.TopicPartition]int{}, 0
		r.sum.Batches++
	}
	return r.plan(ctx, false)
}

func (r *run) plan(ctx context.Context, flush bool) error {
	var reports []fire.Report
	if flush {
		reports = r.fire.Flush(ctx, nil)
	} else {
		reports = r.fire.Run(ctx, apply.Nudge{})
	}
	lowest := event.MaxTime
	for _, rep := range reports {
		if rep.Err != nil {
			return rep.Err
		}
		if rep.Made {
			r.sum.Plans++
		}
		lowest = min(lowest, rep.Watermark)
		r.sum.at(&rep)
	}
	r.sum.Watermark = lowest
	return nil
}

// at takes where a pipeline is.
func (s *Summary) at(rep *fire.Report) {
	for i := range s.Pipelines {
		if s.Pipelines[i].Name == rep.Pipeline {
			s.Pipelines[i].Watermark = rep.Watermark
		}
	}
}

// countAll says what became of the records, of those too for which there is no plan.
func (r *run) countAll(ctx context.Context) error {
	for i, p := range r.pipes {
		c, err := tally.Of(ctx, r.log, r.Store, p)
		if err != nil {
			return err
		}
		r.sum.Pipelines[i].In, r.sum.Pipelines[i].Filtered = c.In, c.Filtered
		r.sum.Filtered += c.Filtered
	}
	return nil
}

// recorder is a publisher that writes what a transaction published, in the order of publication, once it is committed.
type recorder struct {
	*memlog.Log
	run *run
}

func (p *recorder) Open(ctx context.Context, id string) (kafkaio.Session, error) {
	s, err := p.Log.Open(ctx, id)
	if err != nil {
		return nil, err
	}
	return &session{Session: s, run: p.run}, nil
}

type session struct {
	kafkaio.Session
	run  *run
	sent []published
}

type published struct {
	at  kafkaio.Position
	msg kafkaio.Message
}

func (s *session) Begin(ctx context.Context) error {
	s.sent = s.sent[:0]
	return s.Session.Begin(ctx)
}

func (s *session) Produce(ctx context.Context, messages []kafkaio.Message) ([]kafkaio.Position, error) {
	at, err := s.Session.Produce(ctx, messages)
	if err == nil {
		for i := range messages {
			s.sent = append(s.sent, published{at[i], messages[i]})
		}
	}
	return at, err
}

func (s *session) End(ctx context.Context) error {
	if err := s.Session.End(ctx); err != nil {
		return err
	}
	var line []byte
	for i := range s.sent {
		m := &s.sent[i].msg
		s.run.tally(m.Topic)
		if m.Topic == spec.PanesTopic || m.Topic == spec.LedgerTopic && !s.run.Ledger {
			continue
		}
		rec := event.Record{Offset: s.sent[i].at.Offset, Timestamp: m.Timestamp, Key: m.Key, Value: m.Value, Headers: m.Headers}
		line = jsonl.Append(line[:0], s.sent[i].at.TopicPartition, &rec)
		if _, err := s.run.out.Write(line); err != nil {
			return fmt.Errorf("write output: %w", err)
		}
	}
	return nil
}

func (r *run) tally(topic string) {
	for i := range r.App.Pipelines {
		p := &r.App.Pipelines[i]
		switch topic {
		case p.SinkTopic:
			r.sum.Results++
		case p.LateTopic:
			r.sum.Late++
		case p.DeadLetterTopic:
			r.sum.DeadLetters++
		default:
			continue
		}
		return
	}
}
