// Command stream measures what the whole path costs: payloads of records are decoded, folded, kept and fired, and the CPU
// time of this process and of the Redis server is added up. The log and the transactions are in memory, so that the figure is
// Tidemark's and not a broker's.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/esm"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio/memlog"
	"github.com/llm-auto-optimizer/tidemark/functions/settings"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/memstore"
	"github.com/llm-auto-optimizer/tidemark/tests/bench/dataset"
	"github.com/llm-auto-optimizer/tidemark/tests/rig"
)

// tickEvery is how many events come between two ticks: a second of them at 10,000 a second.
const tickEvery = 10_000

// queries are what is measured, by name: the windows of each pipeline, all of which read the same key and value.
func queries() []struct {
	name    string
	windows []string
} {
	const minute = `[{name: 1m, type: tumbling, size: 1m, allowed_lateness: 0s}]`
	var alike, apart []string
	for i := range 10 {
		alike = append(alike, minute)
		apart = append(apart, fmt.Sprintf(`[{name: w, type: tumbling, size: %ds, allowed_lateness: 0s}]`, 30*(i+1)))
	}
	return []struct {
		name    string
		windows []string
	}{
		{"tumbling", []string{minute}},
		{"sliding", []string{`[{name: 10m, type: sliding, size: 10m, slide: 1m, allowed_lateness: 0s}]`}},
		{"ten_alike", alike},
		{"ten_sizes", apart},
	}
}

func query(windows []string) string {
	var yaml strings.Builder
	yaml.WriteString(`
app: bench
processor:
  watermark: {max_out_of_orderness_secs: 30, emit_interval_secs: 10}
  kafka: {consumer: {topics: [` + dataset.Topic + `]}, producer: {result_topic: aggregated-metrics}}
pipelines:
`)
	for i, w := range windows {
		fmt.Fprintf(&yaml, `  - name: latency%d
    timestamp: {field: timestamp, unit: ms}
    key: [service, model]
    values: {value: value}
    windows: %s
    aggregates: {value: [count, sum, average, min, max, stddev, p50, p95, p99]}
`, i, w)
	}
	return yaml.String()
}

func main() {
	n := flag.Int("n", 1_000_000, "events")
	url := flag.String("redis", os.Getenv("TIDEMARK_TEST_REDIS"), "Redis URL; empty: state in memory")
	batch := flag.Int("batch", 500, "records of a payload")
	only := flag.String("only", "", "names of the queries to measure, with commas; empty: all")
	flag.Parse()
	var one costs
	for _, q := range queries() {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), q.name) {
			continue
		}
		c, err := measure(q.name, query(q.windows), *n, *batch, *url)
		if err != nil {
			fmt.Fprintln(os.Stderr, "stream:", err)
			os.Exit(1)
		}
		switch {
		case q.name == "tumbling":
			one = c
		case len(q.windows) > 1 && one.ingest > 0:
			fmt.Printf("RESULT %s_ingest_over_one %.3g times\n", q.name, (c.ingest+c.ingestServer)/(one.ingest+one.ingestServer))
			fmt.Printf("RESULT %s_total_over_one %.3g times\n", q.name, c.total()/one.total())
		}
	}
}

// payloads makes the events of the trigger, partitions mixed as they come, and fills the log with the same records.
func payloads(n, batch int, log *memlog.Log) ([][]byte, error) {
	var out [][]byte
	e := esm.Encoder{
		Source: esm.SourceMSK, SourceARN: "arn:aws:kafka:us-east-1:123456789012:cluster/demo/0f1e2d3c-0000-4000-8000-000000000000-1",
		BootstrapServers: "b-1.demo.kafka.us-east-1.example:9098,b-2.demo.kafka.us-east-1.example:9098",
	}
	flush := func() {
		if e.Records() > 0 {
			out = append(out, e.AppendTo(nil))
			e.Reset()
		}
	}
	for s := dataset.New(n, 42); ; {
		p, r, ok := s.Next()
		if !ok {
			flush()
			return out, nil
		}
		r.Value = append([]byte(nil), r.Value...)
		if err := log.Append(dataset.Topic, p, r); err != nil {
			return nil, err
		}
		e.Add(event.TopicPartition{Topic: dataset.Topic, Partition: p}, &r, esm.DefaultInfo(&r))
		if e.Records() == batch {
			flush()
		}
	}
}

