package console

import (
	"cmp"
	"container/list"
	"math"
	"slices"
	"strings"

	"github.com/llm-auto-optimizer/tidemark/core/pipeline"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
)

const (
	// keepKeys is how many keys are remembered, over all window definitions; the one that had no result for longest goes first.
	keepKeys = 2000
	// keepPoints is how many windows of a key are remembered.
	keepPoints = 120
	// sparkPoints is how many windows a line of the list shows.
	sparkPoints = 30
	// mostKeys bounds a page of keys.
	mostKeys = 200
)

// source is a window definition of a pipeline, whose results have keys.
type source struct {
	pipeline, window string
}

// keys are the results of the last windows of each key.
type keys struct {
	sources map[source]*sourceKeys
	order   []source   // as in the spec
	recent  *list.List // of *key, the one with the newest result in front
}

// sourceKeys are the keys of a source.
type sourceKeys struct {
	typ   string
	names []string // of the numbers of its results
	byKey map[string]*key
}

// key is one grouping key.
type key struct {
	source  source
	name    string
	points  []point // ascending by window
	element *list.Element
}

// point is one window's result. Numbers stand as the source's names do; NaN: there is none.
type point struct {
	start, end, revision int64
	late                 bool
	numbers              []float64
}

func newKeys(app *spec.App) keys {
	k := keys{sources: map[source]*sourceKeys{}, recent: list.New()}
	for i := range app.Pipelines {
		for _, d := range app.Pipelines[i].Windows {
			s := source{app.Pipelines[i].Name, d.Name}
			k.sources[s] = &sourceKeys{typ: d.Kind.String(), byKey: map[string]*key{}}
			k.order = append(k.order, s)
		}
	}
	return k
}

// add takes a result. Results of another spec of the same name that are still in the topic are left out.
func (k *keys) add(r *result, names []string, numbers []*float64) {
	at := source{r.Pipeline, r.Window.Name}
	s := k.sources[at]
	if s == nil || len(names) == 0 {
		return
	}
	p := point{start: r.Window.Start, end: r.Window.End, revision: r.Pane.Revision, late: r.Pane.Timing == pipeline.TimingLate.String(), numbers: s.arrange(names, numbers)}
	known := s.byKey[r.Key]
	if known == nil {
		if k.recent.Len() == keepKeys {
			k.forget()
		}
		known = &key{source: at, name: r.Key}
		known.element = k.recent.PushFront(known)
		s.byKey[r.Key] = known
	}
	k.recent.MoveToFront(known.element)
	known.add(p)
}

// forget forgets the key that had no result for longest.
func (k *keys) forget() {
	oldest, ok := k.recent.Remove(k.recent.Back()).(*key)
	if ok {
		delete(k.sources[oldest.source].byKey, oldest.name)
	}
}

// arrange puts numbers where the names of the source say.
func (s *sourceKeys) arrange(names []string, numbers []*float64) []float64 {
	out := make([]float64, 0, len(names))
	for range s.names {
		out = append(out, math.NaN())
	}
	for i, name := range names {
		at := i
		if at >= len(s.names) || s.names[at] != name {
			at = slices.Index(s.names, name)
		}
		if at < 0 {
			if len(s.names) == mostNames {
				continue
			}
			s.names = append(s.names, name)
			at = len(out)
			out = append(out, math.NaN())
		}
		if numbers[i] != nil {
			out[at] = *numbers[i]
		}
	}
	return out
}

// add puts a point where its window belongs. Of the same window the highest revision stays.
func (k *key) add(p point) {
	at, found := slices.BinarySearchFunc(k.points, p, func(a, b point) int {
		return cmp.Or(cmp.Compare(a.end, b.end), cmp.Compare(a.start, b.start))
	})
	switch {
	case found && k.points[at].revision <= p.revision:
		k.points[at] = p
	case found:
	case at == 0 && len(k.points) == keepPoints: // older than all that is kept
	default:
		if len(k.points) == keepPoints {
			k.points = slices.Delete(k.points, 0, 1)
			at--
		}
		k.points = slices.Insert(k.points, at, p)
	}
}

// Results says what results there are to look at.
type Results struct {
	Sources []Source `json:"sources"`
}

// Source is a window definition and the values of its results.
type Source struct {
	Pipeline string   `json:"pipeline"`
	Window   string   `json:"window"`
	Type     string   `json:"type"`
	Values   []string `json:"values"`
	Keys     int      `json:"keys"`
}

