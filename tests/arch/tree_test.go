// Package arch_test holds the repository to its architecture: which package may import which, what the core may not
// reach, how long a file may be, what the shipped binaries depend on, and that the documents point at what exists.
//
// It reads the tree rather than a list of packages, so a new folder is covered, or refused, from its first file.
package arch_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/llm-auto-optimizer/tidemark"

// root is the top of the repository as seen from this package's folder, where tests run.
const root = "../.."

// unversioned names what a working copy holds beside the repository: see .gitignore.
func unversioned(dir string) bool {
	return slices.Contains([]string{".git", ".bin", ".tidemark", "dist", ".aws-sam", "node_modules", "coverage"}, dir)
}

// leftOver reports whether a file is what a build or a measurement leaves behind: see .gitignore.
func leftOver(name string) bool {
	return slices.Contains([]string{".test", ".out", ".prof"}, path.Ext(name))
}

// files returns the slash-separated paths, relative to the top, of every file that keep accepts.
func files(t *testing.T, keep func(name string) bool) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if unversioned(entry.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		if rel = filepath.ToSlash(rel); entry.Type().IsRegular() && rel != ".git" && !leftOver(rel) && keep(rel) {
			found = append(found, rel)
		}
		return nil
	})
	if err != nil {
		t.Fatalf("walk the repository: %v", err)
	}
	return found
}

// read returns the content of a file named relative to the top.
func read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
	if err != nil {
		t.Fatalf("read %s: %v", name, err)
	}
	return string(content)
}

// source is one Go file.
type source struct {
	name string // relative to the top
	dir  string // of its package, relative to the top: "core/window"
	test bool
	file *ast.File
	set  *token.FileSet
	text string
}

// at returns file:line of a node.
func (s source) at(n ast.Node) string {
	return s.name + ":" + strconv.Itoa(s.set.Position(n.Pos()).Line)
}

// imports returns the import paths of the file.
func (s source) imports(t *testing.T) []string {
	t.Helper()
	var paths []string
	for _, spec := range s.file.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatalf("%s: import %s: %v", s.at(spec), spec.Path.Value, err)
		}
		paths = append(paths, p)
	}
	return paths
}

// sources parses every Go file of this module, whatever its build tags; nested modules (developer tools) are left out.
func sources(t *testing.T) []source {
	t.Helper()
	nested := files(t, func(name string) bool { return path.Base(name) == "go.mod" && name != "go.mod" })
	var all []source
	for _, name := range files(t, func(name string) bool { return strings.HasSuffix(name, ".go") }) {
		inNested := slices.ContainsFunc(nested, func(mod string) bool { return strings.HasPrefix(name, path.Dir(mod)+"/") })
		if inNested || strings.Contains(name, "testdata/") {
			continue
		}
		text := read(t, name)
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, text, parser.ParseComments)
		if err != nil {
			t.Errorf("parse: %v", err)
			continue
		}
		all = append(all, source{name: name, dir: path.Dir(name), test: strings.HasSuffix(name, "_test.go"), file: file, set: set, text: text})
	}
	if len(all) == 0 {
		t.Fatal("no Go file found: is this the repository?")
	}
	return all
}
