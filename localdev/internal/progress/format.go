package progress

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/localdev/internal/console"
)

// statusLine says in one line how far a run is. Of several pipelines it shows the watermark that is furthest behind.
func statusLine(s console.Snapshot) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s events/s", (time.Duration(s.UptimeSeconds) * time.Second).String(), number(s.Rate))
	if p := slowest(s.Pipelines); p != nil {
		if p.Error != "" {
			fmt.Fprintf(&b, "  %s: %s", p.Name, printable(p.Error))
		} else {
			fmt.Fprintf(&b, "  W %s", p.Watermark)
			if p.HeldBy != "" {
				fmt.Fprintf(&b, " held by %s", HeldBy(p.HeldBy))
			}
		}
	}
	fmt.Fprintf(&b, "  lag %d  open %d  plans %d  results %d", s.Lag, s.Open, s.Plans, s.Results)
	if s.Filtered > 0 {
		fmt.Fprintf(&b, "  filtered %d", s.Filtered)
	}
	fmt.Fprintf(&b, "  late %d  dead %d", s.Late, s.DeadLetters)
	return b.String()
}

// Filtered is what a summary says after its dead letters of records that where holds back; nothing where there are none.
func Filtered(n int64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", %d filtered", n)
}

// AllFiltered says that nothing can come of a pipeline because where holds back every record; nothing where that is not so.
func AllFiltered(name, where string, in, filtered int64) string {
	switch {
	case filtered == 0 || filtered < in:
		return ""
	case in == 1:
		return fmt.Sprintf("%s: the one record was filtered by where: %s", name, OneLine(where))
	}
	return fmt.Sprintf("%s: all %d records were filtered by where: %s", name, in, OneLine(where))
}

// OneLine is an expression as a line shows it, however it is laid out in the spec.
func OneLine(expression string) string { return strings.Join(strings.Fields(expression), " ") }

// HeldBy says of a ledger's held_by behind what the partition is: behind the furthest one, not behind the time of day.
func HeldBy(text string) string {
	if before, ok := strings.CutSuffix(text, " behind)"); ok {
		return before + " behind the furthest)"
	}
	return text
}

// reasons writes why records went to the dead letter topic, the most frequent reason first; nothing where there is none.
func reasons(dead map[event.Reason]int64) string {
	if len(dead) == 0 {
		return ""
	}
	order := slices.SortedFunc(maps.Keys(dead), func(a, b event.Reason) int {
		return cmp.Or(cmp.Compare(dead[b], dead[a]), cmp.Compare(a, b))
	})
	text := make([]string, len(order))
	for i, r := range order {
		text[i] = fmt.Sprintf("%s %d", r, dead[r])
	}
	return " (" + strings.Join(text, ", ") + ")"
}

// slowest returns the pipeline to look at: one with an error, else the one whose watermark is lowest.
func slowest(pipelines []console.Pipeline) *console.Pipeline {
	mark := func(p *console.Pipeline) int64 {
		switch {
		case p.Error != "":
			return math.MinInt64
		case p.WatermarkMS == nil:
			return math.MinInt64 + 1
		}
		return *p.WatermarkMS
	}
	var least *console.Pipeline
	for i := range pipelines {
		if p := &pipelines[i]; least == nil || mark(p) < mark(least) {
			least = p
		}
	}
	return least
}

// result is what a line shows of a result record.
type result struct {
	Pipeline string `json:"pipeline"`
	Window   struct {
		Name  string    `json:"name"`
		Start time.Time `json:"start"` // zero: it is the global window, which has neither
		End   time.Time `json:"end"`
	} `json:"window"`
	Key  string `json:"key"`
	Pane struct {
		Timing string `json:"timing"`
	} `json:"pane"`
	Results json.RawMessage `json:"results"`
}

// appendResult writes a result in the order of its own fields: window, name, key, numbers. What it cannot read it writes as
// it is.
func appendResult(dst, value []byte) []byte {
	var r result
	if err := json.Unmarshal(value, &r); err != nil || len(r.Results) == 0 {
		return append(dst, printable(string(value))...)
	}
	dst = appendInterval(dst, r.Window.Start, r.Window.End)
	dst = fmt.Appendf(dst, "  %s/%s  %s ", r.Pipeline, r.Window.Name, printable(r.Key))
	dst = appendNumbers(dst, r.Results)
	if r.Pane.Timing != "on_time" {
		dst = append(append(append(dst, "  ("...), r.Pane.Timing...), " pane)"...)
	}
	return dst
}

// appendInterval writes what a window spans: the day of its end only if that is another one.
func appendInterval(dst []byte, start, end time.Time) []byte {
	const day, clock = "2006-01-02 15:04:05.999", "15:04:05.999"
	if start.IsZero() && end.IsZero() {
		return append(dst, "all of event time"...)
	}
	dst = append(start.AppendFormat(dst, day), ".."...)
	if start.YearDay() != end.YearDay() || end.Sub(start) >= 24*time.Hour {
		return end.AppendFormat(dst, day)
	}
	return end.AppendFormat(dst, clock)
}

// appendNumbers writes the results of a pane in their order, of several values as name(...).
func appendNumbers(dst []byte, results json.RawMessage) []byte {
	for name, v := range members(results) {
		if n := len(dst); n > 0 && dst[n-1] != '(' {
			dst = append(dst, ' ')
		}
		dst = append(dst, printable(name)...)
		var f float64
		switch {
		case v[0] == '{':
			dst = append(appendNumbers(append(dst, '('), v), ')')
		case json.Unmarshal(v, &f) == nil && v[0] != 'n':
			dst = append(append(dst, ' '), number(f)...)
		default:
			dst = append(append(dst, ' '), printable(string(v))...)
		}
	}
	return dst
}

// members yields the members of a JSON object in their order, which a map would lose. It ends where the text is none.
func members(object json.RawMessage) iter.Seq2[string, json.RawMessage] {
	return func(yield func(string, json.RawMessage) bool) {
		d := json.NewDecoder(bytes.NewReader(object))
		if tok, err := d.Token(); err != nil || tok != json.Delim('{') {
			return
		}
		for d.More() {
			name, err := d.Token()
			if err != nil {
				return
			}
			var v json.RawMessage
			if err := d.Decode(&v); err != nil || !yield(fmt.Sprint(name), v) {
				return
			}
		}
	}
}

// number writes a number for a reader: two decimals at most, unless it is very large or small.
func number(v float64) string {
	if a := math.Abs(v); a >= 1e15 || a > 0 && a < .01 {
		return strconv.FormatFloat(v, 'g', 4, 64)
	}
	s := strconv.FormatFloat(v, 'f', 2, 64)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}

// printable keeps what came with the data from steering the terminal.
func printable(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return s
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}
