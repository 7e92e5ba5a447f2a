//go:build templates

package templates_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// template is one as it is written, or as the SAM translator makes it: with the long forms of functions.
type template struct {
	Description string
	Parameters  map[string]struct {
		Type, Description string
		Default           any
	}
	Mappings   map[string]map[string]map[string]any
	Conditions map[string]any
	Resources  map[string]resource
	Outputs    map[string]struct {
		Description, Condition string
		Value                  any
	}
}

var (
	readOnce sync.Once
	readAll  map[string]template
)

// written are all templates as they are written, by their names.
func written(t *testing.T) map[string]template {
	t.Helper()
	readOnce.Do(func() {
		out := tool(t, nil, "lint/bin/python", append([]string{"tests/templates/translate.py", "--read"}, all(t)...)...)
		if err := json.Unmarshal([]byte(out), &readAll); err != nil {
			t.Fatal(err)
		}
	})
	if len(readAll) < 8 {
		t.Fatalf("templates: %v", slices.Collect(maps.Keys(readAll)))
	}
	return readAll
}

// noValue is AWS::NoValue.
type noValue struct{}

// deployment computes a template with parameters as CloudFormation does. Another resource is its logical id in angle brackets, an
// attribute of it <ID.ATTRIBUTE>.
type deployment struct {
	t          *testing.T
	tmpl       template
	parameters map[string]any
}

func deploy(t *testing.T, tmpl template, given map[string]string) *deployment {
	t.Helper()
	d := &deployment{t: t, tmpl: tmpl, parameters: map[string]any{
		"AWS::Region": "us-east-1", "AWS::AccountId": "123456789012", "AWS::Partition": "aws", "AWS::URLSuffix": "amazonaws.com", "AWS::StackName": "tidemark",
		"AWS::NoValue": noValue{},
	}}
	for name, p := range tmpl.Parameters {
		value := ""
		switch given := p.Default.(type) {
		case nil:
		case float64:
			value = strconv.FormatFloat(given, 'f', -1, 64)
		default:
			value = fmt.Sprint(given)
		}
		if v, ok := given[name]; ok {
			value = v
		}
		if strings.HasPrefix(p.Type, "List<") || p.Type == "CommaDelimitedList" {
			list := []any{}
			for e := range strings.SplitSeq(value, ",") {
				list = append(list, e)
			}
			d.parameters[name] = list
			continue
		}
		d.parameters[name] = value
	}
	for name := range given {
		if _, ok := tmpl.Parameters[name]; !ok {
			t.Fatalf("there is no parameter %s", name)
		}
	}
	return d
}

// resources are the names of those that remain.
func (d *deployment) resources(kinds ...string) []string {
	var names []string
	for name, r := range d.tmpl.Resources {
		if (r.Condition == "" || d.holds(r.Condition)) && (len(kinds) == 0 || slices.Contains(kinds, r.Type)) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// properties are those of a resource, computed.
func (d *deployment) properties(name string) map[string]any {
	d.t.Helper()
	out, ok := d.resolve(d.tmpl.Resources[name].Properties).(map[string]any)
	if !ok {
		d.t.Fatalf("%s has no properties", name)
	}
	return out
}

func (d *deployment) holds(name string) bool {
	d.t.Helper()
	c, ok := d.tmpl.Conditions[name]
	if !ok {
		d.t.Fatalf("there is no condition %s", name)
	}
	return d.decide(c)
}

func (d *deployment) decide(c any) bool {
	d.t.Helper()
	m, ok := c.(map[string]any)
	if !ok || len(m) != 1 {
		d.t.Fatalf("no condition: %v", c)
	}
	if name, ok := m["Condition"].(string); ok {
		return d.holds(name)
	}
	if sides, ok := m["Fn::Equals"].([]any); ok {
		return fmt.Sprint(d.resolve(sides[0])) == fmt.Sprint(d.resolve(sides[1]))
	}
	for fn, argument := range m {
		kids, _ := argument.([]any)
		switch fn {
		case "Fn::Not":
			return !d.decide(kids[0])
		case "Fn::And":
			return !slices.ContainsFunc(kids, func(k any) bool { return !d.decide(k) })
		case "Fn::Or":
			return slices.ContainsFunc(kids, d.decide)
		}
	}
	d.t.Fatalf("no condition: %v", c)
	return false
}

func (d *deployment) resolve(v any) any {
	d.t.Helper()
	switch v := v.(type) {
	case []any:
		out := []any{}
		for _, e := range v {
			if kid := d.resolve(e); kid != (noValue{}) {
				out = append(out, kid)
			}
		}
		return out
	case map[string]any:
		if len(v) == 1 {
			for fn, argument := range v {
				if fn == "Ref" || strings.HasPrefix(fn, "Fn::") {
					return d.call(fn, argument)
				}
			}
		}
		out := map[string]any{}
		for key, e := range v {
			if kid := d.resolve(e); kid != (noValue{}) {
				out[key] = kid
			}
		}
		return out
	}
	return v
}

func (d *deployment) call(fn string, argument any) any {
	d.t.Helper()
	list, _ := argument.([]any)
	switch fn {
	case "Ref":
		return d.ref(argument.(string))
	case "Fn::GetAtt":
		return d.ref(fmt.Sprintf("%v.%v", list[0], list[1]))
	case "Fn::If":
		if d.holds(list[0].(string)) {
			return d.resolve(list[1])
		}
		return d.resolve(list[2])
	case "Fn::Sub":
		if text, ok := argument.(string); ok {
			return d.substitute(text, nil)
		}
		return d.substitute(list[0].(string), d.resolve(list[1]).(map[string]any))
	case "Fn::Base64":
		return d.resolve(argument)
	case "Fn::FindInMap":
		key := d.resolve(list).([]any)
		return d.tmpl.Mappings[fmt.Sprint(key[0])][fmt.Sprint(key[1])][fmt.Sprint(key[2])]
	case "Fn::Join":
		var parts []string
		for _, e := range d.resolve(list[1]).([]any) {
			parts = append(parts, fmt.Sprint(e))
		}
		return strings.Join(parts, list[0].(string))
	case "Fn::Split":
		out := []any{}
		for part := range strings.SplitSeq(fmt.Sprint(d.resolve(list[1])), list[0].(string)) {
			out = append(out, part)
		}
		return out
	case "Fn::Select":
		return d.resolve(list[1]).([]any)[int(list[0].(float64))]
	}
	d.t.Fatalf("%s is not known here", fn)
	return nil
}

func (d *deployment) ref(name string) any {
	d.t.Helper()
	if v, ok := d.parameters[name]; ok {
		return v
	}
	id, _, _ := strings.Cut(name, ".")
	if r, ok := d.tmpl.Resources[id]; !ok || r.Condition != "" && !d.holds(r.Condition) {
		d.t.Errorf("%s is referred to, and is not there", name)
	}
	return "<" + name + ">"
}

var placeholder = regexp.MustCompile(`\$\{([^}!]+)\}`)

func (d *deployment) substitute(text string, own map[string]any) string {
	d.t.Helper()
	return placeholder.ReplaceAllStringFunc(text, func(found string) string {
		name := found[2 : len(found)-1]
		if v, ok := own[name]; ok {
			return fmt.Sprint(v)
		}
		return fmt.Sprint(d.ref(name))
	})
}
