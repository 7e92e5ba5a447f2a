// Package template reads a SAM or CloudFormation template into what matters for running the functions and for checking it
// against a spec: functions with their environment, mappings of topics, schedules. It computes parameters, conditions and
// functions of the template as a deployment would; what only a deployment knows is a placeholder.
package template

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Sentinels.
var (
	// ErrMalformed is returned for what CloudFormation would not take either.
	ErrMalformed = errors.New("template: malformed")
	// ErrNotSupported is returned for a function of templates that is not read here.
	ErrNotSupported = errors.New("template: not supported")
	// ErrParameter is returned for a parameter that the template does not have, or that does not take the value.
	ErrParameter = errors.New("template: parameter")
)

// Template is what a deployment with certain parameters would consist of.
type Template struct {
	Name      string // of the file
	Functions []Function
	Mappings  []Mapping
	Schedules []Schedule
}

// Function is a Lambda function.
type Function struct {
	Name        string // logical id
	Line        int
	Runtime     string
	Handler     string
	Timeout     int // seconds
	Memory      int // MiB
	Concurrency int // reserved; -1: none is
	Environment map[string]string
	Retries     int    // of an asynchronous invocation that failed, 0 to 2
	MaxAge      int    // of an asynchronous event, seconds
	LogFormat   string // Text or JSON
	LogLevel    string // of the application; "": not said
}

// What Lambda does with asynchronous events where a template is silent.
const (
	asyncRetries = 2
	asyncAge     = 21_600
)

// Load reads a template. parameters replace defaults; a parameter without either is empty.
func Load(data []byte, name string, parameters map[string]string) (*Template, error) {
	return LoadWith(data, name, parameters, nil)
}

// LoadWith is Load where parameters that have no value and no default take those of others, if these have one.
func LoadWith(data []byte, name string, parameters, others map[string]string) (*Template, error) {
	root, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	r := &resolver{conditions: root.at("Conditions"), decided: map[string]bool{}}
	if r.parameters, err = values(root.at("Parameters"), parameters, others); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	t := &Template{Name: name}
	globals, err := r.resolve(root.at("Globals", "Function"))
	if err != nil {
		return nil, fmt.Errorf("%s: Globals: %w", name, err)
	}
	resources := root.at("Resources")
	if resources == nil || resources.kind != kindMap {
		return nil, fmt.Errorf("%s: %w: there are no Resources", name, ErrMalformed)
	}
	for _, id := range resources.keys {
		if err := t.resource(r, id, resources.kids[id], globals); err != nil {
			return nil, fmt.Errorf("%s: resource %s: %w", name, id, err)
		}
	}
	return t, nil
}

// values are the parameters' values.
func values(declared *value, given, others map[string]string) (map[string]*value, error) {
	out := map[string]*value{}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if declared.at(name) == nil {
			errs = append(errs, fmt.Errorf("%w: %s: the template has none of that name", ErrParameter, name))
		}
	}
	if declared == nil {
		return out, errors.Join(errs...)
	}
	for _, name := range declared.keys {
		p := declared.kids[name]
		v, ok := given[name]
		if !ok && p.at("Default") == nil {
			v = others[name]
		} else if !ok {
			v = p.at("Default").string()
		} else if err := takes(p, v); err != nil {
			errs = append(errs, fmt.Errorf("%w: %s: %w", ErrParameter, name, err))
		}
		out[name] = text(p.line, v)
		if kind := p.at("Type").string(); strings.HasPrefix(kind, "List<") || kind == "CommaDelimitedList" {
			l := list(p.line)
			for e := range strings.SplitSeq(v, ",") {
				l.list = append(l.list, text(p.line, strings.TrimSpace(e)))
			}
			out[name] = l
		}
	}
	return out, errors.Join(errs...)
}

// takes reports whether a parameter may have a value.
func takes(p *value, v string) error {
	if allowed := p.at("AllowedValues").strings(); len(allowed) > 0 && !slices.Contains(allowed, v) {
		return fmt.Errorf("want one of %s, got %q", strings.Join(allowed, ", "), v)
	}
	if pattern := p.at("AllowedPattern").string(); pattern != "" {
		re, err := regexp.Compile("^(?:" + pattern + ")$")
		if err != nil {
			return fmt.Errorf("its AllowedPattern: %w", err)
		}
		if !re.MatchString(v) {
			return fmt.Errorf("%q does not match %s", v, pattern)
		}
	}
	if p.at("Type").string() == "Number" {
		n := text(0, v).number(-1 << 31)
		if n < p.at("MinValue").number(-1<<31+1) || n > p.at("MaxValue").number(1<<31-1) {
			return fmt.Errorf("want a number from %s to %s, got %q", p.at("MinValue").string(), p.at("MaxValue").string(), v)
		}
	}
	return nil
}

