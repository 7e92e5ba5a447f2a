package trigger_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/llm-auto-optimizer/tidemark/functions/esm"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/filter"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/trigger"
)

// What Lambda would refuse is refused before anything is connected to, with what would be right.
func TestRunRefusesWhatLambdaDoes(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*trigger.Options)
		says   string
	}{
		"brokers":          {func(o *trigger.Options) { o.Brokers = nil }, "no brokers"},
		"group":            {func(o *trigger.Options) { o.Group = "" }, "want 1 to 200 letters"},
		"long group":       {func(o *trigger.Options) { o.Group = strings.Repeat("g", 201) }, "want 1 to 200 letters"},
		"topics":           {func(o *trigger.Options) { o.Topics = nil }, "no topics"},
		"no batch":         {func(o *trigger.Options) { o.BatchSize = 0 }, "want 1 to 10000"},
		"large batch":      {func(o *trigger.Options) { o.BatchSize = 10_001 }, "want 1 to 10000"},
		"window":           {func(o *trigger.Options) { o.Window = 301 * time.Second }, "want 0 to 5m0s"},
		"no timestamp":     {func(o *trigger.Options) { o.Start = trigger.AtTimestamp }, "belongs to AT_TIMESTAMP"},
		"timestamp":        {func(o *trigger.Options) { o.StartingTime = time.Now() }, "belongs to AT_TIMESTAMP"},
		"position":         {func(o *trigger.Options) { o.Start = 9 }, "Position(9)"},
		"pollers":          {func(o *trigger.Options) { o.MinPollers = 201 }, "want 1 to 200"},
		"fewer at most":    {func(o *trigger.Options) { o.MinPollers, o.MaxPollers = 3, 2 }, "want 3 to 2000"},
		"tries":            {func(o *trigger.Options) { o.MaxTries = 10_002 }, "want 0 to 10001"},
		"age":              {func(o *trigger.Options) { o.MaxAge = time.Second }, "want 1m0s to 168h0m0s"},
		"failures to self": {func(o *trigger.Options) { o.OnFailure = "t" }, "would come again for ever"},
		"source":           {func(o *trigger.Options) { o.Source = "aws:sqs" }, "want aws:kafka or SelfManagedKafka"},
		"ARN of nobody":    {func(o *trigger.Options) { o.SourceARN = "arn" }, "self-managed"},
		"function":         {func(o *trigger.Options) { o.Invoke = nil }, "no Invoke"},
		"filter":           {func(o *trigger.Options) { o.Filters = []string{"{"} }, "not an event pattern"},
	} {
		t.Run(name, func(t *testing.T) {
			o := trigger.Options{
				Brokers: []string{"127.0.0.1:1"}, Group: "g", Topics: []string{"t"}, BatchSize: 1, Logger: slog.New(slog.DiscardHandler),
				Invoke: func(context.Context, []byte) ([]byte, error) { return nil, nil },
			}
			c.change(&o)
			err := trigger.Run(t.Context(), o)
			if !errors.Is(err, trigger.ErrOptions) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %q", err, c.says)
			}
			if name == "filter" && !errors.Is(err, filter.ErrPattern) {
				t.Errorf("%v is no ErrPattern", err)
			}
		})
	}
}

func TestRunFailsWithoutTheTopic(t *testing.T) {
	b := newBroker(t, 1)
	err := trigger.Run(t.Context(), trigger.Options{
		Brokers: b.addrs, Group: "g", Topics: []string{"others"}, BatchSize: 1, Logger: slog.New(slog.DiscardHandler), Source: esm.SourceMSK,
		Invoke: func(context.Context, []byte) ([]byte, error) { return nil, nil },
	})
	if err == nil || !strings.Contains(err.Error(), "others") {
		t.Errorf("%v", err)
	}
}

func TestNamesOfEnumsAreForMessages(t *testing.T) {
	got := []string{
		trigger.TrimHorizon.String(), trigger.Latest.String(), trigger.AtTimestamp.String(),
		trigger.ClosedBySize.String(), trigger.ClosedByWindow.String(), trigger.ClosedByPayload.String(), trigger.ClosedByRetry.String(), trigger.Closing(9).String(),
		trigger.Applied.String(), trigger.Partial.String(), trigger.Failed.String(), trigger.Malformed.String(), trigger.Outcome(9).String(),
		trigger.RetriesExhausted.String(), trigger.TooOld.String(), trigger.TooLarge.String(), trigger.Reason(9).String(),
	}
	want := []string{
		"TRIM_HORIZON", "LATEST", "AT_TIMESTAMP", "size", "window", "payload", "retry", "Closing(9)", "applied", "partial", "failed", "malformed", "Outcome(9)",
		"RetriesExhausted", "RecordAgeExceeded", "MaximumPayloadSizeExceeded", "Reason(9)",
	}
	same(t, "names", want, got)
}
