package trigger_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/llm-auto-optimizer/tidemark/functions/esm"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/template"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/trigger"
)

// The shipped template, as it is deployed by default, is what a trigger can be run with.
func TestTheShippedTemplateYieldsTheOptionsOfItsMappings(t *testing.T) {
	data, err := os.ReadFile("../../../template.yaml")
	if err != nil {
		t.Fatal(err)
	}
	const arn = "arn:aws:kafka:us-east-1:123456789012:cluster/demo/0f1e2d3c-0000-4000-8000-000000000000-1"
	for name, c := range map[string]struct {
		parameters map[string]string
		change     func(*trigger.Options)
	}{
		"as it is":        {parameters: nil, change: func(*trigger.Options) {}},
		"with an MSK ARN": {parameters: map[string]string{"KafkaMode": "msk", "ClusterArn": arn}, change: func(o *trigger.Options) { o.SourceARN = arn }},
		"self-managed": {
			parameters: map[string]string{"KafkaMode": "self-managed", "Brokers": "a:1,b:2", "SubnetIds": "s-1,s-2", "SecurityGroupIds": "g"},
			change:     func(o *trigger.Options) { o.Source, o.BootstrapServers = esm.SourceSelfManaged, []string{"a:1", "b:2"} },
		},
	} {
		t.Run(name, func(t *testing.T) {
			tmpl, err := template.Load(data, "template.yaml", c.parameters)
			if err != nil {
				t.Fatal(err)
			}
			if len(tmpl.Mappings) != 2 {
				t.Fatalf("%d mappings", len(tmpl.Mappings))
			}
			for i, topic := range []string{"feedback-events", "performance-metrics"} {
				want := trigger.Options{
					Group: "tidemark.llm-optimizer", Topics: []string{topic}, BatchSize: 500, Start: trigger.TrimHorizon, MinPollers: 1, MaxPollers: 10,
					PartialFailures: true, Source: esm.SourceMSK, FunctionARN: "arn:aws:lambda:us-east-1:123456789012:function:Ingest",
				}
				if i > 0 {
					want.Group += ":" + topic
				}
				c.change(&want)
				got, err := trigger.FromMapping(&tmpl.Mappings[i])
				if err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(want, got, cmpopts.IgnoreFields(trigger.Options{}, "Invoke", "Hooks", "Logger", "MaxAge", "MaxPollers")); d != "" {
					t.Errorf("(-want +got)\n%s", d)
				}
			}
		})
	}
}

func TestFromMappingTakesTheDefaultsOfLambda(t *testing.T) {
	quiet := template.Mapping{
		Name: "M", Topics: []string{"t"}, Group: "g", StartingPosition: "LATEST", BatchSize: 100, Window: template.Unset,
		MaxRetries: template.Unlimited, MaxAge: template.Unlimited,
	}
	o, err := trigger.FromMapping(&quiet)
	if err != nil || o.Window != 500*time.Millisecond || o.MaxTries != 0 || o.MaxAge > 0 || o.Start != trigger.Latest {
		t.Errorf("%+v, %v", o, err)
	}
	loud := quiet
	loud.MaxRetries, loud.MaxAge, loud.Window, loud.StartingPosition, loud.StartingTime, loud.OnFailure = 2, 60, 0, "AT_TIMESTAMP", 1700000000, "kafka://dlt"
	o, err = trigger.FromMapping(&loud)
	if err != nil || o.Window != 0 || o.MaxTries != 3 || o.MaxAge != time.Minute || o.Start != trigger.AtTimestamp || o.StartingTime.Unix() != 1700000000 || o.OnFailure != "dlt" {
		t.Errorf("%+v, %v", o, err)
	}
}

// What only Lambda can do is refused with what to do, and never ignored.
func TestWhatCannotBeEmulatedIsRefusedAloud(t *testing.T) {
	base := template.Mapping{Name: "M", Topics: []string{"t"}, Group: "g", StartingPosition: "LATEST", BatchSize: 100}
	for name, c := range map[string]struct {
		change func(*template.Mapping)
		want   error
		says   string
	}{
		"SQS":             {func(m *template.Mapping) { m.OnFailure = "arn:aws:sqs:us-east-1:1:q" }, trigger.ErrNotEmulated, "kafka://TOPIC"},
		"SNS":             {func(m *template.Mapping) { m.OnFailure = "arn:aws:sns:us-east-1:1:t" }, trigger.ErrNotEmulated, "kafka://TOPIC"},
		"S3":              {func(m *template.Mapping) { m.OnFailure = "arn:aws:s3:::b" }, trigger.ErrNotEmulated, "kafka://TOPIC"},
		"queue":           {func(m *template.Mapping) { m.Queue = true }, trigger.ErrNotEmulated, "no order"},
		"schema registry": {func(m *template.Mapping) { m.SchemaRegistry = true }, trigger.ErrNotEmulated, "publish JSON"},
		"position":        {func(m *template.Mapping) { m.StartingPosition = "" }, trigger.ErrOptions, "TRIM_HORIZON"},
		"no timestamp":    {func(m *template.Mapping) { m.StartingPosition = "AT_TIMESTAMP" }, trigger.ErrOptions, "StartingPositionTimestamp"},
	} {
		t.Run(name, func(t *testing.T) {
			m := base
			c.change(&m)
			if _, err := trigger.FromMapping(&m); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %v with %q", err, c.want, c.says)
			}
		})
	}
}
