//go:build templates

package templates_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/functions/preflight"
)

func file(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// write puts text into a file of its own.
func write(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "template.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// app is the spec of the package.
func app(t *testing.T) *spec.App {
	t.Helper()
	a, err := spec.Load([]byte(file(t, "infra/tidemark.yaml")), "infra/tidemark.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// described is a cluster as templates describe it, which is what preflight asks.
type described struct {
	topics map[string]kafkaio.TopicFacts
	broker map[string]string
}

func (s described) Partitions(_ context.Context, topics []string) ([]kafkaio.Partition, error) {
	var out []kafkaio.Partition
	for _, topic := range topics {
		out = append(out, kafkaio.Partition{TopicPartition: event.TopicPartition{Topic: topic}})
	}
	return out, nil
}

func (described) Offsets(context.Context, []event.TopicPartition) (map[event.TopicPartition]kafkaio.Offsets, error) {
	return map[event.TopicPartition]kafkaio.Offsets{}, nil
}

func (described) Group(context.Context, string) (map[event.TopicPartition]kafkaio.Committed, error) {
	return map[event.TopicPartition]kafkaio.Committed{}, nil
}

func (s described) TopicFacts(_ context.Context, topics []string) (map[string]kafkaio.TopicFacts, error) {
	out := map[string]kafkaio.TopicFacts{}
	for _, topic := range topics {
		f, ok := s.topics[topic]
		if !ok {
			f.Missing = true
		}
		out[topic] = f
	}
	return out, nil
}

func (s described) BrokerFacts(context.Context) (map[string]string, error) { return s.broker, nil }

func (described) TryTransaction(context.Context, kafkaio.Trial) (int16, error) { return 2, nil }

// provisioned is a cluster as msk.yaml and topics.yaml make it.
func provisioned(t *testing.T, given map[string]string) described {
	t.Helper()
	s := described{topics: map[string]kafkaio.TopicFacts{}, broker: map[string]string{}}
	topics := deploy(t, written(t)["infra/topics.yaml"], given)
	for _, name := range topics.resources() {
		p := topics.properties(name)
		f := kafkaio.TopicFacts{}
		if _, err := fmt.Sscan(fmt.Sprint(p["ReplicationFactor"]), &f.Replicas); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(p["Configs"].(string)), &f.Configs); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		s.topics[p["TopicName"].(string)] = f
	}
	msk := deploy(t, written(t)["infra/msk.yaml"], nil)
	for line := range strings.Lines(msk.properties("Settings")["ServerProperties"].(string)) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok {
			t.Errorf("no property: %q", line)
		}
		s.broker[key] = value
	}
	return s
}

func findings(t *testing.T, s described) []preflight.Finding {
	t.Helper()
	d := preflight.Deps{App: app(t), Kafka: s, ReadOnly: true}
	for _, p := range d.App.Pipelines {
		compiled, err := pipeline.Compile(p)
		if err != nil {
			t.Fatal(err)
		}
		d.Pipelines = append(d.Pipelines, compiled)
	}
	report, err := preflight.Check(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	return report.Findings
}

func TestPreflightFindsNothingWrongWithTheClusterAndTheTopics(t *testing.T) {
	s := provisioned(t, nil)
	if found := findings(t, s); len(found) != 0 {
		t.Errorf("%+v", found)
	}
	a := app(t)
	want := append(a.SourceTopics(), a.InternalTopics()...)
	if !slices.Contains(want, spec.PanesTopic) {
		t.Errorf("the spec of the package makes no use of %s", spec.PanesTopic)
	}
	for _, p := range a.Pipelines {
		c, err := pipeline.Compile(p)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, c.SinkTopic, c.LateTopic, c.DeadLetterTopic)
	}
	slices.Sort(want)
	if got := slices.Sorted(maps.Keys(s.topics)); !slices.Equal(got, slices.Compact(want)) {
		t.Errorf("topics %v, want %v", got, want)
	}
	for _, name := range []string{"offsets.retention.minutes", "offset.metadata.max.bytes", "transaction.max.timeout.ms"} {
		if s.broker[name] == "" {
			t.Errorf("msk.yaml does not say %s", name)
		}
	}
}

// What the test above rests on: preflight does look at these settings.
func TestPreflightFindsWhatTheTemplatesWouldGetWrong(t *testing.T) {
	for name, harm := range map[string]func(s described){
		"short offsets":     func(s described) { s.broker["offsets.retention.minutes"] = "1440" },
		"short metadata":    func(s described) { s.broker["offset.metadata.max.bytes"] = "100" },
		"no pane history":   func(s described) { delete(s.topics, spec.PanesTopic) },
		"panes by time":     func(s described) { s.topics[spec.PanesTopic].Configs["cleanup.policy"] = "delete" },
		"no ledger":         func(s described) { delete(s.topics, spec.LedgerTopic) },
		"compacted sources": func(s described) { s.topics["feedback-events"].Configs["cleanup.policy"] = "compact" },
		"one replica":       func(s described) { s.topics["aggregated-metrics"].Configs["min.insync.replicas"] = "1" },
		"narrow side topic": func(s described) { s.topics["processor-dead-letter"].Configs["max.message.bytes"] = "1024" },
	} {
		s := provisioned(t, nil)
		if harm(s); len(findings(t, s)) == 0 {
			t.Errorf("%s: nothing was found", name)
		}
	}
	if found := findings(t, provisioned(t, map[string]string{"SourceRetentionMs": "60000"})); len(found) == 0 {
		t.Error("short retention: nothing was found")
	}
}

func TestTopicsMayBeLeftOut(t *testing.T) {
	topics := written(t)["infra/topics.yaml"]
	own := []string{"DeadLetters", "Late", "Ledger", "Panes", "Results"}
	for _, c := range []struct {
		given map[string]string
		want  []string
	}{
		{nil, append([]string{"SourceA", "SourceB"}, own...)},
		{map[string]string{"TopicB": ""}, append([]string{"SourceA"}, own...)},
		{map[string]string{"CreateSources": "no"}, own},
	} {
		slices.Sort(c.want)
		if got := deploy(t, topics, c.given).resources(); !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, want %v", c.given, got, c.want)
		}
	}
}

func TestTheStoreAllowsWhatTheStoreIsTestedWith(t *testing.T) {
	want := "on " + strings.TrimSpace(file(t, "statestore/redisstore/acl.txt"))
	cache := written(t)["infra/cache.yaml"]
	for service, user := range map[string]string{"elasticache": "CacheUser", "memorydb": "MemoryUser"} {
		d := deploy(t, cache, map[string]string{"Service": service})
		if got := d.properties(user)["AccessString"]; got != want {
			t.Errorf("%s:\n%v\nwant\n%s", user, got, want)
		}
		for _, name := range d.resources("AWS::ElastiCache::ReplicationGroup") {
			if p := d.properties(name); p["Durability"] != "sync" || p["MultiAZEnabled"] != true || p["TransitEncryptionEnabled"] != true {
				t.Errorf("%s: %v", name, p)
			}
		}
		policy := ""
		for _, name := range d.resources("AWS::ElastiCache::ParameterGroup", "AWS::MemoryDB::ParameterGroup") {
			policy += text(t, d.properties(name))
		}
		if !strings.Contains(policy, `"maxmemory-policy":"noeviction"`) {
			t.Errorf("%s may evict: %s", service, policy)
		}
		for _, name := range d.resources() {
			if kind := d.tmpl.Resources[name].Type; strings.HasPrefix(kind, "AWS::MemoryDB") != (service == "memorydb") {
				t.Errorf("%s has %s, %s", service, name, kind)
			}
			d.properties(name) // nothing is referred to that is not there
		}
		d.resolve(d.tmpl.Outputs["RedisUrls"].Value)
	}
}

func TestEachClusterIsWhole(t *testing.T) {
	msk := written(t)["infra/msk.yaml"]
	for _, c := range []struct {
		given map[string]string
		want  []string
	}{
		{nil, []string{"Cluster", "Logs", "Settings"}},
		{map[string]string{"ScramSecretArn": "arn"}, []string{"Cluster", "Logs", "ScramUsers", "Settings"}},
		{map[string]string{"Mode": "serverless"}, []string{"ServerlessCluster"}},
	} {
		d := deploy(t, msk, c.given)
		if got := d.resources(); !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, want %v", c.given, got, c.want)
		}
		for _, name := range d.resources() {
			d.properties(name)
		}
		d.resolve(msk.Outputs["ClusterArn"].Value)
	}
	if n := deploy(t, msk, map[string]string{"BrokersPerZone": "2"}).properties("Cluster")["NumberOfBrokerNodes"]; n != 6.0 {
		t.Errorf("two brokers in each of three zones are %v", n)
	}
}

