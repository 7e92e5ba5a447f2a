package template

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
)

const root = "../../.."

func shipped(t *testing.T, parameters map[string]string) *Template {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, "template.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	tmpl, err := Load(data, "template.yaml", parameters)
	if err != nil {
		t.Fatal(err)
	}
	return tmpl
}

func app(t *testing.T, path string) *spec.App {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	a, err := spec.Load(data, path)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestTheShippedTemplateIsReadAsItIsDeployed(t *testing.T) {
	for _, mode := range []string{"msk", "self-managed"} {
		t.Run(mode, func(t *testing.T) {
			tmpl := shipped(t, map[string]string{"KafkaMode": mode, "KafkaAuth": "scram", "SubnetIds": "subnet-1,subnet-2", "Brokers": "b:9092"})
			if len(tmpl.Functions) != 3 || len(tmpl.Mappings) != 2 || len(tmpl.Schedules) != 1 {
				t.Fatalf("functions, mappings, schedules: %v", tmpl)
			}
			ingest := tmpl.Functions[0]
			want := map[string]string{"TIDEMARK_CONFIG": "tidemark.yaml", "TIDEMARK_BROKERS": "b:9092", "TIDEMARK_KAFKA_AUTH": "scram", "TIDEMARK_FIRE_FUNCTION": "Fire"}
			for name, v := range want {
				if ingest.Environment[name] != v {
					t.Errorf("%s of %s is %q, want %q", name, ingest.Name, ingest.Environment[name], v)
				}
			}
			if ingest.Runtime != "provided.al2023" || ingest.Handler != "bootstrap" || ingest.Timeout != 60 || ingest.Memory != 512 || ingest.Concurrency != -1 {
				t.Errorf("ingest: %+v", ingest)
			}
			if f := tmpl.Functions[1]; f.Name != "Fire" || f.Concurrency != 1 || f.Retries != 0 || f.MaxAge != 60 || f.LogFormat != "JSON" || f.LogLevel != "INFO" {
				t.Errorf("fire: %+v", f)
			}
			if ingest.Retries != 2 || ingest.MaxAge != 21_600 {
				t.Errorf("ingest: %+v", ingest)
			}
			for i, topic := range []string{"feedback-events", "performance-metrics"} {
				m := tmpl.Mappings[i]
				if m.Function != "Ingest" || !cmp.Equal(m.Topics, []string{topic}) || m.Window != 0 || m.BatchSize != 500 || !m.PartialFailures || m.Hiding != nil {
					t.Errorf("mapping of %s: %+v", topic, m)
				}
			}
			if s := tmpl.Schedules[0]; s.Function != "Fire" || s.Expression != "rate(1 minute)" {
				t.Errorf("schedule: %+v", s)
			}
		})
	}
}

func TestTheShippedTemplateGoesWithItsSpec(t *testing.T) {
	if found := Check(shipped(t, nil), app(t, "infra/tidemark.yaml")); len(found) != 0 {
		t.Errorf("found: %v", found)
	}
}

// The user's own file needs two parameters, and no other change.
func TestTheShippedTemplateGoesWithTheUsersSpec(t *testing.T) {
	a := app(t, "tests/testdata/processor-config.yaml")
	found := Check(shipped(t, nil), a)
	if len(found) != 2 || !strings.Contains(found[0].Message, "ConsumerGroupId") || !strings.Contains(found[1].Message, "ConsumerGroupId") {
		t.Errorf("found: %v", found)
	}
	if found := Check(shipped(t, map[string]string{"AppName": a.Name, "ConsumerGroupId": a.Consumer.GroupID}), a); len(found) != 0 {
		t.Errorf("found: %v", found)
	}
}

const small = `
Parameters:
  Position: {Type: String, Default: TRIM_HORIZON, AllowedValues: [TRIM_HORIZON, LATEST]}
  Batch: {Type: Number, Default: 500, MinValue: 1, MaxValue: 20000}
Resources:
  F:
    Type: AWS::Serverless::Function
    Properties:
      Timeout: 60
      Events:
        A: {Type: MSK, Properties: {Topics: [feedback-events], ConsumerGroupId: tidemark.llm-optimizer, StartingPosition: !Ref Position, BatchSize: !Ref Batch, FunctionResponseTypes: [ReportBatchItemFailures]}}
        B: {Type: MSK, Properties: {Topics: [performance-metrics], ConsumerGroupId: 'tidemark.llm-optimizer:performance-metrics', StartingPosition: !Ref Position, BatchSize: !Ref Batch, FunctionResponseTypes: [ReportBatchItemFailures]}}
        T: {Type: ScheduleV2, Properties: {ScheduleExpression: rate(1 minute)}}
`

func TestWhatDoesNotGoTogetherIsFound(t *testing.T) {
	tests := []struct {
		name       string
		from, to   string
		parameters map[string]string
		want       []string // parts of the problems
	}{
		{name: "nothing is wrong"},
		{name: "starting position", parameters: map[string]string{"Position": "LATEST"}, want: []string{":3: error: F.A: StartingPosition is LATEST", ":3: error: F.B: StartingPosition is LATEST"}},
		{name: "batch too large", from: "BatchSize: !Ref Batch", to: "BatchSize: 10001", want: []string{":11: error: F.A: BatchSize is 10001"}},
		{name: "batch other than on a laptop", from: "BatchSize: !Ref Batch", to: "BatchSize: 100", want: []string{":11: warning: F.A: BatchSize is 100"}},
		{name: "group of somebody else", from: "tidemark.llm-optimizer,", to: "mine,", want: []string{"ConsumerGroupId is mine"}},
		{name: "no group", from: "ConsumerGroupId: tidemark.llm-optimizer, ", to: "", want: []string{"ConsumerGroupId is not set"}},
		{name: "one group for two", from: "'tidemark.llm-optimizer:performance-metrics'", to: "tidemark.llm-optimizer", want: []string{"is that of F.A, too"}},
		{name: "topic that nobody reads", from: "[feedback-events]", to: "[others]", want: []string{"topic feedback-events has no mapping", "no pipeline reads topic others"}},
		{name: "two topics in one", from: "[feedback-events]", to: "[feedback-events, performance-metrics]", want: []string{"it has 2 topics", "is that of F.A, too"}},
		{name: "failures unheard", from: ", FunctionResponseTypes: [ReportBatchItemFailures]", to: "", want: []string{"without ReportBatchItemFailures"}},
		{name: "slow batches", from: "Topics: [feedback-events]", to: "Topics: [feedback-events], MaximumBatchingWindowInSeconds: 5", want: []string{"warning: F.A: records wait up to 5 s"}},
		{name: "records that nobody sees", from: "Topics: [feedback-events]", to: "Topics: [feedback-events], MaximumRetryAttempts: 3, FilterCriteria: {Filters: []}", want: []string{"FilterCriteria lets records pass", "MaximumRetryAttempts lets records pass"}},
		{name: "retries for ever", from: "Topics: [feedback-events]", to: "Topics: [feedback-events], MaximumRetryAttempts: -1"},
		{name: "no order", from: "Topics: [feedback-events]", to: "Topics: [feedback-events], ConsumptionMode: Queue", want: []string{":11: error: F.A: ConsumptionMode Queue"}},
		{name: "timeout", from: "Timeout: 60", to: "Timeout: 900", want: []string{":7: error: F: its Timeout is 900 s", "its Timeout is 900 s"}},
		{name: "schedule of seconds", from: "rate(1 minute)", to: "rate(30 seconds)", want: []string{":13: error: F.T: rate(30 seconds) is more often"}},
		{name: "cron with seconds", from: "rate(1 minute)", to: "cron(0/10 * * * * ? *)", want: []string{"TIDEMARK_FIRE_TICK"}},
		{name: "cron", from: "rate(1 minute)", to: "cron(* * * * ? *)"},
	}
	a := app(t, "infra/tidemark.yaml")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			changed := small
			if tt.from != "" {
				if changed = strings.Replace(small, tt.from, tt.to, 1); changed == small {
					t.Fatal("nothing was replaced")
				}
			}
			tmpl, err := Load([]byte(changed), "t.yaml", tt.parameters)
			if err != nil {
				t.Fatal(err)
			}
			found := Check(tmpl, a)
			if len(found) != len(tt.want) {
				t.Fatalf("found %d problems, want %d: %v", len(found), len(tt.want), found)
			}
			for i, want := range tt.want {
				if !strings.Contains(found[i].String(), want) {
					t.Errorf("problem %d: %s\nwant in it: %s", i, found[i], want)
				}
			}
		})
	}
}

