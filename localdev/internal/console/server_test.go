package console_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"math"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/console"
)

// get returns the status, the headers and the body.
func get(t *testing.T, method, url string, headers ...string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	req.Host = req.Header.Get("Host")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(body)
}

func serve(t *testing.T, b *console.Board) *console.Server {
	t.Helper()
	s, err := console.Listen(t.Context(), "127.0.0.1:0", b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestServer(t *testing.T) {
	b, _ := withWindow(console.ModeKafka)
	s := serve(t, b)
	b.Published(result("<script>alert(1)</script>", 0, 1, "on_time", `{"count":1}`))
	b.Explained(explanation(3, "1970-01-01T00:00:01Z"), time.Millisecond)
	code, _, body := get(t, http.MethodGet, s.URL()+"/api/status")
	var got console.Status
	if err := json.Unmarshal([]byte(body), &got); err != nil || code != http.StatusOK || got.App != "app" || len(got.LastResults) != 1 {
		t.Errorf("status %d, %v: %s", code, err, body)
	}
	if strings.Contains(body, "<script>") {
		t.Errorf("markup of a key is in the answer as it is: %s", body)
	}
	code, header, body := get(t, http.MethodGet, s.URL()+"/")
	if code != http.StatusOK || !strings.HasPrefix(header.Get("Content-Type"), "text/html") || !strings.Contains(body, "<title>Tidemark") {
		t.Errorf("page: %d %v", code, header)
	}
	if p := header.Get("Content-Security-Policy"); !strings.HasPrefix(p, "default-src 'self';") || strings.Contains(p, "unsafe") {
		t.Errorf("policy %q", p)
	}
	if code, _, body := get(t, http.MethodGet, s.URL()+"/healthz"); code != http.StatusOK || !strings.Contains(body, "ok") {
		t.Errorf("healthz: %d %s", code, body)
	}
	for _, c := range []struct {
		method, path string
		want         int
	}{
		{http.MethodPost, "/api/status", http.StatusMethodNotAllowed},
		{http.MethodGet, "/else", http.StatusNotFound},
		{http.MethodDelete, "/", http.StatusMethodNotAllowed},
		{http.MethodGet, "/api/nothing", http.StatusNotFound},
		{http.MethodGet, "/js/main.js", http.StatusOK},
		{http.MethodGet, "/style.css", http.StatusOK},
		{http.MethodGet, "/../server.go", http.StatusNotFound},
	} {
		if code, _, _ := get(t, c.method, s.URL()+c.path); code != c.want {
			t.Errorf("%s %s: %d, want %d", c.method, c.path, code, c.want)
		}
	}
	if _, err := console.Listen(t.Context(), strings.TrimPrefix(s.URL(), "http://"), b); err == nil {
		t.Error("a busy address was taken")
	}
}

// Every path that /api/ documents answers with JSON.
func TestTheAPIIsWhatItsDocumentationSays(t *testing.T) {
	b, _ := withWindow(console.ModeKafka)
	s := serve(t, b)
	b.Published(result("k", 0, 1, "on_time", `{"count":7}`))
	b.Explained(explanation(3, "1970-01-01T00:00:01Z"), time.Millisecond)
	_, _, body := get(t, http.MethodGet, s.URL()+"/api/")
	var list []console.Endpoint
	if err := json.Unmarshal([]byte(body), &list); err != nil || len(list) < 12 {
		t.Fatalf("%v: %s", err, body)
	}
	for _, e := range list {
		path, _, _ := strings.Cut(e.Path, "?")
		if path == "/api/events" {
			continue
		}
		code, header, body := get(t, http.MethodGet, s.URL()+path)
		if code != http.StatusOK || !json.Valid([]byte(body)) || !strings.HasPrefix(header.Get("Content-Type"), "application/json") || header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %v %s", path, code, header, body)
		}
	}
	for path, want := range map[string]string{
		"/api/keys?pipeline=p&window=w&q=K&limit=5":   `"keys":[{"key":"k","start_ms":0,"end_ms":10,"late":false,"latest":7,"spark":[7]}]`,
		"/api/series?pipeline=p&window=w&key=k":       `"points":[{"start_ms":0,"end_ms":10,"revision":1,"late":false,"numbers":[7]}]`,
		"/api/keys?pipeline=p&window=none&limit=junk": `"keys":[]`,
		"/api/explain":              `"pipeline":"p"`,
		"/api/logs?function=ingest": `[]`,
	} {
		if _, _, body := get(t, http.MethodGet, s.URL()+path); !strings.Contains(body, want) {
			t.Errorf("%s: %s, want %s", path, body, want)
		}
	}
}

// Neither another site's page nor a name that somebody else points here gets anything.
func TestOtherSitesAreRefused(t *testing.T) {
	b, _ := board()
	s := serve(t, b)
	_, port, err := net.SplitHostPort(strings.TrimPrefix(s.URL(), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		path    string
		headers []string
		want    int
	}{
		"by address":                     {"/api/status", nil, http.StatusOK},
		"by name":                        {"/api/status", []string{"Host", "localhost:" + port}, http.StatusOK},
		"by address of the newer kind":   {"/api/status", []string{"Host", "[::1]:" + port}, http.StatusOK},
		"another name":                   {"/api/status", []string{"Host", "evil.example:" + port}, http.StatusForbidden},
		"another name, no port":          {"/", []string{"Host", "evil.example"}, http.StatusForbidden},
		"another address":                {"/api/status", []string{"Host", "10.0.0.7:" + port}, http.StatusForbidden},
		"a name that looks like one":     {"/healthz", []string{"Host", "localhost.evil.example"}, http.StatusForbidden},
		"its own page":                   {"/api/status", []string{"Origin", s.URL(), "Host", strings.TrimPrefix(s.URL(), "http://"), "Sec-Fetch-Site", "same-origin"}, http.StatusOK},
		"another origin":                 {"/api/events", []string{"Origin", "http://evil.example"}, http.StatusForbidden},
		"another port is another origin": {"/api/status", []string{"Origin", "http://127.0.0.1:1"}, http.StatusForbidden},
		"an image of another site":       {"/api/status", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors"}, http.StatusForbidden},
		"a link from another site":       {"/", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"}, http.StatusOK},
		"a link to the data":             {"/api/status", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"}, http.StatusForbidden},
		"typed in":                       {"/", []string{"Sec-Fetch-Site", "none", "Sec-Fetch-Mode", "navigate"}, http.StatusOK},
	} {
		if code, header, _ := get(t, http.MethodGet, s.URL()+c.path, c.headers...); code != c.want || header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: %d, want %d", name, code, c.want)
		}
	}
}

// reader reads a stream of events.
type reader struct {
	*bufio.Scanner
	t *testing.T
}

func stream(t *testing.T, s *console.Server) *reader {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL()+"/api/events", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := resp.Body.Close(); err != nil {
			t.Error(err)
		}
	})
	if got := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || got != "text/event-stream" {
		t.Fatalf("%d %s", resp.StatusCode, got)
	}
	r := &reader{bufio.NewScanner(resp.Body), t}
	r.Buffer(nil, 1<<20)
	return r
}

// await reads until an event of a section whose data have a text.
func (r *reader) await(section, text string) {
	r.t.Helper()
	at := ""
	for r.Scan() {
		if name, ok := strings.CutPrefix(r.Text(), "event: "); ok {
			at = name
		}
		if data, ok := strings.CutPrefix(r.Text(), "data: "); ok && at == section && strings.Contains(data, text) {
			return
		}
	}
	r.t.Fatalf("the stream ended before %s had %q: %v", section, text, r.Err())
}

func TestTheStreamHasAllAtFirstAndThenWhatChanges(t *testing.T) {
	c := &clock{time.Unix(1000, 0)}
	b, _ := withWindow(console.ModeKafka)
	if watched, _ := b.Watched(); watched {
		t.Error("it is watched though nobody has come")
	}
	s := serve(t, b)
	r := stream(t, s)
	for _, section := range []string{"status", "history", "explain", "windows", "results", "rejects", "ledger", "functions", "logs"} {
		r.await(section, "")
	}
	if watched, _ := b.Watched(); !watched {
		t.Error("it is not watched")
	}
	b.Published(result("k", 0, 1, "on_time", `{"count":7}`))
	r.await("windows", `"start_ms":0`)
	r.await("results", `"keys":1`)
	b.Rejected(&event.Record{Headers: []event.Header{{Key: "tidemark-reason", Value: []byte("late")}}}, true)
	r.await("rejects", `"reason":"late"`)
	b.Invoked(console.Invocation{Function: "fire", Started: c.now()})
	r.await("functions", `"function":"fire"`)
	b.Trouble("x", console.Trouble{Kind: "error", What: "something"})
	r.await("explain", "something")
	r.await("status", `"results":0`) // it comes each second
}

// A question for an explanation makes somebody find one out.
func TestAskingForAnExplanationWakesWhoeverFindsItOut(t *testing.T) {
	b, _ := withWindow(console.ModeKafka)
	s := serve(t, b)
	_, begins := b.Watched()
	go func() {
		<-begins
		b.Explained(explanation(3, "1970-01-01T00:00:01Z"), time.Millisecond)
	}()
	if _, _, body := get(t, http.MethodGet, s.URL()+"/api/explain"); !strings.Contains(body, `"pipeline":"p"`) {
		t.Errorf("got %s", body)
	}
}

// files returns what is served, by name.
func files(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	web := os.DirFS("web")
	err := fs.WalkDir(web, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(web, name)
		out[name] = string(text)
		return err
	})
	if err != nil || len(out) < 5 {
		t.Fatalf("%d files, %v", len(out), err)
	}
	return out
}

// The page asks nobody else, runs nothing inline, and builds no markup out of data.
func TestThePageKeepsToItself(t *testing.T) {
	foreign := regexp.MustCompile(`(?:https?:)?//[a-z0-9.-]+\.[a-z]|innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|@import|\son[a-z]+="|\sstyle="|<script>|<style>`)
	for name, text := range files(t) {
		text = strings.ReplaceAll(text, "http://www.w3.org/2000/svg", "")
		if found := foreign.FindString(text); found != "" {
			t.Errorf("%s has %q", name, found)
		}
	}
}

// colours reads the colours of a block of the style sheet.
func colours(t *testing.T, block string) map[string]float64 {
	t.Helper()
	out := map[string]float64{}
	for _, m := range regexp.MustCompile(`--([a-z-]+): #([0-9a-f]{6});`).FindAllStringSubmatch(block, -1) {
		v, err := strconv.ParseUint(m[2], 16, 32)
		if err != nil {
			t.Fatal(err)
		}
		light := 0.0
		for i, share := range []float64{.2126, .7152, .0722} { // relative luminance, as WCAG has it
			c := float64(v>>(16-8*i)&0xff) / 255
			if c <= .04045 {
				c /= 12.92
			} else {
				c = math.Pow((c+.055)/1.055, 2.4)
			}
			light += share * c
		}
		out[m[1]] = light
	}
	return out
}

func TestTextHasEnoughContrast(t *testing.T) {
	blocks := strings.Split(files(t)["style.css"], "{")
	var themes []map[string]float64
	for _, b := range blocks {
		if strings.Contains(b, "--paper:") {
			themes = append(themes, colours(t, b))
		}
	}
	if len(themes) != 3 {
		t.Fatalf("%d themes, want light, dark, and dark by the system", len(themes))
	}
	for i, c := range themes {
		for _, pair := range [][2]string{
			{"ink", "paper"},
			{"ink", "card"},
			{"ink", "soft"},
			{"ink", "tide-soft"},
			{"ink", "bad-soft"},
			{"ink", "sun-soft"},
			{"dim", "paper"},
			{"dim", "card"},
			{"dim", "tide-soft"},
			{"dim", "soft"},
			{"tide", "paper"},
			{"tide", "card"},
			{"on-tide", "tide"},
			{"sun", "card"},
			{"sun", "sun-soft"},
			{"good", "card"},
			{"bad", "card"},
			{"bad", "bad-soft"},
		} {
			a, b := c[pair[0]], c[pair[1]]
			if ratio := (max(a, b) + .05) / (min(a, b) + .05); ratio < 4.5 {
				t.Errorf("theme %d: %s on %s has a contrast of %.2f, want 4.5", i, pair[0], pair[1], ratio)
			}
		}
	}
}
