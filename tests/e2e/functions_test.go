//go:build servers

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/functions/esm"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/localdev/host"
	"github.com/llm-auto-optimizer/tidemark/tests/oracle"
	"github.com/llm-auto-optimizer/tidemark/tests/servers"
)

const allKinds = `
      - {name: tumbling, type: tumbling, size: 1s, allowed_lateness: 0s}
      - {name: sliding, type: sliding, size: 2500ms, slide: 1s, allowed_lateness: 0s}
      - {name: session, type: session, gap: 40ms, allowed_lateness: 0s}`

// deployment is the two real functions over a cluster, and the trigger between them: positions that move once a batch has been
// answered.
type deployment struct {
	*cluster
	ingest, fire *host.Function
	position     [partitions]int64
	kills        map[string]int
}

func deploy(t *testing.T, c *cluster, redis string) *deployment {
	t.Helper()
	env := []string{
		"TIDEMARK_CONFIG=" + c.config, "TIDEMARK_BROKERS=" + strings.Join(servers.Brokers(t), ","), "TIDEMARK_REDIS=" + redis, "TIDEMARK_FIRE_TICK=50ms",
	}
	return &deployment{cluster: c, ingest: newFunction(t, "ingest", 30*time.Second, env...), fire: newFunction(t, "fire", 4*time.Second, env...), kills: map[string]int{}}
}

// batch is up to n records of every partition from the positions on, as Lambda would deliver them.
func (d *deployment) batch(ctx context.Context, n int64) ([]byte, [partitions]int64) {
	d.t.Helper()
	next := d.position
	ev := esm.Event{Source: esm.SourceMSK, SourceARN: "arn:aws:kafka:us-east-1:123456789012:cluster/test/0", BootstrapServers: "localhost:9092"}
	for p := range int32(partitions) {
		to := min(d.position[p]+n, d.ends[p])
		if to == d.position[p] {
			continue
		}
		tp := event.TopicPartition{Topic: d.pipeline().Topics[0], Partition: p}
		b := esm.Batch{TopicPartition: tp}
		err := d.client.Read(ctx, tp, d.position[p], to, func(records []event.Record, _ int64) error {
			for _, r := range records {
				b.Records = append(b.Records, kafkaio.CloneRecord(r))
			}
			return nil
		})
		if err != nil {
			d.t.Fatal(err)
		}
		ev.Batches = append(ev.Batches, b)
		next[p] = to
	}
	return esm.AppendEvent(nil, ev), next
}

// invoke runs one invocation, and kills the function after a while if killAfter > 0 and it has not ended.
func invoke(ctx context.Context, f *host.Function, payload []byte, killAfter time.Duration) ([]byte, error) {
	if killAfter > 0 {
		timer := time.AfterFunc(killAfter, func() { f.Kill() })
		defer timer.Stop()
	}
	return f.Invoke(ctx, payload)
}

// deliver invokes ingest with the next batch until it is answered without a failure. The first try may be killed.
func (d *deployment) deliver(ctx context.Context, n int64, killAfter time.Duration) {
	d.t.Helper()
	payload, next := d.batch(ctx, n)
	for try := 0; ; try++ {
		answer, err := invoke(ctx, d.ingest, payload, killAfter)
		if errors.Is(err, host.ErrKilled) && killAfter > 0 {
			d.kills["ingest"]++
			killAfter = 0
			continue
		}
		if err != nil {
			d.t.Fatal(err)
		}
		var got struct {
			BatchItemFailures []json.RawMessage `json:"batchItemFailures"`
		}
		if err := json.Unmarshal(answer, &got); err != nil {
			d.t.Fatalf("answer %q: %v", answer, err)
		}
		if len(got.BatchItemFailures) == 0 {
			d.position = next
			return
		}
		d.t.Logf("try %d of a batch was answered with %d failures:\n%s", try, len(got.BatchItemFailures), tail(d.ingest.Log(), 1500))
		if try > 20 {
			d.t.Fatalf("still failing: %s\n%s", answer, d.ingest.Log())
		}
		killAfter = 0
		d.runFire(ctx, 0) // the genesis, above all
	}
}

