package console

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

//go:embed web
var web embed.FS

// Server shows a board: a page at /, and what is on it under /api/. It changes nothing and answers GET alone.
type Server struct {
	board *Board
	http  http.Server
	url   string
	done  chan error
	ended context.CancelFunc // ends the streams

	mu      sync.Mutex
	streams int
}

// Listen starts a server at addr, host:port. On a loopback address it answers only who asked for a loopback address by name, so
// that no other site can reach it through a name of its own.
func Listen(ctx context.Context, addr string, b *Board) (*Server, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}
	root, err := fs.Sub(web, "web")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("console: %w", err), l.Close())
	}
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &Server{board: b, url: "http://" + l.Addr().String(), done: make(chan error, 1), ended: cancel}
	mux := http.NewServeMux()
	files := http.FileServerFS(root)
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-cache") // another version of the program has other files
		files.ServeHTTP(w, r)
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, map[string]string{"status": "ok"}) })
	mux.HandleFunc("GET /api/events", s.events)
	mux.HandleFunc("GET /api/keys", s.keys)
	mux.HandleFunc("GET /api/series", s.series)
	mux.HandleFunc("GET /api/{$}", func(w http.ResponseWriter, _ *http.Request) { answer(w, documentation()) })
	for section := range Section(sections) {
		mux.HandleFunc("GET /api/"+section.String(), func(w http.ResponseWriter, r *http.Request) {
			if section == SectionExplain {
				s.fresh(r.Context())
			}
			if f := r.FormValue("function"); section == SectionLogs && f != "" {
				answer(w, b.LogLines(f))
				return
			}
			answer(w, b.Section(section))
		})
	}
	s.http = http.Server{
		Handler: guard(mux, l.Addr()), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
		BaseContext: func(net.Listener) context.Context { return base },
	}
	go func() { s.done <- s.http.Serve(l) }()
	return s, nil
}

// answer writes JSON.
func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(v) // whoever asked has gone
}

// freshWithin is how long a question for an explanation waits for one that is new.
const freshWithin = 2 * time.Second

// fresh asks for an explanation, and waits for it if the last one is old.
func (s *Server) fresh(ctx context.Context) {
	within, cancel := context.WithTimeout(ctx, freshWithin)
	defer cancel()
	asked := s.board.now()
	for s.board.look(); s.board.explainedBefore(asked.Add(-freshWithin)); {
		_, next := s.board.Changes()
		if !s.board.explainedBefore(asked.Add(-freshWithin)) {
			return
		}
		select {
		case <-within.Done():
			return
		case <-next:
		}
	}
}

func (s *Server) keys(w http.ResponseWriter, r *http.Request) {
	number := func(name string, otherwise int) int {
		if n, err := strconv.Atoi(r.FormValue(name)); err == nil {
			return n
		}
		return otherwise
	}
	answer(w, s.board.Keys(KeyQuery{
		Pipeline: r.FormValue("pipeline"), Window: r.FormValue("window"), Value: r.FormValue("value"), Search: r.FormValue("q"),
		Sort: r.FormValue("sort"), Offset: number("offset", 0), Limit: number("limit", 50),
	}))
}

func (s *Server) series(w http.ResponseWriter, r *http.Request) {
	answer(w, s.board.Series(r.FormValue("pipeline"), r.FormValue("window"), r.FormValue("key")))
}

// Endpoint is one path of the API.
type Endpoint struct {
	Path string `json:"path"`
	Is   string `json:"is"`
}

// documentation lists the paths, for whoever finds /api/.
func documentation() []Endpoint {
	return []Endpoint{
		{"/healthz", "200 as long as the console answers"},
		{"/api/status", "counters, rates a second, latency of the functions, pipelines, partitions, the last 20 results"},
		{"/api/history", "records, results and lag of each of the last 300 seconds"},
		{"/api/explain", "as `tidemark explain --json`: who holds the watermark back and why, partitions, open windows; and what is in trouble. Asked for, it is kept up to date for 5 s"},
		{"/api/windows", "the last 500 windows that have fired"},
		{"/api/results", "pipelines and windows that have results, and the values of these"},
		{"/api/keys?pipeline=&window=&value=&q=&sort=key|recent|value&offset=&limit=", "a page of keys with their newest number of a value, and those before; limit is at most 200"},
		{"/api/series?pipeline=&window=&key=", "the last 120 windows of a key, with all values"},
		{"/api/rejects", "late records and dead letters: counts by reason, and the last 100"},
		{"/api/ledger", "the last 60 plans with their books"},
		{"/api/functions", "invocations: totals of each function, and the last 200"},
		{"/api/logs?function=", "the last 400 lines that the functions logged"},
		{"/api/events", "server-sent events: each section above by its name, now and whenever it has changed"},
	}
}

// URL is where the page is.
func (s *Server) URL() string { return s.url }

// Close ends the server and its connections.
func (s *Server) Close() error {
	s.ended()
	err := s.http.Close()
	if served := <-s.done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	if err != nil {
		return fmt.Errorf("close console: %w", err)
	}
	return nil
}
