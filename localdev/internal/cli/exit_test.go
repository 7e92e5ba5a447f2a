package cli_test

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/llm-auto-optimizer/tidemark/tests/output"
)

const smallSpec = `app: small
processor:
  watermark: {max_out_of_orderness: 0s}
pipelines:
  - name: p
    topics: [in]
    values: {v: v}
    windows: [{name: w, type: tumbling, size: 1s, allowed_lateness: 0s}]
    aggregates: {v: [count, sum]}
    sink: {topic: out}
`

func TestExitCodes(t *testing.T) {
	spec := write(t, "spec.yaml", smallSpec)
	bolt := write(t, "bolt.yaml", smallSpec+"# state elsewhere\n")
	if err := os.WriteFile(bolt, []byte(strings.Replace(smallSpec, "processor:", "processor:\n  state: {backend: bolt, path: /proc/no/state}", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	failing := write(t, "fail.yaml", strings.Replace(smallSpec, "processor:", "processor:\n  error_handling: {policy: fail}", 1))
	wrong := write(t, "wrong.yaml", "app: x\nprocessor:\n  parallelism: none\npipelines:\n  - {name: p, topics: [in], windoes: []}\n")
	panes := write(t, "panes.yaml", strings.Replace(smallSpec, "    values:", "    trigger: {early: {every: 10s}, count: 5}\n    accumulation: retracting\n    values:", 1))
	later := write(t, "later.yaml", strings.Replace(smallSpec, "type: tumbling", "type: calendar", 1))
	events := write(t, "events.jsonl", `{"timestamp":1000,"value":{"timestamp":1000,"v":1}}`+"\n")
	poison := write(t, "poison.jsonl", `{"timestamp":1000,"value":{"timestamp":1000,"v":1}}`+"\n"+`{"timestamp":1000,"value":"no JSON"}`+"\n")
	torn := write(t, "torn.jsonl", `{"timestamp":1000,"val`+"\n")
	stranger := write(t, "stranger.jsonl", `{"topic":"other","timestamp":1000,"value":1}`+"\n")
	file := write(t, "file", "")
	busy, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it listens at once
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for name, c := range map[string]struct {
		args []string
		env  []string
		code int
		says string // on stderr, or on stdout where the code is 0
	}{
		"help":                       {args: []string{"--help"}, says: "Begin with"},
		"help of run":                {args: []string{"run", "--help"}, says: "Examples:"},
		"help of replay":             {args: []string{"replay", "--help"}, says: "now_ms"},
		"help of generate":           {args: []string{"generate", "--help"}, says: "Examples:"},
		"help of validate":           {args: []string{"validate", "--help"}, says: "Examples:"},
		"version":                    {args: []string{"--version"}, says: "tidemark "},
		"no command":                 {args: nil, code: 2, says: "run"},
		"unknown command":            {args: []string{"walk"}, code: 2, says: "walk"},
		"unknown flag":               {args: []string{"run", "--wlak"}, code: 2, says: "--wlak"},
		"flag of a wrong type":       {args: []string{"run", "--for", "soon"}, code: 2, says: "soon"},
		"print config":               {args: []string{"run", "--print-config"}, says: "pipelines:"},
		"run for a while":            {args: []string{"run", "--for", "300ms", "--listen", "off"}, says: "records in"},
		"run until idle":             {args: []string{"run", "--config", spec, "--input", events, "--until-idle", "--listen", "off"}, says: "p: closed everything at W=1970-01-01T00:00:02Z (2000 ms)"},
		"run, log level in capitals": {args: []string{"run", "--for", "50ms", "--listen", "off"}, env: []string{"TIDEMARK_LOG_LEVEL=INFO"}, says: "records in"},
		"run, spec that is missing":  {args: []string{"run", "--config", spec + ".none"}, code: 2, says: "--config"},
		"run, wrong spec":            {args: []string{"run", "--config", wrong}, code: 2, says: "wrong.yaml:5: pipelines[0].windoes: unknown key"},
		"run, all problems":          {args: []string{"run", "--config", wrong}, code: 2, says: "wrong.yaml:3: processor.parallelism"},
		"run, take over from nobody": {args: []string{"run", "--take-over"}, code: 2, says: "--take-over needs --brokers"},
		"run, not built yet":         {args: []string{"run", "--config", later}, code: 2, says: "not supported yet"},
		"run, spec in the cloud":     {args: []string{"run", "--config", "s3://bucket/spec.yaml"}, code: 2, says: "not supported yet"},
		"run, config by environment": {args: []string{"run"}, env: []string{"TIDEMARK_CONFIG=" + wrong}, code: 2, says: "windoes"},
		"redis without brokers":      {args: []string{"run", "--redis", "redis://127.0.0.1:1"}, code: 2, says: "--brokers"},
		"redis by environment":       {args: []string{"run"}, env: []string{"TIDEMARK_REDIS=redis://127.0.0.1:1"}, code: 2, says: "--brokers"},
		"brokers without redis":      {args: []string{"run", "--config", spec, "--brokers", "127.0.0.1:1"}, code: 2, says: "--redis"},
		"brokers by environment":     {args: []string{"run", "--config", spec}, env: []string{"TIDEMARK_BROKERS=127.0.0.1:1"}, code: 2, says: "--redis"},
		"auth that is not built":     {args: []string{"run", "--config", spec, "--brokers", "127.0.0.1:1", "--redis", "redis://127.0.0.1:1"}, env: []string{"TIDEMARK_KAFKA_AUTH=iam"}, code: 2, says: "TIDEMARK_KAFKA_AUTH"},
		"no broker there":            {args: []string{"run", "--config", spec, "--brokers", "127.0.0.1:1", "--redis", "redis://127.0.0.1:1", "--listen", "off"}, code: 1, says: "--brokers"},
		"create topics, embedded":    {args: []string{"run", "--create-topics"}, code: 2, says: "--brokers"},
		"speed on a real clock":      {args: []string{"run", "--config", bolt, "--brokers", "127.0.0.1:1", "--speed", "2"}, code: 2, says: "--speed"},
		"input and rate":             {args: []string{"run", "--config", spec, "--input", events, "--rate", "5"}, code: 2, says: "--input and --rate"},
		"input that is missing":      {args: []string{"run", "--config", spec, "--input", events + ".none"}, code: 2, says: "--input"},
		"share above one":            {args: []string{"run", "--late", "1.5"}, code: 2, says: "--late"},
		"tick that is too short":     {args: []string{"run", "--tick", "1ms"}, code: 2, says: "--tick"},
		"busy port":                  {args: []string{"run", "--listen", busy.Addr().String()}, code: 1, says: "--listen"},
		"state dir below a file":     {args: []string{"run", "--state-dir", file + "/x", "--listen", "off"}, code: 1, says: "--state-dir"},
		"run, torn line":             {args: []string{"run", "--config", spec, "--input", torn, "--listen", "off"}, code: 1, says: "torn.jsonl:1: the JSON object is not complete"},
		"run, topic nobody reads":    {args: []string{"run", "--config", spec, "--input", stranger, "--listen", "off"}, code: 1, says: "stranger.jsonl:1: topic \"other\""},
		"replay":                     {args: []string{"replay", "--config", spec, "--input", events}, says: `"topic":"out"`},
		"replay without input":       {args: []string{"replay"}, code: 2, says: "--input"},
		"replay, input missing":      {args: []string{"replay", "--input", events + ".none"}, code: 2, says: "--input"},
		"replay, torn line":          {args: []string{"replay", "--config", spec, "--input", torn}, code: 1, says: "torn.jsonl:1: the JSON object is not complete"},
		"replay, topic nobody reads": {args: []string{"replay", "--config", spec, "--input", stranger}, code: 1, says: "stranger.jsonl:1: topic"},
		"replay, policy fail":        {args: []string{"replay", "--config", failing, "--input", poison}, code: 1, says: "in-0 from offset 1 on"},
		"replay, no such directory":  {args: []string{"replay", "--config", spec, "--input", events, "--output", file + "/x"}, code: 2, says: "--output"},
		"replay, batch size":         {args: []string{"replay", "--config", spec, "--input", events, "--batch-size", "-1"}, code: 2, says: "--batch-size"},
		"replay, state below a file": {args: []string{"replay", "--config", spec, "--input", events, "--state-dir", file + "/x"}, code: 1, says: "--state-dir"},
		"generate":                   {args: []string{"generate", "--config", spec, "--count", "3"}, says: `{"topic":"in","partition":`},
		"generate, start":            {args: []string{"generate", "--start", "yesterday"}, code: 2, says: "--start"},
		"generate, two targets":      {args: []string{"generate", "--output", file, "--brokers", "127.0.0.1:1"}, code: 2, says: "--brokers"},
		"generate, no broker":        {args: []string{"generate", "--brokers", "127.0.0.1:1"}, code: 1, says: "--brokers"},
		"validate":                   {args: []string{"validate", "--config", spec}, says: "is a valid spec"},
		"validate, panes":            {args: []string{"validate", "--config", panes}, says: "early every 10s, early with 5 new records, retracting"},
		"verify, no brokers named":   {args: []string{"verify", "--config", spec, "--no-state"}, code: 2, says: "--brokers HOST:PORT is needed"},
		"validate built in":          {args: []string{"validate"}, says: "is a valid spec"},
		"validate, wrong":            {args: []string{"validate", "--config", wrong}, code: 2, says: "wrong.yaml:3"},
		"validate, missing":          {args: []string{"validate", "--config", wrong + ".none"}, code: 2, says: "--config"},
		"validate, no broker":        {args: []string{"validate", "--config", spec, "--brokers", "127.0.0.1:1"}, code: 1, says: "--brokers"},
		"validate, no brokers":       {args: []string{"validate", "--config", spec, "--redis", "redis://127.0.0.1:1"}, code: 2, says: "--redis needs --brokers"},
		"validate, schema":           {args: []string{"validate", "--schema"}, says: `"$schema"`},
		"validate, example":          {args: []string{"validate", "--example"}, says: "pipelines:"},
		"validate, reference":        {args: []string{"validate", "--reference"}, says: "### pipelines[].windows[].slide"},
		"template": {
			args: []string{"validate", "--config", "../../../infra/tidemark.yaml", "--template", "../../../template.yaml"}, says: "template.yaml goes with the spec",
		},
		"template that does not fit": {
			args: []string{"validate", "--config", "../../../infra/tidemark.yaml", "--template", "../../../template.yaml", "--parameter", "StartingPosition=LATEST"},
			code: 1, says: "template and spec do not go together: 2 problems",
		},
		"template, missing": {args: []string{"validate", "--config", spec, "--template", "none.yaml"}, code: 2, says: "--template"},
		"template, wrong parameter": {
			args: []string{"validate", "--config", spec, "--template", "../../../template.yaml", "--parameter", "KafkaMode=mine"}, code: 2, says: "--parameter",
		},
		"parameter of no template": {args: []string{"validate", "--config", spec, "--parameter", "A=B"}, code: 2, says: "--parameter needs --template"},
		"processor config":         {args: []string{"validate", "--config", processorConfig}, says: "aggregated-metrics-late"},
		"log level that is none":   {args: []string{"validate", "--log-level", "loud"}, code: 2, says: "log-level"},
	} {
		t.Run(name, func(t *testing.T) {
			a := execute(t, c.env, c.args...)
			where := a.err
			if c.code == 0 {
				where = a.out
			}
			if a.code != c.code || !strings.Contains(where, c.says) {
				t.Errorf("tidemark %s: want code %d and %q\n%s", strings.Join(c.args, " "), c.code, c.says, a)
			}
			if c.code == 2 && a.out != "" {
				t.Errorf("usage goes to stderr, stdout has\n%s", a.out)
			}
		})
	}
}

// running is the program as it runs.
type running struct {
	*exec.Cmd
	out, err output.Buffer
}

func start(t *testing.T, args ...string) *running {
	t.Helper()
	r := &running{Cmd: exec.CommandContext(t.Context(), binary, args...)}
	r.Stdout, r.Stderr = &r.out, &r.err
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	return r
}

// end waits for the end of the program and returns its exit code.
func (r *running) end(t *testing.T) int {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- r.Wait() }()
	select {
	case err := <-done:
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return r.ProcessState.ExitCode()
	case <-time.After(20 * time.Second):
		t.Fatalf("does not end\n%s%s", r.out.String(), r.err.String())
		return -1
	}
}

// Ctrl-C ends a run cleanly: code 0, a summary, and nothing left behind. A signal that comes twice at once, as from `timeout`,
// is one.
func TestSignalsEndARunCleanly(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		signals []os.Signal
		args    []string
		await   string
	}{
		"interrupt":                      {signals: []os.Signal{os.Interrupt}, await: "console: "},
		"terminate":                      {signals: []os.Signal{syscall.SIGTERM}, await: "console: "},
		"terminal closed":                {signals: []os.Signal{syscall.SIGHUP}, await: "console: "},
		"twice at once":                  {signals: []os.Signal{os.Interrupt, os.Interrupt}, await: "console: "},
		"while there is work":            {signals: []os.Signal{os.Interrupt}, args: []string{"--rate", "20000", "--tick", "20ms"}, await: "\"type\":\"progress\""},
		"while it waits for more":        {signals: []os.Signal{os.Interrupt}, args: []string{"--input", os.DevNull}, await: "\"type\":\"progress\""},
		"while everything is to be idle": {signals: []os.Signal{os.Interrupt}, args: []string{"--until-idle", "--count", "100000000"}, await: "\"type\":\"progress\""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			r := start(t, append([]string{"run", "--json", "--state-dir", dir, "--listen", "127.0.0.1:0"}, c.args...)...)
			if strings.HasPrefix(c.await, "console") {
				r.err.Await(t, c.await)
			} else {
				r.out.Await(t, c.await)
			}
			for _, s := range c.signals {
				if err := r.Process.Signal(s); err != nil {
					t.Fatal(err)
				}
			}
			code := r.end(t)
			if code != 0 {
				t.Errorf("exit code %d\n%s%s", code, r.out.String(), r.err.String())
			}
			if strings.Contains(r.err.String(), "ERROR") {
				t.Errorf("errors are logged:\n%s", r.err.String())
			}
			empty(t, dir)
		})
	}
}

// Whoever reads the results may go away: the run ends, and takes down what it made.
func TestABrokenPipeEndsTheRun(t *testing.T) {
	dir := t.TempDir()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), binary, "run", "--json", "--state-dir", dir, "--listen", "off")
	var errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = write, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(write.Close(), read.Close()); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(errs.String(), "write output") {
		t.Errorf("%v, want exit code 1\n%s", err, errs.String())
	}
	empty(t, dir)
}
