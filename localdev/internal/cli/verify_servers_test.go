//go:build servers

package cli_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/tests/seed"
	"github.com/llm-auto-optimizer/tidemark/tests/servers"
)

// The process that has both functions in it is killed again and again while it works on a real Kafka and a real Redis. What it
// published is what the source topics say; and what is published by somebody else is found.
func TestVerifyAfterTheFunctionsWereKilled(t *testing.T) {
	name := strings.ToLower(servers.Name(t, "v"))
	name = "verify-" + name[max(0, len(name)-16):]
	config := write(t, "spec.yaml", fmt.Sprintf(`
app: %[1]s
processor:
  watermark: {max_out_of_orderness_ms: 300, emit_interval_ms: 0, idle_timeout_secs: 3600}
  error_handling: {policy: dead_letter, dead_letter_topic: %[1]s-dead}
  kafka: {consumer: {group_id: trigger-%[1]s}}
pipelines:
  - name: p
    topics: [%[1]s]
    timestamp: {field: t, unit: ms}
    key: [k]
    values: {v: v}
    windows:
      - {name: second, type: tumbling, size: 1s, allowed_lateness: 200ms}
      - {name: sliding, type: sliding, size: 900ms, slide: 200ms, allowed_lateness: 0s}
      - {name: visits, type: session, gap: 150ms, allowed_lateness: 300ms}
    aggregates: {v: [count, sum, average, min, max, stddev, p50, p99]}
    sink: {topic: %[1]s-out}
`, name))
	brokers, redis := strings.Join(servers.Brokers(t), ","), servers.Redis(t)
	client, err := kafkaio.Open(t.Context(), kafkaio.Options{Brokers: servers.Brokers(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	args := []string{"run", "--config", config, "--brokers", brokers, "--redis", redis, "--create-topics", "--partitions", "3", "--listen", "off", "--tick", "20ms", "--json"}
	ok(t, append(args, "--for", "100ms")...)

	fed := make(chan error, 1)
	seed := seed.Of(t)
	go func() { fed <- feedVerify(t.Context(), client, name, rand.New(rand.NewPCG(seed, 0))) }()
	r := rand.New(rand.NewPCG(seed, 1))
	for kill := 0; ; kill++ {
		cmd := exec.CommandContext(t.Context(), binary, args...)
		var errs bytes.Buffer
		cmd.Stderr = &errs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-fed:
			if err != nil {
				t.Fatal(err)
			}
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // killed
			if kill < 3 {
				t.Fatalf("only %d kills before the records were written\n%s", kill, errs.String())
			}
			t.Logf("%d kills", kill+1)
			verifyKilled(t, client, name, args, config, brokers, redis)
			return
		case <-time.After(7*time.Second + time.Duration(r.IntN(2000))*time.Millisecond): // the group waits 6 s for the dead member
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // killed
		}
	}
}

// feedVerify writes records of the present, some late and some broken, for half a minute.
func feedVerify(ctx context.Context, client *kafkaio.Client, topic string, r *rand.Rand) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for until := time.Now().Add(30 * time.Second); time.Now().Before(until); <-tick.C {
		var messages []kafkaio.Message
		for range 20 {
			at := time.Now().UnixMilli() - r.Int64N(250)
			if r.IntN(30) == 0 {
				at -= r.Int64N(3000)
			}
			m := kafkaio.Message{Topic: topic, Partition: r.Int32N(3), Value: fmt.Appendf(nil, `{"t":%d,"k":"k%d","v":%v}`, at, r.IntN(5), r.NormFloat64())}
			if r.IntN(100) == 0 {
				m.Value = []byte(`{"t":"now"}`)
			}
			messages = append(messages, m)
		}
		if err := client.Produce(ctx, messages); err != nil {
			return err
		}
	}
	return nil
}

func verifyKilled(t *testing.T, client *kafkaio.Client, name string, args []string, config, brokers, redis string) {
	t.Helper()
	if a := execute(t, nil, append(args, "--until-idle")...); a.code != 0 {
		t.Fatalf("%s", a)
	}
	a := execute(t, nil, "verify", "--config", config, "--brokers", brokers, "--redis", redis)
	if a.code != 0 || !regexp.MustCompile(`results of p: as they should be; [1-9]\d\d+ windows of keys, [1-9]\d* late, [1-9]\d* dead letters`).MatchString(a.out) {
		t.Fatalf("%s", a)
	}
	t.Log(a.out)
	records := readAll(t, client, name+"-out")
	for _, r := range records {
		if strings.Contains(string(r.Value), `"name":"sliding"`) && !strings.Contains(string(r.Value), `"count":1,`) {
			r.Value = regexp.MustCompile(`"sum":[^,]*`).ReplaceAll(r.Value, []byte(`"sum":4711`))
			r.Value = regexp.MustCompile(`"revision":\d+`).ReplaceAll(r.Value, regexp.MustCompile(`"revision":\d+`).Find(records[len(records)-1].Value))
			if err := client.Produce(t.Context(), []kafkaio.Message{{Topic: name + "-out", Partition: r.Partition, Key: r.Key, Value: r.Value, Headers: r.Headers, Timestamp: r.Timestamp}}); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	if a := execute(t, nil, "verify", "--config", config, "--brokers", brokers, "--no-state"); a.code != 1 || !strings.Contains(a.out, "different  sliding [") || !strings.Contains(a.out, "sum: 4711, should be ") {
		t.Errorf("a forged result of a higher revision:\n%s", a)
	}
	if len(readAll(t, client, spec.LedgerTopic)) == 0 {
		t.Error("no ledger")
	}
}
