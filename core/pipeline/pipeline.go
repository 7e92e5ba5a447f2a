// Package pipeline is the query engine: Fold turns records into deltas, Fire turns deltas into results. Both are functions of
// their arguments alone; reading Kafka, keeping state and publishing is the business of the functions that call them.
package pipeline

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/llm-auto-optimizer/tidemark/core/aggregate"
	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/core/watermark"
	"github.com/llm-auto-optimizer/tidemark/core/window"
)

// MaxKeyBytes bounds a grouping key. A record whose key is longer goes to the dead letter topic as too_large: the key is
// stored with every delta and is the key of every result.
const MaxKeyBytes = 64 << 10

// Pipeline is a compiled spec. It is immutable and safe for concurrent use.
type Pipeline struct {
	spec.Pipeline
	// CompactAfter is the number of deltas in a slice of a partition from which a plan joins them into one.
	CompactAfter int

	composite   *aggregate.Composite
	group       string
	id          string
	fingerprint string
	paths       []string   // of what is read: timestamp, keys, values, gaps, in this order; a key's may be an expression
	labels      []string   // of the parts of the key
	ops         *operators // nil: no where, no derived fields, no key expressions
	keyAt       int        // index in paths of the first key field
	valueAt     int        // index in paths of the first value
	gapAt       int        // index in paths of the first gap of a record's own
	sessions    []int      // indexes of the session definitions
	inputs      []bool     // for each value, whether its functions need more of it than a number
}

// Compile checks a pipeline once more and prepares what the fold and the firing share.
func Compile(s spec.Pipeline) (*Pipeline, error) {
	p := &Pipeline{Pipeline: s, CompactAfter: DefaultCompactAfter, fingerprint: s.Fingerprint(), labels: s.Key.Labels()}
	p.group = s.Group()
	p.id = IDOf(p.group)
	if s.Timestamp.Field != "" {
		p.paths = append(p.paths, s.Timestamp.Field)
	}
	p.keyAt = len(p.paths)
	p.paths = append(p.paths, s.Key.Fields...)
	p.valueAt = len(p.paths)
	for _, v := range s.Values {
		p.paths = append(p.paths, v.Path)
	}
	p.gapAt = len(p.paths)
	for i := range s.Windows {
		if path := s.Windows[i].GapField; path != "" {
			p.paths = append(p.paths, path)
		}
	}
	values, err := compileValues(s)
	if err != nil {
		return nil, fmt.Errorf("pipeline %s: %w", s.Name, err)
	}
	if p.composite, err = aggregate.NewComposite(values); err != nil {
		return nil, fmt.Errorf("pipeline %s: %w", s.Name, err)
	}
	for i := range s.Values {
		p.inputs = append(p.inputs, p.composite.NeedsInput(i))
	}
	for i := range s.Windows {
		if err := s.Windows[i].Validate(); err != nil {
			return nil, fmt.Errorf("pipeline %s: window %s: %w", s.Name, s.Windows[i].Name, err)
		}
		if s.Windows[i].Kind == window.KindSession {
			p.sessions = append(p.sessions, i)
		}
	}
	if len(s.Windows) == 0 {
		return nil, fmt.Errorf("pipeline %s: no window", s.Name)
	}
	if p.ops, err = compileOperators(p); err != nil {
		return nil, fmt.Errorf("pipeline %s: %w", s.Name, err)
	}
	if _, err := event.NewDecoder(p.Input, p.extracted()); err != nil {
		return nil, fmt.Errorf("pipeline %s: %w", s.Name, err)
	}
	return p, nil
}

// compileValues matches the aggregates with the values: in the order of the values, whatever the order of the aggregates.
func compileValues(s spec.Pipeline) ([]aggregate.Value, error) {
	if len(s.Values) == 0 {
		v := aggregate.Value{}
		for _, a := range s.Aggregates {
			for _, name := range a.Functions {
				f, err := s.Functions.Parse(name)
				if err != nil {
					return nil, err
				}
				v.Functions = append(v.Functions, f)
			}
		}
		return []aggregate.Value{v}, nil
	}
	out := make([]aggregate.Value, len(s.Values))
	for i, v := range s.Values {
		out[i].Name, out[i].Sketch = v.Name, s.Sketch
		for _, a := range s.Aggregates {
			if a.Value != v.Name {
				continue
			}
			for _, name := range a.Functions {
				f, err := s.Functions.Parse(name)
				if err != nil {
					return nil, fmt.Errorf("value %s: %w", v.Name, err)
				}
				out[i].Functions = append(out[i].Functions, f)
			}
		}
	}
	return out, nil
}

// topicNumber numbers the source topics by name, whatever their order in the spec: positions of first and last are stored with it.
func (p *Pipeline) topicNumber(topic string) int32 {
	n := int32(0)
	for _, t := range p.Topics {
		if t < topic {
			n++
		}
	}
	return n
}

// ID names the pipeline's slots: 16 hex digits made of its group's name. The fingerprint alone would not do: two apps may ask
// the same of the same topics, and each has its own plans.
func (p *Pipeline) ID() string { return p.id }

// IDOf returns the ID of the pipeline that a group belongs to, whatever its spec is.
func IDOf(group string) string {
	sum := sha256.Sum256([]byte(group))
	return hex.EncodeToString(sum[:8])
}

// Reach returns the least Kafka timestamp that a record can have which is in a window that takes records at the watermark w:
// w less the longest window (of sessions: the gap, though a session may have begun earlier), its lateness, and by how much
// event times may be ahead of Kafka's. It is event.MinTime where nothing bounds that.
func (p *Pipeline) Reach(w event.Time) event.Time {
	skew := p.Watermark.MaxFutureSkew
	switch {
	case p.Timestamp.Field == "":
		skew = 0
	case skew < 0:
		return event.MinTime
	}
	longest := event.Span(0)
	for i := range p.Windows {
		d := &p.Windows[i]
		if d.Kind == window.KindGlobal {
			return event.MinTime
		}
		longest = max(longest, max(d.Size, d.Gap, d.MaxGap)+d.Lateness)
	}
	return w.Add(-longest).Add(-skew)
}

// Group is that of the spec, computed once: it is asked for with every look at the plan.
func (p *Pipeline) Group() string { return p.group }

// Fingerprint is that of the spec, computed once.
func (p *Pipeline) Fingerprint() string { return p.fingerprint }

// HasSessions reports whether any window definition is a session: a slot without the committed token is then never adopted.
func (p *Pipeline) HasSessions() bool { return len(p.sessions) > 0 }

// WatermarkPolicy is the part of the spec that decides the low watermark.
func (p *Pipeline) WatermarkPolicy() watermark.Policy {
	return watermark.Policy{
		Bound:       p.Watermark.MaxOutOfOrder,
		IdleTimeout: p.Watermark.IdleTimeout,
		AllIdle:     watermark.AllIdle(p.Watermark.AllIdle),
		CatchUp:     p.Watermark.CatchUp,
		Periodic:    p.Watermark.Periodic,
		Interval:    p.Watermark.EmitInterval,
	}
}
