//go:build servers

package fire_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/fire"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/functions/preflight"
	"github.com/llm-auto-optimizer/tidemark/functions/settings"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/tests/servers"
)

// plant is a pipeline on real servers, with topics, group and state of its own.
type plant struct {
	app    *spec.App
	pipe   *pipeline.Pipeline
	kafka  *kafkaio.Client
	store  statestore.Store
	admin  *kadm.Client
	source event.TopicPartition
	logs   bytes.Buffer
}

func newPlant(t *testing.T) *plant {
	t.Helper()
	name := servers.Name(t, "halt")
	name = "halt-" + name[len(name)-16:]
	text := strings.NewReplacer("app: test", "app: "+name, "[events]", "["+name+"-events]", "results", name+"-results",
		"  kafka:", "  error_handling: {dead_letter_topic: "+name+"-dead}\n  kafka:").Replace(tumbling)
	app, err := spec.Load([]byte(text), "spec.yaml")
	if err != nil {
		t.Fatal(err)
	}
	pipes, err := settings.Compile(app)
	if err != nil {
		t.Fatal(err)
	}
	p := &plant{app: app, pipe: pipes[0], source: event.TopicPartition{Topic: name + "-events"}}
	p.connect(t)
	if p.store, err = settings.OpenRedis(t.Context(), app, []string{servers.Redis(t)}); err != nil {
		t.Fatal(err)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(servers.Brokers(t)...))
	if err != nil {
		t.Fatal(err)
	}
	p.admin = kadm.NewClient(cl)
	t.Cleanup(func() {
		slots, err := p.store.Slots(context.WithoutCancel(t.Context()), p.pipe.ID())
		for _, s := range slots {
			err = errors.Join(err, p.store.Drop(context.WithoutCancel(t.Context()), s))
		}
		if err = errors.Join(err, p.store.Close()); err != nil {
			t.Error(err)
		}
		cl.Close()
	})
	for _, topic := range []string{p.source.Topic, name + "-results", name + "-results-late", name + "-dead"} {
		p.create(t, topic)
	}
	for _, topic := range []string{spec.LedgerTopic, spec.PanesTopic} {
		if err := p.kafka.CreateTopic(t.Context(), topic, 1, 1, servers.TopicConfigs(topic)); err != nil && !errors.Is(err, kafkaio.ErrTopicExists) {
			t.Fatal(err)
		}
	}
	return p
}

