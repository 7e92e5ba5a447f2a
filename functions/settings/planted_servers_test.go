//go:build servers

package settings

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/llm-auto-optimizer/tidemark/tests/servers"
)

// Secrets are planted wherever a function reads some, and each way of failing is provoked: none shows in an error or a log.
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
			for name, text := range planted {
				for _, form := range []string{text, base64.StdEncoding.EncodeToString([]byte(text)), url.QueryEscape(text), url.PathEscape(text)} {
					if strings.Contains(err.Error()+log.String(), form) {
						t.Errorf("shows the %s: %v\n%s", name, err, log.String())
					}
				}
			}
		})
	}
}
