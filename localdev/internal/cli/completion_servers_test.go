//go:build servers

package cli_test

import "testing"

// zsh and fish are installed where the servers are: tests/servers/shells.

func TestFishCompletes(t *testing.T) {
	completesIn(t, shell{name: "fish", command: "fish", equals: "--log-level=debug", program: func(line string) string {
		return "tidemark completion fish | source; complete -C '" + line + "'"
	}})
}

// What zsh's own widgets would show is printed instead; the words are split by zsh.
func TestZshCompletes(t *testing.T) {
	completesIn(t, shell{name: "zsh", command: "zsh", equals: "--log-level=debug", program: func(line string) string {
		return `
compdef() { [[ $1 == _tidemark && $2 == tidemark ]] || exit 3 }
compset() { : }
_describe() { local x; for x in "${(@P)2}"; do print -r -- "${x%%:*}"; done }
_files() { if [[ $1 == -/ ]]; then print -rl -- *(/N); else print -rl -- *(N); fi }
source <(tidemark completion zsh)
line='` + line + `'
words=("${(@z)line}"); [[ $line == *' ' ]] && words+=('')
CURRENT=$#words PREFIX=$words[-1]
_tidemark || true`
	}})
}
