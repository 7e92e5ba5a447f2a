package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/functions/settings"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/jsonl"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/sample"
)

type generateCmd struct {
	specFlag
	Output     string         `default:"-" placeholder:"FILE" help:"Where the records go, one a line; - is stdout."`
	Brokers    []string       `placeholder:"HOST:PORT" help:"Write into the source topics of this Kafka instead."`
	Count      int64          `default:"1000" placeholder:"N" help:"How many records. 0: without end."`
	Rate       float64        `default:"0" placeholder:"N" help:"Records a second; 0: as fast as possible."`
	Keys       int            `default:"12" help:"Number of different keys."`
	Partitions int32          `default:"4" help:"Into a file: partitions that keys are spread over, as Kafka does."`
	Disorder   *time.Duration `placeholder:"DURATION" help:"How far out of order, in event time. Default: what the spec allows."`
	Late       float64        `default:"0.01" help:"Share that comes too late for every window, 0 to 1."`
	Seed       uint64         `default:"1" help:"The same seed makes the same records."`
	Start      string         `placeholder:"TIME" help:"Event time of the first record: RFC 3339, ms since 1970, or now. Default: 2025-01-01T00:00:00Z; now with --brokers."`
	Step       *time.Duration `placeholder:"DURATION" help:"Event time between two records. Default: 1/rate, or 100ms."`
}

// Help is shown below the flags.
func (*generateCmd) Help() string {
	return `The records have the timestamp, the key fields and the values that the spec reads.

Examples:

  tidemark generate --count 10000 > events.jsonl
  tidemark generate --config tidemark.yaml --count 1000000 --keys 500 --disorder 30s --late 0.02 --output events.jsonl
  tidemark generate --config tidemark.yaml --brokers localhost:9092 --rate 1000 --count 0`
}

const (
	defaultStart = event.Time(1735689600000) // 2025-01-01T00:00:00Z
	defaultStep  = 100 * time.Millisecond
	// generateBatch is how many records are written at once.
	generateBatch = 1000
	// tellEvery is the distance of lines that say how far a long generation is.
	tellEvery = 5 * time.Second
)

// Run implements the command.
func (c *generateCmd) Run(ctx context.Context, e *env) (err error) {
	app, err := c.load()
	if err != nil {
		return err
	}
	o, err := c.options(app)
	if err != nil {
		return err
	}
	write, closeOut, err := c.target(ctx, app, e)
	if err != nil {
		return err
	}
	n, err := c.produce(ctx, sample.New(app, o), write, e)
	if err := errors.Join(err, closeOut()); err != nil {
		return err
	}
	if e.json {
		return json.NewEncoder(e.Err).Encode(map[string]any{"type": "summary", "records": n})
	}
	_, err = fmt.Fprintf(e.Err, "%d records\n", n)
	return err
}

func (c *generateCmd) options(app *spec.App) (sample.Options, error) {
	o := sample.Options{Seed: c.Seed, Keys: c.Keys, Disorder: allowedDisorder(app), Late: c.Late, Step: float64(defaultStep.Milliseconds())}
	switch {
	case c.Count < 0 || c.Rate < 0:
		return o, usage("--count and --rate must not be negative")
	case c.Keys < 1:
		return o, usage("--keys must be at least 1, got %d", c.Keys)
	case c.Late < 0 || c.Late > 1:
		return o, usage("--late must be from 0 to 1, got %v", c.Late)
	case c.Partitions < 1 || c.Partitions > jsonl.MaxPartition:
		return o, usage("--partitions must be from 1 to %d, got %d", jsonl.MaxPartition, c.Partitions)
	case c.Disorder != nil && *c.Disorder < 0, c.Step != nil && *c.Step < 0:
		return o, usage("--disorder and --step must not be negative")
	case len(c.Brokers) > 0 && c.Output != "-":
		return o, usage("--output and --brokers: the records go to one of them")
	}
	if c.Disorder != nil {
		o.Disorder = *c.Disorder
	}
	switch {
	case c.Step != nil:
		o.Step = float64(*c.Step) / float64(time.Millisecond)
	case c.Rate > 0:
		o.Step = 1000 / c.Rate
	}
	var err error
	o.Start, err = c.start()
	return o, err
}

