//go:build servers || templates

package templates_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// recorded is the file of calls that were recorded: a function, a request and what it is for on each line.
const recorded = "testdata/calls.golden"

// call is a line of it. Of Kafka, the resource is KIND:ROLE; of AWS, request is the action and resource what it is done to.
type call struct{ function, request, resource string }

func (c call) String() string { return fmt.Sprintf("%s %s %s", c.function, c.request, c.resource) }

func readCalls(t *testing.T) []call {
	t.Helper()
	data, err := os.ReadFile(recorded)
	if err != nil {
		t.Fatalf("%v: go test -tags servers ./tests/templates -update", err)
	}
	var calls []call
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) != 3 {
			t.Fatalf("%s: %q", recorded, line)
		}
		calls = append(calls, call{f[0], f[1], f[2]})
	}
	return calls
}

// kafkaActions are what MSK's IAM asks for, by request and kind of resource: the operation that Kafka's authorizer asks for, under
// the name of MSK's table of kafka-cluster actions, with those that the table says depend on it. An empty list is a request that
// anybody may make who may connect.
func kafkaActions() map[string]map[string][]string {
	describe := map[string][]string{"topic": {"DescribeTopic"}}
	member := map[string][]string{"group": {"DescribeGroup", "AlterGroup"}}
	txn := []string{"DescribeTransactionalId", "AlterTransactionalId"}
	return map[string]map[string][]string{
		"ApiVersions":          {"cluster": {"Connect"}},
		"Metadata":             {"topic": {"DescribeTopic"}, "cluster": {"Connect"}}, // brokers, or topics that may be described
		"ListOffsets":          describe,
		"OffsetForLeaderEpoch": describe,
		"Fetch":                {"topic": {"DescribeTopic", "ReadData"}},
		"Produce":              {"topic": {"DescribeTopic", "WriteData"}, "transactional-id": txn},
		"InitProducerId":       {"transactional-id": txn, "cluster": {"WriteDataIdempotently"}},
		"AddPartitionsToTxn":   {"topic": {"DescribeTopic", "WriteData"}, "transactional-id": txn},
		"AddOffsetsToTxn":      {"group": {"DescribeGroup", "AlterGroup"}, "transactional-id": txn},
		"TxnOffsetCommit":      {"topic": {"DescribeTopic", "ReadData"}, "group": {"DescribeGroup", "AlterGroup"}, "transactional-id": txn},
		"EndTxn":               {"transactional-id": txn},
		"FindCoordinator":      {"group": {"DescribeGroup"}, "transactional-id": {"DescribeTransactionalId"}},
		"OffsetFetch":          {"group": {"DescribeGroup"}, "topic": {"DescribeTopic"}},
		"OffsetCommit":         {"group": {"DescribeGroup", "AlterGroup"}, "topic": {"DescribeTopic", "ReadData"}},
		"JoinGroup":            member,
		"SyncGroup":            member,
		"Heartbeat":            member,
		"LeaveGroup":           member,
		"ListGroups":           {"group": {"DescribeGroup"}}, // lists those that may be described
		"DescribeConfigs":      {"topic": {"DescribeTopicDynamicConfiguration"}, "cluster": {"DescribeClusterDynamicConfiguration"}},
		"DeleteGroups":         {"group": {"DeleteGroup"}},
	}
}
