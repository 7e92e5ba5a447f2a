package cloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func open(t *testing.T, handle http.HandlerFunc) *Cloud {
	t.Helper()
	server := httptest.NewServer(handle)
	t.Cleanup(server.Close)
	vars := map[string]string{envRegion: "eu-west-1", envKey: "AKID", envSecret: "planted-key", envToken: "planted-token", envEndpoint: server.URL, envEndpoint + "_APPCONFIGDATA": server.URL}
	return New(func(name string) string { return vars[name] })
}

// keeper is Secrets Manager with one secret.
func keeper(secret func() string, asked *atomic.Int32) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.Header.Get("X-Amz-Target") != "secretsmanager.GetSecretValue" || !strings.Contains(r.Header.Get("Authorization"), "/eu-west-1/secretsmanager/") || r.Header.Get("X-Amz-Security-Token") != "planted-token" {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		_ = json.NewEncoder(w).Encode(map[string]string{"Name": "s", "SecretString": secret()})
	}
}

func TestSecretsAreKeptForMinutesAndAskedForAgainWhenRejected(t *testing.T) {
	var asked atomic.Int32
	now, password := time.Unix(1000, 0), "one"
	s := open(t, keeper(func() string { return fmt.Sprintf(`{"username":"u","password":%q}`, password) }, &asked)).Secrets()
	s.now = func() time.Time { return now }
	get := func(rejected bool) string {
		t.Helper()
		got, err := s.Fields(t.Context(), "s", rejected, "username", "password")
		if err != nil {
			t.Fatal(err)
		}
		return got[1]
	}
	for _, step := range []struct {
		after    time.Duration
		rotate   string
		rejected bool
		want     string
		asked    int32
	}{
		{0, "", false, "one", 1},
		{time.Minute, "two", false, "one", 1},
		{0, "", true, "two", 2},
		{time.Second, "three", true, "two", 2}, // rejected, but just asked for
		{secretPause, "", true, "three", 3},
		{secretAge, "four", false, "four", 4},
	} {
		now = now.Add(step.after)
		if step.rotate != "" {
			password = step.rotate
		}
		if got := get(step.rejected); got != step.want || asked.Load() != step.asked {
			t.Errorf("%+v: got %q, asked %d times", step, got, asked.Load())
		}
	}
}

func TestWhatSecretsHoldIsNotShown(t *testing.T) {
	for name, content := range map[string]string{
		"no JSON": "planted-value", "JSON of another kind": `["planted-value"]`, "broken": `{"password":"planted-value`, "not a string": `{"username":"u","password":{"planted-value":1}}`,
		"missing": `{"username":"planted-value"}`,
	} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int32
			_, err := open(t, keeper(func() string { return content }, &asked)).Secrets().Fields(t.Context(), "the-id", false, "username", "password")
			if err == nil || !strings.Contains(err.Error(), "the-id") || strings.Contains(err.Error(), "planted") {
				t.Errorf("%v", err)
			}
		})
	}
	if got := fmt.Sprintf("%v %+v %#v %s", Secret{"planted"}, Secret{"planted"}, Secret{"planted"}, Secret{"planted"}); strings.Contains(got, "planted") {
		t.Error(got)
	}
}

func TestASecretIsUsedOnWhileNobodyCanBeAsked(t *testing.T) {
	var asked atomic.Int32
	down := false
	now := time.Unix(1000, 0)
	ok := keeper(func() string { return `{"a":"b"}` }, &asked)
	s := open(t, func(w http.ResponseWriter, r *http.Request) {
		if down {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		ok(w, r)
	}).Secrets()
	s.now = func() time.Time { return now }
	for range 2 {
		if got, err := s.Fields(t.Context(), "s", false, "a"); err != nil || got[0] != "b" {
			t.Fatalf("%v, %v", got, err)
		}
		down, now = true, now.Add(time.Hour)
	}
	if _, err := s.Fields(t.Context(), "s", true, "a"); err == nil {
		t.Error("a rejected secret was used on")
	}
}

func TestSpecsAreReadFromTheirPlaces(t *testing.T) {
	big := strings.Repeat("x", MaxSpec+1)
	c := open(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch {
		case r.URL.Path == "/bucket/a/spec.yaml":
			_, _ = io.WriteString(w, "from s3")
		case r.URL.Path == "/bucket/big":
			_, _ = io.WriteString(w, big)
		case r.Header.Get("X-Amz-Target") == "AmazonSSM.GetParameter" && strings.Contains(string(body), `"WithDecryption":true`) && strings.Contains(string(body), `"/app/spec"`):
			_, _ = io.WriteString(w, `{"Parameter":{"Value":"from ssm"}}`)
		case r.URL.Path == "/applications/a/environments/b c/configurations/d":
			_, _ = io.WriteString(w, "from appconfig")
		default:
			w.WriteHeader(http.StatusForbidden)
		}
	})
	for place, want := range map[string]string{"s3://bucket/a/spec.yaml": "from s3", "ssm:/app/spec": "from ssm", "appconfig:a/b c/d": "from appconfig"} {
		if got, err := c.Spec(t.Context(), place); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", place, got, err)
		}
	}
	for place, want := range map[string]error{"s3://bucket/big": ErrTooLarge, "s3://bucket": ErrSource, "ssm:": ErrSource, "appconfig:a/b": ErrSource, "a.yaml": ErrSource} {
		if _, err := c.Spec(t.Context(), place); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", place, err, want)
		}
	}
	for _, place := range []string{"s3://bucket/none", "ssm:/none", "appconfig:a/b/none"} {
		if _, err := c.Spec(t.Context(), place); err == nil || !strings.Contains(err.Error(), place) {
			t.Errorf("%s: %v", place, err)
		}
	}
}

func TestAFunctionIsInvokedAsynchronously(t *testing.T) {
	status := http.StatusAccepted
	var got string
	c := open(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = r.Method + " " + r.URL.Path + " " + r.Header.Get("X-Amz-Invocation-Type") + " " + string(body)
		w.WriteHeader(status)
	})
	invoke, err := c.Invoker("fire")
	if err != nil {
		t.Fatal(err)
	}
	if err := invoke(t.Context(), map[string]int{"a": 1}); err != nil || got != `POST /2015-03-31/functions/fire/invocations Event {"a":1}` {
		t.Errorf("%q, %v", got, err)
	}
	for _, status = range []int{http.StatusOK, http.StatusForbidden} {
		if err := invoke(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "fire") {
			t.Errorf("%d: %v", status, err)
		}
	}
}

func TestWithoutRegionOrCredentialsNothingIsAsked(t *testing.T) {
	vars := map[string]string{}
	c := New(func(name string) string { return vars[name] })
	if _, err := c.Secrets().Fields(t.Context(), "s", false, "a"); !errors.Is(err, ErrNoRegion) {
		t.Errorf("%v", err)
	}
	vars[envDefault] = "eu-west-1"
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := c.Secrets().Fields(ctx, "s", false, "a"); !errors.Is(err, ErrNoCredentials) {
		t.Errorf("%v", err)
	}
}
