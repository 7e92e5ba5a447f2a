package settings

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
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
	want := Settings{ConfigFile: "tidemark.yaml", FireTick: time.Second, Nudge: true}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestEnvironmentIsRead(t *testing.T) {
	got, err := FromEnv(env(map[string]string{
		EnvConfig: "a.yaml", EnvBrokers: "a:1, b:2,", EnvRedis: "redis://c:3", EnvFireTick: "200ms", EnvLogLevel: "warn", EnvKafkaAuth: "none", EnvNudge: "off",
	}))
	want := Settings{ConfigFile: "a.yaml", Brokers: []string{"a:1", "b:2"}, Redis: []string{"redis://c:3"}, FireTick: 200 * time.Millisecond, LogLevel: slog.LevelWarn}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestEveryWrongVariableIsNamedAtOnce(t *testing.T) {
	wrong := map[string]string{
		EnvConfig: "s3://bucket-alone", EnvFireTick: "1h", EnvLogLevel: "loud", EnvKafkaSecret: "arn:secret-of-mine", EnvKafkaCA: "ca.pem",
		EnvRedisAuth: "iam", EnvRedisSecret: "arn:another", EnvRedisService: "dynamo", EnvTraces: "jaeger", EnvNudge: "no", EnvRedis: "redis://u:hidden@c:1",
	}
	_, err := FromEnv(env(wrong))
	if err == nil {
		t.Fatal("accepted")
	}
	for _, name := range []string{EnvConfig, EnvFireTick, EnvLogLevel, EnvKafkaSecret, EnvKafkaCA, EnvRedisSecret, EnvRedisUser, EnvRedisCache, EnvRedisService, EnvTraces, EnvNudge, EnvRedis + ":"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not named in: %v", name, err)
		}
	}
	for _, shown := range []string{"secret-of-mine", "another", "hidden"} {
		if strings.Contains(err.Error(), shown) {
			t.Errorf("shows %q: %v", shown, err)
		}
	}
}

func TestWaysOfAuthentication(t *testing.T) {
	for _, c := range []struct {
		vars map[string]string
		ok   bool
	}{
		{map[string]string{EnvKafkaAuth: "tls", EnvKafkaCA: "ca.pem"}, true},
		{map[string]string{EnvKafkaAuth: "iam"}, true},
		{map[string]string{EnvKafkaAuth: "scram", EnvKafkaSecret: "x"}, true},
		{map[string]string{EnvKafkaAuth: "mtls", EnvKafkaSecret: "x"}, true},
		{map[string]string{EnvKafkaAuth: "scram"}, false},
		{map[string]string{EnvKafkaAuth: "plain"}, false},
		{map[string]string{EnvKafkaAuth: "iam", EnvKafkaSecret: "x"}, false},
		{map[string]string{EnvRedisAuth: "secret", EnvRedisSecret: "x", EnvRedis: "rediss://a:1"}, true},
		{map[string]string{EnvRedisAuth: "secret", EnvRedisSecret: "x", EnvRedis: "redis://a:1"}, false},
		{map[string]string{EnvRedisAuth: "iam", EnvRedisUser: "u", EnvRedisCache: "c", EnvRedisService: "memorydb", EnvRedis: "rediss://a:1"}, true},
		{map[string]string{EnvRedisAuth: "token"}, false},
		{map[string]string{EnvConfig: "appconfig:a/b/c"}, true},
		{map[string]string{EnvConfig: "appconfig:a/b"}, false},
		{map[string]string{EnvConfig: "ssm:/a"}, true},
	} {
		if _, err := FromEnv(env(c.vars)); (err == nil) != c.ok {
			t.Errorf("%v: %v", c.vars, err)
		}
	}
}

func TestEveryVariableIsRead(t *testing.T) {
	read := map[string]bool{}
	if _, err := FromEnv(func(name string) string { read[name] = true; return "" }); err != nil {
		t.Fatal(err)
	}
	var names []string
	for name := range read {
		if strings.HasPrefix(name, "TIDEMARK_") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	if diff := cmp.Diff(Names(), names); diff != "" {
		t.Errorf("Names() and what FromEnv reads (-named +read):\n%s", diff)
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
