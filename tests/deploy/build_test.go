// Package deploy_test holds the functions as they are deployed: the binaries, the packages that are uploaded, what they do behind
// clients of the Runtime API other than our own, and how long they take to start.
package deploy_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

var (
	root     = filepath.Join("..", "..")
	buildDir = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "tidemark-deploy-") })
	builds   sync.Map // file -> func() error
)

// TestMain removes what the tests compiled.
func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := buildDir(); err == nil {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// functions are the names of all there are.
func functions(t testing.TB) []string {
	t.Helper()
	mains, err := filepath.Glob(filepath.Join(root, "functions", "*", "bootstrap", "main.go"))
	if err != nil || len(mains) < 2 {
		t.Fatalf("found %v: %v", mains, err)
	}
	var names []string
	for _, m := range mains {
		names = append(names, filepath.Base(filepath.Dir(filepath.Dir(m))))
	}
	slices.Sort(names)
	return names
}

// deployed builds a function once, with the flags of the Makefile, and returns the file. An empty system or architecture is this
// machine's.
func deployed(t testing.TB, name, goos, goarch string) string {
	t.Helper()
	return built(t, name, goos, goarch, "")
}

// traced is deployed with what make is told to build functions that make traces.
func traced(t testing.TB, name string) string {
	t.Helper()
	return built(t, name, "", "", "OTEL=1")
}

func built(t testing.TB, name, goos, goarch, variables string) string {
	t.Helper()
	dir, err := buildDir()
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, goos+goarch+variables, name, "bootstrap")
	once, _ := builds.LoadOrStore(out, sync.OnceValue(func() error { return build(name, goos, goarch, variables, out) }))
	if err := once.(func() error)(); err != nil {
		t.Fatal(err)
	}
	return out
}

// flags asks make, which alone knows what the variable comes to.
func flags(variables string) (string, error) {
	ask := exec.Command("make", append([]string{"-s", "--no-print-directory", "-f", "-", "what-flags"}, strings.Fields(variables)...)...) //nolint:noctx // as below
	ask.Dir = root
	ask.Stdin = strings.NewReader("include Makefile\nwhat-flags:\n\t@printf '%s' '$(BOOTSTRAP_FLAGS)'\n")
	out, err := ask.Output()
	if err != nil || !strings.Contains(string(out), "-trimpath") {
		return "", fmt.Errorf("make says that BOOTSTRAP_FLAGS is %q: %w", out, err)
	}
	return string(out), nil
}

func build(name, goos, goarch, variables, out string) error {
	f, err := flags(variables)
	if err != nil {
		return err
	}
	// By a shell, which reads quotes as make's does.
	cmd := exec.Command("bash", "-c", `exec go build `+f+` -o "$0" "./functions/$1/bootstrap"`, out, name) //nolint:noctx // shared by tests, so of no test's context
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+goarch)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s for %s: %w: %s", name, strings.TrimSpace(goos+" "+goarch), err, text)
	}
	return nil
}