// What a mapping with a schema registry hands on has to be read as what the log has.
func TestASchemaRegistryGoesWithItsFormatAlone(t *testing.T) {
	const good = "{SchemaRegistryURI: x, EventRecordFormat: SOURCE, SchemaValidationConfigs: [{Attribute: VALUE}]}"
	for name, c := range map[string]struct {
		registry string
		input    event.Format
		fields   bool // records are grouped by fields
		want     []string
	}{
		"as it should be":        {registry: good, input: spec.JSONRegistry()},
		"plain JSON":             {registry: good, want: []string{":11: error: F.A: SchemaRegistryConfig removes the prefix of record values, which the log has, and pipeline default reads json; set its input to json_registry"}},
		"rewritten values":       {registry: "{SchemaRegistryURI: x, EventRecordFormat: JSON}", input: spec.JSONRegistry(), want: []string{":11: warning: F.A: EventRecordFormat is JSON"}},
		"nothing said":           {registry: "{SchemaRegistryURI: x}", input: spec.JSONRegistry(), want: []string{"EventRecordFormat is not set"}},
		"keys":                   {registry: strings.Replace(good, "VALUE", "KEY", 1), input: spec.JSONRegistry(), want: []string{":11: error: F.A: SchemaRegistryConfig changes record keys"}},
		"keys that nobody needs": {registry: strings.Replace(good, "VALUE", "KEY", 1), input: spec.JSONRegistry(), fields: true},
	} {
		a := app(t, "infra/tidemark.yaml")
		a.Pipelines[0].Input = c.input
		if c.fields {
			a.Pipelines[0].Key = spec.Key{Fields: []string{"k"}}
		}
		tmpl, err := Load([]byte(strings.Replace(small, "Topics: [feedback-events]", "Topics: [feedback-events], SchemaRegistryConfig: "+c.registry, 1)), "t.yaml", nil)
		if err != nil {
			t.Fatal(err)
		}
		found := Check(tmpl, a)
		if len(found) != len(c.want) {
			t.Errorf("%s: found %v, want %q", name, found, c.want)
			continue
		}
		for i, want := range c.want {
			if !strings.Contains(found[i].String(), want) {
				t.Errorf("%s: problem %s\nwant in it: %s", name, found[i], want)
			}
		}
	}
}

