//go:build servers && linux

package deploy_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/localdev/host"
	"github.com/llm-auto-optimizer/tidemark/tests/rig"
	"github.com/llm-auto-optimizer/tidemark/tests/servers"
)

// guarded is an app whose Kafka and Redis ask for passwords, with all that its deployed functions have written.
type guarded struct {
	t       *testing.T
	redis   *redis.Client
	tp      event.TopicPartition
	said    []string // answers and errors
	ingest  *host.Function
	fire    *host.Function
	records []event.Record
	client  *kafkaio.Client
}

func guard(t *testing.T, kafka *servers.SecuredKafka, password, keeper, collector, awsKey string) *guarded {
	t.Helper()
	const topic = "secrets"
	g := &guarded{t: t, tp: event.TopicPartition{Topic: topic}}
	own := servers.StartRedis(t)
	g.redis = redis.NewClient(&redis.Options{Addr: own.Addr()})
	t.Cleanup(func() { _ = g.redis.Close() })
	if err := g.redis.ConfigSet(t.Context(), "requirepass", password).Err(); err != nil {
		t.Fatal(err)
	}
	yaml := `
app: secrets
processor:
  error_handling: {policy: retry, max_retries: 1, initial_retry_delay_ms: 10}
  kafka: {consumer: {topics: [` + topic + `]}, producer: {result_topic: results}}
pipelines:
  - name: p
    timestamp: {field: t}
    values: {v: v}
    windows: [{name: w, type: tumbling, size: 1s, allowed_lateness: 1s}]
    aggregates: {v: [count]}
    watermark: {max_out_of_orderness: 0s, emit_interval: 0s}
`
	dir := t.TempDir()
	file, ca := filepath.Join(dir, "spec.yaml"), filepath.Join(dir, "ca.pem")
	for name, text := range map[string][]byte{file: []byte(yaml), ca: kafka.Authority.PEM} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if g.client, err = kafkaio.Open(t.Context(), kafkaio.Options{Brokers: []string{kafka.Plain}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.client.Close)
	for _, name := range []string{topic, "results", "results-late", "processor-dead-letter", spec.LedgerTopic, spec.PanesTopic} {
		if err := g.client.CreateTopic(t.Context(), name, 1, 1, servers.TopicConfigs(name)); err != nil {
			t.Fatal(err)
		}
	}
	env := []string{
		"TIDEMARK_CONFIG=" + file, "TIDEMARK_BROKERS=" + kafka.SCRAM, "TIDEMARK_KAFKA_AUTH=scram", "TIDEMARK_KAFKA_SECRET=kafka", "TIDEMARK_KAFKA_CA=" + ca,
		"TIDEMARK_REDIS=redis://:" + url.QueryEscape(password) + "@" + own.Addr(), "TIDEMARK_FIRE_TICK=20ms", "TIDEMARK_LOG_LEVEL=DEBUG",
		"AWS_REGION=eu-west-1", "AWS_ACCESS_KEY_ID=AKID", "AWS_SECRET_ACCESS_KEY=" + awsKey, "AWS_ENDPOINT_URL=" + keeper,
		"TIDEMARK_TRACES=otlp", "OTEL_EXPORTER_OTLP_ENDPOINT=" + collector,
	}
	function := func(name string) *host.Function {
		f := host.New(host.Options{Name: name, Binary: traced(t, name), Env: env, Timeout: 8 * time.Second, LogFormat: "JSON", LogLevel: "DEBUG"})
		t.Cleanup(f.Close)
		return f
	}
	g.ingest, g.fire = function("ingest"), function("fire")
	return g
}

// publish appends a record and returns it as the trigger has it.
func (g *guarded) publish(at event.Time, value string) {
	g.t.Helper()
	m := kafkaio.Message{Topic: g.tp.Topic, Partition: g.tp.Partition, Key: []byte("k"), Value: fmt.Appendf(nil, `{"t":%d,"v":%s}`, at, value), Timestamp: at}
	if err := g.client.Produce(g.t.Context(), []kafkaio.Message{m}); err != nil {
		g.t.Fatal(err)
	}
	g.records = append(g.records, event.Record{Offset: int64(len(g.records)), Timestamp: at, Key: m.Key, Value: m.Value})
}

// invoke notes what a function answers, and returns it.
func (g *guarded) invoke(f *host.Function, payload []byte) (string, error) {
	answer, err := f.Invoke(g.t.Context(), payload)
	g.said = append(g.said, string(answer), fmt.Sprint(err))
	return string(answer), err
}

func (g *guarded) deliver(from int) (string, error) {
	return g.invoke(g.ingest, rig.Payload(map[event.TopicPartition][]event.Record{g.tp: g.records[from:]}))
}

// collector takes the spans of functions, as they are sent.
type collector struct {
	mu    sync.Mutex
	taken bytes.Buffer
}

func (c *collector) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = c.taken.ReadFrom(r.Body)
}

