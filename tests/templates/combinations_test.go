//go:build templates

package templates_test

import (
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	clusterArn = "arn:aws:kafka:us-east-1:123456789012:cluster/c/0"
	secret     = "arn:aws:secretsmanager:us-east-1:123456789012:secret:AmazonMSK_x" //nolint:gosec // a name
)

// base are the resources that are there whatever the parameters say.
func base() []string {
	return []string{
		"Fire", "FireEventInvokeConfig", "FireLogs", "FireMinute", "FireMinuteRole", "FireRole", "Ingest", "IngestLogs", "IngestRole", "Ops", "OpsEventInvokeConfig", "OpsLogs", "OpsRole",
	}
}

// Each combination leaves exactly the resources that it needs, and roles have exactly the policies.
func TestParametersComeToWhatTheyAskFor(t *testing.T) {
	tmpl := translation(t)
	kafka := map[string]struct {
		given    map[string]string
		mappings string // prefix
		access   []string
		msk, iam bool
		secret   bool
	}{
		"msk, iam":   {map[string]string{"KafkaMode": "msk", "ClusterArn": clusterArn, "KafkaAuth": "iam"}, "Msk", nil, true, true, false},
		"msk, scram": {map[string]string{"KafkaMode": "msk", "ClusterArn": clusterArn, "KafkaAuth": "scram", "KafkaSecretArn": secret}, "Msk", []string{"SASL_SCRAM_512_AUTH"}, true, false, true},
		"self-managed, scram": {
			map[string]string{"KafkaMode": "self-managed", "KafkaAuth": "scram", "KafkaSecretArn": secret},
			"SelfManaged",
			[]string{"VPC_SUBNET", "VPC_SUBNET", "VPC_SECURITY_GROUP", "SASL_SCRAM_512_AUTH"},
			false, false, true,
		},
		"self-managed, mtls, own ca": {
			map[string]string{"KafkaMode": "self-managed", "KafkaAuth": "mtls", "KafkaSecretArn": secret, "KafkaCaSecretArn": secret},
			"SelfManaged",
			[]string{"VPC_SUBNET", "VPC_SUBNET", "VPC_SECURITY_GROUP", "CLIENT_CERTIFICATE_TLS_AUTH", "SERVER_ROOT_CA_CERTIFICATE"},
			false, false, true,
		},
		"self-managed, none": {map[string]string{"KafkaMode": "self-managed", "KafkaAuth": "none"}, "SelfManaged", []string{"VPC_SUBNET", "VPC_SUBNET", "VPC_SECURITY_GROUP"}, false, false, false},
	}
	configs := map[string]string{"tidemark.yaml": "", "s3://b/k.yaml": "SpecInS3", "ssm:/n": "SpecInSsm", "appconfig:a/e/p": "SpecInAppConfig"}
	redis := map[string]string{"iam": "RedisConnect", "secret": "Secrets", "url": ""}
	for name, k := range kafka {
		for _, topicB := range []string{"performance-metrics", ""} {
			for config, specPolicy := range configs {
				for auth, redisPolicy := range redis {
					t.Run(strings.Join([]string{name, "topic " + topicB, config, auth}, "; "), func(t *testing.T) {
						given := map[string]string{
							"Brokers": "b1:9098,b2:9098", "SubnetIds": "subnet-1,subnet-2", "SecurityGroupIds": "sg-1", "TopicB": topicB, "Config": config, "RedisAuth": auth,
						}
						if auth == "secret" {
							given["RedisSecretArn"] = secret
						}
						maps.Copy(given, k.given)
						d := deploy(t, tmpl, given)
						policies := map[string]bool{}
						for _, p := range []string{specPolicy, redisPolicy} {
							if p != "" {
								policies[p] = true
							}
						}
						if k.secret {
							policies["Secrets"] = true
						}
						want := append(base(), slices.Collect(maps.Keys(policies))...)
						mappings := []string{k.mappings + "TopicA"}
						if topicB != "" {
							mappings = append(mappings, k.mappings+"TopicB")
						}
						want = append(want, mappings...)
						slices.Sort(want)
						if got := d.resources(); !slices.Equal(got, want) {
							t.Fatalf("resources\n%v\nwant\n%v", got, want)
						}
						for _, m := range mappings {
							checkMapping(t, d.properties(m), k.msk, k.access)
						}
						for _, role := range []string{"IngestRole", "FireRole", "OpsRole"} {
							checkRole(t, d, role, policies, k.msk, k.iam)
						}
						for id, o := range tmpl.Outputs {
							if o.Condition == "" || d.holds(o.Condition) {
								if d.resolve(o.Value) == "" {
									t.Errorf("output %s is empty", id)
								}
							}
						}
					})
				}
			}
		}
	}
}

func checkMapping(t *testing.T, p map[string]any, msk bool, access []string) {
	t.Helper()
	var got []string
	if list, ok := p["SourceAccessConfigurations"].([]any); ok {
		for _, a := range list {
			got = append(got, a.(map[string]any)["Type"].(string))
		}
	}
	if !slices.Equal(got, access) {
		t.Errorf("access %v, want %v", got, access)
	}
	if (p["EventSourceArn"] == clusterArn) != msk || (p["SelfManagedEventSource"] == nil) != msk {
		t.Errorf("source: %v, %v", p["EventSourceArn"], p["SelfManagedEventSource"])
	}
	if !msk && text(t, p["SelfManagedEventSource"]) != `{"Endpoints":{"KafkaBootstrapServers":["b1:9098","b2:9098"]}}` {
		t.Errorf("source: %s", text(t, p["SelfManagedEventSource"]))
	}
}

