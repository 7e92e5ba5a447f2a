package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/llm-auto-optimizer/tidemark/localdev/internal/cli"
)

// binary is the program as a user has it.
var binary string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "tidemark-cli-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "tidemark")
	if out, err := exec.Command("go", "build", "-o", binary, "../..").CombinedOutput(); err != nil { //nolint:noctx // go test's own timeout ends it
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	for _, v := range os.Environ() { // where the developer's own servers are is none of these tests' business
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "TIDEMARK_") && !strings.HasPrefix(name, "TIDEMARK_TEST_") {
			_ = os.Unsetenv(name) // the name came from the environment
		}
	}
	return m.Run()
}

// answer is what a command line came to.
type answer struct {
	code     int
	out, err string
}

func (a answer) String() string {
	return fmt.Sprintf("exit code %d\n-- stdout\n%s-- stderr\n%s", a.code, a.out, a.err)
}

// tidemark runs a command line in this process.
func tidemark(t *testing.T, args ...string) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out, err bytes.Buffer
	code := cli.Main(ctx, args, cli.Streams{In: strings.NewReader(""), Out: &out, Err: &err, Getenv: os.Getenv})
	if ctx.Err() != nil {
		t.Fatalf("tidemark %s does not end\n%s%s", strings.Join(args, " "), out.String(), err.String())
	}
	return answer{code, out.String(), err.String()}
}

// ok runs a command line that must succeed.
func ok(t *testing.T, args ...string) answer {
	t.Helper()
	a := tidemark(t, args...)
	if a.code != cli.ExitOK {
		t.Fatalf("tidemark %s\n%s", strings.Join(args, " "), a)
	}
	return a
}

// execute runs the binary.
func execute(t *testing.T, env []string, args ...string) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Stdout, cmd.Stderr, cmd.Env = &out, &errs, append(os.Environ(), env...)
	a := answer{}
	if err := cmd.Run(); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() < 0 {
			t.Fatalf("tidemark %s: %v\n%s%s", strings.Join(args, " "), err, out.Bytes(), errs.Bytes())
		}
		a.code = exit.ExitCode()
	}
	a.out, a.err = out.String(), errs.String()
	return a
}

// write makes a file of a test.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// objects reads lines of JSON objects.
func objects(t *testing.T, text string) []map[string]any {
	t.Helper()
	var out []map[string]any
	for line := range strings.Lines(text) {
		var o map[string]any
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		out = append(out, o)
	}
	return out
}

// empty checks that a directory, where a command made another, has nothing left in it.
func empty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		t.Errorf("%s was left behind", e.Name())
	}
}

// processorConfig is the file that users of the processor's own configuration have.
const processorConfig = "../../../tests/testdata/processor-config.yaml"
