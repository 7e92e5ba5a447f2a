package arch_test

import (
	"go/ast"
	"path"
	"slices"
	"strings"
	"testing"
)

// layers is the table of the architecture, first line lowest: a package imports packages of lower lines only, never of
// its own line. A line ending in /... is a subtree whose packages may import each other; * is one path element.
var layers = [][]string{
	{"core/jsonscan", "core/faults"},
	{"core/event"},
	{"core/window", "core/aggregate", "core/watermark", "core/delta", "core/expression"},
	{"core/spec"},
	{"core/pipeline"},
	{"core/aggregate/aggregatetest"},
	{"statestore"},
	{"statestore/memstore", "statestore/boltstore", "statestore/redisstore", "statestore/checkpoint"},
	{"statestore/storetest"},
	{"functions/esm", "functions/kafkaio", "functions/bucket", "functions/cloud", "functions/rediscreds"},
	{"functions/kafkaio/memlog", "functions/kafkaio/logtest", "functions/settings"},
	{"functions/apply"},
	{"functions/preflight"},
	{"functions/ingest", "functions/fire", "functions/ops"},
	{"functions/telemetry/..."},
	{"functions/*/bootstrap"},
	{"localdev/host"},
	{"localdev/..."},
	{"tests/..."},
}

// place returns the line of the table that names dir, and whether its line is a subtree; -1 when none does.
func place(dir string) (line int, subtree bool) {
	for i, names := range layers {
		for _, name := range names {
			if top, ok := strings.CutSuffix(name, "/..."); ok {
				if dir == top || strings.HasPrefix(dir, top+"/") {
					return i, true
				}
				continue
			}
			if ok, err := path.Match(name, dir); err == nil && ok {
				return i, false
			}
		}
	}
	return -1, false
}

func TestImportsPointUpTheTable(t *testing.T) {
	for _, s := range sources(t) {
		from, subtree := place(s.dir)
		if from < 0 {
			t.Errorf("%s: folder %s has no place in the table of layers: give it one here and in the architecture's", s.name, s.dir)
			continue
		}
		if s.test {
			continue
		}
		for _, imported := range s.imports(t) {
			dir, ours := strings.CutPrefix(imported, module+"/")
			if !ours {
				continue
			}
			to, _ := place(dir)
			if to < from || (subtree && to == from) {
				continue
			}
			t.Errorf("%s imports %s, which stands beside or above it: imports point to lower layers only", s.name, dir)
		}
	}
}

// aids are packages of tests/ for test files everywhere: servers, and what needs nothing of this module.
var aids = []string{"tests/servers", "tests/seed", "tests/output"}

// Test files may reach further than what they test (a store as an oracle, say), but not up to the programs.
func TestTestFilesReachNoProgram(t *testing.T) {
	for _, s := range sources(t) {
		if !s.test || strings.HasPrefix(s.dir, "tests/") || strings.HasPrefix(s.dir+"/", "localdev/") {
			continue
		}
		for _, imported := range s.imports(t) {
			dir, ours := strings.CutPrefix(imported, module+"/")
			if !ours {
				continue
			}
			program := strings.HasPrefix(dir+"/", "localdev/")
			functions := strings.HasPrefix(dir, "functions/") && strings.HasPrefix(s.dir, "core/")
			tests := strings.HasPrefix(dir, "tests/") && !slices.Contains(aids, dir)
			if program || functions || tests {
				t.Errorf("%s imports %s: what needs it belongs into tests/", s.name, dir)
			}
		}
	}
}

// suites are packages of tests that several implementations pass: test support although no file is called _test.go.
var suites = []string{"core/aggregate/aggregatetest", "statestore/storetest", "functions/kafkaio/logtest"}

// What a test needs has no place in a shipped program.
func TestShippedCodeImportsNoTestSupport(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || strings.HasPrefix(s.dir, "tests/") || slices.Contains(suites, s.dir) {
			continue
		}
		for _, imported := range s.imports(t) {
			if under(imported, "testing/...") || under(imported, "github.com/google/go-cmp/...") || slices.Contains(suites, strings.TrimPrefix(imported, module+"/")) {
				t.Errorf("%s imports %s", s.name, imported)
			}
		}
	}
}

// coreMayNot lists the standard packages that do I/O, log, or differ from run to run.
var coreMayNot = []string{
	"bufio", "crypto/rand", "crypto/tls", "database/...", "expvar", "flag", "io/fs", "io/ioutil", "log/...", "math/rand/...",
	"net/...", "os/...", "path/filepath", "plugin", "runtime/...", "syscall/...",
}

// coreModules are the only modules the core may use: each computes, none opens anything by itself.
var coreModules = []string{
	"github.com/caio/go-tdigest/v4", "github.com/cespare/xxhash/v2", "github.com/expr-lang/expr", "github.com/goccy/go-yaml",
}

// Expressions are compiled and evaluated in one place, which rewrites them first: elsewhere they would have no bounds.
func TestExpressionsHaveOneHome(t *testing.T) {
	for _, s := range sources(t) {
		for _, imported := range s.imports(t) {
			if under(imported, "github.com/expr-lang/expr/...") && s.dir != "core/expression" {
				t.Errorf("%s imports %s: core/expression compiles and evaluates", s.name, imported)
			}
		}
	}
}

// under reports whether the import path is name or, where name ends in /..., below it.
func under(imported, name string) bool {
	top, tree := strings.CutSuffix(name, "/...")
	return imported == top || (tree && strings.HasPrefix(imported, top+"/"))
}

func TestCoreReachesNothingOutside(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || !strings.HasPrefix(s.dir, "core/") || slices.Contains(suites, s.dir) {
			continue
		}
		for _, imported := range s.imports(t) {
			first, _, _ := strings.Cut(imported, "/")
			if strings.Contains(first, ".") { // a module, not the standard library
				allowed := func(m string) bool { return under(imported, m+"/...") }
				if !strings.HasPrefix(imported, module+"/") && !slices.ContainsFunc(coreModules, allowed) {
					t.Errorf("%s imports %s: the core uses %v only", s.name, imported, coreModules)
				}
				continue
			}
			if slices.ContainsFunc(coreMayNot, func(name string) bool { return under(imported, name) }) {
				t.Errorf("%s imports %s: the core does no I/O, logs nothing and is deterministic", s.name, imported)
			}
		}
	}
}

// Time comes in as a value. The linter forbids the same in an editor; this holds where no linter runs.
func TestCoreReadsNoClockAndStartsNoGoroutine(t *testing.T) {
	clock := []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTicker", "NewTimer"}
	for _, s := range sources(t) {
		if s.test || !strings.HasPrefix(s.dir, "core/") {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				if pkg, ok := n.X.(*ast.Ident); ok && pkg.Name == "time" && slices.Contains(clock, n.Sel.Name) {
					t.Errorf("%s: time.%s in the core", s.at(n), n.Sel.Name)
				}
			case *ast.GoStmt:
				t.Errorf("%s: the core starts a goroutine; who calls it decides about parallelism", s.at(n))
			}
			return true
		})
	}
}