func (c *collector) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.taken.String()
}

// Whatever functions write while they work, and once they fail, shows no secret: log lines, metrics, spans, answers and errors.
func TestFunctionsAtWorkShowNoSecret(t *testing.T) {
	kafka := servers.StartSecuredKafka(t)
	const password, other, awsKey = "planted/redis+password=1", "planted/redis+password=2", "planted/aws+secret=key"
	var asked atomic.Int64
	keeper := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		secret, _ := json.Marshal(map[string]string{"username": kafka.User, "password": kafka.Password})
		_ = json.NewEncoder(w).Encode(map[string]string{"SecretString": string(secret)})
	}))
	defer keeper.Close()
	var spans collector
	collecting := httptest.NewServer(&spans)
	defer collecting.Close()
	g := guard(t, kafka, password, keeper.URL, collecting.URL, awsKey)
	const now = event.Time(1_700_000_000_000)
	for i, v := range []string{"1", `"text"`, "3"} {
		g.publish(now.Add(event.Span(i*900)), v)
	}
	for _, step := range []func() (string, error){
		func() (string, error) { return g.invoke(g.fire, []byte("{}")) }, // the genesis
		func() (string, error) { return g.deliver(0) },
		func() (string, error) { return g.invoke(g.fire, []byte("{}")) },
	} {
		if answer, err := step(); err != nil {
			t.Fatalf("%s, %v\n%s\n%s", answer, err, g.ingest.Log(), g.fire.Log())
		}
	}
	if n := len(mustRead(t, g.client, "results")); n == 0 || asked.Load() == 0 {
		t.Fatalf("%d results, the secret was asked for %d times\n%s", n, asked.Load(), g.fire.Log())
	}
	for name, log := range map[string]string{"ingest": g.ingest.Log(), "fire": g.fire.Log()} {
		if !strings.Contains(log, `"CloudWatchMetrics"`) {
			t.Errorf("%s writes no metrics:\n%s", name, log)
		}
		linesAreLambdas(t, name, log)
	}

	// Then Redis takes another password, and lets go of everybody.
	for _, err := range []error{
		g.redis.Do(t.Context(), "AUTH", password).Err(), g.redis.ConfigSet(t.Context(), "requirepass", other).Err(), g.redis.Do(t.Context(), "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes").Err(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	g.publish(now.Add(5000), "4")
	if answer, err := g.deliver(3); err == nil && answer == `{"batchItemFailures":[]}` {
		t.Errorf("ingest goes on with a password that is none: %s", answer)
	}
	if answer, err := g.invoke(g.fire, []byte("{}")); err == nil {
		t.Errorf("fire goes on with a password that is none: %s", answer)
	}

	for _, name := range []string{"tidemark-ingest", "tidemark-fire"} {
		if !strings.Contains(spans.String(), name) {
			t.Errorf("no span of %s", name)
		}
	}
	all := strings.Join(append(g.said, g.ingest.Log(), g.fire.Log(), spans.String()), "\n")
	if !strings.Contains(all, "WRONGPASS") && !strings.Contains(all, "NOAUTH") {
		t.Errorf("nobody says what is wrong:\n%s", all)
	}
	for name, text := range map[string]string{"Kafka's password": kafka.Password, "Redis' password": password, "the AWS key": awsKey} {
		for _, form := range []string{text, base64.StdEncoding.EncodeToString([]byte(text)), url.QueryEscape(text), url.PathEscape(text)} {
			if at := strings.Index(all, form); at >= 0 {
				t.Errorf("%s is shown: ...%s", name, all[max(0, at-200):at+len(form)])
			}
		}
	}
}

// linesAreLambdas holds the log to Lambda's format: one JSON object a line, with what a batch or a plan was of.
func linesAreLambdas(t *testing.T, name, log string) {
	t.Helper()
	want := map[string][]string{"ingest": {"batch", "partitions", "records", "folded"}, "fire": {"plan", "pipeline", "plan", "watermark", "panes"}}[name]
	found := false
	for line := range strings.Lines(log) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Errorf("%s: a line is no JSON: %s", name, line)
			continue
		}
		if fields["_aws"] != nil {
			continue // metrics
		}
		for _, field := range []string{"timestamp", "level", "message"} {
			if fields[field] == nil {
				t.Errorf("%s: a line without %s: %s", name, field, line)
			}
		}
		if fields["message"] != want[0] {
			continue
		}
		found = true
		for _, field := range append(want[1:], "requestId") {
			if fields[field] == nil {
				t.Errorf("%s: no %s in %s", name, field, line)
			}
		}
	}
	if !found {
		t.Errorf("%s: no line %q in\n%s", name, want[0], log)
	}
}

