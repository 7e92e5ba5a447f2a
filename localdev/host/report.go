package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Report is what Lambda writes about an invocation once it has ended, in lines that begin with START, END and REPORT.
type Report struct {
	Function    string
	Request     string // id
	Environment int    // from 1, in the order of their starts
	Pid         int    // of its process; 0: not known
	Begun       time.Time
	Cold        bool          // it began with a cold start
	Init        time.Duration // of the cold start, where that was no part of the invocation's own time
	Duration    time.Duration
	Billed      time.Duration // whole milliseconds, cold start included
	Memory      int           // MiB that it may take
	MaxMemory   int           // MiB that its environment took at most, so far; 0: not known
	Err         error         // nil: it was answered
	// Lines are what was written during cold start and invocation, at most MaxLines: the last ones.
	Lines   []string
	Dropped int // lines before those
}

// MaxLines is how many lines of an invocation a report has.
const MaxLines = 200

// String is the line that Lambda logs.
func (r Report) String() string {
	s := fmt.Sprintf("REPORT RequestId: %s\tDuration: %.2f ms\tBilled Duration: %d ms\tMemory Size: %d MB\tMax Memory Used: %d MB",
		r.Request, milliseconds(r.Duration), r.Billed.Milliseconds(), r.Memory, r.MaxMemory)
	if r.Cold && r.Init > 0 {
		s += fmt.Sprintf("\tInit Duration: %.2f ms", milliseconds(r.Init))
	}
	var said *FunctionError
	switch {
	case errors.Is(r.Err, ErrTimeout):
		s += "\tStatus: timeout"
	case errors.As(r.Err, &said):
		s += "\tStatus: error\tError Type: " + said.Type
	case r.Err != nil:
		s += "\tStatus: error"
	}
	return s
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// Types of errors that Lambda itself tells.
const (
	typeExit     = "Runtime.ExitError"
	typeTimeout  = "Sandbox.Timedout"
	typeTooLarge = "Function.ResponseSizeTooLarge"
	typeSilent   = "Runtime.NoResponse"
)

// FunctionError is what a caller of Lambda is told of a function that failed: by itself, or because it timed out or died. It is
// ErrFunction, and ErrDied, ErrTimeout or ErrMemory where that was why.
type FunctionError struct {
	Type string // of the header, else of the body: errors.errorString, Runtime.ExitError
	Body []byte // JSON: errorMessage, errorType, stackTrace
	// Cause is what the host knows of why, beside ErrFunction; nil: the function answered with an error.
	Cause error
	log   string // end of the function's log, where it died
}

func (e *FunctionError) Error() string {
	s := ErrFunction.Error() + ": "
	if e.Cause != nil {
		s = e.Cause.Error() + ": "
	}
	s += string(e.Body)
	if e.log != "" {
		s += ": " + e.log
	}
	return s
}

// Unwrap returns ErrFunction and the cause.
func (e *FunctionError) Unwrap() []error {
	if e.Cause == nil {
		return []error{ErrFunction}
	}
	return []error{ErrFunction, e.Cause}
}

// told returns the error that Lambda itself tells the caller of a request.
func told(request, kind, message string, cause error) *FunctionError {
	body, _ := json.Marshal(struct {
		ErrorType    string `json:"errorType"`
		ErrorMessage string `json:"errorMessage"`
	}{kind, "RequestId: " + request + " Error: " + message}) // two strings
	return &FunctionError{Type: kind, Body: body, Cause: cause}
}

// answered returns the error that a function answered with.
func answered(header string, body []byte) *FunctionError {
	e := &FunctionError{Type: header, Body: body}
	var said struct {
		ErrorType string `json:"errorType"`
	}
	if json.Unmarshal(body, &said) == nil && said.ErrorType != "" {
		e.Type = said.ErrorType
	}
	return e
}