func (d *deployment) runFire(ctx context.Context, killAfter time.Duration) {
	d.t.Helper()
	began := time.Now()
	defer func() {
		if took := time.Since(began); took > 10*time.Second {
			d.t.Logf("an invocation of fire took %s:\n%s", took, tail(d.fire.Log(), 3000))
		}
	}()
	_, err := invoke(ctx, d.fire, []byte(`{"source":"aws.scheduler"}`), killAfter)
	switch {
	case errors.Is(err, host.ErrKilled) && killAfter > 0:
		d.kills["fire"]++
	case err != nil:
		d.t.Fatalf("%v\n%s", err, d.fire.Log())
	}
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

func never(oracle.Event) event.Time { return event.MinTime }

// Real functions behind the real Runtime API client, real Kafka, real Redis, and SIGKILL at moments spread over all that they
// do. The input is out of order by less than the bound, so that no record is late and the results are known beforehand.
func TestKilledFunctionsLoseAndDoubleNothing(t *testing.T) {
	for _, store := range []struct {
		name string
		url  func(testing.TB) string
	}{{"redis", servers.Redis}, {"cluster", servers.RedisCluster}} {
		t.Run(store.name, func(t *testing.T) {
			c := newCluster(t, allKinds, 500*time.Millisecond)
			d := deploy(t, c, store.url(t))
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
			defer cancel()
			d.runFire(ctx, 0)
			from := event.Time(1_700_000_000_000)
			const rounds, perRound = 12, 400
			for r := range rounds {
				d.produce(perRound, from.Add(event.Span(r*perRound*5)), 5, 400, 0, 0)
				d.deliver(ctx, 60, time.Duration(500+c.rand.IntN(12_000))*time.Microsecond)
				d.runFire(ctx, time.Duration(10+c.rand.IntN(400))*time.Millisecond)
				d.deliver(ctx, 500, 0)
			}
			d.finish(from.Add(rounds*perRound*5 + 60_000))
			d.deliver(ctx, 500, 0)
			d.runFire(ctx, 0) // first of all it ends the transaction that a killed one may have left open
			for len(d.ledger()) == 0 || d.closed() < from.Add(rounds*perRound*5+50_000) {
				d.runFire(ctx, 0)
			}
			panes, _ := d.check(never, "end")
			t.Logf("%d records, %d panes, %d plans, kills %v", len(d.sent), panes, len(d.ledger()), d.kills)
			if d.kills["ingest"]+d.kills["fire"] < rounds/2 {
				t.Errorf("only %v kills fell into an invocation", d.kills)
			}
			if n := len(d.read(d.pipeline().SinkTopic)); n < panes {
				t.Errorf("%d results, want at least %d", n, panes)
			}
		})
	}
}

// closed is the largest watermark of the ledger.
func (d *deployment) closed() event.Time {
	w := event.MinTime
	for _, p := range d.ledger() {
		if p.Watermark != nil {
			w = max(w, event.Time(*p.Watermark))
		}
	}
	return w
}

// A batch that is cut short by the trigger, one that is delivered twice, and one that never comes: nothing changes.
func TestDroppedAndRepeatedBatchesChangeNothing(t *testing.T) {
	c := newCluster(t, allKinds, 500*time.Millisecond)
	d := deploy(t, c, servers.Redis(t))
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	d.runFire(ctx, 0)
	from := event.Time(1_700_000_000_000)
	for r := range 6 {
		d.produce(300, from.Add(event.Span(r*1500)), 5, 400, 0, 0)
		switch r % 3 {
		case 0: // dropped: the position moves, nobody folded
			d.position = d.ends
		case 1: // repeated
			before := d.position
			d.deliver(ctx, 500, 0)
			d.position = before
			d.deliver(ctx, 500, 0)
		default:
			d.deliver(ctx, 500, 0)
		}
		d.runFire(ctx, 0)
	}
	d.finish(from.Add(6*1500 + 60_000))
	d.deliver(ctx, 500, 0)
	for d.runFire(ctx, 0); d.closed() < from.Add(6*1500+50_000); {
		d.runFire(ctx, 0)
	}
	panes, _ := d.check(never, "end")
	if panes == 0 {
		t.Error("no pane")
	}
	t.Log(fmt.Sprint(len(d.sent), " records, ", panes, " panes"))
}
