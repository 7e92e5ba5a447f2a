//go:build containers

package containers_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/tests/oracle"
	"github.com/llm-auto-optimizer/tidemark/tests/rig"
	"github.com/llm-auto-optimizer/tidemark/tests/seed"
)

const (
	partitions = 3
	records    = 900
	source     = "in"
	start      = event.Time(1_700_000_000_000)
)

const query = `
app: containers
processor:
  watermark: {max_out_of_orderness_ms: 500, emit_interval_ms: 20, idle_timeout_secs: 3600}
  error_handling: {policy: dead_letter, max_retries: 1, initial_retry_delay_ms: 1}
  kafka:
    consumer: {topics: [in], group_id: containers-trigger}
    producer: {result_topic: out}
pipelines:
  - name: p
    timestamp: {field: t, unit: ms}
    values: {v: v}
    windows:
      - {name: tumbling, type: tumbling, size: 1s, allowed_lateness: 1s}
      - {name: session, type: session, gap: 90ms, allowed_lateness: 0s}
    aggregates: {v: [count, sum, average, min, max, variance, stddev, p50, p95, p99]}
    late: {topic: late}
`

// job is the main job on a stage: its records, and the test as its trigger and its schedule.
type job struct {
	*stage
	random       *rand.Rand
	app          *spec.App
	client       *kafkaio.Client
	admin        *kadm.Client
	ingest, fire *function
	events       []oracle.Event
	log          [partitions][]event.Record
	at           [partitions]int // the next record to be delivered
}

// The whole path in containers: the functions as they are deployed in Lambda's base image, batches of any size, deliveries twice
// over, and in the middle of it a broker that is killed and a store that forgets everything. What comes out is what a batch
// computation has.
func TestFunctionsInContainersComeToWhatABatchComputationDoes(t *testing.T) {
	j := newJob(t, seed.Of(t))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	j.schedule(ctx) // the genesis
	// Each comes once that share of the records is delivered: so all of them do, whatever the batches are.
	faults := []struct {
		after float64
		do    func(context.Context)
	}{{0.2, j.flush}, {0.5, j.killBrokerWhileFiring}, {0.75, j.flushWhileFiring}}
	for step := 1; j.deliver(ctx, 20+j.random.IntN(40)); step++ {
		for len(faults) > 0 && j.delivered() >= faults[0].after {
			faults[0].do(ctx)
			faults = faults[1:]
		}
		if step%3 == 0 {
			j.schedule(ctx)
		}
	}
	if len(faults) > 0 {
		t.Fatalf("%.0f %% were delivered, and %d faults have not been", 100*j.delivered(), len(faults))
	}
	j.check(ctx)
}

// delivered is the share of records that ingest has applied.
func (j *job) delivered() float64 {
	done, all := 0, 0
	for p := range partitions {
		done, all = done+j.at[p], all+len(j.log[p])
	}
	return float64(done) / float64(all)
}

