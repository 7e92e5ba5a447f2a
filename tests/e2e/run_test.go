//go:build servers

package e2e

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/tests/oracle"
	"github.com/llm-auto-optimizer/tidemark/tests/servers"
)

// tidemark runs the command line to its end and returns what it printed.
func tidemark(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, build(t, "./localdev", "tidemark"), args...)
	cmd.Stdout, cmd.Stderr, cmd.Env = &out, &out, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
	if err := cmd.Run(); err != nil {
		t.Fatalf("tidemark %s: %v\n%s", strings.Join(args, " "), err, out.Bytes())
	}
	return out.String()
}

// The main job, as a user would start it: disordered input on four partitions, with late records, through real Kafka and real
// Redis. What comes out is held against a plain batch computation, which takes from the ledger under which watermark each
// record was judged.
func TestRunUntilIdleEqualsABatchComputation(t *testing.T) {
	kinds := map[string]string{
		"tumbling": `[{name: w, type: tumbling, size: 2s, allowed_lateness: 0s}]`,
		"lateness": `[{name: w, type: tumbling, size: 2s, offset: 300ms, allowed_lateness: 1s}]`,
		"sliding":  `[{name: w, type: sliding, size: 5s, slide: 2s, allowed_lateness: 500ms}]`,
		"session":  `[{name: w, type: session, gap: 60ms, allowed_lateness: 0s}]`,
		"all":      `[` + strings.TrimPrefix(strings.Join(strings.Split(allKinds, "\n      - "), ", "), ", ") + `]`,
	}
	stores := map[string]func(testing.TB) string{"redis": servers.Redis, "cluster": servers.RedisCluster}
	for _, run := range []struct{ kind, store string }{
		{"tumbling", "redis"}, {"lateness", "cluster"}, {"sliding", "redis"}, {"session", "redis"}, {"all", "cluster"}, {"all", "redis"},
	} {
		t.Run(run.kind+"/"+run.store, func(t *testing.T) {
			c := newCluster(t, kinds[run.kind], 300*time.Millisecond)
			args := []string{
				"run", "--config", c.config, "--brokers", strings.Join(servers.Brokers(t), ","), "--redis", stores[run.store](t),
				"--until-idle", "--listen", "off", "--tick", "10ms",
			}
			from := event.Time(1_700_000_000_000)
			c.produce(1500, from, 10, 250, 40, 5_000)
			tidemark(t, args...)
			first := len(c.ledger())
			// Everything is closed up to here, so a good part of what comes now is late.
			c.produce(1500, from.Add(10_000), 10, 250, 40, 5_000)
			out := tidemark(t, args...)
			plans := c.ledger()
			panes, late := c.check(func(e oracle.Event) event.Time { return oracle.Fence(plans, e.TopicPartition, e.Offset) })
			t.Logf("%d records, %d panes, %d late, %d plans of the first run and %d in all", len(c.sent), panes, late, first, len(plans))
			if panes == 0 || late == 0 {
				t.Errorf("%d panes and %d late records say nothing:\n%s", panes, late, out)
			}
			if last := plans[len(plans)-1]; open(last) != 0 {
				t.Errorf("something is still open after --until-idle: %+v\n%s", last, out)
			}
		})
	}
}

func open(p oracle.Plan) (n int64) {
	for _, q := range p.Partitions {
		n += q.Open
	}
	return n
}

// The user's own file runs as it is: on embedded servers, and on real ones but for the addresses.
func TestTheUsersFileRunsUnchanged(t *testing.T) {
	file, err := filepath.Abs(filepath.Join("..", "testdata", "processor-config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if out := tidemark(t, "validate", "--config", file); !strings.Contains(out, "aggregated-metrics") {
		t.Errorf("validate says nothing of the result topic:\n%s", out)
	}
	out := tidemark(t, "run", "--config", file, "--brokers", strings.Join(servers.Brokers(t), ","), "--redis", servers.Redis(t),
		"--create-topics", "--rate", "200", "--for", "5s", "--listen", "off", "--state-dir", t.TempDir()) // its own path is of a server's disk
	t.Logf("%s", out)
}