func TestParametersAreHeldToWhatTheyTake(t *testing.T) {
	tests := map[string]map[string]string{
		"want one of TRIM_HORIZON, LATEST": {"Position": "EARLIEST"},
		"want a number from 1 to 20000":    {"Batch": "0"},
		"has none of that name":            {"Nothing": "1"},
	}
	for want, parameters := range tests {
		_, err := Load([]byte(small), "t.yaml", parameters)
		if !errors.Is(err, ErrParameter) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", parameters, err, want)
		}
	}
}

func TestFunctionsOfTemplatesAreComputed(t *testing.T) {
	const text = `
Parameters:
  A: {Type: String, Default: x/y}
  L: {Type: CommaDelimitedList, Default: 'p, q'}
Conditions:
  Yes: !Not [!Equals [!Ref A, '']]
  No: !And [!Condition Yes, !Equals [!Select [0, !Split [/, !Ref A]], y]]
  Either: !Or [!Condition No, !Condition Yes]
Resources:
  F:
    Type: AWS::Lambda::Function
    Condition: Either
    Properties:
      Environment:
        Variables:
          SUB: !Sub '${A}-${AWS::Region}-${!A}-${G.Arn}'
          OWN: !Sub ['${B}/${A}', {B: !Join ['.', [a, !Ref A]]}]
          IF: !If [No, a, !If [Yes, b, c]]
          NONE: !If [No, a, !Ref AWS::NoValue]
          PART: !Select [1, !Ref L]
          ATT: !GetAtt G.Arn
          LONG:
            Fn::GetAtt: [G, Arn]
          BLOCK: >-
            folded
            text
  N: {Type: AWS::Lambda::Function, Condition: No, Properties: {Timeout: 1}}
`
	tmpl, err := Load([]byte(text), "t.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"SUB": "x/y-us-east-1-${A}-G.Arn", "OWN": "a.x/y/x/y", "IF": "b", "PART": "q", "ATT": "G.Arn", "LONG": "G.Arn", "BLOCK": "folded text",
	}
	if len(tmpl.Functions) != 1 {
		t.Fatalf("functions: %v", tmpl.Functions)
	}
	if diff := cmp.Diff(want, tmpl.Functions[0].Environment); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
}