func (c *generateCmd) start() (event.Time, error) {
	switch {
	case c.Start == "now", c.Start == "" && len(c.Brokers) > 0:
		return settings.Now(), nil
	case c.Start == "":
		return defaultStart, nil
	}
	if ms, err := strconv.ParseInt(c.Start, 10, 64); err == nil && ms >= 0 {
		return event.Time(ms), nil
	}
	t, err := time.Parse(time.RFC3339, c.Start)
	if err != nil || t.UnixMilli() < 0 {
		return 0, usage("--start must be RFC 3339, milliseconds since 1970, or now, got %q", c.Start)
	}
	return event.FromGo(t), nil
}

// writer writes records to where they go.
type writer func(ctx context.Context, messages []kafkaio.Message) error

func (c *generateCmd) target(ctx context.Context, app *spec.App, e *env) (writer, func() error, error) {
	if len(c.Brokers) > 0 {
		client, err := settings.OpenKafka(ctx, app, c.Brokers)
		if err != nil {
			return nil, nil, noBrokers(err)
		}
		done := func() error { client.Close(); return nil }
		if _, err := client.Partitions(ctx, app.SourceTopics()); err != nil {
			return nil, nil, errors.Join(err, done())
		}
		return client.Produce, done, nil
	}
	out, closeOut, err := output(c.Output, e.Out)
	if err != nil {
		return nil, nil, err
	}
	buffered := bufio.NewWriterSize(out, 1<<20)
	write := func(_ context.Context, messages []kafkaio.Message) error { return c.lines(buffered, messages) }
	return write, func() error { return errors.Join(buffered.Flush(), closeOut()) }, nil
}

// lines writes records as lines, in the partitions in which Kafka would have them.
func (c *generateCmd) lines(w *bufio.Writer, messages []kafkaio.Message) error {
	var line []byte
	for i := range messages {
		m := &messages[i]
		r := event.Record{Offset: -1, Timestamp: m.Timestamp, Key: m.Key, Value: m.Value, Headers: m.Headers}
		line = jsonl.Append(line[:0], event.TopicPartition{Topic: m.Topic, Partition: kafkaio.KeyPartition(m.Key, c.Partitions)}, &r)
		if _, err := w.Write(line); err != nil {
			return fmt.Errorf("write output: %w", err)
		}
	}
	if c.Rate == 0 {
		return nil
	}
	return w.Flush() // whoever reads along sees them when they are due
}

// produce makes and writes the records until there are enough or ctx ends, which is no error.
func (c *generateCmd) produce(ctx context.Context, g *sample.Generator, write writer, e *env) (n int64, err error) {
	begun, told := time.Now(), time.Now()
	batch := make([]kafkaio.Message, 0, generateBatch)
	for ctx.Err() == nil && (c.Count == 0 || n < c.Count) {
		size := int64(generateBatch)
		if c.Rate > 0 {
			size = min(size, max(1, int64(c.Rate/20)))
		}
		if c.Count > 0 {
			size = min(size, c.Count-n)
		}
		batch = batch[:0]
		for range size {
			m, err := g.Next()
			if err != nil {
				return n, err
			}
			batch = append(batch, m)
		}
		if err := write(ctx, batch); err != nil {
			if ctx.Err() != nil {
				return n, nil //nolint:nilerr // told to end
			}
			return n, err
		}
		n += size
		if now := time.Now(); now.Sub(told) >= tellEvery && !e.json {
			told = now
			if _, err := fmt.Fprintf(e.Err, "%d records, %.0f a second\n", n, float64(n)/now.Sub(begun).Seconds()); err != nil {
				return n, err
			}
		}
		if c.Rate > 0 {
			due := begun.Add(time.Duration(float64(n) / c.Rate * float64(time.Second)))
			if err := wait(ctx, time.Until(due)); err != nil {
				return n, nil //nolint:nilerr // told to end
			}
		}
	}
	return n, nil
}

// wait waits for d, or until ctx ends, whose error it returns then.
func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
