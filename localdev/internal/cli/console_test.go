package cli_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/llm-auto-optimizer/tidemark/localdev/internal/cli"
	"github.com/llm-auto-optimizer/tidemark/tests/output"
)

// The console of what another run has done: it says so in the browser and in lines, and it changes nothing.
func TestTheConsoleWatchesWhatOthersRun(t *testing.T) {
	config, app := manySpec(t, "bolt", "unused")
	brokers, client := fakeKafka(t)
	state := filepath.Join(t.TempDir(), "state")
	_, file := disordered(t, 500)
	ok(t, "run", "--config", config, "--brokers", brokers, "--state-dir", state, "--until-idle", "--listen", "off", "--tick", "10ms", "--create-topics", "--input", file)
	group := app.Pipelines[0].Group()
	before, err := client.Group(t.Context(), group)
	if err != nil {
		t.Fatal(err)
	}
	results := len(readAll(t, client, "out"))

	var out, errs output.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int, 1)
	go func() {
		args := []string{"console", "--config", config, "--brokers", brokers, "--state-dir", state, "--listen", "127.0.0.1:0", "--json"}
		done <- cli.Main(ctx, args, cli.Streams{Out: &out, Err: &errs, Getenv: os.Getenv})
	}()
	errs.Await(t, "console: http")
	_, after, _ := strings.Cut(errs.String(), "console: ")
	url, _, _ := strings.Cut(after, "\n")
	if body := string(fetch(t, url+"/healthz")); !strings.Contains(body, `"ok"`) {
		t.Errorf("healthz: %s", body)
	}
	for path, want := range map[string]string{"/api/explain": `"pipeline":"p"`, "/api/ledger": `"unaccounted":0`, "/api/windows": `"pipeline":"p"`, "/api/status": `"mode":"watch"`} {
		found := false
		for deadline := time.Now().Add(20 * time.Second); !found && time.Now().Before(deadline); {
			found = strings.Contains(string(fetch(t, url+path)), want)
		}
		if !found {
			t.Errorf("%s: %s, want %s", path, fetch(t, url+path), want)
		}
	}
	out.Await(t, `"lag":0,`)
	cancel()
	if code := <-done; code != cli.ExitOK {
		t.Errorf("exit code %d\n%s", code, errs.String())
	}
	lines := objects(t, out.String())
	if last := lines[len(lines)-1]; last["type"] != "watch" || last["app"] != app.Name || last["results"] != float64(results) || len(last["partitions"].([]any)) == 0 || len(last["troubles"].([]any)) != 0 {
		t.Errorf("%v, want %d results", last, results)
	}
	now, err := client.Group(t.Context(), group)
	if err != nil {
		t.Fatal(err)
	}
	for tp, c := range before {
		if now[tp] != c {
			t.Errorf("%v: %+v became %+v", tp, c, now[tp])
		}
	}
	if groups, err := client.Groups(t.Context(), ""); err != nil || len(groups) != 2 { // the pipeline's and the trigger's
		t.Errorf("groups %v, %v", groups, err)
	}
}

func TestTheConsoleSaysWhatItLacks(t *testing.T) {
	redis, _ := manySpec(t, "redis", "unused")
	config, _ := manySpec(t, "bolt", "unused")
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it listens at once
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	brokers, _ := fakeKafka(t)
	state := filepath.Join(t.TempDir(), "state")
	_, file := disordered(t, 10)
	ok(t, "run", "--config", config, "--brokers", brokers, "--state-dir", state, "--until-idle", "--listen", "off", "--tick", "10ms", "--create-topics", "--input", file)
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"no state store":    {[]string{"--config", redis, "--brokers", brokers}, cli.ExitUsage, "--redis URL is needed"},
		"no such directory": {[]string{"--config", config, "--brokers", brokers, "--state-dir", filepath.Join(t.TempDir(), "none")}, cli.ExitFailed, "--state-dir"},
		"no spec":           {[]string{"--config", "none.yaml", "--brokers", brokers}, cli.ExitUsage, "--config"},
		"a busy address":    {[]string{"--config", config, "--brokers", brokers, "--state-dir", state, "--listen", l.Addr().String()}, cli.ExitFailed, "--listen ADDR"},
	} {
		if a := tidemark(t, append([]string{"console"}, c.args...)...); a.code != c.code || !strings.Contains(a.err, c.want) {
			t.Errorf("%s: want %d and %q\n%s", name, c.code, c.want, a)
		}
	}
	t.Setenv("TIDEMARK_KAFKA_AUTH", "scram")
	if a := tidemark(t, "console", "--config", config, "--brokers", brokers); a.code != cli.ExitUsage || !strings.Contains(a.err, "--redis are needed") {
		t.Errorf("with authentication: %s", a)
	}
}

// Whoever is pointed here by a name of another site gets nothing, from a run as from anything else.
func TestTheConsoleOfARunRefusesOtherNames(t *testing.T) {
	var errs output.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int, 1)
	go func() {
		done <- cli.Main(ctx, []string{"run", "--listen", "127.0.0.1:0"}, cli.Streams{Out: &output.Buffer{}, Err: &errs, Getenv: os.Getenv})
	}()
	errs.Await(t, "console: http")
	_, after, _ := strings.Cut(errs.String(), "console: ")
	url, _, _ := strings.Cut(after, "\n")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/api/status", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "rebound.example"
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("%s", resp.Status)
	}
	cancel()
	if code := <-done; code != cli.ExitOK {
		t.Errorf("exit code %d", code)
	}
}
