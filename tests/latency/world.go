package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/functions/settings"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/tests/output"
)

const (
	windowSize = 5 * time.Second
	bound      = time.Second
	// idle closes the last windows once the events have ended.
	idle = 3 * time.Second
	// lookEvery is the resolution of append_to_folded.
	lookEvery = 5 * time.Millisecond
	// sendEvery is how often events are made: each has the clock's time then.
	sendEvery = 5 * time.Millisecond
	// startWithin and endWithin bound how long the functions take to start, and the last windows to close.
	startWithin = 2 * time.Minute
	endWithin   = time.Minute
)

// world is a deployment and who looks at it.
type world struct {
	config
	id     string
	app    *spec.App
	pipe   *pipeline.Pipeline
	dir    string
	client *kgo.Client // produces
	log    *kafkaio.Client
	store  statestore.Store
	parts  []kafkaio.Partition

	cmd  *exec.Cmd
	out  output.Buffer
	exit error         // of cmd, once done is closed
	done chan struct{} // closed when cmd has ended

	produced      int64
	from, through time.Time // what is measured: events made in between

	mu      sync.Mutex
	applied [][]seen // by partition
	results []result
}

// seen is an applied offset, and when it was seen first.
type seen struct {
	at     time.Time
	offset int64
}

// result is one that was read.
type result struct {
	at    time.Time
	end   event.Time
	count int64
}

func (w *world) topic() string { return w.id + "-events" }

func (w *world) yaml() string {
	return fmt.Sprintf(`
app: %s
processor:
  error_handling: {policy: fail}
  kafka:
    consumer: {topics: [%s], max_poll_records: 10000}
    producer: {result_topic: %s-results}
pipelines:
  - name: latency
    timestamp: {field: t, unit: ms}
    key: [k]
    values: {v: v}
    aggregates: {v: [count, average, p99]}
    windows: [{name: w, type: tumbling, size: %s, allowed_lateness: 0s}]
    watermark: {max_out_of_orderness: %s, emit_interval: 1s, idle_timeout: %s}
`, w.id, w.topic(), w.id, windowSize, bound, idle)
}

func newWorld(ctx context.Context, c config) (*world, error) {
	w := &world{config: c, id: "latency-" + strconv.FormatInt(time.Now().UnixNano(), 36), done: make(chan struct{})}
	var err error
	if w.app, err = spec.Load([]byte(w.yaml()), "latency.yaml"); err != nil {
		return nil, err
	}
	pipes, err := settings.Compile(w.app)
	if err != nil {
		return nil, err
	}
	w.pipe = pipes[0]
	if w.dir, err = os.MkdirTemp("", "tidemark-latency-"); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(w.dir, "latency.yaml"), []byte(w.yaml()), 0o600); err != nil {
		return nil, err
	}
	if w.client, err = kgo.NewClient(kgo.SeedBrokers(c.brokers), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0)); err != nil {
		return nil, err
	}
	if w.log, err = settings.OpenKafka(ctx, w.app, []string{c.brokers}); err != nil {
		return nil, err
	}
	// Its records are stamped by the broker: what is measured begins when it has them.
	if err := w.log.CreateTopic(ctx, w.topic(), c.partitions, 1, map[string]string{"message.timestamp.type": "LogAppendTime"}); err != nil {
		return nil, err
	}
	if w.store, err = settings.OpenRedis(ctx, w.app, []string{c.redis}); err != nil {
		return nil, err
	}
	if w.parts, err = w.log.Partitions(ctx, []string{w.topic()}); err != nil {
		return nil, err
	}
	w.applied = make([][]seen, len(w.parts))
	return w, w.start()
}

// nudges is the template's parameter.
func (w *world) nudges() string {
	if w.nudge {
		return "on"
	}
	return "off"
}

// start runs the deployment.
func (w *world) start() error {
	args := []string{
		"run", "--runtime", "process", "--template", filepath.Join(w.root, "template.yaml"), "--config", filepath.Join(w.dir, "latency.yaml"),
		"--brokers", w.brokers, "--redis", w.redis, "--create-topics", "--listen", "off", "--json",
	}
	for name, value := range map[string]string{
		"AppName": w.id, "KafkaMode": "self-managed", "KafkaAuth": "none", "RedisAuth": "url", "TopicA": w.topic(), "TopicB": "",
		"Nudge": w.nudges(), "ResultTopic": w.app.Pipelines[0].SinkTopic, "LateTopic": w.app.Pipelines[0].LateTopic, "BatchSize": "10000", "IngestMemory": "1769", "FireMemory": "1769",
	} {
		args = append(args, "--parameter", name+"="+value)
	}
	w.cmd = exec.Command(w.program, args...) //nolint:noctx // it is told to end by its signal
	w.cmd.Dir, w.cmd.Stderr = w.root, &w.out
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := w.cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", w.program, err)
	}
	go func() {
		w.exit = w.cmd.Wait()
		close(w.done)
	}()
	return nil
}

// errEnded is returned where the deployment has ended before it was told to.
var errEnded = errors.New("the deployment has ended")

