package template

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func load(t *testing.T, text string) *Template {
	t.Helper()
	tmpl, err := Load([]byte(text), "t.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	return tmpl
}

// What an emulator needs is read out of events of functions and out of raw resources alike.
func TestMappingsSayWhatLambdaWouldDo(t *testing.T) {
	const settings = `
          Topics: [events]
          StartingPosition: AT_TIMESTAMP
          StartingPositionTimestamp: 1700000000
          BatchSize: 1000
          MaximumBatchingWindowInSeconds: 0
          Enabled: false
          FilterCriteria: {Filters: [{Pattern: '{"value":{"type":["click"]}}'}, {Pattern: '{"value":["a"]}'}]}
          ProvisionedPollerConfig: {MinimumPollers: 2, MaximumPollers: 8}
          FunctionResponseTypes: [ReportBatchItemFailures]
          BisectBatchOnFunctionError: true
          MaximumRetryAttempts: 10
          MaximumRecordAgeInSeconds: 86400
          DestinationConfig: {OnFailure: {Type: Kafka, Destination: 'kafka://events-dlt'}}
`
	full := Mapping{
		Function: "F", Disabled: true, Topics: []string{"events"}, Group: "g", StartingPosition: "AT_TIMESTAMP", StartingTime: 1700000000,
		BatchSize: 1000, Window: 0, MinPollers: 2, MaxPollers: 8, MaxRetries: 10, MaxAge: 86400, Bisect: true, PartialFailures: true,
		OnFailure: "kafka://events-dlt", Filters: []string{`{"value":{"type":["click"]}}`, `{"value":["a"]}`}, Hiding: hiding(),
	}
	quiet := Mapping{
		Function: "F", Topics: []string{"events"}, StartingPosition: "LATEST", BatchSize: 100, Window: Unset, MaxRetries: Unlimited, MaxAge: Unlimited,
	}
	with := func(m Mapping, change func(*Mapping)) Mapping {
		change(&m)
		return m
	}
	tests := map[string]struct {
		text string
		want Mapping
	}{
		"MSK event": {
			text: "Resources:\n  F:\n    Type: AWS::Serverless::Function\n    Properties:\n      Events:\n        In:\n         Type: MSK\n         Properties:\n          Stream: arn:aws:kafka:c\n          ConsumerGroupId: g" + settings,
			want: with(full, func(m *Mapping) { m.Name, m.SourceARN = "F.In", "arn:aws:kafka:c" }),
		},
		"self-managed event": {
			text: "Resources:\n  F:\n    Type: AWS::Serverless::Function\n    Properties:\n      Events:\n        In:\n         Type: SelfManagedKafka\n         Properties:\n          KafkaBootstrapServers: [a:1, b:2]\n          ConsumerGroupId: g" + settings,
			want: with(full, func(m *Mapping) { m.Name, m.Kind, m.Brokers = "F.In", SelfManaged, []string{"a:1", "b:2"} }),
		},
		"raw, MSK": {
			text: "Resources:\n  M:\n        Type: AWS::Lambda::EventSourceMapping\n        Properties:\n          FunctionName: !GetAtt F.Arn\n          EventSourceArn: arn:aws:kafka:c\n          AmazonManagedKafkaEventSourceConfig: {ConsumerGroupId: g}" + settings,
			want: with(full, func(m *Mapping) { m.Name, m.SourceARN = "M", "arn:aws:kafka:c" }),
		},
		"raw, self-managed": {
			text: "Resources:\n  M:\n        Type: AWS::Lambda::EventSourceMapping\n        Properties:\n          FunctionName: !Ref F\n          SelfManagedEventSource: {Endpoints: {KafkaBootstrapServers: !Split [',', 'a:1,b:2']}}\n          SelfManagedKafkaEventSourceConfig: {ConsumerGroupId: g}" + settings,
			want: with(full, func(m *Mapping) { m.Name, m.Kind, m.Brokers = "M", SelfManaged, []string{"a:1", "b:2"} }),
		},
		"defaults": {
			text: "Resources: {M: {Type: AWS::Lambda::EventSourceMapping, Properties: {FunctionName: !Ref F, EventSourceArn: a, Topics: [events], StartingPosition: LATEST}}}",
			want: with(quiet, func(m *Mapping) { m.Name, m.SourceARN = "M", "a" }),
		},
		"queue, and a schema registry": {
			text: "Resources: {M: {Type: AWS::Lambda::EventSourceMapping, Properties: {FunctionName: !Ref F, SelfManagedEventSource: {Endpoints: {KafkaBootstrapServers: 'a:1, b:2'}}, SelfManagedKafkaEventSourceConfig: {ConsumptionMode: Queue, SchemaRegistryConfig: {SchemaRegistryURI: x, EventRecordFormat: SOURCE, SchemaValidationConfigs: [{Attribute: VALUE}, {Attribute: KEY}]}}, Topics: [events], StartingPosition: LATEST}}}",
			want: with(quiet, func(m *Mapping) {
				m.Name, m.Kind, m.Brokers, m.Queue, m.SchemaRegistry = "M", SelfManaged, []string{"a:1", "b:2"}, true, true
				m.RegistryFormat, m.RegistryKeys = "SOURCE", true
			}),
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tmpl := load(t, tt.text)
			if len(tmpl.Mappings) != 1 {
				t.Fatalf("mappings: %v", tmpl.Mappings)
			}
			if d := cmp.Diff(tt.want, tmpl.Mappings[0], cmpopts.IgnoreUnexported(Mapping{}), cmpopts.IgnoreFields(Mapping{}, "Line")); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}

func TestSchedulesSayWhetherAndWithWhatTheyInvoke(t *testing.T) {
	const text = `
Resources:
  F:
    Type: AWS::Serverless::Function
    Properties:
      Events:
        New: {Type: ScheduleV2, Properties: {ScheduleExpression: cron(0 12 * * ? *), ScheduleExpressionTimezone: Europe/Berlin, State: DISABLED, Input: '{"a":1}', RetryPolicy: {MaximumRetryAttempts: 0, MaximumEventAgeInSeconds: 60}}}
        Old: {Type: Schedule, Properties: {Schedule: rate(5 minutes), Enabled: false, Input: '{"a":2}'}}
        Off: {Type: Schedule, Properties: {Schedule: rate(5 minutes), State: DISABLED}}
  S:
    Type: AWS::Scheduler::Schedule
    Properties:
      ScheduleExpression: rate(1 minute)
      State: ENABLED
      Target: {Arn: !GetAtt F.Arn, Input: '{"a":3}', RetryPolicy: {MaximumRetryAttempts: 3}}
  R:
    Type: AWS::Events::Rule
    Properties:
      ScheduleExpression: rate(2 minutes)
      State: DISABLED
      Targets: [{Arn: !GetAtt F.Arn, Id: f, Input: '{"a":4}', RetryPolicy: {MaximumEventAgeInSeconds: 90}}]
`
	want := []Schedule{
		{Name: "F.New", Function: "F", Expression: "cron(0 12 * * ? *)", TimeZone: "Europe/Berlin", Disabled: true, Input: `{"a":1}`, MaxRetries: 0, MaxAge: 60},
		{Name: "F.Old", Function: "F", Expression: "rate(5 minutes)", Disabled: true, Input: `{"a":2}`, MaxRetries: 185, MaxAge: 86400},
		{Name: "F.Off", Function: "F", Expression: "rate(5 minutes)", Disabled: true, MaxRetries: 185, MaxAge: 86400},
		{Name: "S", Function: "F", Expression: "rate(1 minute)", Input: `{"a":3}`, MaxRetries: 3, MaxAge: 86400},
		{Name: "R", Function: "F", Expression: "rate(2 minutes)", Disabled: true, Input: `{"a":4}`, MaxRetries: 185, MaxAge: 90},
	}
	if d := cmp.Diff(want, load(t, text).Schedules, cmpopts.IgnoreFields(Schedule{}, "Line")); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}