func TestEachEndpointMayBeLeftOut(t *testing.T) {
	network := written(t)["infra/network.yaml"]
	for service, parameter := range map[string]string{
		"Lambda": "LambdaEndpoint", "Sts": "StsEndpoint", "SecretsManager": "SecretsManagerEndpoint", "Ssm": "SsmEndpoint", "AppConfig": "AppConfigEndpoint",
		"Logs": "LogsEndpoint", "Kafka": "KafkaEndpoint", "S3": "S3Endpoint",
	} {
		for _, say := range []string{"yes", "no"} {
			d := deploy(t, network, map[string]string{parameter: say})
			if slices.Contains(d.resources("AWS::EC2::VPCEndpoint"), service) != (say == "yes") {
				t.Errorf("%s %s: %v", parameter, say, d.resources("AWS::EC2::VPCEndpoint"))
			}
		}
	}
	for list, want := range map[string]string{"": "FunctionsToHttps", "pl-1": "FunctionsToS3"} {
		d := deploy(t, network, map[string]string{"S3PrefixListId": list})
		names := d.resources("AWS::EC2::SecurityGroupEgress")
		if slices.Contains(names, "FunctionsToHttps") == slices.Contains(names, "FunctionsToS3") || !slices.Contains(names, want) {
			t.Errorf("S3PrefixListId %q: %v", list, names)
		}
	}
}

