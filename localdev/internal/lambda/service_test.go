package lambda

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/functions/apply"
	"github.com/llm-auto-optimizer/tidemark/functions/cloud"
	"github.com/llm-auto-optimizer/tidemark/localdev/host"
)

// scripted answers the n-th call (from 0) as it is told to, and notes when each came.
type scripted struct {
	say func(n int, q host.Request) ([]byte, error)

	mu    sync.Mutex
	begun time.Time
	at    []time.Duration
	ids   map[string]bool
}

func script(say func(n int, q host.Request) ([]byte, error)) *scripted {
	return &scripted{say: say, begun: time.Now(), ids: map[string]bool{}}
}

func (s *scripted) Do(_ context.Context, q host.Request) ([]byte, host.Report, error) {
	s.mu.Lock()
	n := len(s.at)
	s.at = append(s.at, time.Since(s.begun))
	s.ids[q.ID] = true
	s.mu.Unlock()
	body, err := s.say(n, q)
	return body, host.Report{Function: "f", Request: q.ID, Lines: []string{"a line"}, Err: err}, err
}

var errFailed = &host.FunctionError{Type: "errorString", Body: []byte(`{"errorMessage":"planned","errorType":"errorString"}`)}

func minutes(ms ...float64) []time.Duration {
	out := make([]time.Duration, len(ms))
	for i, m := range ms {
		out[i] = time.Duration(m * float64(time.Minute))
	}
	return out
}

func seconds(s ...float64) []time.Duration {
	out := minutes(s...)
	for i := range out {
		out[i] /= 60
	}
	return out
}

func TestAnAsynchronousEventIsTriedAgain(t *testing.T) {
	fails := func(n int) func(int, host.Request) ([]byte, error) {
		return func(i int, _ host.Request) ([]byte, error) {
			if i < n {
				return nil, errFailed
			}
			return nil, nil
		}
	}
	throttled := func(n int) func(int, host.Request) ([]byte, error) {
		return func(i int, _ host.Request) ([]byte, error) {
			if i < n {
				return nil, host.ErrThrottled
			}
			return nil, nil
		}
	}
	for name, tt := range map[string]struct {
		f    Function
		say  func(int, host.Request) ([]byte, error)
		want []time.Duration
	}{
		"it succeeds":                         {Function{Retries: 2}, fails(0), seconds(0)},
		"it fails once":                       {Function{Retries: 2}, fails(1), minutes(0, 1)},
		"it fails for ever":                   {Function{Retries: 2}, fails(100), minutes(0, 1, 3)},
		"no retries":                          {Function{}, fails(100), minutes(0)},
		"a failure that would be too old":     {Function{Retries: 2, MaxAge: 150 * time.Second}, fails(100), minutes(0, 1)},
		"throttled for a while":               {Function{}, throttled(4), seconds(0, 1, 3, 7, 15)},
		"throttled until it is too old":       {Function{MaxAge: time.Minute}, throttled(1000), seconds(0, 1, 3, 7, 15, 31)},
		"throttled for hours, then it is run": {Function{}, throttled(11), seconds(0, 1, 3, 7, 15, 31, 63, 127, 255, 511, 811, 1111)},
		"throttles cost no retries": {Function{Retries: 1}, func(i int, _ host.Request) ([]byte, error) {
			return nil, []error{host.ErrThrottled, errFailed, host.ErrThrottled, errFailed, errFailed}[i]
		}, seconds(0, 1, 61, 63)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tt.f.Name = "f"
				r := script(tt.say)
				tt.f.Run = r
				s := New(t.Context(), slog.New(slog.DiscardHandler), tt.f)
				if err := s.Send("f", host.Request{}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(10 * time.Hour) //nolint:forbidigo // of the bubble's clock
				s.Close()
				if diff := cmp.Diff(tt.want, r.at); diff != "" {
					t.Errorf("tries (-want +got):\n%s", diff)
				}
				if len(r.ids) != 1 {
					t.Errorf("request ids: %v", r.ids)
				}
			})
		})
	}
}

func TestTheEndDropsWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := script(func(int, host.Request) ([]byte, error) { return nil, host.ErrThrottled })
		s := New(t.Context(), slog.New(slog.DiscardHandler), Function{Name: "f", Run: r})
		for range 3 {
			if err := s.Send("f", host.Request{}); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		s.Close()
		if err := s.Send("f", host.Request{}); !errors.Is(err, host.ErrClosed) {
			t.Errorf("%v", err)
		}
		if len(r.at) != 3 {
			t.Errorf("%d tries", len(r.at))
		}
	})
}

func TestAQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(t.Context(), slog.New(slog.DiscardHandler), Function{Name: "f", Disabled: true})
		defer s.Close()
		for range mostWaiting {
			if err := s.Send("f", host.Request{}); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Send("f", host.Request{}); !errors.Is(err, ErrQueueFull) {
			t.Errorf("%v", err)
		}
	})
}

// client is the one that everybody uses.
func client(t *testing.T, s *Service) (*lambda.Client, string) {
	t.Helper()
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	return lambda.New(lambda.Options{
		Region: "us-east-1", BaseEndpoint: &server.URL, RetryMaxAttempts: 1,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "a", SecretAccessKey: "b"}, nil
		}),
	}), server.URL
}

