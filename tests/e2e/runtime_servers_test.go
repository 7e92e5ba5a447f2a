//go:build servers && linux

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/tests/output"
	"github.com/llm-auto-optimizer/tidemark/tests/seed"
	"github.com/llm-auto-optimizer/tidemark/tests/servers"
)

// runtimeSpec needs no record to be late: the bound is wider than the disorder, and no partition becomes idle.
const runtimeSpec = `app: %[1]s
processor:
  watermark: {max_out_of_orderness: 2s, idle_timeout: 1h}
  error_handling: {dead_letter_topic: %[2]s-dead}
pipelines:
  - name: p
    topics: [%[2]s]
    timestamp: {field: t, unit: ms}
    key: [k]
    values: {v: v}
    windows:
      - {name: tumbling, type: tumbling, size: 5s, allowed_lateness: 1s}
      - {name: sliding, type: sliding, size: 10s, slide: 3s, allowed_lateness: 0s}
      - {name: session, type: session, gap: 300ms, allowed_lateness: 0s}
    aggregates: {v: [count, sum, average, min, max, stddev, p50, p99]}
    sink: {topic: %[2]s-out}
    late: {topic: %[2]s-late}
`

// templateArguments is how the repository's own template is deployed for a spec of one topic.
func templateArguments(name string) []string {
	return []string{
		"--template", filepath.Join("..", "..", "template.yaml"), "--parameter", "AppName=" + name, "--parameter", "TopicA=" + name, "--parameter", "TopicB=",
		"--parameter", "IngestTimeout=20", "--parameter", "FireTick=200ms", "--parameter", "BatchSize=200",
	}
}

// job is a run of tidemark on the servers.
type job struct {
	name, config string
	client       *kafkaio.Client
}

func newJob(t *testing.T, kind string) *job {
	t.Helper()
	j := &job{name: strings.ToLower(servers.Name(t, "runtime-"+kind))}
	if len(j.name) > 60 {
		j.name = j.name[len(j.name)-60:]
	}
	j.name = "r" + strings.Trim(strings.ReplaceAll(j.name, ".", "-"), "-_")
	j.config = filepath.Join(t.TempDir(), "spec.yaml")
	if err := os.WriteFile(j.config, fmt.Appendf(nil, runtimeSpec, j.name, j.name), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if j.client, err = kafkaio.Open(t.Context(), kafkaio.Options{Brokers: servers.Brokers(t)}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(j.client.Close)
	return j
}

// command is tidemark run with these arguments, its output in a buffer.
func (j *job) command(t *testing.T, args ...string) (*exec.Cmd, *output.Buffer) {
	t.Helper()
	args = slices.Concat([]string{
		"run", "--config", j.config, "--brokers", strings.Join(servers.Brokers(t), ","), "--redis", servers.Redis(t), "--create-topics", "--listen", "off",
	}, args)
	cmd := exec.CommandContext(t.Context(), build(t, "./localdev", "tidemark"), args...)
	out := &output.Buffer{}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = 5 * time.Second
	return cmd, out
}

// outcome is what was published, as contracts compare it: the newest pane of each window and key, and the records put aside.
type outcome struct {
	results map[string]map[string]float64
	aside   map[string]string
}

func (j *job) outcome(t *testing.T) outcome {
	t.Helper()
	o := outcome{results: map[string]map[string]float64{}, aside: map[string]string{}}
	revisions := map[string]int64{}
	records, err := j.client.ReadAll(t.Context(), j.name+"-out")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		var v struct {
			Window  struct{ Name, Start, End string }
			Key     string
			Pane    struct{ Revision int64 }
			Results map[string]float64
		}
		if err := json.Unmarshal(r.Value, &v); err != nil {
			t.Fatalf("%s: %v", r.Value, err)
		}
		id := strings.Join([]string{v.Window.Name, v.Window.Start, v.Window.End, v.Key}, "|")
		if v.Pane.Revision > revisions[id] {
			revisions[id], o.results[id] = v.Pane.Revision, v.Results
		}
	}
	for _, topic := range []string{"-dead", "-late"} {
		records, err := j.client.ReadAll(t.Context(), j.name+topic)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			h := map[string]string{}
			for _, one := range r.Headers {
				h[one.Key] = string(one.Value)
			}
			id := h["tidemark-partition"] + "/" + h["tidemark-offset"]
			if _, ok := o.aside[id]; ok {
				t.Errorf("%s: %s is there twice", j.name+topic, id)
			}
			o.aside[id] = h["tidemark-reason"]
		}
	}
	return o
}

