//go:build servers

package e2e

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/localdev/host"
	"github.com/llm-auto-optimizer/tidemark/tests/servers"
)

// lambdaAPI takes asynchronous invocations as Lambda's API does, and has a function run them one after the other. Where none
// comes for a while, a schedule does.
type lambdaAPI struct {
	t        *testing.T
	fire     *host.Function
	events   chan []byte
	ran      chan error   // of each invocation
	asked    atomic.Int32 // invocations by ingest
	geneses  atomic.Int32 // of them, those with the first offsets of partitions
	schedule time.Duration
}

func (l *lambdaAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	ok := err == nil && r.Method == http.MethodPost && r.URL.Path == "/2015-03-31/functions/fire/invocations" &&
		r.Header.Get("X-Amz-Invocation-Type") == "Event" && strings.Contains(r.Header.Get("Authorization"), "/us-east-1/lambda/aws4_request")
	if !ok {
		l.t.Errorf("not an asynchronous invocation of fire: %s %s %v, %v", r.Method, r.URL, r.Header, err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	l.events <- body
	w.WriteHeader(http.StatusAccepted)
}

// run invokes the function until ctx ends.
func (l *lambdaAPI) run(ctx context.Context) {
	for {
		payload := []byte(`{"source":"aws.scheduler"}`)
		timer := time.NewTimer(l.schedule)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case payload = <-l.events:
			l.asked.Add(1)
			var n apply.Nudge
			if json.Unmarshal(payload, &n) == nil && len(n.Genesis) > 0 {
				l.geneses.Add(1)
			}
		case <-timer.C:
		}
		timer.Stop()
		_, err := l.fire.Invoke(ctx, payload)
		select {
		case l.ran <- err:
		case <-ctx.Done():
			return
		}
	}
}

// mostRounds bounds how often records come until some find nobody at work.
const mostRounds = 12

// Ingest alone has fire invoked, through Lambda's API: for the genesis, and when windows may be closed; not once for each batch.
func TestIngestHasFireInvokedAndSeldom(t *testing.T) {
	c := newCluster(t, allKinds, 500*time.Millisecond)
	l := &lambdaAPI{t: t, events: make(chan []byte, 1000), ran: make(chan error, 1000), schedule: 5 * time.Second}
	api := httptest.NewServer(l)
	defer api.Close()
	env := []string{
		"TIDEMARK_CONFIG=" + c.config, "TIDEMARK_BROKERS=" + strings.Join(servers.Brokers(t), ","), "TIDEMARK_REDIS=" + servers.Redis(t), "TIDEMARK_FIRE_TICK=50ms",
		"TIDEMARK_FIRE_FUNCTION=fire", "AWS_ENDPOINT_URL_LAMBDA=" + api.URL, "AWS_REGION=us-east-1", "AWS_ACCESS_KEY_ID=id", "AWS_SECRET_ACCESS_KEY=key",
	}
	d := &deployment{cluster: c, ingest: newFunction(t, "ingest", 30*time.Second, env...), kills: map[string]int{}}
	l.fire = newFunction(t, "fire", 4*time.Second, env...)
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	go l.run(ctx)

	from := event.Time(1_700_000_000_000)
	batches := 0
	deliver := func() {
		t.Helper()
		for {
			payload, next := d.batch(ctx, 40)
			if next == d.position {
				return
			}
			batches++
			answer, err := d.ingest.Invoke(ctx, payload)
			if err != nil {
				t.Fatalf("%v\n%s", err, d.ingest.Log())
			}
			if string(answer) == `{"batchItemFailures":[]}` {
				d.position = next
				continue
			}
			// Without a genesis everything is answered as failed, and asked for.
			select {
			case err := <-l.ran:
				if err != nil {
					t.Fatal(err)
				}
			case <-ctx.Done():
				t.Fatalf("nobody invoked fire\n%s", d.ingest.Log())
			case <-time.After(200 * time.Millisecond): // Lambda, too, tries again after a while
			}
		}
	}
	// Again and again, until records have come while the firer's time was up: nobody is at work then, and ingest has to invoke.
	for round := event.Span(0); round < 2 || l.asked.Load() <= l.geneses.Load() && round < mostRounds; round++ {
		at := from.Add(round * 100_000)
		d.produce(1000, at, 5, 400, 0, 0)
		deliver()
		d.finish(at.Add(1000*5 + 60_000))
		deliver()
		for len(d.ledger()) == 0 || d.closed() < at.Add(1000*5+50_000) {
			select {
			case err := <-l.ran:
				if err != nil {
					t.Fatal(err)
				}
			case <-ctx.Done():
				t.Fatalf("the windows were not closed\n%s", l.fire.Log())
			}
		}
	}
	cancel()
	panes, _ := d.check(never, "end")
	t.Logf("%d batches, %d panes; fire was asked %d times, %d of them for the genesis", batches, panes, l.asked.Load(), l.geneses.Load())
	if l.geneses.Load() == 0 {
		t.Error("nobody asked for the genesis")
	}
	if l.asked.Load() <= l.geneses.Load() {
		t.Error("nobody asked for windows to be closed")
	}
	if n := int(l.asked.Load()); n > batches/2 {
		t.Errorf("fire was invoked %d times for %d batches", n, batches)
	}
}
