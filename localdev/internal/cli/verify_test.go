package cli_test

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
)

func TestVerifyComparesWhatWasPublishedWithTheSourceTopics(t *testing.T) {
	config, _ := manySpec(t, "bolt", "unused")
	brokers, client := fakeKafka(t)
	state := filepath.Join(t.TempDir(), "state")
	_, file := disordered(t, 2000)
	ok(t, "run", "--config", config, "--brokers", brokers, "--state-dir", state, "--until-idle", "--listen", "off", "--tick", "10ms", "--create-topics", "--input", file)

	a := ok(t, "verify", "--config", config, "--brokers", brokers, "--state-dir", state)
	if want := regexp.MustCompile(`^results of \S+: as they should be; \d{2,} windows of keys, \d+ late, \d+ dead letters, from 2000 records; up to plan \d+, watermark 2`); !want.MatchString(a.out) {
		t.Errorf("want %s\n%s", want, a)
	}
	for _, want := range []string{"state of ", "equal", "books of ", "2000 records in, 0 not accounted for"} {
		if !strings.Contains(a.out, want) {
			t.Errorf("no %q in\n%s", want, a)
		}
	}
	o := objects(t, ok(t, "verify", "--config", config, "--brokers", brokers, "--no-state", "--json").out)[0]
	if o["ok"] != true || o["type"] != "verify" || o["partitions"] != nil || o["results"] == nil || o["ledger"] == nil {
		t.Errorf("%v", o)
	}
	if o := objects(t, ok(t, "verify", "--config", config, "--brokers", brokers, "--no-state", "--no-results", "--json").out)[0]; o["results"] != nil {
		t.Errorf("%v", o)
	}

	r := readAll(t, client, "out")[10]
	if err := client.Produce(t.Context(), []kafkaio.Message{{Topic: "out", Partition: -1, Key: r.Key, Value: r.Value, Headers: r.Headers, Timestamp: r.Timestamp}}); err != nil {
		t.Fatal(err)
	}
	a = tidemark(t, "verify", "--config", config, "--brokers", brokers, "--no-state")
	if a.code != 1 || !strings.Contains(a.out, ": 1 differences;") || !strings.Contains(a.out, "  twice  ") || !strings.Contains(a.out, "      published: out/") || !strings.Contains(a.err, "differs") {
		t.Errorf("a result that was published twice:\n%s", a)
	}
	o = objects(t, tidemark(t, "verify", "--config", config, "--brokers", brokers, "--no-state", "--json").out)[0]
	if o["ok"] != false {
		t.Errorf("%v", o)
	}
	for _, c := range []struct{ args, says string }{
		{"--from yesterday", "--from must be RFC 3339"},
		{"--from 2 --to 1", "is not before --to"},
		{"--memory 0", "--memory must be at least 1"},
	} {
		args := append([]string{"verify", "--config", config, "--brokers", brokers, "--no-state"}, strings.Fields(c.args)...)
		if a := tidemark(t, args...); a.code != 2 || !strings.Contains(a.err, c.says) {
			t.Errorf("%s: want %s\n%s", c.args, c.says, a)
		}
	}
}
