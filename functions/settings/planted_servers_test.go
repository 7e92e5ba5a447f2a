//go:build servers

package settings

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/llm-auto-optimizer/tidemark/tests/servers"
)

// bootstraps builds the functions as they are deployed, and returns the programs by name.
func bootstraps(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, name := range []string{"ingest", "fire", "ops"} {
		out[name] = filepath.Join(t.TempDir(), name)
		cmd := exec.CommandContext(t.Context(), "go", "build", "-o", out[name], "../"+name+"/bootstrap")
		if said, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", name, err, said)
		}
	}
	return out
}

// fails runs a program that is to fail, with these variables alone, and returns all that it wrote: logs, metrics and errors.
func fails(ctx context.Context, t *testing.T, program string, vars map[string]string) string {
	t.Helper()
	cmd := exec.CommandContext(ctx, program)
	cmd.Env = []string{"AWS_LAMBDA_RUNTIME_API=127.0.0.1:1"}
	for name, value := range vars {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	said, err := cmd.CombinedOutput()
	if code, ok := errors.AsType[*exec.ExitError](err); !ok || code.ExitCode() != 1 {
		t.Errorf("%s: %v, want exit code 1\n%s", filepath.Base(program), err, said)
	}
	return string(said)
}

// Secrets are planted wherever a function reads some, and each way of failing is provoked: none shows in an error or a log, nor in
// what the programs write themselves.
func TestNoSecretIsShown(t *testing.T) {
	k := servers.StartSecuredKafka(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	dir := t.TempDir()
	spec, ca := filepath.Join(dir, "spec.yaml"), filepath.Join(dir, "ca.pem")
	for file, text := range map[string]string{
		spec: "processor:\n  state: {backend: redis}\n  kafka: {consumer: {topics: [in]}, producer: {result_topic: out}}\n", ca: string(k.Authority.PEM),
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	certificate, key := k.Clients.Issue("firer")
	_, strange := servers.NewAuthority(t).Issue("stranger")
	const wrong, redis, awsKey, token = "planted/wrong+kafka=password", "planted/redis+password=", "planted/aws+secret=key", "planted/session+token="
	object := func(fields map[string]string) string {
		text, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	secrets := map[string]string{
		"good":    object(map[string]string{"username": k.User, "password": k.Password}),
		"wrong":   object(map[string]string{"username": k.User, "password": wrong}),
		"text":    wrong,
		"redis":   object(map[string]string{"username": "u", "password": redis}),
		"mtls":    object(map[string]string{"certificate": string(certificate), "privateKey": string(key)}),
		"no-pair": object(map[string]string{"certificate": string(certificate), "privateKey": string(strange)}),
		"no-pem":  object(map[string]string{"certificate": wrong, "privateKey": string(key)}),
	}
	keeper := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var asked struct{ SecretId string }
		if json.NewDecoder(r.Body).Decode(&asked) != nil || secrets[asked.SecretId] == "" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"SecretString": secrets[asked.SecretId]})
	}))
	t.Cleanup(keeper.Close)
	planted := map[string]string{"password": k.Password, "wrong password": wrong, "redis": redis, "AWS key": awsKey, "token": token}
	for name, text := range map[string][]byte{"key": key, "strange key": strange} {
		planted[name] = strings.Split(string(text), "\n")[1] // a line of its PEM
	}

	programs := bootstraps(t)
	for _, c := range []struct {
		name string
		vars map[string]string
		says string // part of the error
	}{
		{"a wrong password", map[string]string{EnvKafkaAuth: "scram", EnvKafkaSecret: "wrong", EnvBrokers: k.SCRAM}, "authentication failed"},
		{"a secret that is a text", map[string]string{EnvKafkaAuth: "scram", EnvKafkaSecret: "text", EnvBrokers: k.SCRAM}, EnvKafkaSecret},
		{"no such secret", map[string]string{EnvKafkaAuth: "scram", EnvKafkaSecret: "none", EnvBrokers: k.SCRAM}, "none"},
		{"a key of another certificate", map[string]string{EnvKafkaAuth: "mtls", EnvKafkaSecret: "no-pair", EnvBrokers: k.MTLS}, "no-pair"},
		{"a certificate that is none", map[string]string{EnvKafkaAuth: "mtls", EnvKafkaSecret: "no-pem", EnvBrokers: k.MTLS}, "no-pem"},
		{"roots that are none", map[string]string{EnvKafkaAuth: "tls", EnvKafkaCA: "no-pem", EnvBrokers: k.TLS}, EnvKafkaCA},
		{"a listener that knows no IAM", map[string]string{EnvKafkaAuth: "iam", EnvBrokers: k.SCRAM}, "UNSUPPORTED_SASL_MECHANISM"},
		{"no Redis, by SCRAM", map[string]string{EnvKafkaAuth: "scram", EnvKafkaSecret: "good", EnvBrokers: k.SCRAM}, "127.0.0.1:1"},
		{"no Redis, by certificate", map[string]string{EnvKafkaAuth: "mtls", EnvKafkaSecret: "mtls", EnvBrokers: k.MTLS}, "127.0.0.1:1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			vars := map[string]string{
				EnvConfig: spec, EnvKafkaCA: ca, EnvRedis: "rediss://127.0.0.1:1", EnvRedisAuth: "secret", EnvRedisSecret: "redis", EnvLogLevel: "DEBUG",
				"AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": awsKey, "AWS_SESSION_TOKEN": token, "AWS_ENDPOINT_URL": keeper.URL,
			}
			maps.Copy(vars, c.vars)
			t.Setenv("AWS_REGION", "eu-west-1")
			var log bytes.Buffer
			_, err := Open(ctx, env(vars), &log)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("%v, want %q", err, c.says)
			}
			said := map[string]string{"settings.Open": err.Error() + log.String()}
			for name, program := range programs {
				said[name] = fails(ctx, t, program, vars)
				if !strings.Contains(said[name], c.says) {
					t.Errorf("%s says %s, want %q", name, said[name], c.says)
				}
			}
			for name, text := range planted {
				for _, form := range []string{text, base64.StdEncoding.EncodeToString([]byte(text)), url.QueryEscape(text), url.PathEscape(text)} {
					for who, all := range said {
						if strings.Contains(all, form) {
							t.Errorf("%s shows the %s: %s", who, name, all)
						}
					}
				}
			}
		})
	}
}
