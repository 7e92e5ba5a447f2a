package crash

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/functions/esm"
	"github.com/llm-auto-optimizer/tidemark/tests/oracle"
)

// endKey is the key of the records that close a stage. Their own windows stay open.
const endKey = "end"

// origin is the event time at which every stage begins.
const origin = event.Time(1_700_000_000_000)

// input is what was produced, and how far the trigger has delivered it. It is safe for concurrent use.
type input struct {
	app    *app
	client *kgo.Client
	step   event.Span // event time from one record to the next
	keys   int

	mu     sync.Mutex
	rand   *rand.Rand
	values map[int64]bool // every value is another one
	now    event.Time     // newest event time
	order  []event.TopicPartition
	parts  map[event.TopicPartition]*lane
	events []oracle.Event // all that can be read
	dead   []oracle.Event // all that cannot
}

// lane is one source partition. Offsets are the indices of its records.
type lane struct {
	records  []event.Record
	position int // of the trigger
}

func newInput(a *app, client *kgo.Client, r *rand.Rand) *input {
	in := &input{app: a, client: client, step: 5, keys: 5, rand: r, values: map[int64]bool{}, now: origin, order: a.partitions(), parts: map[event.TopicPartition]*lane{}}
	for _, tp := range in.order {
		in.parts[tp] = &lane{}
	}
	return in
}

// draft is a record to be produced, and what it is to the judge.
type draft struct {
	*kgo.Record
	event oracle.Event
	bad   bool
}

// draft makes a record. The caller holds mu.
func (in *input) draft(tp event.TopicPartition, at event.Time, key string, bad bool) draft {
	v := in.rand.Int64N(1 << 40) // sums of a few thousand are exact in a float64
	for in.values[v] {
		v++
	}
	in.values[v] = true
	value := fmt.Appendf(nil, `{"t":%d,"v":%d}`, at, v)
	if bad {
		value = fmt.Appendf(nil, `no JSON: %d`, v)
	}
	return draft{
		Record: &kgo.Record{Topic: tp.Topic, Partition: tp.Partition, Key: []byte(key), Value: value, Timestamp: time.Now().Truncate(time.Millisecond)},
		event:  oracle.Event{TopicPartition: tp, Time: at, Key: key, Value: float64(v)}, bad: bad,
	}
}

// pause is a quiet time, so long that no session outlasts it.
const pause = 700

// produce publishes n records that are out of order by up to disorder, with a pause now and then; one in 150 cannot be read.
func (in *input) produce(ctx context.Context, n int) error {
	in.mu.Lock()
	drafts := make([]draft, n)
	for i := range drafts {
		in.now = in.now.Add(in.step)
		if in.rand.IntN(400) == 0 {
			in.now = in.now.Add(pause)
		}
		at := in.now.Add(-event.Span(in.rand.IntN(disorder + 1)))
		drafts[i] = in.draft(in.order[in.rand.IntN(len(in.order))], at, strconv.Itoa(in.rand.IntN(in.keys)), in.rand.IntN(150) == 0)
	}
	in.mu.Unlock()
	return in.publish(ctx, drafts)
}

// finish publishes a record a partition that closes everything before it, for queries with a bound below the one given, and
// returns a time that the watermark then passes.
func (in *input) finish(ctx context.Context, bound event.Span) (event.Time, error) {
	in.mu.Lock()
	closed := in.now.Add(event.Span(time.Hour/time.Millisecond) + bound)
	drafts := make([]draft, 0, len(in.order))
	for _, tp := range in.order {
		drafts = append(drafts, in.draft(tp, closed.Add(bound+10_000), endKey, false))
	}
	in.mu.Unlock()
	return closed, in.publish(ctx, drafts)
}

// publish waits until everything is acknowledged, also while the broker is away. It is for one goroutine at a time.
func (in *input) publish(ctx context.Context, drafts []draft) error {
	records := make([]*kgo.Record, len(drafts))
	for i, d := range drafts {
		records[i] = d.Record
	}
	if err := in.client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return fmt.Errorf("produce: %w", err)
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, d := range drafts {
		l := in.parts[d.event.TopicPartition]
		if d.Offset != int64(len(l.records)) {
			return fmt.Errorf("produced to %s/%d at offset %d, want %d: somebody else writes there, or the broker lost records", d.Topic, d.Partition, d.Offset, len(l.records))
		}
		l.records = append(l.records, event.Record{Offset: d.Offset, Timestamp: event.FromGo(d.Timestamp), Key: d.Key, Value: d.Value})
		d.event.Offset = d.Offset
		if d.bad {
			in.dead = append(in.dead, d.event)
		} else {
			in.events = append(in.events, d.event)
		}
	}
	return nil
}

// backlog is how many records the trigger has not delivered.
func (in *input) backlog() (n int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, l := range in.parts {
		n += len(l.records) - l.position
	}
	return n
}

// rewind takes the trigger back by up to n records of each partition.
func (in *input) rewind(n int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, l := range in.parts {
		l.position = max(0, l.position-n)
	}
}

// batch is what the trigger hands to the function next: up to n records of each partition. move moves the trigger on, behind
// the batch. nil: there is nothing.
func (in *input) batch(n int) (payload []byte, move func()) {
	in.mu.Lock()
	defer in.mu.Unlock()
	ev := esm.Event{Source: esm.SourceMSK, SourceARN: "arn:aws:kafka:us-east-1:123456789012:cluster/test/0", BootstrapServers: "localhost:9092"}
	next := map[event.TopicPartition]int{}
	for _, tp := range in.order {
		l := in.parts[tp]
		to := min(l.position+n, len(l.records))
		if to > l.position {
			ev.Batches = append(ev.Batches, esm.Batch{TopicPartition: tp, Records: l.records[l.position:to]})
			next[tp] = to
		}
	}
	if len(next) == 0 {
		return nil, nil
	}
	return esm.AppendEvent(nil, ev), func() {
		in.mu.Lock()
		defer in.mu.Unlock()
		for tp, to := range next {
			in.parts[tp].position = max(in.parts[tp].position, to)
		}
	}
}

// commit stores the trigger's positions in its group, as an event source mapping does.
func (in *input) commit(ctx context.Context, admin *kadm.Client) error {
	offsets := kadm.Offsets{}
	in.mu.Lock()
	for tp, l := range in.parts {
		offsets.AddOffset(tp.Topic, tp.Partition, int64(l.position), -1)
	}
	in.mu.Unlock()
	if err := admin.CommitAllOffsets(ctx, in.app.group, offsets); err != nil {
		return fmt.Errorf("commit the trigger's positions: %w", err)
	}
	return nil
}

// failures reads how many records an answer of ingest calls failed.
func failures(answer []byte) (int, error) {
	var got struct {
		BatchItemFailures []json.RawMessage `json:"batchItemFailures"`
	}
	if err := json.Unmarshal(answer, &got); err != nil {
		return 0, fmt.Errorf("answer %q: %w", answer, err)
	}
	return len(got.BatchItemFailures), nil
}
