//go:build containers

package containers_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/llm-auto-optimizer/tidemark/localdev/host"
	"github.com/llm-auto-optimizer/tidemark/tests/rig"
)

const runtimeQuery = `app: runtime
processor:
  watermark: {max_out_of_orderness: 1s, idle_timeout: 5s}
pipelines:
  - name: p
    topics: [runtime-in]
    timestamp: {field: t, unit: ms}
    values: {v: v}
    windows: [{name: w, type: tumbling, size: 1s, allowed_lateness: 1s}]
    aggregates: {v: [count]}
    sink: {topic: runtime-out}
`

// environments are the containers that tidemark has started, by name.
func environments(t *testing.T) []string {
	t.Helper()
	out, err := exec.CommandContext(context.WithoutCancel(t.Context()), "docker", "ps", "--all", "--filter", "name=^tidemark-(Ingest|Fire|Ops)-", "--format", "{{.Names}}").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(out))
}

func awaitWithin(t *testing.T, d time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.After(d); !ok(); {
		select {
		case <-end:
			t.Fatal("not seen:", what)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// The template's functions in containers that tidemark starts: results come, also after containers were killed, and none is left
// when it ends, whatever ends it.
func TestTheTemplateRunsInContainers(t *testing.T) {
	s := newStage(t)
	ip, err := s.redis.ContainerIP(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config, binary, root := filepath.Join(dir, "spec.yaml"), filepath.Join(dir, "tidemark"), filepath.Join("..", "..")
	if err := os.WriteFile(config, []byte(runtimeQuery), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := host.Build(t.Context(), root, "./localdev", binary); err != nil {
		t.Fatal(err)
	}
	for name, signal := range map[string]syscall.Signal{"Ctrl-C": syscall.SIGINT, "SIGKILL": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), binary, "run", "--runtime", "container", "--template", filepath.Join(root, "template.yaml"), "--parameter", "AppName=runtime",
				"--parameter", "TopicA=runtime-in", "--parameter", "TopicB=", "--config", config, "--brokers", s.brokers, "--redis", "redis://"+ip+":6379", "--create-topics",
				"--rate", "100", "--keys", "100", "--listen", "off", "--json")
			var log bytes.Buffer
			cmd.Stderr = &log
			cmd.WaitDelay = 5 * time.Second
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := false
			t.Cleanup(func() {
				if !ended {
					_ = cmd.Process.Kill()
					_ = cmd.Wait()
					t.Log(log.String())
				}
			})
			var newest atomic.Int64 // end of a window that has a result, in Unix milliseconds
			go func() {
				lines := bufio.NewScanner(stdout)
				for lines.Buffer(nil, 1<<20); lines.Scan(); {
					var line struct {
						Type   string
						Result rig.Result
					}
					if json.Unmarshal(lines.Bytes(), &line) == nil && line.Type == "result" {
						newest.Store(max(newest.Load(), int64(line.Result.Window.EndMS)))
					}
				}
			}()
			awaitWithin(t, 5*time.Minute, "a result", func() bool { return newest.Load() > 0 })
			for _, name := range environments(t) {
				_ = exec.CommandContext(t.Context(), "docker", "kill", name).Run() // it may be at its end
			}
			killed := time.Now().UnixMilli() // windows that end later cannot have gone out before
			awaitWithin(t, 5*time.Minute, "a result after containers were killed", func() bool { return newest.Load() > killed })
			if len(environments(t)) == 0 {
				t.Error("no containers run")
			}
			if err := cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			ended = true
			if err := cmd.Wait(); err != nil && signal == syscall.SIGINT {
				t.Errorf("%v\n%s", err, log.String())
			}
			awaitWithin(t, 3*time.Minute, "the end of all containers", func() bool { return len(environments(t)) == 0 })
		})
	}
}
