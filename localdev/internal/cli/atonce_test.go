package cli_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/tests/oracle"
	"github.com/llm-auto-optimizer/tidemark/tests/rig"
)

// On brokers without transactions a run says so, and goes on: what it publishes is what a batch computation comes to.
func TestRunAndValidateWithoutTransactions(t *testing.T) {
	v := kversion.Tip()
	for _, key := range []kmsg.Key{kmsg.AddPartitionsToTxn, kmsg.AddOffsetsToTxn, kmsg.EndTxn, kmsg.TxnOffsetCommit, kmsg.InitProducerID} {
		v.SetMaxKeyVersion(key.Int16(), -1)
	}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.MaxVersions(v))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	client, err := kafkaio.Open(t.Context(), kafkaio.Options{Brokers: cluster.ListenAddrs()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	brokers := strings.Join(cluster.ListenAddrs(), ",")

	config, app := manySpec(t, "bolt", "unused")
	events, file := disordered(t, 2000)
	a := ok(t, "run", "--config", config, "--brokers", brokers, "--state-dir", filepath.Join(t.TempDir(), "state"), "--until-idle", "--listen", "off", "--tick", "10ms",
		"--create-topics", "--input", file)
	if strings.Count(a.err, "the cluster does not support transactions: results are delivered at least once") != 1 {
		t.Errorf("it is not said, or not once: %s", a)
	}
	records := readAll(t, client, spec.LedgerTopic)
	plans, err := oracle.ParseLedger(records)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(records, func(r kafkaio.PublishedRecord) bool { return strings.Contains(string(r.Value), `"held_by":"claim"`) }) {
		t.Error("no number was claimed")
	}
	fence := func(e oracle.Event) event.Time { return oracle.Fence(plans, e.TopicPartition, e.Offset) }
	panes, late := oracle.Compute(app.Pipelines[0].Windows, events, fence)
	results, err := rig.ParseResults(readAll(t, client, "out"))
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range oracle.Problems(panes, results, true) {
		t.Error(problem)
	}
	if side := readAll(t, client, "out-late"); len(side) != len(late) || len(panes) < 50 {
		t.Errorf("%d late records, want %d; %d panes", len(side), len(late), len(panes))
	}

	a = ok(t, "validate", "--config", config, "--brokers", brokers)
	if !strings.Contains(a.out, "transactions are not supported: at least once, with deterministic ids") || !strings.Contains(a.out, "warning: transactions") {
		t.Errorf("validate: %s", a)
	}
	if got := objects(t, ok(t, "validate", "--config", config, "--brokers", brokers, "--json").out)[0]; got["delivery"] != "at least once, with deterministic ids" {
		t.Errorf("validate --json: %v", got)
	}
}