// Results returns what results there are to look at, as the spec lists them. The caller owns it.
func (b *Board) Results() Results {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := Results{Sources: []Source{}}
	for _, at := range b.keys.order {
		s := b.keys.sources[at]
		out.Sources = append(out.Sources, Source{at.pipeline, at.window, s.typ, append([]string{}, s.names...), len(s.byKey)})
	}
	return out
}

// KeyQuery asks for a page of keys.
type KeyQuery struct {
	Pipeline, Window string
	Value            string // which number lines and order are about; empty: the first
	Search           string // only keys with this text, upper or lower case
	Sort             string // "key", "recent", else by the newest number, the largest first
	Offset, Limit    int
}

// KeyPage is a page of keys.
type KeyPage struct {
	Value string    `json:"value"`
	Total int       `json:"total"` // keys that match
	Keys  []KeyLine `json:"keys"`
}

// KeyLine is a key in short.
type KeyLine struct {
	Key     string     `json:"key"`
	StartMS int64      `json:"start_ms"` // of its newest window
	EndMS   int64      `json:"end_ms"`
	Late    bool       `json:"late"` // the newest pane of that window went out again
	Latest  *float64   `json:"latest"`
	Spark   []*float64 `json:"spark"` // of its last windows, oldest first
}

// Keys returns a page of the keys of a window definition. The caller owns it.
func (b *Board) Keys(q KeyQuery) KeyPage {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := KeyPage{Keys: []KeyLine{}}
	s := b.keys.sources[source{q.Pipeline, q.Window}]
	if s == nil || len(s.names) == 0 {
		return out
	}
	value := max(0, slices.Index(s.names, q.Value))
	out.Value = s.names[value]
	found := make([]*key, 0, len(s.byKey))
	search := strings.ToLower(q.Search)
	for _, k := range s.byKey {
		if search == "" || strings.Contains(strings.ToLower(k.name), search) {
			found = append(found, k)
		}
	}
	slices.SortFunc(found, func(x, y *key) int {
		switch q.Sort {
		case "key":
		case "recent":
			return cmp.Or(cmp.Compare(y.last().end, x.last().end), cmp.Compare(x.name, y.name))
		default:
			return cmp.Or(cmp.Compare(y.number(value), x.number(value)), cmp.Compare(x.name, y.name))
		}
		return cmp.Compare(x.name, y.name)
	})
	out.Total = len(found)
	from := min(max(q.Offset, 0), len(found))
	for _, k := range found[from:min(from+min(max(q.Limit, 1), mostKeys), len(found))] {
		last := k.last()
		line := KeyLine{Key: k.name, StartMS: last.start, EndMS: last.end, Late: last.late, Latest: last.at(value)}
		for _, p := range k.points[max(0, len(k.points)-sparkPoints):] {
			line.Spark = append(line.Spark, p.at(value))
		}
		out.Keys = append(out.Keys, line)
	}
	return out
}

// last is the newest point: there is always one.
func (k *key) last() *point { return &k.points[len(k.points)-1] }

// number is what a key is ordered by.
func (k *key) number(i int) float64 {
	if v := k.last().at(i); v != nil {
		return *v
	}
	return math.Inf(-1)
}

// at returns a number, nil if there is none.
func (p *point) at(i int) *float64 {
	if i >= len(p.numbers) || math.IsNaN(p.numbers[i]) {
		return nil
	}
	v := p.numbers[i]
	return &v
}

// Series is what the last windows of a key came to.
type Series struct {
	Key    string        `json:"key"`
	Values []string      `json:"values"`
	Points []SeriesPoint `json:"points"` // oldest first
}

// SeriesPoint is one window of a key; its numbers stand as the series' values do.
type SeriesPoint struct {
	StartMS  int64      `json:"start_ms"`
	EndMS    int64      `json:"end_ms"`
	Revision int64      `json:"revision"`
	Late     bool       `json:"late"`
	Numbers  []*float64 `json:"numbers"`
}

// Series returns the last windows of a key; without points if nothing is known of it. The caller owns it.
func (b *Board) Series(pipeline, window, name string) Series {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := Series{Key: name, Values: []string{}, Points: []SeriesPoint{}}
	s := b.keys.sources[source{pipeline, window}]
	if s == nil || s.byKey[name] == nil {
		return out
	}
	out.Values = slices.Clone(s.names)
	for _, p := range s.byKey[name].points {
		q := SeriesPoint{StartMS: p.start, EndMS: p.end, Revision: p.revision, Late: p.late}
		for i := range s.names {
			q.Numbers = append(q.Numbers, p.at(i))
		}
		out.Points = append(out.Points, q)
	}
	return out
}
