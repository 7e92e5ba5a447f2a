//go:build templates

package templates_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// emitted are the metrics that functions/telemetry writes, each with its dimensions, as metric is of a series. They are read from
// what it is tested to write, and that is all that its code names.
func emitted(t *testing.T) map[string]bool {
	t.Helper()
	out, names := map[string]bool{}, map[string]bool{}
	for _, golden := range []string{"fire.jsonl", "ingest.jsonl"} {
		for line := range strings.Lines(file(t, "functions/telemetry/testdata/"+golden)) {
			var emf struct {
				AWS struct {
					CloudWatchMetrics []struct {
						Namespace  string
						Dimensions [][]string
						Metrics    []struct{ Name string }
					}
				} `json:"_aws"`
				Function string
			}
			if err := json.Unmarshal([]byte(line), &emf); err != nil {
				t.Fatal(err)
			}
			for _, directive := range emf.AWS.CloudWatchMetrics {
				for _, m := range directive.Metrics {
					names[m.Name] = true
					for _, dimensions := range directive.Dimensions {
						out[series(directive.Namespace, m.Name, dimensions, emf.Function)] = true
					}
				}
			}
		}
	}
	inCode := map[string]bool{}
	for _, m := range regexp.MustCompile(`\{(?:name: )?"(\w+)", (?:unit: )?(?:count|millis|size)`).FindAllStringSubmatch(file(t, "functions/telemetry/fire.go")+file(t, "functions/telemetry/ingest.go"), -1) {
		inCode[m[1]] = true
	}
	if !maps.Equal(names, inCode) || len(names) < 15 {
		t.Fatalf("the goldens have %v, the code names %v", slices.Sorted(maps.Keys(names)), slices.Sorted(maps.Keys(inCode)))
	}
	return out
}

func series(namespace, metric string, dimensions []string, function string) string {
	sorted := slices.Sorted(slices.Values(dimensions))
	if i := slices.Index(sorted, "Function"); i >= 0 {
		sorted[i] += "=" + function
	}
	return fmt.Sprint(namespace, " ", metric, " ", sorted)
}

// lambda are those of Lambda that alarms and dashboard look at.
func lambda() map[string]bool {
	out := map[string]bool{series("AWS/Lambda", "MaxOffsetLag", []string{"EventSourceMappingUUID"}, ""): true}
	for _, name := range []string{"Errors", "Invocations", "Throttles", "ConcurrentExecutions"} {
		out[series("AWS/Lambda", name, []string{"FunctionName"}, "")] = true
	}
	return out
}

func watched(t *testing.T, where string, m map[string]any) string {
	t.Helper()
	var dimensions []string
	function := ""
	for _, d := range m["Dimensions"].([]any) {
		d := d.(map[string]any)
		dimensions = append(dimensions, d["Name"].(string))
		if d["Name"] == "Function" {
			function = d["Value"].(string)
		}
		if d["Value"] == "" {
			t.Errorf("%s: %v is empty", where, d["Name"])
		}
	}
	return series(m["Namespace"].(string), m["MetricName"].(string), dimensions, function)
}

func known(t *testing.T) map[string]bool {
	t.Helper()
	out := emitted(t)
	maps.Copy(out, lambda())
	return out
}

const uuid = "01234567-89ab-cdef-0123-456789abcdef"

func TestAlarmsWatchMetricsThatAreEmitted(t *testing.T) {
	metrics := known(t)
	d := deploy(t, written(t)["infra/alarms.yaml"], map[string]string{
		"AlarmTopicArn": "arn:topic", "IngestFunction": "i", "FireFunction": "f", "MappingA": uuid, "MappingB": uuid, "MostLate": "5",
	})
	if len(d.resources()) != len(d.tmpl.Resources) {
		t.Fatalf("alarms: %v", d.resources())
	}
	for _, name := range d.resources() {
		p := d.properties(name)
		looks := []map[string]any{}
		if queries, ok := p["Metrics"].([]any); ok {
			for _, q := range queries {
				if stat, ok := q.(map[string]any)["MetricStat"].(map[string]any); ok {
					looks = append(looks, stat["Metric"].(map[string]any))
				}
			}
		} else {
			looks = append(looks, p)
		}
		if len(looks) == 0 {
			t.Errorf("%s watches nothing", name)
		}
		for _, m := range looks {
			if s := watched(t, name, m); !metrics[s] {
				t.Errorf("%s watches %s, which nobody emits", name, s)
			}
		}
		if text(t, p["AlarmActions"]) != `["arn:topic"]` || text(t, p["OKActions"]) != `["arn:topic"]` || p["TreatMissingData"] == nil {
			t.Errorf("%s: %v", name, p)
		}
	}
}

