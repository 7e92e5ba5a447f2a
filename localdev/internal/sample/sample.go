// Package sample makes events that a spec can read: its timestamp, its key fields and its values, in the format that it reads and the
// shape of metrics of language-model services. The same options give the same events.
package sample

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/core/window"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
)

// Options say what the events look like.
type Options struct {
	Seed     uint64
	Keys     int           // distinct combinations of key fields; at least 1
	Disorder time.Duration // events are out of order by up to this
	Late     float64       // share of events that are too late for every window, 0 to 1
	Start    event.Time    // event time of the first event
	Step     float64       // event time between two events, ms
}

// Generator makes events one after the other. It is not safe for concurrent use.
type Generator struct {
	Options
	rand    *rand.Rand
	i       int64
	sources []source
	lateBy  event.Span
	pause   event.Span // how long a key is silent and then busy, so that its sessions end; 0: no pipeline has sessions
}

// source is a topic together with what its readers want of a record.
type source struct {
	topic  string
	input  event.Format // that of its first reader
	time   spec.Timestamp
	fields []string // key fields
	values []string
}

// New returns a generator of events for the source topics of an app, taking turns.
func New(app *spec.App, o Options) *Generator {
	g := &Generator{Options: o, rand: rand.New(rand.NewPCG(o.Seed, 0x7469646d61726b))}
	g.Keys = max(1, g.Keys)
	at := map[string]int{}
	for i := range app.Pipelines {
		p := &app.Pipelines[i]
		for _, t := range p.Topics {
			n, ok := at[t]
			if !ok {
				n = len(g.sources)
				at[t] = n
				g.sources = append(g.sources, source{topic: t, input: p.Input, time: p.Timestamp})
			}
			s := &g.sources[n]
			for _, f := range p.Key.Fields {
				s.fields = union(s.fields, p.Origins(f))
			}
			for _, v := range p.Values {
				s.values = union(s.values, p.Origins(v.Path))
			}
		}
		for _, w := range p.Windows {
			if w.Kind == window.KindSession {
				g.pause = max(g.pause, 2*w.Gap+p.Watermark.MaxOutOfOrder)
			}
			g.lateBy = max(g.lateBy, p.Watermark.MaxOutOfOrder+longest(w)+w.Lateness+1)
		}
	}
	return g
}

// union appends what is not there yet.
func union(dst, paths []string) []string {
	for _, path := range paths {
		if !slices.Contains(dst, path) {
			dst = append(dst, path)
		}
	}
	return dst
}

// longest is a bound of how long before its last window's end a record can be.
func longest(w window.Definition) event.Span {
	if w.Kind == window.KindSession {
		return max(w.Gap, w.MaxGap)
	}
	return w.Size
}

// Next returns the next event.
func (g *Generator) Next() (kafkaio.Message, error) {
	s := &g.sources[g.i%int64(len(g.sources))]
	at := g.Start.Add(event.Span(float64(g.i) * g.Step))
	g.i++
	stamp := at
	if d := g.Disorder.Milliseconds(); d > 0 {
		at = at.Add(-event.Span(g.rand.Int64N(d + 1)))
	}
	if g.rand.Float64() < g.Late {
		at = at.Add(-g.lateBy - event.Span(g.rand.Int64N(int64(g.lateBy)+1)))
	}
	// Zipf: the first keys are the busy ones, as in life.
	k := min(int(math.Exp(g.rand.Float64()*math.Log(float64(g.Keys)+1)))-1, g.Keys-1)
	if g.pause > 0 && k|1 < g.Keys {
		k = k&^1 | int(stamp/event.Time(g.pause))&1 // two keys take turns
	}
	doc := map[string]any{"event_id": fmt.Sprintf("%08x-%04x", g.rand.Uint32(), g.rand.IntN(1<<16))}
	key := make([]string, 0, len(s.fields))
	for i, f := range s.fields {
		v := fieldValue(f, k, i == len(s.fields)-1)
		k /= digits
		set(doc, f, v)
		key = append(key, v)
	}
	if len(key) == 0 {
		key = append(key, fieldValue("service", k, true))
	}
	for i, f := range s.values {
		v := math.Exp(5 + .6*g.rand.NormFloat64())
		if i > 0 {
			v = math.Round(v * 3)
		}
		set(doc, f, math.Round(v*100)/100)
	}
	if s.time.Field != "" {
		set(doc, s.time.Field, inUnit(at, s.time.Unit))
	} else {
		stamp = at
	}
	value, err := written(s.input, doc)
	if err != nil {
		return kafkaio.Message{}, fmt.Errorf("sample event: %w", err)
	}
	return kafkaio.Message{Topic: s.topic, Partition: -1, Key: []byte(strings.Join(key, "/")), Value: value, Timestamp: stamp}, nil
}

// written returns the fields of an event as the format says. JSON of a schema registry is without its prefix, which is read as well.
func written(f event.Format, doc map[string]any) ([]byte, error) {
	switch f.Kind {
	case event.FormatJSON, event.FormatJSONRegistry:
	case event.FormatText:
		return []byte(cell(doc[event.TextField])), nil
	case event.FormatCSV:
		row := make([]string, len(f.Columns))
		for i, column := range f.Columns {
			row[i] = cell(doc[column])
		}
		var b bytes.Buffer
		w := csv.NewWriter(&b)
		w.Comma = rune(f.Separator())
		if err := w.Write(row); err != nil {
			return nil, err
		}
		w.Flush()
		return bytes.TrimSuffix(b.Bytes(), []byte("\n")), w.Error()
	}
	return json.Marshal(doc)
}

// cell returns a string, a number, or nothing as the text of a row.
func cell(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return ""
}

// digits is the number of values of every key field but the last one.
const digits = 4

// fieldValue names the value of a key field for key number k: the fields count like the digits of a number, lowest first, and
// the last one takes what is left, so that different numbers have different keys.
func fieldValue(field string, k int, last bool) string {
	if !last {
		k %= digits
	}
	return field[strings.LastIndexByte(field, '.')+1:] + "-" + strconv.Itoa(k+1)
}

// set puts v at a dotted path.
func set(doc map[string]any, path string, v any) {
	for {
		head, rest, nested := strings.Cut(path, ".")
		if !nested {
			doc[head] = v
			return
		}
		inner, ok := doc[head].(map[string]any)
		if !ok {
			inner = map[string]any{}
			doc[head] = inner
		}
		doc, path = inner, rest
	}
}

func inUnit(t event.Time, u spec.Unit) int64 {
	switch u {
	case spec.UnitSeconds:
		return int64(t) / 1000
	case spec.UnitMillis:
		return int64(t)
	case spec.UnitMicros:
		return int64(t) * 1000
	case spec.UnitNanos:
		return int64(t) * 1_000_000
	}
	return int64(t)
}
