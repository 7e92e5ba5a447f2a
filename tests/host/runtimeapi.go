package host

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The headers of the Runtime API.
const (
	headerRequest   = "Lambda-Runtime-Aws-Request-Id"
	headerDeadline  = "Lambda-Runtime-Deadline-Ms"
	headerFunction  = "Lambda-Runtime-Invoked-Function-Arn"
	headerTrace     = "Lambda-Runtime-Trace-Id"
	headerErrorType = "Lambda-Runtime-Function-Error-Type"
	headerExtension = "Lambda-Extension-Identifier"
)

// maxAnswer is the longest response that Lambda takes, in bytes.
const maxAnswer = 6<<20 + 100

// serve is the part of the Runtime API that aws-lambda-go uses, and of the Extensions API what it needs to be told of SIGTERM.
func (f *Function) serve(p *process, w http.ResponseWriter, r *http.Request) {
	const invocation = "/2018-06-01/runtime/invocation/"
	rest := strings.TrimPrefix(r.URL.Path, invocation)
	switch id, verb, _ := strings.Cut(rest, "/"); {
	case r.Method == http.MethodGet && rest == "next":
		f.next(p, w, r)
	case r.Method == http.MethodPost && (verb == "response" || verb == "error"):
		p.answer(w, r, id, verb == "error")
	case r.Method == http.MethodPost && r.URL.Path == "/2018-06-01/runtime/init/error":
		w.WriteHeader(http.StatusAccepted) // the process ends now, and its log says why
	case r.Method == http.MethodPost && r.URL.Path == "/2020-01-01/extension/register":
		if r.Header.Get("Lambda-Extension-Name") == "" {
			http.Error(w, `{"errorType":"Extension.InvalidExtensionName"}`, http.StatusForbidden)
			return
		}
		w.Header().Set(headerExtension, "extension-of-"+f.opts.Name)
		_, _ = w.Write([]byte(`{"functionName":"` + f.opts.Name + `","functionVersion":"$LATEST","handler":"bootstrap"}`))
	case r.Method == http.MethodGet && r.URL.Path == "/2020-01-01/extension/event/next":
		<-r.Context().Done() // there are no events for an internal extension: it is told by a signal
	default:
		http.NotFound(w, r)
	}
}

func (f *Function) next(p *process, w http.ResponseWriter, r *http.Request) {
	p.once.Do(func() {
		if f.opts.OnReady != nil {
			f.opts.OnReady(p.cmd.Process.Pid)
		}
	})
	select {
	case c := <-p.calls:
		p.mu.Lock()
		p.current = c
		p.mu.Unlock()
		h, now := w.Header(), time.Now()
		h.Set(headerRequest, c.id)
		h.Set(headerDeadline, strconv.FormatInt(now.Add(f.opts.Timeout).UnixMilli(), 10))
		h.Set(headerFunction, "arn:aws:lambda:us-east-1:123456789012:function:"+f.opts.Name)
		h.Set(headerTrace, traceID(c.id, now))
		h.Set("Content-Type", "application/json")
		_, _ = w.Write(c.payload)
	case <-r.Context().Done():
	}
}

// traceID is a trace header of X-Ray's form: the time in seconds, then 96 bits, of which the request makes some.
func traceID(request string, now time.Time) string {
	seconds := strconv.FormatInt(now.Unix(), 16)
	var sum uint64 = 14695981039346656037 // FNV-1a
	for i := range len(request) {
		sum = (sum ^ uint64(request[i])) * 1099511628211
	}
	half := strconv.FormatUint(sum|1<<63, 16)
	return "Root=1-" + seconds + "-" + half + half[:8] + ";Parent=" + half + ";Sampled=0"
}

// answer takes the outcome of the invocation under way. An id that is not that one's is refused, as Lambda does.
func (p *process) answer(w http.ResponseWriter, r *http.Request, id string, failed bool) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxAnswer+1))
	if err != nil {
		return // it died while it answered
	}
	p.mu.Lock()
	c := p.current
	known := c != nil && c.id == id
	if known {
		p.current = nil
	}
	p.mu.Unlock()
	switch {
	case !known:
		http.Error(w, `{"errorType":"InvalidRequestID"}`, http.StatusBadRequest)
		return
	case len(body) > maxAnswer:
		http.Error(w, `{"errorType":"Function.ResponseSizeTooLarge"}`, http.StatusRequestEntityTooLarge)
		c.done <- result{err: &FunctionError{Type: "Function.ResponseSizeTooLarge", Body: body[:200]}}
		return
	}
	w.WriteHeader(http.StatusAccepted)
	if failed {
		c.done <- result{err: newFunctionError(r.Header.Get(headerErrorType), body)}
		return
	}
	c.done <- result{body: body}
}

func newFunctionError(header string, body []byte) *FunctionError {
	e := &FunctionError{Type: header, Body: body}
	var said struct {
		ErrorType string `json:"errorType"`
	}
	if json.Unmarshal(body, &said) == nil && said.ErrorType != "" {
		e.Type = said.ErrorType
	}
	return e
}
