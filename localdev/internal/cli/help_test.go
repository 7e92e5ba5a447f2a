package cli_test

import (
	"strings"
	"testing"
)

// leaves returns every command that does something, as one types it.
func leaves(t *testing.T, prefix ...string) (all [][]string) {
	t.Helper()
	args := append([]string{"__complete", "fish"}, prefix...)
	for line := range strings.Lines(ok(t, append(args, "")...).out) {
		name, _, described := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if !described {
			return [][]string{prefix} // what is offered are the values of an argument
		}
		path := append(append([]string{}, prefix...), name)
		all = append(all, leaves(t, path...)...)
	}
	if len(all) == 0 {
		return [][]string{prefix}
	}
	return all
}

func TestEveryCommandTeachesByExamplesAndTakesJSON(t *testing.T) {
	all := leaves(t)
	if len(all) < 11 {
		t.Fatalf("only %q", all)
	}
	for _, path := range all {
		name := strings.Join(path, " ")
		help := ok(t, append(path, "--help")...).out
		if !strings.Contains(help, "Example") || !strings.Contains(help, "  tidemark "+name) && !strings.Contains(help, "<(tidemark "+name) {
			t.Errorf("%s has no example of itself in its help", name)
		}
		if !strings.Contains(help, "--json") {
			t.Errorf("%s does not take --json", name)
		}
		a := tidemark(t, append(path, "--frobnicate")...)
		if a.code != 2 || !strings.Contains(a.err, "see tidemark "+name+" --help") {
			t.Errorf("%s with an unknown flag does not say where help is: %s", name, a)
		}
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	config := write(t, "spec.yaml", smallSpec)
	for _, c := range []struct{ args, says string }{
		{"verify --config " + config, "or --no-state, which needs the brokers alone"},
		{"verify --no-state --brokers localhost:1 --config " + config, "is Kafka running there? --brokers HOST:PORT names another"},
		{"generate --brokers localhost:1 --config " + config, "is Kafka running there?"},
		{"explain --brokers localhost:1 --redis redis://localhost:1 --config " + config, "see whether it runs"},
		{"replay --config " + config + " --input " + write(t, "torn.jsonl", `{"key`), "torn.jsonl:1: the JSON object is not complete: one line is one record\n"},
		{"replay --config " + config + " --input " + write(t, "other.jsonl", `{"topic":"x","timestamp":1,"value":1}`), "other.jsonl:1: topic \"x\": no pipeline of the spec reads it; topics are [\"in\"]\n"},
	} {
		if a := tidemark(t, strings.Fields(c.args)...); a.code == 0 || !strings.Contains(a.err, c.says) {
			t.Errorf("tidemark %s: want %q\n%s", c.args, c.says, a)
		}
	}
}
