// Command latency measures how long a record takes until it is folded into the state, and how long after the record that lets a
// window close its result can be read. It is the whole of a deployment on this machine: template.yaml with --runtime process, a
// real Kafka, a real Redis, events in real time. Who reads the results reads what is committed.
//
//	append_to_folded   from the broker's timestamp of a record (LogAppendTime) to when the stored offset of its partition is seen
//	                   behind it, looking every 5 ms: all records of the measured time
//	close_to_result    from the timestamp of the record with which the last partition passed a window's end and the bound, to the
//	                   arrival of the window's results: each key of each window
//
// It fails where a record is lost or counted twice: the counts of all windows add up to what was produced.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// config is what is measured.
type config struct {
	brokers, redis string
	rate           int
	warmUp, last   time.Duration
	partitions     int32
	keys           int
	program        string // built tidemark
	root           string // of the repository
	nudge          bool
}

func main() {
	var c config
	flag.StringVar(&c.brokers, "brokers", os.Getenv("TIDEMARK_TEST_BROKERS"), "Kafka, HOST:PORT")
	flag.StringVar(&c.redis, "redis", os.Getenv("TIDEMARK_TEST_REDIS"), "Redis URL")
	flag.IntVar(&c.rate, "rate", 10_000, "events a second")
	flag.DurationVar(&c.last, "for", time.Minute, "how long is measured")
	flag.DurationVar(&c.warmUp, "warm-up", 15*time.Second, "how long events come before that")
	flag.IntVar(&c.keys, "keys", 20, "number of keys")
	flag.StringVar(&c.program, "tidemark", "dist/tidemark", "the program to run")
	flag.BoolVar(&c.nudge, "nudge", true, "whether ingest has fire look once a window may be closed; else fire looks each tick, a second")
	partitions := flag.Int("partitions", 4, "partitions of the source topic")
	flag.Parse()
	c.partitions = int32(*partitions)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, c)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "latency:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, c config) (err error) {
	if c.brokers == "" || c.redis == "" {
		return errors.New("no servers: make latency starts them, or eval \"$(tests/servers/up)\"")
	}
	if c.root, err = os.Getwd(); err != nil {
		return err
	}
	if c.program, err = filepath.Abs(c.program); err != nil {
		return err
	}
	w, err := newWorld(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	fmt.Fprintf(os.Stderr, "latency: %d events a second over %d partitions, %d keys, windows of %s, bound %s, nudge %s: %s to warm up, then %s\n",
		c.rate, c.partitions, c.keys, windowSize, bound, w.nudges(), c.warmUp, c.last)
	if err := w.play(ctx); err != nil {
		return fmt.Errorf("%w\n%s", err, w.said())
	}
	log, err := w.readLog(ctx)
	if err != nil {
		return err
	}
	folded := w.folded(log)
	closed, lost := w.closed(log)
	if len(folded) == 0 || len(closed) == 0 { // no figure is no good figure
		return fmt.Errorf("nothing was measured: %d records seen folded, %d results of windows that closed\n%s", len(folded), len(closed), w.said())
	}
	report("append_to_folded", folded)
	report("close_to_result", closed)
	fmt.Printf("RESULT events %d records\n", w.produced)
	fmt.Printf("RESULT lost %d records\n", lost)
	fmt.Printf("RESULT append_to_folded_p99 %d ms\n", quantile(folded, .99).Milliseconds())
	fmt.Printf("RESULT close_to_result_p99 %d ms\n", quantile(closed, .99).Milliseconds())
	if lost != 0 {
		return fmt.Errorf("the counts of all windows differ by %d from the %d events that were produced", lost, w.produced)
	}
	return nil
}

// report prints a distribution for people.
func report(name string, values []time.Duration) {
	slices.Sort(values)
	var b strings.Builder
	for _, q := range []float64{.5, .9, .99, .999, 1} {
		fmt.Fprintf(&b, "  p%g %s", q*100, quantile(values, q).Round(time.Millisecond))
	}
	fmt.Printf("%s, %d values:%s\n", name, len(values), b.String())
}

// quantile is the nearest rank of sorted values.
func quantile(values []time.Duration, q float64) time.Duration {
	if len(values) == 0 {
		return 0
	}
	return values[min(int(q*float64(len(values))), len(values)-1)]
}
