package settings

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/google/go-cmp/cmp"
)

func TestLinesOfTheLogAreAsLambdasOwn(t *testing.T) {
	var out bytes.Buffer
	log := newLogger(&out, slog.LevelInfo).With("app", "a")
	ctx := lambdacontext.NewContext(t.Context(), &lambdacontext.LambdaContext{AwsRequestID: "4711"})
	log.InfoContext(ctx, "plan", "plan", 3)
	log.Warn("outside")
	log.Debug("hidden")
	var got []map[string]any
	for d := json.NewDecoder(&out); d.More(); {
		var line map[string]any
		if err := d.Decode(&line); err != nil {
			t.Fatal(err)
		}
		stamp, _ := line["timestamp"].(string)
		if _, err := time.Parse(time.RFC3339Nano, stamp); err != nil {
			t.Error(err)
		}
		delete(line, "timestamp")
		got = append(got, line)
	}
	want := []map[string]any{
		{"level": "INFO", "message": "plan", "app": "a", "plan": 3.0, "requestId": "4711"},
		{"level": "WARN", "message": "outside", "app": "a"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestOwnLevelWinsOverLambdas(t *testing.T) {
	for _, c := range []struct {
		own, lambda string
		want        slog.Level
	}{
		{"", "", slog.LevelInfo},
		{"", "TRACE", slog.LevelDebug},
		{"", "FATAL", slog.LevelError},
		{"", "WARN", slog.LevelWarn},
		{"DEBUG", "ERROR", slog.LevelDebug},
		{"INFO", "DEBUG", slog.LevelInfo},
	} {
		vars := env(map[string]string{EnvLogLevel: c.own, envLambdaLogLevel: c.lambda})
		s, err := FromEnv(vars)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.logLevel(vars); got != c.want || newLogger(nil, got).Enabled(t.Context(), c.want-1) {
			t.Errorf("%q over %q: %s, want %s", c.own, c.lambda, got, c.want)
		}
	}
}
