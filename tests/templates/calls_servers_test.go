//go:build servers

package templates_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/fire"
	"github.com/llm-auto-optimizer/tidemark/functions/ingest"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/functions/ops"
	"github.com/llm-auto-optimizer/tidemark/functions/preflight"
	"github.com/llm-auto-optimizer/tidemark/functions/settings"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/tests/rig"
	"github.com/llm-auto-optimizer/tidemark/tests/servers"
)

var update = flag.Bool("update", false, "write the recorded calls anew")

const callsSpec = `
app: APP
processor:
  watermark: {max_out_of_orderness_ms: 10, emit_interval_ms: 0, idle_timeout_secs: 3600}
  kafka: {consumer: {topics: [APP-events], group_id: tidemark.APP}, producer: {result_topic: APP-results}}
  error_handling: {dead_letter_topic: APP-dead}
pipelines:
  - name: p
    timestamp: {field: t, unit: ms}
    values: {v: v}
    windows: [{name: s, type: session, gap: GAPs, allowed_lateness: 0s}]
    aggregates: {v: [count]}
`

// panesSpec is an app whose windows may go out again, so that it has a pane history.
const panesSpec = `
app: APP
processor:
  watermark: {max_out_of_orderness_ms: 10, emit_interval_ms: 0, idle_timeout_secs: 3600}
  kafka: {consumer: {topics: [APP-events], group_id: tidemark.APP}, producer: {result_topic: APP-results}}
  error_handling: {dead_letter_topic: APP-dead}
pipelines:
  - name: p
    timestamp: {field: t, unit: ms}
    values: {v: v}
    windows: [{name: w, type: tumbling, size: 1s, allowed_lateness: 1h}]
    aggregates: {v: [count]}
`

// scene is an app on real servers whose three functions are recorded.
type scene struct {
	t       *testing.T
	name    string
	spec    string
	admin   *kafkaio.Client
	clients map[string]*kafkaio.Client
	store   statestore.Store
	source  kafkaio.Partition
	base    event.Time
	next    int64

	app    *spec.App
	pipes  []*pipeline.Pipeline
	ingest *ingest.Handler
	fire   *fire.Handler
	ops    *ops.Handler
}

