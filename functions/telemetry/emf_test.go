package telemetry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// units are all that CloudWatch knows.
var units = strings.Fields(`Seconds Microseconds Milliseconds Bytes Kilobytes Megabytes Gigabytes Terabytes Bits Kilobits Megabits Gigabits Terabits
	Percent Count Bytes/Second Kilobytes/Second Megabytes/Second Gigabytes/Second Terabytes/Second Bits/Second Kilobits/Second Megabits/Second
	Gigabits/Second Terabits/Second Count/Second None`)

// directive is an EMF line's metadata, with all the keys it may have.
type directive struct {
	Timestamp         int64
	CloudWatchMetrics []struct {
		Namespace  string
		Dimensions [][]string
		Metrics    []struct{ Name, Unit string }
	}
}

// check holds a line against the specification of the embedded metric format, and returns the values of its metrics.
func check(line []byte) (map[string][]float64, error) {
	if len(line) > 1<<20 {
		return nil, fmt.Errorf("line of %d bytes", len(line))
	}
	var root map[string]json.RawMessage
	if err := json.Unmarshal(line, &root); err != nil {
		return nil, err
	}
	var d directive
	strict := json.NewDecoder(bytes.NewReader(root["_aws"]))
	strict.DisallowUnknownFields()
	if err := strict.Decode(&d); err != nil {
		return nil, fmt.Errorf("_aws: %w", err)
	}
	if d.Timestamp <= 0 || len(d.CloudWatchMetrics) != 1 {
		return nil, fmt.Errorf("timestamp %d, %d directives", d.Timestamp, len(d.CloudWatchMetrics))
	}
	m := d.CloudWatchMetrics[0]
	if m.Namespace == "" || len(m.Namespace) > 256 || len(m.Dimensions) == 0 || len(m.Metrics) == 0 || len(m.Metrics) > 100 {
		return nil, fmt.Errorf("namespace %q, %d dimension sets, %d metrics", m.Namespace, len(m.Dimensions), len(m.Metrics))
	}
	for _, set := range m.Dimensions {
		if len(set) > 30 {
			return nil, fmt.Errorf("%d dimensions in a set", len(set))
		}
		for _, name := range set {
			var value string
			if err := json.Unmarshal(root[name], &value); err != nil || value == "" || len(value) > 1024 {
				return nil, fmt.Errorf("dimension %s: %q, %w", name, root[name], err)
			}
		}
	}
	out := map[string][]float64{}
	for _, metric := range m.Metrics {
		if !slices.Contains(units, metric.Unit) || out[metric.Name] != nil {
			return nil, fmt.Errorf("metric %s twice, or unit %q", metric.Name, metric.Unit)
		}
		values := []float64{0}
		if err := json.Unmarshal(root[metric.Name], &values[0]); err != nil {
			if err := json.Unmarshal(root[metric.Name], &values); err != nil {
				return nil, fmt.Errorf("target %s: %w", metric.Name, err)
			}
		}
		if len(values) == 0 || len(values) > 100 {
			return nil, fmt.Errorf("metric %s: %d values", metric.Name, len(values))
		}
		out[metric.Name] = values
	}
	return out, nil
}

// checkAll checks lines and returns the values of each metric of all of them.
func checkAll(t *testing.T, lines []byte) (all map[string][]float64, n int) {
	t.Helper()
	all = map[string][]float64{}
	for line := range bytes.Lines(lines) {
		got, err := check(line)
		if err != nil {
			t.Fatalf("%v\n%s", err, line)
		}
		for name, values := range got {
			all[name] = append(all[name], values...)
		}
		n++
	}
	return all, n
}

func TestValuesThatALineCannotHoldGoIntoMoreLines(t *testing.T) {
	for _, c := range []struct{ values, lines int }{{0, 0}, {1, 1}, {100, 1}, {101, 2}, {1000, 10}} {
		values := make([]float64, c.values)
		for i := range values {
			values[i] = float64(i)
		}
		metrics := []metric{{"Many", millis, values}, {"None", millis, nil}}
		if c.values > 0 {
			metrics = append(metrics, metric{"One", count, []float64{7}})
		}
		out, err := appendLines(nil, 1, []member{{"App", "a"}}, metrics)
		if err != nil {
			t.Fatal(err)
		}
		all, lines := checkAll(t, out)
		if lines != c.lines || !slices.Equal(all["Many"], values) && c.values > 0 || c.values > 0 && len(all["One"]) != 1 {
			t.Errorf("%d values: %d lines, %v", c.values, lines, all)
		}
	}
}

func TestTheCheckOfLinesFindsWhatIsWrong(t *testing.T) {
	const good = `{"_aws":{"Timestamp":1,"CloudWatchMetrics":[{"Namespace":"n","Dimensions":[["App"]],"Metrics":[{"Name":"m","Unit":"Count"}]}]},"App":"a","m":1}`
	if _, err := check([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, change := range [][2]string{
		{`"App":"a",`, ``},
		{`"App":"a"`, `"App":1`},
		{`"m":1`, `"m":"1"`},
		{`"m":1`, `"m":[]`},
		{`"m":1`, `"x":1`},
		{`"Count"`, `"Pieces"`},
		{`"Timestamp":1,`, ``},
		{`"Unit"`, `"Units"`},
		{`"App":"a"`, `"App":"` + strings.Repeat("a", 1025) + `"`},
		{`"m":1`, `"m":[1` + strings.Repeat(",1", 100) + `]`},
	} {
		if _, err := check([]byte(strings.Replace(good, change[0], change[1], 1))); err == nil {
			t.Errorf("%s for %s is accepted", change[1][:min(20, len(change[1]))], change[0])
		}
	}
}

func FuzzLinesAreWhatCloudWatchTakes(f *testing.F) {
	f.Add("app", 1.5, "in/0 [1,2)", uint16(3))
	f.Add("a\"\\\x00\u2028", -0.0001, "", uint16(250))
	f.Fuzz(func(t *testing.T, app string, value float64, other string, n uint16) {
		if value-value != 0 || len(app) == 0 || len(app) > 100 {
			return // there is no such metric, or app
		}
		out, err := appendLines(nil, 1, []member{{"App", app}}, []metric{{"M", count, slices.Repeat([]float64{value}, int(n))}}, member{"other", other})
		if err != nil {
			t.Fatal(err)
		}
		if all, _ := checkAll(t, out); len(all["M"]) != int(n) {
			t.Errorf("%d values of %d", len(all["M"]), n)
		}
	})
}
