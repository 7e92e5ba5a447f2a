//go:build servers

package e2e

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/core/window"
	"github.com/llm-auto-optimizer/tidemark/localdev/host"
	"github.com/llm-auto-optimizer/tidemark/tests/oracle"
	"github.com/llm-auto-optimizer/tidemark/tests/rig"
	"github.com/llm-auto-optimizer/tidemark/tests/servers"
)

const otherKinds = `
      - {name: tumbling, type: tumbling, size: 1700ms, allowed_lateness: 0s}
      - {name: sliding, type: sliding, size: 3s, slide: 700ms, allowed_lateness: 200ms}
      - {name: session, type: session, gap: 60ms, allowed_lateness: 0s}`

// rewrite makes another spec of the cluster's, in a file of its own.
func (c *cluster) rewrite(name string, oldNew ...string) {
	c.t.Helper()
	text, err := os.ReadFile(c.config)
	if err != nil {
		c.t.Fatal(err)
	}
	yaml := strings.NewReplacer(oldNew...).Replace(string(text))
	if c.app, err = spec.Load([]byte(yaml), name); err != nil {
		c.t.Fatal(err)
	}
	c.config = filepath.Join(filepath.Dir(c.config), name)
	if err := os.WriteFile(c.config, []byte(yaml), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// succeed deploys functions of the cluster's spec beside those of d, whose trigger they go on with. What stays of d goes on too,
// without anybody looking at its answers, until stop.
func (d *deployment) succeed(ctx context.Context, redis string) (n *deployment, stop func()) {
	n = deploy(d.t, d.cluster, redis) //nolint:contextcheck // the functions live as long as the test
	n.position, n.kills = d.position, d.kills
	payload, _ := d.batch(ctx, 100)
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for f, p := range map[*host.Function][]byte{d.fire: []byte(`{}`), d.ingest: payload} {
		wg.Go(func() {
			for ctx.Err() == nil {
				_, _ = f.Invoke(ctx, p)
			}
		})
	}
	return n, func() {
		cancel()
		wg.Wait()
		d.fire.Close()
		d.ingest.Close()
	}
}

// reignOnServers is from where to where one spec made the plans.
type reignOnServers struct {
	defs         []window.Definition
	first, last  int64
	since, until event.Time
}

// Real functions of a changed spec take over from those of the old one, which go on beside them, and from which they are taken
// back later; all of them killed at random. Each window goes out by the spec in whose reign it ends, once, whole.
func TestChangedFunctionsTakeOver(t *testing.T) {
	c := newCluster(t, allKinds, 500*time.Millisecond)
	c.rewrite("first.yaml", "idle_timeout_secs: 3600", "idle_timeout_secs: 3600, max_future_skew: 1s")
	c.stamp = func(at event.Time) event.Time { return at } // so that the log knows where a window began
	first, redis := c.config, servers.Redis(t)
	specs := map[string][]window.Definition{c.pipeline().Fingerprint(): c.pipeline().Windows}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()

	d := deploy(t, c, redis)
	d.runFire(ctx, 0)
	from := event.FromGo(time.Now().Add(-time.Hour))
	const rounds, perRound = 4, 400
	played := 0
	play := func(d *deployment) {
		t.Helper()
		for range rounds {
			d.produce(perRound, from.Add(event.Span(played*perRound*5)), 5, 400, 0, 0) //nolint:contextcheck // it has the test's own
			played++
			d.deliver(ctx, 60, time.Duration(500+c.rand.IntN(12_000))*time.Microsecond)
			d.runFire(ctx, time.Duration(10+c.rand.IntN(400))*time.Millisecond)
			d.deliver(ctx, 500, 0)
		}
		d.runFire(ctx, 0)
	}
	play(d)

	c.rewrite("second.yaml", allKinds, otherKinds)
	specs[c.pipeline().Fingerprint()] = c.pipeline().Windows
	n, stop := d.succeed(ctx, redis)
	d = n
	play(d)
	stop()

	// The first spec again: what was made for it halts until it is told to take over.
	c.config = first
	c.rewrite("third.yaml")
	n, stop = d.succeed(ctx, redis)
	d = n
	if _, err := d.fire.Invoke(ctx, []byte(`{"source":"aws.scheduler"}`)); err == nil || !strings.Contains(err.Error(), "takeover") {
		t.Errorf("the first spec, deployed again: %v", err)
	}
	for try := 1; ; try++ { // the functions that are to be taken over from are at work, and may be faster
		_, err := d.fire.Invoke(ctx, []byte(`{"takeover": true}`))
		if err == nil {
			break
		}
		if !strings.Contains(err.Error(), "has not taken over yet") || try == 10 {
			t.Fatalf("try %d: %v", try, err)
		}
	}
	play(d)
	stop()
	d.finish(from.Add(event.Span(played*perRound*5 + 60_000)))
	d.deliver(ctx, 500, 0)
	for d.closed() < from.Add(event.Span(played*perRound*5+50_000)) {
		d.runFire(ctx, 0)
	}
	checkReigns(t, d, specs)
}

func checkReigns(t *testing.T, d *deployment, specs map[string][]window.Definition) {
	t.Helper()
	var reigns []*reignOnServers
	live := map[string]*reignOnServers{}
	replayed, plans := int64(-1), 0
	for _, p := range d.ledger() {
		switch {
		case p.EndedBy != "":
			g := live[p.Fingerprint]
			if g == nil {
				t.Fatalf("an end that cannot be: %+v", p)
			}
			g.last, g.until = p.Plan, p.W()
			delete(live, p.Fingerprint)
		case p.TakesOver != "" || len(reigns) == 0:
			g := &reignOnServers{defs: specs[p.Fingerprint], first: p.Plan, last: -1, since: p.W(), until: event.MaxTime}
			live[p.Fingerprint], reigns = g, append(reigns, g)
			for _, q := range p.Partitions {
				replayed = max(replayed, q.ReplayFrom)
			}
		default:
			plans++
		}
	}
	if u := oracle.Unbalanced(d.ledger()); u != "" {
		t.Error(u)
	}
	if len(reigns) != 3 || replayed <= 0 {
		t.Fatalf("%d reigns, want 3; they replay from offset %d at the most, want more than 0", len(reigns), replayed)
	}
	all, err := rig.ParseResults(d.read(d.pipeline().SinkTopic))
	if err != nil {
		t.Fatal(err)
	}
	events := slices.DeleteFunc(slices.Clone(d.sent), func(e oracle.Event) bool { return e.Key == "end" })
	panes := 0
	for i, g := range reigns {
		want, _ := oracle.Compute(g.defs, events, never)
		want = slices.DeleteFunc(want, func(p oracle.Pane) bool { return p.End <= g.since || p.End > g.until })
		got := slices.DeleteFunc(slices.Clone(all), func(r rig.Result) bool {
			return r.Key == "end" || r.Pane.Revision <= g.first || g.last >= 0 && r.Pane.Revision > g.last
		})
		if problems := oracle.Problems(want, got, false); len(problems) > 0 {
			t.Errorf("reign %d, plans from %d to %d: %d differences, the first ones:\n%s", i, g.first, g.last, len(problems), strings.Join(problems[:min(5, len(problems))], "\n"))
		}
		if len(want) == 0 {
			t.Errorf("reign %d has no pane", i)
		}
		panes += len(want)
	}
	if n := len(d.read(d.pipeline().LateTopic)); n > 0 {
		t.Errorf("%d records are late, want none", n)
	}
	t.Logf("%d records, %d panes, %d plans, kills %v, replay from offset %d at the most", len(d.sent), panes, plans, d.kills, replayed)
	if d.kills["ingest"]+d.kills["fire"] < 4 {
		t.Errorf("only %v kills fell into an invocation", d.kills)
	}
}
