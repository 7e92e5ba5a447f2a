//go:build servers && linux

package deploy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/llm-auto-optimizer/tidemark/localdev/host"
	"github.com/llm-auto-optimizer/tidemark/tests/output"
)

// client invokes a function: our own host of the Runtime API, or AWS's emulator. A function that answered with an error is a
// FunctionError with both.
type client interface {
	Invoke(ctx context.Context, payload []byte) ([]byte, error)
	Log() string
}

// clients make functions behind each of the two.
var clients = map[string]func(t *testing.T, name string, timeout time.Duration, env []string) client{
	"host": func(t *testing.T, name string, timeout time.Duration, env []string) client {
		t.Helper()
		f := host.New(host.Options{Name: name, Binary: deployed(t, name, "", ""), Env: env, Timeout: timeout, Lenient: true})
		t.Cleanup(f.Close)
		return f
	},
	"rie": newEmulator,
}

// emulator is a function behind aws-lambda-rie. It has one environment and takes one call at a time; a failed call is a 200 whose
// body has an errorMessage.
type emulator struct {
	url string
	log *output.Buffer
}

func newEmulator(t *testing.T, name string, timeout time.Duration, env []string) client {
	t.Helper()
	program := os.Getenv("TIDEMARK_TEST_RIE")
	if program == "" {
		t.Fatal("TIDEMARK_TEST_RIE is not set: this test needs AWS's runtime interface emulator. From the top of the repository:\n\teval \"$(tests/servers/rie)\"")
	}
	address, api := freeAddress(t), freeAddress(t)
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program, "--runtime-interface-emulator-address", address,
		"--runtime-api-address", api, deployed(t, name, "", ""), "bootstrap")
	cmd.Env = append(slices.Clone(env), "AWS_LAMBDA_FUNCTION_NAME="+name, "AWS_LAMBDA_FUNCTION_TIMEOUT="+strconv.Itoa(int(timeout.Seconds())),
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE=512", "PATH="+os.Getenv("PATH"))
	log := &output.Buffer{}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it ends the function, which has a process group of its own
		ended := time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		ended.Stop()
	})
	e := &emulator{url: "http://" + address + "/2015-03-31/functions/function/invocations", log: log}
	await(t, address, log)
	return e
}

// await returns when somebody listens.
func await(t *testing.T, address string, log fmt.Stringer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err == nil {
			_ = conn.Close() // it was only a question
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the emulator does not listen: %v\n%s", err, log)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (e *emulator) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(payload))
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	var said struct {
		ErrorMessage *string `json:"errorMessage"`
		ErrorType    string  `json:"errorType"`
	}
	switch err := json.Unmarshal(body, &said); {
	case resp.StatusCode != http.StatusOK || err != nil:
		return nil, fmt.Errorf("the emulator answered %s: %s", resp.Status, body)
	case said.ErrorMessage != nil:
		return nil, &host.FunctionError{Type: said.ErrorType, Body: body}
	}
	return body, nil
}

func (e *emulator) Log() string { return e.log.String() }
