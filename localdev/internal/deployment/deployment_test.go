package deployment

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llm-auto-optimizer/tidemark/localdev/internal/template"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/trigger"
)

const root = "../../.."

// read reads the repository's template.
func read(t *testing.T, parameters map[string]string) *template.Template {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, "template.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	tmpl, err := template.LoadWith(data, "template.yaml", parameters, map[string]string{"SubnetIds": "a,b", "SecurityGroupIds": "c"})
	if err != nil {
		t.Fatal(err)
	}
	return tmpl
}

// fakes are bootstraps that say nothing and live on.
func fakes(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "bootstrap"), []byte("#!/bin/sh\nexit 7\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestTheEnvironmentIsTheTemplatesButForConnections(t *testing.T) {
	d, err := Open(t.Context(), Options{
		Template: read(t, map[string]string{"KafkaAuth": "scram", "KafkaSecretArn": "arn:aws:secretsmanager:us-east-1:123456789012:secret:k", "RedisAuth": "secret", "LogLevel": "WARN"}), //nolint:gosec // names of secrets
		Root:     root, Bootstraps: fakes(t, "ingest", "fire", "ops"), Config: "/spec.yaml", Brokers: []string{"b1:9092", "b2:9092"}, Redis: []string{"redis://r:6379"},
		FireTick: 50 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for i, want := range [][]string{
		{"TIDEMARK_FIRE_FUNCTION=Fire"}, {"TIDEMARK_FIRE_TICK=50ms"}, {"TIDEMARK_CHECKPOINTS="},
	} {
		env := d.environment(&d.o.Template.Functions[i])
		want = append(want, "TIDEMARK_BROKERS=b1:9092,b2:9092", "TIDEMARK_REDIS=redis://r:6379", "TIDEMARK_KAFKA_AUTH=none", "TIDEMARK_REDIS_AUTH=url", "TIDEMARK_CONFIG=/spec.yaml",
			"TIDEMARK_LOG_LEVEL=WARN", "AWS_ENDPOINT_URL_LAMBDA="+d.API())
		for _, v := range want {
			if !slices.Contains(env, v) {
				t.Errorf("%s lacks %s: %q", d.o.Template.Functions[i].Name, v, env)
			}
		}
		for _, v := range env {
			if strings.Contains(v, "SECRET") || strings.Contains(v, "_CA=") {
				t.Errorf("%s has %s", d.o.Template.Functions[i].Name, v)
			}
		}
	}
	if d.Mappings() != 2 || len(d.schedules) != 1 || d.mappings[0].Window != 0 || d.mappings[0].BatchSize != 500 || d.mappings[1].Group != "tidemark.llm-optimizer:performance-metrics" {
		t.Errorf("%+v, %+v", d.mappings, d.schedules)
	}
	// What a function says is what a caller of Lambda sees.
	resp, err := http.Post(d.API()+"/2015-03-31/functions/Ops/invocations", "application/json", strings.NewReader("{}")) //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("X-Amz-Function-Error") != "Unhandled" || !strings.Contains(string(body), "exit status 7") {
		t.Errorf("%s %v %s", resp.Status, resp.Header, body)
	}
}

func TestWhatCannotBeDeployedHereSaysWhy(t *testing.T) {
	base := func() Options {
		return Options{Template: read(t, nil), Root: root, Bootstraps: fakes(t, "ingest", "fire", "ops"), Logger: slog.New(slog.DiscardHandler)}
	}
	for name, tt := range map[string]struct {
		change func(*Options)
		want   error
	}{
		"a bootstrap is missing":   {func(o *Options) { o.Bootstraps = fakes(t, "ingest", "fire") }, ErrBootstrap},
		"nothing to build it from": {func(o *Options) { o.Bootstraps, o.Root = "", t.TempDir() }, ErrBootstrap},
		"an API of nobody":         {func(o *Options) { o.Kind, o.RuntimeAPIs = Served, map[string]string{"Else": "127.0.0.1:0"} }, ErrOptions},
		"a mapping of nobody":      {func(o *Options) { o.Template.Mappings[0].Function = "Else" }, ErrOptions},
		"a mapping of SQS":         {func(o *Options) { o.Template.Mappings[0].OnFailure = "arn:aws:sqs:us-east-1:1:q" }, trigger.ErrNotEmulated},
		"the port is taken":        {func(o *Options) { o.LambdaAPI = "127.0.0.1:-1" }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			o := base()
			tt.change(&o)
			d, err := Open(t.Context(), o)
			if err == nil {
				defer d.Close()
			}
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("%v", err)
			}
		})
	}
}
