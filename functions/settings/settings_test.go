package settings

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func env(vars map[string]string) func(string) string {
	return func(name string) string { return vars[name] }
}

func TestEnvironmentHasDefaults(t *testing.T) {
	got, err := FromEnv(env(nil))
	want := Settings{ConfigFile: "tidemark.yaml", FireTick: time.Second}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestEnvironmentIsRead(t *testing.T) {
	got, err := FromEnv(env(map[string]string{
		EnvConfig: "a.yaml", EnvBrokers: "a:1, b:2,", EnvRedis: "redis://c:3", EnvFireTick: "200ms", EnvLogLevel: "warn", EnvKafkaAuth: "none",
	}))
	want := Settings{ConfigFile: "a.yaml", Brokers: []string{"a:1", "b:2"}, Redis: []string{"redis://c:3"}, FireTick: 200 * time.Millisecond, LogLevel: slog.LevelWarn}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestEveryWrongVariableIsNamedAtOnce(t *testing.T) {
	_, err := FromEnv(env(map[string]string{
		EnvConfig: "s3://bucket/spec.yaml", EnvFireTick: "1h", EnvLogLevel: "loud", EnvKafkaAuth: "iam", EnvKafkaSecret: "arn:secret-of-mine",
	}))
	if err == nil {
		t.Fatal("accepted")
	}
	for _, name := range []string{EnvConfig, EnvFireTick, EnvLogLevel, EnvKafkaAuth, EnvKafkaSecret} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not named in: %v", name, err)
		}
	}
	if strings.Contains(err.Error(), "secret-of-mine") {
		t.Errorf("shows a secret: %v", err)
	}
}

func TestFunctionsRefuseAStoreOfOneProcess(t *testing.T) {
	file := filepath.Join(t.TempDir(), "spec.yaml")
	const spec = `
processor:
  state: {backend: bolt, path: /tmp/x}
  kafka: {consumer: {topics: [in]}, producer: {result_topic: out}}
`
	if err := os.WriteFile(file, []byte(spec), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	_, err := Open(t.Context(), env(map[string]string{EnvConfig: file, EnvBrokers: "127.0.0.1:1"}), &log)
	if !errors.Is(err, ErrBackend) || !strings.Contains(err.Error(), EnvRedis) {
		t.Errorf("%v", err)
	}
}
