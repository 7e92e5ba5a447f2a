package pipeline

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/core/window"
)

// Timing says why a pane was emitted.
type Timing uint8

// The timings.
const (
	TimingOnTime Timing = iota + 1 // the watermark passed the end of the window
	TimingLate                     // a record came after that, within the allowed lateness
	TimingEarly                    // a trigger fired while the window was open
)

// String returns the name used in results.
func (t Timing) String() string {
	switch t {
	case TimingOnTime:
		return "on_time"
	case TimingLate:
		return "late"
	case TimingEarly:
		return "early"
	}
	return fmt.Sprintf("Timing(%d)", uint8(t))
}

// Pane is one emission of a window for one key.
type Pane struct {
	Name   string // of the window definition
	Window window.Window
	Key    string
	Timing Timing
	ID     string // tidemark-id: pipeline|window|start|end|key|revision
	Value  []byte // the result record's value, JSON
}

func (f *Firing) pane(c *candidate) Pane {
	d, w, key := &f.p.Windows[c.Def], c.Window, c.Key
	start := len(f.arena)
	f.arena = f.appendResult(f.arena, d, c)
	id := make([]byte, 0, len(f.p.Name)+len(d.Name)+len(key)+56)
	id = append(append(append(append(id, f.p.Name...), '|'), d.Name...), '|')
	id = append(strconv.AppendInt(id, int64(w.Start), 10), '|')
	id = append(strconv.AppendInt(id, int64(w.End), 10), '|')
	id = append(append(id, key...), '|')
	id = strconv.AppendInt(id, f.turn.Plan, 10)
	return Pane{Name: d.Name, Window: w, Key: key, Timing: c.timing, ID: string(id), Value: f.arena[start:len(f.arena):len(f.arena)]}
}

// appendResult writes the value of a result record.
func (f *Firing) appendResult(dst []byte, d *window.Definition, c *candidate) []byte {
	p, w := f.p, c.Window
	dst = append(dst, `{"pipeline":`...)
	dst = event.AppendJSONString(dst, []byte(p.Name))
	dst = append(dst, `,"window":{"name":`...)
	dst = event.AppendJSONString(dst, []byte(d.Name))
	dst = append(append(append(dst, `,"type":"`...), d.Kind.String()...), '"')
	if d.Kind == window.KindGlobal { // it has neither start nor end
		dst = append(dst, `,"start":null,"end":null,"start_ms":null,"end_ms":null},"key":`...)
	} else {
		dst = append(w.Start.AppendRFC3339(append(dst, `,"start":"`...)), `","end":"`...)
		dst = append(w.End.AppendRFC3339(dst), `","start_ms":`...)
		dst = append(strconv.AppendInt(dst, int64(w.Start), 10), `,"end_ms":`...)
		dst = append(strconv.AppendInt(dst, int64(w.End), 10), `},"key":`...)
	}
	dst = p.appendKey(dst, c.Key)
	dst = append(append(append(dst, `,"pane":{"timing":"`...), c.timing.String()...), `","revision":`...)
	dst = append(strconv.AppendInt(dst, f.turn.Plan, 10), `,"index":`...)
	dst = strconv.AppendInt(dst, c.sent.Next, 10)
	dst = appendOuts(dst, `,"supersedes":[`, c.sent.Out, false)
	if p.Accumulation == spec.Retracting {
		dst = appendOuts(dst, `,"retracts":[`, c.sent.Out, true)
	}
	dst = append(dst, `},"results":`...)
	dst = p.composite.AppendResults(dst, c.row)
	dst = append(f.turn.At.AppendRFC3339(append(dst, `,"timestamp":"`...)), `"}`...)
	return dst
}

// appendOuts writes a list of panes that have gone out, nothing if there are none: each by window and index, or with its results.
func appendOuts(dst []byte, head string, outs []Out, results bool) []byte {
	n := 0
	for _, o := range outs {
		if results && o.Results == nil {
			continue // of a pipeline that this one took over from
		}
		if n++; n == 1 {
			dst = append(dst, head...)
		} else {
			dst = append(dst, ',')
		}
		dst = strconv.AppendInt(append(dst, `{"start_ms":`...), int64(o.Start), 10)
		dst = strconv.AppendInt(append(dst, `,"end_ms":`...), int64(o.End), 10)
		dst = strconv.AppendInt(append(dst, `,"index":`...), o.Index, 10)
		if results {
			dst = append(append(dst, `,"results":`...), o.Results...)
		}
		dst = append(dst, '}')
	}
	if n > 0 {
		dst = append(dst, ']')
	}
	return dst
}

// appendKey writes the grouping key and its fields. A key that is not UTF-8, which only a record's own key can be, is hex.
func (p *Pipeline) appendKey(dst []byte, key string) []byte {
	if !utf8.ValidString(key) {
		dst = append(append(dst, '"'), hex.EncodeToString([]byte(key))...)
		return append(dst, `","key_encoding":"hex","key_fields":{}`...)
	}
	dst = append(event.AppendJSONString(dst, []byte(key)), `,"key_fields":{`...)
	if len(p.labels) > 0 {
		fields, err := event.SplitKey(p.labels, []byte(key))
		if err == nil {
			for i, kv := range fields {
				if i > 0 {
					dst = append(dst, ',')
				}
				dst = append(event.AppendJSONString(dst, []byte(kv.Name)), ':')
				dst = event.AppendJSONString(dst, []byte(kv.Value))
			}
		}
	}
	return append(dst, '}')
}
