//go:build containers

package containers_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/llm-auto-optimizer/tidemark/tests/rig"
)

// project is localdev/compose.yaml under a name and on ports of the test's own.
type project struct {
	t       *testing.T
	name    string
	console string
	env     []string
}

func newProject(t *testing.T) *project {
	t.Helper()
	p := &project{t: t, name: "tidemark-test-" + freePort(t), console: freePort(t)}
	p.env = append(os.Environ(), "COMPOSE_PROJECT_NAME="+p.name, "TIDEMARK_CONSOLE_PORT="+p.console, "TIDEMARK_KAFKA_PORT="+freePort(t), "TIDEMARK_REDIS_PORT="+freePort(t))
	return p
}

// make runs a target and returns its standard output.
func (p *project) make(ctx context.Context, target string) (string, error) {
	cmd := exec.CommandContext(ctx, "make", "--no-print-directory", target)
	cmd.Dir, cmd.Env = root, p.env
	cmd.WaitDelay = 10 * time.Second
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	p.t.Logf("make %s:\n%s", target, out)
	if err != nil {
		p.t.Logf("%s", errs.String())
	}
	return string(out), err
}

// docker returns the lines that a command of docker prints.
func (p *project) docker(ctx context.Context, args ...string) []string {
	p.t.Helper()
	out, err := exec.CommandContext(ctx, "docker", args...).CombinedOutput()
	if err != nil {
		p.t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// left lists what the daemon has of the project, and the images and volumes it has at all.
func (p *project) left(ctx context.Context) (ours, all []string) {
	p.t.Helper()
	label := "label=com.docker.compose.project=" + p.name
	for _, args := range [][]string{{"ps", "-aq"}, {"network", "ls", "-q"}, {"volume", "ls", "-q"}} {
		for _, id := range p.docker(ctx, append(args, "--filter", label)...) {
			if id != "" {
				ours = append(ours, args[0]+" "+id)
			}
		}
	}
	all = append(p.docker(ctx, "image", "ls", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"), p.docker(ctx, "volume", "ls", "-q")...)
	return ours, all
}

func TestUpShowsResultsAndDownLeavesNothing(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	p := newProject(t)
	_, before := p.left(ctx)
	down := false
	t.Cleanup(func() {
		if !down {
			_, _ = p.make(context.WithoutCancel(ctx), "down")
		}
	})
	begun := time.Now()
	out, err := p.make(ctx, "up")
	if err != nil {
		t.Fatalf("make up: %v", err)
	}
	t.Logf("make up took %.0f s", time.Since(begun).Seconds())
	p.checkResults(out)
	if !strings.Contains(out, "http://127.0.0.1:"+p.console) || !strings.Contains(out, "make down") {
		t.Error("it says neither where the console is nor how to stop")
	}
	p.checkConsole(ctx)
	p.checkServices(ctx)
	p.checkPorts(ctx)
	p.checkRestart(ctx)

	_, err = p.make(ctx, "down")
	down = true
	if err != nil {
		t.Fatalf("make down: %v", err)
	}
	ours, after := p.left(ctx)
	if len(ours) > 0 {
		t.Errorf("left: %v", ours)
	}
	if strings.Join(before, "\n") != strings.Join(after, "\n") {
		t.Errorf("images and volumes before:\n%s\nand after:\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
	if _, err := os.Stat(filepath.Join(root, "dist", "containers")); err == nil {
		t.Error("dist/containers is left")
	}
}

// checkResults holds what up printed to being results.
func (p *project) checkResults(out string) {
	p.t.Helper()
	n := 0
	for lines := bufio.NewScanner(strings.NewReader(out)); lines.Scan(); {
		if !strings.HasPrefix(lines.Text(), "{") {
			continue
		}
		var r rig.Result
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil || r.Pipeline != "latency" || r.Window.EndMS-r.Window.StartMS != 10_000 || len(r.Results) == 0 {
			p.t.Errorf("no result of the spec: %v: %s", err, lines.Text())
		}
		n++
	}
	if n == 0 {
		p.t.Error("up shows no result")
	}
}

// checkConsole asks for the page until it has answered.
func (p *project) checkConsole(ctx context.Context) {
	p.t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:"+p.console+"/", http.NoBody)
	if err != nil {
		p.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		p.t.Fatalf("the console: %v", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK || !strings.HasPrefix(response.Header.Get("Content-Type"), "text/html") {
		p.t.Errorf("the console answers %s, %s", response.Status, response.Header.Get("Content-Type"))
	}
}

// state returns what a format says of each service's container.
func (p *project) state(ctx context.Context, format string) map[string]string {
	p.t.Helper()
	out := map[string]string{}
	args := append([]string{"inspect", "--format", `{{index .Config.Labels "com.docker.compose.service"}}=` + format},
		p.docker(ctx, "ps", "-aq", "--filter", "label=com.docker.compose.project="+p.name)...)
	for _, line := range p.docker(ctx, args...) {
		service, says, _ := strings.Cut(line, "=")
		out[service] = says
	}
	return out
}

func (p *project) checkServices(ctx context.Context) {
	p.t.Helper()
	got := p.state(ctx, `{{.State.Status}}{{if .State.Health}} {{.State.Health.Status}}{{end}} {{.State.ExitCode}} {{.RestartCount}}`)
	for service, want := range map[string]string{
		"kafka": "running healthy 0 0", "redis": "running healthy 0 0", "tidemark": "running healthy 0 0", "topics": "exited 0 0",
		"ingest": "running 0 0", "fire": "running 0 0", "ops": "running 0 0", "generate": "running 0 0",
	} {
		if got[service] != want {
			p.t.Errorf("%s is %q, want %q", service, got[service], want)
		}
	}
}

// checkPorts holds what is published to 127.0.0.1.
func (p *project) checkPorts(ctx context.Context) {
	p.t.Helper()
	n := 0
	for service, bindings := range p.state(ctx, `{{range .NetworkSettings.Ports}}{{range .}}{{.HostIp}}:{{.HostPort}} {{end}}{{end}}`) {
		for b := range strings.FieldsSeq(bindings) {
			n++
			if host, _, err := net.SplitHostPort(b); err != nil || host != "127.0.0.1" {
				p.t.Errorf("%s publishes %s", service, b)
			}
		}
	}
	if n != 3 {
		p.t.Errorf("%d ports are published, want those of console, Kafka and Redis", n)
	}
}

// checkRestart ends a function by itself, as a crash does: its container comes back, and results go on.
func (p *project) checkRestart(ctx context.Context) {
	p.t.Helper()
	results := func() int {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:"+p.console+"/api/status", http.NoBody)
		if err != nil {
			p.t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			p.t.Fatal(err)
		}
		defer response.Body.Close()
		var says struct{ Results int }
		if err := json.NewDecoder(response.Body).Decode(&says); err != nil {
			p.t.Fatal(err)
		}
		return says.Results
	}
	p.docker(ctx, "exec", p.name+"-ingest-1", "bash", "-c", "kill -TERM 1") // to the kernel its process is the first, which no SIGKILL from inside reaches
	p.await(ctx, "ingest was not started again", func() bool { return p.state(ctx, `{{.RestartCount}}`)["ingest"] != "0" })
	before := results()
	p.await(ctx, "no result came after ingest had ended", func() bool { return results() > before })
}

// await asks until it is so.
func (p *project) await(ctx context.Context, otherwise string, so func() bool) {
	p.t.Helper()
	poll := time.NewTicker(200 * time.Millisecond)
	defer poll.Stop()
	for !so() {
		select {
		case <-poll.C:
		case <-ctx.Done():
			p.t.Fatal(otherwise)
		}
	}
}