// differences from another outcome: floats may differ in their last digits.
func (o outcome) differences(other outcome) (out []string) {
	for id, want := range o.results {
		got, ok := other.results[id]
		if !ok {
			out = append(out, id+" is missing")
		}
		for name, w := range want {
			if g := got[name]; math.Abs(g-w) > 1e-9*max(1, math.Abs(w)) || (name == "count" || name == "min" || name == "max") && g != w {
				out = append(out, fmt.Sprintf("%s: %s is %v, want %v", id, name, g, w))
			}
		}
	}
	for id := range other.results {
		if _, ok := o.results[id]; !ok {
			out = append(out, id+" is too much")
		}
	}
	if want, got := fmt.Sprint(o.aside), fmt.Sprint(other.aside); want != got { // maps are printed in order
		out = append(out, "put aside "+got+", want "+want)
	}
	return out
}

// disorderedInput are records of a minute, in four partitions, each up to 1 s out of order, some broken.
func disorderedInput(t *testing.T, seed uint64, n int) string {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 0))
	var text strings.Builder
	start := time.Now().Add(-2 * time.Minute).UnixMilli()
	for i := range n {
		at := start + int64(i)*60_000/int64(n) - int64(r.IntN(1000))
		value := fmt.Sprintf(`{"t":%d,"k":"k%d","v":%d.5}`, at, r.IntN(80), r.IntN(1000)) // few enough of a key for exact percentiles
		if r.IntN(100) == 0 {
			value = `"broken"`
		}
		fmt.Fprintf(&text, `{"partition":%d,"timestamp":%d,"value":%s}`+"\n", r.IntN(4), at, value)
	}
	path := filepath.Join(t.TempDir(), "in.jsonl")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// children are the processes that a process has started, and theirs are not looked for.
func children(t *testing.T, parent int) map[int]string {
	t.Helper()
	out := map[int]string{}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		data, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue // it has gone
		}
		_, rest, _ := strings.Cut(string(data), ") ")
		fields := strings.Fields(rest)
		if len(fields) > 2 && fields[1] == strconv.Itoa(parent) && fields[0] != "Z" {
			name, _ := os.Readlink("/proc/" + e.Name() + "/exe")
			out[pid] = filepath.Base(name)
		}
	}
	return out
}

func isAlive(pid int) bool { return syscall.Kill(pid, 0) == nil }

// within is how long something may take that comes by itself, on a machine that does other things too.
const within = 5 * time.Minute

