//go:build servers

package deployment

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/localdev/host"
	"github.com/llm-auto-optimizer/tidemark/tests/servers"
)

const nudgeSpec = `app: nudged
processor:
  watermark: {max_out_of_orderness: 0s, idle_timeout: 1h}
  kafka: {consumer: {max_poll_records: 100}}
pipelines:
  - name: p
    topics: [%[1]s]
    timestamp: {field: t, unit: ms}
    key: []
    values: {v: v}
    windows: [{name: w, type: tumbling, size: 1s, allowed_lateness: 0s}]
    aggregates: {v: [count]}
    sink: {topic: %[1]s-out}
`

// Without a schedule it is ingest alone that has fire invoked, through Lambda's API, and fire's reserved concurrency of one lets the
// rest wait: much is folded, and fire is invoked seldom. ops answers the client of AWS.
func TestIngestHasFireInvokedThroughTheAPI(t *testing.T) {
	name := servers.Name(t, "nudged")
	config := filepath.Join(t.TempDir(), "spec.yaml")
	text := fmt.Appendf(nil, nudgeSpec, name)
	if err := os.WriteFile(config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := spec.Load(text, "spec.yaml"); err != nil {
		t.Fatal(err)
	}
	client, err := kafkaio.Open(t.Context(), kafkaio.Options{Brokers: servers.Brokers(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	for topic, n := range map[string]int32{name: 1, name + "-out": 1, name + "-out-late": 1, "processor-dead-letter": 1, spec.LedgerTopic: 1, spec.PanesTopic: 1} {
		if err := client.CreateTopic(t.Context(), topic, n, -1, servers.TopicConfigs(topic)); err != nil && !strings.Contains(err.Error(), "exists") {
			t.Fatal(err)
		}
	}
	tmpl := read(t, map[string]string{"TopicA": name, "TopicB": "", "FireTick": "100ms", "FireTimeout": "15", "ConsumerGroupId": name})
	tmpl.Schedules = nil
	var mu sync.Mutex
	runs := map[string]int{}
	d, err := Open(t.Context(), Options{
		Template: tmpl, Root: root, Config: config, Brokers: servers.Brokers(t), Redis: []string{servers.Redis(t)}, Freeze: true, Logger: slog.New(slog.DiscardHandler),
		OnReport: func(r host.Report) {
			mu.Lock()
			defer mu.Unlock()
			runs[r.Function]++
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	go func() {
		if err := d.Run(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	from, seconds := event.Time(1_700_000_000_000), 30
	for s := range seconds {
		var batch []kafkaio.Message
		for i := range 10 {
			at := from.Add(event.Span(s*1000 + i*100))
			batch = append(batch, kafkaio.Message{Topic: name, Partition: 0, Value: fmt.Appendf(nil, `{"t":%d,"v":1}`, int64(at)), Timestamp: at})
		}
		if err := client.Produce(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
		<-time.After(100 * time.Millisecond) // the producer's own pace
	}
	closed := func() map[string]float64 {
		records, err := client.ReadAll(t.Context(), name+"-out")
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]float64{}
		for _, r := range records {
			var v struct {
				Window  struct{ Start string }
				Results struct{ Count float64 }
			}
			if err := json.Unmarshal(r.Value, &v); err != nil {
				t.Fatal(err)
			}
			out[v.Window.Start] = v.Results.Count
		}
		return out
	}
	for end := time.After(time.Minute); len(closed()) < seconds-1; {
		select {
		case <-end:
			t.Fatalf("%d windows are closed, want %d; invocations %v\n%s", len(closed()), seconds-1, runs, d.Function("Ingest").Log())
		case <-time.After(50 * time.Millisecond):
		}
	}
	for at, n := range closed() {
		if n != 10 {
			t.Errorf("window %s has %v records", at, n)
		}
	}
	mu.Lock()
	batches := runs["Ingest"]
	mu.Unlock()
	if cold := d.Function("Fire").ColdStarts(); cold < 1 || cold > 3 {
		t.Errorf("%d environments of fire", cold)
	}
	api := d.API()
	answer, err := lambda.New(lambda.Options{Region: "us-east-1", BaseEndpoint: &api, Credentials: credentials.NewStaticCredentialsProvider("a", "b", "")}).Invoke(
		t.Context(), &lambda.InvokeInput{FunctionName: aws.String("Ops"), Payload: []byte(`{"command":"explain"}`)})
	if err != nil || answer.FunctionError != nil || !strings.Contains(string(answer.Payload), `"pipeline":"p"`) {
		t.Errorf("ops: %v, %s", err, answer.Payload)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	mu.Lock()
	defer mu.Unlock()
	t.Logf("%d batches, %d invocations of fire", batches, runs["Fire"])
	if runs["Fire"] == 0 || runs["Fire"] > batches/2 {
		t.Errorf("fire was invoked %d times for %d batches", runs["Fire"], batches)
	}
}
