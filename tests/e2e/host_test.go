//go:build servers

package e2e

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/llm-auto-optimizer/tidemark/localdev/host"
)

var (
	buildDir = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "tidemark-e2e-") })
	builds   sync.Map // binary -> func() error
)

// TestMain removes what the tests compiled.
func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := buildDir(); err == nil {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// build compiles a package of the project as it is deployed, for this machine, once, and returns the binary.
func build(t *testing.T, pkg, binary string) string {
	t.Helper()
	dir, err := buildDir()
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, binary)
	once, _ := builds.LoadOrStore(out, sync.OnceValue(func() error { return host.Build(t.Context(), filepath.Join("..", ".."), pkg, out) }))
	if err := once.(func() error)(); err != nil {
		t.Fatal(err)
	}
	return out
}

func newFunction(t *testing.T, name string, timeout time.Duration, env ...string) *host.Function {
	t.Helper()
	f := host.New(host.Options{Name: name, Binary: build(t, "./functions/"+name+"/bootstrap", filepath.Join(name, "bootstrap")), Env: env, Timeout: timeout, Lenient: true})
	t.Cleanup(f.Close)
	return f
}
