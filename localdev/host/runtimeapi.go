package host

import (
	"encoding/base64"
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"strconv"
	"time"
)

// The headers of the Runtime API.
const (
	headerRequest   = "Lambda-Runtime-Aws-Request-Id"
	headerDeadline  = "Lambda-Runtime-Deadline-Ms"
	headerFunction  = "Lambda-Runtime-Invoked-Function-Arn"
	headerTrace     = "Lambda-Runtime-Trace-Id"
	headerClient    = "Lambda-Runtime-Client-Context"
	headerErrorType = "Lambda-Runtime-Function-Error-Type"
	headerErrorBody = "Lambda-Runtime-Function-Error-Body"
	headerName      = "Lambda-Extension-Name"
	headerExtension = "Lambda-Extension-Identifier"
)

// api is the Runtime API of one environment, and of the Extensions API what it takes to be told of SIGTERM.
func (e *environment) api() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /2018-06-01/runtime/invocation/next", e.next)
	mux.HandleFunc("POST /2018-06-01/runtime/init/error", e.failedInit)
	mux.HandleFunc("POST /2020-01-01/extension/register", e.register)
	e.f.answers(mux)
	return mux
}

// answers adds what is the same for all environments: an invocation is known by its id.
func (f *Function) answers(mux *http.ServeMux) {
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/response", func(w http.ResponseWriter, r *http.Request) { f.answer(w, r, false) })
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/error", func(w http.ResponseWriter, r *http.Request) { f.answer(w, r, true) })
	mux.HandleFunc("GET /2020-01-01/extension/event/next", func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done() // an internal extension has no events: it is told by a signal
	})
}

func refuse(w http.ResponseWriter, code int, kind, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = fmt.Fprintf(w, `{"errorType":%q,"errorMessage":%q}`, kind, message) // it is gone, or reads it
}

func (e *environment) register(w http.ResponseWriter, r *http.Request) {
	name := r.Header.Get(headerName)
	if name == "" {
		refuse(w, http.StatusForbidden, "Extension.InvalidExtensionName", headerName+" is missing")
		return
	}
	e.f.mu.Lock()
	e.registered = true
	e.f.mu.Unlock()
	e.f.registered(w, name)
}

func (f *Function) registered(w http.ResponseWriter, name string) {
	w.Header().Set(headerExtension, "extension-"+name)
	w.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprintf(w, `{"functionName":%q,"functionVersion":"$LATEST","handler":"bootstrap"}`, f.opts.Name)
}

func (e *environment) failedInit(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, MaxResponse))
	if err != nil {
		return // it died while it told
	}
	said := answered(r.Header.Get(headerErrorType), body)
	said.Cause = ErrDied
	e.f.mu.Lock()
	e.initError = said
	e.f.mu.Unlock()
	w.WriteHeader(http.StatusAccepted) // it ends now, and its log says why
}

// next completes the invocation that was under way and waits for another.
func (e *environment) next(w http.ResponseWriter, r *http.Request) {
	f := e.f
	f.mu.Lock()
	first := !e.warm
	e.warm = true
	if c := e.current; c != nil {
		e.current = nil
		close(c.complete)
	}
	f.mu.Unlock()
	if first {
		if f.opts.OnReady != nil {
			f.opts.OnReady(e.box.pid())
		}
		close(e.ready)
	}
	select {
	case c := <-e.calls:
		f.mu.Lock()
		e.current = c
		f.mu.Unlock()
		f.hand(w, c)
	case <-r.Context().Done():
	}
}

// hand writes an invocation.
func (f *Function) hand(w http.ResponseWriter, c *call) {
	h := w.Header()
	h.Set(headerRequest, c.ID)
	h.Set(headerDeadline, strconv.FormatInt(c.deadline.UnixMilli(), 10))
	h.Set(headerFunction, f.ARN())
	h.Set(headerTrace, traceID(c.ID, c.report.Begun))
	if c.ClientContext != "" {
		h.Set(headerClient, c.ClientContext)
	}
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(c.Payload)))
	_, _ = w.Write(c.Payload) // if it died, its end is seen elsewhere
}

// traceID is a trace header of X-Ray's form: the time in seconds, then 96 bits, of which the request makes some.
func traceID(request string, now time.Time) string {
	hash := fnv.New64a()
	_, _ = io.WriteString(hash, request) // it takes everything
	half := strconv.FormatUint(hash.Sum64()|1<<63, 16)
	return "Root=1-" + strconv.FormatInt(now.Unix(), 16) + "-" + half + half[:8] + ";Parent=" + half + ";Sampled=0"
}

// answer takes the outcome of an invocation. The runtime client takes 202 alone for an answer, and ends itself with any other.
func (f *Function) answer(w http.ResponseWriter, r *http.Request, failed bool) {
	body, err := io.ReadAll(io.LimitReader(r.Body, MaxResponse+1))
	if err != nil {
		return // it died while it answered
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, 10*MaxResponse)) // what writes more would else not read why it is refused
	id := r.PathValue("id")
	f.mu.Lock()
	c := f.calls[id]
	var code int
	var kind, message string
	open := c != nil && !c.answered && !c.expired
	switch {
	case c == nil:
		code, kind, message = http.StatusBadRequest, "InvalidRequestID", "Invalid request ID"
	case c.expired:
		code, kind, message = http.StatusGone, "InvocationTimedOut", "the invocation has timed out"
	case c.answered:
		code, kind, message = http.StatusForbidden, "InvalidStateTransition", "the invocation has been answered"
	case len(body) > MaxResponse:
		code, kind, message = http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", fmt.Sprintf("Exceeded maximum allowed payload size (%d bytes).", MaxResponse)
		c.answered, c.err = true, told(id, typeTooLarge, fmt.Sprintf("Response payload size exceeded maximum allowed payload size (%d bytes).", MaxResponse), nil)
	case failed:
		c.answered, c.err = true, answered(r.Header.Get(headerErrorType), body)
	case r.Trailer.Get(headerErrorType) != "": // a response that was streamed and broke off
		said, err := base64.StdEncoding.DecodeString(r.Trailer.Get(headerErrorBody))
		if err != nil {
			said = body
		}
		c.answered, c.err = true, answered(r.Trailer.Get(headerErrorType), said)
	default:
		c.answered, c.body = true, body
	}
	if open && f.guests != nil {
		close(c.complete) // it may ask for more over another connection
	}
	f.mu.Unlock()
	if code != 0 {
		refuse(w, code, kind, message)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}