func measure(name, yaml string, n, batch int, url string) (costs, error) {
	ctx := context.Background()
	app, err := spec.Load([]byte(yaml), name)
	if err != nil {
		return costs{}, err
	}
	// Every run has a pipeline of its own name, so that nothing of an earlier one is found.
	for i := range app.Pipelines {
		app.Pipelines[i].App = "bench" + strconv.FormatInt(time.Now().UnixNano(), 36)
	}
	var store statestore.Store = memstore.New()
	server := func() (usage, error) { return usage{}, nil }
	if url != "" {
		if store, err = settings.OpenRedis(ctx, app, []string{url}); err != nil {
			return costs{}, err
		}
		defer store.Close() //nolint:errcheck // the process ends
		if server, err = redisUsage(url); err != nil {
			return costs{}, err
		}
	}
	counter := &counted{Store: store}
	log := memlog.New(memlog.Options{})
	w, err := rig.New(app, counter, log, dataset.Partitions)
	if err != nil {
		return costs{}, err
	}
	w.Clock = dataset.Base
	if err := w.RunFire(ctx); err != nil {
		return costs{}, err
	}
	in, err := payloads(n, batch, log)
	if err != nil {
		return costs{}, err
	}
	runtime.GC()
	before, err := server()
	if err != nil {
		return costs{}, err
	}
	began := time.Now()
	c := costs{millions: float64(n) / 1e6, payloads: len(in)}
	if err := feed(ctx, w, in, max(1, tickEvery/batch), server, &c); err != nil {
		return costs{}, err
	}
	after, err := server()
	if err != nil {
		return costs{}, err
	}
	c.server, c.commits = after.minus(before), counter.commits.Load()
	if c.results, err = count(ctx, log, app.Pipelines[0].SinkTopic); err != nil {
		return costs{}, err
	}
	if c.accounts, err = count(ctx, log, spec.LedgerTopic); err != nil {
		return costs{}, err
	}
	for _, p := range w.Pipelines {
		for _, slot := range must(store.Slots(ctx, p.ID())) {
			if err := store.Drop(ctx, slot); err != nil {
				return costs{}, err
			}
		}
	}
	fmt.Printf("%s: %d events in %d payloads, %d results, %.1f s of wall clock, state in %s\n", name, n, len(in), c.results.records, time.Since(began).Seconds(), where(url))
	c.print(name)
	return c, nil
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func where(url string) string {
	if url == "" {
		return "memory"
	}
	return "Redis"
}

// feed invokes both functions as they would be, and adds to c what CPU time each of them took, here and on the server. What the
// garbage collector does belongs to the one that runs meanwhile.
func feed(ctx context.Context, w *rig.World, in [][]byte, fireEvery int, server func() (usage, error), c *costs) error {
	at := processCPU()
	u, err := server()
	if err != nil {
		return err
	}
	took := func(sum, served *float64) error {
		now := processCPU()
		then, err := server()
		*sum, at = *sum+now-at, now
		*served, u = *served+then.cpu-u.cpu, then
		return err
	}
	for i, p := range in {
		answer, err := w.Ingest.Invoke(ctx, p)
		if err != nil {
			return err
		}
		if !strings.Contains(string(answer), `[]`) {
			return fmt.Errorf("payload %d was answered %s", i, answer)
		}
		if i%fireEvery == fireEvery-1 || i == len(in)-1 {
			if err := took(&c.ingest, &c.ingestServer); err != nil {
				return err
			}
			w.Clock += 1000
			if err := w.RunFire(ctx); err != nil {
				return err
			}
			c.ticks++
			if err := took(&c.fire, &c.fireServer); err != nil {
				return err
			}
		}
	}
	return nil
}
