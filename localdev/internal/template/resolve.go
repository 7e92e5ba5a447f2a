package template

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// resolver computes the functions of a template as CloudFormation would, with placeholders for what only a deployment knows:
// another resource is its logical id, an attribute of it ID.ATTRIBUTE.
type resolver struct {
	parameters map[string]*value
	conditions *value
	decided    map[string]bool
	deciding   []string
}

// pseudo is the value of a parameter that every template has, "" for another name.
func pseudo(name string) string {
	switch name {
	case "AWS::AccountId":
		return "123456789012"
	case "AWS::Partition":
		return "aws"
	case "AWS::Region":
		return "us-east-1"
	case "AWS::StackName":
		return "tidemark"
	case "AWS::StackId":
		return "arn:aws:cloudformation:us-east-1:123456789012:stack/tidemark/0"
	case "AWS::URLSuffix":
		return "amazonaws.com"
	}
	return ""
}

// resolve returns v without functions; nil stands for AWS::NoValue.
func (r *resolver) resolve(v *value) (*value, error) {
	if v == nil {
		return nil, nil //nolint:nilnil // nothing there, nothing wrong
	}
	switch v.kind {
	case kindNull, kindText:
		return v, nil
	case kindList:
		out := list(v.line)
		for _, e := range v.list {
			kid, err := r.resolve(e)
			if err != nil {
				return nil, err
			}
			if kid != nil {
				out.list = append(out.list, kid)
			}
		}
		return out, nil
	case kindMap:
		if len(v.keys) == 1 {
			if fn := v.keys[0]; fn == "Ref" || strings.HasPrefix(fn, "Fn::") {
				return r.apply(fn, v.kids[fn], v.line)
			}
		}
		out := object(v.line)
		for _, key := range v.keys {
			kid, err := r.resolve(v.kids[key])
			if err != nil {
				return nil, err
			}
			if kid != nil {
				out.put(key, kid)
			}
		}
		return out, nil
	}
	return nil, fmt.Errorf("%w: line %d: kind %d", ErrMalformed, v.line, v.kind)
}

func (r *resolver) apply(fn string, argument *value, line int) (*value, error) {
	switch fn {
	case "Ref":
		return r.ref(argument.string(), line), nil
	case "Fn::If":
		if argument == nil || len(argument.list) != 3 {
			return nil, fmt.Errorf("%w: line %d: Fn::If takes a condition and two values", ErrMalformed, line)
		}
		holds, err := r.holds(argument.list[0].string(), line)
		if err != nil {
			return nil, err
		}
		if holds {
			return r.resolve(argument.list[1])
		}
		return r.resolve(argument.list[2])
	case "Fn::Sub":
		return r.substitute(argument, line)
	case "Fn::GetAtt":
		return text(line, strings.Join(argument.strings(), ".")), nil
	}
	a, err := r.resolve(argument)
	if err != nil {
		return nil, err
	}
	bad := fmt.Errorf("%w: line %d: %s does not take this", ErrMalformed, line, fn)
	if a == nil || a.kind != kindList || len(a.list) != 2 {
		return nil, bad
	}
	first, second := a.list[0], a.list[1]
	switch fn {
	case "Fn::Join":
		return text(line, strings.Join(second.strings(), first.string())), nil
	case "Fn::Split":
		out := list(line)
		for part := range strings.SplitSeq(second.string(), first.string()) {
			out.list = append(out.list, text(line, part))
		}
		return out, nil
	case "Fn::Select":
		i := first.number(-1)
		if i < 0 || i >= len(second.list) {
			return nil, fmt.Errorf("%w: line %d: Fn::Select of element %d of %d", ErrMalformed, line, i, len(second.list))
		}
		return second.list[i], nil
	}
	return nil, fmt.Errorf("%w: line %d: %s", ErrNotSupported, line, fn)
}

func (r *resolver) ref(name string, line int) *value {
	if name == "AWS::NoValue" {
		return nil
	}
	if v, ok := r.parameters[name]; ok {
		return v
	}
	if v := pseudo(name); v != "" {
		return text(line, v)
	}
	return text(line, name) // a resource
}

var placeholder = regexp.MustCompile(`\$\{([^}]*)\}`)

func (r *resolver) substitute(argument *value, line int) (*value, error) {
	pattern, own := argument, object(line)
	if argument != nil && argument.kind == kindList && len(argument.list) == 2 {
		given, err := r.resolve(argument.list[1])
		if err != nil {
			return nil, err
		}
		pattern, own = argument.list[0], given
	}
	if pattern == nil || pattern.kind != kindText {
		return nil, fmt.Errorf("%w: line %d: Fn::Sub takes a text", ErrMalformed, line)
	}
	return text(line, placeholder.ReplaceAllStringFunc(pattern.text, func(found string) string {
		name := found[2 : len(found)-1]
		if literal, ok := strings.CutPrefix(name, "!"); ok {
			return "${" + literal + "}"
		}
		if v := own.at(name); v != nil {
			return v.string()
		}
		return r.ref(name, line).string()
	})), nil
}

// holds decides a named condition.
func (r *resolver) holds(name string, line int) (bool, error) {
	if holds, ok := r.decided[name]; ok {
		return holds, nil
	}
	condition := r.conditions.at(name)
	if condition == nil {
		return false, fmt.Errorf("%w: line %d: there is no condition %q", ErrMalformed, line, name)
	}
	if slices.Contains(r.deciding, name) {
		return false, fmt.Errorf("%w: line %d: condition %s depends on itself", ErrMalformed, line, name)
	}
	r.deciding = append(r.deciding, name)
	holds, err := r.decide(condition)
	r.deciding = r.deciding[:len(r.deciding)-1]
	if err == nil {
		r.decided[name] = holds
	}
	return holds, err
}

func (r *resolver) decide(v *value) (bool, error) {
	if v.kind != kindMap || len(v.keys) != 1 {
		return false, fmt.Errorf("%w: line %d: this is no condition", ErrMalformed, v.line)
	}
	fn := v.keys[0]
	argument := v.kids[fn]
	switch fn {
	case "Condition":
		return r.holds(argument.string(), v.line)
	case "Fn::Equals":
		sides, err := r.resolve(argument)
		if err != nil {
			return false, err
		}
		if sides == nil || len(sides.list) != 2 {
			return false, fmt.Errorf("%w: line %d: Fn::Equals takes two values", ErrMalformed, v.line)
		}
		return sides.list[0].string() == sides.list[1].string(), nil
	case "Fn::Not", "Fn::And", "Fn::Or":
		all, some := true, false
		for _, e := range argument.list {
			holds, err := r.decide(e)
			if err != nil {
				return false, err
			}
			all, some = all && holds, some || holds
		}
		switch fn {
		case "Fn::Not":
			return !some, nil
		case "Fn::And":
			return all, nil
		}
		return some, nil
	}
	return false, fmt.Errorf("%w: line %d: %s in a condition", ErrNotSupported, v.line, fn)
}
