package trigger

import (
	"errors"
	"fmt"
	"time"

	"github.com/llm-auto-optimizer/tidemark/functions/esm"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/template"
)

// ErrNotEmulated is returned for what a template asks of Lambda and only Lambda can do. The message says what to do instead.
var ErrNotEmulated = errors.New("trigger: not emulated")

// FromMapping returns the options of a mapping in a template. The caller adds Brokers, Invoke, Logger, Timeout and Hooks, and a Group
// where the mapping has none. A mapping that is not enabled is not to be run: see template.Mapping.Disabled.
func FromMapping(m *template.Mapping) (Options, error) {
	o := Options{
		Group: m.Group, Topics: m.Topics, BatchSize: m.BatchSize, Window: time.Duration(m.Window) * time.Second,
		MinPollers: m.MinPollers, MaxPollers: m.MaxPollers, MaxTries: m.MaxRetries + 1, MaxAge: time.Duration(m.MaxAge) * time.Second,
		Bisect: m.Bisect, PartialFailures: m.PartialFailures, Filters: m.Filters,
		Source: esm.SourceMSK, SourceARN: m.SourceARN,
		FunctionARN: "arn:aws:lambda:us-east-1:123456789012:function:" + m.Function,
	}
	if m.Window == template.Unset {
		o.Window = DefaultWindow
	}
	if m.Kind == template.SelfManaged {
		o.Source, o.BootstrapServers = esm.SourceSelfManaged, m.Brokers
	}
	var errs []error
	refuse := func(what, do string) {
		errs = append(errs, fmt.Errorf("%w: %s: %s; %s", ErrNotEmulated, m.Name, what, do))
	}
	switch m.StartingPosition {
	case TrimHorizon.String():
	case Latest.String():
		o.Start = Latest
	case AtTimestamp.String():
		o.Start, o.StartingTime = AtTimestamp, time.Unix(m.StartingTime, 0)
		if m.StartingTime <= 0 {
			errs = append(errs, fmt.Errorf("%w: %s: AT_TIMESTAMP without StartingPositionTimestamp, Unix seconds", ErrOptions, m.Name))
		}
	default:
		errs = append(errs, fmt.Errorf("%w: %s: StartingPosition %q: want TRIM_HORIZON, LATEST or AT_TIMESTAMP", ErrOptions, m.Name, m.StartingPosition))
	}
	if m.OnFailure != "" {
		topic, ok := m.OnFailureTopic()
		if o.OnFailure = topic; !ok {
			o.OnFailure = ""
			refuse("destination "+m.OnFailure+" for failures", "give it kafka://TOPIC, by a parameter of the template for example")
		}
	}
	if m.Queue {
		refuse("ConsumptionMode Queue", "leave it out: share groups have no order, which is what Tidemark needs")
	}
	if m.SchemaRegistry {
		refuse("SchemaRegistryConfig", "leave it out, and publish JSON where the emulator reads")
	}
	return o, errors.Join(errs...)
}
