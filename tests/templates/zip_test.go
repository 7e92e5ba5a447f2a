//go:build templates

package templates_test

import (
	"archive/zip"
	"os"
	"testing"
)

// counter counts what is written.
type counter struct{ n int }

func (c *counter) Write(p []byte) (int, error) {
	c.n += len(p)
	return len(p), nil
}

// zipped is how large the zip of a folder is.
func zipped(t *testing.T, dir string) int {
	t.Helper()
	var size counter
	w := zip.NewWriter(&size)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return size.n
}
