// Package examples_test replays the examples and compares what comes out with what their pages say.
package examples_test

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/localdev/internal/cli"
)

var update = flag.Bool("update", false, "write what comes out of the examples to expected.jsonl")

func TestMain(m *testing.M) {
	for _, v := range os.Environ() { // flags that the environment stands for are none of the examples'
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "TIDEMARK_") {
			_ = os.Unsetenv(name)
		}
	}
	os.Exit(m.Run())
}

// command matches the one command of a page, and the summary that follows it.
var command = regexp.MustCompile("(?s)```console\n\\$ tidemark ([^\n]*)\n([^\n]*)\n```")

func TestExamplesComeToWhatTheirPagesSay(t *testing.T) {
	specs, err := filepath.Glob("*/spec.yaml")
	if err != nil || len(specs) < 4 {
		t.Fatalf("%q, %v: want at least four examples", specs, err)
	}
	for _, spec := range specs {
		dir := filepath.Dir(spec)
		t.Run(dir, func(t *testing.T) {
			page, err := os.ReadFile(filepath.Join(dir, "README.md"))
			if err != nil {
				t.Fatal(err)
			}
			said := command.FindSubmatch(page)
			if said == nil {
				t.Fatal("its page has no command with what it prints")
			}
			t.Chdir(dir)
			out, summary := tidemark(t, strings.Fields(string(said[1]))...)
			if summary != string(said[2])+"\n" {
				t.Errorf("%s\nits page says\n%s", summary, said[2])
			}
			if again, _ := tidemark(t, strings.Fields(string(said[1]))...); again != out {
				t.Error("the second time other bytes come out")
			}
			if *update {
				if err := os.WriteFile("expected.jsonl", []byte(out), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile("expected.jsonl")
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(out, "\n")); d != "" {
				t.Errorf("if this is wanted: go test ./localdev/examples -update, and see whether the page is still right (-expected +now)\n%s", d)
			}
			if a, _ := tidemark(t, "validate", "--config", "spec.yaml"); !strings.Contains(a, "pipeline") {
				t.Errorf("validate: %s", a)
			}
		})
	}
}

// tidemark runs a command line that has to succeed.
func tidemark(t *testing.T, args ...string) (out, errs string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	if code := cli.Main(ctx, args, cli.Streams{In: strings.NewReader(""), Out: &stdout, Err: &stderr, Getenv: os.Getenv}); code != 0 {
		t.Fatalf("tidemark %s: exit code %d\n%s%s", strings.Join(args, " "), code, stdout.String(), stderr.String())
	}
	return stdout.String(), stderr.String()
}
