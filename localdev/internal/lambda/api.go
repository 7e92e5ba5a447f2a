package lambda

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/llm-auto-optimizer/tidemark/localdev/host"
)

// The longest payloads that Lambda takes, in bytes.
const (
	mostSync  = 6 << 20
	mostAsync = 1 << 20
	// mostLog is how much of an invocation's log the API returns.
	mostLog = 4 << 10
)

// Server is the API at a local address.
type Server struct {
	server *http.Server
	done   chan struct{}
}

// Serve serves the Invoke API, until the server is closed; the listener is its own from now on.
func (s *Service) Serve(listener net.Listener) *Server {
	server := &Server{server: &http.Server{Handler: s.Handler(), ReadHeaderTimeout: time.Minute}, done: make(chan struct{})}
	go func() {
		defer close(server.done)
		_ = server.server.Serve(listener) // until it is closed
	}()
	return server
}

// Close ends the API at once.
func (s *Server) Close() error {
	err := s.server.Close()
	<-s.done
	return err
}

// Handler is the Invoke API. Signatures are not looked at.
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /2015-03-31/functions/{name}/invocations", s.invoke)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Origin") != "" { // a page in a browser has no business here
			fail(w, http.StatusForbidden, "AccessDeniedException", "not for web pages")
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func fail(w http.ResponseWriter, code int, kind, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Amzn-Errortype", kind)
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]string{"Type": "User", "Message": message, "message": message}) // it is gone, or reads it
}

func (s *Service) invoke(w http.ResponseWriter, r *http.Request) {
	q := host.Request{ID: host.NewRequestID()}
	w.Header().Set("X-Amzn-Requestid", q.ID)
	name, err := url.PathUnescape(r.PathValue("name"))
	if err != nil {
		name = r.PathValue("name")
	}
	f, err := s.find(name)
	if err != nil {
		fail(w, http.StatusNotFound, "ResourceNotFoundException", err.Error())
		return
	}
	if v := r.URL.Query().Get("Qualifier"); v != "" && v != "$LATEST" {
		fail(w, http.StatusNotFound, "ResourceNotFoundException", fmt.Sprintf("Function not found: %s:%s; here is $LATEST alone", f.Name, v))
		return
	}
	kind := r.Header.Get("X-Amz-Invocation-Type")
	most := mostSync
	switch kind {
	case "", "RequestResponse", "DryRun":
	case "Event":
		most = mostAsync
	default:
		fail(w, http.StatusBadRequest, "InvalidParameterValueException", fmt.Sprintf("invocation type %q: want RequestResponse, Event or DryRun", kind))
		return
	}
	if q.Payload, err = io.ReadAll(io.LimitReader(r.Body, int64(most)+1)); err != nil {
		return // it died while it asked
	}
	if client := r.Header.Get("X-Amz-Client-Context"); client != "" {
		text, err := base64.StdEncoding.DecodeString(client)
		if err != nil || !json.Valid(text) {
			fail(w, http.StatusBadRequest, "InvalidRequestContentException", "the client context is not base64 of JSON")
			return
		}
		q.ClientContext = string(text)
	}
	switch {
	case len(q.Payload) > most:
		fail(w, http.StatusRequestEntityTooLarge, "RequestTooLargeException", fmt.Sprintf("Request must be smaller than %d bytes for the InvokeFunction operation", most))
	case len(q.Payload) > 0 && !json.Valid(q.Payload):
		fail(w, http.StatusBadRequest, "InvalidRequestContentException", "Could not parse request body into json")
	case kind == "DryRun":
		w.WriteHeader(http.StatusNoContent)
	case kind == "Event":
		s.accept(w, f, q)
	default:
		f.answer(w, r, q)
	}
}

// accept is an asynchronous invocation.
func (s *Service) accept(w http.ResponseWriter, f *function, q host.Request) {
	if err := s.Send(f.Name, q.WithDefaultPayload()); err != nil {
		tooMany(w, "ConcurrentInvocationLimitExceeded", err.Error())
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

func tooMany(w http.ResponseWriter, reason, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Amzn-Errortype", "TooManyRequestsException")
	w.Header().Set("Retry-After", "1")
	w.WriteHeader(http.StatusTooManyRequests)
	_ = json.NewEncoder(w).Encode(map[string]string{"Type": "User", "Reason": reason, "message": message}) // as in fail
}

// answer is a synchronous invocation. A function error is a 200 with a header.
func (f *function) answer(w http.ResponseWriter, r *http.Request, q host.Request) {
	body, report, err := f.do(r.Context(), q.WithDefaultPayload())
	var said *host.FunctionError
	switch {
	case err == nil:
	case errors.As(err, &said):
		w.Header().Set("X-Amz-Function-Error", "Unhandled")
		body = said.Body
	case errors.Is(err, host.ErrThrottled):
		tooMany(w, "ReservedFunctionConcurrentInvocationLimitExceeded", "Rate Exceeded.")
		return
	default:
		fail(w, http.StatusInternalServerError, "ServiceException", err.Error())
		return
	}
	if strings.EqualFold(r.Header.Get("X-Amz-Log-Type"), "Tail") {
		log := strings.Join(append(report.Lines, report.String()), "\n") + "\n"
		w.Header().Set("X-Amz-Log-Result", base64.StdEncoding.EncodeToString([]byte(log[max(0, len(log)-mostLog):])))
	}
	w.Header().Set("X-Amz-Executed-Version", "$LATEST")
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body) // whoever asked may have gone
}