// said is the end of what the deployment has told.
func (w *world) said() string {
	text := w.out.String()
	return text[max(0, len(text)-4000):]
}

func (w *world) close() error {
	var err error
	if w.cmd != nil && w.cmd.Process != nil {
		_ = w.cmd.Process.Signal(os.Interrupt) // it may have ended
		select {
		case <-w.done:
			err = w.exit
		case <-time.After(30 * time.Second):
			err = errors.Join(errors.New("the deployment does not end"), syscall.Kill(-w.cmd.Process.Pid, syscall.SIGKILL))
		}
	}
	w.client.Close()
	w.log.Close()
	return errors.Join(err, w.store.Close(), os.RemoveAll(w.dir))
}

// play sends events and watches, until the last windows have closed.
func (w *world) play(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, 3)
	if err := w.genesis(ctx); err != nil {
		return err
	}
	var watching sync.WaitGroup
	for _, f := range []func(context.Context) error{w.watch, w.read} {
		watching.Go(func() {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				failed <- err
			}
		})
	}
	sent := make(chan error, 1)
	go func() { sent <- w.send(ctx) }()
	select {
	case err := <-sent:
		if err != nil {
			return err
		}
	case err := <-failed:
		return err
	case <-w.done:
		return errors.Join(errEnded, w.exit)
	}
	deadline := time.After(endWithin)
	for w.counted() < w.produced {
		select {
		case <-deadline:
			cancel()
			watching.Wait()
			return nil // what is missing is reported
		case err := <-failed:
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
	select { // for results that should not come
	case <-ctx.Done():
	case <-time.After(idle):
	}
	cancel()
	watching.Wait()
	return nil
}

// genesis waits until the functions are at work.
func (w *world) genesis(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	for {
		plan, err := apply.ReadPlan(ctx, w.log, w.pipe)
		if err == nil && len(plan.Partitions) == len(w.parts) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("there is no genesis after %s: %w", startWithin, errors.Join(ctx.Err(), err))
		case <-w.done:
			return errors.Join(errEnded, w.exit)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// send produces events in real time, round robin over partitions and keys.
func (w *world) send(ctx context.Context) error {
	began := time.Now()
	w.from = began.Add(w.warmUp)
	w.through = w.from.Add(w.last)
	var failure error
	var mu sync.Mutex
	tick := time.NewTicker(sendEvery)
	defer tick.Stop()
	for now := began; now.Before(w.through); {
		due := int64(now.Sub(began).Seconds() * float64(w.rate))
		ms := strconv.FormatInt(now.UnixMilli(), 10)
		for ; w.produced < due; w.produced++ {
			i := w.produced
			value := fmt.Appendf(nil, `{"t":%s,"k":"key-%d","v":%d,"service":"chat","model":"large","request":"%016x"}`, ms, i%int64(w.keys), i%1000, i)
			r := &kgo.Record{Topic: w.topic(), Partition: int32(i % int64(w.partitions)), Value: value}
			w.client.Produce(ctx, r, func(_ *kgo.Record, err error) {
				if err != nil {
					mu.Lock()
					failure = err
					mu.Unlock()
				}
			})
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case now = <-tick.C:
		}
	}
	if err := w.client.Flush(ctx); err != nil {
		return err
	}
	mu.Lock()
	defer mu.Unlock()
	return failure
}

// watch notes how far the stored offsets are.
func (w *world) watch(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		for i, part := range w.parts {
			meta, err := w.store.Load(ctx, apply.SlotID(w.pipe, part))
			if errors.Is(err, statestore.ErrNoSlot) {
				continue
			}
			if err != nil {
				return fmt.Errorf("look at %s/%d: %w", part.Topic, part.TopicPartition.Partition, err)
			}
			if n := len(w.applied[i]); n == 0 || w.applied[i][n-1].offset < meta.Applied {
				w.applied[i] = append(w.applied[i], seen{time.Now(), meta.Applied})
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// read takes the results as they come.
func (w *world) read(ctx context.Context) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(w.brokers), kgo.ConsumeTopics(w.app.Pipelines[0].SinkTopic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMinBytes(1))
	if err != nil {
		return err
	}
	defer cl.Close()
	for {
		fetches := cl.PollFetches(ctx)
		now := time.Now()
		if ctx.Err() != nil {
			return nil
		}
		var failure error
		fetches.EachRecord(func(r *kgo.Record) {
			var v struct {
				Window struct {
					EndMS event.Time `json:"end_ms"`
				} `json:"window"`
				Results struct {
					Count int64 `json:"count"`
				} `json:"results"`
			}
			if err := json.Unmarshal(r.Value, &v); err != nil {
				failure = fmt.Errorf("result %s: %w", r.Value, err)
				return
			}
			w.mu.Lock()
			w.results = append(w.results, result{now, v.Window.EndMS, v.Results.Count})
			w.mu.Unlock()
		})
		if failure != nil {
			return failure
		}
	}
}

func (w *world) counted() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := int64(0)
	for _, r := range w.results {
		n += r.count
	}
	return n
}