func newScene(t *testing.T, text string, calls map[call]bool) *scene {
	t.Helper()
	ctx := t.Context()
	s := &scene{t: t, name: fmt.Sprintf("calls-%x", time.Now().UnixNano()), spec: text, clients: map[string]*kafkaio.Client{}, base: event.FromGo(time.Now().Add(-time.Hour))}
	admin, err := kafkaio.Open(ctx, kafkaio.Options{Brokers: servers.Brokers(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(admin.Close)
	s.admin = admin
	names := []string{s.name + "-events", s.name + "-results", s.name + "-results-late", s.name + "-dead", spec.LedgerTopic, spec.PanesTopic}
	for _, topic := range names {
		if err := admin.CreateTopic(ctx, topic, 1, 1, servers.TopicConfigs(topic)); err != nil && (strings.HasPrefix(topic, s.name) || !errors.Is(err, kafkaio.ErrTopicExists)) {
			t.Fatal(err)
		}
	}
	parts, err := admin.Partitions(ctx, names)
	if err != nil {
		t.Fatal(err)
	}
	s.source = parts[0]
	ids := map[[16]byte]string{}
	for _, p := range parts {
		ids[p.TopicID] = p.Topic
	}
	for _, function := range []string{"ingest", "fire", "ops"} {
		r := &recorder{t: t, function: function, app: s.name, topics: func(id [16]byte) string { return ids[id] }, calls: map[call]bool{}}
		s.clients[function] = r.open()
		t.Cleanup(func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			maps.Copy(calls, r.calls)
		})
	}
	return s
}

// deploy makes the functions anew, of a spec whose sessions have a gap, and fire as its bootstrap does unless it is told how to
// publish.
func (s *scene) deploy(gap string, publisher kafkaio.Publisher) {
	s.t.Helper()
	ctx := s.t.Context()
	var err error
	if s.app, err = spec.Load([]byte(strings.NewReplacer("APP", s.name, "GAP", gap).Replace(s.spec)), "spec.yaml"); err != nil {
		s.t.Fatal(err)
	}
	if s.pipes, err = settings.Compile(s.app); err != nil {
		s.t.Fatal(err)
	}
	if s.store == nil {
		store, err := settings.OpenRedis(ctx, s.app, []string{servers.Redis(s.t)})
		if err != nil {
			s.t.Fatal(err)
		}
		s.store = store
		s.t.Cleanup(func() {
			if err := store.Close(); err != nil {
				s.t.Error(err)
			}
		})
	}
	logger := slog.New(slog.DiscardHandler)
	if s.fire != nil {
		s.fire.Close()
	}
	if publisher == nil {
		publisher = preflight.Start(ctx, preflight.Deps{App: s.app, Pipelines: s.pipes, Store: s.store}, s.clients["fire"], logger)
	}
	s.ingest = ingest.New(ingest.Deps{App: s.app, Pipelines: s.pipes, Store: s.store, Log: s.clients["ingest"], Clock: settings.Now, Logger: logger})
	s.fire = fire.New(fire.Deps{App: s.app, Pipelines: s.pipes, Store: s.store, Log: s.clients["fire"], Publisher: publisher, Clock: settings.Now, Logger: logger})
	s.ops = ops.New(ops.Deps{
		App: s.app, Pipelines: s.pipes, Store: s.store, Log: s.clients["ops"], Cluster: s.clients["ops"], Clock: settings.Now, Logger: logger,
		Checkpoints: s.t.TempDir(), Margin: time.Millisecond,
	})
	s.t.Cleanup(s.fire.Close)
}

func (s *scene) tick() {
	s.t.Helper()
	if r := s.fire.Run(s.t.Context(), apply.Nudge{})[0]; r.Err != nil {
		s.t.Fatal(r.Err)
	}
}

// feed publishes records of the times given, after the base, and delivers them to ingest unless they are to be missed. A negative
// time is a record that is no JSON.
func (s *scene) feed(deliver bool, times ...event.Time) {
	s.t.Helper()
	var messages []kafkaio.Message
	var records []event.Record
	for _, at := range times {
		m := kafkaio.Message{Topic: s.source.Topic, Key: []byte("k"), Value: fmt.Appendf(nil, `{"t":%d,"v":1}`, s.base+at), Timestamp: s.base + max(at, 0)}
		if at < 0 {
			m.Value = []byte("no JSON")
		}
		messages = append(messages, m)
		records = append(records, event.Record{Offset: s.next, Timestamp: m.Timestamp, Key: m.Key, Value: m.Value})
		s.next++
	}
	if err := s.admin.Produce(s.t.Context(), messages); err != nil {
		s.t.Fatal(err)
	}
	if !deliver {
		return
	}
	payload := rig.Payload(map[event.TopicPartition][]event.Record{s.source.TopicPartition: records})
	if answer, err := s.ingest.Invoke(s.t.Context(), payload); err != nil || strings.Contains(string(answer), "itemIdentifier") {
		s.t.Fatalf("%s, %v", answer, err)
	}
}

func (s *scene) slot() statestore.Slot { return apply.SlotID(s.pipes[0], s.source) }

func (s *scene) drop() {
	s.t.Helper()
	if err := s.store.Drop(s.t.Context(), s.slot()); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) command(payload string) {
	s.t.Helper()
	if out, err := s.ops.Invoke(s.t.Context(), []byte(payload)); err != nil {
		s.t.Fatalf("%s: %s, %v", payload, out, err)
	}
}

// play has the functions do all that they can be made to do: genesis, plans, a gap, catching up, late records and dead letters,
// refused offsets that only the ledger has, a store that lost all, every command of ops, a hand-over and its return.
func (s *scene) play() {
	ctx := s.t.Context()
	s.deploy("5", nil)
	s.tick()
	s.feed(true, 100_000, -1)
	s.tick()
	s.feed(false, 100_001) // keeps replayFrom before what follows
	s.feed(true, 100_001)
	var late []event.Time
	for i := range 3000 {
		late = append(late, event.Time(i*7%1000))
	}
	s.feed(true, late...)
	s.tick()
	plan, err := apply.ReadPlan(ctx, s.admin, s.pipes[0])
	if err != nil || plan.Partitions[s.source.TopicPartition].RefusedAt == nil {
		s.t.Fatalf("nothing was refused into the ledger: %v", err)
	}
	s.drop()
	s.deploy("5", nil) // what was read is forgotten
	s.feed(true, 100_002)
	s.drop()
	s.deploy("5", nil)
	s.feed(false, 200_000)
	s.tick() // catches up
	for _, command := range []string{
		`{"command":"explain"}`, `{"command":"explain","key":"-"}`, `{"command":"state"}`, `{"command":"checkpoint"}`, `{"command":"verify"}`, `{"command":"preflight"}`,
		`{"command":"replay","pipeline":"p","topic":"` + s.source.Topic + `","partition":0,"confirm":true}`, `{"command":"help"}`,
	} {
		s.command(command)
	}
	s.drop()
	s.command(`{"command":"restore"}`)
	s.command(`{"command":"verify"}`)
	s.feed(true, 200_001)
	s.tick()
	s.deploy("6", nil)
	s.tick() // takes over
	s.feed(true, 300_000)
	s.tick()
	s.deploy("5", nil)
	ctx, cancel := context.WithTimeout(ctx, 4*time.Second) // an invocation goes on until 2 s before its deadline
	defer cancel()
	if _, err := s.fire.Invoke(ctx, []byte(`{"takeover":true}`)); err != nil {
		s.t.Fatal(err)
	}
	s.drop()
}

// playAtOnce is what fire does where a cluster has no transactions.
func (s *scene) playAtOnce() {
	s.deploy("5", s.clients["fire"].AtOnce())
	s.tick()
	s.feed(true, 100_000, 200_000, -1)
	s.tick()
	s.drop()
}

// playPanes has windows go out once more, from a firer that published them the first time and from one that remembers nothing.
func (s *scene) playPanes(publisher kafkaio.Publisher) {
	ctx := s.t.Context()
	s.deploy("", publisher)
	s.tick()
	s.feed(true, 100, 10_000)
	s.tick()
	s.feed(true, 200)
	s.tick()
	s.deploy("", publisher)
	s.feed(true, 300)
	s.tick()
	plan, err := apply.ReadPlan(ctx, s.admin, s.pipes[0])
	if err != nil || plan.Panes == nil {
		s.t.Fatalf("there is no pane history: %v", err)
	}
	s.command(`{"command":"verify"}`)
	s.command(`{"command":"preflight"}`)
	s.drop()
}

// TestTheRecordedCallsAreWhatFunctionsMake plays everything on real servers; what is allowed is held against the record by
// make templates, which needs none.
func TestTheRecordedCallsAreWhatFunctionsMake(t *testing.T) {
	calls := map[call]bool{}
	t.Run("with transactions", func(t *testing.T) { newScene(t, callsSpec, calls).play() })
	t.Run("without", func(t *testing.T) { newScene(t, callsSpec, calls).playAtOnce() })
	t.Run("panes with transactions", func(t *testing.T) { newScene(t, panesSpec, calls).playPanes(nil) })
	t.Run("panes without", func(t *testing.T) {
		s := newScene(t, panesSpec, calls)
		s.playPanes(s.clients["fire"].AtOnce())
	})
	if t.Failed() {
		return
	}
	var lines []string
	for c := range calls {
		lines = append(lines, c.String())
		if _, ok := kafkaActions()[c.request]; !ok {
			t.Errorf("%s: what this needs is not known", c)
		}
	}
	slices.Sort(lines)
	got := strings.Join(lines, "\n") + "\n"
	if *update {
		if err := os.WriteFile(recorded, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var want []string
	for _, c := range readCalls(t) {
		want = append(want, c.String())
	}
	for _, line := range lines {
		if !slices.Contains(want, line) {
			t.Errorf("not in %s: %s", recorded, line)
		}
	}
	for _, line := range want {
		if !slices.Contains(lines, line) {
			t.Errorf("in %s, and not made: %s", recorded, line)
		}
	}
}
