package cli

import (
	_ "embed"
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Help is shown below the flags.
func (*completionCmd) Help() string {
	return `Prints a script that makes the shell complete commands, flags and their values. It asks the program itself, so that it need not be made anew with a newer one.

Examples:

  source <(tidemark completion bash)                                       for this shell; in ~/.bashrc for all
  source <(tidemark completion zsh)                                        in ~/.zshrc, after compinit
  tidemark completion fish > ~/.config/fish/completions/tidemark.fish      for all`
}

// The scripts hand the words up to the cursor to the hidden command.
var (
	//go:embed completion.bash
	completionBash string
	//go:embed completion.zsh
	completionZsh string
	//go:embed completion.fish
	completionFish string
)

// Run implements the command.
func (c *completionCmd) Run(e *env) error {
	script := completionBash
	switch c.Shell {
	case "zsh":
		script = completionZsh
	case "fish":
		script = completionFish
	}
	_, err := io.WriteString(e.Out, script)
	return err
}

// completeCommand is what the scripts call: SHELL WORD..., where the last word is the one at the cursor.
const completeCommand = "__complete"

// What the scripts do with a place where a file or a directory belongs.
const (
	completeFiles = ":files"
	completeDirs  = ":dirs"
)

// candidate is a word that may stand at the cursor, and what it does.
type candidate struct{ word, help string }

// complete prints the candidates as the shell wants them.
func complete(out io.Writer, model *kong.Application, args []string) error {
	if len(args) == 0 {
		return nil
	}
	shell, words := args[0], args[1:]
	if len(words) == 0 {
		words = []string{""}
	}
	prefix := "" // of candidates, which the shell has split off
	if shell == "bash" {
		words, prefix = joinEquals(words)
	}
	c := completer{node: model.Node}
	for _, w := range words[:len(words)-1] {
		c.pass(w)
	}
	place, all := c.at(words[len(words)-1])
	if place != "" {
		_, err := fmt.Fprintln(out, place)
		return err
	}
	for _, x := range all {
		if !strings.HasPrefix(x.word, words[len(words)-1]) {
			continue
		}
		line, help := strings.TrimPrefix(x.word, prefix), x.help
		if i := strings.Index(help, ". "); i > 0 {
			help = help[:i] // the first sentence
		}
		switch {
		case shell == "zsh":
			line = strings.ReplaceAll(line, ":", `\:`) + ":" + help
		case shell == "fish" && help != "":
			line += "\t" + help
		}
		if _, err := fmt.Fprintln(out, line); err != nil {
			return err
		}
	}
	return nil
}

// joinEquals puts together what bash has split at equals signs. The prefix is what it does not replace of the last word.
func joinEquals(words []string) (joined []string, prefix string) {
	for i := 0; i < len(words); i++ {
		n := len(joined) - 1
		if words[i] != "=" || n < 0 || !strings.HasPrefix(joined[n], "--") {
			joined = append(joined, words[i])
			continue
		}
		if joined[n] += "="; i == len(words)-1 {
			return joined, joined[n]
		}
		if i++; i == len(words)-1 {
			prefix = joined[n]
		}
		joined[n] += words[i]
	}
	return joined, prefix
}

// completer goes through a command line.
type completer struct {
	node  *kong.Node
	args  int         // positional arguments so far
	value *kong.Value // of a flag, that the next word is
}

// pass takes a word before the cursor.
func (c *completer) pass(word string) {
	if c.value != nil {
		c.value = nil
		return
	}
	if name, ok := strings.CutPrefix(word, "--"); ok {
		if f := c.flag(name); f != nil && !f.IsBool() {
			c.value = f.Value
		}
		return
	}
	for _, n := range c.node.Children {
		if n.Name == word {
			c.node, c.args = n, 0
			return
		}
	}
	c.args++
}

// flags calls fn for each flag that may stand here.
func (c *completer) flags(fn func(*kong.Flag)) {
	for _, group := range c.node.AllFlags(true) {
		for _, f := range group {
			fn(f)
		}
	}
}

// flag returns the flag of a name, without its value.
func (c *completer) flag(name string) (found *kong.Flag) {
	c.flags(func(f *kong.Flag) {
		if f.Name == name {
			found = f
		}
	})
	return found
}

// at returns what may stand at the cursor: files, directories, or candidates that may be longer than asked for.
func (c *completer) at(word string) (place string, all []candidate) {
	if c.value != nil {
		return values(c.value, "")
	}
	if name, _, ok := strings.Cut(word, "="); ok && strings.HasPrefix(name, "--") {
		if f := c.flag(name[2:]); f != nil {
			return values(f.Value, name+"=")
		}
		return "", nil
	}
	if strings.HasPrefix(word, "-") {
		c.flags(func(f *kong.Flag) {
			all = append(all, candidate{"--" + f.Name, f.Help})
			if f.Tag.Negatable != "" {
				all = append(all, candidate{"--no-" + f.Name, "Do not: " + f.Help})
			}
		})
		return "", all
	}
	for _, n := range c.node.Children {
		if !n.Hidden {
			all = append(all, candidate{n.Name, n.Help})
		}
	}
	if c.args < len(c.node.Positional) {
		return values(c.node.Positional[c.args], "")
	}
	return "", all
}

// values returns what a value may be, after a prefix: its enumeration, the values of its type, or by its placeholder a file or a
// directory.
func values(v *kong.Value, prefix string) (place string, all []candidate) {
	var words []string
	switch {
	case v.Enum != "":
		words = v.EnumSlice()
	case v.Name == "log-level":
		words = []string{"debug", "info", "warn", "error"}
	case v.Tag == nil:
	case strings.Contains(v.Tag.PlaceHolder, "FILE"):
		return completeFiles, nil
	case strings.Contains(v.Tag.PlaceHolder, "DIR"):
		return completeDirs, nil
	}
	for _, w := range words {
		all = append(all, candidate{prefix + strings.TrimSpace(w), ""})
	}
	return "", all
}
