//go:build templates

// Package templates_test holds template.yaml and infra/ to what tools of others say of them, to what the SAM translator makes of
// them, to the settings that the functions read, and to what preflight wants of a cluster. The tools come from PyPI: make templates.
package templates_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

// tool runs a program of infra/tools/aws-tools at the top of the repository.
func tool(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	dir := os.Getenv("TIDEMARK_AWS_TOOLS")
	if dir == "" {
		t.Fatal("TIDEMARK_AWS_TOOLS is not set: run make templates")
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, filepath.FromSlash(name)), args...)
	cmd.Dir = root
	cmd.Env = append(append(os.Environ(), "AWS_DEFAULT_REGION=us-east-1", "SAM_CLI_TELEMETRY=0", "BC_SKIP_MAPPING=TRUE"), env...)
	var failure bytes.Buffer
	cmd.Stderr = &failure
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s\n%s", name, strings.Join(args, " "), err, out, failure.String())
	}
	return string(out)
}

// all are the templates, relative to the top.
func all(t *testing.T) []string {
	t.Helper()
	stacks, err := filepath.Glob(filepath.Join(root, "infra", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"template.yaml"}
	for _, name := range stacks {
		if base := filepath.Base(name); base != "tidemark.yaml" { // the spec
			names = append(names, "infra/"+base)
		}
	}
	return names
}

func TestLintersFindNothing(t *testing.T) {
	t.Parallel()
	t.Run("sam validate", func(t *testing.T) {
		t.Parallel()
		tool(t, nil, "sam/bin/sam", "validate", "--lint", "--region", "us-east-1", "--template", "template.yaml")
	})
	t.Run("cfn-lint", func(t *testing.T) {
		t.Parallel()
		tool(t, nil, "lint/bin/cfn-lint", all(t)...)
	})
	t.Run("checkov", func(t *testing.T) {
		t.Parallel()
		args := []string{"--framework", "cloudformation", "--compact", "--quiet", "-o", "json"}
		for _, name := range all(t) {
			args = append(args, "-f", name)
		}
		var report struct {
			Summary struct{ Passed, Failed, Resource_count int } `json:"summary"`
		}
		if err := json.Unmarshal([]byte(tool(t, nil, "checkov/bin/checkov", args...)), &report); err != nil {
			t.Fatal(err)
		}
		if report.Summary.Passed == 0 || report.Summary.Failed != 0 {
			t.Errorf("checkov: %+v", report.Summary)
		}
	})
}

// resource is what CloudFormation gets.
type resource struct {
	Type       string
	Condition  string
	Properties map[string]any
}

// translation is template.yaml as the SAM translator makes it.
func translation(t *testing.T) template {
	t.Helper()
	out := tool(t, nil, "lint/bin/python", "tests/templates/translate.py", "template.yaml")
	var doc template
	if err := json.Unmarshal([]byte(out), &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

func translated(t *testing.T) map[string]resource {
	t.Helper()
	return translation(t).Resources
}

func ofType(resources map[string]resource, kind string) []string {
	var names []string
	for name, r := range resources {
		if r.Type == kind {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func TestTheTranslatorYieldsMappingsAndSchedulesThatHideNothing(t *testing.T) {
	resources := translated(t)
	want := map[string]string{"MskTopicA": "Msk", "MskTopicB": "MskTopicB", "SelfManagedTopicA": "SelfManaged", "SelfManagedTopicB": "SelfManagedTopicB"}
	mappings := ofType(resources, "AWS::Lambda::EventSourceMapping")
	if len(mappings) != len(want) {
		t.Fatalf("mappings: %v", mappings)
	}
	for _, name := range mappings {
		m := resources[name]
		if m.Condition != want[name] {
			t.Errorf("%s has condition %s, want %s", name, m.Condition, want[name])
		}
		for _, hiding := range []string{"DestinationConfig", "MaximumRecordAgeInSeconds", "MaximumRetryAttempts", "BisectBatchOnFunctionError", "FilterCriteria"} {
			if v, ok := m.Properties[hiding]; ok {
				t.Errorf("%s has %s: %v", name, hiding, v)
			}
		}
		if m.Properties["MaximumBatchingWindowInSeconds"] != 0.0 || m.Properties["ProvisionedPollerConfig"] == nil ||
			!strings.Contains(text(t, m.Properties["FunctionResponseTypes"]), "ReportBatchItemFailures") {
			t.Errorf("%s: %v", name, m.Properties)
		}
	}
	schedules := ofType(resources, "AWS::Scheduler::Schedule")
	if len(schedules) != 1 {
		t.Fatalf("schedules: %v", schedules)
	}
	s := resources[schedules[0]].Properties
	if s["ScheduleExpression"] != "rate(1 minute)" || s["Name"] != nil || !strings.Contains(text(t, s["Target"]), `"RetryPolicy":{"MaximumEventAgeInSeconds":60,"MaximumRetryAttempts":0}`) {
		t.Errorf("schedule: %v", s)
	}
	invoke := resources["FireEventInvokeConfig"].Properties
	if invoke["MaximumRetryAttempts"] != 0.0 || invoke["MaximumEventAgeInSeconds"] != 60.0 || resources["Fire"].Properties["ReservedConcurrentExecutions"] != 1.0 {
		t.Errorf("fire: %v, %v", invoke, resources["Fire"].Properties)
	}
}

func TestEveryFunctionHasItsOwnLogsThatEnd(t *testing.T) {
	resources := translated(t)
	for _, name := range []string{"Ingest", "Fire", "Ops"} {
		f := resources[name].Properties
		if logs := text(t, f["LoggingConfig"]); !strings.Contains(logs, `"LogFormat":"JSON"`) || !strings.Contains(logs, `{"Ref":"`+name+`Logs"}`) {
			t.Errorf("%s logs to %s", name, logs)
		}
		if resources[name+"Logs"].Properties["RetentionInDays"] == nil {
			t.Errorf("%sLogs are kept for ever", name)
		}
		if f["Runtime"] != "provided.al2023" || f["Handler"] != "bootstrap" {
			t.Errorf("%s: %v", name, f)
		}
	}
}

func text(t *testing.T, v any) string {
	t.Helper()
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// statement is one of a policy.
type statement struct {
	role, sid string
	actions   []string
	resources string
}

// statements are those of all roles and policies, alternatives of conditions included.
func statements(t *testing.T, resources map[string]resource) []statement {
	t.Helper()
	var out []statement
	var walk func(owner string, v any)
	walk = func(owner string, v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				walk(owner, e)
			}
		case map[string]any:
			if v["Effect"] != nil && v["Resource"] != nil {
				s := statement{role: owner, resources: text(t, v["Resource"])}
				s.sid, _ = v["Sid"].(string)
				switch a := v["Action"].(type) {
				case string:
					s.actions = []string{a}
				case []any:
					for _, e := range a {
						s.actions = append(s.actions, e.(string))
					}
				}
				out = append(out, s)
				return
			}
			for _, kid := range v {
				walk(owner, kid)
			}
		}
	}
	for name, r := range resources {
		if r.Type == "AWS::IAM::Role" || r.Type == "AWS::IAM::ManagedPolicy" {
			walk(name, r.Properties)
		}
	}
	return out
}

// What names no resource does so for a reason, and no action is a pattern.
func TestPermissionsNameWhatTheyAreFor(t *testing.T) {
	resources := translated(t)
	all := statements(t, resources)
	if len(all) < 20 {
		t.Fatalf("only %d statements found", len(all))
	}
	unnamed := map[string]string{"Network": "ec2:", "Traces": "xray:"} // neither service has a resource for these actions
	for _, s := range all {
		for _, action := range s.actions {
			if strings.Contains(action, "*") {
				t.Errorf("%s/%s allows %s", s.role, s.sid, action)
			}
			if strings.Contains(s.resources, `"*"`) && (unnamed[s.sid] == "" || !strings.HasPrefix(action, unnamed[s.sid])) {
				t.Errorf("%s/%s allows %s on everything", s.role, s.sid, action)
			}
		}
	}
}

func TestFireAloneWritesToKafka(t *testing.T) {
	resources := translated(t)
	writes := regexp.MustCompile(`^kafka-cluster:(Write|AlterTransactionalId|Create|Delete|AlterCluster|AlterTopic)`)
	wrote := 0
	for _, s := range statements(t, resources) {
		for _, action := range s.actions {
			if !writes.MatchString(action) {
				continue
			}
			if wrote++; s.role != "FireRole" {
				t.Errorf("%s/%s allows %s", s.role, s.sid, action)
			}
		}
	}
	if wrote == 0 {
		t.Error("nothing is ever written")
	}
}

// The template hands over every setting that there is, and none that is not read.
func TestTheEnvironmentIsWhatSettingsRead(t *testing.T) {
	source, err := os.ReadFile(filepath.Join(root, "functions", "settings", "settings.go"))
	if err != nil {
		t.Fatal(err)
	}
	read := map[string]bool{}
	for _, m := range regexp.MustCompile(`Env\w+\s*=\s*"(TIDEMARK_\w+)"`).FindAllStringSubmatch(string(source), -1) {
		read[m[1]] = true
	}
	if len(read) < 10 {
		t.Fatalf("settings read %v", read)
	}
	resources := translated(t)
	given := map[string]bool{}
	for _, name := range ofType(resources, "AWS::Lambda::Function") {
		environment, ok := resources[name].Properties["Environment"].(map[string]any)["Variables"].(map[string]any)
		if !ok {
			t.Fatalf("%s has no environment", name)
		}
		for variable := range environment {
			if given[variable] = true; !read[variable] {
				t.Errorf("%s has %s, which nothing reads", name, variable)
			}
		}
	}
	for name := range read {
		if !given[name] {
			t.Errorf("no function has %s", name)
		}
	}
}