func (p *plant) connect(t *testing.T) {
	t.Helper()
	c, err := kafkaio.Open(t.Context(), kafkaio.Options{Brokers: servers.Brokers(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	p.kafka = c
}

// create makes a topic, once one of its name is gone that is being deleted.
func (p *plant) create(t *testing.T, topic string) {
	t.Helper()
	for {
		err := p.kafka.CreateTopic(t.Context(), topic, 1, 1, nil)
		if err == nil {
			return
		}
		if !errors.Is(err, kafkaio.ErrTopicExists) {
			t.Fatal(err)
		}
	}
}

func (p *plant) handler() *fire.Handler {
	return fire.New(fire.Deps{
		App: p.app, Pipelines: []*pipeline.Pipeline{p.pipe}, Store: p.store, Log: p.kafka, Publisher: p.kafka, Clock: settings.Now,
		Logger: slog.New(slog.NewTextHandler(&p.logs, nil)), Tick: 20 * time.Millisecond,
	})
}

// ingest appends records and folds them.
func (p *plant) ingest(t *testing.T, times ...event.Time) {
	t.Helper()
	p.produce(t, times...)
	parts, err := p.kafka.Partitions(t.Context(), []string{p.source.Topic})
	if err != nil {
		t.Fatal(err)
	}
	offsets, err := p.kafka.Offsets(t.Context(), []event.TopicPartition{p.source})
	if err != nil {
		t.Fatal(err)
	}
	a := apply.New(apply.Deps{
		Pipeline: p.pipe, Store: p.store, Log: p.kafka, Errors: p.app.Errors, Buffer: p.app.BufferSize, Clock: settings.Now, Logger: slog.New(slog.DiscardHandler),
	})
	if _, err := a.CatchUp(t.Context(), parts[0], offsets[p.source].End, new(apply.Work)); err != nil {
		t.Fatal(err)
	}
}

func (p *plant) produce(t *testing.T, times ...event.Time) {
	t.Helper()
	for _, at := range times {
		if err := p.kafka.Produce(t.Context(), []kafkaio.Message{{Topic: p.source.Topic, Timestamp: at, Value: []byte(`{"value":1}`)}}); err != nil {
			t.Fatal(err)
		}
	}
}

// run fires once.
func (p *plant) run(t *testing.T) {
	t.Helper()
	h := p.handler()
	defer h.Close()
	if rep := h.Run(t.Context(), apply.Nudge{})[0]; rep.Err != nil {
		t.Fatal(rep.Err)
	}
}

// What a broker does cannot be mended by trying again: fire says so once in an invocation, with what to do, and publishes nothing;
// preflight has said it too.
func TestFireHaltsOnWhatRealBrokersDo(t *testing.T) {
	for name, c := range map[string]struct {
		harm  func(t *testing.T, p *plant)
		says  []string
		check string
	}{
		"the topic is deleted and made anew": {func(t *testing.T, p *plant) {
			t.Helper()
			if err := p.kafka.DeleteTopics(t.Context(), p.source.Topic); err != nil {
				t.Fatal(err)
			}
			p.create(t, p.source.Topic)
			p.connect(t) // a client remembers the topic that was
			p.produce(t, 500, 600)
		}, []string{"made anew", "under another name"}, preflight.CheckTopicID},
		"records are removed before they are folded": {func(t *testing.T, p *plant) {
			t.Helper()
			p.produce(t, 30, 31, 32)
			if err := p.kafka.DeleteRecords(t.Context(), p.source, 5); err != nil {
				t.Fatal(err)
			}
		}, []string{"the log begins at offset 5, but the state needs it from 3", "retention"}, preflight.CheckLog},
		"the group is deleted": {func(t *testing.T, p *plant) {
			t.Helper()
			if _, err := p.admin.DeleteGroup(t.Context(), p.pipe.Group()); err != nil {
				t.Fatal(err)
			}
		}, []string{"has no offset for it: its offsets were deleted or have expired", "restore them, or drop the state"}, preflight.CheckGroupOffsets},
		"the log ends before the plan": {func(t *testing.T, p *plant) {
			t.Helper()
			// A broker that lost records is one whose log is shorter than what was committed.
			committed, err := p.kafka.Group(t.Context(), p.pipe.Group())
			if err != nil {
				t.Fatal(err)
			}
			at := committed[p.source]
			m, err := pipeline.DecodeCommitment(at.Metadata)
			if err != nil {
				t.Fatal(err)
			}
			m.ReplayFrom = 70
			p.commit(t, 70, m)
		}, []string{"the log ends at offset 3, but the state has it up to 70", "the broker lost records"}, preflight.CheckLog},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlant(t)
			p.run(t) // the genesis
			p.ingest(t, 1, 2, 12)
			p.run(t)
			c.harm(t, p)
			if strings.Contains(name, "ends") {
				p.drop(t)
			}
			results, err := p.kafka.ReadAll(t.Context(), p.app.Pipelines[0].SinkTopic)
			if err != nil || len(results) != 1 {
				t.Fatalf("%d results before the harm, %v", len(results), err)
			}
			report, err := preflight.Check(t.Context(), preflight.Deps{App: p.app, Pipelines: []*pipeline.Pipeline{p.pipe}, Kafka: p.kafka, Store: p.store})
			if err != nil {
				t.Error(err)
			}
			found := false
			for _, f := range report.Findings {
				found = found || f.Check == c.check && f.Severity == preflight.Error
			}
			if !found {
				t.Errorf("preflight does not say %s: %+v", c.check, report.Findings)
			}
			h := p.handler()
			_, err = h.Invoke(t.Context(), nil)
			if !errors.Is(err, fire.ErrHalted) {
				t.Fatalf("%v, want a halt", err)
			}
			for _, says := range c.says {
				if !strings.Contains(err.Error(), says) {
					t.Errorf("%v\ndoes not say %q", err, says)
				}
			}
			if n := strings.Count(p.logs.String(), "level=ERROR"); n != 1 {
				t.Errorf("logged %d times:\n%s", n, p.logs.String())
			}
			if after, err := p.kafka.ReadAll(t.Context(), p.app.Pipelines[0].SinkTopic); err != nil || len(after) != len(results) {
				t.Errorf("%d results, %v; there were %d before the harm", len(after), err, len(results))
			}
		})
	}
}

// commit commits an offset of the pipeline's group by hand.
func (p *plant) commit(t *testing.T, offset int64, m *pipeline.Commitment) {
	t.Helper()
	offsets := kadm.Offsets{}
	offsets.Add(kadm.Offset{
		Topic: p.source.Topic, Partition: 0, At: offset, LeaderEpoch: -1, Metadata: string(pipeline.AppendCommitment(nil, m)),
	})
	if err := p.admin.CommitAllOffsets(t.Context(), p.pipe.Group(), offsets); err != nil {
		t.Fatal(err)
	}
}

// drop removes the state, so that it is rebuilt from what was committed.
func (p *plant) drop(t *testing.T) {
	t.Helper()
	slots, err := p.store.Slots(t.Context(), p.pipe.ID())
	for _, s := range slots {
		err = errors.Join(err, p.store.Drop(t.Context(), s))
	}
	if err != nil {
		t.Fatal(err)
	}
}