func newJob(t *testing.T, seed uint64) *job {
	t.Helper()
	j := &job{stage: newStage(t), random: rand.New(rand.NewPCG(seed, 1))}
	var err error
	if j.app, err = spec.Load([]byte(query), "tidemark.yaml"); err != nil {
		t.Fatal(err)
	}
	if j.client, err = kafkaio.Open(t.Context(), kafkaio.Options{Brokers: []string{j.brokers}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(j.client.Close)
	if j.admin, err = kadm.NewOptClient(kgo.SeedBrokers(j.brokers)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(j.admin.Close)
	p := j.app.Pipelines[0]
	topics := map[string]int32{source: partitions, p.SinkTopic: 2, p.LateTopic: 1, p.DeadLetterTopic: 1}
	for _, name := range j.app.InternalTopics() {
		topics[name] = 1
	}
	for name, n := range topics {
		if err := j.client.CreateTopic(t.Context(), name, n, 1, nil); err != nil {
			t.Fatal(err)
		}
	}
	j.fill(t.Context())
	arch := serverArchitecture(t)
	j.ingest = j.function("ingest", arch, query, "20")
	j.fire = j.function("fire", arch, query, "6") // 4 s of work, the cold start among them
	return j
}

// serverArchitecture is GOARCH of the daemon's containers.
func serverArchitecture(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "docker", "version", "--format", "{{.Server.Arch}}").Output()
	if err != nil {
		t.Fatalf("docker version: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// fill writes the records: out of order within the bound, some far too late, and what closes all windows at last.
func (j *job) fill(ctx context.Context) {
	j.t.Helper()
	var messages []kafkaio.Message
	add := func(p int, at event.Time, key string, v float64) {
		tp := event.TopicPartition{Topic: source, Partition: int32(p)}
		r := event.Record{Offset: int64(len(j.log[p])), Key: []byte(key), Value: fmt.Appendf(nil, `{"t":%d,"v":%v}`, at, v), Timestamp: event.FromGo(time.Now())}
		j.log[p] = append(j.log[p], r)
		j.events = append(j.events, oracle.Event{TopicPartition: tp, Offset: r.Offset, Time: at, Key: key, Value: v})
		messages = append(messages, kafkaio.Message{Topic: source, Partition: tp.Partition, Key: r.Key, Value: r.Value, Timestamp: r.Timestamp})
	}
	for i := range records {
		at := start.Add(event.Span(i*20 - j.random.IntN(400)))
		if j.random.IntN(40) == 0 {
			at = at.Add(-event.Span(2000 + j.random.IntN(8000)))
		}
		add(j.random.IntN(partitions), at, string(rune('a'+j.random.IntN(5))), float64(j.random.IntN(1000))/10)
	}
	for p := range partitions {
		add(p, start.Add(1_000_000), "end", 1)
	}
	if err := j.client.Produce(ctx, messages); err != nil {
		j.t.Fatal(err)
	}
}

// deliver hands a batch of up to n records of each partition to ingest, sometimes a second time, and takes up again what came
// back. It reports whether anything is left.
func (j *job) deliver(ctx context.Context, n int) bool {
	j.t.Helper()
	batch := map[event.TopicPartition][]event.Record{}
	var to [partitions]int
	left := false
	for p := range partitions {
		to[p] = min(len(j.log[p]), j.at[p]+j.random.IntN(n+1))
		if rs := j.log[p][j.at[p]:to[p]]; len(rs) > 0 {
			batch[event.TopicPartition{Topic: source, Partition: int32(p)}] = rs
		}
		left = left || j.at[p] < len(j.log[p])
	}
	if !left {
		return false
	}
	if len(batch) == 0 {
		return true
	}
	payload := rig.Payload(batch)
	for range 1 + j.random.IntN(4)/3 {
		answer, err := j.ingest.invoke(ctx, payload)
		if err != nil {
			if ctx.Err() != nil {
				j.t.Fatal(err)
			}
			j.t.Logf("delivered again: %v", err)
			return true
		}
		for p, offset := range j.failures(answer) {
			to[p] = min(to[p], int(offset))
		}
	}
	for p := range partitions {
		j.at[p] = max(j.at[p], to[p])
	}
	j.commit(ctx)
	return true
}

// commit stores the trigger's position, as Lambda does: where a store forgets what nothing is delivered after, fire catches up to it.
func (j *job) commit(ctx context.Context) {
	j.t.Helper()
	offsets := kadm.Offsets{}
	for p := range partitions {
		offsets.AddOffset(source, int32(p), int64(j.at[p]), -1)
	}
	if err := j.admin.CommitAllOffsets(ctx, j.app.TriggerGroups(j.app.Pipelines[0].Topics)[0], offsets); err != nil {
		j.t.Fatalf("position of the trigger: %v", err)
	}
}

// failures returns the first offset of each partition that was answered as not applied.
func (j *job) failures(answer []byte) map[int]int64 {
	j.t.Helper()
	var got struct {
		BatchItemFailures []struct {
			ItemIdentifier struct {
				Partition string
				Offset    int64
			}
		}
	}
	if err := json.Unmarshal(answer, &got); err != nil {
		j.t.Fatalf("answer %s: %v", answer, err)
	}
	first := map[int]int64{}
	for _, f := range got.BatchItemFailures {
		p, err := strconv.Atoi(strings.TrimPrefix(f.ItemIdentifier.Partition, source+"-"))
		if err != nil {
			j.t.Fatalf("answer %s: %v", answer, err)
		}
		if o, ok := first[p]; !ok || f.ItemIdentifier.Offset < o {
			first[p] = f.ItemIdentifier.Offset
		}
	}
	return first
}

// schedule invokes fire as its schedule does. A run that fails is followed by the next one.
func (j *job) schedule(ctx context.Context) {
	if _, err := j.fire.invoke(ctx, []byte("{}")); err != nil && ctx.Err() == nil {
		j.t.Logf("fire: %v", err)
	}
}

// whileFiring does it while fire is at work.
func (j *job) whileFiring(ctx context.Context, do func()) {
	j.t.Helper()
	fired := make(chan struct{})
	go func() { defer close(fired); j.schedule(ctx) }()
	do()
	<-fired
}

func (j *job) flushWhileFiring(ctx context.Context) {
	j.t.Helper()
	j.whileFiring(ctx, func() { j.flush(ctx) })
}

func (j *job) killBrokerWhileFiring(ctx context.Context) {
	j.t.Helper()
	begun := time.Now()
	j.whileFiring(ctx, func() {
		j.t.Log("SIGKILL to the broker")
		j.kill(ctx, j.kafka)
		// Its log has the line of its first start: it is back when it answers.
		again := time.NewTicker(100 * time.Millisecond)
		defer again.Stop()
		for {
			_, err := j.client.Offsets(ctx, []event.TopicPartition{{Topic: source}})
			if err == nil {
				return
			}
			select {
			case <-again.C:
			case <-ctx.Done():
				j.t.Fatal(err)
			}
		}
	})
	j.t.Logf("the broker is back after %d ms", time.Since(begun).Milliseconds())
}

// check waits for all results and compares them.
func (j *job) check(ctx context.Context) {
	t, p := j.t, j.app.Pipelines[0]
	var problems []string
	var side string
	for ctx.Err() == nil {
		j.schedule(ctx)
		plans, err := oracle.ParseLedger(j.read(ctx, spec.LedgerTopic))
		if err != nil {
			t.Fatal(err)
		}
		if says := oracle.Unbalanced(plans); says != "" {
			t.Fatal(says)
		}
		all, late := oracle.Compute(p.Windows, j.events, func(e oracle.Event) event.Time { return oracle.Fence(plans, e.TopicPartition, e.Offset) })
		var want []oracle.Pane
		for _, pane := range all {
			if pane.Key != "end" { // its windows stay open
				want = append(want, pane)
			}
		}
		got, err := rig.ParseResults(j.read(ctx, p.SinkTopic))
		if err != nil {
			t.Fatal(err)
		}
		sides, err := rig.ParseSide(j.read(ctx, p.LateTopic))
		if err != nil {
			t.Fatal(err)
		}
		problems, side = oracle.Problems(want, got, false), oracle.LateProblems(late, sides)
		if len(problems) == 0 && side == "" {
			if len(want) < 20 || len(late) == 0 {
				t.Fatalf("%d panes and %d late records prove nothing", len(want), len(late))
			}
			t.Logf("%d records, %d plans, %d panes, %d results, %d late records", len(j.events), len(plans), len(want), len(got), len(late))
			return
		}
	}
	t.Fatalf("%s; %d differences, the first ones:\n%s", side, len(problems), strings.Join(problems[:min(5, len(problems))], "\n"))
}

func (j *job) read(ctx context.Context, topic string) []kafkaio.PublishedRecord {
	j.t.Helper()
	out, err := j.client.ReadAll(ctx, topic)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		j.t.Fatalf("read %s: %v", topic, err)
	}
	return out
}
