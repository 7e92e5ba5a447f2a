package pipeline

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/llm-auto-optimizer/tidemark/core/aggregate"
	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/window"
)

// Timing says why a pane was emitted.
type Timing uint8

// The timings.
const (
	TimingOnTime Timing = iota + 1 // the watermark passed the end of the window
	TimingLate                     // a record came after that, within the allowed lateness
)

// String returns the name used in results.
func (t Timing) String() string {
	switch t {
	case TimingOnTime:
		return "on_time"
	case TimingLate:
		return "late"
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

func (f *Firing) pane(def int, w window.Window, key string, timing Timing, row *aggregate.Row) Pane {
	d := &f.p.Windows[def]
	start := len(f.arena)
	f.arena = f.p.appendResult(f.arena, d, w, key, timing, f.plan, f.at, row)
	id := make([]byte, 0, len(f.p.Name)+len(d.Name)+len(key)+56)
	id = append(append(append(append(id, f.p.Name...), '|'), d.Name...), '|')
	id = append(strconv.AppendInt(id, int64(w.Start), 10), '|')
	id = append(strconv.AppendInt(id, int64(w.End), 10), '|')
	id = append(append(id, key...), '|')
	id = strconv.AppendInt(id, f.plan, 10)
	return Pane{Name: d.Name, Window: w, Key: key, Timing: timing, ID: string(id), Value: f.arena[start:len(f.arena):len(f.arena)]}
}

// appendResult writes the value of a result record.
func (p *Pipeline) appendResult(dst []byte, d *window.Definition, w window.Window, key string, timing Timing, plan int64, at event.Time, row *aggregate.Row) []byte {
	dst = append(dst, `{"pipeline":`...)
	dst = event.AppendJSONString(dst, []byte(p.Name))
	dst = append(dst, `,"window":{"name":`...)
	dst = event.AppendJSONString(dst, []byte(d.Name))
	dst = append(append(append(dst, `,"type":"`...), d.Kind.String()...), `","start":"`...)
	dst = append(w.Start.AppendRFC3339(dst), `","end":"`...)
	dst = append(w.End.AppendRFC3339(dst), `","start_ms":`...)
	dst = append(strconv.AppendInt(dst, int64(w.Start), 10), `,"end_ms":`...)
	dst = append(strconv.AppendInt(dst, int64(w.End), 10), `},"key":`...)
	dst = p.appendKey(dst, key)
	dst = append(append(append(dst, `,"pane":{"timing":"`...), timing.String()...), `","revision":`...)
	dst = append(strconv.AppendInt(dst, plan, 10), `},"results":`...)
	dst = p.composite.AppendResults(dst, row)
	dst = append(at.AppendRFC3339(append(dst, `,"timestamp":"`...)), `"}`...)
	return dst
}

// appendKey writes the grouping key and its fields. A key that is not UTF-8, which only a record's own key can be, is hex.
func (p *Pipeline) appendKey(dst []byte, key string) []byte {
	if !utf8.ValidString(key) {
		dst = append(append(dst, '"'), hex.EncodeToString([]byte(key))...)
		return append(dst, `","key_encoding":"hex","key_fields":{}`...)
	}
	dst = append(event.AppendJSONString(dst, []byte(key)), `,"key_fields":{`...)
	if len(p.Key.Fields) > 0 {
		fields, err := event.SplitKey(p.Key.Fields, []byte(key))
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