func TestWhatIsNoTemplateIsRefused(t *testing.T) {
	for text, want := range map[string]error{
		"":              ErrMalformed,
		"a":             ErrMalformed,
		"a: 1\n---\nb:": ErrMalformed,
		"Resources: 3":  ErrMalformed,
		"Resources: {F: {Type: AWS::Lambda::Function}}":                                                                       ErrMalformed,
		"Resources: {F: {Type: AWS::Lambda::Function, Condition: C, Properties: {}}}":                                         ErrMalformed,
		"Conditions: {C: !Condition C}\nResources: {F: {Type: AWS::Lambda::Function, Condition: C, Properties: {}}}":          ErrMalformed,
		"Resources: {F: {Type: AWS::Lambda::Function, Properties: {Timeout: !Select [3, [a]]}}}":                              ErrMalformed,
		"Resources: {F: {Type: AWS::Lambda::Function, Properties: {Timeout: !FindInMap [a, b]}}}":                             ErrNotSupported,
		"Resources: {F: {Type: AWS::Lambda::Function, Properties: {A: 1, A: 2}}}":                                             ErrMalformed,
		"Conditions: {C: !Equals [a]}\nResources: {F: {Type: AWS::Lambda::Function, Condition: C, Properties: {Timeout: 1}}}": ErrMalformed,
	} {
		if _, err := Load([]byte(text), "t.yaml", nil); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", text, err, want)
		}
	}
}

func TestParametersWithoutValueMayTakeAnother(t *testing.T) {
	data := []byte(`{Parameters: {A: {Type: String}, B: {Type: String, Default: b}, C: {Type: String}}, Resources: {F: {Type: AWS::Lambda::Function, Properties: {Environment: {Variables: {A: !Ref A, B: !Ref B, C: !Ref C}}}}}}`)
	tmpl, err := LoadWith(data, "t.yaml", map[string]string{"C": "given"}, map[string]string{"A": "other", "B": "other", "C": "other", "D": "other"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"A": "other", "B": "b", "C": "given"}, tmpl.Functions[0].Environment); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(small))
	f.Add([]byte("Resources: {F: {Type: AWS::Lambda::Function, Properties: {Timeout: !Sub ['${A}', !If [B, {A: 1}, 2]]}}}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		tmpl, err := Load(data, "t.yaml", nil)
		if (tmpl == nil) == (err == nil) {
			t.Errorf("template %v, error %v", tmpl, err)
		}
	})
}
