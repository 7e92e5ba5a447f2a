package crash

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/tests/rig"
)

// pane is a result as a consumer reads it.
type pane struct {
	rig.Result
	Results numbers // the results that are judged
}

type numbers struct {
	Count, Sum, Min, Max, First, Last, Distinct float64
}

func readPane(value []byte) (p pane, err error) {
	if err = json.Unmarshal(value, &p.Result); err == nil {
		err = json.Unmarshal(value, &struct{ Results *numbers }{&p.Results})
	}
	return p, err
}

// side is a late or failed record as a consumer reads it.
type side struct {
	topic     string // where it was found
	source    event.TopicPartition
	offset    int64
	reason    string
	key       string
	value     string
	malformed string // what is wrong with its headers
}

// plan is a record of the ledger.
type plan struct {
	Pipeline   string          `json:"pipeline"`
	Plan       int64           `json:"plan"`
	Watermark  *int64          `json:"watermark_ms"`
	Refused    string          `json:"refused"`
	Partitions []planPartition `json:"partitions"`
}

// planPartition is what a plan says of a source partition.
type planPartition struct {
	Topic      string `json:"topic"`
	Partition  int32  `json:"partition"`
	Offset     int64  `json:"offset"`
	In         int64  `json:"in"`
	Open       int64  `json:"open"`
	Final      int64  `json:"final"`
	Late       int64  `json:"late"`
	Dead       int64  `json:"dead"`
	Skipped    int64  `json:"skipped"`
	Filtered   int64  `json:"filtered"`
	Unassigned int64  `json:"unassigned"`
}

// published is everything that a read_committed consumer has seen of a stage.
type published struct {
	panes []pane
	sides []side
	plans []plan
}

// standing is how far a pipeline is.
type standing struct {
	plan      int64
	watermark event.Time
}

// reader is a plain read_committed consumer of results, side outputs and the ledger.
type reader struct {
	client *kgo.Client
	admin  *kadm.Client
	ours   map[string]bool // names of the stage's pipelines

	mu    sync.Mutex
	seen  published
	next  map[event.TopicPartition]int64
	at    map[string]standing
	err   error // the first record that cannot be read
	ended chan struct{}
	moved chan struct{} // has one element after a change
}

// newReader begins to consume: results and side outputs from their beginning, the ledger from where it ends now.
func newReader(ctx context.Context, address string, admin *kadm.Client, a *app) (*reader, error) {
	r := &reader{
		admin: admin, ours: map[string]bool{}, next: map[event.TopicPartition]int64{}, at: map[string]standing{},
		ended: make(chan struct{}), moved: make(chan struct{}, 1),
	}
	from, err := admin.ListEndOffsets(ctx, spec.LedgerTopic)
	if err = errors.Join(err, from.Error()); err != nil {
		return nil, fmt.Errorf("end of the ledger: %w", err)
	}
	at := map[string]map[int32]kgo.Offset{spec.LedgerTopic: {}}
	from.Each(func(o kadm.ListedOffset) {
		r.next[event.TopicPartition{Topic: o.Topic, Partition: o.Partition}] = o.Offset
		at[o.Topic][o.Partition] = kgo.NewOffset().At(o.Offset)
	})
	for _, t := range a.outputs() {
		at[t] = map[int32]kgo.Offset{}
		for p := range a.topics()[t] {
			r.next[event.TopicPartition{Topic: t, Partition: p}] = 0
			at[t][p] = kgo.NewOffset().At(0)
		}
	}
	for i := range a.Pipelines {
		r.ours[a.Pipelines[i].Name] = true
		r.at[a.Pipelines[i].Name] = standing{plan: -1, watermark: event.MinTime}
	}
	// Control records, too: behind the last one of them the reader is at the end.
	r.client, err = kgo.NewClient(kgo.SeedBrokers(address), kgo.ConsumePartitions(at), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), kgo.FetchMaxWait(100*time.Millisecond), kgo.MetadataMinAge(250*time.Millisecond))
	if err != nil {
		return nil, fmt.Errorf("consumer of the results: %w", err)
	}
	go r.consume() //nolint:gosec,contextcheck // it ends with the client
	return r, nil
}