// A name that documents and descriptions give to a parameter or an output is one.
func TestNamesOfParametersAndOutputsExist(t *testing.T) {
	templates := written(t)
	named := regexp.MustCompile("([Oo]utput |[Pp]arameter )?`?([A-Z][A-Za-z0-9]+)`? of `?((?:[a-z]+\\.yaml)(?:,? and of [a-z]+\\.yaml)*)")
	texts := map[string]string{"README.md": file(t, "infra/README.md")}
	for name, tmpl := range templates {
		for id, p := range tmpl.Parameters {
			texts[name+" "+id] = p.Description
		}
		for id, o := range tmpl.Outputs {
			texts[name+" "+id] = o.Description
		}
	}
	found := 0
	for where, said := range texts {
		for _, m := range named.FindAllStringSubmatch(said, -1) {
			for _, base := range regexp.MustCompile(`[a-z]+\.yaml`).FindAllString(m[3], -1) {
				tmpl, ok := templates[base]
				if !ok {
					tmpl, ok = templates["infra/"+base]
				}
				if found++; !ok {
					t.Errorf("%s names %s, which is no template", where, base)
				}
				_, parameter := tmpl.Parameters[m[2]]
				_, output := tmpl.Outputs[m[2]]
				if isOutput := strings.EqualFold(m[1], "output "); isOutput && !output || !isOutput && !parameter {
					t.Errorf("%s: %q: %s has none of that name", where, m[0], base)
				}
			}
		}
	}
	_, section, _ := strings.Cut(texts["README.md"], "## The stacks beside it\n")
	section, _, _ = strings.Cut(section, "\n## ")
	for _, m := range regexp.MustCompile("`([A-Z][a-z]+[A-Z]?[A-Za-z]*)`").FindAllStringSubmatch(section, -1) {
		if m[1] == "BootstrapBrokerStringSaslScram" { // of the MSK API
			continue
		}
		found++
		if !slices.ContainsFunc(slices.Collect(maps.Values(templates)), func(tmpl template) bool {
			_, parameter := tmpl.Parameters[m[1]]
			_, output := tmpl.Outputs[m[1]]
			_, made := tmpl.Resources[m[1]]
			return parameter || output || made
		}) {
			t.Errorf("README.md: no template has %s", m[1])
		}
	}
	if found < 30 {
		t.Errorf("only %d names were found", found)
	}
}
