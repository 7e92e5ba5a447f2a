package telemetry

import (
	"encoding/json"
	"math"
	"strconv"

	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// Namespace is that of all metrics.
const Namespace = "Tidemark"

// maxValues is the most values that one member of an EMF line may have; more go into further lines.
const maxValues = 100

// Units, as CloudWatch knows them.
const (
	count  = "Count"
	millis = "Milliseconds"
	size   = "Bytes"
)

// metric is what a line says of one metric: nothing, if there are no values.
type metric struct {
	name, unit string
	values     []float64
}

// member is a root member of a line. Dimensions have to be short: CloudWatch takes 1024 characters.
type member struct {
	name  string
	value any // what encoding/json takes
}

// appendLines appends lines in CloudWatch's embedded metric format: one, unless a metric has more values than a line may have. All
// dimensions are one set. Other members are not metrics; they are for queries over the log.
func appendLines(dst []byte, at event.Time, dimensions []member, metrics []metric, others ...member) ([]byte, error) {
	for from := 0; ; from += maxValues {
		var now []metric
		for _, m := range metrics {
			if from < len(m.values) {
				m.values = m.values[from:min(from+maxValues, len(m.values))]
				now = append(now, m)
			}
		}
		if len(now) == 0 {
			return dst, nil
		}
		var err error
		if dst, err = appendLine(dst, at, dimensions, now, others); err != nil {
			return nil, err
		}
	}
}

func appendLine(dst []byte, at event.Time, dimensions []member, metrics []metric, others []member) ([]byte, error) {
	dst = append(dst, `{"_aws":{"Timestamp":`...)
	dst = strconv.AppendInt(dst, int64(at), 10)
	dst = append(dst, `,"CloudWatchMetrics":[{"Namespace":"`+Namespace+`","Dimensions":[[`...)
	for i, d := range dimensions {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendQuote(dst, d.name)
	}
	dst = append(dst, `]],"Metrics":[`...)
	for i, m := range metrics {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"Name":"`+m.name+`","Unit":"`+m.unit+`"}`...)
	}
	dst = append(dst, `]}]}`...)
	for _, members := range [][]member{dimensions, others} {
		for _, m := range members {
			value, err := json.Marshal(m.value)
			if err != nil {
				return nil, err
			}
			dst = append(dst, `,"`+m.name+`":`...)
			dst = append(dst, value...)
		}
	}
	for _, m := range metrics {
		dst = append(dst, `,"`+m.name+`":`...)
		dst = appendValues(dst, m.values)
	}
	return append(dst, '}', '\n'), nil
}

func appendValues(dst []byte, values []float64) []byte {
	if len(values) == 1 {
		return appendNumber(dst, values[0])
	}
	for i, v := range values {
		sep := byte(',')
		if i == 0 {
			sep = '['
		}
		dst = appendNumber(append(dst, sep), v)
	}
	return append(dst, ']')
}

// appendNumber writes three decimals at most: a microsecond, where the unit is milliseconds.
func appendNumber(dst []byte, v float64) []byte {
	return strconv.AppendFloat(dst, math.Round(v*1000)/1000, 'f', -1, 64)
}
