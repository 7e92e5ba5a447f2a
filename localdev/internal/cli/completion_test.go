package cli_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// completions are what stands before the cursor, and some of what has to be offered. A line that ends in a blank begins a new word.
var completions = []struct {
	line string
	want []string // all of it where exact
	not  []string
}{
	{line: "tidemark ", want: []string{"run", "replay", "generate", "validate", "explain", "verify", "completion", "state"}, not: []string{"__complete", "--help"}},
	{line: "tidemark re", want: []string{"replay", "restore"}, not: []string{"run"}},
	{line: "tidemark state ", want: []string{"list", "get"}, not: []string{"run"}},
	{line: "tidemark --json state ", want: []string{"list", "get"}},
	{line: "tidemark run --st", want: []string{"--state-dir"}, not: []string{"--listen"}},
	{line: "tidemark state list --", want: []string{"--prefix", "--brokers", "--json", "--config"}, not: []string{"--rate"}},
	{line: "tidemark replay --no-", want: []string{"--no-flush"}},
	{line: "tidemark --log-level ", want: []string{"debug", "info", "warn", "error"}, not: []string{"run"}},
	{line: "tidemark completion ", want: []string{"bash", "fish", "zsh"}},
	{line: "tidemark run --config ", want: []string{"a spec.yaml", "states/"}},
	{line: "tidemark replay --config x.yaml --input ", want: []string{"a spec.yaml"}},
	{line: "tidemark run --state-dir ", want: []string{"states/"}, not: []string{"a spec.yaml"}},
}

// shell is a real shell that is asked for the completions of a line.
type shell struct {
	name, command string
	program       func(line string) string
	equals        string // what it offers for a value behind an equals sign
}

func TestBashCompletes(t *testing.T) {
	completesIn(t, shell{name: "bash", command: "bash", equals: "debug", program: func(line string) string {
		// The words as bash splits them, by its own COMP_WORDBREAKS.
		words := strings.Fields(strings.ReplaceAll(line, "=", " = "))
		if strings.HasSuffix(line, " ") {
			words = append(words, "")
		}
		quoted := make([]string, len(words))
		for i, w := range words {
			quoted[i] = "'" + w + "'"
		}
		return `source <(tidemark completion bash)
complete -p tidemark >/dev/null || exit 3
COMP_WORDS=(` + strings.Join(quoted, " ") + `); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_tidemark
[ ${#COMPREPLY[@]} = 0 ] || printf '%s\n' "${COMPREPLY[@]}"`
	}})
}

func completesIn(t *testing.T, s shell) {
	t.Helper()
	path, err := exec.LookPath(s.command)
	if err != nil {
		t.Fatalf("no %s: install it, on Debian or Ubuntu with apt-get install %s", s.command, s.command)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a spec.yaml"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "states"), 0o700); err != nil {
		t.Fatal(err)
	}
	offered := func(line string) []string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), path, "-c", s.program(line))
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(binary)+string(os.PathListSeparator)+os.Getenv("PATH"), "HOME="+dir, "XDG_CONFIG_HOME="+dir, "TERM=dumb")
		var errs strings.Builder
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s, %q: %v\n%s%s", s.name, line, err, out, errs.String())
		}
		var words []string
		for l := range strings.Lines(string(out)) {
			word, _, _ := strings.Cut(strings.TrimSuffix(l, "\n"), "\t")
			words = append(words, strings.ReplaceAll(word, `\ `, " "))
		}
		return words
	}
	for _, c := range completions {
		got := offered(c.line)
		has := func(w string) bool {
			return slices.Contains(got, w) || slices.Contains(got, strings.TrimSuffix(w, "/"))
		}
		for _, w := range c.want {
			if !has(w) {
				t.Errorf("%q: no %q in %q", c.line, w, got)
			}
		}
		for _, w := range c.not {
			if has(w) {
				t.Errorf("%q: %q in %q", c.line, w, got)
			}
		}
	}
	if d := cmp.Diff([]string{s.equals}, offered("tidemark run --log-level=de")); d != "" {
		t.Errorf("a value behind an equals sign (-want +got)\n%s", d)
	}
}

func TestCompletionOfAnUnknownShellIsAWrongCommandLine(t *testing.T) {
	if a := tidemark(t, "completion", "tcsh"); a.code != 2 || !strings.Contains(a.err, `must be one of "bash","zsh","fish"`) {
		t.Errorf("%s", a)
	}
	if a := ok(t, "__complete"); a.out != "" {
		t.Errorf("%s", a)
	}
}