// resource adds a resource, if its condition holds.
func (t *Template) resource(r *resolver, id string, v, globals *value) error {
	if condition := v.at("Condition"); condition != nil {
		if holds, err := r.holds(condition.string(), condition.line); err != nil || !holds {
			return err
		}
	}
	kind := v.at("Type").string()
	switch kind {
	case "AWS::Serverless::Function", "AWS::Lambda::Function", "AWS::Lambda::EventSourceMapping", "AWS::Scheduler::Schedule", "AWS::Events::Rule":
	default:
		return nil
	}
	p, err := r.resolve(v.at("Properties"))
	if err != nil {
		return err
	}
	if p == nil {
		return fmt.Errorf("%w: line %d: it has no Properties", ErrMalformed, v.line)
	}
	switch kind {
	case "AWS::Serverless::Function":
		return t.function(id, v.line, merge(globals, p))
	case "AWS::Lambda::Function":
		return t.function(id, v.line, p)
	case "AWS::Lambda::EventSourceMapping":
		if p.at("Topics") != nil {
			t.Mappings = append(t.Mappings, rawMapping(id, v.line, p))
		}
	case "AWS::Scheduler::Schedule":
		t.Schedules = append(t.Schedules, schedule(id, v.line, "ScheduleExpression", owner(p.at("Target", "Arn").string()), p, p.at("Target")))
	case "AWS::Events::Rule":
		targets := p.at("Targets")
		if p.at("ScheduleExpression") == nil || targets == nil {
			return nil
		}
		for _, target := range targets.list {
			t.Schedules = append(t.Schedules, schedule(id, v.line, "ScheduleExpression", owner(target.at("Arn").string()), p, target))
		}
	}
	return nil
}

// owner is the logical id in a placeholder ID.Arn.
func owner(arn string) string {
	id, _, _ := strings.Cut(arn, ".")
	return id
}

// merge lays properties over globals, fields of mappings one by one.
func merge(globals, p *value) *value {
	if globals == nil || globals.kind != kindMap || p.kind != kindMap {
		return p
	}
	out := object(p.line)
	for _, key := range globals.keys {
		out.put(key, globals.kids[key])
	}
	for _, key := range p.keys {
		out.put(key, merge(globals.kids[key], p.kids[key]))
	}
	return out
}

func (t *Template) function(id string, line int, p *value) error {
	f := Function{
		Name: id, Line: line, Runtime: p.at("Runtime").string(), Handler: p.at("Handler").string(), Timeout: p.at("Timeout").number(3),
		Memory: p.at("MemorySize").number(128), Concurrency: p.at("ReservedConcurrentExecutions").number(-1), Environment: map[string]string{},
		Retries: p.at("EventInvokeConfig", "MaximumRetryAttempts").number(asyncRetries), MaxAge: p.at("EventInvokeConfig", "MaximumEventAgeInSeconds").number(asyncAge),
		LogFormat: p.at("LoggingConfig", "LogFormat").string(), LogLevel: p.at("LoggingConfig", "ApplicationLogLevel").string(),
	}
	if variables := p.at("Environment", "Variables"); variables != nil {
		for _, name := range variables.keys {
			f.Environment[name] = variables.kids[name].string()
		}
	}
	t.Functions = append(t.Functions, f)
	events := p.at("Events")
	if events == nil {
		return nil
	}
	for _, name := range events.keys {
		event := events.kids[name]
		properties := event.at("Properties")
		if properties == nil {
			properties = object(event.line)
		}
		switch event.at("Type").string() {
		case "MSK":
			t.Mappings = append(t.Mappings, mskEvent(id+"."+name, event.line, id, properties))
		case "SelfManagedKafka":
			t.Mappings = append(t.Mappings, selfManagedEvent(id+"."+name, event.line, id, properties))
		case "ScheduleV2":
			t.Schedules = append(t.Schedules, schedule(id+"."+name, event.line, "ScheduleExpression", id, properties, properties))
		case "Schedule":
			t.Schedules = append(t.Schedules, schedule(id+"."+name, event.line, "Schedule", id, properties, properties))
		}
	}
	return nil
}

func lineOf(p *value, key string, otherwise int) int {
	if line := p.at(key).place(); line > 0 {
		return line
	}
	return otherwise
}
