package arch_test

import (
	"flag"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden lists in testdata")

// A bootstrap's size is its cold start, and each module in it is code that reads a user's records: a new one is a
// decision, which the golden list makes visible in review.
func TestBootstrapsDependOnTheseModulesOnly(t *testing.T) {
	mains := files(t, func(name string) bool {
		ok, err := path.Match("functions/*/bootstrap/main.go", name)
		return err == nil && ok
	})
	for _, name := range mains {
		dir := path.Dir(name)
		t.Run(dir, func(t *testing.T) {
			list := exec.CommandContext(t.Context(), "go", "list", "-deps", "-tags", "lambda.norpc", "-f", "{{with .Module}}{{.Path}}{{end}}", "./"+dir)
			list.Dir = root
			list.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm64", "CGO_ENABLED=0")
			var failure strings.Builder
			list.Stderr = &failure
			out, err := list.Output()
			if err != nil {
				t.Fatalf("go list -deps ./%s: %v\n%s", dir, err, failure.String())
			}
			modules := strings.Fields(string(out))
			slices.Sort(modules)
			got := strings.Join(slices.Compact(modules), "\n") + "\n"

			golden := filepath.Join("testdata", strings.ReplaceAll(dir, "/", "-")+".modules.txt")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatalf("the list of %s: %v (make golden writes it)", dir, err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("modules in %s (-before +now; if this is wanted: make golden):\n%s", dir, diff)
			}
		})
	}
}