func (r *reader) close() {
	r.client.Close()
	<-r.ended
}

// consume polls until the client is closed. Errors of brokers that are away pass.
func (r *reader) consume() {
	defer close(r.ended)
	for {
		fetches := r.client.PollFetches(context.Background())
		if fetches.IsClientClosed() {
			return
		}
		r.mu.Lock()
		fetches.EachRecord(func(rec *kgo.Record) {
			r.next[event.TopicPartition{Topic: rec.Topic, Partition: rec.Partition}] = rec.Offset + 1
			if rec.Attrs.IsControl() {
				return
			}
			if err := r.take(rec); err != nil && r.err == nil {
				r.err = fmt.Errorf("%s/%d, offset %d: %w", rec.Topic, rec.Partition, rec.Offset, err)
			}
		})
		r.mu.Unlock()
		select {
		case r.moved <- struct{}{}:
		default:
		}
	}
}

// take decodes one record. The caller holds mu.
func (r *reader) take(rec *kgo.Record) error {
	switch {
	case rec.Topic == spec.LedgerTopic:
		var p plan
		if err := json.Unmarshal(rec.Value, &p); err != nil {
			return err
		}
		if !r.ours[p.Pipeline] {
			return nil
		}
		r.seen.plans = append(r.seen.plans, p)
		s := standing{plan: p.Plan, watermark: event.MinTime}
		if p.Watermark != nil {
			s.watermark = event.Time(*p.Watermark)
		}
		r.at[p.Pipeline] = s
	case rec.Topic[:4] == "out-":
		p, err := readPane(rec.Value)
		if err != nil {
			return err
		}
		r.seen.panes = append(r.seen.panes, p)
	default:
		r.seen.sides = append(r.seen.sides, newSide(rec))
	}
	return nil
}

func newSide(rec *kgo.Record) side {
	s := side{topic: rec.Topic, key: string(rec.Key), value: string(rec.Value)}
	for _, h := range rec.Headers {
		var err error
		switch h.Key {
		case "tidemark-topic":
			s.source.Topic = string(h.Value)
		case "tidemark-partition":
			var n int64
			n, err = strconv.ParseInt(string(h.Value), 10, 32)
			s.source.Partition = int32(n)
		case "tidemark-offset":
			s.offset, err = strconv.ParseInt(string(h.Value), 10, 64)
		case "tidemark-reason":
			s.reason = string(h.Value)
		}
		if err != nil {
			s.malformed = fmt.Sprintf("header %s: %v", h.Key, err)
		}
	}
	return s
}

// plans returns where every pipeline is.
func (r *reader) plans() map[string]standing {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.at)
}

// drain reads to the end of every topic and returns all that was published.
func (r *reader) drain(ctx context.Context) (published, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	r.mu.Lock()
	topics := map[string]bool{}
	for tp := range r.next {
		topics[tp.Topic] = true
	}
	r.mu.Unlock()
	names := make([]string, 0, len(topics))
	for t := range topics {
		names = append(names, t)
	}
	ends, err := r.admin.ListEndOffsets(ctx, names...)
	if err = errors.Join(err, ends.Error()); err != nil {
		return published{}, fmt.Errorf("ends of the results: %w", err)
	}
	for {
		behind := ""
		r.mu.Lock()
		ends.Each(func(o kadm.ListedOffset) {
			if at := r.next[event.TopicPartition{Topic: o.Topic, Partition: o.Partition}]; at < o.Offset {
				behind += fmt.Sprintf(" %s/%d at %d of %d", o.Topic, o.Partition, at, o.Offset)
			}
		})
		seen, err := r.seen, r.err
		r.mu.Unlock()
		if err != nil || behind == "" {
			return seen, err
		}
		select {
		case <-r.moved:
		case <-ctx.Done():
			return published{}, fmt.Errorf("the consumer does not reach the end:%s: %w", behind, ctx.Err())
		}
	}
}