func mustRead(t *testing.T, client *kafkaio.Client, topic string) []kafkaio.PublishedRecord {
	t.Helper()
	records, err := client.ReadAll(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	return records
}

// frozenFor is longer than a connection to Kafka may have been silent to be used again.
const frozenFor = 22 * time.Second

// Functions that were stopped as Lambda freezes them, and whose connections to Redis were cut meanwhile, do their work with the first
// invocation after the thaw. Kafka's connections are too old by then.
func TestTheFirstInvocationAfterAThawSucceeds(t *testing.T) {
	t.Parallel()
	s := newSource(t, "thaw")
	own := servers.StartRedis(t)
	client := redis.NewClient(&redis.Options{Addr: own.Addr()})
	defer func() { _ = client.Close() }()
	sys := s.system("host", "thaw")
	env := slices.Concat(sys.env, []string{"TIDEMARK_REDIS=redis://" + own.Addr()})
	frozen := map[string]*host.Function{}
	for _, name := range []string{"ingest", "fire"} {
		frozen[name] = host.New(host.Options{Name: name, Binary: deployed(t, name, "", ""), Env: env, Timeout: 5 * time.Second, Freeze: true})
		t.Cleanup(frozen[name].Close)
	}
	tp := event.TopicPartition{Topic: s.topic}
	publish := func(n int, at event.Time) []event.Record {
		t.Helper()
		m := kafkaio.Message{Topic: s.topic, Partition: 0, Key: []byte("k"), Value: fmt.Appendf(nil, `{"t":%d,"v":1}`, at)}
		if err := s.client.Produce(t.Context(), []kafkaio.Message{m}); err != nil {
			t.Fatal(err)
		}
		return []event.Record{{Offset: int64(n), Timestamp: at, Key: m.Key, Value: m.Value}}
	}
	invoke := func(ctx context.Context, name string, payload []byte) {
		t.Helper()
		answer, err := frozen[name].Invoke(ctx, payload)
		if err != nil || strings.Contains(string(answer), `"itemIdentifier"`) {
			t.Fatalf("%s: %s, %v\n%s", name, answer, err, frozen[name].Log())
		}
	}
	invoke(t.Context(), "fire", []byte("{}"))
	invoke(t.Context(), "ingest", rig.Payload(map[event.TopicPartition][]event.Record{tp: publish(0, start)}))
	invoke(t.Context(), "fire", []byte("{}"))
	if err := client.Do(t.Context(), "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes").Err(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	case <-time.After(frozenFor): // there is no event in a process that stands still
	}
	invoke(t.Context(), "ingest", rig.Payload(map[event.TopicPartition][]event.Record{tp: publish(1, start.Add(60_000))}))
	invoke(t.Context(), "fire", []byte("{}"))
	for name, f := range frozen {
		if n := f.ColdStarts(); n != 1 {
			t.Errorf("%s was started %d times", name, n)
		}
		if strings.Contains(f.Log(), `level=ERROR`) || strings.Contains(f.Log(), `"level":"ERROR"`) {
			t.Errorf("%s had trouble:\n%s", name, f.Log())
		}
	}
}