// awaitThat returns once ok does.
func awaitThat(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.After(within); !ok(); {
		select {
		case <-end:
			t.Fatal("not seen:", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// killer kills bootstraps of a process with SIGKILL, one after the other, until ctx ends, and says how many.
func killer(ctx context.Context, t *testing.T, seed uint64, parent int) (killed int) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	for {
		select {
		case <-ctx.Done():
			return killed
		case <-time.After(time.Duration(100+r.IntN(200)) * time.Millisecond):
		}
		for pid, name := range children(t, parent) {
			if name == "bootstrap" && syscall.Kill(pid, syscall.SIGKILL) == nil {
				killed++
				break // of the map, which has no order
			}
		}
	}
}

// The repository's own template, its bootstraps as processes, yields what the handlers in one process do; also while environments
// are killed. Nothing is left behind.
func TestTheTemplateRunsHereUnchanged(t *testing.T) {
	seed := seed.Of(t)
	input := disorderedInput(t, seed, 40_000)
	one := newJob(t, "one")
	cmd, out := one.command(t, "--input", input, "--until-idle", "--for", "10m", "--tick", "200ms")
	if err := cmd.Run(); err != nil {
		t.Fatalf("in one process: %v\n%s", err, out)
	}
	want := one.outcome(t)
	if len(want.results) < 100 || len(want.aside) == 0 {
		t.Fatalf("%d results, %d put aside", len(want.results), len(want.aside))
	}
	for _, kill := range []bool{false, true} {
		t.Run(fmt.Sprintf("killed=%t", kill), func(t *testing.T) {
			j := newJob(t, fmt.Sprintf("kill-%t", kill))
			cmd, out := j.command(t, append(templateArguments(j.name), "--runtime", "process", "--input", input, "--until-idle", "--for", "10m")...)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			seen := map[int]bool{}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var watch sync.WaitGroup
			killed := 0
			if kill {
				watch.Go(func() { killed = killer(ctx, t, seed, cmd.Process.Pid) })
			}
			watch.Go(func() {
				for ctx.Err() == nil {
					for pid, name := range children(t, cmd.Process.Pid) {
						if name == "bootstrap" {
							seen[pid] = true
						}
					}
					select {
					case <-ctx.Done():
					case <-time.After(50 * time.Millisecond):
					}
				}
			})
			err := cmd.Wait()
			cancel()
			watch.Wait()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if len(seen) < 2 || kill && killed == 0 { // how many there are depends on how fast the machine is
				t.Errorf("%d processes, %d killed\n%s", len(seen), killed, out)
			}
			for pid := range seen {
				if isAlive(pid) {
					t.Errorf("process %d is there", pid)
				}
			}
			got := j.outcome(t)
			if d := want.differences(got); len(d) > 0 {
				t.Errorf("%d differences, the first:\n%s\n%s", len(d), strings.Join(d[:min(len(d), 10)], "\n"), out)
			}
			t.Logf("%d results, %d put aside, %d processes, %d killed", len(got.results), len(got.aside), len(seen), killed)
		})
	}
}

// Whatever ends tidemark, no environment survives it.
func TestNoEnvironmentOutlivesItsRun(t *testing.T) {
	for name, signal := range map[string]syscall.Signal{"Ctrl-C": syscall.SIGINT, "SIGTERM": syscall.SIGTERM, "SIGKILL": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			j := newJob(t, name)
			cmd, out := j.command(t, append(templateArguments(j.name), "--runtime", "process", "--rate", "200")...)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var all map[int]string
			awaitThat(t, "two environments", func() bool {
				all = children(t, cmd.Process.Pid)
				n := 0
				for _, name := range all {
					if name == "bootstrap" {
						n++
					}
				}
				return n >= 2
			})
			began := time.Now()
			if err := cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			err := cmd.Wait()
			if signal == syscall.SIGKILL {
				if _, ok := errors.AsType[*exec.ExitError](err); !ok {
					t.Errorf("%v", err)
				}
			} else if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			if took := time.Since(began); took > 90*time.Second {
				t.Errorf("it took %s", took)
			}
			awaitThat(t, "their end", func() bool {
				for pid := range all {
					if isAlive(pid) {
						return false
					}
				}
				return true
			})
		})
	}
}

// Containers that come by themselves: here processes that know nothing but the address of the Runtime API.
func TestEnvironmentsThatComeByThemselves(t *testing.T) {
	j := newJob(t, "served")
	apis := map[string]string{"Ingest": freePort(t), "Fire": freePort(t)}
	lambda := freePort(t)
	args := append(templateArguments(j.name), "--runtime", "served", "--lambda-listen", lambda, "--rate", "500", "--keys", "200", "--json") // keys in every partition: none is idle
	for name, address := range apis {
		args = append(args, "--runtime-api", name+"="+address)
	}
	cmd, stderr := j.command(t, args...)
	cmd.Stdout = nil
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _ = cmd.Process.Kill(); t.Failed() {
			t.Logf("tidemark:\n%s", stderr)
		}
	})
	// Nobody starts an environment again that found nobody: it has to come later than the addresses.
	for _, address := range append(slices.Collect(maps.Values(apis)), lambda) {
		awaitThat(t, "who listens at "+address, func() bool {
			conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
			if err == nil {
				_ = conn.Close() // it was only a question
			}
			return err == nil
		})
	}
	for name, address := range apis {
		function := exec.CommandContext(t.Context(), build(t, "./functions/"+strings.ToLower(name)+"/bootstrap", filepath.Join(strings.ToLower(name), "bootstrap")))
		function.Env = []string{
			"AWS_LAMBDA_RUNTIME_API=" + address, "_HANDLER=bootstrap", "TIDEMARK_CONFIG=" + j.config, "TIDEMARK_BROKERS=" + strings.Join(servers.Brokers(t), ","),
			"TIDEMARK_REDIS=" + servers.Redis(t), "TIDEMARK_FIRE_FUNCTION=Fire", "AWS_ENDPOINT_URL_LAMBDA=http://" + lambda, "AWS_REGION=us-east-1",
			"AWS_ACCESS_KEY_ID=local", "AWS_SECRET_ACCESS_KEY=local",
		}
		log := &output.Buffer{Last: 2000}
		function.Stdout, function.Stderr = log, log
		if err := function.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = function.Process.Kill()
			_ = function.Wait()
			if t.Failed() {
				t.Logf("%s:\n%s", name, log)
			}
		})
	}
	results := make(chan struct{})
	go func() {
		for s := bufio.NewScanner(stdout); s.Scan(); {
			if strings.Contains(s.Text(), `"type":"result"`) {
				close(results)
				break
			}
		}
		_, _ = io.Copy(io.Discard, stdout)
	}()
	select {
	case <-results:
	case <-time.After(within):
		t.Fatal("no result came")
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// freePort is an address that nobody listens at.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
