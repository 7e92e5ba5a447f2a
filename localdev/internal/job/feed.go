package job

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/core/window"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/jsonl"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/sample"
)

// Feed says what is written to the source topics. The zero value: nothing.
type Feed struct {
	Input string    // a file of lines, or "-" for Stdin
	Stdin io.Reader // for "-"
	// Sample makes sample events if Input is empty.
	Sample bool
	Rate   float64 // events a second; 0: as fast as they are folded
	Count  int64   // how many; 0: without end
	Events sample.Options
}

const (
	feedBatch = 1000
	// feedPause is the distance of writes at a rate.
	feedPause = 50 * time.Millisecond
	// mostLag is how many records may wait to be folded before sample events do.
	mostLag = 100_000
)

// ErrInput is wrapped by the errors of lines that cannot be written to a source topic.
var ErrInput = errors.New("job: input")

// inputError is an ErrInput that says only what is wrong with the line: the file and the number stand before it.
type inputError struct{ error }

func (e inputError) Unwrap() []error { return []error{e.error, ErrInput} }

// feeder writes one feed.
type feeder struct {
	*Feed
	app      *spec.App
	kafka    *kafkaio.Client
	produced func(n int)
	lag      func() int64
}

// run writes all of the feed, or until ctx ends.
func (f *feeder) run(ctx context.Context) error {
	switch {
	case f.Input != "":
		return f.file(ctx)
	case f.Sample:
		return f.events(ctx)
	}
	return nil
}

func (f *feeder) write(ctx context.Context, messages []kafkaio.Message) error {
	if len(messages) == 0 {
		return nil
	}
	if err := f.kafka.Produce(ctx, messages); err != nil {
		return fmt.Errorf("write to source topics: %w", err)
	}
	f.produced(len(messages))
	return nil
}

func (f *feeder) file(ctx context.Context) error {
	in, name, err := f.openInput()
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // it was only read
	counts, err := partitionCounts(ctx, f.kafka, f.app)
	if err != nil {
		return err
	}
	reader := jsonl.NewReader(in, name)
	batch := make([]kafkaio.Message, 0, feedBatch)
	for ctx.Err() == nil {
		l, err := reader.Next(defaultTopic(f.app))
		if errors.Is(err, io.EOF) {
			return f.write(ctx, batch)
		}
		if err != nil {
			return err
		}
		if l.Fire {
			continue // here the schedule says when to fire
		}
		m, err := message(&l, counts)
		if err != nil {
			return fmt.Errorf("%s:%d: %w", name, l.Number, inputError{err})
		}
		if batch = append(batch, m); len(batch) == feedBatch {
			if err := f.write(ctx, batch); err != nil {
				return err
			}
			batch = batch[:0]
		}
	}
	return nil
}

func (f *Feed) openInput() (io.ReadCloser, string, error) {
	if f.Input == "-" {
		return io.NopCloser(f.Stdin), "stdin", nil
	}
	in, err := os.Open(f.Input)
	if err != nil {
		return nil, "", fmt.Errorf("--input: %w", err)
	}
	return in, f.Input, nil
}

// defaultTopic is where lines without a topic go: to the only one that is read.
func defaultTopic(app *spec.App) string {
	if t := app.SourceTopics(); len(t) == 1 {
		return t[0]
	}
	return ""
}

func partitionCounts(ctx context.Context, log kafkaio.Log, app *spec.App) (map[string]int32, error) {
	parts, err := log.Partitions(ctx, app.SourceTopics())
	if err != nil {
		return nil, err
	}
	counts := map[string]int32{}
	for _, p := range parts {
		counts[p.Topic]++
	}
	return counts, nil
}

// message is the record of a line: in its partition if it names one, else in that of its key. Offsets are the broker's.
func message(l *jsonl.Line, counts map[string]int32) (kafkaio.Message, error) {
	n, ok := counts[l.Topic]
	if !ok {
		return kafkaio.Message{}, fmt.Errorf("topic %q: no pipeline of the spec reads it", l.Topic)
	}
	m := kafkaio.Message{Topic: l.Topic, Partition: -1, Key: l.Key, Value: l.Value, Headers: l.Headers, Timestamp: l.Timestamp}
	if l.HasPartition {
		if m.Partition = l.TopicPartition.Partition; m.Partition >= n {
			return m, fmt.Errorf("partition %d, but %s has %d (--partitions is for topics that this run creates)", m.Partition, l.Topic, n)
		}
	}
	return m, nil
}

// widest returns how many partitions the lines of the input name, at least least. It reads a file to its end, and leaves alone
// what can be read only once.
func (f *Feed) widest(app *spec.App, least int32) (int32, error) {
	info, err := os.Stat(f.Input)
	if f.Input == "" || f.Input == "-" || err != nil || !info.Mode().IsRegular() {
		return least, nil // opening it says what is wrong with it
	}
	in, name, err := f.openInput()
	if err != nil {
		return least, err
	}
	defer in.Close() //nolint:errcheck // it was only read
	for reader := jsonl.NewReader(in, name); ; {
		l, err := reader.Next(defaultTopic(app))
		if errors.Is(err, io.EOF) {
			return least, nil
		}
		if err != nil {
			return least, err
		}
		least = max(least, l.TopicPartition.Partition+1)
	}
}

func (f *feeder) events(ctx context.Context) error {
	g := sample.New(f.app, f.Events)
	begun, total := time.Now(), int64(0)
	pause := time.NewTicker(feedPause)
	defer pause.Stop()
	for f.Count == 0 || total < f.Count {
		n := int64(feedBatch)
		if f.Rate > 0 {
			n = int64(f.Rate*time.Since(begun).Seconds()) - total
			if most := int64(f.Rate) + feedBatch; n > most {
				// More than a second behind: the broker is slower than the rate, or the machine slept. What was missed stays missed.
				begun = begun.Add(time.Duration(float64(n-most) / f.Rate * float64(time.Second)))
				n = most
			}
		}
		if f.Count > 0 {
			n = min(n, f.Count-total)
		}
		if f.lag() > mostLag {
			n = 0
		}
		batch := make([]kafkaio.Message, 0, n)
		for range n {
			m, err := g.Next()
			if err != nil {
				return err
			}
			batch = append(batch, m)
		}
		for part := range slices.Chunk(batch, 5*feedBatch) {
			if err := f.write(ctx, part); err != nil {
				return err
			}
		}
		total += n
		if ctx.Err() != nil {
			return nil
		}
		if f.Rate > 0 || n == 0 {
			select {
			case <-ctx.Done():
				return nil
			case <-pause.C:
			}
		}
	}
	return nil
}

// Smallest returns the length of the smallest window of an app: of sessions the gap, of sliding windows the slide.
func Smallest(app *spec.App) event.Span {
	least := event.Span(0)
	for i := range app.Pipelines {
		for _, d := range app.Pipelines[i].Windows {
			n := d.Size
			switch d.Kind {
			case window.KindTumbling:
			case window.KindSliding:
				n = d.Slide
			case window.KindCumulate:
				n = d.Step
			case window.KindSession:
				n = d.Gap
			case window.KindGlobal:
				continue
			}
			if least == 0 || n < least {
				least = n
			}
		}
	}
	return least
}
