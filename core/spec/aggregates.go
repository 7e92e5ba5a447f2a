package spec

import (
	"slices"
	"strconv"

	"github.com/llm-auto-optimizer/tidemark/core/aggregate"
)

// aggregates makes the aggregates of every value: those that the pipeline lists, else those of the app.
func (l *loader) aggregates(p *Pipeline, at string, v, processor *value) {
	own, shared := v.kid("aggregates"), processor.kid("aggregation", "enabled")
	var percentiles []float64
	for _, q := range processor.kid("aggregation", "percentiles").items {
		if !q.bad {
			percentiles = append(percentiles, q.float)
		}
	}
	l.written[at+".aggregates"] = own
	add := func(name string, list *value) {
		var names []string
		var items []*value
		for _, item := range list.items {
			if !item.bad {
				names, items = append(names, item.str), append(items, item)
			}
		}
		l.written[at+".aggregates."+strconv.Quote(name)] = list
		functions, from := expand(names, percentiles)
		for i := range functions {
			l.written[functionPath(at, name, i)] = items[from[i]]
		}
		p.Aggregates = append(p.Aggregates, Aggregates{name, functions})
	}
	everything := own.set() && own.field.kind == kindList // a list holds for every value
	switch {
	case len(p.Values) == 0 && everything:
		add("", own)
	case len(p.Values) == 0:
		p.Aggregates = []Aggregates{{"", []string{countFunction}}}
	}
	for _, value := range p.Values {
		i := slices.Index(own.names, value.Name)
		switch {
		case everything:
			add(value.Name, own)
		case i >= 0:
			add(value.Name, own.items[i])
		default:
			add(value.Name, shared)
		}
	}
	l.strangers(p, v, own)
}

// strangers reports aggregates of values that the pipeline does not have.
func (l *loader) strangers(p *Pipeline, v, own *value) {
	if v.kid("values").bad {
		return
	}
	var known []string
	for _, value := range p.Values {
		known = append(known, value.Name)
	}
	for i, name := range own.names {
		if slices.Contains(known, name) {
			continue
		}
		hint := meant(name, known)
		if hint == "" {
			hint = "name its field: values: {" + name + ": " + name + "}"
		}
		l.report(own.items[i], "is not a value of this pipeline", shown(name), hint)
	}
}

// functionPath is where audit looks for the place of a function.
func functionPath(at, value string, i int) string {
	return at + ".aggregates." + strconv.Quote(value) + "[" + strconv.Itoa(i) + "]"
}

// sketchDD is the name of DDSketch in a spec.
const sketchDD = "ddsketch"

// sketch makes the estimator of percentiles. An accuracy that nothing uses is a problem: whoever writes it expects it to hold.
func (l *loader) sketch(own, shared *value) aggregate.Sketch {
	if pick(own.kid("percentile_sketch"), shared.kid("percentile_sketch")).str != sketchDD {
		if accuracy := own.kid("relative_accuracy"); accuracy.set() && !accuracy.bad && !own.bad {
			l.report(accuracy, "has no meaning for the t-digest", accuracy.node.got(), "percentile_sketch: ddsketch, or remove it")
		}
		return aggregate.Sketch{}
	}
	return aggregate.Sketch{Kind: aggregate.DDSketch, Accuracy: pick(own.kid("relative_accuracy"), shared.kid("relative_accuracy")).float}
}

// unusedAccuracy reports an accuracy for all pipelines that no pipeline uses.
func (l *loader) unusedAccuracy(app *App, accuracy *value) {
	used := slices.ContainsFunc(app.Pipelines, func(p Pipeline) bool { return p.Sketch.Kind == aggregate.DDSketch })
	if accuracy.set() && !accuracy.bad && !used {
		l.report(accuracy, "has no meaning for the t-digest", accuracy.node.got(), "percentile_sketch: ddsketch, or remove it")
	}
}