func checkRole(t *testing.T, d *deployment, role string, shared map[string]bool, msk, iam bool) {
	t.Helper()
	p := d.properties(role)
	want := []string{}
	for name := range shared {
		want = append(want, "<"+name+">")
	}
	slices.Sort(want)
	got := []string{}
	for _, arn := range p["ManagedPolicyArns"].([]any) {
		got = append(got, arn.(string))
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("%s has %v, want %v", role, got, want)
	}
	inline := []string{}
	for _, policy := range p["Policies"].([]any) {
		inline = append(inline, policy.(map[string]any)["PolicyName"].(string))
	}
	wanted := []string{"logs", "network"}
	if role == "IngestRole" {
		wanted = append(wanted, "nudge")
		if msk {
			wanted = append(wanted, "msk")
		}
	}
	if iam {
		wanted = append(wanted, "kafka")
	}
	if !slices.Equal(inline, wanted) {
		t.Errorf("%s has %v inside, want %v", role, inline, wanted)
	}
}

// The whole is wired: what one stack makes, another gets, and what is left out is taken from the parameters.
func TestEverythingIsWiredTogether(t *testing.T) {
	templates := written(t)
	tmpl := templates["infra/everything.yaml"]
	brokers := map[string]string{"Brokers": "b:9098"}
	for _, c := range []struct {
		name  string
		given map[string]string
		want  []string
	}{
		{"a new cluster", nil, []string{"ClusterStack", "NetworkStack", "StoreStack", "TopicStack"}},
		{"with its brokers", brokers, []string{"Application", "ClusterStack", "DashboardStack", "NetworkStack", "StoreStack", "TopicStack"}},
		{"with alarms", map[string]string{"Brokers": "b:9098", "AlarmTopicArn": "arn"}, []string{"AlarmStack", "Application", "ClusterStack", "DashboardStack", "NetworkStack", "StoreStack", "TopicStack"}},
		{"serverless", map[string]string{"Kafka": "serverless", "Topics": "no"}, []string{"ClusterStack", "NetworkStack", "StoreStack"}},
		{"the application alone", map[string]string{
			"Brokers": "b:9098", "Kafka": "none", "ClusterArn": clusterArn, "Topics": "no", "Store": "none", "RedisUrls": "rediss://r:6379", "Network": "no", "FunctionSecurityGroup": "sg-1", "Dashboard": "no",
		}, []string{"Application"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := deploy(t, tmpl, c.given)
			if got := d.resources(); !slices.Equal(got, c.want) {
				t.Fatalf("stacks %v, want %v", got, c.want)
			}
			for _, name := range d.resources() {
				p := d.properties(name)
				nested := templates[strings.TrimPrefix(filepath.ToSlash(filepath.Join("infra", p["TemplateURL"].(string))), "./")]
				for parameter, v := range p["Parameters"].(map[string]any) {
					if _, ok := nested.Parameters[parameter]; !ok {
						t.Errorf("%s has no parameter %s", p["TemplateURL"], parameter)
					}
					s, ok := v.(string)
					if !ok {
						continue
					}
					if stack, output, ok := strings.Cut(strings.Trim(s, "<>"), ".Outputs."); ok {
						from := templates["infra/"+filepath.Base(tmpl.Resources[stack].Properties["TemplateURL"].(string))]
						if stack == "Application" {
							from = templates["template.yaml"]
						}
						if _, ok := from.Outputs[output]; !ok {
							t.Errorf("%s has no output %s", stack, output)
						}
					}
				}
				for parameter, declared := range nested.Parameters {
					if _, given := p["Parameters"].(map[string]any)[parameter]; !given && declared.Default == nil {
						t.Errorf("%s is not given %s", name, parameter)
					}
				}
			}
		})
	}
	// Defaults of the whole are those of its parts.
	for _, part := range []string{"template.yaml", "infra/topics.yaml", "infra/alarms.yaml"} {
		for name, p := range templates[part].Parameters {
			if whole, ok := tmpl.Parameters[name]; ok && p.Default != nil && whole.Default != p.Default {
				t.Errorf("%s is %v in %s and %v in everything.yaml", name, p.Default, part, whole.Default)
			}
		}
	}
}

// The template and the spec of the package agree, and our own check refuses what linters let pass.
func TestOurCheckHoldsTheTemplateToTheSpec(t *testing.T) {
	positions := map[string]string{"earliest": "TRIM_HORIZON", "latest": "LATEST"}
	if got := written(t)["template.yaml"].Parameters["StartingPosition"].Default; got != positions[app(t).Consumer.AutoOffsetReset] {
		t.Errorf("StartingPosition is %v, auto_offset_reset of the spec %s", got, app(t).Consumer.AutoOffsetReset)
	}
	cli := filepath.Join(t.TempDir(), "tidemark")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", cli, "./localdev")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, c := range []struct{ name, from, to, want string }{
		{"as it is", "", "", ""},
		{"thirty seconds", "rate(1 minute)", "rate(30 seconds)", "more often than once a minute"},
		{"latest", "Default: TRIM_HORIZON", "Default: LATEST", "StartingPosition is LATEST, but auto_offset_reset of the spec is earliest"},
	} {
		t.Run(c.name, func(t *testing.T) {
			changed := file(t, "template.yaml")
			if c.from != "" {
				if !strings.Contains(changed, c.from) {
					t.Fatalf("%q is not in the template", c.from)
				}
				changed = strings.Replace(changed, c.from, c.to, 1)
			}
			name := write(t, changed)
			check := exec.CommandContext(t.Context(), cli, "validate", "--config", "infra/tidemark.yaml", "--template", name)
			check.Dir = root
			out, err := check.CombinedOutput()
			if (err == nil) != (c.want == "") || !strings.Contains(string(out), c.want) {
				t.Errorf("%v\n%s\nwant in it: %s", err, out, c.want)
			}
		})
	}
}