func TestTheInvokeAPI(t *testing.T) {
	ran := make(chan host.Request, 10)
	r := script(func(_ int, q host.Request) ([]byte, error) {
		switch string(q.Payload) {
		case `"fail"`:
			return nil, errFailed
		case `"throttle"`:
			return nil, host.ErrThrottled
		case `"broken"`:
			return nil, host.ErrNotSupported
		}
		ran <- q
		return []byte(`{"answer":` + string(q.Payload) + `}`), nil
	})
	s := New(t.Context(), slog.New(slog.DiscardHandler), Function{Name: "f", Run: r}, Function{Name: "off", Run: r, Disabled: true})
	t.Cleanup(s.Close)
	c, _ := client(t, s)
	invoke := func(name, payload string, change func(*lambda.InvokeInput)) (*lambda.InvokeOutput, error) {
		in := &lambda.InvokeInput{FunctionName: &name, Payload: []byte(payload)}
		if change != nil {
			change(in)
		}
		return c.Invoke(t.Context(), in)
	}
	for _, name := range []string{"f", "arn:aws:lambda:us-east-1:123456789012:function:f", "123456789012:function:f", "arn:aws:lambda:us-east-1:123456789012:function:f:$LATEST"} {
		out, err := invoke(name, `{"a":1}`, func(in *lambda.InvokeInput) { in.LogType = types.LogTypeTail; in.ClientContext = aws.String("e30=") })
		if err != nil || out.StatusCode != http.StatusOK || string(out.Payload) != `{"answer":{"a":1}}` || out.FunctionError != nil || *out.ExecutedVersion != "$LATEST" {
			t.Fatalf("%s: %+v, %v", name, out, err)
		}
		if q := <-ran; q.ClientContext != "{}" {
			t.Errorf("%+v", q)
		}
		if out.LogResult == nil || len(*out.LogResult) < 20 {
			t.Errorf("log %v", out.LogResult)
		}
	}
	if out, err := invoke("f", "", nil); err != nil || string(out.Payload) != `{"answer":{}}` {
		t.Errorf("nothing: %+v, %v", out, err)
	}
	<-ran
	if out, err := invoke("f", `"fail"`, nil); err != nil || out.StatusCode != http.StatusOK || *out.FunctionError != "Unhandled" || !strings.Contains(string(out.Payload), "planned") {
		t.Errorf("fail: %+v, %v", out, err)
	}
	if out, err := invoke("f", `1`, func(in *lambda.InvokeInput) { in.InvocationType = types.InvocationTypeDryRun }); err != nil || out.StatusCode != http.StatusNoContent {
		t.Errorf("dry: %+v, %v", out, err)
	}
	if out, err := invoke("f", `2`, func(in *lambda.InvokeInput) { in.InvocationType = types.InvocationTypeEvent }); err != nil || out.StatusCode != http.StatusAccepted {
		t.Errorf("event: %+v, %v", out, err)
	}
	if q := <-ran; string(q.Payload) != "2" { // and the dry one did not run
		t.Errorf("%s", q.Payload)
	}
	for name, tt := range map[string]struct {
		function, payload, want string
		change                  func(*lambda.InvokeInput)
	}{
		"unknown":         {"g", "1", "ResourceNotFoundException", nil},
		"another version": {"f", "1", "ResourceNotFoundException", func(in *lambda.InvokeInput) { in.Qualifier = aws.String("3") }},
		"throttled":       {"f", `"throttle"`, "TooManyRequestsException", nil},
		"disabled":        {"off", `1`, "TooManyRequestsException", nil},
		"cannot start":    {"f", `"broken"`, "ServiceException", nil},
		"no JSON":         {"f", `{`, "InvalidRequestContentException", nil},
		"another type":    {"f", `1`, "InvalidParameterValueException", func(in *lambda.InvokeInput) { in.InvocationType = "Soon" }},
		"client context":  {"f", `1`, "InvalidRequestContentException", func(in *lambda.InvokeInput) { in.ClientContext = aws.String("e") }},
		"too long":        {"f", `"` + strings.Repeat("x", mostSync) + `"`, "RequestTooLargeException", nil},
		"too long an event": {"f", `"` + strings.Repeat("x", mostAsync) + `"`, "RequestTooLargeException", func(in *lambda.InvokeInput) {
			in.InvocationType = types.InvocationTypeEvent
		}},
	} {
		if out, err := invoke(tt.function, tt.payload, tt.change); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %+v, %v; want %s", name, out, err, tt.want)
		}
	}
}

// Ingest's own way to fire comes through.
func TestANudgeArrives(t *testing.T) {
	ran := make(chan string, 1)
	s := New(t.Context(), slog.New(slog.DiscardHandler), Function{Name: "Fire", Run: script(func(_ int, q host.Request) ([]byte, error) {
		ran <- string(q.Payload)
		return nil, nil
	})})
	t.Cleanup(s.Close)
	_, url := client(t, s)
	vars := map[string]string{"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_ENDPOINT_URL_LAMBDA": url}
	nudge, err := cloud.New(func(name string) string { return vars[name] }).Invoker("Fire")
	if err != nil {
		t.Fatal(err)
	}
	if err := nudge(t.Context(), apply.Nudge{TakeOver: true}); err != nil {
		t.Fatal(err)
	}
	if got := <-ran; got != `{"takeover":true}` {
		t.Errorf("%s", got)
	}
}

func TestPagesOfABrowserAreRefused(t *testing.T) {
	s := New(t.Context(), slog.New(slog.DiscardHandler), Function{Name: "f", Disabled: true})
	t.Cleanup(s.Close)
	_, url := client(t, s)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/2015-03-31/functions/f/invocations", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Origin", "http://elsewhere")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Error(resp.Status)
	}
}