// An alarm goes off where it should, at the defaults: limits by what the shipped spec makes likely.
func TestAlarmsAreAtSensibleLimits(t *testing.T) {
	d := deploy(t, written(t)["infra/alarms.yaml"], map[string]string{"FireFunction": "f", "IngestFunction": "i"})
	limit := func(name string) (string, string) {
		p := d.properties(name)
		return fmt.Sprint(p["Threshold"]), p["ComparisonOperator"].(string)
	}
	for name, want := range map[string][2]string{
		"Halted": {"0", "GreaterThanThreshold"}, "Unaccounted": {"0", "GreaterThanThreshold"}, "DeadLettered": {"0", "GreaterThanThreshold"},
		"FireErrors": {"0", "GreaterThanThreshold"}, "FireSilent": {"1", "LessThanThreshold"}, "IngestUnapplied": {"0", "GreaterThanThreshold"},
	} {
		if threshold, operator := limit(name); threshold != want[0] || operator != want[1] {
			t.Errorf("%s: %s %s", name, operator, threshold)
		}
	}
	// Bound, emit interval, idle timeout and a minute of the schedule are likely; the alarm is above that.
	w := app(t).Pipelines[0].Watermark
	likely := w.MaxOutOfOrder.Duration() + w.EmitInterval.Duration() + w.IdleTimeout.Duration()
	var most float64
	if _, err := fmt.Sscan(fmt.Sprint(d.properties("WatermarkLag")["Threshold"]), &most); err != nil || most < float64(likely.Milliseconds()+60_000) {
		t.Errorf("WatermarkLag: %v ms, and %s is likely; %v", most, likely, err)
	}
	// Fire is silent for as long as one invocation takes.
	timeout := written(t)["template.yaml"].Parameters["FireTimeout"].Default.(float64)
	if periods := d.tmpl.Parameters["SilentMinutes"].Default.(float64); periods*60 <= timeout {
		t.Errorf("FireSilent after %v minutes, FireTimeout is %v s", periods, timeout)
	}
	for _, name := range []string{"Late", "LagA", "LagB"} {
		if slices.Contains(d.resources(), name) {
			t.Errorf("%s is there without being asked for", name)
		}
	}
	if got := deploy(t, d.tmpl, nil).resources(); !slices.Equal(got, []string{"DeadLettered", "Halted", "Unaccounted", "WatermarkLag"}) {
		t.Errorf("without functions: %v", got)
	}
}

// The table of the README names each alarm that there is, and no other.
func TestTheReadmeNamesEachAlarm(t *testing.T) {
	readme := file(t, "infra/README.md")
	_, section, ok := strings.Cut(readme, "## What to alarm on\n")
	if !ok {
		t.Fatal("there is no section on alarms")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	said := map[string]bool{}
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|")
		if len(cells) != 6 {
			continue
		}
		for _, m := range regexp.MustCompile("`([A-Za-z]+)`").FindAllStringSubmatch(cells[1], -1) {
			said[m[1]] = true
		}
	}
	there := slices.Sorted(maps.Keys(written(t)["infra/alarms.yaml"].Resources))
	if got := slices.Sorted(maps.Keys(said)); !slices.Equal(got, there) {
		t.Errorf("the table has %v\nalarms.yaml   %v", got, there)
	}
}

func TestTheDashboardIsRightWithAndWithoutMappings(t *testing.T) {
	metrics := known(t)
	shown := map[string]bool{}
	for _, c := range []struct {
		given   map[string]string
		widgets int
		lags    int
	}{
		{nil, 11, 0},
		{map[string]string{"MappingA": uuid}, 12, 1},
		{map[string]string{"MappingA": uuid, "MappingB": uuid}, 12, 2},
		{map[string]string{"MappingB": uuid}, 11, 0},
	} {
		given := map[string]string{"IngestFunction": "i", "FireFunction": "f"}
		maps.Copy(given, c.given)
		d := deploy(t, written(t)["infra/dashboard.yaml"], given)
		var body struct {
			Widgets []struct {
				X, Y, Width, Height int
				Type                string
				Properties          struct {
					Title, Region, Stat string
					Period              int
					Metrics             [][]any
				}
			}
		}
		text := d.properties("Dashboard")["DashboardBody"].(string)
		if err := json.Unmarshal([]byte(text), &body); err != nil {
			t.Fatalf("%v: %v\n%s", c.given, err, text)
		}
		lags, places := 0, map[[2]int]bool{}
		for _, w := range body.Widgets {
			if w.X+w.Width > 24 || places[[2]int{w.X, w.Y}] || w.Properties.Region != "us-east-1" || w.Properties.Title == "" || w.Properties.Period != 60 {
				t.Errorf("widget %+v", w)
			}
			places[[2]int{w.X, w.Y}] = true
			for _, m := range w.Properties.Metrics {
				var dimensions []string
				function := ""
				for i := 2; i+1 < len(m); i += 2 {
					dimensions = append(dimensions, m[i].(string))
					if m[i] == "Function" {
						function = m[i+1].(string)
					}
				}
				s := series(m[0].(string), m[1].(string), dimensions, function)
				if shown[s] = true; !metrics[s] {
					t.Errorf("%s shows %s, which nobody emits", w.Properties.Title, s)
				}
				if m[1] == "MaxOffsetLag" {
					lags++
				}
			}
		}
		if len(body.Widgets) != c.widgets || lags != c.lags {
			t.Errorf("%v: %d widgets with %d lags, want %d with %d", c.given, len(body.Widgets), lags, c.widgets, c.lags)
		}
	}
	for s := range emitted(t) {
		if !shown[s] {
			t.Errorf("the dashboard does not show %s", s)
		}
	}
}
